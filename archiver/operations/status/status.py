"""One status, and what falls short of the policy."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from archiver.archive.advice import Advice, command
from archiver.archive.audit.contradictions import contradictions
from archiver.archive.clock import journal_ahead
from archiver.archive.copies import judge_copies, remedy
from archiver.archive.finding import Finding
from archiver.archive.parity.wanted import names_of, without_sidecar
from archiver.archive.place import own_place
from archiver.archive.pruning.leftovers import unfinished
from archiver.archive.signing.key_file import public_keys
from archiver.archive.signing.stored import unsigned
from archiver.archive.vouching import Voucher
from archiver.operations.status.known import Known
from archiver.operations.status.plans import free_bytes, lost_upstream, remarks, unmet
from archiver.operations.status.report import Shortfall, SmokeTested, Status
from archiver.smoke.receipt import last_tested
from archiver.text import human_bytes, plural, utc_now

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from archiver.archive.archive import Archive, Snapshot
    from archiver.archive.copies import CopyState


def status(archive: Archive, *, keys: Iterable[str] = ()) -> Status:
    """The whole picture, from names, seals and events.

    ``keys`` are public keys, or files of one: they are trusted instead of the policy's, and must have
    signed every seal and manifest. UsageError if one is none, DamageError if the policy cannot be read.
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
    hint = Advice(archive.store.describe()).make_readable()
    for name, message in known.unreadable.items():
        yield Finding("file-unreadable", message, path=name, hint=hint)


def _vouched(archive: Archive, snapshots: Iterable[Snapshot]) -> dict[str, int]:
    """How many snapshots each voucher stands for, the highest first."""
    told = [archive.vouching(one) for one in snapshots]
    counts = Counter(one.least if one else None for one in told)
    order = (*reversed(Voucher), None)
    return {"unknown" if who is None else who.word: counts[who] for who in order if counts[who]}


def _smoke_tests(archive: Archive, known: Known) -> Iterator[SmokeTested]:
    """By name; chosen files are no model, and have no turn in ``audit --level smoke``."""
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
    place = archive.store.describe()
    yield from _damage(known, place)
    yield from _contradictions(archive, known)
    yield from _clock(archive, place)
    yield from unmet(known, place)
    yield from _unproven(known, place)
    policy = known.policy
    # Events come with every audit and copy: their sidecars are made with the next ones.
    naked = without_sidecar(archive.store, names_of(known.snapshots)) if policy.parity else []
    if naked:
        text = f"{plural(len(naked), 'file has', 'files have')} no parity sidecar."
        yield Shortfall("parity", text, command("parity add", place))
    few = [one for one in known.snapshots if copies.count(one.id) < policy.copies]
    if few:
        lie = plural(len(few), "snapshot lies", "snapshots lie")
        text = f"{lie} in fewer than {plural(policy.copies, 'place')} that count."
        idle = [one for one in copies.places if not one.counts and one.standing != "same-device"]
        fix = remedy(place, idle[0]) if idle else command("copy", place, "--new", "FOLDER")
        yield Shortfall("copies", text, fix)
    if bare:
        bare_ones = plural(bare, "seal or manifest has", "seals and manifests have")
        text = f"{bare_ones} no signature by a trusted key."
        yield Shortfall("signatures", text, command("sign", place, "--key", "FILE"))


def _unfinished(archive: Archive) -> Iterator[Shortfall]:
    """What runs that died left."""
    left, place = unfinished(archive.store), archive.store.describe()
    if left.files:
        text = (
            f"Runs that died left {plural(left.files, 'unfinished file')}, {human_bytes(left.bytes)}. "
            "The next mirror or import goes on with what of it is packs; the rest goes with the next "
            "prune."
        )
        yield Shortfall("unfinished", text, command("prune", place))


def _clock(archive: Archive, place: str) -> Iterator[Shortfall]:
    """A journal that has come to a time that the clock has not."""
    latest = journal_ahead(archive)
    if latest:
        text = (
            f"The journal has come to {latest}, and this machine's clock says {utc_now()}: one of the two "
            "is wrong. Nothing is deleted, and proofs of a time to come do not count. Set the clock if "
            "it is wrong."
        )
        yield Shortfall("clock", text, command("prune", place, "--trust-clock"))


def _damage(known: Known, place: str) -> Iterator[Shortfall]:
    """What is known to be wrong, whatever the policy."""
    missing = len(known.missing)
    if missing:
        text = f"{plural(missing, 'pack')} that seals need are not there."
        yield Shortfall("missing", text, command("repair", place))
    if known.damaged_seals:
        text = f"{plural(len(known.damaged_seals), 'seal')} cannot be read."
        yield Shortfall("damage", text, command("repair", place))
    audit = known.audit
    damaged = audit.detail.get("damaged") if audit else 0
    if audit and damaged and isinstance(damaged, int):
        text = f"The audit of {audit.time} had {plural(damaged, 'finding')} of damage."
        yield Shortfall("damage", text, command("audit", place))
    elif known.broken or known.broken_files:
        counts = (len(known.broken), "pack"), (len(known.broken_files), "other file")
        found = " and ".join(plural(count, noun) for count, noun in counts if count)
        text = f"Found damaged, and neither repaired nor found whole since: {found}."
        yield Shortfall("damage", text, command("repair", place))


def _contradictions(archive: Archive, known: Known) -> Iterator[Shortfall]:
    """Commits of which nobody can tell what their files are: two seals say it otherwise."""
    unsettled = [one for one in contradictions(archive, known.snapshots) if not one.settled]
    for title in sorted({one.first.snapshot.title for one in unsettled}):
        paths = [one.path for one in unsettled if one.first.snapshot.title == title]
        files = plural(len(set(paths)), "file")
        text = (
            f"Two seals of {title} give {files} other bytes, {paths[0]} for one: at least one lies."
        )
        yield Shortfall("contradiction", text, command("mirror", archive.store.describe(), title))


def _unproven(known: Known, place: str) -> Iterator[Shortfall]:
    policy = known.policy
    if known.never_proven:
        text = "Nothing of what is held here was ever proven by an audit."
        yield Shortfall("audit", text, command("audit", place))
        return
    if not policy.audit_days:
        return
    old = [
        one
        for one in known.packs
        if one.there and known.proofs.pack(one.pack, policy.audit_level) < known.since
    ]
    if old:
        packs = f"{plural(len(old), 'pack')} ({human_bytes(sum(one.size for one in old))})"
        days = plural(policy.audit_days, "day")
        text = f"{packs} not proven at level {policy.audit_level} within {days}."
        again = ("--level", policy.audit_level, "--max-age", f"{policy.audit_days}d")
        yield Shortfall("audit", text, command("audit", place, *again))
