"""Whatever single bit or frame around the data is damaged, nothing is lost.

Each fault is made in a copy of a small archive without parity. Then `archiver restore`, `decode.py` alone
(a bare Python, every other time without the program `zstd`) and `archiver audit` run as processes of their
own. `make test` tries a sample of the faults, `make test-long` all of them.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, NamedTuple

import pytest
from kit.cli import invoke
from kit.faults import checksums, overwrite, signposts
from kit.repository import bf16, files_below, safetensors

from archiver.loopback.hub import Hub

if TYPE_CHECKING:
    from pathlib import Path

    from kit.zygote import Zygote

REPO = "Org/Model"
FIRST = {
    "config.json": b'{"model_type": "tiny"}\n',
    "model.safetensors": safetensors({"w": ("BF16", (30, 100), bf16(1, 30, 100))}),
}
SECOND = FIRST | {"empty": b"", "notes/read me.txt": b"some words " * 40}
BITS = {
    "head": 6,
    "header": 14,
    "checksum": 4,
    "index": 16,
    "trailer": 8,
    "manifest": 16,
    "seal": 20,
    "archive.json": 20,
}
"""So many bits of each flip, one at a time; and each is zeroed once."""
NUMBERED = ("head", "seal", "archive.json")
"""These say the format's number, of which every bit is tried."""
SAMPLE = 15


class Part(NamedTuple):
    """A stretch of a stored file, without which the second revision has to be read."""

    kind: str
    path: str
    begin: int
    end: int


class Fault(NamedTuple):
    """A bit that flips in a part, or all of the part zeroed if ``at`` is None."""

    part: Part
    at: int | None
    bit: int = 0

    def make(self, root: Path) -> None:
        path = root / self.part.path
        data = bytearray(path.read_bytes())
        if self.at is None:
            data[self.part.begin : self.part.end] = bytes(self.part.end - self.part.begin)
        else:
            data[self.part.begin + self.at] ^= 1 << self.bit
        overwrite(path, bytes(data))


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    """The second revision needs the pack of the first, and one of its own."""
    root = tmp_path_factory.mktemp("single-faults") / "archive"
    with pytest.MonkeyPatch.context() as patch, Hub() as hub:
        patch.setenv("HF_ENDPOINT", hub.endpoint)
        patch.setenv("HOME", str(root.parent))
        assert invoke("init", "-q", "-C", root) == 0
        for write, files in ((hub.create, FIRST), (hub.commit, SECOND)):
            write(REPO, files)
            assert invoke("mirror", "-q", "-C", root, REPO, "--min-free", "0B") == 0
    assert not (root / "parity").exists()
    return root


def newest_seal(root: Path) -> Path:
    (path,) = (
        path
        for path in (root / "snapshots").rglob("*.json")
        if json.loads(path.read_bytes())["totals"]["files"] == len(SECOND)
    )
    return path


def parts(root: Path) -> list[Part]:
    """Everything but data that the second revision is read by."""
    seal = newest_seal(root)
    (manifest,) = root.glob(f"manifests/*/*/{seal.name.partition('.')[0]}.*")
    stretches: list[tuple[str, Path, int, int]] = []
    packs = sorted(root.glob("packs/*/*.pack"))
    assert len(packs) == len(json.loads(seal.read_bytes())["packs"]) == 2
    for path in packs:
        *headers, head, index, trailer = signposts(path)
        named = [("head", head), ("index", index), ("trailer", trailer)]
        named += [("checksum", where) for where in checksums(path)]
        stretches += [("header", path, *where) for where in headers]
        stretches += [(kind, path, *where) for kind, where in named]
    documents = {"manifest": manifest, "seal": seal, "archive.json": root / "archive.json"}
    stretches += [(kind, path, 0, path.stat().st_size) for kind, path in documents.items()]
    return [Part(kind, str(path.relative_to(root)), *at) for kind, path, *at in stretches]


def faults(root: Path) -> list[Fault]:
    draw = random.Random(1)
    every: list[Fault] = []
    for part in parts(root):
        every.append(Fault(part, None))
        places = draw.sample(range(8 * (part.end - part.begin)), BITS[part.kind])
        every += [Fault(part, *divmod(place, 8)) for place in places]
        if part.kind in NUMBERED:
            data = (root / part.path).read_bytes()
            at = data.index(b'"format":') + len(b'"format":') - part.begin
            every += [Fault(part, at, bit) for bit in range(8)]
    return every


def decode(root: Path, reference: str, out: Path, *, program: bool) -> tuple[int, str]:
    """By the decoder that lies in the archive, under a Python that has its standard library alone."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", root / "decode.py", "restore", reference, out],
        check=False,
        capture_output=True,
        text=True,
        timeout=600,
        env=None if program else {**os.environ, "PATH": "/nowhere"},
    )
    return done.returncode, done.stdout + done.stderr


def problem(original: Path, fault: Fault, work: Path, zygote: Zygote, *, program: bool) -> str:
    """Damage a copy, and read it in three ways; return what is wrong, ``""`` if nothing is."""
    root, out = work / "archive", work / "out"
    reference = f"{REPO}@{newest_seal(original).name.partition('.')[0]}"
    work.mkdir()
    shutil.copytree(original, root)
    try:
        fault.make(root)
        result = zygote.run("restore", "-q", "-C", root, reference, out)
        if result.code or files_below(out) != SECOND:
            return f"restore ends with {result.code}: {result.out}{result.err}"
        shutil.rmtree(out)
        code, said = decode(root, reference, out, program=program)
        if code or files_below(out) != SECOND:
            return f"decode.py ends with {code}: {said}"
        result = zygote.run("audit", "--json", "-q", "-C", root)
        if result.code != 20 or not result.codes:
            return f"audit ends with {result.code}: {result.out}{result.err}"
        return ""
    finally:
        shutil.rmtree(work)


def problems(original: Path, tried: list[Fault], work: Path, zygote: Zygote) -> dict[Fault, str]:
    every = {
        fault: problem(original, fault, work / str(number), zygote, program=number % 2 == 0)
        for number, fault in enumerate(tried)
    }
    return {fault: what for fault, what in every.items() if what}


def test_a_sample_of_single_faults_loses_nothing(original, tmp_path, zygote):
    every = faults(original)
    sample = every[:: len(every) // SAMPLE][:SAMPLE]
    assert problems(original, sample, tmp_path, zygote) == {}


@pytest.mark.long
def test_no_single_fault_loses_anything(original, tmp_path, zygote):
    every = faults(original)
    assert len(every) >= 200
    assert problems(original, every, tmp_path, zygote) == {}
