"""``archiver upstream``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click
import msgspec

from archiver.cli import output
from archiver.cli.mirroring import open_upstream
from archiver.cli.options import common, open_archive, token_option, unswallowed
from archiver.cli.snapshots import facts
from archiver.names import HUGGING_FACE
from archiver.report.changes import change_sentence
from archiver.text import human_bytes, plural, printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from archiver.archive.archive import Archive
    from archiver.operations.upstream import Preview, PreviewedFile, SeenCommit, UpstreamReport

_COMMIT: Final = 12
_NAMED: Final = 20
"""Files of a preview in the text; --json has them all."""


@click.command(epilog="Example: archiver upstream -C weights Qwen/Qwen3.5-4B --preview")
@click.argument("repository", metavar="REPO", required=False)
@click.option(
    "--preview",
    metavar="[REV]",
    is_flag=False,
    flag_value="",
    help="Ask what REV, a branch, tag or commit, would bring; without REV the main branch.",
)
@token_option
@common
def command(repository: str | None, preview: str | None, token: str | None) -> None:
    """Show a repository's history upstream, as it was seen, and what is held of it.

    That needs no network: it is what 'archiver watch' and runs that mirror have journalled. With
    --preview upstream is asked what a revision would change against the newest that is held: which
    files, and how many bytes. Nothing is fetched, and nothing written.
    """
    repository, preview = unswallowed(repository, preview, "")
    archive = open_archive(reading=True)
    if preview is None:
        _show_history(archive, repository)
    else:
        _show_preview(archive, repository, preview, token)


def _show_history(archive: Archive, repository: str) -> None:
    from archiver.operations.upstream import upstream

    report = upstream(archive, repository)
    output.record("upstream", **msgspec.to_builtins(report))
    facts(_state(report))
    if report.commits:
        output.line()
        output.table(
            ("seen", "name", "commit", "", "held"), [_row(commit) for commit in report.commits]
        )
    news = [fact for fact in report.facts if not fact.first or fact.change.before]
    if news:
        output.line()
        output.table(
            ("seen", "what changed"),
            [(fact.time[:10], change_sentence(fact.change)) for fact in news],
        )


def _state(report: UpstreamReport) -> list[tuple[str, str]]:
    """Return how the repository is, as far as it was looked at."""
    attributes = report.attributes
    state = "shown"
    if report.gone:
        state = f"gone or private since {report.gone[:10]}"
    elif report.unseen:
        days = plural(len(report.unseen), "day")
        state = f"not shown to us on {days}, since {report.unseen[0]}"
    elif attributes.get("disabled"):
        state = "switched off by upstream"
    snapshots = sum(map(len, report.held.values()))
    held = plural(snapshots, "snapshot")
    refs = (plural(len(report.branches), "branch", "branches"), plural(len(report.tags), "tag"))
    return [
        ("repository", report.repository),
        ("called now", attributes.get("name", "")),
        ("upstream", state if report.looked or report.gone or report.unseen else "never looked at"),
        ("looked at since", report.looked),
        ("refs", ", ".join(refs) if report.looked else ""),
        ("licence", attributes.get("licence", "")),
        ("access", ", ".join(filter(None, (attributes.get("gating"), attributes.get("privacy"))))),
        ("held", f"{held} of {plural(len(report.held), 'revision')}" if snapshots else "nothing"),
    ]


def _row(commit: SeenCommit) -> tuple[str, ...]:
    kind = f"{commit.kind} " if commit.kind else ""
    marks = [mark for mark in (commit.history if commit.history == "rewritten" else "",) if mark]
    if commit.by == "cache":
        marks.append("as a cache says")
    if commit.lost:
        marks.append(f"no longer there since {commit.lost[:10]}")
    return (
        commit.time[:16].replace("T", " "),
        f"{kind}{commit.name}",
        commit.commit[:_COMMIT],
        ", ".join(marks),
        "held" if commit.snapshots else "",
    )


def _show_preview(archive: Archive, repository: str, revision: str, token: str | None) -> None:
    from archiver.names import as_repo_id
    from archiver.operations.upstream import PreviewRequest, preview
    from archiver.progress import Progress

    hubs = open_upstream(tokens={HUGGING_FACE: token})
    request = PreviewRequest(hubs, as_repo_id(repository), revision or None)
    result = preview(archive, request, Progress())
    output.record("preview", news=result.news, **msgspec.to_builtins(result))
    print_preview(result)


def print_preview(result: Preview) -> None:
    """Print what a revision would bring."""
    title = f"{printable(result.repository)}@{result.revision[:_COMMIT]}"
    named = f" ({printable(result.name)})" if result.name != result.revision else ""
    same = plural(result.same.files, "file")
    if result.held and not result.news:
        output.line(f"{title}{named}: held already, {same} the same.")
        return
    against = (
        f"against {result.against_revision[:_COMMIT]}, the newest that is held"
        if result.against
        else "nothing of it is held"
    )
    fetch = result.fetch
    weights = (
        f", of which {human_bytes(fetch.weight_bytes)} of weights" if fetch.weight_files else ""
    )
    output.line(f"{title}{named}, {against}:")
    for word, files in (
        ("added", result.added),
        ("changed", result.changed),
        ("removed", result.removed),
    ):
        _print_files(word, files)
    output.line(f"  {same} the same, {human_bytes(result.same.bytes)}")
    if result.licence != result.against_licence and result.against:
        before = printable(result.against_licence) or "none"
        output.line(f"  the licence is {printable(result.licence) or 'none'}, and was {before}")
    count = plural(fetch.files, "file")
    output.line(f"To fetch: {count}, {human_bytes(fetch.bytes)}{weights}.")


def _print_files(word: str, files: Sequence[PreviewedFile]) -> None:
    """Print the files that were added, changed or removed; weights first."""
    if not files:
        return
    size = sum(file.size if file.size >= 0 else file.before for file in files)
    output.line(f"  {plural(len(files), 'file')} {word}, {human_bytes(size)}")
    order = sorted(files, key=lambda file: (not file.weights, file.path))
    for file in order[:_NAMED]:
        sizes = human_bytes(file.size if file.size >= 0 else file.before)
        if file.size >= 0 and file.before not in {-1, file.size}:
            sizes = f"{human_bytes(file.before)} → {sizes}"
        mark = ", weights" if file.weights else ""
        output.line(f"    {printable(file.path)} ({sizes}{mark})")
    if len(files) > _NAMED:
        output.line(f"    and {len(files) - _NAMED:,} more")
