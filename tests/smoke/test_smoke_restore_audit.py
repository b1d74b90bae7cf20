"""``restore --smoke-test`` runs what it wrote; ``audit --level smoke`` takes the one whose turn it is."""

from __future__ import annotations

import json

import pytest
from kit.journal import raw_event
from smokecli import BERT, DENSE, INT4, PART, put, receipts

from archiver.archive.archive import Archive
from archiver.archive.events import TOOL
from archiver.archive.places import own_place
from archiver.cli.main import invoke
from archiver.operations.smoke_test import next_due
from archiver.smoke.report import up_to

RUN = dict.fromkeys(up_to("generate"), "held")


def noted(root, name, time, levels=RUN, **more):
    """Note a test of a snapshot that has that time."""
    archive = Archive.open(root)
    (snapshot,) = archive.snapshots_of(name)
    detail = {"snapshot": snapshot.id, "levels": levels, "place": own_place(archive).key, **more}
    archive.record(raw_event("smoke-tested", time, TOOL, detail=detail))


def due(root, age=None, name=None):
    found = next_due(Archive.open(root), name, None, age)
    return found.seal.repository if found else None


# ---- whose turn it is


def test_never_tested_comes_first_by_name_then_the_oldest_test(weights):
    order = []
    for day in range(1, 4):
        order.append(due(weights))
        noted(weights, order[-1], f"2026-01-0{day}T00:00:00Z")
    assert order == [DENSE, INT4, BERT]
    assert due(weights) == DENSE
    assert due(weights, name=PART) == PART


def test_one_that_fails_keeps_none_from_its_turn(weights):
    for day, name in enumerate((DENSE, INT4, BERT), 1):
        bad = RUN | {"load": "skipped"} if name == DENSE else RUN
        noted(weights, name, f"2026-01-0{day}T00:00:00Z", bad)
    assert due(weights) == DENSE
    noted(weights, DENSE, "2026-01-05T00:00:00Z", RUN | {"load": "failed"})
    assert due(weights) == INT4


def test_with_an_age_what_held_lately_has_no_turn(weights):
    from archiver.text import utc_before

    for name in (DENSE, INT4, BERT):
        noted(weights, name, utc_before(3600))
    assert due(weights, age=1800) is not None
    assert due(weights, age=7200) is None
    noted(weights, INT4, utc_before(600), RUN | {"load": "failed"})
    assert due(weights, age=7200) == INT4


@pytest.mark.parametrize(
    "detail",
    [
        {"place": "another"},
        {"levels": {"structure": "held"}},
        {"levels": []},
        {"levels": None},
        {"snapshot": ["x"], "manifest": {}},
    ],
)
def test_receipts_that_say_nothing_of_the_whole_model_here(weights, detail):
    noted(weights, DENSE, "2026-01-01T00:00:00Z", **{"levels": RUN} | detail)
    assert due(weights) == DENSE


def test_a_clock_that_ran_ahead_keeps_none_from_its_turn(weights):
    noted(weights, DENSE, "2999-01-01T00:00:00Z")
    assert due(weights) == DENSE


def test_an_empty_archive_has_nothing_due(tmp_path, capfd):
    assert invoke(["init", "-q", "-C", str(tmp_path / "new")]) == 0
    capfd.readouterr()
    assert invoke(["audit", "-C", str(tmp_path / "new"), "--level", "smoke"]) == 0
    assert capfd.readouterr().out == "Nothing was due: no whole snapshot is held.\n"


# ---- the commands


def test_an_audit_runs_the_model_whose_turn_it_is(smoke, weights):
    from archiver.text import utc_before

    for name in (DENSE, INT4):
        noted(weights, name, utc_before(60))
    ended = smoke.json("audit", "-C", weights, "--level", "smoke", "--max-age", "30d")
    assert ended.code == 0, ended
    assert ended.whole["title"].startswith(f"{BERT}@")
    assert receipts(weights)[-1].repository == BERT
    turn = json.loads(ended.out.splitlines()[0])
    assert (turn["kind"], turn["repository"]) == ("turn", BERT)
    assert turn["snapshot"] == receipts(weights)[-1].fields["snapshot"]
    ended = smoke("audit", "-C", weights, "--level", "smoke", "--max-age", "30d")
    assert (ended.code, ended.out[:16]) == (0, "Nothing was due:")
    ended = smoke("audit", "-C", weights, "--level", "smoke", "--snapshot", INT4)
    assert ended.code == 4
    assert ended.out.startswith(f"It is the turn of {INT4}@")
    assert ended.out.splitlines()[-1].startswith(f"NOT SHOWN: {INT4}@")


@pytest.mark.parametrize(
    "words",
    [
        ["--max-bytes", "1GB"],
        ["--sample", "5%"],
        ["--max-duration", "1h"],
        ["--head", "f" * 64],
        ["--key", "x"],
    ],
)
def test_what_does_not_go_with_that_level(stocked, capfd, words):
    assert invoke(["audit", "-C", str(stocked), "--level", "smoke", *words]) == 2
    assert "--max-age" in capfd.readouterr().err


def test_no_policy_may_want_it(weights):
    assert invoke(["policy", "set", "-q", "-C", str(weights), "--audit-level", "smoke"]) == 2


@pytest.mark.parametrize("layout", ["plain", "hf-cache"])
def test_what_was_restored_is_run(smoke, weights, tmp_path, layout):
    out = tmp_path / "out"
    words = ("restore", "-C", weights, BERT, out, "--smoke-test", "--layout", layout)
    ended = smoke.json(*words)
    assert ended.code == 0, ended
    assert ended.kinds("restore")
    assert ended.whole["title"].startswith(str(out))
    receipt = receipts(weights)[-1]
    assert (receipt.repository, receipt.fields["read"]) == (BERT, "folder")
    assert receipt.fields["levels"]["forward"] == "held"


def test_other_files_beside_what_was_restored_are_not_the_model(smoke, weights, models, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "model.safetensors").write_bytes((models("minilm") / "model.safetensors").read_bytes())
    ended = smoke.json("restore", "-C", weights, DENSE, out, "--smoke-test")
    assert ended.code == 0, ended
    assert receipts(weights)[-1].fields["levels"] == RUN
    assert smoke("smoke-test", out, "--level", "structure").code == 25  # of the folder it is true


def test_chosen_files_that_were_restored_are_no_model(smoke, weights, tmp_path):
    ended = smoke("restore", "-C", weights, PART, tmp_path / "out", "--smoke-test")
    assert ended.code == 2, ended
    assert "holds chosen files only" in ended.err
    assert (tmp_path / "out/config.json").exists()
    assert not receipts(weights)


def test_what_was_restored_does_not_hold(smoke, weights, copy_of, tmp_path):
    from safetensors.numpy import load_file, save_file

    folder = copy_of("minilm")
    (file,) = folder.glob("*.safetensors")
    tensors = load_file(file)
    del tensors["encoder.layer.0.output.dense.weight"]
    save_file(tensors, file, {"format": "pt"})
    put(weights, folder, "me/spoilt")
    out = tmp_path / "out"
    ended = smoke("restore", "-C", weights, "me/spoilt", out, "--smoke-test")
    assert ended.code == 25, ended
    assert (out / file.name).exists()
    assert receipts(weights)[-1].fields["findings"][0]["code"] == "model-tensor-missing"


@pytest.mark.parametrize(
    "words",
    [("audit", "--level", "smoke", "--snapshot", DENSE), ("restore", DENSE, "out", "--smoke-test")],
)
def test_both_take_a_budget(smoke, weights, tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    words = [str(tmp_path / word) if word == "out" else word for word in words]
    ended = smoke(*words, "-C", weights, "--memory", "1MB")
    assert ended.code == 4, ended
    assert "1.00 MB of memory are too little even to stream this model" in ended.out


@pytest.mark.parametrize("words", [["--file", "*.json"], ["--tensor", "x"]])
def test_a_part_is_no_model_to_run(stocked, tmp_path, capfd, words):
    out = tmp_path / "out"
    assert invoke(["restore", "-C", str(stocked), BERT, str(out), "--smoke-test", *words]) == 2
    assert "--smoke-test" in capfd.readouterr().err
    assert not out.exists()
