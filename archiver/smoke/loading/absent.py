"""What stands for a parameter whose weights are not in memory."""

from __future__ import annotations

from typing import Any, Final

import torch

from archiver.errors import SkippedError
from archiver.text import printable

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


class Absent(torch.nn.Parameter):
    """A parameter that has a shape, a dtype and a device, but no weights.

    Model code asks parameters where they lie and what they are, also outside their module's forward,
    so something must stand there. Whatever would compute with it is refused: the result would be
    wrong without a sign of it.
    """

    stands_for: str

    @classmethod
    def like(cls, name: str, shape: Any, dtype: torch.dtype, device: str) -> Absent:
        """One for parameter ``name``; it takes no memory to speak of."""
        single = torch.empty((), dtype=dtype, device=device)
        made: Absent = torch.Tensor._make_subclass(cls, single.expand(shape), False)  # noqa: SLF001 - as Parameter itself does
        made.stands_for = name
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
        if name in _TELLS or name in {"__get__", "__set__", "__hash__"}:
            with torch._C.DisableTorchFunctionSubclass():  # noqa: SLF001 - as torch's own guide does
                found = func(*args, **kwargs or {})
            if not isinstance(found, torch.Tensor):
                return found
        raise cls._refused(args)

    @staticmethod
    def _refused(args: tuple[Any, ...]) -> SkippedError:
        names = [one.stands_for for one in args if isinstance(one, Absent)]
        which = printable(names[0]) if names else "a parameter"
        return SkippedError(
            f"This architecture cannot be streamed: {which} is used outside of its module.",
            hint="Run the test on a machine that holds all weights in memory.",
        )
