"""Streaming: a model runs as it is, and each of its modules gets its weights when it is called."""

from __future__ import annotations

import functools
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, Self

import torch
from torch import Tensor, inference_mode, nn

from archiver.errors import ArchiverError, SkippedError
from archiver.smoke.loading import layers
from archiver.smoke.loading.architecture import library_sentence
from archiver.smoke.loading.read_ahead import Piece, ReadAhead
from archiver.smoke.report import needs_longer
from archiver.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from archiver.smoke.loading.conversion import Weights
    from archiver.smoke.loading.fit import Budget
    from archiver.smoke.loading.layers import Layer, Part


# ---- what stands for a parameter that is not there


_TELLS: Final = frozenset(
    {
        "dim",
        "element_size",
        "is_complex",
        "is_floating_point",
        "nelement",
        "numel",
        "size",
        "stride",
    }
)
_DATA: Final = torch.Tensor.data
_RESIDENT_HINT: Final = "Run the test on a machine that holds all weights in memory."


class Absent(torch.nn.Parameter):
    """A parameter that has a shape, a dtype and a device, but no weights.

    Model code asks parameters where they lie and what they are, also outside their module's forward,
    so something must stand there. Whatever computes with it gets the whole parameter, read for that
    one use. Whatever would change it is refused: the change would be lost without a sign of it.
    """

    stands_for: str
    fetch: Callable[[], torch.Tensor]

    @classmethod
    def like(
        cls,
        name: str,
        shape: Any,
        dtype: torch.dtype,
        device: str,
        fetch: Callable[[], torch.Tensor],
    ) -> Self:
        """Return one for parameter ``name``, which ``fetch`` reads; it takes no memory to speak of."""
        single = torch.empty((), dtype=dtype, device=device)
        made: Self = torch.Tensor._make_subclass(cls, single.expand(shape), False)  # noqa: SLF001 - as Parameter itself does
        made.stands_for, made.fetch = name, fetch
        return made

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Let through what tells of a tensor, and refuse what changes it."""
        del types
        name = getattr(func, "__name__", "")
        if name == "__repr__":
            return f"Absent({args[0].stands_for})"
        if args and isinstance(args[0], Absent) and _changes(func, name):
            raise changed(args[0].stands_for)
        if name in _TELLS or name in {"__get__", "__set__", "__hash__"}:
            with torch._C.DisableTorchFunctionSubclass():  # noqa: SLF001 - as torch's own guide does
                result = func(*args, **kwargs or {})
            if not isinstance(result, torch.Tensor):
                return result
        return func(*_fetched(args), **_fetched(kwargs or {}))


def _changes(func: Any, name: str) -> bool:
    """Return whether a function writes to its first argument, or gives what is written to unseen."""
    in_place = name.endswith("_") and not name.endswith("__")
    assigned = name == "__setitem__" or (name.startswith("__i") and name != "__invert__")
    return in_place or assigned or getattr(func, "__self__", None) is _DATA


def _fetched(value: Any) -> Any:
    """Return a function's arguments with the true parameters in them."""
    if isinstance(value, Absent):
        return value.fetch()
    if isinstance(value, list | tuple) and not isinstance(value, torch.Size):
        return type(value)([_fetched(item) for item in value])
    if isinstance(value, dict):
        return {name: _fetched(item) for name, item in value.items()}
    return value


def changed(name: str) -> SkippedError:
    """Return the error where a model writes to its own weights, which are read anew each time."""
    message = f"This architecture cannot be streamed: it changes {printable(name)} as it runs."
    return SkippedError(message, hint=_RESIDENT_HINT)


def no_room(name: str) -> SkippedError:
    """Return the error where a parameter is used and nobody made room for it."""
    message = (
        f"{printable(name)} is used outside of its module, and there is no memory left for that."
    )
    return SkippedError(f"This architecture cannot be streamed: {message}", hint=_RESIDENT_HINT)


# ---- an embedding


class EmbeddingTable(Absent):
    """Stands where an embedding has its table: only the rows that are looked up are read.

    It is the look-up that is answered, not the module that is called: some modules shift the ids
    that they are given, or take slices of the table.
    """

    rows: Callable[[int, int], Tensor]

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Answer ``embedding``; all else as any absent parameter."""
        if func is nn.functional.embedding and isinstance(args[1], cls):
            return args[1].looked_up(args[0])
        return super().__torch_function__(func, types, args, kwargs)

    def looked_up(self, ids: Tensor) -> Tensor:
        """Return the rows of ``ids``, of any shape; what else ``embedding`` takes matters to gradients."""
        rows, places = torch.unique(ids, return_inverse=True)
        runs = [self.rows(*run) for run in _runs(rows.tolist())]
        return nn.functional.embedding(places, torch.cat(runs) if runs else self.rows(0, 0))


def _runs(numbers: list[int]) -> Iterator[tuple[int, int]]:
    """Yield runs of neighbours among ascending numbers, the end not counted."""
    cuts = [
        place for place, (number, other) in enumerate(pairwise(numbers), 1) if other != number + 1
    ]
    for begin, end in pairwise([0, *cuts, len(numbers)]):
        if begin < end:
            yield numbers[begin], numbers[end - 1] + 1


# ---- where weights come from


class WeightCache:
    """Fetches weights, and remembers what stays.

    They are made in inference mode: torch then refuses to write to them elsewhere. What a model
    wrote to weights that are let go of would be lost without a sign of it.
    """

    def __init__(self, weights: Weights, budget: Budget) -> None:
        self._weights, self.budget, self._device = weights, budget, budget.device
        self.ahead = ReadAhead(self._read, budget.ahead, budget.readers)

    @inference_mode()
    def whole(self, key: str) -> nn.Parameter:
        """Return a parameter, on the device."""
        return _parameter(self._weights.parameter(key).to(self._device))

    @inference_mode()
    def rows(self, key: str, first: int, last: int) -> Tensor:
        """Return some rows of a parameter that is stored as one tensor, on the device."""
        return self._weights.rows(key, first, last).to(self._device)

    @inference_mode()
    def expert(self, key: str, row: int) -> Tensor:
        """Return one row of a merged parameter, on the device."""
        return self._weights.expert(key, row).to(self._device)

    def _read(self, piece: Piece) -> Tensor:
        if piece.last is None:
            return self.whole(piece.key)
        return self.rows(piece.key, piece.first, piece.last)

    def stays(self, piece: Piece) -> bool:
        """Return whether a piece that was just used may stay in memory; one that may does so for good."""
        if not self.ahead.keeps(piece) and self.budget.stays():
            self.ahead.keep(piece)
        return self.ahead.keeps(piece)

    def absent(self, part: Part) -> Absent:
        """Return what stands for a parameter that is not there."""
        made: Absent = self._stand_in(Absent, part)
        return made

    def table(self, part: Part) -> Absent:
        """Return what stands for an embedding's."""
        made: EmbeddingTable = self._stand_in(EmbeddingTable, part)
        made.rows = functools.partial(self.rows, part.key)
        return made

    def _stand_in(self, kind: Any, part: Part) -> Any:
        dtype = self._weights.final_dtype(part.key)
        fetch = functools.partial(self._elsewhere, part)
        return kind.like(part.key, part.shape, dtype, self._device, fetch)

    def _elsewhere(self, part: Part) -> Tensor:
        """Return a parameter that is used outside of its module, where the plan has no room for it."""
        if not self.budget.has_room(part.size + part.making):
            raise no_room(part.key)
        return self.whole(part.key)


def _parameter(tensor: Tensor) -> nn.Parameter:
    return nn.Parameter(tensor, requires_grad=False)


# ---- parameters of which a part is enough


_EVEN: Final = 64
"""Blocks have a multiple of so many rows: kernels sum the rows at an odd end in another order."""


class BlockedLinear:
    """A linear layer that is computed some rows of its weight at a time.

    Each number of the output is made of one row, so the result is the same; blocks stay in memory
    while the budget allows.
    """

    def __init__(self, cache: WeightCache, part: Part, module: nn.Linear) -> None:
        self._cache, self._part, self._module = cache, part, module
        self._resident: dict[int, Tensor] = {}

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name of it
        """Return what ``nn.Linear`` gives: (…, k) to (…, n)."""
        rows = self._part.shape[0]
        step = max(1, layers.BLOCK * rows // self._part.size // _EVEN) * _EVEN
        output = input.new_empty((*input.shape[:-1], rows))
        bias = self._module.bias
        for first in range(0, rows, step):
            last = min(first + step, rows)
            part = None if bias is None else bias[first:last]
            output[..., first:last] = nn.functional.linear(input, self._block(first, last), part)
        return output

    def _block(self, first: int, last: int) -> Tensor:
        block = self._resident.get(first)
        if block is None:
            piece = Piece(self._part.key, self._part.at_once, first, last)
            block = self._cache.ahead.get(piece)
            if self._cache.stays(piece):
                self._resident[first] = block
        return block


class LazyExperts:
    """Stands where a module of experts has a parameter of shape (experts, …): ``[e]`` reads expert e.

    Model code that uses it in any other way gets the whole parameter, read for that one use.
    """

    def __init__(self, cache: WeightCache, part: Part) -> None:
        self._cache, self._part = cache, part
        self._resident: dict[int, Tensor] = {}
        self._stand_in = cache.absent(part)

    @property
    def shape(self) -> torch.Size:
        """Its shape; it, dtype and device are told without a read."""
        return self._stand_in.shape

    @property
    def dtype(self) -> torch.dtype:
        """What it is computed in."""
        return self._stand_in.dtype

    @property
    def device(self) -> torch.device:
        """Where it is computed."""
        return self._stand_in.device

    @property
    def ndim(self) -> int:
        """How many dimensions it has."""
        return len(self.shape)

    def __getitem__(self, key: Any) -> Tensor:
        single = isinstance(key, int) or (isinstance(key, Tensor) and key.ndim == 0)
        return self._expert(int(key)) if single else self._whole()[key]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._whole(), name)

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Return what a function of torch makes of the whole."""
        del types
        args = tuple(_material(item) for item in args)
        return func(*args, **{name: _material(item) for name, item in (kwargs or {}).items()})

    def _whole(self) -> Tensor:
        return self._cache.whole(self._part.key)

    def _expert(self, row: int) -> Tensor:
        weights = self._resident.get(row)
        if weights is None:
            weights = self._cache.expert(self._part.key, row)
            if self._cache.budget.stays():
                self._resident[row] = weights
        return weights


def _material(value: Any) -> Any:
    return value._whole() if isinstance(value, LazyExperts) else value  # noqa: SLF001 - its own class


# ---- the model


class LayerHook:
    """Fetches a module's parameters before its forward and drops them after it.

    It is an accelerate hook: some models fire those also where they use a child's weights without
    calling the child (``transformers.integrations.accelerate.force_accelerate_hooks``).
    """

    no_grad = False

    def __init__(self, cache: WeightCache, parts: Sequence[Part]) -> None:
        self._cache = cache
        self._parts = [(part, Piece(part.key, part.at_once)) for part in parts]

    def init_hook(self, module: nn.Module) -> nn.Module:
        """Put a stand-in where each parameter was."""
        for part, _ in self._parts:
            module._parameters[part.name] = self._cache.absent(part)  # noqa: SLF001 - they are no Parameters to setattr
        return module

    def detach_hook(self, module: nn.Module) -> nn.Module:
        """Nothing to take back."""
        return module

    def pre_forward(self, module: nn.Module, *args: Any, **options: Any) -> tuple[Any, Any]:
        """Fetch what is not there."""
        for part, piece in self._parts:
            if isinstance(module._parameters[part.name], Absent):  # noqa: SLF001 - as above
                module._parameters[part.name] = self._cache.ahead.get(piece)  # noqa: SLF001 - as above
        return args, options

    def post_forward(self, module: nn.Module, output: Any) -> Any:
        """Drop it again, unless it may stay."""
        for part, piece in self._parts:
            if not self._cache.stays(piece):
                module._parameters[part.name] = self._cache.absent(part)  # noqa: SLF001 - as above
        return output


def stream(model: Any, layers: Sequence[Layer], weights: Weights, budget: Budget) -> None:
    """Make a model that lies on the meta device one that runs within ``budget``.

    Raises:
        DamageError: What is always in memory cannot be read as it should be.
    """
    cache = WeightCache(weights, budget)
    for layer in layers:
        _attach(layer, cache)
    _place_buffers(model, weights, budget.device)
    model.forward = _guarded(model.forward, cache.ahead)


def _attach(layer: Layer, cache: WeightCache) -> None:
    from accelerate.hooks import add_hook_to_module  # noqa: PLC0415 - of the extra

    module = layer.module
    whole = []
    for part in layer.parts:
        if part.small:
            module._parameters[part.name] = cache.whole(part.key)  # noqa: SLF001 - it takes the place of a meta tensor
        elif part.kind == "experts":
            del module._parameters[part.name]  # noqa: SLF001 - what takes its place is no Parameter
            object.__setattr__(module, part.name, LazyExperts(cache, part))
        elif part.kind == "rows":
            module._parameters[part.name] = cache.table(part)  # noqa: SLF001 - it is no Parameter to setattr
        elif part.kind == "blocks":
            module._parameters[part.name] = cache.absent(part)  # noqa: SLF001 - as above
            module.forward = BlockedLinear(cache, part, module).forward
        else:
            whole.append(part)
    if whole:
        add_hook_to_module(module, LayerHook(cache, whole))


def _place_buffers(model: Any, weights: Weights, device: str) -> None:
    """Buffers are small: those that the checkpoint has are read, and all are put on the device."""
    for prefix, module in model.named_modules():
        for name, buffer in module.named_buffers(recurse=False):
            key = f"{prefix}.{name}" if prefix else name
            made = weights.parameter(key) if key in weights.recipes else weights.cast(buffer)
            module._buffers[name] = made.to(device)  # noqa: SLF001 - setattr would do the same, slower


def _guarded(forward: Any, ahead: ReadAhead) -> Any:
    """Return ``forward`` so that what it raises is a skip: streaming may be the reason, or the model."""

    @functools.wraps(forward)
    def run(*args: Any, **options: Any) -> Any:
        try:
            with ahead.one_pass():
                return forward(*args, **options)
        except (ArchiverError, MemoryError):
            raise
        except Exception as error:
            if needs_longer(error):
                raise
            message = f"This architecture cannot be streamed: {library_sentence(error)}"
            raise SkippedError(message, hint=_RESIDENT_HINT) from error

    return run
