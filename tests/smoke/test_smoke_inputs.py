"""What is fed to a model, and that a model takes it."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import tokenizerkit as kit
from blake3 import blake3

from archiver.demo.checkpoints import minilm_folder
from archiver.smoke.passes.image import fixed_image
from archiver.smoke.passes.inputs import (
    ids_inputs,
    image_inputs,
    text_ids,
    text_inputs,
    why_no_image,
)
from archiver.smoke.report import FailedError, InapplicableError
from archiver.smoke.tokenizer.check import check_tokenizer
from archiver.smoke.tokenizer.texts import FORWARD_TEXT

if TYPE_CHECKING:
    from pathlib import Path

    import smokekit

    from archiver.smoke.session import Session


@pytest.fixture
def session(models: smokekit.Models, tmp_path: Path) -> Session:
    """Of the dense model, its tokenizer loaded."""
    made = kit.session_of(models("dense"), tmp_path)
    check_tokenizer(made)
    return made


def test_the_fixed_image_is_never_changed():
    image = fixed_image()
    assert image.shape == (256, 256, 3)
    pinned = "3979b49df5bfa7bb254d4092cd0e4edd0aadd24310ed40ac24d03e552fb8725f"
    assert blake3(image.tobytes()).hexdigest() == pinned


def test_the_text_becomes_at_most_48_ids(session: Session):
    assert text_ids(session) == tuple(session.tokenizer(FORWARD_TEXT)["input_ids"][:48])
    inputs = text_inputs(session)
    assert {name: tuple(tensor.shape) for name, tensor in inputs.items()} == {
        "input_ids": (1, 48),
        "attention_mask": (1, 48),
    }


def test_without_a_tokenizer_the_ids_are_spread(session: Session):
    session.tokenizer = None
    ids = text_ids(session)
    assert ids == text_ids(session)
    assert len(set(ids)) == 24
    assert max(ids) > 1900
    assert min(ids) < 100
    session.config.raw["image_token_id"] = ids[0]
    assert ids[0] not in text_ids(session)


def test_ids_beyond_the_embedding_are_not_used(session: Session):
    for rows in (max(text_ids(session)), 100):
        session.config.text["vocab_size"] = rows
        assert len(text_ids(session)) == 24
        assert max(text_ids(session)) < rows


def test_a_model_without_a_vocabulary_takes_no_text(session: Session):
    del session.config.text["vocab_size"]
    with pytest.raises(InapplicableError, match="vocab_size"):
        text_inputs(session)


def _built(**settings: Any) -> Any:
    """Stands in for a model of another kind."""

    def forward(input_ids: Any, pixel_values: Any = None, decoder_input_ids: Any = None) -> None:
        raise NotImplementedError

    module = SimpleNamespace(config=SimpleNamespace(**settings), forward=forward, **settings)
    return SimpleNamespace(module=module)


def test_a_model_that_listens_takes_no_text(session: Session):
    session.model = _built(main_input_name="input_features")
    with pytest.raises(InapplicableError, match="input_features"):
        text_inputs(session)


def test_a_decoder_of_its_own_gets_the_ids_after_its_start(session: Session):
    session.config.raw.update(is_encoder_decoder=True, decoder_start_token_id=512)
    session.model = _built(is_encoder_decoder=True)
    inputs = ids_inputs([5, 6, 7], session)
    assert inputs.keys() == {"input_ids", "decoder_input_ids"}  # it takes no attention_mask
    assert inputs["decoder_input_ids"].tolist() == [[512, 5, 6]]


def test_the_image_counts(session: Session, models: smokekit.Models):
    import torch
    from transformers import Qwen3_5ForConditionalGeneration

    assert why_no_image(session) == ""
    inputs = image_inputs(session)
    assert inputs is not None
    model = Qwen3_5ForConditionalGeneration.from_pretrained(models("dense"), dtype=torch.float32)
    with torch.no_grad():
        before = model.eval()(**inputs).logits
        after = model(**inputs | {"pixel_values": -inputs["pixel_values"]}).logits
        assert model(**text_inputs(session)).logits.isfinite().all()
    ids = inputs["input_ids"][0].tolist()
    assert ids.count(524) == 64
    assert inputs["mm_token_type_ids"].sum() == 64
    assert before.isfinite().all()
    change = (before - after).abs().amax(dim=-1)[0]
    assert change[0] == 0
    assert change[1:].min() > 1e-3


def test_a_model_without_a_vision_tower_gets_no_image(tmp_path: Path):
    session = kit.session_of(minilm_folder(), tmp_path)
    assert image_inputs(session) is None
    assert why_no_image(session) == ""


def test_a_class_that_takes_no_picture_gets_none(session: Session):
    session.model = SimpleNamespace(module=SimpleNamespace(forward=lambda input_ids: None))
    assert image_inputs(session) is None


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"image_processor_type": "CLIPImageProcessor"}, "CLIPImageProcessor"),
        ({"image_processor_type": None}, "None"),
    ],
)
def test_other_processors_are_not_tried(
    copy_of: smokekit.Copies, tmp_path: Path, settings: dict[str, Any], words: str
):
    folder = copy_of("dense")
    kit.edit(folder / "preprocessor_config.json", lambda content: content.update(settings))
    session = kit.session_of(folder, tmp_path)
    assert image_inputs(session) is None
    assert words in why_no_image(session)


def test_a_missing_preprocessor_is_told(copy_of: smokekit.Copies, tmp_path: Path):
    folder = copy_of("dense")
    (folder / "preprocessor_config.json").unlink()
    session = kit.session_of(folder, tmp_path)
    assert image_inputs(session) is None
    assert "no preprocessor_config.json" in why_no_image(session)


def test_a_torchvision_that_does_not_fit_is_told(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "torchvision.py").write_text("raise RuntimeError('operator nms does not exist')")
    monkeypatch.syspath_prepend(folder)
    assert image_inputs(session) is None
    assert "torchvision does not fit torch (operator nms" in why_no_image(session)
    assert "torchvision" not in sys.modules


@pytest.mark.parametrize(
    "settings",
    [
        {"patch_size": 0},
        {"patch_size": -16},
        {"patch_size": 10**9},
        {"patch_size": 8},
        {"patch_size": "16"},
        {"merge_size": 0},
        {"temporal_patch_size": 10**30},
        {"size": {"shortest_edge": 2**39, "longest_edge": 2**40}},
        {"size": {"shortest_edge": 2**22, "longest_edge": 2**40}},
        {"min_pixels": 2**30},
        {"size": {"shortest_edge": 65536}},
        {"image_mean": [0.5]},
        {"image_std": [0.5, 0.5, 0]},
        {"resample": 77},
        {"do_resize": "yes"},
    ],
)
def test_a_hostile_preprocessor_is_refused_before_anything_is_made(
    copy_of: smokekit.Copies,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, Any],
):
    monkeypatch.setattr("archiver.smoke.passes.image._processed", lambda settings: 1 / 0)
    folder = copy_of("dense")
    kit.edit(folder / "preprocessor_config.json", lambda content: content.update(settings))
    with pytest.raises(FailedError) as caught:
        image_inputs(kit.session_of(folder, tmp_path))
    (finding,) = caught.value.findings
    assert (finding.code, finding.path) == ("model-config", "preprocessor_config.json")


@pytest.mark.parametrize(
    "size",
    [
        {"shortest_edge": 65536, "longest_edge": 16777216},
        {"shortest_edge": 1, "longest_edge": 5000},
        {"shortest_edge": 100000, "longest_edge": 200000},
        {"shortest_edge": 1, "longest_edge": 1},
    ],
)
def test_the_size_is_foretold(copy_of: smokekit.Copies, tmp_path: Path, size: dict[str, int]):
    """The bound is checked on what the processor then makes."""
    from archiver.smoke.passes import image

    folder = copy_of("dense")
    kit.edit(folder / "preprocessor_config.json", lambda content: content.update(size=size))
    session = kit.session_of(folder, tmp_path)
    inputs = image_inputs(session)
    assert inputs is not None
    settings = image._understood(image._settings(session) or {})
    assert inputs["image_grid_thw"].tolist() == [[1, *settings.grid()]]
    assert inputs["input_ids"][0].tolist().count(524) == settings.grid()[0] ** 2 // 4


def test_the_size_is_foretold_where_patches_do_not_divide_the_picture():
    from archiver.smoke.passes import image

    size = {"shortest_edge": 1, "longest_edge": 10**6}
    settings = image._understood({"patch_size": 12, "size": size})
    made = image._processed(settings)["image_grid_thw"].tolist()
    assert made == [[1, *settings.grid()]] == [[1, 22, 22]]
