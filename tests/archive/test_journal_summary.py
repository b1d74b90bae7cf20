"""What processes read of the journal lasts, and is believed only as far as each event's file bears it out.

"Never another answer than reading everything would give."
"""

from __future__ import annotations

import os
import random
import struct

import pytest
from kit.faults import flip, overwrite
from kit.journal import raw_event

from archiver.archive import journal_summary, layout
from archiver.archive.archive import Archive
from archiver.archive.journal import in_order
from archiver.archive.journal_summary import SUMMARY_MAX
from archiver.digest import blake3_hex
from archiver.errors import DamageError

UNWRITTEN = 8
"""In place of many more, each of which would have to be written durably."""
MANY = UNWRITTEN + 4
HEAD = struct.Struct("<qqHI")


@pytest.fixture(autouse=True)
def _few_are_enough(monkeypatch):
    monkeypatch.setattr(journal_summary, "UNWRITTEN_MAX", UNWRITTEN)


@pytest.fixture
def settled(monkeypatch):
    """A file just written counts as old: a test sees to it itself that its times change with its bytes."""
    monkeypatch.setattr(journal_summary, "_SETTLED", -(10**18))


def append(archive, count, day=1):
    for number in range(count):
        time = f"2026-01-{day:02}T{number // 3600:02}:{number // 60 % 60:02}:{number % 60:02}Z"
        archive.record(raw_event("test", time, detail={"number": number}))


def summary_of(root):
    return root / layout.JOURNAL_SUMMARY


def change(path, work):
    """Do something to a stored file, until its times differ: they have steps of some milliseconds."""
    before = path.stat()
    work()
    while path.exists() and path.stat().st_ctime_ns == before.st_ctime_ns:
        path.touch()


def as_known(root):
    """What a new process reads, and which events it calls damaged."""
    damaged = set()
    events = list(Archive.open(root).events(lambda name, _: damaged.add(name)))
    return [(digest, event.detail, event.raw) for digest, event in events], damaged


def as_stored(root):
    """The same, each from its own file."""
    journal, read, damaged = Archive.open(root).journal, {}, set()
    for name in journal.names():
        try:
            read[layout.event_of(name)] = journal.read(name)
        except DamageError:
            damaged.add(name)
    return [(digest, event.detail, event.raw) for digest, event in in_order(read)], damaged


def opened(root, monkeypatch):
    """How many events' files a new process opens."""
    names = []
    with monkeypatch.context() as patch:
        get = type(Archive.open(root).store).get
        patch.setattr(
            "archiver.storage.local.LocalStore.get",
            lambda self, name, limit: names.append(name) or get(self, name, limit),
        )
        list(Archive.open(root).events())
    return len([name for name in names if layout.event_of(name)])


@pytest.fixture
def long(archive, root, settled):
    """A journal that was read, and of which a summary is there."""
    append(archive, MANY)
    assert not summary_of(root).exists()
    again = Archive.open(root)
    list(again.events())
    append(again, 1, day=2)
    assert summary_of(root).exists()
    return root


def test_what_was_read_is_not_opened_again(long, monkeypatch):
    assert opened(long, monkeypatch) == 1
    assert as_known(long) == as_stored(long)


def test_whoever_only_reads_leaves_nothing(archive, root, settled):
    append(archive, MANY)
    before = sorted((root / "tmp").rglob("*"))
    list(Archive.open(root).events())
    assert sorted((root / "tmp").rglob("*")) == before


def test_a_short_journal_has_no_summary(archive, root, settled):
    for day in range(1, 4):
        again = Archive.open(root)
        list(again.events())
        append(again, 2, day=day)
    assert not summary_of(root).exists()


def test_what_was_changed_a_moment_before_it_was_read_is_read_again(archive, root, monkeypatch):
    monkeypatch.setattr(journal_summary, "_SETTLED", 10**15)
    append(archive, MANY)
    again = Archive.open(root)
    list(again.events())
    append(again, 1, day=2)
    assert summary_of(root).exists()
    assert opened(root, monkeypatch) == MANY + 1


class Life:
    """What befalls a journal and its summary, by a seed."""

    def __init__(self, root, seed):
        self.root, self.random = root, random.Random(seed)
        self.days, self.old = 0, []

    def stored(self):
        return sorted(path for path in (self.root / "journal").rglob("*") if path.is_file())

    def add(self, count=0):
        self.days += 1
        archive = Archive.open(self.root)
        if count or self.random.random() < 0.7:
            list(archive.events(lambda *_: None))
        append(archive, count or self.random.choice([1, 3, UNWRITTEN]), self.days)

    def spoil_event(self):
        path, other = self.random.choice(self.stored()), self.random.choice(self.stored())
        data = path.read_bytes()
        ways = [data[:-1], data + b" ", b"", other.read_bytes(), data[:20] + b"X" + data[21:]]
        change(path, lambda: overwrite(path, self.random.choice(ways)))

    def remove_event(self):
        self.random.choice(self.stored()).unlink()

    def rename_event(self):
        path = self.random.choice(self.stored())
        digest = blake3_hex(self.random.randbytes(8))
        path.rename(path.with_name(f"{path.name[:17]}{digest}.json"))

    def spoil_summary(self):
        path = summary_of(self.root)
        data = bytearray(path.read_bytes())
        if data:
            at = self.random.randrange(len(data))
            data[at] ^= 1 << self.random.randrange(8)
            path.write_bytes(self.random.choice([data, data[:at], b"", data + b"0", bytes(100)]))

    def bring_old_summary(self):
        summary_of(self.root).write_bytes(self.random.choice(self.old))


@pytest.mark.parametrize("seed", range(6))
def test_random_journals_are_what_they_are_without_a_summary(root, archive, settled, seed):
    life = Life(root, seed)
    for _ in range(3):
        life.add(UNWRITTEN)
    for _ in range(40):
        life.old.append(summary_of(root).read_bytes())
        steps = [life.spoil_event, life.remove_event, life.rename_event]
        steps += [life.spoil_summary, life.bring_old_summary]
        life.random.choice(steps if life.days == 28 else [*steps, life.add])()
        assert as_known(root) == as_stored(root)


# ---- somebody else's summary


def entry(name, data, path):
    info = path.stat()
    return (
        HEAD.pack(info.st_mtime_ns, info.st_ctime_ns, len(name), len(data)) + name.encode() + data
    )


def write_summary(root, body, first=b"archiver journal summary 1\n"):
    summary_of(root).parent.mkdir(exist_ok=True)
    summary_of(root).write_bytes(first + blake3_hex(body).encode() + body)


def test_a_hostile_summary_tells_nothing_that_no_event_says(long, monkeypatch):
    name = next(iter(Archive.open(long).journal.names()))
    path = long / name
    forged = path.read_bytes().replace(b'"number":0', b'"number":7')
    assert forged != path.read_bytes()
    expected = as_stored(long)
    write_summary(long, entry(name, forged, path))
    assert as_known(long) == expected
    own = f"journal/2026/01/20260101t000000z.{blake3_hex(forged)}.json"
    write_summary(long, entry(own, forged, path) + entry("../../etc/passwd", forged, path))
    assert as_known(long) == expected
    write_summary(long, entry(name, path.read_bytes(), path))
    assert (as_known(long), opened(long, monkeypatch)) == (expected, MANY)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: path.write_bytes(b"archiver journal summary 2\n" + path.read_bytes()[27:]),
        lambda path: os.truncate(path, SUMMARY_MAX + 1),
        lambda path: write_summary(path.parents[1], HEAD.pack(0, 0, 65535, (1 << 32) - 1)),
        lambda path: write_summary(path.parents[1], b"\xff" * 50_000),
        lambda path: (path.unlink(), path.mkdir()),
        lambda path: (path.unlink(), path.symlink_to("/dev/zero")),
        lambda path: path.unlink(),
    ],
)
def test_any_other_file_in_its_place_counts_as_none_and_is_made_anew(long, spoil, monkeypatch):
    spoil(summary_of(long))
    assert as_known(long) == as_stored(long)
    assert opened(long, monkeypatch) == MANY + 1
    again = Archive.open(long)
    list(again.events())
    append(again, 1, day=4)
    if summary_of(long).is_dir():
        assert opened(long, monkeypatch) == MANY + 2, "it is not ours to remove"
    else:
        assert opened(long, monkeypatch) == 1
    assert {path.name for path in (long / "tmp").iterdir()} <= {
        "journal-summary",
        "reserve",
        "standing-events",
    }


def test_events_that_went_leave_the_summary(long):
    for path in sorted((long / "journal").rglob("*.json"))[:5]:
        path.unlink()
    again = Archive.open(long)
    list(again.events())
    append(again, UNWRITTEN, day=5)
    list(again.events())
    append(again, 1, day=6)
    held = summary_of(long).read_bytes().count(b'"event":"test"')
    assert held == len(list((long / "journal").rglob("*.json"))) - 1


# ---- what a person sees


def test_damage_is_told_as_without_it_and_rot_under_old_times_by_an_audit(long, run):
    path = sorted((long / "journal").rglob("*.json"))[3]
    whole = path.read_bytes()
    change(path, lambda: flip(path))
    name = path.relative_to(long).as_posix()
    assert name in run("log", "-C", long).err
    assert run("audit", "-q", "--json", "-C", long).codes == {"event-damaged"}
    # As if a disk had lost it without any writing: the summary knows the file as it is now.
    write_summary(long, entry(name, whole, path))
    assert name not in run("log", "-C", long).err
    assert run("audit", "-q", "--json", "-C", long).codes == {"event-damaged"}


def test_copies_do_not_take_it_along_and_nobody_remarks_on_it(long, run, tmp_path, monkeypatch):
    copy = tmp_path / "copy"
    monkeypatch.setattr(journal_summary, "_SETTLED", 10**15)
    assert run("copy", "-q", "-C", long, "--new", copy, "--min-free", "0B").code == 0
    for root in (long, copy):
        audit = run("audit", "-q", "--json", "-C", root)
        assert (audit.code, audit.remarks) == (0, set()), audit.out
    assert b'"event"' in summary_of(long).read_bytes()
    assert b'"event"' not in summary_of(copy).read_bytes(), "it has one of its own"
