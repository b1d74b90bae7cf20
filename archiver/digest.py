"""Digests as types: a value of one of these types has been checked to be what its name says."""

from __future__ import annotations

import hashlib
import re
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Final, NewType

import msgspec
from blake3 import blake3

from archiver.errors import ArchiverError

if TYPE_CHECKING:
    from collections.abc import Iterable

Blake3Hex = NewType("Blake3Hex", str)
"""64 lowercase hex digits: the BLAKE3 of some plain bytes."""
Sha256Hex = NewType("Sha256Hex", str)
"""64 lowercase hex digits: the SHA-256 of a whole file."""
GitOid = NewType("GitOid", str)
"""40 lowercase hex digits: the SHA-1 that git gives a blob, or a commit."""
HexDigest = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]
"""A digest in a stored document, which may be damaged: its form is checked as it is read."""

_HEX_DIGITS: Final = 64
_AT_ONCE: Final = 4096
_HEX64 = re.compile(r"[0-9a-f]{64}\Z")
_HEX40 = re.compile(r"[0-9a-f]{40}\Z")
_HEX40_OR_64 = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?\Z")


def as_blake3(text: str) -> Blake3Hex:
    """Return ``text`` as a BLAKE3 digest; raise ArchiverError if it is not 64 lowercase hex digits."""
    if not _HEX64.match(text):
        raise ArchiverError(f"{text[:80]!r} is not a BLAKE3 digest of 64 lowercase hex digits.")
    return Blake3Hex(text)


def as_sha256(text: str) -> Sha256Hex:
    """Return ``text`` as a SHA-256 digest; raise ArchiverError if it is not 64 lowercase hex digits."""
    if not _HEX64.match(text):
        raise ArchiverError(f"{text[:80]!r} is not a SHA-256 digest of 64 lowercase hex digits.")
    return Sha256Hex(text)


def is_blake3(text: str) -> bool:
    """Return whether ``text`` has the form of a BLAKE3 digest (64 lowercase hex digits)."""
    return bool(_HEX64.match(text))


def are_blake3(texts: Iterable[str]) -> bool:
    """Return whether all of them have the form of a BLAKE3 digest: of a million in a tenth of a second."""
    remaining = iter(texts)
    while batch := list(islice(remaining, _AT_ONCE)):
        joined = "".join(batch)
        try:
            is_hex = bytes.fromhex(joined).hex() == joined
        except ValueError:
            return False
        if not is_hex or set(map(len, batch)) != {_HEX_DIGITS}:
            return False
    return True


def is_git_oid(text: str) -> bool:
    """Return whether ``text`` has the form of a git object id of today (40 lowercase hex digits)."""
    return bool(_HEX40.match(text))


def is_object_id(text: str) -> bool:
    """Return whether ``text`` may be an object id or a commit, also git's SHA-256: 40 or 64 hex digits."""
    return bool(_HEX40_OR_64.match(text))


def is_sha256(text: str) -> bool:
    """Return whether ``text`` has the form of a SHA-256 digest (64 lowercase hex digits)."""
    return bool(_HEX64.match(text))


def blake3_hex(data: bytes | bytearray | memoryview) -> Blake3Hex:
    """Return the BLAKE3 of ``data``."""
    return Blake3Hex(blake3(data).hexdigest())


def git_blob_hasher(size: int) -> hashlib._Hash:
    r"""Return a SHA-1 that, fed ``size`` bytes of content, gives the blob's git object id.

    Source: git's object format, ``blob <size>\0<content>``.
    """
    return hashlib.sha1(b"blob %d\x00" % size, usedforsecurity=False)
