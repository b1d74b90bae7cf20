"""``archiver demo``: the whole job on a loopback hub, through the real command line, told as a story.

Each step runs the very command that a person would type, in a process of its own.
"""

from __future__ import annotations

import filecmp
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from archiver.demo.checkpoints import write_dense, write_moe
from archiver.demo.minilm import minilm_folder
from archiver.errors import ArchiverError, SkippedError
from archiver.loopback.hub import Hub
from archiver.text import human_bytes, human_duration, plural

if TYPE_CHECKING:
    from pathlib import Path

DENSE = "demo/Qwen3.5-dense"
MOE = "demo/Qwen3.5-moe"
MINILM = "demo/all-MiniLM-L6-v2"

Say = Callable[[str], None]


class Model(NamedTuple):
    """A model that the demonstration serves."""

    repository: str
    folder: Path
    about: str


def _files(folder: Path) -> dict[str, Path]:
    return {
        path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()
    }


class Story:
    """The demonstration, step by step, in the empty folder ``work``."""

    def __init__(self, work: Path, say: Say) -> None:
        self._work = work
        self._say = say
        self._archive = work / "archive"
        self._step = 0
        self._models: list[Model] = []
        self._left_out: SkippedError | None = None

    def tell(self) -> None:
        """Run everything; raises ArchiverError at the first step that does not hold.

        Raises SkippedError at the end if the real model could not be part of it.
        """
        started = time.monotonic()
        self._models = list(self._build(self._work / "models"))
        with Hub() as hub:
            self._chapter("A hub on this machine serves", "")
            for model in self._models:
                hub.create(model.repository, _files(model.folder))
                size = sum(path.stat().st_size for path in _files(model.folder).values())
                self._say(f"   {model.repository:<24} {human_bytes(size):>9}  {model.about}")
            os.environ["HF_ENDPOINT"] = hub.endpoint
            os.environ.setdefault("HF_HUB_DISABLE_XET", "1")
            self._mirror()
        self._check()
        self._bring_back()
        self._without_archiver()
        self._verdict(time.monotonic() - started)
        if self._left_out is not None:
            raise self._left_out

    def _build(self, work: Path) -> Iterator[Model]:
        yield Model(
            DENSE, write_dense(work / "dense"), "generated, Qwen3.5 dense layout with vision"
        )
        yield Model(MOE, write_moe(work / "moe"), "generated, Qwen3.5 mixture-of-experts layout")
        try:
            yield Model(MINILM, minilm_folder(), "real trained weights, F32")
        except SkippedError as error:
            self._left_out = error

    def _chapter(self, title: str, shown: str) -> None:
        self._step += 1
        self._say(f"\n{self._step}. {title}" + (f"\n   $ {shown}" if shown else ""))

    def _run(self, *arguments: str) -> str:
        """Run ``archiver`` as a person would; its output. Raises ArchiverError if it fails."""
        where = [] if arguments[0] == "verify" else ["-C", str(self._archive)]
        return self._process([sys.executable, "-m", "archiver", *arguments, *where, "--quiet"])

    def _process(self, command: list[str]) -> str:
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own commands
        if done.returncode:
            raise ArchiverError(
                f"'{' '.join(command[1:])}' ended with {done.returncode}: {done.stderr.strip()}"
            )
        return done.stdout

    def _tell_output(self, text: str) -> None:
        for row in text.splitlines():
            self._say(f"   {row}")

    def _mirror(self) -> None:
        names = [model.repository for model in self._models]
        self._chapter("Mirror them", "archiver init && archiver mirror " + " ".join(names))
        self._run("init")
        self._tell_output(self._run("mirror", *names))
        self._chapter("Mirror again: nothing is fetched twice", f"archiver mirror {DENSE}")
        self._tell_output(self._run("mirror", DENSE))

    def _check(self) -> None:
        self._chapter("The hub is gone. What is held?", "archiver list")
        self._tell_output(self._run("list"))
        self._chapter("Decode and re-hash every object", "archiver audit")
        self._tell_output(self._run("audit"))

    def _bring_back(self) -> None:
        self._chapter("Restore, and compare every byte", f"archiver restore {DENSE} restored/…")
        for model in self._models:
            out = self._work / "restored" / model.folder.name
            self._run("restore", model.repository, str(out))
            self._compare(model, out)
        model = self._models[0]
        manifest = self._work / "manifest.json"
        self._chapter(
            "Verify a restored folder by its manifest alone",
            f"archiver verify restored/{model.folder.name} --manifest manifest.json",
        )
        self._run("manifest", "export", model.repository, "-o", str(manifest))
        restored = self._work / "restored" / model.folder.name
        self._tell_output(self._run("verify", str(restored), "--manifest", str(manifest)))

    def _without_archiver(self) -> None:
        self._chapter(
            "Restore once more with the archive's own decode.py, without archiver",
            f"python archive/decode.py restore {DENSE} by-hand/…",
        )
        script = str(self._archive / "decode.py")
        for model in self._models:
            out = self._work / "by-hand" / model.folder.name
            self._process([sys.executable, "-I", script, "restore", model.repository, str(out)])
            self._compare(model, out)

    def _compare(self, model: Model, out: Path) -> None:
        before, after = _files(model.folder), _files(out)
        same = before.keys() == after.keys() and all(
            filecmp.cmp(before[name], after[name], shallow=False) for name in before
        )
        if not same:
            raise ArchiverError(f"{model.repository} did not come back as it was.")
        self._say(f"   {model.repository:<24} {plural(len(after), 'file')}, every byte the same")

    def _verdict(self, seconds: float) -> None:
        rows = [json.loads(row) for row in self._run("list", "--json").splitlines()]
        plain = sum(row["bytes"] for row in rows)
        disk = sum(path.stat().st_size for path in self._archive.rglob("*") if path.is_file())
        self._say(
            f"\n{plural(len(rows), 'model')}, {human_bytes(plain)}, kept in {human_bytes(disk)} "
            f"({disk / plain:.3f} of the size, index and all), brought back twice, "
            f"bit for bit, in {human_duration(seconds)}."
        )
