from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from levelkit import TO_GENERATE, climb, plain, stream
from spoil import edited

from archiver.smoke.model import Answer, Model, Outcome, Reads
from archiver.smoke.passes.generate import first_token_fault
from archiver.smoke.passes.inputs import text_inputs

if TYPE_CHECKING:
    from pathlib import Path

    import smokekit


def _greedily(folder: Path, inputs: dict[str, Any], count: int) -> list[int]:
    """The tokens that plain passes rank first, one after the other; no cache, no ``generate``."""
    import torch

    module, ids = plain(folder, "bfloat16"), inputs["input_ids"]
    with torch.no_grad():
        for _ in range(count):
            best = module(input_ids=ids, use_cache=False).logits[:, -1:].argmax(-1)
            ids = torch.cat([ids, best], dim=1)
    return ids[0, -count:].tolist()


@pytest.mark.parametrize("name", ["dense", "moe", "dense-fp8"])
def test_tokens_are_those_of_plain_passes(models: smokekit.Models, name: str):
    done = climb(models(name), TO_GENERATE)
    assert done.report.held, done.report
    expected = _greedily(models(name), text_inputs(done.session), 8)
    assert done["generate"].facts["ids"] == expected
    shown = done.session.tokenizer.decode(expected)
    assert done["generate"].facts["text"] == shown
    assert shown in done["generate"].proved[0]


def test_neither_an_end_token_nor_a_taste_for_chance_counts(copy_of: smokekit.Copies):
    folder = copy_of("text")
    before = climb(folder, TO_GENERATE)["generate"].facts["ids"]
    with edited(folder / "generation_config.json") as settings:
        settings |= {
            "eos_token_id": before[0],
            "forced_eos_token_id": 3,
            "max_length": 5,
            "num_beams": 4,
            "repetition_penalty": 9.0,
            "suppress_tokens": before,
            "temperature": 1e-4,
        }
    done = climb(folder, TO_GENERATE)
    assert done.report.held, done.report
    assert done["generate"].facts["ids"] == before
    assert done.session.model.module.generation_config.repetition_penalty == 9.0


def test_control_characters_are_not_shown(models: smokekit.Models, monkeypatch):
    from transformers import PreTrainedTokenizerBase

    monkeypatch.setattr(PreTrainedTokenizerBase, "decode", lambda *_, **__: "\x1b[2J")
    done = climb(models("text"), TO_GENERATE)
    assert "\x1b" not in json.dumps(done["generate"].proved, ensure_ascii=False)


@pytest.mark.parametrize("factor", [2, 1.02])
def test_a_cache_that_forgets_is_found(
    models: smokekit.Models, monkeypatch: pytest.MonkeyPatch, factor: float
):
    from transformers.cache_utils import DynamicLayer

    keep = DynamicLayer.update

    def forget(self: Any, keys: Any, values: Any, *rest: Any, **more: Any) -> Any:
        keys, values = keep(self, keys, values, *rest, **more)
        return (keys, values) if self.keys.shape[-2] < 50 else (keys, values * factor)

    monkeypatch.setattr(DynamicLayer, "update", forget)
    done = climb(models("text"), TO_GENERATE, dtype="float32")
    assert {one.code for one in done.wrong} == {"model-generate"}
    assert "Generated token 3" in done.wrong[0].message or "token 3 " in done.wrong[0].message


def test_a_first_token_that_the_plain_pass_does_not_rank_first_is_found(
    models: smokekit.Models, monkeypatch: pytest.MonkeyPatch
):
    from transformers.generation import GenerationMixin

    real = GenerationMixin.generate

    def other(self: Any, input_ids: Any, **options: Any) -> Any:
        options["attention_mask"] = None
        return real(self, input_ids + 1, **options)

    monkeypatch.setattr(GenerationMixin, "generate", other)
    done = climb(models("text"), TO_GENERATE)
    assert "Generated token 1 is" in done.wrong[0].message
    assert done.wrong[0].code == "model-generate"


def test_what_the_library_raises_is_told(models: smokekit.Models, monkeypatch: pytest.MonkeyPatch):
    from transformers.generation import GenerationMixin

    def refuse(*_: Any, **__: Any) -> None:
        raise ValueError("no such\x1b thing\nin detail")

    monkeypatch.setattr(GenerationMixin, "generate", refuse)
    (finding,) = climb(models("text"), TO_GENERATE).wrong
    assert finding.code == "model-generate"
    assert finding.message == r"Generating failed: ValueError: no such\x1b thing in detail."


def _nan(made: Any) -> None:
    made.logits[3][0, 7] = float("nan")


def _other_last_token(made: Any) -> None:
    made.sequences[0, -1] = made.logits[-1][0].argmin()


@pytest.mark.parametrize(
    ("spoil", "said"), [(_nan, "are not usable"), (_other_last_token, "Generated token 8 is")]
)
def test_what_was_not_generated_by_its_logits_is_found(
    models: smokekit.Models, monkeypatch: pytest.MonkeyPatch, spoil: Any, said: str
):
    from transformers.generation import GenerationMixin

    real = GenerationMixin.generate

    def generate(*given: Any, **options: Any) -> Any:
        made = real(*given, **options)
        spoil(made)
        return made

    monkeypatch.setattr(GenerationMixin, "generate", generate)
    (finding,) = climb(models("text"), TO_GENERATE).wrong
    assert said in finding.message


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("CUDA out of memory. Tried")])
def test_too_little_memory_says_nothing_of_the_model(
    models: smokekit.Models, monkeypatch: pytest.MonkeyPatch, error: Exception
):
    from transformers.generation import GenerationMixin

    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(GenerationMixin, "generate", fail)
    done = climb(models("text"), TO_GENERATE)
    assert done.verdicts["generate"] == "skipped"
    assert "--memory" in done["generate"].hint


def test_a_streamed_model_makes_the_same_tokens_but_fewer(
    models: smokekit.Models, monkeypatch: pytest.MonkeyPatch
):
    before = climb(models("text-moe"), TO_GENERATE)["generate"].facts["ids"]
    stream(monkeypatch)
    done = climb(models("text-moe"), TO_GENERATE)
    assert done.report.held, done.report
    assert done["generate"].facts["ids"] == before[:4]
    assert "the others were not compared" in done["generate"].proved[1]


def test_nothing_is_generated_with_a_model_that_was_not_tried(models: smokekit.Models):
    done = climb(models("text"), ("tokenizer", "generate"))
    assert done.verdicts["generate"] == "skipped"
    assert climb(models("text"), ("tokenizer", "forward")).verdicts["forward"] == "skipped"


@pytest.fixture(scope="module")
def adds_a_token(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose class gives itself a dummy token when it generates, and only then."""
    import torch
    from transformers import XLNetConfig, XLNetLMHeadModel

    folder = tmp_path_factory.mktemp("xlnet") / "model"
    torch.manual_seed(0)
    sizes = {"vocab_size": 300, "d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 64}
    model = XLNetLMHeadModel(XLNetConfig(**sizes))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
    model.save_pretrained(folder)
    return folder


def test_a_class_that_adds_ids_is_compared_with_itself(adds_a_token: Path):
    done = climb(adds_a_token, ("load", "forward", "generate"), dtype="float32")
    assert done.report.held, done.report
    (remark,) = done["generate"].findings
    assert remark.code == "model-not-tried"
    assert "use_cache=False" in remark.message
    assert len(done["generate"].proved) == 1


def test_a_class_that_adds_ids_may_forget_too(adds_a_token: Path, monkeypatch: pytest.MonkeyPatch):
    from transformers.generation import GenerationMixin

    real = GenerationMixin.generate

    def generate(*given: Any, **options: Any) -> Any:
        made = real(*given, **options)
        if options["generation_config"].use_cache:
            made.logits[3][0, 7] += 1
        return made

    monkeypatch.setattr(GenerationMixin, "generate", generate)
    done = climb(adds_a_token, ("load", "forward", "generate"), dtype="float32")
    assert {one.code for one in done.wrong} == {"model-generate"}
    assert "token 4 " in done.wrong[0].message


@pytest.mark.parametrize(("ties", "wrong"), [((), 1), (((0, 3, 1, 2),), 0)])
def test_where_the_choice_of_an_expert_hangs_on_rounding_another_token_may_come_first(ties, wrong):
    tail = np.zeros((1, 100), np.float32)
    tail[0, :50], tail[0, 7], tail[0, 8] = 1.0, 2.1, 2.0
    plain = Answer(
        name="text",
        ids=(1,),
        decoder_ids=(),
        output="logits",
        shape=(1, 100),
        tail=tail,
        nll=np.zeros(0, np.float32),
        wrong=(),
        origin="",
        pixels="",
        ties=ties,
    )
    model = Model(None, "cpu", "float32", "streamed", Reads(set()))
    assert not first_token_fault(Outcome((plain,)), 7, model)
    assert len(first_token_fault(Outcome((plain,)), 8, model)) == wrong
    assert len(first_token_fault(Outcome((plain,)), 60, model)) == 1
