"""Whatever lies under a sidecar's name, reading it ends with an answer or a domain error."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kit.archive import put_manifest
from kit.faults import overwrite
from kit.repository import noise
from paritykit import blocks_of, guard, header_of, path_of, put_pack, rebuilt, sidecar_path

from archiver.archive import layout
from archiver.archive.packs import format as pack_format
from archiver.archive.parity.reconstruct import reconstruct
from archiver.archive.parity.sidecar import HEADER_MAX, read_sidecar
from archiver.errors import DamageError, UnknownFormatError

DATA = noise(3, 30_000)


class Held:
    """Bytes as a stored file."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size = len(data)

    def read_into(self, offset, buffer):
        assert offset >= 0
        piece = self._data[offset : offset + len(buffer)]
        buffer[: len(piece)] = piece
        return len(piece)

    def fresh(self):
        pass

    def close(self):
        pass


@pytest.fixture(scope="module")
def good(shared_archive):
    name = put_pack(shared_archive, DATA)
    guard(shared_archive, name)
    data = sidecar_path(shared_archive, name).read_bytes()
    return layout.parity_name(layout.digest_of(name)), data


def tried(data: bytes, name: str) -> None:
    try:
        sidecar = read_sidecar(Held(data), name)
        sidecar.bad_blocks()
    except (DamageError, UnknownFormatError):
        pass


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_random_damage(good, data):
    name, side = good
    spoilt = bytearray(side)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, max(len(spoilt) - 1, 0)))
        how = data.draw(st.sampled_from(["set", "cut", "insert", "size"]))
        if how == "set" and spoilt:
            spoilt[at] = data.draw(st.integers(0, 255))
        elif how == "cut":
            del spoilt[at:]
        elif how == "insert":
            spoilt[at:at] = data.draw(st.binary(max_size=40))
        else:
            spoilt[4:8] = struct.pack("<I", data.draw(st.integers(0, 2**32 - 1)))
    tried(bytes(spoilt), name)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes(good, data):
    tried(data, good[0])


NUMBERS = st.one_of(st.integers(-(2**53), 2**53), st.sampled_from([0, 1, 2, 3, 128, 4096, 1 << 20]))
VALUES = st.one_of(
    NUMBERS, st.text(max_size=20), st.none(), st.lists(st.text(max_size=5), max_size=3)
)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_headers_that_lie(good, data):
    name, side = good
    header = header_of(side)
    for key in data.draw(st.lists(st.sampled_from(sorted(header)), min_size=1, max_size=3)):
        header[key] = data.draw(VALUES)
    tried(rebuilt(header, blocks_of(side, header_of(side))), name)


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("size", 0, "impossible size"),
        ("size", 1 << 50, "more blocks than there can be"),
        ("block", 3000, "impossible size"),
        ("groups", 0, "impossible number"),
        ("groups", 1 << 40, "impossible number"),
        ("parity", 0, "impossible number"),
        ("parity", 200, "impossible number"),
        ("data", [], "another number of digests"),
        ("blocks", [], "another number of digests"),
        ("file", "../../etc/passwd", "belongs to another file"),
        ("file", "archive.json", "belongs to another file"),
        ("kind", "pack", "kind"),
        ("blake3", "zz", "not a readable"),
    ],
)
def test_a_lie_is_named(good, key, value, reason):
    name, side = good
    header = header_of(side) | {key: value}
    with pytest.raises(DamageError, match=reason):
        read_sidecar(Held(rebuilt(header, b"")), name)


@pytest.mark.parametrize("change", [{"format": 2}, {"features": {"read": ["new"]}}])
def test_a_newer_sidecar_is_left_to_a_newer_version(good, change):
    name, side = good
    with pytest.raises(UnknownFormatError, match="does not know"):
        read_sidecar(Held(rebuilt(header_of(side) | change, b"")), name)


def test_a_header_beyond_its_bound_is_not_read(good):
    class Vast(Held):
        """Claims to be as large as it likes; nobody may ask for all of it."""

        size = 1 << 40

        def read_into(self, offset, buffer):
            assert len(buffer) < HEADER_MAX
            return super().read_into(offset, buffer)

    reader = Vast(struct.pack("<II", pack_format.PARITY_HEADER, HEADER_MAX + 1))
    reader.size = 1 << 40
    with pytest.raises(DamageError, match="lost both"):
        read_sidecar(reader, good[0])


def test_unknown_keys_are_passed_over(good):
    name, side = good
    header = header_of(side)
    sidecar = read_sidecar(Held(rebuilt(header | {"new": 1}, blocks_of(side, header))), name)
    assert sidecar.faults == ()
    assert sidecar.bad_blocks() == []


def test_a_manifest_that_heals_to_another_form_than_its_sidecar_says_is_refused(archive):
    """Its plain bytes are right, so that only the digest of the stored form can tell."""
    from archiver.archive.records import Manifest, Source

    revision = "01" * 20
    ref = put_manifest(archive, Manifest(Source("directory", "", "o/n", revision), ()))
    digest = ref.blake3
    name = layout.manifest_name("o/n", revision, digest)
    guard(archive, name)
    path = sidecar_path(archive, name)
    side = path.read_bytes()
    header = header_of(side)
    overwrite(path, rebuilt(header | {"blake3": "ab" * 32}, blocks_of(side, header)))
    assert path_of(archive, name).exists()
    out = archive.store.stage("heal")
    with pytest.raises(DamageError, match="did not become whole"):
        reconstruct(archive.store, name, out)
    out.abort()


def test_a_sidecar_that_names_another_file_of_the_same_digest_heals_only_that(shared_archive, good):
    name, side = good
    digest = layout.parity_of(name)
    other = layout.event_name("2026-01-02T03:04:05Z", digest)
    header = header_of(side) | {"file": other}
    out = shared_archive.store.stage("heal")
    overwrite(shared_archive.store.folder.path / name, rebuilt(header, blocks_of(side, header)))
    try:
        with pytest.raises(DamageError, match="is the parity of"):
            reconstruct(shared_archive.store, layout.pack_name(digest), out)
    finally:
        out.abort()
        overwrite(shared_archive.store.folder.path / name, side)
