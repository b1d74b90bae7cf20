"""Whether the libraries of the extra ``smoke`` are there, and that they stay offline and run no code."""

from __future__ import annotations

import importlib.util
import json
import os
import shlex
import sys
import urllib.parse
import urllib.request
from importlib import metadata
from pathlib import Path
from typing import Final

import archiver
from archiver.errors import SkippedError

DISTRIBUTION: Final = "weights-archiver"
"""The name of the package; ``archiver`` in the registry of Python packages is a stranger's."""
NAMES: Final = ("torch", "transformers", "accelerate", "tokenizers", "safetensors", "pillow")
"""Their names as packages; these versions are recorded."""
TESTED: Final = ((5, 23), (5, 24))
"""From which version of transformers on, and before which one, its loader's inner functions are known."""
TESTED_HINT: Final = "Install a version of transformers that was tested: 5.23."
OFFLINE: Final = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1",  # nor one that the hub's client has stored
    "TOKENIZERS_PARALLELISM": "false",
    "USE_HUB_KERNELS": "NO",  # kernels are code; those of a cache would run even offline
}


def install_hint(extra: str = "smoke") -> str:
    """Return how to install the libraries of an extra here: from the clone or wheel that this came from.

    Never by a name alone: a registry may have another package of that name.
    """
    source = _clone() or _wheel()
    if source is None:
        return (
            f"Install them with: pip install 'PATH[{extra}]', where PATH is the clone or the wheel that "
            "archiver was installed from."
        )
    return (
        f"Install them with: {shlex.quote(sys.executable)} -m pip install "
        f"{shlex.quote(f'{source}[{extra}]')} (on a machine without a network, from wheels that were "
        "brought along: add --no-index --find-links FOLDER)."
    )


def _clone() -> Path | None:
    """Return the clone that this runs from, if it is one."""
    folder = Path(archiver.__file__).resolve().parents[1]
    try:
        named = f'name = "{DISTRIBUTION}"' in (folder / "pyproject.toml").read_text("utf-8")
    except (OSError, ValueError):
        return None
    return folder if named else None


def _wheel() -> Path | None:
    """Return the file or folder that this was installed from, if the installer noted one that is there."""
    try:
        text = metadata.distribution(DISTRIBUTION).read_text("direct_url.json") or "{}"
        url = urllib.parse.urlsplit(json.loads(text).get("url", ""))
    except (metadata.PackageNotFoundError, ValueError, AttributeError, OSError):
        return None
    source = Path(urllib.request.url2pathname(url.path)) if url.scheme == "file" else None
    return source if source is not None and source.exists() else None


def require(*names: str) -> None:
    """Be ready to import these modules; SkippedError names those that are not installed."""
    os.environ.update(OFFLINE)
    missing = [name for name in names if not _there(name)]
    if missing:
        raise SkippedError(f"Not installed: {', '.join(missing)}.", hint=install_hint())
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


def transformers_version() -> str:
    """Return the version of transformers that is imported here."""
    import transformers  # noqa: PLC0415 - of the extra

    return str(transformers.__version__)


def inner_functions_known() -> bool:
    """Return whether this version of transformers is one whose inner functions are known here."""
    numbers = tuple(int(part) for part in transformers_version().split(".")[:2] if part.isdecimal())
    return TESTED[0] <= numbers < TESTED[1]


def versions() -> dict[str, str]:
    """Return the versions of those that are installed."""
    versions_here = {}
    for name in NAMES:
        try:
            versions_here[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions_here
