"""A checkpoint: the files of a model, wherever they lie, and its tensors by name.

Everything in it is hostile until checked: paths, headers, JSON. Reads are bounded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from archiver.buffers import Bytes
    from archiver.tensors.header import Header, Tensor


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
        """One row of dimension 0 as a tensor of its own. Its rows must fill whole bytes.

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
        """A whole file.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: It is larger than ``limit`` bytes.
            DamageError: It cannot be read as it should be.
        """

    def beginning(self, path: str, size: int) -> bytes:
        """The first ``size`` bytes of a file, or all if it has fewer; errors as for ``read``."""

    def header(self, path: str) -> Header:
        """The header of a safetensors file.

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
        """Those of the tensors that hold nothing but zeros; found out with as little reading as can be.

        Raises:
            DamageError: One cannot be read as it should be.
        """

    def settle(self, workers: int) -> None:
        """Let go of all buffers while nothing is read; at most ``workers`` threads have new ones."""

    def close(self) -> None:
        """Let go of files and threads."""


def by_name(files: Iterable[tuple[str, Iterable[Tensor]]]) -> dict[str, StoredTensor]:
    """The tensors of files, given in the order of their paths; the first of several of one name."""
    found: dict[str, StoredTensor] = {}
    for path, tensors in files:
        for one in tensors:
            place = StoredTensor(one.name, path, one.dtype, one.shape, one.begin, one.end)
            found.setdefault(one.name, place)
    return found
