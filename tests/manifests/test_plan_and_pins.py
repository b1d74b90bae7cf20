"""The plan for Qwen3.5 names all 21 repositories, and every pin is well formed and in its place."""

import json
import tomllib
from collections import defaultdict
from importlib.resources import files
from pathlib import Path

import pytest

from archiver.digest import is_git_oid, is_sha256
from archiver.names import as_commit, as_repo_id, check_paths, slug

MANIFESTS = Path(__file__).parents[2] / "manifests"
PINS = sorted((MANIFESTS / "pins").rglob("*.json"))
SMALL = ("0.8B", "2B", "4B", "9B")
LARGE = ("27B", "35B-A3B", "122B-A10B", "397B-A17B")


def plan() -> dict:
    return tomllib.loads((MANIFESTS / "qwen3.5.toml").read_text(encoding="utf-8"))


def named() -> list[str]:
    return [repository["name"] for repository in plan()["repository"]]


def read(pin: Path) -> dict:
    return json.loads(pin.read_text(encoding="utf-8"))


def test_the_plan_has_its_name_and_collection():
    assert plan()["plan"] == {"name": "qwen3.5", "collection": "Qwen/qwen35"}


def test_the_plan_names_exactly_the_21_repositories():
    models = {f"{size}{kind}" for size in SMALL for kind in ("", "-Base")}
    models |= {f"{size}{kind}" for size in LARGE for kind in ("", "-FP8", "-GPTQ-Int4")}
    models |= {"35B-A3B-Base"}
    assert len(named()) == len(set(named())) == 21
    assert set(named()) == {f"Qwen/Qwen3.5-{model}" for model in models}


def test_the_plan_uses_only_known_keys_and_good_names():
    assert plan().keys() == {"plan", "repository"}
    for repository in plan()["repository"]:
        assert repository.keys() <= {"name", "revision", "include", "exclude"}
        as_repo_id(repository["name"])


def test_there_are_pins():
    assert len(PINS) == 12


@pytest.mark.parametrize("path", PINS, ids=lambda path: path.parent.name)
def test_a_pin_is_well_formed(path):
    pin = read(path)
    assert pin.keys() == {
        "kind",
        "format",
        "repository",
        "revision",
        "complete",
        "note",
        "files",
    }
    assert (pin["kind"], pin["format"]) == ("pin", 1)
    assert isinstance(pin["complete"], bool)
    assert pin["files"] or not pin["complete"]


@pytest.mark.parametrize("path", PINS, ids=lambda path: path.parent.name)
def test_a_pin_belongs_to_the_plan_and_lies_where_its_name_says(path):
    pin = read(path)
    assert pin["repository"] in named()
    folder = slug(as_repo_id(pin["repository"]))
    assert path == MANIFESTS / "pins" / folder / f"{as_commit(pin['revision'])}.json"


@pytest.mark.parametrize("path", PINS, ids=lambda path: path.parent.name)
def test_a_pins_files_are_sorted_and_each_states_a_fact(path):
    listed = read(path)["files"]
    paths = [file["path"] for file in listed]
    assert paths == sorted(set(paths))
    check_paths(paths)
    for file in listed:
        assert {"path"} < file.keys() <= {"path", "size", "sha256", "oid"}
        assert file.get("size", 1) > 0
        assert is_sha256(file.get("sha256", "0" * 64))
        assert is_git_oid(file.get("oid", "0" * 40))


def test_one_digest_never_has_two_sizes():
    sizes = defaultdict(set)
    for file in (file for path in PINS for file in read(path)["files"]):
        if "sha256" in file and "size" in file:
            sizes[file["sha256"]].add(file["size"])
    assert all(len(found) == 1 for found in sizes.values())


def test_a_pin_is_printed_for_people():
    for path in PINS:
        text = json.dumps(read(path), indent=2, ensure_ascii=False) + "\n"
        assert path.read_text(encoding="utf-8") == text


def test_plan_and_pins_are_reachable_inside_the_package():
    carried = files("archiver") / "carried" / "manifests"
    assert (carried / "qwen3.5.toml").read_bytes() == (MANIFESTS / "qwen3.5.toml").read_bytes()
    for path in PINS:
        inside = carried.joinpath(*path.relative_to(MANIFESTS).parts)
        assert inside.read_bytes() == path.read_bytes()
