"""Pins: the published digests that mirrored revisions must agree with."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING

import msgspec

from archiver.archive.pin import Pin

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable


def published_pins() -> tuple[Pin, ...]:
    """The pins that come with archiver (``manifests/pins``)."""
    return tuple(_pins_below(resources.files("archiver") / "carried" / "manifests" / "pins"))


def _pins_below(folder: Traversable) -> list[Pin]:
    found: list[Pin] = []
    for item in sorted(folder.iterdir(), key=lambda one: one.name):
        if item.is_dir():
            found += _pins_below(item)
        elif item.name.endswith(".json"):
            found.append(msgspec.json.decode(item.read_bytes(), type=Pin))
    return found
