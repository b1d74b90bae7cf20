"""A mounted archive that is damaged: healed, or refused by EIO; no wrong byte is given."""

from __future__ import annotations

import hashlib
import shutil
from typing import TYPE_CHECKING

import pytest
from kit.archive import Weights, of_two_models, seals
from kit.mounts import Mounted, digests, refused

from archiver.archive.archive import Archive
from archiver.archive.events import DamageMet

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> Weights:
    """org/one of 20 MB, so of two segments, and org/two, each in a pack of its own."""
    return of_two_models(tmp_path_factory.mktemp("two"), (20_000, 100))


def damage(archive: Weights, at: float) -> Path:
    """Damage 4 KB of the pack of org/one, there (a part of the whole)."""
    pack = archive.documents("packs")[0]
    pack.chmod(0o644)
    with pack.open("r+b") as file:
        file.seek(int(pack.stat().st_size * at))
        file.write(bytes(4096))
    return pack


def expected(archive: Weights, name: str) -> dict[str, str]:
    folder = archive.root.parent / name
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_a_damaged_file_is_refused_and_named_and_the_others_are_not(two, tmp_path):
    archive = two.copy(tmp_path / "weights")
    damage(archive, 0.9)
    with Mounted(archive.root, tmp_path / "m") as running:
        folder = running.folder / "org/one/main"
        for _ in range(2):
            assert refused(folder / "model.safetensors") == "EIO"
        assert refused(folder / "config.json") == ""
        second = seals(archive.root, "org/two")[0].name.partition(".")[0]
        assert digests(running.folder / "org/two" / second) == expected(two, "two")
        assert running.end() == 20
        told = [line for line in running.err.splitlines() if "cannot be read" in line]
    assert len(told) == 1
    assert "org/one@" in told[0]
    assert "model.safetensors" in told[0]
    assert f"archiver repair -C {archive.root}" in running.err


def test_what_parity_has_is_healed_and_journalled(two, tmp_path, cli):
    archive = two.copy(tmp_path / "weights")
    assert cli("parity", "add", "-C", archive.root).code == 0
    damage(archive, 0.9)
    with Mounted(archive.root, tmp_path / "m") as running:
        revision = seals(archive.root, "org/one")[0].name.partition(".")[0]
        folder = running.folder / "org/one" / revision
        assert digests(folder) == expected(two, "one")
        assert running.end() == 0
        assert running.err == ""
    events = [event.detail for _, event in Archive.open(archive.root).events()]
    assert any(isinstance(event, DamageMet) for event in events)


def test_a_snapshot_whose_manifest_is_lost_is_named(two, tmp_path):
    archive = two.copy(tmp_path / "weights")
    shutil.rmtree(archive.root / "manifests/org/one")
    shutil.rmtree(archive.root / "packs")
    with Mounted(archive.root, tmp_path / "m") as running:
        revision = seals(archive.root, "org/one")[0].name.partition(".")[0]
        assert refused(running.folder / "org/one" / revision / "config.json") == "EIO"
        assert running.end() == 20
    assert "org/one@" in running.err
