"""The documents of an archive, as an audit needs them: what is sealed, proven and wanted."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Final

import msgspec

from archiver.archive import archive, layout
from archiver.archive.advice import (
    BringOrForget,
    CarryAnew,
    MayDelete,
    MoveOut,
    Repair,
    RepairFromCopy,
    WriteLine,
)
from archiver.archive.check.heads import Chain, ReplacementSeals, foreign_head, split_heads
from archiver.archive.check.history import Proofs, proofs_of, readable_events
from archiver.archive.fixity import read_or_reread
from archiver.archive.foreign import ForeignFile, ForeignKind, foreign_files
from archiver.archive.journal import in_order, policy_of
from archiver.archive.places import own_place
from archiver.archive.policy import Policy
from archiver.archive.records import ArchiveInfo, info_file, keys_of, parse_info, read_place
from archiver.errors import ArchiverError, DamageError, UsageError, skip_damaged
from archiver.text import utc_now

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from archiver.archive.advice import Actions, Advice
    from archiver.archive.archive import Archive
    from archiver.archive.check.heads import TrustedHead
    from archiver.archive.check.result import Findings, Scope
    from archiver.archive.events import Event
    from archiver.archive.seals import Snapshot
    from archiver.storage.store import Store


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
            every = list(self._archive.snapshots(on_damage=skip_damaged))
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

    def heads(self, kept: Iterable[TrustedHead]) -> None:
        """Each of these heads, which were kept elsewhere, must be an event of this journal."""
        self._journal.heads(kept)

    def whole_archive(self, snapshots: list[Snapshot], manifests: set[str]) -> None:
        """Judge what is no snapshot's alone; ``manifests`` are the names that the seals give."""
        store = self._archive.store
        self._journal.told(snapshots)
        check_explanations(store, self._findings)
        check_place(store, self._findings)
        check_names(store, self._findings, manifests)


# ---- Checking the journal: every event must come out whole, and nothing that it tells of may be gone.


_TOLD: Final = 8
"""Seals that a message names."""


class JournalCheck:
    """Reads the journal once, then judges what it tells."""

    def __init__(self, archive: Archive, findings: Findings) -> None:
        self._archive = archive
        self._store = archive.store
        self._findings = findings
        self._chain = Chain()

    def events(self) -> Iterator[tuple[str, Event]]:
        """The events that can be read, with their ids, oldest first; the others become findings."""
        readable: dict[str, Event] = {}
        for name in self._archive.journal.names():
            found, state = read_or_reread(
                self._store, name, partial(self._archive.journal.read, name)
            )
            self._findings.unstable(state.unstable, name)
            digest = layout.event_of(name) or ""
            self._chain.add(digest, found)
            if found is None:
                self._findings.bad("event-damaged", state, name)
            else:
                readable[digest] = found
        yield from in_order(readable)

    def told(self, snapshots: list[Snapshot]) -> None:
        """What the journal, once it was read, tells of must be there: events before others, and seals."""
        # Looked at once more: one may have come while they were being listed.
        there = {layout.event_of(name) for name in self._archive.journal.names()}
        for digest, after in self._chain.missing():
            if digest in there:
                continue
            text = f"The event {digest} is not there; event {after} was written after it."
            self._findings.add(
                "event-missing", text, self._findings.advice.lost_event(digest), object=digest
            )
        seals = self._named_seals()
        replacements = ReplacementSeals(self._archive, snapshots)
        for event in self._chain.sealed():
            if event.snapshot not in seals and not replacements.exist_for(event):
                self._no_seal(event, replacements.of_revision(event))

    def heads(self, kept: Iterable[TrustedHead]) -> None:
        """Each of these heads, which were kept elsewhere, must be an event, if they are of this journal."""
        there = {layout.event_of(name) for name in self._archive.journal.names()}
        own, others = split_heads(self._archive, kept)
        self._findings.all += [
            foreign_head(self._archive, one, there=one.id in there) for one in others
        ]
        for digest in dict.fromkeys(one.id for one in own):
            if digest not in there:
                text = (
                    f"The event {digest} is not in the journal: the archive was set back to an "
                    "earlier state, or written anew."
                )
                self._findings.add(
                    "head-missing", text, self._findings.advice.lost_head(digest), object=digest
                )

    def _named_seals(self) -> set[str]:
        documents = map(layout.document_of, self._store.list(layout.SNAPSHOTS))
        return {document.digest for document in documents if document}

    def _no_seal(self, event: Event, others: list[Snapshot]) -> None:
        title = f"{event.repository}@{event.revision[:12]}"
        digest = event.snapshot[:64]
        text = f"The journal tells of the seal {digest} of {title}, which is not there."
        name = _seal_name(event, digest)
        if others:
            ids = ", ".join(other.id[:12] for other in others[:_TOLD])
            text += (
                f" Held of the revision is {ids}, whose files may have a lesser voucher: a digest of "
                "upstream's that was proven may be lost."
            )
        advice = self._findings.advice
        actions = advice.copy_back(name or f"seal {digest}", "seal-missing", title)
        if event.snapshot in self._chain.deleted():
            text += " It was pruned, and 'forget --undo' said that it is wanted again."
            actions = (BringOrForget(advice.place, title),)
        actions = (*actions, RepairFromCopy(advice.place))
        self._findings.add("seal-missing", text, actions, path=name, snapshots=(title,))


def _seal_name(event: Event, digest: str) -> str:
    """The name of a seal that an event tells of; ``""`` if no repository has such a name."""
    try:
        return layout.seal_name(event.repository, event.revision, digest)
    except UsageError:
        return ""


# ---- Checking seals: each must come out whole, and be of this archive.


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
            found, state = read_or_reread(self._store, name, partial(self._archive.read_seal, name))
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
    for pack, writer in packs.items():
        if writer and writer != usual:
            text = f"Pack {pack} was written by another archive."
            findings.add("foreign-document", text, path=layout.pack_name(pack), pack=pack)


# ---- Checking ``archive.json``: it must be there, readable, and say what the seals say.


_SMALL_MAX: Final = 1 << 20


def check_info(store: Store, findings: Findings, snapshots: Sequence[Snapshot]) -> None:
    """Find what is wrong with archive.json; the snapshots are those whose seals are whole."""
    name = layout.INFO
    if store.stat(name) is None:
        actions = _anew(findings, snapshots)
        findings.add("archive-json-missing", f"{name} is missing.", actions, path=name)
        return
    found, state = read_or_reread(store, name, partial(_read, store))
    findings.unstable(state.unstable, name)
    if state.denied:
        findings.bad("archive-json-damaged", state, name)
        return
    problem = state.problem
    told = {(one.seal.archive, one.seal.features) for one in snapshots}
    if found is not None and told and (found.archive, found.features) not in told:
        problem = f"{name} names another archive, or other features, than every seal does."
    if problem:
        findings.add("archive-json-damaged", problem, _anew(findings, snapshots), path=name)


def _read(store: Store) -> ArchiveInfo:
    data = store.get(layout.INFO, _SMALL_MAX)
    info = parse_info(data)
    if not isinstance(info.check, msgspec.UnsetType):
        return info
    # Without a digest: a key in which a bit flipped is an unknown key, which a reader passes over.
    keys = keys_of(data).keys()
    absent = set(info.__struct_fields__) - {"check"} - keys
    if absent or keys - set(info.__struct_fields__):
        names = ", ".join(sorted(absent or {"check"}))
        raise DamageError(f"{layout.INFO} has lost its {names}.", path=layout.INFO)
    if info.kind != "archive":
        raise DamageError(
            f"{layout.INFO} says that it is no archive but {info.kind[:40]!r}.", path=layout.INFO
        )
    return info


def _anew(findings: Findings, snapshots: Sequence[Snapshot]) -> Actions:
    """How to write archive.json anew, from what most seals repeat."""
    info = repeated_info(snapshots)
    if info is None:
        return findings.advice.copy_back(layout.INFO, "archive-json-missing")
    return (WriteLine(layout.INFO, info_file(info).decode().strip()),)


def repeated_info(snapshots: Sequence[Snapshot]) -> ArchiveInfo | None:
    """What archive.json should say, as most seals repeat it; None without a seal."""
    if not snapshots:
        return None
    told = Counter(one.seal.archive for one in snapshots)
    first = min(snapshots, key=lambda one: (-told[one.seal.archive], one.seal.sealed)).seal
    return ArchiveInfo(first.archive, first.sealed, first.tool, features=first.features)


# ---- Checking what lies beside seals, manifests, events and packs: what explains the archive, and
# the rest.


_EXPLANATION_MAX: Final = 1 << 20


def check_explanations(store: Store, findings: Findings) -> None:
    """The files that explain the archive must be there; another version's are a remark."""
    for name, data in archive.carried_files():
        if not store.stat(name):
            text = f"{name} is missing or empty."
            findings.add("carried-missing", text, (CarryAnew(name),), path=name)
            continue
        found, state = read_or_reread(store, name, partial(store.get, name, _EXPLANATION_MAX))
        if state.denied:
            findings.bad("carried-missing", state, name)
            continue
        if found != data:
            text = f"{name} is not the one of this version: an older one, or damaged."
            findings.add("carried-differs", text, path=name)


def check_place(store: Store, findings: Findings) -> None:
    """Remark a damaged place.json: the next run that writes makes it anew."""
    name = layout.PLACE
    _, state = read_or_reread(store, name, partial(read_place, store))
    findings.unstable(state.unstable, name)
    if state.problem:
        text = f"{state.problem} It only says which place this is. No stored file is concerned."
        findings.add("place-damaged", text, (Repair(findings.advice.place),), path=name)


def check_names(store: Store, findings: Findings, manifests: set[str]) -> None:
    """Remark manifests that no seal names, and files that an archive does not have."""
    for name in store.list(layout.MANIFESTS):
        if layout.document_of(name) and name not in manifests:
            text = f"{name} has no seal: a run was interrupted, or its seal is lost."
            findings.add("unsealed-manifest", text, path=name)
    for file in foreign_files(store):
        if file.kind is ForeignKind.UNREADABLE:
            text = f"{file.name} cannot be read, and is no stored file by its name."
            findings.add(
                "file-unreadable", text, findings.advice.foreign_seal(file.name), path=file.name
            )
        else:
            findings.add("unknown-file", *_told(file, findings.advice), path=file.name)


def _told(file: ForeignFile, advice: Advice) -> tuple[str, Actions]:
    """What a foreign file is, and what to do about it."""
    if file.kind is ForeignKind.LITTER:
        text = f"{file.name} is no file of an archive: a system put it there. Nothing reads it."
        return text, (MayDelete(),)
    if file.kind is ForeignKind.SEAL:
        text = (
            f"{file.name} is a seal of {file.title} under a name that is not its own. Nothing reads it, "
            "and prune deletes nothing while it is there."
        )
        return text, advice.foreign_seal(file.name, file.own_name)
    text = f"{file.name} is not a file that an archive has. Nothing reads it."
    return text, (MoveOut(),)
