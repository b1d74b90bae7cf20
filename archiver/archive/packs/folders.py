"""Further folders that packs lie in, such as those of a second disk (``docs/format.md``, section 3).

Where a pack lies is no part of a seal. Here a pack is found by its name: flat, below ``<aa>/``, or below
``packs/<aa>/``. What is read from it is proven as from any other; nothing is ever written there.
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from archiver.archive import layout
from archiver.errors import DamageError
from archiver.storage.local import LocalStore

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from archiver.archive.packs.reader import PackReader
    from archiver.storage.store import Reader, Store

_PACK: Final = re.compile(r"([0-9a-f]{64})\.pack")
_PREFIX: Final = re.compile(r"[0-9a-f]{2}")


class PackFolders:
    """Folders that packs are looked for in, in this order; a pack in one of them goes by its path."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = tuple(path.absolute() for path in paths)
        self._stores = [LocalStore(path) for path in self.paths]

    def open(self, pack: str) -> Reader:
        """Open a pack by its digest; raise FileNotFoundError if it is in none of the folders."""
        place = self.place(pack)
        if place is None:
            raise FileNotFoundError(f"no such pack in {', '.join(map(str, self.paths))}")
        store, name, _ = place
        return store.open(name)

    def size(self, pack: str) -> int | None:
        """Return a pack's size in bytes, or None."""
        place = self.place(pack)
        return None if place is None else place[2]

    def place(self, pack: str) -> tuple[LocalStore, str, int] | None:
        """Return the folder that a pack lies in, its name there, and its size in bytes; or None."""
        file = f"{pack}.pack"
        for store in self._stores:
            for name in (file, f"{pack[:2]}/{file}", layout.pack_name(pack)):
                size = store.stat(name)
                if size is not None:
                    return store, name, size
        return None

    def pack(self, pack: str) -> PackReader:
        """Return a reader of a pack by its path; raise DamageError if it went since."""
        # Whoever only lists what is held opens no pack, and need not wait for numpy.
        from archiver.archive.packs.reader import PackReader  # noqa: PLC0415

        for store in self._stores:
            folder = f"{store.path}/"
            if pack.startswith(folder):
                with suppress(FileNotFoundError):
                    return PackReader.stored(store.open(pack.removeprefix(folder)), pack)
        raise DamageError(f"{pack} is gone.", path=pack)

    def packs(self) -> Iterator[str]:
        """Yield the path of every pack."""
        for store in self._stores:
            for below in ("", layout.PACKS):
                for name in _packs_below(store, below):
                    yield f"{store.path}/{name}"


def _packs_below(store: LocalStore, below: str) -> Iterator[str]:
    """Yield the names of packs in a folder, or in one of ``<aa>/``; no other folder is gone into."""
    folder = store.path / below
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    for name in names:
        inside = f"{below}/{name}" if below else name
        if _PACK.fullmatch(name):
            yield inside
        elif _PREFIX.fullmatch(name):
            files = (each.removeprefix(f"{inside}/") for each in store.list(inside))
            yield from (f"{inside}/{file}" for file in files if _PACK.fullmatch(file))


def is_further_pack(pack: str) -> bool:
    """Return whether it is the path of a pack in a further folder."""
    return pack.startswith("/")


def digest_at(path: str) -> str:
    """Return the digest of the pack at a path."""
    return path.rpartition("/")[2].removesuffix(".pack")


class StoreWithPacks:
    """An archive's store to be read, in which packs that it lacks come from ``further`` folders."""

    def __init__(self, store: Store, further: PackFolders) -> None:
        self._store = store
        self.further = further

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def open(self, name: str) -> Reader:
        """Open a file for ranged reads; raise FileNotFoundError if there is none."""
        pack = layout.pack_of(name)
        if pack is None or self._store.stat(name) is not None:
            return self._store.open(name)
        return self.further.open(pack)

    def stat(self, name: str) -> int | None:
        """Return the file's size in bytes, or None."""
        size = self._store.stat(name)
        pack = layout.pack_of(name)
        return self.further.size(pack) if size is None and pack else size
