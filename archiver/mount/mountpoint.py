"""The folder that an archive is mounted at: whether it can be, and the mount from beginning to end."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from archiver.archive.advice import quoted
from archiver.archive.place_look import require_answer
from archiver.errors import ArchiverError, SkippedError, UsageError, explain_system_error
from archiver.smoke.libraries import install_hint
from archiver.storage.filesystem import mounts

if TYPE_CHECKING:
    from archiver.archive.archive import Archive
    from archiver.mount.filesystem import ArchiveFilesystem

TYPE: Final = "fuse.archiver"
"""How the system lists the filesystem."""
_DEVICE: Final = Path("/dev/fuse")
_HELPERS: Final = ("fusermount3", "fusermount")
_LIBRARY_HINT: Final = "Install it, on Debian and its like with: apt install fuse3 libfuse2"
KEPT_SECONDS: Final = 60
"""So long the kernel goes by what it knows of a name. New names are asked for at once."""
_AHEAD_KIB: Final = 1024
"""So much the kernel reads ahead; by itself it is 128 KiB, and each request costs as much as that."""


class DeadMountError(ArchiverError):
    """The program that a folder was mounted by has ended without unmounting it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(
            f"{folder} is still mounted by a program that has died.",
            hint=f"Run {unmounting(folder)}, then mount again.",
        )


def unmounting(folder: Path) -> str:
    """Return the command that unmounts a folder, in quotes, to be typed as it stands."""
    return quoted(("fusermount", "-u", str(folder)))


def require_fuse() -> Any:
    """Return the module that speaks to libfuse; SkippedError if this machine cannot mount anything."""
    try:
        import mfusepy  # noqa: PLC0415 - of the extra
    except ImportError:
        raise SkippedError("Not installed: mfusepy.", hint=install_hint("mount")) from None
    except (OSError, AttributeError) as error:
        raise SkippedError(f"No libfuse is installed: {error}.", hint=_LIBRARY_HINT) from None
    if not _DEVICE.exists():
        raise SkippedError(
            f"This system has no {_DEVICE}.",
            hint="Load it with 'modprobe fuse'; a container must be given it, as with --device /dev/fuse "
            "--cap-add SYS_ADMIN.",
        )
    if os.geteuid() and not any(map(shutil.which, _HELPERS)):
        raise SkippedError("The program fusermount is not installed.", hint=_LIBRARY_HINT)
    return mfusepy


def require_free(folder: Path, archive: Archive) -> Path:
    """Return the folder without links; raise ArchiverError if nothing can be mounted there."""
    require_answer(folder)
    try:
        names = list(folder.iterdir())
    except FileNotFoundError:
        raise UsageError(f"{folder} is not there.", hint="Make it with mkdir.") from None
    except NotADirectoryError:
        raise UsageError(f"{folder} is no folder.") from None
    except OSError as error:
        if error.errno in {errno.ENOTCONN, errno.ECONNABORTED}:
            raise DeadMountError(folder) from None
        raise explain_system_error(error) from error
    real = folder.resolve()
    if (str(real), TYPE) in mounts():
        raise UsageError(
            f"An archive is mounted at {folder} already.",
            hint=f"End that with {unmounting(folder)}, or choose another folder.",
        )
    if names:
        raise UsageError(
            f"{folder} is not empty.", hint="Choose an empty folder: a mount hides what lies in it."
        )
    archive.require_outside(folder)
    return real


def serve(folder: Path, filesystem: ArchiveFilesystem, *, allow_other: bool = False) -> bool:
    """Mount ``filesystem`` at ``folder``, and answer until it is unmounted, or a signal comes.

    Return whether SIGINT ended it. To be called by the main thread. Raise ArchiverError if it cannot be
    mounted.
    """
    fuse = require_fuse()
    # libfuse ends at a signal that nobody else waits for; Python would not come to hear of it.
    before = {
        number: signal.getsignal(number)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    interrupted = threading.Event()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    threading.Thread(target=_await_interrupt, args=(interrupted,), daemon=True).start()
    options: dict[str, Any] = {
        "ro": True,
        "nosuid": True,
        "nodev": True,
        "noexec": True,
        "default_permissions": True,
        "allow_other": allow_other,
        "fsname": "archiver",
        "subtype": "archiver",
        "use_ino": True,
        "auto_cache": True,
        "ac_attr_timeout": 1,
        "entry_timeout": KEPT_SECONDS,
        "attr_timeout": KEPT_SECONDS,
        "negative_timeout": 0,
    }
    try:
        fuse.FUSE(filesystem, os.fspath(folder), foreground=True, **options)
    except RuntimeError as error:
        if not filesystem.was_ready:
            raise ArchiverError(
                f"{folder} could not be mounted (libfuse ended with {error}; what it says stands above).",
                hint="Is the folder yours? For --allow-other, /etc/fuse.conf must have the line "
                "user_allow_other."
                if allow_other
                else "Is the folder yours, and may you mount at all?",
            ) from None
        # It was mounted, and ended by a signal, which libfuse 3 calls an error.
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    return interrupted.is_set()


def _await_interrupt(interrupted: threading.Event) -> None:
    """Wait for SIGINT, and end libfuse as SIGTERM would: it does not say which signal ended it."""
    signal.sigwait({signal.SIGINT})
    interrupted.set()
    os.kill(os.getpid(), signal.SIGTERM)


def read_far_ahead(folder: Path) -> None:
    """Have the kernel read ahead in larger steps what is mounted at ``folder``; only root can say that.

    The folder itself is not touched: who calls this may be the one who has to answer.
    """
    with suppress(OSError, IndexError, UnicodeError):
        lines = Path("/proc/self/mountinfo").read_text("utf-8").splitlines()
        devices = [fields[2] for fields in map(str.split, lines) if fields[4] == str(folder)]
        Path(f"/sys/class/bdi/{devices[-1]}/read_ahead_kb").write_text(f"{_AHEAD_KIB}\n", "ascii")
