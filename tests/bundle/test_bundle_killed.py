"""kill -9 at every change of the disk while volumes are written and taken in, and media that go away."""

from __future__ import annotations

import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path

import pytest
from bundlekit import Carried, files, take_in, volumes_of
from kit.disks import memory_disk, mounted, needs_mount, skip_unless_mountable, unmount
from kit.repository import files_below, noise
from kit.wheels import HERE, hollow_wheels

from archiver.archive.archive import Archive
from archiver.archive.bundles.records import parse_inventory

REPO = "org/tiny"
SBIN = "/usr/sbin:/sbin:/usr/bin:/bin"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """An archive of one small repository, and its bundle."""
    from kit.cli import invoke

    folder = tmp_path_factory.mktemp("tiny")
    source = Carried(folder / "archive", folder)
    assert invoke("init", "-q", "-C", source.root) == 0
    model = source.model(REPO)
    model.mkdir()
    (model / "weights.bin").write_bytes(noise(9, 40_000))
    (model / "config.json").write_text("{}")
    take_in(source.root, model, REPO)
    words = ["--to", folder / "bundle", "--volume-size", "32MiB", "--parity", "2"]
    assert invoke("bundle", "export", "-q", "-C", source.root, REPO, *words) == 0
    return source


def steps(zygote, words, below, limit=400):
    """Run a command that dies before its first change of the disk, its second, and so on; each end."""
    for at in range(1, limit):
        ended = zygote.run(*words, die_at=at, below=str(below))
        yield at, ended
        if ended.code != -9:
            return
    pytest.fail("it never came to its end")


def test_an_export_that_is_killed_goes_on(tiny, zygote, tmp_path, monkeypatch):
    to, scratch = tmp_path / "to", tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))  # a process that dies leaves what it had there
    words = ["--to", to, "--volume-size", "32MiB", "--parity", "2"]
    command = ("bundle", "export", "-q", "-C", tiny.root, REPO, *words)
    ended = None
    for _, ended in steps(zygote, command, to):  # noqa: B007 - the last one is looked at
        for volume in volumes_of(to):
            # A volume that says it is whole is.
            if (volume / "volume.json").exists():
                assert files(volume).keys() >= files(tiny.models / "bundle" / "volume-0001").keys()
    assert ended.code == 0, ended.err
    assert files(to) == files(tiny.models / "bundle")


def test_an_import_that_is_killed_goes_on(tiny, zygote, tmp_path, run):
    far = tmp_path / "far"
    assert run("init", "-q", "-C", far).code == 0
    command = ("bundle", "import", "-q", "-C", far, tiny.models / "bundle", "--min-free", "0")
    out, ended = 0, None
    for at, ended in steps(zygote, command, far):  # noqa: B007 - the last one is looked at
        if at % 7 == 0 and any((far / "snapshots").rglob("*.json")):
            out += 1
            target = tmp_path / f"out{out}"
            assert run("restore", "-q", "-C", far, REPO, target).code == 0
            assert files_below(target) == files_below(tiny.model(REPO))
    assert ended.code == 0, ended.err
    told = [event.event for _, event in Archive.open(far).events()]
    assert sorted(told) == ["bundle-imported", "sealed"]
    assert run("audit", "-q", "-C", far, "--level", "files").code == 0
    assert run("bundle", "import", "-q", "-C", far, tiny.models / "bundle").code == 0
    assert not (far / "bundles" / "waiting").exists()


def test_an_inventory_that_is_killed_is_the_old_one_or_the_new(tiny, zygote, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    target, ended = out / "inventory.json", None
    command = ("inventory", "-q", "-C", tiny.root, "-o", target)
    for _, ended in steps(zygote, command, out):  # noqa: B007 - the last one is looked at
        if target.exists():
            parse_inventory(target.read_bytes(), "the inventory")
    assert ended.code == 0, ended.err
    assert [path.name for path in out.iterdir()] == ["inventory.json"]


def test_a_new_file_that_a_command_is_killed_at_is_there_whole_or_not_at_all(
    tiny, zygote, tmp_path
):
    out = tmp_path / "out"
    out.mkdir()
    target, whole, ended = out / "bom.json", tmp_path / "bom.json", None
    command = ("export", "-q", "-C", tiny.root, REPO, "--bom", "-o")
    assert zygote.run(*command, whole).code == 0
    for _, ended in steps(zygote, (*command, target), out):  # noqa: B007 - the last one is looked at
        if target.exists():
            assert target.read_bytes() == whole.read_bytes()
            target.unlink()
    assert ended.code == 0, ended.err
    assert not any(out.iterdir())


def test_a_restore_from_volumes_that_is_killed_goes_on(tiny, zygote, tmp_path):
    out, wanted, ended = tmp_path / "out", files_below(tiny.model(REPO)), None
    command = ("bundle", "restore", "-q", tiny.models / "bundle", out)
    for _, ended in steps(zygote, command, out):  # noqa: B007 - the last one is looked at
        there = files_below(out) if out.exists() else {}
        assert all(there[path] == data for path, data in wanted.items() if path in there)
    assert ended.code == 0, ended.err
    assert files_below(out) == wanted


@needs_mount
def test_a_medium_that_is_too_small(tiny, tmp_path, run):
    skip_unless_mountable()
    words = ["--volume-size", "32MiB", "--volume", "1"]
    with memory_disk(tmp_path / "stick", 200_000) as stick:
        done = run("bundle", "export", "-q", "-C", tiny.root, REPO, "--to", stick, *words)
        assert done.code == 31
        assert "--volume 1" in done.err
        left = tmp_path / "left"
        shutil.copytree(stick, left)
    # What came onto it helps a larger one.
    done = run("bundle", "export", "-q", "-C", tiny.root, REPO, "--to", left, *words)
    assert done.code == 0
    assert run("bundle", "verify", "-q", left).code == 0


@needs_mount
def test_a_stick_with_exfat(tiny, tmp_path, run):
    """Export onto it, verify and import from it; a volume is written as it is on any other disk."""
    skip_unless_mountable()
    with exfat_stick(tmp_path) as stick:
        words = ["--volume-size", "32MiB", "--parity", "2"]
        assert run("bundle", "export", "-q", "-C", tiny.root, REPO, "--to", stick, *words).code == 0
        assert run("bundle", "verify", "-q", stick).code == 0
        assert files(stick) == files(tiny.models / "bundle")
        far = tmp_path / "far"
        words = ("-C", far, "--new", "--min-free", "0")
        assert run("bundle", "import", "-q", *words, stick).code == 0
        assert run("audit", "-q", "-C", far).code == 0


@needs_mount
def test_the_tool_on_a_stick_with_exfat(tiny, tmp_path, run):
    """Names of wheels are such as it holds, and what lies there is checked there."""
    skip_unless_mountable()
    wheels = hollow_wheels(tmp_path / "wheels")
    with exfat_stick(tmp_path) as stick:
        words = ["--volume-size", "32MiB", "--with-tool", HERE, "--tool-wheels", wheels]
        assert run("bundle", "export", "-q", "-C", tiny.root, REPO, "--to", stick, *words).code == 0
        assert run("bundle", "verify", "-q", stick).code == 0
        script = stick / "volume-0001" / "tools" / "install.sh"
        done = subprocess.run(["sh", script, "--check"], capture_output=True, check=False)
        assert done.returncode == 0, done.stderr


@contextmanager
def exfat_stick(folder):
    """A small exFAT filesystem, by the kernel or by FUSE, whichever this machine has."""
    make, fuse = (shutil.which(name, path=SBIN) for name in ("mkfs.exfat", "mount.exfat-fuse"))
    kernel = "exfat" in Path("/proc/filesystems").read_text()
    if not make or not (kernel or fuse):
        pytest.skip("this machine cannot make or mount exFAT")
    image = folder / "image"
    with image.open("wb") as file:
        file.truncate(48 << 20)
    subprocess.run([make, str(image)], check=True, capture_output=True)
    attached = subprocess.run(
        ["losetup", "--find", "--show", str(image)], check=False, capture_output=True, text=True
    )
    if attached.returncode:
        pytest.skip(f"this machine has no loop device: {attached.stderr.strip()}")
    device = attached.stdout.strip()
    stick = folder / "stick"
    try:
        if kernel:
            with mounted(stick, "-t", "exfat", device):
                yield stick
        else:
            stick.mkdir()
            subprocess.run([fuse, device, str(stick)], check=True, capture_output=True)
            try:
                yield stick
            finally:
                unmount(stick)
    finally:
        subprocess.run(["losetup", "--detach", device], check=False)
