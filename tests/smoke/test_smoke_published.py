"""Checkpoints as other families publish theirs: what is sound is not blamed, what is wrong is."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import publishedkit as kit
import pytest
from levelkit import climb
from publishedkit import INDEX, write_json
from spoil import edited, spoilt, zeros

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from archiver.smoke.report import Level

    Change = Callable[[Path], object]

FILES: tuple[Level, ...] = ("structure", "tokenizer")
MASK = "model.layers.0.self_attn.bias"


@pytest.fixture(scope="module")
def llamas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama in one file, in shards, and in shards with a tied head; never to be changed."""
    below = tmp_path_factory.mktemp("llamas")
    kit.write_llama(below / "single")
    kit.write_llama(below / "shards", shards=True)
    kit.write_llama(below / "tied", shards=True, tie_word_embeddings=True)
    return below


@pytest.fixture
def llama(llamas: Path, tmp_path: Path) -> Callable[[str], Path]:
    return lambda name: shutil.copytree(llamas / name, tmp_path / name)


def _codes(folder: Path, levels: tuple[Level, ...] = FILES) -> set[str]:
    return {one.code for one in climb(folder, levels).wrong}


def _remarks(folder: Path, levels: tuple[Level, ...] = FILES) -> str:
    report = climb(folder, levels).report
    assert report.held, report.findings
    return " ".join(one.message for one in report.findings)


# which files are the model


@pytest.mark.parametrize(
    ("name", "beside", "words"),
    [
        ("single", ["model.fp16.safetensors"], "from model.safetensors; 1 other file"),
        ("single", ["2_Dense/model.safetensors"], "2_Dense/model.safetensors"),
        ("shards", ["consolidated.safetensors"], "1 other file of weights was not tried"),
        ("shards", [f"model.fp16-{n}.safetensors" for n in range(7)], "7 other files"),
        ("shards", ["adapter_model.safetensors"], "adapter_model.safetensors"),
    ],
)
def test_other_weights_are_one_remark(
    llama: Callable[[str], Path], name: str, beside: list[str], words: str
):
    folder = llama(name)
    for path in beside:
        kit.copy_weights(folder, path)
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    assert words in _remarks(folder, ("structure",))


def test_an_index_of_another_layout_is_not_what_is_loaded(llama: Callable[[str], Path]):
    folder, shard = llama("shards"), "consolidated-00001-of-00001.safetensors"
    _put(folder / shard, "layers.0.attention.wq.weight")
    other = {"weight_map": {"layers.0.attention.wq.weight": shard}}
    write_json(folder / "consolidated.safetensors.index.json", other)
    found = climb(folder, ("structure",)).report
    assert found.held, found.findings
    assert [one.path for one in found.findings] == [shard]
    named = json.loads((folder / INDEX).read_text())["weight_map"]
    assert found.levels[0].facts["tensors"] == len(named)
    assert "the index agrees with the headers" in found.levels[0].proved


def test_an_adapter_is_no_broken_model(tmp_path: Path):
    kit.write_tokenizer(tmp_path)
    write_json(tmp_path / "adapter_config.json", {"base_model_name_or_path": "Org/Base"})
    shutil.copy(tmp_path / "tokenizer.json", tmp_path / "adapter_model.safetensors")
    assert _codes(tmp_path) == {"model-unreadable"}
    _put(tmp_path / "adapter_model.safetensors", "base.lora_A.weight")
    assert "an adapter for Org/Base" in _remarks(tmp_path)
    for settings in ("", "[]", '{"base_model_name_or_path": 7}'):
        (tmp_path / "adapter_config.json").write_text(settings)
        assert "It is an adapter (adapter_config.json)" in _remarks(tmp_path, ("structure",))
    write_json(tmp_path / "config.json", {"model_type": "llama"})
    done = climb(tmp_path, ("structure", "load"))
    assert done["load"].verdict == "skipped"
    assert "no model by itself" in done["load"].reason


def _put(path: Path, tensor: str) -> None:
    from archiver.tensors.header import header_bytes

    path.parent.mkdir(exist_ok=True)
    path.write_bytes(header_bytes([(tensor, "BF16", (2, 2), 8)], {"format": "pt"}) + bytes(8))


def test_a_pipeline_of_models_is_no_broken_model(tmp_path: Path):
    write_json(tmp_path / "model_index.json", {"unet": ["diffusers", "UNet2DConditionModel"]})
    for part in ("unet", "vae"):
        write_json(tmp_path / part / "config.json", {})
        _put(tmp_path / part / "diffusion_pytorch_model.safetensors", "conv.weight")
    assert "folders of their own: unet/, vae/." in _remarks(tmp_path)
    _put(tmp_path / "model.safetensors", "conv.weight")
    assert _codes(tmp_path) == {"model-config"}  # weights beside, so a config is missing beside


def test_a_layout_that_transformers_does_not_read_is_a_remark(tmp_path: Path):
    _put(tmp_path / "consolidated.safetensors", "layers.0.attention.wq.weight")
    assert _codes(tmp_path) == {"model-config"}
    write_json(tmp_path / "params.json", {"dim": 2})
    assert "Mistral's own layout" in _remarks(tmp_path)


# the index


def _set_total(change: Callable[[int, Path], Any]) -> Change:
    def apply(folder: Path) -> None:
        with edited(folder / INDEX) as index:
            total = index["metadata"]["total_size"]
            index["metadata"]["total_size"] = change(total, folder)

    return apply


def _whole_files(_total: int, folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))


def _embedding(folder: Path) -> int:
    return 2 * 32 * int(json.loads((folder / "config.json").read_text())["vocab_size"])


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("shards", lambda total, _: float(total), "agrees with the headers"),
        ("shards", _whole_files, "counts whole files, with their headers"),
        ("tied", lambda total, folder: total + _embedding(folder), "once for each of their names"),
    ],
)
def test_a_total_that_is_counted_in_another_known_way(
    llama: Callable[[str], Path], name: str, change: Callable[[int, Path], Any], words: str
):
    folder = llama(name)
    with edited(folder / INDEX) as index:
        index["metadata"]["total_parameters"] = 7
    _set_total(change)(folder)
    proved = " ".join(climb(folder, ("structure",))["structure"].proved)
    assert words in proved


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("shards", lambda total, _: total + 1),
        ("shards", lambda _total, _: 0),
        ("shards", lambda total, _: str(total)),
        ("shards", lambda total, _: [total]),
        ("shards", lambda total, folder: total + _embedding(folder)),
        ("tied", lambda total, folder: total + 2 * _embedding(folder)),
        ("tied", lambda total, folder: total - _embedding(folder)),
    ],
)
def test_a_total_that_is_of_other_files_is_told(
    llama: Callable[[str], Path], name: str, change: Callable[[int, Path], Any]
):
    folder = llama(name)
    _set_total(change)(folder)
    (finding,) = climb(folder, ("structure",)).wrong
    assert finding.code == "model-index"
    assert "Its total_size is" in finding.message


def test_a_total_may_count_truth_values_as_bits(llama: Callable[[str], Path]):
    folder = llama("shards")
    with spoilt(folder) as weights:
        weights[MASK] = zeros("BOOL", 1, 1, 8, 8)
    _set_total(lambda total, _: total - 56)(folder)
    proved = climb(folder, ("structure",))["structure"].proved
    assert "but its total_size counts truth values as bits" in " ".join(proved)


def test_a_tensor_that_was_left_out_for_another_may_be_listed(llama: Callable[[str], Path]):
    """As the converter of pickles leaves it: listed, and named in the header of its shard."""
    folder, listed = llama("shards"), "model.copy.weight"
    with edited(folder / INDEX) as index:
        index["weight_map"][listed] = index["weight_map"]["model.norm.weight"]
    (finding,) = climb(folder, ("structure",)).wrong
    assert (finding.tensor, "no shard has it" in finding.message) == (listed, True)
    shard = folder / json.loads((folder / INDEX).read_text())["weight_map"][listed]
    _name_in_header(shard, {listed: "model.norm.weight"})
    assert climb(folder, ("structure",)).wrong == []


def _name_in_header(path: Path, names: dict[str, str]) -> None:
    from archiver.tensors.header import header_bytes, parse_header

    raw = path.read_bytes()
    header = parse_header(raw, len(raw))
    listed = [(one.name, one.dtype, one.shape, one.end - one.begin) for one in header.tensors]
    path.write_bytes(header_bytes(listed, header.metadata | names) + raw[header.size :])


@pytest.mark.parametrize(("name", "codes"), [("tied", set()), ("shards", {"model-tensor-missing"})])
def test_a_head_that_is_listed_and_not_there(
    llama: Callable[[str], Path], name: str, codes: set[str]
):
    folder = llama(name)
    with spoilt(folder) as weights:
        if name == "shards":
            weights.remove("lm_head.weight")
    with edited(folder / INDEX) as index:
        index["weight_map"]["lm_head.weight"] = next(iter(index["weight_map"].values()))
    assert _codes(folder, ("structure",)) == codes | ({"model-index"} if codes else set())


# dtypes


@pytest.mark.parametrize(
    ("tensor", "dtype", "shape", "codes"),
    [
        (MASK, "BOOL", (1, 1, 8, 8), set()),
        (MASK, "U8", (1, 1, 8, 8), set()),
        (MASK, "BOOL", (64,), {"model-tensor-dtype"}),
        ("model.layers.0.self_attn.rotary_emb.inv_freq", "F32", (8,), set()),
        ("model.norm.weight", "F32", (32,), set()),
        ("model.norm.weight", "I64", (32,), {"model-tensor-dtype"}),
    ],
)
def test_buffers_and_wider_tensors(
    llama: Callable[[str], Path], tensor: str, dtype: str, shape: tuple[int, ...], codes: set[str]
):
    folder = llama("single")
    with spoilt(folder) as weights:
        weights[tensor] = zeros(dtype, *shape)
    assert _codes(folder, ("structure",)) == codes


def test_a_config_of_wider_numbers_than_most_tensors_have_is_a_remark(llama: Callable[[str], Path]):
    folder = llama("single")
    with spoilt(folder) as weights:
        weights["model.norm.weight"] = zeros("F32", 32)
    with edited(folder / "config.json") as config:
        config["dtype"] = "float32"
    assert "says float32, but most tensors are BF16" in _remarks(folder, ("structure",))


# the tokenizer


def test_rules_of_transformers_own_are_a_remark(llama: Callable[[str], Path]):
    """Llama's leave out the first space of a text that begins with one; the converted file keeps it."""
    folder = llama("single")
    told = _remarks(folder)
    assert "transformers (LlamaTokenizer) has rules of its own" in told
    assert "on 1 of 26 fixed texts: in “ leading space" in told
    with edited(folder / "tokenizer.json") as file:
        file["normalizer"] = {"type": "Lowercase"}
    assert _codes(folder) == {"model-tokenizer"}


def test_a_vocabulary_that_needs_another_library_is_not_shown(llama: Callable[[str], Path]):
    folder = llama("single")
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer.model").write_bytes(b"\n\x0e\n\x05<unk>\x15\x00\x00\x00\x00\x18\x02")
    found = climb(folder, ("tokenizer",))["tokenizer"]
    assert found.verdict == "skipped"
    assert "sentencepiece and protobuf to read tokenizer.model" in found.reason


def test_a_tokenizer_of_bytes_needs_no_vocabulary(tmp_path: Path):
    write_json(tmp_path / "tokenizer_config.json", {"tokenizer_class": "ByT5Tokenizer"})
    assert climb(tmp_path, ("tokenizer",))["tokenizer"].verdict == "held"


def _add(folder: Path, token: str, *, special: bool) -> None:
    with edited(folder / "tokenizer.json") as file:
        number = len(file["model"]["vocab"])
        file["added_tokens"].append(kit.added(number, token, special=special))


@pytest.mark.parametrize(
    ("special", "role", "codes"),
    [
        (True, "", set()),
        (True, "pad_token", set()),
        (True, "eos_token", {"model-special-token"}),
        (False, "", {"model-special-token"}),
    ],
)
def test_a_token_beyond_the_embedding(
    llama: Callable[[str], Path], special: bool, role: str, codes: set[str]
):
    folder = llama("single")
    _add(folder, "<more>", special=special)
    if role:
        with edited(folder / "tokenizer_config.json") as settings:
            settings[role] = "<more>"
    found = climb(folder, ("tokenizer",)).report.findings
    assert {one.code for one in found if not one.remark} == codes
    assert "“<more>” has id 366, but the embedding has 366 rows" in found[-1].message


def test_rows_that_a_class_has_beyond_its_vocabulary_count(llama: Callable[[str], Path]):
    folder = llama("single")
    _add(folder, "<|image|>", special=True)
    with edited(folder / "config.json") as config:
        config["image_token_index"] = config["vocab_size"]
    assert _codes(folder, ("tokenizer",)) == {"model-special-token"}
    with spoilt(folder) as weights:
        weights.reshape("model.embed_tokens.weight", 374, 32)  # Mllama's own 8
    assert _codes(folder, ("tokenizer",)) == set()


def test_ids_that_nothing_reads_are_not_held_against_an_encoder(llama: Callable[[str], Path]):
    folder = llama("single")
    with edited(folder / "config.json") as config:
        config |= {"architectures": ["SiglipModel"], "bos_token_id": 49406}
    assert _codes(folder, ("tokenizer",)) == set()
    with edited(folder / "config.json") as config:
        config["architectures"] = ["LlamaForCausalLM"]
    assert _codes(folder, ("tokenizer",)) == {"model-special-token"}


_ALTERNATE = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    "{{ m.content }}{% endfor %}"
)
_PARTS = (
    "{% for m in messages %}{% for p in m.content %}{{ p['text'].strip() }}{% endfor %}{% endfor %}"
)
_TOOLS = "{% for t in tools %}{{ t.function.name }}{% endfor %}" + _ALTERNATE
_FLAT = "{% for t in tools or [] %}{{ t.parameters.properties.town.type }}{% endfor %}" + _ALTERNATE
_TRANSLATED = (
    "{% for m in messages %}{% if not m.content[0].source_lang_code %}"
    "{{ raise_exception('no language') }}{% endif %}{{ m.content[0].text }}{% endfor %}"
)


@pytest.mark.parametrize(
    "templates",
    [
        {"": _ALTERNATE},
        {"chat_template.json": _PARTS},
        {"default": _ALTERNATE, "tool_use": _TOOLS, "rag": "{{ documents[0].title }}"},
        {"": _FLAT},
        {"": _TRANSLATED},
    ],
)
def test_chat_templates_in_all_the_places(llama: Callable[[str], Path], templates: dict[str, str]):
    folder = llama("single")
    _write_templates(folder, templates)
    proved = " ".join(climb(folder, FILES)["tokenizer"].proved)
    assert "rendered a conversation" in proved
    _write_templates(folder, dict.fromkeys(templates, "{{ raise_exception('no') }}"))
    assert _codes(folder) == {"model-chat-template"}


def test_a_processor_s_template_counts_beside_the_tokenizer_s(llama: Callable[[str], Path]):
    folder = llama("single")
    _write_templates(folder, {"": _ALTERNATE, "chat_template.json": "{{ raise_exception('no') }}"})
    (finding,) = climb(folder, ("tokenizer",)).wrong
    assert "chat_template.json cannot be rendered: no" in finding.message


def _write_templates(folder: Path, templates: dict[str, str]) -> None:
    for name, template in templates.items():
        if name == "chat_template.json":
            write_json(folder / name, {"chat_template": template})
        elif name in {"", "default"}:
            (folder / "chat_template.jinja").write_text(template)
        else:
            path = folder / "additional_chat_templates" / f"{name}.jinja"
            path.parent.mkdir(exist_ok=True)
            path.write_text(template)


# other families


def test_old_names_and_parts_without_use_are_no_fault(tmp_path: Path):
    """As bert-base-uncased is: gamma and beta, a head for pairs of sentences, only a list of words."""
    import torch

    settings = kit.WIDTHS | {"vocab_size": 30}
    kit.write_model(tmp_path, "BertForMaskedLM", "BertConfig", settings, dtype=torch.float32)
    with spoilt(tmp_path) as weights:
        for name in [one for one in weights.names if "LayerNorm" in one]:
            old = name.replace(".weight", ".gamma").replace(".bias", ".beta")
            weights.rename(name, old)
        weights["cls.seq_relationship.weight"] = zeros("F32", 2, 32)
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words = [*special, *"abcdefghij", *(f"##{one}" for one in "abcdefghij")]
    (tmp_path / "vocab.txt").write_text("\n".join(words) + "\n")
    assert "no use for 1 tensor: cls.seq_relationship.weight" in _remarks(tmp_path)
