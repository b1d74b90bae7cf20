"""Bringing the small files back: archive.json, seals, manifests, events, and what explains the archive."""

from __future__ import annotations

from contextlib import closing, suppress
from typing import TYPE_CHECKING, Final

from archiver.archive import archive, layout
from archiver.archive.check.documents import repeated_info
from archiver.archive.parity.sidecar import read_sidecar
from archiver.archive.quarantine import quarantined_names
from archiver.archive.records import info_file
from archiver.errors import ArchiverError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from archiver.archive.archive import Archive
    from archiver.archive.check.result import CheckResult
    from archiver.archive.findings import Finding
    from archiver.archive.repair.whole_files import Mended, WholeFiles
    from archiver.storage.store import Store

_NAMED: Final = {
    "seal-missing",
    "seal-damaged",
    "manifest-missing",
    "manifest-damaged",
    "event-damaged",
}
_BY_ID: Final = {"event-missing", "head-missing"}
JOURNAL: Final = {"event-damaged", *_BY_ID}
"""The codes of what is wrong with the journal."""
_INFO: Final = {"archive-json-missing", "archive-json-damaged"}


class Documents:
    """Heals the documents that findings name."""

    def __init__(self, archive: Archive, replicas: Sequence[Archive], whole: WholeFiles) -> None:
        """Take what the name of a document demands from ``whole``, the rest from ``replicas``."""
        self._archive = archive
        self._replicas = replicas
        self._whole = whole

    def heal(self, found: CheckResult) -> dict[Finding, Mended]:
        """What could be healed, by the finding that told of it.

        Nothing else is while the journal can be healed: its events say which seals were taken out of use
        and are not missing at all.
        """
        told = [one for one in found.findings if one.code in JOURNAL]
        healed = self._all(told, found)
        return healed or self._all([one for one in found.findings if one not in told], found)

    def _all(self, findings: Iterable[Finding], found: CheckResult) -> dict[Finding, Mended]:
        tried = ((one, self._heal(one, found)) for one in findings)
        return {one: back for one, back in tried if back is not None}

    def _heal(self, finding: Finding, found: CheckResult) -> Mended | None:
        code, name = finding.code, finding.path
        if code in _NAMED and layout.digest_of(name) is not None:
            return self._whole.heal(name)
        if code in _BY_ID:
            return next(filter(None, map(self._whole.heal, self._events(finding.object))), None)
        if code in _INFO:
            return self._info(found)
        if code == "carried-missing":
            data = dict(archive.files())[name]
            return self._whole.put(name, data, "this version of archiver")
        return None

    def _events(self, digest: str) -> Iterator[str]:
        """The names that the event with this id has, or had, here and in the replicas."""
        stores = [self._archive.store, *(one.store for one in self._replicas)]
        yield from dict.fromkeys(
            name
            for store in stores
            for name in _event_names(store, digest)
            if layout.event_of(name) == digest
        )

    def _info(self, found: CheckResult) -> Mended | None:
        """A replica's archive.json, if it is of this archive; else what the seals repeat."""
        told = repeated_info(found.sealed)
        for replica in self._replicas:
            info = replica.info
            if told is not None and (info.archive, info.features) == (told.archive, told.features):
                title = replica.store.address
                return self._whole.put(layout.INFO, info_file(info), title)
        if told is None:
            return None
        return self._whole.put(layout.INFO, info_file(told), "the seals")


def _event_names(store: Store, digest: str) -> Iterable[str]:
    """Names that events have, or had; what protects the one that is wanted tells its name too."""
    yield from store.list(layout.JOURNAL)
    with suppress(ArchiverError, FileNotFoundError):
        place = layout.parity_name(digest)
        with closing(store.open(place)) as reader:
            yield read_sidecar(reader, place).header.file
    for name in quarantined_names(store):
        aside = layout.quarantined_of(name)
        if aside is not None:
            yield aside.name
