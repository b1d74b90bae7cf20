"""A frozen archive of format 1's first days goes on: revisions are mirrored into it, and all is read."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

from kit.repository import bf16, files_below, safetensors

FROZEN = Path(__file__).with_name("v1")
QWEN = "Example/Qwen3.5-Tiny"
FIRST = "468347cc70cf8bbc492e90fe4afad5c5fe9d7097"
SECOND = "280da94374fff1bf5337f470510796adb944c278"


def decoded(decoder: Path, root: Path, reference: str, out: Path) -> dict[str, bytes]:
    done = subprocess.run(
        [sys.executable, "-I", "-S", decoder, "-C", root, "restore", reference, out],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return files_below(out)


def test_a_new_revision_in_a_frozen_archive(hub, run, waits, tmp_path):
    root, copied = tmp_path / "archive", tmp_path / "copy"
    shutil.copytree(FROZEN / "archive", root)
    old = {
        FIRST: files_below(FROZEN / "inputs/qwen/first"),
        SECOND: files_below(FROZEN / "inputs/qwen/second"),
    }
    # One file is held already, one is new and gets a codec of today.
    new = old[SECOND] | {
        "more.safetensors": safetensors({"w": ("BF16", (90, 90), bf16(7, 90, 90))})
    }
    revision = hub.create(QWEN, new)
    before = files_below(root)
    mirrored = run("mirror", "-q", "--json", "-C", root, QWEN, "--min-free", "0B")
    assert mirrored.code == 0, mirrored.err
    explained = {"README.txt", "FORMAT.md", "decode.py"}
    after = files_below(root)
    assert {name for name, data in before.items() if after.get(name) != data} <= explained

    for level in ("structure", "stored", "content", "files"):
        audit = run("audit", "-q", "--json", "-C", root, "--level", level)
        assert (audit.code, audit.damage) == (0, [])
    assert run("copy", "-q", "-C", root, "--new", copied, "--min-free", "0B").code == 0

    every = {QWEN: new, f"{QWEN}@{revision}": new}
    every |= {f"{QWEN}@{known}": files for known, files in old.items()}
    for place in (root, copied):
        for number, (reference, files) in enumerate(every.items()):
            out = tmp_path / f"{place.name}-{number}"
            assert run("restore", "-q", "-C", place, reference, out).code == 0
            assert files_below(out) == files
            by_itself = tmp_path / f"{place.name}-{number}-by-itself"
            assert decoded(place / "decode.py", place, reference, by_itself) == files

    # What was renewed lies in quarantine; and the decoder of that day still reads what it knew.
    kept = {path.name for path in (root / "quarantine").rglob("*") if path.is_file()}
    assert kept >= {"format.md", "decode.py"}
    of_its_day = FROZEN / "archive" / "decode.py"
    assert decoded(of_its_day, root, f"{QWEN}@{FIRST}", tmp_path / "old") == old[FIRST]
    seals = [json.loads(path.read_bytes()) for path in root.glob("snapshots/example/qwen*/*.json")]
    (seal,) = (seal for seal in seals if seal["revision"] == revision)
    assert seal["parent"] in {path.name.split(".")[1] for path in root.glob("snapshots/*/*/*.json")}
