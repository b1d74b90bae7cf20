"""Fixity: whether a stored file is what its name demands.

There is one proof, whoever asks for it: the digest in the name is that of the bytes, or of what a manifest
decompresses to. And one way to read what may be damaged: once, and once more from the medium before it is
called so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

import zstandard
from blake3 import blake3

from archiver.archive import layout
from archiver.archive.records import MANIFEST_MAX
from archiver.digest import Blake3Hex
from archiver.errors import (
    ArchiverError,
    DamageError,
    DeniedError,
    InvalidDocumentError,
    UnknownFormatError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from archiver.storage.store import OpensFiles, Reader, Staged, Store


_PIECE: Final = 4 << 20
WINDOW_MAX: Final = 32 << 20


def require_named(reader: Reader, name: str) -> None:
    """Raise DamageError unless the open file is what the name of a pack or document demands."""
    require_digest(name, plain_digest(reader, name) if is_packed(name) else file_digest(reader))


def require_digest(name: str, digest: str) -> None:
    """Raise DamageError unless this is the digest that ``name`` has in it."""
    if digest != layout.digest_of(name):
        raise DamageError(
            f"{name} is damaged: its bytes have another digest than its name.", path=name
        )


def is_packed(name: str) -> bool:
    """Return whether the name's digest is that of the decompressed bytes: so it is of a manifest."""
    return name.startswith(f"{layout.MANIFESTS}/")


def file_digest(reader: Reader) -> Blake3Hex:
    """Return the BLAKE3 of an open file as it is stored."""
    hasher = blake3()
    for piece in _pieces(reader):
        hasher.update(piece)
    return Blake3Hex(hasher.hexdigest())


def plain_digest(reader: Reader, name: str) -> Blake3Hex:
    """Return the BLAKE3 of what an open manifest decompresses to; DamageError if it does not."""
    hasher, total = blake3(), 0
    decompressor = zstandard.ZstdDecompressor(max_window_size=WINDOW_MAX)
    try:
        with decompressor.stream_reader(_File(reader)) as plain:  # type: ignore[arg-type] # reads only
            while (piece := plain.read(_PIECE)) and total <= MANIFEST_MAX:
                hasher.update(piece)
                total += len(piece)
        # What gives more than a manifest may have has another digest, however far it goes on.
        if total <= MANIFEST_MAX:
            require_one_frame(_File(reader).stretch, reader.size)
    except (zstandard.ZstdError, ValueError) as error:
        raise DamageError(f"{name} is damaged: {error}.", path=name) from error
    return Blake3Hex(hasher.hexdigest())


def require_one_frame(read: Callable[[int, int], bytes], size: int) -> None:
    """Raise ValueError unless the ``size`` bytes that ``read`` gives are one Zstandard frame.

    A decoder stops at its end, and does not see what somebody added.
    """
    # Whoever only lists what is held need not wait for arrays.
    from archiver.codec.zstd import frame_length  # noqa: PLC0415

    if frame_length(read) != size:
        raise ValueError("something follows its frame")


def _pieces(reader: Reader) -> Iterator[memoryview]:
    buffer = memoryview(bytearray(min(_PIECE, reader.size)))
    at = 0
    while at < reader.size:
        got = reader.read_into(at, buffer)
        if not got:
            return
        yield buffer[:got]
        at += got


class _File:
    """A reader as what the decompressor reads from."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._at = 0

    def read(self, size: int) -> bytes:
        """Return the next bytes, at most ``size``."""
        piece = self.stretch(self._at, size)
        self._at += len(piece)
        return piece

    def stretch(self, offset: int, size: int) -> bytes:
        """Return the bytes from ``offset`` on, at most ``size``."""
        buffer = bytearray(max(0, min(size, self._reader.size - offset)))
        got = self._reader.read_into(offset, memoryview(buffer))
        return bytes(buffer[:got])


# ---- files that are read past the system's cache


def reader_right(reader: Reader, name: str) -> bool:
    """Return whether an open file holds what ``name`` (of a pack or document) demands; close it."""
    try:
        reader.fresh()
        require_named(reader, name)
    except ArchiverError:
        return False
    finally:
        reader.close()
    return True


def staged_right(staged: Staged, name: str) -> bool:
    """Return whether what was staged, read back, is what ``name`` demands."""
    return reader_right(staged.reader(), name)


def stored_right(store: OpensFiles, where: str, name: str) -> bool:
    """Return whether the stored file ``where`` holds what ``name`` demands."""
    try:
        reader = store.open(where)
    except (ArchiverError, FileNotFoundError):
        return False
    return reader_right(reader, name)


# ---- what looks damaged is reread before it is called so

Value = TypeVar("Value")


class ReadResult(NamedTuple):
    """What reading a file gave, with a second reading where the first failed.

    ``problem`` is empty if the last one succeeded.
    """

    problem: str
    unstable: str
    """Why the two readings differ; empty if they agree, or if the first was good."""
    denied: bool = False
    """The system does not let this user read it: nothing is known about its bytes."""
    invalid: bool = False
    """The bytes are what they should be, and say what the format forbids: no copy is better."""


def read_or_reread(
    store: Store, name: str, read: Callable[[], Value]
) -> tuple[Value | None, ReadResult]:
    """Return the value of ``read``, which reads the file ``name``; a failure is tried once more."""
    first = ""
    for attempt in (1, 2):
        try:
            value = read()
        except UnknownFormatError:
            raise  # not damage: a newer version can read it
        except DeniedError as error:
            return None, ReadResult(error.message, "", denied=True)
        except InvalidDocumentError as error:
            return None, ReadResult(error.message, "", invalid=True)
        except (ArchiverError, FileNotFoundError) as error:
            problem = error.message if isinstance(error, ArchiverError) else f"{name} is missing."
        else:
            return value, ReadResult("", first and f"{name} came out whole only when read again.")
        if attempt == 1:
            first = problem
            drop_cached(store, name)
    differs = f"{name} was damaged in another way when read again." if problem != first else ""
    return None, ReadResult(problem, differs)


def drop_cached(store: Store, name: str) -> None:
    """Let the next reading of a file come from the medium."""
    try:
        reader = store.open(name)
    except (ArchiverError, FileNotFoundError):
        return
    reader.fresh()
    reader.close()
