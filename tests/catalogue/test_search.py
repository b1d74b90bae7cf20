"""What a search finds, by the command line, and what a hostile word or card does to it: nothing."""

from __future__ import annotations

import shutil

import pytest
from kit.cli import invoke
from kit.repository import bf16, model, safetensors, write_folder

from archiver.archive.archive import Archive
from archiver.catalogue.cards import add_cards
from archiver.catalogue.groups import GROUPS_MAX, groups_of, name_pattern
from archiver.catalogue.rebuild import open_catalogue
from archiver.progress import Progress
from archiver.tensors.header import Tensor

CARD = """---
license: apache-2.0
tags: [chat]
---
# Größe <b>counts</b>

A mixture of experts.
"""


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """org/plain of the kit, and org/moe with a card, layers, and a second revision."""
    folder = tmp_path_factory.mktemp("search")
    root = folder / "weights"
    assert invoke("init", "-q", "-C", root) == 0
    layers = {
        f"model.layers.{layer}.experts.{expert}.gate_proj.weight": (
            "BF16",
            (4, 8),
            bf16(layer, 4, 8),
        )
        for layer in range(3)
        for expert in range(5)
    }
    layers["lm_head.weight"] = ("F32", (2, 2), b"\0" * 16)
    files = {"README.md": CARD.encode(), "model-00001-of-00002.safetensors": safetensors(layers)}
    plain = {path: data for path, data in model().items() if "/" not in path}
    for name, contents in (
        ("plain", plain),
        ("moe", files),
        ("moe", files | {"config.json": b"{}"}),
    ):
        shutil.rmtree(folder / "model", ignore_errors=True)
        write_folder(folder / "model", contents)
        words = ("import", "-q", "-C", root, folder / "model", "--as", f"org/{name}")
        assert invoke(*words, "--min-free", "0B") == 0
    return root


@pytest.fixture
def found(filled, run):
    """The hits of a search, as (what, repository, path or pattern)."""

    def call(*words):
        result = run("-C", filled, "search", "--json", *words)
        assert result.code == 0, result.err
        return [
            (hit["what"], hit["repository"], hit.get("path") or hit.get("pattern") or "")
            for hit in result.kinds("hit")
        ]

    return call


def test_repositories_are_found_by_name_licence_and_card(found):
    moe = ("repository", "org/moe", "")
    for words in (["moe"], ["apache"], ["MIXTURE", "exp"], ["grosse"], ["größe"], ["chat"]):
        assert (moe in found(*words, "--kind", "repository")) == (words != ["grosse"]), words
    assert found("mixture", "absent") == []
    assert [hit[1] for hit in found("org", "--kind", "repository")] == ["org/moe", "org/plain"]
    assert found("org", "--kind", "repository", "--licence", "APACHE") == [moe]


def test_files_are_found_by_the_parts_of_their_path(found):
    assert found("00001", "--kind", "file") == [
        ("file", "org/moe", "model-00001-of-00002.safetensors")
    ]
    assert {hit[2] for hit in found("safetensors", "--kind", "file", "--larger", "20kB")} == {
        "model.safetensors"
    }
    assert ("file", "org/moe", "config.json") in found("config")


def test_tensors_come_in_groups_that_numbers_do_not_part(found, filled, run):
    pattern = "model.layers.#.experts.#.gate_proj.weight"
    for words in (["gate_proj"], ["layers.7.experts"], ["layers", "3", "gate"], ["GATE_PR"]):
        assert found(*words, "--kind", "tensor") == [("tensor", "org/moe", pattern)], words
    assert found("--dtype", "f32") == [("tensor", "org/moe", "lm_head.weight")]
    (hit,) = run("-C", filled, "search", "--json", "gate_proj").kinds("hit")
    assert (hit["tensors"], hit["bytes"], hit["shape"], hit["files"]) == (15, 15 * 64, [4, 8], 1)


def test_of_snapshots_with_the_same_the_newest_stands_for_all(filled, run):
    (hit,) = run("-C", filled, "search", "--json", "moe").kinds("hit")
    newest = max(Archive.open(filled).snapshots(), key=lambda snapshot: snapshot.seal.sealed)
    assert hit["snapshots"] == 2
    assert len(hit["revision"]) == 40
    if newest.seal.repository.endswith("moe"):
        assert hit["snapshot"] in {each.id for each in Archive.open(filled).snapshots()}


@pytest.mark.parametrize(
    "word",
    ['"', "*", "a AND", "NEAR(a b)", "words:x", "(", "^a", "-a", "{", "x" * 10_000, "\x1b[31m"],
)
def test_no_sign_of_a_word_means_anything(filled, run, word):
    result = run("-C", filled, "search", "--", word)
    assert result.code in {0, 2}
    assert "sqlite" not in result.err.lower()


def test_nothing_is_asked_for(filled, run):
    assert run("-C", filled, "search").code == 2
    assert run("-C", filled, "search", "...").code == 2


def test_what_is_not_shown_is_counted(filled, run):
    result = run("-C", filled, "search", "a", "--limit", "1")
    assert "Not all are shown" in result.err
    assert "Found: 2 repositories, " in result.out
    assert len(result.out.splitlines()) == 3


def test_a_card_is_read_once_and_goes_with_its_manifest(filled, tmp_path, run):
    root = shutil.copytree(filled, tmp_path / "weights")
    archive = Archive.open(root)
    with open_catalogue(archive, Progress()) as catalogue:
        assert add_cards(archive, catalogue) in {0, 3}
        assert add_cards(archive, catalogue) == 0
    (plain,) = archive.snapshots_of("org/plain")
    assert run("-C", root, "forget", plain.id).code == 0
    counted = run("-C", root, "sql", "--csv", "SELECT count(*) FROM cards").out
    assert counted.splitlines()[-1] == "2"


def test_a_card_that_is_gone_is_no_error(filled, tmp_path, run):
    root = shutil.copytree(filled, tmp_path / "weights")
    for path in root.glob("catalogue.sqlite*"):
        path.unlink()
    for pack in root.glob("packs/*/*.pack"):
        pack.chmod(0o644)
        data = bytearray(pack.read_bytes())
        data[200 : len(data) // 2] = bytes(len(data) // 2 - 200)
        pack.write_bytes(data)
    assert run("-C", root, "search", "moe").code == 0


def test_a_layout_has_a_bound_of_groups():
    tensors = tuple(Tensor(f"t{number}x", "U8", (1,), 0, 1) for number in range(GROUPS_MAX + 50))
    groups = list(groups_of(tensors))
    assert len(groups) == GROUPS_MAX + 1
    assert (groups[-1].pattern, groups[-1].tensors, groups[-1].bytes) == ("", 50, 50)


def test_the_pattern_of_a_name():
    assert name_pattern("model.layers.10.w1.weight_2") == "model.layers.#.w1.weight_#"
    assert name_pattern("7") == "#"
