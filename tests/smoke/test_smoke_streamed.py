"""A model that is streamed: the same numbers, and no more is read than is used."""

from __future__ import annotations

import loadkit
import pytest

from archiver.errors import DamageError, SkippedError
from archiver.smoke.loading.check import check_load

CASES = [
    ("dense", "bfloat16"),
    ("dense-untied", "float32"),
    ("moe", "bfloat16"),
    ("moe", "float32"),
    ("dense-fp8", "bfloat16"),
    ("moe-fp8", "bfloat16"),
    ("moe-fp8", "float32"),
    ("text-moe", "bfloat16"),
    ("minilm", "float32"),
]


@pytest.fixture
def streaming(models, tmp_path, monkeypatch):
    def load(name, **wishes):
        loadkit.stream_all(monkeypatch)
        trial = loadkit.trial_on(models(name), tmp_path, **wishes)
        check_load(trial)
        return trial

    return load


@pytest.mark.parametrize(
    ("name", "dtype", "kept"),
    [
        *((*case, False) for case in CASES),
        ("moe", "bfloat16", True),
        ("dense-fp8", "float32", True),
    ],
)
def test_it_computes_what_the_files_do(models, streaming, monkeypatch, name, dtype, kept):
    import torch

    if not kept:
        loadkit.keep_nothing(monkeypatch)
    trial = streaming(name, dtype=dtype)
    module, wanted = trial.model.module, loadkit.reference(models(name), dtype)
    assert trial.model.mode == "streamed"
    assert torch.equal(loadkit.outputs(module), loadkit.outputs(wanted))
    if wanted.can_generate():
        assert loadkit.continued(module) == loadkit.continued(wanted)


def test_a_picture_is_seen(models, streaming, monkeypatch):
    import torch

    from archiver.smoke.inputs.prepared import image_inputs
    from archiver.smoke.tokens.check import check_tokenizer

    loadkit.keep_nothing(monkeypatch)
    trial = streaming("moe")
    check_tokenizer(trial)
    inputs = image_inputs(trial)
    wanted = loadkit.reference(models("moe"), "bfloat16")
    assert torch.equal(
        loadkit.outputs(trial.model.module, **inputs), loadkit.outputs(wanted, **inputs)
    )


def test_only_experts_that_are_hit_are_read(streaming, monkeypatch):
    loadkit.keep_nothing(monkeypatch)
    trial = streaming("moe-fp8")
    hit = _experts_hit(trial)
    read = {name for name in trial.model.reads.tensors if ".mlp.experts." in name}
    assert read == {
        f"model.language_model.layers.{layer}.mlp.experts.{expert}.{part}_proj.weight{scale}"
        for layer, expert in hit
        for part in ("gate", "up", "down")
        for scale in ("", "_scale_inv")
    }
    assert len(hit) < 4 * 8


def _experts_hit(trial):
    """Run the model; the layers and experts that its routers chose for a single token."""
    import torch

    chosen = set()
    for number, layer in enumerate(trial.model.module.model.language_model.layers):

        def note(_, given, number=number):
            chosen.update((number, expert) for expert in given[1].flatten().tolist())

        layer.mlp.experts.register_forward_pre_hook(note)
    loadkit.outputs(trial.model.module, input_ids=torch.tensor([[7]]))
    return chosen


def test_only_rows_that_are_looked_up_are_read(streaming, monkeypatch):
    import torch

    loadkit.keep_nothing(monkeypatch)
    trial = streaming("dense-untied")
    embedding = trial.model.module.model.language_model.embed_tokens
    before = trial.model.reads.size
    found = embedding(torch.tensor([[3, 4, 2000, 3]]))
    stored = trial.checkpoint.tensors["model.language_model.embed_tokens.weight"]
    assert trial.model.reads.size - before == 3 * stored.size // stored.shape[0]
    assert torch.equal(found[0, 0], found[0, 3])


def test_what_stays_is_read_once(streaming):
    trial = streaming("dense")
    loadkit.outputs(trial.model.module)
    before = trial.model.reads.size
    loadkit.outputs(trial.model.module)
    rows = trial.checkpoint.tensors["model.language_model.embed_tokens.weight"]
    assert trial.model.reads.size - before == 11 * rows.size // rows.shape[0]


def test_a_use_outside_of_the_module_is_no_silent_wrong_number(streaming):
    trial = streaming("dense")
    norm = trial.model.module.model.language_model.norm
    assert norm.weight.shape == (128,)
    assert "bfloat16" in str(norm.weight.dtype)
    with pytest.raises(SkippedError, match=r"norm\.weight is used outside of its module"):
        norm.weight + 1
    with pytest.raises(SkippedError, match=r"norm\.weight is used outside of its module"):
        norm.weight.data.sum()


def test_what_a_streamed_model_raises_is_no_finding(streaming):
    trial = streaming("dense")
    with pytest.raises(SkippedError, match="cannot be streamed"):
        loadkit.outputs(trial.model.module, input_ids="no ids")


def test_damage_passes_through(streaming, monkeypatch):
    trial = streaming("moe")

    def read_tensor(*_):
        raise DamageError("a pack is damaged")

    monkeypatch.setattr(trial.checkpoint, "read_tensor", read_tensor)
    with pytest.raises(DamageError, match="a pack is damaged"):
        loadkit.outputs(trial.model.module)


def test_experts_may_be_used_as_one_tensor(streaming):
    import torch

    experts = streaming("moe").model.module.model.language_model.layers[0].mlp.experts
    whole = experts.down_proj
    assert whole.shape == (8, 128, 64)
    assert whole.ndim == 3
    assert torch.equal(whole[2], whole.transpose(1, 2)[2].T)
    assert torch.equal(torch.stack([whole[1], whole[7]]), whole[torch.tensor([1, 7])])
    assert torch.equal(torch.flatten(whole)[:64], whole[0][0])


def test_nothing_that_is_streamed_lies_on_the_meta_device(streaming):
    module = streaming("moe").model.module
    assert {one.device.type for one in (*module.parameters(), *module.buffers())} == {"cpu"}
