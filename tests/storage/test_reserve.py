"""Room that is put by: it is there when it is wanted, follows nobody's links, and never stops a run."""

from __future__ import annotations

import errno
import os

import pytest

from archiver.storage import reserve
from archiver.storage.local import LocalStore


@pytest.fixture
def root(tmp_path):
    (tmp_path / "archive").mkdir()
    return tmp_path / "archive"


def files(root):
    return sorted((root / "tmp/reserve").iterdir())


def no_room(monkeypatch, call, number=errno.EDQUOT):
    """As where a quota is used up: the disk itself tells of plenty of room."""

    def refused(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(f"archiver.storage.reserve.{call}", refused)


def test_what_was_put_by_can_be_had(root, monkeypatch):
    store = LocalStore(root)
    store.require_writable()
    assert len(files(root)) == 32
    assert sum(path.stat().st_blocks * 512 for path in files(root)) >= 1 << 20
    (root / "index").touch()
    store.make_room(["index", "gone"])
    assert (root / "index").exists()
    no_room(monkeypatch, "os.write")
    store.make_room(["index", "gone"])
    assert not (root / "tmp/reserve").exists()
    assert not (root / "index").exists()
    assert not list((root / "tmp").iterdir())


@pytest.mark.parametrize("call", ["os.pwrite", "open_working_file", "follow_folder"])
@pytest.mark.parametrize("number", [errno.EDQUOT, errno.EIO, errno.EACCES, errno.EROFS])
def test_what_cannot_be_put_by_stops_nothing(root, monkeypatch, call, number):
    no_room(monkeypatch, call, number)
    LocalStore(root).require_writable()
    monkeypatch.undo()
    assert not (root / "tmp/reserve").exists()


def test_half_of_it_is_made_whole(root):
    (root / "tmp/reserve").mkdir(parents=True)
    (root / "tmp/reserve/00").write_bytes(b"x")
    LocalStore(root).require_writable()
    assert {path.stat().st_size for path in files(root)} == {32 << 10}


@pytest.mark.parametrize("link", ["tmp", "tmp/reserve", "tmp/reserve/00"])
def test_a_link_is_not_followed(root, tmp_path, link):
    other = tmp_path / "other"
    (other / "reserve").mkdir(parents=True)
    precious = other / "reserve" / "00"
    precious.write_bytes(b"precious")
    (root / link).parent.mkdir(parents=True, exist_ok=True)
    (root / link).symlink_to({"tmp": other, "tmp/reserve": other / "reserve"}.get(link, precious))
    reserve.hold_reserve(root)
    reserve.release_reserve(root)
    assert precious.read_bytes() == b"precious"
    assert len(list((other / "reserve").iterdir())) == 1
