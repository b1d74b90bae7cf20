"""``plan check`` compares an archive with a plan and with published pins, and asks nobody."""

from __future__ import annotations

import json

import pytest
from kit.cli import invoke
from kit.faults import overwrite

from archiver.archive import pins
from archiver.archive.archive import Archive
from archiver.archive.pins import Pin, PinnedFile
from archiver.loopback.hub import Hub


@pytest.fixture
def root(tmp_path, monkeypatch):
    """Two repositories, mirrored from a hub that is gone by now."""
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    root = tmp_path / "weights"
    assert invoke("init", "-q", "-C", root) == 0
    with Hub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        for name in ("org/one", "org/two"):
            hub.create(name, {"config.json": b"{}", "notes.txt": name.encode() * 99})
            args = ["mirror", "-q", "-C", str(root), name, "--min-free", "0B"]
            assert invoke(*args) == 0
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return root


@pytest.fixture
def check(ask, tmp_path):
    def call(*entries, text=False):
        path = tmp_path / "plan.toml"
        lines = "".join(f"[[repository]]\n{entry}\n" for entry in entries)
        path.write_text(f'[plan]\nname = "nightly"\n{lines}')
        return ask("plan", "check", path, *([] if text else ["--json"]))

    return call


@pytest.fixture
def publish(monkeypatch):
    def call(*published):
        monkeypatch.setattr(pins, "published_pins", lambda: published)

    return call


def states(found):
    return {entry["repository"]: entry["state"] for entry in found.kinds("entry")}


def one(root):
    return next(iter(Archive.open(root).snapshots_of("org/one")))


def pin(root, **changed):
    seal = one(root).seal
    files = {
        entry.path: PinnedFile(entry.path, entry.size, entry.sha256)
        for entry in Archive.open(root).manifest(seal).files
    }
    files |= changed.pop("files", {})
    return Pin(
        "Org/One", changed.pop("revision", seal.revision), files=tuple(files.values()), **changed
    )


ONE, TWO, NEVER = 'name = "Org/one"', 'name = "org/two"', 'name = "org/never"'


def test_what_is_held_and_what_is_not(check, root):
    before = sorted((path, path.lstat().st_mtime_ns) for path in root.rglob("*"))
    assert (check(ONE, TWO).code, states(check(ONE, TWO))) == (
        0,
        {"Org/one": "held", "org/two": "held"},
    )
    result = check(ONE, NEVER)
    assert (result.code, states(result)) == (24, {"Org/one": "held", "org/never": "missing"})
    (verdict,) = result.kinds("plan-check")
    assert (verdict["besides"], verdict["exit_code"]) == (["org/two"], 24)
    lines = check(ONE, NEVER, text=True).out.splitlines()
    assert lines[0] == "Plan nightly: 1 of 2 repositories held; 1 missing."
    assert lines[1].startswith(f"    → Run 'archiver sync -C {root} ")
    assert lines[-1] == "Held, and not in the plan: org/two."
    assert sorted((path, path.lstat().st_mtime_ns) for path in root.rglob("*")) == before


def test_a_revision_and_patterns_are_what_the_plan_says(check, root):
    revision = one(root).seal.revision
    for entry, state in (
        (f'{ONE}\nrevision = "{revision}"', "held"),
        (f'{ONE}\nrevision = "{revision[:9]}"', "held"),
        (f'{ONE}\nrevision = "main"', "held"),
        (f'{ONE}\nrevision = "v1"', "missing"),
        (f'{ONE}\nrevision = "{"0" * 40}"', "missing"),
        (f'{ONE}\ninclude = ["*.json"]', "held"),
    ):
        assert states(check(entry)) == {"Org/one": state}, entry


def test_packs_that_are_missing_and_manifests_that_are_damaged(check, root):
    (pack,) = {pack for pack, _ in one(root).seal.packs}
    next(root.glob(f"packs/*/{pack}.pack")).unlink()
    result = check(ONE)
    assert (result.code, states(result)) == (24, {"Org/one": "incomplete"})
    overwrite(next(root.glob("manifests/org/one/*")), b"{}")
    result = check(ONE, NEVER)
    assert (result.code, states(result)["Org/one"]) == (20, "unreadable")
    assert "archiver repair" in check(ONE, text=True).out


def test_a_pin_that_agrees_and_one_of_another_revision(check, root, publish):
    publish(pin(root, complete=True))
    (entry,) = check(ONE).kinds("entry")
    assert (entry["state"], entry["pin"]) == ("held", "agrees")
    publish(pin(root, revision="1" * 40))
    result = check(ONE, TWO)
    assert [entry["pin"] for entry in result.kinds("entry")] == ["other-revision", ""]
    assert result.code == 0


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        (PinnedFile("notes.txt", 5), "size"),
        (PinnedFile("notes.txt", -1, "ab" * 32), "sha256"),
        (PinnedFile("model.safetensors", 7, "ab" * 32), "absent"),
    ],
)
def test_a_pin_that_differs_is_heard_before_all_else(check, root, publish, changed, what):
    publish(pin(root, files={changed.path: changed}))
    result = check(ONE, NEVER)
    assert (result.code, states(result)["Org/one"]) == (22, "differs")
    (difference,) = result.kinds("entry")[0]["differences"]
    assert (difference["path"], difference["what"]) == (changed.path, what)
    assert f"    {changed.path}" in check(ONE, text=True).out


def test_a_file_that_a_complete_pin_does_not_list(check, root, publish):
    published = pin(root)
    files = tuple(file for file in published.files if file.path != "notes.txt")
    publish(Pin(published.repository, published.revision, complete=True, files=files))
    result = check(ONE)
    assert result.code == 22
    (difference,) = result.kinds("entry")[0]["differences"]
    assert (difference["path"], difference["what"]) == ("notes.txt", "extra")


def test_the_plan_that_comes_along_and_its_pins_can_be_checked(ask, root):
    result = ask("plan", "check", "qwen3.5", "--json")
    assert (result.code, len(result.kinds("entry"))) == (24, 21)
    assert json.loads(result.out.splitlines()[-1])["besides"] == ["org/one", "org/two"]
    assert ask("plan", "check", "no-such-plan").code == 2
