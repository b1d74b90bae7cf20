"""Bundles that somebody made or changed on purpose: refused with a sentence, and nothing of them stays."""

from __future__ import annotations

import hashlib
import json
import shutil

import msgspec
import pytest
from bundlekit import LARGE, SMALL, Carried, document, files, piece, replace, volumes_of
from kit.repository import noise

from archiver.archive.archive import Archive
from archiver.archive.bundles.records import (
    Bundle,
    Inventory,
    Volume,
    checked,
    file_of,
    is_carried,
    parse_bundle,
    parse_inventory,
    parse_volume,
)
from archiver.archive.records import canonical
from archiver.digest import blake3_hex
from archiver.errors import ArchiverError, UnknownFormatError

HEX = "ab" * 32
BAD_NAMES = (
    "../../etc/passwd",
    "/etc/passwd",
    f"packs/ab/../../{HEX}.pack",
    f"packs/ab/{HEX}.pack/../x",
    f"PACKS/ab/{HEX}.pack",
    f"packs\\ab\\{HEX}.pack",
    f"packs/cd/{HEX}.pack",
    f"pieces/../packs/ab/{HEX}.pack.0001-0002",
    f"pieces/packs/ab/{HEX}.pack.0003-0002",
    f"pieces/pieces/packs/ab/{HEX}.pack.0001-0002.0001-0002",
    "con",
    "evil.exe",
    "autorun.inf",
    f"packs/ab/{HEX}.pack\x00",
    f"snapshots/org/{'x' * 2000}/{'01' * 20}.{HEX}.json",
)


@pytest.mark.parametrize("name", BAD_NAMES)
def test_no_volume_has_such_a_name(name):
    assert not is_carried(name)


def forged(media, **changes):
    """Change ``bundle.json`` on every volume, and let every ``volume.json`` agree with it."""
    bundle = document(media / "volume-0001", "bundle.json")
    bundle.update(changes)
    data = msgspec.json.encode(bundle, order="sorted")
    row = ["bundle.json", len(data), blake3_hex(data), hashlib.sha256(data).hexdigest()]
    for volume in volumes_of(media):
        replace(volume / "bundle.json", data)
        listed = document(volume, "volume.json")["files"]
        rows = [row if each[0] == "bundle.json" else each for each in listed]
        rewrite(volume, bundle=blake3_hex(data), files=rows)
    return data


def rewrite(volume, **changes):
    own = document(volume, "volume.json")
    own.update(changes, check="")
    own["check"] = blake3_hex(msgspec.json.encode(own, order="sorted"))
    replace(volume / "volume.json", msgspec.json.encode(own, order="sorted") + b"\n")


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_bundle_that_leads_elsewhere(run, media, far, bring, name):
    files_of_it = document(media / "volume-0001", "bundle.json")["files"]
    forged(media, files=[[1, name, 5, HEX, 0], *files_of_it])
    assert run("bundle", "verify", "-q", media).code == 20
    refused = run("bundle", "import", "-q", "--json", "-C", far, "--new", media, "--min-free", "0")
    assert refused.code in {2, 20}
    assert not (far / "archive.json").exists() or Carried(far, far).ids() == set()


@pytest.mark.parametrize(
    "changes",
    [
        {"files": [[1, f"packs/ab/{HEX}.pack", 5, HEX, 0]] * 2},
        {"files": [[9, f"packs/ab/{HEX}.pack", 5, HEX, 0]]},
        {"files": [[1, f"pieces/packs/ab/{HEX}.pack.0001-0002", 5, HEX, 0]]},
        {"files": [[1, f"packs/ab/{HEX}.pack", -5, HEX, 0]]},
        {"files": [[1, f"packs/ab/{HEX}.pack", 1 << 70, HEX, 0]]},
        {"volumes": 100_000},
        {"snapshots": []},
        {"snapshots": [["zz", "org/x", "00"]]},
        {"archive": "../../x"},
        {"kind": "volume"},
    ],
)
def test_a_bundle_that_cannot_be(media, changes):
    bundle = document(media / "volume-0001", "bundle.json") | changes
    with pytest.raises(ArchiverError):
        parse_bundle(msgspec.json.encode(bundle, order="sorted"), "bundle.json")


def test_documents_that_cost_much():
    for parse in (parse_bundle, parse_volume, parse_inventory):
        for data in (
            b"[" * 5_000_000,
            b'{"a":' * 100_000,
            b"[],".join([b""] * 3_000_000),
            b" " * (33 << 20),
            b"\xff\xfe",
            b"",
        ):
            with pytest.raises(ArchiverError):
                parse(data, "it")


def test_newer_writers_are_not_misread(run, media, far):
    forged(media, features={"read": ["holograms"], "write": []})
    for words in (("verify",), ("import", "-C", far, "--new")):
        done = run("bundle", *words, media)
        assert done.code == 10
        assert "newer archiver" in done.err
    with pytest.raises(UnknownFormatError):
        parse_volume(b'{"format":2,"kind":"volume"}', "it")


def test_lists_that_contradict_each_other(media, bring, far, run):
    """The volume's list has digests of other bytes than the bundle's, and the bytes fit it."""
    volume = media / "volume-0001"
    seal = next(volume.glob("snapshots/*/*/*.json"))
    data = seal.read_bytes().replace(b'"tool":"archiver', b'"tool":"Archiver')
    replace(seal, data)
    own = document(volume, "volume.json")
    name = seal.relative_to(volume).as_posix()
    for row in own["files"]:
        if row[0] == name:
            row[2] = blake3_hex(data)
    rewrite(volume, files=own["files"])
    assert run("bundle", "verify", "-q", "--part", volume).code == 20
    done = bring(volume)
    assert done.code == 22
    (taken,) = done.only("bundle-import")["volumes"]
    assert taken["state"] == "refused"
    assert not (far / "bundles").exists()


def test_a_volume_that_says_something_else_than_before(media, bring, far):
    volume = media / "volume-0002"
    assert bring(volume).code == 3
    before = files(far)
    target = piece(volume)
    replace(target, noise(5, target.stat().st_size))
    own = document(volume, "volume.json")
    name = target.relative_to(volume).as_posix()
    for row in own["files"]:
        if row[0] == name:
            row[2] = blake3_hex(target.read_bytes())
    rewrite(volume, files=own["files"])
    done = bring(volume)
    assert done.code == 22
    assert files(far) == before


def test_pieces_that_are_no_pack(media, bring, far, pristine):
    """Each has the digest of its list, and together they are something else."""
    volume = media / "volume-0002"
    target = piece(volume)
    replace(target, noise(5, target.stat().st_size))
    own = document(volume, "volume.json")
    name = target.relative_to(volume).as_posix()
    for row in own["files"]:
        if row[0] == name:
            row[2] = blake3_hex(target.read_bytes())
    rewrite(volume, files=own["files"])
    done = bring(media)
    assert done.code == 20
    assert any("put together" in fault["message"] for fault in done.only("bundle-import")["faults"])
    assert len(Carried(far, far).ids()) == 1


def forge_source(carried, tmp_path, change):
    """An archive whose small repository has a changed manifest, and a seal of that."""
    source = tmp_path / "source"
    shutil.copytree(carried.root, source)
    archive = Archive.open(source)
    (snapshot,) = archive.snapshots_of(SMALL)
    manifest = change(archive.manifest(snapshot.seal))
    plain = canonical(manifest)
    for path in (source / "snapshots" / "org" / "small").iterdir():
        path.unlink()
    archive.publish_manifest(manifest.source, plain)
    ref = msgspec.structs.replace(snapshot.seal.manifest, blake3=blake3_hex(plain), size=len(plain))
    archive.publish_seal(msgspec.structs.replace(snapshot.seal, manifest=ref))
    return Carried(source, tmp_path)


def other_object(manifest):
    first = manifest.files[0]
    entry = msgspec.structs.replace(first, segments=((first.size, HEX),))
    return msgspec.structs.replace(manifest, files=(entry, *manifest.files[1:]))


def other_digest(manifest):
    first = msgspec.structs.replace(manifest.files[0], sha256=HEX)
    return msgspec.structs.replace(manifest, files=(first, *manifest.files[1:]))


def other_path(manifest):
    first = msgspec.structs.replace(manifest.files[0], path="../../evil")
    return msgspec.structs.replace(manifest, files=(first, *manifest.files[1:]))


@pytest.mark.parametrize("change", [other_object, other_digest])
def test_a_seal_that_promises_what_is_not_there(carried, export, bring, far, tmp_path, change):
    source = forge_source(carried, tmp_path, change)
    assert export(tmp_path / "to", references=[SMALL], of=source).code == 0
    done = bring(tmp_path / "to")
    assert done.code == 22
    ((title, reason),) = done.only("bundle-import")["refused"]
    assert title.startswith(SMALL)
    assert "config.json" in reason
    assert Carried(far, far).ids() == set()


def test_a_seal_that_contradicts_one_that_is_here(carried, export, bring, far, tmp_path, pristine):
    assert bring(pristine).code == 0
    before = Carried(far, far).ids()
    source = forge_source(carried, tmp_path, other_digest)
    assert export(tmp_path / "to", references=[SMALL], of=source).code == 0
    done = bring(tmp_path / "to")
    assert done.code == 22
    ((_, reason),) = done.only("bundle-import")["refused"]
    assert "One commit has one content" in reason
    assert Carried(far, far).ids() == before


def test_forged_inventories(run, carried, export, bring, far, tmp_path):
    inventory = tmp_path / "inventory.json"
    assert run("inventory", "-C", carried.root, "-o", inventory).code == 0
    honest = json.loads(inventory.read_bytes())
    honest["packs"] = honest["packs"][:1]
    inventory.write_bytes(msgspec.json.encode(honest, order="sorted"))
    done = export(tmp_path / "to", "--not-in", inventory)
    assert done.code == 20
    assert "says something else than was written" in done.out
    # One that is well made and says too much: the import names what is missing.
    read = msgspec.json.decode(msgspec.json.encode(honest), type=Inventory)
    inventory.write_bytes(file_of(checked(read)))
    assert export(tmp_path / "to", "--not-in", inventory).code == 0
    done = bring(tmp_path / "to")
    assert done.code == 3
    assert [waiting["elsewhere"] for waiting in done.only("bundle-import")["waiting"]] == [1]
    assert export(tmp_path / "none", "--not-in", tmp_path / "nothing").code == 2


def test_a_snapshot_that_the_bundle_does_not_name_stays_out(media, bring, far):
    bundle = document(media / "volume-0001", "bundle.json")
    forged(media, snapshots=[each for each in bundle["snapshots"] if each[1] == LARGE])
    assert bring(media).code == 0
    assert len(Carried(far, far).ids()) == 1


def test_keys_of_a_later_version_are_ignored_and_kept(run, media, bring, far):
    data = forged(media, later=[{"name": "archiver"}], receipts=[])
    for volume in volumes_of(media):
        rewrite(volume, receipts=[["a", "b"]], later=[])
    assert run("bundle", "verify", "-q", media).code == 0
    assert bring(media).code == 0
    (received,) = (far / "bundles" / "received").glob("*.json")
    assert received.read_bytes() == data
    assert len(Carried(far, far).ids()) == 2


def test_the_records_are_what_the_page_says():
    """Every key of the three documents is in the format's section 13, or on the page on bundles."""
    from pathlib import Path

    docs = Path(__file__).parents[2] / "docs"
    section = (
        (docs / "format.md").read_text().partition("\n## 13. Volumes")[2].partition("\n## ")[0]
    )
    page = (docs / "bundles.md").read_text().partition("An **inventory**")[2]
    for kind, text in ((Bundle, section), (Volume, section), (Inventory, page)):
        for field in msgspec.structs.fields(kind):
            if field.name not in {"kind", "format", "features"}:
                assert f"`{field.encode_name}`" in text, (kind, field.name)
