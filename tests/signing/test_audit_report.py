"""What an audit says of itself: its record in the journal, a statement for others, or nothing at all."""

from __future__ import annotations

import json
import math

import pytest
from blake3 import blake3
from kit.disks import read_only
from kit.faults import overwrite
from signingkit import minisign

from archiver import __version__
from archiver.archive.archive import Archive


def audited(root):
    return [one for _, one in Archive.open(root).events() if one.event == "audited"]


def place(root):
    return json.loads((root / "place.json").read_bytes())["place"]


def tree(root):
    """Every file and folder: what it is, when it was last written to, and what it holds."""
    found = {}
    for path in sorted([root, *root.rglob("*")]):
        info = path.lstat()
        data = path.read_bytes() if path.is_file() else b""
        found[path] = info.st_mode, info.st_mtime_ns, info.st_ctime_ns, info.st_ino, data
    return found


@pytest.fixture
def audit(run, weights):
    def call(*args):
        return run("audit", "-C", weights.root, *args)

    return call


@pytest.fixture
def report(audit, tmp_path):
    """Audit with a report; the exit code and the document."""

    def call(*args):
        file = tmp_path / "report.json"
        code = audit("--report", file, *args).code
        return code, json.loads(file.read_bytes())

    return call


def damage(weights):
    pack = next(weights.root.glob("packs/*/*.pack"))
    data = bytearray(pack.read_bytes())
    data[40] ^= 1
    overwrite(pack, bytes(data))
    return pack


# ---- the record


def test_the_record_holds_what_was_proven(audit, sign, key, weights):
    assert sign().code == 0
    archive = Archive.open(weights.root)
    (head,) = archive.journal.heads()
    public = key.with_suffix(".pub")
    text = public.read_text().splitlines()[1]
    assert audit("--key", public, "--head", head, "--level", "files").code == 0
    (*_, event) = audited(weights.root)
    told = event.fields
    assert (told["level"], told["heads"], told["keys"], told["complete"]) == (
        "files",
        [head],
        [text],
        True,
    )
    assert (told["place"], event.tool) == (place(weights.root), f"archiver {__version__}")
    assert (event.repository, event.revision) == ("", "")
    runs = {each.fields["run"] for each in audited(weights.root)}
    assert len(runs) == 1, "the parts of one audit are known as such"
    assert not {"sample", "limits"} & set(told)
    assert audit("--snapshot", "Org/one", "--max-bytes", "1GB", "--max-age", "30d").code == 0
    (*_, event) = audited(weights.root)
    assert event.repository == "Org/one"
    assert event.fields["limits"] == {"bytes": 10**9, "age": 30 * 86400}
    assert event.fields["run"] not in runs


def test_a_sample_can_be_drawn_again_by_anybody(audit, weights):
    packs = sorted(path.stem for path in weights.root.glob("packs/*/*.pack"))
    seeds = {}
    for number in range(12):
        seed = f"lottery {number}"
        assert audit("--sample", "40%", "--seed", seed).code == 0
        (*_, event) = audited(weights.root)
        assert event.fields["sample"] == {"share": "0.4", "seed": seed}
        lots = sorted(packs, key=lambda one: blake3(f"{seed}\n{one}".encode()).hexdigest())
        drawn = lots[: math.ceil(len(packs) * 0.4)]
        assert sorted(event.fields["packs"]) == sorted(drawn)
        assert event.fields["complete"] is (len(drawn) == len(packs))
        seeds[seed] = drawn[0]
    assert set(seeds.values()) == set(packs), "another seed draws another part"
    result = audit("--sample", "40%")
    assert (
        result.kinds("audit")[0]["sample"]["seed"]
        == audited(weights.root)[-1].fields["sample"]["seed"]
    )


@pytest.mark.parametrize(
    "args",
    [
        ("--seed", "x"),
        ("--sample", "5%", "--seed", ""),
        ("--sample", "5%", "--seed", "\x1b"),
        ("--sign", "x.key"),
        ("--level", "smoke", "--report", "x"),
        ("--level", "smoke", "--read-only"),
    ],
)
def test_options_that_do_not_go_together(audit, args):
    assert audit(*args).code == 2


# ---- nothing at all


@pytest.mark.parametrize("level", ["structure", "stored", "content", "files"])
def test_read_only_writes_nothing(audit, sign, weights, level):
    assert sign().code == 0
    (weights.root / "place.json").unlink()
    before = tree(weights.root)
    result = audit("--read-only", "--level", level)
    assert (result.code, result.kinds("audit")[0]["journalled"]) == (0, False)
    assert tree(weights.root) == before
    assert "cannot be written" not in result.err
    damage(weights)
    before = tree(weights.root)
    assert audit("--read-only", "--level", "content", "--sample", "100%").code == 20
    assert tree(weights.root) == before


def test_read_only_leaves_a_catalogue_in_use_alone(audit, weights):
    """A log beside the index is a sign of a run that goes on, or was killed."""
    index = weights.root / "catalogue.sqlite"
    for suffix in ("-wal", "-shm", "-lock"):
        weights.root.joinpath(index.name + suffix).unlink(missing_ok=True)
    before = tree(weights.root)
    assert audit("--read-only").code == 0
    assert tree(weights.root) == before
    index.write_bytes(b"\x13" * 5000)
    before = tree(weights.root)
    result = audit("--read-only")
    assert [finding["code"] for finding in result.kinds("finding")] == ["catalogue-damaged"]
    assert tree(weights.root) == before


def test_read_only_on_a_medium_that_is(audit, weights, tmp_path):
    file = tmp_path / "report.json"
    with read_only(weights.root):
        before = tree(weights.root)
        assert audit("--read-only", "--report", file).code == 0
        assert tree(weights.root) == before
    assert json.loads(file.read_bytes())["outcome"] == "intact"


# ---- the statement


def test_a_statement_says_all_and_can_be_signed(audit, sign, weights, key, tmp_path):
    assert sign().code == 0
    archive = Archive.open(weights.root)
    (head,) = archive.journal.heads()
    file, public = tmp_path / "report.json", key.with_suffix(".pub")
    args = ("--report", file, "--sign", key, "--head", head, "--key", public)
    result = audit("--level", "files", *args)
    assert result.code == 0
    assert result.kinds("audit")[0]["report"] == str(file)
    data = file.read_bytes()
    told = json.loads(data)
    assert (
        json.dumps(told, sort_keys=True, separators=(",", ":"), ensure_ascii=False) == data.decode()
    )
    assert (told["kind"], told["format"], told["outcome"]) == ("audit-report", 1, "intact")
    assert (told["archive"], told["place"]["id"]) == (archive.info.archive, place(weights.root))
    assert (told["level"], told["repository"], told["tool"]) == (
        "files",
        "",
        f"archiver {__version__}",
    )
    assert told["started"] <= told["ended"]
    assert (told["heads_checked"], told["keys"]) == ([head], [public.read_text().splitlines()[1]])
    assert told["journal_heads"] == list(archive.journal.heads())
    assert (told["journalled"], told["run"]) == (True, audited(weights.root)[-1].fields["run"])
    assert {record["repository"]: record["files"] for record in told["snapshots"]} == {
        "Org/one": True,
        "Org/two": True,
    }
    assert told["packs"] == sorted(path.stem for path in weights.root.glob("packs/*/*.pack"))
    assert (told["counts"]["damage"], told["findings"]) == (0, [])
    verify = ("-V", "-p", public, "-m", file)
    assert minisign(*verify).returncode == 0
    file.write_bytes(data.replace(b"intact", b"damage"))
    assert minisign(*verify).returncode == 1


def test_damage_is_stated_as_well(report, weights):
    pack = damage(weights)
    code, told = report("--read-only")
    assert (code, told["outcome"], told["journalled"]) == (20, "damage", False)
    assert told["counts"]["damage"] == sum(not record["remark"] for record in told["findings"]) == 1
    assert "pack-damaged" in {record["code"] for record in told["findings"]}
    assert pack.stem not in told["packs"]


def test_what_was_not_done_is_no_success(report, weights):
    _, told = report("--sample", "10%", "--seed", "theirs")
    assert (told["outcome"], told["sample"]) == (
        "incomplete",
        {"seed": "theirs", "share": "0.1"},
    )
    assert told["counts"]["remaining"] == 1


def test_a_file_that_cannot_be_is_told_before_anything_is_read(audit, weights, tmp_path):
    there = tmp_path / "there.json"
    there.write_text("mine")
    (tmp_path / "signed.json.minisig").write_text("mine")
    (tmp_path / "link").symlink_to(weights.root)
    for file in (
        there,
        tmp_path / "no" / "folder.json",
        weights.root / "report.json",
        tmp_path / "link" / "tmp" / "report.json",
    ):
        result = audit("--report", file)
        assert (result.code, result.kinds("audit")) == (2, []), file
    assert there.read_text() == "mine"
    assert not audited(weights.root)


def test_a_signature_that_is_there_is_not_replaced(audit, key, tmp_path):
    (tmp_path / "signed.json.minisig").write_text("mine")
    result = audit("--report", tmp_path / "signed.json", "--sign", key)
    assert result.code == 2
    assert not (tmp_path / "signed.json").exists()
    assert (tmp_path / "signed.json.minisig").read_text() == "mine"
