"""Mirror: bring one revision of a repository into the archive, and publish it as a snapshot."""

from __future__ import annotations

import errno
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

import msgspec

from archiver import memory
from archiver.archive.events import Sealed
from archiver.archive.ingest.pipeline import IngestPipeline
from archiver.archive.ingest.resume import (
    Worklog,
    read_worklog,
    remove_worklog,
    salvage,
    unfinished_objects,
)
from archiver.archive.ingest.stream import ExpectedFile
from archiver.archive.manifests import require_few_files
from archiver.archive.pins import Pin, require_pinned
from archiver.archive.plans import note_gone, outcome_of
from archiver.archive.publish import ensure_published
from archiver.archive.records import Selection
from archiver.archive.vouching import DIRECTORY, HUGGINGFACE, Voucher
from archiver.catalogue import queries, updates
from archiver.digest import Blake3Hex
from archiver.errors import (
    ArchiverError,
    NoSpaceError,
    TooLargeError,
    UpstreamGoneError,
    explain_system_error,
    out_of_inodes,
    skip_damaged,
)
from archiver.names import unportable
from archiver.operations.mirror.held import CatalogueHints, Held
from archiver.operations.mirror.publish import (
    Published,
    protect_sealed,
    publish_listing,
    raised_by_pins,
    record_sighting,
    require_agreement,
)
from archiver.operations.mirror.remarks import (
    IndexedFiles,
    of_folder,
    of_indexes,
    of_patterns,
    remark,
    require_fit,
    without_repeats,
)
from archiver.operations.mirror.report import (
    CorrectedFile,
    FileFailure,
    MirrorError,
    MirrorOptions,
    MirrorReport,
    select,
)
from archiver.text import human_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

    from archiver.archive.archive import Archive
    from archiver.archive.ingest.object_store import PublishedPack
    from archiver.archive.records import FileEntry
    from archiver.archive.seals import Snapshot
    from archiver.catalogue.database import Catalogue
    from archiver.progress import Progress
    from archiver.storage.store import Store
    from archiver.upstream.protocol import Upstream
    from archiver.upstream.remote_file import Listing, RemoteFile


def mirror(
    archive: Archive,
    catalogue: Catalogue,
    upstream: Upstream,
    repository: str,
    revision: str | None,
    *,
    options: MirrorOptions,
    progress: Progress,
    pins: tuple[Pin, ...] = (),
) -> MirrorReport:
    """Mirror one revision; returns what was done.

    Raises:
        MirrorError: Some files failed; the others are stored and the next run goes on from there.
        MismatchError: A pinned digest disagrees with upstream, or the archive holds a file of this commit
            with other bytes, that are as good or better.
        UsageError: A folder holds what is plainly no content.
        NoSpaceError, NetworkError, UpstreamGoneError, AccessError: As upstream or the disk say.
    """
    archive.require_writable()
    if not options.dry_run:
        archive.store.require_writable()
    try:
        whole = upstream.list(repository, revision)
    except UpstreamGoneError as error:
        if upstream.endpoint and not options.dry_run and outcome_of(error) == "gone":
            with suppress(ArchiverError):  # that it is gone is what must be told
                note_gone(archive, repository, revision or "main", upstream.endpoint)
        raise
    listing = select(whole, options)
    require_fit(listing)
    claims = {file.path: (file.size, file.sha256) for file in listing.files}
    require_pinned(pins, listing.repository, listing.revision, claims)
    run = Run(archive, catalogue, upstream, listing, options, progress, whole)
    held = run.already_sealed(pins)
    if held is None and listing.files != whole.files and listing.upstream == HUGGINGFACE:
        # Upstream has just told of every file: what is held of all of them is raised, not a part.
        every = msgspec.structs.replace(options, include=(), exclude=())
        raising = Run(archive, catalogue, upstream, whole, every, progress, whole)
        if raising.raises_whole():
            run, held = raising, raising.already_sealed(pins)
    if options.dry_run:
        return run.planned() if held is None else run.report("held", snapshot=held)
    if held is not None:
        return run.keep(held)
    return run.execute(pins)


# ---- One revision's way in, from the listing to the seal.


_PATHS_TOLD: Final = 5
"""Paths that not every filesystem can hold, told one by one."""


class _Written(NamedTuple):
    """What was stored by an unfinished run (plain and in packs) and, in packs, by this one."""

    resumed_bytes: int = 0
    resumed_stored_bytes: int = 0
    stored_bytes: int = 0


class Run:
    """Mirrors one listing."""

    def __init__(
        self,
        archive: Archive,
        catalogue: Catalogue,
        upstream: Upstream,
        listing: Listing,
        options: MirrorOptions,
        progress: Progress,
        whole: Listing,
    ) -> None:
        """Take ``listing`` as what is chosen of the ``whole``."""
        self._archive = archive
        self._catalogue = catalogue
        self._upstream = upstream
        self._listing = listing
        self._options = options
        self._progress = progress
        self._selection = Selection(
            options.include,
            options.exclude,
            msgspec.UNSET if listing.complete else "unknown",
        )
        self._held = Held(archive, catalogue, listing)
        self._room = Room(archive.store, options.min_free, fetched=listing.upstream == HUGGINGFACE)
        self._notes: list[str] = []
        self._paths = {file.path for file in whole.files}
        self._remarks = [
            *of_folder(whole),
            *of_patterns(whole, listing, options.include, options.exclude),
        ]
        self._worklog_key = f"{listing.endpoint}|{listing.repository}|{listing.revision}"

    def already_sealed(self, pins: tuple[Pin, ...]) -> Snapshot | None:
        """The snapshot that holds exactly this listing, and that no pin raises, if there is one.

        MismatchError if the archive holds a file of this commit with other bytes, as good or better.
        """
        listed = {file.path: file.sha256 for file in self._listing.files if file.sha256}
        require_agreement(self._archive, self._listing, self._held, listed)
        snapshot = self._held.snapshot(self._selection)
        if snapshot and raised_by_pins(self._held, snapshot, self._listing, pins):
            return None
        return snapshot

    def raises_whole(self) -> bool:
        """Whether all of a snapshot of the whole commit can be vouched for now, with nothing to fetch."""
        lesser = [
            one
            for one in self._held.same_revision
            if one.least < Voucher.UPSTREAM and not one.snapshot.seal.selection.chosen
        ]
        return bool(lesser) and not self._to_fetch()

    def keep(self, snapshot: Snapshot) -> MirrorReport:
        """Nothing is to be fetched: the snapshot is there."""
        known = queries.events(
            self._catalogue, repository=snapshot.seal.repository, kinds=(Sealed,)
        )
        ensure_published(self._archive, snapshot, (event for _, event in known))
        remove_worklog(self._archive.store, self._worklog_key)
        record_sighting(self._archive, self._catalogue, self._listing)
        # Also then: the run that sealed it may have been killed before it made parity.
        self._look_at(snapshot, IndexedFiles.of(self._archive.manifest(snapshot.seal).files))
        return self._protected(snapshot, self.report("held", snapshot=snapshot))

    def execute(self, pins: tuple[Pin, ...]) -> MirrorReport:
        """Fetch, store, publish."""
        listed = self._listing.files
        require_few_files(self._listing.repository, len(listed), sum(one.size for one in listed))
        self._remark_paths()
        for rescued in salvage(self._archive):
            self._add_pack(rescued)
        resumable = self._stored_before(set())
        self._room.require_for(
            sum(file.size for file in self._to_fetch() if _checkable(file)) - resumable
        )
        files = self._listing.files
        self._progress.expect(len(files), sum(file.size for file in files))
        worklog = Worklog(self._archive.store, self._worklog_key)
        try:
            published, written = self._take_and_publish(worklog, pins)
            worklog.remove()
        finally:
            worklog.close()
        snapshot = published.snapshot
        if published.manifest is None:
            # All of it was read, and is what a snapshot with better vouchers has.
            return self.keep(snapshot)
        updates.add_snapshot(self._catalogue, snapshot.id, snapshot.seal, published.manifest)
        record_sighting(self._archive, self._catalogue, self._listing)
        indexed = IndexedFiles.of(published.manifest.files)
        published = published._replace(manifest=None)  # an index comes: there is not room for both
        memory.trim()
        self._look_at(snapshot, indexed)
        report = msgspec.structs.replace(
            self.report("sealed", snapshot, written),
            raised=published.raised,
            corrected=tuple(
                CorrectedFile(one.path, one.snapshot.id) for one in published.corrected
            ),
        )
        return self._protected(snapshot, report)

    def _look_at(self, snapshot: Snapshot, indexed: IndexedFiles) -> None:
        self._remarks += of_indexes(self._archive, snapshot, indexed, self._paths)

    def _remark_paths(self) -> None:
        """Note what only some filesystems can hold: it is kept, and a restore there leaves it out."""
        paths = unportable(file.path for file in self._listing.files)
        for path, why in islice(paths.items(), _PATHS_TOLD):
            self._notes.append(f"{path!r} {why}. A restore to such a filesystem leaves it out.")
        if len(paths) > _PATHS_TOLD:
            self._notes.append(f"So it is with {len(paths) - _PATHS_TOLD:,} more paths.")

    def _protected(self, snapshot: Snapshot, report: MirrorReport) -> MirrorReport:
        protection = protect_sealed(self._archive, snapshot, self._options.workers)
        return msgspec.structs.replace(
            report,
            parity_bytes=protection.parity_bytes,
            unprotected=protection.failures,
        )

    def planned(self) -> MirrorReport:
        """What a run would do."""
        resumable = self._stored_before(unfinished_objects(self._archive))
        return self.report("planned", written=_Written(resumed_bytes=resumable))

    def report(
        self, outcome: str, snapshot: Snapshot | None = None, written: _Written | None = None
    ) -> MirrorReport:
        """The run in figures."""
        written = written or _Written()
        files = self._listing.files
        total = sum(file.size for file in files)
        whole = outcome == "held"
        held = files if whole else [file for file in files if file.path in self._held.files]
        held_bytes = sum(file.size for file in held)
        return MirrorReport(
            repository=self._listing.repository,
            revision=snapshot.seal.revision if snapshot else self._listing.revision,
            outcome=outcome,
            files=len(files),
            bytes=total,
            held_files=len(held),
            held_bytes=held_bytes,
            to_fetch_bytes=total - held_bytes - written.resumed_bytes,
            resumed_bytes=written.resumed_bytes,
            stored_bytes=written.stored_bytes,
            resumed_stored_bytes=written.resumed_stored_bytes,
            total_stored_bytes=snapshot.seal.totals.stored if snapshot else 0,
            snapshot=snapshot.id if snapshot else "",
            notes=tuple(self._notes),
            remarks=without_repeats(self._remarks),
            origin=self._origin,
            vouched=self._archive.vouching(snapshot) if snapshot else None,
            preferred=snapshot is None or self._is_preferred(snapshot),
        )

    @property
    def _origin(self) -> str:
        if self._listing.upstream == HUGGINGFACE:
            return "hub"
        return "cache" if self._listing.revision else "folder"

    def _is_preferred(self, snapshot: Snapshot) -> bool:
        held = self._archive.snapshots_of(snapshot.seal.repository, on_damage=skip_damaged)
        return not held or self._archive.preferred(held).id == snapshot.id

    # ---- fetching

    def _take_and_publish(
        self, worklog: Worklog, pins: tuple[Pin, ...]
    ) -> tuple[Published, _Written]:
        """The snapshot, and what was written for it."""
        options = self._options
        with IngestPipeline(
            self._archive,
            worklog,
            CatalogueHints(self._archive, self._catalogue),
            effort=options.effort,
            workers=options.workers,
            readers=options.jobs,
            progress=self._progress,
            reserve=self._room.require,
        ) as pipeline:
            entries = self._take_all(pipeline)
            pipeline.objects.flush()
            self._register(pipeline)
            self._remarks += [
                remark("stand-in", [path], instead=found)
                for path, found in sorted(pipeline.stand_ins.items())
            ]
            objects = pipeline.objects
            resumed = _Written(pipeline.resumed_bytes, sum(pipeline.resumed.values()))
        # The buffers go before the manifest comes: of 190,000 tensors there is not room for both.
        del pipeline
        memory.trim()
        published = publish_listing(
            self._archive,
            self._listing,
            self._held,
            entries,
            objects.location,
            self._selection,
            pins,
        )
        return published, resumed._replace(stored_bytes=objects.stored_bytes)

    def _to_fetch(self) -> list[RemoteFile]:
        return [file for file in self._listing.files if file.path not in self._held.files]

    def _stored_before(self, besides: set[str]) -> int:
        """Plain bytes of files to fetch that an unfinished run stored, in packs or ``besides``."""
        log, hints = (
            read_worklog(self._archive.store, self._worklog_key),
            CatalogueHints(self._archive, self._catalogue),
        )
        total = 0
        for file in filter(_checkable, self._to_fetch()):
            for size, digest in log.of(file.path):
                if digest not in besides and not hints.locate(Blake3Hex(digest)):
                    break
                total += size
        return total

    def _take_all(self, pipeline: IngestPipeline) -> list[FileEntry]:
        """Every file of the listing; MirrorError with all failures if there are any."""
        held = self._held.files
        for path, entry in held.items():
            self._adopt(pipeline, path, entry)
        done, failures = fetch(
            pipeline,
            self._to_fetch(),
            lambda file: self._take(pipeline, file),
            jobs=self._options.jobs,
            meanwhile=lambda: self._register(pipeline),
        )
        if failures:
            pipeline.objects.flush()
            self._register(pipeline)
            title = f"{self._listing.repository}@{self._listing.revision[:12]}".rstrip("@")
            hub = self._listing.upstream != DIRECTORY
            raise MirrorError(title, failures, len(self._listing.files), hub=hub)
        return [*held.values(), *done]

    def _adopt(self, pipeline: IngestPipeline, path: str, entry: FileEntry) -> None:
        for _, digest in entry.segments:
            pipeline.objects.add_existing(bytes.fromhex(digest), *self._held.place(path, digest))
        self._progress.begin(path, entry.size)
        self._progress.advance(entry.size, fetched=False)
        self._progress.end(path)

    def _take(self, pipeline: IngestPipeline, file: RemoteFile) -> FileEntry:
        by: Literal["upstream", "the cache"] = (
            "the cache" if self._listing.upstream == DIRECTORY else "upstream"
        )
        expected = ExpectedFile(file.path, file.size, file.sha256, file.oid, file.lfs, by)
        entry, note = pipeline.add(
            expected, lambda offset: self._upstream.open(self._listing, file, offset)
        )
        if note and file.path not in pipeline.stand_ins:
            self._notes.append(f"{file.path} was stored as plain bytes: {note}")
        return entry

    def _register(self, pipeline: IngestPipeline) -> None:
        while pipeline.objects.published:
            self._add_pack(pipeline.objects.published.pop())

    def _add_pack(self, pack: PublishedPack) -> None:
        updates.add_pack(self._catalogue, pack.pack, pack.size, pack.entries)


def _checkable(file: RemoteFile) -> bool:
    """Whether upstream says what the bytes are, so that what is stored can stand for them."""
    return bool(file.sha256 or (file.oid and not file.lfs))


# ---- Taking files in, several at once; every failure is kept, the others still go on.


_POLL_SECONDS: Final = 0.5


def fetch(
    pipeline: IngestPipeline,
    files: list[RemoteFile],
    take: Callable[[RemoteFile], FileEntry],
    *,
    jobs: int,
    meanwhile: Callable[[], None],
) -> tuple[list[FileEntry], list[FileFailure]]:
    """Run ``take`` on each file; the entries, and the failures of those that failed.

    ``meanwhile`` is called in this thread now and then. Raises NoSpaceError and TooLargeError at once:
    nothing after them can succeed.
    """
    entries: list[FileEntry] = []
    failures: list[FileFailure] = []
    # Large files first, so that the last thread is not left alone with the largest.
    queue = sorted(files, key=lambda file: -file.size)
    pool = ThreadPoolExecutor(jobs, thread_name_prefix="file")
    waiting = {pool.submit(take, file): file for file in queue}
    try:
        while waiting:
            finished, _ = wait(waiting, timeout=_POLL_SECONDS, return_when=FIRST_COMPLETED)
            for future in finished:
                _collect(waiting.pop(future), future, entries, failures)
            meanwhile()
    except BaseException:
        pipeline.stop()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    return entries, failures


def _collect(
    file: RemoteFile,
    future: Future[FileEntry],
    entries: list[FileEntry],
    failures: list[FileFailure],
) -> None:
    try:
        entries.append(future.result())
    except (NoSpaceError, TooLargeError):
        raise
    except ArchiverError as error:
        failures.append(FileFailure(file.path, error.message, error.hint, int(error.exit_code)))


# ---- How much room a run may take: it is compared before anything is fetched, and watched while
# packs grow.


_LEAST_RATIO: Final = 0.6
"""Weights that are stored for the first time take at least this much of their size."""
_LOOK_EVERY: Final = 32 << 20
"""Others use the disk too, so the room is looked at anew after so many bytes."""
_UNKNOWN: Final = 1 << 62
_HINT: Final = "Free some room or lower --min-free; a new run goes on from here."


class Room:
    """The room on a store's disk, of which ``min_free`` bytes are to stay; one thread at a time."""

    def __init__(self, store: Store, min_free: int, *, fetched: bool = True) -> None:
        """Take ``fetched`` as whether files come from a hub, not from a folder."""
        self._store = store
        self._min_free = min_free
        self._done = "fetched" if fetched else "taken in"
        self._left = 0
        self._unseen = _LOOK_EVERY

    def require(self, size: int) -> None:
        """Raise NoSpaceError if ``size`` more bytes would leave less than is to stay free."""
        if not self._min_free:
            return  # The system says by itself when the disk is full.
        if self._left < size or self._unseen >= _LOOK_EVERY:
            self._look()
        if self._left < size:
            free = self._left + self._min_free
            raise NoSpaceError(
                f"Only {human_bytes(max(free, 0))} are free on the disk of {self._store.address}; "
                f"--min-free keeps {human_bytes(self._min_free)} of it.",
                hint=_HINT,
            )
        self._left -= size
        self._unseen += size

    def require_for(self, fetching: int) -> None:
        """Raise NoSpaceError if what is to be fetched cannot fit, however well it compresses."""
        folder = self._store.folder
        if fetching and folder and out_of_inodes(folder.path):
            raise explain_system_error(OSError(errno.ENOSPC, "", str(folder.path)))
        self._look()
        needed = int(fetching * _LEAST_RATIO)
        if self._left >= needed:
            return
        free = max(self._left + self._min_free, 0)
        raise NoSpaceError(
            f"{human_bytes(fetching)} are to be {self._done}, which takes {human_bytes(needed)} or more "
            f"on the disk of {self._store.address}; {human_bytes(free)} are free there, of which "
            f"--min-free keeps {human_bytes(self._min_free)}.",
            hint=_HINT,
        )

    def _look(self) -> None:
        free = self._store.free_bytes()
        # A disk that does not tell is not full: the system says so when it is.
        self._left = _UNKNOWN if free is None else free - self._min_free
        self._unseen = 0
