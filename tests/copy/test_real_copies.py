"""A copy counts only while it is real: on a disk of its own, there, and proven there lately.

Disks are mounts made here: memory stands for a second disk, and a loop device for a second filesystem
of the same disk.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import uuid
from contextlib import contextmanager
from datetime import datetime, timedelta

import pytest
from copykit import SavedArchive, events, ids, place_id, stored
from kit.disks import memory_disk, mount, mounted, stoppable_mount, unmount
from kit.faults import flip
from kit.journal import raw_event

from archiver.archive import place_probe
from archiver.archive.archive import Archive
from archiver.archive.events import TOOL

PATIENCE = 120
"""Seconds after which a dead mount comes to life again, so that a test that hangs fails instead."""


@pytest.fixture
def disk(tmp_path):
    """A second disk that can be unplugged and plugged in again: ``usb`` is where it is mounted."""
    behind, usb = tmp_path / "kept", tmp_path / "usb"
    usb.mkdir()

    class Disk:
        folder = usb
        there = False

        def plug(self):
            mount("--bind", behind, usb)
            self.there = True

        def unplug(self):
            unmount(usb)
            self.there = False

    usb_disk = Disk()
    with memory_disk(behind):
        usb_disk.plug()
        yield usb_disk
        if usb_disk.there:
            usb_disk.unplug()


@pytest.fixture
def same_disk(tmp_path):
    """Another filesystem on the disk where everything lies."""
    image, folder = tmp_path / "image", tmp_path / "partition"
    with image.open("wb") as file:
        file.truncate(16 << 20)
    subprocess.run(["mkfs.ext4", "-q", image], check=True)
    with mounted(folder, "-o", "loop", image):
        yield folder


@pytest.fixture
def later(monkeypatch):
    """Let so many days go by."""

    @contextmanager
    def call(days):
        class Later(datetime):
            @classmethod
            def now(cls, tz=None):
                return datetime.now(tz) + timedelta(days=days)

        with monkeypatch.context() as patch:
            patch.setattr("archiver.text.datetime", Later)
            yield

    return call


class Told:
    """What a status says of copies."""

    def __init__(self, result):
        self.code = result.code
        (status,) = result.kinds("status")
        self.copies = status["copies"]
        self.places = {one["id"]: one for one in result.kinds("place")}
        short = {one["what"]: one["next"] for one in result.kinds("shortfall")}
        self.next = short.get("copies", "")

    @property
    def others(self):
        return {one["standing"] for one in self.places.values()} - {"here"}


@pytest.fixture
def source(pristine, tmp_path, run):
    """An archive that wants two copies, and nothing else that it has not."""
    kept = pristine.copied(tmp_path / "source")
    assert run("audit", "-q", "-C", kept.root).code == 0
    assert run("policy", "set", "-q", "-C", kept.root, "--copies", "2").code == 0
    return kept


@pytest.fixture
def status(run, source):
    def call(root=source.root):
        return Told(run("status", "-q", "--json", "--copies", "-C", root))

    return call


@pytest.fixture
def obey(run):
    """Run what a status says is to be run, and nothing else."""

    def call(advice):
        (line,) = re.findall(r"^'(.+)'$", advice)
        for command in line.split(" && "):
            words = shlex.split(command)
            assert words.pop(0) == "archiver"
            assert run(*words, "-q").code == 0

    return call


# ---- a disk that is not mounted


@pytest.mark.parametrize("below", ["weights", ""])
def test_a_disk_that_is_not_mounted_is_not_filled_up(source, disk, copy, status, later, below):
    to = disk.folder / below
    assert copy(to=to, new=True).code == 0
    assert (status().code, status().copies) == (0, 2)
    assert copy(to=to, new=False).code == 0
    disk.unplug()
    for new in (False, True):
        result = copy(to=to, new=new)
        assert result.code == 10, result
        assert "Mount its disk" in result.err
        assert "--lost" in result.err
        assert not list(disk.folder.iterdir())
    away = status()
    assert (away.code, away.copies) == (0, 2), "a disk on the shelf counts while its proof is new"
    assert {one["presence"] for one in away.places.values()} == {"here", "away"}
    with later(100):
        state = status()
        assert (state.code, state.copies, state.others) == (24, 1, {"proof-old"})
    disk.plug()
    assert copy(to=to, new=False).code == 0


def test_without_new_nothing_is_made_anywhere(source, tmp_path, copy, run):
    empty, full = tmp_path / "empty", tmp_path / "full"
    empty.mkdir()
    full.mkdir()
    (full / "diary.txt").write_text("dear diary")
    for to in (tmp_path / "absent", empty, full):
        before = stored(to) if to.exists() else None
        result = copy(to=to, new=False)
        assert result.code == 10, result
        assert "--new" in result.err
        assert (stored(to) if to.exists() else None) == before
    assert copy(to=full, new=True).code == 2
    assert not events(source.root, "places-seen")
    other = tmp_path / "other"
    assert run("init", "-q", "-C", other).code == 0
    assert copy(to=other, new=True).code == 2
    assert copy(to=other, new=False).code == 0
    assert ids(other) == source.ids()


def test_a_disk_that_fstab_wants_is_not_begun_while_it_is_not_mounted(source, tmp_path):
    """In a mount namespace of its own, where a copy of /etc with another fstab lies over the machine's."""
    folder, table = tmp_path / "my disk", tmp_path / "fstab"
    folder.mkdir()
    named = str(folder).replace(" ", "\\040")
    table.write_text(f"# all disks\ntmpfs {named} tmpfs noauto,size=8m 0 0\nbroken\n")
    script = (
        'cp -a /etc "$1.etc" && cp "$1" "$1.etc/fstab" && mount --bind "$1.etc" /etc && shift && '
        '"$@"; echo "code $?"; mount "$TO" && "$@"; echo "code $?"'
    )
    command = (
        "archiver",
        "copy",
        "-q",
        "-C",
        source.root,
        "--new",
        folder / "w",
        "--min-free",
        "0",
    )
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, "sh", table, sys.executable, "-m", *command],
        env=os.environ | {"TO": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert re.findall("code .*", done.stdout) == ["code 10", "code 0"], done
    assert f"wants at {folder} is not mounted" in done.stderr
    assert not list(folder.iterdir())


def test_another_place_than_the_journal_knows_is_refused(source, target, copy, run, tmp_path):
    copy(new=True)
    first = place_id(target)
    target.rename(tmp_path / "shelf")
    other = source.copied(target)
    (target / "place.json").unlink()
    for identity in (False, True):
        if identity:
            assert run("audit", "-q", "-C", other.root).code == 0  # which gives it an identity
        before = stored(target)
        for new in (False, True):
            result = copy(new=new)
            assert (result.code, first in result.err) == (10, True), result
        assert stored(target) == before
    assert run("copy", "-q", "-C", source.root, "--lost", first).code == 0
    assert copy(new=False).code == 0


# ---- what counts


def test_a_copy_on_the_same_disk_does_not_count(source, same_disk, disk, target, copy, run, status):
    for to in (target, same_disk / "weights"):
        report = copy(to=to, new=True).only("copy")
        assert report["same_device"] is True
        assert (status().code, status().copies, status().others) == (24, 1, {"same-device"})
        text = run("copy", "-C", source.root, to, "--min-free", "0")
        assert "does not count as another copy" in text.err
    assert "--new FOLDER" in status().next
    report = copy(to=disk.folder / "weights", new=True).only("copy")
    assert (report["same_device"], report["medium"]) == (False, "memory")
    assert (status().code, status().copies) == (0, 2)
    # From the other side the two on one disk count once as well.
    assert status(disk.folder / "weights").copies == 2
    lines = run("status", "-q", "-C", source.root).out.splitlines()
    assert len([line for line in lines if "lies on the same disk or server as" in line]) == 2


def test_a_copy_that_was_deleted_counts_no_more(source, disk, copy, run, status, obey):
    to = disk.folder / "weights"
    copy(to=to, new=True)
    before = place_id(to)
    shutil.rmtree(to)
    state = status()
    assert (state.code, state.copies, state.others) == (24, 1, {"deleted"})
    text = run("status", "-q", "-C", source.root).out
    assert f"Does not count: {state.places[before]['place']}: it is not at {to} any more.\n" in text
    assert copy(to=to, new=False).code == 10
    assert not to.exists()
    obey(state.next + "" if "--min-free" in state.next else state.next[:-1] + " --min-free 0'")
    assert (status().code, status().copies) == (0, 2)
    assert events(source.root, "copy-lost")[-1].fields["id"] == before
    assert before not in status().places


def test_a_deleted_copy_on_the_archives_own_disk_is_not_to_be_made_again(target, copy, status):
    """There it would not count."""
    copy(to=target, new=True)
    shutil.rmtree(target)
    assert (status().code, status().others) == (24, {"deleted"})
    assert "--new FOLDER" in status().next


@pytest.mark.parametrize("kind", ["packs", "snapshots"])
def test_a_copy_of_which_a_part_was_deleted_does_not_count(source, disk, copy, status, obey, kind):
    to = disk.folder / "weights"
    copy(to=to, new=True)
    path = next(path for path in (to / kind).rglob("*") if path.is_file())
    path.unlink()
    state = status()
    assert (state.code, state.copies, state.others) == (24, 1, {"incomplete"})
    assert copy(to=to, new=False).code == 0
    assert path.is_file()
    assert status().code == 0


def test_a_proof_grows_old_and_an_audit_there_renews_it(source, disk, copy, run, status, later):
    to = disk.folder / "weights"
    copy(to=to, new=True)
    assert run("policy", "set", "-q", "-C", source.root, "--copy-age", "30d").code == 0
    with later(29):
        assert status().copies == 2
    with later(31):
        state = status()
        assert (state.code, state.copies, state.others) == (24, 1, {"proof-old"})
        assert copy(to=to, new=False).code == 0
        assert status().copies == 1, "nothing was read there"
        assert run("audit", "-q", "--level", "structure", "-C", to).code == 0
        assert copy(to=to, new=False).code == 0
        assert status().copies == 1, "nothing was read there either"
        assert "archiver audit -C" in state.next
        assert run("audit", "-q", "-C", to).code == 0
        assert copy(to=to, new=False).code == 0
        assert (status().code, status().copies) == (0, 2)
        seen = {one["presence"]: one["proven"] for one in status().places.values()}
        assert seen["there"] == max(event.time for event in events(to, "audited"))
    assert run("policy", "set", "-q", "-C", source.root, "--copy-age", "0d").code == 0
    with later(31 + 91):
        assert status().others == {"proof-old"}
    with later(31 + 89):
        assert status().copies == 2


def test_packs_that_no_run_has_read_prove_nothing(source, disk, copy, run, status, obey):
    """A replica that came there by other means, such as rsync."""
    to = disk.folder / "weights"
    shutil.copytree(source.root, to)
    (to / "place.json").unlink()
    assert copy(to=to, new=False).code == 0
    state = status()
    assert (state.code, state.copies, state.others) == (24, 1, {"never-proven"})
    obey(state.next[:-1] + " --min-free 0'")
    assert (status().code, status().copies) == (0, 2)


def test_damage_that_an_audit_found_there_counts_here(source, disk, copy, run, status):
    to = disk.folder / "weights"
    copy(to=to, new=True)
    flip(SavedArchive(to, source.models).pack("org/one"))
    assert run("audit", "-q", "-C", to).code == 20
    assert copy(to=to, new=False).code == 0
    assert (status().copies, status().others) == (1, {"damaged"})
    assert run("repair", "-q", "-C", to, "--from", source.root, "--no-upstream").code == 0
    assert copy(to=to, new=False).code == 0
    assert status().others == {"never-proven"}, "what a repair made, an audit proves"
    assert run("audit", "-q", "-C", to).code == 0
    assert copy(to=to, new=False).code == 0
    assert status().copies == 2


def test_a_run_that_dies_keeps_what_it_has_proven(source, disk, copy, status, monkeypatch):
    to = disk.folder / "weights"
    with monkeypatch.context() as patch:
        patch.setattr("archiver.operations.copy.run._RECORD_SECONDS", -1)
        patch.setattr("archiver.operations.copy.run._Run._publish", None)  # dies after the packs
        patch.delenv("ARCHIVER_DEBUG", raising=False)
        assert copy(to=to, new=True).code == 1
    assert not ids(to)
    assert copy(to=to, new=True).only("copy")["packs"] == 0
    assert (status().code, status().copies) == (0, 2)


def test_events_of_an_older_version_count_on_a_device_that_nobody_knows(source, run, status, later):
    detail = {"from": "home", "to": "usb", "snapshots": sorted(source.ids())}
    now = max(event.time for event in events(source.root))
    Archive.open(source.root).record(raw_event("copied", now, TOOL, detail=detail))
    state = status()
    assert (state.code, state.copies) == (0, 2)
    assert {one["medium"] for one in state.places.values() if one["place"] == "usb"} == {"unknown"}
    assert "disk that is not known: usb" in run("status", "-q", "-C", source.root).out
    with later(91):
        assert status().others == {"proof-old"}


def test_a_journal_that_names_hundreds_of_places_costs_little(source, run, status, monkeypatch):
    """Whoever can write a journal can name any path of this machine: few are looked at, none is opened."""
    host = socket.gethostname()
    place = "\x1b[31m" + "x" * 200
    ids = [str(uuid.UUID(int=number)) for number in range(200)]
    state = [
        {"place": place, "id": one, "where": f"{host}:/proc/{number}/root", "medium": "disk"}
        | {"devices": [one], "label": "\x1b[2J", "filesystem": "\0"}
        for number, one in enumerate(ids)
    ]
    archive = Archive.open(source.root)
    now = max(event.time for event in events(source.root))
    for detail in (
        {"places": state},
        {"places": [{"place": 3}]},
        {"places": [{"place": "a", "devices": "b"}]},
        {"places": None},
    ):
        archive.record(raw_event("places-seen", now, TOOL, detail=detail))
    for one in ids:
        detail = {"from": "a", "to": "b", "to_id": one, "packs": [], "snapshots": [one]}
        archive.record(raw_event("copied", now, TOOL, detail=detail))
    started = []
    popen = subprocess.Popen

    def counted(words, *more, **settings):
        started.append(words)
        return popen(words, *more, **settings)

    monkeypatch.setattr("subprocess.Popen", counted)
    state = status()
    assert (state.code, state.copies) == (24, 1)
    assert len(started) <= 64
    text = run("status", "-q", "--copies", "-C", source.root).out
    assert "\x1b" not in text


# ---- a mount that is dead


@pytest.fixture
def dead(tmp_path):
    """A mount whose server stops for as long as a block runs."""
    with stoppable_mount(tmp_path, PATIENCE) as mounted_folder:
        yield mounted_folder


def test_no_look_at_a_dead_mount_hangs(source, copy, status, dead, monkeypatch):
    to = dead.folder / "weights"
    assert copy(to=to, new=True).code == 0
    identity = place_id(to)
    monkeypatch.setattr("archiver.archive.place_look.LOOK_SECONDS", 2.0)
    with dead():
        for new in (False, True):
            result = copy(to=to, new=new)
            assert (result.code, "gave no answer" in result.err) == (1, True), result
        state = status()
    assert state.places[identity]["presence"] == "no-answer"
    assert status().places[identity]["presence"] == "there"


def test_no_command_waits_for_a_dead_archive(source, copy, run, dead, tmp_path, monkeypatch):
    to, link = dead.folder / "weights", tmp_path / "link"
    assert copy(to=to, new=True).code == 0
    link.symlink_to("dead")
    (tmp_path / "inner").symlink_to(link / "weights")
    monkeypatch.setattr("archiver.archive.place_look.LOOK_SECONDS", 2.0)
    commands = [("status", "-C", place) for place in (to, link / "weights", tmp_path / "inner")]
    commands += [(verb, "-C", to) for verb in ("list", "audit", "init")]
    commands.append(("repair", "-C", source.root, "--no-upstream", "--from", to))
    with dead():
        for words in commands:
            result = run(*words)
            assert (result.code, "gave no answer" in result.err) == (1, True), (words, result)
            assert "umount" in result.err
    for words in commands[:5] + commands[6:]:
        assert run(*words).code in {0, 24}, words


def test_a_lost_place_is_named_by_its_path_as_typed(source, copy, run, tmp_path, monkeypatch):
    one, other = tmp_path / "usb" / "one", tmp_path / "usb" / "other"
    for to in (one, other):
        assert copy(to=to, new=True).code == 0
    monkeypatch.chdir(tmp_path / "usb")
    shutil.rmtree(one)
    assert run("copy", "-q", "-C", source.root, "--lost", tmp_path / "usb").code == 2
    assert run("copy", "-q", "-C", source.root, "--lost", f"{one}/").code == 0
    assert run("copy", "-q", "-C", source.root, "--lost", one).code == 2
    result = run("copy", "--json", "-C", source.root, "--lost", "other")
    assert (result.code, result.kinds("copy-lost")[0]["snapshots"]) == (0, 2)


def test_a_path_that_several_places_have_is_not_guessed(source, copy, run, tmp_path):
    for number, name in enumerate(
        ("first:/mnt/weights", "second:/mnt/weights", "first:/mnt/other")
    ):
        assert copy("--as", name, to=tmp_path / str(number), new=True).code == 0
    result = run("copy", "-q", "-C", source.root, "--lost", "/mnt/weights")
    assert (result.code, "2 places" in result.err) == (2, True)
    assert run("copy", "-q", "-C", source.root, "--lost", "/mnt/other").code == 0


# ---- room, policy, devices


def test_room_that_must_stay_free(source, disk, run):
    to = disk.folder / "weights"
    free = os.statvfs(disk.folder)
    size = free.f_bavail * free.f_frsize
    words = ("copy", "-q", "-C", source.root, "--new", to)
    result = run(*words, "--min-free", str(size - 1000))
    assert (result.code, "--min-free keeps" in result.err) == (31, True)
    assert not to.exists()
    assert run(*words, "--min-free", str(size // 2)).code == 0


def test_a_policy_goes_along_with_all_of_an_archive_only(source, tmp_path, copy, run):
    replica, part, other = (tmp_path / name for name in ("replica", "part", "other"))
    assert run("init", "-q", "-C", other).code == 0
    for to, words, policy in (
        (replica, (), "same"),
        (part, ("--snapshot", "org/one"), "kept"),
        (other, (), "kept"),
    ):
        assert copy(*words, to=to).only("copy")["policy"] == policy
        assert Archive.open(to).policy().copies == (2 if policy == "same" else 1)
        text = run("copy", "-C", source.root, to, *words, "--min-free", "0").err
        assert ("The policy of TO is another one, and stays" in text) is (policy == "kept")


@pytest.mark.parametrize(
    ("kind", "source", "expected"),
    [
        ("nfs4", "NAS:/export/Weights", "nas:/export/Weights"),
        ("nfs", "[fe80::1]:/export", "[fe80::1]:/export"),
        ("fuse.sshfs", "me@host:/srv", "host:/srv"),
        ("cifs", "//NAS/Share/below", "nas/share"),
        ("smb3", "\\\\nas\\share", "nas/share"),
    ],
)
def test_servers_and_their_exports(kind, source, expected):
    assert place_probe.server(kind, source) == expected
