"""What is held is looked up in the archive's files or in its catalogue: never with another result."""

from __future__ import annotations

import itertools
import re
import shutil
from typing import TYPE_CHECKING

import pytest
from kit.archive import copy
from kit.faults import cut, flip
from kit.repository import bf16, safetensors, write_folder

from archiver.archive import lookup, publish
from archiver.archive.archive import Archive

if TYPE_CHECKING:
    from pathlib import Path

    from archiver.archive.records import FileEntry

SHARED = safetensors({"w": ("BF16", (64, 64), bf16(1, 64, 64))})
OTHER = safetensors({"v": ("BF16", (32, 64), bf16(2, 32, 64))})


@pytest.fixture
def by(monkeypatch):
    """Has what is held looked up in this way from now on."""

    def choose(way: str) -> None:
        monkeypatch.setattr(lookup, "PACKS_READ", {"files": 1 << 20, "catalogue": -1}[way])

    return choose


@pytest.fixture
def imports(cli, tmp_path):
    """Imports files into an archive, one after the other."""
    numbers = itertools.count()

    def run(archive: Path, name: str, files: dict[str, bytes]) -> dict:
        folder = write_folder(tmp_path / f"folder{next(numbers)}", files)
        place = ("-C", archive, folder, "--as", name, "--min-free", "0B", "--jobs", 1)
        done = cli("import", "--json", *place)
        assert done.code == 0, done.err
        return done.only("mirror")

    return run


@pytest.fixture
def two_models(archive, imports, monkeypatch):
    """An archive of two models, one pack each, with its catalogue up to date, from long ago."""
    with monkeypatch.context() as earlier:
        earlier.setattr(publish, "utc_after", lambda _time: "2020-01-01T00:00:00Z")
        imports(archive, "org/one", {"model.safetensors": SHARED, "a.json": b"{}"})
        imports(archive, "org/two", {"model.safetensors": OTHER})
    return archive


class Site:
    """A copy of the archive that something happens to."""

    def __init__(self, root: Path, cli, faulty, folder: Path) -> None:
        self.root, self.cli, self.faulty, self.folder = root, cli, faulty, folder
        (self.pack,) = packs_of(root, "org/one")


def packs_of(archive: Path, name: str) -> list[Path]:
    (snapshot,) = Archive.open(archive).snapshots_of(name)
    return [archive / "packs" / pack[:2] / f"{pack}.pack" for pack, _ in snapshot.seal.packs]


def nothing(_site):
    """All is whole."""


def index_lost(site):
    flip(site.pack, site.pack.read_bytes().rindex(b'"objects"') + 1)


def trailer_lost(site):
    flip(site.pack, site.pack.stat().st_size - 1)


def object_damaged(site):
    flip(site.pack, 2000)


def pack_cut(site):
    cut(site.pack)


def pack_lost(site):
    site.pack.unlink()


def pack_unreadable(site):
    site.faulty(site.root).unreadable(site.pack.name)


def forgotten(site):
    assert site.cli("forget", "-C", site.root, "org/one").code == 0


def condemned(site):
    forgotten(site)
    assert site.cli("prune", "-C", site.root).code == 0


def alien_pack(site):
    """In the pack's place lies one of another archive that has the same object."""
    site.pack.unlink()
    other = site.folder / "other"
    assert site.cli("init", "-C", other).code == 0
    folder = write_folder(site.folder / "alien", {"x.safetensors": SHARED, "b": b"b"})
    words = ("-C", other, folder, "--as", "alien/model", "--min-free", "0B")
    assert site.cli("import", *words).code == 0
    shutil.copytree(other / "packs", site.root / "packs", dirs_exist_ok=True)


def manifest_damaged(site):
    (manifest,) = (site.root / "manifests" / "org" / "one").iterdir()
    flip(manifest, 40)


def catalogue_lost(site):
    (site.root / "catalogue.sqlite").unlink()


def catalogue_damaged(site):
    (site.root / "catalogue.sqlite").write_bytes(b"no database" * 99)


CASES = {
    nothing: True,
    index_lost: False,
    trailer_lost: True,
    object_damaged: None,  # but not the object
    pack_cut: False,
    pack_lost: False,
    pack_unreadable: False,
    forgotten: True,
    condemned: False,
    alien_pack: None,
    manifest_damaged: True,
    catalogue_lost: True,
    catalogue_damaged: True,
}
"""What happens, and whether the weights that a pack had before are used again."""


@pytest.mark.parametrize("case", CASES)
def test_both_ways_store_and_reuse_the_same(
    case, two_models, cli, faulty, imports, by, tmp_path, hub
):
    by("catalogue")
    assert cli("stats", "-C", two_models).code == 0  # the catalogue knows of no damage
    hub.create("org/three", {"model.safetensors": SHARED, "c.json": b"[]", "a.json": b"{}"})
    results = []
    for way in ("files", "catalogue"):
        by(way)
        root = copy(two_models, tmp_path / way)
        site = Site(root, cli, faulty, tmp_path / f"for-{way}")
        case(site)
        there = {path.name for path in (root / "packs").rglob("*.pack")}
        reports = [imports(root, "org/four", {"w.safetensors": SHARED, "d.json": b"[1]"})]
        words = ("mirror", "--json", "-C", root, "org/three", "--min-free", "0B", "--jobs", 1)
        done = cli(*words)
        assert done.code == 0, done.err
        reports.append(done.only("mirror"))
        for report in reports:
            report.pop("snapshot")
        reused = [
            len({path.name for path in packs_of(root, name)} & there)
            for name in ("org/three", "org/four")
        ]
        again = {path.name for path in packs_of(root, "org/four")}
        results.append((reports, reused, site.pack.name in again))
    assert results[0] == results[1]
    assert CASES[case] in {None, results[0][2]}


@pytest.mark.parametrize("way", ["files", "catalogue"])
@pytest.mark.parametrize("case", [index_lost, pack_cut, pack_lost, pack_unreadable, trailer_lost])
def test_a_held_file_of_a_pack_that_is_seen_to_be_damaged_is_fetched(
    case, way, two_models, cli, faulty, by, tmp_path, hub, restores
):
    hub.create("org/three", {"model.safetensors": SHARED})
    by(way)
    site = Site(two_models, cli, faulty, tmp_path)
    case(site)
    done = cli("mirror", "--json", "-C", two_models, "org/three", "--min-free", "0B")
    assert done.code == 0, done.err
    held = CASES[case]
    assert (site.pack in packs_of(two_models, "org/three")) == held
    assert done.only("mirror")["held_files"] == int(held)
    restores(two_models, {"model.safetensors": SHARED}, "org/three")


def test_a_catalogue_that_was_left_behind_catches_up(two_models, cli, imports, by, tmp_path):
    """As if whatever came had been indexed at once; also a run that died before it could have been."""
    answers = []
    for way in ("files", "catalogue"):
        by(way)
        root = copy(two_models, tmp_path / way)
        before = (root / "catalogue.sqlite").read_bytes()
        imports(root, "org/three", {"model.safetensors": SHARED, "c.json": b"[]"})
        left_behind = (root / "catalogue.sqlite").read_bytes() == before
        assert left_behind == (way == "files")
        stats = cli("stats", "--json", "-C", root).only("stats")
        shown = [cli(word, "-C", root, *more).out for word, more in LOOKS]
        answers.append((stats, [TIMES.sub("", text) for text in shown]))
    assert answers[0] == answers[1]


LOOKS = (("list", ()), ("show", ("org/three",)))
TIMES = re.compile(r"\d\d:\d\d(:\d\d)?|[0-9a-f]{12,}")


def test_a_run_that_outgrows_the_files_goes_on_by_the_catalogue(
    archive, cli, tmp_path, monkeypatch
):
    """The second repository of one run finds in the catalogue what the first one stored."""
    monkeypatch.setattr(lookup, "PACKS_READ", 0)
    models = tmp_path / "hub"
    for name in ("one", "two"):
        snapshot = models / f"models--org--{name}" / "snapshots" / ("1" * 40)
        write_folder(snapshot, {"model.safetensors": SHARED, "config.json": name.encode()})
        write_folder(snapshot.parent.parent / "refs", {"main": b"1" * 40})
    done = cli("import", "--json", "-C", archive, models, "--min-free", "0B", "--jobs", 1)
    assert done.code == 0, done.err
    first, second = done.kinds("mirror")
    assert second["stored_bytes"] < 1000 < first["stored_bytes"]
    assert cli("stats", "--json", "-C", archive).only("stats")["snapshots"] == 2


@pytest.mark.parametrize("way", ["files", "catalogue"])
def test_a_file_that_lies_in_packs_is_not_fetched_again(way, two_models, cli, by, hub):
    by(way)
    hub.create("org/three", {"model.safetensors": SHARED, "c.json": b"[]"})
    hub.requests.clear()
    words = ("mirror", "--json", "-C", two_models, "org/three", "--min-free", "0B")
    report = cli(*words).only("mirror")
    assert report["held_files"] == 1
    assert {request.file for request in hub.requests.bodies()} == {"c.json"}


def test_what_a_run_has_read_is_not_read_again_and_what_is_new_is_seen(two_models, imports):
    files = lookup.FilesLookup(Archive.open(two_models))
    first: dict[str, FileEntry] = {}

    def is_known(name: str) -> bool:
        """Whether a repository's first file is found, and all that it is made of."""
        archive = Archive.open(two_models)
        (snapshot,) = archive.snapshots_of(name)
        file = first.get(name) or archive.manifest(snapshot.seal).files[0]
        first[name] = file
        key = lookup.FileKey(file.size, file.sha256)
        held, hints = files.held_files([key]), files.hints()
        found = all(hints.locate(digest) for _, digest in file.segments)
        return found and held[key].snapshot == snapshot.id and files.is_quick(manifests=True)

    assert is_known("org/one")
    assert is_known("org/two")
    for path in (*two_models.glob("manifests/**/*.zst"), *two_models.glob("packs/*/*.pack")):
        cut(path)
    assert is_known("org/one")
    assert is_known("org/two")
    imports(two_models, "org/three", {"b.json": b"[3]"})
    assert is_known("org/three")
    assert is_known("org/one")
