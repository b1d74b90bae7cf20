"""The objects that packs were seen to hold, and which of those that are needed are not among them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Iterable

    from archiver.archive.records import Manifest

Digests = npt.NDArray[np.bytes_]
"""BLAKE3 digests of 32 bytes each, sorted."""


class Bad(NamedTuple):
    """An object that is stored but does not come out."""

    pack: str
    reason: str


class ObjectTable:
    """Which packs hold which sound objects: 32 bytes an object, so that an archive's fit in memory."""

    def __init__(self) -> None:
        self._sound: dict[str, Digests] = {}
        self.bad: dict[str, Bad] = {}

    def add(self, pack: str, sound: bytes) -> None:
        """Note the sound objects of a pack: their digests, 32 bytes each."""
        self._sound[pack] = np.frombuffer(sound, "S32")

    def within(self, packs: Iterable[str]) -> Digests:
        """The sound objects of some packs."""
        found = [self._sound[pack] for pack in packs if pack in self._sound]
        return np.sort(np.concatenate(found)) if found else np.empty(0, "S32")

    def anywhere(self) -> Digests:
        """The sound objects of all packs."""
        return self.within(self._sound)


def lost_objects(manifest: Manifest, sound: Digests) -> set[str]:
    """The objects that a manifest names and that are not among the sound ones."""
    return absent({digest for entry in manifest.files for _, digest in entry.segments}, sound)


def absent(needed: set[str], sound: Digests) -> set[str]:
    """Those of the needed objects that are not among the sound ones."""
    if not needed:
        return set()
    names = sorted(needed)
    wanted = np.frombuffer(bytes.fromhex("".join(names)), "S32")
    if not len(sound):
        return needed
    at = np.minimum(np.searchsorted(sound, wanted), len(sound) - 1)
    return {names[i] for i in np.flatnonzero(sound[at] != wanted)}
