"""How to copy, and what came of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from archiver.archive.advice import Advice, RepairFrom
from archiver.archive.findings import UNKNOWN, Finding
from archiver.archive.fixity import require_named
from archiver.archive.place_look import Medium
from archiver.errors import ArchiverError

if TYPE_CHECKING:
    from archiver.archive.advice import Actions
    from archiver.archive.archive import Archive
    from archiver.archive.check.packs import ExpectedPack
    from archiver.archive.findings import Code
    from archiver.archive.fixity import ReadResult


class CopyOptions(msgspec.Struct, frozen=True):
    """How to copy.

    Attributes:
        references: The snapshots to copy, as repository and (beginning of a) revision; none: all.
        source_place: What the journal calls the place that is copied from; ``""``: host and path.
        target_place: The same of the place that is copied to.
        workers: How many packs are copied at a time.
        dry_run: Only say what would be copied.
        new: Begin a replica where no archive is; without it there must be one.
        min_free: So many bytes are to stay free there.
    """

    references: tuple[tuple[str, str | None], ...] = ()
    source_place: str = ""
    target_place: str = ""
    workers: int = 2
    dry_run: bool = False
    new: bool = False
    min_free: int = 0


class CopyReport(msgspec.Struct, frozen=True):
    """What was copied, or would be; ``bytes`` are those of packs.

    Attributes:
        created: The archive was begun by this run.
        snapshots: How many chosen ones the target has now, whole.
        copied: Titles of those that it had not before.
        left: Titles of those that could not be copied.
        forgotten: Titles of those that the target forgot on purpose.
        documents: Sidecars, signatures and events that were copied.
        journalled_source: Whether the copy is in the journal of the archive that was copied.
        medium: What the target lies on.
        device: Words for that disk or server, for people.
        same_device: Whether it is one that the archive which was copied lies on too, so that one fault
            takes both: such a copy does not count.
        policy: ``same``: the target wants what the archive wants; ``kept``: it goes on wanting
            something else, since a policy travels only with all of an archive, to a replica of it.
        contradictions: Where what was copied and what the target has give a file of one commit other
            bytes: findings and remarks of an audit there.
    """

    source: str
    target: str
    source_place: str
    target_place: str
    dry_run: bool
    created: bool
    snapshots: int
    copied: tuple[str, ...]
    left: tuple[str, ...]
    forgotten: tuple[str, ...]
    packs: int
    bytes: int
    documents: int
    journalled_source: bool
    medium: Medium
    device: str
    same_device: bool
    policy: Literal["same", "kept"]
    findings: tuple[Finding, ...]
    contradictions: tuple[Finding, ...] = ()

    @property
    def damage(self) -> tuple[Finding, ...]:
        """The findings that are more than a remark."""
        return tuple(one for one in self.findings if not one.remark)

    @property
    def unreadable(self) -> bool:
        """Whether some files may not be read, and nothing else is wrong."""
        return bool(self.damage) and all(one.code in UNKNOWN for one in self.damage)


# ---- What is wrong in the archive that is copied, as findings that say what to do.


class Faults:
    """Collects findings on ``source`` while it is copied to ``target``."""

    def __init__(self, source: Archive, target: Archive) -> None:
        self._source = source.store
        self._target = target.store
        self._advice = Advice(source.store.address)
        self.findings: list[Finding] = []
        self.packs: set[str] = set()
        """The packs that are not whole in the source."""

    def missing_pack(self, wanted: ExpectedPack) -> bool:
        """Whether the source has not even a file of the right size; then that is noted."""
        try:
            size = self._source.stat(wanted.name)
        except ArchiverError as error:
            self._pack("file-unreadable", error.message, wanted)
            return True
        if size in wanted.sizes:
            return False
        if size is None:
            self._pack("pack-missing", f"{wanted.name} is missing.", wanted)
        else:
            said = " or ".join(f"{one:,}" for one in sorted(wanted.sizes))
            text = f"{wanted.name} has {size:,} bytes, its seals say {said}."
            self._pack("pack-size", text, wanted)
        return True

    def pack(self, wanted: ExpectedPack, state: ReadResult) -> None:
        """Note what came out of copying a pack."""
        if state.unstable:
            self._unstable(state, wanted.name)
        if state.denied:
            self._pack("file-unreadable", state.problem, wanted)
        elif state.problem:
            there = self._source.stat(wanted.name) is not None
            self._pack("pack-damaged" if there else "pack-missing", state.problem, wanted)

    def _pack(self, code: Code, message: str, wanted: ExpectedPack) -> None:
        actions, titles = self._actions(wanted.name, code), tuple(wanted.snapshots)
        self.findings.append(
            Finding(code, message, pack=wanted.pack, snapshots=titles, actions=actions)
        )
        self.packs.add(wanted.pack)

    def _actions(self, name: str, code: Code, snapshot: str = "") -> Actions:
        if code == "file-unreadable":
            return self._advice.make_readable(snapshot)
        if self._target_has(name):
            here, there = self._source.address, self._target.address
            return (RepairFrom(here, there),)
        return self._advice.copy_back(name, code, snapshot)

    def _target_has(self, name: str) -> bool:
        """Whether the target has the file, whole: read to its end, because someone may rely on it."""
        try:
            reader = self._target.open(name)
        except (ArchiverError, FileNotFoundError):
            return False
        try:
            require_named(reader, name)
        except ArchiverError:
            return False
        finally:
            reader.close()
        return True

    def document(self, code: Code, state: ReadResult, name: str, snapshot: str = "") -> bool:
        """Note what came out of copying another file; whether it is right."""
        if state.unstable:
            self._unstable(state, name)
        if state.problem:
            told: Code = "file-unreadable" if state.denied else code
            actions = self._actions(name, told, snapshot)
            if state.invalid:
                actions = self._advice.replace_snapshot(snapshot)
            titles = (snapshot,) if snapshot else ()
            finding = Finding(told, state.problem, path=name, snapshots=titles, actions=actions)
            self.findings.append(finding)
        return not state.problem

    def _unstable(self, state: ReadResult, name: str) -> None:
        actions = self._advice.unstable()
        self.findings.append(Finding("read-unstable", state.unstable, path=name, actions=actions))
