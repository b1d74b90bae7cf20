"""A hub of an archive whose manifest lies: no byte of it is given."""

from __future__ import annotations

import pytest
from hostilekit import NEVER, SOME_FILESYSTEMS, write_archive
from kit.served import served

from archiver.archive.archive import Archive
from archiver.archive.serving.segment_cache import SegmentCache
from archiver.archive.serving.served_file import ServedSnapshot
from archiver.errors import ArchiverError, skip_damaged


@pytest.mark.parametrize("case", NEVER)
def test_what_may_never_be_is_not_opened(case, tmp_path):
    archive = Archive.open(write_archive(tmp_path / "weights", NEVER[case]))
    with SegmentCache(1 << 26, threads=1) as cache:
        for snapshot in archive.snapshots(skip_damaged):
            with pytest.raises(ArchiverError):
                ServedSnapshot.open(archive, snapshot, cache)


@pytest.mark.parametrize("case", SOME_FILESYSTEMS)
def test_odd_names_are_opened(case, tmp_path):
    archive = Archive.open(write_archive(tmp_path / "weights", SOME_FILESYSTEMS[case]))
    with SegmentCache(1 << 26, threads=1) as cache:
        (snapshot,) = archive.snapshots()
        assert ServedSnapshot.open(archive, snapshot, cache).entries


def test_a_hub_outlives_what_may_never_be(tmp_path):
    write_archive(tmp_path / "weights", NEVER["parent"])
    with served(tmp_path / "weights") as server:
        for path in ("config.json", "..%2Fup", "../up"):
            answer = server.ask(f"/Org/Model/resolve/main/{path}")
            assert answer.status == 503, answer
        assert server.ask("/api/models").status == 200
