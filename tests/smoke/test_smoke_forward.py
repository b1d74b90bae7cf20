from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from levelkit import TO_FORWARD, TO_GENERATE, climb, plain, stream
from spoil import spoilt

from archiver.digest import blake3_hex
from archiver.smoke.passes.answer import digest_of_pixels, ieee_float32
from archiver.smoke.passes.forward import faults_of
from archiver.smoke.passes.inputs import image_inputs, text_inputs

if TYPE_CHECKING:
    from pathlib import Path

    import smokekit
    from levelkit import Climb

DOWN = "model.language_model.layers.1.mlp.down_proj.weight"
MERGER = "model.visual.merger.linear_fc2"
NAN = b"\xc0\x7f"  # in BF16


@pytest.mark.parametrize("name", ["dense", "moe"])
def test_logits_and_losses_are_those_of_transformers_alone(models: smokekit.Models, name: str):
    import torch

    done = climb(models(name), TO_FORWARD)
    assert done.report.held, done.report
    module = plain(models(name), "bfloat16")
    for kind, inputs in (
        ("text", text_inputs(done.session)),
        ("image", image_inputs(done.session)),
    ):
        with torch.no_grad():
            logits = module(**inputs).logits[0].float()
        answer = done.session.outcome.of(kind)
        assert np.array_equal(answer.tail, logits[-16:].numpy())
        losses = -logits.log_softmax(-1)[:-1].gather(1, inputs["input_ids"][0, 1:, None])[:, 0]
        assert answer.nll == pytest.approx(losses.numpy(), abs=1e-5)
        assert done["forward"].facts[kind]["loss"] == f"{answer.nll.mean(dtype=float):.6f}"
        assert len(done["forward"].facts[kind]["losses"]) == len(losses)
    assert any("picture depend" in line for line in done["forward"].proved)


def test_a_model_that_only_reads_is_asked_no_picture(models: smokekit.Models):
    done = climb(models("text"), TO_FORWARD)
    assert done.report.held, done.report
    assert [one.name for one in done.session.outcome.answers] == ["text"]


def test_an_answer_of_the_wrong_shape_or_without_a_finite_loss_is_a_fault(models: smokekit.Models):
    done = climb(models("text"), TO_FORWARD)
    model, answer = done.session.model, done.session.outcome.of("text")
    assert faults_of(answer, model) == []
    (fault,) = faults_of(replace(answer, shape=(48, 2047)), model)
    assert "48 x 2047 numbers, not 48 x 2048" in fault.message
    (fault,) = faults_of(replace(answer, nll=np.float32([1, np.inf])), model)
    assert "loss of the fixed text is not finite" in fault.message
    assert not any(part._forward_hooks for part in model.module.modules())


def test_a_picture_s_digest_is_that_of_the_bytes_that_the_record_describes():
    import torch

    values = [[-1.0, 0.0, 1.0], [-1.3, 0.501, 1.2]]
    levels = bytes(min(255, max(0, round(127.5 * one + 127.5))) for row in values for one in row)
    given = {"input_ids": torch.tensor([1]), "pixel_values": torch.tensor(values)}
    assert digest_of_pixels(given) == blake3_hex(levels)
    assert digest_of_pixels({"input_ids": torch.tensor([1])}) == ""


def test_products_are_in_whole_32_bit_floats_for_the_time_being():
    from torch import backends

    places = (backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn)
    before = [place.fp32_precision for place in places]
    with suppress(KeyError), ieee_float32():
        during = [place.fp32_precision for place in places]
        raise KeyError
    assert during == ["ieee"] * 3
    assert [place.fp32_precision for place in places] == before != ["ieee"] * 3


def test_sentences_are_embedded_as_transformers_does_alone(models: smokekit.Models):
    import torch

    done = climb(models("minilm"), TO_GENERATE)
    assert done.report.held, done.report
    assert done.verdicts["generate"] == "inapplicable"
    module = plain(models("minilm"), "bfloat16")
    answers = done.session.outcome.answers
    assert len(answers) == 8
    for answer in answers:
        ids = torch.tensor([answer.ids])
        with torch.no_grad():
            hidden = module(input_ids=ids).last_hidden_state
        assert np.array_equal(answer.tail, hidden.float().mean(dim=1).numpy())
    assert "7 fixed sentences" in " ".join(done["forward"].proved)
    first = done.session.tokenizer("What colour is the sky on a clear day?")["input_ids"]
    assert answers[1].ids == tuple(first)


def test_numbers_that_are_none_are_found_with_their_source(copy_of: smokekit.Copies):
    folder = copy_of("dense")
    with spoilt(folder) as weights:
        weights[DOWN] = weights[DOWN]._replace(data=NAN + weights[DOWN].data[2:])
    done = climb(folder, TO_GENERATE)
    (text, image) = done.wrong
    assert text.code == image.code == "model-output"
    assert "not finite at 48 of 48 positions, first at position 0" in text.message
    assert "from model.language_model.layers.1.mlp.down_proj" in text.message
    assert "picture" in image.message
    assert done.verdicts["generate"] == "skipped"


def test_a_vision_tower_that_tells_nothing_is_found(copy_of: smokekit.Copies):
    folder = copy_of("dense")
    with spoilt(folder) as weights:
        for name in (f"{MERGER}.weight", f"{MERGER}.bias"):
            weights[name] = weights[name]._replace(data=bytes(len(weights[name].data)))
    (finding,) = climb(folder, TO_FORWARD).wrong
    assert finding.code == "model-output"
    assert "makes no difference" in finding.message


def test_a_picture_that_cannot_be_tried_is_a_remark(copy_of: smokekit.Copies):
    folder = copy_of("dense")
    (folder / "preprocessor_config.json").unlink()
    done = climb(folder, TO_FORWARD)
    assert done.report.held
    (remark,) = done.report.findings
    assert remark.code == "model-not-tried"
    assert "preprocessor_config.json" in remark.message


def test_a_streamed_model_gives_the_same_and_says_what_was_read(
    models: smokekit.Models, monkeypatch: pytest.MonkeyPatch
):
    resident = climb(models("moe"), TO_FORWARD).session.outcome
    stream(monkeypatch)
    done = climb(models("moe"), TO_FORWARD)
    assert done.report.held, done.report
    for before, after in zip(resident.answers, done.session.outcome.answers, strict=True):
        assert np.array_equal(before.tail, after.tail)
        assert np.array_equal(before.nll, after.nll)
    said = done["forward"].proved[-1]
    assert said.endswith("of 4.64 MB of weights; digests cover the rest")
    assert f"read {len(done.session.model.reads.tensors)} of 146 tensors" in said


def test_an_encoder_with_a_decoder_runs_and_generates(tmp_path: Path):
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(
        vocab_size=300, d_model=16, d_kv=4, d_ff=32, num_layers=2, num_heads=4,
        decoder_start_token_id=0, pad_token_id=0, eos_token_id=1, dtype="bfloat16",
    )  # fmt: skip
    T5ForConditionalGeneration(config).bfloat16().save_pretrained(tmp_path / "t5")
    done = climb(tmp_path / "t5", TO_GENERATE)
    assert not done.wrong, done.report
    assert (done.verdicts["tokenizer"], done.verdicts["generate"]) == ("inapplicable", "held")
    answer = done.session.outcome.of("text")
    assert answer.decoder_ids[1:] == answer.ids[:-1]
    assert answer.shape == (len(answer.ids), 300)
    assert answer.loss > 0


def test_an_output_of_another_kind_is_not_judged(
    models: smokekit.Models, monkeypatch: pytest.MonkeyPatch
):
    from transformers import BertModel
    from transformers.utils import ModelOutput

    monkeypatch.setattr(BertModel, "forward", lambda *_, input_ids, **__: ModelOutput(a=input_ids))
    done = climb(models("minilm"), TO_FORWARD)
    assert done.verdicts["forward"] == "skipped"
    assert "neither logits nor hidden states" in done["forward"].reason


POOLER = ("pooler.dense.weight", "pooler.dense.bias")


def test_an_encoder_whose_pooler_was_not_kept_gives_the_same_embeddings(
    copy_of: smokekit.Copies, models: smokekit.Models, monkeypatch: pytest.MonkeyPatch
):
    before = climb(models("minilm"), TO_FORWARD).session.outcome
    folder = copy_of("minilm")
    with spoilt(folder, index=False) as weights:
        weights.remove(*POOLER)
    for done in (climb(folder), _streamed(folder, monkeypatch)):
        assert done.verdicts["forward"] == "held", done.report
        (remark,) = done["structure"].findings
        assert (remark.code, "pooler" in remark.message) == ("model-not-tried", True)
        assert done.session.model.module.pooler is None
        for one, other in zip(before.answers, done.session.outcome.answers, strict=True):
            assert np.array_equal(one.tail, other.tail)


def _streamed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Climb:
    stream(monkeypatch)
    return climb(folder)


def test_half_a_pooler_is_missing_all_the_same(copy_of: smokekit.Copies):
    folder = copy_of("minilm")
    with spoilt(folder, index=False) as weights:
        weights.remove(POOLER[0])
    (finding,) = climb(folder, ("structure",)).wrong
    assert (finding.code, finding.tensor) == ("model-tensor-missing", POOLER[0])
