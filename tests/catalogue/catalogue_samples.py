"""Small archives as records, without an archive: enough to fill a catalogue with."""

from __future__ import annotations

from typing import NamedTuple

import msgspec
from hypothesis import strategies as st
from kit.journal import raw_event

from archiver.archive.records import (
    FileEntry,
    Manifest,
    ManifestRef,
    Seal,
    Selection,
    Source,
    Totals,
    canonical,
    record_digest,
)
from archiver.catalogue import updates
from archiver.digest import blake3_hex
from archiver.tensors.header import Tensor

WHOLE = Selection()


class Entry(NamedTuple):
    blake3: str
    offset: int
    stored: int
    size: int
    codec: int


class Sample(NamedTuple):
    """What an archive has: the three arguments of ``rebuild``."""

    packs: list
    snapshots: list
    events: list


def digest(*name) -> str:
    return blake3_hex(repr(name).encode())


def oid(*name) -> str:
    return digest(*name)[:40]


def time_of(second: int) -> str:
    return f"2026-01-01T{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}Z"


def make_pack(number: int, objects=3):
    entries = [
        Entry(digest("object", number + i), 40 + 100 * i, 90, 128, 1) for i in range(objects)
    ]
    return digest("pack", number), 40 + 100 * objects, entries


def make_tensors(count: int) -> tuple[Tensor, ...]:
    return tuple(
        Tensor(
            f"model.layers.{i}.mlp.experts.gate_up_proj.weight",
            "BF16",
            (64, 1),
            i * 128,
            i * 128 + 128,
        )
        for i in range(count)
    )


def make_file(path: str, content: int, *, lfs: bool, tensors=msgspec.UNSET) -> FileEntry:
    return FileEntry(
        path=path,
        size=100 + content,
        sha256=digest("sha256", content),
        blake3=digest("blake3", content),
        oid=oid("pointer" if lfs else "blob", content),
        lfs=lfs,
        segments=((100 + content, digest("object", content)),),
        tensors=tensors,
    )


def seal_of(manifest: Manifest, second: int, *, selection=WHOLE, parent="") -> tuple[str, Seal]:
    seal = Seal(
        archive="00000000-0000-0000-0000-000000000000",
        repository=manifest.source.repository,
        revision=manifest.source.revision,
        manifest=ManifestRef(record_digest(manifest), len(canonical(manifest))),
        packs=((digest("pack", 0), 340),),
        totals=Totals(len(manifest.files), sum(f.size for f in manifest.files), 1, 90, 2),
        sealed=time_of(second),
        tool="archiver 0.1.0",
        selection=selection,
        parent=parent,
    )
    return record_digest(seal), seal


def make_snapshot(number: int, files=None, *, repository="Qwen/Qwen3.5-4B"):
    files = files or (
        make_file("config.json", 1, lfs=False),
        make_file("model.safetensors", 1000 + number, lfs=True, tensors=make_tensors(3)),
    )
    source = Source("huggingface", "https://huggingface.co", repository, oid("commit", number))
    manifest = Manifest(source=source, files=tuple(files))
    return *seal_of(manifest, number), manifest


def make_event(number: int):
    event = raw_event(
        "sealed", time_of(number), "archiver 0.1.0", detail={"snapshot": digest(number)}
    )
    # As events were before they named those before them: a frozen catalogue has this id.
    told = {
        key: value for key, value in msgspec.json.decode(canonical(event)).items() if key != "after"
    }
    return blake3_hex(canonical(told)), event


def make_sample(count: int) -> Sample:
    return Sample(
        [make_pack(i) for i in range(count)],
        [make_snapshot(i) for i in range(count)],
        [make_event(i) for i in range(count)],
    )


def add_sample(catalogue, sample: Sample) -> list[bool]:
    """Add everything, one transaction each; what each call said."""
    said = [updates.add_pack(catalogue, *pack) for pack in sample.packs]
    said += [updates.add_snapshot(catalogue, *snapshot) for snapshot in sample.snapshots]
    return said + [updates.add_event(catalogue, *event) for event in sample.events]


small = st.integers(0, 3)
any_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
sizes = st.integers(0, 2**53)
tensors = st.lists(
    st.builds(
        Tensor,
        any_text,
        st.sampled_from(["BF16", "F32", "?"]),
        st.lists(sizes, max_size=3).map(tuple),
        sizes,
        sizes,
    ),
    max_size=3,
).map(tuple)
files = st.lists(
    st.builds(
        make_file,
        any_text,
        small,
        lfs=st.booleans(),
        tensors=st.one_of(st.just(msgspec.UNSET), tensors),
    ),
    max_size=4,
    unique_by=lambda entry: entry.path,
).map(tuple)
sources = st.builds(
    Source,
    st.sampled_from(["huggingface", "directory"]),
    st.just(""),
    st.sampled_from(["Qwen/A", "Qwen/a", "b"]),
    small.map(oid),
    committed=st.sampled_from(["", time_of(1)]),
    licence=any_text,
)
selections = st.builds(Selection, st.lists(any_text, max_size=2).map(tuple))


@st.composite
def snapshots(draw):
    manifest = Manifest(source=draw(sources), files=draw(files))
    parent = draw(st.sampled_from(["", digest("parent")]))
    return *seal_of(manifest, draw(small), selection=draw(selections), parent=parent), manifest


@st.composite
def packs(draw):
    entries = draw(
        st.lists(
            st.builds(Entry, small.map(digest), sizes, sizes, sizes, st.integers(0, 4)),
            max_size=4,
            unique_by=lambda entry: entry.offset,
        )
    )
    size = draw(sizes)
    return digest(size, entries), size, entries


events = st.builds(
    raw_event,
    st.sampled_from(["sealed", "audited"]),
    small.map(time_of),
    any_text,
    repository=st.sampled_from(["", "Qwen/A"]),
    detail=st.dictionaries(any_text, st.one_of(any_text, sizes, st.none()), max_size=2),
).map(lambda event: (record_digest(event), event))

samples = st.builds(
    Sample,
    st.lists(packs(), max_size=3),
    st.lists(snapshots(), max_size=3),
    st.lists(events, max_size=3),
)
