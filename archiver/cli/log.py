"""``archiver log``: the journal, a sentence for each event."""

from __future__ import annotations

import json
from functools import singledispatch
from typing import TYPE_CHECKING, Final

import click
import msgspec

from archiver.archive import events as kinds
from archiver.archive.policy import Policy
from archiver.cli import output
from archiver.cli.options import Moment, common, open_archive, split_reference
from archiver.errors import DamageError, ExitCode
from archiver.text import human_bytes, human_duration, plural, printable

if TYPE_CHECKING:
    from archiver.operations.log import Entry

_NAMED: Final = 5
_VERBATIM: Final = 2000
_DAMAGED: Final = 20


@click.command(epilog="Example: archiver log -C weights --since 7d --kind audited")
@click.argument("reference", metavar="[REPO[@REVISION]]", required=False)
@click.option("--since", type=Moment(), help="Only from then on: 2026-11-29, or 7d.")
@click.option("--until", type=Moment(), help="Only before that.")
@click.option(
    "--kind", "chosen_kinds", metavar="KIND", multiple=True, help="Only these; repeatable."
)
@click.option("--last", type=click.IntRange(1), metavar="N", help="Only the newest N of these.")
@common
def command(
    reference: str | None,
    since: str | None,
    until: str | None,
    chosen_kinds: tuple[str, ...],
    last: int | None,
) -> None:
    """Show what happened to the archive: the events of its journal, oldest first.

    With REPO only what concerns that repository, or one revision or seal of it. What this version does
    not know is shown as it stands. Nothing is written.
    """
    from archiver.operations.log import Query, log  # noqa: PLC0415 - start-up stays light

    damaged: list[DamageError] = []
    repository, revision = split_reference(reference) if reference else ("", None)
    query = Query(
        repository, revision or "", since or "", until or "", frozenset(chosen_kinds), last
    )
    for entry in log(open_archive(), query, lambda _name, error: damaged.append(error)):
        output.record("event", id=entry.id, **_verbatim(entry))
        output.line(_line(entry))
    for error in damaged[:_DAMAGED]:
        output.print_error(error.message, error.hint, int(error.exit_code))
    if damaged:
        output.remark(
            f"{plural(len(damaged), 'event')} cannot be read: 'archiver audit' says more."
        )
        raise click.exceptions.Exit(int(ExitCode.DAMAGE))


def _verbatim(entry: Entry) -> dict[str, object]:
    """The event as it is stored; its own ``kind`` and ``format`` say nothing of it."""
    fields: dict[str, object] = msgspec.to_builtins(entry.event)
    return {key: value for key, value in fields.items() if key not in {"kind", "format"}}


def _line(entry: Entry) -> str:
    event = entry.event
    about = _about(entry)
    if entry.detail is None:
        text = json.dumps(event.detail, ensure_ascii=True, sort_keys=True)
        said = f"{about}{printable(text, _VERBATIM)}"
    else:
        said = f"{about}{sentence(entry.detail)}"
    return f"{printable(event.time, 20)}  {printable(event.event, 60):13}  {said}"


def _about(entry: Entry) -> str:
    event = entry.event
    if not event.repository:
        return ""
    at = f"@{event.revision[:12]}" if event.revision else ""
    return f"{printable(event.repository + at)}: "


@singledispatch
def sentence(detail: msgspec.Struct) -> str:
    """Return what an event of a known kind says, in words."""
    return printable(json.dumps(msgspec.to_builtins(detail), ensure_ascii=True), _VERBATIM)


def _several(names: tuple[str, ...], noun: str, many: str = "") -> str:
    """A count, and the first of what is counted."""
    shown = ", ".join(printable(name[:80]) for name in names[:_NAMED])
    more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    return f"{plural(len(names), noun, many)}: {shown}{more}" if names else f"no {noun}"


def _ids(names: tuple[str, ...], noun: str) -> str:
    return _several(tuple(digest[:16] for digest in names), noun)


@sentence.register
def _sealed(detail: kinds.Sealed) -> str:
    by = f", vouched for by {printable(detail.vouched)}" if detail.vouched else ""
    return f"sealed as {printable(detail.snapshot[:16])}{by}."


@sentence.register
def _policy(detail: Policy) -> str:
    when = f"every {plural(detail.audit_days, 'day')}" if detail.audit_days else "no matter when"
    parts = [f"copies {detail.copies}", f"audits {detail.audit_level}, {when}"]
    parts.append(f"parity {detail.parity}/{detail.parity_group}" if detail.parity else "no parity")
    parts += ["append-only"] if detail.append_only else []
    parts += ["signatures required"] if detail.signed else []
    parts += [plural(len(detail.keys), "trusted key")] if detail.keys else []
    parts += [plural(len(detail.accepted), "accepted finding")] if detail.accepted else []
    return f"wanted from now on: {', '.join(parts)}."


@sentence.register
def _sighted(detail: kinds.Sighted) -> str:
    if detail.hearsay:
        return f"a cache says that {printable(detail.name)} points at it."
    return f"{printable(detail.upstream)} points {printable(detail.name)} at it."


@sentence.register
def _gone(detail: kinds.Gone) -> str:
    return f"{printable(detail.upstream)} has {printable(detail.name)} of it no more."


@sentence.register
def _audited(detail: kinds.Audited) -> str:
    packs = plural(len(detail.packs), "pack")
    files = f", files of {plural(len(detail.snapshots), 'snapshot')}" if detail.snapshots else ""
    damage = f"; {plural(detail.damaged, 'finding')} of damage" if detail.damaged else ""
    terms = ""
    if isinstance(detail.sample, kinds.Sample):
        terms += f"; a sample of {printable(detail.sample.share)}"
        terms += f" by the seed {printable(detail.sample.seed)}"
    for count, noun in ((detail.heads, "kept head"), (detail.keys, "key")):
        if count:  # also true of neither: UNSET is false
            terms += f"; against {plural(len(count), noun)}"
    if detail.complete is False:
        terms += "; something due was left for later"
    return f"audited: {packs} proven at level {printable(detail.level)}{files}{damage}{terms}."


@sentence.register
def _copied(detail: kinds.Copied) -> str:
    ends = f"from {printable(detail.from_)} to {printable(detail.to)}"
    return f"copied {ends}, {_ids(detail.snapshots, 'snapshot')}."


@sentence.register
def _places_seen(detail: kinds.PlacesSeen) -> str:
    return f"these were there, {_several(tuple(seen.place for seen in detail.places), 'place')}."


@sentence.register
def _copy_lost(detail: kinds.CopyLost) -> str:
    return f"{printable(detail.place)} has no copies any more."


@sentence.register
def _forgotten(detail: kinds.Forgotten) -> str:
    return f"taken out of use, {_ids(detail.snapshots, 'snapshot')}."


@sentence.register
def _remembered(detail: kinds.Remembered) -> str:
    return f"back in use, {_ids(detail.snapshots, 'snapshot')}."


@sentence.register
def _condemned(detail: kinds.Condemned) -> str:
    return f"may go once the grace has passed, {_several(detail.files, 'file')}."


@sentence.register
def _spared(detail: kinds.Spared) -> str:
    return f"needed again, {_several(detail.files, 'file')}."


@sentence.register
def _pruned(detail: kinds.Pruned) -> str:
    where = f"to the {printable(detail.to)}" if detail.to else "for good"
    return f"deleted {where}, {_several(detail.files, 'file')}."


@sentence.register
def _repaired(detail: kinds.Repaired) -> str:
    source = f" from {printable(detail.source)}" if detail.source else ""
    seals = f"; {_ids(detail.snapshots, 'old seal')}" if detail.snapshots else ""
    return f"brought back{source}, {_several(detail.files, 'file')}{seals}."


@sentence.register
def _signed(detail: kinds.Signed) -> str:
    return f"signed by the key {printable(detail.key)}, {_ids(detail.documents, 'document')}."


@sentence.register
def _smoke_tested(detail: kinds.SmokeTested) -> str:
    levels = ", ".join(
        f"{printable(level)} {printable(how)}" for level, how in list(detail.levels.items())[:20]
    )
    return f"smoke test: {levels or 'no level'}."


@sentence.register
def _clock(detail: kinds.ClockSeen) -> str:
    since = f"; the journal had come to {printable(detail.since)}" if detail.since else ""
    return (
        f"a person confirmed this time{since}."
        if detail.confirmed
        else f"a run saw this time{since}."
    )


@sentence.register
def _planned(detail: kinds.Planned) -> str:
    titles = tuple(entry.title for entry in detail.entries)
    return (
        f"the plan {printable(detail.plan)} wants {_several(titles, 'repository', 'repositories')}."
    )


@sentence.register
def _plan_retired(detail: kinds.PlanRetired) -> str:
    return f"the plan {printable(detail.plan)} is retired."


@sentence.register
def _synced(detail: kinds.Synced) -> str:
    counts: dict[str, int] = {}
    for outcome in detail.outcomes:
        counts[outcome] = counts.get(outcome, 0) + 1
    outcomes = ", ".join(f"{count:,} {outcome}" for outcome, count in counts.items())
    size = f"{human_bytes(detail.fetched)} fetched in {human_duration(detail.seconds)}"
    return (
        f"the plan {printable(detail.plan)} was run, exit {detail.exit_code}: {outcomes}; {size}."
    )


@sentence.register
def _acknowledged(detail: kinds.Acknowledged) -> str:
    note = f" ({printable(detail.note)})" if detail.note else ""
    what = f"{detail.fact} of {printable(detail.name)}"
    if detail.withdrawn:
        return f"{what} is known no more{note}."
    until = f" until {printable(detail.until)}" if detail.until else ""
    return f"{what} is known{until}{note}."
