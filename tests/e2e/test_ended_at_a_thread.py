"""A run that is told to end while it starts a thread: it ends, with 130, and goes on next time."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from kit.repository import files_below, noise

TESTS = Path(__file__).parents[1]


def told_to_end(thread: str, *words: object) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "kit.ended_at_a_thread", thread, *map(str, words)]
    env = os.environ | {"PYTHONPATH": str(TESTS)}
    done = subprocess.run(
        command, env=env, capture_output=True, text=True, timeout=120, check=False
    )
    assert "told to end" in done.stderr, "there is no such thread"
    return done


@pytest.fixture
def model(tmp_path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.bin").write_bytes(noise(number, 5 << 20))
    return folder


@pytest.fixture
def archive(tmp_path, cli) -> Path:
    assert cli("init", "-C", tmp_path / "archive").code == 0
    return tmp_path / "archive"


@pytest.mark.parametrize("thread", ["file", "hash", "encode", "publish"])
def test_an_import_ends_and_goes_on(archive, model, cli, tmp_path, thread):
    words = ("import", "-C", archive, model, "--as", "org/model", "--min-free", "0")
    done = told_to_end(thread, *words)
    assert done.returncode == 130, done.stderr
    assert "Interrupted" in done.stderr
    assert cli(*words).code == 0
    assert cli("restore", "-C", archive, "org/model", tmp_path / "out").code == 0
    assert files_below(tmp_path / "out") == files_below(model)
    assert cli("audit", "-C", archive, "--level", "files").code == 0


@pytest.mark.parametrize(
    ("thread", "words"),
    [
        ("file", ("restore", "org/model", "{out}")),
        ("hash", ("restore", "org/model", "{out}")),
        ("decode", ("restore", "org/model", "{out}")),
        ("audit", ("audit", "--level", "stored")),
        ("decode", ("audit", "--level", "files")),
        ("protect", ("parity", "add")),
        ("parity", ("parity", "add")),
        ("copy", ("copy", "--new", "{out}")),
    ],
)
def test_whatever_reads_an_archive_ends_and_can_be_run_again(
    archive, model, cli, tmp_path, thread, words
):
    assert cli("import", "-C", archive, model, "--as", "org/model", "--min-free", "0").code == 0
    verb, *rest = (str(tmp_path / "out") if word == "{out}" else word for word in words)
    whole = (verb, "-C", archive, *rest)
    if verb == "parity":
        whole = (*rest[:1], "-C", archive)
        whole = (verb, *whole)
    done = told_to_end(thread, *whole)
    assert done.returncode == 130, done.stderr
    assert "Interrupted" in done.stderr
    again = (
        [word for word in whole if word != "--new"]
        if (tmp_path / "out/archive.json").exists()
        else whole
    )
    assert cli(*again).code == 0
