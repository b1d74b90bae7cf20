"""What to do next about what is wrong, as types: ``cli/findings.py`` turns each into words and commands."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from archiver.errors import DamageError, NotUnderstoodError, UnreadableError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from archiver.errors import ArchiverError

_ODD: Final = re.compile(r"[^\w@%+=:,./-]", re.ASCII)
"""What a shell would not take for a part of a name,"""
_EXPANDED: Final = re.compile(r"[\"$`\\!]")
"""and what it would not leave alone between double quotes."""

Argv = tuple[str, ...]
"""A command, word by word, as a program would run it."""


def argv(verb: str, place: str, *words: str) -> Argv:
    """Return a command on the archive at ``place``."""
    return ("archiver", *verb.split(), "-C", place, *words)


def quoted(*commands: Argv) -> str:
    """Return commands, in quotes, to be typed as they stand: each follows if the one before went well."""
    return f"'{' && '.join(map(shlex.join, commands))}'"


def command(verb: str, place: str, *words: str) -> str:
    """Return a command on the archive at ``place``, in quotes, to be typed as it stands."""
    return quoted(argv(verb, place, *words))


def moving(place: str, file: str, own_file: str = "") -> str:
    """Return the command, in quotes, that gives a stored file its own name or moves it away."""
    path = _typed(f"{place}/{file}")
    return f"'mv -n {path} {_typed(f'{place}/{own_file}')}'" if own_file else f"'mv {path} /tmp/'"


def _typed(path: str) -> str:
    """Return a path as a shell reads it, without single quotes: its command stands in those."""
    if not _ODD.search(path):
        return path
    return shlex.quote(path) if _EXPANDED.search(path) else f'"{path}"'


def mending(place: str, code: str, snapshot: str) -> str:
    """Return the hint of an error about a damaged document: an error that is raised has no actions."""
    words = ("--snapshot", snapshot) if snapshot else ()
    return (
        f"Run {command('repair', place)}, then {command('audit', place, *words)}. "
        f"'archiver audit --explain {code}' says what to do if that does not help."
    )


def audit_hint(error: ArchiverError, place: str, snapshot: str) -> str:
    """Return the hint about a file that could not be read out: if it is damaged, how to see all that is."""
    if not isinstance(error, DamageError) or isinstance(
        error, (UnreadableError, NotUnderstoodError)
    ):
        return error.hint
    return f"Run {command('audit', place, '--snapshot', snapshot)} to see all that is damaged."


# ---- the actions


def _tag(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", name).lower()


class Step(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="do", tag=_tag):
    """One thing to do. ``place`` is, where a kind has it, the path of the archive as it was given."""


# Repairs: those that need nothing but the archive come first.


class Repair(Step, frozen=True):
    """Let a repair bring back what is missing or damaged: the stored ``file``, if one is named."""

    place: str
    file: str = ""


class RepairPacks(Step, frozen=True):
    """Let a repair bring back the packs of a snapshot."""

    place: str
    snapshot: str


class RepairEvent(Step, frozen=True):
    """Let a repair bring back an event from another copy of the archive."""

    place: str
    event: str


class FindRollback(Step, frozen=True):
    """Find out who set the journal back, and let a repair bring the event back from another copy."""

    place: str
    event: str


class SetAsideUnneeded(Step, frozen=True):
    """Let a repair set aside what nothing needs."""

    place: str


class RepairFrom(Step, frozen=True):
    """Let a repair take what is missing from ``source``, which has it."""

    place: str
    source: str


class RepairFromCopy(Step, frozen=True):
    """Let a repair take what is missing from another copy of the archive, if there is one."""

    place: str


class AskElsewhere(Step, frozen=True):
    """Let a repair take it from a place that was not asked: those that were have it not."""

    place: str


class RebuildCatalogue(Step, frozen=True):
    """Make the SQL index anew."""

    place: str


class AddParity(Step, frozen=True):
    """Make a parity sidecar anew."""

    place: str


class SignTrusted(Step, frozen=True):
    """Sign what no trusted key signed."""

    place: str


class SignAgain(Step, frozen=True):
    """Take a signature from another copy, or sign again with its key."""

    place: str
    file: str


# Snapshots: which to mirror anew, and which to take out of use.


class ReplaceSnapshot(Step, frozen=True):
    """Mirror the repository again and forget the snapshot: it was wrong from the beginning."""

    place: str
    snapshot: str


class BringOrForget(Step, frozen=True):
    """Bring a snapshot that was pruned and is wanted again, or give it up."""

    place: str
    snapshot: str


class AskUpstream(Step, frozen=True):
    """Let a mirror find out which of two seals is right.

    ``outvouched``: the seal that is not restored has the higher voucher for the file.
    """

    place: str
    snapshot: str
    outvouched: bool = False


class DropSeal(Step, frozen=True):
    """Decide which of two seals to trust, and do without the other one, such as ``seal``.

    ``append_only``: the policy forbids that one is forgotten. ``upstream``: it vouched for both.
    """

    place: str
    seal: str
    append_only: bool = False
    upstream: bool = False


class KeepOrForget(Step, frozen=True):
    """Leave a seal that another one outranks, or forget it where the policy lets one."""

    place: str
    seal: str
    append_only: bool = False


# Files that a person puts right.


class WriteLine(Step, frozen=True):
    """Write a line into a stored file."""

    file: str
    line: str


class CarryAnew(Step, frozen=True):
    """Take a file that explains the archive out of a new one."""

    file: str


class MoveSeal(Step, frozen=True):
    """Move a file among the seals that is, or may be, one under another name than ``own_file``."""

    place: str
    file: str
    own_file: str = ""


class MoveOut(Step, frozen=True):
    """Move a file out of the archive, or delete it."""


class MayDelete(Step, frozen=True):
    """Nothing: the file may be deleted."""


class CheckPermissions(Step, frozen=True):
    """Let this user read it."""


class UseOtherFilesystem(Step, frozen=True):
    """Restore to a filesystem that can hold the names."""


class CheckMachine(Step, frozen=True):
    """Test memory, cables and disks: two readings differ."""


class CheckHeadThere(Step, frozen=True):
    """Check the head where it was kept; here, keep what the archive at ``place`` prints."""

    place: str


# A folder that was compared with a manifest.


class TakeManifest(Step, frozen=True):
    """Take another copy of the manifest."""


class TakeSignature(Step, frozen=True):
    """Take another copy of the manifest and its signature, or name the right ones."""


class RestoreAgain(Step, frozen=True):
    """Run the same restore again."""


class MirrorAnew(Step, frozen=True):
    """Mirror the revision anew, for the shards that its index names."""


class MoveOrIgnore(Step, frozen=True):
    """Move a file away, or say that it may be there."""


class PutFile(Step, frozen=True):
    """Put the file itself there, instead of a link."""


# What follows the others.


class Explain(Step, frozen=True):
    """Read what is said about a code."""

    code: str


class Audit(Step, frozen=True):
    """Look again, at a snapshot or at all of the archive, whether it helped."""

    place: str
    snapshot: str = ""


Action = (
    Repair
    | RepairPacks
    | RepairEvent
    | FindRollback
    | SetAsideUnneeded
    | RepairFrom
    | RepairFromCopy
    | AskElsewhere
    | RebuildCatalogue
    | AddParity
    | SignTrusted
    | SignAgain
    | ReplaceSnapshot
    | BringOrForget
    | AskUpstream
    | DropSeal
    | KeepOrForget
    | WriteLine
    | CarryAnew
    | MoveSeal
    | MoveOut
    | MayDelete
    | CheckPermissions
    | UseOtherFilesystem
    | CheckMachine
    | CheckHeadThere
    | TakeManifest
    | TakeSignature
    | RestoreAgain
    | MirrorAnew
    | MoveOrIgnore
    | PutFile
    | Explain
    | Audit
)
"""Every kind there is."""

Actions = tuple[Action, ...]

_REPAIRS: Final = (Repair, RepairPacks, RepairEvent, FindRollback, SetAsideUnneeded)


def asks_for_repair(actions: Iterable[Action]) -> bool:
    """Return whether one of them is a repair from the places that every repair asks."""
    return any(isinstance(action, _REPAIRS) for action in actions)


class Advice(NamedTuple):
    """The actions that go together, about the archive at ``place``, its path as it was given."""

    place: str

    def copy_back(self, name: str, code: str, snapshot: str = "") -> Actions:
        """Return what to do about an immutable file: parity or any copy will do, its name is its digest."""
        return Repair(self.place, name), Explain(code), Audit(self.place, snapshot)

    def bring_back_packs(self, code: str) -> Actions:
        """Return what to do about many packs: what brings one back brings back all of them."""
        return Repair(self.place), Explain(code), Audit(self.place)

    def replace_snapshot(self, snapshot: str) -> Actions:
        """Return what to do about a document that was never right: every copy of it says the same."""
        return ReplaceSnapshot(self.place, snapshot), Explain("manifest-invalid")

    def more_places(self, code: str) -> Actions:
        """Return what to do about what a repair could not bring back: the same repair cannot either."""
        return AskElsewhere(self.place), Explain(code)

    def bring_back(self, snapshot: str) -> Actions:
        """Return what to do about bytes that no pack has: the packs are what is missing."""
        return RepairPacks(self.place, snapshot), Audit(self.place, snapshot)

    def differs(self, snapshot: str) -> Actions:
        """Return what to do about a file whose objects are whole: the manifest was wrong at once."""
        return Explain("file-differs"), Audit(self.place, snapshot)

    def lost_event(self, digest: str) -> Actions:
        """Return what to do about an event that others list."""
        return RepairEvent(self.place, digest), Audit(self.place)

    def lost_head(self, digest: str) -> Actions:
        """Return what to do about an event that somebody knows of and that no other lists."""
        return FindRollback(self.place, digest), Audit(self.place)

    def rebuild_catalogue(self) -> Actions:
        """Return what to do about the SQL index."""
        return RebuildCatalogue(self.place), Audit(self.place)

    def make_readable(self, snapshot: str = "") -> Actions:
        """Return what to do about a file that the system does not let this user read."""
        return CheckPermissions(), Audit(self.place, snapshot)

    def foreign_seal(self, name: str, own_name: str = "") -> Actions:
        """Return what to do about a file among the seals that is one under another name, or may be one."""
        return MoveSeal(self.place, name, own_name), Audit(self.place)

    def unstable(self) -> Actions:
        """Return what to do about readings that differ: the machine comes first."""
        return CheckMachine(), Audit(self.place)
