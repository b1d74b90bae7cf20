"""The arithmetic of docs/format.md section 10, written from the page alone, and small helpers."""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING

from blake3 import blake3

from archiver.archive import layout
from archiver.archive.packs import format as pack_format
from archiver.archive.parity.protect import protect
from archiver.digest import blake3_hex

if TYPE_CHECKING:
    from pathlib import Path

    from archiver.archive.archive import Archive

POLYNOMIAL = 0x11D


@cache
def multiply(a: int, b: int) -> int:
    """The product of two polynomials over two elements, modulo x^8 + x^4 + x^3 + x^2 + 1."""
    product = 0
    while b:
        if b & 1:
            product ^= a
        a <<= 1
        if a & 0x100:
            a ^= POLYNOMIAL
        b >>= 1
    return product


def power(a: int, n: int) -> int:
    result = 1
    for _ in range(n):
        result = multiply(result, a)
    return result


@cache
def inverse(a: int) -> int:
    return power(a, 254)


@cache
def point(i: int) -> int:
    """x_i of the page."""
    return 0 if i == 0 else power(2, i - 1)


def value_at(j: int, known: dict[int, bytes]) -> bytes:
    """Block ``j``, from as many blocks by number as the group has data blocks (Lagrange)."""
    length = len(next(iter(known.values())))
    result = [0] * length
    x = point(j)
    for i, block in known.items():
        factor = 1
        for other in known:
            if other != i:
                below = inverse(point(i) ^ point(other))
                factor = multiply(factor, multiply(x ^ point(other), below))
        for at in range(length):
            result[at] ^= multiply(factor, block[at])
    return bytes(result)


class Quiet:
    """Hears how a run goes, and shows nothing."""

    def __init__(self) -> None:
        self.expected = self.advanced = self.fetched = 0
        self.ended: list[str] = []

    def expect(self, files, size):
        self.expected = size

    def begin(self, path, size):
        pass

    def advance(self, count, *, fetched):
        self.advanced += count
        self.fetched += count if fetched else 0

    def phase(self, verb):
        pass

    def rewind(self, count):
        pass

    def stored(self, plain, stored):
        pass

    def end(self, path):
        self.ended.append(path)


def put_pack(archive: Archive, data: bytes) -> str:
    """Store bytes under the name that a pack of them has."""
    name = layout.pack_name(blake3_hex(data))
    archive.store.put_new(name, data)
    return name


def guard(archive: Archive, *names: str, parity: int = 2, group: int = 32, **how):
    """Protect files; what was done."""
    how.setdefault("progress", Quiet())
    return protect(archive, names, parity=parity, group=group, workers=2, **how)


def path_of(archive: Archive, name: str) -> Path:
    return archive.store.folder.path / name


def sidecar_path(archive: Archive, name: str) -> Path:
    return archive.store.folder.path / layout.parity_name(layout.digest_of(name))


def header_of(side: bytes) -> dict:
    return json.loads(side[40 : 8 + int.from_bytes(side[4:8], "little")])


def rebuilt(header: dict, blocks: bytes) -> bytes:
    """A sidecar whose frames and digests are right, whatever its header says."""
    text = json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
    head = pack_format.skippable(pack_format.PARITY_HEADER, blake3(text).digest() + text)
    body = pack_format.skippable(pack_format.PARITY_BLOCKS, blocks)
    return head + body + head + pack_format.trailer(len(head) + len(body))


def blocks_of(side: bytes, header: dict) -> bytes:
    at = 16 + int.from_bytes(side[4:8], "little")
    return side[at : at + header["block"] * header["groups"] * header["parity"]]
