"""The way out: pieces in order whatever finishes first; what is damaged is named."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest
from archivekit import PLAINS, entry_of, pack_path, write_pack
from kit.faults import overwrite
from kit.repository import noise

from archiver.archive.archive import Archive
from archiver.archive.decode import FileDecoder, FileTask
from archiver.archive.packs.index import ObjectIndex
from archiver.codec.segment import SEGMENT_MAX
from archiver.digest import blake3_hex
from archiver.errors import DamageError

SMALL = [b"%d small" % number for number in range(1500)]


def bytes_of(decoder: FileDecoder, plains: list[bytes]) -> bytes:
    segments = [(len(plain), blake3_hex(plain)) for plain in plains]
    return b"".join(bytes(piece) for piece in decoder.pieces(iter(segments)))


class Slow:
    """A map whose first objects take longest, as a cold disk's do."""

    def __init__(self, inner: ObjectIndex) -> None:
        self.inner, self.calls, self.lock = inner, 0, threading.Lock()

    def read(self, digest, size, out):
        with self.lock:
            self.calls += 1
            wait = 0.02 if self.calls % 4 == 1 else 0
        time.sleep(wait)
        self.inner.read(digest, size, out)


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_pieces_come_in_order(archive, workers):
    large = [noise(number, SEGMENT_MAX // 2 + number) for number in range(5)]
    packs = Slow(ObjectIndex(archive, [write_pack(archive, large + PLAINS)]))
    wanted = [large[0], PLAINS[1], large[1], large[0], large[2], PLAINS[4], large[3], large[4]]
    with FileDecoder(packs, workers=workers) as decoder:
        assert bytes_of(decoder, wanted) == b"".join(wanted)
        assert bytes_of(decoder, []) == b""
        # Once more: each buffer that came back is used by one batch at a time.
        assert bytes_of(decoder, wanted[::-1]) == b"".join(wanted[::-1])


def test_small_segments_are_decoded_in_batches(archive):
    packs = ObjectIndex(archive, [write_pack(archive, SMALL)])
    entry = entry_of("many", SMALL)
    got: list[bytes] = []
    with FileDecoder(packs, workers=2) as decoder:
        decoder.copy(entry, lambda piece: got.append(bytes(piece)))
    assert b"".join(got) == b"".join(SMALL)
    assert len(got) == 3  # 512 at a time


@pytest.mark.parametrize("lost", [0, 700, 1499])
def test_a_damaged_object_is_named_and_the_flow_goes_on_with_the_next_file(archive, root, lost):
    pack = write_pack(archive, SMALL)
    entry = archive.pack(pack).index()[lost]
    data = bytearray(pack_path(root, pack).read_bytes())
    data[entry.offset + entry.stored - 6] ^= 0x55
    overwrite(pack_path(root, pack), bytes(data))
    packs = ObjectIndex(Archive.open(root), [pack])
    with FileDecoder(packs, workers=2) as decoder:
        with pytest.raises(DamageError, match=blake3_hex(SMALL[lost])):
            bytes_of(decoder, SMALL)
        kept = [plain for number, plain in enumerate(SMALL) if number != lost]
        assert bytes_of(decoder, kept) == b"".join(kept)


def test_a_missing_object_is_named(archive):
    packs = ObjectIndex(archive, [write_pack(archive)])
    with (
        FileDecoder(packs, workers=2) as decoder,
        pytest.raises(DamageError, match=blake3_hex(b"no")),
    ):
        bytes_of(decoder, [PLAINS[0], b"no"])


@pytest.mark.parametrize("size", [0, -1, SEGMENT_MAX + 1, 2**60])
def test_an_impossible_segment_is_damage(archive, size):
    packs = ObjectIndex(archive, [write_pack(archive)])
    with FileDecoder(packs, workers=1) as decoder, pytest.raises(DamageError, match="segment"):
        list(decoder.pieces(iter([(size, blake3_hex(PLAINS[0]))])))


@pytest.mark.parametrize("change", [{"size": 1}, {"sha256": "0" * 64}, {"blake3": "0" * 64}])
def test_a_file_that_is_not_what_its_manifest_says_is_damage(archive, change):
    packs = ObjectIndex(archive, [write_pack(archive)])
    entry = msgspec.structs.replace(entry_of("weights.bin", PLAINS), **change)
    with (
        FileDecoder(packs, workers=2) as decoder,
        pytest.raises(DamageError, match=r"weights\.bin"),
    ):
        decoder.copy(entry, lambda piece: None)


def test_who_stops_early_leaves_the_flow_usable(archive):
    packs = ObjectIndex(archive, [write_pack(archive, SMALL)])
    with FileDecoder(packs, workers=2) as decoder:
        for _ in range(5):
            pieces = decoder.pieces(iter([(len(p), blake3_hex(p)) for p in SMALL]))
            next(pieces)
            pieces.close()
        assert bytes_of(decoder, SMALL) == b"".join(SMALL)


class Discarded:
    """An output that notes that it was closed."""

    def __init__(self, opened: list["Discarded"]) -> None:
        self.closed = False
        opened.append(self)

    def write_at(self, offset, data):
        pass

    def accept(self):
        pass

    def close(self):
        self.closed = True


@pytest.mark.parametrize("after", [1, 2, 5])
@pytest.mark.parametrize("size", [100, 2 << 20])
def test_an_interrupt_while_work_is_handed_out_ends_the_run(archive, monkeypatch, size, after):
    plain = noise(1, size)
    packs = ObjectIndex(archive, [write_pack(archive, [plain])])
    honest, calls, opened, ends = ThreadPoolExecutor.submit, [0], [], []

    def interrupted(pool, *arguments):
        future = honest(pool, *arguments)
        calls[0] += 1
        if calls[0] == after:
            raise KeyboardInterrupt  # the task runs, and nobody was told so
        return future

    def restore():
        tasks = [FileTask(entry_of(str(n), [plain]), lambda: Discarded(opened)) for n in range(9)]
        with FileDecoder(packs, workers=2) as decoder:
            try:
                list(decoder.files(tasks))
            except KeyboardInterrupt:
                ends.append([output.closed for output in opened])

    monkeypatch.setattr(ThreadPoolExecutor, "submit", interrupted)
    thread = threading.Thread(target=restore, daemon=True)
    thread.start()
    thread.join(60)
    assert len(ends) == 1
    assert all(ends[0])
