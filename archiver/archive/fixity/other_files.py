"""Checking what lies beside seals, manifests, events and packs: what explains the archive, and the rest."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from archiver.archive import carried, layout
from archiver.archive.advice import CarryAnew, MayDelete, MoveOut, Repair
from archiver.archive.fixity.read_twice import read_twice
from archiver.archive.foreign import ForeignFile, ForeignKind, foreign_files
from archiver.archive.place_file import read_place

if TYPE_CHECKING:
    from archiver.archive.advice import Actions, Advice
    from archiver.archive.fixity.findings import Findings
    from archiver.storage.store import Store

_SMALL_MAX: Final = 1 << 20


def check_explanations(store: Store, findings: Findings) -> None:
    """The files that explain the archive must be there; another version's are a remark."""
    for name, data in carried.files():
        if not store.stat(name):
            text = f"{name} is missing or empty."
            findings.add("carried-missing", text, (CarryAnew(name),), path=name)
            continue
        found, state = read_twice(store, name, partial(store.get, name, _SMALL_MAX))
        if state.denied:
            findings.bad("carried-missing", state, name)
            continue
        if found != data:
            text = f"{name} is not the one of this version: an older one, or damaged."
            findings.add("carried-differs", text, path=name)


def check_place(store: Store, findings: Findings) -> None:
    """Remark a damaged place.json: the next run that writes makes it anew."""
    name = layout.PLACE
    _, state = read_twice(store, name, partial(read_place, store))
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
