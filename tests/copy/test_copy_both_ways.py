"""Two copies of an archive, of which each forgets on its own: neither is told by the other what it has."""

from __future__ import annotations

import json

import pytest
from copykit import SavedArchive, ids

from archiver.archive.archive import Archive
from archiver.archive.places import forgotten


@pytest.fixture
def both(source, target, copy):
    """An archive and its replica."""
    assert copy().code == 0
    return source, SavedArchive(target, source.models)


@pytest.fixture
def pruned(run):
    """Prune without a grace; how many files took which step."""

    def call(root):
        result = run("prune", "-q", "--json", "-C", root, "--grace", "0s")
        assert result.code == 0, result.out
        (report,) = result.kinds("prune")
        return {step: report[step]["files"] for step in ("condemned", "swept", "deleted")}

    return call


def test_a_condemnation_counts_only_where_it_was_told(both, run, copy, pruned):
    one, other = both
    for archive in both:
        assert run("forget", "-q", "-C", archive.root, "org/one").code == 0
    assert pruned(one.root)["condemned"] == 2
    assert copy(of=one, to=other.root).code == 0
    assert pruned(other.root) == {"condemned": 2, "swept": 0, "deleted": 1}


def test_what_is_forgotten_here_stays_forgotten_and_what_is_there_stays_known(both, run, copy):
    one, other = both
    (gone,) = (other.root / "snapshots/org/one").iterdir()
    assert run("forget", "-q", "-C", one.root, "org/one").code == 0
    for _ in range(3):
        assert copy(of=one, to=other.root).code == 0
        assert run("prune", "-q", "-C", other.root).code == 0
        assert copy(of=other, to=one.root).code == 0
        for archive in both:
            assert run("audit", "-q", "-C", archive.root).code == 0
        assert (len(ids(one.root)), len(ids(other.root))) == (1, 2)
    gone.unlink()
    result = run("audit", "-q", "--json", "-C", other.root)
    assert "seal-missing" in result.finding_codes, "its journal was told that the seal is wanted"


def test_what_the_other_has_again_is_not_wanted_here(both, run, copy):
    one, other = both
    for archive in both:
        assert run("forget", "-q", "-C", archive.root, "org/one").code == 0
    assert copy(of=one, to=other.root).code == 0
    assert run("forget", "-q", "-C", one.root, "--undo", "org/one").code == 0
    for _ in range(2):
        assert copy(of=one, to=other.root).code == 0
        assert run("audit", "-q", "-C", other.root).code == 0
        assert len(ids(other.root)) == 1


def test_sealed_again_within_a_second_is_not_forgotten(source, run, one_second):
    """Then it is the same seal, and it is as if it had never gone."""
    model = source.model("org/one")
    words = ("import", "-q", "--json", "-C", source.root, model, "--as", "org/again")
    first = run(*words)
    assert run("forget", "-q", "-C", source.root, "org/again").code == 0
    second = run(*words)
    one, same = (json.loads(done.out.splitlines()[-1])["snapshot"] for done in (first, second))
    assert one == same
    assert one not in forgotten(Archive.open(source.root).events())
    assert run("audit", "-q", "-C", source.root).code == 0
