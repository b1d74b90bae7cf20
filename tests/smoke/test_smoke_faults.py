"""Ten faults of a model, through the command: each is caught by its level, and those before hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from spoil import edited, spoilt

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import smokekit
    from smokecli import Command

    Spoil = Callable[[Path], None]

LAYER = "model.language_model.layers.3"
DOWN = f"{LAYER}.mlp.down_proj.weight"
SCALE = f"{DOWN}_scale_inv"


def _removed(*starts: str) -> Spoil:
    def spoil(folder: Path) -> None:
        with spoilt(folder) as weights:
            weights.remove(*(name for name in weights.names if name.startswith(starts)))

    return spoil


def _reshaped(name: str, *shape: int) -> Spoil:
    def spoil(folder: Path) -> None:
        with spoilt(folder) as weights:
            weights.reshape(name, *shape)

    return spoil


def _wrong_dtype(folder: Path) -> None:
    with spoilt(folder) as weights:
        weights.retype(DOWN, "F16")


def _two_experts_swapped(folder: Path) -> None:
    with spoilt(folder) as weights:
        for part in ("gate_up_proj", "down_proj"):
            name = f"{LAYER}.mlp.experts.{part}"
            data, size = weights[name].data, len(weights[name].data) // weights[name].shape[0]
            swapped = data[size : 2 * size] + data[:size] + data[2 * size :]
            weights[name] = weights[name]._replace(data=swapped)


def _one_merged_token(folder: Path) -> None:
    """Another spelling of a token that no fixed text needs."""
    with edited(folder / "tokenizer.json") as file:
        vocab, merges = file["model"]["vocab"], file["model"]["merges"]
        merged = list(vocab)[500]
        vocab[f"{merged}\u0120"] = vocab.pop(merged)
        merges[:] = [pair for pair in merges if merged not in {*pair, "".join(pair)}]


def _failing_template(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text("{{ raise_exception('no more') }}")


def _missing_shard(folder: Path) -> None:
    next(folder.glob("*-00002-of-00003.safetensors")).unlink()


TO_LOAD, TO_TOKENIZER = ("--level", "load"), ("--level", "tokenizer")
AT_STRUCTURE = {"structure": "failed", "tokenizer": "held", "load": "skipped"}
AT_TOKENIZER = {"structure": "held", "tokenizer": "failed"}
FAULTS: list[Any] = [
    pytest.param("dense", spoil, TO_LOAD, AT_STRUCTURE, code, id=fault)
    for fault, spoil, code in (
        ("a tensor is missing", _removed(DOWN), "model-tensor-missing"),
        ("a shape is wrong", _reshaped(DOWN.replace(".3.", ".1."), 128, 383), "model-tensor-shape"),
        ("all of mtp is gone", _removed("mtp."), "model-mtp"),
        ("a dtype is wrong", _wrong_dtype, "model-tensor-dtype"),
    )
]
FAULTS += [
    pytest.param("dense-fp8", spoil, TO_LOAD, AT_STRUCTURE, "model-scale", id=fault)
    for fault, spoil in (
        ("a scale is missing", _removed(SCALE)),
        ("a grid of scales is wrong", _reshaped(SCALE, 1, 2)),
    )
]
FAULTS += [
    pytest.param("moe", _missing_shard, TO_LOAD, AT_STRUCTURE, "model-index", id="a shard is gone"),
    pytest.param(
        "dense", _one_merged_token, TO_TOKENIZER, AT_TOKENIZER, "model-tokenizer", id="a token"
    ),
    pytest.param(
        "dense", _failing_template, TO_TOKENIZER, AT_TOKENIZER, "model-chat-template", id="template"
    ),
]


@pytest.mark.parametrize(("name", "spoil", "words", "verdicts", "code"), FAULTS)
def test_a_fault_is_caught_by_its_level(
    smoke: Command,
    copy_of: smokekit.Copies,
    name: str,
    spoil: Spoil,
    words: tuple[str, ...],
    verdicts: dict[str, str],
    code: str,
):
    folder = copy_of(name)
    spoil(folder)
    ended = smoke.json("smoke-test", folder, *words)
    assert ended.code == 25, ended
    assert ended.verdicts == verdicts
    (level,) = (one for one in ended.whole["levels"] if one["verdict"] == "failed")
    codes = {one["code"] for one in level["findings"]}
    # nothing can be told of the tensors of a shard that is not there but that they are missing
    assert codes == {code} or (spoil is _missing_shard and code in codes)


def test_two_experts_in_each_other_s_place_are_caught_by_golden_alone(
    smoke: Command, models: smokekit.Models, copy_of: smokekit.Copies, tmp_path: Path
):
    record, folder = tmp_path / "record.json", copy_of("moe")
    made = smoke.json("smoke-test", models("moe"), "--record", "--golden", record)
    assert made.code == 0, made
    _two_experts_swapped(folder)
    ended = smoke.json("smoke-test", folder, "--golden", record)
    assert ended.code == 25, ended
    before = ("structure", "tokenizer", "load", "forward", "generate")
    assert ended.verdicts == dict.fromkeys(before, "held") | {"golden": "failed"}
    assert {one["code"] for one in ended.whole["levels"][-1]["findings"]} == {"model-golden"}
