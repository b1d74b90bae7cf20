"""Elliptic-curve secret keys in PEM files, as ``openssl`` makes them, with or without a password."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, NamedTuple

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from archiver.archive.signing.key_file import read_small
from archiver.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

_DIGESTS: Final[dict[str, hashes.HashAlgorithm]] = {
    "secp256r1": hashes.SHA256(),
    "secp384r1": hashes.SHA384(),
    "secp521r1": hashes.SHA512(),
}
"""The curves that are taken, and the digest that a signature with each is of."""

_MAKE_ONE: Final = "'openssl ecparam -name prime256v1 -genkey -noout -out FILE' makes one."


class EcKey:
    """A secret key that is open to be used."""

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        self._key = key

    @property
    def public(self) -> bytes:
        """The PEM text of the key that proves its signatures."""
        public = self._key.public_key()
        return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def sign(self, data: bytes) -> bytes:
        """The ECDSA signature of ``data``, in DER; another one each time."""
        return self._key.sign(data, ec.ECDSA(_DIGESTS[self._key.curve.name]))


class LockedEcKey(NamedTuple):
    """A secret key's file as it was read."""

    file: Path
    pem: bytes

    @property
    def needs_password(self) -> bool:
        """Whether a password protects it."""
        return b"ENCRYPTED" in self.pem

    def unlock(self, password: str = "") -> EcKey:
        """The key itself; UsageError if the password is another one, or it is no such key."""
        try:
            key = load_pem_private_key(self.pem, os.fsencode(password) or None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            fault = "holds no secret key that can be read"
            fault += ", or its password is another one." if self.needs_password else "."
            hint = "" if self.needs_password else _MAKE_ONE
            raise UsageError(f"{self.file} {fault}", hint=hint) from None
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name not in _DIGESTS:
            raise UsageError(
                f"{self.file} holds a key of another kind than EC on P-256, P-384 or P-521.",
                hint=_MAKE_ONE,
            )
        return EcKey(key)


def read_ec_key(path: Path) -> LockedEcKey:
    """What is said to be an EC key; UsageError if there is no such file."""
    return LockedEcKey(path, read_small(path, "secret key"))
