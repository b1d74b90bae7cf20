"""What is hostile costs little: the rows of docs/bounds.md, each measured in a child."""

from __future__ import annotations

import json

import pytest
from hostilekit import good_pack, plain_files, write_archive
from kit import handmade
from kit.faults import overwrite
from kit.memory import archiver, decode

from archiver.archive.archive import Archive
from archiver.archive.layout import quarantined_name
from archiver.archive.packs.reader import PackReader

H = "a" * 64
MIB = 1 << 20


def entry(path, segments="", tensors="", size=0):
    more = f',"tensors":[{tensors}]' if tensors else ""
    head = f'{{"blake3":"{H}","lfs":false,"oid":"","path":"{path}","segments":[{segments}]'
    return f'{head},"sha256":"{H}","size":{size}{more}}}'


def manifest(files="", card="{}", more="", revision=handmade.REVISION):
    source = (
        f'{{"card":{card},"committed":"","endpoint":"","id":"","licence":"",'
        f'"repository":"Org/Model","revision":"{revision}","upstream":"directory"}}'
    )
    return f'{{"files":[{files}],"format":1,"kind":"manifest"{more},"source":{source}}}'.encode()


def tensors(count):
    one = '{"begin":0,"dtype":"U%d","end":0,"name":"%d","shape":[1000,1001]}'
    return ",".join(one % (number, number) for number in range(count))


def segments(count):
    return ",".join(f'[1,"{number:064x}"]' for number in range(count))


REFUSED = {
    "a card of lists": lambda: {"card": '{"x":[' + "[]," * (21 * MIB) + "[]]}"},
    "a card of a megabyte of lists": lambda: {"card": '{"x":[' + "[]," * 400_000 + "[]]}"},
    "unknown keys": lambda: {"more": ',"z":[' + '"ab",' * 4_100_000 + '""]'},
    "250,000 files": lambda: {"files": ",".join(entry(f"f{n}") for n in range(250_000))},
    "880,000 segments": lambda: {"files": entry("a", segments(880_000), size=880_000)},
    "a million tensors": lambda: {
        "files": entry("a", f'[1,"{H}"]', tensors(900_000), 1),
    },
}
"""Manifests within the bytes that one may have, which hold more than one may."""
ALLOWED = {
    "a card of lists": lambda: {"card": '{"x":[' + "[]," * 349_000 + "[]]}"},
    "unknown keys": lambda: {"more": ',"z":[' + '"ab",' * 3_900_000 + '""]'},
    "319,000 tensors": lambda: {"files": entry("a", f'[1,"{H}"]', tensors(319_000), 1)},
    "499,000 segments": lambda: {"files": entry("a", segments(499_000), size=499_000)},
}
"""The largest that may be."""


def write_raw(root, cases):
    """An archive of one snapshot for each of ``cases``, whose manifests no kit would make."""
    write_archive(root)
    for kind in ("manifests", "snapshots"):
        for path in (root / kind).rglob("*.json*"):
            path.unlink()
    for number, case in enumerate(cases.values()):
        text = manifest(revision=f"{number:040x}", **case())
        add_seal(root, text, f"{number:040x}")
        name = f"{number:040x}.{handmade.digest(text)}.json.zst"
        (root / "manifests/org/model" / name).write_bytes(handmade.frame(text))
    return root


def add_seal(root, text, revision, **changes):
    """A seal of the manifest ``text`` with some keys changed."""
    seal = json.loads(handmade.seal(handmade.manifest([]), [good_pack()]))
    seal |= {"manifest": {"blake3": handmade.digest(text), "size": len(text)}}
    data = handmade.canonical(seal | {"revision": revision} | changes)
    (root / f"snapshots/org/model/{revision}.{handmade.digest(data)}.json").write_bytes(data)


def test_a_manifest_that_holds_too_much_takes_little(tmp_path):
    root = write_raw(tmp_path / "archive", REFUSED)
    audit = archiver("audit", "-q", "--json", "-C", root, "--level", "structure").cheap()
    assert [one["code"] for one in audit.kinds("finding")] == ["manifest-invalid"] * len(REFUSED)
    assert decode(root, "verify").cheap().err.count("\n") >= len(REFUSED)
    taken = archiver("restore", "-q", "-C", root, f"Org/Model@{0:040x}", tmp_path / "out").cheap()
    assert taken.code == 20


def test_the_largest_manifests_take_little_to_check_and_to_restore(tmp_path):
    root = write_raw(tmp_path / "archive", ALLOWED)
    audit = archiver("audit", "-q", "--json", "-C", root, "--level", "structure").cheap()
    assert audit.codes == {"object-missing"}, audit.codes
    decode(root, "verify").cheap()
    for number, case in enumerate(ALLOWED):
        if case in {"319,000 tensors", "499,000 segments"}:
            what = f"Org/Model@{number:040x}"
            archiver("restore", "-q", "-C", root, what, tmp_path / case).cheap()


def test_a_repair_of_half_a_million_objects_takes_little(tmp_path):
    case = "499,000 segments"
    root = write_raw(tmp_path / "archive", {case: ALLOWED[case]})
    taken = archiver("repair", "-q", "--no-upstream", "-C", root).cheap()
    assert taken.code == 21, taken


FILES = {
    "half a character": (',"z":"\xff"', 20),
    "deep": (',"z":' + "[" * 100_000 + "]" * 100_000, 20),
    "many values": (',"z":[' + '"ab",' * 3_900_000 + '""]', 0),
}


@pytest.mark.parametrize("case", FILES)
def test_a_manifest_in_a_file_takes_little_and_is_refused_in_words(tmp_path, case):
    (tmp_path / "folder").mkdir()
    more, code = FILES[case]
    (tmp_path / "m.json").write_bytes(manifest(more=more).replace("\xff".encode(), b"\xff"))
    args = ("verify", "-q", tmp_path / "folder", "--manifest", tmp_path / "m.json")
    assert archiver(*args).cheap().code == code


SEALS = {
    "600,000 packs": {"packs": [[f"{n:064x}", 1] for n in range(600_000)]},
    "3 million patterns": {"selection": {"include": [], "exclude": [""] * 3_000_000}},
    "2 million patterns": {"selection": {"include": [], "exclude": [""] * 2_000_000}},
    "totals of 400 digits": {
        "totals": dict.fromkeys(("files", "bytes", "objects", "stored", "tensors"), 10**400)
    },
}


def test_a_seal_that_holds_too_much_takes_little(tmp_path):
    root = write_archive(tmp_path / "archive")
    text = manifest()
    for number, changes in enumerate(SEALS.values()):
        add_seal(root, text, f"{number:040x}", **changes)
    archiver("list", "-C", root).cheap()
    audit = archiver("audit", "-q", "--json", "-C", root, "--level", "structure").cheap()
    assert [one["code"] for one in audit.kinds("finding")] == ["seal-damaged"] * len(SEALS)
    # It shows the totals, and relies on none.
    assert decode(root, "list").cheap().err.count("damage: ") == len(SEALS) - 1


def archive_of_packs(root, count):
    """An archive of one snapshot in so many packs, none of which is there."""
    write_raw(root, {})
    text = manifest()
    packs = [[f"{n:064x}", 1] for n in range(count)]
    add_seal(root, text, handmade.REVISION, packs=packs)
    name = f"{handmade.REVISION}.{handmade.digest(text)}.json.zst"
    (root / "manifests/org/model" / name).write_bytes(handmade.frame(text))
    return root


def test_the_largest_seal_takes_little(tmp_path):
    root = archive_of_packs(tmp_path / "archive", 99_000)
    archiver("list", "-C", root).cheap()
    archiver("restore", "-q", "-C", root, "Org/Model", tmp_path / "out").cheap()
    decode(root, "verify").cheap()


def test_each_missing_pack_takes_an_audit_little(tmp_path):
    root = archive_of_packs(tmp_path / "archive", 25_000)
    audit = archiver("audit", "-q", "--json", "-C", root, "--level", "structure").cheap()
    assert audit.code == 20
    # A fourth of what a seal may name, for a fourth of the room above what any audit takes.
    assert audit.peak < 65 + (400 - 65) // 4, audit.peak


def test_many_missing_packs_are_one_finding_that_names_each(tmp_path, run):
    many = archive_of_packs(tmp_path / "many", 1_001)
    audit = run("audit", "-q", "--json", "-C", many)
    (finding,) = (one for one in audit.kinds("finding") if one["code"] == "pack-missing")
    assert (audit.code, finding["packs"]) == (20, [f"{n:064x}" for n in range(1_001)])
    assert finding["snapshots"]
    assert "pack" not in finding
    repair = run("repair", "-q", "--json", "--no-upstream", "--dry-run", "-C", many)
    names = {one["name"] for one in repair.kinds("mended")}
    assert names == {f"packs/00/{pack}.pack" for pack in finding["packs"]}
    few = archive_of_packs(tmp_path / "few", 1_000)
    single = run("audit", "-q", "--json", "-C", few).kinds("finding")
    assert sum(one["code"] == "pack-missing" and "pack" in one for one in single) == 1_000


def test_a_pack_that_was_set_aside_has_a_finding_of_its_own_among_many(tmp_path, run):
    root = archive_of_packs(tmp_path / "archive", 1_002)
    name = f"packs/00/{5:064x}.pack"
    aside = quarantined_name("trash", "2026-01-01T00:00:00Z", name)
    overwrite(root / aside, b"x")
    findings = run("audit", "-q", "--json", "-C", root).kinds("finding")
    missing = [one for one in findings if one["code"] == "pack-missing"]
    (own,) = (one for one in missing if "pack" in one)
    (others,) = (one for one in missing if "packs" in one)
    assert (own["path"], own["set_aside"]) == (name, aside)
    assert len(others["packs"]) == 1_001
    assert own["pack"] not in others["packs"]


def listing_pack(number, count):
    """A pack whose index lists so many objects more than the good ones: eight bytes each."""
    pack = good_pack()
    end = int.from_bytes(pack[-8:], "little")
    size = int.from_bytes(pack[end + 4 : end + 8], "little")
    rows = json.loads(pack[end + 8 : end + 8 + size])["objects"]
    rows += [[f"{number:08x}{n:056x}", end + 8 * n, 8, 1, 0] for n in range(count)]
    index = handmade.canonical({"kind": "index", "objects": rows})
    data = pack[:end] + bytes(8 * count) + handmade.skippable(2, index)
    return data + handmade.skippable(3, (end + 8 * count).to_bytes(8, "little"))


def test_the_indexes_of_many_packs_take_a_restore_little(tmp_path):
    """More than a million objects, of which the snapshot's files need five."""
    packs = [listing_pack(number, 149_000) for number in range(8)]
    root = write_archive(tmp_path / "archive", pack=packs[0])
    (path,) = (root / "snapshots/org/model").iterdir()
    path.unlink()
    handmade.write_snapshot(root, handmade.manifest(plain_files()), packs)
    for pack in packs[1:]:
        handmade.write_pack(root, pack)
    restored = archiver("restore", "-q", "-C", root, "Org/Model", tmp_path / "out").cheap()
    assert restored.code == 0, restored


# ---- packs full of object headers that are none: the work is counted


def fake_headers(size):
    """Magics as close as they can be, each with a length that reaches far."""
    one = handmade.skippable(1, b'{"blake3":"')[:-11]
    one = one[:4] + (60_000).to_bytes(4, "little") + b'{"'
    return (one * (size // len(one) + 1))[:size]


def lying_headers(size):
    """Headers that can be read, each of which claims half of what was written."""
    header = {"blake3": H, "codec": 0, "frames": [size // 2], "size": 1000}
    one = handmade.skippable(1, handmade.canonical(header))
    return one * (size // len(one) + 1)


HEADERS = {"magics": fake_headers, "headers": lying_headers}


def spoilt_pack(kind):
    pack = good_pack()
    return pack[:-40] + HEADERS[kind](4 * MIB)


@pytest.mark.parametrize("kind", HEADERS)
def test_salvage_reads_a_pack_a_few_times_whatever_is_in_it(tmp_path, kind):
    root = tmp_path / "archive"
    write_archive(root, pack=spoilt_pack(kind))
    archive = Archive.open(root)
    (pack,) = archive.packs()
    reader = archive.store.open(f"packs/{pack[:2]}/{pack}.pack")
    read = 0

    class Counting:
        size = reader.size

        def read_into(self, offset, buffer):
            nonlocal read
            read += len(buffer)
            return reader.read_into(offset, buffer)

    found = list(PackReader(Counting(), "The pack").walk())
    assert read < 4 * reader.size
    assert sum(entry.stored for entry in found) < 6 * reader.size
    assert len(found) >= 5  # the true ones are among them


@pytest.mark.parametrize("kind", HEADERS)
def test_a_pack_full_of_headers_hangs_nobody(tmp_path, kind):
    root = write_archive(tmp_path / "archive", pack=spoilt_pack(kind))
    assert archiver("audit", "-q", "-C", root).cheap().code == 20
    assert archiver("restore", "-q", "-C", root, "Org/Model", tmp_path / "out").cheap().code == 0
    archiver("repair", "-q", "--no-upstream", "-C", root).cheap()
    assert decode(root, "restore", "Org/Model", tmp_path / "by-hand").cheap().code == 0


# ---- headers on their way in


def test_headers_of_a_million_tensors_at_once(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    one = '{"dtype":"U8","shape":[0],"data_offsets":[0,0]}'
    text = ("{" + ",".join(f'"{number}":{one}' for number in range(1_000_000)) + "}").encode()
    for number in range(3):
        raw = text + b" " * number
        path = folder / f"model-{number}.safetensors"
        path.write_bytes(len(raw).to_bytes(8, "little") + raw)
    assert archiver("init", "-q", "-C", tmp_path / "archive").code == 0
    args = ("import", folder, "--as", "org/m", "-C", tmp_path / "archive", "--min-free", "0B")
    taken = archiver(*args)
    assert taken.code == 0, taken
    # One alone takes 250 MB, three at a time would take 600.
    assert taken.peak < 500, taken.peak
    assert taken.err.count("was stored as plain bytes") == 3


def test_more_tensors_than_a_manifest_may_list_are_refused_early(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    one = '{"dtype":"U8","shape":[0],"data_offsets":[0,0]}'
    for name in "ab":
        text = ("{" + ",".join(f'"{name}{n}":{one}' for n in range(170_000)) + "}").encode()
        (folder / f"{name}.safetensors").write_bytes(len(text).to_bytes(8, "little") + text)
    assert archiver("init", "-q", "-C", tmp_path / "archive").code == 0
    args = ("import", folder, "--as", "org/m", "-C", tmp_path / "archive", "--min-free", "0B")
    taken = archiver(*args)
    assert taken.code == 1
    assert "340,000 tensors" in taken.err
    assert "--include" in taken.err


# ---- decode.py opens files, and nothing else


@pytest.mark.parametrize("kind", ["pipe", "link"])
@pytest.mark.parametrize("where", ["packs", "manifests", "snapshots", "archive.json"])
def test_the_carried_reader_opens_no_pipe_and_follows_no_link(tmp_path, kind, where):
    import os

    root = write_archive(tmp_path / "archive")
    path = (
        next(one for one in sorted((root / where).rglob("*")) if one.is_file())
        if (root / where).is_dir()
        else root / where
    )
    outside = tmp_path / "outside"
    path.rename(outside)
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    assert decode(root, "verify").cheap().code in {10, 20}
