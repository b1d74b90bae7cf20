"""Several runs at once, what is stored only once, and the options that choose."""

from __future__ import annotations

import json
import os
import sqlite3

import pytest
from kit.archive import seals
from kit.repository import REPO, WEIGHTS, bf16, files_below, model, safetensors
from kit.worklog import assert_nothing_published, tmp_names

pytestmark = pytest.mark.usefixtures("by_catalogue")


# ---- several at once


def finish(children) -> list:
    ended = [child.wait() for child in children]
    for one in ended:
        assert "Traceback" not in one.err
        assert "sqlite" not in one.err.lower()
        assert one.code == 0, one.err
    return ended


def test_the_same_repository_at_once(hub, served, zygote, archive, restores, cli):
    hub.rate = 200_000
    finish([zygote.start("mirror", "-C", archive, REPO) for _ in range(4)])
    hub.rate = None
    assert 1 <= len(seals(archive)) <= 4
    assert tmp_names(archive) == []
    restores(archive, served)
    assert "held already" in cli("mirror", "-C", archive, REPO).out


def test_different_repositories_at_once(hub, zygote, archive, restores):
    """They share the tokenizer and one tensor, and meet in the same catalogue."""
    repositories = {f"org/model{n}": model(seed=n) for n in range(5)}
    for name, files in repositories.items():
        hub.create(name, files)
    finish([zygote.start("mirror", "-C", archive, name) for name in repositories])
    for name, files in repositories.items():
        restores(archive, files, name)
    with sqlite3.connect(archive / "catalogue.sqlite") as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    database.close()


def test_many_starts_on_a_new_archive(hub, served, zygote, archive, cli):
    """All create the catalogue at the same moment, and look for leftovers."""
    others = {f"org/m{n}": {"f.json": b"%d" % n} for n in range(8)}
    for name, files in others.items():
        hub.create(name, files)
    for path in archive.glob("catalogue*"):
        path.unlink()
    finish([zygote.start("mirror", "-C", archive, name) for name in others])
    assert len(seals(archive)) == len(others)
    rows = cli("list", "-C", archive, "--json").records
    assert {row["repository"] for row in rows} == set(others)


def test_a_running_neighbour_s_unfinished_pack_is_left_alone(
    hub, served, zygote, archive, restores
):
    hub.create("org/slow", {"slow.bin": bytes(range(256)) * 2000})
    hub.rate = 300_000
    slow = zygote.start("mirror", "-C", archive, "org/slow")
    for _ in range(3):
        hub.create("org/quick", {"quick.json": b"%d" % len(seals(archive))})
        finish([zygote.start("mirror", "-C", archive, "org/quick")])
    finish([slow])
    restores(archive, {"slow.bin": bytes(range(256)) * 2000}, "org/slow")


def test_reading_while_others_write(hub, served, zygote, mirror, archive, restores):
    assert mirror().code == 0
    hub.create("org/slow", {"slow.bin": bytes(range(256)) * 1000})
    hub.rate = 400_000
    slow = zygote.start("mirror", "-C", archive, "org/slow")
    for _ in range(3):
        restores(archive, served)
    finish([slow])


# ---- nothing is stored or fetched twice


def packed(archive) -> list[str]:
    """The digests of all objects in all packs."""
    found = []
    for pack in (archive / "packs").rglob("*.pack"):
        data = pack.read_bytes()
        at = int.from_bytes(data[-8:], "little")
        found += [row[0] for row in json.loads(data[at + 8 : -16])["objects"]]
    return found


def fetched(hub) -> set[str]:
    return {record.file for record in hub.requests.bodies()}


def test_a_second_repository_stores_only_what_differs(hub, served, mirror, archive, restores):
    assert mirror().code == 0
    before = packed(archive)
    tensors = {
        "renamed.layer": ("BF16", (32, 128), bf16(1, 32, 128)),  # the same bytes elsewhere
        "new": ("BF16", (16, 128), bf16(77, 16, 128)),
    }
    other = served | {WEIGHTS: safetensors(tensors)}
    hub.create("org/other", other)
    hub.requests.clear()
    assert mirror("org/other").code == 0
    assert fetched(hub) == {WEIGHTS}
    after = packed(archive)
    assert (
        len(after) == len(set(after)) == len(before) + 3
    )  # the header, the new tensor, and the manifest
    restores(archive, other, "org/other")
    restores(archive, served)


def test_a_second_revision_fetches_only_what_changed(hub, served, mirror, archive, restores):
    assert mirror().code == 0
    new = {
        "config.json": b'{"changed": 1}',
        "README.md": None,
        "moved/tokenizer.json": served["tokenizer.json"],
    }
    commit = hub.commit(REPO, new)
    hub.requests.clear()
    assert mirror().code == 0
    assert fetched(hub) == {"config.json"}
    files = {name: data for name, data in (served | new).items() if data is not None}
    restores(archive, files, f"{REPO}@{commit[:8]}")
    assert len(seals(archive)) == 2


def test_the_same_revision_again_asks_for_no_file(hub, served, mirror, archive):
    assert mirror().code == 0
    before = {path: path.stat().st_mtime_ns for path in archive.rglob("*.json")}
    hub.requests.clear()
    result = mirror()
    assert result.code == 0
    assert "held already" in result.out
    assert not fetched(hub)
    assert {path: path.stat().st_mtime_ns for path in archive.rglob("*.json")} == before


def test_a_lost_catalogue_costs_nothing(hub, served, mirror, archive):
    assert mirror().code == 0
    for path in archive.glob("catalogue*"):
        path.unlink()
    hub.create("org/other", served)
    hub.requests.clear()
    assert mirror("org/other").code == 0
    assert not fetched(hub)
    assert len(packed(archive)) == len(set(packed(archive)))


def test_a_catalogue_that_lies_is_not_believed(hub, served, mirror, archive, restores, tmp_path):
    """It names packs that hold nothing of the kind; the bytes are then stored, not assumed."""
    assert mirror().code == 0
    (pack,) = (archive / "packs").rglob("*.pack")
    data = bytearray(pack.read_bytes())
    end = int.from_bytes(data[-8:], "little")
    data[300:end] = bytes(end - 300)
    pack.chmod(0o600)
    pack.write_bytes(data)
    for seal in seals(archive):
        seal.unlink()
    tensors = {"a": ("BF16", (32, 128), bf16(1, 32, 128)), "b": ("BF16", (128,), bf16(2, 128))}
    other = {WEIGHTS: safetensors(tensors), "tokenizer.json": served["tokenizer.json"]}
    hub.create("org/other", other)
    assert mirror("org/other").code == 0
    restores(archive, other, "org/other")


# ---- options


def test_a_dry_run_writes_nothing(hub, served, mirror, archive):
    before = {k: v for k, v in files_below(archive).items() if not k.startswith("catalogue")}
    hub.requests.clear()
    result = mirror("--dry-run")
    total = sum(map(len, served.values()))
    assert result.code == 0
    assert "0 B held already" in result.out
    after = {k: v for k, v in files_below(archive).items() if not k.startswith("catalogue")}
    assert after == before
    assert not fetched(hub)
    row = mirror("--dry-run", "--json").records[0]
    assert (row["outcome"], row["held_bytes"], row["to_fetch_bytes"]) == ("planned", 0, total)


def test_a_dry_run_tells_what_is_held(hub, served, mirror, archive):
    assert mirror().code == 0
    hub.commit(REPO, {"config.json": b"{}"})
    before = {k: v for k, v in files_below(archive).items() if not k.startswith("catalogue")}
    row = mirror("--dry-run", "--json").records[0]
    rest = sum(map(len, served.values())) - len(served["config.json"])
    assert (row["held_bytes"], row["to_fetch_bytes"]) == (rest, 2)
    hub.tag(REPO, "v1")
    assert mirror(f"{REPO}@v1", "--dry-run").code == 0
    after = {k: v for k, v in files_below(archive).items() if not k.startswith("catalogue")}
    assert after == before


def test_a_dry_run_of_what_is_sealed_writes_no_event(hub, served, mirror, archive):
    assert mirror().code == 0
    hub.tag(REPO, "v1")
    before = {k: v for k, v in files_below(archive).items() if not k.startswith("catalogue")}
    assert mirror(f"{REPO}@v1", "--dry-run").code == 0
    after = {k: v for k, v in files_below(archive).items() if not k.startswith("catalogue")}
    assert after == before


def test_chosen_files_first_and_all_later(hub, served, mirror, archive, restores):
    result = mirror("--include", "*.json", "--exclude", "tok*")
    assert result.code == 0
    assert fetched(hub) == {"config.json"}
    restores(archive, {"config.json": served["config.json"]})
    hub.requests.clear()
    assert mirror().code == 0
    assert fetched(hub) == {name for name in served if name not in {"config.json", "empty.txt"}}
    restores(archive, served)
    assert "held already" in mirror("--include", "README.md").out


def test_patterns_that_fit_nothing(served, mirror, archive):
    assert mirror("--include", "absent*").code == 2
    assert_nothing_published(archive)


@pytest.mark.parametrize("option", [("--jobs", "1"), ("--jobs", "16"), ("--max-rate", "200kB")])
def test_options_that_change_nothing_in_the_result(served, mirror, archive, restores, option):
    assert mirror(*option).code == 0
    restores(archive, served)


# ---- pins


@pytest.fixture
def pin(monkeypatch, tmp_path, hub, served):
    """Puts a pin of org/model where the package keeps its own."""
    from archiver.archive import pins

    revision = hub.commit(REPO, {"pinned.txt": b"1"})

    def put(**files) -> None:
        folder = tmp_path / "pins" / "org"
        folder.mkdir(parents=True)
        listed = [{"path": path, **facts} for path, facts in files.pop("files").items()]
        told = {
            "kind": "pin",
            "format": 1,
            "repository": REPO,
            "revision": revision,
            "files": listed,
        }
        (folder / "model.json").write_text(json.dumps(told | files))
        real, kept = pins._pins_below, tmp_path / "pins"
        monkeypatch.setattr(
            pins, "_pins_below", lambda below: real(kept if below.name == "pins" else below)
        )

    return put


DISAGREE = {
    "size": {"files": {WEIGHTS: {"size": 5}}},
    "digest of an LFS file": {"files": {WEIGHTS: {"sha256": "0" * 64}}},
    "digest that upstream does not list": {"files": {"config.json": {"sha256": "0" * 64}}},
    "a file too many": {"complete": True, "files": {"config.json": {}}},
}


@pytest.mark.parametrize("what", DISAGREE)
def test_a_pin_that_disagrees(hub, mirror, archive, pin, what):
    pin(**DISAGREE[what])
    result = mirror()
    assert result.code == 22, result
    assert "pin" in result.err
    assert what == "a file too many" or next(iter(DISAGREE[what]["files"])) in result.err
    assert_nothing_published(archive)


def test_a_pin_that_agrees(hub, served, mirror, archive, pin, restores):
    import hashlib

    facts = {
        name: {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for name, data in (served | {"pinned.txt": b"1"}).items()
    }
    pin(complete=True, files=facts)
    assert mirror().code == 0
    restores(archive, served | {"pinned.txt": b"1"})


def test_a_pin_of_another_revision_says_nothing(hub, served, mirror, pin):
    pin(files={WEIGHTS: {"size": 5}})
    hub.commit(REPO, {"pinned.txt": b"2"})
    assert mirror().code == 0


def test_the_debug_variable_shows_where(served, mirror, archive, monkeypatch):
    """The one way to a traceback, for who reports a fault."""
    from archiver.operations.mirror import publish as operation

    def broken(*_, **__):
        raise ZeroDivisionError("a fault")

    monkeypatch.setattr(operation, "publish", broken)
    monkeypatch.setenv("ARCHIVER_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        mirror()
    assert_nothing_published(archive)
    assert os.environ["ARCHIVER_DEBUG"]
