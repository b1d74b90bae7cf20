"""Branches and tags mean the same wherever they are asked: a server, a mount, a page, a restored cache."""

from __future__ import annotations

import json
from typing import NamedTuple

import pytest
from kit.cli import invoke
from kit.mounts import Mounted, python
from kit.served import served

from archiver.archive.archive import Archive
from archiver.archive.events import UpstreamChange, UpstreamChanged, new_event
from archiver.loopback.hub import Hub

NAME = "org/model"


class Moved(NamedTuple):
    """An archive whose upstream moved its names, with two of its commits, and what names mean there."""

    archive: object
    first: str
    second: str

    @property
    def branches(self) -> dict[str, str]:
        return {"main": self.second, "trunk": self.second, "dev": self.first, "old": self.first}

    @property
    def tags(self) -> dict[str, str]:
        return {"v1": self.second, "dropped": self.first}


@pytest.fixture(scope="module")
def moved(tmp_path_factory) -> Moved:
    folder = tmp_path_factory.mktemp("moved")
    archive = folder / "archive"

    def run(command: str, *words: object) -> None:
        assert invoke(command, "-q", "-C", archive, *words) == 0

    run("init")
    with Hub() as hub, pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_ENDPOINT", hub.endpoint)
        first = hub.create(NAME, {"config.json": b"1"})
        hub.branch(NAME, "dev", first)
        for tag in ("v1", "dropped"):
            hub.tag(NAME, tag, first)
        for name in (NAME, f"{NAME}@dev", f"{NAME}@v1", f"{NAME}@dropped"):
            run("mirror", name)
        second = hub.commit(NAME, {"config.json": b"2"})
        run("mirror", NAME)
        run("watch", NAME)
        hub.tag(NAME, "v1", second)
        hub.untag(NAME, "dropped")
        hub.branch(NAME, "dev", hub.commit(NAME, {"config.json": b"3"}))
        run("watch", NAME)
    changes = (
        UpstreamChange("branch", "main", second, ""),
        UpstreamChange("branch", "trunk", "", second),
    )
    Archive.open(archive).record(new_event(UpstreamChanged("https://hub", changes), NAME))
    # A cache has a name of its own, and another of upstream's at a commit of long ago.
    run("restore", f"{NAME}@{first}", folder / "cache", "--layout", "hf-cache")
    cached = folder / "cache" / "models--org--model"
    (cached / "refs/old").write_text(first)
    (cached / "refs/main").write_text(first)
    for name in ("old", "main"):
        run("import", cached, "--revision", name)
    return Moved(archive, first, second)


def test_a_server_and_a_mount_agree(moved, tmp_path):
    with served(moved.archive) as server:
        told = json.loads(server.ask(f"/api/models/{NAME}/refs").body)
        for name, commit in (moved.branches | moved.tags).items():
            answer = server.ask(f"/{NAME}/resolve/{name}/config.json")
            assert answer.headers["x-repo-commit"] == commit, name
            assert answer.body == (b"1" if commit == moved.first else b"2"), name
    served_refs = {
        kind: {ref["name"]: ref["targetCommit"] for ref in told[kind]}
        for kind in ("branches", "tags")
    }
    assert served_refs == {"branches": moved.branches, "tags": moved.tags}
    code = """
import json, os, sys
links, refs = sys.argv[1:]
print(json.dumps([
    {each.name: os.readlink(each) for each in os.scandir(links) if each.is_symlink()},
    {each.name: open(each).read() for each in os.scandir(refs)},
]))
"""
    with Mounted(moved.archive, tmp_path / "m") as mounted:
        refs = mounted.folder / ".hub/models--org--model/refs"
        links, cached = json.loads(python(code, mounted.folder / NAME, refs))
    assert links == cached == moved.branches | moved.tags


def test_the_page_says_where_upstream_has_moved_on(moved):
    with served(moved.archive) as server:
        page = server.ask(f"/repositories/{NAME}", {"Accept": "text/html"}).body.decode()
    for shown in (
        ">main (no longer upstream)<",
        ">dropped (no longer upstream)<",
        ">dev (moved on upstream)<",
        ">trunk<",
        ">v1<",
        ">old<",
    ):
        assert page.count(shown) == 1, shown


def test_a_restored_cache_gets_what_a_run_saw_last(moved, tmp_path):
    """Other programs take a cache's names for upstream's: ``v1`` and ``trunk`` only watch saw there."""
    expected = {
        moved.first: {"dev", "v1", "dropped", "old"},
        moved.second: {"main"},
    }
    for commit, names in expected.items():
        words = ("-C", moved.archive, f"{NAME}@{commit}", tmp_path / commit)
        assert invoke("restore", "-q", *words, "--layout", "hf-cache") == 0
        refs = tmp_path / commit / "models--org--model/refs"
        assert {path.name for path in refs.iterdir()} == names
        assert {path.read_text() for path in refs.iterdir()} == {commit}
