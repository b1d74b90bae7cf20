"""Archives to copy, and what a test looks at afterwards."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from kit.cli import invoke

from archiver.archive.archive import Archive
from archiver.archive.layout import pack_name

if TYPE_CHECKING:
    from pathlib import Path


class SavedArchive(NamedTuple):
    """An archive on disk that a test may damage, and the folders it was made of."""

    root: Path
    models: Path

    def copied(self, root):
        shutil.copytree(self.root, root)
        return SavedArchive(root, self.models)

    def model(self, repository):
        return self.models / repository.replace("/", "-")

    def pack(self, repository):
        """The path of the only pack of a repository."""
        (snapshot,) = Archive.open(self.root).snapshots_of(repository)
        return self.root / pack_name(snapshot.seal.packs[0][0])

    def ids(self):
        return ids(self.root)


def fill_archive(folder, repositories, size=300_000):
    """An archive of such repositories: name -> seed."""
    archive = SavedArchive(folder / "archive", folder)
    assert invoke("init", "-q", "-C", archive.root) == 0
    for name, seed in repositories.items():
        add(archive, name, seed, size)
    return archive


def add(archive, name, seed, size=300_000):
    model = archive.model(name)
    model.mkdir()
    data = np.random.default_rng(seed).integers(0, 256, size, np.uint8).tobytes()
    (model / "weights.bin").write_bytes(data)
    (model / "config.json").write_text(f'{{"seed": {seed}}}')
    command = ["import", "-q", "-C", archive.root, model, "--as", name, "--min-free", "0"]
    assert invoke(*command) == 0


def ids(root):
    """The ids of the snapshots in an archive."""
    return {snapshot.id for snapshot in Archive.open(root).snapshots()}


def place_id(root):
    """The identity of the place of an archive."""
    return json.loads((root / "place.json").read_bytes())["place"]


def events(root, name=""):
    """The events of a journal, oldest first."""
    journal = Archive.open(root).events()
    return [event for _, event in journal if not name or event.event == name]


def stored(root):
    """Name -> inode, size and time of change of every file, but for the reserve of room."""
    files = {}
    reserve = root / "tmp" / "reserve"
    for path in root.rglob("*"):
        if path.is_file() and reserve not in path.parents:
            info = path.stat()
            files[str(path.relative_to(root))] = (info.st_ino, info.st_size, info.st_mtime_ns)
    return files
