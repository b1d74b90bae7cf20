"""Whether all that a night needs is in order: clock, room, rights, disk, hubs, token, libraries, timers.

What the archive holds is the business of an audit; this looks at what is around it.
"""

from __future__ import annotations

import os
import platform
import re
import stat
import sys
import time
from dataclasses import replace
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from importlib import metadata
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

import msgspec

from archiver import __version__
from archiver.archive.clock import ahead_of_clock
from archiver.archive.layout import FOLDERS, TMP
from archiver.errors import ArchiverError, ExitCode, NetworkError, UsageError
from archiver.schedule.systemd import installed
from archiver.storage.filesystem import free_bytes
from archiver.storage.trial import try_out
from archiver.text import utc_now, utc_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from archiver.archive.archive import Archive
    from archiver.progress import Progress

SKEW_MAX: Final = 300
"""Seconds that the clock may differ from a hub's."""
ROOM_MIN: Final = 1 << 30
"""Bytes that mirrors keep free unless they are told otherwise."""
INODES_MIN: Final = 10_000
"""Files that a repository with its packs may come to."""
LATE_SECONDS: Final = 2 * 86400
"""A timer of each night that began none for so long is not what its owner believes."""
SILENCE: Final = 10.0
"""Seconds that a hub may be silent."""
_EARLIEST: Final = "2025-01-01T00:00:00Z"
_DISTRIBUTION: Final = "weights-archiver"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_EXTRA: Final = re.compile(r"extra\s*==\s*['\"]([a-z0-9-]+)['\"]")
_FOR_DEVELOPERS: Final = {"test", "demo"}

Subject = Literal[
    "clock", "hub-clock", "room", "inodes", "access", "filesystem", "hub", "token", "versions",
    "extras", "timer",
]  # fmt: skip
Outcome = Literal["ok", "note", "failed", "unknown"]
"""``note``: nothing is wrong, and something is worth knowing. ``unknown``: it was not looked at."""
Problem = Literal[
    "", "clock-behind-journal", "clock-before-2025", "clock-differs", "no-date", "little-room",
    "room-not-told", "few-inodes", "not-writable", "others-may-write", "several-owners", "cannot-write",
    "no-file-sync",
    "no-rename", "disk-lacks", "read-only", "hub-unreachable", "hub-not-asked", "hub-fails", "no-token",
    "token-refused", "token-not-judged", "library-missing", "extra-missing", "no-timer", "timer-inactive",
    "timer-late", "night-failed", "timer-not-told",
]  # fmt: skip


class Check(msgspec.Struct, frozen=True):
    """One thing that was looked at; ``problem`` is "" where all is well, ``facts`` are what was seen."""

    subject: Subject
    outcome: Outcome
    problem: Problem = ""
    facts: dict[str, str | int | bool | list[str]] = {}


class DoctorRequest(NamedTuple):
    """What to look at.

    Attributes:
        hubs: The hubs that are asked, the first one foremost.
        token: The token of the first one; None for the one of its variable.
    """

    hubs: tuple[str, ...]
    token: str | None = None


class DoctorReport(msgspec.Struct, frozen=True):
    """All checks, in the order in which they were made."""

    checks: tuple[Check, ...]

    @property
    def exit_code(self) -> ExitCode:
        """POLICY_UNMET if a check failed, SKIPPED if one could not be made, else OK."""
        outcomes = {check.outcome for check in self.checks}
        if "failed" in outcomes:
            return ExitCode.POLICY_UNMET
        return ExitCode.SKIPPED if "unknown" in outcomes else ExitCode.OK


def doctor(archive: Archive, request: DoctorRequest, progress: Progress) -> DoctorReport:
    """Look at everything, and report all of it; nothing is mended."""
    parts: tuple[tuple[str, Callable[[], Iterator[Check]]], ...] = (
        ("clock", lambda: _clock(archive)),
        ("disk", lambda: _disk(archive)),
        *((hub, lambda hub=hub: _hub(hub, request)) for hub in request.hubs),
        ("versions", _versions),
        ("timers", lambda: _timers(archive)),
    )
    checks: list[Check] = []
    progress.expect(len(parts), 0)
    for name, look in parts:
        progress.begin(name, 0)
        checks += look()
        progress.end(name)
    return DoctorReport(tuple(checks))


# ---- clock


def _clock(archive: Archive) -> Iterator[Check]:
    now = utc_now()
    if now < _EARLIEST:
        yield Check("clock", "failed", "clock-before-2025", {"now": now})
        return
    ahead = ahead_of_clock(archive.standing_events())
    if ahead:
        yield Check("clock", "failed", "clock-behind-journal", {"now": now, "journal": ahead})
    else:
        yield Check("clock", "ok", facts={"now": now})


def _hub_clock(hub: str, headers: Mapping[str, str], now: float) -> Check:
    try:
        hub_seconds = parsedate_to_datetime(headers.get("date", "")).timestamp()
    except (ValueError, TypeError, OverflowError):
        return Check("hub-clock", "note", "no-date", {"hub": hub})
    skew = round(now - hub_seconds)
    facts: dict[str, str | int | bool | list[str]] = {"hub": hub, "seconds": skew}
    if abs(skew) > SKEW_MAX:
        return Check(
            "hub-clock", "failed", "clock-differs", {**facts, "told": utc_text(hub_seconds)}
        )
    return Check("hub-clock", "ok", facts=facts)


# ---- the archive's disk


def _disk(archive: Archive) -> Iterator[Check]:
    own = archive.store.folder
    if own is None:
        return
    root = own.path
    yield from _room(root)
    writable = os.access(root, os.W_OK | os.X_OK)
    yield from _access(root, writable=writable)
    if writable:
        yield _filesystem(root)
    else:
        yield Check("filesystem", "unknown", "read-only")


def _room(root: Path) -> Iterator[Check]:
    free = free_bytes(root)
    if free is None:
        yield Check("room", "note", "room-not-told")
    elif free < ROOM_MIN:
        yield Check("room", "failed", "little-room", {"free": free, "least": ROOM_MIN})
    else:
        yield Check("room", "ok", facts={"free": free})
    info = os.statvfs(root)
    if not info.f_files:
        return  # such as btrfs, which makes them as they are needed
    facts: dict[str, str | int | bool | list[str]] = {"free": info.f_favail}
    if info.f_favail < INODES_MIN:
        yield Check("inodes", "failed", "few-inodes", {**facts, "least": INODES_MIN})
    else:
        yield Check("inodes", "ok", facts=facts)


def _access(root: Path, *, writable: bool) -> Iterator[Check]:
    info, user = root.stat(), os.geteuid()
    facts: dict[str, str | int | bool | list[str]] = {"owner": info.st_uid, "user": user}
    if not writable:
        yield Check("access", "failed", "not-writable", facts)
        return
    open_to_all = info.st_mode & stat.S_IWOTH and not info.st_mode & stat.S_ISVTX
    others = [
        name
        for name in FOLDERS
        if (root / name).is_dir() and (root / name).stat().st_uid != info.st_uid
    ]
    if open_to_all:
        yield Check("access", "failed", "others-may-write", facts)
    elif others:
        yield Check("access", "note", "several-owners", {**facts, "folders": others})
    else:
        yield Check("access", "ok", facts=facts)


def _filesystem(root: Path) -> Check:
    folder = root / TMP
    try:
        trial = try_out(folder if folder.is_dir() else root)
    except OSError as error:
        reason = error.strerror or str(error)
        return Check("filesystem", "failed", "cannot-write", {"reason": reason})
    lacking = [name.replace("_", "-") for name, works in trial._asdict().items() if not works]
    facts: dict[str, str | int | bool | list[str]] = {"lacking": lacking}
    if not trial.file_sync:
        return Check("filesystem", "failed", "no-file-sync", facts)
    if not trial.renames:
        return Check("filesystem", "failed", "no-rename", facts)
    return Check("filesystem", "note" if lacking else "ok", "disk-lacks" if lacking else "", facts)


# ---- hubs


def _hub(hub: str, request: DoctorRequest) -> Iterator[Check]:
    """Ask a hub once: whether it answers, what time it has, and whether it takes the token."""
    # The hub's client is loaded by whoever asks it.
    from archiver.names import HUGGING_FACE  # noqa: PLC0415
    from archiver.upstream.deadlines import chosen_patience  # noqa: PLC0415
    from archiver.upstream.huggingface import http as huggingface  # noqa: PLC0415
    from archiver.upstream.huggingface.endpoint import require_online  # noqa: PLC0415
    from archiver.upstream.modelscope import http as modelscope  # noqa: PLC0415
    from archiver.upstream.retry import RetryableError, RetryPolicy  # noqa: PLC0415

    patience = replace(chosen_patience(), silence=SILENCE)
    token = request.token if hub == request.hubs[0] else None
    session: huggingface.Session | modelscope.Session
    if hub == HUGGING_FACE:
        session, path = huggingface.Session(token, None, patience, RetryPolicy()), "/api/whoami-v2"
    else:
        session, path = modelscope.Session(token, None, patience, RetryPolicy()), "/"
    facts: dict[str, str | int | bool | list[str]] = {"hub": hub, "endpoint": session.endpoint}
    try:
        if hub == HUGGING_FACE:
            require_online()
    except NetworkError as error:
        yield Check("hub", "unknown", "hub-not-asked", {**facts, "reason": error.message})
        return
    try:
        status, headers = session.status_of(path)
    except UsageError as error:
        yield Check("token", "failed", "token-refused", {**facts, "reason": error.message})
        return
    except (ArchiverError, RetryableError) as error:
        yield Check("hub", "failed", "hub-unreachable", {**facts, "reason": str(error)})
        return
    now = time.time()
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.TOO_MANY_REQUESTS:
        yield Check("hub", "failed", "hub-fails", {**facts, "status": status})
    else:
        yield Check("hub", "ok", facts={**facts, "status": status})
    yield _hub_clock(hub, headers, now)
    if not session.has_token:
        yield Check("token", "note", "no-token", facts)
    elif hub == HUGGING_FACE and status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        yield Check("token", "failed", "token-refused", {**facts, "status": status})
    elif hub == HUGGING_FACE and status == HTTPStatus.OK:
        yield Check("token", "ok", facts=facts)
    else:
        yield Check("token", "note", "token-not-judged", facts)


# ---- what is installed


def _versions() -> Iterator[Check]:
    versions = [f"archiver {__version__}", f"Python {platform.python_version()}"]
    missing: list[str] = []
    extras: dict[str, list[str]] = {}
    try:
        required = metadata.requires(_DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        required = []  # run from a folder
    for requirement in required:
        name, extra = _NAME.match(requirement), _EXTRA.search(requirement)
        if name is None or (extra and extra[1] in _FOR_DEVELOPERS) or name[0] == _DISTRIBUTION:
            continue
        lacking = extras.setdefault(extra[1], []) if extra else missing
        try:
            version = metadata.version(name[0])
        except metadata.PackageNotFoundError:
            lacking.append(name[0])
            continue
        if not extra:
            versions.append(f"{name[0]} {version}")
    facts: dict[str, str | int | bool | list[str]] = {
        "versions": versions,
        "python": sys.executable,
    }
    if missing:
        yield Check("versions", "failed", "library-missing", {**facts, "missing": missing})
    else:
        yield Check("versions", "ok", facts=facts)
    for extra_name, lacking in sorted(extras.items()):
        about: dict[str, str | int | bool | list[str]] = {"extra": extra_name, "missing": lacking}
        if lacking:
            yield Check("extras", "note", "extra-missing", about)
        else:
            yield Check("extras", "ok", facts=about)


# ---- timers


def _timers(archive: Archive) -> Iterator[Check]:
    own = archive.store.folder
    jobs = installed(own.path.resolve()) if own else []
    if not jobs:
        yield Check("timer", "note", "no-timer")
    for job in jobs:
        state = job.state
        facts: dict[str, str | int | bool | list[str]] = {
            "name": job.name,
            "system": job.system,
            "plan": str(job.written.plan),
            "last": utc_text(state.last) if state.last else "",
            "next": utc_text(state.next) if state.next else "",
            "exit_code": state.exit_code,
        }
        if not state.known:
            yield Check("timer", "unknown", "timer-not-told", facts)
        elif not state.active:
            yield Check("timer", "failed", "timer-inactive", facts)
        elif state.last and time.time() - state.last > LATE_SECONDS:
            yield Check("timer", "failed", "timer-late", facts)
        elif state.last and state.result not in {"success", ""}:
            yield Check("timer", "failed", "night-failed", facts)
        else:
            yield Check("timer", "ok", facts=facts)
