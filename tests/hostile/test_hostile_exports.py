"""What a hostile archive says becomes no paper that lies, and no file outside of the layout."""

from __future__ import annotations

import hashlib
import json

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from hostilekit import LIES, NEVER, SOME_FILESYSTEMS, write_archive

REPO = "Org/Model"
SOURCES = {
    "committed": "\x1b[2J",
    "endpoint": "javascript:alert(1)//",
    "licence": "\u202etim\x00",
    "upstream": "huggingface\x1b",
    "id": "\x07" * 500,
}


def written(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def export(run, root, layout):
    """Both papers of an archive: how each ended."""
    oci = run("export", "-q", "--json", "-C", root, REPO, "--oci", layout, "--tag", "x")
    bom = run("export", "-q", "-C", root, REPO, "--bom")
    assert "Traceback" not in oci.err + bom.err
    return oci, bom


def layers(layout) -> dict[str, bytes]:
    """The files that the layout's one artifact names."""
    (named,) = json.loads((layout / "index.json").read_bytes())["manifests"]
    blobs = written(layout / "blobs")
    for name, data in blobs.items():
        assert hashlib.sha256(data).hexdigest() == name
    manifest = json.loads(blobs[named["digest"].removeprefix("sha256:")])
    return {
        each["annotations"]["org.cncf.model.filepath"]: blobs[
            each["digest"].removeprefix("sha256:")
        ]
        for each in manifest["layers"]
    }


def judged(text: str) -> dict:
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    return json.loads(text)


@pytest.mark.parametrize("case", NEVER)
def test_what_no_manifest_may_say_is_in_no_paper(run, tmp_path, case):
    root = write_archive(tmp_path / "root", NEVER[case])
    oci, bom = export(run, root, tmp_path / "layout")
    assert (oci.code, bom.code) == (20, 20)
    assert not bom.out
    assert not (tmp_path / "layout").exists()


@pytest.mark.parametrize("case", LIES)
def test_a_file_that_is_not_what_its_digest_says_is_in_no_layout(run, tmp_path, case):
    layout = tmp_path / "layout"
    oci, _ = export(run, write_archive(tmp_path / "root", LIES[case]), layout)
    if case == "wrong BLAKE3":  # as in a restore: bytes with that SHA-256 are the file
        assert oci.code == 0
        assert layers(layout)
    else:
        assert oci.code == 20
        assert not (layout / "index.json").exists()


@pytest.mark.parametrize("case", SOME_FILESYSTEMS)
def test_paths_that_some_disks_cannot_hold_are_in_both_papers(run, tmp_path, case):
    root = write_archive(tmp_path / "root", SOME_FILESYSTEMS[case])
    oci, bom = export(run, root, tmp_path / "layout")
    assert (oci.code, bom.code) == (0, 0)
    told = judged(bom.out)
    assert {each["name"] for each in told["components"]} == set(layers(tmp_path / "layout"))
    assert bom.out.isascii()


@pytest.mark.parametrize("key", SOURCES)
def test_what_a_source_says_is_left_out_where_it_is_none(run, tmp_path, key):
    root = write_archive(
        tmp_path / "root", lambda manifest: manifest["source"].update({key: SOURCES[key]})
    )
    oci, bom = export(run, root, tmp_path / "layout")
    assert (oci.code, bom.code) == (0, 0)
    model = judged(bom.out)["metadata"]["component"]
    assert json.dumps(model, ensure_ascii=False).isprintable()
    for data in written(tmp_path / "layout").values():
        assert SOURCES[key].encode() not in data
