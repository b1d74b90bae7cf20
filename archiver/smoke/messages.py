"""What the two processes of a smoke test say to each other: MessagePack, each message behind its length.

The parent sends one `Request`. The child answers with events until `Finished`. It has read hostile files,
so what comes from it is bounded and typed, and nothing but data.
"""

from __future__ import annotations

import os
from typing import Any, Final, Literal

import msgspec

from archiver import errors
from archiver.archive.records import Seal
from archiver.digest import Blake3Hex
from archiver.errors import ArchiverError, DamageError
from archiver.smoke.golden.record import Golden
from archiver.smoke.model import Dtype
from archiver.smoke.report import Level, LevelReport, Proof

MESSAGE_MAX: Final = 32 << 20
"""Bytes; a golden record has at most 700,000, a level some kilobytes, a list of a folder's files more."""
_LENGTH: Final = 4
_ERRORS: Final[dict[str, type[ArchiverError]]] = {
    name: kind
    for name, kind in vars(errors).items()
    if isinstance(kind, type)
    and issubclass(kind, ArchiverError)
    and kind.__init__ in {ArchiverError.__init__, DamageError.__init__}
}
"""Those that are made of a message and a hint; the others are told as the class above them."""


class Settings(msgspec.Struct, frozen=True):
    """What the test was asked for.

    Attributes:
        memory: Resident memory must stay below so many bytes; None: what the machine has.
        beside: Bytes of it that the parent takes.
        dtype: In which numbers to compute, except for level golden, which always takes float32.
        device: ``cpu``, ``cuda`` or ``mps``; None: the best one that is there.
        golden: What an earlier run recorded, to compare with.
        record: Whether to compute a new golden record instead of comparing.
        workers: Threads that decode.
        accepted: Codes of findings of ``structure`` and ``tokenizer`` that the owner accepts.
    """

    memory: int | None = None
    beside: int = 0
    dtype: Dtype = "bfloat16"
    device: str | None = None
    golden: Golden | None = None
    record: bool = False
    workers: int = 2
    accepted: frozenset[str] = frozenset()


class SnapshotSource(msgspec.Struct, frozen=True, tag="snapshot"):
    """A snapshot that is read straight from its archive; ``weights``: without any, it is no model."""

    root: bytes
    id: Blake3Hex
    seal: Seal
    weights: bool = False
    pack_folders: tuple[bytes, ...] = ()


class FolderSource(msgspec.Struct, frozen=True, tag="folder"):
    """A folder; with ``only``, its other files are as if they were not there."""

    root: bytes
    only: tuple[str, ...] | None = None
    weights: bool = False


CheckpointSource = SnapshotSource | FolderSource


class Request(msgspec.Struct, frozen=True):
    """What a child is to do.

    Attributes:
        source: Where the checkpoint lies.
        levels: Which levels to run, in order.
        ended: How the levels before them ended, in an earlier child.
        scratch: A private folder, which the parent made and removes.
        settings: What was asked for.
    """

    source: CheckpointSource
    levels: tuple[Level, ...]
    ended: tuple[LevelReport, ...]
    scratch: bytes
    settings: Settings


Part = Literal["chat-template"]
"""What is bounded by itself within a level, because it is code."""


class Began(msgspec.Struct, frozen=True, tag="began"):
    """A level begins."""

    level: Level


class Guarded(msgspec.Struct, frozen=True, tag="guarded"):
    """A part of a level begins (None: is over), which may be ended; ``proof`` is what is known without."""

    part: Part | None
    proof: Proof = Proof(())


class Advanced(msgspec.Struct, frozen=True, tag="advanced"):
    """So many bytes of weights were read."""

    size: int


class Fits(msgspec.Struct, frozen=True, tag="fits"):
    """How the model fits into this machine."""

    lines: tuple[str, ...]


class Ended(msgspec.Struct, frozen=True, tag="ended"):
    """A level ended."""

    report: LevelReport


class Broke(msgspec.Struct, frozen=True, tag="broke"):
    """A level ended in an error that nobody foresaw; the child ends with it."""

    message: str


class Raised(msgspec.Struct, frozen=True, tag="raised"):
    """The test ends with an error of archiver's own: the name of its class, and what it says.

    Of damage also which object of which pack, and which stored file.
    """

    name: str
    message: str
    hint: str
    object: str = ""
    pack: str = ""
    path: str = ""

    @classmethod
    def of(cls, error: ArchiverError) -> Raised:
        """Return what is sent of an error: the nearest class that is made of a message and a hint."""
        name = next(kind.__name__ for kind in type(error).__mro__ if kind.__name__ in _ERRORS)
        if isinstance(error, DamageError):
            return cls(name, error.message, error.hint, error.object, error.pack, error.path)
        return cls(name, error.message, error.hint)

    @property
    def error(self) -> ArchiverError:
        """The error, to be raised."""
        kind = _ERRORS.get(self.name, ArchiverError)
        if issubclass(kind, DamageError):
            facts = {"object": self.object, "pack": self.pack, "path": self.path}
            return kind(self.message, hint=self.hint, **facts)
        return kind(self.message, hint=self.hint)


class Finished(msgspec.Struct, frozen=True, tag="finished"):
    """All levels ended; ``recorded`` is a new golden record."""

    environment: dict[str, Any]
    recorded: Golden | None = None


Event = Began | Guarded | Advanced | Fits | Ended | Broke | Raised | Finished

_REQUEST: Final = msgspec.msgpack.Decoder(Request)
_EVENT: Final = msgspec.msgpack.Decoder(Event)


def framed(message: Request | Event) -> bytes:
    """Return a message as bytes, its length before it."""
    body = msgspec.msgpack.encode(message)
    return len(body).to_bytes(_LENGTH, "big") + body


def read_request(handle: int) -> Request:
    """Return the request that comes through a pipe.

    Raises:
        EOFError: The parent is gone.
    """
    size = int.from_bytes(_read_all(handle, _LENGTH), "big")
    return _REQUEST.decode(_read_all(handle, size))


def _read_all(handle: int, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        piece = os.read(handle, size - len(data))
        if not piece:
            raise EOFError
        data += piece
    return bytes(data)


class EventReader:
    """Takes bytes as they come, gives whole events."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def feed(self, data: bytes) -> list[Event]:
        """Return the events that are whole now.

        Raises:
            msgspec.MsgspecError: They are no events, or longer than one may be.
        """
        self._bytes += data
        events: list[Event] = []
        while len(self._bytes) >= _LENGTH:
            size = int.from_bytes(self._bytes[:_LENGTH], "big")
            if size > MESSAGE_MAX:
                raise msgspec.ValidationError("an event is longer than one may be")
            if len(self._bytes) < _LENGTH + size:
                break
            events.append(_EVENT.decode(bytes(self._bytes[_LENGTH : _LENGTH + size])))
            del self._bytes[: _LENGTH + size]
        return events
