"""The sentence for each thing that falls short of what is wanted, and the command to run next."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from archiver.archive.advice import quoted
from archiver.operations.status import report
from archiver.text import human_bytes, human_duration, plural, printable

if TYPE_CHECKING:
    from archiver.operations.status.report import PlanShortfall, Shortfall

_TITLES: Final = 8
"""Entries of a plan that a sentence names; JSON has all of them."""


def what_next(one: Shortfall) -> str:
    """Return the commands that it asks for, in quotes, to be typed as they stand."""
    return quoted(*one.commands)


def described(one: Shortfall) -> dict[str, Any]:
    """What falls short, with its words, for who reads JSON."""
    words = {"message": sentence(one), "next": what_next(one)}
    fields: dict[str, Any] = msgspec.to_builtins(one)
    return fields | words


def sentence(one: Shortfall) -> str:  # noqa: C901, PLR0911, PLR0912 - one line a kind
    """What falls short, in words; names are as they came."""
    match one:
        case report.NothingHeld():
            return "The archive is empty: it holds no snapshot."
        case report.MissingPacks():
            return f"{plural(one.packs, 'pack')} that seals need are not there."
        case report.UnreadableSeals():
            return f"{plural(one.seals, 'seal')} cannot be read."
        case report.DamagedByAudit():
            had = f"The audit of {one.time} had {plural(one.findings, 'finding')}"
            again = "; another one says whether they still are, and what to do about each."
            return had + (" of damage." if one.packs or one.files else again)
        case report.DamagedFiles():
            counts = (one.packs, "pack"), (one.files, "other file")
            found = " and ".join(plural(count, noun) for count, noun in counts if count)
            return f"Found damaged, and neither repaired nor found whole since: {found}."
        case report.Contradiction():
            files = plural(one.files, "file")
            return (
                f"Two seals of {one.snapshot} give {files} other bytes, {one.path} for one: at least one "
                "lies."
            )
        case report.WrongClock():
            return (
                f"The journal has come to {one.latest}, and this machine's clock says {one.now}: one of "
                "the two is wrong. Nothing is deleted, and proofs of a time to come do not count. If the "
                "clock is wrong, set it, and that is all; if it is right, the command says so."
            )
        case report.PlanShortfall():
            return _of_plan(one)
        case report.NeverAudited():
            return "Nothing of what is held here was ever proven by an audit."
        case report.ProofsOld():
            packs, days = plural(one.packs, "pack"), plural(one.days, "day")
            size = human_bytes(one.bytes)
            return f"{packs} ({size}) not proven at level {one.level} within {days}."
        case report.NoParity():
            return f"{plural(one.files, 'file has', 'files have')} no parity sidecar."
        case report.FewCopies():
            lie = plural(one.snapshots, "snapshot lies", "snapshots lie")
            places = plural(one.places, "place")
            return (
                f"{lie} in fewer than {places} that count: on a disk of its own, and proven lately."
            )
        case report.Unsigned():
            bare = plural(one.documents, "seal or manifest has", "seals and manifests have")
            return f"{bare} no signature by a trusted key."
        case report.NoPolicy():
            return "No policy is set: nobody said how many copies, audits and parity are wanted."
        case report.LowRoom():
            free, keep = human_bytes(one.free), human_bytes(one.keep)
            return f"The disk is nearly full: {free} are free, and {keep} should stay so."
        case report.Unfinished():
            left = f"{plural(one.files, 'unfinished file')}, {human_bytes(one.bytes)}"
            return (
                f"Runs that died left {left}. The next mirror or import goes on with what of it is packs; "
                "the rest goes with the next prune."
            )
    raise AssertionError(one)


def _of_plan(one: PlanShortfall) -> str:
    names = [printable(title) for title in one.entries]
    more = f" and {len(names) - _TITLES:,} more" if len(names) > _TITLES else ""
    plan, titles = f"The plan {printable(one.plan)}", ", ".join(names[:_TITLES]) + more
    match one:
        case report.PlanMissing():
            gone = (
                f" Upstream has {one.gone:,} of them no more, or never had: correct the name in the "
                "plan, or take it out."
            ) * bool(one.gone)
            total = plural(one.total, "repository", "repositories")
            return f"{plan} is not met: {len(names):,} of {total} not held: {titles}.{gone}"
        case report.PlanUnvouched():
            return f"{plan}: held, but nobody vouched for all of the bytes: {titles}."
        case report.PlanFailed():
            return f"{plan}: its last run failed for {titles}."
        case report.PlanLate():
            ever = f", of the oldest since {one.since}" if one.since else ""
            age = human_duration(one.max_age)
            return f"{plan}: upstream did not answer within {age}{ever}: {titles}."
    how = "no longer has" if isinstance(one, report.PlanGone) else "refuses access to"
    return f"Upstream {how} {titles} (plan {printable(one.plan)}); what is held of it stays."
