"""Architectures of other natures than Qwen3.5's: each computes what transformers' loader makes."""

from __future__ import annotations

import json
import shutil

import loadkit
import pytest
from levelkit import climb_checkpoint

from archiver.errors import SkippedError
from archiver.smoke.checkpoint.folder import FolderCheckpoint
from archiver.smoke.messages import Settings
from archiver.smoke.report import FailedError, library_errors, up_to

ROWS = 320
WIDTHS = {
    "vocab_size": ROWS,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
}
GROUPED = WIDTHS | {"num_key_value_heads": 2, "head_dim": 16}
PAIR = {
    "vocab_size": ROWS,
    "d_model": 64,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 96,
    "decoder_ffn_dim": 96,
}
SIGHT = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "image_size": 56,
    "patch_size": 14,
}
SIGHT_QWEN = {
    "depth": 1,
    "hidden_size": 32,
    "num_heads": 4,
    "out_hidden_size": 64,
    "intermediate_size": 48,
    "patch_size": 16,
    "num_position_embeddings": 64,
    "deepstack_visual_indexes": [0],
}
MROPE = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]}
GPT = {"vocab_size": ROWS, "n_embd": 64, "n_layer": 2, "n_head": 4, "bos_token_id": 0}
T5 = {"vocab_size": ROWS, "d_model": 64, "d_kv": 16, "d_ff": 96, "num_layers": 2, "num_heads": 4}
OPT = {"word_embed_proj_dim": 32, "ffn_dim": 96}
# the class, its config's class, the config, and the dtype that it is published in
TEXT = {
    "llama": ("LlamaForCausalLM", "LlamaConfig", GROUPED | {"tie_word_embeddings": True}),
    "mixtral": ("MixtralForCausalLM", "MixtralConfig", GROUPED | {"num_local_experts": 4}),
    "gpt2": ("GPT2LMHeadModel", "GPT2Config", GPT),
    "opt": ("OPTForCausalLM", "OPTConfig", WIDTHS | OPT),
    "mamba": ("MambaForCausalLM", "MambaConfig", WIDTHS | {"state_size": 8}),
    "t5": ("T5ForConditionalGeneration", "T5Config", T5 | {"decoder_start_token_id": 0}),
    "bart": ("BartForConditionalGeneration", "BartConfig", PAIR),
    "bert": ("BertForMaskedLM", "BertConfig", WIDTHS),
    "bert-classes": ("BertForSequenceClassification", "BertConfig", WIDTHS),
    "gemma3": (
        "Gemma3ForConditionalGeneration",
        "Gemma3Config",
        {"text_config": GROUPED, "vision_config": SIGHT, "mm_tokens_per_image": 4},
    ),
    "qwen3-vl": (
        "Qwen3VLForConditionalGeneration",
        "Qwen3VLConfig",
        {"text_config": GROUPED | {"rope_parameters": MROPE}, "vision_config": SIGHT_QWEN},
    ),
}
SOUND = PAIR | {"max_source_positions": 50, "num_mel_bins": 16, "max_target_positions": 64}
OTHER = {
    "vit": ("ViTForImageClassification", "ViTConfig", SIGHT),
    "whisper": (
        "WhisperForConditionalGeneration",
        "WhisperConfig",
        SOUND | {"pad_token_id": 0, "decoder_start_token_id": 1},
    ),
}
WRITES = {"rwkv": ("RwkvForCausalLM", "RwkvConfig", WIDTHS)}


@pytest.fixture
def climb():
    """Climbs levels of a folder's model, which can be asked more until the test ends."""
    opened = []

    def climbed(folder, levels):
        opened.append(FolderCheckpoint(folder, workers=1))
        return climb_checkpoint(opened[-1], levels, Settings(device="cpu"))

    yield climbed
    for one in opened:
        one.close()


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A random model of an architecture, as ``save_pretrained`` writes it."""
    below = tmp_path_factory.mktemp("architectures")

    def write(name):
        import torch
        import transformers

        folder = below / name
        if not folder.exists():
            cls, kind, settings = (TEXT | OTHER | WRITES)[name]
            torch.manual_seed(1)
            model = getattr(transformers, cls)(getattr(transformers, kind)(**settings))
            model.to(torch.bfloat16).save_pretrained(folder)
        return folder

    return write


def _stream_all(monkeypatch):
    loadkit.stream_all(monkeypatch)
    loadkit.keep_nothing(monkeypatch)


def _same(module, wanted, inputs):
    import torch

    with torch.no_grad():
        return torch.equal(module(**inputs)[0], wanted(**inputs)[0])


@pytest.mark.parametrize("name", TEXT)
def test_it_holds_and_computes_what_the_files_do(written, climb, monkeypatch, name):
    from archiver.smoke.passes.inputs import text_inputs

    wanted = loadkit.reference(written(name), "bfloat16")
    last = "held" if wanted.can_generate() else "inapplicable"
    for mode in ("resident", "streamed"):
        done = climb(written(name), up_to("generate"))
        assert list(done.verdicts.values()) == ["held", "inapplicable", "held", "held", last]
        assert done.session.model.mode == mode
        assert _same(done.session.model.module, wanted, text_inputs(done.session))
        _stream_all(monkeypatch)


def test_what_takes_no_text_is_loaded_and_no_more(written, climb, monkeypatch):
    for _ in ("resident", "streamed"):
        done = climb(written("vit"), up_to("generate"))
        assert done.verdicts["load"] == "held"
        assert done.verdicts["forward"] == done.verdicts["generate"] == "inapplicable"
        _stream_all(monkeypatch)


def test_a_table_that_is_sliced_gives_its_own_rows(written, climb, monkeypatch):
    import torch

    _stream_all(monkeypatch)
    session = climb(written("whisper"), up_to("load")).session
    inputs = {
        "input_features": torch.ones(1, 16, 100, dtype=torch.bfloat16),
        "decoder_input_ids": torch.tensor([[1, 300, 9]]),
    }
    wanted = loadkit.reference(written("whisper"), "bfloat16")
    assert _same(session.model.module, wanted, inputs)


def test_a_model_that_writes_to_its_weights_is_not_streamed(written, climb, monkeypatch):
    assert climb(written("rwkv"), ("load", "forward")).verdicts["forward"] == "held"
    _stream_all(monkeypatch)
    done = climb(written("rwkv"), ("load", "forward"))["forward"]
    assert done.verdict == "skipped"
    assert "it changes rwkv.blocks.0.attention.output.weight" in done.reason


def test_a_config_of_another_dtype_than_all_tensors_is_only_remarked_on(written, climb, tmp_path):
    folder = shutil.copytree(written("bert"), tmp_path / "bert")
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(settings | {"dtype": "float16"}))
    found = climb(folder, ("structure",))["structure"]
    assert found.verdict == "held"
    assert "config.json says float16, but most tensors are BF16" in found.findings[0].message


@pytest.mark.parametrize("name", ["fourier", "mixed"])
def test_an_operation_without_16_bit_floats_is_not_the_model_s_fault(name):
    """As FNet's Fourier transform, and Reformer's norms of what it computes in longer floats."""
    import torch

    short = torch.ones(2, 4, dtype=torch.bfloat16)
    weight, bias = torch.ones(4), torch.zeros(4, dtype=torch.bfloat16)
    operations = {
        "fourier": lambda: torch.fft.fft(short),
        "mixed": lambda: torch.nn.functional.layer_norm(short, (4,), weight, bias),
    }
    with (
        pytest.raises(SkippedError, match="A pass failed") as error,
        library_errors("model-output", "A pass"),
    ):
        operations[name]()
    assert "--dtype float32" in error.value.hint
    with pytest.raises(FailedError), library_errors("model-output", "A pass"):
        torch.ones(2) @ torch.ones(3)
