"""Receipts and golden records: kept in the journal or a file, compared with, copied, signed, hostile."""

from __future__ import annotations

import json
import subprocess

import numpy as np
import pytest
from kit.journal import raw_event
from safetensors.numpy import load_file, save_file
from smokecli import BERT, receipts

from archiver.archive.archive import Archive
from archiver.archive.events import TOOL
from archiver.archive.findings import Finding
from archiver.archive.journal import EVENT_MAX
from archiver.archive.records import canonical
from archiver.cli.main import invoke
from archiver.smoke import receipt
from archiver.smoke.golden.record import parse_golden
from archiver.smoke.receipt import newest_golden
from archiver.smoke.report import LevelReport, SmokeReport

ARGUMENTS = ("smoke-test", "-C")


@pytest.fixture(scope="module")
def recorded(stocked, model_zygote, tmp_path_factory):
    """An archive with a golden record of the small model."""
    from smokecli import Command, replica

    root = replica(stocked, tmp_path_factory.mktemp("recorded") / "weights")
    ended = Command(model_zygote).json(*ARGUMENTS, root, BERT, "--record")
    assert ended.code == 0, ended
    assert ended.whole["recorded"] == ["journal"]
    return root


@pytest.fixture
def golden(recorded, tmp_path):
    from smokecli import replica

    return replica(recorded, tmp_path / "golden")


def test_a_record_is_compared_with_from_then_on(smoke, golden):
    (receipt,) = receipts(golden)
    assert len(canonical(receipt)) < EVENT_MAX
    assert parse_golden(receipt.fields["golden"]).inputs
    ended = smoke.json(*ARGUMENTS, golden, BERT)
    assert ended.code == 0, ended
    assert ended.verdicts["golden"] == "held"
    assert receipts(golden)[-1].fields["dtype"] == ended.whole["dtype"] == "bfloat16"
    (snapshot,) = Archive.open(golden).snapshots_of(BERT)
    assert ended.whole["golden"] == newest_golden(Archive.open(golden), snapshot).event
    assert "golden" not in receipts(golden)[-1].fields


@pytest.mark.parametrize("chosen", [(), ("--snapshot", BERT)])
def test_a_record_travels_with_copies(smoke, golden, tmp_path, chosen):
    target = tmp_path / "copy"
    assert invoke(["init", "-q", "-C", str(target)]) == 0
    assert invoke(["copy", "-q", "-C", str(golden), str(target), *chosen]) == 0
    ended = smoke.json(*ARGUMENTS, target, BERT, "--level", "golden")
    assert ended.code == 0, ended
    assert ended.verdicts["golden"] == "held"
    # Told anew once, however often it is copied.
    assert invoke(["copy", "-q", "-C", str(golden), str(target), *chosen]) == 0
    assert sum("golden" in one.fields for one in receipts(target)) == 1


def test_a_receipt_is_signed_and_survives_what_maintains_an_archive(golden, tmp_path, capfd):
    key = tmp_path / "mine"
    assert invoke(["keys", "new", "-q", str(key), "--no-password"]) == 0
    run = ["-q", "-C", str(golden)]
    assert invoke(["sign", *run, "--key", f"{key}.key"]) == 0
    heads = {name for name, _ in Archive.open(golden).events()}
    signed = {path.name.split(".")[0] for path in golden.glob("signatures/*/*.minisig")}
    assert heads & signed
    assert invoke(["audit", *run, "--key", f"{key}.pub"]) == 0
    assert invoke(["catalogue", "rebuild", *run]) == 0
    assert invoke(["repair", *run, "--no-upstream"]) == 0
    assert invoke(["status", *run]) == 0
    (receipt,) = receipts(golden)
    assert receipt.fields["golden"]


def test_the_stock_program_verifies_a_signed_receipt(golden, tmp_path):
    """Once all else is signed, the newest event is what is signed."""
    key, sign = tmp_path / "mine", ["sign", "-q", "-C", str(golden), "--key"]
    assert invoke(["keys", "new", "-q", str(key), "--no-password"]) == 0
    assert invoke([*sign, f"{key}.key"]) == 0
    name = Archive.open(golden).record(receipts(golden)[0])
    assert invoke([*sign, f"{key}.key"]) == 0
    (event,) = golden.glob(f"journal/*/*/*.{name}.json")
    (signature,) = golden.glob(f"signatures/*/{name}.*.minisig")
    words = ["minisign", "-V", "-p", f"{key}.pub", "-m", event, "-x", signature]
    done = subprocess.run(words, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_record_that_nobody_can_use_counts_for_nothing(smoke, golden):
    archive = Archive.open(golden)
    (snapshot,) = archive.snapshots_of(BERT)
    good = newest_golden(archive, snapshot)
    for number, bad in enumerate((None, [], {}, "x", {"version": 1}, {"version": 2}, [[]], 7)):
        detail = {"snapshot": snapshot.id, "golden": bad, "levels": {}}
        time = f"2030-01-01T00:00:0{number}Z"
        archive.record(raw_event("smoke-tested", time, TOOL, detail=detail))
        detail |= {"levels": bad, "manifest": bad}
        archive.record(raw_event("smoke-tested", time, TOOL, detail=detail))
    known = newest_golden(archive, snapshot)
    assert (known.golden, known.event) == (good.golden, good.event)
    assert len(known.remarks) == 8
    ended = smoke.json(*ARGUMENTS, golden, BERT)
    assert (ended.code, ended.verdicts["golden"]) == (0, "held")
    assert "remark: The golden record in event" in ended.err


def test_events_that_cannot_be_read_are_told_of(golden):
    archive = Archive.open(golden)
    (snapshot,) = archive.snapshots_of(BERT)
    assert newest_golden(archive, snapshot).remarks == ()
    event = golden / archive.journal.names()[-1]
    event.chmod(0o644)
    event.write_bytes(b"{}")
    # A process that has read an event whole keeps it.
    (remark,) = newest_golden(Archive.open(golden), snapshot).remarks
    assert remark.startswith("1 event of the journal cannot be read")


def test_a_snapshot_that_was_sealed_anew_finds_the_record(golden):
    archive = Archive.open(golden)
    (snapshot,) = archive.snapshots_of(BERT)
    other = snapshot._replace(id="0" * 64)
    assert newest_golden(archive, other).golden == newest_golden(archive, snapshot).golden
    (alien,) = archive.snapshots_of("me/dense")
    assert newest_golden(archive, alien).golden is None


def test_the_newest_record_counts_also_after_a_clock_that_ran_ahead(smoke, golden):
    archive = Archive.open(golden)
    (snapshot,) = archive.snapshots_of(BERT)
    (first,) = receipts(golden)
    detail = first.fields | {"golden": first.fields["golden"] | {"environment": {"ahead": 1}}}
    archive.record(raw_event("smoke-tested", "2999-01-01T00:00:00Z", TOOL, detail=detail))
    assert smoke(*ARGUMENTS, golden, BERT, "--record").code == 0
    newest = newest_golden(Archive.open(golden), snapshot)
    assert newest.golden is not None
    assert "ahead" not in newest.golden.environment
    assert newest.event == [name for name, _ in Archive.open(golden).events()][-1]


def test_a_file_for_folders_and_other_machines(smoke, models, copy_of, tmp_path, stocked):
    file = tmp_path / "bert.json"
    folder = models("minilm")
    ended = smoke.json("smoke-test", folder, "--record", "--golden", file)
    assert ended.code == 0, ended
    assert ended.whole["recorded"] == [str(file)]
    assert parse_golden(json.loads(file.read_text()))
    again = smoke("smoke-test", folder, "--record", "--golden", file)
    assert again.code == 2
    assert "is there already" in again.err
    assert not again.out  # no level ran
    spoilt = copy_of("minilm")
    (weights,) = spoilt.glob("*.safetensors")
    tensors = load_file(weights)
    one, two = ("encoder.layer.0.output.dense.weight", "encoder.layer.1.output.dense.weight")
    tensors[one], tensors[two] = np.array(tensors[two]), np.array(tensors[one])
    save_file(tensors, weights, {"format": "pt"})
    ended = smoke.json("smoke-test", spoilt, "--golden", file)
    assert ended.code == 25, ended
    assert ended.verdicts["forward"] == "held"
    assert ended.verdicts["golden"] == "failed"
    assert {one["code"] for one in ended.kinds("finding")} == {"model-golden"}
    assert ended.whole["golden"] == str(file)


def test_nothing_is_recorded_of_a_model_that_does_not_hold(smoke, copy_of, tmp_path):
    folder, file = copy_of("minilm"), tmp_path / "none.json"
    words = (folder / "vocab.txt").read_text().replace("\nhouse\n", "\nhorse!\n")
    (folder / "vocab.txt").write_text(words)
    ended = smoke.json("smoke-test", folder, "--record", "--golden", file)
    assert (ended.code, ended.verdicts["golden"], ended.whole["recorded"]) == (25, "held", [])
    assert not file.exists()


def test_what_a_receipt_keeps_of_texts_is_bounded():
    assert receipt._bounded({"threads": 2, "cpu": "x" * 9000}) == {"threads": 2, "cpu": "x" * 500}
    assert receipt._bounded({str(one): "x" * 400 for one in range(100)}) == {}
    finding = Finding("model-load", "a\udc80" + "b" * 9000)
    noted = receipt._noted(finding)
    assert noted.message.startswith("a\\udc80bbb")
    assert len(noted.message) < 600


def test_what_failed_is_kept_before_what_is_accepted_and_before_remarks(stocked):
    unused = [Finding("model-tensor-unused", str(at)) for at in range(60)]
    accepted = [Finding("model-mtp", str(at), accepted=True) for at in range(20)]
    failed = [Finding("model-index", str(at)) for at in range(20)]
    level = LevelReport("structure", "failed", 0.0, findings=(*unused, *accepted, *failed))
    archive = Archive.open(stocked)
    (snapshot,) = archive.snapshots_of(BERT)
    made = receipt.receipt(archive, snapshot, SmokeReport("", (level,)), receipt.Run("", "", ""))
    kept = made.fields["findings"]
    codes = ["model-index"] * 20 + ["model-mtp"] * 20 + ["model-tensor-unused"] * 10
    assert [one["code"] for one in kept] == codes
    assert [one.get("accepted") for one in kept] == [None] * 20 + [True] * 20 + [None] * 10
    assert [one["message"] for one in kept[:20]] == [str(at) for at in range(20)]


@pytest.mark.parametrize("data", [b"", b"[", b"{}", b'{"version": 1}', b"\xff", b"[" * 5000])
def test_a_file_that_holds_no_record(smoke, models, tmp_path, data):
    file = tmp_path / "bad.json"
    file.write_bytes(data)
    ended = smoke("smoke-test", models("minilm"), "--golden", file)
    assert ended.code == 2
    assert str(file) in ended.err


def test_an_archive_that_cannot_be_written_to(smoke, golden, tmp_path):
    for path in [golden, *golden.rglob("*")]:
        if not path.is_symlink():
            path.chmod(path.stat().st_mode & ~0o222)
    before = len(receipts(golden))
    try:
        ended = smoke(*ARGUMENTS, golden, BERT, powerless=True)
        assert ended.code == 0, ended
        assert "not in the archive's journal" in ended.err
        lost = smoke(*ARGUMENTS, golden, BERT, "--record", powerless=True)
        assert lost.code == 1
        assert "--golden" in lost.err
        file = tmp_path / "kept.json"
        kept = smoke.json(*ARGUMENTS, golden, BERT, "--record", "--golden", file, powerless=True)
        assert kept.code == 0, kept
        assert kept.whole["recorded"] == [str(file)]
    finally:
        for path in [golden, *golden.rglob("*")]:
            if path.is_dir():
                path.chmod(0o755)
    assert len(receipts(golden)) == before
