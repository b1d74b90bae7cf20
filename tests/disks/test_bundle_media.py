"""Volumes on disks that refuse calls, as sticks do, and on one that is pulled out in the middle."""

from __future__ import annotations

from errno import EIO, ENODEV, EPERM

import pytest
from diskkit import Disk

FAT = {"fchmod": EPERM, "fchown": EPERM, "link": EPERM}
REPO = "org/model"


@pytest.fixture
def archive(tmp_path, model, cli):
    root = tmp_path / "archive"
    assert cli("init", "-q", "-C", root).code == 0
    words = ("import", "-q", "-C", root, model, "--as", REPO, "--min-free", "0")
    assert cli(*words).code == 0
    return root


@pytest.fixture
def stick(tmp_path, library):
    return Disk(tmp_path / "stick", library)


@pytest.fixture
def export(stick, archive):
    words = ("bundle", "export", "-q", "-C", archive, REPO, "--to", stick.root)
    size = ("--volume-size", "32MiB", "--parity", "2")
    return lambda **refuse: stick.run(*words, *size, **refuse)


def test_a_stick_has_no_modes_and_no_links(stick, export, cli, tmp_path, library):
    assert export(refuse=FAT).code == 0
    assert stick.refused() >= {"fchmod"}
    assert cli("bundle", "verify", "-q", stick.root).code == 0
    far = Disk(tmp_path / "far", library)
    words = ("bundle", "import", "-q", "--new", stick.root, "--min-free", "0")
    done = far.run(*words, "-C", far.root, refuse=FAT)
    assert done.code == 0, done
    assert cli("audit", "-q", "-C", far.root).code == 0


@pytest.mark.parametrize("after", [0, 5, 15])
@pytest.mark.parametrize("call", ["write", "fsync_file"])
def test_a_stick_that_is_pulled_out(export, stick, cli, call, after):
    stick.root.mkdir()
    done = export(refuse={call: EIO if call == "write" else ENODEV}, after=after)
    assert done.code == 1, done
    assert "Volume 1 of 1 is not complete" in done.err
    assert "run the same command again" in done.err
    assert cli("bundle", "verify", "-q", "--json", stick.root).code == 3
    assert export().code == 0
    assert cli("bundle", "verify", "-q", stick.root).code == 0
