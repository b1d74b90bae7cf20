"""What stands for a parameter whose weights are not in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Self

import torch

from archiver.errors import SkippedError
from archiver.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable

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
_HINT: Final = "Run the test on a machine that holds all weights in memory."


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
        """One for parameter ``name``, which ``fetch`` reads; it takes no memory to speak of."""
        single = torch.empty((), dtype=dtype, device=device)
        made: Self = torch.Tensor._make_subclass(cls, single.expand(shape), False)  # noqa: SLF001 - as Parameter itself does
        made.stands_for, made.fetch = name, fetch
        return made

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Lets through what tells of a tensor, and refuses the rest."""
        del types
        name = getattr(func, "__name__", "")
        if name == "__repr__":
            return f"Absent({args[0].stands_for})"
        if args and isinstance(args[0], Absent) and _changes(func, name):
            raise changed(args[0].stands_for)
        if name in _TELLS or name in {"__get__", "__set__", "__hash__"}:
            with torch._C.DisableTorchFunctionSubclass():  # noqa: SLF001 - as torch's own guide does
                found = func(*args, **kwargs or {})
            if not isinstance(found, torch.Tensor):
                return found
        return func(*_fetched(args), **_fetched(kwargs or {}))


def _changes(func: Any, name: str) -> bool:
    """Whether a function writes to its first argument, or gives what is written to unseen."""
    in_place = name.endswith("_") and not name.endswith("__")
    assigned = name == "__setitem__" or (name.startswith("__i") and name != "__invert__")
    return in_place or assigned or getattr(func, "__self__", None) is _DATA


def _fetched(value: Any) -> Any:
    """A function's arguments with the true parameters in them."""
    if isinstance(value, Absent):
        return value.fetch()
    if isinstance(value, list | tuple) and not isinstance(value, torch.Size):
        return type(value)([_fetched(one) for one in value])
    if isinstance(value, dict):
        return {name: _fetched(one) for name, one in value.items()}
    return value


def changed(name: str) -> SkippedError:
    """A model writes to its own weights, which are read anew each time."""
    told = f"This architecture cannot be streamed: it changes {printable(name)} as it runs."
    return SkippedError(told, hint=_HINT)


def no_room(name: str) -> SkippedError:
    """A parameter is used where nobody made room for it."""
    told = f"{printable(name)} is used outside of its module, and there is no memory left for that."
    return SkippedError(f"This architecture cannot be streamed: {told}", hint=_HINT)
