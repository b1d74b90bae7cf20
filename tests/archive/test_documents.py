"""Seals, manifests, events and archive.json as an archive reads them (format, sections 2, 6, 7, 8)."""

import msgspec
import pytest
import zstandard
from archivekit import OTHER, REVISION, array, entry_of, object_store, source, store_all
from kit.archive import put_manifest
from kit.faults import overwrite
from kit.journal import raw_event

from archiver.archive import layout
from archiver.archive.archive import Archive
from archiver.archive.events import TOOL
from archiver.archive.publish import publish
from archiver.archive.records import Features, Manifest, Selection, canonical, keys_of, parse_info
from archiver.archive.seals import Snapshot
from archiver.digest import blake3_hex
from archiver.errors import (
    ArchiverError,
    DamageError,
    NoArchiveError,
    UnknownFormatError,
    UsageError,
)

PARTS = [b"first part", b"second part"]
ENTRY = entry_of("notes.txt", PARTS)


def seal_up(archive, repository="Org/Model", revision=REVISION, **changes) -> Snapshot:
    """A published snapshot; ``changes`` to its seal are made before it is published."""
    objects = store_all(archive, PARTS)
    packs = [(one.pack, one.size) for one in objects.published]
    ref = put_manifest(archive, Manifest(source(repository, revision), (ENTRY,)))
    from archiver.archive.records import Seal, Totals

    seal = Seal(
        archive=archive.info.archive,
        repository=repository,
        revision=revision,
        manifest=ref,
        packs=tuple(packs),
        totals=Totals(1, ENTRY.size, 2, 0, 0),
        sealed="2026-01-01T00:00:00Z",
        tool=TOOL,
    )
    return archive.publish_seal(msgspec.structs.replace(seal, **changes))


def path_of(root, snapshot, kind):
    seal = snapshot.seal
    name = (
        layout.seal_name(seal.repository, seal.revision, snapshot.id)
        if kind == "seal"
        else layout.manifest_name(seal.repository, seal.revision, seal.manifest.blake3)
    )
    return root / name


def packed(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(write_checksum=True).compress(data)


# What is whole is read


def test_a_snapshot_is_found_with_its_manifest(archive):
    snapshot = seal_up(archive)
    assert list(archive.snapshots()) == [snapshot]
    assert archive.manifest(snapshot.seal).files == (ENTRY,)
    assert archive.find("org/model", REVISION[:6]) == snapshot


def test_seal_and_manifest_are_named_by_their_digests(archive, root):
    snapshot = seal_up(archive)
    assert blake3_hex(path_of(root, snapshot, "seal").read_bytes()) == snapshot.id
    plain = zstandard.ZstdDecompressor().decompress(
        path_of(root, snapshot, "manifest").read_bytes()
    )
    assert blake3_hex(plain) == snapshot.seal.manifest.blake3


# Damage


@pytest.mark.parametrize(
    "change", [lambda d: d[:-1], lambda d: b"", lambda d: d.replace(b"Org", b"Orb")]
)
def test_a_damaged_seal_is_damage_and_the_others_are_still_read(archive, root, change):
    good = seal_up(archive)
    bad = seal_up(archive, revision=OTHER)
    path = path_of(root, bad, "seal")
    overwrite(path, change(path.read_bytes()))
    with pytest.raises(DamageError, match="another digest"):
        list(archive.snapshots())
    told = []
    found = list(
        archive.snapshots(on_damage=lambda name, error: told.append((name, error.message)))
    )
    assert found == [good]
    assert len(told) == 1
    assert OTHER in told[0][0]


def test_a_seal_under_anothers_name_is_damage(archive, root):
    snapshot = seal_up(archive)
    data = path_of(root, snapshot, "seal").read_bytes()
    archive.store.put_new(layout.seal_name("Org/Model", OTHER, snapshot.id), data)
    told = []
    assert list(archive.snapshots(on_damage=lambda name, _: told.append(name))) == [snapshot]
    assert len(told) == 1


def test_the_folders_above_a_seal_are_hints(archive, root):
    """ "take the identity from the document itself", "whatever folders are above" """
    snapshot = seal_up(archive)
    own = path_of(root, snapshot, "seal")
    moved = root / "snapshots/a.b/c/d/e" / own.name
    moved.parent.mkdir(parents=True)
    moved.write_bytes(own.read_bytes())
    assert list(archive.snapshots()) == [snapshot], "a spare one is the same snapshot"
    own.unlink()
    (held,) = archive.snapshots()
    assert (held.id, held.seal) == (snapshot.id, snapshot.seal)
    assert held.name == moved.relative_to(root).as_posix()
    for repository, digits in (("org/model", REVISION[:6]), ("org/model", None), (held.id, None)):
        assert archive.find(repository, digits) == held
    assert archive.seal_names("Org/Model", REVISION[:6]) == [held.name]


@pytest.mark.parametrize("way", ["missing", "empty", "cut", "flipped", "other", "swollen", "noise"])
def test_a_damaged_manifest_is_damage(archive, root, way):
    snapshot = seal_up(archive)
    path = path_of(root, snapshot, "manifest")
    data = path.read_bytes()
    plain = zstandard.ZstdDecompressor().decompress(data)
    if way == "missing":
        path.unlink()
    else:
        flipped = bytearray(data)
        flipped[len(data) // 2] ^= 1
        ways = {
            "empty": b"",
            "cut": data[:-7],
            "flipped": bytes(flipped),
            "other": packed(plain.replace(b"notes", b"n0tes")),
            "swollen": packed(plain + b" "),
            "noise": b"\x01" * len(data),
        }
        overwrite(path, ways[way])
    with pytest.raises(DamageError, match="manifest"):
        archive.manifest(snapshot.seal)


@pytest.mark.parametrize("size", [0, -1, 1, 2**30 + 1, 2**62])
def test_a_seal_that_lies_about_the_manifests_size_is_damage(archive, size):
    snapshot = seal_up(archive)
    ref = msgspec.structs.replace(snapshot.seal.manifest, size=size)
    with pytest.raises(DamageError, match="size"):
        archive.manifest(msgspec.structs.replace(snapshot.seal, manifest=ref))


def test_a_frame_that_claims_a_terabyte_is_refused_before_it_is_unpacked(archive, root):
    snapshot = seal_up(archive)
    path = path_of(root, snapshot, "manifest")
    overwrite(path, b"\x28\xb5\x2f\xfd\xe0" + (1 << 40).to_bytes(8, "little") + b"\x01\x00\x00")
    ref = msgspec.structs.replace(snapshot.seal.manifest, size=1 << 40)
    with pytest.raises(DamageError, match="size"):
        archive.manifest(msgspec.structs.replace(snapshot.seal, manifest=ref))


def published(archive, manifest: Manifest) -> Snapshot:
    """A seal over any manifest."""
    snapshot = seal_up(archive)
    plain = canonical(manifest)
    name = layout.manifest_name("Org/Model", REVISION, blake3_hex(plain))
    archive.store.put_new(name, packed(plain))
    ref = msgspec.structs.replace(snapshot.seal.manifest, blake3=blake3_hex(plain), size=len(plain))
    return Snapshot(snapshot.id, msgspec.structs.replace(snapshot.seal, manifest=ref))


@pytest.mark.parametrize(
    "segments",
    [(), ((5, "ab" * 32),), ((-5, "ab" * 32), (26, "ab" * 32)), ((21, "xy"),), ((21, "AB" * 32),)],
)
def test_segments_that_do_not_make_their_file_are_damage(archive, segments):
    entry = msgspec.structs.replace(ENTRY, segments=segments)
    snapshot = published(archive, Manifest(source(), (entry,)))
    with pytest.raises(DamageError, match=r"notes\.txt"):
        archive.manifest(snapshot.seal)


def test_a_manifest_of_another_revision_than_its_seal_is_damage(archive):
    snapshot = published(archive, Manifest(source(revision=OTHER), (ENTRY,)))
    with pytest.raises(DamageError, match="another repository or revision"):
        archive.manifest(snapshot.seal)


def test_a_damaged_manifest_is_never_sealed_again(archive, root):
    snapshot = seal_up(archive)
    path = path_of(root, snapshot, "manifest")
    overwrite(path, path.read_bytes()[:-5])
    with pytest.raises(DamageError, match="there already"):
        put_manifest(archive, Manifest(source(), (ENTRY,)))


def test_a_seal_larger_than_any_seal_is_damage(archive, root, monkeypatch):
    snapshot = seal_up(archive)
    monkeypatch.setattr("archiver.archive.seals.SEAL_MAX", 100)
    told = []
    assert list(archive.snapshots(on_damage=lambda name, _: told.append(name))) == []
    assert snapshot.id in told[0]


# Formats and features


@pytest.mark.parametrize(
    "change", [{"format": 2}, {"format": 0}, {"features": {"read": ["x"], "write": []}}]
)
def test_an_unknown_format_or_feature_is_refused(archive, root, change):
    path = root / "archive.json"
    overwrite(path, changed(archive, change))
    with pytest.raises(UnknownFormatError):
        Archive.open(root)


def changed(archive: Archive, change: dict) -> bytes:
    """The archive.json of a writer that knows more."""
    info = msgspec.to_builtins(archive.info) | {"motto": "a newer key"} | change
    info["check"] = blake3_hex(canonical({k: v for k, v in info.items() if k != "check"}))
    return canonical(info) + b"\n"


@pytest.mark.parametrize("old", [False, True])
def test_whatever_byte_is_spoilt_archive_json_is_damaged_or_says_the_same(archive, root, old):
    info = msgspec.to_builtins(archive.info)
    whole = canonical({k: v for k, v in info.items() if k != "check"} if old else info) + b"\n"
    for at in range(len(whole)):
        for change in (1, 0x80, 0xFF):
            data = bytearray(whole)
            data[at] ^= change
            try:
                said = parse_info(bytes(data))
                keys_of(bytes(data))
            except DamageError:
                continue
            # What lost the key of its digest is told by an audit; the rest of it is whole.
            assert old or said in (
                archive.info,
                msgspec.structs.replace(archive.info, check=msgspec.UNSET),
            )


def test_a_key_of_a_newer_writer_is_passed_over(archive, root):
    overwrite(root / "archive.json", changed(archive, {}))
    assert Archive.open(root).info.archive == archive.info.archive


def test_an_unknown_format_in_a_seal_or_manifest_is_refused(archive):
    later = published(archive, msgspec.structs.replace(Manifest(source(), (ENTRY,)), format=2))
    with pytest.raises(UnknownFormatError):
        archive.manifest(later.seal)
    seal_up(archive, format=2)
    with pytest.raises(UnknownFormatError):
        list(archive.snapshots())


def test_an_unknown_feature_in_a_seal_is_refused(archive):
    seal_up(archive, features=Features(read=("bases",)))
    with pytest.raises(UnknownFormatError, match="bases"):
        list(archive.snapshots())


def test_a_feature_for_writers_forbids_only_writing(archive, root):
    path = root / "archive.json"
    overwrite(path, changed(archive, {"features": {"read": [], "write": ["leases"]}}))
    opened = Archive.open(root)
    with pytest.raises(UnknownFormatError, match="leases"):
        opened.require_writable()


def test_a_lost_or_damaged_archive_json_is_made_up_for_by_any_seal(archive, root):
    seal_up(archive)
    path = root / "archive.json"
    overwrite(path, b"{")
    assert Archive.open(root).info.archive == archive.info.archive
    path.unlink()
    assert Archive.open(root).info.archive == archive.info.archive


def test_a_folder_that_is_no_archive(archive, root, tmp_path):
    with pytest.raises(NoArchiveError):
        Archive.open(tmp_path / "nowhere")
    overwrite(root / "archive.json", b"{}")
    with pytest.raises(DamageError):
        Archive.open(root)


def test_an_archive_is_made_only_in_an_empty_folder(archive, root):
    with pytest.raises(UsageError, match="empty"):
        Archive.create(root)


# Which snapshot is meant (section 7)

PART = Selection(("*.json",), ())


def test_the_one_without_selection_is_preferred_then_the_last_then_the_greatest_id(archive):
    whole = seal_up(archive, sealed="2026-01-01T00:00:01Z")
    part = seal_up(archive, sealed="2026-01-01T00:00:09Z", selection=PART)
    excluded = seal_up(archive, sealed="2026-01-01T00:00:09Z", selection=Selection((), ("*.bin",)))
    assert (
        archive.preferred([part, whole, excluded])
        == whole
        == archive.preferred([whole, excluded, part])
    )
    later = seal_up(archive, sealed="2026-01-01T00:00:02Z")
    assert archive.find("Org/Model", REVISION) == later
    twins = [seal_up(archive, sealed="2026-01-01T00:00:03Z", tool=f"x {i}") for i in range(4)]
    assert archive.find("Org/Model", REVISION) == max(twins, key=lambda one: one.id)
    assert archive.preferred([part, excluded]) == max([part, excluded], key=lambda one: one.id)


def test_without_a_revision_all_of_them_are_asked(archive):
    seal_up(archive, sealed="2026-01-01T00:00:01Z")
    newer = seal_up(archive, revision=OTHER, sealed="2026-01-01T00:00:02Z")
    seal_up(archive, revision="9" * 40, sealed="2026-01-01T00:00:03Z", selection=PART)
    assert archive.find("Org/Model") == newer


def test_a_beginning_that_fits_two_revisions_is_refused(archive):
    seal_up(archive, revision="ab" * 20)
    seal_up(archive, revision="abc" + "0" * 37)
    with pytest.raises(UsageError, match="several"):
        archive.find("Org/Model", "ab")
    assert archive.find("Org/Model", "aba").seal.revision == "ab" * 20
    with pytest.raises(UsageError, match="not held"):
        archive.find("Org/Model", "f")
    with pytest.raises(UsageError, match="not in the archive"):
        archive.find("Org/Nothing")


def test_repositories_that_share_a_folder_are_told_apart(archive, root):
    """``_/name`` is the folder of a repository without an organisation too (section 2)."""
    one = seal_up(archive, repository="name")
    other = seal_up(archive, repository="_/name")
    assert {path.parent for path in (root / "snapshots").rglob("*.json")} == {
        root / "snapshots/_/name"
    }
    assert archive.find("name") == one
    assert archive.find("_/name") == other
    assert archive.manifest(one.seal).source.repository == "name"
    assert archive.manifest(other.seal).source.repository == "_/name"


# The journal


def test_events_come_oldest_first_and_damaged_ones_are_told(archive, root):
    for second in (1, 2, 3):
        archive.record(raw_event("audited", f"2026-01-01T00:00:0{second}Z", TOOL))
    assert [event.time[-2] for _, event in archive.events()] == ["1", "2", "3"]
    path = next(path for path in (root / "journal").rglob("20260101t000002z*"))
    overwrite(path, path.read_bytes()[:-2])
    assert [event.time[-2] for _, event in archive.events()] == ["1", "2", "3"], "it was read whole"
    told = []
    found = [
        event.time[-2]
        for _, event in Archive.open(root).events(on_damage=lambda name, _: told.append(name))
    ]
    assert found == ["1", "3"]
    assert len(told) == 1


def test_what_was_written_after_comes_after_also_when_the_clock_was_set_back(archive):
    for second in (3, 1, 1, 2):
        archive.record(raw_event("audited", f"2026-01-01T00:00:0{second}Z", TOOL))
    assert [event.time[-2] for _, event in archive.events()] == ["3", "1", "1", "2"]


def test_an_event_names_the_one_before_it(archive, root):
    event = raw_event("sealed", "2026-01-01T00:00:00Z", TOOL)
    first, second = archive.record(event), archive.record(event)
    assert {digest: one.after for digest, one in archive.events()} == {first: (), second: (first,)}
    names = [path.name for path in (root / "journal" / "2026" / "01").iterdir()]
    assert names[0].startswith("20260101t000000z.")


def test_publishing_the_same_again_gives_the_same_snapshot(archive):
    objects = object_store(archive)
    for part in PARTS:
        objects.put(array(part), None)
    objects.flush()
    objects.close()
    made = [
        publish(archive, Manifest(source(), (ENTRY,)), objects.location, Selection())
        for _ in range(2)
    ]
    assert made[0] == made[1]
    assert len(list(archive.snapshots())) == 1
    part = publish(archive, Manifest(source(), (ENTRY,)), objects.location, PART)
    assert part.seal.parent == made[0].id
    assert len(list(archive.snapshots())) == 2


# A new archive goes into an empty folder, or one where making it was interrupted; into no other.


def test_what_an_interrupted_run_left_is_gone_on_with(root):
    Archive.create(root)
    (root / "archive.json").unlink()
    (root / "decode.py").unlink()
    (root / "tmp" / "put-host-1-abc").write_bytes(b"half")
    made = Archive.create(root)
    assert Archive.open(root).info == made.info
    assert (root / "decode.py").exists()


@pytest.mark.parametrize(
    "name",
    ["notes.txt", "README.txt", "tmp/mine", "packs/x", "archive.json", "place.json", ".hidden"],
)
def test_a_folder_of_something_else_is_refused_and_left_alone(root, name):
    path = root / name
    path.parent.mkdir(parents=True)
    path.write_bytes(b"mine")
    with pytest.raises(UsageError, match="empty"):
        Archive.create(root)
    assert [file for file in root.rglob("*") if file.is_file()] == [path]
    assert path.read_bytes() == b"mine"


def test_links_and_files_are_refused(root, tmp_path):
    root.symlink_to(tmp_path / "nowhere")
    with pytest.raises(ArchiverError):
        Archive.create(root)
    root.unlink()
    root.write_bytes(b"")
    with pytest.raises(UsageError):
        Archive.create(root)
