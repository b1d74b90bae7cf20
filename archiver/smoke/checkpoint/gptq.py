"""GPTQ in a checkpoint: which tensors stand for the weight of a linear layer.

The layout is that of AutoGPTQ. A layer of n inputs and m outputs, in b bits, has instead of its weight:
``qweight`` I32 (n b / 32, m), whose word i holds the codes of inputs 32 i / b and following, the first in
the lowest bits; ``scales`` (groups, m); ``qzeros`` I32 (groups, m b / 32), packed in the same way along
the outputs; ``g_idx`` I32 (n,), the group of each input. ``quantization_config`` says bits and group size;
rules under ``dynamic`` may say others for some layers, so the bits are told by the shapes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from archiver.smoke.checkpoint.config import ModelConfig
    from archiver.smoke.checkpoint.files import StoredTensor

PARTS: Final = ("qweight", "qzeros", "scales", "g_idx")
SUFFIXES: Final = tuple(f".{part}" for part in PARTS)
WORD: Final = 32
"""Bits of a word."""
BITS: Final = (2, 4, 8)
"""Of a code, where no code lies in two words; 3 is known and not undone."""
_BITS: Final = (2, 3, 4, 8)
_WHOLE: Final = -1
"""A group is as large as the matrix."""
_ADDED: Final = {"gptq": 1, "gptq_v2": 0}


def words(numbers: int, bits: int) -> int:
    """Return how many words hold so many numbers of so many bits."""
    return -(-numbers * bits // WORD)


def bits_of(rows: int, inputs: int, usual: int) -> int | None:
    """Return in how many bits so many rows of words hold so many inputs; where several fit, ``usual``."""
    return next((bits for bits in (usual, *_BITS) if rows == words(inputs, bits)), None)


class UnknownKindError(ValueError):
    """Weights are quantized in a way that is not known here; the message says which."""


class Kind(NamedTuple):
    """What ``quantization_config`` says that matters for undoing it.

    Attributes:
        bits: Of a code, where the shapes do not tell.
        added: To a stored zero point: format ``gptq`` stores it less one, ``gptq_v2`` as it is.
        group_size: Inputs that share a scale; 0: all of them.
    """

    bits: int
    added: int
    group_size: int


def kind_of(said: Mapping[str, Any]) -> Kind:
    """Read ``quantization_config``.

    Raises:
        UnknownKindError: It is of a kind that is not known here.
    """
    form = said.get("checkpoint_format") or said.get("format") or "gptq"
    group = _WHOLE if said.get("group_size") is None else said["group_size"]
    if type(group) is not int or not (group == _WHOLE or group > 0):
        message = f"GPTQ with group_size {group!r} is not known here, only {_WHOLE} or more than 0"
        raise UnknownKindError(message)
    _known("pack_dtype", said.get("pack_dtype", "int32"), ("int32",))
    return Kind(
        _known("bits", said.get("bits"), BITS),
        _ADDED[_known("checkpoint_format", form, tuple(_ADDED))],
        max(group, 0),
    )


def _known(key: str, value: Any, known: Sequence[Any]) -> Any:
    if type(value) is not type(known[0]) or value not in known:
        choices = " or ".join(map(str, known))
        message = f"GPTQ with {key} {value!r} is not known here, only {choices}"
        raise UnknownKindError(message)
    return value


class Packed(NamedTuple):
    """A layer whose weight is packed. Parts that are not there are None."""

    qweight: StoredTensor
    qzeros: StoredTensor | None
    scales: StoredTensor | None
    g_idx: StoredTensor | None

    @property
    def inputs(self) -> int | None:
        """How many there are, by ``g_idx``; None without it."""
        return self.g_idx.shape[0] if self.g_idx and len(self.g_idx.shape) == 1 else None

    @property
    def outputs(self) -> int:
        """How many there are; 0 if ``qweight`` is no matrix."""
        return self.qweight.shape[-1] if self.qweight.shape else 0

    def bits(self, usual: int) -> int | None:
        """Return the bits of a code: ``usual`` if nothing tells; None if no number fits the shapes."""
        if self.inputs is None:
            return usual
        return bits_of(self.qweight.shape[0] if self.qweight.shape else 0, self.inputs, usual)

    def weight(self, usual: int) -> StoredTensor:
        """Return the weight that they stand for, outputs x inputs; ``usual`` bits if nothing tells."""
        rows = self.qweight.shape[0] if self.qweight.shape else 0
        inputs = self.inputs if self.inputs is not None else rows * WORD // usual
        name = self.qweight.name.removesuffix(SUFFIXES[0]) + ".weight"
        return self.qweight._replace(name=name, dtype="BF16", shape=(self.outputs, inputs))


def packed(tensors: Mapping[str, StoredTensor]) -> Iterator[Packed]:
    """Yield every layer that has a ``qweight``."""
    for name, tensor in tensors.items():
        if name.endswith(SUFFIXES[0]):
            start = name.removesuffix(SUFFIXES[0])
            yield Packed(tensor, *(tensors.get(start + part) for part in SUFFIXES[1:]))


def require_known(tensors: Mapping[str, StoredTensor], config: ModelConfig) -> None:
    """That no layer is packed in a number of bits that cannot be undone.

    Raises:
        UnknownKindError: One is; ``dynamic`` rules may ask for it.
    """
    if config.quant_method == "gptq":
        for layer in packed(tensors):
            bits = layer.bits(usual_bits(config))
            if bits is not None:  # if none fits, level structure tells it
                _known(f"{layer.qweight.name} in bits", bits, BITS)


def unpacked(
    tensors: Mapping[str, StoredTensor], config: ModelConfig
) -> Mapping[str, StoredTensor]:
    """Return the tensors as they are once the codes were unpacked and the scales were applied."""
    if config.quant_method != "gptq":
        return tensors
    weights = (layer.weight(usual_bits(config)) for layer in packed(tensors))
    plain = {name: tensor for name, tensor in tensors.items() if not name.endswith(SUFFIXES)}
    return {tensor.name: tensor for tensor in weights} | plain


def usual_bits(config: ModelConfig) -> int:
    """Return what ``quantization_config`` says; 4 if it makes no sense."""
    said = (config.quantization or {}).get("bits")
    return said if isinstance(said, int) and said in _BITS else 4
