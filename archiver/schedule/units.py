"""A systemd service and its timer as text: hardened, every path escaped; and read back.

systemd reads ``%`` as the beginning of a specifier, ``$`` as that of a variable, and a backslash within
quotes as that of an escape (``systemd.syntax(7)``, ``systemd.service(5)``).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from archiver.schedule.job import require_sound

if TYPE_CHECKING:
    from collections.abc import Iterable

    from archiver.schedule.job import Job

CREDENTIAL: Final = "hf-token"
"""The name of the credential that holds the hub's token."""
STOP_SECONDS: Final = 300
"""How long a night may take to end once it is told to."""
SPREAD_SECONDS: Final = 900
"""Nights begin up to so much later, so that not every machine asks the hub in the same second."""
_ROOTS_RIGHTS: Final = "CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER"
"""What root needs to write into the folder of another user, and to leave what it writes to that one."""
_SECTION: Final = "[X-Archiver]"

_HARDENED: Final = (
    ("NoNewPrivileges", "yes"),
    ("PrivateTmp", "yes"),
    ("PrivateDevices", "yes"),
    ("ProtectSystem", "strict"),
    ("ProtectHome", "read-only"),
    ("ProtectClock", "yes"),
    ("ProtectControlGroups", "yes"),
    ("ProtectHostname", "yes"),
    ("ProtectKernelLogs", "yes"),
    ("ProtectKernelModules", "yes"),
    ("ProtectKernelTunables", "yes"),
    ("LockPersonality", "yes"),
    ("RestrictNamespaces", "yes"),
    ("RestrictRealtime", "yes"),
    ("RestrictSUIDSGID", "yes"),
    ("RestrictAddressFamilies", "AF_UNIX AF_INET AF_INET6"),
    ("SystemCallArchitectures", "native"),
    ("SystemCallFilter", "@system-service"),
    ("SystemCallErrorNumber", "EPERM"),
)
"""Not among them: MemoryDenyWriteExecute, for a smoke test compiles as it runs; and ProtectProc, which
would hide from a lock who holds it."""


def escaped(text: str) -> str:
    """Return a path or a word in quotes, as a setting takes it that splits at spaces."""
    inside = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{inside}"'


def command_line(words: Iterable[str]) -> str:
    """Return the words of a command for ``ExecStart=``; the first, a program, has no variables."""
    program, *arguments = words
    return " ".join([escaped(program), *(escaped(word).replace("$", "$$") for word in arguments)])


def service_text(job: Job) -> str:
    """Return the service of a job; raise UsageError for what it cannot hold."""
    require_sound(job)
    mounts = " ".join(escaped(str(path)) for path in (job.archive, job.plan))
    writable = [escaped(str(job.archive)), *(f"-{escaped(str(path))}" for path in job.also)]
    lines = [
        *_head("archiver: mirror, copy, audit and report, as a plan has it", "docs/schedule.md"),
        f"RequiresMountsFor={mounts}",
    ]
    if job.system:
        lines += ["Wants=network-online.target", "After=network-online.target"]
    if job.on_failure:
        lines += [f"OnFailure={job.on_failure}"]
    lines += ["", "[Service]", "Type=oneshot", f"ExecStart={command_line(job.command)}"]
    if job.user:
        lines += [f"User={job.user}"]
    lines += [_credential(name, file) for name, file in job.credentials]
    if job.token:
        lines += [_credential(CREDENTIAL, job.token)]
        lines += [f"Environment=HF_TOKEN_PATH=%d/{CREDENTIAL}"]
    lines += [
        f"TimeoutStopSec={STOP_SECONDS}",
        "KillMode=mixed",
        "",
        "# Others on this machine come first.",
        *("Nice=10", "CPUWeight=20", "IOWeight=20", "IOSchedulingPriority=7"),
        "",
        "# What it may: write below these folders, and speak to hubs.",
        f"ReadWritePaths={' '.join(writable)}",
        "CacheDirectory=archiver",
        "UMask=0022",
        *(f"{name}={value}" for name, value in _HARDENED),
    ]
    if job.system:
        # Where an index that cannot lie in the archive is kept.
        lines += ["Environment=XDG_CACHE_HOME=%C/archiver"]
        rights = "" if job.user else _ROOTS_RIGHTS
        lines += [f"CapabilityBoundingSet={rights}", "AmbientCapabilities="]
    else:
        # Without it a user's own systemd can protect nothing.
        lines += ["PrivateUsers=yes"]
    return _written(lines, job)


def _credential(name: str, file: Path) -> str:
    # No quotes: what follows the colon is the path, to the end of the line.
    return f"LoadCredential={name}:{str(file).replace('%', '%%')}"


def timer_text(job: Job) -> str:
    """Return the timer of a job; a night that was missed is made up for when the machine is up again."""
    require_sound(job)
    lines = [
        *_head("archiver, each night", "docs/schedule.md"),
        "",
        "[Timer]",
        f"OnCalendar=*-*-* {job.at}:00",
        f"RandomizedDelaySec={SPREAD_SECONDS}",
        "Persistent=true",
        "",
        "[Install]",
        "WantedBy=timers.target",
    ]
    return _written(lines, job)


def _head(description: str, page: str) -> list[str]:
    return [
        "# Written by 'archiver schedule install', and replaced by the next one.",
        f"# What each setting is for: {page}",
        "[Unit]",
        f"Description={description}",
    ]


def _written(lines: list[str], job: Job) -> str:
    # systemd passes over sections of others.
    own = ["", _SECTION, f"Archive={job.archive}", f"Plan={job.plan}", f"At={job.at}", ""]
    return "\n".join([*lines, *own])


class Written(NamedTuple):
    """What a unit says of the job that it was written for."""

    archive: Path
    plan: Path
    at: str


def read_back(text: str) -> Written | None:
    """Return the job of a unit's text; None if it is none of ours."""
    _, found, section = text.partition(f"\n{_SECTION}\n")
    values = dict(line.split("=", 1) for line in section.splitlines() if "=" in line)
    if not found or not {"Archive", "Plan", "At"} <= values.keys():
        return None
    return Written(Path(values["Archive"]), Path(values["Plan"]), values["At"])
