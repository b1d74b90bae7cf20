"""What stands of a journal gives every answer that all of it gives, whoever wrote it and whatever is left.

"Never another answer than reading everything would give."
"""

from __future__ import annotations

import os
import random
from types import SimpleNamespace

import msgspec
import pytest
from kit.faults import flip
from kit.journal import raw_event

from archiver.archive import journal as journal_module
from archiver.archive import journal_summary, layout
from archiver.archive.archive import Archive
from archiver.archive.check.proofs import proofs_of
from archiver.archive.clock import journal_time
from archiver.archive.copies import PlaceHistory
from archiver.archive.events import NightRun
from archiver.archive.journal import in_order
from archiver.archive.places import Place, PlaceContents, forgotten
from archiver.archive.plans import Plans
from archiver.archive.records import canonical, record_digest
from archiver.archive.standing_events import standing_events
from archiver.archive.watch import UpstreamHistory
from archiver.errors import skip_damaged
from archiver.text import utc_text

PLACES = ["11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"]
HERE = Place("vm:/here", PLACES[0])
NOW = "2031-01-01T00:00:00Z"
BEGIN = 1_800_000_000
OUTCOMES = ["sealed", "held", "gone", "failed", "unreachable", "not-tried"]


class Author:
    """Writes a journal of many nights, by a seed: much is said again, some is not."""

    def __init__(self, seed, idle=0.0):
        """``idle`` is the part of the events that say no more than that a night was."""
        self.random = random.Random(seed)
        self.idle = idle
        self.time = BEGIN
        self.events = {}
        self.planned = ""

    def some(self, values):
        return self.random.sample(values, self.random.randint(0, len(values)))

    def detail(self):
        """Return the kind and the detail of an event."""
        choice, some = self.random.choice, self.some
        if self.random.random() < self.idle:
            return "night", {"plan": "p", "place": PLACES[0], "exit_code": 0}
        packs, place, other = [c * 64 for c in "abc"], choice(PLACES), choice(PLACES)
        kind = choice(
            ["audited"] * 4
            + ["copied", "places-seen", "synced", "night"] * 3
            + ["planned", "forgotten", "remembered", "copy-lost", "upstream-unseen", "repaired"]
            + ["plan-retired", "gone", "sighted", "signed"]
        )
        damaged = choice([0, 0, 0, 1])
        return kind, {
            "audited": {
                "level": choice(["stored", "content", "newer"]),
                "checked": some(["documents", "parity"]),
                "packs": some(packs),
                "snapshots": some(["s1", "s2"]),
                "place": choice([place, "", "vm:/here"]),
                "damaged": damaged,
                "damaged_packs": some(packs) * damaged,
                "damaged_files": some(["place.json", "parity/aa/x.par"]) * damaged,
            },
            "copied": {
                "from": choice(["vm:/here", "vm:/old"]),
                "to": choice(["disk", "usb"]),
                "from_id": choice([place, ""]),
                "to_id": other,
                "snapshots": some(["s1", "s2"]),
            }
            | choice([{"packs": some(packs)}, {"packs": some(packs)}, {}]),
            "places-seen": {
                "places": [
                    {"place": "disk", "id": each, "label": choice("xy")} for each in some(PLACES)
                ]
            },
            "synced": {
                "plan": choice("pq"),
                "place": place,
                "planned": self.planned,
                "outcomes": [choice(OUTCOMES) for _ in range(2)],
                "exit_code": choice([0, 3]),
                "seconds": 1,
                "fetched": 0,
                "stored": 0,
                "free": 1,
                "min_free": choice([0, 5]),
            },
            "night": {"plan": choice("pq"), "place": place, "exit_code": choice([0, 20])},
            "planned": {
                "plan": choice("pq"),
                "place": place,
                "entries": [{"repository": "o/m"}, {"repository": choice(["o/m", "o/n"])}],
            },
            "plan-retired": {"plan": choice("pq"), "place": place},
            "forgotten": {"snapshots": some(["s1", "s2"])},
            "remembered": {"snapshots": some(["s1", "s2"])},
            "copy-lost": {"place": "disk", "id": place},
            "repaired": {"files": ["place.json"], "place": place},
            "signed": {"key": "k", "documents": ["d"]},
            "upstream-unseen": {
                "upstream": "u",
                "control": "c",
                "unseen": [{"repository": "o/m", "status": 404}],
            },
            "sighted": {"name": "main", "upstream": "u"},
            "gone": {"name": "main", "upstream": "u"},
        }[kind]

    def write(self, count):
        """Return further events, each after the ones before, or only after some of them."""
        new = {}
        for _ in range(count):
            self.time += self.random.choice([0, 1, 1, 60, 86_400, -2])
            before = list(self.events)[-3:]
            kind, detail = self.detail()
            event = raw_event(kind, utc_text(self.time), repository="o/m", detail=detail)
            after = tuple(before[-1:] if self.random.random() < 0.8 else before)
            event = msgspec.structs.replace(event, after=after)
            digest = record_digest(event)
            self.events[digest] = new[digest] = event
            if kind == "planned":
                self.planned = digest
        return new


def by_name(events):
    return dict(sorted(events.items(), key=lambda pair: (pair[1].time, pair[0])))


def answers(events):
    """Return all that is asked of a journal about how things stand now."""
    events = list(events)
    history = PlaceHistory(HERE, NOW, "root")
    list(history.noted(events))
    plans = Plans(events, HERE)
    proofs = {place: vars(known) for place, known in history._proofs.items()}
    contents = PlaceContents(history._copy_events)
    nights = {}
    for _, event in events:
        if isinstance(event.detail, NightRun):
            nights[event.detail.plan, event.detail.place] = event.detail
    unseen = UpstreamHistory(events)
    return {
        "proofs": proofs,
        "here": vars(proofs_of(events, NOW, HERE)),
        "seen": history._seen,
        "last": history._last,
        "older": history._older,
        "devices": history._devices,
        "contents": [contents.places(), contents._names, contents._ids, contents._links],
        "source": history.unnamed_source(contents),
        "plans": [plans.active, plans.last, vars(plans.upstreams)],
        "forgotten": forgotten(events),
        "nights": nights,
        "unseen": [vars(known) for known in unseen],
        "time": journal_time(events),
    }


@pytest.mark.parametrize("seed", range(60))
def test_what_stands_gives_the_answers_of_all(seed):
    author = Author(seed)
    all_events = list(in_order(by_name(author.write(author.random.randint(1, 150)))))
    standing = standing_events(all_events)
    assert answers(standing) == answers(all_events)
    # And so do those that stand of some, with others after them, again and again.
    author.time += 3
    for _ in range(3):
        author.time += 3
        known = set(author.events)
        new = by_name(author.write(30))
        new = in_order({digest: event for digest, event in new.items() if digest not in known})
        new = list(new)
        all_events += new
        assert answers([*standing, *new]) == answers(all_events)
        standing = standing_events([*standing, *new])
        assert answers(standing) == answers(all_events)


def test_nights_that_say_the_same_leave_one_and_partial_audits_as_many_as_there_are_parts():
    details = {
        "night": {"plan": "p", "place": PLACES[0], "exit_code": 0},
        "places-seen": {"places": [{"place": "disk", "id": PLACES[1]}]},
    }
    events = {}
    for day in range(400):
        parts = {"audited": {"level": "stored", "packs": [str(day % 7)], "place": PLACES[0]}}
        for kind, detail in (details | parts).items():
            event = raw_event(kind, utc_text(BEGIN + day * 86_400), detail=detail)
            events[record_digest(event)] = event
    standing = [event.event for _, event in standing_events(list(by_name(events).items()))]
    assert sorted(standing) == ["audited"] * 7 + ["night", "places-seen"]


def test_damage_that_was_found_stands_for_good():
    damage = {"level": "stored", "place": PLACES[0], "damaged": 1, "damaged_packs": ["a"]}
    details = [damage, {"level": "stored", "place": PLACES[0], "packs": ["a"]}] * 2
    events = [
        raw_event("audited", utc_text(BEGIN + at), detail=detail)
        for at, detail in enumerate(details)
    ]
    standing = standing_events([(record_digest(event), event) for event in events])
    assert [event for _, event in standing] == [events[0], events[2], events[3]]


def test_of_a_second_with_two_audits_of_a_place_all_stands_for_one_tells_which_was_later():
    audit = {"level": "stored", "place": PLACES[0]}
    night = {"plan": "p", "place": PLACES[0], "exit_code": 0}
    said = [("audited", audit), ("night", night), ("audited", audit)] * 2
    for moments, standing in (([0, 0, 0, 9, 9, 9], 6), ([0, 1, 2, 9, 10, 11], 2)):
        events = [
            raw_event(kind, utc_text(BEGIN + moment), detail=detail)
            for (kind, detail), moment in zip(said, moments, strict=True)
        ]
        named = [(str(number), event) for number, event in enumerate(events)]
        assert len(standing_events(named)) == standing


def test_what_lets_a_night_count_as_of_a_later_day_stands():
    night = {"plan": "p", "place": PLACES[0], "exit_code": 0}
    unseen = {"upstream": "u", "control": "c", "unseen": [{"repository": "o/m", "status": 404}]}
    told = [("night", night, 86_400), ("upstream-unseen", unseen, 0), ("night", night, 90_000)]
    events = []
    for kind, detail, moment in told:
        event = raw_event(kind, utc_text(BEGIN + moment), repository="o/m", detail=detail)
        event = msgspec.structs.replace(event, after=tuple(digest for digest, _ in events[-1:]))
        events.append((record_digest(event), event))
    assert standing_events(events) == events
    assert answers(standing_events(events)) == answers(events)


# ---- from one process to the next

RECENT, UNWRITTEN = 6, 8


@pytest.fixture
def long(archive, root, monkeypatch):
    """A journal of which a process before has left which events stand; files just written count as old."""
    monkeypatch.setattr(journal_module, "_RECENT", RECENT)
    monkeypatch.setattr(journal_summary, "UNWRITTEN_MAX", UNWRITTEN)
    monkeypatch.setattr(journal_summary, "_SETTLED", -(10**18))
    author = Author(root.name, idle=0.7)
    author.time = BEGIN - 400 * 86_400
    grow(root, author, 60)
    assert path_of(root).exists()
    return SimpleNamespace(root=root, author=author)


def path_of(root):
    return root / layout.STANDING_EVENTS


def grow(root, author, count):
    """Let events come as a process writes them that has asked what stands."""
    archive = Archive.open(root)
    archive.standing_events()
    for event in author.write(count).values():
        archive.store.put_new(layout.event_name(event.time, record_digest(event)), canonical(event))
    later = Archive.open(root)
    later.standing_events()
    later.journal.write_summary()


def same(root):
    """A new process gives the same answers by what stands as by all events; says how many stand."""
    archive, whole = Archive.open(root), Archive.open(root)
    standing = archive.standing_events()
    assert answers(standing) == answers(whole.events(skip_damaged))
    return len(standing)


def test_a_later_process_asks_what_stands_and_reads_no_other_event(long, monkeypatch):
    names = Archive.open(long.root).journal.names()
    standing = same(long.root)
    assert standing < len(names) - 20
    read = []
    monkeypatch.setattr(
        "archiver.archive.journal.parse_event",
        lambda data, what, parse=journal_module.parse_event: read.append(what) or parse(data, what),
    )
    Archive.open(long.root).standing_events()
    assert len(read) == standing
    for _ in range(4):
        grow(long.root, long.author, 20)
        same(long.root)


@pytest.mark.parametrize("seed", range(8))
def test_whatever_befalls_a_journal_the_answers_are_those_of_its_events(long, seed):
    choose = random.Random(seed)
    old = [path_of(long.root).read_bytes()]
    for _ in range(12):
        files = sorted((long.root / "journal").rglob("*.json"))
        path, at = choose.choice(files), choose.randrange(1, 1 << 20)
        match choose.choice(["grow", "grow", "remove", "flip", "swap", "old", "spoil", "cut"]):
            case "grow":
                grow(long.root, long.author, choose.choice([1, 9, 20]))
            case "remove":
                path.unlink()
            case "flip":
                _flip(path)
            case "swap":
                path.write_bytes(choose.choice(files).read_bytes())
            case "old":
                path_of(long.root).write_bytes(choose.choice(old))
            case "spoil":
                data = bytearray(path_of(long.root).read_bytes() or b"0")
                data[at % len(data)] ^= 1
                path_of(long.root).write_bytes(data)
            case "cut":
                data = path_of(long.root).read_bytes()
                path_of(long.root).write_bytes(data[: at % (len(data) + 1)])
        old.append(path_of(long.root).read_bytes())
        same(long.root)


def _flip(path):
    before = path.stat().st_ctime_ns
    flip(path)
    while path.stat().st_ctime_ns == before:  # times have steps of some milliseconds
        path.touch()


def test_events_that_come_from_elsewhere_among_the_older_ones_are_not_overlooked(long):
    other = Author("elsewhere")
    assert same(long.root) < len(long.author.events)
    other.time = BEGIN - 399 * 86_400
    grow(long.root, other, 3)
    assert len(Archive.open(long.root).standing_events()) == len(long.author.events) + 3
    same(long.root)
    grow(long.root, long.author, UNWRITTEN)
    assert same(long.root) < len(long.author.events)


def test_a_clock_that_is_confirmed_or_was_set_back_lets_all_events_be_asked(long, monkeypatch):
    events = len(long.author.events)
    assert same(long.root) < events
    with monkeypatch.context() as patch:
        patch.setattr(journal_module, "utc_now", lambda: utc_text(BEGIN - 500 * 86_400))
        assert len(Archive.open(long.root).standing_events()) == events
    clock = {"since": utc_text(long.author.time), "confirmed": True}
    event = raw_event("clock", utc_text(long.author.time + 9), detail=clock)
    Archive.open(long.root).record(event)
    assert len(Archive.open(long.root).standing_events()) == events + 1
    same(long.root)


def test_what_was_said_of_another_journal_counts_for_nothing(long):
    said = journal_summary.JournalSummary().standing(Archive.open(long.root).store)
    assert same(long.root) < len(long.author.events)
    head = long.root / said.names[0]
    os.link(head, long.root / "spare")
    head.unlink()
    assert len(Archive.open(long.root).standing_events()) == len(long.author.events) - 1
    same(long.root)


def test_one_event_for_another_among_the_older_ones_is_not_overlooked(long):
    """As many as before, and all that stood are there."""
    archive = Archive.open(long.root)
    said = journal_summary.JournalSummary().standing(archive.store)
    older = archive.journal.names()[: said.older]
    superseded = next(name for name in older if name not in said.names)
    assert same(long.root) < len(long.author.events)
    (long.root / superseded).unlink()
    other = Author("elsewhere")
    other.time = BEGIN - 399 * 86_400
    grow(long.root, other, 1)
    assert len(Archive.open(long.root).standing_events()) == len(long.author.events)


def test_what_is_recorded_stands_at_once(long):
    archive = Archive.open(long.root)
    assert archive.standing_events()[-1][1].event != "clock"
    clock = {"since": utc_text(long.author.time), "confirmed": True}
    archive.record(raw_event("clock", utc_text(long.author.time + 9), detail=clock))
    assert archive.standing_events()[-1][1].event == "clock"


def test_what_stands_is_said_of_these_older_events_and_no_others():
    said = journal_summary.StandingNames(2, journal_summary.names_digest(["a", "b"]), ("b",))
    assert said.is_of(["a", "b"])
    assert said.is_of(["a", "b", "c"])
    assert not said.is_of(["a"])
    assert not said.is_of(["0", "a", "b"])
    assert not said.is_of(["b", "c"])


@pytest.mark.parametrize(("moments", "after", "end"), [
    ([1, 2, 3, 4, 5], [None, 0, 1, 2, 3], 3),
    ([1, 2, 3, 3, 5], [None, 0, 1, 2, 3], 2),
    ([1, 2, 3, 4, 5], [None, 3, 1, 2, 3], 1),
    ([1, 2, 3, 4, 5], [3, 0, 1, 2, 3], 0),
    ([1, 2, 3, 4, 5], [None, 0, "gone", 2, 3], 0),
])  # fmt: skip
def test_the_older_events_end_between_two_seconds_and_name_none_that_comes_later(
    moments, after, end
):
    ids = [f"{number}" * 64 for number in range(5)]
    times = [utc_text(BEGIN + moment) for moment in moments]
    names = [layout.event_name(time, digest) for time, digest in zip(times, ids, strict=True)]
    events = []
    for name, time, number in zip(names[:3], times, after, strict=False):
        before = () if number is None else (ids[number] if isinstance(number, int) else number,)
        events.append((name, msgspec.structs.replace(raw_event("test", time), after=before)))
    assert journal_module._boundary(names, 0, events) == end


def test_an_audit_of_the_documents_works_out_anew_what_stands(long, run):
    """Somebody's list leaves out damage that was found; its checksum is right."""
    damage = {"level": "stored", "place": PLACES[1], "damaged": 1, "damaged_files": ["place.json"]}
    long.author.time += 9
    found = raw_event("audited", utc_text(long.author.time), detail=damage)
    Archive.open(long.root).record(found)
    long.author.time += 9
    grow(long.root, long.author, 30)
    same(long.root)
    store = Archive.open(long.root).store
    summary = journal_summary.JournalSummary()
    said = summary.standing(store)
    kept = [name for name in said.names if b"place.json" not in store.get(name, 1 << 20)]
    assert len(kept) < len(said.names)
    forged = said._replace(names=tuple(kept))
    summary.write(store, Archive.open(long.root).journal.names(), forged)

    def is_told():
        return any(event.raw == found.raw for _, event in Archive.open(long.root).standing_events())

    assert not is_told()
    assert run("audit", "-q", "--level", "structure", "-C", long.root).code in {0, 20}
    assert is_told()
    same(long.root)
