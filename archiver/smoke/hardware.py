"""What this machine is, and how much memory it has left."""

from __future__ import annotations

import importlib.util
import os
import platform
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from archiver.errors import SkippedError, UsageError
from archiver.smoke import libraries

if TYPE_CHECKING:
    from collections.abc import Iterator

_ISA: Final = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "amx_int8", "asimd", "sve", "bf16")
"""Flags of ``/proc/cpuinfo`` by which libraries choose other ways to compute."""
_DEVICES: Final = ("cuda", "mps", "cpu")
_GROUPS: Final = Path("/sys/fs/cgroup")


def environment() -> dict[str, Any]:
    """Return versions of libraries and what the machine is, as JSON values; no library is needed."""
    facts: dict[str, Any] = {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu_name(),
        "isa": _isa_flags(),
        "cores": os.cpu_count() or 1,
        "memory": total_memory(),
        "libraries": libraries.versions(),
    }
    torch = sys.modules.get("torch")
    if torch is not None:
        facts["cpu_capability"] = torch.backends.cpu.get_cpu_capability()
        facts["threads"] = torch.get_num_threads()
    return facts


def _cpu_name() -> str:
    names = (
        _after_colon(line) for line in _lines("/proc/cpuinfo") if line.startswith("model name")
    )
    return next(names, "") or platform.processor() or platform.machine()


def _isa_flags() -> list[str]:
    lines = (line for line in _lines("/proc/cpuinfo") if line.startswith(("flags", "Features")))
    there = set(_after_colon(next(lines, "")).split())
    return [flag for flag in _ISA if flag in there]


def _after_colon(line: str) -> str:
    return line.partition(":")[2].strip()


def _lines(path: str | Path) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _kilobytes(path: str, name: str) -> int | None:
    """Return a line such as ``VmRSS:  1234 kB`` of a file below ``/proc``, in bytes."""
    for line in _lines(path):
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    return None


def total_memory() -> int:
    """Return bytes of memory that the machine, or the process's group, has."""
    machine = (
        _psutil().virtual_memory().total if _psutil() else _kilobytes("/proc/meminfo", "MemTotal")
    )
    return min([machine or 0, *(limit for limit, _ in _group_limits())])


def available_memory() -> int:
    """Return bytes of memory that can be had now, of the machine and each group that limits the process."""
    machine = (
        _psutil().virtual_memory().available
        if _psutil()
        else _kilobytes("/proc/meminfo", "MemAvailable")
    )
    return max(0, min([machine or 0, *(limit - used for limit, used in _group_limits())]))


def _group_limits() -> Iterator[tuple[int, int]]:
    """Yield limit and use in bytes of the control groups that the process lies in.

    Source: the kernel's cgroup-v2.rst (``memory.max``, ``memory.current``) and cgroup-v1/memory.rst.
    Page cache that can be dropped (``inactive_file``) is not counted as used.
    """
    for line in _lines("/proc/self/cgroup"):
        number, controllers, path = line.split(":", 2)
        if number == "0":
            yield from _limits_up(_GROUPS, path, "memory.max", "memory.current")
        elif "memory" in controllers.split(","):
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes")
            yield from _limits_up(_GROUPS / "memory", path, *names)


def _limits_up(root: Path, path: str, limit: str, used: str) -> Iterator[tuple[int, int]]:
    # in a container the path may be that outside; then its root is what counts
    place = root / path.lstrip("/")
    for folder in (place, *place.parents):
        most, now = _number(folder / limit), _number(folder / used)
        if most is not None and now is not None:
            yield most, max(0, now - _droppable(folder))
        if folder == root:
            return


def _number(path: Path) -> int | None:
    """Return the file's number; None if it is missing or says ``max``."""
    text = "".join(_lines(path)[:1])
    return int(text) if text.isdecimal() else None


def _droppable(folder: Path) -> int:
    for line in _lines(folder / "memory.stat"):
        if line.startswith(("inactive_file ", "total_inactive_file ")):
            return int(line.split()[1])
    return 0


def resident_memory() -> int:
    """Return bytes of memory that this process holds now; 0 where that cannot be told."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return int(_psutil().Process().memory_info().rss) if _psutil() else 0
    return pages * os.sysconf("SC_PAGE_SIZE")


class Usage(NamedTuple):
    """What a process holds of memory, in bytes, and has computed, in seconds of all its threads."""

    memory: int
    seconds: float


def usage_of(pid: int) -> Usage | None:
    """Return what another process of this user takes; None if it is gone, or nobody can tell."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
        # the name before the bracket may hold spaces; of the fields after it these are utime and stime
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        ticks = sum(map(int, fields.rpartition(")")[2].split()[11:13]))
    except (OSError, ValueError, IndexError):
        return _usage_by_psutil(pid)
    return Usage(pages * os.sysconf("SC_PAGE_SIZE"), ticks / os.sysconf("SC_CLK_TCK"))


def _usage_by_psutil(pid: int) -> Usage | None:
    psutil = None if Path("/proc/self/stat").exists() else _psutil()
    if psutil is None:
        return None
    try:
        process = psutil.Process(pid)
        times = process.cpu_times()
        return Usage(int(process.memory_info().rss), times.user + times.system)
    except psutil.Error:
        return None


def _psutil() -> Any:
    if importlib.util.find_spec("psutil") is None:
        return None
    import psutil  # noqa: PLC0415 - of the extra

    return psutil


def best_device(wish: str | None) -> str:
    """Return where to compute: the device that is wished for, or the best one there is.

    Raises:
        UsageError: There is no such kind of device.
        SkippedError: It is not there.
    """
    if wish is not None and wish not in _DEVICES:
        raise UsageError(f"There is no device {wish!r}.", hint=f"Use one of {', '.join(_DEVICES)}.")
    there = [device for device in _DEVICES if _there(device)]
    if wish is not None and wish not in there:
        raise SkippedError(f"torch finds no device {wish!r} here.", hint="Leave out --device.")
    return wish or there[0]


def _there(device: str) -> bool:
    import torch  # noqa: PLC0415 - of the extra

    if device == "cuda":
        return torch.cuda.is_available()
    return device == "cpu" or torch.backends.mps.is_available()


def device_memory(device: str) -> int | None:
    """Return bytes that are free on a device with memory of its own; None if it has none."""
    import torch  # noqa: PLC0415 - of the extra

    return int(torch.cuda.mem_get_info()[0]) if device == "cuda" else None
