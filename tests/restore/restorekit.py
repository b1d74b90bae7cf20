"""Packs that rot, and restores that wait to be killed."""

from __future__ import annotations

CHILD = """
import sys, archiver.archive.destination as destination
honest = destination.Writer.write_at
def write_at(self, offset, data):
    honest(self, offset, data)
    if len(data) > 20000:
        print(self._temporary, flush=True)
        sys.stdin.read()
destination.Writer.write_at = write_at
from archiver.__main__ import main
main()
"""
"""A restore that waits once it has written much of a file, and says where."""


def rot(archive, content: bytes) -> None:
    """Flip a bit of a pack, in the frame where a piece of content lies as it is."""
    for pack in archive.rglob("*.pack"):
        data = bytearray(pack.read_bytes())
        at = data.find(content)
        if at >= 0:
            data[at + len(content) // 2] ^= 1
            pack.chmod(0o600)
            pack.write_bytes(data)
            return
    raise AssertionError("no pack has it")
