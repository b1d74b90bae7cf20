"""``archiver watch``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click
import msgspec

from archiver.cli import output
from archiver.cli.mirroring import HubRemarks, open_hub
from archiver.cli.options import common, open_archive, token_option
from archiver.errors import ExitCode, UsageError
from archiver.names import HUGGING_FACE
from archiver.report.changes import change_sentence
from archiver.text import plural, printable

if TYPE_CHECKING:
    from archiver.archive.archive import Archive
    from archiver.operations.watch import Outcome, WatchedEntry, WatchedRepository, WatchReport
    from archiver.upstream.protocol import WatchedUpstream

_WORDS: Final[dict[Outcome, str]] = {
    "same": "as before",
    "changed": "changed",
    "first": "looked at for the first time",
    "unseen": "not shown to us",
    "gone": "gone or private",
    "unreachable": "unreachable",
    "failed": "failed",
    "not-tried": "not tried",
}


@click.command(epilog="Example: archiver watch -C weights Qwen/Qwen3.5-4B")
@click.argument("repositories", metavar="[REPO]...", nargs=-1)
@click.option("--plan", metavar="PLAN", help="The repositories of a plan, as for 'archiver sync'.")
@token_option
@common
def command(repositories: tuple[str, ...], plan: str | None, token: str | None) -> None:
    """Look at repositories upstream, and journal what upstream did. Nothing is fetched.

    Without REPO and --plan all that are held are looked at. Each change is told once, when it is first
    seen: new commits, moved tags, rewritten branches, licence, gating, card, another name, switched off.
    A repository that is not shown to us may be gone or private: it is called so after three days on
    which upstream answered otherwise. What is held stays.
    """
    from archiver.operations.watch import WatchProgress, WatchRequest, watch, watched_hubs

    if repositories and plan:
        raise UsageError("Give either repositories or a plan.")
    archive = open_archive()
    entries = _entries(archive, repositories, plan)
    codes = []
    for hub in watched_hubs(archive, entries):
        request = WatchRequest(_upstream(hub, token), entries, hub)
        report = watch(archive, request, WatchProgress())
        output.record("watch", exit_code=report.exit_code, **msgspec.to_builtins(report))
        for repository in report.repositories:
            _show(repository)
        _verdict(report)
        codes.append(report.exit_code)
    if not codes:
        output.line("Nothing to look at: nothing of these comes from a hub that can be watched.")
    if code := _worst(codes):
        output.exit_with(code)


def _upstream(hub: str, token: str | None) -> WatchedUpstream:
    """Return a hub, as HF_ENDPOINT or MODELSCOPE_ENDPOINT name it."""
    if hub == HUGGING_FACE:
        return open_hub(token)
    from archiver.upstream.modelscope.client import ModelScope
    from archiver.upstream.retry import RetryPolicy

    return ModelScope(retry=RetryPolicy(notify=HubRemarks()))


def _worst(codes: list[int]) -> int:
    """Return the code of all hubs together: a loss counts before a hub that was not reached."""
    failures = {code for code in codes if code}
    if ExitCode.UPSTREAM_GONE in failures:
        return int(ExitCode.UPSTREAM_GONE)
    return (
        failures.pop()
        if failures and len(set(codes)) == 1
        else int(ExitCode.PARTIAL if failures else 0)
    )


def _entries(
    archive: Archive, repositories: tuple[str, ...], plan: str | None
) -> list[WatchedEntry] | None:
    """Return what is to be looked at; None for all that is held."""
    from archiver.names import as_repo_id
    from archiver.operations.watch import WatchedEntry, entries_of
    from archiver.plan.reader import find_plan

    if plan:
        return entries_of(archive, find_plan(plan))
    return [WatchedEntry(as_repo_id(name)) for name in repositories] or None


def _show(repository: WatchedRepository) -> None:
    """Print what is new of a repository, or why there is no answer."""
    name = printable(repository.repository)
    if repository.error:
        about = {"repository": repository.repository}
        output.print_error(repository.error, repository.hint, repository.exit_code, **about)
    for change in repository.news:
        output.line(f"{name}: {change_sentence(change)}")
    if repository.outcome == "first" and not repository.news:
        output.line(f"{name}: looked at for the first time.")
    if repository.outcome == "unseen":
        nights = f", on {plural(repository.nights, 'day')} so far" if repository.nights else ""
        output.line(f"{name}: upstream does not show it to us (HTTP {repository.status}){nights}.")


def _verdict(report: WatchReport) -> None:
    """Print what came of all."""
    total = plural(len(report.repositories), "repository", "repositories")
    counts = [
        f"{report.count(outcome):,} {word}"
        for outcome, word in _WORDS.items()
        if report.count(outcome)
    ]
    requests = plural(report.requests, "request")
    output.line(f"{total}: {', '.join(counts) or 'nothing to look at'}; {requests}.")
    if report.token_refused:
        output.line("  The token is not taken, so nothing is known of what was not shown.")
