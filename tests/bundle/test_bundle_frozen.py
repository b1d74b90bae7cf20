"""Two volumes as they were first written, with a pack in pieces: they stay readable, by every reader.

Without the pages and texts, which no reader needs. They are never made anew.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from kit.repository import files_below, model

from archiver.carried import __path__ as carried

FROZEN = Path(__file__).parent / "frozen"
DECODER = Path(carried[0]) / "decode.py"


def test_they_are_restored(run, tmp_path):
    assert run("bundle", "restore", "-q", FROZEN, tmp_path / "out").code == 0
    assert files_below(tmp_path / "out") == model()


@pytest.mark.parametrize("root", ["volume-0001", "volume-0002"])
def test_a_bare_python_restores_them(tmp_path, root):
    words = ["-I", "-S", DECODER, "-C", FROZEN / root, "restore", "org/model", tmp_path / "out"]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert files_below(tmp_path / "out") == model()


def test_they_are_taken_in(run, bring, far, tmp_path):
    assert bring(FROZEN / "volume-0002").code == 3
    assert bring(FROZEN / "volume-0001").code == 0
    assert run("restore", "-q", "-C", far, "org/model", tmp_path / "out").code == 0
    assert files_below(tmp_path / "out") == model()
    assert run("audit", "-q", "-C", far, "--level", "files").code == 0


def test_parity_of_one_volume_mends_a_piece_on_the_other(run, tmp_path):
    media = shutil.copytree(FROZEN, tmp_path / "media")
    (piece,) = (media / "volume-0002").rglob("*.pack.0002-0002")
    data = bytearray(piece.read_bytes())
    data[1000] ^= 4
    piece.write_bytes(data)
    assert run("bundle", "restore", "-q", media, tmp_path / "out").code == 0
    assert files_below(tmp_path / "out") == model()
