"""Which heavy libraries a command does without: each costs a person who waits tenths of a second."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

LOADED = """
import json, sys
from archiver.cli.main import invoke
code = invoke(sys.argv[2:])
assert code not in (1, 2, 10), code  # it did what was asked, whatever it found
open(sys.argv[1], "w").write(json.dumps(sorted(sys.modules)))
"""
SQL, NETWORK = {"sqlite3", "sqlalchemy"}, {"huggingface_hub", "httpx2", "httpcore2", "h11"}
ARRAYS, MODELS = {"numpy"}, {"torch", "transformers", "safetensors", "tokenizers"}
PARITY, KEYS, LOOPS = {"zfec"}, {"cryptography.hazmat.bindings._rust"}, {"anyio"}
EVERYTHING = SQL | NETWORK | ARRAYS | MODELS | PARITY | KEYS | LOOPS | {"zstandard", "blake3"}
SHIPPED, SHOWN = {"importlib.resources", "zipfile", "tempfile"}, {"rich"}
SELDOM = NETWORK | MODELS | PARITY | KEYS | LOOPS


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """An archive of one small folder, which lies beside it."""
    folder = tmp_path_factory.mktemp("startup")
    (folder / "model").mkdir()
    (folder / "model" / "config.json").write_text("{}")
    place = str(folder / "weights")
    run = [sys.executable, "-m", "archiver"]
    subprocess.run([*run, "init", "-q", "-C", place], check=True)
    words = ["import", "-q", "-C", place, str(folder / "model"), "--as", "org/one"]
    subprocess.run([*run, *words, "--min-free", "0B"], check=True)
    return folder


def loaded(tmp_path, *words: object) -> set[str]:
    """The modules that a process has at the end of this command."""
    told = tmp_path / "modules.json"
    command = [sys.executable, "-c", LOADED, told, *map(str, words)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(json.loads(told.read_text()))


@pytest.mark.parametrize(
    "words",
    [["--help"], ["--version"], ["import", "--help"], ["mirror", "--help"], ["restore", "-h"]],
)
def test_help_is_light(words, tmp_path):
    assert not EVERYTHING & loaded(tmp_path, *words)


@pytest.mark.parametrize("words", [["list"], ["log"], ["status"]])
def test_what_is_held_is_listed_without_arrays_and_without_sql(words, archive, tmp_path):
    assert not (SELDOM | ARRAYS | SQL) & loaded(tmp_path, *words, "-C", archive / "weights")


@pytest.mark.parametrize("words", [["search", "one"], ["sql", "SELECT 1"]])
def test_a_question_that_needs_nothing_new_loads_neither_sqlalchemy_nor_arrays(
    words, archive, tmp_path
):
    loaded(tmp_path, *words, "-C", archive / "weights")
    modules = loaded(tmp_path, *words, "-C", archive / "weights")
    assert not (SELDOM | ARRAYS | {"sqlalchemy"}) & modules


@pytest.mark.parametrize("words", [["show", "org/one"], ["restore", "org/one", "{out}"]])
def test_one_snapshot_needs_no_sql_either(words, archive, tmp_path):
    given = [word.format(out=tmp_path / "out") for word in words]
    assert not (SELDOM | SQL) & loaded(tmp_path, *given, "-C", archive / "weights")


@pytest.mark.parametrize("words", [["stats"], ["audit"]])
def test_what_is_held_is_read_without_the_network_and_parity(words, archive, tmp_path):
    assert not SELDOM & loaded(tmp_path, *words, "-C", archive / "weights")


@pytest.mark.parametrize("text", ["{}", '{"new": 1}'])
def test_a_small_import_loads_neither_sql_nor_network_nor_parity(text, archive, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text(text)
    words = ["import", "-C", archive / "weights", tmp_path / "model", "--as", "org/two"]
    assert not (SELDOM | SQL | SHIPPED | SHOWN) & loaded(tmp_path, *words, "--min-free", "0B")
