"""What a dry run says: what would be right afterwards, and what would not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archiver.archive.layout import pack_name
from archiver.archive.repair.packs import MENDABLE, PackState
from archiver.archive.repair.whole_file import Mended

if TYPE_CHECKING:
    from collections.abc import Iterable

    from archiver.archive.finding import Finding
    from archiver.archive.repair.recut import Recut


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
