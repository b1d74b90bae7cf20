"""What a run that was killed leaves in an archive, and what it must not have published."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

from kit.repository import WEIGHTS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def tmp_names(archive: Path) -> list[str]:
    """What lies in ``tmp/``, less the room that is put by."""
    return sorted(path.name for path in (archive / "tmp").iterdir() if path.name != "reserve")


def assert_nothing_published(archive: Path) -> None:
    """No seal, no manifest, no word of it in the journal; only leftovers in tmp."""
    for folder in ("snapshots", "manifests", "journal"):
        assert not [path for path in (archive / folder).rglob("*") if path.is_file()], folder
    for path in (archive / "tmp").glob("*-*"):
        assert path.name.startswith(("pack-", "work-", "put-")), path


def resumable_bytes(archive: Path, weights: str = WEIGHTS) -> int:
    """Return the bytes of the weights that worklogs know, from the first byte on without a gap."""
    known = {}
    for path in (archive / "tmp").glob("work-*"):
        for row in path.read_bytes().splitlines():
            try:
                name, begin, size, _ = json.loads(row)
            except ValueError:
                continue
            if name == weights:
                known[begin] = size
    at = 0
    while at in known:
        at += known[at]
    return at


def wait_until(condition: Callable[[], object], seconds: float = 600) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)
