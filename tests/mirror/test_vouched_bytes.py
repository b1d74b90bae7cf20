"""Bytes without upstream's digest never stand in for bytes with it: a hub's cache that keeps no digests."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import subprocess
import sys
from typing import TYPE_CHECKING

import msgspec
import pytest
from kit.archive import seals
from kit.journal import raw_event
from kit.repository import REPO, WEIGHTS, files_below, model

from archiver.archive.archive import Archive
from archiver.archive.events import Sighted, new_event
from archiver.archive.packs.index import ObjectIndex
from archiver.archive.publish import publish
from archiver.archive.records import Selection
from archiver.archive.vouching import Vouch, Voucher
from archiver.digest import git_blob_hasher
from archiver.text import utc_after

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MISMATCH = 22
LFS = {WEIGHTS, "tokenizer.json"}


def changed(data: bytes) -> bytes:
    """Three bytes of a shard are others."""
    return data[:9000] + bytes(one ^ 0x55 for one in data[9000:9003]) + data[9003:]


@pytest.fixture
def commit(hub) -> str:
    """The hub holds org/model at this commit."""
    return hub.create(REPO, model())


@pytest.fixture
def served(commit) -> dict[str, bytes]:
    """The files of the commit."""
    assert commit
    return model()


@pytest.fixture
def cache(tmp_path, served, commit) -> Callable[..., Path]:
    """A cache of the commit with regular files in snapshots/ and no trees/, as without symlinks."""
    count = 0

    def make(**others: bytes) -> Path:
        nonlocal count
        count += 1
        entry = tmp_path / f"cache{count}" / "models--org--model"
        folder = entry / "snapshots" / commit
        for path, data in {**served, **others}.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(data)
        (entry / "refs").mkdir()
        (entry / "refs" / "main").write_text(commit)
        return entry

    return make


def git_oid(data: bytes) -> str:
    hasher = git_blob_hasher(len(data))
    hasher.update(data)
    return hasher.hexdigest()


def rows(result, kind):
    return [row for row in result.records if row["kind"] == kind]


def test_a_changed_cache_is_refused_beside_a_mirrored_snapshot(
    cli, archive, mirror, cache, served, restores
):
    """Recipe: mirror; a cache of the same commit, three bytes of a shard changed; import."""
    assert mirror().code == 0
    before = seals(archive)
    bad = cache(**{WEIGHTS: changed(served[WEIGHTS])})
    refused = cli("import", "-C", archive, bad)
    assert refused.code == MISMATCH, refused.out + refused.err
    assert WEIGHTS in refused.err
    assert "--as" in refused.err
    assert seals(archive) == before
    restores(archive, served)
    assert "held already" in mirror().out
    assert cli("audit", "-C", archive).code == 0


def test_a_mirror_heals_an_archive_that_took_a_changed_cache_in_first(
    cli, archive, mirror, cache, served, restores, tmp_path, commit, hub
):
    bad = cache(**{WEIGHTS: changed(served[WEIGHTS])})
    taken = cli("import", "-C", archive, bad, "--json")
    assert taken.code == 0
    (report,) = rows(taken, "mirror")
    assert (report["vouched"]["nobody"], report["vouched"]["least"]) == (len(served), "nobody")
    unvouched = report["snapshot"]
    out = tmp_path / "unvouched"
    told = cli("restore", "-C", archive, REPO, out)
    assert told.code == 0
    assert "every byte checked" not in told.out
    assert "nobody" in told.out
    hub.requests.clear()
    healed = mirror("--json")
    assert healed.code == 0
    # All but the shard was compared where it lay.
    assert {one.file for one in hub.requests.bodies()} == {WEIGHTS}
    (report,) = rows(healed, "mirror")
    assert report["outcome"] == "sealed"
    assert report["vouched"]["upstream"] == len(served)
    restores(archive, served)
    restores(archive, served, f"{REPO}@{commit[:12]}")
    listed = rows(cli("list", "-C", archive, "--json"), "snapshot")
    assert [(one["snapshot"] == unvouched, one["default"]) for one in listed] == [
        (True, False),
        (False, True),
    ]
    assert "held already" in mirror().out
    audit = cli("audit", "-C", archive, "--json")
    (finding,) = rows(audit, "finding")
    assert (audit.code, finding["code"], finding["remark"]) == (0, "seal-outranked", True)
    assert finding["path"] == WEIGHTS
    assert report["snapshot"][:12] in finding["message"]
    assert unvouched[:12] in finding["message"]
    assert f"'archiver forget -C {archive} {REPO}@{unvouched[:12]}'" in finding["hint"]
    assert cli("forget", "-C", archive, f"{REPO}@{unvouched[:16]}").code == 0
    assert cli("audit", "-C", archive).code == 0
    restores(archive, served)


def test_a_good_cache_without_a_record_adds_nothing_to_a_mirrored_snapshot(
    cli, archive, mirror, cache, served, restores
):
    assert mirror().code == 0
    before = seals(archive)
    held = cli("import", "-C", archive, cache(), "--json")
    assert held.code == 0, held.err
    (report,) = rows(held, "mirror")
    assert report["outcome"] == "held"
    assert report["vouched"]["least"] == "upstream"
    assert seals(archive) == before
    restores(archive, served)


def test_two_caches_that_contradict_each_other_wait_for_upstream(
    cli, archive, mirror, cache, served, restores, commit
):
    first = rows(cli("import", "-C", archive, cache(**{"README.md": b"one"}), "--json"), "mirror")
    refused = cli("import", "-C", archive, cache(**{"README.md": b"two"}))
    assert refused.code == MISMATCH
    assert "README.md" in refused.err
    assert f"'archiver mirror -C {archive} {REPO}@{commit[:12]}'" in refused.err
    assert f"'archiver forget -C {archive} {REPO}@{first[0]['snapshot'][:12]}'" in refused.err
    assert len(seals(archive)) == 1
    assert mirror().code == 0
    restores(archive, served)


def test_what_was_imported_is_raised_without_fetching_also_by_a_mirror_of_a_part(
    cli, archive, mirror, cache, served, restores, hub
):
    assert cli("import", "-C", archive, cache()).code == 0
    hub.requests.clear()
    raised = mirror("--include", "*.json", "--json")
    assert raised.code == 0
    assert not hub.requests.bodies()
    (report,) = rows(raised, "mirror")
    assert (report["outcome"], report["raised"]) == ("sealed", len(served))
    (shown,) = rows(cli("show", "-C", archive, REPO, "--json"), "snapshot")
    assert shown["selection"] == {"include": [], "exclude": []}
    assert shown["vouched"]["upstream"] == len(served)
    assert shown["vouched"]["git_sha1"] == 5
    assert shown["unvouched"] == []
    told = cli("restore", "-C", archive, REPO, archive.parent / "out")
    assert "every byte checked against upstream's digests" in told.out
    restores(archive, served)
    assert "held already" in mirror("--include", "*.json").out
    assert "held already" in mirror().out


def test_a_seal_that_nobody_vouched_for_does_not_stand_in_for_a_lost_or_damaged_one(
    cli, archive, mirror, cache, served, tmp_path, commit
):
    assert cli("import", "-C", archive, cache()).code == 0
    opened = Archive.open(archive)
    (taken,) = opened.snapshots()
    seals(archive)[0].unlink()
    # As if the cache had told that these are all files: another whole seal did stand in for any.
    opened.publish_seal(msgspec.structs.replace(taken.seal, selection=Selection()))
    (unvouched,) = seals(archive)
    assert mirror().code == 0
    (vouched,) = set(seals(archive)) - {unvouched}
    good = vouched.read_bytes()
    vouched.chmod(0o644)
    vouched.write_bytes(good.replace(b"snapshot", b"snapshoT"))
    lost = cli("restore", "-C", archive, f"{REPO}@{commit}", tmp_path / "vouched")
    assert_stands_without_a_seal(lost)
    assert files_below(tmp_path / "vouched") == served
    digest = unvouched.name.split(".")[1]
    assert cli("restore", "-C", archive, f"{REPO}@{digest[:12]}", tmp_path / "yes").code == 0
    vouched.unlink()
    audit = cli("audit", "-C", archive, "--level", "structure", "--json")
    assert [row["code"] for row in rows(audit, "finding") if not row["remark"]] == ["seal-missing"]
    assert cli("prune", "-C", archive).code == 20


def assert_stands_without_a_seal(restored):
    """Its manifest is there, and worth more than the seal that is whole."""
    assert (restored.code, "without a seal" in restored.out + restored.err) == (0, True)


def test_a_damaged_seal_hides_a_snapshot_only_if_it_can_have_been_worth_more(
    cli, archive, mirror, cache, served, restores, tmp_path, commit
):
    assert cli("import", "-C", archive, cache()).code == 0
    opened = Archive.open(archive)
    (taken,) = opened.snapshots()
    (old,) = seals(archive)
    # As if the cache had told that these are all files.
    opened.publish_seal(msgspec.structs.replace(taken.seal, selection=Selection()))
    old.unlink()
    (unvouched,) = seals(archive)
    never = unvouched.with_name(f"{commit}.{'ab' * 32}.json")
    never.write_bytes(b"never a seal")
    restores(archive, served, f"{REPO}@{commit}")
    # An event that cannot be understood may have told of it: as by a newer writer.
    puzzle = {"snapshot": "ab" * 32, "vouched": 7}
    digest = opened.record(raw_event("sealed", "2026-01-01T00:00:00Z", detail=puzzle))
    assert cli("restore", "-C", archive, f"{REPO}@{commit}", tmp_path / "puzzle").code == 20
    next((archive / "journal").rglob(f"*.{digest}.json")).unlink()
    never.unlink()
    assert mirror().code == 0
    (vouched,) = set(seals(archive)) - {unvouched}
    vouched.chmod(0o644)
    vouched.write_bytes(b"damaged")
    assert_stands_without_a_seal(cli("restore", "-C", archive, REPO, tmp_path / "damaged1"))
    assert files_below(tmp_path / "damaged1") == served
    digest = vouched.name.split(".")[1]
    events = [(one, json.loads(one.read_bytes())) for one in (archive / "journal").rglob("*.json")]
    (told,) = [one for one, event in events if event["detail"].get("snapshot") == digest]
    told.chmod(0o644)
    told.write_bytes(b"damaged too")
    assert_stands_without_a_seal(cli("restore", "-C", archive, REPO, tmp_path / "damaged2"))
    assert files_below(tmp_path / "damaged2") == served
    assert cli("audit", "-C", archive, "--json").code == 20  # and its event names the damaged one
    told.unlink()
    assert_stands_without_a_seal(cli("restore", "-C", archive, REPO, tmp_path / "damaged3"))
    assert files_below(tmp_path / "damaged3") == served


@pytest.fixture
def merged(cli, archive, mirror, cache, served, tmp_path):
    """An archive with the mirrored snapshot and a contradicting one, as a copy brings it together."""
    assert mirror().code == 0
    other = tmp_path / "other"
    assert cli("init", "-C", other).code == 0
    bad = cache(**{WEIGHTS: changed(served[WEIGHTS])})
    assert cli("import", "-C", other, bad).code == 0
    assert cli("copy", "-C", other, archive).code == 0
    (good,) = [one for one in map(sealed_in, seals(archive)) if one[1][0][1] == "upstream"]
    (worse,) = [one for one in map(sealed_in, seals(archive)) if one[1][0][1] == "nobody"]
    return good[0], worse[0]


def sealed_in(path):
    """A seal's id and its runs of vouchers."""
    return path.name.split(".")[1], json.loads(path.read_bytes())["vouched"]


def last_receipt(archive: Path) -> str:
    """The snapshot of the newest receipt of a smoke test."""
    events = [event for _, event in Archive.open(archive).events() if event.event == "smoke-tested"]
    return events[-1].snapshot


def decoded(archive: Path, reference: str, out: Path) -> dict[str, bytes]:
    """What the archive's own decoder restores."""
    command = [sys.executable, "-I", archive / "decode.py", "restore", reference, out]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return files_below(out)


def test_merged_archives_restore_what_upstream_vouched_for(
    cli, archive, merged, served, restores, tmp_path, commit
):
    good, worse = merged
    restores(archive, served)
    other = {**served, WEIGHTS: changed(served[WEIGHTS])}
    restores(archive, other, f"{REPO}@{worse[:10]}")
    restores(archive, other, worse[:16])
    for number, (reference, files) in enumerate(
        [
            (REPO, served),
            (f"{REPO}@{commit[:9]}", served),
            (f"{REPO}@{worse[:10]}", other),
            (worse, other),
            (good[:20], served),
        ]
    ):
        assert decoded(archive, reference, tmp_path / f"decoded{number}") == files
    (status,) = rows(cli("status", "-C", archive, "--json"), "status")
    assert status["vouched"] == {"upstream": 1, "nobody": 1}
    listed = rows(cli("list", "-C", archive, "--json"), "snapshot")
    assert {one["snapshot"]: one["default"] for one in listed} == {good: True, worse: False}
    assert [one["sealed"] for one in listed] == sorted(one["sealed"] for one in listed)
    audit = cli("audit", "-C", archive, "--json")
    (finding,) = [row for row in rows(audit, "finding") if row["code"] != "foreign-document"]
    assert (audit.code, finding["code"], finding["path"]) == (0, "seal-outranked", WEIGHTS)
    assert cli("policy", "set", "-C", archive, "--append-only").code == 0
    kept = cli("audit", "-C", archive)
    assert (kept.code, "append-only" in kept.err, "forget -C" in kept.err) == (0, True, False)


def test_two_contents_of_one_commit_ring_until_upstream_vouches_for_one(
    cli, archive, mirror, cache, served, restores, tmp_path
):
    """Two caches, merged by a copy: neither outranks the other, and a mirror settles it."""
    assert cli("import", "-C", archive, cache(**{"README.md": b"one"})).code == 0
    other = tmp_path / "other"
    assert cli("init", "-C", other).code == 0
    assert cli("import", "-C", other, cache(**{"README.md": b"two"})).code == 0
    copied = cli("copy", "-C", other, archive, "--json")
    (told,) = rows(copied, "copy")
    (finding,) = told["contradictions"]
    assert (copied.code, finding["code"]) == (0, "seals-contradict")
    assert "seals-contradict" in copied.err
    audit = cli("audit", "-C", archive, "--json")
    (finding,) = [row for row in rows(audit, "finding") if not row["remark"]]
    assert (audit.code, finding["code"], finding["path"]) == (20, "seals-contradict", "README.md")
    status = cli("status", "-C", archive, "--json")
    short = {one["what"]: one for one in rows(status, "shortfall")}
    assert (status.code, "mirror" in short["contradiction"]["next"]) == (24, True)
    assert mirror().code == 0
    restores(archive, served)
    audit = cli("audit", "-C", archive, "--json")
    found = [row["code"] for row in rows(audit, "finding") if row["code"] != "foreign-document"]
    assert (audit.code, found) == (0, ["seal-outranked"] * 2)
    assert "contradiction" not in cli("status", "-C", archive, "--json").out
    again = cli("copy", "-C", archive, other)
    assert (again.code, again.err.count("seal-outranked")) == (0, 2)


def test_a_file_whose_better_voucher_is_in_the_seal_that_comes_second_is_not_settled(
    cli, archive, mirror, cache, served, restores, tmp_path, commit
):
    """Upstream vouched for a part; a whole that has that part, and another whole by a cache's record."""
    assert mirror("--include", "*.json").code == 0
    (part,) = seals(archive)
    assert cli("import", "-C", archive, cache()).code == 0
    assert cli("forget", "-C", archive, part.name.split(".")[1][:16]).code == 0
    other = tmp_path / "other"
    assert cli("init", "-C", other).code == 0
    entry = cache(**{"config.json": served["config.json"] + b" "})
    folder = entry / "snapshots" / commit
    (entry / "blobs").mkdir()
    for path in [one for one in folder.rglob("*") if one.is_file()]:
        data = path.read_bytes()
        name = hashlib.sha256(data).hexdigest() if path.name == WEIGHTS else git_oid(data)
        (entry / "blobs" / name).write_bytes(data)
        path.unlink()
        path.symlink_to(entry / "blobs" / name)
    assert cli("import", "-C", other, entry).code == 0
    assert cli("copy", "-C", other, archive).code == 0
    audit = cli("audit", "-C", archive, "--json")
    (finding,) = [row for row in rows(audit, "finding") if not row["remark"]]
    assert (audit.code, finding["code"], finding["path"]) == (20, "seals-contradict", "config.json")
    assert "higher voucher for this file" in finding["hint"]
    assert mirror().code == 0
    restores(archive, served)
    assert cli("audit", "-C", archive).code == 0


def test_a_seal_can_be_asked_for_by_its_id_in_every_command(cli, archive, merged, tmp_path):
    good, worse = merged
    both = (f"{REPO}@{worse[:12]}", worse[:12])
    for reference in both:
        (shown,) = rows(cli("show", "-C", archive, reference, "--json"), "snapshot")
        assert shown["snapshot"] == worse
    for number, reference in enumerate(both):
        out = tmp_path / f"manifest{number}.json"
        assert cli("manifest", "export", "-C", archive, reference, "-o", out).code == 0
        assert cli("manifest", "show", "-C", archive, reference).code == 0
        audit = cli("audit", "-C", archive, "--snapshot", reference, "--json")
        assert (audit.code, rows(audit, "audit")[0]["snapshots"]) == (0, 1), audit.out
        repaired = cli("repair", "-C", archive, "--snapshot", reference, "--no-upstream", "-n")
        assert repaired.code == 0
        assert cli("parity", "add", "-C", archive, reference).code == 0
        copied = tmp_path / f"copy{number}"
        copy = cli("copy", "-C", archive, copied, "--new", "--snapshot", reference)
        assert copy.code == 0, copy.err
        assert [sealed_in(one)[0] for one in seals(copied)] == [worse]
        smoke = ["smoke-test", "-q", "-C", archive, reference, "--level", "structure"]
        # In a process of its own, which it sets up for itself.
        assert (
            subprocess.run([sys.executable, "-m", "archiver", *smoke], check=False).returncode == 0
        )
        assert last_receipt(archive) == worse
        logged = rows(cli("log", "-C", archive, reference, "--json"), "event")
        assert {one["event"] for one in logged} >= {"sealed", "copied", "smoke-tested"}
        assert [one["detail"]["snapshot"] for one in logged if one["event"] == "sealed"] == [worse]
        pair = tmp_path / f"key{number}"
        assert cli("keys", "new", pair, "--no-password").code == 0
        signed = cli("sign", "-C", archive, reference, "--key", f"{pair}.key")
        assert "Signed 2 documents" in signed.out
        assert cli("parity", "remove", "-C", archive, reference).code == 0
    assert cli("diff", "-C", archive, good[:12], worse[:12], "--json").code == 1
    assert cli("diff", "-C", archive, REPO, f"{REPO}@{good[:12]}").code == 0
    assert cli("show", "-C", archive, f"{REPO}@{worse[:7]}").code == 2
    assert cli("show", "-C", archive, "0" * 12).code == 2
    for nothing in ("0" * 12, f"{REPO}@{'0' * 12}", "org/none"):
        assert cli("log", "-C", archive, nothing).out == ""
    revision = json.loads(seals(archive)[0].read_bytes())["revision"]
    logged = rows(cli("log", "-C", archive, f"{REPO}@{revision[:9]}", "--json"), "event")
    assert {one["detail"]["snapshot"] for one in logged if one["event"] == "sealed"} == {
        good,
        worse,
    }
    assert cli("forget", "-C", archive, worse[:12]).code == 0
    assert [sealed_in(one)[0] for one in seals(archive)] == [good]
    assert cli("forget", "-C", archive, "--undo", worse[:12]).code == 0
    assert {sealed_in(one)[0] for one in seals(archive)} == {good, worse}
    assert cli("forget", "-C", archive, f"{REPO}@{worse[:12]}").code == 0
    assert cli("audit", "-C", archive).code == 0


def test_seals_of_older_writers_are_judged_by_their_manifests(
    cli, archive, mirror, cache, served, restores, tmp_path
):
    """The mirrored one first, the changed cache sealed last: by the older order it came first."""
    assert mirror().code == 0
    other = tmp_path / "other"
    assert cli("init", "-C", other).code == 0
    assert cli("import", "-C", other, cache(**{WEIGHTS: changed(served[WEIGHTS])})).code == 0
    assert cli("copy", "-C", other, archive).code == 0
    opened = Archive.open(archive)
    times = {"upstream": "2026-01-01T00:00:00Z", "nobody": "2026-01-02T00:00:00Z"}
    for path, one in zip(seals(archive), list(opened.snapshots()), strict=True):
        word = json.loads(path.read_bytes())["vouched"][0][1]
        opened.publish_seal(
            msgspec.structs.replace(one.seal, vouched=msgspec.UNSET, sealed=times[word])
        )
        path.unlink()
    listed = rows(cli("list", "-C", archive, "--json"), "snapshot")
    told = [(one["sealed"], one["vouched"]["least"], one["default"]) for one in listed]
    assert told == [
        (times["upstream"], "upstream", True),
        (times["nobody"], "nobody", False),
    ]
    restores(archive, served)
    assert decoded(archive, REPO, tmp_path / "decoded") == served
    assert "held already" in mirror().out


def test_an_index_that_lies_and_a_manifest_that_lies_are_not_believed(
    cli, archive, mirror, served, restores, tmp_path
):
    """Bytes of another repository, of the same sizes, that claim upstream's digests."""
    folder = tmp_path / "liar"
    folder.mkdir()
    lies = {
        path: bytes(one ^ 1 for one in data) for path, data in served.items() if "/" not in path
    }
    for path, data in lies.items():
        (folder / path).write_bytes(data)
    assert cli("import", "-C", archive, folder, "--as", "org/liar").code == 0
    opened = Archive.open(archive)
    (snapshot,) = opened.snapshots()
    manifest = opened.manifest(snapshot.seal)
    files = tuple(
        msgspec.structs.replace(one, oid=git_oid(served[one.path])) for one in manifest.files
    )
    packs = ObjectIndex(opened, [pack for pack, _ in snapshot.seal.packs])
    publish(
        opened,
        msgspec.structs.replace(manifest, files=files),
        lambda digest: (found := packs.find(digest)) and (found[0], found[1].stored),
        Selection(),
        vouches=[Vouch(Voucher.CACHE, "git-sha1")] * len(files),
    )
    assert cli("catalogue", "rebuild", "-C", archive).code == 0
    with sqlite3.connect(archive / "catalogue.sqlite") as index:
        for path in (WEIGHTS, "tokenizer.json"):
            sha256 = hashlib.sha256(served[path]).digest()
            index.execute("UPDATE files SET sha256 = ? WHERE path = ?", (sha256, path))
    index.close()
    assert mirror().code == 0
    restores(archive, served)


def test_a_cache_whose_blobs_were_changed_and_renamed_is_refused_before_it_is_read(
    cli, archive, mirror, served, tmp_path, commit
):
    """Its blobs' names agree with its bytes: what a cache says of itself is hearsay."""
    assert mirror().code == 0
    before = seals(archive)
    entry = tmp_path / "cache" / "models--org--model"
    folder = entry / "snapshots" / commit
    (entry / "blobs").mkdir(parents=True)
    folder.mkdir(parents=True)
    bad = changed(served[WEIGHTS])
    blob = entry / "blobs" / hashlib.sha256(bad).hexdigest()
    blob.write_bytes(bad)
    (folder / WEIGHTS).symlink_to(f"../../blobs/{blob.name}")
    for words in (("--dry-run",), ()):
        refused = cli("import", "-C", archive, entry, "--revision", commit, *words)
        assert (refused.code, seals(archive)) == (MISMATCH, before)
        assert WEIGHTS in refused.err


def test_a_new_seal_of_a_repair_keeps_the_vouchers(
    cli, archive, mirror, served, restores, tmp_path
):
    assert mirror().code == 0
    other = tmp_path / "other"
    assert cli("init", "-C", other).code == 0
    assert cli("mirror", "-C", other, REPO, "--effort", "fast").code == 0
    for pack in (archive / "packs").rglob("*.pack"):
        pack.unlink()
    before = json.loads(seals(archive)[0].read_bytes())
    mended = cli("repair", "-C", archive, "--from", other, "--no-upstream", "--json")
    assert (mended.code, len(rows(mended, "resealed"))) == (0, 1)
    after = json.loads(seals(archive)[0].read_bytes())
    assert after["packs"] != before["packs"]
    assert after["vouched"] == before["vouched"]
    restores(archive, served)


def test_a_part_that_upstream_vouched_for_tells_of_the_whole_that_nobody_did(
    cli, archive, mirror, cache, hub, served, commit, tmp_path
):
    assert mirror("--include", "*.json").code == 0
    taken = cli("import", "-C", archive, cache(), "--json")
    (report,) = rows(taken, "mirror")
    assert report["vouched"]["upstream"] == 2  # those that the mirrored part has
    assert report["preferred"] is False
    out = cli("restore", "-C", archive, REPO, tmp_path / "part")
    assert sorted(files_below(tmp_path / "part")) == ["config.json", "tokenizer.json"]
    whole = f"{REPO}@{report['snapshot'][:12]}"
    assert out.code == 0
    assert whole in out.err
    assert cli("restore", "-C", archive, whole, tmp_path / "whole").code == 0
    assert files_below(tmp_path / "whole") == served
    hub.commit(REPO, {"README.md": b"newer"})
    assert mirror().code == 0  # the whole of another commit is not the whole of this part
    out = cli("restore", "-C", archive, f"{REPO}@{commit}", tmp_path / "again")
    assert whole in out.err


def test_what_a_cache_says_of_a_branch_is_not_what_upstream_was_seen_to_say(
    cli, archive, mirror, cache, hub, served, commit, tmp_path
):
    def sightings():
        logged = rows(cli("log", "-C", archive, "--kind", "sighted", "--json"), "event")
        return [(one["revision"], one["detail"]["upstream"]) for one in logged]

    old = cache()
    assert cli("import", "-C", archive, old).code == 0
    assert sightings() == [(commit, "directory")]
    newer = hub.commit(REPO, {"README.md": b"newer"})
    assert mirror().code == 0
    assert cli("import", "-C", archive, old).code == 0
    assert sightings() == [(commit, "directory"), (newer, hub.endpoint)]
    for revision, names in ((commit, []), (newer, ["main"])):
        out = tmp_path / f"cache-{revision[:6]}"
        layout = ("--layout", "hf-cache")
        assert cli("restore", "-C", archive, f"{REPO}@{revision}", out, *layout).code == 0
        refs = out / "models--org--model" / "refs"
        assert sorted(one.name for one in refs.glob("*")) == names
    hub.delete(REPO)
    assert mirror().code == 23
    assert cli("acknowledge", "-C", archive, "gone", REPO).code == 0
    assert cli("import", "-C", archive, cache(**{"README.md": b"newer"})).code in {0, MISMATCH}
    (status,) = rows(cli("status", "-C", archive, "--json"), "status")
    (lost,) = status["lost_upstream"]
    assert (lost["repository"], lost["acknowledged"]) == (REPO, True)


def test_the_log_tells_who_vouched(cli, archive, mirror, cache):
    assert cli("import", "-C", archive, cache()).code == 0
    assert mirror().code == 0
    told = cli("log", "-C", archive, "--kind", "sealed").out.splitlines()
    assert [one.rsplit(", ", 1)[1] for one in told] == [
        "vouched for by nobody.",
        "vouched for by upstream.",
    ]


@pytest.fixture
def pin(served, commit, tmp_path, monkeypatch) -> Callable[[], None]:
    """From the call on, the project publishes the digests of the commit's files."""

    def publish_pin() -> None:
        from archiver.archive import pins

        digests = {path: hashlib.sha256(data).hexdigest() for path, data in served.items()}
        files = [{"path": path, "sha256": digest} for path, digest in digests.items()]
        document = {"kind": "pin", "format": 1, "repository": REPO, "revision": commit}
        folder = tmp_path / "pins" / "org"
        folder.mkdir(parents=True)
        (folder / "model.json").write_text(json.dumps({**document, "files": files}))
        real = pins._pins_below
        monkeypatch.setattr(
            pins,
            "_pins_below",
            lambda below: real(folder.parent if below.name == "pins" else below),
        )

    return publish_pin


def test_a_pin_ranks_above_a_cache_and_below_upstream(
    cli, archive, mirror, cache, hub, served, restores, tmp_path, pin
):
    assert cli("import", "-C", archive, cache()).code == 0
    pin()
    changed_one = cli("import", "-C", archive, cache(**{WEIGHTS: changed(served[WEIGHTS])}))
    assert (changed_one.code, "pin" in changed_one.err) == (MISMATCH, True)
    taken = cli("import", "-C", archive, cache(), "--json")
    (report,) = rows(taken, "mirror")
    assert (report["outcome"], report["raised"]) == ("sealed", len(served))
    assert report["vouched"]["least"] == "pin"
    pinned = report["snapshot"]
    listed = rows(cli("list", "-C", archive, "--json"), "snapshot")
    assert {one["vouched"]["least"]: one["default"] for one in listed} == {
        "nobody": False,
        "pin": True,
    }
    assert "pin" in cli("show", "-C", archive, REPO).out
    told = cli("restore", "-C", archive, REPO, tmp_path / "out")
    assert "upstream's digests" not in told.out
    assert "pin" in told.out
    assert rows(cli("status", "-C", archive, "--json"), "status")[0]["vouched"]["pin"] == 1
    assert decoded(archive, pinned[:12], tmp_path / "decoded") == served
    hub.requests.clear()
    assert mirror().code == 0
    assert not hub.requests.bodies()
    (shown,) = rows(cli("show", "-C", archive, REPO, "--json"), "snapshot")
    assert shown["vouched"]["least"] == "upstream"
    restores(archive, served)


def named_blobs(folder: Path, *names: str) -> None:
    """Put these files of a cache's snapshot, or all, below their digests, as its record of them."""
    blobs = folder.parents[1] / "blobs"
    blobs.mkdir()
    for path in [one for one in folder.rglob("*") if one.is_file()]:
        if names and path.name not in names:
            continue
        data = path.read_bytes()
        lfs = path.name in LFS
        blob = blobs / (hashlib.sha256(data).hexdigest() if lfs else git_oid(data))
        blob.write_bytes(data)
        path.unlink()
        path.symlink_to(blob)


def kept_tree(folder: Path) -> None:
    """Write the cache's record of what upstream listed at the commit: so its snapshot is whole."""
    files = {}
    for path, data in files_below(folder).items():
        files[path] = {"size": len(data), "blob_id": git_oid(data)}
        if path in LFS:
            files[path] |= {"lfs_sha256": hashlib.sha256(data).hexdigest(), "lfs_size": len(data)}
    trees = folder.parents[1] / "trees"
    trees.mkdir()
    (trees / f"{folder.name}.json").write_text(json.dumps({"files": files, "format_version": 1}))


@pytest.mark.parametrize("record", [named_blobs, kept_tree])
def test_what_a_cache_vouched_for_does_not_satisfy_a_mirror(
    cli, archive, mirror, cache, hub, served, commit, record
):
    entry = cache()
    record(entry / "snapshots" / commit)
    taken = cli("import", "-C", archive, entry, "--json")
    assert rows(taken, "mirror")[0]["vouched"]["least"] == "cache"
    (shown,) = rows(cli("show", "-C", archive, REPO, "--json"), "snapshot")
    # A whole one differs from what a mirror wants in nothing but its vouchers.
    assert (shown["selection"] == {"include": [], "exclude": []}) is (record is kept_tree)
    hub.requests.clear()
    raised = mirror("--json")
    (report,) = rows(raised, "mirror")
    assert (raised.code, report["outcome"], report["raised"]) == (0, "sealed", len(served))
    assert report["vouched"]["least"] == "upstream"
    assert not hub.requests.bodies()


def test_a_better_voucher_of_one_file_makes_a_new_seal(cli, archive, cache, served, commit):
    """The lowest voucher is the same: every file is judged by its own."""
    assert cli("import", "-C", archive, cache()).code == 0
    better = cache()
    named_blobs(better / "snapshots" / commit, "config.json")
    for outcome in ("sealed", "held"):
        taken = cli("import", "-C", archive, better, "--json")
        (report,) = rows(taken, "mirror")
        assert (taken.code, report["outcome"]) == (0, outcome)
        assert (report["vouched"]["cache"], report["vouched"]["nobody"]) == (1, len(served) - 1)


def test_a_plan_believes_no_cache_about_a_branch(
    cli, archive, mirror, cache, hub, commit, tmp_path
):
    """A cache says that the branch is what is held; upstream, which is gone, never said so."""
    entry = cache()
    (entry / "refs" / "dev").write_text(commit)
    assert cli("import", "-C", archive, entry, "--revision", "dev").code == 0
    assert mirror("--revision", commit).code == 0
    plan = tmp_path / "plan.toml"
    plan.write_text(f'[plan]\nname = "plan"\n[[repository]]\nname = "{REPO}"\nrevision = "dev"\n')
    assert cli("sync", "-C", archive, plan, "--min-free", "0B").code != 0

    def state():
        (judged,) = rows(cli("status", "-C", archive, "--json"), "plan")
        return judged["entries"][0]["state"]

    assert state() == "missing"
    hub.branch(REPO, "dev", commit)
    assert mirror("--revision", "dev").code == 0
    assert state() != "missing"
    assert mirror().code == 0
    assert cli("import", "-C", archive, entry).code == 0
    logged = rows(cli("log", "-C", archive, "--kind", "sighted", "--json"), "event")
    told = [one["detail"] for one in logged if one["detail"]["upstream"] == "directory"]
    assert [one["name"] for one in told] == ["dev"]


def test_a_damaged_seal_that_nobody_vouched_for_is_stood_in_for_by_what_a_cache_recorded(
    cli, archive, cache, served, restores, commit
):
    """The journal tells the damaged one's voucher, as long as none of its events is lost."""
    assert cli("import", "-C", archive, cache()).code == 0
    (unvouched,) = seals(archive)
    better = cache()
    kept_tree(better / "snapshots" / commit)
    assert cli("import", "-C", archive, better).code == 0
    assert len(seals(archive)) == 2
    unvouched.chmod(0o644)
    unvouched.write_bytes(b"damaged")
    restores(archive, served)
    restores(archive, served, f"{REPO}@{commit}")
    by_id = f"{REPO}@{unvouched.name.split('.')[1][:12]}"
    assert cli("restore", "-C", archive, by_id, archive.parent / "by-id").code == 20
    told = list(Archive.open(archive).events())
    listed = {digest for _, event in told for digest in event.after}
    (head,) = [digest for digest, _ in told if digest not in listed]
    (last,) = (archive / "journal").rglob(f"*{head}*.json")
    (first,) = (archive / "journal").rglob(f"*{min(listed)}*.json")
    good = last.read_bytes()
    last.chmod(0o644)
    last.write_bytes(b"damaged too")  # of which no other event tells
    assert cli("restore", "-C", archive, REPO, archive.parent / "damaged").code == 20
    last.write_bytes(good)
    first.unlink()
    assert cli("restore", "-C", archive, REPO, archive.parent / "gap").code == 20


def test_what_an_older_event_does_not_say_of_a_damaged_seal_counts_as_upstream(
    cli, archive, cache, tmp_path, commit
):
    assert cli("import", "-C", archive, cache()).code == 0
    older_journal(archive)
    (unvouched,) = seals(archive)
    better = cache()
    kept_tree(better / "snapshots" / commit)
    assert cli("import", "-C", archive, better).code == 0
    unvouched.chmod(0o644)
    unvouched.write_bytes(b"damaged")
    assert cli("restore", "-C", archive, REPO, tmp_path / "out").code == 20


def older_journal(archive: Path) -> None:
    """Write the journal's only seal anew as an older writer did, who did not say its voucher."""
    opened = Archive.open(archive)
    (old,) = [event for _, event in opened.events() if event.event == "sealed"]
    for one in (archive / "journal").rglob("*.json"):
        one.unlink()
    fields = {key: value for key, value in old.fields.items() if key != "vouched"}
    raw = msgspec.Raw(msgspec.json.encode(fields, order="sorted"))
    opened.record(msgspec.structs.replace(old, raw=raw, after=()))


def test_a_lost_seal_whose_voucher_no_event_tells_is_covered_by_upstreams_only(
    cli, archive, mirror, cache, commit
):
    assert mirror().code == 0
    (mirrored,) = seals(archive)
    older_journal(archive)
    mirrored.unlink()
    entry = cache()
    kept_tree(entry / "snapshots" / commit)
    assert cli("import", "-C", archive, entry).code == 0
    (lesser,) = seals(archive)
    audit = cli("audit", "-C", archive, "--level", "structure", "--json")
    (missing,) = [row for row in rows(audit, "finding") if not row["remark"]]
    assert (audit.code, missing["code"]) == (20, "seal-missing")
    assert lesser.name.split(".")[1][:12] in missing["message"]
    assert cli("prune", "-C", archive).code == 20
    assert mirror().code == 0
    assert cli("audit", "-C", archive, "--level", "structure").code == 0
    assert cli("prune", "-C", archive).code == 0


def test_a_folder_taken_in_again_covers_its_lost_seal_of_an_older_writer(cli, archive, tmp_path):
    """Its revision is a digest of its files: no voucher could say more."""
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    words = ("import", "-C", archive, folder, "--as", "own/model", "--min-free", "0B")
    assert cli(*words).code == 0
    older_journal(archive)
    seals(archive)[0].unlink()
    assert cli("audit", "-C", archive, "--level", "structure", "--json").code == 20
    assert cli(*words).code == 0
    assert cli("audit", "-C", archive, "--level", "structure").code == 0


def test_what_holds_one_file_unvouched_does_not_hold_a_part_that_is_vouched_for(
    cli, archive, cache, commit
):
    """All bytes are there; but the snapshot as a whole is worth what its least file is."""
    more, fewer = cache(), cache()
    (fewer / "snapshots" / commit / "tokenizer.json").unlink()
    named_blobs(more / "snapshots" / commit, "config.json")
    named_blobs(fewer / "snapshots" / commit)
    words = (
        "import",
        "-C",
        archive,
        "--include",
        "config.json",
        "--include",
        "tokenizer.json",
        "--json",
    )
    assert cli(*words, more).code == 0
    for outcome in ("sealed", "held"):
        taken = cli(*words, fewer)
        (report,) = rows(taken, "mirror")
        assert (taken.code, report["outcome"]) == (0, outcome)
        assert report["vouched"]["least"] == "cache"


def test_a_part_does_not_stand_in_for_a_damaged_seal_of_the_whole(
    cli, archive, mirror, cache, tmp_path, commit
):
    """However good its voucher is."""
    assert mirror("--include", "*.json").code == 0
    (part,) = seals(archive)
    entry = cache()
    kept_tree(entry / "snapshots" / commit)
    taken = cli("import", "-C", archive, entry)
    assert (taken.code, f"{REPO} alone means another snapshot" in taken.out) == (0, False)
    (whole,) = set(seals(archive)) - {part}
    whole.chmod(0o644)
    whole.write_bytes(b"damaged")
    refused = cli("restore", "-C", archive, REPO, tmp_path / "out")
    assert refused.code == 20
    assert part.name.split(".")[1][:12] in refused.err


def test_what_another_archive_heard_later_of_a_branch_does_not_count(
    cli, archive, mirror, hub, commit, tmp_path
):
    """Upstream pointed main at the newer commit; a cache said later that it is the old one."""
    newer = hub.commit(REPO, {"README.md": b"newer"})
    assert mirror().code == 0
    opened = Archive.open(archive)
    later = utc_after(max(event.time for _, event in opened.events()))
    opened.record(new_event(Sighted("main", "directory"), REPO, commit, time=later))
    out = tmp_path / "cache"
    assert cli("restore", "-C", archive, REPO, out, "--layout", "hf-cache").code == 0
    assert (out / "models--org--model" / "refs" / "main").read_text() == newer


def test_a_pin_outranks_a_later_seal_of_a_caches_own_record(
    cli, archive, cache, served, restores, tmp_path, commit, pin
):
    other = tmp_path / "other"
    assert cli("init", "-C", other).code == 0
    lying = cache(**{"README.md": b"not the model's"})
    kept_tree(lying / "snapshots" / commit)
    assert cli("import", "-C", other, lying).code == 0
    good = cache()
    kept_tree(good / "snapshots" / commit)
    assert cli("import", "-C", archive, good).code == 0
    pin()
    taken = cli("import", "-C", archive, good, "--json")
    (report,) = rows(taken, "mirror")
    assert (report["outcome"], report["vouched"]["pin"]) == ("sealed", len(served))
    assert cli("copy", "-C", other, archive).code == 0
    opened = Archive.open(archive)
    for path, one in zip(seals(archive), list(opened.snapshots()), strict=True):
        if one.id == report["snapshot"]:  # as if it were the oldest
            opened.publish_seal(msgspec.structs.replace(one.seal, sealed="2026-01-01T00:00:00Z"))
            path.unlink()
    restores(archive, served)
    assert decoded(archive, REPO, tmp_path / "decoded") == served
    listed = rows(cli("list", "-C", archive, "--json"), "snapshot")
    assert [one["vouched"]["least"] for one in listed if one["default"]] == ["pin"]
