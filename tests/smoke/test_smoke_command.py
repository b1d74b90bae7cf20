"""``archiver smoke-test`` as a user meets it: what it says, what it leaves behind, how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from kit.archive import as_older
from smokecli import BERT, DENSE, INT4, PART, receipts

from archiver.archive.archive import Archive
from archiver.operations.smoke_test import next_due

LEVELS = ("structure", "tokenizer", "load", "forward", "generate", "golden")
LIBRARIES = ("torch", "transformers", "accelerate", "tokenizers")


def first_pack(root: Path) -> Path:
    return max(root.glob("packs/*/*.pack"), key=lambda path: path.stat().st_size)


def test_a_model_that_runs_straight_from_the_archive(smoke, weights):
    ended = smoke("smoke-test", "-C", weights, DENSE)
    assert ended.code == 0, ended
    lines = ended.out.splitlines()
    marked = [line.split(":")[0] for line in lines if line.startswith("✓ ")]
    assert marked == [f"✓ {level}" for level in LEVELS[:-1]]
    assert lines[-1].startswith(f"It runs: {DENSE}@")
    (receipt,) = receipts(weights)
    (snapshot,) = Archive.open(weights).snapshots_of(DENSE)
    (event,) = (name for name, one in Archive.open(weights).events() if one == receipt)
    assert lines[-2].startswith("With torch ")
    assert f"event {event[:16]} " in lines[-2]
    shown = smoke("show", "-C", weights, DENSE).out.splitlines()[-1]
    assert shown.startswith(f"smoke test  {receipt.time}, torch ")
    assert "forward held, generate held" in shown
    assert (receipt.repository, receipt.revision) == (DENSE, snapshot.seal.revision)
    detail = receipt.fields
    assert detail["snapshot"] == snapshot.id
    assert detail["manifest"] == snapshot.seal.manifest.blake3
    assert detail["levels"] == dict.fromkeys(LEVELS[:-1], "held")
    assert (detail["read"], detail["dtype"]) == ("archive", "bfloat16")
    assert (detail["device"], detail["mode"]) == ("cpu", "resident")
    assert isinstance(detail["seconds"], int)
    assert detail["environment"]
    assert "golden" not in detail


def test_what_json_says_of_a_folder(smoke, models, tmp_path):
    ended = smoke.json("smoke-test", "-C", tmp_path, models("dense"), "--dtype", "float32")
    assert ended.code == 0, ended
    assert ended.verdicts == dict.fromkeys(LEVELS[:-1], "held")
    assert {"kind", "level", "verdict", "seconds", "proved", "facts"} <= set(
        ended.kinds("level")[0]
    )
    whole = ended.whole
    assert whole["held"]
    assert whole["exit_code"] == 0
    assert whole["title"] == str(models("dense"))
    assert [one["level"] for one in whole["levels"]] == list(LEVELS[:-1])
    assert (whole["dtype"], whole["mode"], whole["event"]) == ("float32", "resident", "")
    assert whole["fit"]
    assert whole["environment"]
    assert json.loads(ended.out.splitlines()[-1])["kind"] == "smoke-test"
    assert all(line in ended.err for line in whole["fit"])


def test_an_embedding_model_has_nothing_to_generate(smoke, weights):
    ended = smoke.json("smoke-test", "-C", weights, BERT)
    assert ended.code == 0, ended
    assert ended.verdicts["generate"] == "inapplicable"
    assert ended.verdicts["forward"] == "held"


def test_a_model_larger_than_the_memory_it_may_use(smoke, weights):
    ended = smoke.json("smoke-test", "-C", weights, DENSE, "--memory", "1MB")
    assert ended.code == 4
    assert ended.verdicts["load"] == "skipped"
    assert receipts(weights)[-1].fields["levels"]["load"] == "skipped"


def test_level_and_all(smoke, weights):
    ended = smoke.json("smoke-test", "-C", weights, DENSE, "--level", "structure")
    assert (ended.code, ended.verdicts) == (0, {"structure": "held"})
    assert (
        smoke("smoke-test", "-C", weights, DENSE, "--level", "structure")
        .out.splitlines()[-1]
        .startswith("It is sound: ")
    )
    ended = smoke("smoke-test", "-C", weights, BERT, "--level", "load")
    assert ended.out.splitlines()[-1].startswith("It loads: ")
    ended = smoke.json("smoke-test", "-C", weights, DENSE, "--all")
    assert ended.code == 4
    assert ended.verdicts == dict.fromkeys(LEVELS[:-1], "held") | {"golden": "skipped"}


def test_a_model_that_lacks_a_tensor(smoke, copy_of):
    from safetensors.numpy import load_file, save_file

    folder = copy_of("minilm")
    (file,) = folder.glob("*.safetensors")
    tensors = load_file(file)
    del tensors["encoder.layer.0.output.dense.weight"]
    save_file(tensors, file, {"format": "pt"})
    ended = smoke("smoke-test", folder)
    assert ended.code == 25, ended
    assert "model-tensor-missing" in ended.out
    assert "encoder.layer.0.output.dense.weight" in ended.out
    assert ended.out.splitlines()[-1].startswith(f"DOES NOT HOLD: {folder}: level structure failed")
    told = smoke.json("smoke-test", folder, "--level", "structure")
    assert told.code == 25
    assert "model-tensor-missing" in {one["code"] for one in told.kinds("finding")}
    assert (told.whole["held"], told.whole["exit_code"]) == (False, 25)


def test_a_kind_of_weights_that_no_library_here_loads(smoke, weights):
    ended = smoke("smoke-test", "-C", weights, INT4)
    assert ended.code == 4, ended
    assert "awq" in ended.out
    assert ended.out.splitlines()[-1].startswith(f"NOT SHOWN: {INT4}@")
    assert receipts(weights)[-1].fields["levels"]["load"] == "skipped"


def test_a_repository_that_wants_its_own_code_to_be_run(smoke, copy_of):
    folder = copy_of("minilm")
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoModel": "modeling_mine.Mine"}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "modeling_mine.py").write_text("raise SystemExit(99)\n")
    ended = smoke.json("smoke-test", folder)
    assert ended.code == 4, ended
    assert "auto_map" in json.dumps(ended.kinds("level")), ended.out


def test_without_the_extra_the_headers_are_still_looked_at(smoke, weights):
    ended = smoke("smoke-test", "-C", weights, DENSE, without=LIBRARIES)
    assert ended.code == 4, ended
    assert "-m pip install '" in ended.out
    assert "'archiver[" not in ended.out
    assert ended.out.splitlines()[-1].startswith(f"NOT SHOWN: {DENSE}@")
    levels = receipts(weights)[-1].fields["levels"]
    assert levels["structure"] == "held"
    assert set(levels.values()) == {"held", "skipped"}


def test_the_child_starts_without_the_extra():
    # The other tests' commands are forked from a process that has imported the libraries already.
    hidden = f"import sys; sys.modules |= dict.fromkeys({LIBRARIES}); import archiver.smoke.worker"
    ended = subprocess.run(
        [sys.executable, "-c", hidden], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr


def test_damage_of_the_archive_is_not_blamed_on_the_model(smoke, weights):
    pack = first_pack(weights)
    data = bytearray(pack.read_bytes())
    data[len(data) // 3 : len(data) // 3 + 4096] = bytes(4096)
    pack.unlink()
    pack.write_bytes(data)
    codes = {name: smoke("smoke-test", "-C", weights, name) for name in (DENSE, BERT)}
    hit = [ended for ended in codes.values() if ended.code == 20]
    assert hit, codes
    assert "archiver repair" in hit[0].err
    for receipt in receipts(weights):
        levels = receipt.fields["levels"]
        assert set(levels) == set(LEVELS[:-1])
        assert levels["structure"] == "held"  # what was shown before the damage was met
        assert "failed" not in levels.values()
        assert ("skipped" in levels.values()) is (codes[receipt.repository].code == 20)
        assert not receipt.fields["findings"]
    assert len(receipts(weights)) == 2


def test_a_damaged_manifest_keeps_no_other_snapshot_from_its_turn(smoke, weights):
    as_older(weights, DENSE)  # else its packs have the manifest too
    (snapshot,) = Archive.open(weights).snapshots_of(DENSE)
    (manifest,) = weights.glob(f"manifests/**/*{snapshot.seal.manifest.blake3}*")
    manifest.chmod(0o644)
    manifest.write_bytes(b"damaged")
    assert smoke("audit", "-C", weights, "--level", "smoke").code == 20
    (receipt,) = receipts(weights)
    assert receipt.repository == DENSE
    assert receipt.fields["levels"] == dict.fromkeys(LEVELS[:-1], "skipped")
    assert receipt.fields["environment"]
    assert next_due(Archive.open(weights), None, None, None).seal.repository != DENSE
    for words in (["--level", "structure"], ["--golden", "/nowhere/at.json"]):
        smoke("smoke-test", "-C", weights, DENSE, *words)
    assert receipts(weights)[-1].fields["levels"] == {"structure": "skipped"}
    assert len(receipts(weights)) == 2


def test_a_name_that_is_also_a_folder(weights, tmp_path, monkeypatch):
    from archiver.cli import smoke_test

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(smoke_test, "open_archive", lambda **_: Archive.open(weights))
    for name in (DENSE, "me/other"):
        Path(name).mkdir(parents=True)
    held = smoke_test._held(DENSE, ())
    assert held is not None
    assert held[1].seal.repository == DENSE
    assert smoke_test._held(BERT, ()) is not None
    folders = (f"./{DENSE}", "me/other", str(tmp_path / DENSE), ".", "..", "~/me")
    assert [smoke_test._held(name, ()) for name in folders] == [None] * 6
    (seal,) = weights.glob("snapshots/me/dense/*.json")
    seal.chmod(0o644)
    seal.write_bytes(b"{}")
    lost = smoke_test._held(DENSE, ())  # by its manifest: the folder does not stand in for it
    assert lost is not None
    assert not lost[1].sealed


def test_a_folder_that_is_an_archive(smoke, stocked):
    for words in ([stocked], ["-C", stocked, f"{stocked}/"]):
        ended = smoke("smoke-test", *words)
        assert ended.code == 2, ended
        assert "is an archive, not a model" in ended.err
        assert f"smoke-test -C {stocked} REPO'" in ended.err


def test_a_name_that_is_neither_is_told_as_both(smoke, stocked, tmp_path):
    for place, name, code in (
        (stocked, "models/typo", 2),
        (stocked, "one/two/three", 2),
        (tmp_path, "models/typo", 10),
    ):
        ended = smoke("smoke-test", "-C", place, name)
        assert ended.code == code, ended
        assert f"There is no folder {name} either." in ended.err


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["me/none"], 2, "not in the archive"),
        (["./none"], 2, "is not a folder"),
        ([PART], 2, "holds chosen files only"),
        ([DENSE, "--all", "--level", "load"], 2, "--all"),
        ([DENSE, "--record", "--level", "load"], 2, "--record"),
        ([DENSE, "--golden", "/nowhere/at.json"], 2, "/nowhere/at.json"),
        ([DENSE, "--golden", "at.json", "--level", "load"], 2, "ends before it"),
        ([DENSE, "--golden", "/nowhere/at.json", "--record"], 2, "There is no folder for"),
        ([""], 2, "is not REPO"),
        ([DENSE, "--memory", "lots"], 2, "lots"),
        ([DENSE, "--level", "deep"], 2, "deep"),
        ([], 2, "Missing argument"),
    ],
)
def test_what_cannot_be_meant(smoke, stocked, words, code, said):
    ended = smoke("smoke-test", "-C", stocked, *words)
    assert ended.code == code, ended
    assert said in ended.err
    assert not ended.out


def test_a_folder_that_may_not_be_written_to_is_told_before_anything_runs(smoke, models, tmp_path):
    tmp_path.chmod(0o555)
    words = ("--record", "--golden", tmp_path / "bert.json")
    ended = smoke("smoke-test", models("minilm"), *words, powerless=True)
    assert (ended.code, ended.out) == (1, "")
    assert f"{tmp_path} may not be written to" in ended.err


def test_folders_that_hold_no_model(smoke, tmp_path):
    (tmp_path / "empty").mkdir()
    assert smoke("smoke-test", tmp_path / "empty").code == 2
    assert smoke("smoke-test", "-C", tmp_path / "none", "me/model").code == 10
    (tmp_path / "pickles").mkdir()
    (tmp_path / "pickles/pytorch_model.bin").write_bytes(b"\x80\x04.")
    (tmp_path / "pickles/config.json").write_text('{"model_type": "bert"}')
    ended = smoke.json("smoke-test", tmp_path / "pickles", "--level", "load")
    assert (ended.code, ended.verdicts["structure"], ended.verdicts["load"]) == (
        4,
        "skipped",
        "skipped",
    )
    ended = smoke("smoke-test", tmp_path / "empty", "--record")
    assert ended.code == 2
    assert "--golden" in ended.err


def test_an_interrupted_test_leaves_nothing(model_zygote, weights, tmp_path, monkeypatch):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    child = model_zygote.start("smoke-test", "-C", weights, DENSE)
    until = time.monotonic() + 600
    while not any(scratch.glob("*/*")) and time.monotonic() < until:
        time.sleep(0.01)
    os.kill(child.pid, signal.SIGINT)
    ended = child.wait()
    assert ended.code == 130, ended
    assert "Traceback" not in ended.err
    assert not any(scratch.iterdir())
    assert not receipts(weights)
