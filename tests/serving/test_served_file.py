"""Any part of any file of a snapshot comes out as it was put in, whatever becomes of its packs."""

import gc
import shutil
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit.cli import invoke
from kit.faults import flip, overwrite
from kit.repository import bf16, noise, safetensors, write_folder

from archiver.archive.archive import Archive
from archiver.archive.quarantine import packs_for
from archiver.archive.serving import served_file
from archiver.archive.serving.segment_cache import SegmentCache
from archiver.archive.serving.served_file import PIECE, OpenSnapshots, ServedSnapshot
from archiver.errors import DamageError

LARGE = noise(1, (16 << 20) + 12345)
FILES = {
    "twice.bin": LARGE + LARGE[: 16 << 20],
    "model.safetensors": safetensors(
        {
            "a": ("BF16", (300, 1001), bf16(2, 300, 1001)),
            "b": ("F32", (5, 7), noise(3, 140)),
            "nothing": ("F16", (0, 4), b""),
            "c": ("F8_E4M3", (1,), b"\x07"),
            "again": ("BF16", (300, 1001), bf16(2, 300, 1001)),
            "d": ("I64", (3,), noise(4, 24)),
        }
    ),
    "repeated.bin": bytes(40 << 20),
    "empty.txt": b"",
    "one.txt": b"1",
    "config.json": b"{}",
}


@pytest.fixture(scope="module")
def held(tmp_path_factory):
    """An archive of one repository, whose files are FILES."""
    folder = tmp_path_factory.mktemp("served")
    assert invoke("init", "-q", "-C", folder / "archive") == 0
    model = write_folder(folder / "model", FILES)
    words = ("import", "-q", "-C", folder / "archive", model, "--as", "org/model")
    assert invoke(*words, "--min-free", "0B") == 0
    return folder / "archive"


def opened(root, cache, healer=None) -> ServedSnapshot:
    archive = Archive.open(root)
    return ServedSnapshot.open(archive, archive.find("org/model"), cache, healer)


@pytest.fixture(scope="module")
def snapshot(held):
    with SegmentCache(64 << 20) as cache:
        yield opened(held, cache)


@pytest.fixture
def root(held, tmp_path):
    """A copy of the archive, to be damaged."""
    return shutil.copytree(held, tmp_path / "copy")


def test_its_files_are_those_of_the_manifest(snapshot):
    assert {path: entry.size for path, entry in snapshot.entries.items()} == {
        path: len(data) for path, data in FILES.items()
    }
    with pytest.raises(KeyError):
        snapshot.file("other.txt")


@pytest.mark.parametrize("path", FILES)
def test_a_whole_file_comes_in_pieces_of_at_most_1_mib(snapshot, path):
    pieces = list(snapshot.file(path).read())
    assert b"".join(pieces) == FILES[path]
    assert all(0 < len(piece) <= PIECE for piece in pieces)
    assert len(pieces) == -(-len(FILES[path]) // PIECE)


@given(path=st.sampled_from(sorted(FILES)), data=st.data(), sequential=st.booleans())
def test_any_part_of_any_file_is_what_was_put_in(snapshot, path, data, sequential):
    size = len(FILES[path])
    near = st.sampled_from([0, size, *snapshot.file(path)._ends]).flatmap(
        lambda end: st.integers(end - 3, end + 3)
    )
    place = st.integers(0, size) | near.map(lambda at: max(0, at))
    start, stop = data.draw(place), data.draw(place)
    stop = min(stop, start + (3 << 20))
    part = b"".join(snapshot.file(path).read(start, stop, sequential=sequential))
    assert part == FILES[path][start:stop]


# ---- readers


class Noting(SegmentCache):
    """Notes what is expected, and what no more; decodes only what is asked for."""

    def __init__(self) -> None:
        super().__init__(64 << 20, threads=2)
        self.expected: list[str] = []

    def expect(self, name, size, decode) -> None:
        self.expected.append(name)

    def forget(self, segments) -> None:
        for name, _ in segments:
            self.expected.remove(name)


def names(snapshot, path) -> list[str]:
    return [digest for _, digest in snapshot.entries[path].segments]


def test_what_comes_next_is_expected_and_forgotten_when_the_reader_leaves(held):
    with Noting() as cache:
        snapshot = opened(held, cache)
        file, (first, second, third) = snapshot.file("twice.bin"), names(snapshot, "twice.bin")
        assert len(list(file.read(5, 100))) == 1
        assert len(list(file.read(5 << 20, 16 << 20))) == 11
        assert cache.expected == []  # a short range
        pieces = file.read()
        next(pieces)
        assert cache.expected == [second]
        pieces.close()
        assert cache.expected == []
        assert len(b"".join(file.read(0, file.size - 1))) == file.size - 1
        assert cache.expected == [second, third]
        list(file.read(5, 100, sequential=True))
        assert cache.expected == [second, third] * 2
        assert not cache._readers
        assert first not in cache.expected


def test_small_segments_are_expected_many_at_a_time_and_share_a_piece(held):
    with Noting() as cache:
        snapshot = opened(held, cache)
        pieces = snapshot.file("model.safetensors").read()
        next(pieces)
        assert cache.expected == names(snapshot, "model.safetensors")[1:]
        assert len(list(pieces)) == 1
        assert cache.expected == names(snapshot, "model.safetensors")[1:]


def test_readers_who_dawdle_keep_a_piece_each_and_no_segment(held):
    budget, count = 20 << 20, 40
    with SegmentCache(budget, threads=2, idle_seconds=0.01) as cache:
        snapshot = opened(held, cache)
        file = snapshot.file("twice.bin")
        assert len(next(file.read())) == PIECE
        tracemalloc.start()
        try:
            readers = [file.read((number * (2 << 20)) % (31 << 20)) for number in range(count)]
            for reader in readers:
                next(reader)
            now, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert now <= budget + (8 << 20)  # the pieces themselves were let go of
        assert peak <= budget + (24 << 20)
        assert cache.stats.resident <= budget
        # All of them go on where they were.
        for number, reader in enumerate(readers):
            begin = (number * (2 << 20)) % (31 << 20) + PIECE
            assert next(reader) == FILES["twice.bin"][begin : begin + PIECE]
        assert cache._readers.total() == count
        del reader, readers
        assert not cache._readers
    gc.collect()
    assert cache.stats.resident == 0


def test_many_readers_of_many_places_get_what_is_there_within_a_small_budget(held):
    budget = 20 << 20
    with SegmentCache(budget, threads=2) as cache, ThreadPoolExecutor(12) as readers:
        snapshot = opened(held, cache)

        def read(number):
            path = sorted(FILES)[number % len(FILES)]
            data, start = FILES[path], number * (1 << 20)
            return (
                b"".join(snapshot.file(path).read(start, start + (5 << 20)))
                == (data[start : start + (5 << 20)])
            )

        assert all(readers.map(read, range(24)))
        assert cache.stats.peak <= budget


# ---- damage


def damage(root, snapshot, path) -> str:
    """Damage the first segment of a file; its digest."""
    _, digest = snapshot.entries[path].segments[0]
    archive = Archive.open(root)
    for pack in archive.packs():
        for entry in archive.pack(pack).index():
            if entry.blake3 == digest:
                flip(root / "packs" / pack[:2] / f"{pack}.pack", entry.offset + entry.stored // 2)
    return digest


def test_damage_between_two_reads_names_object_and_pack_and_other_files_are_served(root):
    with SegmentCache(1) as cache:  # nothing is kept
        snapshot = opened(root, cache)
        file = snapshot.file("twice.bin")
        assert b"".join(file.read(0, 100)) == LARGE[:100]
        digest = damage(root, snapshot, "twice.bin")
        for _ in range(2):
            with pytest.raises(DamageError) as error:
                b"".join(file.read(0, 100))
            assert error.value.object == digest
            assert error.value.path == f"packs/{error.value.pack[:2]}/{error.value.pack}.pack"
        assert b"".join(snapshot.file("model.safetensors").read()) == FILES["model.safetensors"]
        assert b"".join(file.read(20 << 20)) == FILES["twice.bin"][20 << 20 :]


def test_damage_that_is_met_again_and_again_takes_no_more_memory(root):
    with SegmentCache(1) as cache:
        snapshot = opened(root, cache)
        damage(root, snapshot, "twice.bin")
        gc.disable()  # what is only found by it piles up for minutes: large segments, few objects
        tracemalloc.start()
        try:
            for _ in range(4):
                with suppress(DamageError):
                    b"".join(snapshot.file("twice.bin").read(0, 100))
            now, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
            gc.enable()
        assert now < 8 << 20


class Other:
    """A healer that has other bytes than it should, or those that it should."""

    def __init__(self, plain: bytes) -> None:
        self.plain = plain
        self.asked: list[tuple[str, int]] = []

    def heal(self, error, size):
        self.asked.append((error.object, size))
        return self.plain

    def met(self, digest, size, damaged, whole):
        raise AssertionError((digest, size, damaged, whole))


def test_what_is_damaged_is_had_from_a_healer_once_and_only_if_it_is_right(root):
    with SegmentCache(64 << 20) as cache:
        snapshot = opened(root, cache, healer := Other(LARGE[: 16 << 20]))
        digest = damage(root, snapshot, "twice.bin")
        assert b"".join(snapshot.file("twice.bin").read(0, 3 << 20)) == LARGE[: 3 << 20]
        assert healer.asked == [(digest, 16 << 20)]
    for wrong in (LARGE[1 : (16 << 20) + 1], LARGE[:-1], b""):
        with SegmentCache(64 << 20) as cache, pytest.raises(DamageError) as error:
            b"".join(opened(root, cache, Other(wrong)).file("twice.bin").read())
        assert error.value.object == digest


@pytest.mark.parametrize("place", ["{}", "trash/20261130t000000z/{}"])
def test_a_pack_that_was_replaced_or_moved_meanwhile_is_found_again(root, place):
    (pack,) = (root / "packs").rglob("*.pack")
    with SegmentCache(1) as cache:  # nothing is kept
        snapshot = opened(root, cache)
        file = snapshot.file("model.safetensors")
        assert b"".join(file.read()) == FILES["model.safetensors"]
        whole = pack.read_bytes()
        overwrite(pack, b"")  # what is open is lost
        with pytest.raises(DamageError):
            b"".join(file.read())
        pack.unlink()
        name = pack.relative_to(root).as_posix()
        overwrite(root / place.format(name), whole)
        assert b"".join(file.read()) == FILES["model.safetensors"]


def test_what_is_damaged_for_good_is_looked_for_anew_once(root, monkeypatch):
    with SegmentCache(1) as cache:
        snapshot = opened(root, cache)
        file = snapshot.file("model.safetensors")
        assert b"".join(file.read(0, 1)) == FILES["model.safetensors"][:1]
        damage(root, snapshot, "model.safetensors")
        looks = []
        monkeypatch.setattr(
            served_file, "packs_for", lambda *words: looks.append(words) or packs_for(*words)
        )
        for _ in range(3):
            with pytest.raises(DamageError):
                b"".join(file.read(0, 1))
        assert len(looks) == 1


def test_those_that_were_used_last_stay_open(tmp_path, monkeypatch):
    root = tmp_path / "weights"
    assert invoke("init", "-q", "-C", root) == 0
    for name in "abc":
        model = write_folder(tmp_path / name, {"name": name.encode()})
        words = ("import", "-q", "-C", root, model, "--as", f"org/{name}", "--min-free", "0B")
        assert invoke(*words) == 0
    archive = Archive.open(root)
    first, second, third = (archive.find(f"org/{name}") for name in "abc")
    with SegmentCache(1 << 20) as cache:
        snapshots = OpenSnapshots(archive, cache, most=2)
        one, two = snapshots.get(first), snapshots.get(second)
        assert snapshots.get(first) is one
        three = snapshots.get(third)
        assert snapshots.get(first) is one
        assert snapshots.get(third) is three
        assert snapshots.get(second) is not two
        # Large ones count for more: of these only the last is kept.
        monkeypatch.setattr(served_file, "SEGMENTS_OPEN", 1)
        one, two = snapshots.get(first), snapshots.get(second)
        assert snapshots.get(second) is two
        assert snapshots.get(first) is not one
