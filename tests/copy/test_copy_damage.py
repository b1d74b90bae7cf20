"""Damage in the archive that is copied: named, left out, and everything else is copied."""

from __future__ import annotations

import json
import os
import shutil

import pytest
from copykit import events, ids
from kit.archive import older_seal
from kit.faults import cut, flip, overwrite, signposts, wipe

from archiver.archive.archive import Archive
from archiver.archive.records import canonical
from archiver.digest import blake3_hex
from archiver.storage.staging import LocalStaged

SPOILT = {
    "damaged": (flip, "pack-damaged"),
    "cut": (cut, "pack-size"),
    "missing": (lambda path: path.unlink(), "pack-missing"),
    "a link": (
        lambda path: (path.rename(path.with_suffix(".x")), path.symlink_to(path.with_suffix(".x"))),
        "pack-missing",
    ),
}


def title(archive, repository):
    (snapshot,) = Archive.open(archive.root).snapshots_of(repository)
    return snapshot.title


@pytest.mark.parametrize("how", SPOILT)
def test_a_pack_that_is_not_whole(source, target, copy, run, restored, how):
    spoil, code = SPOILT[how]
    spoil(source.pack("org/one"))
    result = copy()
    assert (result.code, result.finding_codes) == (20, {code})
    finding = result.kinds("finding")[0]
    assert finding["snapshot"] == title(source, "org/one")
    assert finding["hint"]
    assert result.only("copy")["left"] == [title(source, "org/one")]
    assert not (target / source.pack("org/one").relative_to(source.root)).exists()
    restored(target, "org/two", source.model("org/two"))
    (two,) = Archive.open(source.root).snapshots_of("org/two")
    assert ids(target) == {two.id}
    assert events(target, "copied")[0].fields["snapshots"] == [two.id]
    assert events(source.root, "copied")[0].fields["snapshots"] == [two.id]


def test_a_pack_that_is_damaged_around_its_objects_is_made_whole_on_the_way(
    source, target, copy, run
):
    path = source.pack("org/one")
    good = path.read_bytes()
    there = target / path.relative_to(source.root)
    for begin, end in signposts(path):
        wipe(path, begin, end)
        result = copy()
        assert (result.code, result.finding_codes) == (20, {"pack-damaged"})
        assert (result.only("copy")["left"], result.only("copy")["snapshots"]) == ([], 2)
        assert there.read_bytes() == good
        shutil.rmtree(target)
        overwrite(path, good)
    copy()
    assert run("audit", "-q", "-C", target).code == 0


@pytest.mark.parametrize("how", ["cut", "missing"])
def test_the_copy_can_heal_the_archive(source, target, copy, run, how):
    copy()
    SPOILT[how][0](source.pack("org/one"))
    result = copy()
    assert (result.code, result.only("copy")["left"], result.only("copy")["snapshots"]) == (
        20,
        [],
        2,
    )
    hint = f"archiver repair -C {source.root} --from {target}"
    assert hint in result.kinds("finding")[0]["hint"]
    flip(target / source.pack("org/one").relative_to(source.root))
    assert hint not in copy().kinds("finding")[0]["hint"]


def test_nothing_is_said_of_a_pack_that_need_not_be_read(source, target, copy):
    copy()
    flip(source.pack("org/one"))
    assert copy().code == 0


@pytest.mark.parametrize("how", [flip, cut])
@pytest.mark.parametrize(
    ("folder", "code"),
    [("snapshots/org/one", "seal-damaged"), ("journal", "event-damaged")],
)
def test_a_damaged_document(source, target, copy, restored, folder, code, how):
    path = next(one for one in sorted((source.root / folder).rglob("*.*")) if one.is_file())
    how(path)
    result = copy()
    assert (result.code, result.finding_codes) == (20, {code})
    assert not (target / path.relative_to(source.root)).exists()
    restored(target, "org/two", source.model("org/two"))


def manifest_of(source, repository):
    (path,) = (source.root / "manifests" / repository).iterdir()
    return path


@pytest.mark.parametrize(
    ("how", "code"),
    [
        (flip, "manifest-damaged"),
        (cut, "manifest-damaged"),
        (lambda path: path.unlink(), "manifest-missing"),
    ],
)
def test_a_manifest_that_is_not_whole_is_copied_from_the_packs(
    source, target, copy, run, restored, how, code
):
    assert run("parity", "add", "-q", "-C", source.root).code == 0
    path = manifest_of(source, "org/one")
    how(path)
    result = copy()
    assert (result.code, result.finding_codes) == (20, {code})
    assert (result.only("copy")["left"], result.only("copy")["snapshots"]) == ([], 2)
    (finding,) = result.kinds("finding")
    assert "copied from the packs" in finding["message"]
    assert f"archiver repair -C {source.root} --from {target}" in finding["hint"]
    assert (target / path.relative_to(source.root)).exists()
    assert run("audit", "-q", "-C", target).code == 0
    restored(target, "org/one", source.model("org/one"))


def test_parity_of_other_bytes_of_the_manifest_does_not_come_along(
    source, target, copy, run, monkeypatch
):
    """Another version of Zstandard makes another file of the same manifest."""
    assert run("parity", "add", "-q", "-C", source.root).code == 0
    flip(manifest_of(source, "org/one"))
    monkeypatch.setattr("archiver.archive.manifests._LEVEL", 1)
    assert copy().code == 20
    assert run("audit", "-q", "-C", target).code == 0
    digest = manifest_of(source, "org/one").name.split(".")[1]
    assert (source.root / "parity" / digest[:2] / f"{digest}.par").exists()
    assert not (target / "parity" / digest[:2] / f"{digest}.par").exists()


def test_a_manifest_that_nothing_has_whole(source, target, copy, restored):
    """One of an older writer, whose packs have no copy of it."""
    older_seal(next((source.root / "snapshots/org/one").iterdir()))
    cut(manifest_of(source, "org/one"))
    result = copy()
    assert (result.code, "manifest-damaged" in result.finding_codes) == (20, True)
    assert [each.partition("@")[0] for each in result.only("copy")["left"]] == ["org/one"]
    restored(target, "org/two", source.model("org/two"))


def test_damaged_archive_json(source, target, copy, run):
    flip(source.root / "archive.json", 3)
    assert copy().code == 0
    assert json.loads((target / "archive.json").read_bytes())["kind"] == "archive"
    assert run("audit", "-q", "-C", target).code == 0


def test_bytes_that_go_wrong_on_their_way(source, target, copy, run, monkeypatch):
    """What was written is read back, so a bit that flips in memory is not published."""
    real = LocalStaged.write

    def write(self, data):
        spoilt = bytearray(data)
        spoilt[len(spoilt) // 2] ^= len(spoilt) > 100_000
        real(self, spoilt)

    monkeypatch.setattr(LocalStaged, "write", write)
    result = copy()
    assert result.code == 1
    assert "read back" in result.err
    assert not list((target / "packs").rglob("*.pack"))
    assert {path.name for path in (target / "tmp").iterdir()} <= {"reserve"}
    monkeypatch.undo()
    assert copy().code == 0
    assert run("audit", "-q", "-C", target).code == 0


def test_a_pack_that_reads_well_the_second_time(source, target, copy, faulty):
    faulty(source.root).flipped_once(source.pack("org/one").name, 1000)
    result = copy()
    assert result.finding_codes == {"read-unstable"}
    assert len(result.only("copy")["copied"]) == 2


# ---- hostile


def test_names_that_no_archive_has_are_passed_over(source, target, copy):
    for name in ("packs/zz/x.pack", "packs/EVIL", "journal/x.json", "signatures/aa/x", "parity/y",
                 "snapshots/org/one/x.json", "snapshots/-C/x", "a b"):  # fmt: skip
        path = source.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"{}")
    os.mkfifo(source.root / "packs" / "pipe")
    assert copy().code == 0
    names = {path.name for path in target.rglob("*")}
    assert not names & {"x.pack", "EVIL", "x.json", "x", "y", "a b", "pipe", "-C"}


def forged(source, **changes):
    """A seal with other fields under the name that its bytes then have."""
    (snapshot,) = Archive.open(source.root).snapshots_of("org/one")
    (path,) = (source.root / "snapshots/org/one").iterdir()
    data = canonical(json.loads(path.read_bytes()) | changes)
    path.unlink()
    path.with_name(f"{snapshot.seal.revision}.{blake3_hex(data)}.json").write_bytes(data)


@pytest.mark.parametrize(
    "changes",
    [
        {"packs": [["../../../../etc/passwd", 10]]},
        {"packs": [["0" * 63 + "/", 10]]},
        {"repository": "../../../tmp/evil"},
        {"manifest": {"blake3": "../" * 21 + "x", "size": 5}},
        {"kind": "archive"},
    ],
)
def test_a_seal_that_leads_elsewhere(source, target, copy, restored, changes):
    forged(source, **changes)
    result = copy()
    assert (result.code, result.finding_codes) == (20, {"seal-damaged"})
    assert len(ids(target)) == 1
    restored(target, "org/two", source.model("org/two"))


def test_a_seal_of_another_repository_than_its_manifest(source, target, copy, restored):
    """Folders are hints, so its place does not give it away; what it seals does."""
    forged(source, repository="org/other")
    result = copy()
    assert (result.code, result.finding_codes) == (20, {"manifest-missing"})
    assert len(ids(target)) == 1
    restored(target, "org/two", source.model("org/two"))


@pytest.mark.parametrize(
    "changes",
    [
        {"packs": [["0" * 64, 10]]},
        {"packs": [["0" * 64, 0]]},
        {"packs": [["0" * 64, -1]]},
        {"manifest": {"blake3": "0" * 64, "size": 5}},
        {"manifest": {"blake3": "0" * 64, "size": 1 << 50}},
    ],
)
def test_a_seal_of_what_is_not_there(source, target, copy, changes):
    forged(source, **changes)
    result = copy()
    assert result.code == 20
    known = {"pack-missing", "manifest-damaged", "manifest-missing", "seal-damaged"}
    assert result.finding_codes <= known
    assert len(ids(target)) == 1


def test_a_huge_sparse_pack_is_not_copied(source, target, copy):
    path = source.pack("org/one")
    path.chmod(0o644)
    os.truncate(path, 1 << 40)
    assert copy().finding_codes == {"pack-size"}


def test_a_huge_sparse_document_is_not_copied(source, target, copy):
    for folder in ("manifests/org/one", "journal"):
        path = next(one for one in sorted((source.root / folder).rglob("*.*")) if one.is_file())
        path.chmod(0o644)
        os.truncate(path, 1 << 40)
    # The sizes are counted before anything is copied: there is no room for these.
    assert copy().code in {20, 31}


def test_an_event_that_is_none(source, target, copy):
    data = b'{"kind":"event"}'
    name = f"20261123t000000z.{blake3_hex(data)}.json"
    folder = source.root / "journal/2026/11"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)
    result = copy()
    assert result.finding_codes == {"event-damaged"}
    assert not (target / "journal/2026/11" / name).exists()


# ---- what may lie beside


def test_signatures_and_sidecars_come_along(source, target, copy, run):
    import base64

    (snapshot,) = Archive.open(source.root).snapshots_of("org/one")
    key = bytes(range(8))
    good = (
        b"untrusted comment: x\n"
        + base64.b64encode(b"ED" + key + bytes(64))
        + b"\ntrusted comment: y\n"
        + base64.b64encode(bytes(64))
        + b"\n"
    )
    folder = source.root / "signatures" / snapshot.id[:2]
    folder.mkdir(parents=True)
    (folder / f"{snapshot.id}.{key[::-1].hex()}.minisig").write_bytes(good)
    (folder / f"{snapshot.id}.{'1' * 16}.minisig").write_bytes(good)
    assert run("parity", "add", "-C", source.root).code == 0
    sidecar = source.root / "parity" / snapshot.id[:2] / f"{snapshot.id}.par"
    flip(sidecar)
    result = copy()
    assert (result.code, result.finding_codes) == (20, {"signature-damaged", "parity-damaged"})
    expected = {path.name for path in (source.root / "parity").rglob("*.par")} - {sidecar.name}
    assert expected >= {path.name.replace(".pack", ".par") for path in source.root.rglob("*.pack")}
    assert {path.name for path in (target / "parity").rglob("*.par")} == expected
    (signature,) = (target / "signatures").rglob("*.minisig")
    assert signature.read_bytes() == good


def test_a_copy_of_a_copy(source, target, copy, run):
    copy()
    shutil.rmtree(source.root)
    third = target.with_name("third")
    assert run("copy", "-C", target, "--new", third).code == 0
    assert ids(third) == ids(target)
    assert run("audit", "-q", "-C", third).code == 0
