"""The objects of objects: each content once, damage healed by writing anew, failures told to everyone."""

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from archivekit import array, object_store, pack_path, reading, write_pack
from kit.faults import overwrite
from kit.repository import noise

from archiver.archive.archive import Archive
from archiver.archive.ingest import object_store as store_module
from archiver.archive.ingest.resume import salvage
from archiver.archive.packs import writer
from archiver.archive.packs.format import IndexEntry
from archiver.archive.packs.writer import PackWriter
from archiver.buffers import BufferPool
from archiver.codec.segment import SEGMENT_MAX
from archiver.digest import blake3_hex
from archiver.errors import ArchiverError, DamageError, NoSpaceError

CONTENTS = [noise(number, 3000 + number) for number in range(12)]


class Hints:
    """Knows of the objects in some packs, and may be wrong about them."""

    def __init__(self, archive: Archive, *packs: str) -> None:
        self.known = {
            entry.blake3: [(pack, entry)] for pack in packs for entry in archive.pack(pack).index()
        }

    def locate(self, digest):
        return self.known.get(digest, [])


def stored_objects(archive: Archive) -> list[str]:
    return [entry.blake3 for pack in archive.packs() for entry in archive.pack(pack).index()]


def finish(objects) -> None:
    objects.flush()
    objects.close()


def in_threads(work, count: int = 8) -> list[BaseException | None]:
    """Run ``work(number)`` in threads; what each one raised. Fails if one of them hangs."""
    pool = ThreadPoolExecutor(count)
    futures = [pool.submit(work, number) for number in range(count)]
    try:
        return [future.exception(timeout=600) for future in futures]
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def test_the_same_content_from_many_threads_is_stored_once(archive):
    objects = object_store(archive)
    start = threading.Barrier(8)

    def put_all(number: int) -> None:
        start.wait(timeout=600)
        for plain in CONTENTS[number % 4 :] + CONTENTS[: number % 4]:
            assert objects.put(array(plain), None) == blake3_hex(plain)

    assert in_threads(put_all) == [None] * 8
    finish(objects)
    assert sorted(stored_objects(archive)) == sorted(map(blake3_hex, CONTENTS))
    for plain in CONTENTS:
        assert objects.location(blake3_hex(plain)) is not None
    assert objects.location("0" * 64) is None


class Crowd:
    """Holds up each thread that appends until ``count`` of them do so at the same time."""

    def __init__(self, monkeypatch, count: int) -> None:
        honest, together = PackWriter.append, threading.Barrier(count)

        def append(writer, encoded):
            together.wait(timeout=600)
            return honest(writer, encoded)

        monkeypatch.setattr(PackWriter, "append", append)


def store_in_several_packs(archive, monkeypatch):
    """Four threads at once, each with three contents of its own."""
    monkeypatch.setattr(store_module, "_SPREAD_BYTES", 1)
    objects = object_store(archive, packs=4)
    objects.put(array(b"the first pack"), None)
    Crowd(monkeypatch, 4)

    def put(number: int) -> None:
        for plain in CONTENTS[3 * number : 3 * number + 3]:
            objects.put(array(plain), None)

    assert in_threads(put, 4) == [None] * 4
    return objects


def test_several_packs_are_written_at_once(archive, monkeypatch):
    objects = store_in_several_packs(archive, monkeypatch)
    finish(objects)
    assert len(objects.published) == 4
    every = [b"the first pack", *CONTENTS]
    assert sorted(stored_objects(archive)) == sorted(map(blake3_hex, every))
    for plain in every:
        pack, stored = objects.location(blake3_hex(plain))
        assert stored in {e.stored for e in archive.pack(pack).index() if e.size == len(plain)}


def test_each_pack_of_a_killed_run_is_salvaged(archive, monkeypatch):
    objects = store_in_several_packs(archive, monkeypatch)
    objects.close()
    assert len(salvage(archive)) == 4
    assert set(map(blake3_hex, CONTENTS)) < set(stored_objects(archive))


def test_little_is_stored_in_one_pack(archive):
    objects = object_store(archive, packs=4)
    start = threading.Barrier(8)

    def put(number: int) -> None:
        start.wait(timeout=600)
        for plain in CONTENTS[number:]:
            objects.put(array(plain), None)

    assert in_threads(put) == [None] * 8
    finish(objects)
    assert len(objects.published) == 1


def test_what_is_stored_already_is_read_and_not_stored_again(archive):
    pack = write_pack(archive, CONTENTS)
    objects = object_store(archive, Hints(archive, pack))
    for plain in [*CONTENTS, b"new"]:
        objects.put(array(plain), None)
    finish(objects)
    assert objects.reused_bytes == sum(map(len, CONTENTS))
    assert objects.location(blake3_hex(CONTENTS[0]))[0] == pack
    assert [e.blake3 for one in objects.published for e in one.entries] == [blake3_hex(b"new")]


@pytest.mark.parametrize("harm", ["damaged", "gone", "cut", "lying size", "lying place"])
def test_a_hint_that_is_wrong_is_healed_by_storing_anew(archive, root, harm):
    pack = write_pack(archive, CONTENTS[:2])
    hints = Hints(archive, pack)
    digest = blake3_hex(CONTENTS[0])
    entry = hints.known[digest][0][1]
    path = pack_path(root, pack)
    path.chmod(0o644)
    if harm == "damaged":
        data = bytearray(path.read_bytes())
        data[entry.offset + entry.stored - 9] ^= 1
        overwrite(path, bytes(data))
    elif harm == "gone":
        path.unlink()
    elif harm == "cut":
        overwrite(path, path.read_bytes()[:50])
    elif harm == "lying size":
        hints.known[digest] = [(pack, IndexEntry(digest, entry.offset, entry.stored, 1 << 60, 0))]
    else:
        hints.known[digest] = [(pack, IndexEntry(digest, -5, entry.stored, entry.size, 0))]
    opened = Archive.open(root)
    objects = object_store(opened, hints)
    objects.put(array(CONTENTS[0]), None)
    finish(objects)
    found = objects.location(digest)
    assert found is not None
    assert found[0] != pack
    assert opened.pack(found[0]).copy(opened.pack(found[0]).index()[0]).header.blake3 == digest


def test_a_damaged_pack_is_replaced_by_the_same_pack_written_anew(archive, root):
    """Same objects in the same order make the same pack, with the same name as the damaged one."""
    objects = object_store(archive)
    for plain in CONTENTS:
        objects.put(array(plain), None)
    finish(objects)
    pack = objects.published[0].pack
    path = pack_path(root, pack)
    good = path.read_bytes()
    for bad in (good[:-1], good[:100] + b"\xff" + good[101:]):
        overwrite(path, bad)
        again = object_store(Archive.open(root))
        for plain in CONTENTS:
            again.put(array(plain), None)
        finish(again)
        assert again.published[0].pack == pack
        assert path.read_bytes() == good


def test_packs_are_closed_when_they_are_large_enough(archive, monkeypatch):
    monkeypatch.setattr(writer, "PACK_SIZE", 8000)
    objects = object_store(archive)
    for plain in CONTENTS:
        objects.put(array(plain), None)
    finish(objects)
    assert len(objects.published) == 6
    assert max(pack.size for pack in objects.published) <= 8000
    assert sorted(stored_objects(archive)) == sorted(map(blake3_hex, CONTENTS))


# Failures


@pytest.mark.parametrize("error", [NoSpaceError("full"), ArchiverError("the disk is gone")])
def test_a_failure_to_write_reaches_every_thread_and_nothing_hangs(archive, monkeypatch, error):
    honest, count = PackWriter.append, 0

    def append(self, item):
        nonlocal count
        count += 1
        if count == 4:
            raise error
        return honest(self, item)

    monkeypatch.setattr(PackWriter, "append", append)
    objects = object_store(archive)

    def put_all(number: int) -> None:
        for plain in CONTENTS[number:] + CONTENTS[:number]:
            objects.put(array(plain), None)

    assert in_threads(put_all) == [error] * 8
    with pytest.raises(type(error)):
        objects.flush()
    with pytest.raises(type(error)):
        objects.put(array(b"another"), None)
    objects.close()
    # What is whole is not thrown away: it is published if only room was lacking, or left to salvage.
    kept = list(archive.packs()) or [one.pack for one in salvage(archive)]
    assert sum(len(archive.pack(pack).index()) for pack in kept) == 3


def test_a_failure_to_publish_reaches_who_flushes_also_the_second_time(archive, monkeypatch):
    monkeypatch.setattr(writer, "PACK_SIZE", 4000)
    error = NoSpaceError("full")

    def finish_badly(self):
        raise error

    monkeypatch.setattr(PackWriter, "finish", finish_badly)
    objects = object_store(archive)
    with contextlib.suppress(NoSpaceError):
        for plain in CONTENTS:
            objects.put(array(plain), None)
    for _ in range(2):
        with pytest.raises(NoSpaceError):
            objects.flush()
    objects.close()
    assert all(objects.location(blake3_hex(plain)) is None for plain in CONTENTS)


def test_a_pack_that_is_full_when_publishing_fails_is_left_to_salvage(archive, monkeypatch):
    monkeypatch.setattr(writer, "PACK_SIZE", 4000)
    error = ArchiverError("the disk is gone")

    def finish_badly(self):
        raise error

    monkeypatch.setattr(PackWriter, "finish", finish_badly)
    objects = object_store(archive)
    stored: list[str] = []
    with pytest.raises(ArchiverError) as failure:
        stored.extend(objects.put(array(plain), None) for plain in CONTENTS)
    objects.close()
    monkeypatch.undo()
    assert sum(len(pack.entries) for pack in salvage(archive)) == len(stored) > 2
    assert failure.value is error  # which keeps what was lost alive, and locked


def test_a_segment_that_cannot_be_encoded_fails_for_all_who_wait_for_it(archive, monkeypatch):
    error = ArchiverError("memory is bad")
    begun, waiting = threading.Event(), threading.Barrier(4)

    def encode(*_):
        begun.set()
        threading.Event().wait(0.2)
        raise error

    monkeypatch.setattr(store_module, "encode", encode)
    objects = object_store(archive)

    def put(number: int) -> None:
        waiting.wait(timeout=600)
        objects.put(array(CONTENTS[0]), None)

    assert in_threads(put, 4) == [error] * 4
    monkeypatch.undo()
    assert objects.put(array(CONTENTS[0]), None) == blake3_hex(CONTENTS[0])  # it can be tried again
    finish(objects)


def test_what_was_not_flushed_is_left_for_the_next_run(archive, root):
    objects = object_store(archive)
    objects.put(array(CONTENTS[0]), None)
    objects.close()
    del objects
    assert list(archive.packs()) == []
    (left,) = (root / "tmp").iterdir()
    assert [entry.blake3 for entry in reading(left, archive).walk()] == [blake3_hex(CONTENTS[0])]


# Buffers


def test_buffers_are_shared_and_bounded():
    pool = BufferPool(2, SEGMENT_MAX)
    first, second = pool.take(), pool.take()
    assert len(first) == len(second) == SEGMENT_MAX
    got: list[object] = []
    waiter = threading.Thread(target=lambda: got.append(pool.take()), daemon=True)
    waiter.start()
    waiter.join(0.1)
    assert not got
    pool.give_back(first)
    waiter.join(600)
    assert got[0] is first


def test_who_waits_for_a_buffer_is_woken_when_the_pool_closes():
    pool = BufferPool(1, SEGMENT_MAX)
    pool.take()
    failed: list[BaseException] = []

    def take() -> None:
        try:
            pool.take()
        except ArchiverError as error:
            failed.append(error)

    waiters = [threading.Thread(target=take, daemon=True) for _ in range(3)]
    for waiter in waiters:
        waiter.start()
    pool.close()
    for waiter in waiters:
        waiter.join(600)
    assert len(failed) == 3
    assert not isinstance(failed[0], DamageError)
    with pytest.raises(ArchiverError, match="stopped"):
        pool.take()
