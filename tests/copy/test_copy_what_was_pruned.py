"""A snapshot that was forgotten and pruned by mistake comes back from the replica, in each of the ways."""

from __future__ import annotations

import pytest
from copykit import SavedArchive, events, ids


@pytest.fixture
def pruned(source, target, copy, run):
    """An archive that forgot a snapshot and deleted it for good, and a replica that has it."""
    assert copy().code == 0
    assert run("forget", "-q", "-C", source.root, "org/one").code == 0
    for _ in range(3):
        assert run("prune", "-q", "-C", source.root, "--grace", "0s").code == 0
    assert not list((source.root / "trash").rglob("*.*"))
    return source


@pytest.fixture
def undo(run, pruned):
    def call(*arguments):
        return run("forget", "--json", "-C", pruned.root, "--undo", *arguments, "org/one")

    return call


def test_copy_says_how_to_take_it_back(pruned, target, run, undo, restored):
    result = run("copy", "-C", target, pruned.root)
    assert "forgotten there on purpose" in result.err
    assert f"'archiver forget -C {pruned.root} --undo org/one@" in result.err
    result = undo()
    assert (result.code, result.kinds("remembered")[0]["gone"]) == (3, True)
    assert f"'archiver copy -C REPLICA {pruned.root}'" in result.err
    assert run("copy", "-q", "-C", target, pruned.root).code == 0
    assert ids(pruned.root) == ids(target)
    restored(pruned.root, "org/one", pruned.model("org/one"))
    assert run("audit", "-q", "--level", "files", "-C", pruned.root).code == 0
    assert run("prune", "-q", "-C", pruned.root).code == 0


def test_an_audit_misses_it_and_repair_brings_it(pruned, target, run, undo, restored):
    assert run("audit", "-q", "-C", pruned.root).code == 0
    assert undo().code == 3
    result = run("audit", "-q", "--json", "-C", pruned.root)
    assert (result.code, result.finding_codes) == (20, {"seal-missing"})
    assert f"'archiver repair -C {pruned.root} --from DIR'" in result.kinds("finding")[0]["hint"]
    result = run("repair", "-C", pruned.root)
    assert "--from" in result.out + result.err
    assert run("repair", "-q", "-C", pruned.root, "--from", target).code == 0
    assert ids(pruned.root) == ids(target)
    restored(pruned.root, "org/one", pruned.model("org/one"))
    assert run("audit", "-q", "--level", "files", "-C", pruned.root).code == 0
    assert run("prune", "-q", "-C", pruned.root).code == 0


def test_it_can_be_imported_again(pruned, run, undo, restored):
    assert undo().code == 3
    model = pruned.model("org/one")
    command = ["import", "-q", "-C", pruned.root, model, "--as", "org/one", "--min-free", "0"]
    assert run(*command).code == 0
    restored(pruned.root, "org/one", model)
    assert run("audit", "-q", "-C", pruned.root).code == 0
    assert run("prune", "-q", "-C", pruned.root).code == 0


def test_a_dry_run_tells_nothing_to_the_journal(pruned, undo):
    before = len(events(pruned.root))
    result = undo("--dry-run")
    assert (result.code, result.kinds("remembered")[0]["gone"]) == (3, True)
    assert len(events(pruned.root)) == before


def test_what_was_never_forgotten_is_refused(pruned, run):
    for reference in ("org/two", "org/none", "org/one@ffff"):
        assert run("forget", "-q", "-C", pruned.root, "--undo", reference).code == 2
    assert run("forget", "-q", "-C", pruned.root, "--undo", "ORG/One").code == 3
    assert run("forget", "-q", "-C", pruned.root, "--undo", "org/one").code == 2


def test_what_is_in_the_trash_comes_back_alone(source, run):
    """Another revision that is gone for good is not wanted again for that."""
    archive = SavedArchive(source.root, source.models)
    assert run("forget", "-q", "-C", archive.root, "org/one").code == 0
    for _ in range(3):
        assert run("prune", "-q", "-C", archive.root, "--grace", "0s").code == 0
    model = archive.root.parent / "again"
    model.mkdir()
    (model / "new.txt").write_text("another revision")
    command = ["import", "-q", "-C", archive.root, model, "--as", "org/one", "--min-free", "0"]
    assert run(*command).code == 0
    assert run("forget", "-q", "-C", archive.root, "org/one").code == 0
    result = run("forget", "--json", "-C", archive.root, "--undo", "org/one")
    assert (result.code, [one["gone"] for one in result.kinds("remembered")]) == (0, [False])
    assert run("audit", "-q", "-C", archive.root).code == 0


def test_it_can_be_given_up_again(pruned, run, undo):
    """Nobody has it any more: the word that it is wanted is taken back, and prune goes on."""
    result = undo()
    title = result.kinds("remembered")[0]["revision"][:12]
    assert f"'archiver forget -C {pruned.root} org/one@{title}'" in result.err
    refused = run("prune", "--json", "-q", "-C", pruned.root)
    assert refused.code == 20
    assert f"'archiver forget -C {pruned.root} org/one@{title}'" in refused.out
    audit = run("audit", "-q", "--json", "-C", pruned.root)
    assert (audit.code, audit.finding_codes) == (20, {"seal-missing"})
    assert (
        f"'archiver forget -C {pruned.root} org/one@{title}'" in audit.kinds("finding")[0]["hint"]
    )
    before = len(events(pruned.root))
    foretold = run("forget", "--json", "-q", "-C", pruned.root, "--dry-run", "org/one")
    assert (foretold.code, foretold.kinds("forgotten")[0]["gone"]) == (0, True)
    assert len(events(pruned.root)) == before
    done = run("forget", "--json", "-q", "-C", pruned.root, f"org/one@{title}")
    assert (done.code, done.kinds("forgotten")[0]["gone"]) == (0, True)
    assert run("prune", "-q", "-C", pruned.root).code == 0
    assert run("audit", "-q", "-C", pruned.root).code == 0
    assert run("forget", "-q", "-C", pruned.root, "org/one").code == 2
    assert undo().code == 3


def test_a_seal_that_was_lost_is_not_given_up_so(source, run):
    archive = SavedArchive(source.root, source.models)
    next((archive.root / "snapshots/org/one").iterdir()).unlink()
    assert run("forget", "-q", "-C", archive.root, "org/one").code == 2
    assert run("prune", "-q", "-C", archive.root).code == 20
