"""Checking ``archive.json``: it must be there, readable, and say what the seals say."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Final

import msgspec

from archiver.archive import layout
from archiver.archive.advice import WriteLine
from archiver.archive.fixity.read_twice import read_twice
from archiver.archive.info import info_file, keys_of, parse_info
from archiver.archive.records import ArchiveInfo
from archiver.errors import DamageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from archiver.archive.advice import Actions
    from archiver.archive.archive import Snapshot
    from archiver.archive.fixity.findings import Findings
    from archiver.storage.store import Store

_SMALL_MAX: Final = 1 << 20


def check_info(store: Store, findings: Findings, snapshots: Sequence[Snapshot]) -> None:
    """Find what is wrong with archive.json; the snapshots are those whose seals are whole."""
    name = layout.INFO
    if store.stat(name) is None:
        actions = _anew(findings, snapshots)
        findings.add("archive-json-missing", f"{name} is missing.", actions, path=name)
        return
    found, state = read_twice(store, name, partial(_read, store))
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
