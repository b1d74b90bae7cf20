"""What the store on a local filesystem promises beyond the suite: durability, locks, links, errors."""

import errno
import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from kit.store import host, publish
from kit.users import POWERLESS, python_as

from archiver.errors import ArchiverError, DamageError, DeniedError, NoSpaceError, UsageError
from archiver.storage.files import write_new
from archiver.storage.local import ListedFolders, LocalStore, _Listed

NAME = "packs/ab/abc.pack"


@pytest.fixture
def store(root) -> LocalStore:
    return LocalStore(root)


# Durability


@pytest.fixture
def calls(monkeypatch, root) -> list[tuple[str, str]]:
    """Every fsync, chmod, rename and mkdir with the path it concerns, in order."""
    told: list[tuple[str, str]] = []

    def short(path: object) -> str:
        text = os.path.relpath(str(path), root)
        return "tmp/*" if text.startswith("tmp/") else text

    def of_handle(handle: int) -> str:
        return short(Path(f"/proc/self/fd/{handle}").readlink())

    def watch(name: str, place) -> None:
        honest = getattr(os, name)

        def call(first, *rest, **named):
            told.append((name, place(first, *rest)))
            return honest(first, *rest, **named)

        monkeypatch.setattr(os, name, call)

    watch("fsync", of_handle)
    watch("fchmod", lambda handle, mode: f"{of_handle(handle)} {mode:o}")
    watch("rename", lambda old, new: f"{short(old)} -> {short(new)}")
    watch("mkdir", lambda path, *_: short(path))
    watch("link", lambda old, new: f"{short(old)} -> {short(new)}")
    watch("unlink", short)
    return told


def test_a_file_is_durable_before_it_is_visible_and_its_folders_after(store, calls):
    publish(store)
    assert calls == [
        ("mkdir", "tmp"),
        ("fsync", "."),
        ("fsync", "tmp/*"),
        ("fchmod", "tmp/* 444"),
        ("mkdir", "packs"),
        ("fsync", "."),
        ("mkdir", "packs/ab"),
        ("fsync", "packs"),
        ("rename", f"tmp/* -> {NAME}"),
        ("fsync", "packs/ab"),
        ("fsync", "packs"),
        ("fsync", "."),
    ]


def test_folders_that_a_killed_run_may_not_have_synced_are_synced(store, root, calls):
    (root / "packs" / "ab").mkdir(parents=True)
    publish(store)
    after = calls[calls.index(("rename", f"tmp/* -> {NAME}")) :]
    assert {place for call, place in after if call == "fsync"} == {".", "packs", "packs/ab"}


def test_small_files_are_as_durable(store, calls):
    store.put_new("journal/a.json", b"{}")
    order = [call for call, place in calls if "tmp/*" in place or place == "journal"]
    assert order == ["fsync", "fchmod", "mkdir", "rename", "fsync"]


def test_a_second_name_is_durable_before_the_first_goes(store, calls):
    publish(store)
    calls.clear()
    store.move(NAME, "trash/abc.pack")
    assert calls == [
        ("mkdir", "trash"),
        ("fsync", "."),
        ("link", f"{NAME} -> trash/abc.pack"),
        ("fsync", "trash"),
        ("fsync", "."),
        ("unlink", NAME),
        ("fsync", "packs/ab"),
    ]


def test_what_is_read_back_is_on_the_medium(store, calls):
    staged = store.stage("pack")
    staged.write(b"x")
    calls.clear()
    staged.reader().close()
    assert calls == [("fsync", "tmp/*")]
    staged.abort()


def test_a_name_that_another_run_published_is_made_durable(store, root, calls):
    """It may have been killed between the rename and the sync of the folder."""
    for name in (NAME, "journal/a"):
        (root / name).parent.mkdir(parents=True)
        (root / name).write_bytes(b"data")
    publish(store)
    assert calls[-3:] == [("fsync", "packs/ab"), ("fsync", "packs"), ("fsync", ".")]
    calls.clear()
    assert not store.put_new("journal/a", b"data")
    assert sorted(calls) == [("fsync", "."), ("fsync", "journal")]
    calls.clear()
    store.barrier([NAME, "journal/a", "nowhere/x"])
    assert {place for _, place in calls} == {"packs/ab", "packs", "journal", "."}


def test_a_crash_while_a_file_is_moved_leaves_it_under_a_name(store, root, monkeypatch):
    publish(store)

    def unlink(*_arguments, **_named):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "unlink", unlink)
    with pytest.raises(ArchiverError, match=r"abc\.pack"):
        store.move(NAME, "trash/abc.pack")
    for name in (NAME, "trash/abc.pack"):
        assert (root / name).read_bytes() == b"data"


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOTSUP, errno.EMLINK])
def test_without_hard_links_a_second_file_is_whole_before_it_is_visible(
    store, root, monkeypatch, calls, number
):
    def link(*_arguments, **_named):
        raise OSError(number, os.strerror(number))

    publish(store)
    calls.clear()
    monkeypatch.setattr(os, "link", link)
    store.link(NAME, "trash/abc.pack")
    shown = calls.index(("rename", "tmp/* -> trash/abc.pack"))
    assert ("fsync", "tmp/*") in calls[:shown]
    assert ("fsync", "trash") in calls[shown:]
    assert stat.S_IMODE((root / "trash/abc.pack").stat().st_mode) == 0o444
    assert (root / "trash/abc.pack").stat().st_ino != (root / NAME).stat().st_ino
    assert list((root / "tmp").iterdir()) == []


def test_a_copy_that_a_killed_run_left_is_cleared(store, root, monkeypatch):
    def link(*_arguments, **_named):
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    publish(store)
    monkeypatch.setattr(os, "link", link)
    (root / "tmp" / f"link-{host()}-1-dead").write_bytes(b"half")
    store.link(NAME, "trash/abc.pack")
    assert list((root / "tmp").iterdir()) == []


def test_a_second_name_that_cannot_be_had_is_an_error(store, root, monkeypatch):
    def link(*_arguments, **_named):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    publish(store)
    monkeypatch.setattr(os, "link", link)
    with pytest.raises(NoSpaceError):
        store.move(NAME, "trash/abc.pack")
    assert list(store.list("")) == [NAME]


@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("what", ["symlink", "dangling", "folder", "file"])
def test_whatever_lies_under_the_second_name_stays(store, root, monkeypatch, what, links):
    def link(*_arguments, **_named):
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    if not links:
        monkeypatch.setattr(os, "link", link)
    publish(store)
    other = root / "trash"
    make = {
        "symlink": lambda: other.symlink_to(root / NAME),
        "dangling": lambda: other.symlink_to(root / "nothing"),
        "folder": other.mkdir,
        "file": lambda: other.write_bytes(b"other"),
    }
    make[what]()
    with pytest.raises(FileExistsError):
        store.move(NAME, "trash")
    assert (root / NAME).read_bytes() == b"data"
    assert other.is_symlink() == (what in {"symlink", "dangling"})
    assert what != "file" or other.read_bytes() == b"other"


@pytest.mark.parametrize("use", ["link", "move"])
def test_a_link_or_folder_gets_no_second_name(store, root, use):
    publish(store)
    (root / "linked").symlink_to(root / NAME)
    for name in ("linked", "packs"):
        with pytest.raises((FileNotFoundError, ArchiverError)):
            getattr(store, use)(name, "other")
    assert not (root / "other").exists()
    with pytest.raises(ArchiverError):
        store.remove("packs")
    assert (root / NAME).exists()


def test_a_file_is_begun_exclusively_and_without_following_links(store, root, monkeypatch):
    flags = []
    honest = os.open

    def watch(path, how, *rest, **named):
        if "pack-" in str(path):
            flags.append(how)
        return honest(path, how, *rest, **named)

    monkeypatch.setattr(os, "open", watch)
    store.stage("pack").abort()
    assert flags
    assert flags[0] & os.O_CREAT
    assert flags[0] & os.O_EXCL


def test_published_files_are_read_only(store, root):
    publish(store)
    assert stat.S_IMODE((root / NAME).stat().st_mode) == 0o444


def test_an_fsync_error_is_final(store, root, monkeypatch):
    count = 0

    def fsync(_handle: int) -> None:
        nonlocal count
        count += 1
        raise OSError(errno.EIO, "Input/output error")

    staged = store.stage("pack")
    staged.write(b"x")
    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(ArchiverError):
        staged.publish(NAME)
    assert count == 1
    assert not (root / NAME).exists()
    assert list((root / "tmp").iterdir()) == []


# Errors


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, NoSpaceError),
        (errno.EDQUOT, NoSpaceError),
        (errno.EFBIG, NoSpaceError),
        (errno.EROFS, DeniedError),
        (errno.EACCES, DeniedError),
        (errno.EIO, ArchiverError),
    ],
)
@pytest.mark.parametrize("call", ["pwrite", "fsync", "rename", "open"])
def test_errors_of_writing_are_told_and_nothing_is_left(
    store, root, monkeypatch, number, kind, call
):
    (root / "tmp").mkdir()
    honest = getattr(os, call)

    def fail(*arguments, **named):
        if call == "open" and "pack-" not in str(arguments[0]):
            return honest(*arguments, **named)
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(kind) as caught:
        publish(store)
    monkeypatch.undo()
    assert type(caught.value) is kind
    assert caught.value.message
    if kind is DeniedError:
        assert "permission" in caught.value.hint
    assert list((root / "tmp").iterdir()) == []
    assert not (root / NAME).exists()


def test_a_short_write_is_continued(store, root, monkeypatch):
    honest = os.write
    monkeypatch.setattr(os, "write", lambda handle, data: honest(handle, data[:3]))
    publish(store, data=b"0123456789")
    assert (root / NAME).read_bytes() == b"0123456789"


@pytest.mark.parametrize("number", [errno.EIO, errno.EBADMSG, errno.EUCLEAN])
def test_what_the_medium_cannot_read_is_damage(store, monkeypatch, number):
    publish(store)
    reader = store.open(NAME)

    def preadv(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "preadv", preadv)
    with pytest.raises(DamageError, match=r"abc\.pack"):
        reader.read_into(0, memoryview(bytearray(4)))
    with pytest.raises(DamageError):
        store.get(NAME, 100)


def test_a_file_that_cannot_be_read_is_replaced_by_a_good_one(store, root, monkeypatch):
    publish(store)
    first = (root / NAME).stat().st_ino

    def preadv(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "preadv", preadv)
    publish(store)
    assert (root / NAME).stat().st_ino != first


# Root may read everything; without its capabilities it is a user like any other.
PYTHON = [sys.executable] if os.geteuid() else python_as(POWERLESS)
OPEN = """
import sys
import time
from pathlib import Path
from archiver.errors import ArchiverError
from archiver.storage.local import ListedFolders, LocalStore, _Listed
try:
    LocalStore(Path(sys.argv[1])).open(sys.argv[2])
except ArchiverError as error:
    print(error.message)
"""


def test_a_file_without_permission_is_told(store, root):
    publish(store)
    (root / NAME).chmod(0)
    command = [*PYTHON, "-c", OPEN, root, NAME]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert NAME in done.stdout
    assert "Permission denied" in done.stdout


# Links and odd files


def test_links_are_never_followed(store, root, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.pack").write_bytes(b"secret")
    publish(store, "packs/aa/real.pack")
    (root / "packs" / "aa" / "linked.pack").symlink_to(outside / "secret.pack")
    (root / "packs" / "bb").symlink_to(outside)
    (root / "packs" / "aa" / "dangling").symlink_to(outside / "nothing")
    assert list(store.list("packs")) == ["packs/aa/real.pack"]
    for name in ("packs/aa/linked.pack", "packs/aa/dangling", "packs/bb"):
        assert store.stat(name) is None
        with pytest.raises((FileNotFoundError, ArchiverError)):
            store.open(name)
    with pytest.raises(ArchiverError):
        publish(store, "packs/aa/linked.pack")
    assert (outside / "secret.pack").read_bytes() == b"secret"
    assert list((root / "tmp").iterdir()) == []


def test_foreign_folders_and_special_files_are_passed_over(store, root):
    publish(store)
    (root / "packs" / "Lost+Found").mkdir()
    (root / "packs" / "Lost+Found" / "x").write_bytes(b"x")
    (root / "packs" / ".hidden").mkdir()
    os.mkfifo(root / "packs" / "pipe")
    assert list(store.list("packs")) == [NAME]
    for name in ("packs/ab", "packs/pipe"):
        with pytest.raises(FileNotFoundError):
            store.open(name)


# Working files


def test_a_working_file_has_a_folder_and_a_name_of_the_format(store, root):
    path = store.scratch("work-1.jsonl")
    assert path == root / "tmp" / "work-1.jsonl"
    assert path.parent.is_dir()
    with pytest.raises(ArchiverError):
        store.scratch("../work")


def test_a_working_file_is_private(store):
    path = store.scratch("work-1.jsonl")
    path.write_bytes(b"x")
    assert store.scratch("work-1.jsonl").read_bytes() == b"x"
    store.require_writable()


def test_a_store_that_cannot_be_written_says_so(store, root, monkeypatch):
    store.require_writable()
    assert [path.name for path in (root / "tmp").iterdir()] == ["reserve"]

    def refuse(*_arguments, **_named):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(ArchiverError, match="cannot be written to"):
        store.require_writable()


@pytest.mark.parametrize("links", [True, False])
def test_a_new_file_has_its_name_only_when_it_is_durable(tmp_path, monkeypatch, links):
    target, there = tmp_path / "new", []
    real = os.fsync

    def fsync(handle):
        if stat.S_ISREG(os.fstat(handle).st_mode):
            there.append(target.exists())
        real(handle)

    def refuse(*_, **__):
        raise OSError(errno.EPERM, "no hard links here")

    monkeypatch.setattr(os, "fsync", fsync)
    if not links:
        monkeypatch.setattr(os, "link", refuse)
    write_new(target, b"data", 0o600)
    assert there == [False]
    assert [path.name for path in tmp_path.iterdir()] == ["new"]
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    with pytest.raises(UsageError):
        write_new(target, b"other")
    assert target.read_bytes() == b"data"
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


@pytest.mark.parametrize(
    ("minutes", "kept"), [(0, False), (-60, False), (1439, False), (1441, True)]
)
def test_only_a_folder_that_was_not_changed_for_a_day_is_not_listed_again(minutes, kept):
    minute = 60 * 10**9
    now = time.time_ns()
    stamp = 1, 2, now - 9999 * minute, now - minutes * minute
    listed = _Listed(("folder/a",), frozenset())
    folders = ListedFolders()
    folders.add("folder", stamp, listed)
    assert (folders.known("folder", stamp) is listed) == kept
    assert folders.known("folder", (*stamp[:3], stamp[3] + 1)) is None
