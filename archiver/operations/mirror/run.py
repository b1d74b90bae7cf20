"""One revision's way in, from the listing to the seal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from archiver import memory
from archiver.archive.archive import TOOL, Archive, Snapshot
from archiver.archive.intake import Expected, Intake
from archiver.archive.objects import PublishedPack, salvage
from archiver.archive.pin import Pin, check_pin
from archiver.archive.publish import publish
from archiver.archive.records import Event, FileEntry, Manifest, Selection, Source
from archiver.archive.worklog import Worklog, discard
from archiver.catalogue import queries, updates
from archiver.digest import blake3_hex
from archiver.errors import NoSpaceError
from archiver.operations.mirror.fetch import fetch
from archiver.operations.mirror.held import CatalogueHints, Held
from archiver.operations.mirror.report import MirrorError, MirrorReport
from archiver.text import human_bytes, utc_now

if TYPE_CHECKING:
    from archiver.archive.objects import ObjectSink
    from archiver.catalogue.database import Catalogue
    from archiver.operations.mirror.options import MirrorOptions
    from archiver.progress import Progress
    from archiver.upstream.protocol import Listing, RemoteFile, Upstream


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
    ) -> None:
        self._archive = archive
        self._catalogue = catalogue
        self._upstream = upstream
        self._listing = listing
        self._options = options
        self._progress = progress
        self._selection = Selection(tuple(options.include), tuple(options.exclude))
        self._held = Held(archive, catalogue, listing)
        self._notes: list[str] = []
        self._worklog_key = f"{listing.endpoint}|{listing.repository}|{listing.revision}"

    def already_sealed(self) -> Snapshot | None:
        """The snapshot that holds exactly this listing, if there is one."""
        return self._held.snapshot(self._selection)

    def keep(self, snapshot: Snapshot) -> MirrorReport:
        """Nothing is to be fetched: the snapshot is there."""
        discard(self._archive.store, self._worklog_key)
        self._sighted()
        return self.report("held", snapshot=snapshot)

    def execute(self, pins: tuple[Pin, ...]) -> MirrorReport:
        """Fetch, store, publish."""
        for rescued in salvage(self._archive):
            self._add_pack(rescued)
        self._check_room()
        files = self._listing.files
        self._progress.expect(len(files), sum(file.size for file in files))
        worklog = Worklog(self._archive.store, self._worklog_key)
        try:
            snapshot, manifest, stored = self._take_and_publish(worklog, pins)
            worklog.remove()
        finally:
            worklog.close()
        updates.add_snapshot(self._catalogue, snapshot.id, snapshot.seal, manifest)
        self._sighted()
        return self.report("sealed", snapshot, stored)

    def report(
        self, outcome: str, snapshot: Snapshot | None = None, stored: int = 0
    ) -> MirrorReport:
        """The run in figures."""
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
            to_fetch_bytes=total - held_bytes,
            stored_bytes=stored,
            snapshot=snapshot.id if snapshot else "",
            notes=tuple(self._notes),
        )

    # ---- fetching

    def _take_and_publish(
        self, worklog: Worklog, pins: tuple[Pin, ...]
    ) -> tuple[Snapshot, Manifest, int]:
        """The new snapshot, its manifest, and the bytes that were written for it."""
        options = self._options
        with Intake(
            self._archive,
            worklog,
            CatalogueHints(self._catalogue),
            effort=options.effort,
            workers=options.workers,
            readers=options.jobs,
            progress=self._progress,
        ) as intake:
            entries = self._take_all(intake)
            intake.sink.flush()
            self._register(intake)
            sink = intake.sink
        # The buffers go before the manifest comes: of 190,000 tensors there is not room for both.
        del intake
        memory.give_back()
        snapshot, manifest = self._publish(entries, sink, pins)
        return snapshot, manifest, sink.stored_bytes

    def _take_all(self, intake: Intake) -> list[FileEntry]:
        """Every file of the listing; MirrorError with all failures if there are any."""
        held = self._held.files
        for path, entry in held.items():
            self._adopt(intake, path, entry)
        done, failures = fetch(
            intake,
            [file for file in self._listing.files if file.path not in held],
            lambda file: self._take(intake, file),
            jobs=self._options.jobs,
            meanwhile=lambda: self._register(intake),
        )
        if failures:
            intake.sink.flush()
            self._register(intake)
            title = f"{self._listing.repository}@{self._listing.revision[:12]}".rstrip("@")
            raise MirrorError(title, failures, len(self._listing.files))
        return [*held.values(), *done]

    def _adopt(self, intake: Intake, path: str, entry: FileEntry) -> None:
        for _, digest in entry.segments:
            intake.sink.place_existing(bytes.fromhex(digest), *self._held.place(path, digest))
        self._progress.begin(path, entry.size)
        self._progress.advance(entry.size, fetched=False)
        self._progress.end(path)

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

    def _publish(
        self, entries: list[FileEntry], sink: ObjectSink, pins: tuple[Pin, ...]
    ) -> tuple[Snapshot, Manifest]:
        listing = self._listing
        revision = listing.revision or derived_revision(entries)
        facts = {entry.path: (entry.size, entry.sha256) for entry in entries}
        for pin in pins:
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
        manifest = Manifest(source, tuple(sorted(entries, key=lambda entry: entry.path)))
        snapshot = publish(self._archive, manifest, sink.placed, self._selection)
        return snapshot, manifest

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


def derived_revision(entries: list[FileEntry]) -> str:
    """The revision of files that have no commit (``docs/format.md``, 6.1)."""
    rows = [[e.path, e.size, e.sha256] for e in sorted(entries, key=lambda entry: entry.path)]
    return blake3_hex(msgspec.json.encode(rows))[:40]
