"""The operations that the crash matrix goes through.

Each function makes ready what it needs in the empty folder ``root`` and gives the step to be recorded,
which must also succeed when it is run again on what a crash left of it. To add an operation, add one.
"""

from __future__ import annotations

import errno
import functools
import os
import random
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from disk import Tree, lay_out, tree_of
from kit.cli import invoke

from archiver.archive.bundles.records import EXPLANATIONS
from archiver.archive.layout import TRASH, quarantined_name
from archiver.operations.bundle import contents
from archiver.storage.local import LocalStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from matrix import Step

SCENARIOS: dict[str, Callable[[Path], Step]] = {}


def scenario(function: Callable[[Path], Step]) -> Callable[[Path], Step]:
    SCENARIOS[function.__name__] = function
    return function


class CommandFailedError(AssertionError):
    """A command ended with another exit code than it should."""

    def __init__(self, code: int, words: tuple[object, ...]) -> None:
        super().__init__(f"{code}: {words}")
        self.code = code


def command(*words: object, code: int = 0) -> None:
    done = invoke(*words)
    if done != code:
        raise CommandFailedError(done, words)


def noise(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


MODELS = {
    "one": {"weights.bin": noise(1, 5000), "shared.bin": noise(2, 3000), "notes.txt": b"a"},
    "two": {"weights.bin": noise(3, 4000), "shared.bin": noise(2, 3000), "empty": b""},
}
"""Two revisions of org/model, which share a file."""


def folders(root: Path) -> list[Path]:
    """The models as folders beside the archive."""
    made = []
    for name, files in MODELS.items():
        folder = root.parent / "sources" / name
        folder.mkdir(parents=True, exist_ok=True)
        for path, data in files.items():
            (folder / path).write_bytes(data)
        made.append(folder)
    return made


def take(root: Path, folder: Path) -> None:
    """Import a folder as a revision of org/model."""
    command("import", "-q", "-C", root, folder, "--as", "org/model", "--min-free", "0B")


@functools.cache
def held() -> Tree:
    """An archive of both models."""
    with tempfile.TemporaryDirectory() as place:
        root = Path(place) / "archive"
        command("init", "-q", "-C", root)
        for folder in folders(root):
            take(root, folder)
        return {path: data for path, data in tree_of(root).items() if path[:3] != "tmp"}


@scenario
def init(root: Path) -> Step:
    del root

    def step(archive: Path) -> None:
        made = (archive / "archive.json").exists()
        command("init", "-q", "-C", archive, code=2 if made else 0)

    return step


@scenario
def two_imports(root: Path) -> Step:
    command("init", "-q", "-C", root)
    sources = folders(root)

    def step(archive: Path) -> None:
        for folder in sources:
            take(archive, folder)

    return step


@scenario
def audit(root: Path) -> Step:
    lay_out(held(), root)
    return lambda archive: command("audit", "-q", "-C", archive)


@scenario
def catalogue_rebuild(root: Path) -> Step:
    """With an event, so that something can be lost: the catalogue itself is in any state."""
    lay_out(held(), root)

    def step(archive: Path) -> None:
        command("catalogue", "rebuild", "-q", "-C", archive)
        command("audit", "-q", "-C", archive)

    return step


# ---- copies


def beside(root: Path, name: str) -> Path:
    """A whole archive of both models beside ``root``."""
    place = root.parent / name
    return place if place.exists() else lay_out(held(), place)


@scenario
def copy_to_a_new_folder(root: Path) -> Step:
    source = beside(root, "source")
    return lambda archive: command("copy", "-q", "-C", source, "--new", archive)


@scenario
def copy_into_an_archive(root: Path) -> Step:
    source = beside(root, "source")
    command("init", "-q", "-C", root)
    take(root, folders(root)[0])
    return lambda archive: command("copy", "-q", "-C", source, archive)


@scenario
def copy_away(root: Path) -> Step:
    lay_out(held(), root)
    target = root.parent / "target"
    return lambda archive: command("copy", "-q", "-C", archive, "--new", target)


# ---- bundles


SMALL_VOLUMES = {
    "archiver.operations.bundle.export.VOLUME_LEAST": 1,
    "archiver.operations.bundle.contents._CAPACITY_LEAST": 1,
    "archiver.operations.bundle.contents.cluster_of": lambda _size: 512,
    "archiver.archive.bundles.planning._PIECE_LEAST": 1,
}
"""What keeps volumes from being as small as a test of many states wants them."""


@functools.cache
def volumes() -> Tree:
    """A bundle of both models and a larger one, with parity: two volumes, one pack in two pieces."""
    with tempfile.TemporaryDirectory() as place, pytest.MonkeyPatch.context() as patch:
        for name, least in SMALL_VOLUMES.items():
            patch.setattr(name, least)
        source, large, to = (Path(place) / name for name in ("source", "large", "to"))
        lay_out(held(), source)
        large.mkdir()
        (large / "weights.bin").write_bytes(noise(4, 120_000))
        command("import", "-q", "-C", source, large, "--as", "org/large", "--min-free", "0B")
        revisions = sorted(path.name[:40] for path in (source / "snapshots/org/model").iterdir())
        chosen = [*(f"org/model@{revision}" for revision in revisions), "org/large"]
        explained = sum((source / name).stat().st_size for name in EXPLANATIONS)
        size = contents._PAPERS_FIRST + explained + 195_000
        export = ("bundle", "export", "-q", "-C", source, *chosen, "--to", to)
        command(*export, "--volume-size", size, "--parity", "2")
        return tree_of(to)


def media(root: Path) -> list[Path]:
    """The volumes beside ``root``."""
    place = root.parent / "media"
    lay_out(volumes(), place) if not place.exists() else None
    return sorted(place.iterdir())


def bring(archive: Path, *paths: Path, codes: frozenset[int] = frozenset({0})) -> None:
    """Import volumes; the archive is begun if there is none."""
    new = () if (archive / "archive.json").exists() else ("--new",)
    words = ("bundle", "import", "-q", "-C", archive, *new, "--min-free", "0B", *paths)
    done = invoke(*words)
    if done not in codes:
        raise CommandFailedError(done, words)


@scenario
def bundle_import(root: Path) -> Step:
    """All volumes at once; the archive is begun with them."""
    first, *others = media(root)
    assert others
    return lambda archive: bring(archive, first, *others)


@scenario
def bundle_import_one_by_one(root: Path) -> Step:
    """The last volume first, into an archive that has one of the models: the rest waits for the first."""
    command("init", "-q", "-C", root)
    take(root, folders(root)[0])
    first, *others = media(root)

    def step(archive: Path) -> None:
        bring(archive, *others, codes=frozenset({0, 3}))
        bring(archive, first)

    return step


@scenario
def bundle_export(root: Path) -> Step:
    """What the archive itself notes of it."""
    lay_out(held(), root)
    revision = min((root / "snapshots").rglob("*.json")).name[:40]
    to = root.parent / "exported"
    words = (f"org/model@{revision}", "--to", to, "--volume-size", "32MiB")
    return lambda archive: command("bundle", "export", "-q", "-C", archive, *words)


# ---- repair


def spoil(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)
    path.chmod(0o444)


def spoil_one_of_each(root: Path) -> None:
    """A flipped bit in one pack and one manifest, another pack gone."""
    first, second = sorted((root / "packs").rglob("*.pack"))
    spoil(first, first.stat().st_size // 2)
    second.unlink()
    spoil(next((root / "manifests").rglob("*.zst")), 40)


@scenario
def repair_from_a_copy(root: Path) -> Step:
    other = beside(root, "other")
    lay_out(held(), root)
    spoil_one_of_each(root)
    return lambda archive: command("repair", "-q", "-C", archive, "--no-upstream", "--from", other)


@scenario
def repair_from_parity(root: Path) -> Step:
    lay_out(held(), root)
    command("parity", "add", "-q", "-C", root)
    for kind in ("packs", "manifests", "snapshots"):
        path = min(one for one in (root / kind).rglob("*") if one.is_file())
        spoil(path, path.stat().st_size // 2)
    return lambda archive: command("repair", "-q", "-C", archive, "--no-upstream")


@scenario
def repair_from_a_folder(root: Path) -> Step:
    sources = folders(root)
    lay_out(held(), root)
    for pack in (root / "packs").rglob("*.pack"):
        spoil(pack, pack.stat().st_size // 2)
    words = [word for folder in sources for word in ("--from", folder)]
    return lambda archive: command("repair", "-q", "-C", archive, "--no-upstream", *words)


# ---- parity and signatures


@scenario
def parity_add(root: Path) -> Step:
    lay_out(held(), root)
    return lambda archive: command("parity", "add", "-q", "-C", archive)


@scenario
def parity_remove(root: Path) -> Step:
    lay_out(held(), root)
    command("parity", "add", "-q", "-C", root)
    return lambda archive: command("parity", "remove", "-q", "-C", archive)


@scenario
def sign(root: Path) -> Step:
    lay_out(held(), root)
    key = root.parent / "archive.key"
    command("keys", "new", "-q", key.with_suffix(""), "--no-password")
    return lambda archive: command("sign", "-q", "-C", archive, "--key", key)


# ---- taking out of use


@scenario
def policy(root: Path) -> Step:
    lay_out(held(), root)
    return lambda archive: command("policy", "set", "-q", "-C", archive, "--copies", "2")


@scenario
def forget(root: Path) -> Step:
    lay_out(held(), root)
    revision = min((root / "snapshots").rglob("*.json")).name[:40]

    def step(archive: Path) -> None:
        if any(path.name.startswith(revision) for path in (archive / "snapshots").rglob("*")):
            command("forget", "-q", "-C", archive, f"org/model@{revision}")

    return step


@scenario
def unforget(root: Path) -> Step:
    lay_out(held(), root)
    revision = min((root / "snapshots").rglob("*.json")).name[:40]
    title = f"org/model@{revision}"
    command("forget", "-q", "-C", root, title)

    def step(archive: Path) -> None:
        if not any(path.name.startswith(revision) for path in (archive / "snapshots").rglob("*")):
            command("forget", "-q", "--undo", "-C", archive, title)

    return step


@scenario
def unforget_after_prune(root: Path) -> Step:
    """The manifest comes back from the trash before the seal does."""
    step = unforget(root)
    store = LocalStore(root)
    seals = {path.name[:40] for path in (root / "snapshots").rglob("*.json")}
    for name in list(store.list("manifests")):
        if not any(revision in name for revision in seals):
            store.move(name, quarantined_name(TRASH, "2026-01-01T00:00:00Z", name))
    return step


@scenario
def prune(root: Path) -> Step:
    """All three steps at once: condemn, to the trash, delete."""
    forget(root)(root)

    def step(archive: Path) -> None:
        for _ in range(3):
            command("prune", "-q", "-C", archive, "--grace", "0s")

    return step


# ---- a filesystem that has no hard links


def without_links(step: Step) -> Step:
    def link(*_arguments: object, **_named: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    def linkless(archive: Path) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "link", link)
            step(archive)

    return linkless


@scenario
def repair_without_links(root: Path) -> Step:
    return without_links(repair_from_a_copy(root))


@scenario
def forget_without_links(root: Path) -> Step:
    return without_links(forget(root))
