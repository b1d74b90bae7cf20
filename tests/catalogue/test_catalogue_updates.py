from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import msgspec
import pytest
from catalogue_dump import dump
from catalogue_samples import (
    Entry,
    add_sample,
    digest,
    make_file,
    make_pack,
    make_sample,
    make_snapshot,
    make_tensors,
    samples,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from archiver.archive.records import canonical
from archiver.catalogue import updates
from archiver.catalogue.database import Catalogue, MovedError
from archiver.catalogue.queries import known_packs, locate
from archiver.catalogue.rebuild import Counts, rebuild
from archiver.errors import DamageError


def count(catalogue, table):
    return catalogue.read(lambda conn: conn.scalar(text(f"SELECT count(*) FROM {table}")))


def test_adding_twice_changes_nothing(catalogue):
    sample = make_sample(3)
    assert all(add_sample(catalogue, sample))
    once = dump(catalogue.path)
    assert not any(add_sample(catalogue, sample))
    assert dump(catalogue.path) == once


def test_dump_names_rows_by_digest_and_not_by_number(catalogue):
    add_sample(catalogue, make_sample(1))
    rows = dict(dump(catalogue.path))
    pack, size, entries = make_pack(0)
    snapshot, seal, _ = make_snapshot(0)
    assert rows["packs"] == (pack, size, 3)
    assert rows["objects"][1] == pack
    assert {rows["objects"][0]} <= {entry.blake3 for entry in entries}
    assert rows["snapshots"] == (
        *(snapshot, seal.repository, seal.revision, seal.manifest.blake3, seal.sealed, seal.tool),
        *(seal.parent, canonical(seal.selection).decode(), *msgspec.structs.astuple(seal.totals)),
    )
    assert rows["files"][0] == seal.manifest.blake3


@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(sample=samples, data=st.data())
def test_rebuild_gives_the_rows_that_adding_gave_in_any_order(blank, sample, data):
    steps = [(updates.add_pack, item) for item in sample.packs]
    steps += [(updates.add_snapshot, item) for item in sample.snapshots]
    steps += [(updates.add_event, item) for item in sample.events]
    steps = data.draw(st.permutations(steps + steps[:2]))
    with tempfile.TemporaryDirectory() as folder:
        grown = Path(shutil.copy(blank, f"{folder}/grown"))
        with Catalogue.open(grown) as catalogue:
            for forgotten in data.draw(st.booleans()) * sample.packs[:1]:
                updates.add_pack(catalogue, *forgotten)
                updates.forget_pack(catalogue, forgotten[0])
            for add, item in steps:
                add(catalogue, *item)
        built = Path(folder) / "built"
        counts = rebuild(built, *sample)
        assert counts == Counts(*(len({item[0] for item in items}) for items in sample))
        assert dump(built) == dump(grown)


def test_files_with_the_same_tensors_share_one_layout(catalogue):
    tensors = make_tensors(5)
    first = make_file("a.safetensors", 1, lfs=True, tensors=tensors)
    second = make_file("b.safetensors", 2, lfs=True, tensors=tensors)
    other = make_file("c.safetensors", 3, lfs=True, tensors=tensors[:4])
    empty = make_file("d.safetensors", 4, lfs=True, tensors=())
    updates.add_snapshot(catalogue, *make_snapshot(1, [first, second]))
    updates.add_snapshot(catalogue, *make_snapshot(2, [first, other, empty]))
    assert count(catalogue, "layouts") == 3
    assert count(catalogue, "tensors") == 9
    assert count(catalogue, "files") == 5


def test_a_forgotten_pack_takes_its_objects_along_and_no_other(catalogue):
    shared = digest("object", 1)
    for number in (0, 1):
        updates.add_pack(catalogue, *make_pack(number))
    assert [place.pack for place in locate(catalogue, [shared])[shared]] == sorted(
        make_pack(number)[0] for number in (0, 1)
    )
    assert updates.forget_pack(catalogue, make_pack(0)[0])
    assert not updates.forget_pack(catalogue, make_pack(0)[0])
    assert known_packs(catalogue) == {make_pack(1)[0]}
    assert [place.pack for place in locate(catalogue, [shared])[shared]] == [make_pack(1)[0]]
    assert count(catalogue, "objects") == 3


def test_a_pack_may_be_added_from_an_iterator_even_if_it_takes_two_attempts(catalogue, monkeypatch):
    pack, size, entries = make_pack(0)
    attempts = []

    put_pack = updates.put_pack

    def put_and_fail_once(*args):
        put_pack(*args)
        attempts.append(args)
        if len(attempts) == 1:
            raise MovedError

    monkeypatch.setattr(updates, "put_pack", put_and_fail_once)
    updates.add_pack(catalogue, pack, size, iter(entries))
    assert len(attempts) == 2
    assert count(catalogue, "objects") == 3


@pytest.mark.parametrize(
    "entry",
    [
        Entry("not hex", 0, 1, 1, 0),
        Entry("ab" * 31, 0, 1, 1, 0),
        Entry("AB" * 32, 0, 1, 1, 0),
        Entry("", 0, 1, 1, 0),
        Entry("ab" * 32, 2**64, 1, 1, 0),
    ],
)
def test_a_record_that_is_no_record_is_refused_whole(catalogue, entry):
    with pytest.raises(DamageError, match="cannot be put"):
        updates.add_pack(catalogue, digest("pack"), 10, [make_pack(0)[2][0], entry])
    assert known_packs(catalogue) == set()
    assert count(catalogue, "objects") == 0


def test_a_manifest_that_lists_a_path_twice_is_refused_whole(catalogue):
    twice = [make_file("same", 1, lfs=False), make_file("same", 2, lfs=False)]
    with pytest.raises(DamageError, match="cannot be put"):
        updates.add_snapshot(catalogue, *make_snapshot(1, twice))
    assert count(catalogue, "manifests") == count(catalogue, "snapshots") == 0
