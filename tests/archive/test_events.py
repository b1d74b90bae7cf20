"""Events are types: bytes that stay as they were, newer kinds, and who may say a name or a key."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import get_args

import msgspec
import pytest
from kit.journal import raw_event

import archiver
from archiver.archive import events
from archiver.archive.archive import Archive
from archiver.archive.events import (
    KINDS,
    Event,
    KnownDetail,
    Malformed,
    Unknown,
    new_event,
    parse_event,
)
from archiver.archive.journal import policy_of
from archiver.archive.policy import Policy
from archiver.archive.records import canonical
from archiver.errors import DamageError

A, B = "aa" * 32, "bb" * 32
WRITTEN = {
    '"sealed"': (events.Sealed(A), f'{{"snapshot":"{A}"}}'),
    '"sealed" vouched': (events.Sealed(A, "pin"), f'{{"snapshot":"{A}","vouched":"pin"}}'),
    '"sighted"': (events.Sighted("main", "u"), '{"name":"main","upstream":"u"}'),
    '"gone"': (events.Gone("main", "u"), '{"name":"main","upstream":"u"}'),
    '"audited"': (
        events.Audited("stored", 3, packs=(A,), run="0f"),
        (
            '{"checked":[],"damaged":0,"damaged_files":[],"damaged_packs":[],"level":"stored",'
            f'"objects":3,"packs":["{A}"],"place":"","run":"0f","snapshots":[]}}'
        ),
    ),
    '"policy"': (
        Policy(copies=2),
        (
            '{"accepted":[],"append_only":false,"audit_days":0,"audit_level":"content","copies":2,'
            '"copy_days":0,"keys":[],"parity":0,"parity_group":32,"signed":false}'
        ),
    ),
    '"copied"': (
        events.Copied("x", "y", (A,), (B,), to_id="i"),
        f'{{"from":"x","packs":["{B}"],"snapshots":["{A}"],"to":"y","to_id":"i"}}',
    ),
    '"places-seen"': (
        events.PlacesSeen((events.PlaceSeen("x", medium="disk"),)),
        '{"places":[{"medium":"disk","place":"x"}]}',
    ),
    '"copy-lost"': (events.CopyLost("x"), '{"place":"x"}'),
    '"repaired"': (
        events.Repaired(("f",), "s", "p"),
        '{"files":["f"],"place":"p","source":"s"}',
    ),
    '"repaired" seals': (
        events.Repaired((), place="p", snapshots=(A,)),
        f'{{"files":[],"place":"p","snapshots":["{A}"],"source":""}}',
    ),
    '"damage-met"': (
        events.DamageMet((events.MetObject(A, (B,)), events.MetObject(B, source="parity")), "p"),
        f'{{"objects":[{{"object":"{A}","packs":["{B}"]}},{{"object":"{B}","source":"parity"}}],"place":"p"}}',
    ),
    '"rehashed"': (
        events.Rehashed(((A, A),), "p"),
        f'{{"packs":[["{A}","{A}"]],"place":"p"}}',
    ),
    '"forgotten"': (events.Forgotten((A,)), f'{{"snapshots":["{A}"]}}'),
    '"remembered"': (events.Remembered((A,)), f'{{"snapshots":["{A}"]}}'),
    '"condemned"': (events.Condemned(("f",), "p"), '{"files":["f"],"place":"p"}'),
    '"spared"': (events.Spared(("f",)), '{"files":["f"]}'),
    '"pruned"': (events.Pruned(("f",), ""), '{"files":["f"],"to":""}'),
    '"signed"': (events.Signed("k", (A,)), f'{{"documents":["{A}"],"key":"k"}}'),
    '"smoke-tested"': (
        events.SmokeTested(
            A,
            {"load": "held"},
            findings=(events.SmokeFinding("c", "m"), events.SmokeFinding("d", "n", accepted=True)),
            golden=msgspec.Raw(b'{"version":1}'),
        ),
        (
            '{"device":"","dtype":"","environment":{},"findings":[{"code":"c","message":"m"},'
            '{"accepted":true,"code":"d","message":"n"}],"golden":{"version":1},'
            '"levels":{"load":"held"},"manifest":"","mode":"","place":"","read":"","seconds":0,'
            f'"snapshot":"{A}"}}'
        ),
    ),
    '"clock"': (events.ClockSeen("t"), '{"confirmed":false,"since":"t"}'),
    '"planned"': (
        events.Planned("n", "p", (events.PlannedEntry("o/m"),)),
        '{"entries":[{"repository":"o/m"}],"place":"p","plan":"n"}',
    ),
    '"plan-retired"': (events.PlanRetired("n", "p"), '{"place":"p","plan":"n"}'),
    '"synced"': (
        events.Synced("n", "p", A, ("held",), 0, 1, 2, 3, -1, 4),
        (
            '{"exit_code":0,"fetched":2,"free":-1,"min_free":4,"outcomes":["held"],"place":"p",'
            f'"plan":"n","planned":"{A}","seconds":1,"stored":3}}'
        ),
    ),
    '"night"': (
        events.NightRun(
            "n", "p", 23, (("sync", "done"),), (events.NightFact("gone", "o/m", 23, "s"),)
        ),
        (
            '{"exit_code":23,"facts":[{"exit_code":23,"fact":"gone","step":"s","subject":"o/m"}],"place":"p",'
            '"plan":"n","steps":[["sync","done"]]}'
        ),
    ),
    '"upstream-changed"': (
        events.UpstreamChanged("u", (events.UpstreamChange("licence", "", "mit", "other"),)),
        '{"changes":[{"after":"other","before":"mit","what":"licence"}],"upstream":"u"}',
    ),
    '"upstream-unseen"': (
        events.UpstreamUnseen("u", "whoami-v2", (events.UnseenRepository("o/m", 401),)),
        '{"control":"whoami-v2","unseen":[{"repository":"o/m","status":401}],"upstream":"u"}',
    ),
    '"cross-checked"': (
        events.CrossChecked("u", "modelscope:o/m", "c", "v", same=3, differs=1, paths=("a",)),
        (
            '{"differs":1,"other":"modelscope:o/m","other_revision":"c","other_upstream":"v","paths":["a"],'
            '"same":3,"upstream":"u"}'
        ),
    ),
    '"bundle-imported"': (
        events.BundleImported("b", "a", ("s",), "p"),
        '{"archive":"a","bundle":"b","place":"p","snapshots":["s"]}',
    ),
    '"receipt-accepted"': (
        events.ReceiptAccepted("p", A, "{}\n", "s"),
        f'{{"place":"p","receipt":"{A}","signature":"s","text":"{{}}\\n"}}',
    ),
    '"acknowledged"': (events.Acknowledged("gone", "main"), '{"fact":"gone","name":"main"}'),
}


def test_every_kind_has_one_record_and_the_other_way():
    assert set(KINDS.values()) == set(get_args(KnownDetail))
    assert len(KINDS) == len(set(KINDS.values()))
    assert {name.split('"')[1] for name in WRITTEN} == set(KINDS)


@pytest.mark.parametrize("case", WRITTEN)
def test_the_bytes_of_a_detail(case):
    detail, text = WRITTEN[case]
    name = case.split('"')[1]
    event = new_event(detail, "o/m", "r", time="2026-01-02T03:04:05Z")
    expected = (
        f'{{"after":[],"detail":{text},"event":"{name}","format":1,"kind":"event","repository":"o/m",'
        f'"revision":"r","time":"2026-01-02T03:04:05Z","tool":"{events.TOOL}"}}'
    ).encode()
    assert canonical(event) == expected
    read = parse_event(expected, "It")
    assert read == event
    if not isinstance(detail, events.SmokeTested):  # raw values are equal by what they are part of
        assert read.detail == detail
    assert canonical(new_event(read.detail, "o/m", "r", time=event.time)) == expected


def stored(detail: bytes, event: str = "newer") -> bytes:
    head = f'{{"event":"{event}","format":1,"kind":"event","time":"2026-01-02T03:04:05Z","tool":"t"'
    return head.encode() + b',"detail":' + detail + b"}"


ODD = b'{"z": 1E2, "a":[18446744073709551616999,-0.0 ],"\\u0061":"\\u00e9"}'


def test_a_kind_that_only_a_newer_version_knows_stays_as_it_is(tmp_path):
    event = parse_event(stored(ODD), "It")
    assert event.detail == Unknown("newer")
    assert ODD in canonical(event)
    first, second = Archive.create(tmp_path / "one"), Archive.create(tmp_path / "two")
    first.record(event)
    ((_, again),) = first.events()
    second.record(again)  # as a copy tells another journal
    (name,) = second.journal.names()
    assert ODD in second.store.get(name, 1 << 20)


def test_what_a_known_kind_has_beyond_its_keys_stays_too():
    data = stored(b'{"snapshot":"x","new":{"b": 1,"a":2}}', "sealed")
    event = parse_event(data, "It")
    assert event.detail == events.Sealed("x")
    assert b'{"snapshot":"x","new":{"b": 1,"a":2}}' in canonical(event)


@pytest.mark.parametrize(
    "detail", [b"[]", b"5", b"null", b'{"a":"\xff"}', b"[" * 100_000, b'{"a"}']
)
def test_a_detail_that_is_no_json_object_is_damage(detail):
    with pytest.raises(DamageError, match="It is not a readable Event"):
        parse_event(stored(detail), "It")


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize(
    "value", [None, 5, [5], {}, 2**70, [[]], 1.5], ids=lambda value: repr(value)[:9]
)
def test_a_detail_of_other_types_is_an_outcome_never_an_error(name, value):
    kind = KINDS[name]
    keys = [field.encode_name for field in msgspec.structs.fields(kind)]
    event = raw_event(name, "t", detail=dict.fromkeys(keys, value))
    assert isinstance(event.detail, Malformed)
    assert (event.detail.kind, event.type) == (kind, kind)
    assert (event.snapshot, event.snapshots) == ("", frozenset())


@pytest.mark.parametrize("name", KINDS)
def test_a_detail_without_a_key_that_must_be_there_counts_for_nothing(name):
    needed = [field for field in msgspec.structs.fields(KINDS[name]) if field.required]
    detail = raw_event(name, "t").detail
    assert isinstance(detail, Malformed if needed else KINDS[name])


def test_a_policy_that_cannot_be_read_is_damage():
    broken = raw_event("policy", "t", detail={"append_only": "maybe"})
    with pytest.raises(DamageError, match="The policy in event x cannot be read"):
        policy_of([("x", broken)])
    assert policy_of([("x", raw_event("audited", "t"))]) == Policy()


# ---- nobody else knows the names and the keys

PACKAGE = Path(archiver.__file__).parent
# The decoder that an archive carries shares no code with anything.
NOT_THESE = {PACKAGE / "archive" / "events.py", PACKAGE / "carried" / "decode.py"}
MODULES = [path for path in sorted(PACKAGE.rglob("*.py")) if path not in NOT_THESE]
ELSEWHERE = {
    "acknowledged": "the JSON of a command",
    "clock": "what a status tells of",
    "condemned": "the JSON of a command",
    "copy-lost": "the JSON of a command",
    "forgotten": "the JSON of a command",
    "gone": "an outcome of asking upstream, and a fact",
    "night": "a command, and its JSON",
    "plan-retired": "the JSON of a command",
    "planned": "an outcome of a dry run",
    "policy": "a command",
    "remembered": "the JSON of a command",
    "sealed": "an outcome of mirroring, and a field",
    "signed": "a field",
}
"""Words that are kinds of events and stand in the package for something else too."""


def is_kind(node: ast.expr) -> bool:
    constants = (one.value for one in ast.walk(node) if isinstance(one, ast.Constant))
    return any(isinstance(value, str) and value in KINDS for value in constants)


def named(node: ast.expr, name: str) -> bool:
    return isinstance(node, ast.Attribute) and node.attr == name


def faults(tree: ast.AST) -> list[str]:
    """What a module may not do: say a kind's name of an event, or look into a detail by key."""
    found = []
    for node in ast.walk(tree):
        match node:
            case ast.Compare(left, _, others) if any(
                named(one, "event") for one in (left, *others)
            ):
                if any(map(is_kind, (left, *others))):
                    found.append(f"line {node.lineno}: compares the name of an event's kind")
            case ast.Call(ast.Name("Event"), args, keywords):
                if any(map(is_kind, (*args, *(one.value for one in keywords)))):
                    found.append(f"line {node.lineno}: names the kind of a new event")
            case ast.Subscript(inside) | ast.Attribute(inside, "get" | "items" | "keys"):
                if named(inside, "detail") or named(inside, "fields"):
                    found.append(f"line {node.lineno}: looks into a detail by key")
            case ast.Constant(str(text)) if text in KINDS.keys() - ELSEWHERE.keys():
                found.append(f"line {node.lineno}: says {text!r}")
    return found


def test_no_other_module_says_a_kind_or_looks_into_a_detail():
    told = {str(path): faults(ast.parse(path.read_text())) for path in MODULES}
    assert {path: found for path, found in told.items() if found} == {}


@pytest.mark.parametrize(
    "text",
    [
        'event.event == "sealed"',
        'event.event in {"gone", "x"}',
        'Event("policy", time, tool)',
        'event.detail["to"]',
        'event.detail.get("to")',
        'event.fields["to"]',
        'kind = "audited"',
    ],
)
def test_what_is_looked_for_is_found(text):
    assert faults(ast.parse(text))


def test_an_event_needs_no_detail():
    assert isinstance(Event("clock", "t", "t").detail, events.ClockSeen)
