"""Every way to damage every kind of file gives exactly its findings, and names exactly what is hit."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading

import pytest
from kit.cli import invoke
from kit.faults import empty, flip, overwrite, swap, truncate

from archiver.errors import explain_system_error
from archiver.storage.local import LocalStore

ONE, BOTH, NONE = {"org/one"}, {"org/one", "org/two"}, set()
FILES = ["config.json", "model.safetensors"]


def missing(path):
    path.unlink()


DAMAGE = {"flip": flip, "truncate": truncate, "empty": empty, "missing": missing}

TABLE = [
    ("packs", "flip", {"pack-damaged", "object-damaged"}, ONE, NONE),
    ("packs", "truncate", {"pack-size", "object-missing"}, ONE, NONE),
    ("packs", "empty", {"pack-size", "object-missing"}, ONE, NONE),
    ("packs", "missing", {"pack-missing", "object-missing"}, ONE, NONE),
    # Each pack's objects lie under the other's name: nothing is lost.
    ("packs", "swap", {"pack-size"}, BOTH, NONE),
    ("packs", "extra", {"pack-damaged"}, NONE, {"unsealed-pack"}),
    ("manifests", "flip", {"manifest-damaged"}, ONE, NONE),
    ("manifests", "truncate", {"manifest-damaged"}, ONE, NONE),
    ("manifests", "empty", {"manifest-damaged"}, ONE, NONE),
    ("manifests", "missing", {"manifest-missing"}, ONE, NONE),
    ("manifests", "swap", {"manifest-damaged"}, BOTH, NONE),
    ("manifests", "extra", NONE, NONE, {"unsealed-manifest"}),
    ("snapshots", "flip", {"seal-damaged"}, ONE, {"unsealed-pack", "unsealed-manifest"}),
    ("snapshots", "truncate", {"seal-damaged"}, ONE, {"unsealed-pack", "unsealed-manifest"}),
    ("snapshots", "empty", {"seal-damaged"}, ONE, {"unsealed-pack", "unsealed-manifest"}),
    ("snapshots", "missing", {"seal-missing"}, ONE, {"unsealed-pack", "unsealed-manifest"}),
    ("snapshots", "swap", {"seal-damaged"}, BOTH, {"unsealed-pack", "unsealed-manifest"}),
    ("snapshots", "extra", {"seal-damaged"}, ONE, NONE),
    ("journal", "flip", {"event-damaged"}, NONE, NONE),
    ("journal", "truncate", {"event-damaged"}, NONE, NONE),
    ("journal", "empty", {"event-damaged"}, NONE, NONE),
    # The events after it list it. (The newest of all leaves no gap: that is what --head is for.)
    ("journal", "missing", {"event-missing"}, NONE, NONE),
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
        overwrite(extra(path), path.read_bytes())
    elif (kind, how) == ("archive.json", "flip"):
        flip(path, path.read_bytes().index(b'"archive":"') + 12)
    else:
        DAMAGE[how](path)


def partner(kind, path, tmp_path):
    """What a file of which there is one can be swapped with: its like, of another archive."""
    if kind == "README.txt":
        return path.parent / "FORMAT.md"
    other = tmp_path / "other"
    assert invoke("init", "-q", "-C", other) == 0
    return other / "archive.json"


def extra(path):
    """A name that such a file could have, but that is not its own."""
    if path.suffix == ".pack":
        folder = "00" if path.parent.name != "00" else "01"
        (path.parents[1] / folder).mkdir(exist_ok=True)
        return path.parents[1] / folder / f"{folder}{path.stem[2:]}.pack"
    first, *rest = path.name.split(".")
    if len(rest) < 2:
        return path.with_name(path.name + ".bak")
    digit = "0" if rest[0][0] != "0" else "1"
    return path.with_name(".".join([first, digit + rest[0][1:], *rest[1:]]))


def test_a_sound_archive_passes_and_the_audit_is_journalled(audit, weights):
    result = audit()
    assert (result.code, result.codes, result.remarks) == (0, NONE, NONE)
    (summary,) = result.kinds("audit")
    assert (summary["snapshots"], summary["packs"], summary["objects"]) == (2, 2, 10)
    (event,) = weights.events("audited")
    packs = [path.stem for path in weights.documents("packs")]
    assert sorted(event["detail"].pop("packs")) == sorted(packs)
    assert len(event["detail"].pop("run")) == 16
    assert event["detail"].pop("place") in (weights.root / "place.json").read_text()
    assert event["detail"] == {
        "level": "content",
        "objects": 10,
        "checked": ["documents", "parity"],
        "damaged": 0,
        "damaged_files": [],
        "damaged_packs": [],
        "snapshots": [],
        "complete": True,
        "heads": [],
        "keys": [],
    }
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
        # A file that is lost as a whole is one finding, not one for each of its objects.
        named = [one["path"] for one in result.damage if one["code"].startswith("object-")]
        assert sorted(named) == FILES
    for one in result.damage:
        if one["code"] in {"pack-missing", "pack-size", "pack-damaged", "index-damaged"}:
            assert one["path"] == f"packs/{one['pack'][:2]}/{one['pack']}.pack"


def test_the_kinds_and_ways_are_all_in_the_table():
    ways = {"flip", "truncate", "empty", "missing", "swap", "extra"}
    carried = {"README.txt", "FORMAT.md", "decode.py"}
    met = {("carried" if kind in carried else kind, how) for kind, how, *_ in TABLE}
    kinds = {"packs", "manifests", "snapshots", "journal", "archive.json", "carried"}
    assert met == {(kind, how) for kind in kinds for how in ways}


def test_a_seal_in_another_folder_is_read_by_what_it_says(audit, weights):
    seal = weights.documents("snapshots")[0]
    other = weights.root / "snapshots/later.kind/org/three"
    other.mkdir(parents=True)
    seal.rename(other / seal.name)
    result = audit()
    assert (result.code, result.codes) == (0, set())
    assert audit("--snapshot", "org/one").code == 0


def test_a_seal_under_another_revisions_name_is_found(audit, weights):
    seal = weights.documents("snapshots")[0]
    seal.rename(seal.with_name("0" * 40 + seal.name[40:]))
    result = audit()
    assert result.codes == {"seal-damaged"}
    assert "a name that is not its own" in result.damage[0]["message"]


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
        raise explain_system_error(OSError(30, "Read-only file system", str(self.path)))

    monkeypatch.setattr(LocalStore, "stage", refuse)
    before = sorted(path for path in weights.root.rglob("*"))
    result = run("audit", "-C", weights.root)
    assert result.code == 0
    assert "not in its journal" in result.err
    assert sorted(path for path in weights.root.rglob("*")) == before


def test_an_interrupted_audit_ends_its_threads_and_journals_what_it_proved(
    weights, run, monkeypatch
):
    from archiver.cli.progress import Meter

    monkeypatch.setattr(Meter, "end", lambda self, path: signal.raise_signal(signal.SIGINT))
    assert run("audit", "-C", weights.root).code == 130
    (event,) = weights.events("audited")
    assert (event["detail"]["level"], len(event["detail"]["packs"])) == ("content", 1)
    assert not [one.name for one in threading.enumerate() if one.name.startswith("audit")]


# ---- what a finding says to do


def test_the_line_for_a_lost_archive_json_mends_it(audit, weights):
    before = json.loads((weights.root / "archive.json").read_bytes())
    missing(weights.root / "archive.json")
    (found,) = audit().damage
    line = found["hint"].partition(": ")[2]
    (action,) = found["actions"]
    assert action == {"do": "write-line", "file": "archive.json", "line": line, "commands": []}
    (weights.root / "archive.json").write_text(line)
    assert json.loads(line)["archive"] == before["archive"]
    assert audit().code == 0


@pytest.mark.parametrize("how", [flip, missing])
def test_a_file_copied_back_from_another_copy_mends_a_pack(audit, weights, pristine, how):
    pack = weights.documents("packs")[0]
    how(pack)
    assert audit().code == 20
    overwrite(pack, pristine.documents("packs")[0].read_bytes())
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
    assert sum("→ Run 'archiver repair -C " in line for line in lines) == 2
    assert "All is well" not in result.out


def test_the_program_itself(weights):
    command = [sys.executable, "-m", "archiver", "audit", "-C", str(weights.root)]
    good = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert good.returncode == 0
    assert good.stdout.startswith("All is well: 2 snapshots, 10 objects in 2 packs")
    missing(weights.documents("packs")[0])
    bad = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert bad.returncode == 20
    assert "Traceback" not in bad.stderr
