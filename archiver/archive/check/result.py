"""What a check of an archive was asked for, what came of it, and the findings while they come to light."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

from archiver.archive.advice import Actions, Advice
from archiver.archive.check.heads import TrustedHead
from archiver.archive.check.pack_reading import PackResult
from archiver.archive.check.schedule import UNLIMITED, Limits
from archiver.archive.findings import FILES, Code, Finding
from archiver.archive.policy import Level, Policy
from archiver.archive.seals import Snapshot
from archiver.memory import MemoryBudget

if TYPE_CHECKING:
    from archiver.archive.fixity import ReadResult
    from archiver.storage.store import Store


class CheckRequest(msgspec.Struct, frozen=True):
    """What is checked, and how.

    Attributes:
        repository: Only what the snapshots of this repository need; None: the whole archive.
        revision: Only those of this (beginning of a) revision.
        level: How deep packs are read.
        limits: How much is read; what they leave out is looked at by structure.
        heads: Events that must be in the journal.
        keys: Public keys that are trusted instead of the policy's, if there are any.
        memory: What it may take, and so how many threads read.
        rehash: Whether the packs' SHA-256 is taken too, and compared with what the journal knows.
        documents: Whether, of a whole archive, the files are checked that are no snapshot's alone: events,
            sidecars, signatures, explanations, and those that should not be there.
    """

    repository: str | None = None
    revision: str | None = None
    level: Level = "content"
    limits: Limits = UNLIMITED
    heads: tuple[TrustedHead, ...] = ()
    keys: tuple[str, ...] = ()
    memory: MemoryBudget = MemoryBudget()
    rehash: bool = False
    documents: bool = True

    @property
    def complete(self) -> bool:
        """Whether all of the archive is checked, not some snapshots."""
        return self.repository is None


class CheckResult(msgspec.Struct, frozen=True):
    """What was read and found.

    Attributes:
        snapshots: How many are known to belong here, whether their seals are whole or not.
        packs: How many could be read, or be looked at.
        objects: How many lie in them.
        bytes: How many were read from packs.
        findings: Everything that is not as it should be, remarks last.
        sealed: The snapshots whose seals are whole.
        pack_results: What came out of reading, or looking at, each pack.
        files: The ids of the snapshots whose files were all made and hashed.
        remaining: How many packs have no recent proof and were not read this time.
        complete: Whether no pack and no file remains.
        recent: How many packs have a recent proof, look whole, and were not read for that reason.
        rehashed: The SHA-256 of packs, by their BLAKE3, that the journal knows.
        checked: Of what else all of the archive was checked: ``documents``, ``parity``.
        policy: What the journal says is wanted; the defaults if that cannot be understood.
    """

    snapshots: int
    packs: int
    objects: int
    bytes: int
    findings: tuple[Finding, ...]
    sealed: tuple[Snapshot, ...] = ()
    pack_results: tuple[PackResult, ...] = ()
    files: tuple[str, ...] = ()
    remaining: int = 0
    complete: bool = True
    recent: int = 0
    checked: tuple[str, ...] = ()
    rehashed: Mapping[str, str] = {}
    policy: Policy = Policy()

    @property
    def damaged_files(self) -> list[str]:
        """The names of the stored files, other than packs, that are damaged or gone."""
        damaged = (finding for finding in self.findings if finding.code in FILES)
        return sorted({finding.path for finding in damaged if finding.path})


class Findings:
    """What is wrong so far, in ``all``, each with what to do about it."""

    def __init__(self, store: Store) -> None:
        self.advice = Advice(store.address)
        self.all: list[Finding] = []

    def add(
        self,
        code: Code,
        message: str,
        actions: Actions = (),
        *,
        path: str = "",
        object: str = "",  # noqa: A002 - as the field is called
        pack: str = "",
        snapshots: tuple[str, ...] = (),
        files: tuple[str, ...] = (),
    ) -> None:
        """Add one."""
        self.all.append(
            Finding(
                code,
                message,
                path,
                object=object,
                pack=pack,
                snapshots=snapshots,
                files=files,
                actions=actions,
            )
        )

    def add_unstable(self, result: ReadResult, path: str) -> None:
        """Add a file whose two readings differ; nothing if they agree."""
        if result.unstable:
            self.add("read-unstable", result.unstable, self.advice.unstable(), path=path)

    def add_read(
        self,
        code: Code,
        result: ReadResult,
        path: str,
        actions: Actions | None = None,
        *,
        snapshots: tuple[str, ...] = (),
    ) -> None:
        """Add what reading a file showed: nothing if it came out whole at once.

        ``code`` is that of the file where it is damaged, and ``actions`` what to do then; without any, a
        repair may copy it back.
        """
        self.add_unstable(result, path)
        if result.denied:
            actions = self.advice.make_readable()
            self.add("file-unreadable", result.problem, actions, path=path, snapshots=snapshots)
        elif result.problem:
            actions = self.advice.copy_back(path, code) if actions is None else actions
            self.add(code, result.problem, actions, path=path, snapshots=snapshots)
