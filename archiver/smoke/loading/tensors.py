"""A checkpoint's tensors as torch's, each read when it is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from archiver.errors import SkippedError
from archiver.smoke.messages import Advanced
from archiver.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import torch

    from archiver.smoke.checkpoint.files import Checkpoint, StoredTensor
    from archiver.smoke.model import Reads


DTYPES: Final = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "U16": "uint16",
    "I16": "int16",
    "U32": "uint32",
    "I32": "int32",
    "U64": "uint64",
    "I64": "int64",
    "F16": "float16",
    "BF16": "bfloat16",
    "F32": "float32",
    "F64": "float64",
    "C64": "complex64",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "F8_E8M0": "float8_e8m0fnu",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
}
"""What safetensors calls a dtype, and torch; torch has no tensors of packed 4- and 6-bit floats."""


class TensorSource:
    """Reads tensors of a checkpoint and tells what it read."""

    def __init__(
        self, checkpoint: Checkpoint, reads: Reads, tell: Callable[[Advanced], None]
    ) -> None:
        self._checkpoint, self._reads, self._tell = checkpoint, reads, tell

    def tensors(self, stored: Mapping[str, StoredTensor]) -> dict[str, LazyTensor]:
        """Return these tensors, by name; SkippedError if torch lacks a dtype."""
        return {name: LazyTensor(self, tensor) for name, tensor in stored.items()}

    def read(self, stored: StoredTensor) -> torch.Tensor:
        """Return a tensor, or some rows of one, read straight into its memory; threads may call it."""
        import torch  # noqa: PLC0415 - of the extra

        made = torch.empty(stored.shape, dtype=torch_dtype(stored))
        if stored.size:
            out = made.reshape(-1).view(torch.uint8).numpy()
            self._checkpoint.read_tensor(stored, out)
        self._reads.note(stored.name, stored.size)
        self._tell(Advanced(stored.size))
        return made


class LazyTensor:
    """One tensor: what transformers' loader needs of a safetensors slice, and no more.

    ``tensor[...]`` reads all of it, ``tensor[7]`` one row of dimension 0.
    """

    def __init__(self, source: TensorSource, stored: StoredTensor) -> None:
        import torch  # noqa: PLC0415 - of the extra

        self._source = source
        self.stored = stored
        self.shape = torch.Size(stored.shape)
        self.dtype = torch_dtype(stored)

    def get_shape(self) -> list[int]:
        """Return what safetensors' slices do."""
        return list(self.shape)

    def get_dtype(self) -> str:
        """Return what safetensors' slices do: its own name of the dtype."""
        return self.stored.dtype

    def __getitem__(self, key: Any) -> torch.Tensor:
        if key is Ellipsis:
            return self._source.read(self.stored)
        return self._source.read(self.stored.row(int(key)))

    def rows(self, first: int, last: int) -> torch.Tensor:
        """Return the rows from ``first`` up to, not with, ``last`` of dimension 0."""
        return self._source.read(_rows(self.stored, first, last))


def _rows(stored: StoredTensor, first: int, last: int) -> StoredTensor:
    step = stored.size // stored.shape[0]
    return stored._replace(
        shape=(last - first, *stored.shape[1:]),
        begin=stored.begin + first * step,
        end=stored.begin + last * step,
    )


def torch_dtype(stored: StoredTensor) -> torch.dtype:
    """Return the dtype in torch of a stored tensor; SkippedError if torch has none such."""
    import torch  # noqa: PLC0415 - of the extra

    dtype: torch.dtype | None = getattr(torch, DTYPES.get(stored.dtype, ""), None)
    if dtype is None:
        message = (
            f"torch has no dtype for {stored.dtype}, as tensor {printable(stored.name)} is stored."
        )
        raise SkippedError(message)
    return dtype


def stored_bytes(tensors: Mapping[str, LazyTensor]) -> int:
    """Return bytes of all of them as they are stored."""
    return sum(tensor.stored.size for tensor in tensors.values())
