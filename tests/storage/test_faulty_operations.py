"""Operations over a store that fails: the right word for it, and nothing wrong is published."""

from __future__ import annotations

import random
import shutil
from typing import TYPE_CHECKING

import pytest
from kit.cli import invoke

from archiver.digest import blake3_hex

if TYPE_CHECKING:
    from kit.store import Faulty

FILES = {"weights.bin": random.Random(1).randbytes(30_000), "notes.txt": b"notes"}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder, and an archive that holds it."""
    place = tmp_path_factory.mktemp("made")
    folder = place / "model"
    folder.mkdir()
    for name, data in FILES.items():
        (folder / name).write_bytes(data)
    assert invoke("init", "-q", "-C", place / "archive") == 0
    arguments = ["-C", str(place / "archive"), str(folder), "--as", "org/model", "--min-free", "0B"]
    assert invoke("import", "-q", *arguments) == 0
    return place


@pytest.fixture
def root(made, tmp_path):
    return shutil.copytree(made / "archive", tmp_path / "archive")


@pytest.fixture
def store(root, faulty) -> Faulty:
    return faulty(root)


@pytest.fixture
def audit(run, root):
    return lambda *words: run("audit", "-q", "--json", "-C", root, *words)


def names(root, kind: str) -> list[str]:
    return [path.relative_to(root).as_posix() for path in (root / kind).rglob("*.*")]


def seals(root) -> list[str]:
    return names(root, "snapshots")


# Reading


@pytest.mark.parametrize("kind", ["packs", "snapshots", "manifests"])
def test_a_bit_that_flips_once_is_no_damage_but_the_machine_s(audit, store, kind):
    store.flipped_once(f"{kind}/", 300)
    found = audit()
    assert found.codes == {"read-unstable"}
    assert found.code == 20


LOST = {"packs": "pack-damaged", "snapshots": "seal-damaged", "manifests": "manifest-damaged"}


@pytest.mark.parametrize("kind", LOST)
def test_what_the_medium_lost_is_damage_that_names_the_file(audit, root, store, kind):
    store.unreadable(f"{kind}/")
    found = audit()
    (name,) = names(root, kind)
    assert found.code == 20
    assert LOST[kind] in found.codes
    assert any(name in str(one) or one.get("pack", "none") in name for one in found.damage)


@pytest.mark.parametrize("kind", LOST)
def test_what_failed_to_be_read_once_is_unstable(audit, store, kind):
    store.unreadable(f"{kind}/", times=1)
    assert audit().codes == {"read-unstable"}


@pytest.mark.parametrize("kind", LOST)
def test_a_file_that_ends_too_early_is_damage(audit, store, kind):
    store.short(f"{kind}/", 200)
    found = audit()
    assert found.code == 20
    assert found.codes - {"read-unstable"}


@pytest.mark.parametrize("kind", [*LOST, "journal"])
def test_a_file_that_vanishes_after_it_was_listed_is_told(audit, store, kind):
    store.stale()
    store.vanishing(f"{kind}/")
    found = audit()
    assert found.code == 20
    assert any(one["code"].endswith(("-missing", "-damaged")) for one in found.damage)


@pytest.mark.parametrize("fault", ["unreadable", "short", "flipped_once", "vanishing"])
@pytest.mark.parametrize("kind", LOST)
def test_a_restore_gives_right_bytes_or_none(run, root, store, tmp_path, kind, fault):
    more = {"short": [200], "flipped_once": [300]}.get(fault, [])
    getattr(store, fault)(f"{kind}/", *more)
    out = tmp_path / "out"
    done = run("restore", "-q", "-C", root, "org/model", out)
    assert done.code in {0, 2, 20}
    # The manifest is in the packs too, and tells what a lost seal held: only objects are there once.
    assert done.code or fault == "flipped_once" or kind != "packs"
    written = {path.name: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert written == FILES if not done.code else written.items() <= FILES.items()
    assert done.code or written == FILES


# Writing


@pytest.fixture
def again(run, root, tmp_path):
    """Imports another revision, whose weights are the same."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "weights.bin").write_bytes(FILES["weights.bin"])
    (folder / "new.bin").write_bytes(random.Random(2).randbytes(9000))
    words = ("-C", root, folder, "--as", "org/model", "--min-free", "0B")
    return lambda: run("import", "-q", *words)


def assert_named_rightly(root) -> None:
    for name in names(root, "packs"):
        assert blake3_hex((root / name).read_bytes()) in name
    for name in seals(root):
        assert blake3_hex((root / name).read_bytes()) in name


@pytest.mark.parametrize(
    ("fault", "arguments", "code"),
    [
        ("full", ("pack", 0), 31),
        ("full", ("pack", 5000), 31),
        ("full", ("put", 0), 31),
        ("full", ("put", 100), 31),
        ("full", ("intent", 10), 31),
        ("unsyncable", ("pack",), 1),
        ("unsyncable", ("put",), 1),
    ],
)
def test_what_cannot_be_written_leaves_no_seal(
    again, run, root, store, monkeypatch, fault, arguments, code
):
    before = seals(root)
    getattr(store, fault)(*arguments)
    failed = again()
    assert failed.code in {code, 3}, failed.err
    assert "Traceback" not in failed.err
    assert seals(root) == before
    assert_named_rightly(root)
    monkeypatch.undo()
    assert again().code == 0
    assert len(seals(root)) == 2
    assert run("audit", "-q", "-C", root).code == 0
    left = [path.name for path in (root / "tmp").iterdir()]
    assert not [name for name in left if not name.startswith(("put-", "reserve"))]


@pytest.mark.parametrize("kind", ["packs", "manifests", "snapshots", "journal"])
@pytest.mark.parametrize("fault", ["unreadable", "stale"])
def test_an_import_beside_damage_seals_only_what_is_there(
    again, run, root, store, monkeypatch, kind, fault
):
    if fault == "stale":
        store.stale()
    else:
        store.unreadable(f"{kind}/")
    done = again()
    assert "Traceback" not in done.err
    assert done.code in {0, 20}, done.err
    assert_named_rightly(root)
    monkeypatch.undo()
    assert again().code == 0
    assert run("audit", "-q", "-C", root).code == 0
    assert len(seals(root)) == 2
