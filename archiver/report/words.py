"""A status in words: the verdict, what falls short, and why a place does not count.

The commands and the page say the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from archiver.archive.advice import quoted
from archiver.operations.status import report
from archiver.report.changes import change_sentence
from archiver.text import human_bytes, human_duration, in_short, plural, printable

if TYPE_CHECKING:
    from archiver.archive.copies import PlaceState, Presence, Standing
    from archiver.operations.status.report import PlanShortfall, Shortfall

_CHANGES: Final = 5
_TITLES: Final = 8
"""Entries of a plan that a sentence names; --json names them all."""


class Verdict(NamedTuple):
    """Whether all is as it is wanted, and what is held; each a sentence, or nearly."""

    headline: str
    holds: str

    def __str__(self) -> str:
        """Return both in a line."""
        return f"{self.headline} {self.holds}"


def verdict(
    *, short: int, unread: bool, snapshots: int, packs: int, size: int, missing: int
) -> Verdict:
    """Return the verdict of a status: so many things fall short, or not all could be read."""
    lost = f"; {plural(missing, 'pack')} missing" if missing else ""
    holds = (
        f"{plural(snapshots, 'snapshot')} in {plural(packs, 'pack')}, {human_bytes(size)}{lost}."
    )
    if short:
        return Verdict(
            f"NOT AS WANTED: {plural(short, 'thing falls', 'things fall')} short.", holds
        )
    if unread:
        return Verdict("NOT KNOWN: not all may be read. Of the rest nothing falls short:", holds)
    return Verdict("Nothing falls short:", holds)


def medium(place: PlaceState) -> str:
    """Return on what a place lies."""
    if place.medium == "unknown":
        return f"unknown ({place.device})" if place.device else "unknown"
    return place.device or place.medium


def reason(place: PlaceState) -> str:
    """Return why a place does not count, and whether it is there now; ``""`` if it counts."""
    why = _REASONS.get(place.standing, "").format(
        same=printable(place.same_as),
        missing=plural(place.missing, "file"),
        path=printable(place.path),
        receipt=printable(place.receipt),
    )
    now = "" if place.standing == "deleted" else _PRESENT[place.presence]
    return f"{why}{now}" if why else ""


def by_receipt(place: PlaceState) -> str:
    """Return what receipts say of a place, where any counts; ``""`` if none does."""
    if not place.signer:
        return ""
    words = [f"a receipt of {place.receipt}, signed by the key {place.signer}"]
    if place.aged:
        words.append(f"{plural(place.aged, 'more snapshot')} there, proven too long ago to count")
    if place.troubled:
        words.append(f"{plural(place.troubled, 'snapshot')} not whole there")
    if place.claimed:
        words.append(
            f"a newer one of {place.claimed}, which no trusted key signed, counts for nothing"
        )
    return "; ".join(words)


_REASONS: Final[dict[Standing, str]] = {
    "deleted": "it is not at {path} any more",
    "incomplete": "{missing} are not there",
    "damaged": "damage was found there",
    "never-proven": "not all of its packs were ever proven there",
    "proof-old": "its packs were proven there too long ago",
    "same-device": "it lies on the same disk or server as {same}",
    "claim": "only a receipt of {receipt} tells of it, and no key that is trusted signed that",
}
_PRESENT: Final[dict[Presence, str]] = {
    "here": "",
    "there": "",
    "away": "; it is not mounted now",
    "no-answer": "; it gives no answer now",
    "not-looked": "",
}


def described(shortfall: Shortfall) -> dict[str, Any]:
    """Return what falls short, with its words, for who reads JSON."""
    words = {"message": sentence(shortfall), "next": quoted(*shortfall.commands)}
    fields: dict[str, Any] = msgspec.to_builtins(shortfall)
    return fields | words


def sentence(shortfall: Shortfall) -> str:  # noqa: C901, PLR0911, PLR0912 - one line a kind
    """Return what falls short, in words; names are as they came."""
    match shortfall:
        case report.NothingHeld():
            return "The archive is empty: it holds no snapshot."
        case report.MissingPacks():
            return f"{plural(shortfall.packs, 'pack')} that seals need are not there."
        case report.UnreadableSeals():
            return f"{plural(shortfall.seals, 'seal')} cannot be read."
        case report.DamagedByAudit():
            audit = f"The audit of {shortfall.time} had {plural(shortfall.findings, 'finding')}"
            unsure = "; another one says whether they still are, and what to do about each."
            return audit + (" of damage." if shortfall.packs or shortfall.files else unsure)
        case report.DamagedFiles():
            counts = (shortfall.packs, "pack"), (shortfall.files, "other file")
            damage = " and ".join(plural(count, noun) for count, noun in counts if count)
            return f"Found damaged, and neither repaired nor found whole since: {damage}."
        case report.ContradictorySeals():
            files = plural(shortfall.files, "file")
            return (
                f"Two seals of {shortfall.snapshot} give {files} other bytes, "
                f"{shortfall.path} for one: at least one lies."
            )
        case report.WrongClock():
            return (
                f"The journal has come to {shortfall.latest}, and this machine's clock says "
                f"{shortfall.now}: one of the two is wrong. Nothing is deleted, and proofs of a time to "
                "come do not count. If the clock is wrong, set it, and that is all; if it is right, the "
                "command says so."
            )
        case report.PlanShortfall():
            return _of_plan(shortfall)
        case report.NeverAudited():
            return "Nothing of what is held here was ever proven by an audit."
        case report.ProofsOld():
            packs, days = plural(shortfall.packs, "pack"), plural(shortfall.days, "day")
            size = human_bytes(shortfall.bytes)
            return f"{packs} ({size}) not proven at level {shortfall.level} within {days}."
        case report.NoParity():
            return f"{plural(shortfall.files, 'file has', 'files have')} no parity sidecar."
        case report.FewCopies():
            lie = plural(shortfall.snapshots, "snapshot lies", "snapshots lie")
            places = plural(shortfall.places, "place")
            return (
                f"{lie} in fewer than {places} that count: on a disk of its own, and proven lately."
            )
        case report.Unsigned():
            bare = plural(shortfall.documents, "seal or manifest has", "seals and manifests have")
            return f"{bare} no signature by a trusted key."
        case report.NoPolicy():
            return "No policy is set: nobody said how many copies, audits and parity are wanted."
        case report.LowRoom():
            free, keep = human_bytes(shortfall.free), human_bytes(shortfall.keep)
            return f"The disk is nearly full: {free} are free, and {keep} should stay so."
        case report.NotShownUpstream():
            days = plural(shortfall.days, "day")
            return (
                f"Upstream does not show {printable(shortfall.repository)} to us, on {days} so far (HTTP "
                f"{shortfall.status}). What is held of it stays."
            )
        case report.ChangedUpstream():
            changes = " ".join(map(change_sentence, shortfall.changes[:_CHANGES]))
            more = len(shortfall.changes) - _CHANGES
            rest = f" And {plural(more, 'more change')}." if more > 0 else ""
            return f"Upstream changed {printable(shortfall.repository)}. {changes}{rest}"
        case report.UnfinishedFiles():
            left = f"{plural(shortfall.files, 'unfinished file')}, {human_bytes(shortfall.bytes)}"
            return (
                f"Runs that died left {left}. The next mirror or import goes on with what of it is packs; "
                "the rest goes with the next prune."
            )
    raise AssertionError(shortfall)


def _of_plan(shortfall: PlanShortfall) -> str:
    names = [printable(title) for title in shortfall.entries]
    plan, titles = f"The plan {printable(shortfall.plan)}", in_short(names, _TITLES)
    match shortfall:
        case report.PlanMissing():
            gone = (
                f" Upstream has {shortfall.gone:,} of them no longer, or never had: correct the name in "
                "the plan, or take it out."
            ) * bool(shortfall.gone)
            total = plural(shortfall.total, "repository", "repositories")
            return f"{plan} is not met: {len(names):,} of {total} not held: {titles}.{gone}"
        case report.PlanUnvouched():
            return f"{plan}: held, but nobody vouched for all of the bytes: {titles}."
        case report.PlanFailed():
            return f"{plan}: its last run failed for {titles}."
        case report.PlanLate():
            ever = f", of the oldest since {shortfall.since}" if shortfall.since else ""
            age = human_duration(shortfall.max_age)
            return f"{plan}: upstream did not answer within {age}{ever}: {titles}."
    how = "no longer has" if isinstance(shortfall, report.PlanGone) else "refuses access to"
    return f"Upstream {how} {titles} (plan {printable(shortfall.plan)}); what is held of it stays."
