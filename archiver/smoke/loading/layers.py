"""The parts of a model that own parameters, and what each takes in memory while it runs."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from archiver.smoke.loading.conversion import Weights


SMALL: Final = 1 << 20
"""Bytes up to which a parameter is always in memory: model code reaches for some from outside their
module, and all of them together are little."""
BLOCKED_ABOVE: Final = 32 << 20
"""Bytes from which on a linear layer is computed in blocks of rows; heads of models reach gigabytes."""
BLOCK: Final = 16 << 20
"""Bytes of such a block."""
ROWS: Final = 256
"""Rows of an embedding that one input may look up; the inputs are that short."""

Kind = Literal["whole", "rows", "blocks", "experts"]


@dataclass(frozen=True)
class Part:
    """One parameter of a module.

    Attributes:
        name: Its name in the module.
        key: Its name in the model.
        kind: How it is read: ``whole``; only the ``rows`` of an embedding that are looked up; in
            ``blocks`` of rows; or only the ``experts`` that are hit, a row each.
        shape: Its shape.
        size: Bytes of all of it, in the dtype that it is computed with.
        making: Bytes that it takes besides, while it is read and converted.
        stored: Bytes of all that it is made of, as the checkpoint has it.
    """

    name: str
    key: str
    kind: Kind
    shape: tuple[int, ...]
    size: int
    making: int
    stored: int

    @property
    def small(self) -> bool:
        """Whether it is always in memory."""
        return self.size <= SMALL and self.kind != "experts"

    @property
    def share(self) -> float:
        """How much of it is in memory at once while it is used."""
        rows = max(self.shape[0], 1) if self.shape else 1
        if self.kind == "rows":
            return min(1.0, ROWS / rows)
        if self.kind == "blocks":
            return min(1.0, BLOCK / max(self.size, 1))
        return 1 / rows if self.kind == "experts" else 1.0

    @property
    def at_once(self) -> int:
        """Bytes that what is read of it at once takes, while it is converted."""
        return int((self.size + self.making) * self.share)


@dataclass(frozen=True)
class Layer:
    """A module that owns parameters; ``name`` is its name in the model."""

    name: str
    module: Any
    parts: tuple[Part, ...]

    @property
    def peak(self) -> int:
        """Bytes that its parts take while it runs, those that are always in memory left out."""
        large = [part for part in self.parts if not part.small]
        making = max((part.making * part.share for part in large), default=0)
        return int(sum(part.size * part.share for part in large) + making)


def layers_of(model: Any, weights: Weights) -> tuple[Layer, ...]:
    """Return every module with parameters of its own that the checkpoint makes."""
    layers = []
    for name, module in model.named_modules():
        parts = tuple(_parts(name, module, weights))
        if parts:
            layers.append(Layer(name, module, parts))
    return tuple(layers)


def recast(layers: Sequence[Layer], weights: Weights) -> tuple[Layer, ...]:
    """Return the same layers with what ``weights`` makes of them."""
    return tuple(
        Layer(layer.name, layer.module, tuple(_parts(layer.name, layer.module, weights)))
        for layer in layers
    )


def _parts(prefix: str, module: Any, weights: Weights) -> Iterator[Part]:
    for name, parameter in module.named_parameters(recurse=False):
        key = f"{prefix}.{name}" if prefix else name
        if weights.origin(key) is None:
            continue
        count = prod(parameter.shape)
        size = count * weights.final_dtype(key).itemsize
        kind = _kind(module, name, parameter, size, key, weights)
        making, stored = weights.making(key, count), weights.stored(key)
        yield Part(name, key, kind, tuple(parameter.shape), size, making, stored)


def _kind(module: Any, name: str, parameter: Any, size: int, key: str, weights: Weights) -> Kind:
    from torch import nn  # noqa: PLC0415 - of the extra

    if type(module).__name__.endswith("Experts") and parameter.ndim > 2:  # noqa: PLR2004 - a matrix each
        return "experts" if weights.row_by_row(key) else "whole"
    plain = weights.recipe(key).plain is not None and name == "weight"
    if plain and isinstance(module, nn.Embedding) and module.max_norm is None:
        return "rows"
    if plain and type(module) is nn.Linear and size > BLOCKED_ABOVE:
        return "blocks"
    return "whole"
