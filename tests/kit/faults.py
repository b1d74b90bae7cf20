"""What happens to stored files, which are read-only: bits flip, blocks vanish, files change places."""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def overwrite(path: Path, data: bytes) -> None:
    """Other bytes in a stored file, or a file that nobody stored."""
    path.parent.mkdir(parents=True, exist_ok=True)
    mode = 0o444
    if path.exists():
        mode = path.stat().st_mode & 0o777
        path.chmod(0o644)
    path.write_bytes(data)
    path.chmod(mode)


def flip(path: Path, *at: int, bit: int = 1) -> None:
    """Flip a bit at each place; in the middle if none is given."""
    data = bytearray(path.read_bytes())
    for place in at or (len(data) // 2,):
        data[place] ^= bit
    overwrite(path, bytes(data))


def flip_inside(path: Path, text: bytes, *, last: bool = False) -> None:
    """Flip a bit of the last byte of ``text`` where it stands in the file."""
    data = path.read_bytes()
    at = data.rindex(text) if last else data.index(text)
    flip(path, at + len(text) - 1)


def signposts(path: Path) -> list[tuple[int, int]]:
    """Where each frame of a pack lies that holds no data: object headers, head, index, trailer."""
    data = path.read_bytes()
    (index,) = struct.unpack("<Q", data[-8:])
    (length,) = struct.unpack_from("<I", data, index + 4)
    begins = [entry[1] for entry in json.loads(data[index + 8 : index + 8 + length])["objects"]]
    headers = [(at, at + 8 + struct.unpack_from("<I", data, at + 4)[0]) for at in begins]
    return [*headers, (0, begins[0]), (index, len(data) - 16), (len(data) - 16, len(data))]


def checksums(path: Path) -> list[tuple[int, int]]:
    """Where the checksum of each frame of data lies in a pack."""
    data = path.read_bytes()
    (index,) = struct.unpack("<Q", data[-8:])
    (length,) = struct.unpack_from("<I", data, index + 4)
    ends = []
    for _, offset, stored, _, _, frames, *_ in json.loads(data[index + 8 :][:length])["objects"]:
        at = offset + stored - sum(frames)
        for frame in frames:
            at += frame
            ends.append((at - 4, at))
    return ends


def wipe(path: Path, begin: int, end: int) -> None:
    """Zeros from ``begin`` to ``end``."""
    data = bytearray(path.read_bytes())
    data[begin:end] = bytes(len(data[begin:end]))
    overwrite(path, bytes(data))


def cut(path: Path) -> None:
    """The end is gone."""
    overwrite(path, path.read_bytes()[:-100])


def truncate(path: Path) -> None:
    """Half of it is gone."""
    overwrite(path, path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    overwrite(path, b"")


def swap(one: Path, two: Path) -> None:
    """Each has the other's bytes."""
    first, second = one.read_bytes(), two.read_bytes()
    overwrite(one, second)
    overwrite(two, first)
