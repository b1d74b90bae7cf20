"""What an audit says of sidecars: their own damage, and those that nothing needs."""

from __future__ import annotations

import pytest
from kit.cli import invoke
from kit.faults import overwrite
from kit.repository import noise
from kit.store import Faulty
from paritykit import Quiet, sidecar_path
from paritykit import guard as protect_all

from archiver.archive import layout
from archiver.archive.advice import AddParity
from archiver.archive.archive import Archive
from archiver.archive.check.sidecars import parity_findings
from archiver.archive.parity.coverage import protectable_files


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    root = tmp_path_factory.mktemp("guarded")
    model = root / "model"
    model.mkdir()
    (model / "weights.bin").write_bytes(noise(1, 200_000))
    (model / "config.json").write_text("{}")
    archive = str(root / "weights")
    assert invoke("init", "-q", "-C", archive) == 0
    assert invoke("import", "-q", "-C", archive, model, "--as", "o/n", "--min-free", "0B") == 0
    return root / "weights"


@pytest.fixture
def guarded(original, tmp_path):
    import shutil

    shutil.copytree(original, tmp_path / "weights")
    archive = Archive.open(tmp_path / "weights")
    protect_all(archive, *protectable_files(archive))
    return archive


def findings(archive, *, deep=True):
    return [
        (finding.code, finding.path)
        for finding in parity_findings(archive, deep=deep, progress=Quiet())
    ]


def pack_of(archive):
    (pack,) = archive.packs()
    return layout.pack_name(pack)


def named(archive, folder):
    return next(name for name in sorted(protectable_files(archive)) if name.startswith(folder))


def test_whole_sidecars_are_no_findings(guarded):
    assert len(list(guarded.store.list("parity"))) == 4
    assert findings(guarded) == []
    assert findings(guarded, deep=False) == []


DAMAGE = {
    "first header": lambda side: side[:60] + b"?" + side[61:],
    "second header": lambda side: side[:-60] + b"?" + side[-59:],
    "both headers": lambda side: side[:60] + b"?" + side[61:-60] + b"?" + side[-59:],
    "trailer": lambda side: side[:-1] + b"?",
    "cut": lambda side: side[: len(side) // 2],
    "longer": lambda side: side + b"more",
    "empty": lambda _side: b"",
}


@pytest.mark.parametrize("how", DAMAGE)
@pytest.mark.parametrize("folder", ["packs", "manifests", "snapshots", "journal"])
def test_damage_around_the_blocks_is_seen_without_reading_them(guarded, folder, how):
    name = named(guarded, folder)
    path = sidecar_path(guarded, name)
    overwrite(path, DAMAGE[how](path.read_bytes()))
    place = layout.parity_name(layout.digest_of(name))
    assert findings(guarded, deep=False) == [("parity-damaged", place)]
    (finding,) = parity_findings(guarded, deep=True, progress=Quiet())
    assert finding.actions[0] == AddParity(guarded.store.address)


def test_a_damaged_block_is_seen_by_a_deep_look_only(guarded):
    path = sidecar_path(guarded, pack_of(guarded))
    side = bytearray(path.read_bytes())
    side[len(side) // 2] ^= 1
    overwrite(path, bytes(side))
    assert findings(guarded, deep=False) == []
    (finding,) = parity_findings(guarded, deep=True, progress=Quiet())
    assert finding.code == "parity-damaged"
    assert "1 of 2 parity blocks cannot be used" in finding.message


def test_a_sidecar_under_anothers_name_is_damaged(guarded):
    pack, event = named(guarded, "packs"), named(guarded, "journal")
    overwrite(sidecar_path(guarded, pack), sidecar_path(guarded, event).read_bytes())
    place = layout.parity_name(layout.digest_of(pack))
    assert findings(guarded, deep=False) == [("parity-damaged", place)]


def test_the_sidecar_of_a_manifest_that_was_compressed_anew(guarded):
    import zstandard

    name = named(guarded, "manifests")
    path = guarded.store.folder.path / name
    plain = zstandard.ZstdDecompressor().decompress(path.read_bytes())
    overwrite(path, zstandard.ZstdCompressor(1, write_checksum=False).compress(plain))
    place = layout.parity_name(layout.digest_of(name))
    assert findings(guarded) == [("parity-damaged", place)]
    overwrite(path, path.read_bytes()[:-5])
    assert findings(guarded) == []


def test_a_sidecar_of_a_missing_file_is_needed_as_long_as_a_seal_or_the_journal_is(guarded):
    for folder in ("packs", "manifests", "snapshots"):
        for path in (guarded.store.folder.path / folder).rglob("*.*"):
            if path.is_file():
                path.unlink()
                assert findings(guarded) == []


def test_a_sidecar_of_nothing_is_a_remark(guarded):
    protect_all(guarded, stray := stray_pack(guarded))
    assert findings(guarded) == []
    (guarded.store.folder.path / stray).unlink()
    place = layout.parity_name(layout.digest_of(stray))
    assert findings(guarded) == [("unneeded-parity", place)]
    overwrite(guarded.store.folder.path / named(guarded, "snapshots"), b"{}")
    # A process that has read the seal whole keeps it.
    assert findings(Archive.open(guarded.store.folder.path)) == []


def stray_pack(archive):
    from paritykit import put_pack

    return put_pack(archive, noise(77, 5000))


def test_another_file_among_them_is_not_taken_for_one(guarded):
    guarded.store.put_new("parity/readme.txt", b"?")
    assert findings(guarded) == []


def test_what_is_whole_when_read_again_is_unstable_and_not_damaged(guarded):
    guarded.store = Faulty(guarded.store)
    guarded.store.unreadable("parity/", times=1)
    assert [code for code, _ in findings(guarded)] == ["read-unstable"]
