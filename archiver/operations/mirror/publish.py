"""From the stored files of a listing to the seal of a snapshot, and who vouched for each file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from archiver.archive.advice import command
from archiver.archive.events import Gone, Sighted, new_event
from archiver.archive.manifests import derived_revision
from archiver.archive.parity.protect import files_of_snapshots, protect, without_sidecar
from archiver.archive.pins import Pin, require_pinned
from archiver.archive.publish import publish
from archiver.archive.records import Manifest, Source
from archiver.archive.vouching import HUGGINGFACE, UNVOUCHED, Vouch, Voucher, claimed
from archiver.catalogue import queries
from archiver.errors import ArchiverError, MismatchError
from archiver.operations.mirror.report import FileFailure
from archiver.progress import Progress
from archiver.text import plural, printable, utc_after

if TYPE_CHECKING:
    from archiver.archive.archive import Archive
    from archiver.archive.publish import Placement
    from archiver.archive.records import FileEntry, FileFacts, Selection
    from archiver.archive.seals import Snapshot
    from archiver.catalogue.database import Catalogue
    from archiver.operations.mirror.held import Contradiction, Held
    from archiver.upstream.remote_file import Listing


_TOLD: Final = 8


class Published(NamedTuple):
    """The snapshot of a run; ``manifest`` is None if it was there before the run.

    ``raised`` counts files that were held by a lesser voucher, and ``corrected`` are those that another
    snapshot of the commit has with other bytes.
    """

    snapshot: Snapshot
    manifest: Manifest | None
    raised: int = 0
    corrected: tuple[Contradiction, ...] = ()


def publish_listing(
    archive: Archive,
    listing: Listing,
    held: Held,
    entries: list[FileEntry],
    place: Placement,
    selection: Selection,
    pins: tuple[Pin, ...],
) -> Published:
    """Seal what was taken in.

    Raises:
        MismatchError: A pinned digest is another, or the archive holds a file of this commit with other
            bytes that are as good or better.
    """
    entries = sorted(entries, key=lambda entry: entry.path)
    revision = listing.revision or derived_revision(entries)
    facts = {entry.path: (entry.size, entry.sha256) for entry in entries}
    require_pinned(pins, listing.repository, revision, facts)
    require_agreement(archive, listing, held, {path: sha256 for path, (_, sha256) in facts.items()})
    vouches = _vouches(listing, held, entries, _pinned(pins, listing.repository, revision))
    if listing.revision and listing.upstream != HUGGINGFACE:
        same = held.equal(entries, vouches, selection)
        if same is not None:
            return Published(same, None)
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
    before = [held.known(entry.path, entry.sha256) for entry in entries]
    corrected = tuple(held.corrected(entries))
    snapshot = publish(archive, manifest, place, selection, vouches=vouches)
    raised = sum(
        old is not None and old.by < new.by for old, new in zip(before, vouches, strict=True)
    )
    return Published(snapshot, manifest, raised, corrected)


# ---- who vouches


def _vouches(
    listing: Listing, held: Held, entries: list[FileEntry], pins: dict[str, set[str]]
) -> list[Vouch]:
    """The highest voucher of each entry: the listing, a pin, or what the commit's snapshots have."""
    files = {file.path: file for file in listing.files}
    found = []
    for entry in entries:
        file = files[entry.path]
        vouch = claimed(listing.upstream, sha256=file.sha256, oid=file.oid, lfs=file.lfs)
        vouch = max(vouch, _by_pin(entry, pins))
        found.append(max(vouch, held.known(entry.path, entry.sha256) or vouch))
    return found


def _by_pin(file: FileEntry | FileFacts, pins: dict[str, set[str]]) -> Vouch:
    """What pins vouch for of a file; UNVOUCHED if they have none of its digests."""
    pinned = pins.get(file.path, set())
    if file.sha256 in pinned:
        return Vouch(Voucher.PIN, "sha256")
    if not file.lfs and file.oid and file.oid in pinned:
        return Vouch(Voucher.PIN, "git-sha1")
    return UNVOUCHED


def raised_by_pins(held: Held, snapshot: Snapshot, listing: Listing, pins: tuple[Pin, ...]) -> bool:
    """Whether pins vouch higher for a listed file than the seal of the commit's snapshot says."""
    digests = _pinned(pins, snapshot.seal.repository, snapshot.seal.revision)
    pinned = [file.path for file in listing.files if file.path in digests]
    return any(
        _by_pin(facts, digests).by > vouch.by
        for one in held.same_revision
        if one.snapshot.id == snapshot.id
        for facts, vouch in (one.files[path] for path in pinned)
    )


def _pinned(pins: tuple[Pin, ...], repository: str, revision: str) -> dict[str, set[str]]:
    """Path -> the digests that pins of this revision give it."""
    found: dict[str, set[str]] = {}
    for pin in pins:
        if pin.is_of(repository, revision):
            for file in pin.files:
                found.setdefault(file.path, set()).update({file.sha256, file.oid} - {""})
    return found


# ---- contradictions


def require_agreement(
    archive: Archive, listing: Listing, held: Held, digests: dict[str, str]
) -> None:
    """Raise MismatchError if snapshots of this commit have files, path -> SHA-256, with other bytes."""
    found = held.contradictions(digests.items())
    if not found:
        return
    title = f"{listing.repository}@{listing.revision[:12]}"
    told = "; ".join(_told(one) for one in found[:_TOLD])
    more = f"; and {len(found) - _TOLD:,} more" if len(found) > _TOLD else ""
    files = plural(len({one.path for one in found}), "file")
    raise MismatchError(
        f"{title} was not sealed: a commit has one content, and the archive holds {files} of this one "
        f"with other bytes. {told}{more}.",
        hint=_hint(archive, title, found[0]),
    )


def _told(one: Contradiction) -> str:
    by = {
        Voucher.UPSTREAM: "which upstream vouched for",
        Voucher.PIN: "which a pin vouched for",
        Voucher.CACHE: "by a cache's record",
        Voucher.NOBODY: "which nobody vouched for",
    }[one.held_by.by]
    return (
        f"{printable(one.path)} has SHA-256 {one.sha256[:16]}… here, and {one.held_sha256[:16]}… in "
        f"the seal {one.snapshot.id[:12]}, {by}"
    )


def _hint(archive: Archive, title: str, one: Contradiction) -> str:
    place = archive.store.address
    if one.held_by.by is Voucher.UPSTREAM:
        return (
            "What is read here is damaged or was changed: restore these files from the archive. To "
            "keep them all the same, import a plain folder of them under another name, with --as."
        )
    seal = f"{one.snapshot.seal.repository}@{one.snapshot.id[:12]}"
    return (
        f"Which is right, upstream knows: {command('mirror', place, title)} asks it. Without upstream, "
        f"forget the one that you do not trust, with {command('forget', place, seal)}, or import a "
        "plain folder of these files under another name, with --as."
    )


# ---- Journalling what upstream's names (``main``, tags) point at.


def record_sighting(archive: Archive, catalogue: Catalogue, listing: Listing) -> None:
    """Journal that upstream points a name at this revision, once for each name and revision.

    Again if it was gone meanwhile. What a cache says is journalled only of names that upstream was never
    asked for.
    """
    if not listing.revision or listing.name == listing.revision:
        return
    detail = Sighted(listing.name, listing.endpoint or listing.upstream)
    latest, last = None, ""
    for _, event in queries.events(catalogue, repository=listing.repository):
        told = event.detail
        if not isinstance(told, Sighted | Gone) or told.name != listing.name:
            continue
        last = max(last, event.time)
        hearsay = isinstance(told, Sighted) and told.hearsay
        if detail.hearsay and not hearsay:
            return
        if hearsay == detail.hearsay and (latest is None or event.time >= latest.time):
            latest = event
    if latest and isinstance(latest.detail, Sighted) and latest.revision == listing.revision:
        return
    # In a second of its own, so that "sighted last" is one.
    time = utc_after(last)
    archive.record(new_event(detail, listing.repository, listing.revision, time=time))


# ---- Parity for what a run has sealed, where the policy wants it. The seal stands whatever comes of it.


class Protection(NamedTuple):
    """What the new sidecars take, in bytes, and the files that got none."""

    parity_bytes: int = 0
    failures: tuple[FileFailure, ...] = ()


def protect_sealed(archive: Archive, snapshot: Snapshot, workers: int) -> Protection:
    """Protect the snapshot's files, and the journal's, that have no sidecar; raises nothing of its own."""
    try:
        policy = archive.policy()
        if not policy.parity:
            return Protection()
        names = files_of_snapshots([snapshot]).union(archive.journal.names())
        done = protect(
            archive,
            without_sidecar(archive.store, names),
            parity=policy.parity,
            group=policy.parity_group,
            workers=workers,
            progress=Progress(),  # each byte counts already
        )
    except ArchiverError as error:
        whole = FileFailure("all of it", error.message, error.hint, int(error.exit_code))
        return Protection(0, (whole,))
    failures = (FileFailure(one.file, one.reason, one.hint, one.exit_code) for one in done.failures)
    return Protection(done.parity_bytes, tuple(failures))
