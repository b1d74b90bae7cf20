"""Streaming: a model runs as it is, and each of its modules gets its weights when it is called."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from archiver.errors import ArchiverError, SkippedError
from archiver.smoke.guard import needs_longer
from archiver.smoke.loading.absent import Absent
from archiver.smoke.loading.ahead import Piece
from archiver.smoke.loading.architecture import told
from archiver.smoke.loading.lazy_parts import BlockedLinear, LazyExperts
from archiver.smoke.loading.shelf import Shelf

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

    from archiver.smoke.loading.ahead import ReadAhead
    from archiver.smoke.loading.budget import Budget
    from archiver.smoke.loading.conversion import Weights
    from archiver.smoke.loading.layers import Layer, Part


class LayerHook:
    """Fetches a module's parameters before its forward and drops them after it.

    It is an accelerate hook: some models fire those also where they use a child's weights without
    calling the child (``transformers.integrations.accelerate.force_accelerate_hooks``).
    """

    no_grad = False

    def __init__(self, shelf: Shelf, parts: Sequence[Part]) -> None:
        self._shelf = shelf
        self._parts = [(part, Piece(part.key, part.at_once)) for part in parts]

    def init_hook(self, module: nn.Module) -> nn.Module:
        """Put a stand-in where each parameter was."""
        for part, _ in self._parts:
            module._parameters[part.name] = self._shelf.absent(part)  # noqa: SLF001 - they are no Parameters to setattr
        return module

    def detach_hook(self, module: nn.Module) -> nn.Module:
        """Nothing to take back."""
        return module

    def pre_forward(self, module: nn.Module, *args: Any, **options: Any) -> tuple[Any, Any]:
        """Fetch what is not there."""
        for part, piece in self._parts:
            if isinstance(module._parameters[part.name], Absent):  # noqa: SLF001 - as above
                module._parameters[part.name] = self._shelf.ahead.get(piece)  # noqa: SLF001 - as above
        return args, options

    def post_forward(self, module: nn.Module, output: Any) -> Any:
        """Drop it again, unless it may stay."""
        for part, piece in self._parts:
            if not self._shelf.stays(piece):
                module._parameters[part.name] = self._shelf.absent(part)  # noqa: SLF001 - as above
        return output


def stream(model: Any, layers: Sequence[Layer], weights: Weights, budget: Budget) -> None:
    """Make a model that lies on the meta device one that runs within ``budget``.

    Raises:
        DamageError: What is always in memory cannot be read as it should be.
    """
    shelf = Shelf(weights, budget)
    for layer in layers:
        _attach(layer, shelf)
    _place_buffers(model, weights, budget.device)
    model.forward = _guarded(model.forward, shelf.ahead)


def _attach(layer: Layer, shelf: Shelf) -> None:
    from accelerate.hooks import add_hook_to_module  # noqa: PLC0415 - of the extra

    module = layer.module
    whole = []
    for part in layer.parts:
        if part.small:
            module._parameters[part.name] = shelf.whole(part.key)  # noqa: SLF001 - it takes the place of a meta tensor
        elif part.kind == "experts":
            del module._parameters[part.name]  # noqa: SLF001 - what takes its place is no Parameter
            object.__setattr__(module, part.name, LazyExperts(shelf, part))
        elif part.kind == "rows":
            module._parameters[part.name] = shelf.table(part)  # noqa: SLF001 - it is no Parameter to setattr
        elif part.kind == "blocks":
            module._parameters[part.name] = shelf.absent(part)  # noqa: SLF001 - as above
            module.forward = BlockedLinear(shelf, part, module).forward
        else:
            whole.append(part)
    if whole:
        add_hook_to_module(module, LayerHook(shelf, whole))


def _place_buffers(model: Any, weights: Weights, device: str) -> None:
    """Buffers are small: those that the checkpoint has are read, and all are put on the device."""
    for prefix, module in model.named_modules():
        for name, buffer in module.named_buffers(recurse=False):
            key = f"{prefix}.{name}" if prefix else name
            made = weights.parameter(key) if key in weights.recipes else weights.cast(buffer)
            module._buffers[name] = made.to(device)  # noqa: SLF001 - setattr would do the same, slower


def _guarded(forward: Any, ahead: ReadAhead) -> Any:
    """What the model raises because of streaming cannot be told from what it would raise anyway."""

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
            message = f"This architecture cannot be streamed: {told(error)}"
            raise SkippedError(message, hint=_HINT) from error

    return run


_HINT = "Run the test on a machine that holds all weights in memory."
