"""A checkpoint: the files of a model, wherever they lie, and its tensors by name.

Everything in it is hostile until checked: paths, headers, JSON. Reads are bounded.
"""

from __future__ import annotations

from concurrent.futures import wait
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from archiver.tensors.header import HeaderError
from archiver.tensors.weight_files import (
    INDEX_MAX,
    SAFETENSORS,
    Index,
    is_index,
    owners_of,
    parse_index,
)
from archiver.text import human_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from concurrent.futures import Executor

    from archiver.buffers import Bytes
    from archiver.tensors.header import Header, Tensor

    Indexes = Mapping[str, "Index | str"]
    """By path: each index, or what the file is instead, to follow its name in a sentence."""

    Task = Callable[[], None]


class StoredTensor(NamedTuple):
    """Where a tensor lies. ``begin`` and ``end`` are offsets in its file, in bytes."""

    name: str
    file: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def size(self) -> int:
        """Bytes of its data."""
        return self.end - self.begin

    def row(self, number: int) -> StoredTensor:
        """Return one row of dimension 0 as a tensor of its own. Its rows must fill whole bytes.

        Raises:
            IndexError: There is no such row.
        """
        rows = self.shape[0]
        if not 0 <= number < rows:
            raise IndexError(number)
        step = self.size // rows
        begin = self.begin + number * step
        return StoredTensor(self.name, self.file, self.dtype, self.shape[1:], begin, begin + step)


class Checkpoint(Protocol):
    """Implemented by ``archived.py`` (a snapshot, straight from the archive) and ``folder.py``."""

    @property
    def title(self) -> str:
        """``Org/Name@revision``, or the folder, for messages."""

    @property
    def files(self) -> Mapping[str, int]:
        """Every file's path (``/`` between folders) and size in bytes."""

    def read(self, path: str, limit: int) -> bytes:
        """Return a whole file.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: It is larger than ``limit`` bytes.
            DamageError: It cannot be read as it should be.
        """

    def beginning(self, path: str, size: int) -> bytes:
        """Return the first ``size`` bytes of a file, or all if it has fewer; errors as for ``read``."""

    def header(self, path: str) -> Header:
        """Return the header of a safetensors file.

        Raises:
            HeaderError: The file's header is not an acceptable one.
            DamageError: It cannot be read as it should be.
        """

    @property
    def tensors(self) -> Mapping[str, StoredTensor]:
        """Every tensor of every file whose header is acceptable; the first of several of one name."""

    def read_tensor(self, tensor: StoredTensor, out: Bytes) -> None:
        """Read a tensor, or a row of one, into ``out`` (``tensor.size`` bytes). Threads may share it.

        Raises:
            DamageError: It cannot be read as it should be.
        """

    def zeros(self, tensors: Iterable[StoredTensor]) -> list[StoredTensor]:
        """Return those that hold nothing but zeros; as little is read for it as can be.

        Raises:
            DamageError: One cannot be read as it should be.
        """

    def settle(self, workers: int) -> None:
        """Let go of all buffers while nothing is read; at most ``workers`` threads have new ones."""

    def close(self) -> None:
        """Let go of files and threads."""


def by_name(files: Iterable[tuple[str, Iterable[Tensor]]]) -> dict[str, StoredTensor]:
    """Return the tensors of files, given in the order of their paths; the first of several of one name."""
    by_tensor: dict[str, StoredTensor] = {}
    for path, tensors in files:
        for tensor in tensors:
            place = StoredTensor(
                tensor.name, path, tensor.dtype, tensor.shape, tensor.begin, tensor.end
            )
            by_tensor.setdefault(tensor.name, place)
    return by_tensor


# ---- which files make the model, chosen as transformers chooses them


SUFFIX: Final = SAFETENSORS
SINGLE: Final = "model.safetensors"
"""Where it is there, transformers looks no further, whatever an index names."""
_MAIN: Final = "model.safetensors.index.json"
"""Where it is there, transformers looks at no other; the same weights may lie beside in another layout."""


def read_indexes(checkpoint: Checkpoint) -> Indexes:
    """Return every index of safetensors files, those of folders in the repository too.

    Raises:
        DamageError: One cannot be read as it should be.
    """
    return {path: _read(checkpoint, path) for path in sorted(checkpoint.files) if is_index(path)}


def _read(checkpoint: Checkpoint, path: str) -> Index | str:
    try:
        data = checkpoint.read(path, INDEX_MAX)
    except ValueError:
        return f"is larger than {human_bytes(INDEX_MAX)}; it was not read"
    try:
        return parse_index(data)
    except ValueError as error:
        return f"is no index: {error}"


def model_files(checkpoint: Checkpoint, indexes: Indexes | None = None) -> list[str]:
    """Return the safetensors files that make the model, by path.

    The single file; else those that an index beside config.json names; else all there are.

    Args:
        checkpoint: Where they are.
        indexes: What `read_indexes` gave, if it was asked before: a large one takes a while.

    Raises:
        DamageError: An index cannot be read as it should be.
    """
    if SINGLE in checkpoint.files:
        return [SINGLE]
    safetensors = sorted(path for path in checkpoint.files if path.endswith(SUFFIX))
    named = _named(read_indexes(checkpoint) if indexes is None else indexes)
    top = [path for path in safetensors if "/" not in path]
    return [path for path in safetensors if path in named] or top or safetensors


def _named(indexes: Indexes) -> set[str]:
    """Return what the index names that is loaded from; level ``structure`` tells what is wrong with it."""
    top = [path for path in indexes if "/" not in path]
    chosen = [_MAIN] if _MAIN in indexes else top
    read = ((path, indexes[path]) for path in chosen)
    return {
        shard
        for path, index in read
        if not isinstance(index, str)
        for shard in owners_of(path, index).values()
    }


def model_tensors(
    checkpoint: Checkpoint, indexes: Indexes | None = None
) -> dict[str, StoredTensor]:
    """Return their tensors, by name; those of a file whose header is not acceptable are left out.

    Arguments and errors as for `model_files`.
    """
    return by_name(_headers(checkpoint, model_files(checkpoint, indexes)))


def _headers(checkpoint: Checkpoint, files: list[str]) -> Iterator[tuple[str, tuple[Tensor, ...]]]:
    for path in files:
        try:
            yield path, checkpoint.header(path).tensors
        except HeaderError:
            continue


# ---- several reads at once


def run_all(pool: Executor, tasks: Sequence[Task]) -> None:
    """Run ``tasks`` in ``pool``; the first error of the first that failed.

    None of them runs any more when this returns: what they write to is the caller's again. A single
    one goes there too: each thread that decodes keeps buffers for it.
    """
    waiting = [pool.submit(task) for task in tasks]
    try:
        for future in waiting:
            future.result()
    finally:
        for future in waiting:
            future.cancel()
        wait(waiting)
