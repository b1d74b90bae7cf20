"""A checkpoint straight from a damaged archive: what is lost is named, all else is read."""

from __future__ import annotations

import shutil

import msgspec
import pytest
import zstandard
from storedkit import FILE, MIB, ROWS, bytes_of, noise, opened

from archiver.archive.archive import Archive
from archiver.archive.layout import manifest_name
from archiver.archive.records import ManifestRef, canonical
from archiver.digest import blake3_hex
from archiver.errors import DamageError
from archiver.smoke.checkpoint.archived import ArchivedCheckpoint


@pytest.fixture
def spoiled(made_archive, tmp_path):
    """An archive that a test may spoil."""
    return Archive.open(shutil.copytree(made_archive.store.folder.path, tmp_path / "weights"))


def entry_of(archive, path=FILE):
    entry = archive.manifest(next(archive.snapshots()).seal).file(path)
    assert entry is not None
    return entry


def packs_below(archive):
    return sorted((archive.store.folder.path / "packs").rglob("*.pack"))


def damage(archive, digest):
    """Flip a byte of an object where it is stored."""
    for path in packs_below(archive):
        for found in archive.pack(path.stem).index():
            if found.blake3 == digest:
                data = bytearray(path.read_bytes())
                data[found.offset + found.stored - 6] ^= 0x55
                path.chmod(0o644)
                path.write_bytes(data)


def assert_told(error, *words):
    assert all(word in error.value.message for word in words), error.value.message
    assert "archiver repair" in error.value.hint
    assert "archiver audit" in error.value.hint


@pytest.mark.parametrize("number", [0, ROWS - 1])
def test_a_damaged_object_names_the_tensor_and_spares_the_others(spoiled, number):
    digest = entry_of(spoiled).segments[-2 if number < 16 else -1][1]
    damage(spoiled, digest)
    one = opened(Archive.open(spoiled.store.folder.path))
    big = one.tensors["big"]
    for part in (big, big.row(number), big.row(number)):
        with pytest.raises(DamageError) as error:
            bytes_of(one, part)
        assert_told(error, "big", FILE, digest)
    data = noise(99, ROWS * MIB)
    other = ROWS - 1 - number
    assert bytes_of(one, big.row(other)) == data[other * MIB : (other + 1) * MIB]
    assert bytes_of(one, one.tensors["small.3"]) == noise(3, 4096)
    with pytest.raises(DamageError) as error:
        one.read(FILE, 1 << 30)
    assert_told(error, FILE, digest)
    one.close()


def test_a_damaged_header_is_damage_and_no_refused_header(spoiled):
    damage(spoiled, entry_of(spoiled).segments[0][1])
    one = opened(Archive.open(spoiled.store.folder.path))
    with pytest.raises(DamageError) as error:
        one.header(FILE)
    assert_told(error, FILE)
    assert bytes_of(one, one.tensors["small.3"]) == noise(3, 4096)
    one.close()


def test_a_missing_pack_is_damage_of_what_lay_in_it(spoiled):
    for path in packs_below(spoiled):
        path.unlink()
    one = opened(Archive.open(spoiled.store.folder.path))
    with pytest.raises(DamageError) as error:
        bytes_of(one, one.tensors["big"])
    assert_told(error, "big", FILE)
    with pytest.raises(DamageError) as error:
        one.read("config.json", 10)
    assert_told(error, "config.json")
    one.close()


def rewritten(archive, file, /, **changes):
    """The snapshot with another entry for a file in its manifest, which no writer has to like."""
    seal = next(archive.snapshots()).seal
    manifest = archive.manifest(seal)
    files = tuple(
        msgspec.structs.replace(one, **changes) if one.path == file else one
        for one in manifest.files
    )
    plain = canonical(msgspec.structs.replace(manifest, files=files))
    digest = blake3_hex(plain)
    name = manifest_name(seal.repository, seal.revision, digest)
    archive.store.put_new(name, zstandard.compress(plain))
    ref = ManifestRef(digest, len(plain))
    return archive.publish_seal(msgspec.structs.replace(seal, manifest=ref))


def test_a_manifest_that_contradicts_itself_is_damage(spoiled):
    tensor = entry_of(spoiled).tensors[0]
    beyond = (msgspec.structs.replace(tensor, end=1 << 40),)
    with pytest.raises(DamageError, match="tensors that overlap or leave the file"):
        ArchivedCheckpoint(spoiled, rewritten(spoiled, FILE, tensors=beyond), workers=1)


@pytest.mark.parametrize("path", ["../outside", "/etc/passwd", "config.json"])
def test_a_manifest_with_hostile_paths_is_refused(spoiled, path):
    snapshot = rewritten(spoiled, "nothing.txt", path=path)
    with pytest.raises(DamageError, match="what the format forbids"):
        ArchivedCheckpoint(spoiled, snapshot, workers=1)


def test_tensors_that_the_header_does_not_list_are_damage(spoiled):
    tensors = entry_of(spoiled).tensors
    renamed = (msgspec.structs.replace(tensors[0], name="other"), *tensors[1:])
    one = ArchivedCheckpoint(spoiled, rewritten(spoiled, FILE, tensors=renamed), workers=1)
    with pytest.raises(DamageError, match="other tensors than its header"):
        one.header(FILE)
    one.close()


def test_a_whole_file_must_have_its_digest(spoiled):
    snapshot = rewritten(spoiled, "config.json", sha256="0" * 64)
    one = ArchivedCheckpoint(spoiled, snapshot, workers=1)
    with pytest.raises(DamageError, match="as its manifest says") as error:
        one.read("config.json", 100)
    assert_told(error, "config.json")
    one.close()
