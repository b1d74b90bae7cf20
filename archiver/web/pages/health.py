"""The pages on how the archive is: its status, its fixity, its plans and nights, its journal."""

from __future__ import annotations

import shlex
from itertools import groupby
from typing import TYPE_CHECKING, Final, NamedTuple

from archiver.archive.advice import argv
from archiver.errors import ExitCode
from archiver.night.facts import DAMAGE
from archiver.night.words import next_command
from archiver.night.words import sentence as fact_sentence
from archiver.operations.status.report import (
    ContradictorySeals,
    DamagedByAudit,
    DamagedFiles,
    MissingPacks,
    NeverAudited,
    ProofsOld,
    UnreadableSeals,
)
from archiver.report.facts import WEEKS
from archiver.report.words import by_receipt, medium, reason, sentence, verdict
from archiver.text import human_duration, plural, printable
from archiver.web.pages import fixity, nights
from archiver.web.pages.journal import QUERY_MAX, Filter, kinds_of, page_of
from archiver.web.pages.nights import Quiet
from archiver.web.pages.rendering import page, with_query
from archiver.web.pages.standing import StandingCache

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.requests import Request
    from starlette.responses import Response

    from archiver.archive.advice import Argv
    from archiver.archive.archive import Archive
    from archiver.archive.copies import PlaceState
    from archiver.archive.events import NightFact
    from archiver.archive.plans import PlanStatus
    from archiver.operations.status.report import Shortfall, Status
    from archiver.web.pages.nights import Due, Run
    from archiver.web.pages.standing import Standing

LISTED_MAX: Final = 200
"""Of any list on these pages."""
_OF_FIXITY: Final = (
    ContradictorySeals,
    DamagedByAudit,
    DamagedFiles,
    MissingPacks,
    NeverAudited,
    ProofsOld,
    UnreadableSeals,
)
_LISTED_AS_DAMAGE: Final = (DamagedByAudit, DamagedFiles, MissingPacks)
_UNSETTLED: Final = (ContradictorySeals, DamagedByAudit, UnreadableSeals)
_DUE: Final = {
    "proofs": "Prove packs again at level {subject}",
    "copy": "Prove the copy at {subject} again, or it counts no more",
    "smoke": "Run models that were never run",
    "entries": "Bring what the plan {subject} lacks",
    "acknowledgement": "The acknowledgement of {subject} ends",
}


class Told(NamedTuple):
    """Something that is told, and the commands to run about it, one after the other."""

    text: str
    commands: tuple[str, ...]
    code: str = ""


class HealthPages:
    """The four pages of one archive."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._standing = StandingCache(archive)

    def status(self, request: Request) -> Response:
        """Return the page of the verdict: what falls short, and which copies count."""
        now = self._standing.current()
        state = now.status
        own = now.places[0] if now.places else None
        facts = {
            "standing": now,
            "status": state,
            "said": _verdict(state),
            "shortfalls": told(state.shortfalls),
            "short": len(state.shortfalls),
            "remarks": told(state.remarks),
            "findings": [
                Told(finding.message, (), finding.code) for finding in state.findings[:LISTED_MAX]
            ],
            "own": own,
            "counting": sum(place.counts for place in state.places),
            "places": [(place, _standing(place)) for place in state.places[:LISTED_MAX]],
            "medium": medium,
            "wanted": _wanted(state),
        }
        return page(request, "status.html", facts, archive=self._archive)

    def fixity(self, request: Request) -> Response:
        """Return the page of the calendar of proofs, and of what is damaged."""
        now = self._standing.current()
        state = now.status
        facts = {
            "standing": now,
            "status": state,
            "weeks": WEEKS,
            "years": [
                (year, fixity.calendar(year, now.time), fixity.months(year)) for year in now.years
            ],
            "damage": [(each, list(map(_command, each.commands))) for each in now.damage],
            "shortfalls": told(
                each
                for each in state.shortfalls
                if isinstance(each, _OF_FIXITY)
                and not (now.damage and isinstance(each, _LISTED_AS_DAMAGE))
            ),
            "mending": next(
                (list(map(_command, each.commands)) for each in now.damage if not each.place), []
            ),
            "facts": [
                Told(fact_sentence(fact), (_command(next_command(fact, now.address)),), fact.step)
                for fact in _ringing(now)
                if fact.subject not in {each.path for each in now.damage}
            ],
            "unsettled": any(isinstance(each, _UNSETTLED) for each in state.shortfalls),
            "first_audit": _command(argv("audit", now.address)),
        }
        return page(request, "fixity.html", facts, archive=self._archive)

    def plans(self, request: Request) -> Response:
        """Return the page of the plans, of what is due, and of the last nights."""
        now = self._standing.current()
        facts = {
            "standing": now,
            "weeks": WEEKS,
            "plans": [_plan(plan) for plan in now.status.plans[:LISTED_MAX]],
            "year": nights.calendar(now.plans.days, now.time),
            "any_runs": bool(now.plans.days),
            "due": [(each, _due_text(each)) for each in now.due[:LISTED_MAX]],
            "last": now.runs[0].time if now.runs else "",
            "runs": [
                run if isinstance(run, Quiet) else _run(run, now.address)
                for run in nights.folded(now.runs)
            ],
            "failures": now.plans.failures[:LISTED_MAX],
            "failing": now.plans.failing,
            "first_sync": _command(argv("sync", now.address, "qwen3.5")),
            "duration": lambda seconds: human_duration(seconds) if seconds else "",
        }
        return page(request, "plans.html", facts, archive=self._archive)

    def journal(self, request: Request) -> Response:
        """Return a page of the journal, as its query filters it."""
        now = self._standing.current()
        query = request.query_params

        def text(key: str) -> str:
            return " ".join(query.get(key, "")[:QUERY_MAX].split())

        wanted = Filter(text("kind"), text("repository"), text("q"))
        shown = page_of(now.journal, wanted, text("after"))
        facts = {
            "standing": now,
            "wanted": wanted,
            "shown": shown,
            "days": [
                (day, list(lines))
                for day, lines in groupby(shown.lines, lambda line: line.time[:10])
            ],
            "kinds": kinds_of(now.journal),
            "older": with_query(request, after=shown.older) if shown.older is not None else "",
            "newer": with_query(request, after=shown.newer) if shown.newer is not None else "",
        }
        return page(request, "journal.html", facts, archive=self._archive)


def told(shortfalls: Iterable[Shortfall]) -> list[Told]:
    """Return what falls short, or is worth a line, in words; at most ``LISTED_MAX``."""
    return [
        Told(printable(sentence(each), 2000), tuple(map(_command, each.commands)))
        for each in list(shortfalls)[:LISTED_MAX]
    ]


def _command(words: Argv) -> str:
    return printable(shlex.join(words), 2000)


def _verdict(state: Status) -> Told:
    said = verdict(
        short=len(state.shortfalls),
        unread=bool(state.findings),
        snapshots=state.snapshots,
        packs=state.packs,
        size=state.bytes,
        missing=state.missing,
    )
    if state.shortfalls:
        short = plural(len(state.shortfalls), "thing falls", "things fall")
        return Told(f"{short} short", (), "damaged" if state.damaged else "ageing")
    if state.findings:
        return Told("Not known: not all may be read", (), "ageing")
    return Told(said.headline.rstrip(":"), (), "proven")


class PlaceWords(NamedTuple):
    """Whether a place counts, in a word, and why not, or by what."""

    word: str
    look: str
    why: str


def _standing(place: PlaceState) -> PlaceWords:
    why = reason(place) or by_receipt(place)
    if place.standing == "here":
        return PlaceWords("this place", "proven", why)
    if place.counts:
        unknown = "on a disk that is not known" if place.medium == "unknown" else ""
        return PlaceWords("counts", "ageing" if unknown else "proven", why or unknown)
    look = "damaged" if place.standing in {"damaged", "deleted", "incomplete"} else "ageing"
    return PlaceWords("does not count", look, why)


def _wanted(state: Status) -> list[tuple[str, str]]:
    """Return what the policy wants, as terms and their values."""
    policy = state.policy
    when = f"every {plural(policy.audit_days, 'day')}" if policy.audit_days else "no matter when"
    parity = f"{policy.parity} for each {policy.parity_group} blocks" if policy.parity else "none"
    keys = plural(len(policy.keys), "trusted key")
    return [
        ("Copies", f"{policy.copies}, each proven within {plural(state.copy_days, 'day')}"),
        ("Audits", f"level {policy.audit_level}, {when}"),
        ("Parity", parity),
        ("Signatures", f"required, {keys}" if policy.signed else "not required"),
        ("Deleting", "never" if policy.append_only else "by 'archiver prune' only"),
    ]


def _ringing(now: Standing) -> list[NightFact]:
    """Return the facts of the newest night that ring until they are mended, and findings of its audit."""
    night = next((run for run in now.runs if run.is_night), None)
    standing = night.standing if night else ()
    return [fact for fact in standing if fact.exit_code in DAMAGE or fact.fact == "finding"]


class PlanRow(NamedTuple):
    """A plan, how its last run ended, how many entries are held, and those that are not as planned.

    ``known`` of these are acknowledged; ``source`` is the plan's file or name, without its folder.
    """

    plan: PlanStatus
    source: str
    end: str
    look: str
    held: int
    total: int
    open: list[tuple[str, str, str]]
    known: int
    more: int


def _plan(plan: PlanStatus) -> PlanRow:
    short = [entry for entry in plan.entries if not entry.met]
    known = [entry for entry in plan.entries if entry.met and entry.state != "held"]
    rows: list[tuple[str, str, str]] = [
        (entry.title, entry.state, entry.answered) for entry in short
    ]
    rows += [(entry.title, f"{entry.state}, acknowledged", entry.answered) for entry in known]
    end, look = _end(plan.exit_code) if plan.ran else ("no run came to its end", "")
    return PlanRow(
        plan=plan,
        source=plan.source.rpartition("/")[2],
        end=end,
        look=look,
        held=sum(bool(entry.snapshot) and entry.state != "unvouched" for entry in plan.entries),
        total=len(plan.entries),
        open=rows[:LISTED_MAX],
        known=len(known),
        more=max(len(rows) - LISTED_MAX, 0),
    )


def _end(code: int) -> tuple[str, str]:
    """Return how a run ended, in a word, and its look."""
    if not code:
        return "well", "proven"
    look = "damaged" if code in {*DAMAGE, ExitCode.MISMATCH} else "ageing"
    return f"exit {code}: {_CODES.get(code, 'failed')}", look


_CODES: Final[dict[int, str]] = {
    int(ExitCode.DAMAGE): "damage",
    int(ExitCode.DAMAGE_UNREPAIRED): "damage that could not be repaired",
    int(ExitCode.MISMATCH): "wrong digests upstream",
    int(ExitCode.UPSTREAM_GONE): "gone upstream",
    int(ExitCode.POLICY_UNMET): "policy not met",
    int(ExitCode.SMOKE_FAILED): "a smoke test failed",
    int(ExitCode.NETWORK): "no network",
    int(ExitCode.NO_SPACE): "no room",
    int(ExitCode.PARTIAL): "in part",
    int(ExitCode.SKIPPED): "skipped",
    int(ExitCode.INTERRUPTED): "interrupted",
}


class RunRow(NamedTuple):
    """A run or a night: how it ended, what it did, and what it told."""

    run: Run
    end: str
    look: str
    steps: list[tuple[str, str]]
    outcomes: list[tuple[str, int]]
    new: list[Told]
    mended: list[str]


def _run(run: Run, address: str) -> RunRow:
    end, look = _end(run.exit_code)
    return RunRow(
        run=run,
        end=end,
        look=look,
        steps=[(step, outcome) for step, outcome in run.steps if outcome != "idle"],
        outcomes=list(run.outcomes.items()),
        new=[
            Told(
                fact_sentence(fact),
                (_command(next_command(fact, address)),) if fact.exit_code else (),
            )
            for fact in run.new
        ],
        mended=[fact_sentence(fact) for fact in run.mended],
    )


def _due_text(due: Due) -> str:
    return _DUE[due.what].format(subject=printable(due.subject))
