"""Repositories that are sound and hold no single model with a ``config.json``."""

from __future__ import annotations

import json
import posixpath
from typing import TYPE_CHECKING, Any, Final

from archiver.errors import SkippedError
from archiver.smoke.checkpoint.model_files import SUFFIX
from archiver.text import printable

if TYPE_CHECKING:
    from archiver.smoke.checkpoint.protocol import Checkpoint

_CONFIG: Final = "config.json"
_ADAPTER: Final = "adapter_config.json"
_ADAPTERS: Final = "adapter_"
"""How the weights of an adapter are called, by PEFT."""
_MISTRAL: Final = "params.json"
_MOST_BYTES: Final = 1 << 20
_SHOWN: Final = 3


def require_model(checkpoint: Checkpoint) -> None:
    """Refuse what cannot be tested as one model.

    Raises:
        SkippedError: It is an adapter, made of several models, or in Mistral's own layout.
        DamageError: A file cannot be read as it should be.
    """
    weights = [path for path in checkpoint.files if path.endswith(SUFFIX)]
    top = [path for path in weights if "/" not in path]
    if _ADAPTER in checkpoint.files and top and all(one.startswith(_ADAPTERS) for one in top):
        raise _adapter(checkpoint)
    if _CONFIG in checkpoint.files:
        return
    folders = sorted({posixpath.dirname(path) for path in weights if not top})
    models = [one for one in folders if f"{one}/{_CONFIG}" in checkpoint.files]
    if models:
        raise _several(models)
    if _MISTRAL in checkpoint.files:
        told = (
            f"It is in Mistral's own layout ({_MISTRAL}, no {_CONFIG}): transformers has no class."
        )
        raise SkippedError(told)


def _adapter(checkpoint: Checkpoint) -> SkippedError:
    base = _base(checkpoint)
    of = f" for {printable(base, 100)}" if isinstance(base, str) and base else ""
    return SkippedError(
        f"It is an adapter{of} ({_ADAPTER}), no model by itself.",
        hint="Its headers were looked at; test the model that it is for.",
    )


def _base(checkpoint: Checkpoint) -> Any:
    """The model that an adapter says it is for; None if it says nothing."""
    try:
        settings = json.loads(checkpoint.read(_ADAPTER, _MOST_BYTES))
    except (ValueError, RecursionError):
        return None
    return settings.get("base_model_name_or_path") if isinstance(settings, dict) else None


def _several(models: list[str]) -> SkippedError:
    listed = ", ".join(printable(f"{one}/") for one in models[:_SHOWN])
    more = ", …" if len(models) > _SHOWN else ""
    return SkippedError(
        f"There is no {_CONFIG}; models lie in folders of their own: {listed}{more}.",
        hint=f"Restore it, and test each by itself: archiver smoke-test DIR/{printable(models[0])}",
    )
