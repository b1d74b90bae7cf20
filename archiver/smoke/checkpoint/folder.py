"""A checkpoint in a plain folder, or in a snapshot of a hub client's cache.

Files are read, never mapped: one that shrinks meanwhile would end the process.
"""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property, partial
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from archiver.errors import DamageError, HostileNameError, UnfinishedModelError, UsageError
from archiver.names import as_repo_path
from archiver.smoke.checkpoint.files import by_name, run_all
from archiver.tensors.header import LENGTH_BYTES, HeaderError, header_size, parse_header
from archiver.text import printable
from archiver.upstream.directory import refusal, unfinished_files
from archiver.upstream.hub_cache import cached_repository, scan_snapshot

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Mapping
    from pathlib import Path

    from archiver.buffers import Bytes
    from archiver.smoke.checkpoint.files import StoredTensor
    from archiver.tensors.header import Header, Tensor


class ListedFile(NamedTuple):
    """Where a file really lies, its size in bytes, and by what else it is known again."""

    where: str
    size: int
    inode: int
    mtime_ns: int

    def is_still(self, status: os.stat_result) -> bool:
        """Return whether an open file is the one that was listed, and was not written to since."""
        known = (status.st_size, status.st_ino, status.st_mtime_ns)
        return stat.S_ISREG(status.st_mode) and known == (self.size, self.inode, self.mtime_ns)


def find_files(folder: Path) -> dict[str, ListedFile]:
    """Return the files of a plain folder, of a hub cache's repository or of a snapshot of one, by path.

    Raises:
        UsageError: There is no such folder, it is empty, or it holds what is no file, a name that
            cannot be shown, or a link that leads out of it.
        UpstreamGoneError: It is a hub cache's repository that holds no revision.
    """
    shown = printable(str(folder))
    if not os.path.isdir(folder):  # noqa: PTH112 - never raises, whatever the name
        raise UsageError(
            f"{shown} is not a folder.",
            hint="Name a folder with a model's files, or a repository that the archive holds.",
        )
    whole = scan_snapshot(_snapshot_of(folder))
    scan = whole.content()
    half = unfinished_files(whole.files, lambda path: os.stat(whole.files[path]).st_size)  # noqa: PTH116 - as above
    files, problems = {}, list(scan.problems())
    for path in sorted(scan.files):
        try:
            as_repo_path(path)
            files[path] = _file_at(scan.files[path])
        except HostileNameError as error:
            problems.append(error.message.rstrip("."))
        except OSError as error:
            problems.append(f"{printable(path)} ({error.strerror})")
    unfinished = [
        f"{printable(path)} (its download did not end: {printable(half[path])} lies beside it)"
        for path in half
        if path in files
    ]
    if problems:
        raise refusal(str(folder), [*problems, *unfinished])
    if unfinished:
        raise UnfinishedModelError(
            f"{shown} holds a model of which a part is missing: {'; '.join(unfinished[:8])}.",
            hint="Let its download end, or remove what it left.",
        )
    if not files:
        raise UsageError(f"{shown} is empty.", hint="Name the folder that holds the model's files.")
    return files


def _file_at(where: str) -> ListedFile:
    status = os.stat(where)  # noqa: PTH116 - names may not be text
    return ListedFile(where, status.st_size, status.st_ino, status.st_mtime_ns)


def _snapshot_of(folder: Path) -> Path:
    """Return the folder itself, or the snapshot that it stands for as a hub cache's repository."""
    cached = cached_repository(folder.resolve())
    return cached.snapshot(cached.commit(None)) if cached and not cached.only else folder


# ---- the checkpoint


_PIECE: Final = 16 << 20
_LOOK: Final = 4096
_FLAGS: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
"""Not blocking: what lies under the name by now may be a pipe."""
_HINT: Final = "Test the folder again when nothing writes to it, or take another copy of this file."


class FolderCheckpoint:
    """The files of a folder; threads may share it. ``workers`` threads read large tensors.

    With ``only``, the others of the folder are as if they were not there.

    Raises:
        UsageError: There is no such folder, it is empty, or it holds what may not be read.
    """

    def __init__(self, folder: Path, *, workers: int, only: Container[str] | None = None) -> None:
        self.title = str(folder)
        files = find_files(folder)
        self._files = {path: file for path, file in files.items() if only is None or path in only}
        self._headers: dict[str, Header] = {}
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="read")

    @cached_property
    def files(self) -> Mapping[str, int]:
        """Every file's path and size in bytes."""
        return {path: file.size for path, file in self._files.items()}

    @cached_property
    def tensors(self) -> Mapping[str, StoredTensor]:
        """Every tensor of every file whose header is acceptable; the first of several of one name."""
        listed = (path for path in self._files if path.endswith(".safetensors"))
        return by_name((path, self._tensors(path)) for path in listed)

    def _tensors(self, path: str) -> tuple[Tensor, ...]:
        try:
            return self.header(path).tensors
        except HeaderError:
            return ()

    def read(self, path: str, limit: int) -> bytes:
        """Return a whole file; errors as in ``Checkpoint``."""
        with self._open(path) as (handle, size):
            if size > limit:
                raise ValueError(f"{path} has {size:,} bytes, more than {limit:,}.")
            return bytes(_first(handle, size, path))

    def beginning(self, path: str, size: int) -> bytes:
        """Return the first bytes of a file; errors as in ``Checkpoint``."""
        with self._open(path) as (handle, whole):
            return bytes(_first(handle, min(size, whole), path))

    def header(self, path: str) -> Header:
        """Return the header of a safetensors file, parsed once; errors as in ``Checkpoint``."""
        with self._open(path) as (handle, size):
            if path not in self._headers:
                first = _first(handle, min(LENGTH_BYTES, size), path)
                raw = _first(handle, header_size(first, size), path)
                self._headers[path] = parse_header(raw, size)
            return self._headers[path]

    def read_tensor(self, tensor: StoredTensor, out: Bytes) -> None:
        """Read a tensor, or a row of one, into ``out``; errors as in ``Checkpoint``."""
        with self._open(tensor.file) as (handle, size):
            if not 0 <= tensor.begin <= tensor.end <= size or tensor.size != len(out):
                raise ValueError(f"{tensor.file} has no {len(out)} bytes at {tensor.begin}.")
            what = f"Tensor {printable(tensor.name)} in {tensor.file}"
            tasks = [
                partial(_fill, handle, tensor.begin + at, out.data[at : at + _PIECE], what)
                for at in range(0, len(out), _PIECE)
            ]
            run_all(self._pool, tasks)

    def zeros(self, tensors: Iterable[StoredTensor]) -> list[StoredTensor]:
        """Return those that hold nothing but zeros: a few bytes are read of any other."""
        return [tensor for tensor in tensors if self._is_zero(tensor)]

    def _is_zero(self, tensor: StoredTensor) -> bool:
        with self._open(tensor.file) as (handle, size):
            if not 0 <= tensor.begin <= tensor.end <= size:
                raise ValueError(f"{tensor.file} has no bytes {tensor.begin} to {tensor.end}.")
            middle = (tensor.begin + tensor.end) // 2
            looks = [(tensor.begin, _LOOK), (middle, _LOOK)]
            looks += [(at, _PIECE) for at in range(tensor.begin, tensor.end, _PIECE)]
            return not any(
                np.frombuffer(
                    _first(handle, min(count, tensor.end - at), tensor.file, at), np.uint8
                ).any()
                for at, count in looks
            )

    def settle(self, workers: int) -> None:
        """Nothing: it keeps no buffers."""

    def close(self) -> None:
        """Let go of threads; what they are at is finished first."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    @contextmanager
    def _open(self, path: str) -> Iterator[tuple[int, int]]:
        """An open file and its size; it must be what it was when the folder was looked at."""
        file = self._files.get(path)
        if file is None:
            raise FileNotFoundError(path)
        try:
            handle = os.open(file.where, _FLAGS)
        except OSError as error:
            raise _unreadable(path, error) from error
        try:
            _require_same(handle, file, path)
            yield handle, file.size
            _require_same(handle, file, path)
        finally:
            os.close(handle)


def _require_same(handle: int, listed: ListedFile, path: str) -> None:
    """What was read before and after a change belongs to no one model."""
    if not listed.is_still(os.fstat(handle)):
        raise DamageError(f"{path} was replaced or changed after the test began.", hint=_HINT)


def _unreadable(what: str, error: OSError) -> DamageError:
    return DamageError(f"{what} cannot be read: {error.strerror or error}.", hint=_HINT)


def _first(handle: int, size: int, path: str, offset: int = 0) -> memoryview:
    """Return the first ``size`` bytes of a file, from ``offset`` on."""
    out = np.empty(size, np.uint8).data
    _fill(handle, offset, out, path)
    return out


def _fill(handle: int, offset: int, out: memoryview, what: str) -> None:
    done = 0
    while done < len(out):
        try:
            count = os.preadv(handle, [out[done:]], offset + done)
        except OSError as error:
            raise _unreadable(what, error) from error
        if not count:
            raise DamageError(f"{what} became shorter while it was read.", hint=_HINT)
        done += count
