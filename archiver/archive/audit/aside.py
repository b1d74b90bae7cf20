"""Files that were taken out of use, and lie in quarantine or trash still."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from archiver.archive import layout

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from archiver.archive.finding import Finding
    from archiver.storage.store import Store

_MISSING: Final = {"pack-missing", "manifest-missing", "seal-missing"}


def with_places(store: Store, findings: Iterable[Finding]) -> Iterator[Finding]:
    """The findings; those of missing files say where the file was set aside, if it was."""
    aside: dict[str, str] | None = None
    for one in findings:
        if one.code not in _MISSING:
            yield one
            continue
        if aside is None:
            aside = _set_aside(store)
        name = layout.pack_name(one.pack) if one.pack else one.path
        yield msgspec.structs.replace(one, set_aside=aside.get(name, ""))


def _set_aside(store: Store) -> dict[str, str]:
    """Name before -> name now; what was put into the trash counts before quarantine."""
    found = {}
    for folder in (layout.QUARANTINE, layout.TRASH):
        for name in store.list(folder):
            before = layout.aside_of(name)
            if before:
                found[before.name] = name
    return found
