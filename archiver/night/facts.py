"""Facts: what a night found out that an owner should know, and which of it is news.

A fact has a stable key. It rings on the night on which it is new: then its exit code is one of those of
which the worst is the night's. Damage rings every night until it is mended.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, NamedTuple

import msgspec

from archiver.archive.events import NightFact, NightRun
from archiver.archive.layout import pack_name
from archiver.archive.policy import LEVELS, proves
from archiver.errors import ExitCode
from archiver.operations.status.report import (
    ContradictorySeals,
    FewCopies,
    NoParity,
    ProofsOld,
    Unsigned,
    WrongClock,
)
from archiver.text import utc_before, utc_now

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from archiver.archive.archive import Archive
    from archiver.archive.copies import PlaceState
    from archiver.archive.places import Place
    from archiver.archive.plans import EntryStatus
    from archiver.operations.status.report import Status

Kind = Literal[
    # of the archive, until they are mended
    "damaged",
    "missing",
    "finding",
    "contradiction",
    "unreadable",
    "copies",
    "copy-old",
    "parity",
    "proofs",
    "signatures",
    "clock",
    "smoke",
    # of upstream, by entries of the plan
    "mismatch",
    "gone",
    "refused",
    "failed",
    "unvouched",
    "late",
    "upstream",
    "changed",
    "unseen",
    "token",
    # of a step of this night
    "room",
    "step",
    "place",
    "command",
]
"""What kind of thing."""

ORDER: Final = (20, 21, 22, 24, 25, 23, 31, 30, 3, 4)
"""Exit codes, the worst first."""
DAMAGE: Final = frozenset({int(ExitCode.DAMAGE), int(ExitCode.DAMAGE_UNREPAIRED)})
"""Those that ring until they are mended."""
FACTS_MAX: Final = 1000
"""Facts that the journal keeps of a night, the worst first; of more, the rest rings again."""
_PASSING: Final = frozenset({"changed"})
"""Kinds of what happened once: the next night tells of it no more, and nothing was mended."""
_OUTCOMES: Final[dict[str, tuple[Kind, int]]] = {
    "mismatch": ("mismatch", int(ExitCode.MISMATCH)),
    "gone": ("gone", int(ExitCode.UPSTREAM_GONE)),
    "refused": ("refused", int(ExitCode.UPSTREAM_GONE)),
    "failed": ("failed", int(ExitCode.PARTIAL)),
}


class Fact(NamedTuple):
    """One fact: of which kind, about what, with which exit code (0: it never rings), by which step."""

    kind: Kind
    subject: str
    exit_code: int
    step: str

    @property
    def key(self) -> tuple[str, str]:
        """Equal of two nights' facts that are the same."""
        return self.kind, self.subject


class News(NamedTuple):
    """The facts of a night beside those that were told before, each list the worst first.

    ``mended`` are known ones that are no more.
    """

    new: tuple[NightFact, ...]
    known: tuple[NightFact, ...]
    mended: tuple[NightFact, ...]

    @property
    def standing(self) -> tuple[NightFact, ...]:
        """All that is so now."""
        return tuple(sorted((*self.new, *self.known), key=_rank))

    @property
    def ringing(self) -> tuple[NightFact, ...]:
        """What decides the exit code: what is new, and damage."""
        damage = (fact for fact in self.known if fact.exit_code in DAMAGE)
        return tuple(sorted((fact for fact in (*self.new, *damage) if fact.exit_code), key=_rank))

    @property
    def exit_code(self) -> int:
        """The worst code of those that ring."""
        return self.ringing[0].exit_code if self.ringing else 0


def worst(codes: Iterable[int]) -> int:
    """Return the worst of several exit codes; 0 if there are none but 0."""
    return min((code for code in codes if code), key=_code_rank, default=0)


def ringing_code(code: int) -> int:
    """Return the code with which an error of this exit code rings."""
    return code if code in ORDER else int(ExitCode.PARTIAL)


def _code_rank(code: int) -> int:
    return ORDER.index(code) if code in ORDER else len(ORDER)


def _rank(fact: NightFact) -> tuple[int, str, str]:
    return _code_rank(fact.exit_code), fact.fact, fact.subject


def last_night(archive: Archive, plan: str, place: Place) -> NightRun | None:
    """Return the newest summary of a night of this plan at this place; None if there is none."""
    newest = None
    for _, event in archive.standing_events():
        match event.detail:
            case NightRun() as night if night.plan == plan and place.is_named(night.place):
                newest = night
    return newest


def news(
    facts: Iterable[Fact],
    before: NightRun | None,
    judged: Collection[str],
    acknowledged: Collection[tuple[str, str]] = (),
) -> News:
    """Return what is new, known and mended.

    Args:
        facts: All that this night found out.
        before: The last night that left a summary.
        judged: The steps that came to a result: of the others the facts of before still stand.
        acknowledged: The keys of what is so, and is told no more, for the owner knows of it.
    """
    now = utc_now()
    before_by_key = {(fact.fact, fact.subject): fact for fact in (before.facts if before else ())}
    facts = tuple(facts)
    current = {fact.key: fact for fact in facts}
    new, known = [], []
    for key, fact in current.items():
        record = NightFact(fact.kind, fact.subject, fact.exit_code, fact.step, now)
        # What was told softly, and rings by now, is news: absence ages into an alarm.
        if key in before_by_key and (before_by_key[key].exit_code or not fact.exit_code):
            known.append(msgspec.structs.replace(record, since=before_by_key[key].since))
        else:
            new.append(record)
    rest = [fact for key, fact in before_by_key.items() if key not in current]
    # Who does not answer has not taken the token either.
    silent = any(fact.kind == "upstream" for fact in facts)
    open_still = [
        fact for fact in rest if fact.step not in judged or (silent and fact.fact == "token")
    ]
    known += open_still
    standing = {*acknowledged, *((fact.fact, fact.subject) for fact in open_still)}
    mended = [
        fact
        for fact in rest
        if fact.fact not in _PASSING and (fact.fact, fact.subject) not in standing
    ]
    return News(*(tuple(sorted(listed, key=_rank)) for listed in (new, known, mended)))


# ---- what the archive itself tells


STATE: Final = "state"
"""The step by which facts are found that are so whatever was run: the look at it all in the end."""


def facts_of(
    status: Status,
    plan: str,
    copies: Collection[str],
    sealed: Mapping[str, str],
    unseen: Collection[str] = (),
) -> Iterator[Fact]:
    """Yield what falls short by a status, of the archive and of the plan's own entries.

    ``copies`` are the folders that the night copies to: while one of them is away that counts, and with it
    there would be copies enough, what is missing there is a matter of patience. ``sealed`` says since when
    each pack is needed: what came lately is not due to be proven before the policy's days. ``unseen`` are
    repositories, without case, that upstream does not show to us, and that may be gone or not.
    """
    for name in status.damaged_files:
        yield Fact("damaged", name, int(ExitCode.DAMAGE), STATE)
    for pack in status.pack_list:
        if pack.needed and not pack.there:
            yield Fact("missing", pack_name(pack.pack), int(ExitCode.DAMAGE), STATE)
    for finding in status.findings:
        yield Fact("unreadable", finding.path, int(ExitCode.SKIPPED), STATE)
    waits = any(_holds_copy(place) for place, recent in _away(status, copies) if recent)
    counting = sum(place.counts and _holds_copy(place) for place in status.places)
    waits = waits and counting >= status.policy.copies
    yield from _shortfalls(status, sealed, waits=waits)
    yield from _old_copies(status, copies)
    for known in status.plans:
        if known.plan == plan:
            for entry in known.entries:
                hidden = entry.repository.casefold() in unseen and entry.snapshot
                if hidden and not entry.acknowledged:
                    yield Fact("unseen", entry.title, 0, STATE)
                else:
                    yield from _of_entry(entry)


def acknowledged_of(status: Status, plan: str) -> frozenset[tuple[str, str]]:
    """Return the keys of facts of a plan's entries that the owner knows of."""
    return frozenset(
        (entry.state, entry.title)
        for known in status.plans
        if known.plan == plan
        for entry in known.entries
        if entry.acknowledged
    )


def _shortfalls(status: Status, sealed: Mapping[str, str], *, waits: bool) -> Iterator[Fact]:
    unmet = int(ExitCode.POLICY_UNMET)
    for shortfall in status.shortfalls:
        match shortfall:
            case ContradictorySeals(snapshot=snapshot):
                yield Fact("contradiction", snapshot, int(ExitCode.MISMATCH), STATE)
            case WrongClock():
                yield Fact("clock", "", unmet, STATE)
            case ProofsOld(level=level) if _is_proof_old(status, sealed):
                yield Fact("proofs", level, unmet, STATE)
            case NoParity():
                yield Fact("parity", "", unmet, STATE)
            case FewCopies():
                yield Fact("copies", "", 0 if waits else unmet, STATE)
            case Unsigned():
                yield Fact("signatures", "", unmet, STATE)


def _holds_copy(place: PlaceState) -> bool:
    """Return whether a copy at a place has ever counted and does: it was brought there, and proven."""
    return place.standing == "here" or (place.counts and place.snapshots > 0)


def _away(status: Status, copies: Collection[str]) -> Iterator[tuple[PlaceState, bool]]:
    """Yield each place of the night that is not there, and whether its proof is recent."""
    since = utc_before(status.copy_days * 86400)
    for place in status.places:
        if place.path in copies and place.presence in {"away", "no-answer"}:
            known = place.proven if place.snapshots else place.seen
            yield place, known >= since


def _is_proof_old(status: Status, sealed: Mapping[str, str]) -> bool:
    """Return whether a pack that was needed for the policy's days was not proven in them as it wants."""
    policy = status.policy
    since = utc_before(policy.audit_days * 86400)
    for pack in status.pack_list:
        level = next((level for level in LEVELS if level == pack.level), None)
        deep = level is not None and proves(level, policy.audit_level)
        if pack.needed and pack.there:
            proven = pack.proven if deep else ""
            if max(proven, sealed.get(pack.pack, "")) < since:
                return True
    return False


def _old_copies(status: Status, copies: Collection[str]) -> Iterator[Fact]:
    """Yield the places of the night that are away, and whose proof has grown too old."""
    for place, recent in _away(status, copies):
        if not recent:
            yield Fact("copy-old", place.place, int(ExitCode.POLICY_UNMET), STATE)


def _of_entry(entry: EntryStatus) -> Iterator[Fact]:
    if entry.met:
        return
    if entry.state in {"unvouched", "late"}:
        kind: Kind = "unvouched" if entry.state == "unvouched" else "late"
        yield Fact(kind, entry.title, int(ExitCode.POLICY_UNMET), STATE)
        return
    outcome = entry.outcome if entry.state in {"missing", "failed"} else entry.state
    if outcome in _OUTCOMES:  # the others are of the run, and no matter of this entry
        kind, code = _OUTCOMES[outcome]
        yield Fact(kind, entry.title, code, STATE)
