"""Archives that several users share: nobody locks another out, what one may not read is told."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

import pytest
from kit.users import POWERLESS, User

from archiver.loopback.hub import Hub

OWNER = User(54321, 54322)
"""Nobody whom the system knows."""
GROUP = 54399
ONE = User(54331, 54332, (GROUP,), umask=0o002)
OTHER = User(54341, 54342, (GROUP,), umask=0o002)
ROOT = User(0, 0, umask=0o077)


@pytest.fixture(autouse=True)
def _root():
    if os.geteuid() and not os.environ.get("CI"):
        pytest.skip("only root can become somebody else")


@pytest.fixture
def tmp_path():
    """A folder that everybody may enter, unlike pytest's own."""
    with tempfile.TemporaryDirectory(prefix="archiver-users-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture
def place(disk):
    """The folder that the archive is to be in, which is there."""
    disk.root.mkdir(parents=True)
    return disk.root


@pytest.fixture
def take_in(disk, model, tmp_path):
    """Takes in another revision each time."""

    def run(user: User, **more):
        with (model / "config.json").open("a") as file:
            file.write(" ")
        words = ("import", "-q", "-C", disk.root, model, "--as", "org/model", "--min-free", "0")
        return disk.run(*words, user=user, cwd=tmp_path, **more)

    return run


def life(disk, user: User, cwd) -> None:
    """All that somebody does who keeps an archive."""
    for words in (
        ("audit",),
        ("forget", "org/model", "--all"),
        ("forget", "org/model", "--all", "--undo"),
        ("prune",),
        ("catalogue", "rebuild"),
    ):
        done = disk.run("-q", *words, "-C", disk.root, user=user, cwd=cwd)
        assert done.code == 0, (words, user, done)


def test_root_locks_the_owner_out_of_nothing(disk, place, take_in, tmp_path):
    os.chown(place, OWNER.uid, OWNER.gid)
    assert disk.run("-q", "init", "-C", place, user=OWNER, cwd=tmp_path).code == 0
    assert take_in(ROOT).code == 0
    life(disk, ROOT, tmp_path)
    for path in (place, *place.rglob("*")):
        info = path.stat()
        assert (info.st_uid, info.st_gid) == (OWNER.uid, OWNER.gid), path
    assert take_in(OWNER).code == 0
    life(disk, OWNER, tmp_path)


def test_a_group_shares_an_archive(disk, place, take_in, tmp_path):
    os.chown(place, ONE.uid, GROUP)
    place.chmod(0o2775)
    assert disk.run("-q", "init", "-C", place, user=ONE, cwd=tmp_path).code == 0
    for user in (ONE, OTHER._replace(umask=0o077), ROOT, ONE):
        assert take_in(user).code == 0, user
        life(disk, user, tmp_path)
    for path in place.rglob("*"):
        info = path.stat()
        assert info.st_gid == GROUP, path
        if path.is_dir():
            assert stat.S_IMODE(info.st_mode) == 0o2775, path
        elif info.st_mode & 0o200:
            assert stat.S_IMODE(info.st_mode) == 0o664, path


@pytest.mark.usefixtures("by_catalogue")
def test_an_index_of_another_user_is_replaced(disk, place, take_in, tmp_path):
    """As a version that did not look at the owner left it."""
    os.chown(place, OWNER.uid, OWNER.gid)
    assert disk.run("-q", "init", "-C", place, user=OWNER, cwd=tmp_path).code == 0
    for path in place.glob("catalogue.sqlite*"):
        os.chown(path, 0, 0)
        path.chmod(0o600)
    assert take_in(OWNER).code == 0
    assert (place / "catalogue.sqlite").stat().st_uid == OWNER.uid
    life(disk, OWNER, tmp_path)


def test_a_lock_that_another_user_left_is_told_with_what_to_do(disk, place, tmp_path):
    os.chown(place, OWNER.uid, OWNER.gid)
    assert disk.run("-q", "init", "-C", place, user=OWNER, cwd=tmp_path).code == 0
    lock = place / "tmp" / "aside.lock"
    lock.touch(0o600)
    done = disk.run("prune", "-C", place, user=OWNER, cwd=tmp_path)
    assert done.code == 1
    assert f"chown --reference={place} {lock}" in done.err
    assert disk.run("prune", "-C", place, user=ROOT, cwd=tmp_path).code == 0
    assert disk.run("prune", "-C", place, user=OWNER, cwd=tmp_path).code == 0


def test_a_user_whom_the_system_does_not_know_without_a_home(disk, place, take_in, tmp_path):
    os.chown(place, OWNER.uid, OWNER.gid)
    bare = {"env": {"HOME": ""}}
    assert disk.run("-q", "init", "-C", place, user=OWNER, cwd=tmp_path, **bare).code == 0
    assert take_in(OWNER, **bare).code == 0
    with Hub() as hub:
        hub.create("org/hub", {"config.json": b"{}"})
        words = ("mirror", "-q", "-C", place, "org/hub", "--min-free", "0")
        at = {"HOME": "", "HF_ENDPOINT": hub.endpoint}
        assert disk.run(*words, user=OWNER, cwd=tmp_path, env=at).code == 0
    # The archive is another's now: the index lies in the folder for temporary files.
    os.chown(place, 0, 0)
    done = disk.run("--json", "stats", "-C", place, user=OWNER, cwd=tmp_path, **bare)
    assert done.code == 0, done
    assert done.kinds("stats")[0]["snapshots"] == 2


# ---- what may not be read


@pytest.fixture
def held(disk, place, take_in, tmp_path):
    """An archive of two repositories; the folder of the seals of the first, and the seal of the second."""
    assert disk.run("-q", "init", "-C", place, cwd=tmp_path).code == 0
    assert take_in(ROOT._replace(umask=0o022)).code == 0
    words = (
        "import",
        "-q",
        "-C",
        place,
        tmp_path / "model",
        "--as",
        "org/other",
        "--min-free",
        "0",
    )
    assert disk.run(*words).code == 0
    (seal,) = (place / "snapshots/org/other").iterdir()
    return place / "snapshots/org/model", seal


def test_what_may_not_be_read_is_told_and_the_rest_is_done(disk, place, held, tmp_path):
    folder, seal = held
    for path, mode, left in ((folder, 0o755, "org/other"), (seal, 0o444, "org/model")):
        path.chmod(0)
        named = path.relative_to(place).as_posix()
        try:
            listed = disk.run("--json", "list", "-C", place, user=POWERLESS, cwd=tmp_path)
            assert listed.code == 4, listed
            assert [row["repository"] for row in listed.kinds("snapshot")] == [left]
            assert "Permission denied" in listed.err
            assert named in listed.err
            found = disk.run("--json", "audit", "-C", place, user=POWERLESS, cwd=tmp_path)
            assert found.code == 4, found
            rows = found.damage
            assert [(row["code"], row["path"]) for row in rows] == [("file-unreadable", named)]
            counted = disk.run("--json", "stats", "-C", place, user=POWERLESS, cwd=tmp_path)
            # The index may know of what was readable before.
            assert counted.code == (4 if path == folder else 0), counted
            assert counted.kinds("stats")[0]["snapshots"] == (1 if path == folder else 2)
            for words in (("restore", left, tmp_path / left), ("show", left)):
                done = disk.run(words[0], "-C", place, *words[1:], user=POWERLESS, cwd=tmp_path)
                assert done.code == 0, (words, done)
            asked = disk.run("--json", "status", "-C", place, user=POWERLESS, cwd=tmp_path)
            assert asked.code == 4, asked
            assert [(row["code"], row["path"]) for row in asked.kinds("finding")] == [
                ("file-unreadable", named)
            ]
            (row,) = asked.kinds("status")
            assert (row["snapshots"], row["missing"], row["met"]) == (1, 0, False)
            asked = disk.run("status", "-C", place, user=POWERLESS, cwd=tmp_path)
            assert asked.code == 4, asked
            assert "Nothing falls short" not in asked.out
            assert "repair" not in asked.out
        finally:
            path.chmod(mode)
    assert disk.run("audit", "-C", place, user=POWERLESS, cwd=tmp_path).code == 0


def test_adding_asks_a_small_archive_for_no_more_than_it_needs(
    disk, place, held, take_in, tmp_path
):
    """What files of a folder are held, without a digest from upstream, the packs tell alone."""
    assert held
    folder = place / "snapshots/org/model"
    folder.chmod(0)
    words = ("import", "-C", place, tmp_path / "model", "--as", "org/new", "--min-free", "0")
    try:
        done = disk.run(*words, user=POWERLESS, cwd=tmp_path)
    finally:
        folder.chmod(0o755)
    assert (done.code, "200 kB held already" in done.out) == (0, True), done
    assert disk.run("audit", "-C", place, "--level", "files", cwd=tmp_path).code == 0


@pytest.mark.usefixtures("by_catalogue")
@pytest.mark.parametrize("folder", ["snapshots/org/model", "manifests/org/model", "trash"])
def test_adding_goes_past_what_may_not_be_listed_and_names_it(
    disk, place, held, take_in, tmp_path, folder
):
    assert held
    (place / folder).mkdir(exist_ok=True)
    words = ("import", "-C", place, tmp_path / "model", "--as", "org/new", "--min-free", "0")
    (place / folder).chmod(0)
    try:
        done = disk.run(*words, user=POWERLESS, cwd=tmp_path)
    finally:
        (place / folder).chmod(0o755)
    assert "sealed" in done.out, done
    if folder.startswith("snapshots"):
        assert done.code == 4, done
        assert f"{folder} cannot be listed" in done.err
        assert "Check the permissions" in done.err
    else:
        assert done.code in {0, 4}, done
    assert disk.run("audit", "-C", place, "--level", "files", cwd=tmp_path).code == 0


def test_damage_is_not_hidden_by_what_may_not_be_read(disk, place, held, tmp_path):
    folder, seal = held
    seal.chmod(0o644)
    seal.write_bytes(seal.read_bytes()[:-9])
    folder.chmod(0)
    try:
        asked = disk.run("--json", "status", "-C", place, user=POWERLESS, cwd=tmp_path)
    finally:
        folder.chmod(0o755)
    assert asked.code == 24, asked
    assert asked.finding_codes == {"file-unreadable"}
    assert "damage" in {row["what"] for row in asked.kinds("shortfall")}


def test_a_pack_that_may_not_be_read_is_a_finding_and_no_damage(disk, place, held, tmp_path):
    for folder in list((place / "packs").iterdir()):
        folder.chmod(0)
    try:
        found = disk.run("--json", "audit", "-C", place, user=POWERLESS, cwd=tmp_path)
        asked = disk.run("--json", "status", "-C", place, user=POWERLESS, cwd=tmp_path)
    finally:
        for folder in (place / "packs").iterdir():
            folder.chmod(0o755)
    assert found.code == 4, found
    assert found.codes == {"file-unreadable"}
    assert asked.code == 4, asked
    assert asked.finding_codes == {"file-unreadable"}
    assert asked.kinds("status")[0]["missing"] == 0
    assert "missing" not in {row["what"] for row in asked.kinds("shortfall")}


@pytest.mark.parametrize("folder", ["manifests", "journal", "parity", "tmp", "signatures", "trash"])
def test_status_goes_past_any_folder_that_may_not_be_listed(disk, place, held, tmp_path, folder):
    (place / folder).mkdir(exist_ok=True)
    (place / folder).chmod(0)
    try:
        asked = disk.run("--json", "status", "-C", place, user=POWERLESS, cwd=tmp_path)
    finally:
        (place / folder).chmod(0o755)
    assert asked.code in {4, 24}, asked
    assert asked.kinds("status")[0]["snapshots"] == 2
    assert {row["path"] for row in asked.kinds("finding")} <= {folder}
    assert (asked.code == 4) == bool(asked.finding_codes)
    if folder in {"journal", "parity"}:  # the others tell it nothing, or are not needed for it
        assert asked.code == 4, asked


def test_nothing_is_deleted_while_something_may_not_be_read(disk, place, held, tmp_path):
    folder, _ = held
    folder.chmod(0)
    try:
        done = disk.run("prune", "-C", place, user=POWERLESS, cwd=tmp_path)
    finally:
        folder.chmod(0o755)
    assert done.code == 1
    assert str(folder) in done.err
