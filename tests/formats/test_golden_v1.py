"""The frozen archive of format 1 is listed, audited and restored by this version, and by itself."""

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from archiver.archive.archive import Archive
from archiver.archive.decode import FileDecoder
from archiver.archive.packs import format as pack_format
from archiver.archive.packs.index import ObjectIndex
from archiver.archive.records import canonical

FROZEN = Path(__file__).with_name("v1")
QWEN, MIXED = "Example/Qwen3.5-Tiny", "example/mixed"
FIRST = "468347cc70cf8bbc492e90fe4afad5c5fe9d7097"
SECOND = "280da94374fff1bf5337f470510796adb944c278"


def padding() -> bytes:
    """The one input that is too large to be kept beside the others."""
    tensors = {
        "padding": {"dtype": "BF16", "shape": [8388611], "data_offsets": [0, 16777222]},
        "tail": {"dtype": "U8", "shape": [3], "data_offsets": [16777222, 16777225]},
    }
    header = json.dumps(tensors, separators=(",", ":")).encode()
    return len(header).to_bytes(8, "little") + header + bytes(16777225)


def files_below(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture(scope="module")
def expected() -> dict[tuple[str, str], dict[str, bytes]]:
    """Repository and revision -> the files that were archived."""
    inputs = FROZEN / "inputs"
    mixed = files_below(inputs / "mixed") | {"padding.safetensors": padding()}
    return {
        (QWEN, FIRST): files_below(inputs / "qwen" / "first"),
        (QWEN, SECOND): files_below(inputs / "qwen" / "second"),
        (MIXED, ""): mixed,
    }


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """A copy, so that nothing can be written into the frozen one."""
    copy = tmp_path_factory.mktemp("golden") / "archive"
    shutil.copytree(FROZEN / "archive", copy)
    return copy


@pytest.fixture(scope="module")
def archive(root) -> Archive:
    return Archive.open(root)


def command(root: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "archiver", "-C", str(root), *arguments, "--quiet"],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_no_file_was_changed_added_or_lost():
    rows = (FROZEN / "SHA256SUMS").read_text().splitlines()
    listed = {path: digest for digest, path in (row.split("  ", 1) for row in rows)}
    there = files_below(FROZEN)
    del there["SHA256SUMS"], there[".gitattributes"]
    assert {path: hashlib.sha256(data).hexdigest() for path, data in there.items()} == listed


def test_all_snapshots_are_found(archive):
    found = [
        (one.seal.repository, one.seal.revision[:4], one.seal.selection.whole)
        for one in archive.snapshots()
    ]
    assert sorted(found) == [
        (QWEN, SECOND[:4], False),
        (QWEN, SECOND[:4], True),
        (QWEN, FIRST[:4], True),
        (MIXED, "28ae", True),
    ]
    assert archive.find(QWEN).seal.revision == SECOND
    assert archive.find(QWEN, SECOND[:8]).seal.selection.whole
    assert archive.find(QWEN, FIRST).seal.revision == FIRST


def test_the_command_lists_and_audits_it(root):
    rows = [json.loads(row) for row in command(root, "list", "--json").splitlines()]
    assert len([row for row in rows if "repository" in row]) == 4
    command(root, "audit")


def test_all_five_codecs_and_every_event_occur(archive):
    entries = [entry for pack in archive.packs() for entry in archive.pack(pack).index()]
    assert {entry.codec for entry in entries} == {0, 1, 2, 3, 4}
    assert {event.event for _, event in archive.events()} == {"sealed", "sighted", "audited"}


def test_indexes_and_frames_tell_of_the_same_objects(archive):
    for pack in archive.packs():
        reader = archive.pack(pack)
        assert [entry.place for entry in reader.walk()] == [entry.place for entry in reader.index()]
        assert reader.head().archive == archive.info.archive


def test_every_object_decodes_and_its_header_is_canonical(archive):
    for pack in archive.packs():
        reader = archive.pack(pack)
        for entry in reader.index():
            item = reader.copy(entry)
            header = pack_format.skippable(pack_format.OBJECT, canonical(item.header))
            assert len(header) + item.stored == entry.stored


def test_every_document_is_canonical_json_of_this_version(archive):
    for snapshot in archive.snapshots():
        seal = snapshot.seal
        assert canonical(archive.manifest(seal)) == archive.manifest_bytes(seal)
        name = next(n for n in archive.store.list("snapshots") if snapshot.id in n)
        assert canonical(seal) == archive.store.get(name, 1 << 20)
    assert canonical(archive.info) + b"\n" == archive.store.get("archive.json", 1 << 20)


def test_every_snapshot_comes_back_bit_for_bit(archive, expected):
    compared = 0
    for snapshot in archive.snapshots():
        seal = snapshot.seal
        wanted = expected[seal.repository, seal.revision if seal.repository == QWEN else ""]
        entries = archive.manifest(seal).files
        with FileDecoder(
            ObjectIndex(archive, [pack for pack, _ in seal.packs]), workers=2
        ) as decoder:
            for entry in entries:
                got = bytearray()
                decoder.copy(entry, got.extend)
                assert got == wanted[entry.path], entry.path
                compared += 1
        if seal.selection.whole:
            assert {entry.path for entry in entries} == wanted.keys()
    assert compared == 6 + 2 + 6 + 8


def test_the_command_restores_it(root, expected, tmp_path):
    command(root, "restore", f"{QWEN}@{FIRST}", str(tmp_path / "first"))
    assert files_below(tmp_path / "first") == expected[QWEN, FIRST]
    command(root, "restore", MIXED, str(tmp_path / "mixed"))
    assert files_below(tmp_path / "mixed") == expected[MIXED, ""]


@pytest.mark.parametrize("reference", [f"{QWEN}@{FIRST}", f"{QWEN}@{SECOND}", MIXED])
def test_it_restores_itself(root, expected, reference, tmp_path):
    script = [sys.executable, "-I", str(root / "decode.py")]
    done = subprocess.run(
        [*script, "restore", reference, str(tmp_path / "out")],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    repository, _, revision = reference.partition("@")
    assert files_below(tmp_path / "out") == expected[repository, revision]
