"""The job that is scheduled: which command, on what, when, and by what name."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Final, NamedTuple

from archiver.digest import blake3_hex
from archiver.errors import UsageError
from archiver.text import printable

PREFIX: Final = "archiver-night-"
"""How the name of every unit begins that is made here."""
_DIGITS: Final = 12
_TIME: Final = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])\Z")
_UNIT: Final = re.compile(r"[A-Za-z0-9:_.@%-]{1,200}\.(service|target)\Z")
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,31}\Z")
_CREDENTIAL: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}\Z")
_NO_PROGRAM: Final = frozenset("\"'\\")


class Job(NamedTuple):
    """One plan and one archive, each night.

    Attributes:
        archive: The archive, an absolute path.
        plan: The plan's file, an absolute path.
        at: The time of day, ``HH:MM``, as the machine's clock shows it.
        also: Further folders that are written to, such as places of copies; they may be absent.
        token: A file that holds the hub's token; None for none.
        credentials: Further secrets by name, each in a file, as a plan calls them.
        on_failure: The unit that is started when a night fails; "" for none.
        user: Who runs it; "" for whom the unit belongs to. Only of the system's units.
        system: Whether the machine runs it, or this user's own systemd.
    """

    archive: Path
    plan: Path
    at: str = "02:00"
    also: tuple[Path, ...] = ()
    token: Path | None = None
    credentials: tuple[tuple[str, Path], ...] = ()
    on_failure: str = ""
    user: str = ""
    system: bool = False

    @property
    def name(self) -> str:
        """The name of its units, without the ending: the same for the same archive and plan."""
        return PREFIX + blake3_hex(f"{self.archive}\n{self.plan}".encode())[:_DIGITS]

    @property
    def command(self) -> tuple[str, ...]:
        """The command, as its words; the program is this Python, wherever it is installed."""
        words = ("-m", "archiver", "night", "-C", str(self.archive), str(self.plan))
        return (sys.executable, *words)

    @property
    def paths(self) -> tuple[Path, ...]:
        """Every path that a unit or a line of cron names."""
        token = (self.token,) if self.token else ()
        secrets = (file for _, file in self.credentials)
        return (Path(sys.executable), self.archive, self.plan, *self.also, *token, *secrets)


def require_sound(job: Job) -> None:
    """Raise UsageError for what would be read as something else in a unit or a line of cron."""
    for path in job.paths:
        text = str(path)
        if not path.is_absolute() or not text.isprintable() or text != text.strip():
            raise UsageError(
                f"The path {printable(text)!r} cannot stand in a schedule: it must be absolute, without "
                "line breaks or other characters that cannot be printed, and without spaces at its ends.",
                hint="Give the folder or file another name, or a link that has one.",
            )
        if text.endswith("\\"):
            raise UsageError(
                f"The path {printable(text)!r} ends with a backslash, which would join two lines.",
                hint="Give the folder or file another name, or a link that has one.",
            )
    if _NO_PROGRAM.intersection(sys.executable):
        raise UsageError(
            f"The path of Python, {printable(sys.executable)!r}, has quotes or backslashes; systemd starts "
            "no such program.",
            hint="Install archiver in a folder without them.",
        )
    if not _TIME.match(job.at):
        raise UsageError(f"{printable(job.at)!r} is no time of day such as 02:00.")
    for name, _ in job.credentials:
        if not _CREDENTIAL.match(name):
            raise UsageError(f"{printable(name)!r} is no name of a credential.")
    if job.on_failure and not _UNIT.match(job.on_failure):
        raise UsageError(
            f"{printable(job.on_failure)!r} is no unit such as mail-on-failure@%n.service."
        )
    if job.user and not _NAME.match(job.user):
        raise UsageError(f"{printable(job.user)!r} is no name of a user.")
