"""What one audit was asked for, and what came of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from archiver.archive.advice import Actions, Advice
from archiver.archive.check.heads import TrustedHead
from archiver.archive.check.packs import PackResult
from archiver.archive.check.schedule import UNLIMITED, Limits
from archiver.archive.findings import FILES, Code, Finding
from archiver.archive.policy import Level, Policy
from archiver.archive.seals import Snapshot

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
        workers: How many threads read.
    """

    repository: str | None = None
    revision: str | None = None
    level: Level = "content"
    limits: Limits = UNLIMITED
    heads: tuple[TrustedHead, ...] = ()
    keys: tuple[str, ...] = ()
    workers: int = 1


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
    policy: Policy = Policy()

    @property
    def damaged_files(self) -> list[str]:
        """The names of the stored files, other than packs, that are damaged or gone."""
        return sorted({one.path for one in self.findings if one.code in FILES and one.path})


class Scope(NamedTuple):
    """What of the archive is examined: all, or one repository and (beginning of a) revision."""

    repository: str | None
    revision: str


# ---- What is wrong with the documents of an archive, each with what to do about it, as it comes to light.


class Findings:
    """What was found so far, in ``all``."""

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
    ) -> None:
        """One more."""
        self.all.append(
            Finding(
                code,
                message,
                path,
                object=object,
                pack=pack,
                snapshots=snapshots,
                actions=actions,
            )
        )

    def unstable(self, reason: str, name: str) -> None:
        """A document whose two readings differ; nothing if there is no reason to say so."""
        if reason:
            self.add("read-unstable", reason, self.advice.unstable(), path=name)

    def bad(
        self, code: Code, state: ReadResult, name: str, snapshots: tuple[str, ...] = ()
    ) -> None:
        """A document that did not come out, or could not be read at all."""
        actions = self.advice.copy_back(name, code)
        if state.denied:
            code, actions = "file-unreadable", self.advice.make_readable()
        self.add(code, state.problem, actions, path=name, snapshots=snapshots)
