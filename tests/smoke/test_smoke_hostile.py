"""A hostile checkpoint: nothing of it is run or fetched, no file of it ends but as a verdict."""

from __future__ import annotations

import base64
import errno
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import tokenizerkit
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from levelkit import TO_GENERATE, TO_GOLDEN, climb
from spoil import edited

from archiver.errors import NoSpaceError, SkippedError
from archiver.smoke import libraries
from archiver.smoke.checkpoint.folder import FolderCheckpoint
from archiver.smoke.checkpoint.side_files import write_side_files
from archiver.smoke.report import FailedError, library_errors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import smokekit


# ---- code of the repository, and the network


class Watch:
    """What the process does while it is on: sockets, other programs, pickles, files opened."""

    def __init__(self) -> None:
        self.on, self.seen = False, list[str]()
        sys.addaudithook(self._note)

    def _note(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.on and event.startswith(
            ("socket.", "subprocess.", "os.exec", "os.system", "pickle")
        ):
            self.seen.append(event)
        elif self.on and event == "open" and str(arguments[0]).endswith((".bin", ".pkl", ".pt")):
            self.seen.append(str(arguments[0]))


@pytest.fixture(scope="module")
def watch() -> Iterator[Watch]:
    made = Watch()
    yield made
    made.on = False


def test_nothing_of_a_repository_is_run_and_nothing_is_fetched(
    copy_of: smokekit.Copies, watch: Watch, tmp_path: Path
):
    folder, sign = copy_of("text"), tmp_path / "run"
    for name in ("modeling_qwen3_5.py", "sitecustomize.py", "custom_generate/generate.py"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(f"open({str(sign)!r}, 'w')")
    for name in ("pytorch_model.bin", "training_args.pt", "x.pkl"):
        (folder / name).write_bytes(b"cposix\nsystem\n(Vtrue\ntR.")
    with edited(folder / "config.json") as config:
        config["_attn_implementation"] = "kernels-community/flash-attn"
        config |= {"use_kernels": True, "_name_or_path": "a/b", "transformers_weights": "/dev/zero"}
    with edited(folder / "generation_config.json") as generation:
        generation |= {"custom_generate": "a/b", "trust_remote_code": True}
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "a/b"}')
    watch.on = True
    ended = climb(folder, TO_GENERATE)
    watch.on = False
    assert ended.report.held, ended.report
    assert not watch.seen
    assert not sign.exists()


def test_the_environment_cannot_undo_it(monkeypatch: pytest.MonkeyPatch):
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.setenv(name, "0")
    monkeypatch.setenv("USE_HUB_KERNELS", "YES")
    libraries.require("json")
    assert os.environ["HF_HUB_OFFLINE"] == os.environ["TRANSFORMERS_OFFLINE"] == "1"
    assert os.environ["USE_HUB_KERNELS"] == "NO"


# ---- tokenizer.json


def _many_steps(content: Any) -> None:
    content["normalizer"] = {"type": "Sequence", "normalizers": [{"type": "NFC"}] * 3000}


def _many_ids(content: Any) -> None:
    token = {"id": "x", "ids": [1] * 1500, "tokens": ["x"] * 1500}
    piece = {"SpecialToken": {"id": "x", "type_id": 0}}
    content["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [piece] * 1000,
        "pair": [],
        "special_tokens": {"x": token},
    }


def _large_map(content: Any) -> None:
    # the library would make room for 4 GiB, and end the process where it may not have them
    text = base64.b64encode(b"\xff\xff\xff\xff\x00").decode()
    content["normalizer"] = {"type": "Precompiled", "precompiled_charsmap": text}


@pytest.mark.parametrize("change", [_many_steps, _many_ids, _large_map])
def test_what_would_take_long_or_end_the_process_is_not_tried(
    copy_of: smokekit.Copies, tmp_path: Path, change: Callable[[Any], None]
):
    folder = copy_of("text")
    tokenizerkit.edit(folder / "tokenizer.json", change)
    with pytest.raises(FailedError) as caught:
        tokenizerkit.findings_of(folder, tmp_path)
    (finding,) = caught.value.findings
    assert (finding.code, finding.path) == ("model-tokenizer", "tokenizer.json")
    assert "it was not tried" in finding.message


# ---- golden records


def test_a_record_that_leaves_out_the_losses_does_not_hold(models: smokekit.Models):
    made = climb(models("text"), TO_GOLDEN, record=True).session.recorded
    assert made is not None
    short = tuple(msgspec.structs.replace(one, nll="", loss="") for one in made.inputs)
    golden = msgspec.structs.replace(made, inputs=short)
    (finding,) = climb(models("text"), TO_GOLDEN, golden=golden).wrong
    assert finding.code == "model-golden"
    assert "has not the recorded shape" in finding.message


# ---- memory and room


def test_memory_that_runs_out_in_a_product_says_nothing_of_the_model():
    with (
        pytest.raises(SkippedError, match="needs more memory"),
        library_errors("model-output", "A pass"),
    ):
        raise RuntimeError("could not create a primitive")


def test_no_room_for_the_small_files_names_the_folder(
    models: smokekit.Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(NoSpaceError, match=str(tmp_path)):
        write_side_files(FolderCheckpoint(models("text"), workers=1), tmp_path)


# ---- anything in the place of anything


NUMBERS = (None, True, -1, 0, 7, 2**31, 2**70, 1e308, float("nan"), float("inf"))
OTHERS = ("", "\x1b[31m\u202e", "/dev/zero", [], [None], ["a"], {}, {"a": [1]}, [[[[[]]]]])
FILES = ("config.json", "generation_config.json", "tokenizer_config.json")


def _places(content: Any) -> Iterator[tuple[Any, Any]]:
    """Every place in a JSON value that can be written to."""
    pairs = content.items() if isinstance(content, dict) else enumerate(content)
    for key, value in list(pairs):
        yield content, key
        if isinstance(value, dict | list):
            yield from _places(value)


@given(
    file=st.sampled_from(FILES), place=st.integers(0, 10_000), odd=st.sampled_from(NUMBERS + OTHERS)
)
@settings(
    max_examples=15,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_any_value_in_any_place_ends_as_a_verdict(
    models: smokekit.Models, file: str, place: int, odd: Any
):
    with tempfile.TemporaryDirectory() as scratch:
        folder = shutil.copytree(models("text"), Path(scratch) / "text")
        content = json.loads((folder / file).read_text())
        places = list(_places(content))
        where, key = places[place % len(places)]
        where[key] = odd
        (folder / file).write_text(json.dumps(content))
        report = climb(folder, ("structure", "tokenizer", "load")).report
    for one in report.findings:
        assert one.message.isprintable(), one
    assert report.exit_code in {0, 4, 25}
