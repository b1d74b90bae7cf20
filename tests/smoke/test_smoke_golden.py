from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
from levelkit import TO_GENERATE, TO_GOLDEN, climb, stream
from spoil import TEXT, edited, spoilt, swap_experts

from archiver.smoke.golden.compare import distance
from archiver.smoke.golden.record import unpacked
from archiver.smoke.passes import golden as golden_check

if TYPE_CHECKING:
    from collections.abc import Callable

    import smokekit
    from spoil import Weights

    from archiver.smoke.golden.record import Golden

A_LOG = f"{TEXT}.0.linear_attn.A_log"
ROUTER = f"{TEXT}.2.mlp.gate.weight"
Spoil = "Callable[[Weights], None]"


class Records:
    """Golden records of small models, each made once."""

    def __init__(self, models: smokekit.Models) -> None:
        self._models, self._made = models, dict[str, "Golden"]()

    def __call__(self, name: str) -> Golden:
        if name not in self._made:
            done = climb(self._models(name), TO_GOLDEN, record=True)
            assert done.report.held, done.report
            assert done.session.recorded is not None
            self._made[name] = done.session.recorded
        return self._made[name]


@pytest.fixture(scope="module")
def records(models: smokekit.Models) -> Records:
    return Records(models)


def _flip_an_exponent_bit(weights: Weights) -> None:
    name = f"{TEXT}.3.self_attn.o_proj.weight"
    values = np.frombuffer(weights[name].data, "<u2").copy()
    values[1000] ^= 1 << 9
    weights[name] = weights[name]._replace(data=values.tobytes())


def _raise_a_decay_by_a_hundredth(weights: Weights) -> None:
    values = np.frombuffer(weights[A_LOG].data, "<f4") * np.float32(1.01)
    weights[A_LOG] = weights[A_LOG]._replace(data=values.astype("<f4").tobytes())


def _swap_layers(weights: Weights) -> None:
    one, other = ROUTER, ROUTER.replace(".2.", ".1.")
    weights[one], weights[other] = weights[other], weights[one]


@pytest.mark.parametrize("name", ["dense", "moe", "moe-fp8", "minilm"])
def test_a_model_gives_its_recorded_numbers_with_other_threads(
    models: smokekit.Models, records: Records, name: str
):
    import torch

    golden = records(name)
    before = torch.get_num_threads()
    torch.set_num_threads(before + 2)
    try:
        done = climb(models(name), TO_GOLDEN, golden=golden)
    finally:
        torch.set_num_threads(before)
    assert done.report.held, done.report
    assert f"{len(golden.tokens)} fixed texts: the recorded ids" in done["golden"].proved
    for one in golden.inputs:
        assert float(done["golden"].facts[one.name]["last"]) < 5e-6
    assert "torch 2." in done["golden"].proved[-1]
    assert done.session.recorded is None


def test_a_record_holds_what_the_model_gave(models: smokekit.Models, records: Records):
    done = climb(models("dense"), ("tokenizer", "load", "forward"), dtype="float32")
    golden = records("dense")
    assert [one.name for one in golden.inputs] == ["text", "image"]
    for kept in golden.inputs:
        given = done.session.outcome.of(kept.name)
        assert kept.ids == given.ids
        assert np.allclose(unpacked(kept.last, 2048), given.tail[-1], rtol=1e-4, atol=1e-6)
        assert float(kept.loss) == pytest.approx(given.loss, abs=1e-5)
        assert unpacked(kept.nll, len(given.ids) - 1) == pytest.approx(given.nll, abs=1e-5)
        ids, logits = kept.ranked[-1]
        assert list(ids) == np.argsort(-unpacked(kept.last, 2048))[:20].tolist()
        assert unpacked(logits, 20)[0] == unpacked(kept.last, 2048).max()
    assert golden.inputs[1].pixels
    assert golden.environment["libraries"]["torch"].startswith("2.")
    assert golden.environment["threads"] >= 1


@pytest.mark.parametrize(
    "spoil", [swap_experts, _flip_an_exponent_bit, _raise_a_decay_by_a_hundredth, _swap_layers]
)
def test_what_only_numbers_tell_is_found(
    copy_of: smokekit.Copies, records: Records, spoil: Callable[[Weights], None]
):
    golden, folder = records("moe"), copy_of("moe")
    with spoilt(folder) as weights:
        spoil(weights)
    done = climb(folder, golden=golden)
    assert {one.level for one in done.report.levels if one.verdict != "held"} == {"golden"}
    assert {one.code for one in done.wrong} == {"model-golden"}
    assert "relative L2" in done.wrong[0].message
    assert "torch 2." in done.wrong[0].message


def test_streamed_numbers_are_the_recorded_ones(
    models: smokekit.Models, records: Records, monkeypatch: pytest.MonkeyPatch
):
    golden = records("moe")
    stream(monkeypatch)
    done = climb(models("moe"), TO_GOLDEN, golden=golden)
    assert done.report.held, done.report
    assert done.session.model.mode == "streamed"
    again = climb(models("moe"), TO_GOLDEN, record=True).session.recorded
    for one, other in zip(golden.inputs, again.inputs, strict=True):
        assert distance(unpacked(one.last, 2048), unpacked(other.last, 2048)) < 1e-6


def test_a_spoilt_embedding_model_is_found(copy_of: smokekit.Copies, records: Records):
    golden, folder = records("minilm"), copy_of("minilm")
    one, other = (f"encoder.layer.{layer}.output.dense.weight" for layer in (1, 4))
    with spoilt(folder) as weights:
        weights[one], weights[other] = weights[other], weights[one]
    done = climb(folder, TO_GOLDEN, golden=golden)
    assert len(done.wrong) == len(golden.inputs)
    assert "mean hidden state" in done.wrong[0].message


def test_other_ids_of_the_fixed_texts_are_found(copy_of: smokekit.Copies, records: Records):
    golden, folder = records("text"), copy_of("text")
    for name in ("tokenizer.json", "vocab.json"):
        with edited(folder / name) as content:
            vocab = content["model"]["vocab"] if name == "tokenizer.json" else content
            vocab["e"], vocab["t"] = vocab["t"], vocab["e"]
    done = climb(folder, golden=golden)
    assert {one.level for one in done.report.levels if one.verdict != "held"} == {"golden"}
    (finding,) = done.wrong
    assert "The tokenizer makes other ids of" in finding.message
    assert any(line.startswith("text: last logits within") for line in done["golden"].proved)


def test_a_picture_that_is_prepared_otherwise_is_found(copy_of: smokekit.Copies, records: Records):
    golden, folder = records("dense"), copy_of("dense")
    with edited(folder / "preprocessor_config.json") as settings:
        settings["image_mean"] = [0.4, 0.5, 0.5]
    (finding,) = climb(folder, TO_GOLDEN, golden=golden).wrong
    assert "picture is prepared otherwise" in finding.message


def test_a_record_of_another_model_is_not_met(models: smokekit.Models, records: Records):
    done = climb(models("minilm"), TO_GOLDEN, golden=records("dense"))
    assert "The recorded input image cannot be given to this model." in {
        one.message for one in done.wrong
    }
    done = climb(models("text"), TO_GOLDEN, golden=records("minilm"))
    assert all(one.code == "model-golden" for one in done.wrong)
    assert "cannot be given" in " ".join(one.message for one in done.wrong)
    golden = records("text")
    beyond = msgspec.structs.replace(golden.inputs[0], ids=(2048,) * 48)
    golden = msgspec.structs.replace(golden, inputs=(beyond,), tokens=())
    (finding,) = climb(models("text"), TO_GOLDEN, golden=golden).wrong
    assert "The recorded input text cannot be given to this model." in finding.message
    wider = msgspec.structs.replace(records("text").inputs[0], width=4096)
    golden = msgspec.structs.replace(golden, inputs=(wider,))
    (finding,) = climb(models("text"), TO_GOLDEN, golden=golden).wrong
    assert "The output for text has not the recorded shape." in finding.message


def test_without_a_record_the_level_is_skipped(models: smokekit.Models):
    done = climb(models("text"), ("golden",))
    assert done.verdicts == {"golden": "skipped"}
    assert "--record" in done["golden"].hint


def test_a_model_that_gives_no_numbers_is_neither_recorded_nor_compared(
    copy_of: smokekit.Copies, records: Records
):
    folder = copy_of("text")
    with spoilt(folder) as weights:
        data = np.full(
            len(weights[A_LOG.replace("model.language_model", "model")].data) // 4, np.nan
        )
        name = A_LOG.replace("model.language_model", "model")
        weights[name] = weights[name]._replace(data=data.astype("<f4").tobytes())
    done = climb(folder, TO_GOLDEN, record=True)
    assert done.session.recorded is None
    assert {one.code for one in done.wrong} == {"model-output"}
    done = climb(folder, TO_GOLDEN, golden=records("text"))
    assert {one.code for one in done.wrong} == {"model-output"}


def test_an_older_record_is_compared_before_a_new_one_is_made(
    models: smokekit.Models, records: Records, monkeypatch: pytest.MonkeyPatch
):
    build, before = golden_check.build_model, []

    def building(session: Any, dtype: Any) -> Any:
        before.append(session.model)
        return build(session, dtype)

    monkeypatch.setattr(golden_check, "build_model", building)
    done = climb(models("text"), TO_GOLDEN, golden=records("text"), record=True)
    assert done.report.held, done.report
    assert before[-1] is None  # the model in 16 bits was let go of first
    assert done.session.recorded is not None
    first, last = done["golden"].proved[0], done["golden"].proved[-1]
    assert first.endswith("the recorded ids")
    assert last.startswith("recorded: ")
    (old,), (new,) = records("text").inputs, done.session.recorded.inputs
    assert new.ids == old.ids
    assert distance(unpacked(old.last, 2048), unpacked(new.last, 2048)) < 1e-6


def test_of_a_model_that_cannot_be_loaded_no_numbers_are_asked(
    copy_of: smokekit.Copies, records: Records
):
    golden, folder = records("text"), copy_of("text")
    with spoilt(folder) as weights:
        weights.remove("model.norm.weight")
    done = climb(folder, golden=golden)
    assert done.verdicts["structure"] == "failed"
    assert done.verdicts["golden"] == "skipped"


def test_ids_that_cannot_be_compared_for_want_of_a_tokenizer_are_a_remark(
    models: smokekit.Models, records: Records
):
    done = climb(models("text"), ("load", "golden"), golden=records("text"))
    assert done.report.held, done.report
    (remark,) = done.report.findings
    assert (remark.code, remark.remark) == ("model-not-tried", True)
    assert "there is no tokenizer now" in remark.message


def test_generation_goes_on_with_the_model_that_golden_built(
    models: smokekit.Models, records: Records
):
    done = climb(models("text"), (*TO_GOLDEN, *TO_GENERATE[2:]), golden=records("text"))
    assert done.report.held, done.report
    assert done.session.model.dtype == "float32"
