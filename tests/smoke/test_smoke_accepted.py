"""What the policy accepts of a model is told and fails no level; nothing else is let through."""

from __future__ import annotations

import pytest
from kit.journal import raw_event
from levelkit import climb
from smokecli import BERT, DENSE, put, receipts
from spoil import INDEX, edited, spoilt

from archiver.archive.archive import Archive
from archiver.archive.events import TOOL
from archiver.archive.findings import Finding
from archiver.cli.main import invoke
from archiver.smoke import worker
from archiver.smoke.report import LEVELS, Proof, up_to

TUNED = "me/tuned"
DOWN = "model.language_model.layers.3.mlp.down_proj.weight"
HELD = dict.fromkeys(up_to("generate"), "held")
LATER = "2990-01-01T00:00:00Z"


@pytest.fixture
def tuned(weights, copy_of):
    """An archive with a model that was trained further: no mtp tensors, and a wrong total."""
    folder = copy_of("dense")
    with spoilt(folder) as tensors:
        tensors.remove(*(name for name in tensors.names if name.startswith("mtp.")))
    with edited(folder / INDEX) as index:
        index["metadata"]["total_size"] += 2
    put(weights, folder, TUNED)
    return weights


def revision(root, name=TUNED):
    (snapshot,) = Archive.open(root).snapshots_of(name)
    return snapshot.seal.revision


def accept(root, *texts, option="--accept"):
    words = [word for text in texts for word in (option, text)]
    assert invoke(["policy", "set", "-q", "-C", str(root), *words]) == 0


def both(at=TUNED):
    return f"{at}:model-mtp", f"{at}:model-index"


def test_it_is_proposed_then_told_and_no_failure(smoke, tuned):
    ended = smoke("smoke-test", "-C", tuned, TUNED, "--level", "structure")
    assert ended.code == 25, ended
    at = f"{TUNED}@{revision(tuned)[:12]}"
    assert (
        f"--accept {at}:model-index --accept {at}:model-mtp' accepts it"
        in ended.out.splitlines()[-3]
    )
    accept(tuned, *both(at))
    ended = smoke("smoke-test", "-C", tuned, TUNED)
    assert ended.code == 0, ended
    assert (
        "    accepted by the policy: model-mtp  mtp.*: The config counts 1 MTP layer" in ended.out
    )
    assert f"    accepted by the policy: model-index  {INDEX}: Its total_size is" in ended.out
    last = ended.out.splitlines()[-1]
    assert last.startswith(f"It runs: {at}: structure, tokenizer, load, forward, generate held (")
    assert last.endswith("; accepted by the policy: model-index, model-mtp.")
    assert "\n→" not in ended.out
    detail = receipts(tuned)[-1].fields
    assert detail["levels"] == HELD
    assert [(one["code"], one["accepted"]) for one in detail["findings"]] == [
        ("model-index", True),
        ("model-mtp", True),
    ]
    shown = smoke("show", "-C", tuned, TUNED).out.splitlines()[-1]
    assert shown.endswith("; accepted by the policy: model-index, model-mtp")
    (shown,) = smoke.json("show", "-C", tuned, TUNED).kinds("snapshot")
    assert shown["smoke_test"]["accepted"] == ["model-index", "model-mtp"]
    accept(tuned, f"{at}:model-mtp", option="--reject")
    ended = smoke.json("smoke-test", "-C", tuned, TUNED, "--level", "structure")
    assert (ended.code, ended.verdicts) == (25, {"structure": "failed"})
    findings = {one["code"]: one for one in ended.kinds("finding")}
    assert "accepted" not in findings["model-mtp"]
    assert findings["model-mtp"]["remark"] is False
    assert findings["model-index"]["accepted"] is findings["model-index"]["remark"] is True
    noted = {one["code"]: one for one in receipts(tuned)[-1].fields["findings"]}
    assert "accepted" not in noted["model-mtp"]


def test_audit_and_restore_accept_it_too(smoke, tuned, tmp_path):
    accept(tuned, *both("ME/Tuned"))
    words = ("--level", "smoke", "--snapshot", TUNED)
    ended = smoke.json("audit", "-C", tuned, *words)
    assert (ended.code, ended.verdicts) == (0, HELD), ended
    ended = smoke.json("restore", "-C", tuned, TUNED, tmp_path / "out", "--smoke-test")
    assert (ended.code, ended.verdicts) == (0, HELD), ended
    assert receipts(tuned)[-1].fields["findings"][0]["accepted"] is True
    shown = smoke("show", "-C", tuned, TUNED).out.splitlines()[-1]
    assert ", of a restored folder: structure held" in shown
    ended = smoke.json("smoke-test", "-C", tuned, tmp_path / "out", "--level", "structure")
    assert ended.code == 25  # a folder is of no archive


@pytest.mark.parametrize(
    "texts",
    [
        ("me/dense:model-mtp", "me/dense:model-index"),
        ("me/tuned@0000000:model-mtp", "me/tuned@0000000:model-index"),
        ("me/tuned:model-mtp",),
        ("me/tuned:model-tensor-missing", "me/tuned:model-tokenizer"),
    ],
)
def test_nothing_else_is_accepted(smoke, tuned, texts):
    accept(tuned, *texts)
    ended = smoke.json("smoke-test", "-C", tuned, TUNED, "--level", "structure")
    assert (ended.code, ended.verdicts) == (25, {"structure": "failed"})


def test_to_accept_does_not_make_a_model_run(smoke, weights, copy_of):
    folder = copy_of("dense")
    with spoilt(folder) as tensors:
        tensors.remove(DOWN)
    put(weights, folder, TUNED)
    ended = smoke.json("smoke-test", "-C", weights, TUNED, "--level", "structure")
    assert (ended.code, ended.whole["advice"]) == (25, "")
    accept(weights, f"{TUNED}:model-tensor-missing")
    ended = smoke.json("smoke-test", "-C", weights, TUNED)
    assert ended.code == 25, ended
    assert (ended.verdicts["structure"], ended.verdicts["load"]) == ("held", "failed")
    assert "a level that cannot go on fails all the same" in ended.whole["advice"]
    assert "--accept" not in ended.whole["advice"]


def test_a_tokenizer_that_cannot_be_used_fails_all_the_same(smoke, weights, copy_of):
    folder = copy_of("dense")
    (folder / "tokenizer.json").write_text("[]")
    put(weights, folder, TUNED)
    accept(weights, f"{TUNED}:model-tokenizer")
    ended = smoke.json("smoke-test", "-C", weights, TUNED, "--level", "tokenizer")
    assert (ended.code, ended.verdicts["tokenizer"]) == (25, "failed"), ended


def test_other_numbers_than_the_golden_ones_are_never_accepted(smoke, models, weights, copy_of):
    """Also where a journal says so that somebody wrote by hand."""
    file = weights.parent / "golden.json"
    assert smoke("smoke-test", models("minilm"), "--record", "--golden", file).code == 0
    folder = copy_of("minilm")
    with spoilt(folder) as tensors:
        one, two = (f"encoder.layer.{at}.output.dense.weight" for at in range(2))
        tensors[one], tensors[two] = tensors[two], tensors[one]
    put(weights, folder, TUNED)
    said = [{"repository": TUNED, "revision": "", "code": "model-golden"}]
    Archive.open(weights).record(raw_event("policy", LATER, TOOL, detail={"accepted": said}))
    ended = smoke.json("smoke-test", "-C", weights, TUNED, "--golden", file)
    assert (ended.code, ended.verdicts["golden"]) == (25, "failed"), ended


def test_a_policy_that_cannot_be_read_accepts_nothing_and_stops_no_test(smoke, tuned):
    accept(tuned, *both())
    detail = {"accepted": "all of it"}
    Archive.open(tuned).record(raw_event("policy", LATER, TOOL, detail=detail))
    ended = smoke.json("smoke-test", "-C", tuned, TUNED, "--level", "structure")
    assert ended.code == 25, ended
    assert "cannot be read" in ended.err
    assert "nothing is accepted" in ended.err
    assert smoke("smoke-test", "-C", tuned, BERT, "--level", "structure").code == 0


@pytest.mark.parametrize("level", LEVELS)
def test_only_what_the_files_show_is_accepted(level, monkeypatch, models):
    """Whatever a level that runs the model might find under such a code."""
    found = Proof(("all else",), (Finding("model-tensor-dtype", "Wrong."),), {"fact": 1})
    monkeypatch.setitem(worker._CHECKS, level, lambda _: found)
    accepted = frozenset({"model-tensor-dtype"})
    (told,) = climb(models("minilm"), (level,), accepted=accepted).report.levels
    of_files = level in ("structure", "tokenizer")
    assert told.verdict == ("held" if of_files else "failed")
    assert [one.accepted for one in told.findings] == [of_files]
    assert (told.proved, told.facts) == (found.proved, found.facts)


def test_what_is_accepted_and_not_found_is_not_told(smoke, weights):
    accept(weights, f"{DENSE}:model-mtp")
    ended = smoke("smoke-test", "-C", weights, DENSE, "--level", "structure")
    assert ended.code == 0, ended
    assert "accepted" not in ended.out + ended.err
