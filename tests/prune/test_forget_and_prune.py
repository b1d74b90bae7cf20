"""Forgetting, remembering and pruning through the command line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from kit.cli import invoke
from kit.journal import raw_event
from prunekit import CONTENTS, all_restore, entry_of, seal, store_object

from archiver.archive import layout
from archiver.archive.archive import Archive
from archiver.archive.condemned import condemned
from archiver.archive.events import TOOL
from archiver.archive.places import own_place
from archiver.archive.publish import Intent, announced, announced_needs, closure_names
from archiver.archive.records import canonical
from archiver.errors import DamageError
from archiver.storage.locks import RunLock


@pytest.fixture
def prune(run):
    """Prune without a grace; the counts of files."""

    def call(*arguments):
        code, records = run("prune", "--grace", "0d", *arguments)
        assert code == 0, records
        (report,) = [record for record in records if record["kind"] == "prune"]
        steps = ("rescued", "deleted", "swept", "condemned")
        return {step: report[step]["files"] for step in steps if report[step]["files"]}

    return call


def names(archive, folder):
    return list(archive.store.list(folder))


def told(archive, name):
    return [event for _, event in archive.events() if event.event == name]


def the(archive, repository):
    (found,) = archive.snapshots_of(repository)
    return found


# ---- forget


def test_what_is_forgotten_is_not_there_and_comes_back(run, root, archive):
    before = the(archive, "org/one")
    assert run("forget", "org/one")[0] == 0
    assert all_restore(root) == {"org/two"}
    assert run("restore", "org/one", str(root.parent / "out"))[0] == 2
    assert told(archive, "forgotten")[0].fields == {"snapshots": [before.id]}
    code, records = run("forget", "--undo", "ORG/one")
    assert (code, records[0]["kind"]) == (0, "remembered")
    assert the(archive, "org/one") == before
    assert all_restore(root) == set(CONTENTS)
    assert names(archive, "trash") == []
    assert told(archive, "remembered")[0].fields == {"snapshots": [before.id]}
    assert run("audit")[0] == 0


def test_one_of_several_must_be_named(run, root, archive):
    seal(archive, "org/one", b"another revision", "cd" * 20)
    assert run("forget", "org/one")[0] == 2
    assert len(list(archive.snapshots())) == 3
    assert run("forget", "org/one@cd")[0] == 0
    assert the(archive, "org/one").seal.revision == "ab" * 20
    assert run("forget", "--undo", "org/one@cd")[0] == 0
    assert run("forget", "--all", "org/one")[0] == 0
    assert all_restore(root) == {"org/two"}
    assert run("forget", "--undo", "org/one")[0] == 2
    assert run("forget", "--undo", "--all", "org/one")[0] == 0
    assert len(list(archive.snapshots())) == 3


@pytest.mark.parametrize("words", [("org/none",), ("org/one@cd",), ("--undo", "org/one")])
def test_what_is_not_there_is_not_forgotten(run, archive, words):
    assert run("forget", *words)[0] == 2
    assert len(list(archive.snapshots())) == 2
    assert told(archive, "forgotten") == []


def test_a_dry_run_changes_nothing(run, root, archive):
    before = names(archive, "")
    assert run("forget", "-n", "org/one")[0] == 0
    assert run("prune", "-n")[0] == 0
    assert [name for name in names(archive, "") if "catalogue" not in name] == before


def test_stats_and_the_next_mirror_know_what_is_forgotten(run, archive, tmp_path):
    assert run("stats")[1][0]["snapshots"] == 2
    run("forget", "org/one")
    assert run("stats")[1][0]["snapshots"] == 1
    assert run("stats")[1][0]["repositories"] == 1


# ---- prune


def test_nothing_is_pruned_of_a_whole_archive(prune, archive):
    before = names(archive, "packs") + names(archive, "journal")
    assert prune() == {}
    assert names(archive, "packs") + names(archive, "journal") == before


def test_forgotten_then_condemned_then_swept_then_gone(run, prune, root, archive):
    run("forget", "org/one")
    assert prune("-n") == {"deleted": 1, "condemned": 2}
    assert prune() == {"deleted": 1, "condemned": 2}
    assert len(names(archive, "packs")) == 2
    assert prune() == {"swept": 2}
    assert len(names(archive, "packs")) == len(names(archive, "manifests")) == 1
    assert prune() == {"deleted": 2}
    assert names(archive, "trash") == []
    assert prune() == {}
    assert all_restore(root) == {"org/two"}
    assert [event.fields["to"] for event in told(archive, "pruned")] == ["", "trash", ""]
    assert run("audit")[0] == 0


def test_within_the_grace_nothing_moves(run, archive):
    run("forget", "org/one")
    for _ in range(3):
        assert run("prune", "--grace", "1d")[0] == 0
    assert len(names(archive, "packs")) == 2
    assert len(names(archive, "trash")) == 1
    assert len(told(archive, "condemned")) == 1
    assert told(archive, "pruned") == []


def test_what_was_swept_comes_back_with_its_seal(run, prune, root, archive):
    run("forget", "org/one")
    run("prune", "--grace", "1d")
    (seal_in_trash,) = names(archive, "trash")
    # Only what was condemned goes, so that the seal is still in the trash.
    archive.store.move(seal_in_trash, "quarantine/keep")
    prune()
    archive.store.move("quarantine/keep", seal_in_trash)
    assert len(names(archive, "packs")) == 1
    assert run("forget", "--undo", "org/one")[0] == 0
    assert all_restore(root) == set(CONTENTS)
    assert prune() == {}


def test_what_is_needed_again_is_spared_and_gets_a_new_grace(run, prune, root, archive):
    run("forget", "org/one")
    run("prune", "--grace", "1d")
    assert len(condemned(archive.events(), own_place(archive))) == 2
    run("forget", "--undo", "org/one")
    assert condemned(archive.events(), own_place(archive)) == {}
    assert prune() == {}
    assert all_restore(root) == set(CONTENTS)


def test_what_lies_in_the_trash_and_is_needed_goes_back(run, prune, root, archive):
    needs = closure_names(the(archive, "org/one").seal)
    for name in needs:
        archive.store.move(
            name, layout.quarantined_name(layout.TRASH, "2020-01-01T00:00:00Z", name)
        )
    assert prune() == {"rescued": 2}
    assert all_restore(root) == set(CONTENTS)
    assert names(archive, "trash") == []


def test_parity_and_signatures_follow(run, prune, archive):
    one, two = the(archive, "org/one"), the(archive, "org/two")
    kept = []
    for snapshot in (one, two):
        pack, manifest = snapshot.seal.packs[0][0], snapshot.seal.manifest.blake3
        listed = [
            layout.parity_name(pack),
            layout.parity_name(snapshot.id),
            layout.signature_name(snapshot.id, "ab" * 8),
            layout.signature_name(manifest, "ab" * 8),
        ]
        for name in listed:
            archive.store.put_new(name, b"of no matter")
        kept = sorted(listed)
    run("forget", "org/one")
    for _ in range(4):
        prune()
    assert sorted(names(archive, "parity") + names(archive, "signatures")) == kept
    assert names(archive, "trash") == []


def test_an_unsealed_pack_goes_and_a_shared_one_stays(prune, root, archive):
    seal(archive, "org/three", CONTENTS["org/one"])
    store_object(archive, b"of an interrupted run")
    for _ in range(3):
        prune()
    assert all_restore(root) == {*CONTENTS, "org/three"}


def test_the_only_good_copy_stays(run, root, archive):
    """A pack that no seal names stands in for a damaged one."""
    pack = the(archive, "org/one").seal.packs[0][0]
    path = root / layout.pack_name(pack)
    data = bytearray(path.read_bytes())
    plain = CONTENTS["org/one"]
    objects = store_object(archive, plain)
    if objects.published[0].pack == pack:  # the same bytes would be the same pack
        import numpy as np

        from archiver.archive.packs.writer import PackWriter
        from archiver.codec.segment import Effort, encode

        writer = PackWriter(archive.store, archive.info)
        for each in (plain, b"and more"):
            writer.append(encode(np.frombuffer(bytearray(each), np.uint8), None, Effort.FAST))
        spare = writer.finish()[0]
    assert run("prune", "--grace", "0d")[0] == 0
    at = archive.pack(pack).index()[0]
    data[at.offset + at.stored - 6] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)
    code, records = run("prune", "--grace", "0d")
    assert code == 20
    assert [record["file"] for record in records if record.get("step") == "kept"] == [
        layout.pack_name(spare)
    ]
    assert archive.store.stat(layout.pack_name(spare)) is not None


# ---- refusals


def refused(run, archive, code, *commands):
    before = names(archive, "packs") + names(archive, "manifests") + names(archive, "trash")
    for words in commands or (("prune", "--grace", "0d"),):
        found, records = run(*words)
        assert found == code, records
        assert records[-1]["hint"]
    now = names(archive, "packs") + names(archive, "manifests") + names(archive, "trash")
    assert now == before


BOTH = (("prune", "--grace", "0d"), ("forget", "org/two"))


def test_append_only(run, archive):
    archive.record(raw_event("policy", "2026-01-01T00:00:00Z", TOOL, detail={"append_only": True}))
    archive.record(raw_event("policy", "2026-01-02T00:00:00Z", TOOL, detail={"append_only": False}))
    refused(run, archive, 24, *BOTH)


def test_a_policy_that_nobody_understands(run, archive):
    archive.record(
        raw_event("policy", "2026-01-01T00:00:00Z", TOOL, detail={"append_only": "maybe"})
    )
    refused(run, archive, 24, *BOTH)


@pytest.mark.parametrize(
    ("kind", "detail"),
    [("sealed", {"snapshot": "ab" * 32, "vouched": 7}), ("remembered", {"snapshots": "all"})],
)
def test_an_event_of_what_is_needed_that_nobody_understands(run, archive, kind, detail):
    archive.record(raw_event(kind, "2026-01-01T00:00:00Z", TOOL, detail=detail))
    refused(run, archive, 24, *BOTH)


@pytest.mark.parametrize("harm", ["damaged", "lost"])
def test_a_journal_that_is_not_whole(run, root, archive, harm):
    run("forget", "org/one")
    path = root / archive.journal.names()[0]
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1]) if harm == "damaged" else path.unlink()
    refused(run, archive, 20, *BOTH)


def test_a_damaged_seal_says_not_what_it_needs(run, root, archive):
    run("forget", "org/one")
    path = next((root / "snapshots").rglob("*.json"))
    path.chmod(0o644)
    path.write_bytes(b"{}")
    refused(run, archive, 20)


def test_a_lost_seal_is_no_forgotten_one(run, root, archive):
    next((root / "snapshots/org/two").iterdir()).unlink()
    refused(run, archive, 20)


@pytest.mark.parametrize("folder", ["manifests", "packs"])
def test_what_a_seal_stands_on_must_be_there(run, root, archive, folder):
    next(path for path in (root / folder).rglob("*") if path.is_file()).unlink()
    refused(run, archive, 20)


@pytest.mark.parametrize("data", [b"", b"{", canonical(Intent(("packs/x",), "elsewhere"))])
def test_an_intent_of_another_machine(run, root, archive, data, monkeypatch):
    for module in ("local", "staging"):
        monkeypatch.setattr(f"archiver.storage.{module}.is_of_one_machine", lambda _root: False)
    run("forget", "org/one")
    left = root / "tmp/intent-elsewhere-1-ab"
    left.write_bytes(data)
    refused(run, archive, 20)
    os.utime(left, (0, left.stat().st_mtime - 8 * 86400))
    assert run("prune")[0] == 0
    assert not left.exists()


@pytest.mark.parametrize("data", [b"", b"{", canonical(Intent(("packs/x",), "elsewhere"))])
def test_an_intent_that_a_dead_container_left(run, root, archive, data):
    """Nobody holds its lock, and nobody else can hold one here."""
    run("forget", "org/one")
    left = root / "tmp/intent-elsewhere-1-ab"
    left.write_bytes(data)
    assert run("prune")[0] == 0
    assert not left.exists()


def test_an_intent_of_a_living_container_is_kept_to(prune, archive, monkeypatch):
    objects = store_object(archive, b"about to be sealed")
    monkeypatch.setattr("socket.gethostname", lambda: "another")
    with announced(archive.store, (layout.pack_name(objects.published[0].pack),)):
        monkeypatch.undo()
        assert prune() == {}
    assert prune() == {"condemned": 1}


def test_another_run_that_deletes(run, archive):
    with RunLock(archive.store.folder.scratch("aside.lock"), "a test"):
        refused(run, archive, 11, *BOTH, ("forget", "--undo", "org/one"))


# ---- intents


def test_an_intent_is_there_while_its_block_runs(archive):
    with announced(archive.store, ("packs/a", "packs/b")):
        (needs,) = announced_needs(archive.store).values()
        assert needs == {"packs/a", "packs/b"}
    assert announced_needs(archive.store) == {}


def test_what_a_writer_announces_is_not_condemned(prune, archive):
    objects = store_object(archive, b"about to be sealed")
    with announced(archive.store, (layout.pack_name(objects.published[0].pack),)):
        assert prune() == {}
    assert prune() == {"condemned": 1}


def test_an_intent_goes_with_a_failure(archive):
    with pytest.raises(DamageError), announced(archive.store, ("packs/a",)):
        raise DamageError("it failed")
    assert names(archive, "tmp") == []


# ---- writers keep off what is condemned


def test_a_condemned_pack_is_not_built_upon(run, tmp_path, root, archive):
    """What only a condemned pack holds is stored once more."""
    run("forget", "org/one")
    run("prune")
    told = condemned(archive.events(), own_place(archive))
    (gone,) = [name for name in told if layout.pack_of(name)]
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "again.bin").write_bytes(CONTENTS["org/one"])
    (folder / "more.bin").write_bytes(b"so that the pack is another one")
    words = ("import", str(folder), "--as", "org/again", "--min-free", "0B")
    assert run(*words)[0] == 0
    packs = {layout.pack_name(pack) for pack, _ in the(archive, "org/again").seal.packs}
    assert gone not in packs
    (entry, _) = Archive.open(root).manifest(the(archive, "org/again").seal).files
    assert entry.blake3 == entry_of(CONTENTS["org/one"]).blake3


# ---- a dry run


@pytest.mark.parametrize("grace", ["0s", "14d"])
def test_a_dry_run_lists_what_the_run_does(run, root, tmp_path, grace):
    """Also what follows a forgotten seal: its signature and the sidecars of its packs."""

    def planned_or_done(*arguments):
        code, records = run("prune", "--grace", grace, *arguments)
        assert code == 0
        (report,) = (record for record in records if record["kind"] == "prune")
        del report["dry_run"]
        files = [(record["step"], record["file"]) for record in records if record["kind"] == "file"]
        return sorted(files), report

    assert invoke("keys", "new", "-q", tmp_path / "own", "--no-password") == 0
    assert invoke("parity", "add", "-q", "-C", root) == 0
    assert run("sign", "--key", tmp_path / "own.key")[0] == 0
    assert run("forget", "org/one")[0] == 0
    listed = set()
    for _ in range(4):
        plan = planned_or_done("--dry-run")
        assert plan == planned_or_done()
        listed |= {(step, Path(name).suffix) for step, name in plan[0]}
    assert listed >= {("swept", ".par"), ("swept", ".minisig"), ("condemned", ".pack")}
