"""The documents of an archive, as an audit needs them: what is sealed, proven and wanted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archiver.archive.audit.proofs import Proofs, proofs_of, readable_events
from archiver.archive.fixity.info import check_info
from archiver.archive.fixity.journal import JournalCheck
from archiver.archive.fixity.other_files import check_explanations, check_names, check_place
from archiver.archive.fixity.seals import SealCheck
from archiver.archive.journal import policy_of
from archiver.archive.place import own_place
from archiver.archive.policy import Policy
from archiver.errors import ArchiverError
from archiver.text import utc_now

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from archiver.archive.archive import Archive, Snapshot
    from archiver.archive.audit.examination import Scope
    from archiver.archive.events import Event
    from archiver.archive.fixity.findings import Findings
    from archiver.archive.fixity.kept_heads import KeptHead


class Documents:
    """Reads seals and journal; what is wrong with them is added to ``findings``."""

    def __init__(self, archive: Archive, scope: Scope, findings: Findings) -> None:
        self._archive = archive
        self._scope = scope
        self._findings = findings
        self._seals = SealCheck(archive, findings)
        self._journal = JournalCheck(archive, findings)
        self._policies: list[tuple[str, Event]] = []

    @property
    def named(self) -> int:
        """How many seals are there by name, whole or not."""
        return self._seals.named

    def snapshots(self) -> list[Snapshot]:
        """Those in the scope whose seals are whole; archive.json must say what they say."""
        found = self._sealed()
        every = found
        if self._scope.repository is not None:
            # Those in the scope may all have come from another archive, and name that one.
            every = list(self._archive.snapshots(on_damage=lambda _name, _error: None))
        check_info(self._archive.store, self._findings, every)
        return found

    def _sealed(self) -> list[Snapshot]:
        repository, revision = self._scope
        if repository is None:
            return list(self._seals.all())
        chosen = list(self._seals.of(repository, revision))
        if not chosen and not self._findings.all and not self._archive.store.passed_over():
            self._archive.find(repository, revision)  # says what is held instead
        return chosen

    def proofs(self) -> Proofs:
        """When what was proven last, as far as the journal can be read."""
        whole = self._scope.repository is None
        events = self._journal.events() if whole else readable_events(self._archive.journal)
        return proofs_of(self._noted(events), utc_now(), own_place(self._archive))

    def _noted(self, events: Iterable[tuple[str, Event]]) -> Iterator[tuple[str, Event]]:
        """The events; those of the policy are kept."""
        for one in events:
            if one[1].type is Policy:
                self._policies.append(one)
            yield one

    def policy(self) -> Policy:
        """What the owner wants; the defaults if that cannot be understood. Once ``proofs`` was asked."""
        try:
            return policy_of(self._policies)
        except ArchiverError:
            return Policy()  # whoever asks for it is told

    def heads(self, kept: Iterable[KeptHead]) -> None:
        """Each of these heads, which were kept elsewhere, must be an event of this journal."""
        self._journal.heads(kept)

    def whole_archive(self, snapshots: list[Snapshot], manifests: set[str]) -> None:
        """Judge what is no snapshot's alone; ``manifests`` are the names that the seals give."""
        store = self._archive.store
        self._journal.told(snapshots)
        check_explanations(store, self._findings)
        check_place(store, self._findings)
        check_names(store, self._findings, manifests)
