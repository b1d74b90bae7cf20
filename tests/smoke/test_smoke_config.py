"""What ``config.json`` says, and that a hostile one ends as a finding, at once."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from spoil import edited
from structurekit import session_of, told

from archiver.smoke.checkpoint.config import read_config
from archiver.smoke.checkpoint.files import StoredTensor
from archiver.smoke.report import FailedError


class Fake:
    """A checkpoint of a config and some tensors."""

    def __init__(self, content, shapes=((128, 64),)):
        self._content = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.files = {"config.json": len(self._content)}
        self.tensors = {
            str(number): StoredTensor(str(number), "x", "BF16", shape, 0, 2)
            for number, shape in enumerate(shapes)
        }

    def read(self, path, limit):
        if len(self._content) > limit:
            raise ValueError(path)
        return self._content


def refusal(content, **options):
    with pytest.raises(FailedError) as caught:
        read_config(Fake(content, **options))
    (finding,) = caught.value.findings
    assert (finding.code, finding.path) == ("model-config", "config.json")
    return finding.message


def test_a_model_with_vision(models):
    with session_of(models("moe-fp8")) as session:
        config = session.config
    assert config.architecture == "Qwen3_5MoeForConditionalGeneration"
    assert config.model_type == "qwen3_5_moe"
    assert config.text["num_experts"] == 8
    assert config.vision is not None
    assert config.tied is False
    assert config.quant_method == "fp8"
    assert config.dtype == "bfloat16"
    assert config.mtp_layers == 1


def test_a_model_for_text_alone(models):
    with session_of(models("text")) as session:
        config = session.config
    assert config.text is config.raw
    assert config.vision is None
    assert config.tied is True


def test_the_outer_word_counts_and_the_inner_one_where_there_is_none():
    inner = {"tie_word_embeddings": True, "quantization_config": {"quant_method": "fp8"}}
    config = read_config(Fake({"tie_word_embeddings": False, "text_config": inner}))
    assert (config.tied, config.quant_method) == (False, "fp8")


def test_what_is_not_said_is_not_made_up():
    config = read_config(Fake({}))
    assert (config.architecture, config.model_type, config.quant_method) == ("", "", "")
    assert (config.tied, config.dtype, config.quantization) == (None, None, None)
    assert config.mtp_layers == 0


@pytest.mark.parametrize(
    "content",
    [
        {"architectures": "BertModel", "model_type": 7, "text_config": [], "dtype": {}},
        {"architectures": [None], "quantization_config": "fp8", "tie_word_embeddings": "yes"},
        {"architectures": [], "mtp_num_hidden_layers": -1, "vision_config": 0},
    ],
)
def test_values_of_the_wrong_kind_are_as_if_they_were_not_there(content):
    assert read_config(Fake(content)).architecture == ""
    assert read_config(Fake(content)).vision is None


@pytest.mark.parametrize("key", ["dtype", "torch_dtype"])
@pytest.mark.parametrize("value", ["float16", "torch.float16"])
def test_old_and_new_names_of_the_dtype(key, value):
    assert read_config(Fake({"text_config": {key: value}})).dtype == "float16"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "no JSON"),
        (b"\xff", "no JSON"),
        (b"[]", "no JSON object"),
        (b'"x"', "no JSON object"),
        (b"[" * 100_000, "no JSON"),
        (b'{"a":' * 50 + b"1" + b"}" * 50, "32 levels deep"),
        (b" " * (17 * 1024 * 1024), "larger than"),
        (b'{"x": 1' + b"0" * 5000 + b"}", "no JSON"),
    ],
)
def test_no_config(content, reason):
    assert reason in refusal(content)


def test_no_config_at_all(copy_of):
    folder = copy_of("dense")
    (folder / "config.json").unlink()
    assert told(folder) == {("model-config", "config.json")}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("num_hidden_layers", 10**9),
        ("num_hidden_layers", 10**4000),
        ("num_hidden_layers", -(10**9)),
        ("num_hidden_layers", 1e308),
        ("n_layer", 10**6),
        ("depth", 10**6),
        ("depths", [2, 10**6]),
        ("depths", [1] * 10**5),
        ("num_experts", 10**6),
        ("vocab_size", 10**12),
        ("hidden_size", 10**9),
        ("intermediate_size", 10**9),
        ("head_dim", 10**9),
        ("num_attention_heads", 10**9),
        ("max_position_embeddings", 10**12),
    ],
)
def test_numbers_that_no_tensors_fill(key, value):
    for content in ({key: value}, {"text_config": {key: value}}, {"a": [{key: value}]}):
        assert f"{key} = " in refusal(content)


def test_a_shape_without_bytes_allows_nothing():
    fake = Fake({"vocab_size": 10**9})
    fake.tensors["0"] = StoredTensor("0", "x", "BF16", (10**12, 0), 0, 0)
    with pytest.raises(FailedError):
        read_config(fake)


@pytest.mark.parametrize(
    "content",
    [
        {"num_hidden_layers": 512, "vocab_size": 1_000_000},  # of a tiny model for tests
        {"max_position_embeddings": 10_485_760, "sliding_window": 10**9},
        {"time_step_limit": [0.0, float("inf")], "rope_theta": 10_000_000},
        {"eos_token_id": [10**7], "model_max_length": 10**30, "tie_word_embeddings": True},
    ],
)
def test_numbers_of_true_configs(content):
    assert read_config(Fake(content)).raw == content


def test_many_layers_are_right_where_there_are_tensors():
    shapes = ((8, 8),) * 3000
    assert read_config(Fake({"num_hidden_layers": 3000}, shapes=shapes)).text
    refusal({"num_hidden_layers": 3001}, shapes=shapes)


def test_a_hostile_number_is_found_before_anything_is_built(copy_of):
    folder = copy_of("dense")
    with edited(folder / "config.json") as config:
        config["text_config"]["num_hidden_layers"] = 10**9
    assert told(folder) == {("model-config", "config.json")}


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["architectures", "text_config", "auto_map", "dtype", "depth", "hidden_size", "x"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=15,
)


def refused_codes(content):
    try:
        assert isinstance(read_config(Fake(content)).raw, dict)
    except FailedError as error:
        return {one.code for one in error.findings if one.message.isprintable()}
    return {"model-config"}


@given(_JSON)
def test_any_json_is_read_or_refused(content):
    assert refused_codes(content) == {"model-config"}


@given(st.binary(max_size=40))
def test_any_bytes_are_read_or_refused(content):
    assert refused_codes(content) == {"model-config"}
