"""Folders of an archive that are links: nothing is written or deleted through them."""

from __future__ import annotations

import shutil

import pytest

from archiver.archive.layout import FOLDERS

WRITING = (
    ("import", "--min-free", "0B", "--as", "org/new"),
    ("parity", "add"),
    ("forget", "org/one"),
    ("prune", "--grace", "0s"),
    ("policy", "set", "--copies", "2"),
    ("repair", "--no-upstream"),
)


def link_away(root, folder, outside):
    """Let ``folder`` of the archive be a link to a folder outside of it, with the same files."""
    if (root / folder).exists():
        shutil.move(root / folder, outside)
    else:
        outside.mkdir(parents=True)
    (root / folder).symlink_to(outside)


def content(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("folder", FOLDERS)
def test_nothing_is_written_or_deleted_through_a_link(run, weights, tmp_path, folder):
    outside = tmp_path / "outside"
    link_away(weights.root, folder, outside)
    before = content(outside), content(weights.root)
    for command in WRITING:
        more = [tmp_path / "new"] if command[0] == "import" else []
        (tmp_path / "new").mkdir(exist_ok=True)
        (tmp_path / "new" / "a.txt").write_text("new")
        result = run(*command[:1], *more, *command[1:], "-C", weights.root)
        assert result.code == 1, (command, result)
        assert "is a link to" in result.err, (command, result)
    assert (content(outside), content(weights.root)) == before


def test_what_lies_behind_a_link_is_read(run, weights, tmp_path):
    link_away(weights.root, "packs", tmp_path / "outside")
    assert run("audit", "-C", weights.root).code == 0
    assert run("restore", "-C", weights.root, "org/one", tmp_path / "there").code == 0


def test_a_link_deeper_down_is_refused_by_the_write_itself(run, weights, tmp_path):
    outside = tmp_path / "outside"
    link_away(weights.root, "snapshots/org", outside)
    folder = tmp_path / "new"
    folder.mkdir()
    (folder / "a.txt").write_text("new")
    result = run("import", folder, "--as", "org/new", "-C", weights.root, "--min-free", "0B")
    assert result.code == 1, result
    assert "is a link to" in result.err
    assert not (outside / "new").exists()


def test_a_lock_that_is_a_link_empties_nothing(run, weights, tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    tmp = weights.root / "tmp"
    tmp.mkdir(exist_ok=True)
    run("prune", "--grace", "0s", "-C", weights.root)
    locks = [path for path in tmp.iterdir() if path.name.endswith(".lock")]
    assert locks
    for path in locks:
        path.unlink()
        path.symlink_to(victim)
    assert run("prune", "--grace", "0s", "-C", weights.root).code == 1
    assert victim.read_text() == "precious"
