"""Which snapshots are to be copied."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archiver.archive import layout
from archiver.archive.fixity.document_check import DocumentCheck
from archiver.names import as_repo_id, slug

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from archiver.archive.archive import Archive, Snapshot
    from archiver.archive.finding import Finding

Reference = tuple[str, str | None]
"""Repository and (beginning of a) revision; None: all of its revisions."""


def choose(
    source: Archive, references: Sequence[Reference]
) -> tuple[list[Snapshot], list[Finding]]:
    """The snapshots that the references name (all without any), and the seals that are damaged.

    UsageError if there is no such snapshot.
    """
    documents = DocumentCheck(source)
    if not references:
        return list(documents.seals(layout.SNAPSHOTS)), documents.findings
    found = {one.id: one for one in _named(source, documents, references)}
    return list(found.values()), documents.findings


def _named(
    source: Archive, documents: DocumentCheck, references: Iterable[Reference]
) -> Iterator[Snapshot]:
    for repository, revision in references:
        below = f"{layout.SNAPSHOTS}/{slug(as_repo_id(repository))}"
        found = [
            one
            for one in documents.seals(below, revision or "")
            if one.seal.repository.casefold() == repository.casefold()
        ]
        if not found and not documents.findings:
            source.find(repository, revision)  # says what is held instead
        yield from found
