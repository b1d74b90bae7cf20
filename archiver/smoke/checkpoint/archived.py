"""A checkpoint straight from the archive: nothing is restored, every byte that is used was checked."""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property, partial
from itertools import accumulate
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
from blake3 import blake3

from archiver.archive.advice import command
from archiver.archive.decode import FileDecoder
from archiver.archive.manifests import entry_fault, tensors_of
from archiver.archive.quarantine import manifest_for, packs_for
from archiver.codec.segment import SEGMENT_MAX
from archiver.errors import DamageError
from archiver.names import check_paths
from archiver.smoke.checkpoint.files import by_name, run_all
from archiver.tensors.header import LENGTH_BYTES, header_size, parse_header
from archiver.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from archiver.archive.archive import Archive
    from archiver.archive.packs.index import ObjectIndex
    from archiver.archive.records import FileEntry
    from archiver.archive.seals import Snapshot
    from archiver.buffers import Bytes
    from archiver.smoke.checkpoint.files import StoredTensor
    from archiver.tensors.header import Header


_SLOTS: Final = 2
"""Of 16 MiB each: 32 MiB in all."""
_Key = tuple[str, int]
"""A segment's digest and size."""


class _Slot:
    """A buffer that holds one decoded segment, or is about to."""

    def __init__(self) -> None:
        self.buffer: Bytes = np.empty(SEGMENT_MAX, np.uint8)
        self.filling = threading.Lock()
        self.filled = False
        self.users = 0


class SegmentSlots:
    """Decodes segments of which a part is needed; threads may share it.

    Rows of a tensor are asked for one after another, and many lie in one segment. Buffers are kept
    and used again; a thread waits while all of them are in use.
    """

    def __init__(self, packs: ObjectIndex) -> None:
        self._packs = packs
        self._changed = threading.Condition()
        self._free = [_Slot() for _ in range(_SLOTS)]
        self._held: OrderedDict[_Key, _Slot] = OrderedDict()
        """The one that was used last comes last."""

    def read(self, digest: str, size: int, begin: int, out: Bytes) -> None:
        """Fill ``out`` with a segment's bytes from ``begin`` on; errors as for ``ObjectIndex.read``."""
        with self._slot((digest, size)) as slot:
            with slot.filling:
                if not slot.filled:
                    self._packs.read(digest, size, slot.buffer[:size])
                    slot.filled = True
            out[:] = slot.buffer[begin : begin + len(out)]

    @contextmanager
    def _slot(self, key: _Key) -> Iterator[_Slot]:
        """The slot of a segment; nobody takes it away meanwhile."""
        slot = self._take(key)
        try:
            yield slot
        finally:
            with self._changed:
                slot.users -= 1
                self._changed.notify_all()

    def _take(self, key: _Key) -> _Slot:
        with self._changed:
            slot = self._held.get(key) or self._vacant()
            while slot is None:
                self._changed.wait()
                slot = self._held.get(key) or self._vacant()
            self._held[key] = slot
            self._held.move_to_end(key)
            slot.users += 1
            return slot

    def _vacant(self) -> _Slot | None:
        """Return a slot that nobody uses, the one whose last use is longest ago; None if there is none."""
        if self._free:
            return self._free.pop()
        oldest = next((key for key, slot in self._held.items() if not slot.users), None)
        if oldest is None:
            return None
        slot = self._held.pop(oldest)
        slot.filled = False
        return slot


# ---- the snapshot


class _Part(NamedTuple):
    """What is needed of a segment: bytes ``begin`` to ``end`` of it, which go to ``at``."""

    size: int
    digest: str
    begin: int
    end: int
    at: int


class ArchivedCheckpoint:
    """The files of a snapshot; threads may share it.

    Segments are decoded straight into the caller's buffers, by ``workers`` threads where there are
    several. Of itself it keeps 32 MiB of decoded segments, and what each thread needs to decode.

    Raises:
        DamageError: The manifest cannot be read, or contradicts itself.
        HostileNameError: The manifest names a path that must not be written.
    """

    def __init__(self, archive: Archive, snapshot: Snapshot, *, workers: int) -> None:
        self.title = snapshot.title
        place, title = archive.store.address, snapshot.title
        self._hint = (
            f"Run {command('repair', place)}, then {command('audit', place, '--snapshot', title)}."
        )
        self._entries = self._listed(manifest_for(archive, snapshot).files)
        self._starts: dict[str, list[int]] = {}
        self._headers: dict[str, Header] = {}
        self._packs = packs_for(archive, snapshot)
        self._cache = SegmentSlots(self._packs)
        self._workers = workers
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="decode")

    def _listed(self, entries: tuple[FileEntry, ...]) -> dict[str, FileEntry]:
        check_paths(entry.path for entry in entries)
        for entry in entries:
            fault = entry_fault(entry)
            if fault:
                message = f"The manifest's entry of {printable(entry.path)} {fault}."
                raise DamageError(message, hint=self._hint)
        return {entry.path: entry for entry in sorted(entries, key=lambda entry: entry.path)}

    @cached_property
    def files(self) -> Mapping[str, int]:
        """Every file's path and size in bytes."""
        return {path: entry.size for path, entry in self._entries.items()}

    @cached_property
    def tensors(self) -> Mapping[str, StoredTensor]:
        """Every tensor that the manifest lists; the first of several of one name."""
        return by_name((path, tensors_of(entry)) for path, entry in self._entries.items())

    def read(self, path: str, limit: int) -> bytes:
        """Return a whole file, its size and digests checked; errors as in ``Checkpoint``."""
        entry = self._entry(path)
        if entry.size > limit:
            raise ValueError(f"{path} has {entry.size:,} bytes, more than {limit:,}.")
        data = bytearray()
        with self._naming_damage(path), FileDecoder(self._packs, workers=self._workers) as decoder:
            decoder.copy(entry, data.extend)
        return bytes(data)

    def beginning(self, path: str, size: int) -> bytes:
        """Return the first bytes of a file; errors as in ``Checkpoint``."""
        entry = self._entry(path)
        with self._naming_damage(path):
            return bytes(self._bytes(entry, min(size, entry.size)))

    def header(self, path: str) -> Header:
        """Return the header of a safetensors file; errors as in ``Checkpoint``.

        It is read from the file, once: the manifest does not keep why one was refused.
        """
        header = self._headers.get(path)
        if header is None:
            header = self._headers[path] = self._read_header(path)
        return header

    def _read_header(self, path: str) -> Header:
        entry = self._entry(path)
        with self._naming_damage(path):
            first = self._bytes(entry, min(LENGTH_BYTES, entry.size))
            size = header_size(first, entry.size)
            header = parse_header(self._bytes(entry, size), entry.size)
            if tensors_of(entry) and tensors_of(entry) != header.tensors:
                raise DamageError("The manifest lists other tensors than its header.")
        return header

    def read_tensor(self, tensor: StoredTensor, out: Bytes) -> None:
        """Read a tensor, or a row of one, into ``out``; errors as in ``Checkpoint``."""
        entry = self._entry(tensor.file)
        with self._naming_damage(tensor.file, tensor.name):
            self._fill(entry, tensor.begin, tensor.end, out)

    def zeros(self, tensors: Iterable[StoredTensor]) -> list[StoredTensor]:
        """Return those whose segments have the digests of zeros; nothing is read."""
        segments = {
            tensor: [(part.size, part.digest) for part in self._parts_of(tensor)]
            for tensor in tensors
        }
        digests = _digests_of_zeros({size for parts in segments.values() for size, _ in parts})
        return [
            tensor
            for tensor, parts in segments.items()
            if all(digests[size] == digest for size, digest in parts)
        ]

    def _parts_of(self, tensor: StoredTensor) -> Iterator[_Part]:
        return self._parts(self._entry(tensor.file), tensor.begin, tensor.end)

    def settle(self, workers: int) -> None:
        """Let go of buffers and the threads that have them; from now on ``workers`` decode."""
        self.close()
        self._cache = SegmentSlots(self._packs)
        self._workers = workers
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="decode")

    def close(self) -> None:
        """Let go of threads; what they are at is finished first."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _entry(self, path: str) -> FileEntry:
        entry = self._entries.get(path)
        if entry is None:
            raise FileNotFoundError(path)
        return entry

    def _bytes(self, entry: FileEntry, size: int) -> memoryview:
        """Return the first ``size`` bytes of a file."""
        out = np.empty(size, np.uint8)
        self._fill(entry, 0, size, out)
        return out.data

    def _fill(self, entry: FileEntry, begin: int, end: int, out: Bytes) -> None:
        """Decode the bytes ``begin`` to ``end`` of a file into ``out``."""
        if not 0 <= begin <= end <= entry.size or end - begin != len(out):
            raise ValueError(f"{entry.path} has no bytes {begin} to {end} for {len(out)}.")
        run_all(
            self._pool,
            [partial(self._decode, part, out) for part in self._parts(entry, begin, end)],
        )

    def _parts(self, entry: FileEntry, begin: int, end: int) -> Iterator[_Part]:
        starts = self._starts.get(entry.path)
        if starts is None:
            starts = list(accumulate((size for size, _ in entry.segments), initial=0))
            self._starts[entry.path] = starts
        first, last = bisect_right(starts, begin) - 1, bisect_left(starts, end)
        for number in range(first, last) if begin < end else ():
            start = starts[number]
            size, digest = entry.segments[number]
            low, high = max(begin, start), min(end, start + size)
            yield _Part(size, digest, low - start, high - start, low - begin)

    def _decode(self, part: _Part, out: Bytes) -> None:
        count = part.end - part.begin
        place = out[part.at : part.at + count]
        if count == part.size:
            self._packs.read(part.digest, part.size, place)
        else:
            self._cache.read(part.digest, part.size, part.begin, place)

    @contextmanager
    def _naming_damage(self, path: str, tensor: str = "") -> Iterator[None]:
        """Damage names the file and the tensor, and says what to do next."""
        try:
            yield
        except DamageError as error:
            what = f"Tensor {printable(tensor)} in {printable(path)}" if tensor else printable(path)
            message = f"{what} cannot be read from the archive: {error.message}"
            raise DamageError(message, hint=self._hint) from error


def _digests_of_zeros(sizes: set[int]) -> dict[int, str]:
    """Return the BLAKE3 of so many zero bytes, for each size; all are hashed in one go."""
    hasher, done, digests = blake3(), 0, {}
    for size in sorted(sizes):
        hasher.update(bytes(size - done))
        digests[size], done = hasher.hexdigest(), size
    return digests
