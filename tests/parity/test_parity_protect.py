"""Sidecars are made of proven files only, kept while they are good, and leave nothing half-done."""

from __future__ import annotations

import tracemalloc

import pytest
from kit.archive import put_manifest
from kit.faults import overwrite
from kit.repository import noise
from kit.store import Faulty
from paritykit import Quiet, blocks_of, guard, header_of, path_of, put_pack, rebuilt, sidecar_path

from archiver.archive import layout
from archiver.archive.records import Manifest, Source, canonical
from archiver.digest import blake3_hex
from archiver.errors import NoSpaceError, UsageError

REVISION = "01" * 20


def stored_manifest(archive) -> str:
    ref = put_manifest(archive, Manifest(Source("directory", "", "o/n", REVISION), ()))
    digest = ref.blake3
    return layout.manifest_name("o/n", REVISION, digest)


def in_tmp(archive) -> list[str]:
    return [path.name for path in (archive.store.folder.path / "tmp").iterdir()]


def test_each_file_is_made_once_and_then_kept(archive):
    names = tuple(sorted([put_pack(archive, noise(1, 9000)), stored_manifest(archive)]))
    first = guard(archive, *names)
    assert (first.made, first.kept, first.failures) == (names, (), ())
    assert first.bytes == sum(path_of(archive, name).stat().st_size for name in names)
    assert first.parity_bytes == sum(sidecar_path(archive, name).stat().st_size for name in names)
    second = guard(archive, *names)
    assert (second.made, second.kept, second.parity_bytes) == ((), names, 0)
    assert guard(archive, *names, redo=True).made == names
    assert guard(archive, *names, parity=3).made == names
    assert in_tmp(archive) == []
    assert sidecar_path(archive, names[0]).stat().st_mode & 0o777 == 0o444


def test_a_file_that_is_not_what_its_name_demands_gets_none_and_the_others_do(archive):
    bad, good = put_pack(archive, noise(1, 9000)), put_pack(archive, noise(2, 9000))
    spoilt, gone = stored_manifest(archive), layout.pack_name("ab" * 32)
    overwrite(path_of(archive, bad), noise(3, 9000))
    data = bytearray(path_of(archive, spoilt).read_bytes())
    data[-6] ^= 1
    overwrite(path_of(archive, spoilt), bytes(data))
    report = guard(archive, bad, good, spoilt, gone)
    assert report.made == (good,)
    assert {failure.file for failure in report.failures} == {bad, spoilt, gone}
    assert {failure.exit_code for failure in report.failures} == {20}
    assert not sidecar_path(archive, bad).exists()
    assert in_tmp(archive) == []


def test_a_manifest_is_proven_by_what_it_unpacks_to(archive):
    """Compressed in another way, it is as right as before, and its old sidecar is not its own."""
    import zstandard

    name = stored_manifest(archive)
    guard(archive, name)
    plain = canonical(Manifest(Source("directory", "", "o/n", REVISION), ()))
    packed = zstandard.ZstdCompressor(1, write_checksum=False).compress(plain)
    assert packed != path_of(archive, name).read_bytes()
    overwrite(path_of(archive, name), packed)
    assert guard(archive, name).made == (name,)
    assert blake3_hex(packed).encode() in sidecar_path(archive, name).read_bytes()


@pytest.mark.parametrize("how", ["header", "block", "cut", "empty", "shape"])
def test_a_sidecar_that_is_not_good_is_made_anew(archive, how):
    name = put_pack(archive, noise(1, 50_000))
    guard(archive, name)
    path = sidecar_path(archive, name)
    good = path.read_bytes()
    side = bytearray(good)
    if how == "header":
        side[70] ^= 1
    elif how == "block":
        side[len(side) // 2] ^= 1
    elif how == "cut":
        del side[-20:]
    elif how == "empty":
        side.clear()
    else:
        guard(archive, name, parity=1)
        side = bytearray(path.read_bytes())
    overwrite(path, bytes(side))
    assert guard(archive, name).made == (name,)
    assert path.read_bytes() == good


def test_progress_counts_every_byte_twice(archive):
    name, progress = put_pack(archive, noise(1, 70_001)), Quiet()
    guard(archive, name, progress=progress)
    assert progress.expected == progress.advanced == progress.fetched == 2 * 70_001
    assert progress.ended == [name]


def test_impossible_parity_is_refused_before_anything_is_read(archive):
    with pytest.raises(UsageError, match="no parity of 200"):
        guard(archive, "packs/none", parity=200)


@pytest.mark.parametrize("room", [0, 3000])
def test_a_full_disk_ends_the_run_and_leaves_nothing(archive, room):
    name = put_pack(archive, noise(1, 50_000))
    archive.store = Faulty(archive.store)
    archive.store.full("parity", after=room)
    with pytest.raises(NoSpaceError):
        guard(archive, name)
    assert in_tmp(archive) == []
    assert not sidecar_path(archive, name).exists()


def test_a_sidecar_that_does_not_read_back_is_not_published(archive, monkeypatch):
    name = put_pack(archive, noise(1, 50_000))
    stage = archive.store.stage

    def lossy(purpose):
        staged = stage(purpose)
        if purpose == "parity":
            write = staged.write

            def spoil(data):
                # Headers are shorter than a block: they come out right.
                write(data if len(data) < 4096 else bytes(data[:-1]) + b"?")

            monkeypatch.setattr(staged, "write", spoil)
        return staged

    monkeypatch.setattr(archive.store, "stage", lossy)
    report = guard(archive, name)
    assert [failure.exit_code for failure in report.failures] == [20]
    assert not sidecar_path(archive, name).exists()


def test_memory_does_not_grow_with_the_file(archive, monkeypatch):
    """Python's own blocks; what is read at a time is made small, so that the file is many times it."""
    monkeypatch.setattr("archiver.archive.parity.erasure._GROUP_BYTES", 1 << 20)
    name = put_pack(archive, noise(1, 24 << 20))
    tracemalloc.start()
    try:
        guard(archive, name, parity=1, group=32)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 12 << 20


def test_damage_between_proof_and_coding_is_noticed(archive, monkeypatch):
    from archiver.archive.parity import protect as module

    name = put_pack(archive, noise(1, 50_000))
    hash_blocks = module.hash_blocks

    def then_spoilt(reader, shape, advance):
        digests = hash_blocks(reader, shape, advance)
        overwrite(path_of(archive, name), noise(9, 50_000))
        return digests

    monkeypatch.setattr(module, "hash_blocks", then_spoilt)
    (failure,) = guard(archive, name).failures
    assert "changed while it was read" in failure.reason
    assert not sidecar_path(archive, name).exists()


def test_the_sidecar_of_another_form_of_a_manifest_is_not_kept(archive):
    """Also where that form has the same size: only the digest of what is stored can tell."""
    name = stored_manifest(archive)
    guard(archive, name)
    side = sidecar_path(archive, name).read_bytes()
    header = header_of(side)
    other = rebuilt(header | {"blake3": "ab" * 32}, blocks_of(side, header))
    overwrite(sidecar_path(archive, name), other)
    assert guard(archive, name).made == (name,)
    assert sidecar_path(archive, name).read_bytes() == side
