"""Status: what of an archive is proven, copied and protected, and what falls short of its policy.

No pack is read. Places that hold copies are looked at, by names only. Nothing is written.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final, Literal

from archiver.archive.advice import Advice, argv
from archiver.archive.check.contradictions import contradictions
from archiver.archive.clock import journal_ahead
from archiver.archive.copies import judge_copies, remedy
from archiver.archive.events import Audited
from archiver.archive.findings import Finding
from archiver.archive.parity.protect import files_of_snapshots, without_sidecar
from archiver.archive.places import own_place
from archiver.archive.prune.trash import unfinished
from archiver.archive.signing.keys import public_keys
from archiver.archive.signing.signatures import unsigned
from archiver.archive.vouching import Voucher
from archiver.operations.status.known import Known
from archiver.operations.status.report import (
    Contradiction,
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
    PlanFailed,
    PlanGone,
    PlanLate,
    PlanMissing,
    PlanRefused,
    PlanUnvouched,
    ProofsOld,
    Shortfall,
    SmokeTested,
    Status,
    Unfinished,
    UnreadableSeals,
    Unsigned,
    WrongClock,
)
from archiver.smoke.receipt import last_tested
from archiver.text import utc_now

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from archiver.archive.advice import Argv
    from archiver.archive.archive import Archive
    from archiver.archive.copies import CopyState
    from archiver.archive.plans import EntryStatus, PlanStatus
    from archiver.archive.seals import Snapshot


# ---- One status, and what falls short of the policy.


def status(archive: Archive, *, keys: Iterable[str] = ()) -> Status:
    """Return the whole picture, from names, seals and events.

    ``keys`` are public keys, or files of one: they are trusted instead of the policy's, and must have
    signed every seal and manifest. Raise UsageError if one is none, DamageError if the policy cannot be
    read.
    """
    given = tuple(one.text for one in public_keys(keys))
    now = utc_now()
    known = Known(archive, now)
    trusted = given or (known.policy.keys if known.policy.signed else ())
    there = [one for one in known.packs if one.there]
    protected = [one for one in there if one.parity]
    bare = len(list(unsigned(archive.store, known.snapshots, trusted))) if trusted else 0
    copies = judge_copies(archive, known.places, known.snapshots, known.policy)
    free = free_bytes(archive)
    return Status(
        snapshots=len(known.snapshots),
        packs=len(there),
        bytes=sum(one.size for one in there),
        missing=len(known.missing),
        policy=known.policy,
        coverage=tuple(known.coverage()),
        files_proven=known.files_proven,
        last_audit=known.last_audit,
        with_parity=len(protected),
        bytes_with_parity=sum(one.size for one in protected),
        copies=copies.fewest,
        copy_days=copies.days,
        trusted=trusted,
        unsigned=bare,
        pack_list=tuple(known.packs),
        places=copies.places,
        shortfalls=tuple(_shortfalls(archive, known, bare, copies)),
        smoke_tests=tuple(_smoke_tests(archive, known)),
        audit=known.audited,
        plans=known.plans,
        lost_upstream=tuple(lost_upstream(known, now)),
        free=free,
        min_free=known.min_free,
        remarks=(*remarks(archive, known, free), *_unfinished(archive)),
        vouched=_vouched(archive, known.snapshots),
        findings=tuple(_unreadable(archive, known)),
    )


def _unreadable(archive: Archive, known: Known) -> Iterator[Finding]:
    actions = Advice(archive.store.address).make_readable()
    for name, message in known.unreadable.items():
        yield Finding("file-unreadable", message, path=name, actions=actions)


def _vouched(archive: Archive, snapshots: Iterable[Snapshot]) -> dict[str, int]:
    """Return how many snapshots each voucher stands for, the highest first."""
    told = [archive.vouching(one) for one in snapshots]
    counts = Counter(one.least if one else None for one in told)
    order = (*reversed(Voucher), None)
    return {"unknown" if who is None else who.word: counts[who] for who in order if counts[who]}


def _smoke_tests(archive: Archive, known: Known) -> Iterator[SmokeTested]:
    """Yield by name; chosen files are no model, and have no turn in ``audit --level smoke``."""
    whole = [one for one in known.snapshots if not one.seal.selection.chosen]
    tested = last_tested(archive, whole, own_place(archive))
    for one in sorted(whole, key=lambda snapshot: snapshot.name):
        seal = one.seal
        yield SmokeTested(
            one.id, seal.repository, seal.revision, tested[one.id].tried, tested[one.id].held
        )


def _shortfalls(
    archive: Archive, known: Known, bare: int, copies: CopyState
) -> Iterator[Shortfall]:
    place = archive.store.address
    yield from _damage(known, place)
    yield from _contradictions(archive, known)
    latest = journal_ahead(archive)
    if latest:
        trust = argv("prune", place, "--trust-clock")
        yield WrongClock(commands=(trust,), latest=latest, now=utc_now())
    yield from unmet(known, place)
    yield from _unproven(known, place)
    policy = known.policy
    # Events come with every audit and copy: their sidecars are made with the next ones.
    naked = (
        without_sidecar(archive.store, files_of_snapshots(known.snapshots)) if policy.parity else []
    )
    if naked:
        yield NoParity(commands=(argv("parity add", place),), files=len(naked))
    few = [one for one in known.snapshots if copies.count(one.id) < policy.copies]
    if few:
        # To copy to where a place that counts lies already would mend nothing.
        used = {device for one in copies.places if one.counts for device in one.devices}
        idle = [one for one in copies.places if not one.counts and used.isdisjoint(one.devices)]
        again = remedy(place, idle[0]) if idle else (argv("copy", place, "--new", "FOLDER"),)
        yield FewCopies(commands=again, snapshots=len(few), places=policy.copies)
    if bare:
        yield Unsigned(commands=(argv("sign", place, "--key", "FILE"),), documents=bare)


def _unfinished(archive: Archive) -> Iterator[Unfinished]:
    left = unfinished(archive.store)
    if left.files:
        prune = argv("prune", archive.store.address)
        yield Unfinished(commands=(prune,), files=left.files, bytes=left.bytes)


def _damage(known: Known, place: str) -> Iterator[Shortfall]:
    """Yield what is known to be wrong, whatever the policy."""
    repair = (argv("repair", place),)
    missing = len(known.missing)
    if missing:
        yield MissingPacks(commands=repair, packs=missing)
    if known.damaged_seals:
        yield UnreadableSeals(commands=repair, seals=len(known.damaged_seals))
    audit = known.audit
    damaged = audit.detail.damaged if audit and isinstance(audit.detail, Audited) else 0
    packs, files = len(known.broken), len(known.broken_files)
    if audit and damaged:
        # Not every finding is one that a repair mends: an audit names what to do about each.
        hit = packs + missing, files or len(known.damaged_seals)
        next_ = repair if any(hit) else (argv("audit", place),)
        yield DamagedByAudit(
            commands=next_, time=audit.time, findings=damaged, packs=hit[0], files=hit[1]
        )
    elif packs or files:
        yield DamagedFiles(commands=repair, packs=packs, files=files)


def _contradictions(archive: Archive, known: Known) -> Iterator[Shortfall]:
    """Commits of which nobody can tell what their files are: two seals say it otherwise."""
    unsettled = [one for one in contradictions(archive, known.snapshots) if not one.settled]
    for title in sorted({one.first.snapshot.title for one in unsettled}):
        paths = [one.path for one in unsettled if one.first.snapshot.title == title]
        yield Contradiction(
            commands=(argv("mirror", archive.store.address, title),),
            snapshot=title,
            files=len(set(paths)),
            path=paths[0],
        )


def _unproven(known: Known, place: str) -> Iterator[Shortfall]:
    policy = known.policy
    if known.never_proven:
        yield NeverAudited(commands=(argv("audit", place),))
        return
    if not policy.audit_days:
        return
    old = [
        one
        for one in known.packs
        if one.there and known.proofs.pack(one.pack, policy.audit_level) < known.since
    ]
    if old:
        again = ("--level", policy.audit_level, "--max-age", f"{policy.audit_days}d")
        yield ProofsOld(
            commands=(argv("audit", place, *again),),
            packs=len(old),
            bytes=sum(one.size for one in old),
            level=policy.audit_level,
            days=policy.audit_days,
        )


# ---- What a status says of the plans that feed an archive, of upstream, and of the room for what comes.


_FACTS: Final[tuple[tuple[Literal["gone", "refused"], type[PlanGone | PlanRefused]], ...]] = (
    ("gone", PlanGone),
    ("refused", PlanRefused),
)


def free_bytes(archive: Archive) -> int:
    """Return the room on the archive's disk in bytes; -1 if it is not known."""
    try:
        free = archive.store.free_bytes()
    except OSError:
        return -1
    return -1 if free is None else free


def lost_upstream(known: Known, now: str) -> Iterator[LostUpstream]:
    """Yield what upstream was seen to have no more, of all that is held, by name."""
    held = {
        snapshot.seal.repository.casefold(): snapshot.seal.repository
        for snapshot in known.snapshots
    }
    planned = {
        (entry.repository.casefold(), entry.revision or "main"): entry.acknowledged
        for plan in known.plans
        for entry in plan.entries
        if entry.state == "gone"
    }
    for key, since in sorted(known.upstreams.gone.items()):
        repository, name = key
        if repository in held:
            acknowledged = planned.get(key, known.upstreams.knows("gone", key, now))
            yield LostUpstream(held[repository], name, since, acknowledged)


def unmet(known: Known, place: str) -> Iterator[Shortfall]:
    """Yield what is wanted and not held: anything at all, or what plans list."""
    if not known.snapshots and not known.damaged_seals and not known.unreadable:
        plans = known.plans
        first = _sync(plans[0], place) if plans else argv("mirror", place, "REPO")
        yield NothingHeld(commands=(first,))
    for plan in known.plans:
        yield from _of_plan(plan, place)


def _of_plan(plan: PlanStatus, place: str) -> Iterator[Shortfall]:
    name, sync = plan.plan, (_sync(plan, place),)
    if missing := plan.entries_in("missing"):
        lost = sum(entry.outcome == "gone" for entry in missing)
        yield PlanMissing(
            commands=sync, plan=name, entries=_titles(missing), total=len(plan.entries), gone=lost
        )
    if failed := plan.entries_in("failed"):
        yield PlanFailed(commands=sync, plan=name, entries=_titles(failed))
    if unvouched := plan.entries_in("unvouched"):
        yield PlanUnvouched(commands=sync, plan=name, entries=_titles(unvouched))
    for fact, kind in _FACTS:
        for entry in plan.entries_in(fact):
            known = argv("acknowledge", place, fact, entry.title)
            yield kind(commands=(known,), plan=name, entries=(entry.title,))
    if late := plan.entries_in("late"):
        since = min(entry.answered for entry in late)
        yield PlanLate(
            commands=sync, plan=name, entries=_titles(late), max_age=plan.max_age, since=since
        )


def _sync(plan: PlanStatus, place: str) -> Argv:
    return argv("sync", place, plan.source or plan.plan)


def _titles(entries: Iterable[EntryStatus]) -> tuple[str, ...]:
    return tuple(entry.title for entry in entries)


def remarks(archive: Archive, known: Known, free: int) -> Iterator[Shortfall]:
    """Yield what is worth a line and falls short of nothing."""
    place = archive.store.address
    if not known.wants:
        yield NoPolicy(commands=(argv("policy set", place, "--copies", "2"),))
    if 0 <= free < known.min_free:
        yield LowRoom(commands=(argv("stats", place),), free=free, keep=known.min_free)
