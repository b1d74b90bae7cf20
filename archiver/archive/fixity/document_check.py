"""Checking the small files of an archive: archive.json, seals, events, and what explains it."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Final

import msgspec

from archiver.archive import carried, layout
from archiver.archive.advice import Advice, command
from archiver.archive.finding import Code, Finding
from archiver.archive.fixity.chain import Chain
from archiver.archive.fixity.read_twice import Twice, read_twice
from archiver.archive.info import info_file, keys_of, parse_info
from archiver.archive.place_file import read_place
from archiver.archive.records import ArchiveInfo, Event, Seal
from archiver.errors import DamageError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from archiver.archive.archive import Archive, Snapshot

_SMALL_MAX: Final = 1 << 20
_WORKING: Final = tuple(f"{one}/" for one in (layout.TMP, layout.QUARANTINE, layout.TRASH))
"""Folders whose content is out of use."""


class DocumentCheck:
    """Reads the documents of an archive; what is wrong is collected in ``findings``."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._store = archive.store
        self._advice = Advice(archive.store.describe())
        self._chain = Chain()
        self.findings: list[Finding] = []
        self.named = 0
        """Seals that are there by name, whole or not."""

    def _add(self, code: Code, message: str, hint: str = "", **where: str) -> None:
        self.findings.append(Finding(code, message, hint=hint, **where))  # type: ignore[arg-type] # all are text

    def _unstable(self, reason: str, name: str) -> None:
        if reason:
            self._add("read-unstable", reason, self._advice.unstable(), path=name)

    def _bad(self, code: Code, state: Twice, name: str, snapshot: str = "") -> None:
        """A document that did not come out, or could not be read at all."""
        hint = self._advice.copy_back(name, code)
        if state.denied:
            code, hint = "file-unreadable", self._advice.make_readable()
        self._add(code, state.problem, hint, path=name, snapshot=snapshot)

    # ---- seals

    def seals(self, prefix: str, revision: str = "") -> Iterator[Snapshot]:
        """The whole seals below ``prefix`` whose revision begins so; the others become findings."""
        for name in self._store.list(prefix):
            document = layout.document_of(name)
            if document is None or not document.revision.startswith(revision):
                continue
            self.named += 1
            found, state = read_twice(self._store, name, partial(self._archive.read_seal, name))
            self._unstable(state.unstable, name)
            if found is not None:
                yield found
            else:
                self._bad("seal-damaged", state, name, _title(name, document.revision))

    # ---- archive.json

    def info(self, snapshots: list[Snapshot]) -> None:
        """archive.json must be there, readable, and say what the seals say."""
        name = layout.INFO
        if self._store.stat(name) is None:
            self._add(
                "archive-json-missing", f"{name} is missing.", self._anew(snapshots), path=name
            )
            return
        found, state = read_twice(self._store, name, self._read_info)
        self._unstable(state.unstable, name)
        if state.denied:
            self._bad("archive-json-damaged", state, name)
            return
        problem = state.problem
        told = {(one.seal.archive, one.seal.features) for one in snapshots}
        if found is not None and told and (found.archive, found.features) not in told:
            problem = f"{name} names another archive, or other features, than every seal does."
        if problem:
            self._add("archive-json-damaged", problem, self._anew(snapshots), path=name)

    def _read_info(self) -> ArchiveInfo:
        data = self._store.get(layout.INFO, _SMALL_MAX)
        info = parse_info(data)
        if not isinstance(info.check, msgspec.UnsetType):
            return info
        # Without a digest: a key in which a bit flipped is an unknown key, which a reader passes over.
        keys = keys_of(data).keys()
        absent = set(info.__struct_fields__) - {"check"} - keys
        if absent or keys - set(info.__struct_fields__):
            names = ", ".join(sorted(absent or {"check"}))
            raise DamageError(f"{layout.INFO} has lost its {names}.")
        if info.kind != "archive":
            raise DamageError(f"{layout.INFO} says that it is no archive but {info.kind[:40]!r}.")
        return info

    def _anew(self, snapshots: list[Snapshot]) -> str:
        """How to write archive.json anew, from what most seals repeat."""
        info = repeated_info(snapshots)
        if info is None:
            return self._advice.copy_back(layout.INFO, "archive-json-missing")
        return f"Write this line into {layout.INFO}: {info_file(info).decode().strip()}"

    def foreign(self, snapshots: list[Snapshot], packs: dict[str, str]) -> None:
        """Remark seals and packs that another archive wrote."""
        own = Counter([one.seal.archive for one in snapshots] + list(packs.values()))
        usual = own.most_common(1)[0][0] if own else ""
        for one in snapshots:
            if one.seal.archive != usual:
                text = f"The seal {one.id} was written by another archive."
                self._add("foreign-document", text, snapshot=one.title)
        for pack, archive in packs.items():
            if archive and archive != usual:
                text = f"Pack {pack} was written by another archive."
                self._add("foreign-document", text, path=layout.pack_name(pack), pack=pack)

    # ---- journal, carried files, the rest

    def journal(self) -> Iterator[tuple[str, Event]]:
        """The events that can be read, with their ids, oldest first; the others become findings."""
        for name in self._archive.journal.names():
            found, state = read_twice(self._store, name, partial(self._archive.journal.read, name))
            self._unstable(state.unstable, name)
            digest = layout.event_of(name) or ""
            self._chain.add(digest, found)
            if found is None:
                self._bad("event-damaged", state, name)
            else:
                yield digest, found

    def events(self, snapshots: list[Snapshot]) -> None:
        """What the journal, once it was read, tells of must be there: events before others, and seals."""
        # Looked at once more: one may have come while they were being listed.
        there = {layout.event_of(name) for name in self._archive.journal.names()}
        for digest, after in self._chain.missing():
            if digest in there:
                continue
            text = f"The event {digest} is not there; event {after} was written after it."
            self._add("event-missing", text, self._advice.lost_event(digest), object=digest)
        seals = self._named_seals()
        whole = {_key(one.seal) for one in snapshots if one.seal.selection.whole}
        for event in self._chain.sealed():
            if event.snapshot not in seals:
                self._no_seal(event, whole)

    def heads(self, wanted: Iterable[str]) -> None:
        """Each of these ids, which were kept elsewhere, must be that of an event."""
        there = {layout.event_of(name) for name in self._archive.journal.names()}
        for digest in dict.fromkeys(wanted):
            if digest not in there:
                text = (
                    f"The event {digest} is not in the journal: the archive was set back to an "
                    "earlier state, or written anew."
                )
                self._add("head-missing", text, self._advice.lost_head(digest), object=digest)

    def _named_seals(self) -> set[str]:
        documents = map(layout.document_of, self._store.list(layout.SNAPSHOTS))
        return {document.digest for document in documents if document}

    def _no_seal(self, event: Event, whole: set[tuple[str, str]]) -> None:
        if _key(event) in whole:
            return  # a seal of the whole revision stands in for any other: so a snapshot is mended
        title = f"{event.repository}@{event.revision[:12]}"
        digest = event.snapshot[:64]
        text = f"The journal tells of the seal {digest} of {title}, which is not there."
        name = _seal_name(event, digest)
        hint = self._advice.copy_back(name or f"seal {digest}", "seal-missing", title)
        other = command("repair", self._advice.place, "--from", "DIR")
        hint += f" If it was deleted here, another copy of the archive has it: {other}."
        self._add("seal-missing", text, hint, path=name, snapshot=title)

    def explanations(self) -> None:
        """The files that explain the archive must be there; another version's are a remark."""
        for name, data in carried.files():
            if not self._store.stat(name):
                hint = f"Run 'archiver init -C NEW' with a new folder and copy {name} out of it."
                self._add("carried-missing", f"{name} is missing or empty.", hint, path=name)
                continue
            found, state = read_twice(self._store, name, partial(self._text, name))
            if state.denied:
                self._bad("carried-missing", state, name)
                continue
            if found != data:
                text = f"{name} is not the one of this version: an older one, or damaged."
                self._add("carried-differs", text, path=name)

    def place(self) -> None:
        """Remark a damaged place.json: the next run that writes makes it anew."""
        name = layout.PLACE
        _, state = read_twice(self._store, name, partial(read_place, self._store))
        self._unstable(state.unstable, name)
        if state.problem:
            text = f"{state.problem} It only says which place this is. No stored file is concerned."
            self._add("place-damaged", text, f"Run {self._advice.repair()}.", path=name)

    def _text(self, name: str) -> bytes:
        return self._store.get(name, _SMALL_MAX)

    def leftovers(self, manifests: set[str]) -> None:
        """Remark manifests that no seal names, and files that an archive does not have."""
        for name in self._store.list(""):
            if name.startswith(f"{layout.MANIFESTS}/") and layout.document_of(name):
                if name not in manifests:
                    text = f"{name} has no seal: a run was interrupted, or its seal is lost."
                    self._add("unsealed-manifest", text, path=name)
            elif not _known(name):
                self._add("unknown-file", f"{name} is not a file that an archive has.", path=name)


def repeated_info(snapshots: Sequence[Snapshot]) -> ArchiveInfo | None:
    """What archive.json should say, as most seals repeat it; None without a seal."""
    if not snapshots:
        return None
    told = Counter(one.seal.archive for one in snapshots)
    first = min(snapshots, key=lambda one: (-told[one.seal.archive], one.seal.sealed)).seal
    return ArchiveInfo(first.archive, first.sealed, first.tool, features=first.features)


def _seal_name(event: Event, digest: str) -> str:
    """The name of a seal that an event tells of; ``""`` if no repository has such a name."""
    try:
        return layout.seal_name(event.repository, event.revision, digest)
    except UsageError:
        return ""


def _title(name: str, revision: str) -> str:
    """The snapshot that a seal was for, as far as its name tells."""
    _, organisation, repository, _ = name.split("/")
    return f"{organisation}/{repository}@{revision[:12]}"


def _key(record: Seal | Event) -> tuple[str, str]:
    return record.repository.casefold(), record.revision


def _known(name: str) -> bool:
    fixed = (
        name in {layout.INFO, layout.PLACE}
        or name in carried.NAMES
        or name.startswith(layout.CATALOGUE)
    )
    return (
        fixed
        or name.startswith(_WORKING)
        or layout.digest_of(name) is not None
        or layout.parity_of(name) is not None
        or layout.signature_of(name) is not None
    )
