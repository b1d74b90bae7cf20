"""An event of the journal in words: what the command ``log`` and the pages say of it."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Final, assert_never

from archiver.archive import events as kinds
from archiver.archive.policy import Policy
from archiver.report.changes import changed_sentence, unseen_sentence
from archiver.text import human_bytes, human_duration, in_short, plural, printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from archiver.archive.events import Event

_NAMED: Final = 5
_VERBATIM: Final = 2000
_LEVELS: Final = 20
_STOPPED: Final[dict[object, str]] = {
    "bytes": "; stopped, its bytes were used up",
    "time": "; stopped, its time was used up",
    "window": "; stopped, its window was over",
}


def sentence(event: Event) -> str:  # noqa: C901, PLR0911, PLR0912, PLR0915 - one case a kind
    """Return what an event says, in words; as it stands if nobody knows these."""
    match event.detail:
        case kinds.Sealed(snapshot, vouched):
            by = f", vouched for by {printable(vouched)}" if vouched else ""
            return f"sealed as {printable(snapshot[:16])}{by}."
        case Policy() as policy:
            return f"wanted from now on: {', '.join(_wanted(policy))}."
        case kinds.Sighted(name) as sighted if sighted.hearsay:
            return f"a cache says that {printable(name)} points at it."
        case kinds.Sighted(name, upstream):
            return f"{printable(upstream)} points {printable(name)} at it."
        case kinds.Gone(name, upstream):
            return f"{printable(upstream)} no longer has {printable(name)} of it."
        case kinds.Audited() as audited:
            return _audited(audited)
        case kinds.DamageMet() as met:
            return _damage_met(met)
        case kinds.Rehashed(packs):
            return f"took the SHA-256 of {plural(len(packs), 'pack')}."
        case kinds.Copied(from_, to, snapshots):
            ends = f"from {printable(from_)} to {printable(to)}"
            return f"copied {ends}, {_ids(snapshots, 'snapshot')}."
        case kinds.PlacesSeen(places):
            return f"these were there, {_several([seen.place for seen in places], 'place')}."
        case kinds.CopyLost(place):
            return f"{printable(place)} no longer has copies."
        case kinds.BundleImported(bundle, archive, snapshots):
            came = f"a bundle ({printable(bundle[:16])}) of archive {printable(archive)}"
            return f"came in with {came}, {_ids(snapshots, 'snapshot')}."
        case kinds.ReceiptAccepted(place, receipt, signature=signature):
            signed = "with a signature" if signature else "without a signature"
            return (
                f"accepted a receipt ({printable(receipt[:16])}) of {printable(place)}, {signed}."
            )
        case kinds.Forgotten(snapshots):
            return f"taken out of use, {_ids(snapshots, 'snapshot')}."
        case kinds.Remembered(snapshots):
            return f"back in use, {_ids(snapshots, 'snapshot')}."
        case kinds.Condemned(files):
            return f"may go once the grace has passed, {_several(files, 'file')}."
        case kinds.Spared(files):
            return f"needed again, {_several(files, 'file')}."
        case kinds.Pruned(files, to):
            where = f"to the {printable(to)}" if to else "for good"
            return f"deleted {where}, {_several(files, 'file')}."
        case kinds.Repaired(files, source) as repaired:
            by = f" from {printable(source)}" if source else ""
            seals = (
                f"; {_ids(repaired.replaced_seals, 'old seal')}" if repaired.replaced_seals else ""
            )
            return f"brought back{by}, {_several(files, 'file')}{seals}."
        case kinds.Signed(key, documents):
            return f"signed by the key {printable(key)}, {_ids(documents, 'document')}."
        case kinds.SmokeTested(levels=levels):
            ended = list(levels.items())[:_LEVELS]
            verdicts = ", ".join(f"{printable(level)} {printable(how)}" for level, how in ended)
            return f"smoke test: {verdicts or 'no level'}."
        case kinds.ClockSeen(since, confirmed):
            who = "a person confirmed" if confirmed else "a run saw"
            before = f"; the journal had come to {printable(since)}" if since else ""
            return f"{who} this time{before}."
        case kinds.Planned(plan, entries=entries):
            titles = [entry.title for entry in entries]
            repositories = _several(titles, "repository", "repositories")
            return f"the plan {printable(plan)} wants {repositories}."
        case kinds.PlanRetired(plan):
            return f"the plan {printable(plan)} is retired."
        case kinds.Synced() as synced:
            counts = Counter(synced.outcomes).items()
            outcomes = ", ".join(f"{count:,} {outcome}" for outcome, count in counts)
            size = f"{human_bytes(synced.fetched)} fetched in {human_duration(synced.seconds)}"
            run = f"the plan {printable(synced.plan)} was run, exit {synced.exit_code}"
            return f"{run}: {outcomes}; {size}{_STOPPED.get(synced.stopped, '')}."
        case kinds.NightRun() as night:
            return _night(night)
        case kinds.Acknowledged() as known:
            note = f" ({printable(known.note)})" if known.note else ""
            fact = f"{known.fact} of {printable(known.name)}"
            if known.withdrawn:
                return f"{fact} is no longer known{note}."
            until = f" until {printable(known.until)}" if known.until else ""
            return f"{fact} is known{until}{note}."
        case kinds.UpstreamChanged() as changed:
            return changed_sentence(changed)
        case kinds.UpstreamUnseen() as unseen:
            return unseen_sentence(unseen)
        case kinds.CrossChecked() as checked:
            return _cross_checked(checked)
        case kinds.Unknown() | kinds.Malformed():
            text = json.dumps(event.fields, ensure_ascii=True, sort_keys=True)
            return printable(text, _VERBATIM)
        case never:
            assert_never(never)


def _night(night: kinds.NightRun) -> str:
    steps = ", ".join(f"{printable(step)} {printable(how)}" for step, how in night.steps)
    end = f", ended early ({printable(night.cut)})" if night.cut else ""
    run = f"a night of the plan {printable(night.plan)}, exit {night.exit_code}{end}"
    return f"{run}: {printable(steps, _VERBATIM) or 'no step'}; {plural(len(night.facts), 'fact')}."


def _cross_checked(checked: kinds.CrossChecked) -> str:
    other = f"{printable(checked.other)}@{printable(checked.other_revision[:12])}"
    counts = (
        (checked.differs, "different"),
        (checked.only_here, "only here"),
        (checked.only_there, "only there"),
        (checked.not_comparable, "not comparable"),
    )
    rest = "".join(f", {count:,} {words}" for count, words in counts if count)
    weights = (
        f"; {plural(checked.weights, 'file')} of weights among them" if checked.weights else ""
    )
    named = f" ({_several(checked.paths, 'path')})" if checked.paths else ""
    return f"compared with {other}: {plural(checked.same, 'file')} the same{rest}{weights}{named}."


def _damage_met(met: kinds.DamageMet) -> str:
    lost = sum(not each.source for each in met.objects)
    given = "who read them got the right bytes from elsewhere"
    if lost:
        given = f"{plural(lost, 'object')} that nobody had whole, and nobody got"
    packs = f", in {_ids(sorted(met.packs), 'pack')}" if met.packs else ""
    return f"met damage, {_ids([each.object for each in met.objects], 'object')}{packs}; {given}."


def _several(names: Sequence[str], noun: str, many: str = "") -> str:
    """Return a count, and the first of what is counted."""
    shown = in_short((printable(name[:80]) for name in names), _NAMED)
    return f"{plural(len(names), noun, many)}: {shown}" if names else f"no {noun}"


def _ids(names: Sequence[str], noun: str) -> str:
    return _several([digest[:16] for digest in names], noun)


def _wanted(policy: Policy) -> Iterator[str]:
    when = f"every {plural(policy.audit_days, 'day')}" if policy.audit_days else "no matter when"
    yield f"copies {policy.copies}"
    yield f"audits {policy.audit_level}, {when}"
    yield f"parity {policy.parity}/{policy.parity_group}" if policy.parity else "no parity"
    if policy.append_only:
        yield "append-only"
    if policy.signed:
        yield "signatures required"
    if policy.keys:
        yield plural(len(policy.keys), "trusted key")
    if policy.accepted:
        yield plural(len(policy.accepted), "accepted finding")


def _audited(audited: kinds.Audited) -> str:
    packs = plural(len(audited.packs), "pack")
    files = f", files of {plural(len(audited.snapshots), 'snapshot')}" if audited.snapshots else ""
    damage = f"; {plural(audited.damaged, 'finding')} of damage" if audited.damaged else ""
    terms = ""
    if isinstance(audited.sample, kinds.Sample):
        terms += f"; a sample of {printable(audited.sample.share)}"
        terms += f" by the seed {printable(audited.sample.seed)}"
    for ids, noun in ((audited.heads, "kept head"), (audited.keys, "key")):
        if ids:  # also true of neither: UNSET is false
            terms += f"; against {plural(len(ids), noun)}"
    if audited.complete is False:
        terms += "; something due was left for later"
    return f"audited: {packs} proven at level {printable(audited.level)}{files}{damage}{terms}."
