"""Mirror: bring one revision of a repository into the archive, and publish it as a snapshot."""

from __future__ import annotations

from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final

import msgspec

from archiver.archive.archive import TOOL, Archive, Snapshot
from archiver.archive.intake import Expected, Intake
from archiver.archive.objects import PublishedPack, salvage
from archiver.archive.pack import IndexEntry
from archiver.archive.pack_map import PackMap
from archiver.archive.pin import Pin, check_pin
from archiver.archive.publish import missing_packs, publish
from archiver.archive.records import Event, FileEntry, Selection, Source
from archiver.archive.worklog import Worklog, discard
from archiver.catalogue import queries, updates
from archiver.codec.segment import Effort
from archiver.digest import Blake3Hex, blake3_hex
from archiver.errors import (
    ArchiverError,
    DamageError,
    NoSpaceError,
    PartialError,
    UsageError,
)
from archiver.text import human_bytes, plural, utc_now

if TYPE_CHECKING:
    from archiver.catalogue.database import Catalogue
    from archiver.progress import Progress
    from archiver.upstream.protocol import Listing, RemoteFile, Upstream

_FATAL: Final = (NoSpaceError,)


class MirrorOptions(msgspec.Struct, frozen=True):
    """How to mirror; sizes in bytes."""

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    effort: Effort = Effort.NORMAL
    jobs: int = 4
    workers: int = 2
    min_free: int = 0
    dry_run: bool = False


class FileFailure(msgspec.Struct, frozen=True):
    """A file that could not be taken in, and why."""

    path: str
    reason: str
    hint: str
    exit_code: int


class MirrorReport(msgspec.Struct, frozen=True):
    """What a run did; sizes in bytes.

    ``outcome`` is ``sealed``, ``held`` (it was there already) or ``planned`` (a dry run).
    """

    repository: str
    revision: str
    outcome: str
    files: int
    bytes: int
    held_files: int
    held_bytes: int
    to_fetch_bytes: int
    stored_bytes: int = 0
    snapshot: str = ""
    notes: tuple[str, ...] = ()


class MirrorError(PartialError):
    """Some files of a revision could not be taken in; no snapshot was published."""

    def __init__(self, title: str, failures: list[FileFailure], total: int) -> None:
        shown = "; ".join(f"{one.path}: {one.reason}" for one in failures[:20])
        more = f"; and {len(failures) - 20} more" if len(failures) > 20 else ""  # noqa: PLR2004
        super().__init__(
            f"{title} was not sealed: {len(failures)} of {plural(total, 'file')} failed. {shown}{more}",
            hint=next((one.hint for one in failures if one.hint), "")
            or "Run the same command again; what is stored already is not fetched again.",
        )
        self.failures = failures
        self.exit_code = type(self).exit_code.__class__(max(one.exit_code for one in failures))


class CatalogueHints:
    """Where objects may lie, by the catalogue."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._empty = not queries.known_packs(catalogue)

    def locate(self, digest: Blake3Hex) -> list[tuple[str, IndexEntry]]:
        """Packs and entries that may hold the object."""
        if self._empty:
            return []
        places = queries.locate(self._catalogue, [digest]).get(digest, [])
        return [
            (one.pack, IndexEntry(digest, one.offset, one.stored, one.size, one.codec))
            for one in places
        ]


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
        MismatchError: A pinned digest disagrees with upstream.
        NoSpaceError, NetworkError, UpstreamGoneError, AccessError: As upstream or the disk say.
    """
    archive.require_writable()
    listing = _select(upstream.list(repository, revision), options)
    run = _Run(archive, catalogue, upstream, listing, options, progress)
    for pin in pins:
        check_pin(pin, listing.repository, listing.revision, run.claims())
    held = run.already_sealed()
    if options.dry_run:
        return run.report("held" if held else "planned", snapshot=held)
    if held is not None:
        return run.keep(held)
    return run.execute(pins)


def _select(listing: Listing, options: MirrorOptions) -> Listing:
    chosen = tuple(
        file for file in listing.files if _wanted(file.path, options.include, options.exclude)
    )
    if not chosen and listing.files and (options.include or options.exclude):
        raise UsageError(
            f"No file of {listing.repository} fits the patterns given.",
            hint="--include and --exclude are shell patterns such as '*.safetensors'.",
        )
    return msgspec.structs.replace(listing, files=chosen)


def _wanted(path: str, include: tuple[str, ...], exclude: tuple[str, ...]) -> bool:
    inside = not include or any(fnmatchcase(path, pattern) for pattern in include)
    return inside and not any(fnmatchcase(path, pattern) for pattern in exclude)


class _Run:
    """One revision's way in."""

    def __init__(
        self,
        archive: Archive,
        catalogue: Catalogue,
        upstream: Upstream,
        listing: Listing,
        options: MirrorOptions,
        progress: Progress,
    ) -> None:
        self._archive = archive
        self._catalogue = catalogue
        self._upstream = upstream
        self._listing = listing
        self._options = options
        self._progress = progress
        self._selection = Selection(tuple(options.include), tuple(options.exclude))
        self._held = self._find_held()
        self._notes: list[str] = []

    # ---- what is known before anything is fetched

    def claims(self) -> dict[str, tuple[int, str]]:
        """Size and SHA-256 of each file, as upstream lists them."""
        return {file.path: (file.size, file.sha256) for file in self._listing.files}

    def already_sealed(self) -> Snapshot | None:
        """The snapshot that holds exactly this listing, if there is one."""
        wanted = {(file.path, file.size, file.sha256 or file.oid) for file in self._listing.files}
        for one in self._snapshots_of(self._listing.repository):
            if one.seal.revision != self._listing.revision or not self._listing.revision:
                continue
            if one.seal.selection != self._selection and not one.seal.selection.whole:
                continue
            if wanted <= self._has(one):
                return one
        return None

    def _has(self, snapshot: Snapshot) -> set[tuple[str, int, str]]:
        """What a snapshot holds, as upstream would list it; nothing if it is not whole any more."""
        if missing_packs(self._archive, snapshot.seal.packs):
            return set()
        try:
            entries = self._archive.manifest(snapshot.seal).files
        except DamageError:
            return set()
        return {(e.path, e.size, e.sha256 if e.lfs else e.oid or e.sha256) for e in entries}

    def keep(self, snapshot: Snapshot) -> MirrorReport:
        """Nothing is to be fetched: the snapshot is there."""
        discard(self._archive.store, self._worklog_key)
        self._sighted()
        return self.report("held", snapshot=snapshot)

    @property
    def _worklog_key(self) -> str:
        listing = self._listing
        return f"{listing.endpoint}|{listing.repository}|{listing.revision}"

    def _find_held(self) -> dict[str, FileEntry]:
        keys = {
            file.path: queries.FileKey(file.size, file.sha256, "" if file.sha256 else file.oid)
            for file in self._listing.files
            if file.sha256 or (file.oid and not file.lfs)
        }
        found = queries.held_files(self._catalogue, keys.values())
        by_seal: dict[str, list[tuple[str, queries.HeldFile]]] = {}
        for path, key in keys.items():
            if key in found:
                by_seal.setdefault(found[key].snapshot, []).append((path, found[key]))
        self._sources: dict[str, PackMap] = {}
        entries: dict[str, FileEntry] = {}
        for rows in by_seal.values():
            entries.update(self._entries_of(rows))
        return entries

    def _entries_of(self, rows: list[tuple[str, queries.HeldFile]]) -> dict[str, FileEntry]:
        """Entries for files that a snapshot holds whole, as far as its packs are really there."""
        first = rows[0][1]
        seals = [one for one in self._snapshots_of(first.repository) if one.id == first.snapshot]
        if not seals:
            return {}
        try:
            manifest = self._archive.manifest(seals[0].seal)
        except DamageError:
            return {}
        packs = PackMap(self._archive, (pack for pack, _ in seals[0].seal.packs))
        files = {entry.path: entry for entry in manifest.files}
        listed = {file.path: file for file in self._listing.files}
        found = {}
        for path, held in rows:
            entry = files.get(held.path)
            if entry is not None and all(packs.find(digest) for _, digest in entry.segments):
                claim = listed[path]
                found[path] = msgspec.structs.replace(
                    entry, path=path, oid=claim.oid, lfs=claim.lfs
                )
                self._sources[path] = packs
        return found

    def _snapshots_of(self, repository: str) -> list[Snapshot]:
        return self._archive.snapshots_of(repository, on_damage=lambda _name, _error: None)

    def report(
        self, outcome: str, snapshot: Snapshot | None = None, stored: int = 0
    ) -> MirrorReport:
        """The run in figures."""
        files = self._listing.files
        total = sum(file.size for file in files)
        sealed = outcome == "held"
        held = files if sealed else [file for file in files if file.path in self._held]
        held_bytes = sum(file.size for file in held)
        return MirrorReport(
            repository=self._listing.repository,
            revision=snapshot.seal.revision if snapshot else self._listing.revision,
            outcome=outcome,
            files=len(files),
            bytes=total,
            held_files=len(held),
            held_bytes=held_bytes,
            to_fetch_bytes=total - held_bytes,
            stored_bytes=stored,
            snapshot=snapshot.id if snapshot else "",
            notes=tuple(self._notes),
        )

    # ---- fetching

    def execute(self, pins: tuple[Pin, ...]) -> MirrorReport:
        """Fetch, store, publish."""
        for rescued in salvage(self._archive):
            self._add_pack(rescued)
        self._check_room()
        listing = self._listing
        self._progress.expect(len(listing.files), sum(file.size for file in listing.files))
        worklog = Worklog(self._archive.store, self._worklog_key)
        try:
            with self._intake(worklog) as intake:
                entries = self._take_all(intake)
                intake.sink.flush()
                self._register(intake)
                snapshot = self._publish(entries, intake, pins)
                stored = intake.sink.stored_bytes
            worklog.remove()
        finally:
            worklog.close()
        # of 190,000 tensors there is no room for both these and the manifest, read back below
        del entries, intake
        updates.add_snapshot(
            self._catalogue, snapshot.id, snapshot.seal, self._archive.manifest(snapshot.seal)
        )
        self._sighted()
        return self.report("sealed", snapshot, stored)

    def _intake(self, worklog: Worklog) -> Intake:
        options = self._options
        return Intake(
            self._archive,
            worklog,
            CatalogueHints(self._catalogue),
            effort=options.effort,
            workers=options.workers,
            readers=options.jobs,
            progress=self._progress,
        )

    def _take_all(self, intake: Intake) -> list[FileEntry]:
        """Every file of the listing; MirrorError with all failures if there are any."""
        entries = []
        for path, entry in self._held.items():
            self._adopt(intake, path, entry)
            entries.append(entry)
        todo = [file for file in self._listing.files if file.path not in self._held]
        done, failures = self._fetch(intake, todo)
        if failures:
            intake.sink.flush()
            self._register(intake)
            title = f"{self._listing.repository}@{self._listing.revision[:12]}".rstrip("@")
            raise MirrorError(title, failures, len(self._listing.files))
        return entries + done

    def _adopt(self, intake: Intake, path: str, entry: FileEntry) -> None:
        packs = self._sources[path]
        for _, digest in entry.segments:
            found = packs.find(digest)
            assert found is not None, "checked when the file was found held"
            intake.sink.place_existing(bytes.fromhex(digest), *found)
        self._progress.begin(path, entry.size)
        self._progress.advance(entry.size, fetched=False)
        self._progress.end(path)

    def _fetch(
        self, intake: Intake, files: list[RemoteFile]
    ) -> tuple[list[FileEntry], list[FileFailure]]:
        entries: list[FileEntry] = []
        failures: list[FileFailure] = []
        # Large files first, so that the last thread is not left alone with the largest.
        queue = sorted(files, key=lambda file: -file.size)
        pool = ThreadPoolExecutor(self._options.jobs, thread_name_prefix="file")
        waiting: dict[Future[FileEntry], RemoteFile] = {
            pool.submit(self._take, intake, file): file for file in queue
        }
        try:
            while waiting:
                finished, _ = wait(waiting, timeout=0.5, return_when=FIRST_COMPLETED)
                for future in finished:
                    file = waiting.pop(future)
                    try:
                        entries.append(future.result())
                    except _FATAL:
                        raise
                    except ArchiverError as error:
                        failures.append(_failure(file, error))
        except BaseException:
            intake.stop()
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
        return entries, failures

    def _take(self, intake: Intake, file: RemoteFile) -> FileEntry:
        self._check_room()
        expected = Expected(file.path, file.size, file.sha256, file.oid, file.lfs)
        entry, note = intake.add(
            expected, lambda offset: self._upstream.open(self._listing, file, offset)
        )
        if note:
            self._notes.append(f"{file.path} was stored as plain bytes: {note}")
        return entry

    def _check_room(self) -> None:
        free = self._archive.store.free_bytes()
        if free < self._options.min_free:
            raise NoSpaceError(
                f"Only {human_bytes(free)} are free on the disk of {self._archive.store.describe()}; "
                f"--min-free asks for {human_bytes(self._options.min_free)}.",
                hint="Free some room or lower --min-free; a new run goes on from here.",
            )

    # ---- publishing

    def _publish(self, entries: list[FileEntry], intake: Intake, pins: tuple[Pin, ...]) -> Snapshot:
        listing = self._listing
        revision = listing.revision or derived_revision(entries)
        for pin in pins:
            facts = {entry.path: (entry.size, entry.sha256) for entry in entries}
            check_pin(pin, listing.repository, revision, facts)
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
        return publish(self._archive, source, entries, intake.sink.placed, self._selection)

    def _register(self, intake: Intake) -> None:
        while intake.sink.published:
            self._add_pack(intake.sink.published.pop())

    def _add_pack(self, pack: PublishedPack) -> None:
        updates.add_pack(self._catalogue, pack.pack, pack.size, pack.entries)

    def _sighted(self) -> None:
        """Journal that upstream points a name at this revision, once for each name and revision."""
        listing = self._listing
        if not listing.revision or listing.name == listing.revision:
            return
        detail = {"name": listing.name, "upstream": listing.endpoint or listing.upstream}
        known = queries.events(self._catalogue, repository=listing.repository)
        latest = [
            event
            for _, event in known
            if event.event == "sighted" and event.detail.get("name") == listing.name
        ]
        if latest and latest[-1].revision == listing.revision:
            return
        self._archive.record(
            Event("sighted", utc_now(), TOOL, listing.repository, listing.revision, detail)
        )


def _failure(file: RemoteFile, error: ArchiverError) -> FileFailure:
    return FileFailure(file.path, error.message, error.hint, int(error.exit_code))


def derived_revision(entries: list[FileEntry]) -> str:
    """The revision of files that have no commit (``docs/format.md``, 6.1)."""
    rows = [[e.path, e.size, e.sha256] for e in sorted(entries, key=lambda entry: entry.path)]
    return blake3_hex(msgspec.json.encode(rows))[:40]
