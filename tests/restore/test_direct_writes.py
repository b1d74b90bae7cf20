"""What is restored goes past the system's cache where it can, and comes out the same where it cannot."""

import errno
import mmap
import random
from itertools import pairwise

import numpy as np
import pytest
from kit.direct import Disk
from kit.repository import noise

from archiver.archive.decode import _aligned_buffer, _placed
from archiver.archive.destination import writing
from archiver.errors import NoSpaceError
from archiver.storage.direct import BLOCK_ALIGN

SIZE = 12 << 20
PLAIN = noise(5, SIZE)


def write_in_pieces(path, seed: int) -> None:
    """As decoders do: each piece in a buffer of its own, in any order."""
    draw = random.Random(seed)
    cuts = sorted({0, SIZE, *(draw.randrange(0, SIZE, 8) for _ in range(5)), draw.randrange(SIZE)})
    pieces = list(pairwise(cuts))
    draw.shuffle(pieces)
    with writing(path) as file:
        for begin, end in pieces:
            buffer = _aligned_buffer()
            assert buffer.ctypes.data % BLOCK_ALIGN == 0
            place = _placed(buffer, begin)[: end - begin]
            place[:] = np.frombuffer(PLAIN[begin:end], np.uint8)
            file.write_at(begin, place.data)
        file.accept()


@pytest.fixture
def disk(monkeypatch):
    return Disk(monkeypatch)


@pytest.mark.parametrize("seed", range(6))
def test_pieces_at_any_place_make_the_file(tmp_path, seed):
    write_in_pieces(tmp_path / "file", seed)
    assert (tmp_path / "file").read_bytes() == PLAIN


@pytest.mark.parametrize("seed", range(3))
def test_only_whole_blocks_go_past_the_cache_and_what_was_not_written_follows(tmp_path, disk, seed):
    write_in_pieces(tmp_path / "file", seed)
    assert (tmp_path / "file").read_bytes() == PLAIN
    assert disk.written > SIZE // 4


@pytest.mark.parametrize("page", [1 << 14, 1 << 16])
def test_no_page_of_the_cache_is_written_by_both_ways(tmp_path, disk, monkeypatch, page):
    monkeypatch.setattr(mmap, "PAGESIZE", page)
    write_in_pieces(tmp_path / "file", 2)
    assert (tmp_path / "file").read_bytes() == PLAIN
    assert disk.written > SIZE // 4


@pytest.mark.parametrize("how", ["not opened", errno.EINVAL, errno.EOPNOTSUPP])
def test_a_filesystem_without_such_a_way_gets_the_file_all_the_same(tmp_path, disk, how):
    disk.opens = how != "not opened"
    disk.refusal = how if disk.opens else 0
    write_in_pieces(tmp_path / "file", 1)
    assert (tmp_path / "file").read_bytes() == PLAIN
    assert not disk.written


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path, disk):
    disk.refusal = errno.ENOSPC
    with pytest.raises(NoSpaceError):
        write_in_pieces(tmp_path / "file", 1)
    assert list(tmp_path.iterdir()) == []
