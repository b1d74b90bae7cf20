"""What one audit was asked for, and what came of it."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from archiver.archive.archive import Snapshot
from archiver.archive.audit.packs import Examined
from archiver.archive.finding import FILES, Finding
from archiver.archive.policy import Policy


class Examination(msgspec.Struct, frozen=True):
    """What was read and found.

    Attributes:
        snapshots: How many are known to belong here, whether their seals are whole or not.
        packs: How many could be read, or be looked at.
        objects: How many lie in them.
        bytes: How many were read from packs.
        findings: Everything that is not as it should be, remarks last.
        sealed: The snapshots whose seals are whole.
        examined: What came out of reading, or looking at, each pack.
        files: The ids of the snapshots whose files were all made and hashed.
        remaining: How many packs have no recent proof and were not read this time.
        complete: Whether no pack and no file remains.
        recent: How many packs have a recent proof, look whole, and were not read for that reason.
        checked: Of what else all of the archive was checked: ``documents``, ``parity``.
        policy: What the journal says is wanted; the defaults if that cannot be understood.
    """

    snapshots: int
    packs: int
    objects: int
    bytes: int
    findings: tuple[Finding, ...]
    sealed: tuple[Snapshot, ...] = ()
    examined: tuple[Examined, ...] = ()
    files: tuple[str, ...] = ()
    remaining: int = 0
    complete: bool = True
    recent: int = 0
    checked: tuple[str, ...] = ()
    policy: Policy = Policy()

    @property
    def damaged_files(self) -> list[str]:
        """The names of the stored files, other than packs, that are damaged or gone."""
        return sorted({one.path for one in self.findings if one.code in FILES and one.path})


class Scope(NamedTuple):
    """What of the archive is examined: all, or one repository and (beginning of a) revision."""

    repository: str | None
    revision: str
