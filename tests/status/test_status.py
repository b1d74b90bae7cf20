"""What status tells, what it says falls short, and that the command it names mends that."""

from __future__ import annotations

import pytest
from kit.faults import overwrite
from kit.journal import raw_event
from statuskit import packs, seals, words

from archiver.archive.archive import Archive
from archiver.archive.events import TOOL
from archiver.archive.places import place_of, settled_place
from archiver.smoke.report import up_to
from archiver.storage.local import LocalStore
from archiver.text import utc_before


def record(root, event, time="2020-01-01T00:00:00Z", **detail):
    Archive.open(root).record(raw_event(event, time, TOOL, detail=detail))


def test_what_was_never_audited_falls_short_and_an_audit_mends_that(ask, root):
    result = ask("status", "--json", "--packs")
    assert (result.code, set(result.short), result.status["met"]) == (24, {"audit"}, False)
    assert [remark["what"] for remark in result.status["remarks"]] == ["policy"]
    size = sum(path.stat().st_size for path in packs(root))
    assert (result.status["snapshots"], result.status["packs"], result.status["bytes"]) == (
        2,
        2,
        size,
    )
    for level in ("structure", "stored", "content", "files"):
        one = result.coverage(level)
        assert (one["packs"], one["never"], one["oldest"]) == (0, 2, "")
    assert {pack["pack"] for pack in result.kinds("pack")} == {path.stem for path in packs(root)}
    assert all(not pack["proven"] and pack["there"] for pack in result.kinds("pack"))
    assert ask("audit", "-q", "--level", "structure").code == 0
    assert ask("status").code == 24, "names and sizes prove nothing of the bytes"
    assert ask(*result.short["audit"]).code == 0
    after = ask("status", "--json")
    assert (after.code, after.short, after.status["met"]) == (0, {}, True)
    assert ask("status").out.startswith("Nothing falls short: 2 snapshots in 2 packs, ")


def test_what_was_smoke_tested_here(ask, root):
    one, two = Archive.open(root).snapshots()
    place = settled_place(Archive.open(root)).key
    held = dict.fromkeys(up_to("generate"), "held")

    def tested(snapshot, time, levels):
        record(root, "smoke-tested", time, snapshot=snapshot.id, place=place, levels=levels)

    assert "Smoke tests: 0 of 2 snapshots held." in ask("status").out
    tested(one, "2021-01-01T00:00:00Z", held)
    tested(two, "2021-01-02T00:00:00Z", {"structure": "held"})
    result = ask("status")
    assert "1 of 2 snapshots held, oldest 2021-01-01T00:00:00Z." in result.out
    assert f"  Never run: {two.seal.repository}@{two.seal.revision[:12]}." in result.out
    tested(one, "2021-01-03T00:00:00Z", held | {"forward": "failed"})
    assert (
        f"  Did not hold, or could not run: {one.seal.repository}@{one.seal.revision[:12]}."
        in ask("status").out
    )
    tests = {test["snapshot"]: test for test in ask("status", "--json").status["smoke_tests"]}
    told = (tests[one.id]["tried"], tests[one.id]["held"], tests[two.id]["tried"])
    assert told == ("2021-01-03T00:00:00Z", "2021-01-01T00:00:00Z", "")


def test_a_deeper_proof_proves_the_shallower(ask, root):
    assert ask("audit", "-q", "--level", "content").code == 0
    result = ask("status", "--json", "--packs")
    proven = {level: result.coverage(level)["packs"] for level in ("stored", "content", "files")}
    assert proven == {"stored": 2, "content": 2, "files": 0}
    assert result.coverage("content")["bytes"] == result.status["bytes"]
    assert {pack["level"] for pack in result.kinds("pack")} == {"content"}
    assert ask("audit", "-q", "--level", "files").code == 0
    deep = ask("status", "--json")
    assert (deep.coverage("files")["packs"], deep.status["files_proven"]) == (2, 2)


def test_what_was_not_proven_for_too_long_falls_short_until_it_is(ask, root):
    one, two = (path.stem for path in packs(root))
    record(root, "audited", level="content", packs=[one, two])
    assert ask("policy", "set", "-q", "--audit-age", "30d").code == 0
    result = ask("status", "--json")
    assert result.code == 24
    old = result.coverage("content")
    assert (old["packs"], old["recent_packs"], old["oldest"]) == (2, 0, "2020-01-01T00:00:00Z")
    command = result.short["audit"]
    assert command[-4:] == ["--level", "content", "--max-age", "30d"]
    assert ask(*command).code == 0
    assert ask("status", "--json").code == 0


def test_the_level_of_the_policy_counts(ask):
    assert ask("audit", "-q").code == 0
    assert ask("policy", "set", "--audit-age", "1d", "--audit-level", "files").code == 0
    assert set(ask("status", "--json").short) == {"audit"}
    assert ask("policy", "set", "--audit-level", "stored").code == 0
    assert ask("status", "--json").code == 0


def test_no_pack_is_opened(ask, monkeypatch):
    real = LocalStore.open

    def closed(self, name):
        assert not name.startswith("packs/"), name
        return real(self, name)

    monkeypatch.setattr(LocalStore, "open", closed)
    assert set(ask("status", "--packs", "--copies", "--json").short) == {"audit"}


def test_packs_that_are_gone_and_packs_that_nobody_needs(ask, root):
    gone, kept = packs(root)
    seal = next(path for path in root.glob("snapshots/*/*/*.json") if kept.stem in path.read_text())
    seal.unlink()
    gone.unlink()
    result = ask("status", "--json", "--packs")
    assert result.code == 24
    assert result.short["missing"][0] == "repair"
    told = {pack["pack"]: (pack["there"], pack["needed"]) for pack in result.kinds("pack")}
    assert told == {gone.stem: (False, True), kept.stem: (True, False)}
    text = ask("status", "--packs").out
    assert "MISSING" in text
    assert "no seal needs it" in text


def test_damage_that_an_audit_found_is_told_until_it_was_audited_again(ask, root):
    pack = packs(root)[0]
    good = pack.read_bytes()
    overwrite(pack, good[:-20] + bytes([good[-20] ^ 1]) + good[-19:])
    assert ask("audit", "-q").code == 20
    result = ask("status", "--json")
    assert (result.code, result.short["damage"]) == (24, ["repair", "-C", str(root)])
    (short,) = result.kinds("shortfall")
    assert short["commands"] == [["archiver", "repair", "-C", str(root)]]
    assert short["message"] == f"The audit of {short['time']} had 2 findings of damage."
    assert short["findings"] == 2
    assert ask("audit", "-q", "--snapshot", "org/two").code in {0, 20}
    assert "damage" in ask("status", "--json").short
    overwrite(pack, good)
    assert ask("audit", "-q").code == 0
    assert ask("status", "--json").code == 0


def test_a_seal_that_cannot_be_read_is_told(ask, root):
    seal = next(iter(root.glob("snapshots/*/*/*.json")))
    overwrite(seal, b"{}")
    result = ask("status", "--json")
    assert (result.status["snapshots"], set(result.short)) == (1, {"damage", "audit"})


# ---- copies


def ago(days):
    """The time so many days ago."""
    return utc_before(days * 86400)


def test_copies_are_counted_by_places(ask, root):
    one, two = seals(root)
    assert ask("audit", "-q").code == 0
    older, newer = ago(20), ago(10)
    record(root, "copied", older, **{"from": "here", "to": "usb"}, snapshots=[one, two])
    record(root, "copied", newer, **{"from": "here", "to": "nas"}, snapshots=[one])
    assert ask("policy", "set", "--copies", "2").code == 0
    result = ask("status", "--json", "--copies")
    assert (result.code, result.status["copies"]) == (0, 2)
    places = {
        place["place"]: (place["snapshots"], place["last"]) for place in result.kinds("place")
    }
    assert places.pop(place_of(root)) == (2, "")
    assert places == {"nas": (1, newer), "usb": (2, older)}
    assert "usb" in ask("status", "--copies").out
    record(root, "copy-lost", ago(5), place="usb")
    less = ask("status", "--json")
    assert (less.code, less.status["copies"]) == (24, 1)
    assert less.short["copies"][0] == "copy"


def test_a_lost_place_that_gets_a_copy_again_counts_again(ask, root):
    for days, event, detail in (
        (30, "copied", {"from": "here", "to": "usb", "snapshots": seals(root)}),
        (20, "copy-lost", {"place": "usb"}),
        (10, "copied", {"from": "here", "to": "usb", "snapshots": seals(root)}),
    ):
        record(root, event, ago(days), **detail)
    assert ask("status", "--json").status["copies"] == 2


def test_where_no_copy_was_made_each_snapshot_lies_here_alone(ask):
    assert ask("status", "--json").status["copies"] == 1
    assert [place["standing"] for place in ask("status", "--copies", "--json").kinds("place")] == [
        "here"
    ]


# ---- parity and signatures


def test_parity_that_is_wanted_is_missed_until_it_is_made(ask, root):
    assert ask("audit", "-q").code == 0
    assert ask("policy", "set", "--parity", "2").code == 0
    result = ask("status", "--json")
    assert (result.code, result.status["with_parity"]) == (24, 0)
    assert ask(*result.short["parity"]).code == 0
    after = ask("status", "--json", "--packs")
    assert (after.code, after.status["with_parity"]) == (0, 2)
    assert after.status["bytes_with_parity"] == after.status["bytes"]
    assert all(pack["parity"] for pack in after.kinds("pack"))
    # What an audit writes down does not fall short at once.
    assert ask("audit", "-q").code == 0
    assert ask("status", "--json").code == 0


def test_signatures_that_are_wanted_are_missed_until_they_are_made(ask, root, tmp_path):
    assert ask("audit", "-q").code == 0
    assert ask("keys", "new", tmp_path / "key", "--no-password").code == 0
    public = tmp_path / "key.pub"
    assert ask("policy", "set", "--trust", public, "--require-signatures").code == 0
    result = ask("status", "--json")
    assert (result.code, result.status["unsigned"]) == (24, 4)
    command = [
        str(tmp_path / "key.key") if shortfall == "FILE" else shortfall
        for shortfall in result.short["signatures"]
    ]
    assert ask(*command).code == 0
    assert ask("status", "--json").code == 0


def test_text_says_the_next_command(ask):
    assert ask("policy", "set", "--audit-age", "1d", "--copies", "3").code == 0
    lines = ask("status").out.splitlines()
    short = [at for at, line in enumerate(lines) if line.startswith("SHORT: ")]
    assert len(short) == 2
    for at in short:
        assert words(lines[at + 1].strip().removeprefix("→ Run ").removesuffix("."))[0] in {
            "audit",
            "copy",
        }


@pytest.mark.parametrize("detail", [{"copies": "many"}, {"audit_level": "deep"}])
def test_a_policy_that_cannot_be_understood_is_an_error(ask, root, detail):
    record(root, "policy", **detail)
    assert ask("status").code == 20
    assert ask("audit", "-q").code == 0
