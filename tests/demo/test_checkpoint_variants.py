"""The variants of a checkpoint beside BF16 with vision: what they share with it, and that they load."""

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from checkpointkit import bf16, raw, read_json, shapes, tensors

from archiver.demo.checkpoints import write_dense, write_gptq, write_moe
from archiver.demo.quantization import E4M3_VALUES, e4m3
from archiver.errors import UsageError

VARIANTS = {
    "dense": write_dense,
    "moe": write_moe,
    "dense-fp8": partial(write_dense, fp8=True),
    "moe-fp8": partial(write_moe, fp8=True),
    "text": partial(write_dense, vision=False),
    "text-moe": partial(write_moe, vision=False),
    "text-moe-fp8": partial(write_moe, vision=False, fp8=True),
    "dense-untied": partial(write_dense, tied=False),
    "moe-tied": partial(write_moe, tied=True),
    "gptq": write_gptq,
    "gptq-dense": partial(write_gptq, moe=False),
}
LAYER = "model.language_model.layers.0"
SCALE = ".weight_scale_inv"


@pytest.fixture(scope="module")
def variant(tmp_path_factory):
    below = tmp_path_factory.mktemp("variants")
    made: dict[str, Path] = {}

    def folder(name: str) -> Path:
        if name not in made:
            made[name] = VARIANTS[name](below / name)
        return made[name]

    return folder


def values_of(folder: Path, name: str) -> np.ndarray:
    return bf16(folder, name).reshape(shapes(folder)[name])


def weight(folder: Path, module: str) -> np.ndarray:
    """A linear layer's weight in the BF16 model, where experts may be fused."""
    if f"{module}.weight" in tensors(folder):
        return values_of(folder, f"{module}.weight")
    experts, number, part = module.rsplit(".", 2)
    if part == "down_proj":
        return values_of(folder, f"{experts}.down_proj")[int(number)]
    return np.split(values_of(folder, f"{experts}.gate_up_proj")[int(number)], 2)[part == "up_proj"]


def blocks(scales: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A scale for every weight."""
    return scales.repeat(128, axis=0).repeat(128, axis=1)[: shape[0], : shape[1]]


def fp8_modules(folder: Path) -> list[str]:
    return [name.removesuffix(SCALE) for name in tensors(folder) if name.endswith(SCALE)]


@pytest.mark.parametrize("name", ["dense", "moe"])
def test_fp8_has_codes_and_a_grid_of_bf16_scales(variant, name):
    folder = variant(f"{name}-fp8")
    found, shape = tensors(folder), shapes(folder)
    codes = {tensor for tensor, entry in found.items() if entry["dtype"] == "F8_E4M3"}
    assert codes == {f"{module}.weight" for module in fp8_modules(folder)}
    for module in fp8_modules(folder):
        rows, columns = shape[f"{module}.weight"]
        assert found[module + SCALE]["dtype"] == "BF16"
        assert shape[module + SCALE] == (-(-rows // 128), -(-columns // 128))


@pytest.mark.parametrize("name", ["dense", "moe"])
def test_fp8_codes_are_within_half_a_step_of_the_weight(variant, name):
    for module in fp8_modules(variant(f"{name}-fp8")):
        assert_near(variant(f"{name}-fp8"), variant(name), module)


def assert_near(folder: Path, twin: Path, module: str) -> None:
    shape = shapes(folder)[f"{module}.weight"]
    codes = np.frombuffer(raw(folder, f"{module}.weight"), np.uint8).reshape(shape)
    size = codes & 0x7F
    scale = blocks(values_of(folder, module + SCALE), shape)
    true = weight(twin, module)
    assert true.shape == shape
    # the values to both sides of a code's: half the way there is as far as the weight may be
    below, above = E4M3_VALUES[np.maximum(size, 1) - 1], E4M3_VALUES[np.minimum(size, 0x7D) + 1]
    half = np.maximum(above - E4M3_VALUES[size], E4M3_VALUES[size] - below) / 2
    decoded = np.where(codes & 0x80, -E4M3_VALUES[size], E4M3_VALUES[size]) * scale
    assert (np.abs(decoded - true) <= half * scale * 1.0001).all(), module
    assert size.max() == 0x7E, module


@pytest.mark.parametrize("name", ["dense", "moe"])
def test_what_fp8_leaves_is_byte_for_byte_that_of_the_twin(variant, name):
    folder, twin = variant(f"{name}-fp8"), variant(name)
    codes = {f"{module}.weight" for module in fp8_modules(folder)}
    shared = tensors(folder).keys() & tensors(twin).keys() - codes
    assert all(raw(folder, tensor) == raw(twin, tensor) for tensor in shared)
    lost = tensors(twin).keys() - tensors(folder).keys()
    assert all(".mlp.experts." in tensor for tensor in lost)
    assert all(
        (tensor in shared) == (tensor not in codes and SCALE not in tensor)
        for tensor in tensors(folder)
    )


@pytest.mark.parametrize("name", ["dense", "moe"])
def test_fp8_says_which_modules_it_leaves(variant, name):
    about = read_json(variant(f"{name}-fp8"), "config.json")["quantization_config"]
    left = about.pop("modules_to_not_convert")
    assert about == {
        "activation_scheme": "dynamic",
        "quant_method": "fp8",
        "weight_block_size": [128, 128],
    }
    assert {"model.language_model.embed_tokens", "model.visual.merger.linear_fc1", "mtp.fc"} < set(
        left
    )
    assert {f"{LAYER}.linear_attn.{part}" for part in ("conv1d", "in_proj_a", "in_proj_b")} < set(
        left
    )
    assert ("lm_head" in left) == (f"{LAYER}.mlp.gate" in left) == (name == "moe")
    assert not set(left) & set(fp8_modules(variant(f"{name}-fp8")))
    assert not any("norm" in module for module in left)


def test_a_scale_that_fp8_cannot_have_is_refused(tmp_path):
    with pytest.raises(UsageError, match="whole blocks"):
        write_dense(tmp_path, scale=3, fp8=True)


def test_e4m3_is_nearest_with_ties_to_even():
    assert len(E4M3_VALUES) == 0x7F
    assert (E4M3_VALUES[1], E4M3_VALUES[8], E4M3_VALUES[-1]) == (2**-9, 2**-6, 448)
    assert e4m3(np.float32([0, -0.0, 1, -1, 448, 1e9])).tolist() == [0, 128, 56, 184, 126, 126]
    # 1.0 and 1.125 are codes 56 and 57: half way goes to the even one, and the next tie up
    assert e4m3(np.float32([1.0625, 1.0626, 1.1875])).tolist() == [56, 57, 58]


def test_a_text_model_has_the_same_layers_one_level_higher(variant):
    for name, twin in (("text", "dense"), ("text-moe", "moe")):
        expected = {
            tensor.replace(".language_model.", "."): raw(variant(twin), tensor)
            for tensor in tensors(variant(twin))
            if ".visual." not in tensor
        }
        assert {tensor: raw(variant(name), tensor) for tensor in tensors(variant(name))} == expected


def test_a_text_model_says_so(variant):
    config = read_json(variant("text-moe"), "config.json")
    assert config["architectures"] == ["Qwen3_5MoeForCausalLM"]
    assert config["model_type"] == "qwen3_5_moe_text"
    assert not {"text_config", "vision_config", "image_token_id"} & config.keys()
    assert not list(variant("text-moe").glob("*preprocessor*"))


@pytest.mark.parametrize(
    ("name", "twin", "tied"), [("dense-untied", "dense", False), ("moe-tied", "moe", True)]
)
def test_a_head_is_there_unless_the_embeddings_are_tied(variant, name, twin, tied):
    assert tensors(variant(name)).keys() ^ tensors(variant(twin)).keys() == {"lm_head.weight"}
    assert ("lm_head.weight" in tensors(variant(name))) is not tied
    config = read_json(variant(name), "config.json")
    assert config["tie_word_embeddings"] is config["text_config"]["tie_word_embeddings"] is tied


@pytest.mark.parametrize(("name", "twin"), [("gptq", "moe"), ("gptq-dense", "dense")])
def test_gptq_quantises_the_mlps_alone_and_decodes_to_the_weight(variant, name, twin):
    folder = variant(name)
    modules = [
        tensor.removesuffix(".qweight") for tensor in tensors(folder) if ".qweight" in tensor
    ]
    assert len(modules) == 4 * 3 * (8 if name == "gptq" else 1)
    assert all(".mlp." in module and "shared_expert" not in module for module in modules)
    for module in modules:
        true = weight(variant(twin), module)
        codes, scale = gptq_codes(folder, module, true.shape)
        assert (np.abs(codes * scale - true) <= scale * 0.5001).all(), module
    parts = (".qweight", ".qzeros", ".scales", ".g_idx")
    others = [tensor for tensor in tensors(folder) if not tensor.endswith(parts)]
    assert all(raw(folder, tensor) == raw(variant(twin), tensor) for tensor in others)


def gptq_codes(folder: Path, module: str, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Codes less the zero point, and a scale for each, as outputs by inputs."""

    def words(part: str) -> np.ndarray:
        name = f"{module}.{part}"
        assert tensors(folder)[name]["dtype"] == "I32"
        return np.frombuffer(raw(folder, name), "<u4").reshape(shapes(folder)[name])

    group = words("g_idx")
    assert group.tolist() == [number // 128 for number in range(shape[1])]
    shifts = np.arange(0, 32, 4)
    packed = words("qweight")[:, None, :] >> shifts[None, :, None] & 15
    zeros = (words("qzeros")[:, :, None] >> shifts & 15).reshape(-1, shape[0]) + 1
    codes = packed.reshape(shape[1], shape[0]).astype(int) - zeros[group].astype(int)
    return codes.T, values_of(folder, f"{module}.scales")[group].T


LOAD = """
import json, sys, torch, transformers
transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()
ids = torch.arange(32)[None] * 7 % 500
for folder in sys.argv[1:]:
    config = transformers.AutoConfig.from_pretrained(folder)
    name, = config.architectures
    general = "AutoModelForCausalLM" if name.endswith("ForCausalLM") else name
    loader = getattr(transformers, general)
    try:
        model, info = loader.from_pretrained(folder, dtype=torch.bfloat16, output_loading_info=True)
    except ImportError as error:
        print(json.dumps({"refused": str(error)}))
        continue
    with torch.no_grad():
        logits = model.eval()(input_ids=ids).logits.float()
    info = {key: sorted(map(str, found)) for key, found in info.items() if found}
    assert type(model).__name__ == name
    print(json.dumps({"info": info, "logits": logits.flatten().tolist()}))
"""


@pytest.fixture(scope="module")
def loaded(variant):
    """What transformers makes of every variant, in one process."""
    done = subprocess.run(
        [sys.executable, "-c", LOAD, *(str(variant(name)) for name in VARIANTS)],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
    )
    return dict(zip(VARIANTS, map(json.loads, done.stdout.splitlines()), strict=True))


def apart(one: dict, other: dict) -> float:
    """The relative distance of two models' logits."""
    first, second = np.array(one["logits"]), np.array(other["logits"])
    assert np.isfinite(first).all()
    return float(np.linalg.norm(first - second) / np.linalg.norm(second))


def test_transformers_finds_every_tensor_and_knows_what_to_do_with_it(loaded):
    for name, found in loaded.items():
        if "gptq" not in name:
            assert found["info"] == {}, name


def test_the_logits_are_near_those_of_the_twin(loaded):
    assert apart(loaded["text"], loaded["dense"]) == 0
    assert apart(loaded["text-moe"], loaded["moe"]) == 0
    assert apart(loaded["text-moe-fp8"], loaded["moe-fp8"]) < 0.02
    assert apart(loaded["dense-untied"], loaded["dense"]) > 0.5
    for name in ("dense", "moe"):
        assert 0.02 < apart(loaded[f"{name}-fp8"], loaded[name]) < 0.25


def test_transformers_refuses_gptq_for_want_of_a_library(loaded):
    for name in ("gptq", "gptq-dense"):
        assert "optimum" in loaded[name]["refused"]
