"""Checking seals: each must come out whole, and be of this archive."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import TYPE_CHECKING

from archiver.archive import layout
from archiver.archive.fixity.read_twice import read_twice

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from archiver.archive.archive import Archive, Snapshot
    from archiver.archive.fixity.findings import Findings


class SealCheck:
    """Reads seals."""

    def __init__(self, archive: Archive, findings: Findings) -> None:
        self._archive = archive
        self._store = archive.store
        self._findings = findings
        self.named = 0
        """Seals that are there by name, whole or not."""

    def all(self) -> Iterator[Snapshot]:
        """The whole seals of the archive."""
        return self.whole(self._store.list(layout.SNAPSHOTS))

    def of(self, repository: str, digits: str) -> Iterator[Snapshot]:
        """The whole seals that a reference names: a repository and a commit's or seal's first digits."""
        wanted = repository.casefold()
        for one in self.whole(self._archive.seal_names(repository, digits)):
            by_id = not digits and one.id.startswith(repository)
            if by_id or one.seal.repository.casefold() == wanted:
                yield one

    def whole(self, names: Iterable[str]) -> Iterator[Snapshot]:
        """The whole seals among stored files of these names; the others become findings."""
        for name in names:
            document = layout.document_of(name)
            if document is None:
                continue
            self.named += 1
            found, state = read_twice(self._store, name, partial(self._archive.read_seal, name))
            self._findings.unstable(state.unstable, name)
            if found is not None:
                yield found
            else:
                title = _title(name, document.revision)
                self._findings.bad("seal-damaged", state, name, (title,))


def _title(name: str, revision: str) -> str:
    """The snapshot that a seal was for, as far as its name tells."""
    _, organisation, repository, _ = name.split("/")
    return f"{organisation}/{repository}@{revision[:12]}"


def check_writers(findings: Findings, snapshots: list[Snapshot], packs: dict[str, str]) -> None:
    """Remark seals, and packs (each with the archive that its head names), of another archive."""
    own = Counter([one.seal.archive for one in snapshots] + list(packs.values()))
    usual = own.most_common(1)[0][0] if own else ""
    for one in snapshots:
        if one.seal.archive != usual:
            text = f"The seal {one.id} was written by another archive."
            findings.add("foreign-document", text, snapshots=(one.title,))
    for pack, archive in packs.items():
        if archive and archive != usual:
            text = f"Pack {pack} was written by another archive."
            findings.add("foreign-document", text, path=layout.pack_name(pack), pack=pack)
