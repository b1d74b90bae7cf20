"""How much room a run may take: it is compared before anything is fetched, and watched while packs grow."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from archiver.errors import NoSpaceError, explain_system_error, out_of_inodes
from archiver.text import human_bytes

if TYPE_CHECKING:
    from archiver.storage.store import Store

_LEAST_RATIO: Final = 0.6
"""Weights that are stored for the first time take at least this much of their size."""
_LOOK_EVERY: Final = 32 << 20
"""Others use the disk too, so the room is looked at anew after so many bytes."""
_UNKNOWN: Final = 1 << 62
_HINT: Final = "Free some room or lower --min-free; a new run goes on from here."


class Room:
    """The room on a store's disk, of which ``min_free`` bytes are to stay; one thread at a time."""

    def __init__(self, store: Store, min_free: int, *, fetched: bool = True) -> None:
        """Take ``fetched`` as whether files come from a hub, not from a folder."""
        self._store = store
        self._min_free = min_free
        self._done = "fetched" if fetched else "taken in"
        self._left = 0
        self._unseen = _LOOK_EVERY

    def require(self, size: int) -> None:
        """Raise NoSpaceError if ``size`` more bytes would leave less than is to stay free."""
        if not self._min_free:
            return  # The system says by itself when the disk is full.
        if self._left < size or self._unseen >= _LOOK_EVERY:
            self._look()
        if self._left < size:
            free = self._left + self._min_free
            raise NoSpaceError(
                f"Only {human_bytes(max(free, 0))} are free on the disk of {self._store.describe()}; "
                f"--min-free keeps {human_bytes(self._min_free)} of it.",
                hint=_HINT,
            )
        self._left -= size
        self._unseen += size

    def require_for(self, fetching: int) -> None:
        """Raise NoSpaceError if what is to be fetched cannot fit, however well it compresses."""
        place = self._store.describe()
        if fetching and out_of_inodes(place):
            raise explain_system_error(OSError(errno.ENOSPC, "", place))
        self._look()
        needed = int(fetching * _LEAST_RATIO)
        if self._left >= needed:
            return
        free = max(self._left + self._min_free, 0)
        raise NoSpaceError(
            f"{human_bytes(fetching)} are to be {self._done}, which takes {human_bytes(needed)} or more "
            f"on the disk of {self._store.describe()}; {human_bytes(free)} are free there, of which "
            f"--min-free keeps {human_bytes(self._min_free)}.",
            hint=_HINT,
        )

    def _look(self) -> None:
        free = self._store.free_bytes()
        # A disk that does not tell is not full: the system says so when it is.
        self._left = _UNKNOWN if free is None else free - self._min_free
        self._unseen = 0
