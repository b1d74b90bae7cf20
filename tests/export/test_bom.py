"""``export --bom``: what the library of CycloneDX takes for a bill of materials, and what it says."""

from __future__ import annotations

import hashlib
import json

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from exportkit import described_model
from kit.archive import seals
from kit.faults import cut
from kit.repository import REPO, write_folder


def judged(text: str) -> dict:
    """The bill, once the library's strict schema has taken it."""
    fault = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    assert fault is None, fault
    return json.loads(text)


@pytest.fixture
def bill(cli, archive):
    """The bill of a repository, as it comes on stdout."""

    def run(reference: str = REPO) -> dict:
        result = cli("export", "-q", "-C", archive, reference, "--bom")
        assert result.code == 0
        return judged(result.out)

    return run


def properties(component: dict) -> dict[str, str]:
    return {
        each["name"].removeprefix("archiver:"): each["value"] for each in component["properties"]
    }


def test_every_file_with_both_digests_and_who_vouched(held, bill):
    from blake3 import blake3

    told = bill()
    assert {each["name"] for each in told["components"]} == set(held)
    for each in told["components"]:
        data = held[each["name"]]
        assert each["hashes"] == [
            {"alg": "SHA-256", "content": hashlib.sha256(data).hexdigest()},
            {"alg": "BLAKE3", "content": blake3(data).hexdigest()},
        ]
        said = properties(each)
        assert (said["size"], said["vouched-by"]) == (str(len(data)), "upstream")
    references = [each["bom-ref"] for each in told["components"]]
    assert len(set(references)) == len(references), "two files are the same bytes"
    assert told["dependencies"][0] == {"ref": "model", "dependsOn": references}
    assert told["compositions"] == [{"aggregate": "complete", "dependencies": ["model"]}]


def test_the_model_and_its_card(held, bill, hub, archive):
    told = bill()
    (seal,) = seals(archive)
    sealed = json.loads(seal.read_bytes())
    model = told["metadata"]["component"]
    assert told["metadata"]["timestamp"] == sealed["sealed"]
    assert model["type"] == "machine-learning-model"
    assert (model["group"], model["name"], model["version"]) == ("org", "model", sealed["revision"])
    assert model["licenses"] == [{"license": {"id": "Apache-2.0", "acknowledgement": "declared"}}]
    assert model["modelCard"] == {
        "modelParameters": {
            "task": "text-generation",
            "architectureFamily": "tiny",
            "modelArchitecture": "TinyForCausalLM",
            "datasets": [
                {"type": "dataset", "name": "org/texts"},
                {"type": "dataset", "name": "other"},
            ],
        }
    }
    assert model["pedigree"]["ancestors"] == [
        {"type": "machine-learning-model", "name": "org/base"}
    ]
    assert model["externalReferences"] == [
        {"type": "distribution", "url": f"{hub.endpoint}/{REPO}/tree/{sealed['revision']}"}
    ]
    assert "purl" not in model, "it came from another address than the public hub's"
    said = properties(model)
    assert said["parameters"] == "12416"
    assert said["manifest-blake3"] == sealed["manifest"]["blake3"]


def test_the_same_bytes_each_time(held, archive, cli, tmp_path):
    files = [tmp_path / "one.json", tmp_path / "two.json"]
    for file in files:
        result = cli("export", "--json", "-C", archive, REPO, "--bom", "-o", file)
        assert result.code == 0
    told = result.only("bom")
    assert files[0].read_bytes() == files[1].read_bytes()
    assert told["sha256"] == hashlib.sha256(files[1].read_bytes()).hexdigest()
    assert told["serial"] == judged(files[1].read_text())["serialNumber"]
    assert cli("export", "-C", archive, REPO, "--bom", "-o", files[0]).code == 2
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_part_of_a_revision_says_so(hub, mirror, bill):
    hub.create(REPO, described_model())
    assert mirror("--include", "*.json").code == 0
    assert bill()["compositions"][0]["aggregate"] == "incomplete"


def test_a_dataset_is_data(hub, mirror, bill):
    files = {"README.md": b"---\nlicense: cc-by-4.0\n---\n", "train/a.parquet": b"x"}
    hub.create("datasets/org/texts", files)
    assert mirror("datasets/org/texts").code == 0
    model = bill("datasets/org/texts")["metadata"]["component"]
    assert model["type"] == "data"
    assert model["licenses"][0]["license"]["id"] == "CC-BY-4.0"
    assert "modelCard" not in model


def test_a_folder_of_nobodys(archive, cli, tmp_path, bill):
    folder = write_folder(tmp_path / "mine", {"weights.bin": b"x", "notes.txt": b""})
    assert cli("import", "-C", archive, folder, "--min-free", "0B").code == 0
    told = bill("folder:mine")
    assert {properties(each)["vouched-by"] for each in told["components"]} == {"nobody"}
    model = told["metadata"]["component"]
    assert not {"group", "licenses", "modelCard", "externalReferences"} & set(model)


@pytest.mark.parametrize(
    ("card", "expected"),
    [
        ("license: mit", [{"id": "MIT"}]),
        ("license: [mit, GPL-3.0]", [{"id": "MIT"}, {"id": "GPL-3.0"}]),
        ("license: other\nlicense_name: own", [{"name": "own"}]),
        (
            "license: other\nlicense_name: own\nlicense_link: https://a.example/x",
            [{"name": "own", "url": "https://a.example/x"}],
        ),
        ("license: other\nlicense_name: own\nlicense_link: LICENSE", [{"name": "own"}]),
        ("license: other\nlicense_name: o\nlicense_link: https://a b", [{"name": "o"}]),
        ("license: llama3", [{"name": "llama3"}]),
        ("license: other", []),
        ("license: ''", []),
    ],
)
def test_licences_are_said_as_spdx_where_it_lists_them(hub, mirror, bill, card, expected):
    hub.create(REPO, {"README.md": f"---\n{card}\n---\n".encode()})
    assert mirror().code == 0
    told = bill()["metadata"]["component"].get("licenses", [])
    for each in told:
        assert each["license"].pop("acknowledgement") == "declared"
    assert [each["license"] for each in told] == expected


def test_a_lost_pack_is_damage_and_nothing_is_written(held, archive, cli, tmp_path):
    for pack in (archive / "packs").rglob("*.pack"):
        cut(pack)
        pack.rename(pack.with_name("away"))
    target = tmp_path / "bill.json"
    result = cli("export", "-C", archive, REPO, "--bom", "-o", target)
    assert result.code == 20
    assert "config.json" in result.err
    assert "archiver audit" in result.err
    assert not target.exists()


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("--bom", "--oci", "x"),
        ("--bom", "--tag", "x"),
        ("--oci", "x", "-o", "y"),
    ],
)
def test_one_thing_at_a_time(held, archive, cli, words):
    assert cli("export", "-C", archive, REPO, *words).code == 2
