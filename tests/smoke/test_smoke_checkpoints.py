"""A checkpoint in the archive, in a folder and in its files: the same bytes."""

from __future__ import annotations

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import numpy as np
import pytest
import smokekit
from hypothesis import given, settings
from hypothesis import strategies as st
from storedkit import FILE, ROWS, bytes_of, opened

from archiver.errors import DamageError
from archiver.smoke.checkpoint.files import StoredTensor, run_all
from archiver.smoke.checkpoint.folder import FolderCheckpoint
from archiver.tensors.header import HeaderError, parse_header


@pytest.fixture(scope="module", params=["archive", "folder", "one thread"])
def checkpoint(request, made, made_archive):
    if request.param == "folder":
        found = FolderCheckpoint(made, workers=2)
    else:
        found = opened(made_archive, workers=1 if request.param == "one thread" else 2)
    yield found
    found.close()


@pytest.mark.parametrize("name", ["dense", "moe"])
def test_every_tensor_row_and_file_is_that_of_the_files(models, tmp_path, name):
    folder = models(name)
    checkpoints = smokekit.archived(folder, tmp_path), FolderCheckpoint(folder, workers=2)
    chosen = random.Random(name)
    for one in checkpoints:
        assert dict(one.files) == {
            path.relative_to(folder).as_posix(): path.stat().st_size
            for path in folder.rglob("*")
            if path.is_file()
        }
        data = {path: one.read(path, 1 << 30) for path in one.files}
        assert all((folder / path).read_bytes() == content for path, content in data.items())
        listed = set()
        for path in (path for path in data if path.endswith(".safetensors")):
            header = parse_header(data[path], len(data[path]))
            assert one.header(path) == header
            listed |= {(path, *msgspec.structs.astuple(tensor)) for tensor in header.tensors}
        assert {(place.file, name, *place[2:]) for name, place in one.tensors.items()} == listed
        for place in one.tensors.values():
            parts = [place]
            if place.shape:
                parts += [place.row(chosen.randrange(place.shape[0])) for _ in range(3)]
            for part in parts:
                assert bytes_of(one, part) == data[part.file][part.begin : part.end]
        one.close()
    assert checkpoints[0].tensors == checkpoints[1].tensors
    assert checkpoints[0].title.startswith(f"me/{name}@")
    assert checkpoints[1].title == str(folder)


@given(places=st.tuples(st.floats(0, 1), st.floats(0, 1)))
@settings(max_examples=60, deadline=None)
def test_any_stretch_of_a_file_is_read(checkpoint, made, places):
    size = (made / FILE).stat().st_size
    begin, end = sorted(int(place * size) for place in places)
    with (made / FILE).open("rb") as file:
        file.seek(begin)
        wanted = file.read(end - begin)
    assert bytes_of(checkpoint, StoredTensor("any", FILE, "U8", (), begin, end)) == wanted


def test_rows_that_are_not_there_are_refused(checkpoint):
    big = checkpoint.tensors["big"]
    for number in (-1, ROWS):
        with pytest.raises(IndexError):
            big.row(number)
    with pytest.raises(IndexError):
        checkpoint.tensors["empty"].row(0)
    assert bytes_of(checkpoint, checkpoint.tensors["empty"]) == b""


def test_bytes_beyond_the_file_or_the_buffer_are_refused(checkpoint):
    size = checkpoint.files[FILE]
    for begin, end, count in ((0, size + 1, size + 1), (-1, 4, 5), (0, 4, 5), (0, 4, 3)):
        beyond = StoredTensor("x", FILE, "U8", (), begin, end)
        with pytest.raises(ValueError, match=FILE):
            checkpoint.read_tensor(beyond, np.empty(count, np.uint8))


def test_many_threads_share_a_checkpoint(checkpoint, made):
    data = (made / FILE).read_bytes()
    places = [place for place in checkpoint.tensors.values() if place.name.startswith("small.")]

    def read(seed):
        chosen = random.Random(seed)
        for _ in range(40):
            place = chosen.choice(places)
            begin = chosen.randrange(place.begin, place.end)
            part = place._replace(begin=begin, end=chosen.randrange(begin, place.end + 1))
            assert bytes_of(checkpoint, part) == data[part.begin : part.end]

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(read, range(8)))


class Counting:
    """Packs that note which objects are decoded, and where to."""

    def __init__(self, packs):
        self.packs, self.read_of, self.places, self.threads = packs, [], set(), set()

    def read(self, digest, size, out):
        self.threads.add(threading.current_thread())
        self.read_of.append(digest)
        self.places.add(out.__array_interface__["data"][0])
        self.packs.read(digest, size, out)


def test_neighbouring_rows_are_decoded_once_and_buffers_are_used_again(made_archive):
    one = opened(made_archive)
    counting = one._cache._packs = Counting(one._packs)
    big = one.tensors["big"]
    for number in range(ROWS):
        bytes_of(one, big.row(number))
    assert len(counting.read_of) == 2
    for number in (0, 1, 18, 19):
        bytes_of(one, big.row(number))
    assert len(counting.read_of) == 2
    for place in [one.tensors[f"small.{number}"] for number in range(1, 12)] * 2:
        bytes_of(one, place.row(7))
    slots = len(counting.places)
    assert slots <= 4  # 64 MiB at most, however many segments there are
    for number in (*range(1, slots + 1), 1, slots + 1):
        bytes_of(one, one.tensors[f"small.{number}"].row(7))
    before = len(counting.read_of)
    bytes_of(one, one.tensors["small.1"].row(9))
    assert len(counting.read_of) == before  # what was used longest ago gave way
    one.close()


def test_only_so_many_threads_decode_and_have_buffers(made_archive):
    one = opened(made_archive)
    counting = one._packs = one._cache._packs = Counting(one._packs)
    for workers in (2, 1):
        one.settle(workers)
        counting.threads.clear()
        bytes_of(one, one.tensors["big"])
        bytes_of(one, one.tensors["small.1"])
        assert 1 <= len(counting.threads) <= workers
        assert threading.current_thread() not in counting.threads
    one.close()


def test_neither_threads_nor_handles_are_left(made, made_archive):
    threads, handles = set(threading.enumerate()), len(list(Path("/proc/self/fd").iterdir()))
    for one in (opened(made_archive), FolderCheckpoint(made, workers=2)):
        bytes_of(one, one.tensors["big"])
        one.read("config.json", 10)
        one.close()
        assert set(threading.enumerate()) <= threads
    assert (
        len(list(Path("/proc/self/fd").iterdir())) <= handles + 2
    )  # the archive keeps its packs open


def test_nothing_is_written_to_a_buffer_any_more_once_a_read_has_failed():
    began, ended = threading.Event(), threading.Event()

    def fail():
        began.wait(600)
        raise DamageError("first")

    def slow():
        began.set()
        time.sleep(0.1)
        ended.set()

    with ThreadPoolExecutor(2) as pool:
        with pytest.raises(DamageError, match="first"):
            run_all(pool, [fail, slow])
        assert ended.is_set()


# ---- files


def test_a_file_is_read_up_to_the_limit(checkpoint):
    assert checkpoint.read("below/note.txt", 4) == b"note"
    assert checkpoint.read("nothing.txt", 0) == b""
    with pytest.raises(ValueError, match=r"below/note\.txt has 4 bytes, more than 3"):
        checkpoint.read("below/note.txt", 3)
    for path in ("none", "below", "../made/config.json", "/etc/hostname", ""):
        with pytest.raises(FileNotFoundError):
            checkpoint.read(path, 100)
        with pytest.raises(FileNotFoundError):
            checkpoint.header(path)


def test_a_refused_header_has_no_tensors_and_says_why(checkpoint):
    assert "lost" not in checkpoint.tensors
    with pytest.raises(HeaderError, match="The tensors end at byte"):
        checkpoint.header("cut.safetensors")
    with pytest.raises(HeaderError, match="beyond the end"):
        checkpoint.header("tiny.safetensors")
    with pytest.raises(HeaderError, match="beyond the end"):
        checkpoint.header("nothing.txt")


def test_of_two_tensors_of_one_name_the_first_by_path_counts(checkpoint):
    assert checkpoint.tensors["small.0"].file == FILE
    assert [tensor.name for tensor in checkpoint.header("second.safetensors").tensors] == [
        "small.0"
    ]
