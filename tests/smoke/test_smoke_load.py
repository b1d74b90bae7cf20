"""Level load with all weights in memory: the same numbers as from the files, or a reason why not."""

from __future__ import annotations

import gc
import json
import os
import re
import weakref

import loadkit
import msgspec
import pytest
from safetensors.numpy import load_file, save_file

from archiver.errors import DamageError, SkippedError
from archiver.smoke import hardware, libraries
from archiver.smoke.checkpoint.files import StoredTensor
from archiver.smoke.loading import check, fit
from archiver.smoke.loading.architecture import model_class
from archiver.smoke.loading.check import build_model, check_load
from archiver.smoke.loading.fit import Needs
from archiver.smoke.loading.layers import Layer, Part
from archiver.smoke.loading.tensors import LazyTensor, TensorSource
from archiver.smoke.messages import Settings
from archiver.smoke.model import Reads
from archiver.smoke.report import FailedError

CASES = [
    ("dense", "bfloat16"),
    ("moe", "bfloat16"),
    ("moe", "float32"),
    ("dense-fp8", "bfloat16"),
    ("moe-fp8", "bfloat16"),
    ("moe-fp8", "float32"),
    ("text", "bfloat16"),
    ("minilm", "float32"),
]


@pytest.mark.parametrize(("name", "dtype"), CASES)
def test_it_computes_what_the_files_do(models, tmp_path, name, dtype):
    import torch

    folder = models(name)
    session = loadkit.session_on(folder, tmp_path, dtype=dtype)
    proof = check_load(session)
    module, wanted = session.model.module, loadkit.reference(folder, dtype)
    assert (session.model.mode, session.model.dtype) == ("resident", dtype)
    assert torch.equal(loadkit.outputs(module), loadkit.outputs(wanted))
    assert proof.facts["parameters"] == sum(one.numel() for one in wanted.parameters())
    assert proof.facts["bytes_read"] == session.model.reads.size > 0
    if wanted.can_generate():
        assert loadkit.continued(module) == loadkit.continued(wanted)
        assert module.generation_config.to_dict() == wanted.generation_config.to_dict()
    assert any(line.startswith("Mode: resident.") for line in loadkit.fit_of(session))
    assert "HF_DEACTIVATE_ASYNC_LOAD" not in os.environ


def _without(lost, folder):
    path = folder / "model.safetensors"
    held = load_file(path)
    del held[lost]
    save_file(held, path)
    return folder


def test_what_a_model_computes_itself_may_be_missing(copy_of, tmp_path, monkeypatch):
    from transformers import BertModel

    lost = "pooler.dense.bias"
    monkeypatch.setattr(BertModel, "_keys_to_ignore_on_load_missing", [r"pooler\.dense\.bias$"])
    session = loadkit.session_on(_without(lost, copy_of("minilm")), tmp_path)
    assert check_load(session).proved
    loadkit.stream_all(monkeypatch)
    with pytest.raises(SkippedError, match=r"itself computes pooler\.dense\.bias"):
        check_load(session)


def test_what_nothing_fills_is_never_made_up(copy_of, tmp_path):
    lost = "encoder.layer.1.output.dense.weight"
    folder = _without(lost, copy_of("minilm"))
    with pytest.raises(FailedError) as error:
        check_load(loadkit.session_on(folder, tmp_path))
    assert [finding.code for finding in error.value.findings] == ["model-tensor-missing"]
    assert lost in error.value.message


@pytest.mark.parametrize("name", ["moe", "moe-fp8"])  # with and without a conversion
def test_damage_is_not_the_model_s_fault(models, tmp_path, monkeypatch, name):
    session = loadkit.session_on(models(name), tmp_path)

    def read_tensor(*_):
        raise DamageError("a pack is damaged")

    monkeypatch.setattr(session.checkpoint, "read_tensor", read_tensor)
    with pytest.raises(DamageError, match="a pack is damaged"):
        check_load(session)


def test_a_tensor_that_does_not_fit_is_a_finding(copy_of, tmp_path):
    folder = copy_of("minilm")
    path = folder / "model.safetensors"
    held = load_file(path)
    held["pooler.dense.bias"] = held["pooler.dense.bias"][:-1].copy()
    save_file(held, path)
    with pytest.raises(FailedError) as error:
        check_load(loadkit.session_on(folder, tmp_path))
    assert [finding.code for finding in error.value.findings] == ["model-load"]


def test_too_little_memory_says_how_much_would_do(models, tmp_path):
    session = loadkit.session_on(models("moe"), tmp_path, memory=10_000_000)
    with pytest.raises(SkippedError, match="too little even to stream") as error:
        check_load(session)
    assert "--memory" in error.value.hint
    assert session.checkpoint.files  # and nothing was read
    assert session.model is None


def test_too_little_memory_counts_what_golden_needs(models, tmp_path):
    session = loadkit.session_on(models("moe"), tmp_path, memory=10_000_000)
    found = []
    for settings in ({}, {"record": True}, {"record": True, "dtype": "float32"}):
        session.settings = msgspec.structs.replace(session.settings, **settings)
        with pytest.raises(SkippedError) as error:
            check_load(session)
        found.append(int(re.findall(r"memory (\d+)MB", error.value.hint)[0]))
    assert found[1] > found[0]
    assert found[1] > found[2]  # then the model of the other levels is used
    assert list(fit._golden_lines(1 << 30, 1 << 30)) == []
    (line,) = fit._golden_lines((1 << 30) + 1, 1 << 30)
    assert "1.07 GB are too little for that; about 1.13 GB would do" in line


def test_a_kernel_may_copy_the_largest_matrix_of_a_resident_model():
    parts = (
        Part("experts", "a", "experts", (10, 4), 8000, 0, 8000),
        Part("table", "b", "rows", (512, 2), 4096, 0, 4096),
        Part("head", "c", "blocks", (500,), 1000, 0, 1000),
    )
    assert fit._packing([Layer("one", None, parts)]) == 1000
    assert fit._packing([Layer("one", None, parts[:2])]) == 800
    needs = Needs(0, 5000, 0, 0, 0, 70, 60, packing=1000)
    assert (needs.resident, needs.streamed) == (6070, 130)


def test_the_former_model_is_let_go_of_before_the_next_is_built(models, tmp_path, monkeypatch):
    session = loadkit.session_on(models("moe"), tmp_path)
    check_load(session)
    parameters = [weakref.ref(one) for one in session.model.module.parameters()]
    alive = []

    def looking(*given):
        alive.extend(one for one in parameters if one() is not None)
        return fit.fit(*given)

    monkeypatch.setattr(check, "fit", looking)
    session.model.module.itself = [session.model.module]  # as hooks and caches do
    gc.disable()
    try:
        session.model = None
        session.model = build_model(session, "float32")
    finally:
        gc.enable()
    assert not alive


def test_a_limit_is_never_above_what_the_machine_has(monkeypatch):
    gib = 1 << 30
    monkeypatch.setattr(hardware, "available_memory", lambda: 10 * gib)
    monkeypatch.setattr(hardware, "resident_memory", lambda: gib)
    assert (
        fit.memory_limit(Settings()) == gib + 10 * gib - gib // 2
    )  # a twentieth is left to others
    assert fit.memory_limit(Settings(memory=1 << 50)) == fit.memory_limit(Settings())
    assert fit.memory_limit(Settings(memory=5 * gib)) == 5 * gib
    assert (
        fit.memory_limit(Settings(memory=5 * gib, beside=gib)) == 5 * gib
    )  # and a parent is counted
    monkeypatch.setattr(hardware, "available_memory", lambda: 0)
    assert fit.memory_limit(Settings()) == gib


def test_where_memory_is_short_fewer_threads_decode():
    needs = Needs(0, 1 << 40, 0, 0, 0, 0, fit._decoding(8))
    most = needs.streamed
    assert fit._within(needs, most, 8) == (needs, 8)
    fewer, workers = fit._within(needs, most - 1, 8)
    assert (fewer.streamed, workers) == (fit._decoding(7), 7)
    least, workers = fit._within(needs, 0, 8)
    assert (least.streamed, workers) == (fit._decoding(1), 1)


def test_how_much_is_read_is_told(models, tmp_path, monkeypatch):
    session = loadkit.session_on(models("dense"), tmp_path)
    check_load(session)
    assert loadkit.fit_of(session)[-1] == "Reading: about 2.87 MB, once."
    loadkit.stream_all(monkeypatch)
    check_load(session)
    assert loadkit.fit_of(session)[-1] == (
        "Reading: about 2.26 MB for a pass over the text, 2.89 MB in all 6 passes up to generate."
    )


def test_the_libraries_are_kept_offline(monkeypatch):
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.setenv(name, "0")
    libraries.require("torch")
    assert os.environ["HF_HUB_OFFLINE"] == os.environ["TRANSFORMERS_OFFLINE"] == "1"


def test_fp8_is_asked_for_as_16_bits_on_every_device():
    from types import SimpleNamespace

    from archiver.smoke.loading.check import prepared

    config = SimpleNamespace(quantization_config={"quant_method": "fp8"})
    assert prepared(config).quantization_config["dequantize"] is True
    assert config.quantization_config == {"quant_method": "fp8"}


def test_a_quantization_is_skipped_with_the_library_that_is_missing(models, tmp_path):
    with pytest.raises(SkippedError, match="'awq' cannot be loaded here: Loading an AWQ"):
        check_load(loadkit.session_on(models("int4"), tmp_path))


def _tensor(dtype, shape, content):
    class Checkpoint:
        def read_tensor(self, tensor, out):
            out[:] = memoryview(content[tensor.begin : tensor.end])

    reads = Reads(set())
    stored = StoredTensor("one", "file", dtype, shape, 0, len(content))
    return LazyTensor(TensorSource(Checkpoint(), reads, lambda _: None), stored), reads


@pytest.mark.parametrize(
    "dtype", ["BF16", "F8_E4M3", "F8_E5M2", "F8_E8M0", "BOOL", "U64", "C64", "F16"]
)
def test_a_lazy_tensor_has_the_stored_bytes(dtype):
    import torch

    from archiver.tensors.dtypes import BITS

    content = bytes([0, 1] * (3 * BITS[dtype] // 8))
    lazy, reads = _tensor(dtype, (3, 2), content)
    assert not reads.size
    whole, row = lazy[...], lazy[1]
    assert whole.dtype == lazy.dtype
    assert whole.view(torch.uint8).numpy().tobytes() == content
    assert row.shape == (2,)
    assert (
        row.view(torch.uint8).numpy().tobytes() == content[len(content) // 3 :][: len(content) // 3]
    )
    assert reads.size == len(content) * 4 // 3


def test_a_tensor_may_be_a_number_or_empty():
    lazy, _ = _tensor("F32", (), b"\0\0\x80?")
    assert lazy[...].item() == 1.0
    lazy, reads = _tensor("F32", (0, 4), b"")
    assert lazy[...].shape == (0, 4)
    assert reads.tensors == {"one"}


def test_a_config_cannot_have_the_loader_take_other_files(copy_of, tmp_path):
    folder, never = copy_of("minilm"), ("transformers_weights", "fusion_config")
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(content | {key: {"x": "../y"} for key in never}))
    _, config = model_class(loadkit.session_on(folder, tmp_path))
    assert not any(hasattr(config, key) for key in never)


def test_a_dtype_that_torch_lacks_is_skipped():
    with pytest.raises(SkippedError, match="F6_E2M3"):
        _tensor("F6_E2M3", (4,), b"abc")


def test_the_machine_is_told():
    found = hardware.environment()
    assert found["libraries"]["torch"]
    assert found["memory"] > 0
    assert json.dumps(found)
    assert 0 < hardware.resident_memory() < hardware.total_memory()
    assert 0 < hardware.available_memory() <= hardware.total_memory()


def test_a_group_s_limit_counts(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "memory.max").write_text("1000000\n")
    (tmp_path / "a" / "memory.current").write_text("600000\n")
    (tmp_path / "a" / "memory.stat").write_text("anon 5\ninactive_file 100000\n")
    lines = hardware._lines
    monkeypatch.setattr(hardware, "_GROUPS", tmp_path)
    monkeypatch.setattr(
        hardware, "_lines", lambda path: ["0::/a/b"] if path == "/proc/self/cgroup" else lines(path)
    )
    assert hardware.available_memory() == 500_000
    assert hardware.total_memory() == 1_000_000


def test_a_device_that_is_not_there():
    with pytest.raises(SkippedError, match="mps"):
        hardware.best_device("mps")
