"""What a night costs on which nothing is new: two requests a repository, and no look at what it holds."""

from __future__ import annotations

import pytest
from kit.cli import invoke
from kit.opened import opened_by
from kit.repository import noise

NIGHT = 'audit = {{ share = "100%", level = "content" }}\nparity = true\ncopies = ["{}"]'
SEALS_READ = 8
"""Times that a seal is read: by watch, sync, each chore, and the look at it all in the end."""


@pytest.fixture
def idle(hub, plan, tmp_path, run):
    """Makes an archive of so many repositories, and a copy; says what an idle night opens in each."""

    def call(count):
        names = [f"org/m{number}" for number in range(count)]
        for number, name in enumerate(names):
            files = {"config.json": b"{}", "weights.bin": noise(number, 3_000)}
            hub.create(name, files, card={"license": "mit"})
        root, copy = tmp_path / f"weights{count}", tmp_path / f"copy{count}"
        assert invoke("init", "-q", "-C", root) == 0
        night = ("night", "-q", "--min-free", "0B", plan(*names, night=NIGHT.format(copy)))
        assert invoke(*night, "-C", root) == 0
        assert invoke("copy", "-q", "-C", root, "--new", copy) == 0
        assert invoke(*night, "-C", root) == 0
        result = run(*night, "--json", "-C", root)
        steps = {step["step"]: step for step in result.kinds("step")}
        assert {step["outcome"] for step in steps.values()} == {"idle"}, steps
        assert steps["watch"]["counts"]["requests"] == 2 * count
        return opened_by(root, *night), opened_by(root, *night, inside=copy)

    return call


@pytest.mark.parametrize("count", [2, 5])
def test_an_idle_night_reads_no_manifest_and_no_pack(idle, count):
    for opened in idle(count):
        assert not {"manifests", "packs", "parity", "signatures"} & set(opened), opened
        assert opened["snapshots"] <= SEALS_READ * count, opened
