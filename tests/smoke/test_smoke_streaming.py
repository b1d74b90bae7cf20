"""A model that is streamed: the same numbers, and no more is read than is used."""

from __future__ import annotations

import itertools
import re
import threading
from types import SimpleNamespace

import loadkit
import pytest

from archiver.errors import DamageError, SkippedError
from archiver.smoke.loading import fit
from archiver.smoke.loading.check import build_model, check_load
from archiver.smoke.loading.fit import Needs, Pass, read_in
from archiver.smoke.loading.layers import Layer, Part
from archiver.smoke.loading.streaming import Absent
from archiver.text import parse_size

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
    ("minilm", "bfloat16"),  # stored in 32 bits
]


@pytest.fixture
def streaming(models, tmp_path, monkeypatch):
    def load(name, **settings):
        loadkit.stream_all(monkeypatch)
        session = loadkit.session_on(models(name), tmp_path, **settings)
        check_load(session)
        return session

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
    session = streaming(name, dtype=dtype)
    module, wanted = session.model.module, loadkit.reference(models(name), dtype)
    assert session.model.mode == "streamed"
    assert torch.equal(loadkit.outputs(module), loadkit.outputs(wanted))
    if wanted.can_generate():
        assert loadkit.continued(module) == loadkit.continued(wanted)


def test_a_picture_is_seen(models, streaming, monkeypatch):
    import torch

    from archiver.smoke.passes.inputs import image_inputs
    from archiver.smoke.tokenizer.check import check_tokenizer

    loadkit.keep_nothing(monkeypatch)
    session = streaming("moe")
    check_tokenizer(session)
    inputs = image_inputs(session)
    wanted = loadkit.reference(models("moe"), "bfloat16")
    assert torch.equal(
        loadkit.outputs(session.model.module, **inputs), loadkit.outputs(wanted, **inputs)
    )


def test_only_experts_that_are_hit_are_read(streaming, monkeypatch):
    loadkit.keep_nothing(monkeypatch)
    session = streaming("moe-fp8")
    hit = _experts_hit(session)
    read = {name for name in session.model.reads.tensors if ".mlp.experts." in name}
    assert read == {
        f"model.language_model.layers.{layer}.mlp.experts.{expert}.{part}_proj.weight{scale}"
        for layer, expert in hit
        for part in ("gate", "up", "down")
        for scale in ("", "_scale_inv")
    }
    assert len(hit) < 4 * 8


def _experts_hit(session):
    """Run the model; the layers and experts that its routers chose for a single token."""
    import torch

    chosen = set()
    for number, layer in enumerate(session.model.module.model.language_model.layers):

        def note(_, given, number=number):
            chosen.update((number, expert) for expert in given[1].flatten().tolist())

        layer.mlp.experts.register_forward_pre_hook(note)
    loadkit.outputs(session.model.module, input_ids=torch.tensor([[7]]))
    return chosen


def test_only_rows_that_are_looked_up_are_read(streaming, monkeypatch):
    import torch

    loadkit.keep_nothing(monkeypatch)
    session = streaming("dense-untied")
    embedding = session.model.module.model.language_model.embed_tokens
    before = session.model.reads.size
    found = embedding(torch.tensor([[3, 4, 2000, 3]]))
    stored = session.checkpoint.tensors["model.language_model.embed_tokens.weight"]
    assert session.model.reads.size - before == 3 * stored.size // stored.shape[0]
    assert torch.equal(found[0, 0], found[0, 3])


def test_what_stays_is_read_once(streaming):
    session = streaming("dense")
    loadkit.outputs(session.model.module)
    before = session.model.reads.size
    loadkit.outputs(session.model.module)
    rows = session.checkpoint.tensors["model.language_model.embed_tokens.weight"]
    assert session.model.reads.size - before == 11 * rows.size // rows.shape[0]


@pytest.mark.parametrize("room", [0, 1 << 30])
def test_what_stays_is_not_read_ahead(streaming, monkeypatch, room):
    monkeypatch.setattr(fit, "_ahead", lambda *_: room)
    asked = itertools.count()
    monkeypatch.setattr(fit.Budget, "stays", lambda _: next(asked) < 10)
    session = streaming("dense")
    sizes = [session.model.reads.size]
    for _ in range(3):
        loadkit.outputs(session.model.module)
        sizes.append(session.model.reads.size)
    first, *later = [two - one for one, two in itertools.pairwise(sizes)]
    assert later == [later[0]] * 2
    assert first > later[0]


def test_what_may_not_stay_is_read_again_and_dropped_again(streaming, monkeypatch):
    loadkit.keep_nothing(monkeypatch)
    session = streaming("moe")
    sizes = [session.model.reads.size]
    for _ in range(2):
        loadkit.outputs(session.model.module)
        sizes.append(session.model.reads.size)
    assert sizes[2] - sizes[1] == sizes[1] - sizes[0]
    text = session.model.module.model.language_model
    assert isinstance(text.embed_tokens.weight, Absent)
    assert isinstance(text.layers[0].linear_attn.out_proj.weight, Absent)


def test_what_comes_first_stays_while_there_is_room(monkeypatch):
    held = iter([70, 71, 71, 10])  # the second look comes after memory was given back
    monkeypatch.setattr(fit, "resident_memory", lambda: next(held))
    room = fit.Budget(limit=100, headroom=30, device="cpu")
    assert room.stays()
    assert not room.stays()
    assert not room.stays()  # and no room is looked for again
    assert next(held) == 10


def test_the_report_counts_the_rows_and_experts_that_an_input_reaches():  # as they are stored
    parts = (
        Part("experts", "a", "experts", (1000, 4), 16000, 0, 8000),
        Part("table", "b", "rows", (512, 2), 8192, 0, 4096),
        Part("plain", "c", "whole", (5, 1), 20, 0, 10),
    )
    module = SimpleNamespace(config=SimpleNamespace(num_experts_per_tok=2))
    text, sight = Layer("one", module, parts), Layer("model.visual.two", None, parts[2:])
    assert read_in([text, sight], Pass(1)) == 2 * 8 + 8 + 10
    assert read_in([text, sight], Pass(1, sees=True)) == 44
    assert read_in([text], Pass(10_000)) == 8000 + 4096 + 10
    assert [part.share for part in parts] == [1 / 1000, 1 / 2, 1]  # what is in memory at once


@pytest.mark.parametrize("name", ["dense-untied", "moe", "moe-fp8"])
def test_a_pass_reads_what_the_report_says(streaming, monkeypatch, name):
    import torch

    loadkit.keep_nothing(monkeypatch)
    session = streaming(name)
    told = re.search(
        r"Reading: about ([\d.]+ \wB) for a pass over the text", "\n".join(loadkit.fit_of(session))
    )
    before = session.model.reads.size
    loadkit.outputs(session.model.module, input_ids=torch.arange(48)[None] * 31 % 2000)
    read = session.model.reads.size - before
    assert parse_size(told[1]) == pytest.approx(read, rel=0.05)


def test_the_next_weights_are_read_while_it_computes(streaming, monkeypatch):
    import torch

    loadkit.keep_nothing(monkeypatch)
    session = streaming("moe")
    read_tensor, by = session.checkpoint.read_tensor, []

    def noted(tensor, out):
        by.append((threading.current_thread().name.partition("_")[0], tensor.name))
        read_tensor(tensor, out)

    monkeypatch.setattr(session.checkpoint, "read_tensor", noted)
    first = loadkit.outputs(session.model.module)
    assert {name for name, _ in by} == {"MainThread"}
    assert torch.equal(loadkit.outputs(session.model.module), first)
    ahead = [tensor for name, tensor in by if name == "ahead"]
    assert len(ahead) > 20
    assert ahead.count("lm_head.weight") > 1  # a block each
    assert not [tensor for tensor in ahead if "experts" in tensor or "embed" in tensor]
    _break(session, monkeypatch)
    with pytest.raises(DamageError, match="a pack is damaged"):
        loadkit.outputs(session.model.module)
    assert not [one for one in threading.enumerate() if one.name.startswith("ahead")]


def test_where_two_layers_have_no_room_nothing_is_read_ahead():
    parts = (
        Part("one", "a", "whole", (2, 1 << 20), 4 << 20, 1 << 20, 4 << 20),
        Part("head", "b", "blocks", (64 << 20, 1), 64 << 20, 0, 64 << 20),
        Part("experts", "c", "experts", (2, 1 << 30), 4 << 30, 0, 4 << 30),
    )
    layers = [Layer("one", None, parts)]
    needs = Needs(
        process=100, weights=1 << 40, small=5, layer=6, making=0, activations=7, decoding=8
    )
    least = needs.streamed + fit._GROWN
    room = [fit._ahead(needs, least + more, layers, 2, "cpu") for more in (-1, 9, 1 << 30)]
    assert room == [0, 9, 2 * (16 << 20)]


def test_what_is_read_ahead_is_counted(models, tmp_path, monkeypatch):
    loadkit.stream_all(monkeypatch)
    session, found = loadkit.session_on(models("text"), tmp_path), []
    for room in (0, 1 << 20):
        monkeypatch.setattr(fit, "_ahead", lambda *_, room=room: room)
        found.append(_budget_of(build_model(session, "bfloat16").module.model.norm))
    assert [one.ahead for one in found] == [0, 1 << 20]
    assert found[1].headroom - found[0].headroom == 1 << 20


def test_a_use_outside_of_the_module_is_no_silent_wrong_number(streaming):
    session = streaming("dense")
    norm = session.model.module.model.language_model.norm
    assert norm.weight.shape == (128,)
    assert "bfloat16" in str(norm.weight.dtype)
    true = session.checkpoint.tensors["model.language_model.norm.weight"]
    before = session.model.reads.size
    assert (norm.weight * 1).shape == (128,)
    assert session.model.reads.size - before == true.size
    for change in (norm.weight.add_, norm.weight.view(-1).add_, norm.weight.__iadd__):
        with pytest.raises((SkippedError, RuntimeError), match=r"it changes|Inplace update"):
            change(1)
    with pytest.raises(SkippedError, match=r"it changes model\.language_model\.norm\.weight"):
        _ = norm.weight.data
    _budget_of(norm).limit = 0
    with pytest.raises(SkippedError, match="there is no memory left for that"):
        norm.weight + 1


def _budget_of(module):
    return module._hf_hook._cache.budget


def test_what_a_streamed_model_raises_is_no_finding(streaming):
    session = streaming("dense")
    with pytest.raises(SkippedError, match="cannot be streamed"):
        loadkit.outputs(session.model.module, input_ids="no ids")


def test_damage_passes_through(streaming, monkeypatch):
    session = streaming("moe")
    _break(session, monkeypatch)
    with pytest.raises(DamageError, match="a pack is damaged"):
        loadkit.outputs(session.model.module)


def _break(session, monkeypatch):
    def read_tensor(*_):
        raise DamageError("a pack is damaged")

    monkeypatch.setattr(session.checkpoint, "read_tensor", read_tensor)


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


def test_a_buffer_that_the_checkpoint_holds_is_read(tmp_path, monkeypatch):
    """A router's correction is a buffer, and no parameter."""
    import torch
    from transformers import DeepseekV3Config, DeepseekV3ForCausalLM

    config = DeepseekV3Config(
        vocab_size=300, hidden_size=32, intermediate_size=32, moe_intermediate_size=16,
        num_hidden_layers=2, first_k_dense_replace=1, num_attention_heads=2, num_key_value_heads=2,
        n_routed_experts=4, n_group=2, topk_group=1, num_experts_per_tok=2, q_lora_rank=16,
        kv_lora_rank=16, qk_rope_head_dim=8, qk_nope_head_dim=8, v_head_dim=8, dtype="bfloat16",
    )  # fmt: skip
    model = DeepseekV3ForCausalLM(config).bfloat16()
    correction = model.model.layers[1].mlp.gate.e_score_correction_bias
    correction.copy_(torch.tensor([1.0, -2.0, 3.0, 0.5]))
    model.save_pretrained(tmp_path / "deepseek")
    loadkit.stream_all(monkeypatch)
    session = loadkit.session_on(tmp_path / "deepseek", tmp_path)
    check_load(session)
    found = session.model.module.model.layers[1].mlp.gate.e_score_correction_bias
    assert found.tolist() == [1.0, -2.0, 3.0, 0.5]
    wanted = loadkit.reference(tmp_path / "deepseek", "bfloat16")
    assert found.dtype == wanted.model.layers[1].mlp.gate.e_score_correction_bias.dtype
    assert torch.equal(loadkit.outputs(session.model.module), loadkit.outputs(wanted))
