"""Canonical JSON (docs/format.md, section 1; RFC 8785) and the records' own bytes."""

import contextlib
import json
import re

import msgspec
import pytest
from archivekit import REVISION, entry_of, source
from hypothesis import given
from hypothesis import strategies as st
from kit.journal import raw_event

from archiver.archive.records import (
    ArchiveInfo,
    FileEntry,
    Manifest,
    ManifestRef,
    Seal,
    Selection,
    Totals,
    canonical,
    parse_record,
    record_digest,
)
from archiver.digest import blake3_hex
from archiver.errors import DamageError
from archiver.tensors.header import Tensor

HEX = "ab" * 32
SEAL = Seal(
    archive="0b6e1f9c-5d0a-4a51-9c36-8a2d1f6a7e55",
    repository="Org/Model",
    revision=REVISION,
    manifest=ManifestRef(HEX, 5),
    packs=((HEX, 9),),
    totals=Totals(1, 2, 3, 4, 5),
    sealed="2026-01-02T03:04:05Z",
    tool="x 1",
    selection=Selection(("*.json",), ()),
)
RECORDS = [
    ArchiveInfo("0b6e1f9c-5d0a-4a51-9c36-8a2d1f6a7e55", "2026-01-02T03:04:05Z", "x 1"),
    Manifest(source(), (entry_of("a/ü 🧊.txt", [b"x", b"y"]),)),
    SEAL,
    raw_event("sealed", "2026-01-02T03:04:05Z", "x 1", detail={"snapshot": HEX}),
]

strings = st.text(st.characters(exclude_categories=["Cs"]))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | strings,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(strings, inner, max_size=4),
    max_leaves=20,
)


def as_rfc_8785(value: object) -> bytes:
    """What RFC 8785 gives for a value without floats, with keys sorted by code point."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


@given(st.dictionaries(strings, json_values, max_size=5))
def test_canonical_json_is_that_of_the_page(value):
    assert canonical(value) == as_rfc_8785(value)
    assert json.loads(canonical(value)) == value


@given(strings)
def test_only_what_json_demands_is_escaped(text):
    found = canonical({"k": text}).decode()
    escapes = re.findall(r"\\(u[0-9a-f]{4}|.)", found)
    assert set(escapes) <= {'"', "\\", "b", "f", "n", "r", "t"} | {f"u{n:04x}" for n in range(32)}


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_a_record_survives_and_its_bytes_are_canonical(record):
    data = canonical(record)
    assert parse_record(data, type(record), "it") == record
    assert data == as_rfc_8785(json.loads(data))
    assert data.isascii() or "ü".encode() in data
    assert record_digest(record) == blake3_hex(data)


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_keys_are_ascii_and_there_are_no_floats(record):
    def check(value: object) -> None:
        assert not isinstance(value, float)
        if isinstance(value, dict):
            assert list(value) == sorted(value)
            assert all(key.isascii() for key in value)
        for inner in (
            value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        ):
            check(inner)

    check(json.loads(canonical(record)))


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_unknown_keys_are_ignored(record):
    data = canonical(json.loads(canonical(record)) | {"later": {"idea": [1]}})
    assert parse_record(data, type(record), "it") == record


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"1",
        b"{}x",
        b'{"kind":"\xff"}',
        b"[" * 100_000,
        b'{"a":' * 50_000,
    ],
    ids=range(9),
)
def test_what_is_no_record_is_damage(record, data):
    with pytest.raises(DamageError, match="The thing"):
        parse_record(data, type(record), "The thing")


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_a_record_of_another_kind_is_damage(record):
    data = canonical(json.loads(canonical(record)) | {"kind": "pack"})
    with pytest.raises(DamageError, match="kind"):
        parse_record(data, type(record), "The thing")


@given(st.sampled_from(RECORDS), st.data())
def test_any_value_of_any_key_is_a_record_or_damage(record, data):
    value = json.loads(canonical(record))
    key = data.draw(st.sampled_from(sorted(value)))
    value[key] = data.draw(json_values)
    with contextlib.suppress(DamageError):
        parse_record(canonical(value), type(record), "it")


def test_tensors_are_written_only_where_a_header_was_accepted():
    plain = entry_of("a", [b"x"])
    assert b"tensors" not in canonical(plain)
    empty: FileEntry = msgspec.structs.replace(plain, tensors=())
    assert b'"tensors":[]' in canonical(empty)
    one = msgspec.structs.replace(plain, tensors=(Tensor("t", "U8", (1,), 0, 1),))
    assert b'"tensors":[{"begin":0,"dtype":"U8","end":1,"name":"t","shape":[1]}]' in canonical(one)
    for entry in (plain, empty, one):
        assert parse_record(canonical(entry), FileEntry, "it") == entry
