"""Random lives of an archive and of its copy, against a dictionary that says what must be in them."""

from __future__ import annotations

import json
import os
import random
import shutil
import tempfile
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from archiver.cli.main import invoke
from archiver.loopback import Hub

Files = dict[str, bytes]

EXAMPLES = int(os.environ.get("ARCHIVER_TEST_MODEL", "8"))
"""How many lives are tried; more by hand."""
STEPS = 14
NAMES = ("org/one", "org/two")
# Few contents, so that snapshots share objects and packs.
CONTENTS = {
    "empty": b"",
    "brackets": b"{}\n",
    "counting": bytes(range(256)) * 40,
    "text": b"text " * 700,
    "noise": random.Random(1).randbytes(9000),
    "zeros": b"\x00" * 5000,
}
STORED = ("packs", "manifests", "snapshots", "journal")

contents = st.dictionaries(
    st.sampled_from(["config.json", "model.bin", "sub/notes.txt", "vocab.json"]),
    st.sampled_from(sorted(CONTENTS)),
    min_size=1,
    max_size=4,
)


def contents_of(files: dict[str, str]) -> Files:
    return {path: CONTENTS[what] for path, what in files.items()}


def files_below(folder: Path) -> Files:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


class Kept:
    """An archive on disk, and what must come out of it: title -> files."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.live: dict[str, Files] = {}
        self.forgotten: dict[str, Files] = {}

    def stored(self) -> list[Path]:
        """Every file that is named by its digest."""
        found = (path for part in STORED for path in (self.root / part).rglob("*"))
        return sorted(path for path in found if path.is_file())


class Lives(RuleBasedStateMachine):
    """What its owner may do with an archive, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.hub = Hub().__enter__()
        self.before = os.environ.get("HF_ENDPOINT")
        os.environ["HF_ENDPOINT"] = self.hub.endpoint
        self.count = 0
        self.repositories: set[str] = set()

    def teardown(self) -> None:
        self.hub.stop()
        os.environ.pop("HF_ENDPOINT")
        if self.before is not None:
            os.environ["HF_ENDPOINT"] = self.before
        for path in self.folder.rglob("*"):
            if path.is_dir():
                path.chmod(0o755)
        shutil.rmtree(self.folder)

    # ---- how it is done

    def run(self, *words: object) -> tuple[int, list[dict]]:
        out, err = StringIO(), StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            code = invoke(["--json", "-q", *map(str, words)])
        assert "did not expect" not in err.getvalue() + out.getvalue(), err.getvalue()
        self.said = out.getvalue() + err.getvalue()
        return code, [json.loads(line) for line in out.getvalue().splitlines()]

    def done(self, *words: object) -> list[dict]:
        code, rows = self.run(*words)
        assert code == 0, (words, code, self.said)
        return rows

    def new_folder(self) -> Path:
        self.count += 1
        return self.folder / str(self.count)

    def take_in(self, rows: list[dict], files: Files) -> None:
        (row,) = [row for row in rows if row.get("revision") and row.get("outcome")]
        title = f"{row['repository']}@{row['revision']}"
        self.kept.live[title] = files
        self.kept.forgotten.pop(title, None)

    @initialize()
    def begin(self) -> None:
        self.kept, self.copy = Kept(self.folder / "archive"), Kept(self.folder / "copy")
        self.done("init", "-C", self.kept.root)

    # ---- adding

    @rule(name=st.sampled_from(NAMES), files=contents)
    def import_folder(self, name: str, files: dict[str, str]) -> None:
        folder, made = self.new_folder(), contents_of(files)
        for path, data in made.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(data)
        rows = self.done("import", "-C", self.kept.root, folder, "--as", name)
        self.take_in(rows, made)

    @rule(name=st.sampled_from(["hub/one", "hub/two"]), files=contents)
    def mirror(self, name: str, files: dict[str, str]) -> None:
        if name in self.repositories:
            self.hub.commit(name, contents_of(files))
        else:
            self.hub.create(name, contents_of(files))
            self.repositories.add(name)
        rows = self.done("mirror", "-C", self.kept.root, name)
        revision = next(row["revision"] for row in rows if row.get("revision"))
        known = self.kept.live.get(f"{name}@{revision}")
        self.take_in(rows, known or self.served(name, revision))

    def served(self, name: str, revision: str) -> Files:
        """The files of a commit, as the hub has them."""
        import httpx2

        base = f"{self.hub.endpoint}/{name}/resolve/{revision}"
        listing = httpx2.get(f"{self.hub.endpoint}/api/models/{name}/revision/{revision}").json()
        paths = [one["rfilename"] for one in listing["siblings"]]
        return {path: httpx2.get(f"{base}/{path}", follow_redirects=True).content for path in paths}

    # ---- deleting

    @precondition(lambda self: self.kept.live)
    @rule(data=st.data())
    def forget(self, data: st.DataObject) -> None:
        title = data.draw(st.sampled_from(sorted(self.kept.live)))
        self.done("forget", "-C", self.kept.root, title)
        self.kept.forgotten[title] = self.kept.live.pop(title)

    @precondition(lambda self: self.kept.forgotten)
    @rule(data=st.data())
    def remember(self, data: st.DataObject) -> None:
        title = data.draw(st.sampled_from(sorted(self.kept.forgotten)))
        code, _ = self.run("forget", "-C", self.kept.root, "--undo", title)
        if code == 0:
            self.kept.live[title] = self.kept.forgotten.pop(title)

    @rule()
    def prune(self) -> None:
        self.done("prune", "-C", self.kept.root, "--grace", "0s")

    # ---- keeping

    @rule()
    def copy_over(self) -> None:
        self.done("copy", "-C", self.kept.root, self.copy.root)
        self.copy.live |= self.kept.live
        self.compare(self.copy)

    @rule()
    def protect(self) -> None:
        self.done("parity", "add", "-C", self.kept.root)

    @precondition(lambda self: self.kept.live)
    @rule(data=st.data(), kind=st.sampled_from(["flip", "cut", "missing"]))
    def damage_and_repair(self, data: st.DataObject, kind: str) -> None:
        self.copy_over()
        path = data.draw(st.sampled_from(self.kept.stored()), label="damaged file")
        body = bytearray(path.read_bytes())
        path.chmod(0o644)
        if kind == "missing":
            path.unlink()
        else:
            body[len(body) // 2] ^= 1
            path.write_bytes(body[: len(body) // 3] if kind == "cut" else body)
        self.done("repair", "-C", self.kept.root, "--from", self.copy.root, "--no-upstream")
        self.done("audit", "-C", self.kept.root)

    @precondition(lambda self: self.copy.live)
    @rule()
    def lose_all_and_copy_back(self) -> None:
        self.copy_over()
        shutil.rmtree(self.kept.root)
        self.done("copy", "-C", self.copy.root, self.kept.root)
        self.kept.live, self.kept.forgotten = dict(self.copy.live), {}

    @rule(how=st.sampled_from(["gone", "garbage", "rebuild"]))
    def catalogue(self, how: str) -> None:
        path = self.kept.root / "catalogue.sqlite"
        if how == "rebuild":
            self.done("catalogue", "rebuild", "-C", self.kept.root)
            return
        for one in self.kept.root.glob("catalogue.sqlite*"):
            one.unlink()
        if how == "garbage":
            path.write_bytes(b"\x13" * 5000)

    # ---- what must always hold

    @invariant()
    def everything_comes_out(self) -> None:
        self.compare(self.kept)

    def compare(self, kept: Kept) -> None:
        rows = [row for row in self.done("list", "-C", kept.root) if row["kind"] == "snapshot"]
        titles = {f"{row['repository']}@{row['revision']}" for row in rows}
        assert titles == set(kept.live)
        for title, files in kept.live.items():
            folder = self.new_folder()
            self.done("restore", "-C", kept.root, title, folder)
            assert files_below(folder) == files
            shutil.rmtree(folder)


def test_whatever_happens_everything_comes_out(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    run_state_machine_as_test(
        Lives,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
