"""Inside a pack: which objects, tensors and rows are hit, and readings that are not the same twice."""

from __future__ import annotations

import pytest
from kit.faults import empty, flip, flip_inside, overwrite, truncate
from kit.repository import noise, write_model

from archiver.archive.archive import Archive

ONE: set[str] = {"org/one"}
NONE: set[str] = set()


# ---- what is hit inside a pack


def header_of(weights, tensor):
    """The digest of the object that holds a whole tensor of org/one."""
    archive = Archive.open(weights.root)
    entry = archive.manifest(archive.find("org/one").seal).file("model.safetensors")
    at = 0
    for size, digest in entry.segments:
        if any((one.name, one.begin) == (tensor, at) for one in entry.tensors):
            return digest
        at += size
    raise AssertionError(tensor)


def test_a_damaged_object_is_named_with_its_tensor_and_rows(audit, weights):
    flip(weights.documents("packs")[0])
    (found,) = (one for one in audit().damage if one["code"] == "object-damaged")
    assert (found["path"], found["tensor"], found["rows"]) == (
        "model.safetensors",
        "body.weight",
        [0, 39],
    )
    assert found["object"] == header_of(weights, "body.weight")
    assert found["snapshot"].startswith("org/one@")
    assert found["pack"] == weights.documents("packs")[0].stem


def change_digit(pack, digest, digit, *, last=False):
    """Put another digit in place of a digest's first where it stands in the pack."""
    data = bytearray(pack.read_bytes())
    at = data.rindex(digest.encode()) if last else data.index(digest.encode())
    assert data[at] != ord(digit)
    data[at] = ord(digit)
    overwrite(pack, bytes(data))


@pytest.mark.parametrize("hexadecimal", [True, False])
def test_a_wrong_digit_in_an_objects_header_costs_no_object(audit, weights, hexadecimal):
    digest = header_of(weights, "head.weight")
    digit = ("0" if digest[0] != "0" else "1") if hexadecimal else "g"
    change_digit(weights.documents("packs")[0], digest, digit)
    result = audit()
    assert result.codes == {"pack-damaged"}
    assert result.kinds("audit")[0]["objects"] == 10


@pytest.mark.parametrize("bit", [1, 16, 64, 128])
def test_where_the_walk_is_lost_the_index_leads_on(audit, weights, bit):
    pack = weights.documents("packs")[0]
    at = pack.read_bytes().index(b"\x51\x2a\x4d\x18")
    flip(pack, at + 1, bit)
    result = audit()
    assert result.codes == {"pack-damaged"}
    assert result.kinds("audit")[0]["objects"] == 10


def test_where_index_and_header_are_lost_the_object_that_was_stored_is_blamed(audit, weights):
    digest = header_of(weights, "head.weight")
    pack = weights.documents("packs")[0]
    change_digit(pack, digest, "g", last=True)
    at = pack.read_bytes().index(digest.encode())
    flip(pack, pack.read_bytes().index(b"\x28\xb5\x2f\xfd", at) + 30)
    result = audit()
    (found,) = (one for one in result.damage if one["code"] == "object-damaged")
    assert (found["tensor"], found["object"]) == ("head.weight", digest)


def test_a_damaged_head_costs_no_object(audit, weights):
    flip(weights.documents("packs")[0], 0)
    assert audit().codes == {"pack-damaged"}


@pytest.mark.parametrize("where", ["digest", "brace", "trailer", "trailer-far"])
def test_a_damaged_index_costs_no_object(audit, weights, where):
    pack = weights.documents("packs")[0]
    if where == "digest":
        flip_inside(pack, header_of(weights, "head.weight").encode(), last=True)
    elif where == "brace":
        flip_inside(pack, b'"kind":"index"', last=True)
    else:
        flip(pack, pack.stat().st_size - (1 if where == "trailer-far" else 8), bit=128)
    result = audit()
    assert result.codes == {"pack-damaged", "index-damaged"}


def test_an_index_with_a_digit_that_is_none_costs_no_file(audit, weights, run, tmp_path):
    digest = header_of(weights, "head.weight")
    change_digit(weights.documents("packs")[0], digest, "g", last=True)
    assert audit().codes == {"pack-damaged", "index-damaged"}
    assert run("restore", "-q", "-C", weights.root, "org/one", tmp_path / "out").code == 0


def test_a_damaged_object_that_no_file_needs_is_reported_all_the_same(audit, weights):
    flip(weights.documents("packs")[0])
    weights.documents("snapshots")[0].unlink()
    result = audit()
    assert result.codes == {"seal-missing", "pack-damaged", "object-damaged"}
    (found,) = (one for one in result.damage if one["code"] == "object-damaged")
    assert "path" not in found
    assert "No file is known to need" in found["message"]


def test_an_index_that_lies_is_found_although_every_digest_is_right(weights, audit):
    """A pack whose index names another object than its frames hold, under its right name."""
    from blake3 import blake3

    pack = weights.documents("packs")[0]
    data = pack.read_bytes()
    digest = header_of(weights, "head.weight").encode()
    at = data.rindex(digest)
    digit = b"0" if digest[:1] != b"0" else b"1"
    lying = data[:at] + digit + data[at + 1 :]
    name = blake3(lying).hexdigest()
    path = weights.root / "packs" / name[:2] / f"{name}.pack"
    path.parent.mkdir(exist_ok=True)
    overwrite(path, lying)
    result = audit()
    assert (result.codes, result.hit, result.remarks) == (
        {"index-damaged"},
        NONE,
        {"unsealed-pack"},
    )


def test_rows_of_a_tensor_that_spans_segments(audit, weights, run, tmp_path):
    from archiver.tensors.header import header_bytes

    folder = tmp_path / "big"
    folder.mkdir()
    rows, row = 20, 1 << 20
    body = noise(9, 1 << 20) * rows
    head = header_bytes([("wide", "U8", (rows, row), len(body))])
    (folder / "model.safetensors").write_bytes(bytes(head) + body)
    args = ["--as", "org/big", "--min-free", "0B", "--effort", "fast"]
    assert run("import", "-q", "-C", weights.root, folder, *args).code == 0
    archive = Archive.open(weights.root)
    seal = archive.find("org/big").seal
    entry = archive.manifest(seal).files[0]
    assert [size for size, _ in entry.segments[1:]] == [16 << 20, 4 << 20]
    last = entry.segments[-1][1].encode()
    (pack,) = (weights.root / f"packs/{name[:2]}/{name}.pack" for name, _ in seal.packs)
    flip(pack, pack.read_bytes().index(last) + 300_000)
    (found,) = (one for one in audit().damage if one["code"] == "object-damaged")
    assert (found["tensor"], found["rows"]) == ("wide", [16, 19])


def test_a_shared_object_hits_every_snapshot_that_has_it(audit, weights, run, tmp_path):
    folder = write_model(tmp_path / "twin", 0, 40)
    (folder / "config.json").write_text('{"twin": true}')
    args = ["--as", "org/twin", "--min-free", "0B"]
    assert run("import", "-q", "-C", weights.root, folder, *args).code == 0
    flip(weights.documents("packs")[0])
    result = audit()
    objects = [one for one in result.damage if one["code"] == "object-damaged"]
    assert result.hit == {"org/one", "org/twin"}
    assert {one["snapshot"].partition("@")[0] for one in objects} == result.hit
    assert {one["path"] for one in objects} == {"model.safetensors"}


def test_everything_is_reported_at_once(audit, weights):
    flip(weights.documents("packs")[0])
    truncate(weights.documents("manifests")[1])
    empty(weights.documents("journal")[0])
    (weights.root / "README.txt").unlink()
    assert audit().codes == {
        "pack-damaged",
        "object-damaged",
        "manifest-damaged",
        "event-damaged",
        "carried-missing",
    }


def test_an_unreadable_sector_is_damage_and_no_end(audit, weights, faulty):
    pack = weights.documents("packs")[0]
    faulty(weights.root).bad_sector(pack.name, pack.stat().st_size // 2)
    result = audit()
    assert result.codes == {"pack-damaged", "object-damaged"}
    assert result.hit == ONE
    assert "Input/output error" in result.out


# ---- a reading that is not the same twice


@pytest.mark.parametrize("kind", ["packs", "manifests", "snapshots", "journal", "archive.json"])
def test_what_comes_out_whole_the_second_time_is_unstable_not_damaged(audit, weights, faulty, kind):
    path = weights.documents(kind)[0]
    times = 2 if kind == "archive.json" else 1  # it is read once before, to open the archive
    faulty(weights.root).flipped(path.name, path.stat().st_size // 2, times, bit=0x80)
    result = audit()
    assert (result.code, result.codes) == (20, {"read-unstable"})


def test_a_reading_that_differs_each_time_is_both(audit, weights, faulty):
    faulty(weights.root).unstable(weights.documents("packs")[0].name)
    assert audit().codes == {"read-unstable", "pack-damaged", "object-damaged"}
