"""A night in words: the verdict, which fits a subject line, and a line for each step.

What the command prints, a ping carries and a notice says is the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from archiver.archive.advice import argv
from archiver.errors import ExitCode
from archiver.names import TITLES
from archiver.night.facts import DAMAGE
from archiver.text import human_bytes, human_duration, plural, printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from archiver.archive.advice import Argv
    from archiver.archive.events import NightFact
    from archiver.night.report import NightReport
    from archiver.night.result import StepResult

VERDICT_MAX: Final = 120
"""Characters of a verdict."""
_SUBJECT_MAX: Final = 48
_ALWAYS: Final = frozenset({"before", "after", "prometheus", "report"})
"""Steps that do the same every night, which is no reason to journal it."""
_LINE_MAX: Final = 2000
_SINGULAR: Final = {
    "commands": "command",
    "places": "place",
    "repositories": "repository",
    "requests": "request",
    "findings": "finding",
}
"""What is said of one, where the name of a count is a plural."""


class _Phrase(NamedTuple):
    """What is said of one fact of a kind, with ``{}`` for what it is about, and of several."""

    single: str
    several: str


_PHRASES: Final[dict[str, _Phrase]] = {
    "damaged": _Phrase("{} is damaged", "{} files are damaged"),
    "missing": _Phrase("{} is missing", "{} packs are missing"),
    "finding": _Phrase("audit: {}", "{} findings of an audit"),
    "contradiction": _Phrase("two seals disagree on {}", "seals disagree on {} revisions"),
    "unreadable": _Phrase("{} may not be read", "{} files may not be read"),
    "copies": _Phrase("copies are short", "copies are short"),
    "copy-old": _Phrase("copy at {} is too old", "{} copies are too old"),
    "parity": _Phrase("parity is short", "parity is short"),
    "proofs": _Phrase("proofs are too old", "proofs are too old"),
    "signatures": _Phrase("signatures are missing", "signatures are missing"),
    "clock": _Phrase("the clock is wrong", "the clock is wrong"),
    "untested": _Phrase("{} could not be smoke-tested", "{} models could not be smoke-tested"),
    "smoke": _Phrase("{} failed its smoke test", "{} models failed their smoke tests"),
    "mismatch": _Phrase("{} has wrong digests upstream", "{} have wrong digests upstream"),
    "gone": _Phrase("{} is gone upstream", "{} are gone upstream"),
    "refused": _Phrase("{} is refused by upstream", "{} are refused by upstream"),
    "failed": _Phrase("{} could not be mirrored", "{} could not be mirrored"),
    "unvouched": _Phrase("nobody vouches for {}", "nobody vouches for {} repositories"),
    "late": _Phrase("no answer about {} for too long", "no answer about {} for too long"),
    "upstream": _Phrase("{} is unreachable", "{} hubs are unreachable"),
    "changed": _Phrase("upstream: {}", "{} changes upstream"),
    "unseen": _Phrase("{} is not shown to us", "{} are not shown to us"),
    "token": _Phrase("{} does not take the token", "{} hubs do not take the token"),
    "room": _Phrase("no room is left", "no room is left"),
    "step": _Phrase("{} failed", "{} steps failed"),
    "place": _Phrase("copy to {} failed", "{} copies failed"),
    "place-away": _Phrase("copy at {} is away", "{} copies are away"),
    "command": _Phrase("the command {} failed", "{} commands failed"),
}


def verdict(report: NightReport) -> str:
    """Return what came of a night, in a line of at most ``VERDICT_MAX`` characters."""
    ringing = report.news.ringing
    silent = {(fact.fact, fact.subject) for fact in ringing}
    known = [
        fact
        for fact in report.news.known
        if fact.exit_code and (fact.fact, fact.subject) not in silent
    ]
    plan = _cut(printable(report.plan), 40)
    if report.opens is not None:
        opens = f"{report.opens:%Y-%m-%d %H:%M} ({report.timezone})"
        return f"{plan}: nothing was done: its window opens at {opens}"
    end = {"window": "; its window ended", "stopped": "; it was stopped"}.get(report.cut, "")
    room = VERDICT_MAX - len(plan) - 2 - len(end)
    if ringing:
        word = "DAMAGE" if ringing[0].exit_code in DAMAGE else "NEW"
        after = f"; {len(known):,} known" if known else ""
        said = _joined(f"{word}: ", _phrases(ringing), room - len(after)) + after
    elif report.exit_code and not end:
        said = "its summary could not be journalled"
    elif known:
        said = _joined("nothing new; known: ", _phrases(known), room)
    else:
        soft = _phrases(fact for fact in report.news.standing if not fact.exit_code)
        word = "well so far" if end else "nothing rings" if soft else "all is well"
        said = _joined(f"{word}: ", _figures(report.steps) or ["nothing to do"], room)
        if soft and room - len(said) > _SUBJECT_MAX:
            said = _joined(f"{said}; ", soft, room)
    return f"{plan}: {said}{end}"


def _joined(head: str, phrases: Sequence[str], room: int) -> str:
    """Return as many phrases as there is room for, and how many more there are."""
    for count in range(len(phrases), 0, -1):
        left = len(phrases) - count
        text = head + ", ".join(phrases[:count]) + (f" and {left:,} more" if left else "")
        if len(text) <= room:
            return text
    return _cut(head + phrases[0], room)


def _cut(text: str, room: int) -> str:
    return text if len(text) <= room else f"{text[: max(room - 1, 0)]}…"


def _phrases(facts: Iterable[NightFact]) -> list[str]:
    """Return a phrase for each kind of fact, in the order in which they come."""
    by_kind: dict[str, list[NightFact]] = {}
    for fact in facts:
        by_kind.setdefault(_kind(fact), []).append(fact)
    phrases = []
    for kind, some in by_kind.items():
        phrase = _PHRASES.get(kind, _Phrase("{}", "{} others"))
        if len(some) > 1:
            phrases.append(phrase.several.format(f"{len(some):,}"))
        else:
            phrases.append(phrase.single.format(_subject(some[0])))
    return phrases


def _kind(fact: NightFact) -> str:
    """Return the kind that a fact is told as: what could not run, or is away for now, did not fail."""
    if fact.fact == "smoke" and fact.exit_code == ExitCode.SKIPPED:
        return "untested"
    return "place-away" if fact.fact == "place" and not fact.exit_code else fact.fact


def _subject(fact: NightFact) -> str:
    """Return what a fact is about, in short: of a stored file's name the end tells nothing."""
    name = _about(fact, 200)
    if fact.fact in {"damaged", "missing"}:
        name = name.rpartition("/")[2]
        return f"{name[:12]}…{name.rpartition('.')[2]}" if len(name) > _SUBJECT_MAX else name
    if fact.fact == "changed":  # begins with whose change it is
        return _cut(name, _SUBJECT_MAX)
    return name if len(name) <= _SUBJECT_MAX else f"…{name[1 - _SUBJECT_MAX :]}"


def _figures(steps: Iterable[StepResult]) -> list[str]:
    """Return what was done, in short."""
    figures = []
    for result in steps:
        counts = result.counts
        match result.step:
            case "sync":
                figures.append(f"{counts.get('new', 0):,} new of {counts.get('total', 0):,}")
            case "smoke" if counts.get("run"):
                figures.append(f"{plural(counts['held'], 'model')} ran")
            case "copies" if counts.get("brought"):
                figures.append(f"{plural(counts['brought'], 'snapshot')} copied")
            case "audit" if counts.get("proven"):
                figures.append(f"{plural(counts['proven'], 'pack')} proven")
            case "sign" if counts.get("new_signatures"):
                figures.append(f"{plural(counts['new_signatures'], 'document')} signed")
    return figures


def sentence(fact: NightFact) -> str:
    """Return a fact in a sentence's words, with all of what it is about."""
    phrase = _PHRASES.get(_kind(fact), _Phrase("{}", "{}"))
    return phrase.single.format(_about(fact, _LINE_MAX))


def _about(fact: NightFact, most: int) -> str:
    """Return what a fact is about: a hub by what it is called, else at most so many characters."""
    if fact.fact == "upstream":
        return TITLES.get(fact.subject, "upstream")
    return printable(fact.subject, most)


def next_command(fact: NightFact, place: str) -> Argv:
    """Return the command that mends a fact of the archive at ``place``, or says more of it."""
    match fact.fact:
        case "damaged" | "missing":
            return argv("repair", place)
        case "gone" | "refused":
            return argv("acknowledge", place, fact.fact, fact.subject)
        case "proofs" | "finding":
            return argv("audit", place)
        case "smoke":
            return argv("smoke-test", place, fact.subject)
        case _:
            return argv("status", place)


def step_line(result: StepResult) -> str:
    """Return what came of a step, in a line."""
    return f"{result.step}: {_outcome(result)}{''.join(_details(result))}."


def _outcome(result: StepResult) -> str:
    words = {
        "done": "done",
        "idle": "done" if result.step in _ALWAYS else "nothing to do",
        "failed": f"failed ({result.exit_code})" if result.exit_code else "failed",
        "skipped": "skipped",
        "away": "away",
        "cut": "cut short" if result.counts or result.seconds else "not begun",
    }
    return words[result.outcome]


def _details(result: StepResult) -> Iterator[str]:
    for name, count in result.counts.items():
        if count:
            what = name.removesuffix("_bytes").replace("_", " ")
            what = _SINGULAR.get(what, what) if count == 1 else what
            size = human_bytes(count) if name.endswith("_bytes") else f"{count:,}"
            yield f", {size} {what}"
    if result.seconds:
        yield f", {human_duration(result.seconds)}"
    if result.errors:
        error = result.errors[0]
        about = f"{printable(error.subject)}: " if error.subject else ""
        more = f" (and {len(result.errors) - 1:,} more)" if len(result.errors) > 1 else ""
        yield f"; {about}{printable(error.message, _LINE_MAX).rstrip('.')}{more}"


def lines(report: NightReport) -> list[str]:
    """Return all of it: the verdict, the steps, then what is new, mended and known."""
    news = report.news
    new = {(fact.fact, fact.subject) for fact in news.new}
    rings = [fact for fact in news.ringing if (fact.fact, fact.subject) not in new]
    return [
        verdict(report),
        *(step_line(result) for result in report.steps),
        *(f"new: {sentence(fact)} ({fact.exit_code})." for fact in news.new if fact.exit_code),
        *(f"still: {sentence(fact)} ({fact.exit_code}), since {fact.since}." for fact in rings),
        *(f"mended: {sentence(fact)}." for fact in news.mended if fact.exit_code),
        *(
            f"known: {sentence(fact)}, since {fact.since}."
            for fact in news.known
            if fact not in rings and fact.exit_code not in {0, int(ExitCode.OK)}
        ),
    ]
