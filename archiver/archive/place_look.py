"""Looking at a place without waiting for ever: is it there, what lies in it, on which disk?

A dead network mount, or a disk that hangs, blocks whoever touches it, and no signal ends that. So each
look is a child process (``place_probe``) that is given up after ``LOOK_SECONDS``.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from archiver.archive.records import is_identity
from archiver.errors import ArchiverError
from archiver.storage.filesystem import mounts

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 30.0
"""A disk that sleeps needs about ten to wake up."""
LOOKED_AT: Final = 64
"""More places than anybody has on one machine."""
_AT_ONCE: Final = 16
_GRACE: Final = 0.5
_PROBE: Final = Path(__file__).with_name("place_probe.py")
_AT_HAND: Final = frozenset(
    [
        "bcachefs",
        "btrfs",
        "exfat",
        "ext2",
        "ext3",
        "ext4",
        "f2fs",
        "jfs",
        "msdos",
        "ntfs3",
        "overlay",
        "ramfs",
        "squashfs",
        "tmpfs",
        "vfat",
        "xfs",
        "zfs",
    ]
)
"""Filesystems without a server that could go away."""
_MOST_LINKS: Final = 40
_abandoned: Final[list[subprocess.Popen[bytes]]] = []
"""Children that even SIGKILL did not end: they are held, so that nobody waits for them."""

Medium = Literal["disk", "network", "memory", "unknown"]
"""What lies under a filesystem: disks of this machine, a server, memory, or nobody can tell."""


class Device(msgspec.Struct, frozen=True, omit_defaults=True):
    """What lies under a filesystem.

    ``devices`` are identities: of each whole disk below it, or of a server and its export. Of an
    ``unknown`` medium there is at most one that holds until the machine starts anew. ``label`` is for
    people. ``filesystem`` tells the filesystems of one disk apart; ``""`` where it has no number.
    """

    medium: Medium = "unknown"
    devices: tuple[str, ...] = ()
    label: str = ""
    filesystem: str = ""

    def shares(self, other: Device) -> bool:
        """Return whether one fault can take both: they have a disk, or a server's export, in common."""
        return not set(self.devices).isdisjoint(other.devices)

    def is_on(self, other: Device) -> bool:
        """Return whether this filesystem, as it was known, is certainly the other one."""
        if self.medium == "unknown" or not self.shares(other):
            return False
        return not self.filesystem or self.filesystem == other.filesystem


class Look(msgspec.Struct, frozen=True):
    """What was seen at a path.

    Attributes:
        path: Without links; as it was given, if there was no answer.
        answered: False if the look had to be given up: the mount is dead, or very slow.
        there: Something lies at the path.
        names: Some of the names in it.
        error: Why it could not be listed; ``""`` if it could, or nothing is there.
        device: What lies under it; under the nearest folder above it, if nothing is there.
        mount: It is where a filesystem begins.
        unmounted: The folder at or above it where ``/etc/fstab`` wants a filesystem that is not mounted.
        archive: The archive's id in it, as its ``archive.json`` has it; ``""`` if it has none.
        place: Its identity, as ``place.json`` has it; ``""`` likewise.
        free: Bytes that are free there; None if nobody can tell.
        missing: How many of the files that should be there are not.
        absent: The names of some of these.
    """

    path: str
    answered: bool = True
    there: bool = False
    names: tuple[str, ...] = ()
    error: str = ""
    device: Device = Device()
    mount: bool = False
    unmounted: str = ""
    archive: str = ""
    place: str = ""
    free: int | None = None
    missing: int = 0
    absent: tuple[str, ...] = ()


class _Answer(msgspec.Struct):
    """What the child says; it may have read hostile files, but it is ours."""

    path: str
    there: bool
    names: tuple[str, ...]
    error: str
    medium: Medium
    devices: tuple[str, ...]
    label: str
    filesystem: str
    mount: bool
    unmounted: str
    archive: str
    place: str
    free: int
    missing: int
    absent: tuple[str, ...]


def look_at(path: str | os.PathLike[str], names: Iterable[str] = ()) -> Look:
    """See what lies at ``path``, and which of the stored files ``names`` are not there by name.

    Returns within ``LOOK_SECONDS`` or so, whatever is mounted there.
    """
    text = os.fspath(path)
    child = subprocess.Popen(  # noqa: S603 - this interpreter, a file of ours, and no shell
        [sys.executable, "-I", "-S", os.fspath(_PROBE), text],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is for this process to hear, which then ends the child
    )
    _log.info("process %d looks at %s", child.pid, text)
    try:
        out = child.communicate("\n".join(names).encode(), LOOK_SECONDS)[0]
    except subprocess.TimeoutExpired:
        _log.info("%s gave no answer within %.0f s", text, LOOK_SECONDS)
        return Look(text, answered=False)
    finally:
        _end(child)
    try:
        answer = msgspec.json.decode(out, type=_Answer)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Look(text, error="it could not be looked at")
    facts = msgspec.structs.asdict(answer)
    device = Device(*(facts.pop(name) for name in Device.__struct_fields__))
    facts["free"] = answer.free if answer.free >= 0 else None
    facts["place"] = answer.place if is_identity(answer.place) else ""
    return Look(device=device, **facts)


def require_answer(path: str | os.PathLike[str]) -> None:
    """Raise ArchiverError if nothing answers at ``path``, before anything else touches it.

    A look is a process more, so where no mount on the way there has a server, none is taken.
    """
    if _has_server(os.fspath(path)) and not look_at(path).answered:
        raise no_answer(path)


def no_answer(path: str | os.PathLike[str]) -> ArchiverError:
    """Return the error for a path that gave no answer."""
    return ArchiverError(
        f"{os.fspath(path)} gave no answer within {LOOK_SECONDS:.0f} seconds.",
        hint="Nothing was done. Is its disk or server there? A dead mount goes with 'umount -l'.",
    )


def _has_server(path: str) -> bool:
    """Return whether the way to ``path`` enters a mount that may never answer; nothing in one is touched.

    True as well where nobody can tell which mounts there are.
    """
    known = mounts()
    if not known:
        return True
    served = {point for point, filesystem in known if filesystem not in _AT_HAND}
    # Links are followed one part at a time, because reading a link looks at the filesystem it is in.
    at, links = "/", 0
    parts = os.path.join(os.getcwd(), path).split("/")[::-1]  # noqa: PTH109, PTH118 - texts, not looks
    while parts and links < _MOST_LINKS:
        part = parts.pop()
        if part in {"", ".", ".."}:
            at = os.path.dirname(at) if part == ".." else at  # noqa: PTH120
            continue
        below = os.path.join(at, part)  # noqa: PTH118
        if below in served:
            return True
        try:
            target = os.readlink(below)  # noqa: PTH115
        except OSError:
            at = below
            continue
        links += 1
        at = "/" if target.startswith("/") else at
        parts += target.split("/")[::-1]
    return False


def look_at_all(paths: Mapping[str, Iterable[str]]) -> dict[str, Look]:
    """Look at several paths, given with the files that should lie there; return what was seen at each.

    Only the first ``LOOKED_AT`` are looked at: whoever can write a journal can name any number.
    """
    some = dict(islice(paths.items(), LOOKED_AT))
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="look") as pool:
        return dict(zip(some, pool.map(look_at, some, some.values()), strict=True))


def _end(child: subprocess.Popen[bytes]) -> None:
    """End a child that has not ended by itself; one that cannot be ended is left to itself."""
    if child.poll() is None:
        child.kill()
        try:
            child.wait(_GRACE)
        except subprocess.TimeoutExpired:
            _abandoned.append(child)
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            pipe.close()
