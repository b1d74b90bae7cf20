"""An archive to damage while it is read, and the objects in it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

from kit.cli import invoke
from kit.faults import flip
from kit.repository import noise, safetensors, write_folder

from archiver.archive.archive import Archive
from archiver.archive.layout import pack_name
from archiver.archive.packs.index import ObjectIndex
from archiver.errors import DamageError

if TYPE_CHECKING:
    from pathlib import Path

ONE = "org/one"
TENSORS = {f"layer.{number}": ("U8", (60, 1000), noise(number, 60_000)) for number in range(6)}
FILES = {"model.safetensors": safetensors(TENSORS), "config.json": b'{"seed": 1}'}


class Stored(NamedTuple):
    """An object, and where it lies."""

    digest: str
    size: int
    pack: str
    offset: int
    stored: int
    plain: bytes


def make(folder: Path) -> Path:
    """An archive of one repository, in one pack, with parity."""
    root = folder / "weights"
    assert invoke("init", "-q", "-C", root) == 0
    source = write_folder(folder / "files", FILES)
    words = ("import", "-q", "-C", root, source, "--as", ONE, "--min-free", "0")
    assert invoke(*words) == 0
    assert invoke("parity", "add", "-q", "-C", root) == 0
    return root


def objects(root: Path) -> list[Stored]:
    """The objects of tensors, as they are stored."""
    archive = Archive.open(root)
    (snapshot,) = archive.snapshots_of(ONE)
    index = ObjectIndex(archive, [pack for pack, _ in snapshot.seal.packs])
    (entry,) = [
        entry
        for entry in archive.manifest(snapshot.seal).files
        if entry.path == "model.safetensors"
    ]
    found, at = [], 0
    for size, digest in entry.segments:
        pack, listed = index.find(digest)
        plain = FILES[entry.path][at : at + size]
        found.append(Stored(digest, size, pack, listed.offset, listed.stored, plain))
        at += size
    return [each for each in found if each.size > 4096]


def pack_path(root: Path, stored: Stored) -> Path:
    return root / pack_name(stored.pack)


def damage(root: Path, stored: Stored) -> DamageError:
    """Flip a bit of an object; the error that its reader meets."""
    flip(pack_path(root, stored), stored.offset + stored.stored // 2)
    return error_of(stored)


def error_of(stored: Stored) -> DamageError:
    return DamageError(
        f"Object {stored.digest} cannot be read.",
        object=stored.digest,
        pack=stored.pack,
        path=pack_name(stored.pack),
    )


def met(root: Path) -> list[dict]:
    """What the journal tells of each object that was met, oldest first."""
    paths = sorted((root / "journal").rglob("*.json"))
    events = [json.loads(path.read_bytes()) for path in paths]
    return [
        each
        for event in events
        if event["event"] == "damage-met"
        for each in event["detail"]["objects"]
    ]
