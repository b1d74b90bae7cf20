"""Mirror: bring one revision of a repository into the archive, and publish it as a snapshot.

First upstream's listing: claims, compared with pins and with what the archive holds. If a snapshot holds
all of it, that is kept. Otherwise what is missing is fetched, several files at once, stored and sealed.
"""

from __future__ import annotations

import errno
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from archiver import memory
from archiver.archive.events import Sealed
from archiver.archive.ingest.pipeline import ENCODER_BYTES, SHARED_BYTES, IngestPipeline
from archiver.archive.ingest.resume import (
    Worklog,
    read_worklog,
    remove_worklog,
    salvage,
    unfinished_objects,
)
from archiver.archive.ingest.stream import ExpectedFile
from archiver.archive.manifests import require_few_files
from archiver.archive.pins import require_pinned
from archiver.archive.publish import ensure_published
from archiver.archive.records import Selection
from archiver.archive.vouching import DIRECTORY, HUBS, Voucher
from archiver.digest import Blake3Hex
from archiver.errors import (
    ArchiverError,
    BudgetSpentError,
    NoSpaceError,
    TooLargeError,
    UnseenError,
    UpstreamGoneError,
    UsageError,
    explain_system_error,
    out_of_inodes,
    skip_damaged,
)
from archiver.names import RepositoryName, unportable
from archiver.operations.mirror.holdings import Holdings, UsableHints
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
    of_splits,
    remark,
    require_fit,
    without_repeats,
)
from archiver.operations.mirror.report import (
    CorrectedFile,
    FetchedFrom,
    FileFailure,
    MirrorError,
    MirrorReport,
    MirrorRequest,
)
from archiver.text import human_bytes
from archiver.upstream.failover import Failover
from archiver.upstream.read_watches import RunEnd, watching

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from archiver.archive.archive import Archive
    from archiver.archive.records import FileEntry
    from archiver.archive.seals import Snapshot
    from archiver.plan.budget import RunBudget
    from archiver.progress import Progress
    from archiver.storage.store import Store
    from archiver.upstream.protocol import ByteStream
    from archiver.upstream.remote_file import Listing, RemoteFile


_PATHS_SHOWN: Final = 5
"""Paths that not every filesystem can hold, named one by one."""
_POLL_SECONDS: Final = 0.5
_LEAST_RATIO: Final = 0.6
"""Weights that are stored for the first time take at least this much of their size."""
_LOOK_EVERY: Final = 32 << 20
"""Others use the disk too, so the free space is looked at anew after so many bytes."""
_UNKNOWN: Final = 1 << 62
_LEAST_FILES: Final = 4
_MOST_FILES: Final = 16
_ENCODERS_A_FILE: Final = 4
_SPACE_HINT: Final = "Free some room or lower --min-free; a new run goes on from here."


def mirror(archive: Archive, request: MirrorRequest, progress: Progress) -> MirrorReport:
    """Mirror one revision, and report what was done.

    Raises:
        BudgetSpentError: The request's budget is used up; what is stored is kept.
        MirrorError: Some files failed; the others are stored and the next run goes on from there.
        MismatchError: A pinned digest disagrees with upstream, or the archive holds a file of this commit
            with other bytes, that are as good or better.
        UsageError: A folder holds what is plainly no content.
        NoSpaceError, NetworkError, UpstreamGoneError, AccessError: As upstream or the disk say.
    """
    archive.require_writable()
    if not request.dry_run:
        archive.store.require_writable()
    try:
        whole = request.upstream.list(request.repository, request.revision)
    except UpstreamGoneError as error:
        # Nobody else waits for what plans are.
        from archiver.archive.plans import note_gone, outcome_of  # noqa: PLC0415

        endpoint = request.upstream.endpoint
        name = request.revision or RepositoryName.parse(request.repository).main_branch
        if endpoint and not request.dry_run and outcome_of(error) == "gone":
            with suppress(ArchiverError):  # that it is gone is what must be told
                unseen = isinstance(error, UnseenError)
                note_gone(archive, request.repository, name, endpoint, unseen=unseen)
        raise
    listing = _select(whole, request)
    require_fit(listing)
    claims = {file.path: (file.size, file.sha256) for file in listing.files}
    require_pinned(request.pins, listing.repository, listing.revision, claims)
    run = _Run(archive, request, progress, listing, whole)
    snapshot = run.sealed_already()
    if snapshot is None and listing.files != whole.files and listing.upstream in HUBS:
        # Upstream has just told of every file: what is held of all of them is raised, not a part.
        every_file = request._replace(include=(), exclude=())
        raising = _Run(archive, every_file, progress, whole, whole)
        if raising.raises_whole():
            run, snapshot = raising, raising.sealed_already()
    if request.dry_run:
        return run.planned() if snapshot is None else run.report("held", snapshot)
    if snapshot is not None:
        return run.keep(snapshot)
    return run.execute()


def files_at_once(workers: int) -> int:
    """Return how many files keep so many threads busy that encode.

    The SHA-256 of a file is a thread's work, and the bytes that it hashes keep about four others busy.
    """
    return min(max(_LEAST_FILES, workers // _ENCODERS_A_FILE), _MOST_FILES)


def _select(listing: Listing, request: MirrorRequest) -> Listing:
    """Return the listing with the chosen files only; raise UsageError if patterns choose none."""

    def fits(path: str, patterns: tuple[str, ...]) -> bool:
        return any(fnmatchcase(path, pattern) for pattern in patterns)

    chosen = tuple(
        file
        for file in listing.files
        if (not request.include or fits(file.path, request.include))
        and not fits(file.path, request.exclude)
    )
    if not chosen and listing.files and (request.include or request.exclude):
        raise UsageError(
            f"No file of {listing.repository} fits the patterns given.",
            hint="--include and --exclude are shell patterns such as '*.safetensors'.",
        )
    return msgspec.structs.replace(listing, files=chosen)


class _BudgetedStream:
    """A file's bytes, as long as the run may fetch some; each that comes is counted.

    Args:
        stream: Where they come from.
        left: How many there are.
        budget: What the run may take.
        repository: Whose file it is, for messages.
    """

    def __init__(self, stream: ByteStream, left: int, budget: RunBudget, repository: str) -> None:
        self._stream = stream
        self._left = left
        self._budget = budget
        self._repository = repository
        self._end = RunEnd(budget, repository)

    def readinto(self, buffer: memoryview) -> int:
        """Put the next bytes into ``buffer``; raise BudgetSpentError if no more may be had."""
        if self._left > 0:
            self._budget.require(self._repository)
        with watching(self._end):
            count = self._stream.readinto(buffer)
        self._budget.take(count)
        self._left -= count
        return count


@contextmanager
def _within(
    budget: RunBudget, opened: AbstractContextManager[ByteStream], left: int, repository: str
) -> Iterator[ByteStream]:
    """Yield a stream that ends when the budget is used up."""
    with opened as stream:
        yield _BudgetedStream(stream, left, budget, repository)


class _Written(NamedTuple):
    """What was stored by an unfinished run (plain and in packs) and, in packs, by this one."""

    resumed_bytes: int = 0
    resumed_stored_bytes: int = 0
    stored_bytes: int = 0


class _Run:
    """Mirrors one listing, which is what was chosen of the ``whole``."""

    def __init__(
        self,
        archive: Archive,
        request: MirrorRequest,
        progress: Progress,
        listing: Listing,
        whole: Listing,
    ) -> None:
        self._archive = archive
        self._request = request
        self._lookup = request.lookup
        self._progress = progress
        self._listing = listing
        self._selection = Selection(
            request.include,
            request.exclude,
            msgspec.UNSET if listing.complete else "unknown",
        )
        self._holdings = Holdings(archive, request.lookup, listing)
        self._space = SpaceGuard(archive.store, request.min_free, fetched=listing.upstream in HUBS)
        self._notes: list[str] = []
        self._paths = {file.path for file in whole.files}
        self._remarks = [
            *of_folder(whole),
            *of_patterns(whole, listing, request.include, request.exclude),
            *of_splits(whole, listing),
        ]
        self._worklog_key = f"{listing.endpoint}|{listing.repository}|{listing.revision}"

    # ---- what is held already

    def sealed_already(self) -> Snapshot | None:
        """Return the snapshot that holds exactly this listing, and that no pin raises, if there is one.

        Raise MismatchError if the archive holds a file of this commit with other bytes, as good or better.
        """
        digests = {file.path: file.sha256 for file in self._listing.files if file.sha256}
        require_agreement(self._archive, self._listing, self._holdings, digests)
        snapshot = self._holdings.snapshot(self._selection)
        if snapshot and raised_by_pins(self._holdings, snapshot, self._listing, self._request.pins):
            return None
        return snapshot

    def raises_whole(self) -> bool:
        """Return whether all of a held commit can be vouched for now, with nothing to fetch."""
        lesser = any(
            held.least < Voucher.UPSTREAM and not held.snapshot.seal.selection.chosen
            for held in self._holdings.same_revision
        )
        return lesser and not self._to_fetch()

    def keep(self, snapshot: Snapshot) -> MirrorReport:
        """Fetch nothing: the snapshot is there. What a killed run left undone after its seal is done."""
        events = self._lookup.events(repository=snapshot.seal.repository, kinds=(Sealed,))
        ensure_published(self._archive, snapshot, (event for _, event in events))
        remove_worklog(self._archive.store, self._worklog_key)
        record_sighting(self._archive, self._lookup, self._listing)
        indexed = IndexedFiles.of(self._archive.manifest(snapshot.seal).files)
        self._remarks += of_indexes(self._archive, snapshot, indexed, self._paths)
        return self._protected(snapshot, self.report("held", snapshot))

    # ---- the way in

    def execute(self) -> MirrorReport:
        """Fetch, store, publish."""
        files = self._listing.files
        size = sum(file.size for file in files)
        require_few_files(self._listing.repository, len(files), size)
        self._note_unportable_paths()
        # What a killed run had stored is in packs now: it counts as stored, and need not be fetched.
        for pack in salvage(self._archive):
            self._lookup.add_pack(pack)
        to_fetch = sum(file.size for file in self._to_fetch() if self._expected(file).checkable)
        self._space.require_download(to_fetch - self._resumable_bytes(set()))
        self._progress.expect(len(files), size)
        worklog = Worklog(self._archive.store, self._worklog_key)
        try:
            published, written = self._take_in_and_publish(worklog)
            worklog.remove()
        finally:
            worklog.close()
        snapshot = published.snapshot
        if published.manifest is None:
            # All of it was read, and is what a snapshot with better vouchers has.
            return self.keep(snapshot)
        self._lookup.add_snapshot(snapshot, published.manifest)
        record_sighting(self._archive, self._lookup, self._listing)
        indexed = IndexedFiles.of(published.manifest.files)
        published = published._replace(manifest=None)  # an index comes: there is not room for both
        memory.trim()
        self._remarks += of_indexes(self._archive, snapshot, indexed, self._paths)
        report = msgspec.structs.replace(
            self.report("sealed", snapshot, written),
            raised=published.raised,
            corrected=tuple(
                CorrectedFile(contradiction.path, contradiction.snapshot.id)
                for contradiction in published.corrected
            ),
        )
        return self._protected(snapshot, report)

    def _take_in_and_publish(self, worklog: Worklog) -> tuple[Published, _Written]:
        """Return the snapshot, and what was written for it."""
        request = self._request
        shared = SHARED_BYTES + request.upstream.read_ahead
        workers = request.memory.workers(ENCODER_BYTES, shared)
        with IngestPipeline(
            self._archive,
            worklog,
            self._hints,
            effort=request.effort,
            workers=workers,
            readers=request.jobs or files_at_once(workers),
            progress=self._progress,
            reserve=self._space.require,
        ) as pipeline:
            entries = self._take_in(pipeline)
            objects = pipeline.objects
            self._remarks += [
                remark("stand-in", [path], instead=stand_in)
                for path, stand_in in sorted(pipeline.stand_ins.items())
            ]
            resumed = _Written(pipeline.resumed_bytes, sum(pipeline.resumed.values()))
            # The buffers go before the manifest comes: of 190,000 tensors there is not room for both.
            pipeline.release()
            memory.trim()
            try:
                published = publish_listing(
                    self._archive,
                    self._listing,
                    self._holdings,
                    entries,
                    objects,
                    self._selection,
                    request.pins,
                )
            finally:
                # Also where nothing was sealed: what was fetched is kept.
                objects.flush()
                self._register(pipeline)
        return published, resumed._replace(stored_bytes=objects.stored_bytes)

    def _take_in(self, pipeline: IngestPipeline) -> list[FileEntry]:
        """Take in every file of the listing; raise MirrorError with all failures if there are any.

        Raise NoSpaceError and TooLargeError at once: nothing after them can succeed.
        """
        held = self._holdings.files
        for path, entry in held.items():
            for _, digest in entry.segments:
                location = self._holdings.location(path, digest)
                pipeline.objects.add_existing(bytes.fromhex(digest), *location)
            self._progress.begin(path, entry.size)
            self._progress.advance(entry.size, fetched=False)
            self._progress.end(path)

        entries: list[FileEntry] = list(held.values())
        failures: list[FileFailure] = []
        # Large files first, so that the last thread is not left alone with the largest.
        files = sorted(self._to_fetch(), key=lambda file: -file.size)
        readers = ThreadPoolExecutor(pipeline.readers, thread_name_prefix="file")
        try:
            # A thread that is being started when a signal comes is in no list of Python's yet: whoever
            # starts one sees to its end from here on.
            waiting: dict[Future[FileEntry], RemoteFile] = {
                readers.submit(self._take_in_file, pipeline, file): file for file in files
            }
            while waiting:
                finished, _ = wait(waiting, timeout=_POLL_SECONDS, return_when=FIRST_COMPLETED)
                for future in finished:
                    path = waiting.pop(future).path
                    try:
                        entries.append(future.result())
                    except (NoSpaceError, TooLargeError, BudgetSpentError):
                        raise
                    except ArchiverError as error:
                        failure = (path, error.message, error.hint, int(error.exit_code))
                        failures.append(FileFailure(*failure))
                # In this thread: the transactions of a catalogue belong to one.
                self._register(pipeline)
                if waiting and self._request.budget is not None:
                    # Bytes are counted where they are read; a hub may be silent for long, though.
                    self._request.budget.require_time(self._listing.repository)
        except BaseException:
            pipeline.stop()
            raise
        finally:
            readers.shutdown(wait=True, cancel_futures=True)
        if failures:
            pipeline.objects.flush()
            self._register(pipeline)
            title = f"{self._listing.repository}@{self._listing.revision[:12]}".rstrip("@")
            hub = self._listing.upstream != DIRECTORY
            raise MirrorError(title, failures, len(self._listing.files), hub=hub)
        return entries

    def _take_in_file(self, pipeline: IngestPipeline, file: RemoteFile) -> FileEntry:
        upstream, listing, budget = self._request.upstream, self._listing, self._request.budget

        def opened(offset: int) -> AbstractContextManager[ByteStream]:
            stream = upstream.open(listing, file, offset)
            left = file.size - offset
            return stream if budget is None else _within(budget, stream, left, listing.repository)

        entry, header_problem = pipeline.add(self._expected(file), opened)
        if header_problem and file.path not in pipeline.stand_ins:
            self._notes.append(f"{file.path} was stored as plain bytes: {header_problem}")
        return entry

    def _expected(self, file: RemoteFile) -> ExpectedFile:
        return ExpectedFile(
            file.path,
            file.size,
            file.sha256,
            file.oid,
            file.lfs,
            "the cache" if self._listing.upstream == DIRECTORY else "upstream",
        )

    def _register(self, pipeline: IngestPipeline) -> None:
        """Tell the lookup of the packs that were published meanwhile."""
        published = pipeline.objects.published
        while published:
            self._lookup.add_pack(published.pop())

    @cached_property
    def _hints(self) -> UsableHints:
        """Where objects lie, once what a killed run had stored is in packs."""
        return UsableHints(self._archive, self._lookup)

    def _to_fetch(self) -> list[RemoteFile]:
        return [file for file in self._listing.files if file.path not in self._holdings.files]

    def _resumable_bytes(self, unfinished: set[str]) -> int:
        """Return how much of what is to be fetched a killed run stored, in packs or ``unfinished`` ones."""
        stored = read_worklog(self._archive.store, self._worklog_key)
        total = 0
        for file in self._to_fetch():
            if not self._expected(file).checkable:
                continue
            for size, digest in stored.of(file.path):
                if digest not in unfinished and not self._hints.locate(Blake3Hex(digest)):
                    break
                total += size
        return total

    # ---- the report

    def planned(self) -> MirrorReport:
        """Return what a run would do."""
        resumable = self._resumable_bytes(unfinished_objects(self._archive))
        return self.report("planned", written=_Written(resumed_bytes=resumable))

    def report(
        self, outcome: str, snapshot: Snapshot | None = None, written: _Written | None = None
    ) -> MirrorReport:
        """Return the run in figures."""
        written = written or _Written()
        files = self._listing.files
        total = sum(file.size for file in files)
        held = [file for file in files if outcome == "held" or file.path in self._holdings.files]
        planned = self._to_fetch() if outcome == "planned" else []
        held_bytes = sum(file.size for file in held)
        origin = "cache" if self._listing.revision else "folder"
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
            origin="hub" if self._listing.upstream in HUBS else origin,
            vouched=self._archive.vouching(snapshot) if snapshot else None,
            preferred=snapshot is None or self._is_preferred(snapshot),
            fetched_from=self._fetched_from(),
            to_fetch_paths=tuple(file.path for file in planned),
        )

    def _fetched_from(self) -> tuple[FetchedFrom, ...]:
        upstream = self._request.upstream
        if not isinstance(upstream, Failover):
            return ()
        return tuple(FetchedFrom(*pair) for pair in upstream.fetched_from(self._listing))

    def _is_preferred(self, snapshot: Snapshot) -> bool:
        snapshots = self._archive.snapshots_of(snapshot.seal.repository, on_damage=skip_damaged)
        return not snapshots or self._archive.default(snapshots).id == snapshot.id

    def _protected(self, snapshot: Snapshot, report: MirrorReport) -> MirrorReport:
        """Return the report with what came of sidecars, also of a snapshot that was there.

        The run that sealed it may have been killed before it made them.
        """
        protection = protect_sealed(self._archive, snapshot, self._request.memory)
        return msgspec.structs.replace(
            report,
            parity_bytes=protection.parity_bytes,
            unprotected=protection.failures,
        )

    def _note_unportable_paths(self) -> None:
        """Note what only some filesystems can hold: it is kept, and a restore there leaves it out."""
        paths = unportable(file.path for file in self._listing.files)
        for path, why in islice(paths.items(), _PATHS_SHOWN):
            self._notes.append(f"{path!r} {why}. A restore to such a filesystem leaves it out.")
        if len(paths) > _PATHS_SHOWN:
            self._notes.append(f"So it is with {len(paths) - _PATHS_SHOWN:,} more paths.")


class SpaceGuard:
    """The free space on a store's disk, of which ``min_free`` bytes are to stay; one thread at a time.

    It is compared before anything is fetched, and watched while packs grow.
    """

    def __init__(self, store: Store, min_free: int, *, fetched: bool = True) -> None:
        """Say by ``fetched`` whether files come from a hub or from a folder."""
        self._store = store
        self._min_free = min_free
        self._done = "fetched" if fetched else "taken in"
        self._left = 0
        self._since_look = _LOOK_EVERY

    def require(self, size: int) -> None:
        """Raise NoSpaceError if ``size`` more bytes would leave less than is to stay free."""
        if not self._min_free:
            return  # The system says by itself when the disk is full.
        if self._left < size or self._since_look >= _LOOK_EVERY:
            self._look()
        if self._left < size:
            free = self._left + self._min_free
            raise NoSpaceError(
                f"Only {human_bytes(max(free, 0))} are free on the disk of {self._store.address}; "
                f"--min-free keeps {human_bytes(self._min_free)} of it.",
                hint=_SPACE_HINT,
            )
        self._left -= size
        self._since_look += size

    def require_download(self, size: int) -> None:
        """Raise NoSpaceError if what is to be fetched cannot fit, however well it compresses."""
        folder = self._store.folder
        if size and folder and out_of_inodes(folder.path):
            raise explain_system_error(OSError(errno.ENOSPC, "", str(folder.path)))
        self._look()
        needed = int(size * _LEAST_RATIO)
        if self._left >= needed:
            return
        free = max(self._left + self._min_free, 0)
        raise NoSpaceError(
            f"{human_bytes(size)} are to be {self._done}, which takes {human_bytes(needed)} or more "
            f"on the disk of {self._store.address}; {human_bytes(free)} are free there, of which "
            f"--min-free keeps {human_bytes(self._min_free)}.",
            hint=_SPACE_HINT,
        )

    def _look(self) -> None:
        free = self._store.free_bytes()
        # A disk that does not tell is not full: the system says so when it is.
        self._left = _UNKNOWN if free is None else free - self._min_free
        self._since_look = 0
