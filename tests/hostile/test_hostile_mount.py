"""A mount of an archive whose manifest lies: nothing escapes from it, and nothing ends it."""

from __future__ import annotations

import pytest
from hostilekit import NEVER, SOME_FILESYSTEMS, write_archive
from kit.mounts import Mounted, digests, refused

from archiver.archive.archive import Archive
from archiver.archive.serving.segment_cache import SegmentCache
from archiver.errors import ArchiverError
from archiver.mount.contents import Contents
from archiver.mount.tree import File, Folder, Tree
from archiver.names import path_problems

REVISION = "0123456789abcdef0123456789abcdef01234567"


def files_below(folder: Folder) -> list[File]:
    files = []
    for node in folder.names.values():
        files += files_below(node) if isinstance(node, Folder) else [node]
    return files


@pytest.mark.parametrize("case", NEVER)
def test_what_may_never_be_is_not_given(case, tmp_path):
    archive = Archive.open(write_archive(tmp_path / "weights", NEVER[case]))
    warned = []
    tree = Tree(archive, lambda title, error: warned.append((title, error)))
    try:
        files = files_below(tree.find(f"/Org/Model/{REVISION}"))
    except (ArchiverError, FileNotFoundError):
        assert warned
        return
    assert not path_problems([file.path for file in files])
    # What is wrong is no name: then nothing of it can be opened.
    with SegmentCache(1 << 26, threads=1) as cache:
        contents = Contents(archive, cache)
        for file in files:
            with pytest.raises(ArchiverError):
                contents.open(file.snapshot, file.path)


@pytest.mark.parametrize("case", SOME_FILESYSTEMS)
def test_odd_names_are_shown_as_they_are(case, tmp_path):
    archive = Archive.open(write_archive(tmp_path / "weights", SOME_FILESYSTEMS[case]))
    tree = Tree(archive, lambda _title, error: pytest.fail(error.message))
    files = files_below(tree.find(f"/Org/Model/{REVISION}"))
    (snapshot,) = archive.snapshots()
    manifest = archive.manifest(snapshot.seal)
    assert [file.path for file in files] == [entry.path for entry in manifest.files]
    assert [tree.find(f"/Org/Model/{REVISION}/{file.path}") for file in files] == files


def test_a_mount_outlives_what_may_never_be(tmp_path):
    write_archive(tmp_path / "weights", NEVER["parent"])
    with Mounted(tmp_path / "weights", tmp_path / "m") as running:
        assert refused(running.folder / "Org/Model" / REVISION / "config.json") == "EIO"
        assert refused(running.folder / "Org/Model" / REVISION / "../up") == "ENOENT"
        assert digests(running.folder / "Org") == {}
        assert running.end() == 20
    assert "'../up' has the part '..'" in running.err
