"""GPTQ: weights are made of codes, zero points and scales as GPTQModel makes them, and then run."""

from __future__ import annotations

import json
from pathlib import Path

import loadkit
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from spoil import edited, spoilt, zeros
from structurekit import findings, remarks, structure_of

from archiver.errors import SkippedError
from archiver.smoke.checkpoint.gptq import Kind, bits_of, kind_of
from archiver.smoke.loading.check import check_load
from archiver.smoke.report import FailedError

KEPT = Path(__file__).parent / "data/gptq.safetensors"
FILE = "model.safetensors-00001-of-00001.safetensors"
LAYER = "model.language_model.layers.0.mlp.up_proj"


def _parts(found, case, zeros="qzeros"):
    return {
        "qweight": found[f"{case}.qweight"],
        "qzeros": found[f"{case}.{zeros}"],
        "scales": found[f"{case}.scales"],
        "g_idx": found[f"{case}.g_idx"],
    }


@pytest.mark.parametrize("form", ["gptq", "gptq_v2"])
@pytest.mark.parametrize("order", ["plain", "act"])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_the_weights_are_those_that_gptqmodel_makes(monkeypatch, bits, order, form):
    import torch

    from archiver.smoke.loading import gptq

    found, case = load_file(KEPT), f"{bits}.{order}"
    wanted = found[f"{case}.weight"]
    kind = kind_of({"bits": bits, "checkpoint_format": form, "group_size": 16})
    parts = _parts(found, case, "qzeros" if form == "gptq" else "qzeros_v2")
    assert torch.equal(gptq.dequantized(parts, kind, wanted.dtype), wanted)
    monkeypatch.setattr(gptq, "_AT_ONCE", 700)  # blocks that do not come out even
    assert torch.equal(gptq.dequantized(parts, kind, wanted.dtype), wanted)
    if order == "plain":
        without = parts | {"g_idx": None}
        assert torch.equal(gptq.dequantized(without, kind, wanted.dtype), wanted)


def test_scales_are_not_rounded_to_what_the_model_computes_in():
    import torch

    from archiver.smoke.loading import gptq

    parts = _parts(load_file(KEPT), "4.act")
    kind = Kind(4, 1, 16)
    exact = gptq.dequantized(parts, kind, torch.float32)
    assert parts["scales"].dtype == torch.float16
    assert torch.equal(gptq.dequantized(parts, kind, torch.bfloat16), exact.to(torch.bfloat16))


SIDE = st.integers(0, 9)


@given(
    words=st.tuples(SIDE, SIDE),
    zeros=st.tuples(SIDE, SIDE),
    scales=st.tuples(SIDE, SIDE),
    groups=st.none() | st.lists(st.integers(-2, 9), max_size=70),
)
def test_parts_that_do_not_fit_are_refused(words, zeros, scales, groups):
    import torch

    from archiver.smoke.loading import gptq

    parts = {
        "qweight": torch.full(words, -1, dtype=torch.int32),
        "qzeros": torch.zeros(zeros, dtype=torch.int32),
        "scales": torch.ones(scales),
        "g_idx": None if groups is None else torch.tensor(groups, dtype=torch.int32),
    }
    try:
        made = gptq.dequantized(parts, Kind(4, 1, 0), torch.float32)
    except ValueError:
        return
    inputs = words[0] * 8 if groups is None else len(groups)
    assert made.shape == (words[1], inputs)
    assert words[1] == scales[1]
    assert (made == 14).all() or groups is not None


def test_a_last_word_need_not_be_full():
    import torch

    from archiver.smoke.loading import gptq

    parts = _parts(load_file(KEPT), "4.act")
    kind = Kind(4, 1, 16)
    whole = gptq.dequantized(parts, kind, torch.float32)
    parts["g_idx"] = parts["g_idx"][:60]
    assert torch.equal(gptq.dequantized(parts, kind, torch.float32), whole[:, :60])


def test_parts_are_not_paired_over_a_gap():
    import torch

    from archiver.smoke.loading import quantizers

    found = _parts(load_file(KEPT), "4.plain")
    config = quantizers.GptqConfig(bits=4, group_size=16)
    undo = quantizers.GptqDequantize(quantizers.GptqDequantizer(config))
    lists = {f"experts.*.up_proj.{part}": [one, one] for part, one in found.items()}
    (made,) = undo.convert(dict(lists)).values()
    assert [one.dtype for one in made] == [torch.bfloat16] * 2
    lists["experts.*.up_proj.scales"].pop()
    with pytest.raises(ValueError, match="2 qweight, 2 qzeros, 1 scales, 2 g_idx"):
        undo.convert(lists)


def _plain_twin(folder: Path, twin: Path) -> Path:
    """The same model in plain numbers, made here once more by other means."""
    import torch

    twin.mkdir()
    for file in folder.iterdir():
        if file.suffix == ".json" and "index" not in file.name:
            (twin / file.name).write_bytes(file.read_bytes())
    config = json.loads((twin / "config.json").read_text())
    del config["quantization_config"]
    (twin / "config.json").write_text(json.dumps(config))
    held = load_file(folder / FILE)
    for name in [name for name in held if name.endswith(".qweight")]:
        start = name.removesuffix("qweight")
        words, zeros, scales, group = (
            held.pop(start + part) for part in ("qweight", "qzeros", "scales", "g_idx")
        )
        nibbles = words.numpy().view(np.uint8)  # the low nibble of a byte comes first
        nibbles = nibbles.reshape(*words.shape, 4)
        codes = np.stack([nibbles & 15, nibbles >> 4], axis=-1).astype(np.float32)
        codes = codes.transpose(0, 2, 3, 1).reshape(-1, words.shape[1])
        assert set(zeros.numpy().view(np.uint8).flat) == {0x77}
        weight = torch.from_numpy(codes - 8) * scales.float()[group.long()]
        held[f"{start}weight"] = weight.T.contiguous().to(torch.bfloat16)
    save_file(held, twin / "model.safetensors", {"format": "pt"})
    return twin


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("name", ["gptq", "gptq-dense"])
def test_it_computes_what_the_plain_weights_do(models, tmp_path, monkeypatch, name, streamed):
    import torch

    if streamed:
        loadkit.stream_all(monkeypatch)
        loadkit.keep_nothing(monkeypatch)
    wanted = loadkit.reference(_plain_twin(models(name), tmp_path / "twin"), "bfloat16")
    session = loadkit.session_on(models(name), tmp_path)
    check_load(session)
    assert session.model.mode == ("streamed" if streamed else "resident")
    assert torch.equal(loadkit.outputs(session.model.module), loadkit.outputs(wanted))
    assert loadkit.continued(session.model.module) == loadkit.continued(wanted)


def test_of_the_experts_only_the_one_that_is_needed_is_read(models, tmp_path, monkeypatch):
    loadkit.stream_all(monkeypatch)
    session = loadkit.session_on(models("gptq"), tmp_path)
    check_load(session)
    before = set(session.model.reads.tensors)
    experts = session.model.module.model.language_model.layers[1].mlp.experts
    assert experts.gate_up_proj[3].shape == experts.gate_up_proj.shape[1:]
    read = set(session.model.reads.tensors) - before
    assert len(read) == 8
    assert all(".layers.1.mlp.experts.3." in name for name in read)


def test_in_float32_it_is_computed_without_rounding(models, tmp_path):
    import torch

    session = loadkit.session_on(models("gptq-dense"), tmp_path, dtype="float32")
    check_load(session)
    found = session.model.module.get_parameter(f"{LAYER}.weight")
    held = load_file(models("gptq-dense") / FILE)
    scales, group = held[f"{LAYER}.scales"], held[f"{LAYER}.g_idx"].long()
    codes = found.T / scales.float()[group]
    assert torch.allclose(codes, codes.round(), atol=1e-4)
    assert found.dtype == torch.float32
    assert codes.round().unique().tolist() == list(range(-7, 8))


# faults, at level structure


def test_that_the_parts_fit_is_proved(models):
    assert (
        "96 GPTQ weights: each has its scales and zero points"
        in structure_of(models("gptq")).proved
    )
    assert remarks(models("gptq")) == []


@pytest.mark.parametrize("part", ["qzeros", "scales"])
def test_codes_without_their_meaning(copy_of, part):
    folder = copy_of("gptq-dense")
    with spoilt(folder) as weights:
        weights.remove(f"{LAYER}.{part}")
    (found,) = findings(folder)
    assert (found.code, found.tensor) == ("model-scale", f"{LAYER}.qweight")
    assert f"has no {part}" in found.message


def test_what_is_left_of_a_layer_without_codes(copy_of):
    folder = copy_of("gptq-dense")
    with spoilt(folder) as weights:
        weights.remove(f"{LAYER}.qweight")
    told = {(one.code, one.tensor) for one in findings(folder)}
    assert told == {("model-tensor-missing", f"{LAYER}.weight")} | {
        ("model-scale", f"{LAYER}.{part}") for part in ("qzeros", "scales", "g_idx")
    }


@pytest.mark.parametrize(("part", "shape"), [("scales", (2, 704)), ("qzeros", (1, 89))])
def test_a_grid_of_other_groups(copy_of, part, shape):
    folder = copy_of("gptq-dense")
    with spoilt(folder) as weights:
        stored = weights[f"{LAYER}.{part}"]
        assert stored.shape != shape
        weights[f"{LAYER}.{part}"] = zeros(stored.dtype, *shape)
    (found,) = findings(folder)
    assert (found.code, found.tensor) == ("model-scale", f"{LAYER}.{part}")


def test_codes_of_no_number_of_bits(copy_of):
    folder = copy_of("gptq-dense")
    with spoilt(folder) as weights:
        rows, columns = weights[f"{LAYER}.qweight"].shape
        weights[f"{LAYER}.qweight"] = zeros("I32", rows + 1, columns)
    (found,) = findings(folder)
    assert (found.code, found.tensor) == ("model-scale", f"{LAYER}.qweight")
    assert "no number of bits fits" in found.message


# faults, at level load


def test_a_group_that_is_not_there_is_named(copy_of, tmp_path):
    folder = copy_of("gptq-dense")
    held = load_file(folder / FILE)
    held[f"{LAYER}.g_idx"][7] = 3
    save_file(held, folder / FILE, {"format": "pt"})
    with pytest.raises(FailedError, match="g_idx names group 3; there are"):
        check_load(loadkit.session_on(folder, tmp_path))


@pytest.mark.parametrize(
    ("key", "value"),
    [("bits", 3), ("bits", "four"), ("checkpoint_format", "marlin"), ("pack_dtype", "int16")],
)
def test_a_kind_that_is_not_known_is_skipped(copy_of, tmp_path, key, value):
    folder = copy_of("gptq-dense")
    with edited(folder / "config.json") as config:
        config["quantization_config"][key] = value
    with pytest.raises(SkippedError, match=f"{key} .*{value}.* is not known"):
        check_load(loadkit.session_on(folder, tmp_path))
    (remark,) = remarks(folder)
    assert remark.code == "model-not-tried"


def test_a_layer_in_bits_that_are_not_known_is_skipped(copy_of, tmp_path):
    """Words of 3 bits share codes, so they are sound, and not undone here."""
    folder = copy_of("gptq-dense")
    with edited(folder / "config.json") as config:
        config["quantization_config"]["dynamic"][r"+:.*up_proj"] = {"bits": 3}
    with spoilt(folder) as weights:
        inputs, outputs = weights[f"{LAYER}.g_idx"].shape[0], weights[f"{LAYER}.scales"].shape[1]
        weights[f"{LAYER}.qweight"] = zeros("I32", inputs * 3 // 32, outputs)
        weights[f"{LAYER}.qzeros"] = zeros("I32", 1, outputs * 3 // 32)
    assert findings(folder) == []
    with pytest.raises(SkippedError, match=r"up_proj\.qweight in bits 3 is not known"):
        check_load(loadkit.session_on(folder, tmp_path))


def test_where_several_numbers_of_bits_fit_the_config_is_believed():
    import torch

    from archiver.smoke.loading import gptq

    assert [bits_of(1, 8, usual) for usual in (2, 3, 4)] == [2, 3, 4]
    assert (bits_of(2, 8, 4), bits_of(3, 8, 4)) == (8, None)
    parts = {
        "qweight": torch.full((1, 8), 0x10101010, dtype=torch.int32),
        "qzeros": torch.zeros(1, 1, dtype=torch.int32),
        "scales": torch.ones(1, 8),
        "g_idx": torch.zeros(8, dtype=torch.int32),
    }
    made = gptq.dequantized(parts, Kind(4, 0, 8), torch.float32)
    assert made[0].tolist() == [0, 1] * 4


def test_a_layer_of_other_bits_is_told_by_its_shapes(copy_of, tmp_path):
    """As the rules under ``dynamic`` ask for it: this one in 8 bits, and other groups."""
    import torch

    folder = copy_of("gptq-dense")
    with edited(folder / "config.json") as config:
        config["quantization_config"]["dynamic"][r"+:.*layers\.0\.mlp\.up_proj"] = {
            "bits": 8,
            "group_size": 32,
        }
    held = load_file(folder / FILE)
    inputs, outputs = len(held[f"{LAYER}.g_idx"]), held[f"{LAYER}.scales"].shape[1]
    held[f"{LAYER}.qweight"] = torch.full((inputs // 4, outputs), 0x01010101, dtype=torch.int32)
    held[f"{LAYER}.qzeros"] = torch.full(
        (inputs // 32, outputs // 4), 0x7F7F7F7F, dtype=torch.int32
    )
    held[f"{LAYER}.scales"] = torch.cat([held[f"{LAYER}.scales"]] * (inputs // 32))
    held[f"{LAYER}.g_idx"] = (torch.arange(inputs) // 32).to(torch.int32)
    save_file(held, folder / FILE, {"format": "pt"})
    (folder / "model.safetensors.index.json").unlink()
    assert findings(folder) == []
    session = loadkit.session_on(folder, tmp_path)
    check_load(session)
    made = session.model.module.get_parameter(f"{LAYER}.weight")
    wanted = (held[f"{LAYER}.scales"][:1].T * -127).to(made.dtype)
    assert torch.equal(made, wanted.expand_as(made))
