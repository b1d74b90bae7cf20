from __future__ import annotations

import pytest
from commandkit import Small, write_first, write_second
from kit.cli import invoke


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    from archiver.archive.archive import Archive

    root = tmp_path_factory.mktemp("cli")
    archive = root / "weights"
    assert invoke("init", "-q", "-C", archive) == 0
    revisions = []
    folders = (write_first(root / "first"), write_second(root / "second"))
    for folder in folders:
        args = ["import", "-q", "-C", str(archive), str(folder), "--as", "me/Model"]
        assert invoke(*args, "--effort", "fast") == 0
        held = {snapshot.seal.revision for snapshot in Archive.open(archive).snapshots()}
        revisions += held - set(revisions)
    return Small(archive, *folders, tuple(revisions))


@pytest.fixture
def archiver(run, small):
    """Run a command on the small archive, in this process; ``archive=None`` names none."""

    def call(*args, archive=small.archive):
        return run(*(() if archive is None else ("-C", archive)), *args)

    return call


@pytest.fixture
def exported(archiver, small, tmp_path):
    """The manifest of the first revision as a file."""
    target = tmp_path / "first.manifest.json"
    assert archiver("manifest", "export", small.reference(0), "-o", target).code == 0
    return target
