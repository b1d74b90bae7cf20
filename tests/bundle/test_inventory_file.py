"""The file that ``inventory`` writes."""

from __future__ import annotations

import json
import os
import stat

import pytest
from kit.disks import memory_disk


@pytest.fixture
def inventory(tmp_path, cli):
    archive = tmp_path / "weights"
    assert cli("init", "-C", archive).code == 0
    return lambda target: cli("inventory", "-C", archive, "-o", target)


def test_an_inventory_that_finds_no_room_leaves_nothing(tmp_path, inventory):
    with memory_disk(tmp_path / "stick", 8 << 10) as stick:
        (stick / "rest").write_bytes(b"x" * 4096)
        (stick / "inventory.json").write_text("the one before")
        result = inventory(stick / "inventory.json")
        assert result.code == 31
        assert "No space" in result.err
        assert (stick / "inventory.json").read_text() == "the one before"
        assert {path.name for path in stick.iterdir()} == {"rest", "inventory.json"}


def test_the_one_before_is_replaced_and_nothing_beside_it(tmp_path, inventory):
    """Also where a link lies in the way that a file half written would have."""
    mine = tmp_path / "mine"
    mine.write_text("mine")
    (tmp_path / "inventory.json.partial").symlink_to(mine)
    (tmp_path / "inventory.json").write_text("the one before")
    assert inventory(tmp_path / "inventory.json").code == 0
    assert json.loads((tmp_path / "inventory.json").read_bytes())["kind"] == "inventory"
    assert mine.read_text() == "mine"


def test_what_is_no_file_is_not_replaced(tmp_path, inventory, monkeypatch):
    """A device that became a file would be missed by every other program."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    result = inventory(pipe)
    assert result.code == 2
    assert "is no file" in result.err
    assert stat.S_ISFIFO(pipe.lstat().st_mode)
    monkeypatch.chdir(tmp_path)
    for folder in (".", tmp_path, "weights"):
        assert inventory(folder).code == 2
    result = inventory(tmp_path / "absent" / "inventory.json")
    assert result.code == 2
    assert "Make it first" in result.err
