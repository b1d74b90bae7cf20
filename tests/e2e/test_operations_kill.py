"""kill -9 while an archive is copied, repaired, protected or pruned, again and again, until it is done."""

from __future__ import annotations

import os
import random
import shutil

import pytest
from kit.archive import seals
from kit.repository import files_below

ROUNDS = max(1, int(os.environ.get("ARCHIVER_TEST_KILLS", "12")) // 12)
STEPS = 40
"""A process dies before one of its first so many changes of the disk."""
NAMES = ("one", "two", "three")


def files_of(name: str) -> dict[str, bytes]:
    seed = NAMES.index(name)
    shared = random.Random(99).randbytes(20_000)
    return {
        "weights.bin": random.Random(seed).randbytes(30_000),
        "shared.bin": shared,
        "config.json": b'{"seed": %d}' % seed,
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Three folders, and an archive that holds them as org/one to org/three, with parity."""
    from kit.cli import invoke

    place = tmp_path_factory.mktemp("made")
    root = str(place / "archive")
    assert invoke("init", "-q", "-C", root) == 0
    for name in NAMES:
        folder = place / name
        folder.mkdir()
        for path, data in files_of(name).items():
            (folder / path).write_bytes(data)
        words = ["import", "-q", "-C", root, str(folder), "--as", f"org/{name}"]
        assert invoke(*words, "--min-free", "0B") == 0
    assert invoke("parity", "add", "-q", "-C", root) == 0
    return place


@pytest.fixture
def restored(cli, tmp_path):
    """Restores every snapshot that can be seen; their names."""
    count = 0

    def check(root) -> set[str]:
        nonlocal count
        found = {path.parent.name for path in seals(root)} if root.exists() else set()
        for name in found:
            count += 1
            out = tmp_path / f"restored{count}"
            assert cli("restore", "-q", "-C", root, f"org/{name}", out).code == 0
            assert files_below(out) == files_of(name)
        return found

    return check


@pytest.fixture
def persist(zygote):
    """Runs commands that die at a point by chance, until all of them have ended well."""

    def running(seed, root, commands, check) -> int:
        rng, kills = random.Random(seed), 0
        for words in commands:
            while True:
                ended = zygote.run(
                    *words, die_at=rng.randint(1, STEPS + 8 * kills), below=str(root)
                )
                check()
                if ended.code != -9:
                    assert ended.code == 0, ended.err
                    break
                kills += 1
        return kills

    return running


def spoil(root) -> None:
    """A bit in one pack, the whole of another, and a manifest."""
    first, second, _ = sorted((root / "packs").rglob("*.pack"))
    data = bytearray(first.read_bytes())
    data[len(data) // 2] ^= 1
    first.chmod(0o644)
    first.write_bytes(data)
    second.unlink()
    next((root / "manifests/org/two").iterdir()).unlink()


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_imports(made, tmp_path, cli, persist, restored, seed):
    root = tmp_path / "archive"
    assert cli("init", "-C", root).code == 0
    words = ("import", "-q", "-C", root, "--min-free", "0B", "--effort", "fast")
    commands = [(*words, made / name, "--as", f"org/{name}") for name in NAMES]
    assert persist(seed, root, commands, lambda: restored(root))
    assert restored(root) == set(NAMES)
    assert cli("audit", "-q", "-C", root).code == 0


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_copy(made, tmp_path, cli, persist, restored, seed):
    target = tmp_path / "copy"
    commands = [("copy", "-q", "-C", made / "archive", "--new", target)]
    assert persist(seed, target, commands, lambda: restored(target))
    assert restored(target) == set(NAMES)
    assert cli("audit", "-q", "-C", target).code == 0


@pytest.mark.parametrize("source", ["copy", "parity and folders"])
@pytest.mark.parametrize("seed", range(ROUNDS))
def test_repair(made, tmp_path, cli, persist, restored, seed, source):
    root = shutil.copytree(made / "archive", tmp_path / "archive")
    spoil(root)
    sources = [made / "archive"] if source == "copy" else [made / name for name in NAMES]
    if source != "copy":
        shutil.copytree(made / "archive/manifests", root / "manifests", dirs_exist_ok=True)
    words = [word for one in sources for word in ("--from", one)]
    commands = [("repair", "-q", "-C", root, "--no-upstream", *words)]
    assert persist(seed, root, commands, lambda: None)
    assert restored(root) == set(NAMES)
    assert cli("audit", "-q", "-C", root).code == 0


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_parity(made, tmp_path, cli, persist, restored, seed):
    root = shutil.copytree(made / "archive", tmp_path / "archive")
    commands = [(*("parity", verb), "-q", "-C", root) for verb in ("remove", "add")]
    assert persist(seed, root, commands, lambda: restored(root))
    for pack in (root / "packs").rglob("*.pack"):
        data = bytearray(pack.read_bytes())
        data[len(data) // 3] ^= 1
        pack.chmod(0o644)
        pack.write_bytes(data)
    assert cli("repair", "-q", "-C", root, "--no-upstream").code == 0
    assert restored(root) == set(NAMES)


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_forget_and_prune(made, tmp_path, cli, persist, restored, seed):
    root = shutil.copytree(made / "archive", tmp_path / "archive")
    assert cli("forget", "-q", "-C", root, "org/two").code == 0
    commands = [("prune", "-q", "-C", root, "--grace", "0s")] * 3

    def check() -> None:
        assert restored(root) == {"one", "three"}

    persist(seed, root, commands, check)
    check()
    assert cli("audit", "-q", "-C", root).code == 0
