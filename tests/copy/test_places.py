"""A place is its ``place.json``: one disk counts once, whatever it is called and wherever it is mounted."""

from __future__ import annotations

import json
import shutil
import socket
from contextlib import nullcontext

import pytest
from copykit import SavedArchive, events, ids, place_id
from kit.disks import memory_disk, mounted, read_only
from kit.journal import raw_event

from archiver.archive import place_look
from archiver.archive.archive import Archive
from archiver.archive.events import TOOL


@pytest.fixture
def places(run):
    """The names and identities of the places that a status shows."""

    def call(root):
        result = run("status", "-q", "--json", "--copies", "-C", root)
        return {one["id"]: one["place"] for one in result.kinds("place")}

    return call


@pytest.fixture
def count(run):
    """How many places a status tells apart, this archive's included, whether they count or not."""

    def call(root):
        return len(run("status", "-q", "--json", "--copies", "-C", root).kinds("place"))

    return call


def moved(archive, root):
    archive.root.rename(root)
    return SavedArchive(root, archive.models)


def older(root):
    """The archive as an older version has it."""
    (root / "place.json").unlink()


def damaged(root, data=b"{}\n"):
    path = root / "place.json"
    path.unlink(missing_ok=True)
    path.write_bytes(data)


def tell(root, event, detail, time="2020-01-01T00:00:00Z"):
    Archive.open(root).record(raw_event(event, time, TOOL, detail=detail))


def packs(root):
    return list(Archive.open(root).packs())


def proven(run, root):
    """How many packs were proven here."""
    (status,) = run("status", "-q", "--json", "-C", root).kinds("status")
    return next(one["packs"] for one in status["coverage"] if one["level"] == "content")


# ---- counting


def test_one_disk_under_many_names_counts_once(
    source, target, copy, run, places, count, monkeypatch, tmp_path
):
    assert run("policy", "set", "-q", "-C", source.root, "--copies", "3").code == 0
    copy()
    copy("--from-as", "main")
    copy("--as", "usb", "--from-as", "main")
    monkeypatch.setattr("socket.gethostname", lambda: "renamed")
    copy()
    target = moved(SavedArchive(target, source.models), tmp_path / "mnt").root
    copy("--from-as", "again", to=target)
    for root in (source.root, target):
        assert count(root) == 2
        assert places(root) == {
            place_id(source.root): "again",
            place_id(target): f"renamed:{target}",
        }
    assert run("status", "-q", "-C", source.root).code == 24


@pytest.fixture
def plugged(target, tmp_path):
    """Mount one of two disks at the target."""
    disks = [tmp_path / "shelf1", tmp_path / "shelf2"]
    with memory_disk(disks[0]), memory_disk(disks[1]):
        yield lambda number: mounted(target, "--bind", disks[number])


def test_two_disks_at_one_mount_point_count_twice(source, target, copy, run, count, plugged):
    with plugged(0):
        copy("--from-as", "main", new=True)
        first = place_id(target)
    with plugged(1):
        copy("--from-as", "main", new=True)
        second = place_id(target)
    for number in (0, 1):
        with plugged(number):
            assert copy("--from-as", "main", new=False).code == 0
    assert count(source.root) == 3
    (name,) = {event.fields["to"] for event in events(source.root, "copied")}
    result = run("copy", "-C", source.root, "--lost", name)
    assert result.code == 2
    assert first in result.err
    assert second in result.err
    assert run("copy", "-q", "-C", source.root, "--lost", first).code == 0
    assert count(source.root) == 2
    assert run("copy", "-q", "-C", source.root, "--lost", name).code == 0
    assert count(source.root) == 1


def test_a_place_is_lost_by_its_newest_name_and_by_a_former_one(source, target, copy, run, count):
    for name in ("new", "old"):
        copy("--as", "old")
        copy("--as", "new")
        assert count(source.root) == 2
        assert run("copy", "-q", "-C", source.root, "--lost", name).code == 0
        assert count(source.root) == 1
        lost = events(source.root, "copy-lost")[-1]
        assert lost.fields == {"place": "new", "id": place_id(target)}


def test_a_file_copy_is_the_same_place_until_its_identity_is_deleted(
    source, target, copy, run, count, places
):
    shutil.copytree(source.root, target)
    copy()
    assert count(source.root) == 1
    older(target)
    copy()
    assert count(source.root) == 2
    assert len(places(target)) == 2


def test_a_copy_never_takes_the_identity_along(source, target, copy, tmp_path):
    copy()
    copy(to=tmp_path / "third", of=SavedArchive(target, source.models))
    assert len({place_id(one) for one in (source.root, target, tmp_path / "third")}) == 3


def test_names_of_older_events_are_those_of_the_identities(source, target, copy, count, tmp_path):
    """As an archive that cannot be written to and has no identity is told of."""
    older(source.root)
    with read_only(source.root):
        copy()
    assert "from_id" not in events(target, "copied")[-1].fields
    assert not (source.root / "place.json").exists()
    assert count(target) == 2
    copy()
    assert events(target, "copied")[-1].fields["from_id"] == place_id(source.root)
    assert count(target) == count(source.root) == 2
    copy("--from-as", "main")
    assert count(target) == 2


# ---- proofs


def test_a_moved_archive_keeps_its_proofs(source, run, monkeypatch, tmp_path):
    assert run("audit", "-q", "-C", source.root).code == 0
    archive = moved(source, tmp_path / "elsewhere")
    monkeypatch.setattr("socket.gethostname", lambda: "renamed")
    assert proven(run, archive.root) == 2
    older(archive.root)
    assert proven(run, archive.root) == 0


def test_a_replica_has_its_own_proofs_to_earn(source, target, copy, run):
    assert run("audit", "-q", "-C", source.root).code == 0
    copy()
    assert proven(run, target) == 0


def test_an_older_archive_keeps_what_was_proven_under_its_name(source, run):
    older(source.root)
    tell(
        source.root, "audited", {"level": "content", "packs": packs(source.root), "place": "else:/"}
    )
    assert proven(run, source.root) == 0
    name = f"{socket.gethostname()}:{source.root.resolve()}"
    tell(source.root, "audited", {"level": "content", "packs": packs(source.root), "place": name})
    assert proven(run, source.root) == 2
    assert run("repair", "-q", "-C", source.root).code == 0
    assert place_id(source.root)
    assert proven(run, source.root) == 2


def test_a_moved_archive_keeps_its_condemnations(source, run, tmp_path):
    assert run("forget", "-q", "-C", source.root, "org/one").code == 0
    assert run("prune", "-q", "-C", source.root).code == 0
    archive = moved(source, tmp_path / "elsewhere")
    result = run("prune", "-q", "--json", "-C", archive.root, "--grace", "0s")
    (report,) = result.kinds("prune")
    assert (report["condemned"]["files"], report["swept"]["files"]) == (0, 2)


# ---- the file


HOSTILE = [
    b"", b"{}\n", b"\xff", b"[]", b"[" * 5000, b'{"format":1,"kind":"place","place":"../../x"}\n',
    b'{"format":1,"kind":"archive","place":"0e1b4a52-6c63-4a0e-9d2f-3d1c7a5f8a11"}\n',
    b'{"format":1,"kind":"place","place":"0e1b4a52-6c63-4a0e-9d2f-3d1c7a5f8a11"}',
    b" " * (1 << 20),
]  # fmt: skip


@pytest.mark.parametrize("data", HOSTILE, ids=range(len(HOSTILE)))
def test_a_damaged_identity_is_a_remark_and_repair_makes_it_anew(source, target, copy, run, data):
    copy()
    before = place_id(source.root)
    damaged(source.root, data)
    result = run("audit", "-q", "--json", "--level", "structure", "-C", source.root)
    assert (result.code, result.finding_codes) == (0, {"place-damaged"})
    damaged(source.root, data)
    dry = run("repair", "-q", "--json", "-n", "-C", source.root)
    assert [one["name"] for one in dry.kinds("mended")] == ["place.json"]
    assert (source.root / "place.json").read_bytes() == data
    result = run("repair", "-q", "--json", "-C", source.root)
    assert (result.code, [one["name"] for one in result.kinds("mended")]) == (0, ["place.json"])
    assert place_id(source.root) == before, "its name tells whose it was"
    result = run("audit", "-q", "--json", "-C", source.root)
    assert (result.code, result.finding_codes) == (0, set())


def test_an_archive_without_one_is_whole_and_the_first_writer_makes_it(source, run):
    older(source.root)
    result = run("audit", "-q", "--json", "-C", source.root)
    assert (result.code, result.finding_codes) == (0, set())
    data = (source.root / "place.json").read_bytes()
    made = json.loads(data)
    assert data == json.dumps(made, sort_keys=True, separators=(",", ":")).encode() + b"\n"
    assert made.keys() == {"kind", "format", "place"}
    assert events(source.root, "audited")[-1].fields["place"] == made["place"]


@pytest.mark.parametrize("command", ["list", "status", "repair -n", "prune -n", "audit"])
def test_what_does_not_write_makes_none(source, run, command):
    older(source.root)
    verb, *more = command.split()
    with read_only(source.root) if verb == "audit" else nullcontext():
        # Nothing was ever audited here: a status says so.
        code = 24 if verb == "status" else 0
        assert run(verb, "-q", "-C", source.root, *more).code == code
    assert not (source.root / "place.json").exists()


def test_a_dry_run_of_copy_makes_none(source, target, copy):
    older(source.root)
    assert copy("--dry-run").code == 0
    assert not (source.root / "place.json").exists()
    assert not target.exists()


def test_hostile_identities_in_events_are_passed_over(source, target, copy, run, count):
    values = (None, [], {}, 3, "", "x" * 1000, "../../etc", "\x1b[31m")
    for value in values:
        lost = {"place": "z", "id": value}
        tell(source.root, "copy-lost", lost)
    for value in values:
        detail = {"from": "a", "to": "b", "snapshots": sorted(source.ids())}
        detail |= {"from_id": value, "to_id": value}
        tell(source.root, "copied", detail, "2020-01-01T00:00:01Z")
    assert count(source.root) == 2
    assert copy().code == 0
    assert ids(target) == source.ids()


def test_only_a_way_into_a_mount_with_a_server_is_looked_at(tmp_path, monkeypatch):
    """Nothing in such a mount is touched but by the look, which can be given up."""
    looks: list[str] = []
    monkeypatch.setattr(
        place_look, "look_at", lambda path: looks.append(str(path)) or place_look.Look(str(path))
    )
    known = [("/", "ext4"), (str(tmp_path / "a\u2028b"), "nfs4"), (str(tmp_path / "own"), "tmpfs")]
    monkeypatch.setattr(place_look, "mounts", lambda: known)
    (tmp_path / "link").symlink_to("a\u2028b/models")
    place_look.require_answer(tmp_path / "own/archive")
    assert looks == []
    place_look.require_answer(tmp_path / "link/archive")
    place_look.require_answer(f"{tmp_path}/own/../a\u2028b")
    assert looks == [f"{tmp_path}/link/archive", f"{tmp_path}/own/../a\u2028b"]
    known.clear()  # nobody can tell
    place_look.require_answer(tmp_path)
    assert len(looks) == 3
