"""What transformers' loader found, also where it ends with an error that only points at a printed table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from archiver.archive.findings import Finding
from archiver.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from archiver.archive.findings import Code


def noting(cls: Any, noted: list[Any]) -> Any:
    """The class with a loader that tells ``noted`` what it found before it raises on its account."""
    finish = cls._finalize_model_loading

    def finalize(model: Any, load_config: Any, info: Any) -> Any:
        noted.append(info)
        return finish(model, load_config, info)

    return type(
        cls.__name__,
        (cls,),
        {"_finalize_model_loading": staticmethod(finalize), "__module__": cls.__module__},
    )


def unconverted(noted: list[Any], code: Code, hint: str = "") -> Iterator[Finding]:
    """Parameters that could not be made of the tensors that are there, and why not."""
    for name, error in sorted(pair for info in noted for pair in info.conversion_errors.items()):
        message = f"The tensor cannot be made of those that are there: {printable(_reason(error))}"
        yield Finding(code, message, tensor=name, hint=hint)


def _reason(error: object) -> str:
    """The exception itself: it stands between its traceback and a line of which operation it was."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if not line.startswith("Error")] or lines
    return told[-1] if told else "no reason is given"
