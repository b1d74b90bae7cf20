"""The vectors of edition 2: the page shows them, the files have them, and the software agrees."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import unicodedata
from pathlib import Path

import blake3
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st
from kit import handmade

from archiver.archive.packs.format import skippable
from archiver.archive.parity import sidecar
from archiver.archive.records import parse_record
from archiver.archive.signing.minisign import parse_public_key, parse_signature
from archiver.buffers import workspace
from archiver.codec.segment import ObjectHeader, decode
from archiver.codec.transforms import CODECS
from archiver.errors import DamageError

HERE = Path(__file__).parent
PAGE = (HERE.parents[1] / "docs" / "format.md").read_text(encoding="utf-8")
ANNEX = PAGE[PAGE.index("## Annex B.") :]
VECTORS = json.loads((HERE / "vectors" / "edition-2.json").read_text())
SHORT = VECTORS["short"]


def part(title: str) -> str:
    start = ANNEX.index(f"### {title}")
    end = ANNEX.find("\n### ", start + 1)
    return ANNEX[start : end if end >= 0 else None]


def blocks(text: str) -> list[str]:
    """The indented blocks of a section, their lines joined."""
    found = re.findall(r"((?:^    .*\n?)+)", text, re.MULTILINE)
    return ["".join(line[4:] for line in block.splitlines()) for block in found]


def decoded(stored: bytes) -> bytes:
    """An object by the product: header, then frames."""
    size = int.from_bytes(stored[4:8], "little")
    header = parse_record(stored[8 : 8 + size], ObjectHeader, "header")
    assert skippable(0x184D2A51, stored[8 : 8 + size]) == stored[: 8 + size]
    out = np.zeros(header.size, np.uint8)
    workspace().byte[:] = 0xFF  # whatever was decoded before must not matter
    decode(header, memoryview(stored)[8 + size :], out)
    return out.tobytes()


# ---- the page against the files


def test_the_page_shows_the_codecs():
    text = part("B.2 Codecs")
    assert SHORT["plain"] in text
    assert SHORT["blake3"] in text
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    for row, vector in zip(rows[1:], SHORT["codecs"], strict=True):
        assert int(row[0]) == vector["codec"]
        streams = re.findall(r"`([0-9a-f-]+)`", row[1])
        assert streams == [stream or "-" for stream in vector["streams"]]
        assert "".join(row[2:]).strip("` |") == vector["tail"]
    assert SHORT["codecs"][5]["object"] in blocks(text)


def test_the_page_shows_a_pack_and_its_seal():
    pack, seal = blocks(part("B.3 A pack"))
    assert (pack, seal) == (VECTORS["snapshot"]["pack"], VECTORS["snapshot"]["seal"])
    assert f"`{VECTORS['snapshot']['pack_blake3']}`" in part("B.3 A pack")


def test_the_page_shows_parity_signature_and_names():
    assert blocks(part("B.4 Parity")) == [" ".join(VECTORS["parity"]["blocks"])]
    assert VECTORS["parity"]["file"] in part("B.4 Parity")
    text = part("B.5 A signature")
    lines = re.findall(r"^    (.*)$", text, re.MULTILINE)
    assert lines == VECTORS["signature"]["file"].splitlines()
    assert VECTORS["signature"]["key"] in text
    for vector in VECTORS["names"]:
        assert f"| `{vector['name']}` |" in part("B.6 Other names")


def test_the_definitions_that_the_page_leans_on():
    text = part("B.1 What this text leans on")
    key, signature = re.search(r"the key `(\w+)` signed no bytes with `(\w+)`", text).groups()
    Ed25519PublicKey.from_public_bytes(bytes.fromhex(key)).verify(bytes.fromhex(signature), b"")
    for digest in (
        blake3.blake3(b"").hexdigest(),
        blake3.blake3(b"abc").hexdigest(),
        hashlib.sha256(b"abc").hexdigest(),
        hashlib.blake2b(b"abc").hexdigest(),
    ):
        assert f"`{digest}`" in text
    for word, folded in (("Straße", "strasse"), ("\ufb01", "fi"), ("\u0130", "i\u0307")):
        assert f"`{word}`" in text
        assert unicodedata.normalize("NFC", word).casefold() == folded
    assert handmade.canonical({"b": [True, None], "a": "ü"}).decode() == '{"a":"ü","b":[true,null]}'


def test_the_vectors_can_still_be_made(monkeypatch):
    monkeypatch.syspath_prepend(str(HERE))
    import make_edition_2

    made = make_edition_2.build()
    for key in ("parity", "signature", "names"):
        assert made[key] == VECTORS[key]
    for old, new in zip(SHORT["codecs"], made["short"]["codecs"], strict=True):
        assert {**old, "object": ""} == {**new, "object": ""}
    assert made["snapshot"]["manifest"] == VECTORS["snapshot"]["manifest"]


# ---- the files against the product


@pytest.mark.parametrize("vector", SHORT["codecs"], ids=lambda vector: str(vector["codec"]))
def test_the_short_objects_decode(vector):
    assert decoded(bytes.fromhex(vector["object"])).hex() == SHORT["plain"]


@pytest.mark.parametrize("vector", VECTORS["objects"], ids=lambda vector: vector["name"])
def test_the_objects_decode(vector):
    assert decoded(bytes.fromhex(vector["object"])).hex() == vector["plain"]


@pytest.mark.parametrize("vector", VECTORS["malformed"], ids=lambda vector: vector["name"])
def test_malformed_objects_are_refused(vector):
    with pytest.raises(DamageError):
        decoded(bytes.fromhex(vector["object"]))


def test_the_pack_is_the_one_of_its_seal():
    snapshot = VECTORS["snapshot"]
    pack = base64.b64decode(snapshot["pack"])
    seal = json.loads(snapshot["seal"])
    assert seal["packs"] == [[handmade.digest(pack), len(pack)]]
    manifest = snapshot["manifest"].encode()
    assert seal["manifest"]["sha256"] == hashlib.sha256(manifest).hexdigest()
    assert seal["manifest"]["objects"] == [[len(manifest), handmade.digest(manifest)]]
    index = pack[int.from_bytes(pack[-8:], "little") + 8 : -16]
    for name, offset, stored, size, codec, *_ in json.loads(index)["objects"]:
        plain = decoded(pack[offset : offset + stored])
        assert (handmade.digest(plain), len(plain)) == (name, size)
        assert codec in CODECS


def test_the_sidecar_is_one_of_the_product(tmp_path):
    vector = VECTORS["parity"]
    data = bytes.fromhex(vector["file"])
    body = bytes.fromhex(vector["sidecar"])
    header = parse_record(
        body[8 + 32 : 8 + int.from_bytes(body[4:8], "little")], sidecar.ParityHeader, "sidecar"
    )
    assert header.shape == sidecar.Shape(len(data), vector["block"], 1, vector["parity"])
    assert header.shape.fault == ""
    import zfec

    parts = [data[at : at + header.block] for at in range(0, len(data), header.block)]
    coded = zfec.Encoder(len(parts), len(parts) + header.parity).encode(
        parts, tuple(range(len(parts), len(parts) + header.parity))
    )
    assert [bytes(block).hex() for block in coded] == vector["blocks"]


def test_the_signature_holds():
    vector = VECTORS["signature"]
    key = parse_public_key(vector["key"])
    parse_signature(vector["file"].encode()).verify(key, bytes.fromhex(vector["signed"]))
    with pytest.raises(DamageError):
        parse_signature(vector["file"].encode()).verify(key, b"something else")


@given(st.binary(max_size=400), st.integers(0, 255))
def test_packing_six_bits_and_back(plain, emax):
    """Section 4, codec 5, as the page says it, against its other way round."""
    b = bytes(byte & 63 for byte in plain)
    m = -(-len(b) // 4)
    packed = handmade.packed(b)
    p0, p1, p2 = packed[:m], packed[m : 2 * m], packed[2 * m :]
    q3 = bytes(x >> 6 | y >> 6 << 2 | z >> 6 << 4 for x, y, z in zip(p0, p1, p2, strict=True))
    quarters = [bytes(x & 63 for x in p) for p in (p0, p1, p2)]
    assert b"".join([*quarters, q3])[: len(b)] == b
