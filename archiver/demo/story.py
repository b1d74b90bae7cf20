"""``archiver demo``: the whole job on a loopback hub, through the real command line, told as a story.

Each step runs the very command that a person would type, in a process of its own.
"""

from __future__ import annotations

import filecmp
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from archiver.demo.checkpoints import minilm_folder, write_dense, write_moe
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
Process = subprocess.CompletedProcess[str]


class Model(NamedTuple):
    """A model that the demonstration serves."""

    repository: str
    folder: Path
    about: str


def audit_excerpt(text: str) -> str:
    """Return the verdict and the codes of the findings; what each one says is long."""
    rows = text.splitlines()
    return "\n".join([rows[0], *(row[:110] for row in rows[1:] if not row.startswith("  "))][:5])


def journey_excerpt(text: str, work: Path) -> str:
    """Return what was said on a journey, with names and digests short enough for a row."""
    digests = re.compile(r"\b([0-9a-f]{8})[0-9a-f]{56}\b")
    rows = digests.sub(r"\1…", text.replace(f"{work}/", "")).splitlines()
    # What is wrong with a file begins with its name once more.
    return "\n".join(
        re.sub(r"^(  damaged: volume \d+, (\S+): )\S+/\2 ", r"\1", row) for row in rows
    )


def smoke_test_excerpt(text: str) -> str:
    """Return how each level ended, the first thing that it showed, and the verdict."""
    rows = pairwise(["", *text.splitlines()])
    return "\n".join(
        row for before, row in rows if not before.startswith("  ") or not row.startswith("  ")
    )


def _process(command: list[str]) -> Process:
    return subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own commands


def _output_of(process: Process, code: ExitCode = ExitCode.OK) -> str:
    """Return what the process printed; raise ArchiverError unless it ended with ``code``."""
    if process.returncode != code:
        command = " ".join(process.args[1:])
        output = (process.stderr or process.stdout).strip()
        raise ArchiverError(f"'{command}' ended with {process.returncode}: {output}")
    return process.stdout


def _command(*words: str) -> list[str]:
    return [sys.executable, "-m", "archiver", *words, "--quiet"]


def _without_network() -> list[str]:
    """Return the words before a command that leave it no network; none if this system allows none."""
    for words in (["unshare", "--net"], ["unshare", "--map-root-user", "--net"]):
        with suppress(OSError):
            if _process([*words, "true"]).returncode == 0:
                return words
    return []


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
        self._stored_bytes = 0
        self._skipped: SkippedError | None = None

    def tell(self) -> None:
        """Run everything.

        Raises:
            ArchiverError: A step did not hold; it is the last one that is run.
            SkippedError: All held, but the real model, or running one, could not be part of it.
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
        self._audit()
        # Before parity and damage: what the archive of the models alone takes.
        self._stored_bytes = sum(path.stat().st_size for path in _files(self._archive).values())
        self._rot()
        self._bring_back()
        self._without_archiver()
        self._smoke_test()
        self._cross_the_gap()
        self._verdict(time.monotonic() - started)
        if self._skipped is not None:
            raise self._skipped

    def _build(self, work: Path) -> Iterator[Model]:
        yield Model(
            DENSE, write_dense(work / "dense"), "generated, Qwen3.5 dense layout with vision"
        )
        yield Model(MOE, write_moe(work / "moe"), "generated, Qwen3.5 mixture-of-experts layout")
        try:
            yield Model(MINILM, minilm_folder(), "real trained weights, F32")
        except SkippedError as error:
            self._skipped = error

    def _chapter(self, title: str, shown: str) -> None:
        self._step += 1
        self._say("")
        self._say(f"{self._step}. {title}")
        if shown:
            self._say(f"   $ {shown}")

    def _run(self, *arguments: str, code: ExitCode = ExitCode.OK) -> str:
        """Run ``archiver`` as a person would and return its output; raise unless it ends with ``code``."""
        return _output_of(self._archiver(*arguments), code)

    def _archiver(self, *arguments: str) -> Process:
        where = [] if arguments[0] == "verify" else ["-C", str(self._archive)]
        return _process(_command(*arguments, *where))

    def _show(self, text: str) -> None:
        for row in text.splitlines():
            self._say(f"   {row}")

    def _mirror(self) -> None:
        names = [model.repository for model in self._models]
        self._chapter("Mirror them", "archiver init && archiver mirror " + " ".join(names))
        self._run("init")
        self._show(self._run("mirror", *names))
        self._chapter("Mirror again: nothing is fetched twice", f"archiver mirror {DENSE}")
        self._show(self._run("mirror", DENSE))

    def _audit(self) -> None:
        self._chapter("The hub is gone. What is held?", "archiver list")
        self._show(self._run("list"))
        self._chapter("Decode and re-hash every object", "archiver audit")
        self._show(self._run("audit"))

    def _rot(self) -> None:
        """Damage a pack and a seal as an old disk would, and repair them without another copy."""
        self._chapter("Add parity, in case a disk rots", "archiver parity add")
        self._show(self._run("parity", "add"))
        # Of a small pack, such as one of a manifest alone, 100 kB are more than its parity bears.
        pack = max(self._archive.glob("packs/*/*.pack"), key=lambda path: path.stat().st_size)
        self._chapter("A disk rots: 100 kB of a pack, a bit of a seal", "archiver audit")
        _spoil(pack, 100_000)
        # The seal of another snapshot than the pack's, or else nobody could say whom the pack hits.
        _spoil(max(self._archive.glob("snapshots/*/*/*.json")), 1)
        self._show(audit_excerpt(self._run("audit", code=ExitCode.DAMAGE)))
        self._chapter("Repair it from parity, and audit again", "archiver repair && archiver audit")
        self._show(self._run("repair", "--no-upstream"))
        self._show(self._run("audit"))

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
        self._show(self._run("verify", str(restored), "--manifest", str(manifest)))

    def _without_archiver(self) -> None:
        self._chapter(
            "Restore once more with the archive's own decode.py, without archiver",
            f"python archive/decode.py restore {DENSE} by-hand/…",
        )
        script = str(self._archive / "decode.py")
        for model in self._models:
            out = self._work / "by-hand" / model.folder.name
            command = [sys.executable, "-I", script, "restore", model.repository, str(out)]
            _output_of(_process(command))
            self._compare(model, out)

    def _smoke_test(self) -> None:
        """Run a model out of the archive; without the libraries for it, show what it says then."""
        self._chapter(
            "Run a model straight from the archive, restoring nothing",
            f"archiver smoke-test {MOE}",
        )
        process = self._archiver("smoke-test", MOE)
        if process.returncode == ExitCode.SKIPPED:
            message = "The smoke test of a model could not run."
            self._skipped = self._skipped or SkippedError(message, hint=install_hint())
        else:
            _output_of(process)
        self._show(smoke_test_excerpt(process.stdout))

    def _cross_the_gap(self) -> None:
        """Carry a model on volumes, one of them damaged, to where no network is, and hear of it."""
        model, stick = self._models[-1], self._work / "stick"
        self._chapter(
            "Carry a model across an air gap, on volumes of 34 MB",
            f"archiver bundle export {model.repository} --to stick --volume-size 34MB --parity 2",
        )
        words = ["--to", str(stick), "--volume-size", "34MB", "--parity", "2"]
        exported = self._run("bundle", "export", model.repository, *words)
        self._show(journey_excerpt(exported, self._work))
        last = max(stick.glob("volume-*"))
        _spoil(max(last.rglob("*.pack*"), key=lambda path: path.stat().st_size), 100_000)
        self._chapter(
            "A volume is damaged on its way: 100 kB of a pack",
            "archiver bundle verify stick && archiver bundle import -C far/weights --new stick",
        )
        verified = _process(_command("bundle", "verify", str(stick)))
        self._show(journey_excerpt(_output_of(verified, ExitCode.DAMAGE), self._work))
        alone = _without_network()
        self._say(
            "   The other side has no network: all of it runs where there is none."
            if alone
            else "   This system makes no place without a network, so that the other side is not one."
        )
        far, receipt = self._work / "far", str(stick / "receipt.json")
        far.mkdir()

        def there(*words: str) -> str:
            return _output_of(_process([*alone, *_command(*words)]))

        weights = ["-C", str(far / "weights")]
        imported = there("bundle", "import", *weights, "--new", str(stick))
        self._show(journey_excerpt(imported, self._work))
        there("restore", *weights, model.repository, str(far / "model"))
        self._compare(model, far / "model")
        self._chapter(
            "It tells home what arrived, signed",
            "archiver receipt write && archiver receipt accept",
        )
        there("keys", "new", str(far / "far"), "--no-password")
        key = ["--sign", str(far / "far.key")]
        words = ["-o", receipt, "--name", "the far side", *key]
        self._show(journey_excerpt(there("receipt", "write", *weights, *words), self._work))
        self._run("policy", "set", "--trust", str(far / "far.pub"))
        self._show(self._run("receipt", "accept", receipt))

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
        stored = self._stored_bytes
        self._say("")
        self._say(
            f"{plural(len(rows), 'model')}, {human_bytes(plain)}, kept in {human_bytes(stored)} "
            f"({stored / plain:.3f} of the size, index and all), damaged, repaired, "
            f"brought back twice and carried off, bit for bit, in {human_duration(seconds)}."
        )
