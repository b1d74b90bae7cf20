"""From the stored files of a listing to a sealed snapshot, and what follows it.

Before the seal: the files agree with pins and with what the archive holds of the same commit, and each
gets its voucher, the best that the listing, a pin or a held snapshot gives. After it: upstream's name for
it is journalled, and sidecars are made where the policy wants them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from archiver.archive.advice import command
from archiver.archive.events import Gone, Sighted, new_event
from archiver.archive.manifests import derived_revision
from archiver.archive.pins import Pin, require_pinned
from archiver.archive.publish import publish
from archiver.archive.records import Manifest, Source
from archiver.archive.vouching import HUBS, UNVOUCHED, Vouch, Voucher, claimed
from archiver.errors import ArchiverError, MismatchError
from archiver.operations.mirror.report import FileFailure
from archiver.progress import Progress
from archiver.text import plural, printable, utc_after

if TYPE_CHECKING:
    from archiver.archive.archive import Archive
    from archiver.archive.ingest.object_store import ObjectStore
    from archiver.archive.lookup import Lookup
    from archiver.archive.records import FileEntry, FileFacts, Selection
    from archiver.archive.seals import Snapshot
    from archiver.memory import MemoryBudget
    from archiver.operations.mirror.holdings import ConflictingFile, Holdings
    from archiver.upstream.remote_file import Listing


_SHOWN: Final = 8


class Published(NamedTuple):
    """The snapshot of a run; ``manifest`` is None if it was there before the run.

    ``raised`` counts files that were held by a lesser voucher, and ``corrected`` are those that another
    snapshot of the commit has with other bytes.
    """

    snapshot: Snapshot
    manifest: Manifest | None
    raised: int = 0
    corrected: tuple[ConflictingFile, ...] = ()


def publish_listing(
    archive: Archive,
    listing: Listing,
    holdings: Holdings,
    entries: list[FileEntry],
    objects: ObjectStore,
    selection: Selection,
    pins: tuple[Pin, ...],
) -> Published:
    """Seal what was taken in, and return the snapshot; the pack that is being written gets its manifest.

    Raises:
        MismatchError: A pinned digest is another, or the archive holds a file of this commit with other
            bytes that are as good or better.
    """
    entries = sorted(entries, key=lambda entry: entry.path)
    revision = listing.revision or derived_revision(entries)
    facts = {entry.path: (entry.size, entry.sha256) for entry in entries}
    require_pinned(pins, listing.repository, revision, facts)
    require_agreement(
        archive, listing, holdings, {path: sha256 for path, (_, sha256) in facts.items()}
    )
    vouches = _vouches(listing, holdings, entries, _pinned(pins, listing.repository, revision))
    if listing.revision and listing.upstream not in HUBS:
        equal = holdings.equal(entries, vouches, selection)
        if equal is not None:
            return Published(equal, None)
    source = Source(
        upstream=listing.upstream,
        endpoint=listing.endpoint,
        repository=listing.repository,
        revision=revision,
        id=listing.id,
        committed=listing.committed,
        licence=listing.licence,
        card=listing.card,
    )
    manifest = Manifest(source, tuple(entries))
    # Both before the seal, which is of the same commit and would be counted with what was there.
    before = [holdings.best_vouch(entry.path, entry.sha256) for entry in entries]
    corrected = tuple(holdings.corrected(entries))
    snapshot = publish(
        archive, manifest, objects.location, selection, vouches=vouches, keep=objects.keep
    )
    raised = sum(
        old is not None and old.by < new.by for old, new in zip(before, vouches, strict=True)
    )
    return Published(snapshot, manifest, raised, corrected)


def _vouches(
    listing: Listing, holdings: Holdings, entries: list[FileEntry], pins: dict[str, set[str]]
) -> list[Vouch]:
    """Return the highest voucher of each entry: the listing, a pin, or what the commit's snapshots have."""
    files = {file.path: file for file in listing.files}
    vouches = []
    for entry in entries:
        file = files[entry.path]
        vouch = claimed(listing.upstream, sha256=file.sha256, oid=file.oid, lfs=file.lfs)
        vouch = max(vouch, _by_pin(entry, pins))
        vouches.append(max(vouch, holdings.best_vouch(entry.path, entry.sha256) or vouch))
    return vouches


def _by_pin(file: FileEntry | FileFacts, pins: dict[str, set[str]]) -> Vouch:
    """Return what pins vouch for of a file; UNVOUCHED if they have none of its digests."""
    pinned = pins.get(file.path, set())
    if file.sha256 in pinned:
        return Vouch(Voucher.PIN, "sha256")
    if not file.lfs and file.oid and file.oid in pinned:
        return Vouch(Voucher.PIN, "git-sha1")
    return UNVOUCHED


def raised_by_pins(
    holdings: Holdings, snapshot: Snapshot, listing: Listing, pins: tuple[Pin, ...]
) -> bool:
    """Return whether pins vouch higher for a listed file than the seal of the commit's snapshot says."""
    digests = _pinned(pins, snapshot.seal.repository, snapshot.seal.revision)
    pinned = [file.path for file in listing.files if file.path in digests]
    return any(
        _by_pin(facts, digests).by > vouch.by
        for held in holdings.same_revision
        if held.snapshot.id == snapshot.id
        for facts, vouch in (held.files[path] for path in pinned)
    )


def _pinned(pins: tuple[Pin, ...], repository: str, revision: str) -> dict[str, set[str]]:
    """Return path -> the digests that pins of this revision give it."""
    digests: dict[str, set[str]] = {}
    for pin in pins:
        if pin.is_of(repository, revision):
            for file in pin.files:
                digests.setdefault(file.path, set()).update({file.sha256, file.oid} - {""})
    return digests


def require_agreement(
    archive: Archive, listing: Listing, holdings: Holdings, digests: dict[str, str]
) -> None:
    """Raise MismatchError if snapshots of this commit have files, path -> SHA-256, with other bytes."""
    conflicts = holdings.conflicts(digests.items())
    if not conflicts:
        return
    title = f"{listing.repository}@{listing.revision[:12]}"
    listed = "; ".join(map(_described, conflicts[:_SHOWN]))
    more = f"; and {len(conflicts) - _SHOWN:,} more" if len(conflicts) > _SHOWN else ""
    files = plural(len({conflict.path for conflict in conflicts}), "file")
    raise MismatchError(
        f"{title} was not sealed: a commit has one content, and the archive holds {files} of this one "
        f"with other bytes. {listed}{more}.",
        hint=_hint(archive, title, conflicts[0]),
        subject=title,
    )


def _described(conflict: ConflictingFile) -> str:
    by = {
        Voucher.UPSTREAM: "which upstream vouched for",
        Voucher.PIN: "which a pin vouched for",
        Voucher.CACHE: "by a cache's record",
        Voucher.NOBODY: "which nobody vouched for",
    }[conflict.held_by.by]
    return (
        f"{printable(conflict.path)} has SHA-256 {conflict.sha256[:16]}… here, and "
        f"{conflict.held_sha256[:16]}… in the seal {conflict.snapshot.id[:12]}, {by}"
    )


def _hint(archive: Archive, title: str, conflict: ConflictingFile) -> str:
    place = archive.store.address
    if conflict.held_by.by is Voucher.UPSTREAM:
        return (
            "What is read here is damaged or was changed: restore these files from the archive. To "
            "keep them all the same, import a plain folder of them under another name, with --as."
        )
    snapshot = conflict.snapshot
    seal = f"{snapshot.seal.repository}@{snapshot.id[:12]}"
    return (
        f"Which is right, upstream knows: {command('mirror', place, title)} asks it. Without upstream, "
        f"forget the one that you do not trust, with {command('forget', place, seal)}, or import a "
        "plain folder of these files under another name, with --as."
    )


def record_sighting(archive: Archive, lookup: Lookup, listing: Listing) -> None:
    """Journal that upstream points a name (``main``, a tag) at this revision, once for each of both.

    Again if it was gone meanwhile. What a cache says is journalled only of names that upstream was never
    asked for.
    """
    if not listing.revision or listing.name == listing.revision:
        return
    detail = Sighted(listing.name, listing.endpoint or listing.upstream)
    latest, last = None, ""
    for _, event in lookup.events(repository=listing.repository):
        fact = event.detail
        if not isinstance(fact, Sighted | Gone) or fact.name != listing.name:
            continue
        last = max(last, event.time)
        hearsay = isinstance(fact, Sighted) and fact.hearsay
        if detail.hearsay and not hearsay:
            return
        if hearsay == detail.hearsay and (latest is None or event.time >= latest.time):
            latest = event
    if latest and isinstance(latest.detail, Sighted) and latest.revision == listing.revision:
        return
    # In a second of its own, so that "sighted last" is one.
    time = utc_after(last)
    archive.record(new_event(detail, listing.repository, listing.revision, time=time))


class Protection(NamedTuple):
    """What the new sidecars take, in bytes, and the files that got none."""

    parity_bytes: int = 0
    failures: tuple[FileFailure, ...] = ()


def protect_sealed(archive: Archive, snapshot: Snapshot, memory: MemoryBudget) -> Protection:
    """Make sidecars for the snapshot's files, and the journal's, that have none, where the policy wants it.

    Raise nothing of its own: the seal stands whatever comes of it.
    """
    try:
        policy = archive.policy()
        if not policy.parity:
            return Protection()
        # Most archives want none.
        from archiver.archive.parity import coverage  # noqa: PLC0415
        from archiver.archive.parity import protect as parity  # noqa: PLC0415 - likewise

        names = coverage.files_of_snapshots([snapshot]).union(archive.journal.names())
        done = parity.protect(
            archive,
            coverage.without_sidecar(archive.store, names),
            parity=policy.parity,
            group=policy.parity_group,
            workers=memory.workers(parity.PROTECTOR_BYTES),
            progress=Progress(),  # each byte counts already
        )
    except ArchiverError as error:
        whole = FileFailure("all of it", error.message, error.hint, int(error.exit_code))
        return Protection(0, (whole,))
    failures = (
        FileFailure(failure.file, failure.reason, failure.hint, failure.exit_code)
        for failure in done.failures
    )
    return Protection(done.parity_bytes, tuple(failures))
