"""Checking the documents of an archive: seals, the journal, ``archive.json``, and what else lies there.

What is wrong with them is added to the findings. Each document that looks damaged is reread first.
"""

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
from archiver.archive.bundles.ledger import Ledger
from archiver.archive.chain import Chain
from archiver.archive.check.heads import (
    ReplacementSeals,
    foreign_head,
    missing_event,
    missing_head,
    split_heads,
)
from archiver.archive.check.proofs import Proofs, proofs_of, standing_proofs
from archiver.archive.editions import edition_of
from archiver.archive.events import Malformed, Rehashed
from archiver.archive.fixity import read_or_reread
from archiver.archive.foreign import ForeignFile, ForeignKind, foreign_files
from archiver.archive.journal import in_order, policy_of
from archiver.archive.places import own_place
from archiver.archive.policy import Policy
from archiver.archive.publish import closure_names
from archiver.archive.records import ArchiveInfo, info_file, keys_of, parse_info, read_place
from archiver.errors import ArchiverError, DamageError, NotUnderstoodError, UsageError
from archiver.text import utc_now

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from archiver.archive.advice import Actions, Advice
    from archiver.archive.archive import Archive
    from archiver.archive.check.heads import TrustedHead
    from archiver.archive.check.pack_reading import PackResult
    from archiver.archive.check.result import Findings
    from archiver.archive.events import Event
    from archiver.archive.seals import Snapshot
    from archiver.storage.store import Store


_SMALL_MAX: Final = 1 << 20
"""Bytes of ``archive.json``, or of a file that explains the archive."""


# ---- seals


class SealCheck:
    """Reads seals: each must come out whole."""

    def __init__(self, archive: Archive, findings: Findings) -> None:
        self._archive = archive
        self._store = archive.store
        self._findings = findings
        self.named = 0
        """Seals that are there by name, whole or not."""

    def all(self) -> Iterator[Snapshot]:
        """Return the whole seals of the archive."""
        return self._whole(self._store.list(layout.SNAPSHOTS))

    def of(self, repository: str, digits: str) -> Iterator[Snapshot]:
        """Return the whole seals of a repository whose commit or id begins with these digits."""
        for snapshot in self._whole(self._archive.seal_names(repository, digits)):
            by_id = not digits and snapshot.id.startswith(repository)
            if by_id or snapshot.seal.repository.casefold() == repository.casefold():
                yield snapshot

    def chosen(self, repository: str | None, revision: str | None) -> list[Snapshot]:
        """Return the whole seals of the archive, or of a repository; UsageError if it has none."""
        if repository is None:
            return list(self.all())
        snapshots = list(self.of(repository, revision or ""))
        if not snapshots and not self._findings.all and not self._store.passed_over():
            self._archive.find(repository, revision or "")  # says what is held instead
        return snapshots

    def _whole(self, names: Iterable[str]) -> Iterator[Snapshot]:
        """Return the whole seals among stored files of these names; the damaged ones become findings."""
        for name in names:
            document = layout.document_of(name)
            if document is None:
                continue
            self.named += 1
            read = partial(self._archive.read_seal, name)
            # The snapshot that it was for, as far as its name tells.
            title = f"{layout.repository_hint(name)}@{document.revision[:12]}"
            try:
                snapshot, result = read_or_reread(self._store, name, read)
            except NotUnderstoodError as error:
                text = f"{error.message} Its snapshot is left out."
                self._findings.add("not-understood", text, path=name, snapshots=(title,))
                continue
            self._findings.add_read("seal-damaged", result, name, snapshots=(title,))
            if snapshot is not None and not self._archive.is_spare(snapshot):
                yield snapshot


def check_writers(
    snapshots: Iterable[Snapshot], packs: Mapping[str, PackResult], findings: Findings
) -> None:
    """Remark seals, and packs by what their heads say, of another archive than most are of."""
    readable = [result for result in packs.values() if result.readable]
    writers = Counter(
        [
            *(snapshot.seal.archive for snapshot in snapshots),
            *(result.archive for result in readable),
        ]
    )
    usual = writers.most_common(1)[0][0] if writers else ""
    for snapshot in snapshots:
        if snapshot.seal.archive != usual:
            text = f"The seal {snapshot.id} was written by another archive."
            findings.add("foreign-document", text, snapshots=(snapshot.title,))
    for result in readable:
        if result.archive and result.archive != usual:
            text = f"Pack {result.pack} was written by another archive."
            path = layout.pack_name(result.pack)
            findings.add("foreign-document", text, path=path, pack=result.pack)


# ---- the journal

_SEALS_NAMED: Final = 8
"""Seals that a message names."""


class JournalCheck:
    """Reads the journal once: every event must come out whole, and nothing that it tells of may be gone."""

    def __init__(self, archive: Archive, findings: Findings) -> None:
        self._archive = archive
        self._store = archive.store
        self._findings = findings
        self._chain = Chain()
        self.policy = Policy()
        """What the owner wants, once it was read; the defaults if that cannot be understood."""
        self.rehashed: dict[str, str] = {}
        """Pack -> the SHA-256 that an audit took of it first."""

    def read(self, *, complete: bool) -> Proofs:
        """Return when what was proven last, as far as the journal can be read.

        ``complete``: what is wrong with it is looked for, too.
        """
        if complete:
            self._archive.journal.doubt_standing()
        readable = self._events() if complete else standing_proofs(self._archive.journal)
        events = list(readable)
        for _, event in events:
            if isinstance(event.detail, Rehashed):
                for pack, digest in event.detail.packs:
                    self.rehashed.setdefault(pack, digest)
        try:
            self.policy = policy_of(events)
        except ArchiverError:
            self.policy = Policy()  # whoever asks for it is told
        return proofs_of(events, utc_now(), own_place(self._archive))

    def _events(self) -> Iterator[tuple[str, Event]]:
        """Return the events that can be read, with their ids, oldest first; the others become findings."""
        readable: dict[str, Event] = {}
        for name in self._archive.journal.names():
            read = partial(self._archive.journal.read, name)
            event, result = read_or_reread(self._store, name, read)
            self._findings.add_read("event-damaged", result, name)
            digest = layout.event_of(name) or ""
            self._chain.add(digest, event)
            if event is not None:
                readable[digest] = event
                if isinstance(event.detail, Malformed):
                    message = f"What {name} says counts for nothing: {event.detail.reason}."
                    self._findings.add("event-malformed", message, path=name)
        return in_order(readable)

    def check_chain(self, snapshots: list[Snapshot]) -> None:
        """Find what a complete journal tells of and is gone: earlier events, and seals."""
        findings = self._findings
        # Looked at once more: an event may have come while they were being listed.
        stored = self._stored_events()
        for digest, listed_by in self._chain.missing():
            if digest not in stored:
                findings.all.append(missing_event(findings.advice, digest, listed_by))
        documents = map(layout.document_of, self._store.list(layout.SNAPSHOTS))
        seals = {document.digest for document in documents if document}
        replacements = ReplacementSeals(self._archive, snapshots)
        for event in self._chain.sealed():
            if event.snapshot not in seals and not replacements.exist_for(event):
                self._add_missing_seal(event, replacements.of_revision(event))

    def check_heads(self, heads: Iterable[TrustedHead]) -> None:
        """Find the heads, kept elsewhere, that are no events, as far as they are of this journal."""
        stored = self._stored_events()
        own, foreign = split_heads(self._archive, heads)
        self._findings.all += [
            foreign_head(self._archive, head, stored=head.id in stored) for head in foreign
        ]
        for digest in dict.fromkeys(head.id for head in own):
            if digest not in stored:
                self._findings.all.append(missing_head(self._findings.advice, digest))

    def _stored_events(self) -> set[str | None]:
        return {layout.event_of(name) for name in self._archive.journal.names()}

    def _add_missing_seal(self, event: Event, same_revision: list[Snapshot]) -> None:
        title = f"{event.repository}@{event.revision[:12]}"
        digest = event.snapshot[:64]
        text = f"The journal tells of the seal {digest} of {title}, which is not there."
        try:
            name = layout.seal_name(event.repository, event.revision, digest)
        except UsageError:
            name = ""  # no repository has such a name
        if same_revision:
            ids = ", ".join(snapshot.id[:12] for snapshot in same_revision[:_SEALS_NAMED])
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


# ---- ``archive.json``


def check_info(store: Store, snapshots: Sequence[Snapshot], findings: Findings) -> None:
    """Find what is wrong with archive.json: it must say what the seals, which are whole, say."""
    name = layout.INFO
    # What archive.json should hold, from what most seals repeat.
    expected = repeated_info(snapshots)
    actions = findings.advice.copy_back(name, "archive-json-missing")
    if expected is not None:
        actions = (WriteLine(name, info_file(expected).decode().strip()),)
    if store.stat(name) is None:
        findings.add("archive-json-missing", f"{name} is missing.", actions, path=name)
        return
    info, result = read_or_reread(store, name, partial(_read_info, store))
    findings.add_read("archive-json-damaged", result, name, actions)
    # What came in bundles alone may all be of another archive.
    sealed = {snapshot.seal.archive for snapshot in snapshots}
    if info is not None and sealed <= Ledger(store).archives():
        return
    if info is not None and info.archive not in sealed:
        text = f"{name} names another archive than every seal does."
        findings.add("archive-json-damaged", text, actions, path=name)


def _read_info(store: Store) -> ArchiveInfo:
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


def repeated_info(snapshots: Sequence[Snapshot]) -> ArchiveInfo | None:
    """Return what archive.json should say, as most seals repeat it; None without a seal."""
    if not snapshots:
        return None
    seals = [snapshot.seal for snapshot in snapshots]
    count = Counter(seal.archive for seal in seals)
    first = min(seals, key=lambda seal: (-count[seal.archive], seal.sealed))
    return ArchiveInfo(first.archive, first.sealed, first.tool)


# ---- what lies beside seals, manifests, events and packs


def check_explanations(store: Store, findings: Findings) -> None:
    """Find the files that explain the archive and are gone; remark those that are not as they should be.

    One of a higher edition is a newer version's, of which nothing is known here.
    """
    for name, data in archive.carried_files():
        if not store.stat(name):
            text = f"{name} is missing or empty."
            findings.add("carried-missing", text, (CarryAnew(name),), path=name)
            continue
        carried, result = read_or_reread(store, name, partial(store.get, name, _SMALL_MAX))
        if result.denied:
            findings.add_read("carried-missing", result, name)
        elif carried is not None and carried != data:
            held, own = edition_of(name, carried), edition_of(name, data)
            if held == own:
                text = f"{name} is of this version's edition, {own}, and not as that is: it was changed."
                findings.add("carried-differs", text, path=name)
            elif held < own:
                text = (
                    f"{name} is of edition {held}, older than this version's {own}, or it is damaged. "
                    "The next run that seals something here puts this version's in its place."
                )
                findings.add("carried-differs", text, path=name)


def check_place(store: Store, findings: Findings) -> None:
    """Remark a damaged place.json: the next run that writes makes it anew."""
    name = layout.PLACE
    _, result = read_or_reread(store, name, partial(read_place, store))
    findings.add_unstable(result, name)
    if result.problem:
        text = f"{result.problem} It only says which place this is. No stored file is concerned."
        findings.add("place-damaged", text, (Repair(findings.advice.place),), path=name)


def check_names(store: Store, snapshots: Iterable[Snapshot], findings: Findings) -> None:
    """Remark manifests that no seal names, and files that an archive does not have."""
    manifests = {closure_names(snapshot.seal)[0] for snapshot in snapshots}
    for name in store.list(layout.MANIFESTS):
        if layout.document_of(name) and name not in manifests:
            text = f"{name} has no seal: a run was interrupted, or its seal is lost."
            findings.add("unsealed-manifest", text, path=name)
    for file in foreign_files(store):
        if file.kind is ForeignKind.UNREADABLE:
            text = f"{file.name} cannot be read, and is no stored file by its name."
            actions = findings.advice.foreign_seal(file.name)
            findings.add("file-unreadable", text, actions, path=file.name)
        else:
            text, actions = _foreign(file, findings.advice)
            findings.add("unknown-file", text, actions, path=file.name)


def _foreign(file: ForeignFile, advice: Advice) -> tuple[str, Actions]:
    """Say what a foreign file is, and what to do about it."""
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
