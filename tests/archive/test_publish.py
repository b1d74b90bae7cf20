"""Publishing: packs, manifest, seal, event, each durable before the next; the seal last but the event."""

import pytest
from archivekit import REVISION, array, entry_of, object_store, pack_path, source

from archiver.archive.archive import Archive
from archiver.archive.publish import publish
from archiver.archive.records import Manifest, Selection
from archiver.digest import blake3_hex
from archiver.errors import DamageError, NoSpaceError

PARTS = [b"one", b"two", b"three"]
ENTRY = entry_of("notes.txt", PARTS)


class Recording:
    """A store that notes what becomes visible, and every barrier; and fails where it is told to."""

    def __init__(self, inner, fail_at: str = "") -> None:
        self.inner = inner
        self.told: list[str] = []
        self.fail_at = fail_at
        self.before: dict[str, object] = {}

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def _note(self, name: str) -> None:
        kind = name.split("/", 1)[0]
        if kind == self.fail_at:
            raise NoSpaceError("No space is left.")
        self.before.pop(kind, lambda: None)()
        self.told.append(kind)

    def put_new(self, name: str, data: bytes) -> bool:
        self._note(name)
        return self.inner.put_new(name, data)

    def stage(self, purpose: str):
        staged, note = self.inner.stage(purpose), self._note
        publish = staged.publish

        def publish_and_note(name: str) -> None:
            note(name)
            publish(name)

        staged.publish = publish_and_note
        return staged

    def barrier(self, names=()) -> None:
        self.told.append("barrier")
        self.inner.barrier(names)


def stored(archive: Archive):
    objects = object_store(archive)
    for part in PARTS:
        objects.put(array(part), None)
    objects.flush()
    objects.close()
    return objects


def recorded(archive: Archive, fail_at: str = "") -> tuple[Archive, Recording]:
    store = Recording(archive.store, fail_at)
    return Archive(store, archive.info), store


def test_each_step_is_durable_before_the_next(archive):
    watched, store = recorded(archive)
    publish(watched, Manifest(source(), (ENTRY,)), stored(watched).location, Selection())
    assert store.told == [
        *("packs", "barrier"),
        *("manifests", "barrier"),
        *("snapshots", "barrier"),
        *("barrier", "journal"),
    ]


def test_what_is_sealed_can_be_read_at_once(archive):
    snapshot = publish(archive, Manifest(source(), (ENTRY,)), stored(archive).location, Selection())
    assert archive.find("Org/Model") == snapshot
    seal = snapshot.seal
    assert (seal.revision, seal.parent, seal.selection.whole) == (REVISION, "", True)
    assert (seal.totals.files, seal.totals.bytes, seal.totals.objects) == (1, 11, 3)
    entries = [e for pack, _ in seal.packs for e in archive.pack(pack).index()]
    assert seal.totals.stored == sum(entry.stored for entry in entries)
    ((_, event),) = archive.events()
    assert (event.event, event.fields) == (
        "sealed",
        {
            "snapshot": snapshot.id,
            "vouched": "nobody",
            "manifest": seal.manifest.blake3,
            "selection": {"exclude": [], "include": []},
        },
    )


@pytest.mark.parametrize("step", ["manifests", "snapshots"])
def test_a_full_disk_at_any_step_leaves_no_seal(archive, step):
    objects = stored(archive)
    watched, _ = recorded(archive, fail_at=step)
    with pytest.raises(NoSpaceError):
        publish(watched, Manifest(source(), (ENTRY,)), objects.location, Selection())
    assert list(archive.snapshots()) == []
    assert list(archive.events()) == []
    assert (
        publish(archive, Manifest(source(), (ENTRY,)), objects.location, Selection()).seal.revision
        == REVISION
    )


@pytest.mark.parametrize("harm", ["vanish", "shrink"])
def test_a_pack_that_goes_while_the_manifest_is_written_prevents_the_seal(archive, root, harm):
    objects = stored(archive)
    path = pack_path(root, objects.published[0].pack)
    watched, store = recorded(archive)

    def damage() -> None:
        path.chmod(0o644)
        path.unlink() if harm == "vanish" else path.write_bytes(path.read_bytes()[:-1])

    store.before["manifests"] = damage
    with pytest.raises(DamageError, match=objects.published[0].pack):
        publish(watched, Manifest(source(), (ENTRY,)), objects.location, Selection())
    assert "snapshots" not in store.told
    assert list(archive.snapshots()) == []


def test_a_pack_that_is_gone_before_is_not_sealed_either(archive, root):
    objects = stored(archive)
    pack_path(root, objects.published[0].pack).unlink()
    with pytest.raises(DamageError):
        publish(archive, Manifest(source(), (ENTRY,)), objects.location, Selection())
    assert list(archive.snapshots()) == []


def test_an_object_that_is_in_no_pack_is_not_sealed(archive):
    with pytest.raises(DamageError, match=blake3_hex(b"one")):
        publish(archive, Manifest(source(), (ENTRY,)), lambda digest: None, Selection())
    assert list(archive.store.list("manifests")) == []


def test_objects_that_were_not_flushed_are_not_sealed(archive):
    objects = object_store(archive)
    for part in PARTS:
        objects.put(array(part), None)
    with pytest.raises(DamageError):
        publish(archive, Manifest(source(), (ENTRY,)), objects.location, Selection())
    objects.close()


def test_of_seals_within_one_second_the_last_is_the_newest(archive):
    sealed = [
        publish(
            archive,
            Manifest(source(revision=f"{number:040x}"), (ENTRY,)),
            stored(archive).location,
            Selection(),
        )
        for number in range(4)
    ]
    times = [one.seal.sealed for one in sealed]
    assert times == sorted(set(times))
    assert archive.find("Org/Model") == sealed[-1]
    assert [one.seal.parent for one in sealed] == ["", *(one.id for one in sealed[:-1])]


def test_a_seal_that_a_killed_run_did_not_tell_of_is_told_of(archive, root):
    """Else nobody would miss the seal if it were lost."""
    objects = stored(archive)
    manifest = Manifest(source(), (ENTRY,))
    snapshot = publish(archive, manifest, objects.location, Selection())
    for path in (root / "journal").rglob("*.json"):
        path.unlink()
    for _ in range(2):
        again = Archive.open(root)
        assert publish(again, manifest, objects.location, Selection()) == snapshot
        assert [event.snapshot for _, event in again.events()] == [snapshot.id]
