"""Signatures of a folder's files as the tool ``model_signing`` (OpenSSF Model Signing, 1.1) makes them.

The file is a Sigstore bundle: a DSSE envelope around an in-toto statement that lists each file with its
SHA-256. Its subject is the SHA-256 of these digests, one after the other. Of the public key it holds the
SHA-256 of its PEM text only. Keys are those of elliptic curves, in PEM files as ``openssl`` makes them.
"""

from __future__ import annotations

import base64
import hashlib
import os
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from archiver.archive.records import canonical
from archiver.archive.signing.keys import read_small
from archiver.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from archiver.archive.records import FileEntry

_IGNORED: Final = (".git", ".gitattributes", ".github", ".gitignore")
"""What the tool leaves out of what it signs and, unless told otherwise, of what it verifies."""
_PAYLOAD: Final = "application/vnd.in-toto+json"
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
        """Return the ECDSA signature of ``data``, in DER; another one each time."""
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
        """Return the key itself; raise UsageError if the password is another one, or it is no such key."""
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
    """Return what is said to be an EC key; raise UsageError if there is no such file."""
    return LockedEcKey(path, read_small(path, "secret key"))


def is_covered(path: str) -> bool:
    """Return whether the tool looks at the file of that name."""
    return path.split("/", 1)[0] not in _IGNORED


def statement(title: str, files: Sequence[FileEntry]) -> bytes:
    """Return what is signed: the digests of those ``files`` that are covered; ``title`` names them all."""
    # The order of the tool, which compares folder by folder.
    covered = sorted(
        (file for file in files if is_covered(file.path)), key=lambda file: file.path.split("/")
    )
    digests = b"".join(bytes.fromhex(file.sha256) for file in covered)
    return canonical(
        {
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{"name": title, "digest": {"sha256": hashlib.sha256(digests).hexdigest()}}],
            "predicateType": "https://model_signing/signature/v1.0",
            "predicate": {
                "serialization": {
                    "method": "files",
                    "hash_type": "sha256",
                    "allow_symlinks": False,
                    "ignore_paths": _IGNORED,
                },
                "resources": [
                    {"name": file.path, "algorithm": "sha256", "digest": file.sha256}
                    for file in covered
                ],
            },
        }
    )


def bundle(payload: bytes, key: EcKey) -> bytes:
    """Return the file: a statement and its signature by ``key``."""
    signature = key.sign(f"DSSEv1 {len(_PAYLOAD)} {_PAYLOAD} {len(payload)} ".encode() + payload)
    envelope: dict[str, Any] = {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": _PAYLOAD,
        "signatures": [{"sig": base64.b64encode(signature).decode(), "keyid": ""}],
    }
    hint = hashlib.sha256(key.public).hexdigest()
    return canonical(
        {
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": {"publicKey": {"hint": hint}, "tlogEntries": []},
            "dsseEnvelope": envelope,
        }
    )
