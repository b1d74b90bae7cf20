"""What each level of an audit finds, and what it does not."""

from __future__ import annotations

import json

import msgspec
import numpy as np
import pytest
from kit.faults import flip, overwrite, swap, truncate
from kit.repository import noise

from archiver.archive.archive import Archive
from archiver.archive.packs.writer import PackWriter
from archiver.archive.publish import publish
from archiver.archive.records import FileEntry, Selection
from archiver.codec.segment import Effort, EncodedObject, encode
from archiver.digest import blake3_hex

LEVELS = ["structure", "stored", "content", "files"]


def missing(path):
    path.unlink()


FOUND = {
    # what was done to a pack: the levels that find it
    missing: LEVELS,
    truncate: LEVELS,
    flip: LEVELS[1:],
}


@pytest.mark.parametrize("level", LEVELS)
def test_a_sound_archive_is_sound_at_every_level(audit, weights, level):
    result = audit("--level", level)
    assert (result.code, result.codes, result.remarks) == (0, set(), set())
    (summary,) = result.kinds("audit")
    assert (summary["level"], summary["intact"], summary["complete"]) == (level, True, True)
    assert (summary["packs"], summary["objects"]) == (2, 10)
    assert summary["bytes"] == (0 if level == "structure" else sizes(weights))
    assert summary["files"] == (2 if level == "files" else 0)


def sizes(weights):
    return sum(path.stat().st_size for path in weights.documents("packs"))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("how", FOUND, ids=lambda how: how.__name__)
def test_damage_of_a_pack_is_found_from_its_level_on(audit, weights, how, level):
    how(weights.documents("packs")[0])
    result = audit("--level", level)
    thorough = audit()
    if level in FOUND[how]:
        # Whatever looks damaged is read in full, so that every level says the same of it.
        assert (result.code, result.codes) == (20, thorough.codes)
        assert result.hit == {"org/one"}
        assert len(result.damage) == len(thorough.damage)
    else:
        assert (result.code, result.codes) == (0, set())


@pytest.mark.parametrize("level", LEVELS)
def test_a_pack_under_anothers_name_is_not_proven(audit, weights, level):
    swap(*weights.documents("packs"))
    result = audit("--level", level)
    assert result.codes == {"pack-size"}
    assert result.kinds("audit")[0]["proven"] == 0


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("kind", ["manifests", "snapshots", "journal"])
def test_documents_are_read_at_every_level(audit, weights, level, kind):
    flip(weights.documents(kind)[0])
    assert audit("--level", level).code == 20


# ---- what only a deeper level can know


def store_object(archive, item):
    """A pack of one object; where it lies."""
    writer = PackWriter(archive.store, archive.info)
    writer.append(item)
    pack, (entry,) = writer.finish()
    return lambda _digest: (pack, entry.stored)


def seal_one_file(weights, plain, *, item=None, **wrong):
    """A snapshot of one file, org/three, whose object or digests are not what they should be."""
    import hashlib

    archive = Archive.open(weights.root)
    item = item or encode(np.frombuffer(plain, np.uint8), "", Effort.FAST)
    digest = item.header.blake3
    entry = FileEntry(
        "f.bin", len(plain), hashlib.sha256(plain).hexdigest(), blake3_hex(plain),
        segments=((len(plain), digest),),
    )  # fmt: skip
    entry = msgspec.structs.replace(entry, **wrong)
    seal = archive.find("org/one").seal
    manifest = archive.manifest(seal)
    source = msgspec.structs.replace(manifest.source, repository="org/three")
    manifest = msgspec.structs.replace(manifest, source=source, files=(entry,))
    publish(archive, manifest, store_object(archive, item), Selection())


@pytest.mark.parametrize("level", LEVELS)
def test_an_object_that_never_decoded_is_found_by_content(audit, weights, level):
    """The pack is as it was written, to the last bit."""
    good = encode(np.frombuffer(noise(7, 500), np.uint8), "", Effort.FAST)
    lying = msgspec.structs.replace(good.header, blake3=blake3_hex(b"another"))
    seal_one_file(weights, noise(7, 500), item=EncodedObject(lying, good.frames))
    deep = level in {"content", "files"}
    result = audit("--level", level)
    assert result.codes == ({"object-damaged"} if deep else set())
    assert result.hit == ({"org/three"} if deep else set())


@pytest.mark.parametrize("wrong", ["sha256", "blake3"])
def test_a_file_that_is_not_what_its_whole_objects_make_is_found_by_files(audit, weights, wrong):
    seal_one_file(weights, noise(7, 500), **{wrong: blake3_hex(b"x")})
    assert audit("--level", "content").code == 0
    result = audit("--level", "files")
    (found,) = result.damage
    assert (found["code"], found["path"]) == ("file-differs", "f.bin")
    assert found["snapshot"].startswith("org/three@")
    (summary,) = result.kinds("audit")
    assert (summary["files"], summary["complete"]) == (2, True)
    event = [one for one in weights.events("audited") if one["detail"]["level"] == "files"][-1]
    assert len(event["detail"]["snapshots"]) == len(event["detail"]["packs"]) == 2


def test_a_file_whose_object_is_lost_is_not_called_another_one(audit, weights):
    flip(weights.documents("packs")[0])
    assert audit("--level", "files").codes == {"pack-damaged", "object-damaged"}


def test_an_index_that_lost_an_object_is_found_by_structure(audit, weights):
    """The pack has another digest then, but nothing of it is read at this level."""
    pack = weights.documents("packs")[0]
    data = pack.read_bytes()
    at = data.index(b'"objects":[', data.rindex(b'"kind":"index"')) + len(b'"objects":[["')
    digit = b"0" if data[at : at + 1] != b"0" else b"1"
    overwrite(pack, data[:at] + digit + data[at + 1 :])
    result = audit("--level", "structure")
    assert result.code == 20
    assert "object-missing" in result.codes


def test_an_unknown_level_is_a_usage_error(audit):
    assert audit("--level", "deep").code == 2


def test_a_catalogue_that_is_damaged_is_a_remark(audit, weights):
    path = weights.root / "catalogue.sqlite"
    assert audit().remarks == set()
    data = bytearray(path.read_bytes())
    data[200 : len(data)] = noise(3, len(data) - 200)
    path.write_bytes(data)
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    result = audit()
    assert (result.code, result.remarks) == (0, {"catalogue-damaged"})
    (remark,) = (one for one in result.kinds("finding") if one["remark"])
    assert "archiver catalogue rebuild" in remark["hint"]
    path.unlink()
    assert audit().remarks == set()


def test_events_say_the_level_and_what_it_proved(audit, weights):
    for level in LEVELS:
        assert audit("--level", level).code == 0
    told = {event["detail"]["level"]: event["detail"] for event in weights.events("audited")}
    packs = sorted(path.stem for path in weights.documents("packs"))
    assert {level: sorted(one["packs"]) for level, one in told.items()} == dict.fromkeys(
        LEVELS, packs
    )
    seals = sorted(path.name.split(".")[1] for path in weights.documents("snapshots"))
    assert sorted(told["files"]["snapshots"]) == seals
    assert json.dumps(told["content"]["snapshots"]) == "[]"
