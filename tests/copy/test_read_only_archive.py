"""An archive on a medium that may only be read: everything that reads works, and writes nothing there."""

from __future__ import annotations

import pytest
from copykit import stored
from kit.disks import read_only

from archiver.archive.archive import Archive
from archiver.catalogue.location import catalogue_path


@pytest.fixture
def frozen(source):
    with read_only(source.root):
        before = stored(source.root)
        yield source
        assert stored(source.root) == before


@pytest.mark.parametrize(
    "words",
    [
        ("list",),
        ("show", "org/one", "--files"),
        ("stats",),
        ("search", "one"),
        ("sql", "SELECT name FROM repositories"),
        ("audit",),
        ("audit", "--snapshot", "org/one"),
        ("catalogue", "rebuild"),
        ("manifest", "export", "org/one"),
        ("diff", "org/one", "org/one"),
        ("restore", "org/one"),
    ],
)
def test_reading_works(frozen, run, tmp_path, words):
    more = [tmp_path / "out"] if words[0] == "restore" else []
    result = run(*words, "-C", frozen.root, *more)
    assert result.code == 0, result
    assert "Traceback" not in result.err


@pytest.mark.parametrize("level", ["structure", "stored", "content", "files"])
def test_every_level_of_an_audit(frozen, run, level):
    result = run("audit", "-q", "-C", frozen.root, "--level", level)
    assert result.code == 0, result


def test_status_and_verify(frozen, run, tmp_path):
    result = run("status", "-C", frozen.root)
    assert result.code in {0, 24}, result
    manifest = tmp_path / "one.json"
    assert run("manifest", "export", "-C", frozen.root, "org/one", "-o", manifest).code == 0
    assert run("verify", frozen.model("org/one"), "--manifest", manifest).code == 0


@pytest.mark.parametrize("words", [("import",), ("copy", "--lost", "x")])
def test_writing_is_refused(frozen, run, words):
    folder = [frozen.model("org/one"), "--as", "org/x"] if words[0] == "import" else []
    result = run(words[0], "-C", frozen.root, *words[1:], *folder)
    assert result.code in {1, 2}
    assert "archiver: " in result.err


def test_the_catalogue_lies_in_the_users_cache(frozen, run, home):
    assert run("catalogue", "rebuild", "-C", frozen.root).code == 0
    path = catalogue_path(Archive.open(frozen.root))
    assert path.parent == home / ".cache/archiver"
    assert path.exists()


def test_a_catalogue_that_came_with_it_is_asked_as_it_is(source, run, home):
    assert run("search", "-q", "-C", source.root, "one").code == 0
    with read_only(source.root):
        found = run("search", "--json", "-C", source.root, "one").kinds("hit")
        names = run("sql", "--csv", "-C", source.root, "SELECT name FROM repositories").out.split()
    assert {hit["repository"] for hit in found} == {"org/one"}
    assert names[0] == "name"
    assert "org/one" in names
    assert not list(home.glob(".cache/archiver/*.sqlite"))


def test_copies_at_two_places_have_catalogues_of_their_own(frozen, run, tmp_path, monkeypatch):
    """Both have the same id."""
    other = tmp_path / "copy"
    assert run("copy", "-q", "-C", frozen.root, "--new", other, "--snapshot", "org/one").code == 0
    with read_only(other):
        here, there = (catalogue_path(Archive.open(one)) for one in (frozen.root, other))
        counts = [
            run("--json", "stats", "-C", one).kinds("stats")[0]["snapshots"]
            for one in (frozen.root, other, frozen.root)
        ]
    assert here != there
    assert counts == [2, 1, 2]
    link = tmp_path / "link"
    link.symlink_to(frozen.root)
    assert catalogue_path(Archive.open(link)) == here
