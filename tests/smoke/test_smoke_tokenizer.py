"""Level tokenizer, on sound tokenizers and on every way to spoil one."""

from __future__ import annotations

import os
import subprocess
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import tokenizerkit as kit
from blake3 import blake3
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from archiver.demo.checkpoints import minilm_folder
from archiver.errors import SkippedError
from archiver.smoke import libraries
from archiver.smoke.report import FailedError, InapplicableError
from archiver.smoke.tokenizer import texts
from archiver.smoke.tokenizer.check import (
    check_texts,
    check_tokenizer,
    check_vocabularies,
    collecting,
    fixed_ids,
    ids_of,
)
from archiver.smoke.tokenizer.tokenizer_file import AddedToken, TokenizerFile, read_tokenizer_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import smokekit

    Spoil = Callable[[Any], object]


def test_the_fixed_texts_are_never_changed():
    single = (texts.FORWARD_TEXT, texts.USER_TEXT, texts.SYSTEM_TEXT, texts.ASSISTANT_TEXT)
    whole = "\0".join((*single, texts.IMAGE_TEXT, *texts.TEXTS))
    pinned = "17fe7eaace5e253dd0f0a71761ed84125c3d8b5a8a6ae04910cbd924baf308e3"
    assert blake3(whole.encode()).hexdigest() == pinned


def test_a_sound_tokenizer_holds(models: smokekit.Models, tmp_path: Path):
    session = kit.session_of(models("dense"), tmp_path)
    proof = check_tokenizer(session)
    assert proof.findings == ()
    assert proof.facts == {"tokenizer": "Qwen3_5Tokenizer", "vocabulary": 538}
    told = " ".join(proof.proved)
    for words in ("same ids", "come back", "vocab.json, merges.txt", "special token", "template"):
        assert words in told
    ids = fixed_ids(session)
    assert len(ids) == len(texts.TEXTS)
    assert ids[0] == tuple(session.tokenizer(texts.TEXTS[0])["input_ids"])


def test_a_real_tokenizer_of_another_kind_holds(tmp_path: Path):
    session = kit.session_of(minilm_folder(), tmp_path)
    proof = check_tokenizer(session)
    assert proof.findings == ()
    told = " ".join(proof.proved)
    assert "vocab.txt and tokenizer.json say the same" in told
    assert "no chat template" in told
    assert "come back" not in told  # it makes capitals small: nothing to complain of
    assert proof.facts == {"tokenizer": "BertTokenizer", "vocabulary": 30522}


def _other_token(tokenizer: Any) -> None:
    """A merged token that no fixed text needs, under another spelling."""
    vocab = tokenizer["model"]["vocab"]
    merged = list(vocab)[500]
    vocab[merged + "\u0120"] = vocab.pop(merged)
    merges = tokenizer["model"]["merges"]
    merges[:] = [pair for pair in merges if merged not in {*pair, "".join(pair)}]


def _swapped_ids(tokenizer: Any) -> None:
    vocab = tokenizer["model"]["vocab"]
    one, two = list(vocab)[400:402]
    vocab[one], vocab[two] = vocab[two], vocab[one]


def _swapped_merges(tokenizer: Any) -> None:
    merges = tokenizer["model"]["merges"]
    merges[250], merges[251] = merges[251], merges[250]


@pytest.mark.parametrize(
    ("spoil", "path"),
    [
        (_other_token, "vocab.json"),
        (_swapped_ids, "vocab.json"),
        (_swapped_merges, "merges.txt"),
    ],
)
def test_a_change_in_tokenizer_json_alone_is_seen(
    copy_of: smokekit.Copies, tmp_path: Path, spoil: Spoil, path: str
):
    folder = copy_of("dense")
    kit.edit(folder / "tokenizer.json", spoil)
    assert ("model-tokenizer", path) in kit.told(kit.findings_of(folder, tmp_path))


@pytest.mark.parametrize(
    ("path", "content"),
    [("vocab.json", lambda vocab: vocab.pop(list(vocab)[400])), ("added_tokens.json", None)],
)
def test_a_token_that_one_file_lacks_or_numbers_otherwise_is_seen(
    copy_of: smokekit.Copies, tmp_path: Path, path: str, content: Spoil | None
):
    folder = copy_of("dense")
    if content is None:
        (folder / path).write_text('{"<|im_end|>": 3}')
    else:
        kit.edit(folder / path, content)
    assert ("model-tokenizer", path) in kit.told(kit.findings_of(folder, tmp_path))


def test_a_token_that_transformers_does_not_have_is_seen(models: smokekit.Models, tmp_path: Path):
    session = kit.session_of(models("dense"), tmp_path)
    check_tokenizer(session)
    file = read_tokenizer_file(session.checkpoint)
    assert isinstance(file, TokenizerFile)
    assert list(check_vocabularies(session.tokenizer, file)) == []
    other = SimpleNamespace(encode=lambda text, **_: SimpleNamespace(ids=[7] * len(text)))
    same = SimpleNamespace(
        encode=lambda text, **_: SimpleNamespace(ids=ids_of(session.tokenizer, text))
    )
    assert list(check_texts(session.tokenizer, same)) == []
    (finding,) = check_texts(lambda text, **_: {"input_ids": [8] * len(text)}, other)
    assert "token 1 is id 8 to transformers and id 7 in the file" in finding.message
    file.added_tokens.append(AddedToken(600, "<|more|>"))
    (finding,) = check_vocabularies(session.tokenizer, file)
    assert "“<|more|>”, id 600" in finding.message


def test_a_byte_that_has_no_token_is_seen(copy_of: smokekit.Copies, tmp_path: Path):
    """The first byte of every emoji, gone from all files alike: the text does not come back."""
    folder, byte = copy_of("dense"), "\u00f0"
    kit.edit(folder / "vocab.json", lambda vocab: vocab.pop(byte))

    def spoil(file: Any) -> None:
        del file["model"]["vocab"][byte]

    kit.edit(folder / "tokenizer.json", spoil)
    assert "do not come back" in " ".join(one.message for one in kit.findings_of(folder, tmp_path))


def test_a_length_that_the_file_would_cut_at_is_no_fault(copy_of: smokekit.Copies, tmp_path: Path):
    folder = copy_of("dense")
    cut = {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0}
    kit.edit(folder / "tokenizer.json", _set("truncation", cut))
    assert kit.findings_of(folder, tmp_path) == ()


def test_a_change_in_merges_alone_is_seen(copy_of: smokekit.Copies, tmp_path: Path):
    folder = copy_of("dense")
    path = folder / "merges.txt"
    path.write_text(path.read_text("utf-8").replace("\no r\n", "\nr o\n"), "utf-8")
    (finding,) = kit.findings_of(folder, tmp_path)
    assert finding.path == "merges.txt"
    assert "differ from merge 2 on: “r o” and “o r”" in finding.message


@pytest.fixture
def minilm_files(tmp_path: Path) -> Path:
    """The real model without its weights."""
    folder = tmp_path / "minilm"
    folder.mkdir()
    for source in minilm_folder().iterdir():
        if source.is_file() and source.stat().st_size < 1_000_000:
            (folder / source.name).write_bytes(source.read_bytes())
    return folder


def test_a_change_in_the_word_list_alone_is_seen(minilm_files: Path, tmp_path: Path):
    path = minilm_files / "vocab.txt"
    path.write_text(path.read_text("utf-8").replace("\nhouse\n", "\nhorse!\n"), "utf-8")
    findings = kit.findings_of(minilm_files, tmp_path)
    assert kit.told(findings) == [("model-tokenizer", "vocab.txt")]
    assert "“horse!”" in findings[0].message


def test_another_way_to_split_text_is_seen(copy_of: smokekit.Copies, tmp_path: Path):
    """transformers takes the pattern from its own code, by the model's type."""
    folder = copy_of("dense")

    def spoil(tokenizer: Any) -> None:
        tokenizer["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = r"\s+|\S+"

    kit.edit(folder / "tokenizer.json", spoil)
    (finding,) = kit.findings_of(folder, tmp_path)
    assert finding.code == "model-tokenizer"
    assert "Qwen3_5Tokenizer" in finding.message
    assert "to transformers and id" in finding.message


def _set(key: str, value: Any, part: str = "") -> Spoil:
    return lambda content: (content[part] if part else content).update({key: value})


@pytest.mark.parametrize(
    ("path", "spoil", "words"),
    [
        ("config.json", _set("image_token_id", 2048), "2,048 rows"),
        ("config.json", _set("image_token_id", 600), "no token has that id"),
        ("config.json", _set("eos_token_id", -2, "text_config"), "text_config says eos_token_id"),
        ("config.json", _set("vision_start_token_id", {}), "is no id"),
        ("config.json", _set("vocab_size", 300, "text_config"), "has 300 rows"),
        ("config.json", _set("vocab_size", 537, "text_config"), "has id 537, but"),
        ("generation_config.json", _set("eos_token_id", [514, 9999]), "eos_token_id = 9999"),
        ("generation_config.json", _set("pad_token_id", True), "is no id"),
        ("tokenizer_config.json", _set("eos_token", "<|gone|>"), "is no token"),
        ("tokenizer_config.json", _set("pad_token", {"content": "<gone>"}), "is no token"),
        ("tokenizer_config.json", _set("image_token", "<\x1b[31m>"), r"<\x1b[31m>"),
        (
            "tokenizer_config.json",
            lambda settings: settings["added_tokens_decoder"]["524"].update(content="<|other|>"),
            "there is no such token",
        ),
        ("tokenizer.json", lambda file: file["added_tokens"][3].update(id=514), "share an id"),
        ("tokenizer.json", lambda file: file["added_tokens"][3].update(id=5000), "has id 5,000"),
    ],
)
def test_special_tokens_must_be_there(
    copy_of: smokekit.Copies, tmp_path: Path, path: str, spoil: Spoil, words: str
):
    folder = copy_of("dense")
    kit.edit(folder / path, spoil)
    findings = kit.findings_of(folder, tmp_path)
    codes = {one.code: one.message for one in findings}
    assert "model-special-token" in codes
    assert words in " ".join(one.message for one in findings if one.code == "model-special-token")


_SAID = "{% for m in messages %}{{ m.content }}{% endfor %}"


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{{ raise_exception('no\nmore') }}", "cannot be rendered: no."),
        ("{% for message in messages %}", "cannot be rendered"),
        ("hello", "leaves out what the user says"),
        ("{{ ' ' }}", "leaves out"),
        ("{{ raise_exception('no prompt') if add_generation_prompt }}" + _SAID, "no prompt"),
        ("{{ raise_exception('no tool') if tools }}" + _SAID, "no tool"),
        ("{{ messages[0].content * 100000 }}" * 9, "cannot be rendered|leaves out"),
        ("{{ ''.__class__.__mro__ }}", "cannot be rendered"),
        ("{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}", "cannot be rendered"),
    ],
)
def test_a_template_that_does_not_work_is_told(
    copy_of: smokekit.Copies, tmp_path: Path, template: str, words: str
):
    folder = copy_of("dense")
    (folder / "chat_template.jinja").write_text(template, "utf-8")
    findings = kit.findings_of(folder, tmp_path)
    assert kit.told(findings) == [("model-chat-template", "")]
    assert any(word in findings[0].message for word in words.split("|"))


@pytest.mark.parametrize(
    "template",
    [
        "{% for m in messages %}{{ m.content if m.role != 'system' else 1 % 0 }}{% endfor %}",
        "{% for m in messages %}{% for part in m.content %}{{ part.text }}{% endfor %}{% endfor %}",
        "{% for m in messages %}{{ m.content }}{% endfor %}{{ tools[0].function.name }}",
    ],
)
def test_templates_have_their_ways(copy_of: smokekit.Copies, tmp_path: Path, template: str):
    folder = copy_of("dense")
    (folder / "chat_template.jinja").unlink()
    named = [{"name": "default", "template": template}, {"name": "rag", "template": "{{ x.y.z }}"}]
    kit.edit(folder / "tokenizer_config.json", _set("chat_template", named))
    if "tools[0]" in template:  # fails where no tool is given
        assert kit.told(kit.findings_of(folder, tmp_path)) == [("model-chat-template", "")]
    else:
        assert kit.findings_of(folder, tmp_path) == ()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe\x00",
        b"[]",
        b"{}",
        b'{"model": {"type": "BPE", "vocab": {}, "merges": []}}',
        b'{"model": {"type": "BPE", "vocab": {"a": 4294967295}, "merges": []}}',
        b'{"model": {"type": "BPE", "vocab": {"a": 1e400}, "merges": []}}',
        b'{"model": {"type": "BPE", "vocab": {"a": -1}, "merges": []}}',
        b'{"a":' * 60 + b"1" + b"}" * 60,
        b"[" * 1_000_000,
    ],
)
def test_a_tokenizer_json_of_garbage_is_told(
    copy_of: smokekit.Copies, tmp_path: Path, content: bytes
):
    folder = copy_of("dense")
    (folder / "tokenizer.json").write_bytes(content)
    with pytest.raises(FailedError) as caught:
        kit.findings_of(folder, tmp_path)
    assert {one.code for one in caught.value.findings} == {"model-tokenizer"}


def test_a_tokenizer_json_without_end_is_not_read(copy_of: smokekit.Copies, tmp_path: Path):
    folder = copy_of("dense")
    os.truncate(folder / "tokenizer.json", 70 << 20)
    with pytest.raises(FailedError, match=r"more than|larger than"):
        kit.findings_of(folder, tmp_path)


def test_a_text_that_grows_without_end_is_not_tried(copy_of: smokekit.Copies, tmp_path: Path):
    folder = copy_of("dense")
    double = {"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}
    grows = {"type": "Sequence", "normalizers": [double] * 40}
    kit.edit(folder / "tokenizer.json", _set("normalizer", grows))
    with pytest.raises(FailedError, match="far longer"):
        kit.findings_of(folder, tmp_path)


def test_a_panic_of_the_library_is_a_finding():
    class PanicException(BaseException):
        pass

    found: list[Any] = []
    with collecting(found, "tokenizer.json", "Loading"):
        raise PanicException("index out of\nbounds")
    assert found[0].message == "Loading failed: index out of bounds."
    with pytest.raises(KeyboardInterrupt), collecting(found, "tokenizer.json", "Loading"):
        raise KeyboardInterrupt


def test_what_only_the_libraries_refuse_is_told(copy_of: smokekit.Copies, tmp_path: Path):
    folder = copy_of("dense")
    kit.edit(folder / "tokenizer.json", lambda file: file["model"]["merges"].append(["q#", "q#"]))
    findings = kit.findings_of(folder, tmp_path)
    assert ("model-tokenizer", "tokenizer.json") in kit.told(findings)
    assert ("model-tokenizer", "merges.txt") in kit.told(findings)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(at=st.integers(0, 26_000), new=st.binary(min_size=1, max_size=3))
def test_whatever_is_written_into_tokenizer_json_ends_in_findings(
    models: smokekit.Models, tmp_path_factory: pytest.TempPathFactory, at: int, new: bytes
):
    tmp_path = tmp_path_factory.mktemp("spoiled")
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("config.json", "tokenizer_config.json", "tokenizer.json", "vocab.json"):
        (folder / name).write_bytes((models("dense") / name).read_bytes())
    whole = (folder / "tokenizer.json").read_bytes()
    (folder / "tokenizer.json").write_bytes(whole[:at] + new + whole[at + len(new) :])
    try:
        findings = kit.findings_of(folder, tmp_path)
    except FailedError as error:
        findings = error.findings
    assert {one.code for one in findings} <= {"model-tokenizer", "model-special-token"}


def test_a_word_list_is_enough(minilm_files: Path, tmp_path: Path):
    (minilm_files / "tokenizer.json").unlink()
    session = kit.session_of(minilm_files, tmp_path)
    assert check_tokenizer(session).findings == ()
    assert fixed_ids(session)[0][0] == 101
    kit.edit(minilm_files / "config.json", _set("vocab_size", 30_000))
    (tmp_path / "again").mkdir()
    found = check_tokenizer(kit.session_of(minilm_files, tmp_path / "again")).findings
    assert "the embedding has 30,000 rows" in found[0].message


def test_a_tokenizer_json_that_is_missing_is_told(copy_of: smokekit.Copies, tmp_path: Path):
    """The class for this model reads no other file, and begins with an empty vocabulary."""
    folder = copy_of("dense")
    (folder / "tokenizer.json").unlink()
    session = kit.session_of(folder, tmp_path)
    (finding,) = check_tokenizer(session).findings
    assert "reads no vocabulary" in finding.message
    assert session.tokenizer is None
    assert fixed_ids(session) == ()


def test_vocab_json_may_list_added_tokens_too(copy_of: smokekit.Copies, tmp_path: Path):
    folder = copy_of("dense")
    kit.edit(folder / "vocab.json", lambda vocab: vocab.update({"<|im_end|>": 514}))
    assert kit.findings_of(folder, tmp_path) == ()


def test_no_files_is_no_tokenizer(copy_of: smokekit.Copies, tmp_path: Path):
    folder = copy_of("dense")
    for name in ("tokenizer.json", "vocab.json", "merges.txt"):
        (folder / name).unlink()
    (finding,) = kit.findings_of(folder, tmp_path)  # tokenizer_config.json speaks of one
    assert "reads no vocabulary" in finding.message
    (folder / "tokenizer_config.json").unlink()
    (tmp_path / "again").mkdir()
    with pytest.raises(InapplicableError, match="no tokenizer"):
        kit.findings_of(folder, tmp_path / "again")


def test_code_of_the_repository_is_never_run(copy_of: smokekit.Copies, tmp_path: Path):
    folder = copy_of("dense")
    kit.edit(folder / "tokenizer_config.json", _set("auto_map", {"AutoTokenizer": ["x.Y", None]}))
    with pytest.raises(SkippedError, match="auto_map"):
        kit.findings_of(folder, tmp_path)


def test_without_the_extra_it_says_what_is_missing(
    models: smokekit.Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(libraries, "_there", lambda name: name != "tokenizers")
    with pytest.raises(SkippedError, match="Not installed: tokenizers"):
        kit.findings_of(models("dense"), tmp_path)


def test_the_module_itself_is_light():
    script = (
        "import sys, archiver.smoke.tokenizer.check, archiver.smoke.passes.inputs\n"
        "sys.exit(any(name in sys.modules for name in ('torch', 'transformers', 'jinja2', 'PIL')))"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_what_transformers_refuses_in_the_config_is_not_told_of_the_tokenizer(
    copy_of: smokekit.Copies, tmp_path: Path
):
    folder = copy_of("minilm")
    kit.edit(folder / "config.json", lambda config: config.update(hidden_size="wide"))
    kit.edit(folder / "tokenizer_config.json", lambda config: config.pop("tokenizer_class", None))
    (finding,) = kit.findings_of(folder, tmp_path)
    assert (finding.code, finding.path) == ("model-config", "config.json")
    assert "hidden_size" in finding.message
    assert "wide" in finding.message
