"""Which snapshots are to be copied."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archiver.archive.fixity.findings import Findings
from archiver.archive.fixity.seals import SealCheck

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from archiver.archive.archive import Archive, Snapshot
    from archiver.archive.finding import Finding

Reference = tuple[str, str | None]
"""Repository and (beginning of a) revision or seal's id; None: all of its revisions."""


def choose(
    source: Archive, references: Sequence[Reference]
) -> tuple[list[Snapshot], list[Finding]]:
    """The snapshots that the references name (all without any), and the seals that are damaged.

    UsageError if there is no such snapshot.
    """
    findings = Findings(source.store)
    seals = SealCheck(source, findings)
    if not references:
        return list(seals.all()), findings.all
    found = {one.id: one for one in _named(source, seals, findings, references)}
    return list(found.values()), findings.all


def _named(
    source: Archive, seals: SealCheck, findings: Findings, references: Iterable[Reference]
) -> Iterator[Snapshot]:
    for repository, revision in references:
        found = list(seals.of(repository, revision or ""))
        if not found and not findings.all:
            source.find(repository, revision)  # says what is held instead
        yield from found
