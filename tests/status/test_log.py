"""``archiver log`` reads the journal: what is known in a sentence, what is not as it stands."""

from __future__ import annotations

import json

import pytest
from kit.faults import overwrite
from kit.journal import raw_event

from archiver.archive import events
from archiver.archive.archive import Archive
from archiver.archive.events import TOOL


def journal(root):
    return [(digest, event) for digest, event in Archive.open(root).events()]


def record(root, event, time="2020-01-01T00:00:00Z", repository="", **detail):
    return Archive.open(root).record(raw_event(event, time, TOOL, repository, detail=detail))


def shown(found):
    """The kinds of the events that were shown, in order."""
    return [event["event"] for event in found.kinds("event")]


def test_every_event_is_shown_as_it_is_stored(ask, root):
    assert ask("policy", "set", "-q", "--copies", "2", "--parity", "2").code == 0
    assert ask("audit", "-q", "--sample", "50%", "--seed", "theirs").code == 0
    before = sorted(root.rglob("*"))
    result = ask("log", "--json")
    assert (result.code, sorted(root.rglob("*"))) == (0, before)
    told = {event["id"]: event for event in result.kinds("event")}
    by_time = sorted(journal(root), key=lambda entry: entry[1].time)
    assert list(told) == [digest for digest, _ in by_time]
    for digest, event in journal(root):
        one = told[digest]
        assert (one["event"], one["time"], one["detail"]) == (event.event, event.time, event.fields)
    lines = ask("log").out.splitlines()
    assert len(lines) == len(told)
    text = "\n".join(lines)
    assert "org/one@" in text
    assert ": sealed as " in text
    assert "wanted from now on: copies 2, audits content, no matter when, parity 2/32." in text
    assert "1 pack proven at level content; a sample of 0.5 by the seed theirs" in text
    assert "something due was left for later." in text
    status = ask("status").out
    assert (
        ", level content of all, a sample of 0.5 by the seed theirs, something due left" in status
    )
    last = ask("status", "--json").status["audit"]
    assert (last["sample"], last["complete"]) == ({"share": "0.5", "seed": "theirs"}, False)


def test_the_oldest_comes_first_also_of_what_came_from_another_journal(ask, root):
    """It names what was there when it came, and so it stands later in the journal than it happened."""
    for time in ("2020-01-03T00:00:00Z", "2020-01-01T00:00:00Z", "2020-01-02T00:00:00Z"):
        record(root, "audited", time, level="stored", place="elsewhere")
    assert [event.time[:10] for _, event in journal(root)][-3:] != sorted(
        event.time[:10] for _, event in journal(root)
    )[:3]
    times = [event["time"] for event in ask("log", "--json").kinds("event")]
    assert times == sorted(times)
    (newest,) = ask("log", "--json", "--until", "2020-01-04", "--last", "1").kinds("event")
    assert newest["time"] == "2020-01-03T00:00:00Z"


def test_by_repository_kind_time_and_number(ask, root):
    one = next(event for _, event in journal(root) if event.repository == "org/one")
    record(root, "copied", **{"from": "a", "to": "b"}, snapshots=[one.snapshot])
    record(root, "copied", **{"from": "a", "to": "c"}, snapshots=["00" * 32])
    record(root, "planned", plan="p", place="x", entries=[{"repository": "Org/One"}])
    record(root, "gone", "2021-01-01T00:00:00Z", "org/two", name="main", upstream="u")
    assert sorted(shown(ask("log", "ORG/one", "--json"))) == ["copied", "planned", "sealed"]
    assert sorted(shown(ask("log", "org/two", "--json"))) == ["gone", "sealed"]
    assert shown(ask("log", "--json", "--kind", "gone", "--kind", "planned")) == ["planned", "gone"]
    old = ask("log", "--json", "--until", "2022-01-01")
    assert sorted(shown(old)) == ["copied", "copied", "gone", "planned"]
    assert shown(ask("log", "--json", "--since", "2020-06-01", "--until", "2021-01-02")) == ["gone"]
    assert shown(ask("log", "--json", "--since", "2021-01-01", "--until", "2021-01-01")) == []
    assert sorted(shown(ask("log", "--json", "--since", "36500d"))) == sorted(
        event.event for _, event in journal(root)
    )
    assert shown(ask("log", "--json", "--since", "30d")) == ["sealed", "sealed"]
    newest = max(journal(root), key=lambda entry: entry[1].time)[1]
    assert shown(ask("log", "--json", "--last", "1")) == [newest.event] == ["sealed"]
    for wrong in ("yesterday", "2021-02-30", "٢٠٢١-01-01", "2021-1-1", "", "-7d"):
        assert ask("log", "--since", wrong).code == 2, wrong
    assert ask("log", "--last", "0").code == 2


@pytest.mark.parametrize("name", [*events.KINDS, "new-thing", "\x1b[31m"])
def test_another_form_or_kind_is_shown_as_it_stands(ask, root, name):
    detail = {
        "strange": ["\x1b]0;title\x07", {"deep": "\u202e"}],
        "copies": "many",
        "number": 10**30,
        "since": 5,
    }
    record(root, name, **detail)
    result = ask("log", "--json", "--kind", name, "--until", "2022-01-01")
    (one,) = result.kinds("event")
    assert (one["event"], one["detail"]["strange"]) == (name, detail["strange"])
    assert (result.code, "\x1b" in result.out) == (0, False)
    text = ask("log", "--kind", name, "--until", "2022-01-01")
    assert (text.code, len(text.out.splitlines())) == (0, 1)
    assert "strange" in text.out
    assert not {"\x1b", "\u202e", "\x07"} & set(text.out)


HOSTILE = "a\x1b[2Jb\nc\u202ed"
KNOWN = {
    "sealed": {"snapshot": HOSTILE},
    "sighted": {"name": HOSTILE, "upstream": HOSTILE},
    "gone": {"name": HOSTILE, "upstream": HOSTILE},
    "rehashed": {"packs": [["a" * 64, "b" * 64]], "place": HOSTILE},
    "audited": {
        "level": HOSTILE,
        "packs": [HOSTILE],
        "damaged": 5,
        "sample": {"share": HOSTILE, "seed": HOSTILE},
        "heads": [HOSTILE],
        "keys": [HOSTILE],
        "complete": False,
    },
    "damage-met": {
        "objects": [dict.fromkeys(("object", "source"), HOSTILE) | {"packs": [HOSTILE]}]
    },
    "copied": {"from": HOSTILE, "to": HOSTILE, "snapshots": [HOSTILE] * 9},
    "copy-lost": {"place": HOSTILE},
    "places-seen": {"places": [{"place": HOSTILE}]},
    "forgotten": {"snapshots": [HOSTILE]},
    "remembered": {"snapshots": [HOSTILE]},
    "condemned": {"files": [HOSTILE]},
    "spared": {"files": [HOSTILE]},
    "pruned": {"files": [HOSTILE], "to": HOSTILE},
    "repaired": {"files": [HOSTILE], "source": HOSTILE, "snapshots": [HOSTILE]},
    "signed": {"key": HOSTILE, "documents": [HOSTILE]},
    "smoke-tested": {"snapshot": "x", "levels": {HOSTILE: HOSTILE}},
    "clock": {"since": HOSTILE, "confirmed": True},
    "planned": {"plan": HOSTILE, "place": "", "entries": [{"repository": HOSTILE}]},
    "plan-retired": {"plan": HOSTILE, "place": ""},
    "synced": {
        "plan": HOSTILE,
        "place": "",
        "planned": "",
        "outcomes": ["held", "gone"],
        "exit_code": 3,
        "seconds": 1 << 62,
        "fetched": 1 << 62,
        "stored": 0,
        "free": -1,
        "min_free": 0,
    },
    "policy": {
        "keys": [HOSTILE],
        "accepted": [dict.fromkeys(("repository", "revision", "code"), HOSTILE)],
    },
    "upstream-changed": {
        "upstream": HOSTILE,
        "changes": [
            dict.fromkeys(("what", "name", "before", "after", "code"), HOSTILE) | {"what": what}
            for what in ("branch", "licence", "identity", "name", "gone", "left-out", HOSTILE)
        ],
    },
    "upstream-unseen": {
        "upstream": HOSTILE,
        "control": HOSTILE,
        "unseen": [{"repository": HOSTILE, "status": 401, "code": HOSTILE}],
        "seen": [HOSTILE],
    },
    "cross-checked": dict.fromkeys(
        ("upstream", "other", "other_revision", "other_upstream"), HOSTILE
    )
    | {"same": 1, "differs": 2, "paths": [HOSTILE]},
    "night": {
        "plan": HOSTILE,
        "place": HOSTILE,
        "exit_code": 23,
        "steps": [[HOSTILE, HOSTILE]],
        "facts": [{"fact": HOSTILE, "subject": HOSTILE, "exit_code": 23, "step": HOSTILE}],
        "cut": HOSTILE,
    },
    "bundle-imported": dict.fromkeys(("bundle", "archive", "place"), HOSTILE)
    | {"snapshots": [HOSTILE]},
    "receipt-accepted": dict.fromkeys(("place", "receipt", "text", "signature"), HOSTILE),
    "acknowledged": {"fact": "gone", "name": HOSTILE, "until": HOSTILE, "note": HOSTILE},
}


@pytest.mark.parametrize("name", KNOWN)
def test_what_a_known_kind_quotes_is_escaped(ask, root, name):
    record(root, name, repository=HOSTILE, **KNOWN[name])
    result = ask("log", "--kind", name, "--last", "1")
    assert (result.code, len(result.out.splitlines())) == (0, 1)
    assert not {"\x1b", "\u202e"} & set(result.out)
    assert '{"' not in result.out, "a sentence, not the JSON"


def test_the_table_of_kinds_is_whole():
    assert set(KNOWN) == set(events.KINDS)


def test_damaged_events_are_told_and_the_others_shown(ask, root):
    first = next(path for path in sorted((root / "journal").rglob("*.json")))
    overwrite(first, first.read_bytes()[:-1] + b" ")
    result = ask("log", "--json")
    assert (result.code, len(result.kinds("event")), len(result.kinds("error"))) == (20, 1, 1)
    assert json.loads(result.out.splitlines()[-1])["exit_code"] == 20


def test_an_audit_remarks_an_event_whose_detail_is_not_of_its_kind(ask, root):
    record(root, "copied", **{"from": 5}, snapshots="none")
    (digest, _), *_ = [entry for entry in journal(root) if entry[1].event == "copied"]
    audit = ask("audit", "-q", "--json")
    assert audit.code == 0
    (finding,) = [row for row in audit.kinds("finding") if row["code"] == "event-malformed"]
    assert digest in finding["path"]
    assert "counts for nothing" in finding["message"]
    assert ask("log", "--kind", "copied").code == 0
