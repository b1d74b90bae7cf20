"""Stored files that lie under names which are not theirs, such as two that were swapped."""

from __future__ import annotations

from contextlib import closing, suppress
from functools import cached_property
from typing import TYPE_CHECKING, Final

from archiver.archive import layout
from archiver.archive.identity import file_digest, is_packed, plain_digest
from archiver.archive.out_of_use import aside_names
from archiver.archive.repair.copies import Candidate, stored_candidate
from archiver.archive.repair.sources import OWN
from archiver.errors import ArchiverError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from archiver.archive.audit.examination import Examination
    from archiver.storage.store import Store

_DOCUMENTS: Final = {"seal-damaged", "manifest-damaged", "event-damaged"}


class Misplaced:
    """A source of whole files: what an examination called damaged may be another file, whole."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._seen: dict[str, str] = {}
        """The digest that a file has -> the name that it was seen under."""

    def learn(self, found: Examination) -> None:
        """Note what is under the names of packs and documents that are damaged."""
        for one in found.examined:
            if one.state is not None and one.state.blake3 not in {"", one.wanted.pack}:
                self._seen[one.state.blake3] = layout.pack_name(one.wanted.pack)
        for finding in found.findings:
            if finding.code in _DOCUMENTS:
                self._look(finding.path)

    def _look(self, name: str) -> None:
        digest = self._digest(name, name)
        if digest:
            self._seen[digest] = name

    def _digest(self, where: str, name: str) -> str:
        """What the stored file ``where``, which has or had ``name``, holds; ``""`` if it cannot be read."""
        with suppress(ArchiverError, FileNotFoundError), closing(self._store.open(where)) as reader:
            return plain_digest(reader, name) if is_packed(name) else file_digest(reader)
        return ""

    @cached_property
    def _set_aside(self) -> dict[str, str]:
        """Documents that a run which died may have set aside: digest -> name now. Packs are walked."""
        before = ((one, layout.aside_of(one)) for one in aside_names(self._store))
        return {
            self._digest(one, found.name): one
            for one, found in before
            if found is not None and not layout.pack_of(found.name)
        }

    def __call__(self, name: str) -> Iterator[Candidate]:
        """The file that was seen, where it was or where a repair has set it aside since."""
        digest = layout.digest_of(name) or ""
        place = self._seen.get(digest)
        where = [one for one in (place, self._set_aside.get(digest)) if one is not None]
        for one in aside_names(self._store) if place else ():
            found = layout.aside_of(one)
            where += [one] if found is not None and found.name == place else []
        yield from (stored_candidate(self._store, one, name, OWN) for one in where)
