"""A volume that is written: in an order that survives any crash, every file read back.

``bundle.json`` comes first, then what explains it, documents and packs, then the lists of what is there,
and ``volume.json`` last. What is there already and right is kept.
"""

from __future__ import annotations

import hashlib
import tempfile
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
from blake3 import blake3

from archiver.archive import layout
from archiver.archive.archive import Archive
from archiver.archive.bundles.records import (
    BUNDLE,
    DOCUMENT_MAX,
    SHEET,
    START,
    SUMS,
    VOLUME,
    StoredFile,
    Volume,
    checked,
    file_of,
    piece_of,
    stored_name,
)
from archiver.archive.bundles.volumes import read_volume
from archiver.archive.editions import newest_explanations
from archiver.archive.events import TOOL
from archiver.archive.fixity import file_digest
from archiver.archive.parity.protect import PROTECTOR_BYTES, protect
from archiver.archive.records import info_file
from archiver.buffers import workspace
from archiver.digest import blake3_hex
from archiver.errors import ArchiverError, DamageError, ExitCode, NoSpaceError, UsageError
from archiver.operations.bundle.sheet import sums_of
from archiver.operations.bundle.start_page import start_page
from archiver.operations.bundle.tools import another_tool
from archiver.progress import Progress
from archiver.storage.filesystem import free_bytes
from archiver.storage.local import LocalStore
from archiver.text import human_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from archiver.archive.bundles.records import Bundle, BundledFile, ToolFile
    from archiver.memory import MemoryBudget
    from archiver.storage.store import Reader, Staged, Store

_PURPOSES: Final = ("bundle", "put", "parity", "parity-blocks")
_PIECE: Final = 4 << 20
_ROUND: Final = 1 << 20
"""Room that a volume's small files may take beside what was counted."""


class WrittenVolume(msgspec.Struct, frozen=True):
    """A volume that is complete: its folder, its files and bytes, and how many files were there already."""

    number: int
    path: str
    files: int
    bytes: int
    kept: int


class VolumeWriter:
    """Writes one volume, and what is missing of it."""

    def __init__(
        self,
        archive: Archive,
        bundle: Bundle,
        number: int,
        folder: Path,
        sources: Mapping[str, str],
        memory: MemoryBudget,
        read_tool: Callable[[str], Iterator[bytes]],
    ) -> None:
        """``sources``: names in the archive of what has another one on a volume.

        ``read_tool`` yields the bytes of a file that brings the tool.
        """
        self._archive = archive
        self._bundle = bundle
        self._number = number
        self._store = LocalStore(folder)
        self._sources = sources
        self._memory = memory
        self._read_tool = read_tool
        self._files: dict[str, StoredFile] = {}
        self._kept = 0
        self._proven: set[str] = set()
        self._progress = Progress()

    def write(self, sheet: bytes, proven: set[str], progress: Progress) -> WrittenVolume:
        """Have all of the volume there.

        ``proven`` are the BLAKE3 of files that go in pieces and are whole; those that are found so are
        added.

        Raises:
            UsageError: A volume of another bundle lies there.
            DamageError: A file is not whole in the archive.
            NoSpaceError: The medium is full.
            ArchiverError: The medium cannot be written to, or is gone.
        """
        self._proven, self._progress = proven, progress
        found = read_volume(self._store.path)
        if found.bundle_id and found.bundle_id != self._bundle.id:
            raise UsageError(
                f"{self._store.path} has a volume of another bundle ({found.bundle_id[:16]}…).",
                hint="It was left as it is. Choose another folder, or remove that one.",
            )
        for purpose in _PURPOSES:
            for leftover in self._store.leftovers(purpose):
                leftover.discard()
        planned = self._bundle.on(self._number)
        self._require_room(planned)
        self._put(BUNDLE, self._bundle.data)
        newest = newest_explanations(self._archive.store)
        for explanation in self._bundle.explanations:
            data = newest[explanation.name]
            if hashlib.sha256(data).hexdigest() != explanation.sha256:
                raise UsageError(
                    f"{explanation.name} is another one than when this bundle was begun.",
                    hint="Export into a new folder.",
                )
            self._put(explanation.name, data)
        self._put(layout.INFO, info_file(self._archive.info))
        tools = tuple(map(self._bring, self._bundle.tools_on(self._number)))
        for file in planned:
            if file.blake3:
                self._carry(file)
        self._protect(planned)
        self._put(SHEET, sheet)
        self._put(START, start_page(self._bundle, self._number))
        self._put(SUMS, sums_of((*self._listed(), *tools)))
        volume = Volume(
            self._bundle.id, self._number, self._bundle.volumes, self._listed(), tools, TOOL
        )
        self._tidy()
        self._put(VOLUME, file_of(checked(volume)), listed=False)
        self._tidy()
        return WrittenVolume(
            self._number,
            str(self._store.path),
            len(volume.files) + len(tools) + 1,
            sum(file.size for file in (*volume.files, *tools)),
            self._kept,
        )

    def _listed(self) -> tuple[StoredFile, ...]:
        return tuple(self._files[name] for name in sorted(self._files))

    def _require_room(self, planned: Iterable[BundledFile]) -> None:
        free = free_bytes(self._store.path)
        files: list[BundledFile | ToolFile] = [*planned, *self._bundle.tools_on(self._number)]
        needed = sum(file.size for file in files if self._store.stat(file.name) != file.size)
        if free is not None and free < needed + _ROUND:
            raise NoSpaceError(
                f"Volume {self._number} needs {human_bytes(needed)} more; {human_bytes(free)} are free "
                f"on the disk of {self._store.path}.",
                hint="Take a larger medium, or make the volumes smaller with --volume-size.",
            )

    def _put(self, name: str, data: bytes, *, listed: bool = True) -> None:
        """Have a small file there, with these bytes."""
        try:
            there = self._store.get(name, max(DOCUMENT_MAX, len(data)))
        except (DamageError, FileNotFoundError):
            there = b""
        if there != data:
            with _staged(self._store) as staged:
                staged.write(data)
                _require_written(staged, blake3_hex(data))
                staged.publish(name)
        if listed:
            sha256 = hashlib.sha256(data).hexdigest()
            self._files[name] = StoredFile(name, len(data), blake3_hex(data), sha256)

    def _bring(self, file: ToolFile) -> StoredFile:
        """Have a file of the tool there, just as it was planned; what is written is read back."""
        if self._store.stat(file.name) == file.size:
            with closing(self._store.open(file.name)) as reader:
                reader.fresh()
                right = file_digest(reader) == file.blake3
        else:
            right = False
        if right:
            self._kept += 1
        else:
            plain, sha256 = blake3(), hashlib.sha256()
            with _staged(self._store) as staged:
                for piece in self._read_tool(file.name):
                    plain.update(piece)
                    sha256.update(piece)
                    staged.write(piece)
                if (plain.hexdigest(), sha256.hexdigest()) != (file.blake3, file.sha256):
                    raise another_tool(file.name)
                _require_written(staged, file.blake3)
                staged.publish(file.name)
        self._progress.advance(file.size, fetched=not right)
        self._progress.end(file.name)
        return StoredFile(file.name, file.size, file.blake3, file.sha256)

    def _carry(self, file: BundledFile) -> None:
        """Have a file, or a piece of one, there; what is written is read back."""
        self._require_whole(file)
        if self._store.stat(file.name) == file.size:
            with closing(self._store.open(file.name)) as reader:
                stored = self._digests(file, reader)
            if stored.blake3 == self._wanted(file):
                self._files[file.name] = stored
                self._kept += 1
                self._progress.advance(file.size, fetched=False)
                self._progress.end(file.name)
                return
        stored = self._written(file)
        self._files[file.name] = stored
        self._progress.end(file.name)

    def _wanted(self, file: BundledFile) -> str:
        """Return the BLAKE3 that the file must have; of a piece, what the archive's bytes give."""
        if not piece_of(file.name):
            return file.blake3
        with closing(self._open(file)) as reader:
            return self._digests(file, reader, file.offset).blake3

    def _open(self, file: BundledFile) -> Reader:
        name = self._source(stored_name(file.name))
        try:
            return self._archive.store.open(name)
        except FileNotFoundError:
            raise DamageError(
                f"{name} is missing.",
                hint="Run 'archiver repair', then the same export again: it goes on.",
                path=name,
            ) from None

    @staticmethod
    def _digests(file: BundledFile, reader: Reader, offset: int = 0) -> StoredFile:
        plain, sha256 = blake3(), hashlib.sha256()
        reader.fresh()
        for piece in _stretch(reader, offset, file.size):
            plain.update(piece)
            sha256.update(piece)
        return StoredFile(file.name, file.size, plain.hexdigest(), sha256.hexdigest())

    def _written(self, file: BundledFile) -> StoredFile:
        plain, sha256 = blake3(), hashlib.sha256()
        with closing(self._open(file)) as reader, _staged(self._store) as staged:
            for piece in _stretch(reader, file.offset, file.size):
                plain.update(piece)
                sha256.update(piece)
                staged.write(piece)
                self._progress.advance(len(piece), fetched=True)
            if not piece_of(file.name) and plain.hexdigest() != file.blake3:
                raise self._damaged(file)
            _require_written(staged, plain.hexdigest())
            staged.publish(file.name)
        return StoredFile(file.name, file.size, plain.hexdigest(), sha256.hexdigest())

    def _require_whole(self, file: BundledFile) -> None:
        """Prove a file that goes in pieces, once a run: no piece has a digest that anybody else knows."""
        if not piece_of(file.name) or file.blake3 in self._proven:
            return
        with closing(self._open(file)) as reader:
            if file_digest(reader) != file.blake3:
                raise self._damaged(file)
        self._proven.add(file.blake3)

    def _damaged(self, file: BundledFile) -> DamageError:
        name = self._source(stored_name(file.name))
        return DamageError(
            f"{name} is damaged in the archive: its bytes have another digest.",
            hint="It was not written. Run 'archiver repair', then the same export again: it goes on.",
            path=name,
            pack=layout.pack_of(name) or "",
        )

    def _source(self, name: str) -> str:
        """Return the name that a file has in the archive."""
        return self._sources.get(name, name)

    # ---- parity

    def _protect(self, planned: Iterable[BundledFile]) -> None:
        """Make the sidecars that this volume is to have, from the archive's files."""
        if self._bundle.parity is None:
            return
        sidecars = {file.name for file in planned if not file.blake3}
        digests = {layout.parity_of(name) for name in sidecars}
        names = sorted(
            {
                self._source(stored_name(file.name))
                for file in self._bundle.files
                if file.blake3 and layout.digest_of(stored_name(file.name)) in digests
            }
        )
        parity, group = self._bundle.parity
        with tempfile.TemporaryDirectory(prefix="archiver-") as scratch:
            store = _SplitStore(self._archive.store, self._store, LocalStore(Path(scratch)))
            report = protect(
                Archive(store, self._archive.info),
                names,
                parity=parity,
                group=group,
                workers=self._memory.workers(PROTECTOR_BYTES),
                progress=Progress(),
            )
        for failure in report.failures:
            what = f"{failure.file} got no parity: {failure.reason}"
            if failure.exit_code == ExitCode.DAMAGE:
                raise DamageError(what, hint=failure.hint, path=failure.file)
            raise ArchiverError(what, hint=failure.hint)
        for name in sorted(sidecars):
            with closing(self._store.open(name)) as reader:
                file = msgspec.structs.replace(_planned_file(planned, name), size=reader.size)
                self._files[name] = self._digests(file, reader)

    def _tidy(self) -> None:
        """Remove the folder of work in progress, which is empty now."""
        with suppress(OSError):
            (self._store.path / layout.TMP).rmdir()


def _planned_file(planned: Iterable[BundledFile], name: str) -> BundledFile:
    return next(file for file in planned if file.name == name)


class _SplitStore:
    """An archive's store to read from, whose sidecars are read and written on a volume.

    What is only needed meanwhile lies in ``scratch``: a volume may have no room for it.
    """

    def __init__(self, source: Store, target: LocalStore, scratch: LocalStore) -> None:
        self._source = source
        self._target = target
        self._scratch = scratch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)

    def stage(self, purpose: str) -> Staged:
        """Begin a sidecar on the volume, or what it is made of."""
        return (self._target if purpose == "parity" else self._scratch).stage(purpose)

    def open(self, name: str) -> Reader:
        """Open a sidecar of the volume, or another file of the archive."""
        return (self._target if layout.parity_of(name) else self._source).open(name)


@contextmanager
def _staged(store: LocalStore) -> Iterator[Staged]:
    """Give a new file of a volume, which is thrown away unless it is published."""
    staged = store.stage(_PURPOSES[0])
    try:
        yield staged
    finally:
        staged.abort()


def _stretch(reader: Reader, offset: int, size: int) -> Iterator[memoryview]:
    """Yield a stretch of an open file, each piece valid until the next; DamageError if it ends early."""
    for at in range(offset, offset + size, _PIECE):
        buffer = workspace().take("bundle", min(_PIECE, offset + size - at)).data
        if reader.read_into(at, buffer) != len(buffer):
            raise DamageError("A file became shorter while it was read.")
        yield buffer


def _require_written(staged: Staged, digest: str) -> None:
    """Raise ArchiverError unless what was written can be read back from the medium."""
    with closing(staged.reader()) as written:
        written.fresh()
        if file_digest(written) != digest:
            raise ArchiverError(
                "What was written to the medium is not what came out when it was read back.",
                hint="Nothing of it was published. Take another medium.",
            )
