"""Every error that archiver raises on purpose, and the exit code that each one stands for.

::

    ArchiverError                     1   the base; also any failure with no better name
    ├── DeniedError                   1   the system forbids it: permissions, a read-only medium
    ├── TooLargeError                 1   a revision holds more than one snapshot may
    ├── NotLocalError                 1   the archive is no folder of this machine, and it has to be
    ├── UsageError                    2   the command cannot mean what was typed
    ├── PartialError                  3   some of the work was done, some failed; all is reported
    │   ├── UnportableNameError       3   a filesystem cannot hold the name of a file
    │   └── MissingVolumesError       3   what is needed lies on volumes of a bundle that are not here
    ├── BudgetSpentError              3   a run's bytes or time are used up; the next one goes on
    ├── SkippedError                  4   a check that was asked for could not run
    ├── NoArchiveError               10   there is no archive here, or one that must not be touched
    │   └── UnknownFormatError       10   the archive's format or a mandatory feature is unknown
    │       (with DamageError above it: NotUnderstoodError, of one seal or pack)
    ├── LinkedFolderError             1   a folder of the archive is a link: nothing is written there
    │   (with DamageError above it: UnreadableError, a stored file that this user may not read)
    ├── LockedError                  11   another run holds the lock
    ├── DamageError                  20   stored bytes are not what their digest says
    │   └── InvalidDocumentError     20   a document that is whole, and says what the format forbids
    ├── MismatchError                22   bytes from upstream are not what it, or a pin, declares
    ├── HostileNameError             22   a name from upstream may not be written
    ├── UpstreamGoneError            23   upstream has no such thing, refuses it, or changed it
    │   ├── AccessError              23   gated, private or disabled: a token with rights may help
    │   │   ├── DisabledError        23   upstream has switched the repository off
    │   │   └── TokenError           23   upstream does not take the token, whatever it is asked for
    │   ├── UnseenError              23   upstream does not show a repository: gone, private, or hidden
    │   └── RenamedError             23   upstream has it under another name
    ├── PolicyError                  24   the archive's policy forbids it
    ├── UnfinishedModelError         25   a model in a folder lacks parts that it plainly needs
    ├── NetworkError                 30   upstream could not be reached, after retries
    └── NoSpaceError                 31   the disk is full, or would be

An interrupted run ends with 130. A message says what happened, to which file, and what to do next.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from enum import IntEnum
from pathlib import Path
from typing import Final, Literal


class ExitCode(IntEnum):
    """The process exit codes. They are stable; ``docs/exit-codes.md`` explains each one."""

    OK = 0
    FAILURE = 1
    USAGE = 2
    PARTIAL = 3
    SKIPPED = 4
    NO_ARCHIVE = 10
    LOCKED = 11
    DAMAGE = 20
    DAMAGE_UNREPAIRED = 21
    MISMATCH = 22
    UPSTREAM_GONE = 23
    POLICY_UNMET = 24
    SMOKE_FAILED = 25
    NETWORK = 30
    NO_SPACE = 31
    INTERRUPTED = 130


class ArchiverError(Exception):
    """A failure that is explained to the user.

    Args:
        message: What happened and to which file, as one sentence.
        hint: What to do next, as one sentence or a command; may be empty.
        subject: The repository that the message begins with; ``""`` if it names none there.
        details: What the message counts, one by one, a part of a sentence each.
    """

    exit_code = ExitCode.FAILURE

    def __init__(
        self, message: str, *, hint: str = "", subject: str = "", details: tuple[str, ...] = ()
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.subject = subject
        self.details = details


class DeniedError(ArchiverError):
    """The system forbids it: permissions, or a medium that is mounted read-only."""


class NotLocalError(ArchiverError):
    """What was asked for needs an archive that is a folder of this machine, and this one is none."""

    def __init__(self, address: str) -> None:
        super().__init__(
            f"{address} is no folder of this machine, and this needs one.",
            hint="Copy the archive to a disk of this machine, and name that copy.",
        )
        self.address = address


class TooLargeError(ArchiverError):
    """A revision holds more than one snapshot may, so that nothing of it can be sealed as a whole."""


class UsageError(ArchiverError):
    """The command cannot mean what was typed."""

    exit_code = ExitCode.USAGE


class PartialError(ArchiverError):
    """Some of the work was done and some failed."""

    exit_code = ExitCode.PARTIAL


class UnportableNameError(PartialError):
    """The filesystem that a file was to be restored to cannot hold its name."""


class MissingVolumesError(PartialError):
    """What is needed lies on volumes that are not here: nothing is known to be damaged.

    ``volumes`` are each the id of a bundle and a number; none, where it is not known which they are.
    """

    def __init__(
        self, message: str, *, hint: str, volumes: tuple[tuple[str, int], ...] = ()
    ) -> None:
        super().__init__(message, hint=hint)
        self.volumes = volumes


class UnfinishedModelError(ArchiverError):
    """A model in a folder lacks parts that it plainly needs: it cannot run."""

    exit_code = ExitCode.SMOKE_FAILED


class BudgetSpentError(ArchiverError):
    """A run has used up what it may take: what it stored is kept, and the next one goes on from there.

    Args:
        what: What was stopped.
        spent: What is used up: ``bytes``, ``time`` or ``window``.
        reason: The same as a part of a sentence.
    """

    exit_code = ExitCode.PARTIAL

    def __init__(self, what: str, spent: Literal["bytes", "time", "window"], reason: str) -> None:
        super().__init__(f"{what} was stopped: {reason}.", hint="The next run goes on from there.")
        self.spent = spent


class SkippedError(ArchiverError):
    """A check that was asked for could not run; a skipped check is never a success."""

    exit_code = ExitCode.SKIPPED


class NoArchiveError(ArchiverError):
    """There is no archive at the given place."""

    exit_code = ExitCode.NO_ARCHIVE


class UnknownFormatError(NoArchiveError):
    """The archive's format number or one of its mandatory features is unknown to this version."""


class LinkedFolderError(ArchiverError):
    """A folder of an archive is a symbolic link, or another disk: nothing is written or deleted in it."""

    def __init__(self, folder: Path) -> None:
        where = (
            f"a link to {_target(folder)}"
            if folder.is_symlink()
            else "on another disk, or a mount of its own"
        )
        super().__init__(
            f"{folder} is {where}; nothing is written or deleted through it.",
            hint="Reading works. Put a real folder with the same files in its place; to use another "
            "disk, keep the whole archive there.",
        )
        self.folder = folder


class LockedError(ArchiverError):
    """Another run holds the lock that this one needs."""

    exit_code = ExitCode.LOCKED


class DamageError(ArchiverError):
    """Stored bytes are not what their digest says they are.

    Args:
        message: As of every error.
        hint: As of every error.
        object: The BLAKE3 of the object that the message is about; ``""`` if it names none.
        pack: The id of the pack that was read; ``""`` if it was none, or is not known.
        path: The name of the stored file that was read; ``""`` if it is not known.
    """

    exit_code = ExitCode.DAMAGE

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        object: str = "",  # noqa: A002 - as the field of a finding is called
        pack: str = "",
        path: str = "",
    ) -> None:
        super().__init__(message, hint=hint)
        self.object = object
        self.pack = pack
        self.path = path


class InvalidDocumentError(DamageError):
    """A stored document is what its name says, and says what the format forbids: no copy is better."""


class NotUnderstoodError(UnknownFormatError, DamageError):
    """A seal or pack has a format, or a feature, that this version does not know.

    It is not damaged. Whoever goes on past damage goes on past it as well, and whoever is about to
    delete or to make something anew stops.
    """


class UnreadableError(DeniedError, DamageError):
    """The system does not let this user read a stored file: nothing is known about its bytes.

    Whoever goes on past damage goes on past it as well; whoever calls something damaged must not call
    this so.
    """

    exit_code = ExitCode.FAILURE


OnDamage = Callable[[str, DamageError], None]
"""What a reader of many stored files calls for one that is damaged, with its name, before it goes on."""


def raise_damage(_name: str, error: DamageError) -> None:
    """Go no further than the first damage."""
    raise error


def skip_damaged(_name: str, _error: DamageError) -> None:
    """Go on without it: an audit says what is damaged."""


class MismatchError(ArchiverError):
    """Bytes from upstream do not have the size or digest that upstream, or a pin, declares."""

    exit_code = ExitCode.MISMATCH


class HostileNameError(ArchiverError):
    """A path or another name from upstream may not be written, or is not what it should be."""

    exit_code = ExitCode.MISMATCH


class UpstreamGoneError(ArchiverError):
    """Upstream has no such repository, revision or file, or changed it during the run.

    ``status`` is the HTTP status that says so, 0 if it was told otherwise; ``code`` is the hub's own word
    for it, ``""`` if it gave none.
    """

    exit_code = ExitCode.UPSTREAM_GONE
    status = 0
    code = ""


class AccessError(UpstreamGoneError):
    """Upstream refuses access: the repository is gated, private or disabled."""


class DisabledError(AccessError):
    """Upstream has switched the repository off."""


class TokenError(AccessError):
    """Upstream does not take the token, whatever it is asked for: that says nothing of a repository."""


class UnseenError(UpstreamGoneError):
    """Upstream does not show a repository: it is gone, or private, or hidden from a token that expired."""


class RenamedError(UpstreamGoneError):
    """Upstream has the repository under another name."""


class PolicyError(ArchiverError):
    """The archive's policy forbids what was asked for."""

    exit_code = ExitCode.POLICY_UNMET


class NetworkError(ArchiverError):
    """Upstream could not be reached, also after retries."""

    exit_code = ExitCode.NETWORK


class NoSpaceError(ArchiverError):
    """The disk is full, or would fall below the room that must stay free."""

    exit_code = ExitCode.NO_SPACE


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except OSError:
        return "somewhere else"


_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FEW_INODES: Final = 4
_GO_ON: Final = "run the same command again; it goes on from there."
_DENIED = {errno.EROFS, errno.EACCES, errno.EPERM}


def explain_system_error(error: OSError, what: str = "") -> ArchiverError:
    """Return the domain error that a system error stands for; ``what`` says what was being done."""
    place = str(error.filename or "a file")
    doing = f" while {what}" if what else ""
    if error.errno in _NO_ROOM:
        return _no_room(error.errno or 0, place, doing)
    if error.errno in _DENIED:
        verb = "written" if error.errno == errno.EROFS else "opened"
        return DeniedError(
            f"{place} cannot be {verb}: {os.strerror(error.errno or 0)}.",
            hint="Check its permissions, or whether the medium is mounted read-only.",
        )
    return ArchiverError(f"{place}: {error.strerror or error}{doing}.")


def _no_room(number: int, place: str, doing: str) -> NoSpaceError:
    if number == errno.EDQUOT:
        return NoSpaceError(
            f"The quota for the disk of {place} is used up{doing}.",
            hint=f"Free some room, or have the quota raised, and {_GO_ON}",
        )
    if number == errno.EFBIG:
        return NoSpaceError(
            f"{place} may not grow so large{doing}: the filesystem, or a limit of this process, "
            "forbids it.",
            hint="FAT holds files below 4 GiB. Use another filesystem, or raise the limit (ulimit -f).",
        )
    if out_of_inodes(place):
        return NoSpaceError(
            f"No inodes are left on the disk of {place}{doing}: it holds as many files as it can, "
            "though there is room for bytes.",
            hint=f"Delete small files there, or use a filesystem with more inodes, and {_GO_ON}",
        )
    return NoSpaceError(
        f"No space is left on the disk of {place}{doing}.", hint=f"Free some room and {_GO_ON}"
    )


def out_of_inodes(place: str | os.PathLike[str]) -> bool:
    """Return whether the disk of a path has room for bytes, and for no further file."""
    folder = Path(place).absolute()
    while not folder.is_dir():
        folder = folder.parent
    try:
        info = os.statvfs(folder)
    except OSError:
        return False
    # A few may be free: who failed for want of one has removed its own files before it asks.
    return bool(info.f_files and info.f_favail < _FEW_INODES and info.f_bavail)
