from __future__ import annotations

from catalogue_samples import (
    Entry,
    add_sample,
    digest,
    make_event,
    make_file,
    make_pack,
    make_sample,
    make_snapshot,
    make_tensors,
    oid,
)

from archiver.archive.events import Audited, Sealed
from archiver.archive.lookup import FileKey
from archiver.catalogue import queries, updates
from archiver.catalogue.queries import Location
from archiver.catalogue.stats import CodecStats, DtypeStats, stats


def test_a_held_lfs_file_is_found_by_sha256_and_size(catalogue):
    snapshot, seal, _ = make_snapshot(1)
    updates.add_snapshot(catalogue, snapshot, seal, make_snapshot(1)[2])
    key = FileKey(2001 - 900, digest("sha256", 1001), oid("pointer", 1001))
    held = queries.held_files(catalogue, [key])[key]
    assert held == (snapshot, seal.repository, "model.safetensors")


def test_a_held_git_file_is_found_by_oid_and_size(catalogue):
    updates.add_snapshot(catalogue, *make_snapshot(1))
    key = FileKey(101, oid=oid("blob", 1))
    assert queries.held_files(catalogue, [key])[key].path == "config.json"


def test_what_is_not_the_same_file_is_not_found(catalogue):
    updates.add_snapshot(catalogue, *make_snapshot(1))
    size = 1101
    strangers = [
        FileKey(size + 1, digest("sha256", 1001)),  # another size
        FileKey(size, digest("sha256", 7)),
        FileKey(102, oid=oid("blob", 1)),
        FileKey(size, oid=oid("pointer", 1001)),  # an LFS pointer's oid says nothing of content
        FileKey(101, digest("sha256", 7), oid("blob", 1)),  # the SHA-256 outranks the oid
        FileKey(101),
    ]
    assert queries.held_files(catalogue, strangers) == {}


def test_of_several_holders_the_one_sealed_last_is_named(catalogue):
    entry = make_file("x", 5, lfs=True)
    for number in (2, 9, 4):
        updates.add_snapshot(catalogue, *make_snapshot(number, [entry]))
    key = FileKey(105, digest("sha256", 5))
    assert queries.held_files(catalogue, [key])[key].snapshot == make_snapshot(9, [entry])[0]


def test_many_keys_and_objects_go_in_batches(catalogue, monkeypatch):
    monkeypatch.setattr(queries, "VARIABLES", 7)
    entries = [Entry(digest(i), i, 1, 1, 0) for i in range(40)]
    updates.add_pack(catalogue, digest("pack"), 99, entries)
    files = [make_file(f"f{i}", i, lfs=bool(i % 2)) for i in range(40)]
    updates.add_snapshot(catalogue, *make_snapshot(1, files))
    found = queries.locate(catalogue, (digest(i) for i in range(50)))
    assert found == {digest(i): [Location(digest("pack"), i, 1, 1, 0)] for i in range(40)}
    keys = [FileKey(f.size, f.sha256 if f.lfs else "", f.oid) for f in files]
    assert len(queries.held_files(catalogue, keys)) == 40


def test_more_objects_than_sqlite_has_variables_can_be_located(catalogue):
    updates.add_pack(catalogue, *make_pack(0))
    wanted = [digest("absent", i) for i in range(40_000)] + [digest("object", 1)]
    assert list(queries.locate(catalogue, wanted)) == [digest("object", 1)]


def test_what_is_known_is_listed(catalogue):
    sample = make_sample(3)
    add_sample(catalogue, sample)
    assert queries.known_packs(catalogue) == {pack[0] for pack in sample.packs}
    assert queries.known_snapshots(catalogue) == {snapshot[0] for snapshot in sample.snapshots}
    assert queries.known_events(catalogue) == {event[0] for event in sample.events}


def test_events_are_listed_by_time_and_repository(catalogue):
    for number in (5, 3, 4):
        updates.add_event(catalogue, *make_event(number))
    listed = queries.events(catalogue)
    assert listed == [make_event(3), make_event(4), make_event(5)]
    assert queries.events(catalogue, kinds=[Sealed]) == listed
    assert queries.events(catalogue, kinds=[Audited]) == []
    assert queries.events(catalogue, repository="") == listed
    assert queries.events(catalogue, repository="Qwen/A") == []


def test_an_empty_catalogue_adds_up_to_nothing(catalogue):
    totals = stats(catalogue)
    assert (totals.files, totals.logical_bytes, totals.pack_bytes) == (0, 0, 0)
    assert (totals.ratio, totals.compression, totals.dedup_saving) == (0, 0, 0)
    assert (totals.dtypes, totals.codecs) == ({}, {})


def test_stats_count_equal_things_once(catalogue):
    weights = make_file("a.safetensors", 156, lfs=True, tensors=make_tensors(2))  # 256 bytes
    updates.add_snapshot(catalogue, *make_snapshot(1, [weights]))
    updates.add_snapshot(catalogue, *make_snapshot(2, [weights, make_file("b", 0, lfs=False)]))
    same, other = digest("same"), digest("other")
    updates.add_pack(
        catalogue, digest(1), 300, [Entry(same, 1, 100, 256, 1), Entry(other, 2, 50, 100, 0)]
    )
    updates.add_pack(catalogue, digest(2), 200, [Entry(same, 1, 128, 256, 0)])
    totals = stats(catalogue)
    assert (totals.repositories, totals.snapshots, totals.files) == (1, 2, 3)
    assert (totals.logical_bytes, totals.distinct_file_bytes) == (256 + 256 + 100, 256 + 100)
    assert (totals.objects, totals.object_bytes, totals.copies) == (2, 356, 3)
    assert (totals.packs, totals.pack_bytes, totals.stored_bytes) == (2, 500, 278)
    assert totals.dtypes == {"BF16": DtypeStats(2, 256)}
    assert totals.codecs == {0: CodecStats(2, 356, 178), 1: CodecStats(1, 256, 100)}
    assert totals.ratio == 500 / 612
    assert totals.compression == 278 / 612
    assert totals.dedup_saving == 612 - 356


def test_the_beginnings_of_all_digests_rise(catalogue):
    packs = [make_pack(number) for number in (3, 1, 2)]
    assert queries.object_prefixes(catalogue) == b""
    for pack in packs:
        updates.add_pack(catalogue, *pack)
    digests = sorted(entry.blake3 for _, _, entries in packs for entry in entries)
    assert digests, "the sample has objects"
    assert queries.object_prefixes(catalogue) == b"".join(bytes.fromhex(d)[:8] for d in digests)
