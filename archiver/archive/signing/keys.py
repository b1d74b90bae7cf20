"""Secret keys as the program ``minisign`` writes them, with or without a password, and files of keys.

Layout of a secret key's 158 bytes: algorithms (2 each: signature, key derivation, checksum), salt (32),
limits of operations and of memory (8 each), and, masked by what scrypt makes of the password: the key's
id (8), seed (32), public key (32) and a checksum (32) of algorithm, id, seed and public key.
"""

from __future__ import annotations

import base64
import hashlib
import os
import struct
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from archiver.archive.signing.minisign import (
    ALGORITHM,
    FILE_MAX,
    ID_SIZE,
    PREHASHED,
    TRUSTED,
    UNTRUSTED,
    PublicKey,
    Signature,
    digest,
    id_bytes,
    id_text,
    lines,
    parse_public_key,
    parse_signature,
    unbase64,
)
from archiver.errors import ArchiverError, DamageError, UsageError, explain_system_error
from archiver.storage.files import require_absent, write_new
from archiver.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_LAYOUT: Final = struct.Struct("<2s2s2s32sQQ104s")
_SCRYPT: Final = b"Sc"
_NO_PASSWORD: Final = b"\x00\x00"
_CHECKSUM: Final = b"B2"
_OPERATIONS: Final = 1 << 22
_MEMORY: Final = 1 << 27
"""The cost of a password that this writer asks for: 128 MiB, which also a small machine has."""
_OPERATIONS_MAX: Final = 1 << 28
_MEMORY_MAX: Final = 1 << 30
"""The most that a key's file may ask for; minisign itself asks for 1 GiB."""
_SCRYPT_EXTRA: Final = 1 << 20
"""What scrypt takes on top of what its cost says."""
_BLOCK: Final = 8
_COMMENT: Final = b"minisign encrypted secret key\n"


class ScryptCost(NamedTuple):
    """The parameters N, r and p of scrypt."""

    n: int
    r: int
    p: int

    @property
    def memory(self) -> int:
        """The bytes that it takes."""
        return 128 * self.r * (self.n + self.p + 2)


class SecretKey(NamedTuple):
    """A secret key that is open to be used; ``seed`` has 32 bytes."""

    id: str
    seed: bytes

    @classmethod
    def new(cls) -> SecretKey:
        """Return a key that nobody had before."""
        return cls(id_text(os.urandom(ID_SIZE)), os.urandom(32))

    @property
    def public(self) -> PublicKey:
        """The key that proves its signatures."""
        return PublicKey(self.id, self._private.public_key().public_bytes_raw())

    @property
    def _private(self) -> Ed25519PrivateKey:
        # Hardly any run signs.
        from cryptography.hazmat.primitives.asymmetric.ed25519 import (  # noqa: PLC0415
            Ed25519PrivateKey,
        )

        return Ed25519PrivateKey.from_private_bytes(self.seed)

    def signature(self, signed: bytes, comment: str) -> bytes:
        """Return the signature file of these bytes; ``comment``, one line, is covered by it too."""
        private, trusted = self._private, comment.encode()
        value = private.sign(digest(signed))
        rows = (
            UNTRUSTED + f"signature by the minisign key {self.id.upper()}".encode(),
            base64.b64encode(PREHASHED + id_bytes(self.id) + value),
            TRUSTED + trusted,
            base64.b64encode(private.sign(value + trusted)),
        )
        return b"".join(row + b"\n" for row in rows)

    def file(self, password: str = "") -> bytes:
        """Return the content of a secret key's file; without a password whoever has it can sign."""
        bare = id_bytes(self.id) + self.seed + self.public.raw
        if password:
            salt, limits = os.urandom(32), (_OPERATIONS, _MEMORY)
            secret = _masked(bare + _checksum(bare), password, salt, scrypt_cost(*limits))
        else:
            salt, limits, secret = bytes(32), (0, 0), bare + bytes(32)
        method = _SCRYPT if password else _NO_PASSWORD
        raw = _LAYOUT.pack(ALGORITHM, method, _CHECKSUM, salt, *limits, secret)
        return UNTRUSTED + _COMMENT + base64.b64encode(raw) + b"\n"


class LockedKey(NamedTuple):
    """A secret key's file as it was read."""

    cost: ScryptCost | None
    salt: bytes
    secret: bytes

    @property
    def needs_password(self) -> bool:
        """Whether a password protects it."""
        return self.cost is not None

    def unlock(self, password: str = "") -> SecretKey:
        """Return the key itself; raise UsageError if the password is wrong, or the file is damaged."""
        secret = _masked(self.secret, password, self.salt, self.cost) if self.cost else self.secret
        bare, checksum = secret[:72], secret[72:]
        # minisign leaves the checksum of a key without password out.
        valid = {_checksum(bare)} if self.cost else {_checksum(bare), bytes(32)}
        key = SecretKey(id_text(bare[:8]), bare[8:40])
        if checksum in valid and key.public.raw == bare[40:]:
            return key
        if self.cost:
            raise UsageError(
                "The password is not the one of this secret key, or its file is damaged."
            )
        raise UsageError("The file of the secret key is damaged.")


def parse_secret_key(data: bytes) -> LockedKey:
    """Read a secret key's file; raise UsageError if it is none."""
    try:
        rows = lines(data)
        known = len(rows) == 2 and rows[0].startswith(UNTRUSTED)  # noqa: PLR2004 - a comment and the key
        raw = unbase64(rows[1]) if known else b""
    except DamageError:
        raw = b""
    if len(raw) != _LAYOUT.size:
        raise UsageError("This is not a secret key of minisign.")
    algorithm, method, checksum, salt, operations, memory, secret = _LAYOUT.unpack(raw)
    if (algorithm, checksum) != (ALGORITHM, _CHECKSUM) or method not in {_SCRYPT, _NO_PASSWORD}:
        raise UsageError("This is a secret key of a kind that is not known.")
    cost = scrypt_cost(operations, memory) if method == _SCRYPT else None
    return LockedKey(cost, salt, secret)


def scrypt_cost(operations: int, memory: int) -> ScryptCost:
    """Return what libsodium picks for these limits; raise UsageError if they are out of reach.

    Source: ``pickparams`` of libsodium's ``crypto_pwhash_scryptsalsa208sha256``.
    """
    operations = max(operations, 1 << 15)
    if operations < memory // 32:
        cost = ScryptCost(_power(operations // (_BLOCK * 4)), _BLOCK, 1)
    else:
        n = _power(memory // (_BLOCK * 128))
        cost = ScryptCost(n, _BLOCK, max(operations // 4 // n // _BLOCK, 1))
    if operations > _OPERATIONS_MAX or cost.memory > _MEMORY_MAX + _SCRYPT_EXTRA:
        raise UsageError("The password of this secret key costs more than a machine may be asked.")
    return cost


def _power(most: int) -> int:
    """Return the greatest power of two up to ``most``, and 2 at least."""
    return 1 << max(most.bit_length() - 1, 1)


def _masked(secret: bytes, password: str, salt: bytes, cost: ScryptCost) -> bytes:
    try:
        typed = os.fsencode(password)
    except UnicodeEncodeError as error:
        raise UsageError(
            "The password has letters that this system's encoding does not know.",
            hint="Run the command with LC_ALL=C.UTF-8.",
        ) from error
    try:
        mask = hashlib.scrypt(
            typed, salt=salt, n=cost.n, r=cost.r, p=cost.p,
            maxmem=cost.memory + _SCRYPT_EXTRA, dklen=len(secret),
        )  # fmt: skip
    except (MemoryError, ValueError) as error:
        raise ArchiverError(
            f"The password takes {cost.memory >> 20} MiB of memory to check, which are not there.",
            hint="Use a machine with more memory, or a key that 'archiver keys new' made.",
        ) from error
    return bytes(a ^ b for a, b in zip(secret, mask, strict=True))


def _checksum(bare: bytes) -> bytes:
    return hashlib.blake2b(ALGORITHM + bare, digest_size=32).digest()


class KeyFiles(NamedTuple):
    """Where a new pair of keys lies."""

    secret: Path
    public: Path


def read_small(path: Path, what: str) -> bytes:
    """Return a small file that the user named; raise UsageError if there is none."""
    try:
        with path.open("rb") as file:
            return file.read(FILE_MAX + 1)
    except (FileNotFoundError, IsADirectoryError):
        raise UsageError(f"There is no {what} at {path}.") from None
    except OSError as error:
        raise explain_system_error(error, f"the {what} was read") from error


def read_secret_key(path: Path) -> LockedKey:
    """Return the secret key in a file; raise UsageError if it holds none."""
    data = read_small(path, "secret key")
    try:
        return parse_secret_key(data)
    except UsageError as error:
        raise UsageError(
            f"{path}: {error.message}", hint="'archiver keys new PATH' makes one."
        ) from None


def read_signature(path: Path) -> Signature:
    """Return the signature in a file; raise UsageError without a file, DamageError if it holds none."""
    try:
        return parse_signature(read_small(path, "signature"))
    except DamageError as error:
        raise DamageError(f"{path} is not a signature: {error.message}.") from None


def public_key(text: str) -> PublicKey:
    """Return the public key that ``text`` is, or a file of that name holds; raise UsageError otherwise."""
    path = Path(text)
    if not path.is_file():
        return parse_public_key(text)
    data = read_small(path, "public key").decode(errors="replace")
    try:
        return parse_public_key(data)
    except UsageError:
        raise UsageError(f"{path} holds no public key.") from None


def public_keys(texts: Iterable[str]) -> tuple[PublicKey, ...]:
    """Return several public keys, each once; raise UsageError if one is none."""
    return tuple(dict.fromkeys(map(public_key, texts)))


def identify(path: Path) -> PublicKey | LockedKey | Signature:
    """Return the public key, secret key or signature in a file; raise UsageError if it holds none."""
    data = read_small(path, "key")
    with suppress(UsageError):
        return parse_secret_key(data)
    with suppress(DamageError):
        return parse_signature(data)
    with suppress(UsageError):
        return parse_public_key(data.decode(errors="replace"))
    raise UsageError(
        f"{path} is no key and no signature.", hint="Name a .pub, a .key or a .minisig file."
    )


def new_pair(path: Path) -> KeyFiles:
    """Return where ``write_pair`` writes; raise UsageError if one of the two is there already."""
    files = KeyFiles(Path(f"{path}.key"), Path(f"{path}.pub"))
    for file in files:
        require_absent(file)
    return files


def write_pair(path: Path, key: SecretKey, password: str, comment: str) -> KeyFiles:
    """Write ``path``.key and ``path``.pub; raise UsageError if one of them is there already."""
    if comment and printable(comment, 1000) != comment:
        raise UsageError(
            "The comment must be one line of at most 1,000 characters that can be printed."
        )
    files = new_pair(path)
    write_new(files.public, _commented(key.public.file(), comment), 0o644)
    try:
        write_new(files.secret, _commented(key.file(password), comment), 0o600)
    except BaseException:
        files.public.unlink(missing_ok=True)
        raise
    return files


def _commented(data: bytes, comment: str) -> bytes:
    return UNTRUSTED + comment.encode() + b"\n" + data.split(b"\n", 1)[1] if comment else data
