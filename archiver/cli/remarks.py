"""How the remarks of ``mirror``, ``import`` and ``sync`` read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from archiver.cli.options import advised
from archiver.text import plural, printable

if TYPE_CHECKING:
    from archiver.operations.mirror import MirrorReport, Remark

_SHOWN: Final = 5


def sentence(remark: Remark, report: MirrorReport) -> str:
    """Return the remark as a sentence, with what to do next."""
    names = ", ".join(printable(path) for path in remark.paths[:_SHOWN])
    names += f", … ({remark.count:,} in all)" if remark.count > _SHOWN else ""
    match remark.kind:
        case "include-fits-nothing" | "exclude-fits-nothing":
            option = remark.kind.partition("-")[0]
            fits = "pattern fits" if remark.count == 1 else "patterns fit"
            text = f"The {option} {fits} no file of the repository: {names}."
        case "weights-not-chosen":
            held = plural(remark.count, "file")
            text = f"The patterns take no weights; the repository has {held} of them: {names}."
        case "shards-not-chosen":
            of = f" that {printable(remark.index)} names" if remark.index else ""
            shards = plural(remark.total, "shard")
            text = f"The patterns leave out {remark.count:,} of {shards}{of}: {names}."
        case "shards-missing":
            text = (
                f"{printable(remark.index)} names {plural(remark.total, 'shard')}; {remark.count:,} "
                f"of them are not there: {names}. The model cannot be loaded without: "
                f"{_completes(report)}."
            )
        case "stand-in":
            description = remark.instead.description if remark.instead else "is something else"
            text = (
                f"{names} {description}. It was kept, for its digest is the one that was listed. "
                "Tell those who published it."
            )
        case "left-out":
            counted, what = _left_out(remark)
            text = f"{counted} {what}: {names}."
        case "selection-unknown":
            text = (
                "The cache has no record of the files of this commit, so nobody knows whether "
                f"{plural(remark.count, 'file is', 'files are')} all of it: {_completes(report)}."
            )
    return text


def _left_out(remark: Remark) -> tuple[str, str]:
    """What was left out, counted, and what became of it."""
    match remark.left:
        case "unfinished":
            return plural(remark.count, "unfinished download"), (
                "left out; import again once downloaded"
            )
        case "tool":
            return plural(remark.count, "trace", "traces") + " of download tools", "left out"
        case "system":
            return plural(remark.count, "trace", "traces") + " of operating systems", "left out"
    files = plural(remark.count, "file")
    return f"{files} that the cache's record of this commit does not list", "left out"


def _completes(report: MirrorReport) -> str:
    """What brings what is missing."""
    if report.repository.startswith("local/"):
        return "download what is missing and import again"
    return f"{advised('mirror', f'{report.repository}@{report.revision}')} fetches the rest"
