"""A store as it would be after some of its files were brought back; for a dry run, which writes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from archiver.archive.layout import pack_name
from archiver.archive.repair.repack import MENDABLE, PackState
from archiver.archive.repair.whole_files import Mended
from archiver.errors import DamageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from archiver.archive.findings import Finding
    from archiver.archive.repair.repack import Recut
    from archiver.storage.store import Reader, Store


class Foreseen:
    """Read it as the store; small files of ``files`` (stored name -> content) are there, and whole."""

    def __init__(self, store: Store, files: Mapping[str, bytes]) -> None:
        self._store = store
        self._files = files

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def get(self, name: str, limit: int) -> bytes:
        """A whole file; errors as the store's."""
        data = self._files.get(name)
        if data is None:
            return self._store.get(name, limit)
        if len(data) > limit:
            raise DamageError(f"{name} is {len(data)} bytes long; at most {limit} can be right.")
        return data

    def open(self, name: str) -> Reader:
        """Open a file for ranged reads."""
        data = self._files.get(name)
        return self._store.open(name) if data is None else _Content(data)

    def stat(self, name: str) -> int | None:
        """The file's size in bytes, or None."""
        data = self._files.get(name)
        return self._store.stat(name) if data is None else len(data)

    def list(self, prefix: str) -> Iterator[str]:
        """Names of files below the folder ``prefix``, sorted."""
        more = {name for name in self._files if not prefix or name.startswith(f"{prefix}/")}
        yield from sorted(more.union(self._store.list(prefix)), key=lambda name: name.split("/"))


class _Content:
    """Reads what is in memory."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size = len(data)

    def read_into(self, offset: int, buffer: memoryview) -> int:
        found = self._data[offset : offset + len(buffer)]
        buffer[: len(found)] = found
        return len(found)

    def fresh(self) -> None:
        """It lies on no medium."""

    def close(self) -> None:
        """There is nothing to release."""


# ---- What a dry run says: what would be right afterwards, and what would not.


def mended_packs(state: PackState, recut: Recut) -> list[Mended]:
    """The packs that could be made anew: those of which no snapshot would lack anything."""
    lacking = {title for title, _ in state.needs.files_of(recut.lost)}
    stuck = {
        pack
        for snapshot in state.hit
        for pack, _ in snapshot.seal.packs
        if snapshot.title in lacking or snapshot.id in state.unknown
    }
    return [Mended(pack_name(one), recut.source) for one in sorted(state.bad - stuck)]


def would_remain(
    findings: Iterable[Finding], mended: Iterable[Mended], state: PackState, recut: Recut
) -> tuple[Finding, ...]:
    """The findings that would be there still."""
    right = {one.name for one in mended}
    lost = state.needs.files_of(recut.lost)
    left = (one for one in findings if not _right(one, right, lost))
    return tuple(sorted(left, key=lambda one: (one.code, one.snapshots, one.path, one.pack)))


def _right(one: Finding, right: set[str], lost: set[tuple[str, str]]) -> bool:
    if one.code in {"object-damaged", "object-missing"} and one.path:
        return not any((title, one.path) in lost for title in one.snapshots)
    return one.code in MENDABLE and pack_name(one.pack) in right
