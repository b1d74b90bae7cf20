"""The inputs: made once, kept in a cache folder outside the repository."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

MADE_BY = Path(__file__).with_name("make.py")


class Input(NamedTuple):
    """A folder of files; ``size`` in bytes. ``file`` is the largest of them."""

    name: str
    folder: Path
    size: int
    file: Path


def cache_folder() -> Path:
    """BENCH_DATA, or a folder for temporary files."""
    chosen = os.environ.get("BENCH_DATA") or Path(tempfile.gettempdir()) / "archiver-bench"
    folder = Path(chosen)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def get(name: str) -> Input:
    """An input, made now if it is not there."""
    folder = cache_folder() / name
    if not folder.is_dir():
        print(f"making {name}", file=sys.stderr)
        part = folder.with_name(f"{name}.part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        subprocess.run([sys.executable, str(MADE_BY), name, str(part)], check=True)
        part.rename(folder)
    files = [path for path in folder.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    return Input(name, folder, size, max(files, key=lambda path: path.stat().st_size))


def touch(data: Input) -> None:
    """Read every byte once, so that each tool finds the input in the page cache."""
    buffer = bytearray(1 << 20)
    for path in data.folder.rglob("*"):
        if path.is_file():
            with path.open("rb", buffering=0) as file:
                while file.readinto(buffer):
                    pass
