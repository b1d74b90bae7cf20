"""Whether the libraries of the extra ``smoke`` are there, and that they stay offline and run no code."""

from __future__ import annotations

import importlib.util
import os
from importlib import metadata
from typing import Final

from archiver.errors import SkippedError

HINT: Final = "Install them with: pip install 'archiver[smoke]'"
NAMES: Final = ("torch", "transformers", "accelerate", "tokenizers", "safetensors", "pillow")
"""Their names as packages; these versions are recorded."""
_OFFLINE: Final = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "USE_HUB_KERNELS": "NO",  # kernels are code; those of a cache would run even offline
}


def require(*names: str) -> None:
    """Be ready to import these modules; SkippedError names those that are not installed."""
    os.environ.update(_OFFLINE)
    missing = [name for name in names if not _there(name)]
    if missing:
        raise SkippedError(f"Not installed: {', '.join(missing)}.", hint=HINT)
    if "transformers" in names:
        _quiet()


def _there(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ValueError:  # a module that was made unimportable
        return False


def _quiet() -> None:
    """Findings tell what matters; the library's own lines and bars would go between them."""
    from transformers.utils import logging  # noqa: PLC0415 - of the extra

    logging.set_verbosity_error()
    logging.disable_progress_bar()


def versions() -> dict[str, str]:
    """The versions of those that are installed."""
    found = {}
    for name in NAMES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
