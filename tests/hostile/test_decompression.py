"""A small document that decompresses to a large one costs no more than the largest that may be."""

from __future__ import annotations

import json

import pytest
from hostilekit import write_archive
from kit import handmade
from kit.memory import archiver, decode

from archiver.archive.fixity import plain_digest
from archiver.archive.records import MANIFEST_MAX

BLOCK = 128 << 10
"""The most bytes of a block of a frame."""
GIB = 1 << 30


def bomb(size: int, *, claimed: bool = False) -> bytes:
    """A zstd frame of so many spaces, 4 bytes for each 128 KiB; its header may say how many they are."""
    window = bytes([7 << 3])  # 128 KiB
    head = b"\xc0" + window + size.to_bytes(8, "little") if claimed else b"\x00" + window
    repeated = (BLOCK << 3 | 1 << 1).to_bytes(3, "little") + b" "
    last = (BLOCK << 3 | 1 << 1 | 1).to_bytes(3, "little") + b" "
    return b"\x28\xb5\x2f\xfd" + head + repeated * (size // BLOCK - 1) + last


@pytest.fixture
def archive(tmp_path):
    return write_archive(tmp_path / "archive")


def replace_manifest(root, data: bytes, size: int) -> None:
    """Other bytes in the manifest's place, and a seal that says that this is its size."""
    (manifest,) = (root / "manifests/org/model").iterdir()
    manifest.write_bytes(data)
    (path,) = (root / "snapshots/org/model").iterdir()
    seal = json.loads(path.read_bytes())
    seal["manifest"]["size"] = size
    path.unlink()
    document = handmade.canonical(seal)
    name = f"{seal['revision']}.{handmade.digest(document)}.json"
    path.with_name(name).write_bytes(document)


@pytest.mark.parametrize("claimed", [True, False])
def test_a_stored_manifest(archive, tmp_path, claimed):
    replace_manifest(archive, bomb(GIB, claimed=claimed), GIB)
    audit = archiver("audit", "-q", "--json", "-C", archive, "--level", "structure").cheap()
    assert (audit.code, audit.codes) == (20, {"manifest-damaged"})
    taken = archiver("restore", "-q", "-C", archive, "Org/Model", tmp_path / "out").cheap()
    assert taken.code == 20
    assert decode(archive, "verify").cheap().code


@pytest.mark.parametrize("claimed", [True, False])
def test_a_manifest_in_a_file(tmp_path, claimed):
    (tmp_path / "folder").mkdir()
    (tmp_path / "m.json.zst").write_bytes(bomb(GIB, claimed=claimed))
    words = ("verify", "-q", tmp_path / "folder", "--manifest", tmp_path / "m.json.zst")
    assert archiver(*words).cheap().code == 20


class Counted:
    """A reader that counts what is read of it."""

    def __init__(self, data: bytes) -> None:
        self.data, self.size, self.count = data, len(data), 0

    def read_into(self, offset: int, buffer: memoryview) -> int:
        piece = self.data[offset : offset + len(buffer)]
        buffer[: len(piece)] = piece
        self.count += len(piece)
        return len(piece)


def test_a_name_is_compared_with_no_more_than_a_manifest_may_have():
    """It takes no memory, but 16 GiB take their time."""
    reader = Counted(bomb(16 * GIB))
    plain_digest(reader, "manifests/org/model/x")
    assert reader.count < reader.size // 2
    largest = bomb(MANIFEST_MAX)
    whole = Counted(largest)
    assert plain_digest(whole, "manifests/org/model/x") == handmade.digest(b" " * MANIFEST_MAX)
