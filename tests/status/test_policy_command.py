"""The policy: shown, changed, and what can never be taken back."""

from __future__ import annotations

import base64

import pytest
from kit.journal import raw_event

from archiver.archive.archive import Archive
from archiver.archive.events import TOOL

KEY = base64.b64encode(b"Ed" + bytes(range(8)) + bytes(32)).decode()
KEY_ID = "0706050403020100"


def policy(answer):
    (one,) = answer.kinds("policy")
    return one


def events(root):
    return [event for _, event in Archive.open(root).events() if event.event == "policy"]


def test_an_archive_wants_nothing_at_first(ask, root):
    result = ask("policy", "--json")
    assert result.code == 0
    assert policy(result) == {
        "kind": "policy",
        "copies": 1,
        "audit_days": 0,
        "audit_level": "content",
        "parity": 0,
        "parity_group": 32,
        "append_only": False,
        "signed": False,
        "keys": [],
        "accepted": [],
        "copy_days": 0,
    }
    assert not events(root)


@pytest.mark.parametrize(
    ("words", "changed"),
    [
        (("--copies", 3), {"copies": 3}),
        (("--audit-age", "30d"), {"audit_days": 30}),
        (("--audit-age", "36h"), {"audit_days": 1}),
        (("--audit-age", "0d", "--copies", 2), {"copies": 2}),
        (("--audit-level", "files"), {"audit_level": "files"}),
        (("--parity", "2"), {"parity": 2}),
        (("--parity", "4/16"), {"parity": 4, "parity_group": 16}),
        (("--append-only",), {"append_only": True}),
        (("--trust", KEY), {"keys": [KEY]}),
        (("--trust", KEY, "--require-signatures"), {"keys": [KEY], "signed": True}),
    ],
)
def test_what_is_named_changes_and_nothing_else(ask, words, changed):
    before = policy(ask("policy", "--json"))
    after = policy(ask("policy", "set", "--json", *words))
    assert after == before | changed
    assert policy(ask("policy", "--json")) == after


def test_the_newest_counts_also_within_a_second(ask, root):
    for copies in range(2, 8):
        assert ask("policy", "set", "--copies", copies).code == 0
    assert policy(ask("policy", "--json"))["copies"] == 7
    times = [event.time for event in events(root)]
    assert times == sorted(set(times))
    assert len(times) == 6


def test_what_was_the_policy_before_is_not_journalled_again(ask, root):
    ask("policy", "set", "--copies", 2)
    again = ask("policy", "set", "--copies", 2)
    assert (again.code, len(events(root))) == (0, 1)
    assert "nothing was journalled" in again.err


def test_append_only_is_for_good(ask, root):
    assert "for good" in ask("policy", "set", "--append-only").err
    assert ask("policy", "set", "--copies", 2).code == 0
    assert policy(ask("policy", "--json"))["append_only"] is True
    assert [event.fields["append_only"] for event in events(root)] == [True, True]
    later = raw_event("policy", "2990-01-01T00:00:00Z", TOOL, detail={"append_only": False})
    Archive.open(root).record(later)
    assert policy(ask("policy", "--json"))["append_only"] is True
    assert ask("policy", "set", "--no-append-only").code == 2


def test_keys_come_and_go(ask, tmp_path):
    assert ask("keys", "new", tmp_path / "k", "--no-password").code == 0
    assert ask("policy", "set", "--trust", KEY, "--trust", tmp_path / "k.pub").code == 0
    assert len(policy(ask("policy", "--json"))["keys"]) == 2
    assert ask("policy", "set", "--trust", KEY).code == 0
    assert ask("policy", "set", "--distrust", KEY_ID.upper()).code == 0
    (left,) = policy(ask("policy", "--json"))["keys"]
    assert left != KEY
    unknown = ask("policy", "set", "--distrust", KEY_ID)
    assert (unknown.code, "No key" in unknown.err) == (2, True)


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("--copies", 0),
        ("--parity", "2/0"),
        ("--parity", "129"),
        ("--parity", "100/200"),
        ("--parity", "two"),
        ("--audit-age", "30"),
        ("--audit-age", "23h"),
        ("--audit-level", "deep"),
        ("--trust", "no key"),
        ("--trust", KEY[:-4]),
        ("--require-signatures",),
    ],
)
def test_what_cannot_be_meant_is_a_usage_error_and_changes_nothing(ask, root, words):
    assert ask("policy", "set", *words).code == 2
    assert not events(root)


def test_two_keys_of_one_id_are_refused(ask, tmp_path):
    assert ask("keys", "new", str(tmp_path / "key"), "--no-password").code == 0
    key = (tmp_path / "key.pub").read_text().splitlines()[1]
    assert ask("policy", "set", "--trust", key).code == 0
    typo = key[:-1] + ("A" if key[-1] != "A" else "B")
    refused = ask("policy", "set", "--trust", typo)
    assert (refused.code, key in refused.err, typo in refused.err) == (2, True, True)
    id_ = ask("keys", "show", "--json", str(tmp_path / "key.pub")).kinds("key")[0]["id"]
    assert ask("policy", "set", "--distrust", id_, "--trust", typo).code == 0
    assert ask("policy", "--json").kinds("policy")[0]["keys"] == [typo]


def test_the_options_of_every_command_stand_before_or_after_set(ask, root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    from kit.cli import invoke

    place = ["-C", str(root)]
    for copies, words in enumerate(
        ([*place, "policy", "set"], ["policy", *place, "set"], ["policy", "set", *place]), start=2
    ):
        assert invoke(*words, "--copies", copies) == 0
        assert policy(ask("policy", "--json"))["copies"] == copies
    assert invoke("policy", *place) == 0
    assert invoke("policy") == 10


def test_a_policy_of_a_newer_version_is_not_guessed_at(ask, root):
    detail = {"copies": [2]}
    Archive.open(root).record(raw_event("policy", "2020-01-01T00:00:00Z", TOOL, detail=detail))
    for words in (("policy",), ("policy", "set", "--copies", 3)):
        answer = ask(*words)
        assert answer.code == 20
        assert "cannot be read" in answer.err
