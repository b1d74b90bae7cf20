"""Which files the libraries get to see: small, bounded, no code, and naming nothing elsewhere."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest
import smokekit
from hypothesis import given, settings
from hypothesis import strategies as st

from archiver.errors import SkippedError
from archiver.smoke.checkpoint.folder import FolderCheckpoint
from archiver.smoke.checkpoint.side_files import SideJsonError, checked_json, write_side_files
from archiver.smoke.report import FailedError

if TYPE_CHECKING:
    from pathlib import Path

TAKEN = {
    "chat_template.jinja",
    "config.json",
    "generation_config.json",
    "merges.txt",
    "preprocessor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "video_preprocessor_config.json",
    "vocab.json",
}


def written_of(folder: Path, tmp_path: Path) -> Path:
    checkpoint = FolderCheckpoint(folder, workers=1)
    try:
        return write_side_files(checkpoint, tmp_path)
    finally:
        checkpoint.close()


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "model"
    made.mkdir()
    (made / "config.json").write_text("{}")
    return made


def findings_of(folder, tmp_path):
    with pytest.raises(FailedError) as error:
        written_of(folder, tmp_path)
    assert all(finding.hint for finding in error.value.findings)
    return {finding.path: finding for finding in error.value.findings}


# ---- which files


def test_the_small_files_of_a_model_are_written_as_they_are(models, tmp_path):
    folder = models("dense")
    archived = smokekit.archived(folder, tmp_path)
    from_archive = contents(write_side_files(archived, tmp_path))
    archived.close()
    assert set(from_archive) == TAKEN
    assert from_archive == {name: (folder / name).read_bytes() for name in TAKEN}
    assert contents(written_of(folder, tmp_path)) == from_archive


def test_neither_code_nor_pickles_nor_weights_are_written(folder, tmp_path):
    left = (
        "modeling_x.py",
        "pytorch_model.bin",
        "x.pt",
        "x.pkl",
        "model.safetensors",
        "model.safetensors.index.json",
        "adapter_config.json",
        "README.md",
        "1_Pooling/config.json",
        "additional_chat_templates/x.json",
        "additional_chat_templates/deeper/x.jinja",
        "notes.txt",
        ".git/config.json",
    )
    taken = (
        "additional_chat_templates/tools.jinja",
        "chat_template.jinja",
        "tokenizer.model",
        "sentencepiece.bpe.model",
        "vocab.txt",
        "merges.txt",
    )
    for name in (*left, *taken):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"\x80 no text")
    written = contents(written_of(folder, tmp_path))
    assert set(written) == {*taken, "config.json"}


def test_each_test_gets_a_folder_of_its_own(folder, tmp_path):
    first, second = written_of(folder, tmp_path), written_of(folder, tmp_path)
    assert first != second
    assert first.parent == second.parent == tmp_path


# ---- code of the repository


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", {"auto_map": {"AutoConfig": "configuration_x.XConfig"}}),
        ("config.json", {"text_config": {"auto_map": {"AutoModel": "other/repo--x.X"}}}),
        ("config.json", {"custom_pipelines": {"x": {"impl": "pipeline.X"}}}),
        ("tokenizer_config.json", {"auto_map": ["tokenization_x.XTokenizer", None]}),
        ("preprocessor_config.json", {"auto_map": {"AutoImageProcessor": "x.X"}}),
        ("processor_config.json", {"image_processor": [{"auto_map": {"AutoProcessor": "x.X"}}]}),
    ],
)
def test_a_configuration_that_asks_for_code_is_refused(folder, tmp_path, name, content):
    (folder / name).write_text(json.dumps(content))
    with pytest.raises(SkippedError) as error:
        written_of(folder, tmp_path)
    assert f"{name} asks to run code of the repository" in error.value.message
    assert "runs no code" in error.value.hint


def test_words_like_those_that_ask_for_code_do_no_harm(folder, tmp_path):
    (folder / "config.json").write_text('{"auto_map": {}, "custom_pipelines": null}')
    (folder / "vocab.json").write_text('{"auto_map": ["x"]}')
    assert set(contents(written_of(folder, tmp_path))) == {"config.json", "vocab.json"}


# ---- files elsewhere


def test_a_configuration_cannot_name_files_elsewhere(folder, tmp_path):
    (folder / "tokenizer.4.9.json").write_text("{}")
    config = {
        "tokenizer_class": "X",
        "tokenizer_file": "/dev/zero",
        "vocab_file": ["../x"],
        "merges_file": None,
        "init_inputs": ["/dev/zero"],
        "fast_tokenizer_files": ["tokenizer.4.9.json", "../../tokenizer.1.0.json"],
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "special_tokens_map.json").write_text('{"tokenizer_file": "/dev/zero", "a": "b"}')
    (folder / "config.json").write_text('{"fast_tokenizer_files": ["tokenizer.4.9.json"]}')
    written = {name: data.decode() for name, data in contents(written_of(folder, tmp_path)).items()}
    kept = {"tokenizer_class": "X", "merges_file": None}
    assert json.loads(written["tokenizer_config.json"]) == kept
    assert json.loads(written["special_tokens_map.json"]) == {"a": "b"}
    assert written["config.json"] == '{"fast_tokenizer_files": ["tokenizer.4.9.json"]}'


# ---- bounds


def test_files_that_are_too_large_are_named_and_not_read(folder, tmp_path):
    for name in ("tokenizer.json", "x.model"):
        (folder / name).touch()
        os.truncate(folder / name, (64 << 20) + 1)
    found = findings_of(folder, tmp_path)
    assert {path: one.code for path, one in found.items()} == {
        "tokenizer.json": "model-config",
        "x.model": "model-config",
    }
    assert "67.1 MB" in found["x.model"].message


def test_all_together_are_bounded(folder, tmp_path):
    for number in range(5):
        (folder / f"{number}.json").touch()
        os.truncate(folder / f"{number}.json", 60 << 20)
    assert "6 small files of 315 MB together" in findings_of(folder, tmp_path)[""].message
    for number in range(5):
        (folder / f"{number}.json").unlink()
    for number in range(1000):
        (folder / f"{number}.json").touch()
    assert "1,001 small files" in findings_of(folder, tmp_path)[""].message


DEEP = "[" * 100_000


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (DEEP, "nested more than 64"),
        ('{"a": ' + DEEP, "nested more than 64"),
        ('{"a":' * 70 + "1" + "}" * 70, "nested more than 64"),
        ("[" + "0," * 600_000 + "0]", "more than 500,000 values"),
        ("[]", "no JSON object"),
        ("", "no JSON: "),
        ('{"a": "', "no JSON: "),
        ('{"a": 1' + "0" * 5000 + "}", "no JSON: "),
        ("{}".encode("utf-16"), "no JSON: "),
        (b'{"a": "\xff"}', "no JSON: "),
    ],
)
def test_json_that_cannot_be_used_is_a_finding(folder, tmp_path, content, why):
    data = content if isinstance(content, bytes) else content.encode()
    for name in ("config.json", "tokenizer_config.json"):
        (folder / name).write_bytes(data)
    found = findings_of(folder, tmp_path)
    assert {path: one.code for path, one in found.items()} == {
        "config.json": "model-config",
        "tokenizer_config.json": "model-tokenizer",
    }
    for one in found.values():
        assert why in one.message
        assert one.message.isprintable()


@pytest.mark.parametrize("name", ["tokenizer.json", "vocab.json", "added_tokens.json"])
def test_a_tokenizer_file_is_bounded_too(folder, tmp_path, name):
    (folder / name).write_text(DEEP)
    assert findings_of(folder, tmp_path)[name].code == "model-tokenizer"


def test_what_true_configurations_hold_is_no_fault(folder, tmp_path):
    content = (
        b'{"time_step_limit": [0.0, Infinity], "x": NaN, "deep": ' + b"[" * 60 + b"]" * 60 + b"}"
    )
    (folder / "config.json").write_bytes(content)
    # Not a configuration: whoever wants it parses it.
    (folder / "results.json").write_bytes(b"no JSON")
    assert contents(written_of(folder, tmp_path))["config.json"] == content


values = st.recursive(
    st.none() | st.integers() | st.text(alphabet='[]{},"\\ax\u2200', max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(alphabet='[]{}"\\ab', max_size=3), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(value=values, above=st.integers(50, 66), ascii_only=st.booleans())
@settings(max_examples=150, deadline=None)
def test_depth_is_told_without_parsing(value, above, ascii_only):
    def depth(one):
        if isinstance(one, dict):
            return 1 + max(map(depth, one.values()), default=0)
        return 1 + max(map(depth, one), default=0) if isinstance(one, list) else 0

    for _ in range(above):
        value = [value]
    data = json.dumps(value, ensure_ascii=ascii_only).encode()
    if depth(value) <= 64:
        assert checked_json("vocab.json", data, ()) == data
    else:
        with pytest.raises(SideJsonError):
            checked_json("vocab.json", data, ())


@given(data=st.binary(max_size=60) | values.map(lambda one: json.dumps(one).encode()))
@settings(max_examples=200, deadline=None)
def test_whatever_a_file_holds_is_taken_or_refused(data):
    for name in ("config.json", "tokenizer.json"):
        try:
            assert checked_json(name, data, ()) == data
        except SideJsonError as error:
            assert str(error).isprintable()  # noqa: PT017 - some are taken
