"""What a newer version leaves in an archive: texts that explain it, events, files, names kept for it."""

from __future__ import annotations

import json

import pytest
from kit.archive import seals
from kit.repository import write_folder

from archiver.archive import archive as archives
from archiver.archive.editions import edition_of, renew_explanations
from archiver.archive.journal import Journal
from archiver.digest import blake3_hex
from archiver.storage.local import LocalStore

OWN = dict(archives.carried_files())
OLD = dict.fromkeys(OWN, b"An older text.\n")
OLD["decode.py"] = b"#!/usr/bin/env python3\n" + b"#\n" * 100 + b"EDITION = 9\n"
NEWER = {
    "README.txt": b"LATER\n=====\nEdition 7\n",
    "FORMAT.md": b"# The archive format, number 1\n\nEdition 7 of this text.\n",
    "decode.py": b"#!/usr/bin/env python3\n" + b"#\n" * 70 + b"EDITION = 7  # later\n",
}


@pytest.fixture
def place(tmp_path, run):
    """Writes an archive whose texts are these, and audits it."""

    def write(texts: dict[str, bytes]):
        assert run("init", "-C", tmp_path / "archive").code == 0
        put(tmp_path / "archive", texts)
        return tmp_path / "archive"

    return write


def put(root, texts):
    for name, data in texts.items():
        (root / name).unlink(missing_ok=True)
        (root / name).write_bytes(data)


def texts(root):
    return {name: (root / name).read_bytes() for name in OWN}


def seal_something(run, root, tmp_path, data=b"x"):
    folder = tmp_path / f"in-{data.hex()}"
    write_folder(folder, {"a": data})
    assert run("import", "-C", root, folder, "--as", "o/n", "--min-free", "0B").code == 0


def quarantined(root):
    return {path.name: path.read_bytes() for path in (root / "quarantine").glob("*/*")}


def test_the_texts_say_their_edition():
    """ "`Edition 4` in FORMAT.md and README.txt, `EDITION = 4` in decode.py; without one it is 1" """
    editions = {edition_of(name, data) for name, data in OWN.items()}
    assert editions == {max(editions)}
    assert editions > {1} or min(editions) >= 2
    assert {edition_of(name, data) for name, data in OLD.items()} == {1}
    assert {edition_of(name, data) for name, data in NEWER.items()} == {7}
    for text in (
        b"",
        b"\nEdition x",
        b"\n" * 5 + b"Edition 3",
        b"An Edition 3",
        b"Edition " + b"9" * 99,
    ):
        assert edition_of("README.txt", text) == 1


def test_who_seals_first_renews_older_texts(place, run, tmp_path):
    root = place(OLD)
    audit = run("audit", "--json", "-C", root)
    assert (audit.code, audit.remarks) == (0, {"carried-differs"})
    seal_something(run, root, tmp_path)
    assert texts(root) == OWN
    assert quarantined(root) == {name.lower(): data for name, data in OLD.items()}
    audit = run("audit", "--json", "-C", root)
    assert (audit.code, audit.finding_codes) == (0, set())
    seal_something(run, root, tmp_path, b"y")
    assert len(quarantined(root)) == 3, "nothing was renewed twice"


def test_newer_texts_are_left_alone_and_carried_on(place, run, tmp_path):
    root = place(NEWER)
    seal_something(run, root, tmp_path)
    assert texts(root) == NEWER
    audit = run("audit", "--json", "-C", root)
    assert (audit.code, audit.finding_codes) == (0, set())
    new, old = tmp_path / "new", tmp_path / "old"
    assert run("copy", "-C", root, new, "--new").code == 0
    assert texts(new) == NEWER
    put(new, OLD)
    seal_something(run, root, tmp_path, b"y")
    assert run("copy", "-C", root, new).code == 0
    assert texts(new) == NEWER, "with what the source has newer, its texts came too"
    put(root, OLD)
    assert run("copy", "-C", root, old, "--new").code == 0
    assert texts(old) == OWN, "a new archive begins with the newest that is known"


@pytest.mark.parametrize("changed", [b"Edition 2\nchanged", b"\n"])
def test_a_text_that_was_changed_is_remarked(place, run, changed):
    own = max(edition_of(name, data) for name, data in OWN.items())
    root = place({"README.txt": changed.replace(b"2", b"%d" % own)})
    audit = run("audit", "--json", "-C", root)
    assert (audit.code, audit.remarks) == (0, {"carried-differs"})


@pytest.mark.parametrize("missing", ["README.txt", "FORMAT.md", "decode.py"])
def test_a_text_that_is_missing_is_no_writers_business(place, run, tmp_path, missing):
    root = place({})
    (root / missing).unlink()
    seal_something(run, root, tmp_path)
    assert not (root / missing).exists()
    assert run("audit", "--json", "-C", root).codes == {"carried-missing"}


@pytest.mark.parametrize("dies_at", ["link", "publish"])
def test_a_text_is_never_missing_while_it_is_renewed(place, monkeypatch, dies_at):
    root = place(OLD)
    store = LocalStore(root)

    class DeadError(Exception):
        pass

    def die(*_):
        raise DeadError

    if dies_at == "link":
        monkeypatch.setattr(LocalStore, "link", die)
    else:
        staged = type(store.stage("put"))
        monkeypatch.setattr(staged, "publish", die)
    with pytest.raises(DeadError):
        renew_explanations(store)
    assert texts(root) == OLD
    monkeypatch.undo()
    renew_explanations(LocalStore(root))
    assert texts(root) == OWN


# ---- what later versions write


def later_event(root, repository=""):
    """An event of a kind that is not known yet, after those that are there."""
    heads = sorted(
        Journal(LocalStore(root)).names(), key=lambda name: (root / name).stat().st_mtime_ns
    )
    body = {
        "after": [name.rpartition(".json")[0].rpartition(".")[2] for name in heads],
        "detail": {"deep": [{"x": 1}], "text": "\u202e"},
        "event": "bundled",
        "repository": repository,
        "revision": "",
        "time": "2026-11-30T23:00:00Z",
        "tool": "archiver 9",
        "zzz": {"unknown": True},
    }
    data = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    name = f"journal/2026/11/20261130t230000z.{blake3_hex(data)}.json"
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_bytes(data)
    return name, data


def test_events_of_kinds_that_are_not_known_are_kept_and_copied(place, run, tmp_path):
    root, there = place({}), tmp_path / "there"
    seal_something(run, root, tmp_path)
    name, data = later_event(root, "o/n")
    audit = run("audit", "--json", "-C", root)
    assert (audit.code, audit.finding_codes) == (0, set())
    assert "bundled" in run("log", "-C", root).out
    assert run("prune", "-C", root, "--grace", "1s").code == 0
    assert run("copy", "-C", root, there, "--new").code == 0
    assert (there / name).read_bytes() == data
    assert (root / name).read_bytes() == data
    part = tmp_path / "part"
    assert run("init", "-C", part).code == 0
    assert run("copy", "-C", root, part, "--snapshot", "o/n").code == 0
    events = [json.loads(path.read_bytes()) for path in (part / "journal").rglob("*.json")]
    (copied,) = [event for event in events if event["event"] == "bundled"]
    assert copied["detail"] == json.loads(data)["detail"]


def test_names_that_are_kept_for_later_are_no_finding(place, run, tmp_path):
    root, there = place({}), tmp_path / "there"
    seal_something(run, root, tmp_path)
    later = ["report.html", "report.json", "bundles/a/b.bundle", "receipts/x.json", "bases/y"]
    for name in later:
        (root / name).parent.mkdir(exist_ok=True, parents=True)
        (root / name).write_bytes(b"later")
    audit = run("audit", "--json", "-C", root)
    assert (audit.code, audit.finding_codes) == (0, set())
    for name in ("notes.txt", "report.html.bak", "packs/aa/x.later", "snapshots/o/n/x.later"):
        (root / name).parent.mkdir(exist_ok=True, parents=True)
        (root / name).write_bytes(b"unknown")
    audit = run("audit", "--json", "-C", root)
    assert (audit.code, audit.remarks) == (0, {"unknown-file"})
    assert len(audit.findings) == 4
    assert run("copy", "-C", root, there, "--new").code == 0
    assert not any((there / name).exists() for name in later)
    assert len(seals(there)) == 1
    assert all((root / name).read_bytes() == b"later" for name in later)
