"""What the policy accepts of a model: taken, shown, taken back, and what cannot be meant."""

from __future__ import annotations

import pytest
from kit.cli import invoke
from kit.journal import raw_event

from archiver.archive.archive import Archive
from archiver.archive.events import TOOL
from archiver.archive.findings import ACCEPTABLE

LATER = "2990-01-01T00:00:00Z"


def accepted(answer):
    (one,) = answer.kinds("policy")
    return one["accepted"]


def said(repository, code, revision=""):
    return {"repository": repository, "revision": revision, "code": code}


def events(root):
    return [event for _, event in Archive.open(root).events() if event.event == "policy"]


def test_it_is_kept_shown_and_taken_back(ask, root):
    words = ("--accept", "org/one:model-mtp", "--accept", "org/one@0123ABCdef:model-index")
    both = [said("org/one", "model-mtp"), said("org/one", "model-index", "0123abcdef")]
    assert accepted(ask("policy", "set", "--json", *words)) == both
    assert accepted(ask("policy", "--json")) == both
    assert events(root)[-1].fields["accepted"] == both
    shown = ask("policy").out.splitlines()
    assert [line.split()[-1] for line in shown if line.startswith("accepted ")] == [
        "org/one:model-mtp",
        "org/one@0123abcdef:model-index",
    ]
    assert ask("policy", "set", "--copies", 2).code == 0
    assert accepted(ask("policy", "--json")) == both
    left = ask("policy", "set", "--json", "--reject", "Org/One@0123abcdef:model-index")
    assert accepted(left) == both[:1]
    assert accepted(ask("policy", "set", "--json", "--reject", "org/one:model-mtp")) == []


def test_it_is_accepted_once_whatever_the_case(ask, root):
    assert ask("policy", "set", "--accept", "org/one:model-mtp").code == 0
    again = ask("policy", "set", "--accept", "ORG/One:model-mtp")
    assert "nothing was journalled" in again.err
    assert len(events(root)) == 1


def test_what_is_about_nothing_that_is_held_is_said(ask):
    revision = ask("show", "org/one", "--json").kinds("snapshot")[0]["source"]["revision"]
    for reference, told in (
        ("org/one", False),
        (f"org/one@{revision}", False),
        (f"org/one@{revision[:7].upper()}", False),
        ("org/one@0000000", True),
        ("org/on", True),
    ):
        answer = ask("policy", "set", "--accept", f"{reference}:model-mtp")
        assert answer.code == 0
        assert ("no snapshot that is held" in answer.err) is told, reference


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("org/one", "is not REPO:CODE"),
        ("org/one:", "is not REPO:CODE"),
        (":model-mtp", "is not REPO:CODE"),
        ("@0123456:model-mtp", "is not REPO:CODE"),
        ("org/../one:model-mtp", "is not the name of a repository"),
        ("org/one@main:model-mtp", "7 to 64"),
        ("org/one@:model-mtp", "7 to 64"),
        ("org/one@012345:model-mtp", "7 to 64"),
        ("org/one@" + "0" * 65 + ":model-mtp", "7 to 64"),
        ("org/one:model-mpt", "no code of a finding"),
        ("org/one:\x1b[31m", "\\x1b"),
        ("org/one:pack-damaged", "cannot be accepted"),
        ("org/one:model-golden", "cannot be accepted"),
        ("org/one:model-output", "cannot be accepted"),
        ("org/one:model-load", "cannot be accepted"),
        ("org/one:model-config", "cannot be accepted"),
        ("org/one:model-not-tried", "cannot be accepted"),
    ],
)
@pytest.mark.parametrize("option", ["--accept", "--reject"])
def test_what_cannot_be_meant(ask, root, option, text, why):
    answer = ask("policy", "set", option, text)
    assert answer.code == 2, answer
    assert why in answer.err
    if "no code" in why or "cannot be" in why:
        assert all(code in answer.err for code in ACCEPTABLE)
    assert not events(root)


def test_what_is_not_accepted_cannot_be_rejected(ask, root):
    none = ask("policy", "set", "--reject", "org/one:model-mtp")
    assert (none.code, "is not accepted" in none.err) == (2, True)
    ask("policy", "set", "--accept", "org/one:model-mtp")
    other = ask("policy", "set", "--reject", "org/one@0123456:model-mtp")
    assert other.code == 2
    assert "Accepted are: org/one:model-mtp." in other.err
    assert len(events(root)) == 1


def test_what_a_newer_version_accepts_is_shown_and_can_be_rejected(ask, root):
    newer = said("org/one", "model-new") | {"since": "then"}
    detail = {"accepted": [newer, said("org/one", "model-golden")], "later": 1}
    Archive.open(root).record(raw_event("policy", LATER, TOOL, detail=detail))
    policy = Archive.open(root).policy()
    assert [str(accepted) for accepted in policy.accepted] == [
        "org/one:model-new",
        "org/one:model-golden",
    ]
    assert policy.codes_accepted_of("org/one", "0" * 40) == frozenset()
    words = ("--reject", "org/one:model-new", "--reject", "org/one:model-golden")
    assert accepted(ask("policy", "set", "--json", *words)) == []


def test_it_goes_where_the_archive_is_copied_and_not_into_another(ask, root, tmp_path):
    ask("policy", "set", "--accept", "org/one:model-mtp")
    replica, other = tmp_path / "replica", tmp_path / "other"
    assert invoke("copy", "-q", "-C", root, "--new", replica) == 0
    assert str(Archive.open(replica).policy().accepted[0]) == "org/one:model-mtp"
    assert invoke("init", "-q", "-C", other) == 0
    for words in ((), ("--snapshot", "org/one")):
        assert invoke("copy", "-q", "-C", root, other, *words) == 0
        assert Archive.open(other).policy().accepted == ()
    ask("policy", "set", "--reject", "org/one:model-mtp")
    assert invoke("copy", "-q", "-C", root, replica) == 0
    assert Archive.open(replica).policy().accepted == ()
