"""What the tests of loading share: trials on archived models, and what the files compute."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import smokekit

from archiver.smoke import libraries
from archiver.smoke.loading import fit, layers
from archiver.smoke.messages import Fits, Settings
from archiver.smoke.session import Session

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from archiver.smoke.model import Dtype

IDS = [[5, 12, 19, 26, 33, 40, 47, 54, 61, 68, 75, 12]]


def session_on(folder: Path, tmp_path: Path, **settings: Any) -> Session:
    """A session on the folder's snapshot in a new archive."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    checkpoint = smokekit.archived(folder, tmp_path)
    return Session(checkpoint, Settings(**settings), scratch, list[Any]().append)


def fit_of(session: Session) -> tuple[str, ...]:
    """How its model fits, as the parent is told."""
    told = session.tell.__self__  # type: ignore[attr-defined]
    return next(one.lines for one in reversed(told) if isinstance(one, Fits))


def stream_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stream whatever the size: nothing is too small to be dropped, and heads have several blocks."""
    monkeypatch.setattr(layers, "SMALL", 200)
    monkeypatch.setattr(layers, "BLOCKED_ABOVE", 100_000)
    monkeypatch.setattr(layers, "BLOCK", 50_000)
    monkeypatch.setattr(fit, "_choose", lambda *_: ("streamed", "The test wants it so."))


def keep_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if memory were always full."""
    from archiver.smoke.loading.fit import Budget

    monkeypatch.setattr(Budget, "stays", lambda _: False)


def reference(folder: Path, dtype: Dtype) -> Any:
    """The model as transformers loads it from the files."""
    libraries.require("torch", "transformers", "accelerate")
    import torch
    import transformers

    config = transformers.AutoConfig.from_pretrained(folder)
    cls = getattr(transformers, config.architectures[0])
    module = cls.from_pretrained(
        folder,
        dtype=getattr(torch, dtype),
        attn_implementation="eager",
        experts_implementation="eager",
    )
    return module.float() if dtype == "float32" else module


def outputs(module: Any, **inputs: Any) -> Any:
    """Logits, or hidden states if there is no head."""
    import torch

    with torch.no_grad():
        return module(**({"input_ids": torch.tensor(IDS)} | inputs))[0]


def continued(module: Any) -> list[int]:
    """Four more ids, with the cache."""
    import torch

    made = module.generate(input_ids=torch.tensor(IDS), do_sample=False, max_new_tokens=4)
    found: list[int] = made[0].tolist()
    return found
