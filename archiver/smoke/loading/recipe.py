"""How one parameter is made of stored tensors, as transformers' loader has it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import torch

_DEQUANTIZE: Final = ("Fp8Dequantize", "GptqDequantize")


@dataclass
class Recipe:
    """How a parameter is made.

    Attributes:
        first: The parameter that transformers names it by; one conversion may make several.
        converter: transformers' converter, or None if one tensor is taken as it is.
        dtype: What its parts are cast to before they are converted.
        parts: The names of tensors by the converter's pattern that they matched.
    """

    first: str
    converter: Any
    dtype: torch.dtype
    parts: dict[str, list[str]] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """All tensors that are needed."""
        return [name for names in self.parts.values() for name in names]

    @property
    def plain(self) -> str | None:
        """The tensor that is the parameter, but for a cast; None if it has to be converted.

        Dequantizing leaves alone what has no scales.
        """
        operations = [] if self.converter is None else self.converter.operations
        kept = all(type(one).__name__ in _DEQUANTIZE for one in operations)
        return self.names[0] if kept and len(self.names) == 1 else None


def targets_of(key: str, converter: Any) -> list[str]:
    """All parameters that are made when ``key``, the first of them, is made."""
    if converter is None:
        return [key]
    first = converter.target_patterns[0]
    return [key.replace(first, one) for one in converter.target_patterns]


def keeps_rows(operations: list[Any]) -> bool:
    """Whether one expert's tensors alone make its row: stacked at dimension 0, joined elsewhere."""
    stacked = False
    for one in operations:
        kind = type(one).__name__
        if kind == "MergeModulelist" and one.dim == 0:
            stacked = True
        elif kind == "Concatenate" and stacked and one.dim != 0:
            continue
        elif kind not in _DEQUANTIZE:
            return False
    return stacked


def twins_of(model: Any) -> dict[str, list[str]]:
    """For each parameter all that it is tied to, both ways, as ``tie_weights`` does."""
    groups: dict[str, list[str]] = {}
    for target, source in getattr(model, "all_tied_weights_keys", {}).items():
        groups.setdefault(source, [source]).append(target)
    return {name: names for names in groups.values() for name in names}


class DtypePlan:
    """What a parameter is cast to when it is read, as ``from_pretrained`` does it."""

    def __init__(self, model: Any, dtype: torch.dtype) -> None:
        self._dtype = dtype
        # their stars stand for anything, and they match anywhere in a name
        self._strict: list[tuple[re.Pattern[str], torch.dtype]] = [
            (re.compile(glob.replace("*", ".*")), wanted)
            for glob, wanted in model._get_dtype_plan(dtype).items()  # noqa: SLF001 - the loader's own
        ]

    def dtype(self, key: str, place: torch.dtype) -> torch.dtype:
        """For parameter ``key``, which is of dtype ``place`` in the model."""
        return next((wanted for glob, wanted in self._strict if glob.search(key)), place)
