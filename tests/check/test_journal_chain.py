"""The journal's chain in an audit: events and heads that are gone, seals that were taken out on purpose."""

from __future__ import annotations

import pytest
from kit.faults import overwrite
from kit.journal import raw_event

from archiver.archive import layout
from archiver.archive.archive import Archive
from archiver.archive.events import TOOL


def event_path(weights, digest):
    (path,) = (weights.root / "journal").rglob(f"*.{digest}.json")
    return path


def ids(weights):
    return [digest for digest, _ in Archive.open(weights.root).events()]


def test_an_event_that_another_lists_is_missed(audit, weights):
    events = Archive.open(weights.root).events()
    later, gone = next((digest, event.after[0]) for digest, event in events if event.after)
    event_path(weights, gone).unlink()
    result = audit()
    (found,) = result.damage
    assert (result.code, found["code"], found["object"]) == (20, "event-missing", gone)
    assert later in found["message"]


def test_a_damaged_event_is_there(audit, weights):
    path = event_path(weights, ids(weights)[0])
    overwrite(path, b"{}")
    assert audit().codes == {"event-damaged"}


def test_heads_that_were_kept_must_be_there(audit, weights, tmp_path):
    (head,) = Archive.open(weights.root).journal.heads()
    kept = tmp_path / "heads.txt"
    kept.write_text(f"{ids(weights)[0]}  2026\n\n{head}\n")
    assert audit("--head", head, "--head", kept).code == 0
    event_path(weights, head).unlink()
    result = audit("--head", head)
    assert {(one["code"], one["object"]) for one in result.damage} == {
        ("head-missing", head),
        ("event-missing", head),
    }
    assert audit("--head", head, "--snapshot", "org/two").codes == {"head-missing"}


def test_the_newest_event_is_missed_by_its_head_alone(audit, weights):
    (head,) = Archive.open(weights.root).journal.heads()
    event_path(weights, head).unlink()
    assert audit("--head", head).codes == {"head-missing"}
    assert audit().code == 0


@pytest.mark.parametrize("text", ["", "no id\n", "ffff\n"])
def test_a_file_without_ids_is_a_usage_error(audit, tmp_path, text):
    kept = tmp_path / "heads.txt"
    kept.write_text(text)
    assert audit("--head", kept).code == 2
    assert audit("--head", tmp_path / "none").code == 2


# ---- seals that were taken out of use


@pytest.mark.parametrize("event", ["forgotten", "repaired"])
def test_a_seal_that_was_taken_out_on_purpose_is_not_missing(audit, weights, event):
    seal = weights.documents("snapshots")[0]
    digest = seal.name.split(".")[1]
    archive = Archive.open(weights.root)
    detail = {"snapshots": [digest], "files": []}
    archive.record(raw_event(event, "2990-01-01T00:00:00Z", TOOL, detail=detail))
    name = seal.relative_to(weights.root).as_posix()
    archive.store.move(name, layout.quarantined_name(layout.TRASH, "2990-01-01T00:00:00Z", name))
    result = audit()
    assert (result.code, result.codes) == (0, set())
    assert result.remarks == {"unsealed-pack", "unsealed-manifest"}
    later = raw_event("remembered", "2991-01-01T00:00:00Z", TOOL, detail={"snapshots": [digest]})
    archive.record(later)
    (found,) = audit().damage
    assert found["code"] == "seal-missing"
    assert "lies in trash/29900101t000000z/" in found["message"]


@pytest.mark.parametrize("folder", ["trash", "quarantine"])
@pytest.mark.parametrize("kind", ["packs", "manifests", "snapshots"])
def test_a_missing_file_that_was_set_aside_is_told_with_its_place(audit, weights, folder, kind):
    path = weights.documents(kind)[0]
    name = path.relative_to(weights.root).as_posix()
    aside = layout.quarantined_name(folder, "2026-01-01T00:00:00Z", name)
    Archive.open(weights.root).store.move(name, aside)
    (found,) = (one for one in audit().damage if one["code"] != "object-missing")
    assert found["code"].endswith("-missing")
    assert f"lies in {aside}" in found["message"]
    assert "archiver repair" in found["hint"]
