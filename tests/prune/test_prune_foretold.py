"""What a dry run of prune lists is what the run does: also what follows a forgotten seal."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from kit.cli import invoke


@pytest.fixture
def run(capfd, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))

    def call(*arguments):
        capfd.readouterr()
        assert invoke(*arguments, "--json") == 0
        return [json.loads(line) for line in capfd.readouterr().out.splitlines()]

    return call


@pytest.mark.parametrize("grace", ["0s", "14d"])
def test_a_dry_run_lists_what_the_run_does(archive, root, tmp_path, run, grace):
    def prune(*more):
        told = run("prune", "-q", "-C", root, "--grace", grace, *more)
        (report,) = (record for record in told if record["kind"] == "prune")
        del report["dry_run"]
        files = [(record["step"], record["file"]) for record in told if record["kind"] == "file"]
        return sorted(files), report

    key = tmp_path / "own"
    run("keys", "new", "-q", key, "--no-password")
    run("parity", "add", "-q", "-C", root)
    run("sign", "-q", "-C", root, "--key", tmp_path / "own.key")
    run("forget", "-q", "-C", root, "org/one")
    listed = set()
    for _ in range(4):
        foretold = prune("--dry-run")
        assert foretold == prune()
        listed |= {(step, Path(name).suffix) for step, name in foretold[0]}
    assert listed >= {("swept", ".par"), ("swept", ".minisig"), ("condemned", ".pack")}
