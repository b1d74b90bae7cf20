"""How to copy, and what came of it."""

from __future__ import annotations

from typing import Literal

import msgspec

from archiver.archive.finding import UNKNOWN, Finding
from archiver.archive.place_look import Medium


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
