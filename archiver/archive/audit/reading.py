"""Reading the packs of an examination: each at most once, and what they hold gathered."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING

from archiver.archive.audit.objects import Bad, ObjectTable
from archiver.archive.audit.pack_findings import pack_findings
from archiver.archive.audit.packs import Examined, examine_all
from archiver.archive.finding import Finding
from archiver.archive.layout import pack_name

if TYPE_CHECKING:
    from collections.abc import Iterable

    from archiver.archive.advice import Advice
    from archiver.archive.audit.wanted import Wanted
    from archiver.archive.policy import Level
    from archiver.progress import Progress
    from archiver.storage.store import Store

OnExamined = Callable[[Examined], None]
"""Told of each pack as soon as it was read."""


class Reading:
    """The packs that were read or looked at so far; what is wrong with them is added to ``findings``."""

    def __init__(
        self,
        store: Store,
        advice: Advice,
        findings: list[Finding],
        progress: Progress,
        workers: int,
        told: OnExamined,
    ) -> None:
        self._store = store
        self._advice = advice
        self._findings = findings
        self._progress = progress
        self._workers = workers
        self._told = told
        self.objects = ObjectTable()
        self.examined: dict[str, Examined] = {}
        self.bytes = 0

    def read(self, packs: Iterable[Wanted], level: Level, *, shown: bool = True) -> None:
        """Read packs that were not read yet, several at a time; ``shown`` in the progress."""
        counted = partial(self._progress.advance, fetched=True)
        asked: Level = "content" if level == "files" else level
        new = (one for one in packs if one.pack not in self.examined)
        found = examine_all(self._store, new, self._workers, counted, asked)
        # Closed at once if anything interrupts: its threads must not read on behind an error.
        with closing(found) as examining:
            for examined in examining:
                self._note(examined)
                if shown:
                    self._progress.end(pack_name(examined.wanted.pack))

    def _note(self, examined: Examined) -> None:
        wanted, state = examined.wanted, examined.state
        self.examined[wanted.pack] = examined
        self._findings += pack_findings(examined, self._advice)
        if not wanted.snapshots:
            text = f"No seal needs pack {wanted.pack}: a run was interrupted, or its seal is lost."
            name = pack_name(wanted.pack)
            self._findings.append(Finding("unsealed-pack", text, path=name, pack=wanted.pack))
        if state is not None:
            self.objects.add(wanted.pack, state.sound)
            self.objects.bad |= {one.blake3: Bad(wanted.pack, one.reason) for one in state.faults}
            self.bytes += 0 if examined.level == "structure" else state.size
        self._told(examined)

    def denied(self) -> set[str]:
        """The packs that may not be read."""
        return {pack for pack, one in self.examined.items() if one.denied}

    def writers(self) -> dict[str, str]:
        """Which archive wrote each pack that could be read."""
        states = {pack: one.state for pack, one in self.examined.items()}
        return {pack: state.archive for pack, state in states.items() if state is not None}
