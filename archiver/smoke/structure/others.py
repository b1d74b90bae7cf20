"""Weights that lie in the repository and are no part of the model that is loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from archiver.archive.findings import Finding
from archiver.smoke.checkpoint.model_files import SINGLE, SUFFIX
from archiver.smoke.report import Proof
from archiver.text import plural, printable

if TYPE_CHECKING:
    from collections.abc import Collection

_NAMED: Final = 5


def check_others(files: Collection[str], loaded: Collection[str]) -> Proof:
    """A remark on them: adapters, the same weights in another layout, or parts around the model.

    Args:
        files: The paths of all files.
        loaded: Those that make the model.
    """
    others = sorted(path for path in files if path.endswith(SUFFIX) and path not in loaded)
    if not others:
        return Proof(())
    what = SINGLE if SINGLE in loaded else plural(len(loaded), "file")
    count = plural(len(others), "other file")
    listed = ", ".join(map(printable, others[:_NAMED])) + (", …" if len(others) > _NAMED else "")
    were = "was" if len(others) == 1 else "were"
    message = f"The model is loaded from {what}; {count} of weights {were} not tried: {listed}"
    path = others[0] if len(others) == 1 else ""
    return Proof((), (Finding("model-not-tried", message, path=path),))
