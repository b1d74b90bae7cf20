"""Where in a model the first number appears that is not finite."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from torch import Tensor
    from torch.utils.hooks import RemovableHandle


class FirstNonFinite:
    """Watches a module's parts while they run; use as a context manager.

    Attributes:
        where: The name of the innermost part that was the first to give a number that is not
            finite; ``""`` if none did.
    """

    def __init__(self, module: Any) -> None:
        self._module = module
        self._handles: list[RemovableHandle] = []
        self.where = ""

    def __enter__(self) -> Self:
        for name, part in self._module.named_modules():
            self._handles.append(part.register_forward_hook(self._hook(name)))
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def _hook(self, name: str) -> Any:
        def look(_module: Any, _given: Any, output: Any) -> None:
            if not self.where and any(not _finite(tensor) for tensor in _tensors(output)):
                self.where = name or "the whole model"

        return look


def _tensors(output: Any) -> list[Tensor]:
    import torch  # noqa: PLC0415 - of the extra

    several = output if isinstance(output, tuple | list) else [output]
    return [one for one in several if isinstance(one, torch.Tensor) and one.is_floating_point()]


def _finite(tensor: Tensor) -> bool:
    return tensor.device.type == "meta" or bool(tensor.isfinite().all())
