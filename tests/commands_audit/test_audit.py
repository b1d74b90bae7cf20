"""Every way to damage every kind of file gives exactly its findings, and names exactly what is hit."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading

import pytest
from auditkit import empty, flip, flip_inside, noise, swap, truncate, write, write_model

from archiver.archive.archive import Archive
from archiver.cli.main import invoke
from archiver.errors import explain_system_error
from archiver.storage.local import LocalReader, LocalStore

ONE, BOTH, NONE = {"org/one"}, {"org/one", "org/two"}, set()
FILES = {"config.json", "model.safetensors"}


def missing(path):
    path.unlink()


DAMAGE = {"flip": flip, "truncate": truncate, "empty": empty, "missing": missing}

TABLE = [
    ("packs", "flip", {"pack-damaged", "object-damaged"}, ONE, NONE),
    ("packs", "truncate", {"pack-size", "object-missing"}, ONE, NONE),
    ("packs", "empty", {"pack-size", "object-missing"}, ONE, NONE),
    ("packs", "missing", {"pack-missing", "object-missing"}, ONE, NONE),
    ("packs", "swap", {"pack-size", "object-missing"}, BOTH, NONE),
    ("packs", "extra", {"pack-damaged"}, NONE, {"unsealed-pack"}),
    ("manifests", "flip", {"manifest-damaged"}, ONE, NONE),
    ("manifests", "truncate", {"manifest-damaged"}, ONE, NONE),
    ("manifests", "empty", {"manifest-damaged"}, ONE, NONE),
    ("manifests", "missing", {"manifest-missing"}, ONE, NONE),
    ("manifests", "swap", {"manifest-damaged"}, BOTH, NONE),
    ("manifests", "extra", NONE, NONE, {"unsealed-manifest"}),
    ("snapshots", "flip", {"seal-damaged"}, NONE, {"unsealed-pack", "unsealed-manifest"}),
    ("snapshots", "truncate", {"seal-damaged"}, NONE, {"unsealed-pack", "unsealed-manifest"}),
    ("snapshots", "empty", {"seal-damaged"}, NONE, {"unsealed-pack", "unsealed-manifest"}),
    ("snapshots", "missing", {"seal-missing"}, ONE, {"unsealed-pack", "unsealed-manifest"}),
    ("snapshots", "swap", {"seal-damaged"}, NONE, {"unsealed-pack", "unsealed-manifest"}),
    ("snapshots", "extra", {"seal-damaged"}, NONE, NONE),
    ("journal", "flip", {"event-damaged"}, NONE, NONE),
    ("journal", "truncate", {"event-damaged"}, NONE, NONE),
    ("journal", "empty", {"event-damaged"}, NONE, NONE),
    # Losing an event loses knowledge and leaves no gap to be seen.
    ("journal", "missing", NONE, NONE, NONE),
    ("journal", "swap", {"event-damaged"}, NONE, NONE),
    ("journal", "extra", {"event-damaged"}, NONE, NONE),
    ("archive.json", "flip", {"archive-json-damaged"}, NONE, NONE),
    ("archive.json", "truncate", {"archive-json-damaged"}, NONE, NONE),
    ("archive.json", "empty", {"archive-json-damaged"}, NONE, NONE),
    ("archive.json", "missing", {"archive-json-missing"}, NONE, NONE),
    ("archive.json", "swap", {"archive-json-damaged"}, NONE, NONE),
    ("archive.json", "extra", NONE, NONE, {"unknown-file"}),
    ("README.txt", "flip", NONE, NONE, {"carried-differs"}),
    ("FORMAT.md", "truncate", NONE, NONE, {"carried-differs"}),
    ("decode.py", "empty", {"carried-missing"}, NONE, NONE),
    ("README.txt", "missing", {"carried-missing"}, NONE, NONE),
    ("FORMAT.md", "missing", {"carried-missing"}, NONE, NONE),
    ("decode.py", "missing", {"carried-missing"}, NONE, NONE),
    ("README.txt", "swap", NONE, NONE, {"carried-differs"}),
    ("README.txt", "extra", NONE, NONE, {"unknown-file"}),
]


def damage(weights, kind, how, tmp_path):
    """Damage what belongs to org/one, in one way."""
    path, *others = weights.documents(kind)
    if how == "swap":
        other = others[0] if others else partner(kind, path, tmp_path)
        swap(path, other)
    elif how == "extra":
        write(extra(path), path.read_bytes())
    elif (kind, how) == ("archive.json", "flip"):
        flip(path, path.read_bytes().index(b'"archive":"') + 12)
    else:
        DAMAGE[how](path)


def partner(kind, path, tmp_path):
    """What a file of which there is one can be swapped with: its like, of another archive."""
    if kind == "README.txt":
        return path.parent / "FORMAT.md"
    other = tmp_path / "other"
    assert invoke(["init", "-q", "-C", str(other)]) == 0
    return other / "archive.json"


def extra(path):
    """A name that such a file could have, but that is not its own."""
    if path.suffix == ".pack":
        name = "00" + path.stem[2:]
        (path.parents[1] / "00").mkdir(exist_ok=True)
        return path.parents[1] / "00" / f"{name}.pack"
    first, *rest = path.name.split(".")
    if len(rest) < 2:
        return path.with_name(path.name + ".bak")
    digit = "0" if rest[0][0] != "0" else "1"
    return path.with_name(".".join([first, digit + rest[0][1:], *rest[1:]]))


def test_a_sound_archive_passes_and_the_audit_is_journalled(audit, weights):
    result = audit()
    assert (result.code, result.codes, result.remarks) == (0, NONE, NONE)
    (summary,) = result.kinds("audit")
    assert (summary["snapshots"], summary["packs"], summary["objects"]) == (2, 2, 8)
    (event,) = weights.events("audited")
    assert event["detail"] == {"level": "content", "objects": 8, "damaged": 0}
    assert audit().code == 0


@pytest.mark.parametrize(
    ("kind", "how", "codes", "hit", "remarks"), TABLE, ids=lambda x: x if isinstance(x, str) else ""
)
def test_damage_is_found(audit, weights, tmp_path, kind, how, codes, hit, remarks):
    damage(weights, kind, how, tmp_path)
    result = audit()
    assert result.codes == codes
    assert result.remarks == remarks
    assert result.hit == hit
    assert result.code == (20 if codes else 0)
    assert all(one["hint"] and one["message"] for one in result.damage)
    if kind == "packs" and hit == ONE and how in {"empty", "missing"}:
        assert {one["path"] for one in result.damage if one.get("path")} == FILES


def test_the_kinds_and_ways_are_all_in_the_table():
    ways = {"flip", "truncate", "empty", "missing", "swap", "extra"}
    carried = {"README.txt", "FORMAT.md", "decode.py"}
    met = {("carried" if kind in carried else kind, how) for kind, how, *_ in TABLE}
    kinds = {"packs", "manifests", "snapshots", "journal", "archive.json", "carried"}
    assert met == {(kind, how) for kind in kinds for how in ways}


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


def test_a_flipped_digit_in_an_objects_header_blames_the_object_that_was_stored(audit, weights):
    digest = header_of(weights, "head.weight")
    flip_inside(weights.documents("packs")[0], digest.encode())
    result = audit()
    (found,) = (one for one in result.damage if one["code"] == "object-damaged")
    assert (found["tensor"], found["object"]) == ("head.weight", digest)
    assert result.codes == {"pack-damaged", "object-damaged"}


@pytest.mark.parametrize("bit", [1, 16, 64, 128])
def test_where_the_walk_is_lost_the_index_leads_on(audit, weights, bit):
    pack = weights.documents("packs")[0]
    at = pack.read_bytes().index(b"\x51\x2a\x4d\x18")
    flip(pack, at + 1, bit)
    result = audit()
    assert result.codes == {"pack-damaged", "object-damaged"}
    assert len(result.damage) == 2
    assert result.kinds("audit")[0]["objects"] == 8


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
        flip(pack, pack.stat().st_size - (1 if where == "trailer-far" else 8), 128)
    result = audit()
    assert result.codes == {"pack-damaged", "index-damaged"}


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
    write(path, lying)
    result = audit()
    assert (result.codes, result.hit, result.remarks) == ({"index-damaged"}, NONE, {"unsealed-pack"})


def test_rows_of_a_tensor_that_spans_segments(audit, weights, run, tmp_path):
    from auditkit import header_bytes

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
    missing(weights.root / "README.txt")
    assert audit().codes == {
        "pack-damaged",
        "object-damaged",
        "manifest-damaged",
        "event-damaged",
        "carried-missing",
    }


def test_an_unreadable_sector_is_damage_and_no_end(audit, weights, monkeypatch):
    pack = weights.documents("packs")[0]
    bad = pack.stat().st_size // 2
    read_into = LocalReader.read_into

    def failing(self, offset, buffer):
        if self._path == pack and offset <= bad < offset + len(buffer):
            raise explain_system_error(OSError(5, "Input/output error", str(pack)))
        return read_into(self, offset, buffer)

    monkeypatch.setattr(LocalReader, "read_into", failing)
    result = audit()
    assert result.codes == {"pack-damaged", "object-damaged"}
    assert result.hit == ONE
    assert "Input/output error" in result.out


# ---- a reading that is not the same twice


@pytest.mark.parametrize(
    "kind", ["packs", "manifests", "snapshots", "journal", "archive.json"]
)
def test_what_comes_out_whole_the_second_time_is_unstable_not_damaged(
    audit, weights, monkeypatch, kind
):
    path = weights.documents(kind)[0]
    size = path.stat().st_size
    times = 2 if kind == "archive.json" else 1  # it is read once before, to open the archive
    read_into, seen = LocalReader.read_into, []

    def flipping(self, offset, buffer):
        got = read_into(self, offset, buffer)
        if self._path == path and offset <= size // 2 < offset + len(buffer):
            seen.append(offset)
            if len(seen) <= times:
                buffer[size // 2 - offset] ^= 0x80
        return got

    monkeypatch.setattr(LocalReader, "read_into", flipping)
    result = audit()
    assert (result.code, result.codes) == (20, {"read-unstable"})


def test_a_reading_that_differs_each_time_is_both(audit, weights, monkeypatch):
    pack = weights.documents("packs")[0]
    read_into, seen = LocalReader.read_into, []

    def flipping(self, offset, buffer):
        got = read_into(self, offset, buffer)
        if self._path == pack and len(buffer) > 10_000:
            seen.append(offset)
            buffer[1000 + len(seen)] ^= 1
        return got

    monkeypatch.setattr(LocalReader, "read_into", flipping)
    assert audit().codes == {"read-unstable", "pack-damaged", "object-damaged"}


# ---- limits, options, places


def test_one_snapshot_is_audited_alone(audit, weights):
    flip(weights.documents("packs")[0])
    empty(weights.documents("journal")[0])
    good = audit("--snapshot", "org/two")
    assert (good.code, good.kinds("audit")[0]["packs"]) == (0, 1)
    revision = weights.seal("one")["revision"]
    bad = audit("--snapshot", f"org/one@{revision[:12]}")
    assert bad.codes == {"pack-damaged", "object-damaged"}
    asked = {(one["repository"], one["revision"]) for one in events_of(weights, "audited")}
    assert asked == {("org/two", ""), ("org/one", revision[:12])}


def events_of(weights, name):
    found = [path.read_bytes() for path in (weights.root / "journal").rglob("*.json")]
    return [one for one in map(json.loads, filter(None, found)) if one["event"] == name]


@pytest.mark.parametrize("reference", ["org/three", "org/one@ffff", "@", "x@"])
def test_a_snapshot_that_is_not_held_is_a_usage_error(audit, reference):
    assert audit("--snapshot", reference).code == 2


def test_no_archive(run, tmp_path):
    assert run("audit", "-C", tmp_path).code == 10


def test_an_archive_that_cannot_be_written_to_is_audited_without_an_event(
    weights, run, monkeypatch
):
    def refuse(self, purpose):
        raise explain_system_error(OSError(30, "Read-only file system", str(self.root)))

    monkeypatch.setattr(LocalStore, "stage", refuse)
    before = sorted(path for path in weights.root.rglob("*"))
    result = run("audit", "-C", weights.root)
    assert result.code == 0
    assert "not in its journal" in result.err
    assert sorted(path for path in weights.root.rglob("*")) == before


def test_an_interrupted_audit_ends_its_threads_and_writes_nothing(weights, run, monkeypatch):
    from archiver.cli.progress import Meter

    monkeypatch.setattr(Meter, "end", lambda self, path: signal.raise_signal(signal.SIGINT))
    assert run("audit", "-C", weights.root).code == 130
    assert not weights.events("audited")
    assert not [one.name for one in threading.enumerate() if one.name.startswith("audit")]


# ---- what a finding says to do


def test_the_line_for_a_lost_archive_json_mends_it(audit, weights):
    before = json.loads((weights.root / "archive.json").read_bytes())
    missing(weights.root / "archive.json")
    (found,) = audit().damage
    line = found["hint"].partition(": ")[2]
    (weights.root / "archive.json").write_text(line)
    assert json.loads(line)["archive"] == before["archive"]
    assert audit().code == 0


@pytest.mark.parametrize("how", [flip, missing])
def test_a_file_copied_back_from_another_copy_mends_a_pack(audit, weights, pristine, how):
    pack = weights.documents("packs")[0]
    how(pack)
    assert audit().code == 20
    write(pack, pristine.documents("packs")[0].read_bytes())
    assert audit().code == 0


def test_without_another_copy_upstream_mends_what_was_set_aside(
    audit, weights, run, pristine, tmp_path
):
    """As docs/findings.md says: set pack and seals aside, and mirror again."""
    pack = weights.documents("packs")[0]
    flip(pack)
    aside = weights.root / "quarantine"
    aside.mkdir()
    for path in (pack, *(weights.root / "snapshots/org/one").iterdir()):
        path.rename(aside / path.name)
    source = pristine.root.parent / "one"
    args = ["--as", "org/one", "--min-free", "0B"]
    assert run("import", "-q", "-C", weights.root, source, *args).code == 0
    result = audit()
    assert (result.code, result.codes, result.remarks) == (0, NONE, NONE)


def test_text_output_has_a_verdict_then_findings_then_what_to_do(weights, run):
    flip(weights.documents("packs")[0])
    result = run("audit", "-C", weights.root)
    lines = result.out.splitlines()
    assert lines[0].startswith("DAMAGE: 2 findings, 1 of 2 snapshots hit.")
    assert lines[1].startswith("pack-damaged  org/one@")
    assert any("model.safetensors  body.weight rows 0..39" in line for line in lines)
    assert sum("→ Copy packs/" in line for line in lines) == 2
    assert "All is well" not in result.out


def test_the_program_itself(weights):
    command = [sys.executable, "-m", "archiver", "audit", "-C", str(weights.root)]
    good = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert good.returncode == 0
    assert good.stdout.startswith("All is well: 2 snapshots, 8 objects in 2 packs")
    missing(weights.documents("packs")[0])
    bad = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert bad.returncode == 20
    assert "Traceback" not in bad.stderr

