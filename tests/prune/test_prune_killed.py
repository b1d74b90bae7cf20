"""Forget and prune, killed at each of their operations: nothing visible is lost, the next run finishes."""

from __future__ import annotations

import shutil

import pytest
from kit.cli import invoke
from prunekit import CONTENTS, Killed, all_restore, dying_at, filled

from archiver.archive import layout
from archiver.archive.archive import Archive
from archiver.archive.prune.pruner import Pruner
from archiver.archive.publish import closure_names
from archiver.operations.forget import ForgetRequest, forget, remember


def deaths(quick, prepare, act):
    """The archive after a death at the first operation, at the second, … until none is left."""
    root = quick / "archive"
    prepare(filled(root))
    shutil.move(root, quick / "pristine")
    for step in range(1, 400):
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(quick / "pristine", root)
        try:
            act(dying_at(Archive.open(root), step))
        except Killed:
            yield root
        else:
            assert step > 10
            return
    pytest.fail("it does not end")


def prune(archive):
    return Pruner(archive, grace=0).run()


def forget_one(archive):
    return forget(archive, ForgetRequest("org/one"))


def remember_one(archive):
    return remember(archive, ForgetRequest("org/one"))


def test_forget(quick):
    for root in deaths(quick, lambda _: None, forget_one):
        assert all_restore(root) in ({*CONTENTS}, {"org/two"})
        if "org/one" in all_restore(root):
            forget_one(Archive.open(root))
        assert all_restore(root) == {"org/two"}
        remember_one(Archive.open(root))
        assert all_restore(root) == {*CONTENTS}


def test_undo(quick):
    for root in deaths(quick, forget_one, remember_one):
        assert "org/two" in all_restore(root)
        remember_one(Archive.open(root)) if _unfinished(root) else None
        assert all_restore(root) == {*CONTENTS}
        assert not _unfinished(root)


def test_a_second_name_in_the_trash_of_what_is_in_use(quick):
    """As dying between the two names leaves it: nobody needs it."""
    archive = filled(quick / "archive")
    name = next(archive.snapshots()).name
    archive.store.link(name, layout.quarantined_name(layout.TRASH, "2026-01-01T00:00:00Z", name))
    prune(archive)
    assert not list(archive.store.list(layout.TRASH))
    assert all_restore(quick / "archive") == {*CONTENTS}


def _unfinished(root) -> bool:
    from archiver.archive.places import forgotten

    return bool(forgotten(Archive.open(root).events()))


@pytest.mark.parametrize("before", [0, 1, 2])
def test_prune(quick, before):
    """Dying while it condemns, while it sweeps, and while it deletes."""

    def prepare(archive):
        forget_one(archive)
        for _ in range(before):
            prune(archive)

    for root in deaths(quick, prepare, prune):
        assert all_restore(root) == {"org/two"}
        for _ in range(4):
            prune(Archive.open(root))
        archive = Archive.open(root)
        assert all_restore(root) == {"org/two"}
        assert len(list(archive.store.list("packs"))) == 1
        assert len(list(archive.store.list("manifests"))) == 1
        assert list(archive.store.list("trash")) == []
        assert list(archive.events())


@pytest.mark.parametrize("folder", ["trash", "quarantine"])
def test_what_a_dead_prune_left_in_the_trash_restores(quick, capfd, folder):
    """As beside a writer that sealed in the moment of the death: the seal is there, its files are aside."""
    archive = filled(quick / "archive")
    (snapshot,) = archive.snapshots_of("org/one")
    needs = closure_names(snapshot.seal)
    for name in needs:
        archive.store.move(name, layout.quarantined_name(folder, "2026-01-01T00:00:00Z", name))
    root, out = str(quick / "archive"), quick / "out"
    assert invoke("audit", "-q", "-C", root) == 20
    assert capfd.readouterr().out.count("lies in " + folder) == len(needs)
    assert invoke("restore", "-q", "-C", root, "org/one", out) == 0
    assert (out / "a.bin").read_bytes() == CONTENTS["org/one"]
    assert invoke("repair", "-q", "--no-upstream", "-C", root) == 0
    assert invoke("audit", "-q", "-C", root) == 0


def test_what_dead_runs_left_is_cleared_up(quick):
    """But for packs, which the next mirror goes on with."""
    archive = filled(quick / "archive")
    left = [archive.store.stage(purpose) for purpose in ("put", "link", "copy", "repair", "pack")]
    for one in left:
        one.write(b"half")
        one.keep()
    (quick / "archive/trash/20200101t000000z/packs/ab").mkdir(parents=True)
    assert invoke("prune", "-q", "-C", quick / "archive") == 0
    assert [each.path.is_file() for each in left] == [False, False, False, False, True]
    assert list((quick / "archive/trash").iterdir()) == []
