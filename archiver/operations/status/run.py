"""Status: what of an archive is proven, copied and protected, and what falls short of its policy.

No pack is read. Places that hold copies are looked at, by names only. Nothing is written.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final, Literal

from archiver.archive.advice import Advice, argv
from archiver.archive.check.contradictions import contradictions
from archiver.archive.clock import ahead_of_clock
from archiver.archive.copies import judge_copies, remedy
from archiver.archive.findings import Finding
from archiver.archive.layout import pack_name
from archiver.archive.parity.coverage import files_of_snapshots, without_sidecar
from archiver.archive.places import own_place
from archiver.archive.prune.trash import unfinished
from archiver.archive.signing.keys import public_keys
from archiver.archive.signing.signatures import unsigned
from archiver.archive.vouching import Voucher
from archiver.operations.status.inventory import Inventory
from archiver.operations.status.report import (
    ChangedUpstream,
    ContradictorySeals,
    DamagedByAudit,
    DamagedFiles,
    FewCopies,
    LostUpstream,
    LowRoom,
    MissingPacks,
    NeverAudited,
    NoParity,
    NoPolicy,
    NothingHeld,
    NotShownUpstream,
    PlanFailed,
    PlanGone,
    PlanLate,
    PlanMissing,
    PlanRefused,
    PlanUnvouched,
    ProofsOld,
    Shortfall,
    SmokeTestState,
    Status,
    UnfinishedFiles,
    UnreadableSeals,
    Unsigned,
    WrongClock,
)
from archiver.smoke.receipt import last_tested
from archiver.text import utc_before, utc_now

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from archiver.archive.advice import Argv
    from archiver.archive.archive import Archive
    from archiver.archive.copies import CopyState
    from archiver.archive.plans import EntryStatus, PlanStatus
    from archiver.archive.seals import Snapshot

_NEWS_SECONDS: Final = 7 * 86400
"""For so long a status tells of what upstream changed."""
_FACTS: Final[tuple[tuple[Literal["gone", "refused"], type[PlanGone | PlanRefused]], ...]] = (
    ("gone", PlanGone),
    ("refused", PlanRefused),
)


def status(archive: Archive, *, keys: Iterable[str] = ()) -> Status:
    """Return the whole picture, from names, seals and events.

    ``keys`` are public keys, or files of one: they are trusted instead of the policy's, and must have
    signed every seal and manifest. Raise UsageError if one is none, DamageError if the policy cannot be
    read.
    """
    given = tuple(key.text for key in public_keys(keys))
    now = utc_now()
    inventory = Inventory(archive, now)
    snapshots, policy = inventory.snapshots, inventory.policy
    trusted = given or (policy.keys if policy.signed else ())
    documents = len(list(unsigned(archive.store, snapshots, trusted))) if trusted else 0
    protected = [pack for pack in inventory.present if pack.parity]
    copies = judge_copies(archive, inventory.places, snapshots, policy)
    free = _free_bytes(archive)
    return Status(
        snapshots=len(snapshots),
        packs=len(inventory.present),
        bytes=sum(pack.size for pack in inventory.present),
        missing=len(inventory.missing),
        policy=policy,
        coverage=tuple(inventory.coverage()),
        files_proven=inventory.files_proven,
        last_audit=inventory.last_audit.time if inventory.last_audit else "",
        with_parity=len(protected),
        bytes_with_parity=sum(pack.size for pack in protected),
        copies=copies.fewest,
        copy_days=copies.days,
        trusted=trusted,
        unsigned=documents,
        pack_list=tuple(inventory.packs),
        places=copies.places,
        shortfalls=tuple(_shortfalls(archive, inventory, documents, copies)),
        smoke_tests=tuple(_smoke_tests(archive, snapshots)),
        audit=inventory.last_audit,
        plans=inventory.plans,
        lost_upstream=tuple(_lost_upstream(inventory, now)),
        free=free,
        min_free=inventory.min_free,
        remarks=tuple(_remarks(archive, inventory, free)),
        vouched=_vouched(archive, snapshots),
        findings=tuple(_unreadable(archive, inventory)),
        damaged_files=tuple(_damaged_files(inventory)),
    )


def _free_bytes(archive: Archive) -> int:
    """Return the room on the archive's disk in bytes; -1 if it is not known."""
    try:
        free = archive.store.free_bytes()
    except OSError:
        return -1
    return -1 if free is None else free


def _vouched(archive: Archive, snapshots: Iterable[Snapshot]) -> dict[str, int]:
    """Return how many snapshots each voucher stands for, the highest first."""
    vouchings = [archive.vouching(snapshot) for snapshot in snapshots]
    counts = Counter(vouching.least if vouching else None for vouching in vouchings)
    order = (*reversed(Voucher), None)
    return {"unknown" if who is None else who.word: counts[who] for who in order if counts[who]}


def _smoke_tests(archive: Archive, snapshots: Iterable[Snapshot]) -> Iterator[SmokeTestState]:
    """Yield them by name; what is no whole model has no turn in ``audit --level smoke``."""
    models = [snapshot for snapshot in snapshots if snapshot.should_run]
    tested = last_tested(archive, models, own_place(archive))
    for model in sorted(models, key=lambda snapshot: snapshot.name):
        seal, last = model.seal, tested[model.id]
        yield SmokeTestState(model.id, seal.repository, seal.revision, last.tried, last.held)


def _damaged_files(inventory: Inventory) -> list[str]:
    packs = map(pack_name, inventory.damaged_packs)
    return sorted({*packs, *inventory.damaged_files, *inventory.damaged_seals})


def _lost_upstream(inventory: Inventory, now: str) -> Iterator[LostUpstream]:
    """Yield what upstream was seen to have no more, of all that is held, by name."""
    held = {
        snapshot.seal.repository.casefold(): snapshot.seal.repository
        for snapshot in inventory.snapshots
    }
    planned = {
        (entry.repository.casefold(), entry.revision or "main"): entry.acknowledged
        for plan in inventory.plans
        for entry in plan.entries
        if entry.state == "gone"
    }
    for key, since in sorted(inventory.upstreams.gone.items()):
        repository, name = key
        if repository in held:
            acknowledged = planned.get(key, inventory.upstreams.knows("gone", key, now))
            yield LostUpstream(held[repository], name, since, acknowledged)


def _unreadable(archive: Archive, inventory: Inventory) -> Iterator[Finding]:
    actions = Advice(archive.store.address).make_readable()
    for name, message in inventory.unreadable.items():
        yield Finding("file-unreadable", message, path=name, actions=actions)
    for name, message in sorted(inventory.not_understood.items()):
        yield Finding("not-understood", message, path=name)


# ---- what falls short, in the order in which it is to be mended


def _shortfalls(
    archive: Archive, inventory: Inventory, documents: int, copies: CopyState
) -> Iterator[Shortfall]:
    """Yield what falls short; so many ``documents`` have no signature by a trusted key."""
    place, policy = archive.store.address, inventory.policy
    yield from _damage(inventory, place)
    yield from _contradictions(archive, inventory)
    latest = ahead_of_clock(archive.standing_events())
    if latest:
        trust = argv("prune", place, "--trust-clock")
        yield WrongClock(commands=(trust,), latest=latest, now=utc_now())
    if not (inventory.snapshots or inventory.damaged_seals or inventory.unreadable):
        plans = inventory.plans
        first = _sync(plans[0], place) if plans else argv("mirror", place, "REPO")
        yield NothingHeld(commands=(first,))
    for plan in inventory.plans:
        yield from _of_plan(plan, place)
    yield from _unproven(inventory, place)
    # Events come with every audit and copy: their sidecars are made with the next ones.
    if policy.parity and (
        bare := without_sidecar(archive.store, files_of_snapshots(inventory.snapshots))
    ):
        yield NoParity(commands=(argv("parity add", place),), files=len(bare))
    few = [
        snapshot for snapshot in inventory.snapshots if copies.count(snapshot.id) < policy.copies
    ]
    if few:
        # To copy to where a place that counts lies already would mend nothing.
        used = {device for copy in copies.places if copy.counts for device in copy.devices}
        # What a claim lacks is trust, and whom to trust is not for a stranger's file to suggest.
        idle = [
            copy
            for copy in copies.places
            if not copy.counts and copy.standing != "claim" and used.isdisjoint(copy.devices)
        ]
        commands = remedy(place, idle[0]) if idle else (argv("copy", place, "--new", "FOLDER"),)
        yield FewCopies(commands=commands, snapshots=len(few), places=policy.copies)
    if documents:
        yield Unsigned(commands=(argv("sign", place, "--key", "FILE"),), documents=documents)


def _damage(inventory: Inventory, place: str) -> Iterator[Shortfall]:
    """Yield what is known to be wrong, whatever the policy."""
    repair = (argv("repair", place),)
    missing, seals = len(inventory.missing), len(inventory.damaged_seals)
    if missing:
        yield MissingPacks(commands=repair, packs=missing)
    if seals:
        yield UnreadableSeals(commands=repair, seals=seals)
    packs, files = len(inventory.damaged_packs), len(inventory.damaged_files)
    audit = inventory.newest_audit
    if audit and audit[1].damaged:
        # Not every finding is one that a repair mends: an audit names what to do about each.
        lost_packs, lost_files = packs + missing, files or seals
        yield DamagedByAudit(
            commands=repair if lost_packs or lost_files else (argv("audit", place),),
            time=audit[0].time,
            findings=audit[1].damaged,
            packs=lost_packs,
            files=lost_files,
        )
    elif packs or files:
        yield DamagedFiles(commands=repair, packs=packs, files=files)


def _contradictions(archive: Archive, inventory: Inventory) -> Iterator[Shortfall]:
    """Yield the commits of which nobody can tell what their files are: two seals say it otherwise."""
    unsettled = [
        contradiction
        for contradiction in contradictions(archive, inventory.snapshots)
        if not contradiction.settled
    ]
    paths: dict[str, list[str]] = {}
    for contradiction in unsettled:
        paths.setdefault(contradiction.first.snapshot.title, []).append(contradiction.path)
    for title in sorted(paths):
        yield ContradictorySeals(
            commands=(argv("mirror", archive.store.address, title),),
            snapshot=title,
            files=len(set(paths[title])),
            path=paths[title][0],
        )


def _of_plan(plan: PlanStatus, place: str) -> Iterator[Shortfall]:
    name, sync = plan.plan, (_sync(plan, place),)
    if missing := plan.entries_in("missing"):
        gone = sum(entry.outcome == "gone" for entry in missing)
        yield PlanMissing(
            commands=sync, plan=name, entries=_titles(missing), total=len(plan.entries), gone=gone
        )
    if failed := plan.entries_in("failed"):
        yield PlanFailed(commands=sync, plan=name, entries=_titles(failed))
    if unvouched := plan.entries_in("unvouched"):
        yield PlanUnvouched(commands=sync, plan=name, entries=_titles(unvouched))
    for fact, kind in _FACTS:
        for entry in plan.entries_in(fact):
            acknowledge = argv("acknowledge", place, fact, entry.title)
            yield kind(commands=(acknowledge,), plan=name, entries=(entry.title,))
    if late := plan.entries_in("late"):
        since = min(entry.answered for entry in late)
        yield PlanLate(
            commands=sync, plan=name, entries=_titles(late), max_age=plan.max_age, since=since
        )


def _sync(plan: PlanStatus, place: str) -> Argv:
    return argv("sync", place, plan.source or plan.plan)


def _titles(entries: Iterable[EntryStatus]) -> tuple[str, ...]:
    return tuple(entry.title for entry in entries)


def _unproven(inventory: Inventory, place: str) -> Iterator[Shortfall]:
    """Yield what no audit has proven, or none within the policy's days."""
    level, days = inventory.policy.audit_level, inventory.policy.audit_days
    if inventory.never_proven:
        yield NeverAudited(commands=(argv("audit", place),))
    elif days:
        old = [
            pack
            for pack in inventory.present
            if inventory.proofs.pack(pack.pack, level) < inventory.since
        ]
        if old:
            audit = argv("audit", place, "--level", level, "--max-age", f"{days}d")
            yield ProofsOld(
                commands=(audit,),
                packs=len(old),
                bytes=sum(pack.size for pack in old),
                level=level,
                days=days,
            )


def _upstream(inventory: Inventory, place: str) -> Iterator[Shortfall]:
    """Yield what upstream did lately to what is held; what is gone is told besides."""
    held = {snapshot.seal.repository.casefold() for snapshot in inventory.snapshots}
    since = utc_before(_NEWS_SECONDS)
    for known in inventory.upstream:
        name = known.repository
        if name.casefold() not in held or known.gone:
            continue
        if known.unseen:
            yield NotShownUpstream(
                commands=(argv("watch", place, name),),
                repository=name,
                days=len(known.unseen),
                status=known.unseen[-1].unseen.status,
            )
        if news := tuple(seen.change for seen in known.history if seen.news and seen.time >= since):
            yield ChangedUpstream(
                commands=(argv("upstream", place, name),), repository=name, changes=news
            )


def _remarks(archive: Archive, inventory: Inventory, free: int) -> Iterator[Shortfall]:
    """Yield what is worth a line and falls short of nothing."""
    place = archive.store.address
    if not inventory.has_policy:
        yield NoPolicy(commands=(argv("policy set", place, "--copies", "2"),))
    if 0 <= free < inventory.min_free:
        yield LowRoom(commands=(argv("stats", place),), free=free, keep=inventory.min_free)
    yield from _upstream(inventory, place)
    leftovers = unfinished(archive.store)
    if leftovers.files:
        yield UnfinishedFiles(
            commands=(argv("prune", place),), files=leftovers.files, bytes=leftovers.bytes
        )
