"""Which stored tensors make which parameter, by transformers' own conversion mapping.

transformers can only load whole checkpoints. What it does for one parameter is done here by calls to
the inner functions of its loader (``core_model_loading.convert_and_load_state_dict_in_model``, 5.23),
one parameter at a time. They may change with any release, so the extra ``smoke`` names one.
"""

from __future__ import annotations

import copy
import re
from collections import defaultdict
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import torch

    from archiver.smoke.loading.tensors import LazyTensor


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
        unchanged = all(type(operation).__name__ in _DEQUANTIZE for operation in operations)
        return self.names[0] if unchanged and len(self.names) == 1 else None


def targets_of(key: str, converter: Any) -> list[str]:
    """Return all parameters that are made when ``key``, the first of them, is made."""
    if converter is None:
        return [key]
    first = converter.target_patterns[0]
    return [key.replace(first, pattern) for pattern in converter.target_patterns]


def keeps_rows(operations: list[Any]) -> bool:
    """Return whether one expert's tensors alone make its row: stacked at dimension 0, joined elsewhere."""
    stacked = False
    for operation in operations:
        kind = type(operation).__name__
        if kind == "MergeModulelist" and operation.dim == 0:
            stacked = True
        elif kind == "Concatenate" and stacked and operation.dim != 0:
            continue
        elif kind not in _DEQUANTIZE:
            return False
    return stacked


def twins_of(model: Any) -> dict[str, list[str]]:
    """Return all that each parameter is tied to, both ways, as ``tie_weights`` does."""
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
            (re.compile(glob.replace("*", ".*")), strict)
            for glob, strict in model._get_dtype_plan(dtype).items()  # noqa: SLF001 - the loader's own
        ]

    def dtype(self, key: str, place: torch.dtype) -> torch.dtype:
        """Return what parameter ``key`` is cast to, which is of dtype ``place`` in the model."""
        return next((strict for glob, strict in self._strict if glob.search(key)), place)


# ---- making them


_FLOAT32: Final = 4
"""Bytes of a float32; dequantization needs the values, and their products, as such."""


class Weights:
    """Makes parameters of a model that lies on the meta device, from stored tensors.

    Args:
        model: With its quantized modules already exchanged.
        tensors: All there are, by name.
        dtype: What the model computes in. For float32, all that is floating becomes float32 after
            the conversion: what FP8 repositories keep unquantized would stay in BF16.
        quantizer: transformers' quantizer, or None.
    """

    def __init__(
        self, model: Any, tensors: Mapping[str, LazyTensor], dtype: torch.dtype, quantizer: Any
    ) -> None:
        self._model, self._tensors, self._dtype = model, tensors, dtype
        self._quantizer = quantizer
        self.recipes: dict[str, Recipe] = {}
        self._collect()
        self._twins = twins_of(model)

    def _collect(self) -> None:
        from transformers import core_model_loading as loading  # noqa: PLC0415 - of the extra
        from transformers.conversion_mapping import (  # noqa: PLC0415 - of the extra
            get_model_conversion_mapping,
        )

        mapping = get_model_conversion_mapping(self._model, None, self._quantizer)
        renamings = [
            conversion for conversion in mapping if isinstance(conversion, loading.WeightRenaming)
        ]
        converters = [
            conversion for conversion in mapping if isinstance(conversion, loading.WeightConverter)
        ]
        by_pattern = {
            key: conversion for conversion in converters for key in conversion.source_patterns
        }
        places = self._model.state_dict()
        self._lengths = {key: len(place) for key, place in places.items() if place.ndim}
        find = partial(
            loading.rename_source_key,
            base_model_prefix=self._model.base_model_prefix,
            meta_state_dict=places,
        )
        plan = DtypePlan(self._model, self._dtype)
        for name in sorted(self._tensors, key=loading.dot_natural_key):
            key, pattern = find(name, renamings, converters)
            if key not in places and name in places:
                key, pattern = find(name, [], [])
            if key in places:
                recipe = self.recipes.get(key)
                if recipe is None:
                    converter = None if pattern is None else by_pattern[pattern]
                    recipe = Recipe(key, converter, plan.dtype(key, places[key].dtype))
                    self.recipes |= dict.fromkeys(targets_of(key, converter), recipe)
                recipe.parts.setdefault(pattern or name, []).append(name)

    def origin(self, key: str) -> str | None:
        """Return the parameter whose recipe makes ``key``: it, or one that it is tied to; None without."""
        if key in self.recipes:
            return key
        return next((twin for twin in self._twins.get(key, ()) if twin in self.recipes), None)

    def recipe(self, key: str) -> Recipe:
        """Return how ``key`` is made; KeyError if nothing makes it."""
        return self.recipes[self.origin(key) or key]

    @property
    def missing(self) -> list[str]:
        """Parameters that nothing in the checkpoint makes, and that it should make."""
        own = self._model._keys_to_ignore_on_load_missing or ()  # noqa: SLF001 - the loader's own
        return [key for key in self.unmade if not any(re.search(pattern, key) for pattern in own)]

    @property
    def unmade(self) -> list[str]:
        """Parameters that nothing in the checkpoint makes; some models compute such for themselves."""
        names = (name for name, _ in self._model.named_parameters(remove_duplicate=False))
        return [name for name in names if self.origin(name) is None]

    def final_dtype(self, key: str) -> torch.dtype:
        """Return what a parameter's dtype will be."""
        import torch  # noqa: PLC0415 - of the extra

        recipe = self.recipe(key)
        unconverted = recipe.plain if recipe.converter is not None else None
        dtype = self._tensors[unconverted].dtype if unconverted else recipe.dtype
        floating = dtype.is_floating_point and self._dtype == torch.float32
        return torch.float32 if floating else dtype

    def parameter(self, key: str) -> torch.Tensor:
        """Return a whole parameter, read and converted."""
        recipe = self.recipe(key)
        return self.cast(self._convert(self.origin(key) or key, recipe, recipe.parts))

    def rows(self, key: str, first: int, last: int) -> torch.Tensor:
        """Return some rows of a parameter that is stored as one tensor (``recipe(key).plain``)."""
        recipe = self.recipe(key)
        rows = self._tensors[recipe.names[0]].rows(first, last)
        return self.cast(rows.to(recipe.dtype) if recipe.converter is None else rows)

    def expert(self, key: str, row: int) -> torch.Tensor:
        """Return row ``row`` of dimension 0 of a merged parameter; only that expert's tensors are read.

        Where the conversion does not keep rows apart, the whole parameter is made for it.
        """
        recipe = self.recipe(key)
        if not self.row_by_row(key):
            return self.parameter(key)[row]
        if recipe.plain:
            return self.rows(key, row, row + 1)[0]
        parts = {pattern: [names[row]] for pattern, names in recipe.parts.items()}
        return self.cast(self._convert(self.origin(key) or key, recipe, parts)[0])

    def row_by_row(self, key: str) -> bool:
        """Return whether each row of dimension 0 is made of tensors of its own."""
        recipe = self.recipe(key)
        if recipe.plain:
            return True
        rows = self._lengths.get(key)
        full = all(len(names) == rows for names in recipe.parts.values())
        return full and keeps_rows(recipe.converter.operations)

    def making(self, key: str, count: int) -> int:
        """Return an estimate of the bytes that making ``count`` elements of a parameter takes besides."""
        recipe, stored = self.recipe(key), self.stored(key)
        if recipe.plain:
            same = self._tensors[recipe.names[0]].dtype == self.final_dtype(key)
            return 0 if same else stored
        copies = 2 * _FLOAT32 if self.dequantizes(key) else self.final_dtype(key).itemsize
        return stored + count * copies

    def dequantizes(self, key: str) -> bool:
        """Return whether a parameter is made of several kinds of numbers: codes, or FP8, and scales."""
        return len({self._tensors[name].dtype for name in self.recipe(key).names}) > 1

    def stored(self, key: str) -> int:
        """Return bytes of all tensors that make a parameter, as the checkpoint has them."""
        return sum(self._tensors[name].stored.size for name in self.recipe(key).names)

    def in_float32(self) -> Weights:
        """Return the same for a model that computes in float32: for what is told of it, not to make any."""
        import torch  # noqa: PLC0415 - of the extra

        other = copy.copy(self)
        other._dtype = torch.float32  # noqa: SLF001 - a copy of its own
        return other

    def _convert(self, key: str, recipe: Recipe, parts: Mapping[str, list[str]]) -> torch.Tensor:
        first, mapping = recipe.first, self._fresh(recipe)
        for pattern, name in _pairs(parts):
            dtype = recipe.dtype
            if self._quantizer is not None and self._quantizer.pre_quantized:
                dtype = self._quantizer.get_new_dtype(mapping, self._tensors[name], dtype)
            mapping.add_tensor(first, name, pattern, partial(_read, self._tensors[name], dtype))
        made = mapping.convert(
            first, model=self._model, config=self._model.config, hf_quantizer=self._quantizer
        )
        values = made[key] if key in made or len(made) > 1 else next(iter(made.values()))
        tensor: torch.Tensor = values[0] if isinstance(values, list) else values
        return tensor

    def _fresh(self, recipe: Recipe) -> Any:
        """Return a mapping that has collected nothing yet; its operations have no state and are shared."""
        from transformers.core_model_loading import WeightRenaming  # noqa: PLC0415 - of the extra

        if recipe.converter is None:
            return WeightRenaming(recipe.names[0], recipe.first)
        fresh = copy.copy(recipe.converter)
        fresh.collected_tensors, fresh.layer_targets = defaultdict(list), defaultdict(set)
        return fresh

    def cast(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return what is floating, as float32 if that is what the model computes in."""
        import torch  # noqa: PLC0415 - of the extra

        widens = self._dtype == torch.float32 and tensor.is_floating_point()
        return tensor.float() if widens else tensor


def _read(tensor: LazyTensor, dtype: torch.dtype | None) -> torch.Tensor:
    return tensor[...].to(dtype=dtype) if dtype is not None else tensor[...]


def _pairs(parts: Mapping[str, list[str]]) -> Iterator[tuple[str, str]]:
    return ((pattern, name) for pattern, names in parts.items() for name in names)
