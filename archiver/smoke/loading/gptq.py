"""GPTQ weights as plain numbers: each matrix is made of its codes, zero points and scales.

The layout is told in ``checkpoint/gptq.py``. The weight of output o and input i is

    (code[i, o] - zero[g_idx[i], o]) * scale[g_idx[i], o]
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import torch

from archiver.smoke.checkpoint.gptq import BITS, PARTS, WORD, bits_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from archiver.smoke.checkpoint.gptq import Kind


_AT_ONCE: Final = 1 << 16
"""Weights that are unpacked at once. So many stay in a processor's cache: 1.5 times as fast as 2^20."""


def dequantized(
    parts: Mapping[str, torch.Tensor | None], kind: Kind, dtype: torch.dtype
) -> torch.Tensor:
    """Return one weight, (outputs, inputs). Computed in float32, then cast once.

    Raises:
        ValueError: A part is missing, or the parts do not fit each other.
    """
    qweight, qzeros, scales = (_present(parts, part) for part in PARTS[:3])
    groups, outputs = scales.shape
    bits, group_of = _groups(parts["g_idx"], qweight, kind)
    per_word = WORD // bits
    if qweight.shape[1] != outputs or qzeros.shape != (groups, -(-outputs // per_word)):
        shapes = ", ".join(f"{part} {list(_present(parts, part).shape)}" for part in PARTS[:3])
        message = f"These shapes do not fit each other: {shapes}"
        raise ValueError(message)
    if len(group_of) and not 0 <= int(group_of.min()) <= int(group_of.max()) < groups:
        message = f"g_idx names group {int(group_of.max())}; there are {groups}"
        raise ValueError(message)
    mask = (1 << bits) - 1
    zeros = (_codes(qzeros.T, bits).T[:, :outputs] + kind.added) & mask
    scales, zeros = scales.float(), zeros.float()
    made = torch.empty(outputs, len(group_of), dtype=dtype)
    step = max(1, _AT_ONCE // max(1, outputs * per_word))
    for first in range(0, len(qweight), step):
        rows = slice(first * per_word, (first + step) * per_word)
        group = group_of[rows]
        codes = _codes(qweight[first : first + step], bits)[: len(group)].float()
        made[:, rows] = ((codes - zeros[group]) * scales[group]).T.to(dtype)
    return made


def _present(parts: Mapping[str, torch.Tensor | None], part: str) -> torch.Tensor:
    matrix = parts.get(part)
    if matrix is None or matrix.ndim != 2:  # noqa: PLR2004 - a matrix
        message = f"There is no matrix {part}"
        raise ValueError(message)
    return matrix


def _groups(
    g_idx: torch.Tensor | None, qweight: torch.Tensor, kind: Kind
) -> tuple[int, torch.Tensor]:
    """Return in how many bits the layer is packed, which may be its own, and the group of each input."""
    if g_idx is None:
        inputs = len(qweight) * WORD // kind.bits
        return kind.bits, torch.arange(inputs) // (kind.group_size or max(1, inputs))
    bits = bits_of(len(qweight), len(g_idx), kind.bits)
    if bits in BITS:
        return bits, g_idx.long()
    message = f"{len(qweight)} rows of words do not hold {len(g_idx)} inputs"
    raise ValueError(message)


def _codes(packed: torch.Tensor, bits: int) -> torch.Tensor:
    """Return the codes packed along dimension 0: (words, m) to (32 words / bits, m)."""
    shifts = torch.arange(0, WORD, bits, dtype=torch.int32)
    codes = (packed[:, None, :] >> shifts[None, :, None]) & ((1 << bits) - 1)
    return codes.reshape(len(packed) * len(shifts), packed.shape[1])
