"""The step of the demonstration that runs a model; here without the libraries that do."""

import json
from pathlib import Path
from random import Random

import pytest

from archiver.demo.checkpoints import write_moe
from archiver.demo.story import MOE, Model, Story, _without_network, smoke_test_excerpt
from archiver.errors import ArchiverError

HIDE = "import sys\nfor name in ('torch', 'transformers', 'accelerate'): sys.modules[name] = None\n"


@pytest.fixture
def lines() -> list[str]:
    return []


@pytest.fixture
def story(tmp_path, monkeypatch, lines) -> Story:
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "sitecustomize.py").write_text(HIDE)
    monkeypatch.setenv("PYTHONPATH", str(hidden))
    return Story(tmp_path / "work", lines.append)


def bring_in(story: Story, folder: Path) -> None:
    story._run("init")
    story._run("import", str(folder), "--as", MOE)


def test_without_the_libraries_it_says_so_and_goes_on(story, tmp_path, lines):
    bring_in(story, write_moe(tmp_path / "model"))
    story._smoke_test()
    text = "\n".join(lines)
    assert "✓ structure: held" in text
    assert "- load: skipped: Not installed: torch" in text
    assert "[smoke]'" in text
    assert "[smoke]'" in story._skipped.hint


def test_each_line_is_said_by_itself(story, lines):
    story._chapter("A hub", "archiver mirror")
    assert lines == ["", "1. A hub", "   $ archiver mirror"]


def test_what_rots_is_repaired_also_beside_a_small_pack(story, tmp_path, lines):
    bring_in(story, write_moe(tmp_path / "model"))
    small = tmp_path / "small"
    small.mkdir()
    (small / "noise.bin").write_bytes(Random(1).randbytes(300_000))
    story._run("import", str(small))
    story._rot()
    assert any("pack-damaged" in line for line in lines)
    assert "All is well: 2 snapshots" in lines[-1]


def test_a_model_crosses_a_gap_and_one_of_its_volumes_is_mended(story, tmp_path, lines):
    folder = write_moe(tmp_path / "model")
    bring_in(story, folder)
    story._models = [Model(MOE, folder, "")]
    story._cross_the_gap()
    text = "\n".join(lines)
    assert "volume 1 of 1: stick/volume-0001 is NOT whole" in text
    assert ": is damaged: its bytes have another digest. Parity makes it whole." in text
    assert f"{MOE:<24} {len(list(folder.iterdir()))} files, every byte the same" in text
    assert "which the policy trusts: it counts." in lines[-1]
    assert ("all of it runs where there is none" in text) == bool(_without_network())


def test_a_model_that_does_not_hold_ends_it_with_what_was_told(story, tmp_path):
    index = write_moe(tmp_path / "model") / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    content["weight_map"].popitem()
    index.write_text(json.dumps(content))
    bring_in(story, index.parent)
    with pytest.raises(ArchiverError, match=r"ended with 25: (?s:.*)structure: failed"):
        story._smoke_test()


def test_of_each_level_the_first_row_is_shown():
    text = "✓ load: held\n    one\n    two\n- golden: skipped\n    → do\nIt runs\n"
    shown = "✓ load: held\n    one\n- golden: skipped\n    → do\nIt runs"
    assert smoke_test_excerpt(text) == shown
