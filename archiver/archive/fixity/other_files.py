"""Checking what lies beside seals, manifests, events and packs: what explains the archive, and the rest."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from archiver.archive import carried, layout
from archiver.archive.fixity.read_twice import read_twice
from archiver.archive.place_file import read_place

if TYPE_CHECKING:
    from archiver.archive.fixity.findings import Findings
    from archiver.storage.store import Store

_SMALL_MAX: Final = 1 << 20
_WORKING: Final = tuple(f"{one}/" for one in (layout.TMP, layout.QUARANTINE, layout.TRASH))
"""Folders whose content is out of use."""


def check_explanations(store: Store, findings: Findings) -> None:
    """The files that explain the archive must be there; another version's are a remark."""
    for name, data in carried.files():
        if not store.stat(name):
            hint = f"Run 'archiver init -C NEW' with a new folder and copy {name} out of it."
            findings.add("carried-missing", f"{name} is missing or empty.", hint, path=name)
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
        findings.add("place-damaged", text, f"Run {findings.advice.repair()}.", path=name)


def check_names(store: Store, findings: Findings, manifests: set[str]) -> None:
    """Remark manifests that no seal names, and files that an archive does not have."""
    for name in store.list(""):
        if name.startswith(f"{layout.MANIFESTS}/") and layout.document_of(name):
            if name not in manifests:
                text = f"{name} has no seal: a run was interrupted, or its seal is lost."
                findings.add("unsealed-manifest", text, path=name)
        elif not _known(name):
            findings.add("unknown-file", f"{name} is not a file that an archive has.", path=name)


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
