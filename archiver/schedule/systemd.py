"""Units in their folder, and what systemd says of them; for the machine, or for this user alone."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from archiver.errors import ArchiverError, DeniedError
from archiver.schedule.job import PREFIX
from archiver.schedule.units import read_back, service_text, timer_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from archiver.schedule.job import Job
    from archiver.schedule.units import Written

ANSWER_SECONDS: Final = 30.0
"""How long systemd may take to answer."""
_UNIT_MAX: Final = 64 << 10
"""A unit's file of ours has a few kilobytes; of more bytes none is read."""
_UNITS_MAX: Final = 1000
_NAME: Final = re.compile(rf"({re.escape(PREFIX)}[0-9a-f]{{12}})\.timer\Z")
_SYSTEM: Final = Path("/etc/systemd/system")
_BOOTED: Final = Path("/run/systemd/system")
"""Is there where systemd is the first process."""


class TimerState(NamedTuple):
    """What systemd knows of a timer and its service; times in seconds since 1970, 0: never or not known.

    Attributes:
        known: Whether systemd could be asked at all.
        active: Whether the timer runs.
        last: When it last began a night.
        next: When it begins the next one.
        result: How the last night ended, as systemd has it; "success" also where there was none.
        exit_code: The exit code of the last night.
    """

    known: bool = False
    active: bool = False
    last: int = 0
    next: int = 0
    result: str = ""
    exit_code: int = 0


class InstalledJob(NamedTuple):
    """A timer that was found."""

    name: str
    system: bool
    written: Written
    state: TimerState


def unit_folder(*, system: bool) -> Path:
    """Return where the units lie."""
    if system:
        return _SYSTEM
    config = os.environ.get("XDG_CONFIG_HOME", "")
    home = os.path.expanduser("~")  # noqa: PTH111 - Path.home fails for a user without one
    return (Path(config) if config else Path(home) / ".config") / "systemd" / "user"


def install(job: Job) -> bool:
    """Write both units and start the timer; return whether systemd took them.

    False where there is no systemd to tell: the units are there all the same.

    Raises:
        UsageError: A path cannot stand in a unit.
        DeniedError: The folder of units may not be written to.
        ArchiverError: systemd refuses them.
    """
    texts = {".service": service_text(job), ".timer": timer_text(job)}
    folder = unit_folder(system=job.system)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for ending, text in texts.items():
            _replace(folder / f"{job.name}{ending}", text)
    except PermissionError as error:
        raise DeniedError(
            f"{folder} may not be written to: {error.strerror}.",
            hint="Run it as root for the machine's units, or without --system for your own.",
        ) from error
    if not _is_there():
        return False
    _ask(job.system, "daemon-reload")
    _ask(job.system, "enable", "--now", f"{job.name}.timer")
    return True


def remove(job: InstalledJob) -> None:
    """Stop the timer and take both units away. A night that is running goes on to its end."""
    folder = unit_folder(system=job.system)
    if _is_there():
        with suppress(ArchiverError):
            _ask(job.system, "disable", "--now", f"{job.name}.timer")
    try:
        for ending in (".timer", ".service"):
            (folder / f"{job.name}{ending}").unlink(missing_ok=True)
    except PermissionError as error:
        raise DeniedError(
            f"{folder} may not be written to: {error.strerror}.", hint="Run it as root."
        ) from error
    if _is_there():
        with suppress(ArchiverError):
            _ask(job.system, "daemon-reload")


def installed(archive: Path) -> list[InstalledJob]:
    """Return the timers of an archive, of the machine and of this user, by name."""
    jobs = []
    for system in (True, False):
        for name, written in _units(unit_folder(system=system)):
            if written.archive == archive:
                jobs.append(InstalledJob(name, system, written, _state(name, system=system)))
    return jobs


def _units(folder: Path) -> Iterator[tuple[str, Written]]:
    try:
        names = sorted(entry.name for entry in folder.iterdir())
    except OSError:
        return
    for name in names[:_UNITS_MAX]:
        match = _NAME.match(name)
        if not match:
            continue
        try:
            with (folder / name).open("rb") as file:
                text = file.read(_UNIT_MAX).decode("utf-8", "replace")
        except OSError:
            continue
        written = read_back(text)
        if written:
            yield match[1], written


def _replace(path: Path, text: str) -> None:
    new = path.with_name(f".{path.name}.new")
    new.write_text(text, encoding="utf-8")
    new.chmod(0o644)
    new.replace(path)


# ---- what systemd is asked


def _is_there() -> bool:
    """Return whether systemd runs this machine, by its own test for that (``sd_booted(3)``)."""
    return _BOOTED.is_dir() and shutil.which("systemctl") is not None


def _ask(system: bool, *words: str) -> str:
    command = ["systemctl", "--system" if system else "--user", "--no-pager", *words]
    try:
        done = subprocess.run(  # noqa: S603 - fixed words, and names made here
            command,
            check=False,
            capture_output=True,
            timeout=ANSWER_SECONDS,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ArchiverError(f"systemd gave no answer: {error}.") from error
    if done.returncode:
        reason = done.stderr[:_UNIT_MAX].decode("utf-8", "replace").strip()
        raise ArchiverError(
            f"systemd refuses 'systemctl {' '.join(words)}': {reason}",
            hint="Ask it yourself: systemctl status, journalctl -u.",
        )
    return done.stdout[:_UNIT_MAX].decode("utf-8", "replace")


def _state(name: str, *, system: bool) -> TimerState:
    if not _is_there():
        return TimerState()
    timer = ("ActiveState", "LastTriggerUSec", "NextElapseUSecRealtime")
    service = ("Result", "ExecMainStatus")
    try:
        options = ("--timestamp=unix", f"--property={','.join(timer)}")
        of_timer = _properties(_ask(system, "show", *options, f"{name}.timer"))
        option = f"--property={','.join(service)}"
        of_service = _properties(_ask(system, "show", option, f"{name}.service"))
    except ArchiverError:
        return TimerState()
    return TimerState(
        known=True,
        active=of_timer.get("ActiveState") == "active",
        last=_seconds(of_timer.get("LastTriggerUSec", "")),
        next=_seconds(of_timer.get("NextElapseUSecRealtime", "")),
        result=of_service.get("Result", ""),
        exit_code=_number(of_service.get("ExecMainStatus", "")),
    )


def _properties(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def _seconds(text: str) -> int:
    return _number(text.removeprefix("@"))


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 16 else 0  # noqa: PLR2004
