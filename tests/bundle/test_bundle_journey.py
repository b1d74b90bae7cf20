"""A bundle's journey: exported, checked, taken in volume by volume, restored with archiver and without."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import subprocess
import sys

import pytest
from bundlekit import LARGE, SIZE, SMALL, Carried, document, files, flip, piece, take_in, volumes_of
from kit.repository import files_below, noise

from archiver.archive.archive import Archive
from archiver.archive.events import BundleImported
from archiver.text import parse_size


def test_volumes_keep_their_size_and_say_what_is_on_them(pristine):
    volumes = volumes_of(pristine)
    assert len(volumes) == 4
    bundle = (volumes[0] / "bundle.json").read_bytes()
    for number, volume in enumerate(volumes, 1):
        found = files(volume)
        assert sum(-(-len(data) // 4096) * 4096 for data in found.values()) <= parse_size(SIZE)
        assert found["bundle.json"] == bundle
        listed = {name: sha256 for name, _, _, sha256 in document(volume, "volume.json")["files"]}
        assert listed.keys() == found.keys() - {"volume.json"}
        for name, sha256 in listed.items():
            assert hashlib.sha256(found[name]).hexdigest() == sha256
        assert document(volume, "volume.json")["number"] == number
        sums = dict(
            reversed(line.split("  ")) for line in found["sha256sums.txt"].decode().splitlines()
        )
        assert sums == {name: listed[name] for name in listed if name != "sha256sums.txt"}


def test_names_are_legal_on_any_filesystem(pristine):
    papers = {"README.txt", "FORMAT.md", "START-HERE.html", "MANIFEST.md"}
    for path in pristine.rglob("*"):
        assert path.name in papers or re.fullmatch(r"[a-z0-9][a-z0-9._-]*[a-z0-9_]", path.name)
        assert len(path.name) <= 120
        assert path.stem not in {"con", "prn", "aux", "nul"}


def test_the_same_makes_the_same(pristine, export, tmp_path):
    report = export(tmp_path / "again", "--parity", "2").only("bundle-export")
    assert report["again"] is False
    assert files(tmp_path / "again") == files(pristine)


def test_the_sheet_names_what_matters(pristine, carried):
    sheet = (pristine / "volume-0001" / "MANIFEST.md").read_text()
    (snapshot,) = Archive.open(carried.root).snapshots_of(SMALL)
    weights = hashlib.sha256((carried.model(SMALL) / "weights.bin").read_bytes()).hexdigest()
    decoder = hashlib.sha256((pristine / "volume-0001" / "decode.py").read_bytes()).hexdigest()
    bundle = hashlib.sha256((pristine / "volume-0001" / "bundle.json").read_bytes()).hexdigest()
    for text in (
        snapshot.id,
        SMALL,
        weights,
        decoder,
        bundle,
        "nobody",
        "none is declared",
        "4 volumes",
    ):
        assert text in sheet
    assert {(each / "MANIFEST.md").read_text() for each in volumes_of(pristine)} == {sheet}


def test_verify_says_what_is_here(run, pristine):
    whole = run("bundle", "verify", "-q", "--json", pristine)
    assert whole.code == 0
    (bundle,) = whole.only("bundle-verify")["bundles"]
    assert (bundle["missing"], bundle["faults"]) == ([], [])
    assert [snapshot["here"] for snapshot in bundle["snapshots"]] == [True, True]
    some = [pristine / "volume-0002", pristine / "volume-0004"]
    part = run("bundle", "verify", "-q", "--json", *some)
    assert part.code == 3
    (bundle,) = part.only("bundle-verify")["bundles"]
    assert bundle["missing"] == [1, 3]
    assert not any(
        snapshot["here"] for snapshot in bundle["snapshots"] if "large" in snapshot["title"]
    )
    assert run("bundle", "verify", "-q", "--part", *some).code == 0


@pytest.mark.parametrize("order", list(itertools.permutations(range(4)))[::5])
def test_volumes_come_in_in_any_order(run, pristine, bring, far, same, carried, order):
    volumes = volumes_of(pristine)
    for count, number in enumerate(order, 1):
        done = bring(volumes[number])
        assert done.code == (0 if count == len(order) else 3)
        report = done.only("bundle-import")
        assert [volume["state"] for volume in report["volumes"]] == ["taken"]
        left = {each + 1 for each in order[count:]}
        large = [each for each in report["waiting"] if "large" in each["title"]]
        assert all(set(each["volumes"]) <= left for each in large)
    assert Carried(far, far).ids() == carried.ids()
    same(far)
    audit = run("audit", "-q", "--json", "-C", far, "--level", "files")
    assert (audit.code, audit.findings) == (0, [])
    assert not (far / "bundles" / "waiting").exists()
    before = files(far)
    again = bring(*volumes)
    assert again.code == 0
    assert {volume["state"] for volume in again.only("bundle-import")["volumes"]} == {"before"}
    assert files(far) == before


def test_what_waits_is_seen_by_no_command(run, pristine, bring, far):
    assert bring(pristine / "volume-0001").code == 3
    assert run("list", "--json", "-C", far).kinds("snapshot") == []
    assert run("audit", "-q", "--json", "-C", far).damage == []


def test_an_archive_of_another_origin_takes_a_bundle_in(run, pristine, bring, far, same):
    assert run("init", "-q", "-C", far).code == 0
    assert bring(pristine).code == 0
    same(far)
    assert run("audit", "-q", "--json", "-C", far).damage == []


def test_an_archive_that_has_the_revision_itself_takes_the_seal_in(
    run, pristine, carried, far, same
):
    """Its manifest is there already, by another seal: what waits is read with its own all the same."""
    assert run("init", "-q", "-C", far).code == 0
    take_in(far, carried.model(SMALL), SMALL)
    own = {path: path.read_bytes() for path in (far / "manifests").rglob("*.zst")}
    words = ("bundle", "import", "-q", "--json", "-C", far, "--min-free", "0", pristine)
    done = run(*words)
    assert (done.code, done.only("bundle-import")["waiting"]) == (0, [])
    assert own.items() <= {path: path.read_bytes() for path in far.rglob("*.zst")}.items()
    held = {snapshot.id for snapshot in Archive.open(far).snapshots()}
    assert carried.ids() < held
    same(far)
    assert run("audit", "-q", "-C", far, "--level", "files").code == 0


def test_a_begun_archive_goes_on(run, pristine, far, same):
    words = ("bundle", "import", "-q", "-C", far, "--new", "--min-free", "0")
    assert run(*words, pristine / "volume-0001").code == 3
    assert run(*words, pristine).code == 0
    same(far)


def test_new_begins_nothing_where_another_archive_is(run, pristine, far):
    assert run("init", "-q", "-C", far).code == 0
    done = run("bundle", "import", "-q", "-C", far, "--new", pristine)
    assert done.code == 2
    assert "not an empty folder" in done.err


def test_files_come_straight_from_the_volumes(run, pristine, tmp_path, carried):
    out = tmp_path / "out"
    several = run("bundle", "restore", "-q", "--json", pristine, out)
    assert several.code == 2
    assert "--snapshot" in several.err + several.out
    assert run("bundle", "restore", "-q", pristine, out, "--snapshot", LARGE).code == 0
    assert files_below(out) == files_below(carried.model(LARGE))


def test_a_restore_names_the_volume_that_it_needs(run, pristine, tmp_path):
    three = [pristine / f"volume-000{number}" for number in (1, 2, 4)]
    done = run("bundle", "restore", "-q", *three, tmp_path / "out", "--snapshot", LARGE)
    assert done.code == 3
    assert "Name the folder of volume 3 too" in done.err
    assert not (tmp_path / "out").exists()


def decoded(volume, *words):
    """Run a volume's own reader with a bare Python."""
    command = [sys.executable, "-I", "-S", volume / "decode.py", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=volume)


def test_a_bare_python_restores(pristine, tmp_path, carried):
    out = tmp_path / "out"
    done = decoded(pristine / "volume-0002", "restore", LARGE, out)
    assert done.returncode == 0, done.stderr
    assert files_below(out) == files_below(carried.model(LARGE))


def test_a_bare_python_finds_other_media_and_names_what_is_missing(media, tmp_path, carried):
    for number in range(1, 5):
        (tmp_path / f"medium{number}").mkdir()
        (media / f"volume-000{number}").rename(tmp_path / f"medium{number}" / f"volume-000{number}")
    first = tmp_path / "medium1" / "volume-0001"
    done = decoded(first, "restore", LARGE, tmp_path / "none")
    assert done.returncode == 20
    assert "it is on volumes 2, 3, 4: name the folder with --packs" in done.stderr
    others = [word for number in (2, 3, 4) for word in ("--packs", tmp_path / f"medium{number}")]
    done = decoded(first, *others, "restore", LARGE, tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert files_below(tmp_path / "out") == files_below(carried.model(LARGE))


def test_pieces_are_joined_by_cat(pristine, carried):
    (snapshot,) = Archive.open(carried.root).snapshots_of(LARGE)
    pieces = sorted(pristine.rglob("*.pack.*"), key=lambda path: path.name)
    joined = b"".join(path.read_bytes() for path in pieces)
    pack = pieces[0].name.split(".")[0]
    assert joined == (carried.root / "packs" / pack[:2] / f"{pack}.pack").read_bytes()
    assert pack in {name for name, _ in snapshot.seal.packs}
    assert piece(pristine / "volume-0001") in pieces


def test_one_volume_after_another(run, export, carried, pristine, tmp_path):
    """Each onto a medium of its own, with an audit in between: all of one bundle."""
    first = export(tmp_path / "one", "--volume", "1").only("bundle-export")
    assert run("audit", "-q", "-C", carried.root).code == 0
    for number in range(2, first["volumes"] + 1):
        report = export(tmp_path / f"m{number}", "--volume", number).only("bundle-export")
        assert (report["bundle"], report["again"]) == (first["bundle"], True)
    media = [tmp_path / "one", *(tmp_path / f"m{n}" for n in range(2, first["volumes"] + 1))]
    assert run("bundle", "verify", "-q", *media).code == 0
    assert export(tmp_path / "none", "--volume", "99").code == 2


def test_only_what_is_missing_is_carried(run, export, bring, far, tmp_path, same):
    """1 % of the tensors change: the second bundle has less than 10 % of the first."""
    source = Carried(tmp_path / "source", tmp_path)
    assert run("init", "-q", "-C", source.root).code == 0
    model = tmp_path / "model"
    model.mkdir()
    shards = {f"weights-{number:03}.bin": noise(number, 200_000) for number in range(100)}
    for name, data in shards.items():
        (model / name).write_bytes(data)
    take_in(source.root, model, "org/model")
    one = export(tmp_path / "first", references=["org/model"], of=source, size="64MiB")
    assert bring(tmp_path / "first").code == 0
    inventory = tmp_path / "inventory.json"
    assert run("inventory", "-C", far, "-o", inventory).code == 0
    (model / "weights-007.bin").write_bytes(noise(1007, 200_000))
    take_in(source.root, model, "org/model")
    newest = max(Archive.open(source.root).snapshots_of("org/model"), key=lambda s: s.seal.sealed)
    reference = f"org/model@{newest.id[:12]}"
    words = {"references": [reference], "of": source, "size": "64MiB"}
    two = export(tmp_path / "second", "--not-in", inventory, **words).only("bundle-export")
    assert two["left_out"] > 0
    sizes = [sum(map(len, files(tmp_path / name).values())) for name in ("first", "second")]
    assert sizes[1] < sizes[0] / 10, sizes
    assert two["sizes"][0] < one.only("bundle-export")["sizes"][0] / 50
    assert bring(tmp_path / "second").code == 0
    out = tmp_path / "out"
    assert run("restore", "-q", "-C", far, reference, out).code == 0
    assert files_below(out) == files_below(model)
    # Without the first, the second waits, and says for what.
    alone = run(
        "bundle",
        "import",
        "-q",
        "--json",
        "-C",
        tmp_path / "else",
        "--new",
        tmp_path / "second",
        "--min-free",
        "0",
    )
    assert alone.code == 3
    (waiting,) = alone.only("bundle-import")["waiting"]
    assert waiting["elsewhere"] == two["left_out"]


def test_signatures_arrive_as_they_are(run, export, bring, far, tmp_path, monkeypatch, carried):
    source = tmp_path / "source"
    assert run("copy", "-q", "-C", carried.root, "--new", source, "--min-free", "0").code == 0
    monkeypatch.setenv("ARCHIVER_KEY_PASSWORD", "word")
    assert run("keys", "new", tmp_path / "key").code == 0
    assert run("sign", "-q", "-C", source, "--key", tmp_path / "key.key").code == 0
    to = tmp_path / "signed"
    assert export(to, references=[SMALL], of=Carried(source, tmp_path)).code == 0
    assert bring(to).code == 0
    ours, theirs = (
        {p.name: p.read_bytes() for p in (root / "signatures").rglob("*.minisig")}
        for root in (source, far)
    )
    assert theirs
    assert all(ours[name] == data for name, data in theirs.items())
    public = next(tmp_path.glob("key*.pub"))
    assert run("audit", "-q", "-C", far, "--key", public).code == 0


def test_the_other_sides_audits_count_for_nothing_here(run, export, bring, far, carried, tmp_path):
    source = tmp_path / "source"
    assert run("copy", "-q", "-C", carried.root, "--new", source, "--min-free", "0").code == 0
    assert run("audit", "-q", "-C", source, "--level", "files").code == 0
    assert export(tmp_path / "to", references=[SMALL], of=Carried(source, tmp_path)).code == 0
    assert bring(tmp_path / "to").code == 0
    assert [event.event for _, event in Archive.open(far).events()] == [
        "sealed",
        "bundle-imported",
    ]
    claims = [
        json.loads(p.read_bytes())["event"] for p in (far / "bundles" / "claims").rglob("*.json")
    ]
    assert "audited" in claims


@pytest.mark.parametrize("whole", [True, False])
def test_what_came_another_way_meanwhile_is_called_imported_if_it_is_whole(
    run, bring, far, pristine, carried, whole
):
    """The event is a proof of every file: a receipt tells of it."""
    assert bring(volumes_of(pristine)[0]).code == 3
    assert run("copy", "-q", "-C", carried.root, far, "--min-free", "0").code == 0
    (small,) = Archive.open(far).snapshots_of(SMALL)
    if not whole:
        ((pack, _),) = small.seal.packs
        flip(next(far.rglob(f"packs/*/{pack}.pack")))
    bring(pristine)
    imported = {
        snapshot
        for _, event in Archive.open(far).events()
        if isinstance(event.detail, BundleImported)
        for snapshot in event.detail.snapshots
    }
    assert imported == (carried.ids() if whole else carried.ids() - {small.id})


def test_what_was_forgotten_is_not_brought_back(run, bring, far, pristine):
    assert bring(pristine).code == 0
    assert run("forget", "-q", "-C", far, SMALL).code == 0
    report = bring(pristine)
    assert report.code == 0
    (title,) = report.only("bundle-import")["forgotten"]
    assert title.startswith(SMALL)
    assert {each["repository"] for each in run("list", "--json", "-C", far).kinds("snapshot")} == {
        LARGE
    }
