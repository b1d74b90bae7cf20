"""Each fault of a model's structure is found, by its code and by the tensor or file that is hit."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from smokekit import archived
from spoil import INDEX, edited, spoilt, write_index, zeros
from structurekit import findings, remarks, session_of, structure_of, told

from archiver.smoke.checkpoint.folder import FolderCheckpoint
from archiver.smoke.report import MOST
from archiver.smoke.structure.dtypes import check_dtypes, role
from archiver.smoke.structure.layers import check_experts, check_mtp, check_tied
from archiver.smoke.structure.quantization import check_scales

FULL = "model.language_model.layers.3"
LINEAR = "model.language_model.layers.1"
SHARD = "model.safetensors-00001-of-00001.safetensors"
DOWN = f"{FULL}.mlp.down_proj.weight"
EXPERTS = f"{FULL}.mlp.experts"
SOUND = (
    "dense",
    "moe",
    "dense-fp8",
    "moe-fp8",
    "text",
    "text-moe",
    "dense-untied",
    "minilm",
)


@pytest.mark.parametrize("name", SOUND)
def test_a_sound_model_has_neither_findings_nor_remarks(models, name):
    proof = structure_of(models(name))
    assert proof.findings == ()
    assert "takes every tensor" in proof.proved[-1]
    assert "every header is sound" in proof.proved[0]


def test_straight_from_the_archive_it_says_the_same(models, tmp_path):
    folder = models("moe-fp8")
    assert structure_of(archived(folder, tmp_path)) == structure_of(folder)


def test_it_says_what_was_proved(models):
    proved = structure_of(models("moe-fp8")).proved
    assert "the index agrees with the headers" in proved
    assert "1 MTP layer is complete" in proved
    assert "4 layers of experts: each has all 8" in proved
    assert "152 tensors of FP8 scales: each has the right grid" in proved


def test_a_quantization_without_its_library_is_a_remark(models):
    assert findings(models("int4")) == []
    found = remarks(models("int4"))
    assert {one.code for one in found} == {"model-not-tried"}
    assert any("'awq' cannot be loaded here" in one.message for one in found)


# headers and index


def test_a_file_that_is_cut_short(copy_of):
    path = copy_of("dense") / SHARD
    path.write_bytes(path.read_bytes()[:-1])
    found = told(path.parent)
    assert ("model-unreadable", SHARD) in found
    assert "model-index" not in {code for code, _ in found}


def test_only_pickles_are_not_opened(tmp_path, models):
    from archiver.errors import SkippedError

    (tmp_path / "config.json").write_bytes((models("dense") / "config.json").read_bytes())
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(SkippedError, match="pickles, which are never opened"):
        structure_of(tmp_path)


def test_no_weights_at_all(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    assert [one.code for one in findings(tmp_path)] == ["model-tensor-missing"]


def test_a_shard_that_the_index_names_and_that_is_not_there(copy_of):
    folder = copy_of("moe")
    next(folder.glob("*-00002-of-00003.safetensors")).unlink()
    first = findings(folder)[0]
    assert (first.code, first.path) == ("model-index", INDEX)
    assert "-00002-of-00003.safetensors, which is not there" in first.message
    assert [one.code for one in findings(folder)].count("model-index") == 1


def test_a_wrong_total(copy_of):
    folder = copy_of("dense")
    with edited(folder / INDEX) as index:
        index["metadata"]["total_size"] += 1
    (finding,) = findings(folder)
    assert finding.code == "model-index"
    assert "total_size" in finding.message


def test_an_index_need_not_tell_the_total(copy_of):
    folder = copy_of("dense")
    with edited(folder / INDEX) as index:
        del index["metadata"]
    assert findings(folder) == []


def test_a_tensor_that_is_listed_in_the_wrong_shard(copy_of):
    folder = copy_of("moe")
    with edited(folder / INDEX) as index:
        first, *_, last = sorted(set(index["weight_map"].values()))
        name = next(name for name, shard in index["weight_map"].items() if shard == first)
        index["weight_map"][name] = last
    (finding,) = findings(folder)
    assert (finding.code, finding.tensor) == ("model-index", name)
    assert f"it is in {first}" in finding.message
    assert not any("index agrees" in one for one in structure_of(folder).proved)


def test_a_tensor_that_is_not_listed_and_one_that_is_listed_only(copy_of):
    folder = copy_of("dense")
    with edited(folder / INDEX) as index:
        index["weight_map"]["nowhere"] = index["weight_map"].pop("mtp.norm.weight")
    assert told(folder) == {("model-index", "nowhere"), ("model-index", "mtp.norm.weight")}


def test_a_tensor_in_two_shards(copy_of):
    folder = copy_of("moe")
    with spoilt(folder) as weights:
        name = next(iter(next(iter(weights.shards.values()))))
        list(weights.shards.values())[-1][name] = weights[name]
    assert told(folder) == {("model-index", name)}


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"weight_map": {"a": 1}}', '{"weight_map": []}', "[" * 100_000]
)
def test_an_index_that_is_none(copy_of, content):
    folder = copy_of("dense")
    (folder / INDEX).write_text(content)
    assert told(folder) == {("model-index", INDEX)}


@pytest.mark.parametrize("shard", ["../up.safetensors", "/etc/passwd", "", "\x1b[31m"])
def test_a_hostile_name_of_a_shard_is_only_one_that_is_not_there(copy_of, shard):
    folder = copy_of("dense")
    with edited(folder / INDEX) as index:
        index["weight_map"]["mtp.norm.weight"] = shard
    assert {code for code, _ in told(folder)} == {"model-index"}
    assert not any("\x1b" in one.message for one in findings(folder))


def test_many_faults_of_a_kind_are_counted(copy_of):
    folder = copy_of("dense")
    write_index(folder, {f"t{number}": SHARD for number in range(1000)}, None)
    found = findings(folder)
    assert len(found) < 100
    assert any("980 more" in one.message for one in found)


def test_a_file_that_no_index_names_is_a_remark(copy_of):
    folder = copy_of("dense")
    (folder / "adapter.safetensors").write_bytes((folder / SHARD).read_bytes())
    assert findings(folder) == []
    assert [(one.code, one.path) for one in remarks(folder)] == [
        ("model-not-tried", "adapter.safetensors")
    ]


# dtypes


@pytest.mark.parametrize("name", [DOWN, "lm_head.weight", "mtp.fc.weight"])
def test_another_dtype_of_the_same_width(copy_of, name):
    folder = copy_of("dense-untied")
    with spoilt(folder) as weights:
        weights.retype(name, "F16")
    assert told(folder) == {("model-tensor-dtype", name)}


def test_a_wider_dtype_in_one_layer(copy_of):
    folder = copy_of("dense")
    with spoilt(folder) as weights:
        weights[DOWN] = zeros("F32", *weights[DOWN].shape)
    assert told(folder) == {("model-tensor-dtype", DOWN)}


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("encoder.layer.2.output.dense.weight", "F64"),
        ("embeddings.word_embeddings.weight", "I32"),
    ],
)
def test_another_dtype_in_another_family(copy_of, name, dtype):
    folder = copy_of("minilm")
    with spoilt(folder) as weights:
        weights[name] = zeros(dtype, *weights[name].shape)
    assert told(folder) == {("model-tensor-dtype", name)}


def test_a_recurrence_that_lost_its_precision(copy_of):
    folder, name = copy_of("dense"), f"{LINEAR}.linear_attn.A_log"
    with spoilt(folder) as weights:
        weights[name] = zeros("BF16", *weights[name].shape)
    assert told(folder) == {("model-tensor-dtype", name)}


def test_a_model_that_transformers_saved_in_one_dtype_is_sound(copy_of):
    folder = copy_of("dense")
    with spoilt(folder) as weights:
        for name in weights.names:
            if weights[name].dtype == "F32":
                weights[name] = zeros("BF16", *weights[name].shape)
    assert findings(folder) == []


def test_fp8_in_a_model_that_is_not_quantized(copy_of):
    folder = copy_of("dense-fp8")
    with edited(folder / "config.json") as config:
        del config["quantization_config"]
    assert {code for code, _ in told(folder)} == {"model-tensor-dtype"}


def test_one_weight_of_a_quantized_role_that_is_plain(copy_of):
    folder = copy_of("dense-fp8")
    with spoilt(folder) as weights:
        weights[DOWN] = zeros("BF16", *weights[DOWN].shape)
        weights.remove(f"{DOWN}_scale_inv")
    assert told(folder) == {("model-tensor-dtype", DOWN)}
    name = DOWN.removesuffix(".weight")
    for kept in (name, name.replace("language_model.", "")):
        with edited(folder / "config.json") as config:
            config["quantization_config"]["modules_to_not_convert"][-1] = kept
        assert findings(folder) == []


@pytest.mark.parametrize(
    ("model", "ending", "dtype"),
    [("dense-fp8", "down_proj.weight_scale_inv", "I32"), ("gptq", ".up_proj.qweight", "F32")],
)
def test_another_dtype_of_what_belongs_to_a_quantization(copy_of, model, ending, dtype):
    folder = copy_of(model)
    with spoilt(folder) as weights:  # in all layers alike
        names = [name for name in weights.names if name.endswith(ending)]
        for name in names:
            weights[name] = zeros(dtype, *weights[name].shape)
    found = told(folder)
    assert ("model-tensor-dtype", names[0]) in found


def test_another_dtype_of_the_same_width_in_another_family(copy_of):
    folder, name = copy_of("minilm"), "embeddings.word_embeddings.weight"
    with edited(folder / "config.json") as config:
        config["torch_dtype"] = "bfloat16"
    assert findings(folder) == []  # wider ones are right
    with spoilt(folder) as weights:
        weights[name] = zeros("F16", *weights[name].shape)
    assert told(folder) == {("model-tensor-dtype", name)}


def test_a_single_file_counts_before_what_an_index_names(copy_of):
    folder = copy_of("dense")
    whole = (folder / SHARD).read_bytes()
    with spoilt(folder, index=False) as weights:
        weights.remove(DOWN)
    (folder / SHARD).rename(folder / "model.safetensors")
    (folder / SHARD).write_bytes(whole)
    assert ("model-tensor-missing", DOWN) in told(folder)
    assert "The model is loaded from model.safetensors; 1 other file" in " ".join(
        one.message for one in remarks(folder)
    )


# scales


def test_a_weight_without_its_scales(copy_of):
    folder = copy_of("dense-fp8")
    with spoilt(folder) as weights:
        weights.remove(f"{DOWN}_scale_inv")
    assert told(folder) == {("model-scale", DOWN)}


def test_scales_of_the_wrong_grid(copy_of):
    folder = copy_of("dense-fp8")
    with spoilt(folder) as weights:
        weights.reshape(f"{DOWN}_scale_inv", 1, 2)
    (finding,) = findings(folder)
    assert (finding.code, finding.tensor) == ("model-scale", f"{DOWN}_scale_inv")
    assert "needs 1 x 3" in finding.message
    with edited(folder / "config.json") as config:
        config["quantization_config"]["weight_block_size"] = [128, 64]
    with session_of(folder) as session:
        found = check_scales(
            {DOWN: session.tensors[DOWN], **_scale_of(session)}, session.config
        ).findings
    assert "needs 1 x 6" in found[0].message


def _scale_of(session):
    return {f"{DOWN}_scale_inv": session.tensors[f"{DOWN}_scale_inv"]}


def test_fp8_of_what_is_no_matrix(copy_of):
    folder, name = copy_of("dense-fp8"), "mtp.norm.weight"
    with spoilt(folder) as weights:
        weights[name] = zeros("F8_E4M3", 128)
    assert ("model-scale", name) in told(folder)
    assert "no matrix" in findings(folder)[0].message or "no matrix" in findings(folder)[-1].message


def test_scales_without_their_weight(copy_of):
    folder = copy_of("dense-fp8")
    with spoilt(folder) as weights:
        weights["mtp.norm.weight_scale_inv"] = zeros("BF16", 1, 1)
        weights["stray.weight_scale_inv"] = zeros("BF16", 1, 1)
    assert told(folder) == {
        ("model-scale", "mtp.norm.weight_scale_inv"),
        ("model-scale", "stray.weight_scale_inv"),
    }


# multi-token prediction


def test_all_of_mtp_is_gone(copy_of):
    folder = copy_of("moe")
    with spoilt(folder) as weights:
        weights.remove(*(name for name in weights.names if name.startswith("mtp.")))
    assert told(folder) == {("model-mtp", "mtp.*")}


@pytest.mark.parametrize(
    "name",
    [
        "mtp.fc.weight",
        "mtp.norm.weight",
        "mtp.pre_fc_norm_hidden.weight",
        "mtp.layers.0.self_attn.q_norm.weight",
    ],
)
def test_part_of_mtp_is_gone(copy_of, name):
    folder = copy_of("dense")
    with spoilt(folder) as weights:
        weights.remove(name)
    assert told(folder) == {("model-mtp", name)}


@pytest.mark.parametrize("name", ["mtp.fc.weight", "mtp.layers.0.self_attn.k_proj.weight"])
def test_part_of_mtp_has_another_shape(copy_of, name):
    folder = copy_of("dense")
    with spoilt(folder) as weights:
        weights.reshape(name, 128, 128)
    assert told(folder) == {("model-mtp", name)}


def test_more_mtp_layers_are_counted_than_there_are(copy_of):
    folder = copy_of("dense")
    with edited(folder / "config.json") as config:
        config["text_config"]["mtp_num_hidden_layers"] = 9
    assert told(folder) == {("model-mtp", "mtp.layers.1.*")}


@pytest.mark.parametrize(
    ("model", "name", "shape"),
    [
        ("dense", DOWN, (128, 383)),
        ("dense", f"{FULL}.self_attn.q_norm.weight", (7,)),
        ("moe", f"{EXPERTS}.gate_up_proj", (8, 128, 100)),
        ("moe-fp8", f"{EXPERTS}.5.up_proj.weight", (64, 100)),
    ],
)
def test_a_wrong_shape_is_told_once_and_not_of_what_was_compared_with_it(
    copy_of, model, name, shape
):
    """The only full-attention layer is what the MTP layer is held to, and experts are joined."""
    folder = copy_of(model)
    with spoilt(folder) as weights:
        weights.reshape(name, *shape)
    assert told(folder) == {("model-tensor-shape", name)}


def test_a_tensor_that_the_only_full_layer_lacks_is_told_once(copy_of):
    folder, name = copy_of("dense"), f"{FULL}.self_attn.q_norm.weight"
    with spoilt(folder) as weights:
        weights.remove(name)
    assert told(folder) == {("model-tensor-missing", name)}


def test_the_index_is_read_once(models, monkeypatch):
    read, asked = FolderCheckpoint.read, []
    monkeypatch.setattr(
        FolderCheckpoint,
        "read",
        lambda one, path, limit: asked.append(path) or read(one, path, limit),
    )
    structure_of(models("moe"))
    assert asked.count(INDEX) == 1


def test_mtp_layers_are_held_to_what_most_layers_have(models):
    with session_of(models("dense")) as session:
        tensors, config = dict(session.tensors), session.config
    for name, one in session.tensors.items():
        if name.startswith(FULL):
            for number in (7, 11):
                tensors[name.replace("layers.3", f"layers.{number}")] = one
    odd = DOWN.replace("layers.3", "layers.11")
    tensors[odd] = tensors[odd]._replace(shape=(1, 2))
    tensors[f"{FULL}.of_one_layer.weight"] = tensors[odd]
    assert check_mtp(tensors, config).findings == ()


def test_mtp_layers_are_not_held_to_experts_that_cannot_be_joined(models):
    with session_of(models("moe-fp8")) as session:
        tensors, config = dict(session.tensors), session.config
    for name, one in session.tensors.items():
        if name.startswith(EXPERTS) and name.endswith("up_proj.weight"):
            tensors[name] = one._replace(shape=(1, 2))
    assert check_mtp(tensors, config).findings
    assert check_mtp(tensors, config, {f"{EXPERTS}.gate_up_proj"}).findings == ()


def test_scales_are_none_that_an_mtp_layer_lacks(models):
    with session_of(models("dense-fp8")) as session:
        tensors = {
            name: one
            for name, one in session.tensors.items()
            if not (name.startswith("mtp.") and name.endswith("_scale_inv"))
        }
        assert check_mtp(tensors, session.config).findings == ()


def test_a_shape_of_experts_without_number_is_not_expanded(models):
    with session_of(models("moe")) as session:
        tensors, config = dict(session.tensors), session.config
    name = f"{EXPERTS}.gate_up_proj"
    tensors[name] = tensors[name]._replace(shape=(9000, 2, 2))
    (finding,) = check_mtp(tensors, config).findings
    assert finding.tensor == "mtp.layers.0.mlp.experts.gate_up_proj"


@pytest.mark.parametrize("counted", [0, 1])
def test_more_mtp_layers_than_are_counted_are_a_remark(models, counted):
    with session_of(models("dense")) as session:
        tensors, config = dict(session.tensors), replace(session.config, mtp_layers=counted)
    for name, one in session.tensors.items():
        if name.startswith("mtp.layers.0"):
            tensors[name.replace("layers.0", "layers.1")] = one
    (remark,) = check_mtp(tensors, config).findings
    assert (remark.code, remark.tensor) == ("model-tensor-unused", f"mtp.layers.{counted}.*")
    assert f"{2 - counted} more" in remark.message


def test_nothing_is_said_of_dtypes_without_tensors(models):
    with session_of(models("dense")) as session:
        assert check_dtypes({}, session.config).proved == ()


def test_an_expert_of_the_mtp_layer_is_gone(copy_of):
    folder, name = copy_of("moe"), "mtp.layers.0.mlp.experts.7.up_proj.weight"
    with spoilt(folder) as weights:
        weights.remove(name)
    assert told(folder) == {("model-mtp", name)}


# tensors of the model


@pytest.mark.parametrize("name", [DOWN, "model.visual.blocks.0.attn.qkv.weight"])
def test_a_missing_tensor(copy_of, name):
    folder = copy_of("dense")
    with spoilt(folder) as weights:
        weights.remove(name)
    assert ("model-tensor-missing", name) in told(folder)


def test_a_wrong_shape(copy_of):
    folder, name = copy_of("dense"), "model.visual.blocks.0.attn.qkv.weight"
    with spoilt(folder) as weights:
        weights.reshape(name, 192, 32)
    (finding,) = findings(folder)
    assert (finding.code, finding.tensor) == ("model-tensor-shape", name)
    assert "[192, 32]" in finding.message
    assert "[192, 64]" in finding.message


def test_a_tensor_under_another_name_is_missing_and_unused(copy_of):
    folder, name = copy_of("dense"), f"{LINEAR}.linear_attn.dt_bias"
    with spoilt(folder) as weights:
        weights.rename(name, "model.stray")
    assert told(folder) == {("model-tensor-missing", name)}
    (remark,) = remarks(folder)
    assert remark.code == "model-tensor-unused"
    assert "1 tensor: model.stray" in remark.message


def test_one_expert_of_a_quantized_mixture_is_gone(copy_of):
    folder, name = copy_of("moe-fp8"), f"{EXPERTS}.5.up_proj.weight"
    with spoilt(folder) as weights:
        weights.remove(name, f"{name}_scale_inv")
    assert ("model-tensor-missing", name) in told(folder)


def test_one_matrix_of_all_experts_of_a_layer_is_gone(copy_of):
    folder = copy_of("moe-fp8")
    gone = [f"{EXPERTS}.{number}.up_proj.weight" for number in range(8)]
    with spoilt(folder) as weights:
        weights.remove(*gone, *(f"{name}_scale_inv" for name in gone))
    assert {("model-tensor-missing", name) for name in gone} <= told(folder)


def test_one_expert_has_another_shape(copy_of):
    folder, name = copy_of("moe-fp8"), f"{EXPERTS}.5.up_proj.weight"
    with spoilt(folder) as weights:
        weights.reshape(name, 64, 100)
    assert ("model-tensor-shape", name) in told(folder)


def test_fused_experts_are_more_than_the_config_says(models):
    with session_of(models("moe")) as session:
        text = session.config.text | {"num_experts": 7}
        found = check_experts(session.tensors, replace(session.config, text=text)).findings
    assert {one.code for one in found} == {"model-tensor-shape"}


@pytest.mark.parametrize("key", ["num_experts", "num_local_experts", "n_routed_experts"])
def test_many_experts_that_are_gone_are_counted(models, key):
    with session_of(models("moe-fp8")) as session:
        config = replace(session.config, text={key: 1000})
        found = check_experts(session.tensors, config).findings
    assert {one.code for one in found} == {"model-tensor-missing"}
    assert len([one for one in found if one.tensor]) == MOST
    assert len(found) == MOST + 1


def test_where_many_experts_have_another_shape_it_is_meant_so(models):
    with session_of(models("moe-fp8")) as session:
        tensors, config = dict(session.tensors), session.config
    for number in range(4):
        name = f"{EXPERTS}.{number}.up_proj.weight"
        tensors[name] = tensors[name]._replace(shape=(1, 2))
    assert check_experts(tensors, config).findings == ()


def test_fused_experts_are_fewer_than_the_config_says(copy_of):
    folder, name = copy_of("moe"), f"{EXPERTS}.gate_up_proj"
    with spoilt(folder) as weights:
        weights.reshape(name, 7, *weights[name].shape[1:])
    assert ("model-tensor-shape", name) in told(folder)


def test_the_head_is_gone(copy_of):
    folder = copy_of("moe")
    with spoilt(folder) as weights:
        weights.remove("lm_head.weight")
    assert [one.tensor for one in findings(folder)] == ["lm_head.weight"]  # and told once


def test_a_tied_head_may_be_stored_as_well_but_not_in_another_shape(copy_of):
    folder = copy_of("dense")
    with spoilt(folder) as weights:
        weights["lm_head.weight"] = weights["model.language_model.embed_tokens.weight"]
    assert findings(folder) == []
    with spoilt(folder) as weights:
        weights.reshape("lm_head.weight", 7, 128)
    assert told(folder) == {("model-tensor-shape", "lm_head.weight")}


def test_a_tied_embedding_is_gone(copy_of):
    folder, name = copy_of("dense"), "model.language_model.embed_tokens.weight"
    with spoilt(folder) as weights:
        weights.remove(name)
    assert ("model-tensor-missing", name) in told(folder)


# classes


@pytest.mark.parametrize("architecture", ["Unheard", "pipeline", "PreTrainedModel", "__class__"])
def test_a_class_that_transformers_does_not_know_is_a_remark(copy_of, architecture):
    folder = copy_of("dense")
    with edited(folder / "config.json") as config:
        config["architectures"] = [architecture]
    (remark,) = remarks(folder)
    assert remark.code == "model-not-tried"
    assert "knows no class" in remark.message


def test_a_family_that_transformers_does_not_know_is_a_remark(copy_of):
    folder = copy_of("dense")
    with edited(folder / "config.json") as config:
        config["model_type"] = "unheard"
    assert "knows no model_type 'unheard'" in remarks(folder)[-1].message


def test_an_unknown_quantization_is_a_remark(copy_of):
    folder = copy_of("dense")
    with edited(folder / "config.json") as config:
        config["quantization_config"] = {"quant_method": "unheard"}
    assert findings(folder) == []
    assert "quantization 'unheard'" in remarks(folder)[0].message


def test_without_a_class_it_is_the_base_of_the_family(copy_of):
    folder = copy_of("minilm")
    with edited(folder / "config.json") as config:
        del config["architectures"]
    assert structure_of(folder).proved[-1].startswith("BertModel takes every tensor")


def test_a_class_of_another_family(copy_of):
    folder = copy_of("dense")
    with edited(folder / "config.json") as config:
        config["architectures"] = ["BertModel"]
    assert told(folder) == {("model-config", "config.json")}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("hidden_size", "wide"),
        ("layer_types", ["unheard"]),
        ("num_attention_heads", 0),
        ("head_dim", -1),
        ("rope_parameters", [1]),
        ("num_hidden_layers", 999),
    ],
)
def test_a_config_that_makes_no_model_ends_as_findings(copy_of, key, value):
    folder = copy_of("dense")
    with edited(folder / "config.json") as config:
        config["text_config"][key] = value
    found = findings(folder)
    assert found
    assert {one.code for one in found} <= {"model-config", "model-load", "model-mtp"}
    assert not any(one.message.endswith(":") for one in found)


def test_remote_code_is_not_run_and_all_else_is_checked(copy_of):
    folder = copy_of("dense")
    with edited(folder / "config.json") as config:
        config["auto_map"] = {"AutoModel": "evil.Model"}
    (folder / "evil.py").write_text("raise SystemExit(9)")
    proof = structure_of(folder)
    assert "1 MTP layer is complete" in proof.proved
    assert [one.code for one in proof.findings] == ["model-not-tried"]


_ALONE = """
import sys
for name in ("torch", "transformers", "accelerate", "tokenizers", "safetensors", "PIL"):
    sys.modules[name] = None
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from structurekit import structure_of
proof = structure_of(Path(sys.argv[2]))
print(len(proof.proved), [one.code for one in proof.findings], proof.findings[-1].hint)
"""


def test_without_the_extra_the_headers_are_checked_all_the_same(models):
    here = str(Path(__file__).parent)
    command = [sys.executable, "-c", _ALONE, here, str(models("moe-fp8"))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("7 ['model-not-tried'] Install them with: ")


def test_facts_count_what_there_is(models):
    facts = structure_of(models("dense")).facts
    total = json.loads((models("dense") / INDEX).read_text())["metadata"]["total_size"]
    assert facts == {"shards": 1, "tensors": 103, "bytes": total}


@pytest.mark.parametrize(
    ("name", "tensor"),
    [("moe", "lm_head.weight"), ("dense", "model.language_model.embed_tokens.weight")],
)
def test_head_and_embedding_are_looked_for_without_the_extra_too(models, name, tensor):
    with session_of(models(name)) as session:
        tensors = dict(session.checkpoint.tensors)
        del tensors[tensor]
        (finding,) = check_tied(tensors, session.config).findings
    assert (finding.code, finding.tensor) == ("model-tensor-missing", tensor)


def test_a_head_may_have_the_name_that_deepseek_gives_it(models):
    with session_of(models("moe")) as session:
        tensors = dict(session.checkpoint.tensors)
        head = tensors.pop("lm_head.weight")
        tensors["head.weight"] = head._replace(name="head.weight")
        assert check_tied(tensors, session.config).findings == ()


def test_shapes_of_experts_and_head_are_looked_at_without_the_extra_too(models):
    experts, head = f"{EXPERTS}.gate_up_proj", "lm_head.weight"
    with session_of(models("moe")) as session:
        tensors = dict(session.tensors)
        tensors[experts] = tensors[experts]._replace(shape=(7, 128, 128))
        (finding,) = check_experts(tensors, session.config).findings
        assert (finding.code, finding.tensor) == ("model-tensor-shape", experts)
    with session_of(models("moe-fp8")) as session:
        tensors, last = dict(session.tensors), f"{EXPERTS}.7.up_proj.weight"
        del tensors[last], session.config.text["num_experts"]  # the others tell how many there are
        (finding,) = check_experts(tensors, session.config).findings
        assert (finding.code, finding.tensor) == ("model-tensor-missing", last)
    with session_of(models("dense")) as session:
        embedding = session.tensors["model.language_model.embed_tokens.weight"]
        wrong = session.tensors | {head: embedding._replace(name=head, shape=(7, 128))}
        (finding,) = check_tied(wrong, session.config).findings
        assert (finding.code, finding.tensor) == ("model-tensor-shape", head)


@pytest.mark.parametrize("group", ["layers", "layer", "h", "blocks", "block", "experts"])
def test_layers_and_experts_are_alike_and_other_numbers_are_not(group):
    assert role(f"model.{group}.17.mlp.w") == f"model.{group}.*.mlp.w"
    assert role(f"conv.1.my{group}.17.w") == f"conv.1.my{group}.17.w"
