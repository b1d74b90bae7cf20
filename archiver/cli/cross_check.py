"""``archiver cross-check``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click
import msgspec

from archiver.cli import output
from archiver.cli.mirroring import open_upstream
from archiver.cli.options import advised, common, open_archive
from archiver.errors import ExitCode, UsageError
from archiver.text import human_bytes, plural, printable

if TYPE_CHECKING:
    from archiver.operations.cross_check import ComparedFile, CrossCheckReport, Verdict

_SIGNS: Final[dict[Verdict, str]] = {
    "differs": "~",
    "only-first": "-",
    "only-second": "+",
    "not-comparable": "?",
}
_COUNTED: Final[dict[Verdict, str]] = {
    "same": "the same",
    "differs": "different",
    "only-first": "only at Hugging Face",
    "only-second": "only at ModelScope",
    "not-comparable": "not comparable",
}
_LONGEST: Final = 1024


@click.command(
    epilog="Example: archiver cross-check -C weights Qwen/Qwen3.5-4B --revision main:master"
)
@click.argument("repository", metavar="REPO")
@click.option(
    "--revision",
    metavar="A[:B]",
    default="",
    help="The revisions to compare: A at Hugging Face, B at ModelScope. [default: the main branches]",
)
@click.option(
    "--with",
    "other",
    metavar="REPO",
    help="The repository at ModelScope, where it has another name there.",
)
@common
def command(repository: str, revision: str, other: str | None) -> None:
    """Compare a repository on two hubs by digest, without fetching.

    Hugging Face and ModelScope have commits of their own, so a pair of revisions is compared. Files
    whose digests are of different kinds are not comparable, unless the archive holds them. What is new
    of it is journalled. Exits with 22 if weights differ; other differences are only told.
    """
    from archiver.names import HUGGING_FACE, MODELSCOPE, RepositoryName
    from archiver.operations.cross_check import CrossCheckRequest, cross_check
    from archiver.progress import Progress

    named = RepositoryName.parse(repository)
    if named.hub not in {HUGGING_FACE, MODELSCOPE} or (other and named.hub != HUGGING_FACE):
        raise UsageError(
            f"{printable(repository)} is not on Hugging Face.",
            hint="Name the repository of Hugging Face, and with --with that of ModelScope.",
        )
    here = named._replace(hub=HUGGING_FACE)
    there = RepositoryName.parse(other)._replace(hub=MODELSCOPE) if other else here
    first, second = _revisions(revision)
    request = CrossCheckRequest(
        open_upstream(connections=1),
        (here.spelling, first),
        (there._replace(hub=MODELSCOPE).spelling, second),
    )
    report = cross_check(open_archive(), request, Progress())
    _show(report)
    if report.exit_code:
        output.exit_with(report.exit_code)


def _revisions(text: str) -> tuple[str | None, str | None]:
    """Return the revision on each side; None for the main branch."""
    first, colon, second = text.partition(":")
    return first or None, (second if colon else first) or None


def _show(report: CrossCheckReport) -> None:
    for file in report.files:
        if file.verdict != "same":
            output.record("file", **msgspec.to_builtins(file))
            output.line(_line(file))
    fields = {
        name: getattr(report, name)
        for name in ("first", "first_revision", "second", "second_revision", "journalled")
    }
    counts = {verdict.replace("-", "_"): report.count(verdict) for verdict in _COUNTED}
    output.record("cross-check", exit_code=int(report.exit_code), **fields, **counts)
    first = f"{report.first}@{report.first_revision[:12]}"
    second = f"{report.second}@{report.second_revision[:12]}"
    output.line(f"{first} and {second}: {_counts(report)}.")
    _show_weights(report)


def _line(file: ComparedFile) -> str:
    sizes = " → ".join(
        human_bytes(size) for size in (file.first_size, file.second_size) if size is not None
    )
    held = ", by the copy that is held" if file.held else ""
    words = f"{_COUNTED[file.verdict]}{held}"
    weights = "weights, " if file.weights else ""
    return f"{_SIGNS[file.verdict]} {printable(file.path, _LONGEST)}  {weights}{sizes}: {words}"


def _counts(report: CrossCheckReport) -> str:
    parts = [plural(report.count("same"), "file") + " the same"]
    parts += [
        f"{count:,} {words}"
        for verdict, words in _COUNTED.items()
        if verdict != "same" and (count := report.count(verdict))
    ]
    return ", ".join(parts)


def _show_weights(report: CrossCheckReport) -> None:
    """Say what came of the weights, which decide the exit code."""
    same = report.count("same", weights=True)
    if not report.exit_code:
        files = plural(same, "file")
        output.line(f"  All weights are the same: {files}." if same else "  Neither has weights.")
        return
    different = report.exit_code == ExitCode.MISMATCH
    verdicts: tuple[Verdict, ...] = (
        ("differs", "only-first", "only-second") if different else ("not-comparable",)
    )
    files = plural(sum(report.count(verdict, weights=True) for verdict in verdicts), "file")
    what = "differ, or are on one hub only" if different else "could not be compared"
    output.print_error(
        f"{report.first}: weights {what} ({files}).",
        "Do not take one for the other: mirror both, they stand beside each other."
        if different
        else f"Mirror one of them: {advised('cross-check', report.first)} then compares what is held.",
        int(report.exit_code),
        repository=report.first,
        revision=report.first_revision,
    )
