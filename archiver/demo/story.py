"""``archiver demo``: the whole job on a loopback hub, through the real command line, told as a story.

Each step runs the very command that a person would type, in a process of its own.
"""

from __future__ import annotations

import filecmp
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from archiver.demo import excerpts
from archiver.demo.checkpoints import write_dense, write_moe
from archiver.demo.minilm import minilm_folder
from archiver.demo.processes import Done, output_of, process
from archiver.errors import ArchiverError, ExitCode, SkippedError
from archiver.loopback.hub import Hub
from archiver.smoke.libraries import install_hint
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


def _spoil(path: Path, count: int) -> None:
    """Turn over a bit in each of ``count`` bytes in the middle of a stored file."""
    body = bytearray(path.read_bytes())
    begin = (len(body) - count) // 2
    body[begin : begin + count] = bytes(byte ^ 1 for byte in body[begin : begin + count])
    path.chmod(0o644)
    path.write_bytes(body)


class Story:
    """The demonstration, step by step, in the empty folder ``work``."""

    def __init__(self, work: Path, say: Say) -> None:
        self._work = work
        self._say = say
        self._archive = work / "archive"
        self._step = 0
        self._models: list[Model] = []
        self._kept = 0
        self._left_out: SkippedError | None = None

    def tell(self) -> None:
        """Run everything; raises ArchiverError at the first step that does not hold.

        Raises SkippedError at the end if the real model, or running one, could not be part of it.
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
        self._kept = sum(path.stat().st_size for path in _files(self._archive).values())
        self._rot()
        self._bring_back()
        self._without_archiver()
        self._smoke_test()
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

    def _run(self, *arguments: str, code: ExitCode = ExitCode.OK) -> str:
        """Run ``archiver`` as a person would; its output. ArchiverError unless it ends with ``code``."""
        return output_of(self._archiver(*arguments), code)

    def _archiver(self, *arguments: str) -> Done:
        where = [] if arguments[0] == "verify" else ["-C", str(self._archive)]
        return process([sys.executable, "-m", "archiver", *arguments, *where, "--quiet"])

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

    def _rot(self) -> None:
        """Damage a pack and a seal as an old disk would, and repair them without another copy."""
        self._chapter("Add parity, in case a disk rots", "archiver parity add")
        self._tell_output(self._run("parity", "add"))
        packs = sorted(self._archive.glob("packs/*/*.pack"), key=lambda path: path.stat().st_size)
        self._chapter("A disk rots: 100 kB of a pack, a bit of a seal", "archiver audit")
        _spoil(packs[0], 100_000)
        _spoil(min(self._archive.glob("snapshots/*/*/*.json")), 1)
        self._tell_output(excerpts.of_audit(self._run("audit", code=ExitCode.DAMAGE)))
        self._chapter("Repair it from parity, and audit again", "archiver repair && archiver audit")
        self._tell_output(self._run("repair", "--no-upstream"))
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
            command = [sys.executable, "-I", script, "restore", model.repository, str(out)]
            output_of(process(command))
            self._compare(model, out)

    def _smoke_test(self) -> None:
        """Run a model out of the archive; without the libraries for it, show what is told then."""
        self._chapter(
            "Run a model straight from the archive, restoring nothing",
            f"archiver smoke-test {MOE}",
        )
        done = self._archiver("smoke-test", MOE)
        if done.returncode == ExitCode.SKIPPED:
            told = "The smoke test of a model could not run."
            self._left_out = self._left_out or SkippedError(told, hint=install_hint())
        else:
            output_of(done)
        self._tell_output(excerpts.of_smoke_test(done.stdout))

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
        self._say(
            f"\n{plural(len(rows), 'model')}, {human_bytes(plain)}, kept in {human_bytes(self._kept)} "
            f"({self._kept / plain:.3f} of the size, index and all), damaged, repaired, "
            f"brought back twice, bit for bit, in {human_duration(seconds)}."
        )
