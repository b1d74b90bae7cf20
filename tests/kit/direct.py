"""What the system is asked to write past its cache."""

import errno
import mmap
import os

import numpy as np

from archiver.storage.direct import BLOCK_ALIGN


class Disk:
    """The system's calls, counted, and refused where a test says so."""

    def __init__(self, monkeypatch):
        self.direct, self.written, self.refusal = set(), 0, 0
        self.opens = True
        self.open, self.pwrite = os.open, os.pwrite
        monkeypatch.setattr(os, "open", self.opened)
        monkeypatch.setattr(os, "pwrite", self.wrote)

    def opened(self, path, flags, *rest, **options):
        if not flags & os.O_DIRECT:
            return self.open(path, flags, *rest, **options)
        if not self.opens:
            raise OSError(errno.EINVAL, "no such way")
        # Not every filesystem that tests run on has it: the flag is left out, the rules are kept.
        handle = self.open(path, flags & ~os.O_DIRECT, *rest, **options)
        self.direct.add(handle)
        return handle

    def wrote(self, handle, data, offset):
        if handle not in self.direct:
            return self.pwrite(handle, data, offset)
        address = np.frombuffer(data, np.uint8).ctypes.data
        assert address % BLOCK_ALIGN == 0
        assert len(data) % mmap.PAGESIZE == offset % mmap.PAGESIZE == 0
        if self.refusal:
            raise OSError(self.refusal, os.strerror(self.refusal))
        written = self.pwrite(handle, data[: len(data) // 2], offset)
        self.written += written
        return written
