"""What papers say of a model is what its files say, and nothing where that is not clear."""

from __future__ import annotations

import json

import pytest
from exportkit import CONFIG, config_of
from kit.gguf_files import gguf_file, tensor_bytes
from kit.repository import REPO, bf16, safetensors, weights

ONE = safetensors({"a": ("BF16", (1000, 10), bf16(1, 1000, 10))})
TWO = safetensors({"b": ("F32", (500,), bytes(2000))})
PACKED = safetensors({"a.qweight": ("I32", (100,), bytes(400))})
BERT = safetensors(
    {"a": ("BF16", (1000, 10), bf16(1, 1000, 10)), "position_ids": ("I64", (1, 9), bytes(72))}
)
GGUF = gguf_file({"a": ("Q8_0", (64, 64), tensor_bytes("Q8_0", (64, 64)))})


def config(**more) -> bytes:
    return json.dumps(CONFIG | more).encode()


MODELS = {
    "shards": (
        {
            "model-00001-of-00002.safetensors": ONE,
            "model-00002-of-00002.safetensors": TWO,
            "config.json": config(),
        },
        {"paramSize": "10.5K", "precision": "bf16", "format": "safetensors"},
    ),
    "a shard called as Qwen's": (
        {"model.safetensors-00001-of-00001.safetensors": ONE},
        {"paramSize": "10K", "precision": "bf16", "format": "safetensors"},
    ),
    "tensors of two types, and no word of the publisher's": (
        {"model-00001-of-00002.safetensors": ONE, "model-00002-of-00002.safetensors": TWO},
        {"paramSize": "10.5K", "format": "safetensors"},
    ),
    "two models in one repository": (
        {"model.safetensors": ONE, "consolidated.safetensors": TWO},
        {"format": "safetensors"},
    ),
    "the same tensor in two shards": (
        {"model-00001-of-00002.safetensors": ONE, "model-00002-of-00002.safetensors": ONE},
        {"precision": "bf16", "format": "safetensors"},
    ),
    "quantized": (
        {
            "model.safetensors": PACKED,
            "config.json": config(quantization_config={"quant_method": "gptq"}),
        },
        {"quantization": "gptq", "precision": "bf16", "format": "safetensors"},
    ),
    "packed, and nothing says so": ({"model.safetensors": PACKED}, {"format": "safetensors"}),
    "numbers of positions beside the weights": (
        {"model.safetensors": BERT},
        {"paramSize": "10K", "precision": "bf16", "format": "safetensors"},
    ),
    "GGUF": ({"m-Q8_0.gguf": GGUF}, {"paramSize": "4.1K", "format": "gguf"}),
    "GGUF in two sizes": ({"m-Q8_0.gguf": GGUF, "m-Q8_1.gguf": GGUF + b"x"}, {"format": "gguf"}),
    "pickles": ({"pytorch_model.bin": b"x", "a.pt": b"y"}, {"format": "pytorch"}),
    "several formats": ({"pytorch_model.bin": b"x", "model.safetensors": weights()}, None),
    "the older word": (
        {"config.json": json.dumps({"torch_dtype": "float16"}).encode()},
        {"precision": "fp16"},
    ),
    "of the text part": (
        {"config.json": json.dumps({"text_config": {"dtype": "bfloat16"}}).encode()},
        {"precision": "bf16"},
    ),
}


@pytest.mark.parametrize("case", MODELS)
def test_what_is_said_of_a_model(hub, mirror, export, layout, case):
    files, expected = MODELS[case]
    hub.create(REPO, files)
    assert mirror().code == 0
    assert export("--tag", "x").code == 0
    told = config_of(layout, "x")["config"]
    told.pop("architecture", None)
    if expected is None:
        assert "format" not in told
    else:
        assert told == expected


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, ""),
        (999, ""),
        (1000, "1K"),
        (1_049, "1K"),
        (1_050, "1.1K"),
        (873_438_784, "873.4M"),
        (999_960_000, "1000M"),
        (6_738_415_616, "6.7B"),
        (397_000_000_000, "397B"),
        (10**15, "1Q"),
        (10**30, ""),
    ],
)
def test_a_count_of_parameters(count, text):
    from archiver.export.modelpack import short_count

    assert short_count(count) == text


def test_a_model_of_modelscope_names_its_page_there(modelscope, mirror, export, layout):
    modelscope.create(REPO, {"model.safetensors": ONE})
    assert mirror(f"modelscope:{REPO}").code == 0
    assert export("--tag", "x", reference=f"modelscope:{REPO}").code == 0
    told = config_of(layout, "x")["descriptor"]
    assert told["sourceURL"] == f"{modelscope.endpoint}/models/{REPO}"
