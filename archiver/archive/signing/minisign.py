"""Public keys and signatures as the program ``minisign`` writes them (``docs/format.md``, 11).

What is read may come from anyone: lines are few, lengths are exact, base64 is canonical.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Final, NamedTuple

from archiver.errors import DamageError, UsageError
from archiver.text import printable

FILE_MAX: Final = 16 << 10
"""The most bytes that a key's or a signature's file has: minisign's comments are at most 8 KiB."""
UNTRUSTED: Final = b"untrusted comment: "
TRUSTED: Final = b"trusted comment: "
ALGORITHM: Final = b"Ed"
PREHASHED: Final = b"ED"
ID_SIZE: Final = 8
_KEY_SIZE: Final = 32
_SIGNATURE_SIZE: Final = 64
_SIGNATURE_LINES: Final = 4


class PublicKey(NamedTuple):
    """A public key; ``id`` has 16 lowercase hexadecimal digits, ``raw`` 32 bytes."""

    id: str
    raw: bytes

    @property
    def text(self) -> str:
        """As minisign's option ``-P`` takes it, and as a policy lists it."""
        return base64.b64encode(ALGORITHM + id_bytes(self.id) + self.raw).decode()

    def file(self) -> bytes:
        """Return the content of a ``.pub`` file."""
        comment = f"minisign public key {self.id.upper()}\n".encode()
        return UNTRUSTED + comment + self.text.encode() + b"\n"

    def made(self, signature: bytes, signed: bytes) -> bool:
        """Return whether this key made the signature (64 bytes) of these bytes."""
        # Hardly any run has signatures to look at.
        from cryptography.exceptions import InvalidSignature  # noqa: PLC0415
        from cryptography.hazmat.primitives.asymmetric.ed25519 import (  # noqa: PLC0415
            Ed25519PublicKey,
        )

        try:
            Ed25519PublicKey.from_public_bytes(self.raw).verify(signature, signed)
        except (InvalidSignature, ValueError):
            return False
        return True


class Signature(NamedTuple):
    """A signature file; nothing of it is proven before ``verify``."""

    key: str
    """The id of the key that is said to have made it."""
    prehashed: bool
    value: bytes
    comment: bytes
    seal: bytes
    """The signature of ``value`` and ``comment``."""

    @property
    def remark(self) -> str:
        """The trusted comment, harmless to show."""
        return printable(self.comment.decode(errors="replace"), 1000)

    def verify(self, key: PublicKey, signed: bytes) -> None:
        """Raise DamageError that says why this is not the signature by ``key`` of these bytes."""
        if self.key != key.id:
            raise DamageError(f"it was made by the key {self.key}, not by {key.id}")
        if not key.made(self.value, digest(signed) if self.prehashed else signed):
            raise DamageError("it is not the signature of these bytes")
        if not key.made(self.seal, self.value + self.comment):
            raise DamageError("its trusted comment was changed")


def digest(signed: bytes) -> bytes:
    """Return what is signed in the place of long bytes: their BLAKE2b digest of 64 bytes."""
    return hashlib.blake2b(signed).digest()


def id_bytes(key: str) -> bytes:
    """Return the 8 bytes of a key's id in a file."""
    return bytes.fromhex(key)[::-1]


def id_text(raw: bytes) -> str:
    """Return a key's id as minisign prints it, in lowercase."""
    return raw[::-1].hex()


def parse_signature(data: bytes) -> Signature:
    """Read a signature file; raise DamageError that says why it is none."""
    rows = lines(data)
    if len(rows) != _SIGNATURE_LINES:
        raise DamageError(f"a signature has {_SIGNATURE_LINES} lines, not {len(rows)}")
    if not rows[0].startswith(UNTRUSTED) or not rows[2].startswith(TRUSTED):
        raise DamageError("its comments are not those of a signature")
    value, seal = (unbase64(row) for row in (rows[1], rows[3]))
    sizes = len(ALGORITHM) + ID_SIZE + _SIGNATURE_SIZE, _SIGNATURE_SIZE
    if (len(value), len(seal)) != sizes or value[:2] not in {ALGORITHM, PREHASHED}:
        raise DamageError("it is not a signature of minisign")
    comment = rows[2].removeprefix(TRUSTED)
    return Signature(id_text(value[2:10]), value[:2] == PREHASHED, value[10:], comment, seal)


def parse_public_key(text: str) -> PublicKey:
    """Return the public key in base64, or in a ``.pub`` file's text; raise UsageError if there is none."""
    try:
        rows = lines(text.strip().encode())
        raw = unbase64(rows[-1])
    except (DamageError, UnicodeEncodeError):
        raw = b""
    if raw[:2] != ALGORITHM or len(raw) != len(ALGORITHM) + ID_SIZE + _KEY_SIZE:
        raise UsageError(
            f"'{printable(text.strip(), 80)}' is not a public key.",
            hint="A public key is what 'archiver keys show FILE' prints: 56 letters and digits, RW….",
        )
    return PublicKey(id_text(raw[2:10]), raw[10:])


def lines(data: bytes) -> list[bytes]:
    """Return the lines of a small text file; raise DamageError if it is too large."""
    if len(data) > FILE_MAX:
        raise DamageError("it is too large")
    return [row.removesuffix(b"\r") for row in data.removesuffix(b"\n").split(b"\n")]


def unbase64(row: bytes) -> bytes:
    """Return what a line holds; raise DamageError unless it is the one way to write that."""
    try:
        raw = binascii.a2b_base64(row, strict_mode=True)
    except binascii.Error:
        raw = b""
    if not raw or base64.b64encode(raw) != row:
        raise DamageError("a line is not base64")
    return raw
