"""What nobody else has is fetched from upstream: only that, only if it is the same."""

from __future__ import annotations

import pytest
from kit.archive import seals
from kit.faults import wipe
from kit.repository import write_folder
from repairkit import ONE, TWO, model, own_pack, packs, sources, stored

from archiver.loopback.faults import Fault


@pytest.fixture
def mirrored(hub, run, tmp_path, models):
    """An archive of two repositories of the hub."""
    root = tmp_path / "mirrored"
    assert run("init", "-q", "-C", root).code == 0
    for name in (ONE, TWO):
        hub.create(name, models[name])
        assert run("mirror", "-q", "-C", root, name, "--min-free", "0B").code == 0
    return root


@pytest.fixture
def ask(run, mirrored):
    def call(*args):
        return run("repair", "-q", "--json", "-C", mirrored, *args)

    return call


def test_only_what_is_lost_is_fetched(hub, ask, mirrored, sound):
    before = stored(mirrored)
    path = own_pack(mirrored)
    at = path.read_bytes().index(model(10)["model.safetensors"][-60_000:-59_900])
    wipe(path, at, at + 10)
    hub.requests.clear()
    result = ask()
    assert result.code == 0, result.out
    assert sources(result) == {str(path.relative_to(mirrored)): "upstream"}
    (request,) = hub.requests.bodies()
    assert request.file == "model.safetensors"
    assert int(request.range.removeprefix("bytes=").partition("-")[0]) > 0
    assert stored(mirrored) == before
    sound(mirrored)


def test_a_pack_without_a_trace_comes_back(hub, ask, mirrored, sound):
    """Neighbours are read from one answer; the shared tensor comes from the file that has it first."""
    own_pack(mirrored).unlink()
    hub.requests.clear()
    result = ask()
    files = [request.file for request in hub.requests.bodies()]
    assert sorted(files) == ["config.json", "model.safetensors"]
    assert result.code == 0, result.out
    sound(mirrored)


def test_upstream_can_be_left_alone(hub, ask, mirrored):
    own_pack(mirrored).unlink()
    count = len(hub.requests)
    assert ask("--no-upstream").code == 21
    assert len(hub.requests) == count


def test_upstream_is_not_asked_while_others_can_help(hub, ask, mirrored, tmp_path, models):
    own_pack(mirrored).unlink()
    count = len(hub.requests)
    folder = write_folder(tmp_path / "full", models[ONE])
    two = write_folder(tmp_path / "two", models[TWO])
    assert ask("--from", folder, "--from", two).code == 0
    assert len(hub.requests) == count


def test_a_dry_run_fetches_no_data(hub, ask, mirrored):
    own_pack(mirrored).unlink()
    before = stored(mirrored)
    hub.requests.clear()
    result = ask("--dry-run")
    assert result.code == 20, result.out
    assert not hub.requests.bodies()
    assert stored(mirrored) == before


def test_offline_is_said_and_the_rest_goes_on(
    ask, mirrored, monkeypatch, run, tmp_path, models, sound
):
    for pack in packs(mirrored, ONE) + packs(mirrored, TWO):
        pack.unlink(missing_ok=True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    folder = write_folder(tmp_path / "full", models[ONE])
    result = ask("--from", folder)
    assert result.code == 21, result.out
    assert result.kinds("repair")[0]["notes"]
    out = tmp_path / "out"
    assert run("restore", "-q", "-C", mirrored, ONE, out).code == 0


def test_a_repository_that_is_gone_is_said(hub, ask, mirrored):
    hub.delete(ONE)
    own_pack(mirrored).unlink()
    result = ask()
    assert result.code == 21
    assert any("org/one" in note for note in result.kinds("repair")[0]["notes"])


def test_other_content_at_that_commit_is_refused(hub, ask, mirrored, models):
    own_pack(mirrored).unlink()
    before = seals(mirrored, ONE)
    hub.requests.clear()
    size = len(models[ONE]["model.safetensors"])
    lfs = {"oid": "0" * 64, "size": size, "pointerSize": 1}
    hub.claim(ONE, "model.safetensors", size=size, lfs=lfs)
    hub.claim(TWO, "model.safetensors", size=size, lfs=lfs)
    result = ask()
    assert result.code == 21, result.out
    assert seals(mirrored, ONE) == before
    assert any("otherwise" in note for note in result.kinds("repair")[0]["notes"])
    assert {request.file for request in hub.requests.bodies()} == {"config.json"}


def test_other_bytes_than_upstream_lists_are_refused(hub, ask, mirrored):
    own_pack(mirrored).unlink()
    before = seals(mirrored, ONE)
    hub.faults.add(Fault("flip", path="model.safetensors", offset=20_000, times=None))
    result = ask()
    assert result.code == 21, result.out
    assert seals(mirrored, ONE) == before
    assert any("other bytes" in note for note in result.kinds("repair")[0]["notes"])
    findings = result.kinds("finding")
    assert [finding["tensor"] for finding in findings if finding["code"] != "pack-missing"] == [
        "body.weight"
    ]
