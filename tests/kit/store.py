"""Stores to test with: they hand everything on to another one, or spoil it."""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING

from archiver.errors import ArchiverError, DamageError, NoSpaceError
from archiver.storage.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from archiver.storage.store import Reader, Staged


def host() -> str:
    """This machine's name, as names of staged files have it."""
    return "".join(c for c in socket.gethostname().lower() if c.isalnum()) or "host"


def publish(store: Store, name: str = "packs/ab/abc.pack", data: bytes = b"data") -> None:
    staged = store.stage("pack")
    try:
        staged.write(data)
        staged.publish(name)
    finally:
        staged.abort()


class Remote:
    """A store that is no folder of this machine: it answers what any store does, and nothing else."""

    address = "remote://weights"
    folder = None

    def __init__(self, inner: Store) -> None:
        self._inner = inner

    def __getattr__(self, name: str):
        if name not in vars(Store):
            raise AttributeError(name)
        return getattr(self._inner, name)


class _Spoilt:
    """A reader or a staged file of which some methods are others."""

    def __init__(self, inner: Reader | Staged, **methods: Callable) -> None:
        self._inner = inner
        self.__dict__.update(methods)

    def __getattr__(self, name: str):
        return getattr(self._inner, name)


class Faulty:
    """Spoils what is read from or written to files with some text in their names."""

    def __init__(self, inner: Store) -> None:
        self._inner = inner
        self._reading: list[tuple[str, Callable[[Reader], Reader]]] = []
        self._writing: list[tuple[str, Callable[[Staged], Staged]]] = []
        self._seen: dict[str, list[str]] | None = None
        self._vanishing: set[str] = set()

    def __getattr__(self, name: str):
        return getattr(self._inner, name)

    # ---- faults

    def unreadable(self, part: str, times: int = -1) -> None:
        """The medium has lost what lies there: reading fails, ``times`` times or always."""
        left = times

        def spoil(reader: Reader) -> Reader:
            def read_into(offset: int, buffer: memoryview) -> int:
                nonlocal left
                if not left:
                    return reader.read_into(offset, buffer)
                left -= 1
                raise DamageError("The file cannot be read: Input/output error.")

            return _Spoilt(reader, read_into=read_into)

        self._reading.append((part, spoil))

    def bad_sector(self, part: str, at: int) -> None:
        """The medium has lost byte ``at``: what reads it fails."""

        def spoil(reader: Reader) -> Reader:
            def read_into(offset: int, buffer: memoryview) -> int:
                if offset <= at < offset + len(buffer):
                    raise DamageError("The file cannot be read: Input/output error.")
                return reader.read_into(offset, buffer)

            return _Spoilt(reader, read_into=read_into)

        self._reading.append((part, spoil))

    def unstable(self, part: str) -> None:
        """Each large reading has a bit flipped, each time another one."""
        count = 0

        def spoil(reader: Reader) -> Reader:
            def read_into(offset: int, buffer: memoryview) -> int:
                nonlocal count
                got = reader.read_into(offset, buffer)
                if len(buffer) > 10_000:
                    count += 1
                    buffer[1000 + count] ^= 1
                return got

            return _Spoilt(reader, read_into=read_into)

        self._reading.append((part, spoil))

    def flipped_once(self, part: str, at: int) -> None:
        """The first reading of byte ``at`` has a flipped bit, the next has not."""
        self.flipped(part, at, 1)

    def flipped(self, part: str, at: int, times: int, bit: int = 1) -> None:
        """So many readings of byte ``at`` have a flipped bit, the next have not."""
        left = times

        def spoil(reader: Reader) -> Reader:
            def read_into(offset: int, buffer: memoryview) -> int:
                nonlocal left
                got = reader.read_into(offset, buffer)
                if left and offset <= at < offset + got:
                    buffer[at - offset] ^= bit
                    left -= 1
                return got

            return _Spoilt(reader, read_into=read_into)

        self._reading.append((part, spoil))

    def short(self, part: str, end: int) -> None:
        """Reading ends at byte ``end``, whatever the size was said to be."""

        def spoil(reader: Reader) -> Reader:
            def read_into(offset: int, buffer: memoryview) -> int:
                return reader.read_into(offset, buffer[: max(0, end - offset)])

            return _Spoilt(reader, read_into=read_into)

        self._reading.append((part, spoil))

    def full(self, purpose: str, after: int) -> None:
        """No room is left once ``after`` bytes of a file were written."""

        def spoil(staged: Staged) -> Staged:
            left = after

            def write(*pieces: bytes | bytearray | memoryview) -> None:
                nonlocal left
                data = b"".join(pieces)
                staged.write(data[: max(0, left)])
                left -= len(data)
                if left < 0:
                    raise NoSpaceError("No space is left.")

            return _Spoilt(staged, write=write)

        self._writing.append((purpose, spoil))

    def unsyncable(self, purpose: str) -> None:
        """Making a file durable fails, and it is gone."""

        def spoil(staged: Staged) -> Staged:
            def publish(_name: str) -> None:
                staged.abort()
                raise ArchiverError("The file: Input/output error while it was being published.")

            return _Spoilt(staged, publish=publish)

        self._writing.append((purpose, spoil))

    def stale(self) -> None:
        """From now on lists tell what there is now."""
        names = list(self._inner.list(""))
        self._seen = {"": names}

    def vanishing(self, part: str) -> None:
        """Files are listed, and then gone."""
        self._vanishing.add(part)

    # ---- the store

    def open(self, name: str) -> Reader:
        if any(part in name for part in self._vanishing):
            raise FileNotFoundError(errno.ENOENT, "no such stored file", name)
        reader = self._inner.open(name)
        for part, spoil in self._reading:
            if part in name:
                reader = spoil(reader)
        return reader

    def get(self, name: str, limit: int) -> bytes:
        reader = self.open(name)
        try:
            if reader.size > limit:
                raise DamageError(f"{name} is {reader.size} bytes long.")
            buffer = bytearray(reader.size)
            return bytes(buffer[: reader.read_into(0, memoryview(buffer))])
        finally:
            reader.close()

    def stat(self, name: str) -> int | None:
        return None if any(part in name for part in self._vanishing) else self._inner.stat(name)

    def list(self, prefix: str) -> Iterator[str]:
        if self._seen is None:
            return self._inner.list(prefix)
        begin = f"{prefix}/" if prefix else ""
        return iter([name for name in self._seen[""] if name.startswith(begin)])

    def stage(self, purpose: str) -> Staged:
        staged = self._inner.stage(purpose)
        for part, spoil in self._writing:
            if part in purpose:
                staged = spoil(staged)
        return staged

    def put_new(self, name: str, data: bytes) -> bool:
        if self.stat(name) is not None:
            return self._inner.put_new(name, data)
        staged = self.stage("put")
        try:
            staged.write(data)
            staged.publish(name)
        finally:
            staged.abort()
        return True
