"""What is compared: each tool's commands to keep a folder and to give it back, all as one process."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from measure import run, tree_size

if TYPE_CHECKING:
    from collections.abc import Callable

    from data import Input

REPOSITORY = Path(__file__).resolve().parent.parent
PEERS = REPOSITORY / ".venv-bench"
OLAH = REPOSITORY / ".venv-olah"
_OLAH_VERSION = "0.5.4"
ARCHIVER = str(Path(sys.executable).with_name("archiver"))
HF = str(Path(sys.executable).with_name("hf"))
_ENV = {"RESTIC_PASSWORD": "bench", "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes"}
_DTYPES = {"minilm-f32": "float32", "whisper-f16": "float16", "whisper-bin": "float16"}

Commands = tuple[list[str], list[str]]


class Tool(NamedTuple):
    """One competitor.

    ``commands(input, work)`` gives the command that keeps and the one that gives back. What is kept
    lies in ``work/store``, what is given back in ``work/back``. ``prepare`` makes an empty store.
    ``unhashed`` gives the command that gives back without the digests of whole files, into ``work/quick``.
    """

    name: str
    commands: Callable[[Input, Path], Commands]
    prepare: Callable[[Path], None] = lambda _: None
    parts: tuple[str, ...] = ("",)
    needs: str = ""
    unhashed: Callable[[Input, Path], list[str]] | None = None

    def stored(self, work: Path) -> int:
        """Bytes on disk."""
        return sum(tree_size(work / "store" / part) for part in self.parts)

    def missing(self) -> bool:
        """Whether it is not installed here."""
        return bool(self.needs) and shutil.which(self.needs) is None

    def env(self, work: Path) -> dict[str, str]:
        """Its environment: nothing of the user's own settings and caches."""
        return _ENV | {"BORG_BASE_DIR": str(work), "XDG_CACHE_HOME": str(work), "HOME": str(work)}


def _archiver(effort: str) -> Tool:
    def commands(data: Input, work: Path) -> Commands:
        place = ["-q", "-C", str(work / "store")]
        name = f"bench/{data.name}"
        keep = ["import", *place, str(data.folder), "--as", name, "--effort", effort]
        return [ARCHIVER, *keep], [ARCHIVER, "restore", *place, name, str(work / "back")]

    def unhashed(data: Input, work: Path) -> list[str]:
        place = ["-q", "-C", str(work / "store")]
        checked = ["--check", "segments"]
        return [ARCHIVER, "restore", *place, f"bench/{data.name}", str(work / "quick"), *checked]

    parts = ("packs", "manifests", "snapshots", "journal")
    return Tool(f"archiver {effort}", commands, init_archive, parts, unhashed=unhashed)


def init_archive(work: Path) -> None:
    """An empty archive in ``work/store``."""
    run([ARCHIVER, "-q", "init", "-C", str(work / "store")])


def _lmzip(data: Input, work: Path) -> Commands:
    store, lmz = str(work / "store"), str(PEERS / "bin" / "lmz")
    back = str(work / "back" / data.file.name)
    return [lmz, "c", "-q", str(data.file), store], [lmz, "d", "-q", store, back]


def _zipnn(data: Input, work: Path) -> Commands:
    script = [str(PEERS / "bin" / "python"), str(REPOSITORY / "bench" / "zipnn_file.py")]
    dtype, store = _DTYPES.get(data.name, "bfloat16"), str(work / "store")
    back = str(work / "back" / data.file.name)
    return [*script, "in", dtype, str(data.file), store], [*script, "out", dtype, store, back]


def _zstd(data: Input, work: Path) -> Commands:
    zstd, store = ["zstd", "-q"], str(work / "store")
    back = str(work / "back" / data.file.name)
    return [*zstd, "-3", "-T0", str(data.file), "-o", store], [*zstd, "-d", store, "-o", back]


def _restic(data: Input, work: Path) -> Commands:
    restic = ["restic", "-q", "-r", str(work / "store")]
    out = [*restic, "restore", "latest", "--target", str(work / "back")]
    return [*restic, "backup", str(data.folder)], out


def _init_restic(work: Path) -> None:
    run(["restic", "-q", "-r", str(work / "store"), "init"], _ENV | {"HOME": str(work)})


def _borg(data: Input, work: Path) -> Commands:
    archive = f"{work / 'store'}::one"
    # borg extracts into the current folder
    out = ["sh", "-c", f"cd '{work / 'back'}' && exec borg extract '{archive}'"]
    return ["borg", "create", "-C", "zstd,3", archive, str(data.folder)], out


def _init_borg(work: Path) -> None:
    init = ["borg", "init", "--encryption", "none", str(work / "store")]
    run(init, _ENV | {"BORG_BASE_DIR": str(work)})


FAST, NORMAL = _archiver("fast"), _archiver("normal")
LMZIP = Tool("lmzip", _lmzip, needs=str(PEERS / "bin" / "lmz"))
PEER_TOOLS = (
    Tool("zipnn", _zipnn, needs=str(PEERS / "bin" / "lmz")),
    Tool("zstd -3 -T0", _zstd, needs="zstd"),
    Tool("restic", _restic, _init_restic, needs="restic"),
    Tool("borg zstd,3", _borg, _init_borg, needs="borg"),
)


def install_peers() -> None:
    """Make .venv-bench and install the peers there, unless that was done."""
    requirements = (REPOSITORY / "bench" / "requirements.txt").read_bytes()
    done = PEERS / "installed.txt"
    if done.is_file() and done.read_bytes() == requirements:
        return
    print("installing the peers into .venv-bench", file=sys.stderr)
    subprocess.run([sys.executable, "-m", "venv", str(PEERS)], check=True)
    pip = [str(PEERS / "bin" / "pip"), "install", "-q", "--disable-pip-version-check", "--no-deps"]
    file = str(REPOSITORY / "bench" / "requirements.txt")
    subprocess.run([*pip, "-r", file], check=True, stdout=sys.stderr)
    done.write_bytes(requirements)


def install_olah() -> bool:
    """Make .venv-olah, with all that olah needs, unless that was done; return whether it is there."""
    if not (OLAH / "bin" / "olah-cli").exists():
        print("installing olah into .venv-olah", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", str(OLAH)], check=True)
        pip = [str(OLAH / "bin" / "pip"), "install", "-q", "--disable-pip-version-check"]
        subprocess.run([*pip, f"olah=={_OLAH_VERSION}"], check=False, stdout=sys.stderr)
    return (OLAH / "bin" / "olah-cli").exists()


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0))
