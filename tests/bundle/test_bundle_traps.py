"""Media that were prepared to cost much or to lead elsewhere, and events that would be believed."""

from __future__ import annotations

import os
import shutil

import pytest
from bundlekit import SMALL, Carried, piece, replace

from archiver.archive.archive import Archive
from archiver.archive.events import Sealed, Sighted, new_event

CORE = "volume-0002"


def faults(done) -> dict[str, tuple[str, str]]:
    return {
        fault["name"]: (fault["kind"], fault["message"])
        for fault in done.only("bundle-import")["faults"]
    }


def whole_pack(media):
    """The pack that lies whole on a volume."""
    (path,) = (path for path in media.rglob("packs/*/*.pack") if "pieces" not in path.parts)
    return path


@pytest.mark.parametrize("which", [whole_pack, lambda media: piece(media / CORE)])
def test_a_file_of_another_size_than_its_list_has_is_not_copied(media, bring, far, which):
    """Sparse, it takes no room there, and would take hours and the disk here."""
    path = which(media)
    right = path.stat().st_size
    replace(path, path.read_bytes())
    os.truncate(path, 3 << 30)
    done = bring(media)
    kind, message = faults(done)[path.relative_to(media).as_posix().partition("/")[2]]
    assert kind == "damaged"
    assert message.endswith(f"has {3 << 30:,} bytes; it should have {right:,}.")


@pytest.mark.parametrize("spoil", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_what_is_no_file_is_said_to_be_none(run, media, bring, spoil):
    path = whole_pack(media)
    path.unlink()
    spoil(path)
    done = run("bundle", "verify", "-q", media)
    assert done.code == 20
    assert f"{path} is a link, a pipe or a device, and no file." in done.out
    kind, message = faults(bring(media))[path.relative_to(media).as_posix().partition("/")[2]]
    assert (kind, message) == ("damaged", f"{path} is a link, a pipe or a device, and no file.")


def test_events_that_would_be_believed_stay_claims(run, carried, export, bring, far, tmp_path):
    """One of a time to come would move the journal's own; one seal's event may not name another model."""
    source = tmp_path / "source"
    shutil.copytree(carried.root, source)
    archive = Archive.open(source)
    (snapshot,) = archive.snapshots_of(SMALL)
    (sealed,) = (
        event.detail
        for _, event in archive.events()
        if isinstance(event.detail, Sealed) and event.detail.snapshot == snapshot.id
    )
    for event in (
        new_event(Sighted("main", "huggingface"), SMALL, "ab" * 20, time="2099-01-01T00:00:00Z"),
        new_event(sealed, "org/other", "cd" * 20),
    ):
        archive.record(event)
    assert export(tmp_path / "to", references=[SMALL], of=Carried(source, tmp_path)).code == 0
    assert bring(tmp_path / "to").code == 0
    told = run("log", "-C", far).out
    assert SMALL in told
    assert "2099" not in told
    assert "org/other" not in told
    claims = [path.read_text() for path in (far / "bundles" / "claims").rglob("*.json")]
    assert any("2099" in text for text in claims)
    assert any("org/other" in text for text in claims)


def test_a_flood_of_events_stays_outside(run, carried, export, bring, far, tmp_path, monkeypatch):
    """A journal keeps what it has for good, so that a bundle adds no more than one may bring."""
    source = tmp_path / "source"
    shutil.copytree(carried.root, source)
    archive = Archive.open(source)
    for number in range(260):
        archive.record(new_event(Sighted("main", "huggingface"), SMALL, f"{number:040x}"))
    monkeypatch.setattr("archiver.operations.bundle.contents.EVENTS_MAX", 1000)
    assert export(tmp_path / "to", references=[SMALL], of=Carried(source, tmp_path)).code == 0
    done = bring(tmp_path / "to")
    assert done.code == 0
    assert done.only("bundle-import")["events"] == 200
