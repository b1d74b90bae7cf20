"""One name as a model, a dataset, a model of ModelScope and a folder: four repositories in one archive."""

from __future__ import annotations

import pytest
from kit import handmade
from kit.archive import seals
from kit.repository import write_folder

NAMES = ("Org/Name", "datasets/Org/Name", "modelscope:Org/Name", "folder:Org/Name")
IDENTITIES = {
    "Org/Name": ("huggingface", "model"),
    "datasets/Org/Name": ("huggingface", "dataset"),
    "modelscope:Org/Name": ("modelscope", "model"),
    "folder:Org/Name": ("folder", "model"),
}
FILES = {
    name: {"config.json": b'{"of": "%s"}' % name.encode(), "same.txt": b"the same everywhere"}
    for name in NAMES
}


@pytest.fixture
def held(hub, archive, mirror, cli, tmp_path):
    """An archive that has all four, the first two from the hub."""
    for name in NAMES[:2]:
        hub.create(name, FILES[name])
        assert mirror(name).code == 0
    for number, name in enumerate(NAMES[2:]):
        folder = write_folder(tmp_path / f"in{number}", FILES[name])
        done = cli("import", "-C", archive, folder, "--as", name, "--min-free", "0B")
        assert done.code == 0
    return archive


def listed(cli, archive, *words):
    return {
        row["repository"] for row in cli("list", "--json", "-C", archive, *words).kinds("snapshot")
    }


def test_each_is_listed_shown_and_restored_as_itself(held, cli, restores):
    rows = cli("list", "--json", "-C", held).kinds("snapshot")
    assert {row["repository"].casefold() for row in rows} == {name.casefold() for name in NAMES}
    folders = {path.relative_to(held / "snapshots").parent.as_posix() for path in seals(held)}
    assert folders == {
        "org/name", "huggingface.dataset/org/name", "modelscope.model/org/name", "folder.model/org/name"
    }  # fmt: skip
    for name in NAMES:
        rows = cli("list", "--json", "-C", held, name.upper()).kinds("snapshot")
        assert {row["repository"].casefold() for row in rows} == {name.casefold()}
        assert {(row["hub"], row["type"]) for row in rows} == {IDENTITIES[name]}
        shown = cli("show", "--json", "-C", held, name).only("snapshot")
        assert (shown["hub"], shown["type"]) == IDENTITIES[name]
        assert shown["source"]["repository"].casefold() == shown["repository"].casefold()
        restores(held, FILES[name], name)


def test_each_is_compared_told_of_and_checked_as_itself(held, cli):
    for name in NAMES[1:]:
        compared = cli("diff", "--json", "-C", held, NAMES[0], name)
        assert compared.code == 1
        assert [row["path"] for row in compared.kinds("file")] == ["config.json"]
    for name in NAMES:
        events = cli("log", "--json", "-C", held, name).records
        repositories = {
            event["repository"].casefold() for event in events if event.get("repository")
        }
        assert repositories == {name.casefold()}
        assert cli("audit", "-q", "-C", held, "--snapshot", name).code == 0
    status = cli("status", "--json", "-C", held)
    tested = {row["repository"] for row in status.records if row["kind"] == "smoke-test"}
    assert not tested & {"datasets/Org/Name"}
    assert cli("catalogue", "rebuild", "-C", held).code == 0
    assert cli("stats", "--json", "-C", held).records[0]["repositories"] == 4


def test_one_is_copied_and_the_others_are_not(held, cli, tmp_path, restores):
    for number, name in enumerate(NAMES):
        there = tmp_path / f"there{number}"
        assert cli("init", "-C", there).code == 0
        assert cli("copy", "-C", held, there, "--snapshot", name).code == 0
        assert {each.casefold() for each in listed(cli, there)} == {name.casefold()}
        restores(there, FILES[name], name)


def test_one_is_forgotten_and_pruned_and_the_others_stay(held, cli, restores):
    gone, *stay = reversed(NAMES)
    assert cli("forget", "-C", held, gone).code == 0
    assert {each.casefold() for each in listed(cli, held)} == {name.casefold() for name in stay}
    assert cli("prune", "-C", held, "--grace", "0s").code in {0, 2}
    for name in stay:
        restores(held, FILES[name], name)
    assert cli("restore", "-C", held, gone, held / "x").code == 2
    assert cli("audit", "-q", "-C", held, "--level", "files").code == 0


def test_a_second_archive_of_the_same_files_is_the_same_at_any_case(held, cli):
    for name in NAMES:
        assert cli("show", "-C", held, name.swapcase()).code == 0


def test_a_pin_is_of_one_of_them_alone():
    from archiver.archive.pins import Pin

    pin = Pin("datasets/Org/Name", "0" * 40)
    assert pin.is_of("datasets/org/name", "0" * 40)
    assert not pin.is_of("Org/Name", "0" * 40)


def test_what_no_hub_and_no_type_is_known_of(archive, cli, tmp_path):
    folder = write_folder(tmp_path / "in", {"a": b"a"})
    for name in ("kaggle:Org/Name", "spaces/Org/Name", "a/b/c"):
        result = cli("import", "-C", archive, folder, "--as", name)
        assert result.code == 2
        assert name in result.err
    assert not seals(archive)


def test_a_repository_of_a_hub_that_came_later_is_read(held, cli, restores):
    """ "readers … take the identity from the document itself" """
    text = handmade.manifest([handmade.described("later.txt", [b"later"])], "later:spaces/Org/Name")
    pack = handmade.pack([(b"later", 0, handmade.object_frames(b"later", 0))])
    handmade.write_pack(held, pack)
    handmade.write_snapshot(held, text, [pack])
    for kind in ("manifests", "snapshots"):
        (held / kind / "later.space/org").mkdir(parents=True)
        (held / kind / "later:spaces/org/name").rename(held / kind / "later.space/org/name")
        (held / kind / "later:spaces/org").rmdir()
        (held / kind / "later:spaces").rmdir()
    (row,) = cli("list", "--json", "-C", held, "later:spaces/org/name").kinds("snapshot")
    assert (row["hub"], row["type"]) == ("later", "space")
    restores(held, {"later.txt": b"later"}, "later:spaces/Org/Name")
    assert cli("smoke-test", "-C", held, "later:spaces/Org/Name").code == 2
    for name in NAMES:
        restores(held, FILES[name], name)
