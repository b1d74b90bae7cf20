"""What an audit found stays in the status until it was mended, or looked at again and found whole.

What was proven elsewhere proves nothing here.
"""

from __future__ import annotations

import shutil

import pytest
from kit.archive import as_older
from kit.cli import invoke
from kit.faults import flip, overwrite
from statuskit import packs, words

MONTH = ("--max-age", "30d")
SHALLOW = [("--level", "structure"), ("--max-bytes", "1GB"), ("--snapshot", "org/one")]


def spoil(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    overwrite(path, bytes(data))


@pytest.fixture
def parity(ask, root):
    """A sidecar of a pack whose last parity block is damaged, found by a whole audit."""
    assert ask("parity", "add").code == 0
    assert set(ask("status", "--json").short) == {"audit"}
    (sidecar,) = (root / "parity").glob(f"*/{packs(root)[0].stem}*")
    flip(sidecar)
    result = ask("audit", "--json")
    assert [finding["code"] for finding in result.kinds("finding")] == ["parity-damaged"]
    return sidecar


@pytest.mark.parametrize("later", SHALLOW)
def test_parity_blocks_that_nobody_looked_at_again_stay_damaged(ask, parity, later):
    assert ask("audit", "-q", *later).code == 0
    result = ask("status", "--json")
    assert (result.code, set(result.short)) == (24, {"damage"})


@pytest.mark.parametrize(
    "mend", [("repair", "--no-upstream"), ("parity", "add"), ("parity", "remove")]
)
def test_parity_that_was_mended_or_taken_away_is_told_no_more(ask, parity, mend):
    ask("audit", "-q", "--level", "structure")
    assert ask(*mend).code == 0
    assert ask("status", "--json").short == {}
    assert ask("audit", "-q").code == 0
    assert ask("status").code == 0


def test_a_whole_audit_that_finds_it_right_is_enough(ask, root, parity, tmp_path):
    ask("audit", "-q", "--level", "structure")
    parity.unlink()
    assert ask("parity", "add", "-q", "-C", shutil.copytree(root, tmp_path / "copy")).code == 0
    shutil.copy2(tmp_path / "copy" / parity.relative_to(root), parity)
    assert "damage" in ask("status", "--json").short
    assert ask("audit", "-q").code == 0
    assert ask("status").code == 0


def test_damage_of_a_document_stays_until_all_documents_were_looked_at(ask, root):
    one, two = sorted(root.glob("manifests/*/*/*.zst"))
    spoil(one)
    assert ask("audit", "-q", "--snapshot", "org/one").code == 20
    result = ask("status", "--json")
    assert (result.code, result.short["damage"][0]) == (24, "repair")
    assert ask("audit", "-q", "--snapshot", "org/two").code == 0
    assert "damage" in ask("status", "--json").short
    spoil(one)  # as it was
    assert ask("audit", "-q", "--level", "structure").code == 0
    assert ask("status").code == 0
    spoil(two)
    assert ask("audit", "-q", "--level", "structure").code == 20
    assert "damage" in ask("status", "--json").short


def test_a_repair_that_mends_a_part_leaves_the_rest_told(ask, root, tmp_path):
    one, two = sorted(root.glob("manifests/*/*/*.zst"))
    for manifest in (one, two):  # else the packs have them too
        as_older(root, f"org/{manifest.parent.name}")
    shutil.copytree(root, tmp_path / "copy")
    (tmp_path / "copy" / two.relative_to(root)).unlink()
    spoil(one)
    spoil(two)
    assert ask("audit", "-q").code == 20
    done = ask("repair", "--no-upstream", "--from", tmp_path / "copy")
    assert done.code == 21
    result = ask("status", "--json")
    assert (result.code, result.short["damage"][0]) == (24, "repair")
    (short,) = result.kinds("shortfall")
    assert "1 other file" in short["message"]


def test_a_signature_that_was_made_again_is_told_no_more(ask, root, tmp_path):
    assert ask("keys", "new", tmp_path / "key", "--no-password").code == 0
    sign = ("sign", "--key", tmp_path / "key.key")
    assert ask(*sign).code == 0
    assert ask("policy", "set", "--trust", tmp_path / "key.pub").code == 0
    seal = next(iter(root.glob("snapshots/*/*/*.json"))).name.split(".")[1]
    (signature,) = root.glob(f"signatures/*/{seal}.*")
    overwrite(signature, b"nothing")
    assert ask("audit", "-q", "--level", "structure").code == 20
    assert ask("audit", "-q", "--snapshot", "org/one").code == 0
    assert "damage" in ask("status", "--json").short
    assert ask(*sign).code == 0
    ask("audit", "-q", "--snapshot", "org/one")
    assert ask("audit", "-q", "--level", "structure").code == 0
    assert ask("status").code == 0


def test_missing_packs_are_counted_nowhere_as_there(ask, root):
    assert ask("audit", "-q", "--level", "files").code == 0
    for pack in packs(root):
        pack.unlink()
    result = ask("status", "--json")
    assert (result.status["packs"], result.status["missing"], result.status["files_proven"]) == (
        0,
        2,
        0,
    )
    for level in ("structure", "stored", "content", "files"):
        one = result.coverage(level)
        assert (one["packs"], one["bytes"], one["never"]) == (0, 0, 0)
    text = ask("status").out
    assert "0 packs, 0 B; 2 packs missing." in text
    assert "%" not in text


def test_packs_that_an_audit_missed_are_repaired_not_audited_again(ask, root):
    for pack in packs(root):
        pack.unlink()
    assert ask("audit", "-q").code == 20
    result = ask("status", "--json")
    assert (result.short["missing"], result.short["damage"]) == (["repair", "-C", str(root)],) * 2
    assert "findings of damage." in ask("status").out


def test_what_a_repair_could_not_mend_wants_other_places(ask, root):
    packs(root)[0].unlink()
    for more in ((), ("--dry-run",)):
        done = ask("repair", "--json", "--no-upstream", *more)
        assert done.code == 21
        for each in done.kinds("finding"):
            assert "--from DIR" in each["hint"]
            assert words(f"'{each['hint'].partition(chr(39))[2].partition(chr(39))[0]}'")[-2:] == [
                "--from",
                "DIR",
            ]


def test_each_look_of_a_repair_has_its_own_name(ask, root, tmp_path):
    shutil.copytree(root, tmp_path / "copy")
    spoil(packs(root)[0])
    done = ask("repair", "--no-upstream", "--from", tmp_path / "copy")
    assert done.code == 0
    told = [line for line in done.err.splitlines() if line.endswith(": done")]
    assert len(told) == len(set(told)) == 6
    assert {line.partition(" packs/")[0] for line in told} == {"Looking at", "Reading", "Proving"}


def test_an_audit_names_the_file_of_a_pack(root, capfd):
    pack = packs(root)[0]
    spoil(pack)
    assert invoke("audit", "-q", "-C", root) == 20
    lines = capfd.readouterr().out.splitlines()
    (line,) = [line for line in lines if line.startswith("pack-damaged")]
    assert line.endswith(f"  {pack.parent.relative_to(root)}/{pack.stem[:16]}….pack")


@pytest.mark.parametrize("later", [("--level", "structure"), ("--sample", "1%")])
def test_an_audit_that_looks_at_less_does_not_hide_damage(ask, root, later):
    assert ask("audit", "-q").code == 0
    flip(packs(root)[0])
    assert ask("audit", "-q").code == 20
    ask("audit", "-q", *later)
    result = ask("status", "--json")
    assert (result.code, set(result.short)) == (24, {"damage"})


def test_an_earlier_proof_does_not_count_once_damage_was_found(ask, root):
    assert ask("audit", "-q").code == 0
    flip(packs(root)[0])
    assert ask("audit", "-q", *MONTH).code == 0  # nothing is due
    assert ask("audit", "-q").code == 20
    assert ask("audit", "-q", *MONTH).code == 20


def test_damage_that_is_whole_again_is_told_no_more(ask, root, tmp_path):
    shutil.copytree(root, tmp_path / "copy")
    flip(packs(root)[0])
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
    flip(packs(copy)[0])
    assert ask("audit", "-q", "-C", str(copy), *MONTH).code == 20
    assert ask("copy", str(root), "-q", "-C", str(copy)).code == 0
    result = ask("status", "--json")
    assert (result.code, result.coverage("content")["packs"]) == (0, 2)
