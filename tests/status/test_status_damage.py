"""Damage that was found is not forgotten, and what was proven elsewhere proves nothing here."""

from __future__ import annotations

import shutil

import pytest
from statuskit import packs

MONTH = ("--max-age", "30d")


def break_pack(root):
    pack = packs(root)[0]
    data = bytearray(pack.read_bytes())
    data[len(data) // 2] ^= 1
    pack.chmod(0o644)
    pack.write_bytes(data)


@pytest.mark.parametrize("later", [("--level", "structure"), ("--sample", "1%")])
def test_an_audit_that_looks_at_less_does_not_hide_damage(ask, root, later):
    assert ask("audit", "-q").code == 0
    break_pack(root)
    assert ask("audit", "-q").code == 20
    ask("audit", "-q", *later)
    result = ask("status", "--json")
    assert (result.code, set(result.short)) == (24, {"damage"})


def test_an_earlier_proof_does_not_count_once_damage_was_found(ask, root):
    assert ask("audit", "-q").code == 0
    break_pack(root)
    assert ask("audit", "-q", *MONTH).code == 0  # nothing is due
    assert ask("audit", "-q").code == 20
    assert ask("audit", "-q", *MONTH).code == 20


def test_damage_that_is_whole_again_is_told_no_more(ask, root, tmp_path):
    shutil.copytree(root, tmp_path / "copy")
    break_pack(root)
    assert ask("audit", "-q").code == 20
    ask("audit", "-q", "--level", "structure")
    command = ask("status", "--json").short["damage"]
    assert command[0] == "repair"
    assert ask(*command, "-q", "--from", str(tmp_path / "copy")).code == 0
    assert ask("status", "--json").code == 0
    assert ask("audit", "-q", "--level", "structure").code == 0
    assert ask("status", "--json").code == 0


def test_what_was_proven_at_one_place_is_not_proven_at_another(ask, root, tmp_path):
    assert ask("audit", "-q").code == 0
    copy = tmp_path / "copy"
    assert ask("copy", "--new", str(copy), "-q").code == 0
    assert ask("status", "--json", "-C", str(copy)).coverage("content")["packs"] == 0
    break_pack(copy)
    assert ask("audit", "-q", "-C", str(copy), *MONTH).code == 20
    assert ask("copy", str(root), "-q", "-C", str(copy)).code == 0
    result = ask("status", "--json")
    assert (result.code, result.coverage("content")["packs"]) == (0, 2)
