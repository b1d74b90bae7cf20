"""What a report says is so: its record, its keys, and what it counts."""

from __future__ import annotations

import json
import types
import typing
from datetime import UTC, datetime, timedelta

import docspage
import msgspec
import pytest
from kit.cli import invoke
from kit.repository import noise
from reportkit import facts_of, import_folder, record

from archiver import text
from archiver.archive.archive import Archive
from archiver.archive.events import (
    Acknowledged,
    Audited,
    Copied,
    Gone,
    NightRun,
    Planned,
    PlannedEntry,
    Sighted,
    Synced,
    UnseenRepository,
    UpstreamChange,
    UpstreamChanged,
    UpstreamUnseen,
)
from archiver.archive.places import own_place, settled_place
from archiver.report import facts as report

NOW = datetime(2027, 5, 3, 6, tzinfo=UTC)


@pytest.fixture
def clock(monkeypatch):
    """Sets the clock to so many days before NOW."""

    def turn(days: float = 0) -> str:
        monkeypatch.setattr(text, "wall_clock", lambda: NOW - timedelta(days=days))
        return text.utc_now()

    return turn


@pytest.fixture
def root(tmp_path, clock):
    """An archive that began 100 days ago."""
    clock(100)
    folder = tmp_path / "weights"
    assert invoke("init", "-q", "-C", folder) == 0
    import_folder(folder, tmp_path / "model", "org/one", noise(1, 5000))
    clock()
    return folder


@pytest.fixture
def facts(root, run):
    """Write the report; its record, and what was printed."""

    def call(*words):
        result = run("-C", root, "report", "--json", *words)
        assert result.code == 0
        (printed,) = result.kinds("report")
        kept = facts_of(root)
        assert printed == {"kind": "report", **kept}
        return kept

    return call


def test_the_page_of_the_docs_has_every_key_of_the_record():
    def keys(kind, above=""):
        for field in typing.get_type_hints(kind).items():
            name, hint = field
            path = f"{above}{name}"
            inner = [hint, *typing.get_args(hint)]
            structs = [
                each
                for each in inner
                if isinstance(each, type)
                and not isinstance(each, types.GenericAlias)
                and issubclass(each, msgspec.Struct)
                and each.__module__ == report.__name__
            ]
            many = typing.get_origin(hint) is tuple
            path = f"{path}[]" if many else path
            yield path
            for struct in structs:
                yield from keys(struct, f"{path}.")

    assert docspage.keys() == sorted(keys(report.Facts))


def test_the_verdict_is_that_of_the_status(root, facts, run):
    said = run("-C", root, "status", "--json")
    told = facts()
    assert told["verdict"]["met"] is False
    assert [each["what"] for each in told["verdict"]["shortfalls"]] == ["audit"]
    assert said.code == 24
    for key in ("snapshots", "packs", "bytes", "missing", "vouched"):
        assert told["held"][key] == said.only("status")[key]
    assert run("-C", root, "audit", "-q").code == 0
    told = facts()
    assert (told["verdict"]["met"], told["verdict"]["shortfalls"]) == (True, [])


def test_what_is_new_and_what_changed(root, facts, tmp_path, clock):
    clock(20)
    import_folder(root, tmp_path / "model", "org/one", noise(2, 5000))
    clock(3)
    import_folder(root, tmp_path / "model", "org/two", noise(3, 5000))
    record(root, Gone("main", "huggingface"), clock(2), "org/one")
    record(root, Sighted("main", "huggingface"), clock(1), "org/one", "1" * 40)
    clock()
    told = facts()
    changes = [(change["what"], change["repository"]) for change in told["changes"]]
    assert changes == [
        ("back", "org/one"),
        ("gone", "org/one"),
        ("new", "org/two"),
        ("revision", "org/one"),
        ("new", "org/one"),
    ]
    assert [(period["days"], period["changes"]) for period in told["periods"]] == [
        (7, {"new": 1, "gone": 1, "back": 1}),
        (30, {"revision": 1, "new": 1, "gone": 1, "back": 1}),
        (365, {"new": 2, "revision": 1, "gone": 1, "back": 1}),
        (0, {"new": 2, "revision": 1, "gone": 1, "back": 1}),
    ]
    one, two = told["held"]["list"]
    assert (one["repository"], one["revisions"], one["snapshots"]) == ("org/one", 2, 2)
    assert (two["repository"], two["revisions"], two["bytes"]) == ("org/two", 1, 5000)


def test_what_failed_and_how_often(root, facts, clock):
    place = own_place(Archive.open(root)).key
    entries = (PlannedEntry("org/one"), PlannedEntry("org/x"))
    plan = record(root, Planned("p", place, entries), clock(30))
    for days, outcomes, code in (
        (29, ("held", "failed"), 3),
        (28, ("unreachable", "unreachable"), 30),
        (3, ("held", "mismatch"), 22),
        (3, ("held", "failed"), 3),
        (2, ("held", "not-tried"), 0),
        (1, ("held", "gone"), 0),
    ):
        record(root, Synced("p", place, plan, outcomes, code, 1, 2, 3, 4, 5), clock(days))
    record(root, Synced("p", "elsewhere", plan, ("failed",), 3, 1, 2, 3, 4, 5), clock(1))
    clock()
    told = facts()
    failures = {failure["repository"]: failure for failure in told["runs"]["failures"]}
    assert told["runs"]["failing"] == 2
    one, other = failures["org/one"], failures["org/x"]
    assert (one["runs"], one["outcomes"], one["in_row"]) == (6, {"unreachable": 1}, 0)
    assert (other["runs"], other["in_row"]) == (5, 0)
    assert other["outcomes"] == {"failed": 2, "unreachable": 1, "mismatch": 1}
    assert [(day["runs"], day["exit_code"]) for day in told["runs"]["days"]] == [
        (1, 3),
        (1, 30),
        (2, 22),  # the worse of two, not the greater number
        (1, 0),
        (1, 0),
    ]
    week = told["periods"][0]
    assert (week["runs"], week["failed_runs"], week["failed_entries"]) == (4, 2, 2)


def test_when_each_pack_was_proven_and_where(root, facts, tmp_path, clock):
    clock(50)
    import_folder(root, tmp_path / "model", "org/two", noise(2, 7000))
    archive = Archive.open(root)
    here = settled_place(archive)
    one, two = sorted(archive.snapshots(), key=lambda snapshot: snapshot.seal.repository)
    first, second = (snapshot.seal.packs[0] for snapshot in (one, two))
    record(root, Audited("content", packs=(first[0],), place=here.key), clock(40))
    copied = Copied(
        from_=here.name, from_id=here.id, to="usb", snapshots=(one.id, two.id), packs=(second[0],)
    )
    record(root, copied, clock(400))
    record(root, Audited("structure", packs=(second[0],), place=here.key), clock(1))
    clock()
    told = facts()
    own, usb = told["places"]
    assert (own["state"]["standing"], usb["state"]["place"]) == ("here", "usb")
    assert (own["packs"], own["bytes"]) == (2, first[1] + second[1])
    assert own["weeks"] == [{"day": "2027-03-22", "packs": 1, "bytes": first[1]}]
    assert {age["days"]: age["packs"] for age in own["ages"]} == {
        7: 0, 30: 0, 90: 1, 180: 0, 365: 0,
    }  # fmt: skip
    # A copy was read at both ends; a look at names and sizes proves nothing.
    assert own["older"] == usb["older"] == {"packs": 1, "bytes": second[1]}
    assert own["never"] == {"packs": 0, "bytes": 0}
    assert (usb["weeks"], usb["never"]) == ([], {"packs": 1, "bytes": first[1]})


def test_a_pack_that_is_gone_is_not_proven(root, facts, run):
    assert run("-C", root, "audit", "-q").code == 0
    assert facts()["places"][0]["never"]["packs"] == 0
    next(root.glob("packs/*/*.pack")).unlink()
    told = facts()
    assert told["held"]["missing"] == told["places"][0]["never"]["packs"] == 1


def test_the_forecast_rests_on_what_grew(root, facts, tmp_path, clock):
    assert facts()["room"]["forecast"] is None
    for number, days in enumerate((80, 60, 40)):
        clock(days)
        import_folder(root, tmp_path / "model", f"org/more{number}", noise(9 + number, 50_000))
        clock()
        room = facts()["room"]
        assert (room["forecast"] is None) == (number < 2)
    assert [point["day"] for point in room["points"]] == [
        (NOW - timedelta(days=days)).strftime("%Y-%m-%d") for days in (100, 80, 60, 40)
    ]
    sizes = [point["bytes"] for point in room["points"]]
    assert sizes[-1] == room["used"]
    forecast = room["forecast"]
    assert (forecast["points"], forecast["days"], forecast["since"]) == (3, 100, "2027-01-23")
    assert forecast["bytes_per_day"] == (sizes[-1] - sizes[0]) // 100
    left = (room["free"] - room["min_free"]) // forecast["bytes_per_day"]
    assert (forecast["until"] == "") == (left >= 36500)


def test_a_forecast_has_a_day_when_the_room_ends():
    points = [report.RoomPoint(f"2027-0{month}-01", month * 1000) for month in (1, 2, 3, 4)]
    told = report._forecast(points, 3 * 10**5, "2027-05-01T00:00:00Z")
    assert told is not None
    assert (told.days, told.bytes_per_day) == (120, 25)


def test_what_is_acknowledged_is_told_with_who_knows(root, facts, clock):
    record(root, Gone("main", "huggingface"), clock(9), "org/one")
    record(root, Acknowledged("gone", "main", note="We know."), clock(8), "org/one")
    record(root, Acknowledged("refused", "main", "2027-05-01T00:00:00Z"), clock(7), "org/two")
    clock()
    told = facts()
    (known,) = told["acknowledged"]
    assert (known["fact"], known["repository"], known["note"]) == ("gone", "org/one", "We know.")
    assert told["lost_upstream"][0]["acknowledged"] is True
    assert told["held"]["list"][0]["gone"] == told["lost_upstream"][0]["since"]


def test_each_step_of_storing_is_counted(root, facts, tmp_path):
    import_folder(root, tmp_path / "model", "org/same", noise(1, 5000))
    saved = facts()["savings"]
    assert (saved["files"], saved["distinct_files"]) == (10_000, 5000)
    assert sum(use["stored"] for use in saved["codecs"]) == saved["stored"] <= saved["packs"]


def test_an_empty_archive_has_a_report(tmp_path, run):
    assert run("init", "-C", tmp_path / "new").code == 0
    assert run("report", "-C", tmp_path / "new").code == 0
    told = json.loads((tmp_path / "new" / "report.json").read_text())
    assert (told["held"]["list"], told["room"]["points"]) == ([], [])


def test_what_a_look_at_upstream_found_is_told_and_a_night_that_had_news(root, facts, clock):
    place = own_place(Archive.open(root)).key
    licence = UpstreamChange("licence", before="mit", after="other")
    found = UpstreamChanged("hub", (UpstreamChange("licence", after="mit"),), first=True)
    record(root, found, clock(5), "org/one")
    record(root, UpstreamChanged("hub", (licence,)), clock(4), "org/one")
    record(root, UpstreamChanged("hub", (UpstreamChange("gone"),)), clock(3), "org/one")
    record(root, UpstreamUnseen("hub", "x", (UnseenRepository("org/x", 401),)), clock(2))
    record(root, NightRun("p", place, 23), clock(1))
    clock()
    told = facts()
    changes = [(change["what"], change["repository"]) for change in told["changes"]]
    assert changes[:-1] == [("unseen", "org/x"), ("gone", "org/one"), ("upstream", "org/one")]
    assert (
        told["changes"][2]["upstream"] | {"what": "licence", "before": "mit"}
        == (told["changes"][2]["upstream"])
    )
    (day,) = told["runs"]["days"]
    assert (day["runs"], day["nights"], day["exit_code"]) == (0, 1, 23)


def test_the_licence_is_the_cards_where_no_hub_said_one(root, facts, tmp_path):
    (tmp_path / "model" / "README.md").write_text("---\nlicense: <b>mit</b>\n---\n# One\n")
    import_folder(root, tmp_path / "model", "org/two", noise(1, 5000))
    assert [row["licence"] for row in facts()["held"]["list"]] == ["", "<b>mit</b>"]
    assert "&lt;b&gt;mit&lt;/b&gt;" in (root / "report.html").read_text()
