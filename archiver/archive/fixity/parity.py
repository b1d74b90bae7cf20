"""Checking parity sidecars: whether they could help if they had to, and whether anything needs them."""

from __future__ import annotations

from contextlib import closing, suppress
from functools import partial
from typing import TYPE_CHECKING

from archiver.archive import layout
from archiver.archive.advice import AddParity, Advice, Audit, SetAsideUnneeded
from archiver.archive.events import Repaired, Sealed
from archiver.archive.finding import Finding
from archiver.archive.fixity.read_twice import read_twice
from archiver.archive.identity import file_digest, is_packed, require_named
from archiver.archive.parity.sidecar import ParityHeader, Sidecar, read_sidecar
from archiver.archive.parity.wanted import all_names
from archiver.archive.place import forgotten
from archiver.errors import ArchiverError, DamageError
from archiver.text import plural

if TYPE_CHECKING:
    from collections.abc import Iterator

    from archiver.archive.archive import Archive
    from archiver.archive.fixity.read_twice import Twice
    from archiver.progress import Progress
    from archiver.storage.store import Store


def parity_findings(archive: Archive, *, deep: bool, progress: Progress) -> Iterator[Finding]:
    """What is wrong with the sidecars, and which of them nothing needs.

    Their headers and sizes are looked at; ``deep`` reads the parity blocks too, and the manifests that
    they are for. Packs are not read. Raises UnknownFormatError for a sidecar of a newer version.
    """
    advice = Advice(archive.store.describe())
    needed = needed_digests(archive)
    for name in archive.store.list(layout.PARITY):
        digest = layout.parity_of(name)
        if digest is None:
            continue  # an unknown file: whoever looks at all names tells
        check = partial(_check, archive.store, name, deep=deep)
        _, state = read_twice(archive.store, name, check)
        needless = needed is not None and digest not in needed
        yield from _told(name, state, advice, needless=needless)
        if needless:
            text = f"{name} is the parity of no file that is here or that a seal needs."
            yield Finding("unneeded-parity", text, path=name)
        progress.advance((archive.store.stat(name) or 0) if deep else 0, fetched=True)


def _told(name: str, state: Twice, advice: Advice, *, needless: bool) -> Iterator[Finding]:
    if state.unstable:
        yield Finding("read-unstable", state.unstable, path=name, actions=advice.unstable())
    if state.denied:
        actions = advice.make_readable()
        yield Finding("file-unreadable", state.problem, path=name, actions=actions)
    elif state.problem:
        mend = SetAsideUnneeded(advice.place) if needless else AddParity(advice.place)
        actions = (mend, Audit(advice.place))
        yield Finding("parity-damaged", state.problem, path=name, actions=actions)


def _check(store: Store, name: str, *, deep: bool) -> bool:
    """True, or DamageError with all that is wrong with a sidecar."""
    with closing(store.open(name)) as reader:
        sidecar = read_sidecar(reader, name)
        faults = [*sidecar.faults, *_strange(sidecar.header)]
        if deep:
            faults += [*_lost(sidecar), *_other_form(store, sidecar.header)]
    if faults:
        raise DamageError(f"{name} is damaged: {'; '.join(faults)}.", path=name)
    return True


def _strange(header: ParityHeader) -> Iterator[str]:
    """A pack, a seal and an event have one form only, whose size and digest are known."""
    if is_packed(header.file):
        return
    if header.blake3 != layout.digest_of(header.file):
        yield "it was made of other bytes than its name says"


def _lost(sidecar: Sidecar) -> Iterator[str]:
    bad = sidecar.bad_blocks()
    if bad:
        total = plural(len(sidecar.header.blocks), "parity block")
        yield f"{len(bad)} of {total} cannot be used"


def _other_form(store: Store, header: ParityHeader) -> Iterator[str]:
    """A manifest may have been compressed anew: then its parity is of a file that is not there."""
    if not is_packed(header.file):
        return
    with suppress(FileNotFoundError, ArchiverError), closing(store.open(header.file)) as reader:
        if file_digest(reader) != header.blake3:
            require_named(reader, header.file)  # if it is damaged, that is told elsewhere
            yield f"{header.file} is compressed in another way than when it was made"


def needed_digests(archive: Archive) -> frozenset[str] | None:
    """The digests, in names, of the files that are here or should be; None if that cannot be told."""
    try:
        return _named(archive)
    except ArchiverError:
        return None  # a document that may not be read: told where documents are checked


def _named(archive: Archive) -> frozenset[str] | None:
    damaged: list[str] = []
    seals = [one.id for one in archive.snapshots(lambda name, _error: damaged.append(name))]
    events = list(archive.events(lambda name, _error: damaged.append(name)))
    sealed: set[str] = set()
    set_aside = set(forgotten(events))
    for _, event in events:
        match event.detail:
            case Sealed(snapshot) if snapshot:
                sealed.add(snapshot)
            case Repaired() as repaired:
                set_aside.update(repaired.set_aside)
    if damaged or sealed - set(seals) - set_aside:
        return None
    stored = (layout.PACKS, layout.MANIFESTS, layout.SNAPSHOTS, layout.JOURNAL)
    names = {name for folder in stored for name in archive.store.list(folder)}
    digests = {layout.digest_of(name) or "" for name in names | all_names(archive)}
    return frozenset(digests.union(*(event.after for _, event in events)))
