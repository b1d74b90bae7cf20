"""--dry-run: which packs a restore would read, and whether they are there."""

from __future__ import annotations

import pytest
from kit.repository import REPO, WEIGHTS, model


@pytest.fixture
def grown(hub, mirror, archive):
    """Two revisions: the second needs the packs of the first too."""
    files = model()
    hub.create(REPO, files)
    assert mirror().code == 0
    first = set(archive.rglob("*.pack"))
    hub.commit(REPO, {**files, "more.bin": b"more" * 5000})
    assert mirror().code == 0
    return {path.stem for path in first}


def plan(cli, archive, *words, code=0):
    done = cli(
        "restore", "-C", archive, REPO, archive.parent / "out", "--dry-run", "--json", *words
    )
    assert done.code == code, done.out
    assert not (archive.parent / "out").exists()
    return done.only("restore-plan")


def test_packs_with_sizes(grown, archive, cli):
    told = plan(cli, archive)
    sizes = {path.stem: path.stat().st_size for path in archive.rglob("*.pack")}
    assert {pack["pack"]: pack["size"] for pack in told["packs"]} == sizes
    assert all(pack["there"] and pack["objects"] for pack in told["packs"])
    assert (told["files"], told["lacking"]) == (8, [])
    said = cli("restore", "-C", archive, REPO, "out", "-n").out
    assert "nothing was written" in said
    assert said.count(".pack  ") == 2


def test_only_the_packs_of_what_is_asked_for(grown, archive, cli):
    (pack,) = plan(cli, archive, "--file", WEIGHTS)["packs"]
    assert pack["pack"] in grown
    (tensors,) = plan(cli, archive, "--tensor", "norm.weight")["packs"]
    assert (tensors["pack"], tensors["objects"]) == (pack["pack"], 1)
    (more,) = plan(cli, archive, "--file", "more.bin")["packs"]
    assert more["pack"] not in grown
    for words in (("--layout", "hf-cache"), ("--check", "segments"), ("--overwrite",)):
        assert len(plan(cli, archive, *words)["packs"]) == 2


def test_what_is_not_there(grown, archive, cli):
    (lost,) = (path for path in archive.rglob("*.pack") if path.stem not in grown)
    size = lost.stat().st_size
    lost.unlink()
    told = plan(cli, archive, code=20)
    absent = [pack for pack in told["packs"] if not pack["there"]]
    assert [(pack["pack"], pack["size"]) for pack in absent] == [(lost.stem, size)]
    assert told["lacking"] == ["more.bin"]
    done = cli("restore", "-C", archive, REPO, "out", "-n")
    assert "NOT here" in done.out
    assert "1 file could not be restored: more.bin" in done.out
    # What does not need it can be restored as before.
    assert plan(cli, archive, "--file", WEIGHTS)["lacking"] == []


def test_where_they_lie_elsewhere(grown, archive, cli, tmp_path):
    (lost,) = (path for path in archive.rglob("*.pack") if path.stem not in grown)
    (tmp_path / "more").mkdir()
    lost.rename(tmp_path / "more" / lost.name)
    told = plan(cli, archive, "--packs", tmp_path / "more")
    assert told["lacking"] == []
    assert {pack["pack"] for pack in told["packs"]} == grown | {lost.stem}
