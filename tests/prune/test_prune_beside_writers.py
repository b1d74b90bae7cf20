"""A writer and prune runs, interleaved: no visible seal ever stands on what is gone.

The writer has stored nothing new: it reuses a pack that is condemned, as one does that chose its
packs before they were. Each schedule runs on a real archive on disk.
"""

from __future__ import annotations

import contextlib
import itertools
import shutil

import pytest
from prunekit import CONTENTS, Turns, Watched, all_restore, manifest_of, seal, store_object

from archiver.archive.archive import Archive
from archiver.archive.prune.pruner import Pruner
from archiver.archive.publish import publish
from archiver.archive.records import Selection
from archiver.errors import ArchiverError, DamageError

NEW = b"what the writer reuses " * 20


@pytest.fixture
def scene(quick):
    """Makes a fresh archive: one snapshot, and a pack that nothing needs, condemned already."""
    pristine = quick / "pristine"
    root = quick / "archive"
    archive = Archive.create(root)
    seal(archive, "org/one", CONTENTS["org/one"])
    store_object(archive, NEW)
    Pruner(archive, grace=0).run()
    shutil.move(root, pristine)

    def fresh():
        root = quick / "archive"
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(pristine, root)
        return root

    return fresh


def contended(step, trace):
    """Only what both of them touch, so that fewer schedules say the same."""

    def filtered(name, *arguments):
        touched = str(arguments[0]) if arguments else ""
        if not touched.startswith(("journal", "parity", "signatures")) and name != "open":
            trace.append(name)
            step()

    return filtered


def begun(root) -> Turns:
    """A writer and a pruner that have not moved yet."""
    archive = Archive.open(root)
    (pack,) = [pack for pack in archive.packs() if _holds(archive, pack)]
    size = archive.pack(pack).index()[0].stored
    manifest = manifest_of("org/two", NEW)
    turns = Turns()

    def write(step):
        mine = Archive(Watched(archive.store, contended(step, [])), archive.info)
        return publish(mine, manifest, lambda _digest: (pack, size), Selection())

    def prune(step):
        mine = Archive(Watched(archive.store, contended(step, turns.traced)), archive.info)
        return Pruner(mine, grace=0).run()

    turns.add("writer", write)
    turns.add("pruner", prune)
    return turns


def _holds(archive, pack) -> bool:
    from archiver.digest import blake3_hex

    return any(entry.blake3 == blake3_hex(NEW) for entry in archive.pack(pack).index())


def judge(root, turns) -> str:
    """Whether the writer sealed or was refused; nothing else may have happened."""
    there = all_restore(root)
    result = turns.results["writer"]
    if isinstance(result, Exception):
        assert isinstance(result, DamageError), repr(result)
        assert "vanished" in result.message or "is in no pack" in result.message
        assert there == {"org/one"}
        return "refused"
    assert there == {"org/one", "org/two"}
    return "sealed"


def lengths(scene) -> tuple[int, int]:
    turns = begun(scene())
    pruner = turns.run("pruner")
    turns.run("writer")
    turns = begun(scene())
    writer = turns.run("writer")
    turns.run("pruner")
    return writer, pruner


SAMPLED = 5
"""One of so many schedules is tried by `make test`; all of them are by `make test-long`."""
EVERY = [SAMPLED, pytest.param(1, marks=pytest.mark.long)]


def every_schedule(scene):
    """One begins, the other goes on, the first ends, then the other: all such schedules."""
    writer, pruner = lengths(scene)
    assert writer > 12
    assert pruner > 20
    for first, second, many, more in (
        ("writer", "pruner", writer, pruner),
        ("pruner", "writer", pruner, writer),
    ):
        for at in range(many + 1):
            for then in range(more + 1):
                yield first, second, at, then


def check(scene, first, second, at, then) -> str:
    root = scene()
    turns = begun(root)
    turns.run(first, at)
    turns.run(second, then)
    turns.run(first)
    turns.run(second)
    pruned = turns.results["pruner"]
    assert not isinstance(pruned, Exception) or isinstance(pruned, ArchiverError), repr(pruned)
    return judge(root, turns)


@pytest.mark.parametrize("every", EVERY)
def test_interleavings_with_three_changes_of_turn(scene, every):
    """Of all such schedules a fifth, in which both pause at each of their steps."""
    schedules = list(every_schedule(scene))
    sample = [one for one in schedules if (one[2] + one[3]) % every == 0]
    seen = {check(scene, *schedule) for schedule in sample}
    assert seen == {"sealed", "refused"}


@pytest.mark.parametrize("every", EVERY)
def test_a_writer_that_begins_once_the_pruner_has_chosen_what_goes(scene, every):
    """The pruner moves on while the writer pauses anywhere, and the writer ends while the pruner pauses.

    Of the places where both pause a fifth, each step of each among them.
    """
    turns = begun(scene())
    pruner = turns.run("pruner")
    turns.run("writer")
    chosen = turns.traced.index("link")
    writer, _ = lengths(scene)
    seen = set()
    pauses = itertools.product(range(1, writer), range(pruner - chosen))
    for at, then in (one for one in pauses if sum(one) % every == 0):
        root = scene()
        turns = begun(root)
        turns.run("pruner", chosen)
        turns.run("writer", at)
        turns.run("pruner", then)
        turns.run("writer")
        turns.run("pruner")
        seen.add(judge(root, turns))
    assert seen == {"sealed", "refused"}


@pytest.mark.parametrize("runs", [1, 2, 3])
def test_a_writer_that_pauses_while_whole_prune_runs_pass(scene, runs):
    writer, _ = lengths(scene)
    seen = set()
    for at in range(writer + 1):
        root = scene()
        turns = begun(root)
        turns.run("writer", at)
        for _ in range(runs):
            # An announcement that is only half written stops the run.
            with contextlib.suppress(DamageError):
                Pruner(Archive.open(root), grace=0).run()
        turns.run("writer")
        seen.add(judge(root, turns))
        turns.run("pruner")
    assert seen == {"sealed", "refused"}
