"""A look at one folder, in a process of its own: ``python -I -S place_probe.py FOLDER``.

A look at a dead mount may never return, and nothing can end it: so ``place_look`` starts this file by
itself, with the standard library only, and does not wait for ever. Names that should lie in the folder
come in on stdin, a name a line; what was seen goes out on stdout, as one JSON object.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import sys
from typing import Any

_NETWORK = {
    "nfs", "nfs4", "cifs", "smb3", "smbfs", "ceph", "afs", "lustre", "beegfs", "glusterfs",
    "fuse.sshfs", "fuse.glusterfs", "fuse.rclone", "fuse.s3fs", "fuse.curlftpfs",
}  # fmt: skip
_MEMORY = {"tmpfs", "ramfs"}
_DEEPEST = 8
"""Layers of devices that are followed: loop on LUKS on LVM on RAID is four."""
_SMALL = 1 << 16
_LISTED = 64


def text_of(path: str) -> str:
    """Return a small file's text without white space around it; ``""`` if it cannot be read."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - pathlib takes longer to import than all this
            return file.read(_SMALL).decode("utf-8", "replace").strip()
    except OSError:
        return ""


def short(*parts: str) -> str:
    """Return a digest of texts that should not stand in a journal themselves, such as serial numbers."""
    return hashlib.sha256("\n".join(parts).encode("utf-8", "surrogateescape")).hexdigest()[:24]


def machine() -> str:
    """Return what tells this machine from others."""
    return text_of("/etc/machine-id") or os.uname().nodename


def device_of(folder: str, depth: int = 0) -> tuple[str, list[str], str]:
    """Return what lies under the filesystem of a folder: its kind, its identities, and words for people."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        number = os.fstat(handle).st_dev
        match = re.search(r"mnt_id:\s*(\d+)", text_of(f"/proc/self/fdinfo/{handle}"))
    finally:
        os.close(handle)
    kind, source = mounted(match[1]) if match else ("", "")
    if kind in _NETWORK:
        return "network", [f"{kind.removesuffix('4')}:{server(kind, source)}"], source
    if kind in _MEMORY:
        return "memory", [f"memory:{short(machine())}"], f"memory ({kind})"
    if kind == "zfs":
        pool = source.partition("/")[0]
        return "disk", [f"zfs:{short(machine(), pool)}"], f"zfs pool {pool}"
    block = f"/sys/dev/block/{os.major(number)}:{os.minor(number)}"
    if os.path.exists(block):  # noqa: PTH110
        return disks(block, depth)
    return by_source(kind, source, depth) or unknown(number, kind, source)


def by_source(kind: str, source: str, depth: int) -> tuple[str, list[str], str] | None:
    """Return the device of a filesystem without a number of its own, such as btrfs, or FUSE on a folder."""
    if not source.startswith("/") or depth >= _DEEPEST:
        return None
    try:
        info = os.stat(source)  # noqa: PTH116
    except OSError:
        return None
    if stat.S_ISBLK(info.st_mode):
        return disks(f"/sys/dev/block/{os.major(info.st_rdev)}:{os.minor(info.st_rdev)}", depth)
    if stat.S_ISDIR(info.st_mode) and kind.startswith("fuse"):
        return device_of(source, depth + 1)
    return None


def unknown(number: int, kind: str, source: str) -> tuple[str, list[str], str]:
    """Return a filesystem known only by its number, until this machine starts anew."""
    boot = text_of("/proc/sys/kernel/random/boot_id") or machine()
    return "unknown", [f"unknown:{short(boot, str(number))}"], f"{kind} {source}".strip()


def server(kind: str, source: str) -> str:
    """Return server and export, without a user's name; a Windows share without the folders below it."""
    if kind in {"cifs", "smb3", "smbfs"}:
        return "/".join(source.replace("\\", "/").lstrip("/").split("/")[:2]).casefold()
    name, colon, export = source.partition(":/")
    return f"{name.rpartition('@')[2].casefold()}{colon}{export}"


def mounted(number: str) -> tuple[str, str]:
    """Return type and source of the mount that has this number."""
    try:
        with open(  # noqa: PTH123
            "/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape", newline="\n"
        ) as file:
            for line in file:
                if line.startswith(f"{number} "):
                    after = line.split(" - ", 1)[1].split()
                    return after[0], re.sub(
                        r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), after[1]
                    )
    except (OSError, IndexError):
        pass
    return "", ""


def disks(block: str, depth: int) -> tuple[str, list[str], str]:
    """Return the whole disks under a block device, through partitions, RAID, LVM, LUKS and loop devices."""
    path = os.path.realpath(block)
    if os.path.exists(f"{path}/partition"):  # noqa: PTH110
        path = os.path.dirname(path)  # noqa: PTH120
    backing = text_of(f"{path}/loop/backing_file")
    if backing and depth < _DEEPEST:
        try:
            return device_of(os.path.dirname(backing), depth + 1)  # noqa: PTH120
        except OSError:
            pass  # the file was deleted, or lies in another container
    try:
        slaves = sorted(os.listdir(f"{path}/slaves"))  # noqa: PTH208
    except OSError:
        slaves = []
    if slaves and depth < _DEEPEST:
        below = [disks(f"{path}/slaves/{slave}", depth + 1) for slave in slaves]
        kind = "disk" if all(device[0] == "disk" for device in below) else "unknown"
        ids = sorted({number for _, several, _ in below for number in several})
        return kind, ids, " + ".join(dict.fromkeys(device[2] for device in below))
    return whole_disk(path)


def whole_disk(path: str) -> tuple[str, list[str], str]:
    """Return a disk by its own number; by where it is plugged in, if it has none and stays where it is."""
    name = os.path.basename(path)  # noqa: PTH119
    label = f"{name} {text_of(f'{path}/device/model')}".strip()
    number = serial(path)
    if number:
        return "disk", [f"disk:{short(number)}"], label
    if text_of(f"{path}/removable") == "0" and "/usb" not in path and "/loop" not in path:
        return "disk", [f"disk:{short(machine(), path)}"], label
    boot = text_of("/proc/sys/kernel/random/boot_id") or machine()
    return "unknown", [f"unknown:{short(boot, path)}"], label


def serial(path: str) -> str:
    """Return what its maker wrote into a disk to tell it from others; ``""`` if there is no such thing."""
    for name in ("wwid", "device/wwid", "serial", "device/serial", "device/cid"):
        number = text_of(f"{path}/{name}")
        if len(set(number) - {"0", " ", "."}) > 1:
            return f"{text_of(f'{path}/device/model')} {number}"
    return ""


def names_missing(folder: str, names: set[str]) -> tuple[int, list[str]]:
    """Return how many of the stored files that should be there are not, and some of their names."""
    left = set(names)
    for above in {name.rpartition("/")[0] for name in names}:
        try:
            left -= {f"{above}/{name}" for name in os.listdir(f"{folder}/{above}")}  # noqa: PTH208
        except OSError:
            continue
    return len(left), sorted(left)[:_LISTED]


def unmounted(path: str) -> str:
    """Return the folder at or above a path that ``/etc/fstab`` wants mounted and is not; ``""``: none."""
    for line in text_of("/etc/fstab").splitlines():
        fields = line.split()
        if len(fields) < len(("device", "folder", "type")) or fields[0].startswith("#"):
            continue
        folder = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), fields[1]).rstrip("/")
        inside = folder.startswith("/") and f"{path}/".startswith(f"{folder}/")
        if inside and not os.path.ismount(folder):
            return folder
    return ""


def identity(folder: str, name: str, key: str) -> str:
    """Return a text in one of the small files that say what an archive is."""
    try:
        text = json.loads(text_of(f"{folder}/{name}")).get(key)
    except (ValueError, AttributeError, RecursionError):
        return ""
    return text if isinstance(text, str) else ""


def look(folder: str, names: set[str]) -> dict[str, Any]:
    """Return everything that is to be known of the folder, or of the one above it that is there."""
    path = os.path.realpath(folder)
    seen: dict[str, Any] = {"path": path, "there": True, "names": [], "error": ""}
    try:
        seen["names"] = sorted(os.listdir(path))[:_LISTED]  # noqa: PTH208
    except (FileNotFoundError, NotADirectoryError) as error:
        seen["there"] = not isinstance(error, FileNotFoundError)
        seen["error"] = error.strerror if seen["there"] else ""
    except OSError as error:
        seen["error"] = error.strerror or str(error)
    above = path
    while not os.path.isdir(above):  # noqa: PTH112
        above = os.path.dirname(above)  # noqa: PTH120
    try:
        kind, devices, label = device_of(above)
        free = os.statvfs(above)
        seen["filesystem"] = f"{free.f_fsid:x}" if free.f_fsid else ""
        seen["free"] = free.f_bavail * free.f_frsize if free.f_blocks else -1
    except OSError:
        kind, devices, label, seen["free"], seen["filesystem"] = "unknown", [], "", -1, ""
    seen |= {"medium": kind, "devices": devices, "label": label}
    seen["mount"] = above == path and os.path.ismount(path)
    seen["unmounted"] = unmounted(path)
    seen["archive"] = identity(path, "archive.json", "archive")
    seen["place"] = identity(path, "place.json", "place")
    seen["missing"], seen["absent"] = names_missing(path, names)
    return seen


def main() -> None:
    """Look at the folder that the first argument names."""
    names = {
        line for line in sys.stdin.buffer.read().decode("utf-8", "replace").split("\n") if line
    }
    print(json.dumps(look(sys.argv[1], names)))  # noqa: T201 - this is how it answers


if __name__ == "__main__":
    main()
