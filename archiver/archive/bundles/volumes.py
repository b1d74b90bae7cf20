"""Volumes on a medium, as they are found: which they are, and several of them as one archive to be read."""

from __future__ import annotations

import errno
import os
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Final, NamedTuple

from archiver.archive import layout
from archiver.archive.archive import Archive
from archiver.archive.bundles.records import (
    BUNDLE,
    DOCUMENT_MAX,
    VOLUME,
    Bundle,
    Volume,
    folder_of,
    is_carried,
    number_of,
    parse_bundle,
    parse_volume,
    piece_of,
)
from archiver.archive.parity.reconstruct import reconstruct
from archiver.archive.place_look import require_answer
from archiver.archive.records import ArchiveInfo
from archiver.digest import blake3_hex
from archiver.errors import ArchiverError, DamageError, UnknownFormatError, UsageError
from archiver.storage.local import LocalStore

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from archiver.storage.store import FileStamp, LocalFolder, Reader, Staged


_FILES_MAX: Final = 500_000
"""Files of a volume: its lists could not name more."""


class FoundVolume(NamedTuple):
    """A folder that should be a volume.

    Attributes:
        path: The folder.
        store: The same as a store.
        volume: What its ``volume.json`` says; None if that is damaged or missing.
        bundle: What its ``bundle.json`` says; None if that is damaged, missing, or of another bundle.
        problems: Why either is None: the file's name, and what is wrong with it, as a sentence.
    """

    path: Path
    store: LocalStore
    volume: Volume | None
    bundle: Bundle | None
    problems: tuple[tuple[str, str], ...] = ()

    @property
    def bundle_id(self) -> str:
        """The id of its bundle, as far as that is known."""
        if self.volume is not None:
            return self.volume.bundle
        return self.bundle.id if self.bundle is not None else ""

    @property
    def number(self) -> int:
        """Which volume it is; by the name of its folder, where nothing better tells; 0: not known."""
        return self.volume.number if self.volume else number_of(self.path.name) or 0

    @property
    def title(self) -> str:
        """What a person calls it: its number and where it lies."""
        return f"volume {self.number or '?'} at {self.path}"

    @property
    def unfinished(self) -> bool:
        """Whether it is being written, or was when its writer died."""
        return self.volume is None and self.store.stat(VOLUME) is None


def find_volumes(paths: Iterable[Path]) -> list[FoundVolume]:
    """Return the volumes in these folders, each of which is one or has some in it; by bundle and number.

    Raises:
        UsageError: One of them is not there, or there is none in it.
        UnknownFormatError: One was written by a newer version.
        ArchiverError: A medium gives no answer.
    """
    found: dict[Path, FoundVolume] = {}
    for path in paths:
        require_answer(path)
        if not os.path.lexists(path):
            raise UsageError(f"{path} is not there.", hint="Is the right medium mounted?")
        folders = list(_volumes_in(path))
        if not folders:
            raise UsageError(
                f"{path} is no volume of a bundle, and has none in it.",
                hint="Is the right medium mounted? A volume is a folder such as volume-0001, with a "
                "volume.json in it.",
            )
        for folder in folders:
            key = folder.resolve()
            if key not in found:
                found[key] = read_volume(folder)
    return sorted(found.values(), key=lambda each: (each.bundle_id, each.number, str(each.path)))


def _volumes_in(path: Path) -> Iterator[Path]:
    try:
        if _is_volume(path):
            yield path
            return
        if path.is_dir():
            names = sorted(each.name for each in path.iterdir() if number_of(each.name))
            yield from (path / name for name in names if _is_folder(path / name))
    except OSError as error:
        raise ArchiverError(
            f"{path} cannot be listed: {error.strerror}.",
            hint="Is its medium still there? Put it in again, and run the same command once more.",
        ) from error


def _is_volume(path: Path) -> bool:
    return any((path / name).is_file() for name in (VOLUME, BUNDLE))


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def read_volume(folder: Path) -> FoundVolume:
    """Return a volume with what its two documents say; UnknownFormatError if a newer version wrote it."""
    store = LocalStore(folder)
    problems = []
    volume: Volume | None = None
    bundle: Bundle | None = None
    try:
        volume = parse_volume(_document(store, VOLUME), f"{folder / VOLUME}")
    except UnknownFormatError:
        raise
    except ArchiverError as error:
        problems.append((VOLUME, error.message))
    try:
        data = _document(store, BUNDLE)
        if volume is not None and blake3_hex(data) != volume.bundle:
            raise DamageError(
                f"{folder / BUNDLE} is damaged, or of another bundle than its volume."
            )
        bundle = parse_bundle(data, f"{folder / BUNDLE}")
    except UnknownFormatError:
        raise
    except ArchiverError as error:
        problems.append((BUNDLE, error.message))
    return FoundVolume(folder, store, volume, bundle, tuple(problems))


def _document(store: LocalStore, name: str) -> bytes:
    try:
        return store.get(name, DOCUMENT_MAX)
    except FileNotFoundError:
        raise DamageError(f"{store.path / name} is missing.", path=name) from None


class Piece(NamedTuple):
    """Where a piece of a file lies."""

    store: LocalStore
    name: str
    size: int


class JoinedReader:
    """Pieces of a file on several volumes, read as one; each is open only while it is read."""

    def __init__(self, pieces: Sequence[Piece]) -> None:
        self._pieces = pieces
        self.size = sum(piece.size for piece in pieces)

    def read_into(self, offset: int, buffer: memoryview) -> int:
        """Fill ``buffer`` from ``offset``; return the number of bytes read."""
        done = begin = 0
        for piece in self._pieces:
            at = offset + done - begin
            if 0 <= at < piece.size and done < len(buffer):
                part = buffer[done : done + piece.size - at]
                with closing(piece.store.open(piece.name)) as reader:
                    got = reader.read_into(at, part)
                done += got
                if got < len(part):
                    break
            begin += piece.size
        return done

    def fresh(self) -> None:
        """Let later reads come from the medium."""
        for piece in self._pieces:
            with (
                suppress(ArchiverError, FileNotFoundError),
                closing(piece.store.open(piece.name)) as reader,
            ):
                reader.fresh()

    def close(self) -> None:
        """Nothing is kept open."""


class VolumeSet:
    """Several volumes as one store to be read: a file is wherever it lies whole, or in all its pieces.

    Nothing on a volume is believed: whoever reads compares with the digest that was asked for. What a
    medium lists beside an archive's own files is not there.
    """

    def __init__(self, stores: Iterable[LocalStore], bundles: Iterable[Bundle] = ()) -> None:
        """``bundles`` tell how long each piece should be: one that is cut short moves no other."""
        self._stores = list(stores)
        self._sizes = {
            file.name: file.size
            for bundle in bundles
            for file in bundle.files
            if piece_of(file.name)
        }
        self._whole: dict[str, tuple[LocalStore, str]] = {}
        self._by_digest: dict[tuple[str, str], str] = {}
        """Documents, whatever folder they lie in: folder in the root, digest -> name."""
        self._pieces: dict[str, dict[int, dict[int, Piece]]] = {}
        """File -> number of its pieces -> piece by number."""
        for store in self._stores:
            for number, name in enumerate(store.list("")):
                if number == _FILES_MAX:
                    raise DamageError(f"{store.path} has more files than a volume can have.")
                if is_carried(name):
                    self._add(store, name)

    @property
    def address(self) -> str:
        """The folders, for people."""
        return ", ".join(str(store.path) for store in self._stores)

    @property
    def folder(self) -> LocalFolder | None:
        """None: they are several."""
        return None

    def _add(self, store: LocalStore, name: str) -> None:
        piece = piece_of(name)
        if piece:
            size = self._sizes.get(name) or store.stat(name) or 0
            numbers = self._pieces.setdefault(piece.file, {}).setdefault(piece.pieces, {})
            numbers.setdefault(piece.number, Piece(store, name, size))
            return
        self._whole.setdefault(name, (store, name))
        document = layout.document_of(name)
        if document:
            self._by_digest.setdefault((name.partition("/")[0], document.digest), name)

    def replace(self, name: str, store: LocalStore) -> None:
        """Read ``name`` from another store from now on."""
        self._whole[name] = (store, name)

    def names(self) -> set[str]:
        """Return the names of the files that are there, whole or in all their pieces."""
        return {*self._whole, *(name for name in self._pieces if self.pieces(name))}

    def pieces(self, name: str) -> list[Piece]:
        """Return all pieces of a file, in order; none if one is missing."""
        for count, pieces in self._pieces.get(name, {}).items():
            if len(pieces) == count:
                return [pieces[number] for number in range(1, count + 1)]
        return []

    def missing_pieces(self, name: str) -> list[int]:
        """Return the numbers of the pieces of a file that are not there; none if it is whole here."""
        if name in self._whole:
            return []
        for count, pieces in self._pieces.get(name, {}).items():
            return [number for number in range(1, count + 1) if number not in pieces]
        return []

    def _found(self, name: str) -> tuple[LocalStore, str] | None:
        found = self._whole.get(name)
        if found is None:
            document = layout.document_of(name)
            other = document and self._by_digest.get((name.partition("/")[0], document.digest))
            found = self._whole[other] if other else None
        return found

    def open(self, name: str) -> Reader:
        """Open a file for ranged reads; raise FileNotFoundError if there is none."""
        found = self._found(name)
        if found is not None:
            return found[0].open(found[1])
        pieces = self.pieces(name)
        if not pieces:
            raise FileNotFoundError(errno.ENOENT, "no such file on these volumes", name)
        return JoinedReader(pieces)

    def get(self, name: str, limit: int) -> bytes:
        """Return a whole file of at most ``limit`` bytes."""
        with closing(self.open(name)) as reader:
            if reader.size > limit:
                raise DamageError(
                    f"{name} has {reader.size:,} bytes; at most {limit:,} can be right."
                )
            buffer = bytearray(reader.size)
            return bytes(memoryview(buffer)[: reader.read_into(0, memoryview(buffer))])

    def stat(self, name: str) -> int | None:
        """Return the file's size in bytes, or None."""
        found = self._found(name)
        if found is not None:
            return found[0].stat(found[1])
        pieces = self.pieces(name)
        return sum(piece.size for piece in pieces) if pieces else None

    def stamp(self, name: str) -> FileStamp | None:
        """Return None: a volume is read once."""

    def list(self, prefix: str) -> Iterator[str]:
        """Give the names of files below a folder, sorted."""
        below = f"{prefix}/" if prefix else ""
        yield from (name for name in sorted(self.names()) if name.startswith(below))

    def pass_over_unreadable(self) -> None:
        """Nothing is to be done: what can be listed was listed."""

    def passed_over(self) -> Mapping[str, str]:
        """Return nothing: a folder that cannot be listed was an error."""
        return {}

    def barrier(self, names: Iterable[str] = ()) -> None:
        """Nothing is written here."""

    def require_writable(self) -> None:
        """Raise ArchiverError: nothing is written to volumes."""
        raise ArchiverError("Volumes of a bundle are only read.")

    def archive(self, archive: str, tool: str = "") -> Archive:
        """Return them as an archive of this id, to be read only."""
        return Archive(self, ArchiveInfo(archive, "", tool))  # type: ignore[arg-type] # it is only read

    def rebuild(self, name: str, staged: Staged) -> bool:
        """Write a damaged or lost file whole to ``staged``, by its parity; return whether that could be."""
        try:
            reconstruct(self, name, staged)
        except (DamageError, UnknownFormatError):
            return False
        return True


def missing_volumes(found: Iterable[FoundVolume], volumes: int) -> list[int]:
    """Return the numbers of a bundle's volumes that are not among these."""
    return sorted(set(range(1, volumes + 1)) - {each.number for each in found})


def folders_of(numbers: Iterable[int]) -> str:
    """Return the folders of these volumes, for people."""
    return ", ".join(map(folder_of, numbers))
