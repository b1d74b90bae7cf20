"""What upstream wrote is anything: no paper fails of it, grows by it, or turns a terminal."""

from __future__ import annotations

import json

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from exportkit import (
    Model,
    OCIImageManifest,
    config_of,
    described_model,
    files_of,
    manifest_of,
)
from kit.repository import REPO

BOMB = b"a: &a [x,x,x,x,x,x,x,x]\n" + b"".join(
    b"%c: &%c [%s]\n" % (98 + n, 98 + n, b",".join([b"*%c" % (97 + n)] * 8)) for n in range(9)
)
HOSTILE = {
    "a bomb": (b"---\n" + BOMB + b"license: mit\n---\n", b"[" * 100_000),
    "no text": (
        b"---\nlicense: {a: b}\ndatasets: [[x], {y: z}]\n---\n",
        b'{"architectures": {"a": 1}}',
    ),
    "no UTF-8": (b"---\nlicense: \xff\xfe\n---\n", b"\xff\xfe{}"),
    "a terminal": (
        '---\nlicense: other\nlicense_name: "\\e[2J\u202egpj\\0\\n\u200b"\n---\n'.encode(),
        json.dumps(
            {"architectures": ["\x1b]0;x\x07\u202e\ud800"], "model_type": "\u2066a\nb"}
        ).encode(),
    ),
    "long": (
        b"---\nlicense: other\nlicense_name: " + b"x" * 50_000 + b"\n---\n",
        json.dumps({"architectures": ["y" * 500_000], "dtype": "z" * 9999}).encode(),
    ),
    "large": (b"---\nlicense: mit\n" + b"#" * (2 << 20), b'{"a": "' + b"x" * (2 << 20) + b'"}'),
    "numbers": (b"---\nlicense: 1\ndatasets: 2\n---\n", b'{"model_type": 1e999, "dtype": [1]}'),
    "an address": (
        b"---\nlicense: other\nlicense_name: a\nlicense_link: javascript:alert(1)\n---\n",
        b'{"quantization_config": ["a"], "text_config": 7}',
    ),
}


@pytest.fixture(params=HOSTILE)
def hostile(request, hub, mirror):
    card, config = HOSTILE[request.param]
    files = described_model() | {"README.md": card, "config.json": config}
    hub.create(REPO, files)
    assert mirror().code == 0
    return files


def printable(value) -> bool:
    if isinstance(value, dict):
        return all(map(printable, value.values()))
    if isinstance(value, list):
        return all(map(printable, value))
    return not isinstance(value, str) or (value.isprintable() and len(value) <= 300)


def test_an_artifact_is_made_of_it(hostile, export, layout):
    result = export("--tag", "x")
    assert result.code == 0
    config, manifest = config_of(layout, "x"), manifest_of(layout, "x")
    Model.model_validate(config)
    OCIImageManifest.model_validate(manifest)
    assert printable(config)
    assert printable(manifest["annotations"])
    assert files_of(layout, "x") == hostile


def test_a_bill_is_made_of_it(hostile, archive, cli):
    result = cli("export", "-q", "-C", archive, REPO, "--bom")
    assert result.code == 0
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(result.out) is None
    told = json.loads(result.out)
    assert printable(told["metadata"])
    assert len(result.out) < 20_000


def test_paths_are_exact_and_harm_no_terminal(hub, mirror, export, layout):
    files = {
        "a\x1b[2Jb.txt": b"1",
        "tab\tline\nfeed.md": b"2",
        "\u202egpj.exe": b"3",
        'q"uote\\.json': b"4",
        "深/ü.bin": b"5",
    }
    hub.create(REPO, files)
    assert mirror().code == 0
    assert export("--tag", "x").code == 0
    assert files_of(layout, "x") == files
    for path in layout.rglob("*"):
        if path.is_file() and path.read_bytes().startswith(b"{"):
            assert path.read_bytes().isascii()
            assert b"\x1b" not in path.read_bytes()
