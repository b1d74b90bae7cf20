"""``export --oci``: the layout and what it says, of whole archives and damaged ones, in whatever folder."""

from __future__ import annotations

import json

import pytest
from exportkit import (
    Model,
    OCIImageIndex,
    OCIImageManifest,
    blobs,
    config_of,
    described_model,
    everything,
    files_of,
    index,
    manifest_of,
    names,
)
from kit.faults import flip
from kit.repository import REPO, WEIGHTS

from archiver.archive.archive import Archive


def revision_of(result) -> str:
    return result.only("oci")["revision"]


def test_every_file_is_a_layer_as_it_is(held, export, layout):
    result = export("--json")
    assert result.code == 0
    assert files_of(layout, revision_of(result)) == held
    manifest = manifest_of(layout, revision_of(result))
    assert all(layer["mediaType"].endswith(".v1.raw") for layer in manifest["layers"])
    told = result.only("oci")
    assert (told["files"], told["blobs"], told["kept"]) == (len(held), len(held) - 1, 0)
    assert told["digest"] == names(layout)[told["revision"]]


def test_others_take_the_documents_for_what_they_are(held, export, layout):
    name = revision_of(export("--json"))
    assert json.loads((layout / "oci-layout").read_bytes()) == {"imageLayoutVersion": "1.0.0"}
    OCIImageIndex.model_validate_json((layout / "index.json").read_bytes())
    OCIImageManifest.model_validate(manifest_of(layout, name))
    Model.model_validate(config_of(layout, name))


def test_the_documents_say_what_is_known(held, export, layout, hub):
    name = revision_of(export("--json"))
    config = config_of(layout, name)
    assert config["config"] == {
        "architecture": "TinyForCausalLM",
        "format": "safetensors",
        "paramSize": "12.4K",
        "precision": "bf16",
    }
    descriptor = config["descriptor"]
    assert (descriptor["name"], descriptor["vendor"]) == ("model", "org")
    assert (descriptor["family"], descriptor["revision"]) == ("tiny", name)
    assert descriptor["licenses"] == ["Apache-2.0"]
    assert descriptor["sourceURL"] == f"{hub.endpoint}/{REPO}/tree/{name}"
    layers = manifest_of(layout, name)["layers"]
    assert config["modelfs"] == {"type": "layers", "diffIds": [each["digest"] for each in layers]}
    kinds = {
        each["annotations"]["org.cncf.model.filepath"]: each["mediaType"].split(".model.")[1]
        for each in layers
    }
    assert kinds[WEIGHTS] == "weight.v1.raw"
    assert kinds["tokenizer.json"] == kinds["config.json"] == "weight.config.v1.raw"
    assert (kinds["README.md"], kinds["run.py"]) == ("doc.v1.raw", "code.v1.raw")


def test_the_same_bytes_each_time_and_from_another_archive(held, export, layout, cli, tmp_path):
    assert export().code == 0
    other, again = tmp_path / "other", tmp_path / "again"
    assert cli("init", "-C", other).code == 0
    assert cli("mirror", "-C", other, REPO).code == 0
    assert cli("export", "-C", other, REPO, "--oci", again).code == 0
    assert everything(again) == everything(layout)


def test_what_is_there_is_kept_and_the_same_name_is_no_news(held, export, layout):
    assert export().code == 0
    before = {path: path.stat().st_mtime_ns for path in layout.rglob("*") if path.is_file()}
    result = export("--json")
    told = result.only("oci")
    assert (result.code, told["kept"], told["added"]) == (0, told["blobs"], False)
    assert before == {p: p.stat().st_mtime_ns for p in layout.rglob("*") if p.is_file()}


def test_several_revisions_in_any_order(held, export, layout, hub, mirror, tmp_path):
    first = revision_of(export("--json"))
    changed = described_model() | {"README.md": b"# another\n"}
    hub.create(REPO, changed)
    assert mirror().code == 0
    second = revision_of(export("--json"))
    assert first != second
    assert set(names(layout)) == {first, second}
    assert files_of(layout, first) == held
    assert files_of(layout, second) == changed
    backwards = tmp_path / "backwards"
    for name in (second, first):
        assert export(reference=f"{REPO}@{name}", to=backwards).code == 0
    assert everything(backwards) == everything(layout)


def test_a_name_of_ones_own(held, export, layout, hub, mirror):
    assert export("--tag", "v1.0").code == 0
    assert export("--tag", "latest").code == 0
    assert set(names(layout)) == {"v1.0", "latest"}
    hub.create(REPO, held | {"more.txt": b"more"})
    assert mirror().code == 0
    before = everything(layout)
    result = export("--tag", "v1.0")
    assert (result.code, "by the name v1.0" in result.err) == (2, True)
    assert everything(layout) == before


@pytest.mark.parametrize("name", ["a:b", "a/b", "..", "-a", "a b", "a..b", "", "a" * 129, "ä"])
def test_a_name_that_is_no_tag(held, export, layout, name):
    assert export("--tag", name or "_").code == 2
    assert not layout.exists()


# ---- folders


def test_a_folder_of_something_else_is_left_alone(held, export, layout):
    layout.mkdir()
    (layout / "mine.txt").write_text("mine")
    result = export()
    assert (result.code, "neither empty nor an OCI image layout" in result.err) == (2, True)
    assert everything(layout) == {"mine.txt": b"mine"}


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("oci-layout", b'{"imageLayoutVersion": "2.0.0"}'),
        ("oci-layout", b"[" * 4000),
        ("oci-layout", b"{}" * 4000),
        ("index.json", b""),
        ("index.json", b"[]"),
        ("index.json", b'{"schemaVersion": 2, "manifests": {}}'),
        ("index.json", b'{"schemaVersion": 2, "manifests": [{"digest": 1}]}'),
        ("index.json", b'{"schemaVersion": 1, "manifests": []}'),
        ("index.json", b"[" * (5 << 20)),
    ],
)
def test_a_layout_that_cannot_be_understood_is_left_alone(held, export, layout, name, data):
    assert export().code == 0
    (layout / name).write_bytes(data)
    before = everything(layout)
    result = export("--tag", "again")
    assert (result.code, "cannot be added to" in result.err) == (2, True)
    assert everything(layout) == before


@pytest.mark.parametrize("name", ["index.json", "oci-layout"])
@pytest.mark.parametrize("there", [True, False])
def test_a_link_in_the_place_of_a_small_file_is_not_written_through(
    held, export, layout, tmp_path, name, there
):
    assert export("--tag", "first").code == 0
    outside = tmp_path / "outside"
    if there:
        outside.write_bytes((layout / name).read_bytes())
        before = outside.read_bytes()
    (layout / name).unlink()
    (layout / name).symlink_to(outside)
    result = export("--tag", "second")
    assert result.code == 2
    assert f"{name} is no file, or a link to one" in result.err
    assert outside.exists() == there
    assert not there or outside.read_bytes() == before


def test_what_others_wrote_into_the_index_stays(held, export, layout):
    assert export().code == 0
    theirs = {
        "mediaType": "x/y",
        "digest": f"sha256:{'0' * 64}",
        "size": 1,
        "platform": {"os": "x"},
    }
    fields = index(layout) | {"annotations": {"a": "b"}}
    fields["manifests"].append(theirs)
    (layout / "index.json").write_text(json.dumps(fields))
    assert export("--tag", "more").code == 0
    told = index(layout)
    assert theirs in told["manifests"]
    assert told["annotations"] == {"a": "b"}
    assert len(told["manifests"]) == 3


def test_into_a_file(held, export, layout):
    layout.write_text("mine")
    assert export().code == 2
    assert export(to=layout / "deeper").code == 2
    assert layout.read_text() == "mine"


def test_a_wrong_blob_is_named_and_left(held, export, layout):
    name = revision_of(export("--json"))
    (weights,) = [
        each
        for each in manifest_of(layout, name)["layers"]
        if each["annotations"]["org.cncf.model.filepath"] == WEIGHTS
    ]
    blob = layout / "blobs/sha256" / weights["digest"].split(":")[1]
    flip(blob)
    wrong = blob.read_bytes()
    result = export("--tag", "again")
    assert result.code == 2
    assert "other bytes than its name says" in result.out
    assert "remove it" in result.out
    assert blob.read_bytes() == wrong
    assert set(names(layout)) == {name}
    blob.unlink()
    assert export("--tag", "again").code == 0
    assert files_of(layout, "again") == held


# ---- damage


@pytest.fixture
def damaged(held, archive):
    """A bit of the weights is flipped."""
    opened = Archive.open(archive)
    seal = opened.find(REPO).seal
    (pack, _), *_ = seal.packs
    digest = opened.manifest(seal).file(WEIGHTS).segments[-1][1]
    (entry,) = [each for each in opened.pack(pack).index() if each.blake3 == digest]
    flip(archive / "packs" / pack[:2] / f"{pack}.pack", entry.offset + entry.stored // 2)
    return held


def test_a_damaged_file_is_named_and_nothing_is_published(damaged, export, layout):
    result = export("--json")
    told = result.only("oci")
    assert result.code == 20
    (failure,) = told["failures"]
    assert failure["path"] == WEIGHTS
    assert failure["object"]
    assert "audit" in failure["hint"]
    assert not (layout / "index.json").exists()
    assert len(blobs(layout)) == len(damaged) - 2, "the others are there, and whole"
    result = export()
    assert WEIGHTS in result.out
    assert "does not name the artifact" in result.out
