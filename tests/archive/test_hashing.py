"""A file's digests: hashed beside the reading, over buffers that go back when nobody needs them."""

import hashlib
import threading

import numpy as np
import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st
from kit.repository import noise
from kit.worklog import wait_until

from archiver.archive.ingest import hashing
from archiver.archive.ingest.hashing import FileHasher, SharedBuffer
from archiver.buffers import BufferPool
from archiver.digest import git_blob_hasher

SIZE = 4096


def hashed(data: bytes, cuts: list[int], *, threads: bool):
    """The digests of ``data``, which comes in buffers that are cut at ``cuts``; all buffers came back."""
    pool = BufferPool(2, SIZE)
    hasher = FileHasher(hashing._THREADS_FROM if threads else len(data), with_oid=False)
    for at in range(0, len(data), SIZE):
        piece = data[at : at + SIZE]
        buffer = SharedBuffer(pool, 1 + hasher.users)
        buffer.data[: len(piece)] = np.frombuffer(piece, np.uint8)
        ends = sorted({min(cut, len(piece)) for cut in cuts} | {len(piece)})
        views = [buffer.data[begin:end].data for begin, end in zip([0, *ends], ends, strict=False)]
        hasher.update(views, buffer)
        buffer.release()
    digests = hasher.digests()
    assert pool._free.qsize() == 2
    return digests


@given(st.integers(0, 5 * SIZE), st.lists(st.integers(0, SIZE), max_size=5), st.booleans())
def test_the_digests_are_those_of_all_bytes_in_order(size, cuts, threads):
    data = noise(size, size)
    digests = hashed(data, cuts, threads=threads)
    assert digests.sha256 == hashlib.sha256(data).hexdigest()
    assert digests.blake3 == blake3(data).hexdigest()
    assert digests.oid == ""


@pytest.mark.parametrize("size", [3, hashing._THREADS_FROM + 1])
def test_gits_object_id(size):
    data = noise(1, size)
    hasher = FileHasher(size, with_oid=True)
    buffer = SharedBuffer(BufferPool(1, size), 1 + hasher.users)
    buffer.data[:] = np.frombuffer(data, np.uint8)
    hasher.update([buffer.data.data], buffer)
    git = git_blob_hasher(size)
    git.update(data)
    assert hasher.digests().oid == git.hexdigest()


def test_a_buffer_goes_back_when_the_last_has_released_it():
    pool = BufferPool(1, 8)
    buffer = SharedBuffer(pool, 3)
    buffer.release()
    buffer.release()
    assert pool._free.empty()
    buffer.release()
    assert pool._free.qsize() == 1


def test_a_buffer_is_not_filled_again_while_it_is_hashed():
    """The threads that hash are behind: whoever takes the next buffer waits."""
    pool = BufferPool(1, SIZE)
    hasher = FileHasher(hashing._THREADS_FROM, with_oid=False)
    go = threading.Event()
    for thread in hasher._threads:
        thread.submit(go.wait)
    buffer = SharedBuffer(pool, 1 + hasher.users)
    hasher.update([buffer.data.data], buffer)
    buffer.release()
    assert pool._free.empty()
    go.set()
    wait_until(lambda: pool._free.qsize() == 1)
    hasher.close()


def test_what_goes_wrong_in_a_thread_is_told_and_the_buffer_is_given_back():
    pool = BufferPool(1, SIZE)
    hasher = FileHasher(hashing._THREADS_FROM, with_oid=False)
    buffer = SharedBuffer(pool, 1 + hasher.users)
    hasher.update(["no bytes"], buffer)
    buffer.release()
    with pytest.raises(TypeError):
        hasher.digests()
    assert pool._free.qsize() == 1
