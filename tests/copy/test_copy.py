"""A replica is the same archive; a copy to another archive is a union."""

from __future__ import annotations

import shutil

import pytest
from copykit import add, events, ids, place_id, stored
from kit.archive import info_of_newer
from kit.faults import flip

from archiver.archive.archive import Archive
from archiver.storage.local import LocalStore

BOTH = ("org/one", "org/two")


def test_a_replica_restores_when_the_archive_is_gone(source, target, copy, run, restored):
    before = source.ids()
    result = copy()
    assert result.code == 0
    assert (result.only("copy")["created"], len(result.only("copy")["copied"])) == (True, 2)
    for name in ("archive.json", "README.txt", "FORMAT.md", "decode.py"):
        assert (target / name).read_bytes() == (source.root / name).read_bytes()
    shutil.rmtree(source.root)
    assert ids(target) == before
    for repository in BOTH:
        restored(target, repository, source.model(repository))
    assert run("audit", "-q", "-C", target).code == 0


def test_every_stored_file_is_there_verbatim(source, target, copy):
    copy()
    for folder in ("packs", "manifests", "snapshots"):
        for path in (source.root / folder).rglob("*.*"):
            copied = target / path.relative_to(source.root)
            assert copied.read_bytes() == path.read_bytes()
            assert copied.stat().st_mode & 0o777 == 0o444


def test_what_is_there_is_neither_read_nor_written(source, target, copy, monkeypatch, one_second):
    """Of two journals that are told in different seconds, the next copy would bring one to the other."""
    copy()
    before = stored(target)
    opened = []
    real = LocalStore.open
    monkeypatch.setattr(
        LocalStore, "open", lambda self, name: opened.append(name) or real(self, name)
    )
    assert copy().only("copy")["packs"] == 0
    assert not [name for name in opened if name.startswith("packs/")]
    monkeypatch.undo()
    assert stored(target) == before
    add(source._replace(models=target.parent), "org/new", 9)
    opened.clear()
    result = copy()
    assert (result.only("copy")["packs"], result.only("copy")["copied"][0][:7]) == (1, "org/new")
    after = stored(target)
    assert {name: after[name] for name in before} == before


def test_an_old_event_is_not_told_twice(source, target, copy):
    copy()
    recorded = [event.fields for event in events(target, "copied")]
    for _ in range(3):
        copy()
    assert [event.fields for event in events(target, "copied")][: len(recorded)] == recorded
    counts = {event.time: event.fields["snapshots"] for event in events(source.root, "copied")}
    assert [sorted(source.ids())] == list(counts.values())


def test_a_copied_event_is_in_both_journals(source, target, copy):
    copy("--as", "usb disk 2", "--from-as", "home")
    for root in (source.root, target):
        event = events(root, "copied")[-1]
        assert event.fields == {
            "from": "home", "from_id": place_id(source.root),
            "to": "usb disk 2", "to_id": place_id(target),
            "snapshots": sorted(source.ids()),
            "packs": event.fields["packs"],
        }  # fmt: skip
        assert sorted(event.fields["packs"]) == sorted(Archive.open(target).packs())


def test_default_places_are_host_and_path(source, target, copy):
    report = copy().only("copy")
    assert report["target_place"].endswith(f":{target.resolve()}")
    assert report["source_place"].endswith(f":{source.root.resolve()}")
    assert events(target, "copied")[0].fields["to"] == report["target_place"]


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "x" * 300, "\x1b[31m"])
def test_places_that_no_journal_should_hold(copy, target, name):
    assert copy("--as", name).code == 2
    assert copy("--from-as", name).code == 2
    assert not target.exists()


# ---- union


def test_two_archives_become_one(source, foreign, target, copy, run, restored):
    shutil.copytree(foreign.root, target)
    own = (target / "archive.json").read_bytes()
    assert copy().code == 0
    assert (target / "archive.json").read_bytes() == own
    assert ids(target) == source.ids() | foreign.ids()
    restored(target, "else/three", foreign.model("else/three"))
    for repository in BOTH:
        restored(target, repository, source.model(repository))
    audit = run("audit", "-q", "--json", "-C", target)
    assert audit.code == 0
    assert audit.finding_codes <= {"foreign-document"}


def test_heads_vouch_for_everything_after_a_union(source, foreign, target, copy):
    shutil.copytree(foreign.root, target)
    copy()
    journal = dict(Archive.open(target).events())
    reached, waiting = set(), list(Archive.open(target).journal.heads())
    assert len(waiting) == 1
    while waiting:
        one = waiting.pop()
        if one not in reached:
            reached.add(one)
            waiting += journal[one].after
    assert reached == set(journal)
    sealed = {journal[event].fields.get("snapshot") for event in reached} - {None}
    assert sealed == source.ids() | foreign.ids()


def test_a_union_keeps_its_own_policy(source, foreign, target, copy, run):
    shutil.copytree(foreign.root, target)
    from kit.journal import raw_event

    archive = Archive.open(source.root)
    archive.record(raw_event("policy", "2030-01-01T00:00:00Z", "test", detail={"copies": 7}))
    assert copy().code == 0
    assert Archive.open(target).policy().copies == 1
    fresh = target.with_name("fresh")
    assert copy(to=fresh).code == 0
    assert Archive.open(fresh).policy().copies == 7


# ---- some snapshots


def test_only_one_snapshot(source, target, copy, run, restored):
    result = copy("--snapshot", "org/one")
    assert (result.code, result.only("copy")["packs"]) == (0, 1)
    restored(target, "org/one", source.model("org/one"))
    assert run("restore", "-C", target, "org/two", target.parent / "out").code == 2
    assert run("audit", "-q", "-C", target).code == 0
    assert {event.repository for event in events(target, "sealed")} == {"org/one"}
    before = stored(target)
    assert copy("--snapshot", "ORG/one").code == 0
    assert stored(target) == before
    assert copy().code == 0
    assert ids(target) == source.ids()
    assert run("audit", "-q", "-C", target).code == 0


def test_a_revision_may_be_shortened(source, target, copy):
    (snapshot,) = Archive.open(source.root).snapshots_of("org/two")
    assert copy("--snapshot", f"org/two@{snapshot.seal.revision[:9]}").code == 0
    assert ids(target) == {snapshot.id}


@pytest.mark.parametrize("reference", ["org/none", "org/one@ffff", "@", "../../etc"])
def test_a_snapshot_that_is_not_there(copy, target, reference):
    assert copy("--snapshot", reference).code in {2, 22}
    assert not target.exists()


# ---- refusals


@pytest.mark.parametrize("where", ["itself", "inside", "link", "link inside", "dots"])
def test_an_archive_is_not_copied_into_itself(source, copy, tmp_path, where):
    link = tmp_path / "link"
    link.symlink_to(source.root)
    to = {
        "itself": source.root,
        "inside": source.root / "new" / "copy",
        "link": link,
        "link inside": link / "packs",
        "dots": source.root / "packs" / ".." / "x",
    }[where]
    before = stored(source.root)
    result = copy(to=to)
    assert result.code == 2
    assert "itself" in result.err
    assert stored(source.root) == before


def test_a_folder_that_is_no_archive(copy, target):
    target.mkdir()
    (target / "diary.txt").write_text("dear diary")
    result = copy()
    assert result.code == 2
    assert "neither an archive nor an empty folder" in result.err
    assert [path.name for path in target.iterdir()] == ["diary.txt"]
    assert copy(to=target / "diary.txt").code == 2


def test_an_archive_of_another_format(copy, source, target):
    target.mkdir()
    newer = info_of_newer(source.root / "archive.json", format=2)
    (target / "archive.json").write_bytes(newer)
    assert copy().code == 10


def test_a_new_disk_has_a_folder_of_its_own(copy, target):
    (target / "lost+found").mkdir(parents=True)
    assert copy().code == 0


def test_a_dry_run_writes_nothing(source, target, copy):
    before = stored(source.root)
    result = copy("--dry-run")
    assert (result.code, result.only("copy")["packs"], len(result.only("copy")["copied"])) == (
        0,
        2,
        2,
    )
    assert not target.exists()
    assert stored(source.root) == before
    copy("--snapshot", "org/one")
    held = stored(target)
    assert copy("-n").only("copy")["packs"] == 1
    assert stored(target) == held


# ---- forgotten


def tell(root, name, snapshots, time):
    from kit.journal import raw_event

    Archive.open(root).record(
        raw_event(name, time, "test", detail={"snapshots": sorted(snapshots)})
    )


def test_what_was_forgotten_there_is_not_brought_back(source, target, copy, run):
    copy()
    (path,) = (target / "snapshots/org/one").iterdir()
    gone = path.name.split(".")[1]
    path.unlink()
    tell(target, "forgotten", [gone], "2030-01-01T00:00:00Z")
    result = run("copy", "-C", source.root, target)
    assert result.code == 0
    assert "was forgotten there on purpose" in result.err
    assert gone not in ids(target)
    tell(target, "remembered", [gone], "2030-01-01T00:00:01Z")
    assert copy().code == 0
    assert gone in ids(target)


# ---- lost places


def test_a_lost_place_no_longer_counts(source, target, copy, run):
    copy("--as", "usb")
    result = run("copy", "--json", "-C", source.root, "--lost", "usb")
    assert (result.code, result.kinds("copy-lost")[0]["snapshots"]) == (0, 2)
    assert events(source.root, "copy-lost")[0].fields == {"place": "usb", "id": place_id(target)}
    again = run("copy", "-C", source.root, "--lost", "usb")
    assert again.code == 2
    assert "tells of no copies" in again.err
    copy("--as", "usb")
    assert len(events(source.root, "copied")) == 2


def test_lost_stands_alone(source, target, run):
    assert run("copy", "-C", source.root, target, "--lost", "usb").code == 2
    assert run("copy", "-C", source.root).code == 2


# ---- what else an archive holds


def test_damage_in_the_target_is_replaced(source, target, copy, run):
    copy()
    from kit.faults import cut

    for folder in ("packs", "manifests", "snapshots", "journal"):
        cut(next(path for path in sorted((target / folder).rglob("*.*")) if path.is_file()))
    assert run("audit", "-q", "-C", target).code == 20
    assert copy().code == 0
    assert run("audit", "-q", "-C", target).code == 0


def test_the_catalogue_is_brought_up_to_date(source, target, copy, run):
    copy("--snapshot", "org/one")
    assert run("stats", "-C", target).code == 0
    assert (target / "catalogue.sqlite").exists()
    assert copy().code == 0
    flip(target / "catalogue.sqlite", 100)
    assert copy().code == 0
    assert run("--json", "stats", "-C", target).kinds("stats")[0]["snapshots"] == 2


def test_a_rate_is_kept(source, target, copy, monkeypatch):
    taken = []
    monkeypatch.setattr("archiver.throttle.Throttle.take", lambda self, count: taken.append(count))
    assert copy("--max-rate", "1GB").code == 0
    assert sum(taken) >= copy("-n", to=target.with_name("x")).only("copy")["bytes"]
    assert copy("--max-rate", "0").code == 2


def test_for_people(source, target, run):
    assert "2 snapshots in 2 packs" in run("copy", "-C", source.root, "--new", target, "-n").out
    result = run("copy", "-C", source.root, "--new", target)
    assert "copied 2 snapshots in 2 packs" in result.out
    assert "nothing to copy; 2 were there already" in run("copy", "-C", source.root, target).out
