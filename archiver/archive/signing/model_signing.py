"""Signatures of a folder's files as the tool ``model_signing`` (OpenSSF Model Signing, 1.1) makes them.

The file is a Sigstore bundle: a DSSE envelope around an in-toto statement that lists each file with its
SHA-256. Its subject is the SHA-256 of these digests, one after the other. Of the public key it holds the
SHA-256 of its PEM text only.
"""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING, Any, Final

from archiver.archive.records import canonical

if TYPE_CHECKING:
    from collections.abc import Sequence

    from archiver.archive.records import FileEntry
    from archiver.archive.signing.ec_key import EcKey

_IGNORED: Final = (".git", ".gitattributes", ".github", ".gitignore")
"""What the tool leaves out of what it signs and, unless told otherwise, of what it verifies."""

_PAYLOAD: Final = "application/vnd.in-toto+json"


def is_covered(path: str) -> bool:
    """Whether the tool looks at the file of that name."""
    return path.split("/", 1)[0] not in _IGNORED


def statement(title: str, files: Sequence[FileEntry]) -> bytes:
    """What is signed: the digests of those ``files`` that are covered; ``title`` names them all."""
    covered = sorted((one for one in files if is_covered(one.path)), key=_parts)
    digests = b"".join(bytes.fromhex(one.sha256) for one in covered)
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
                    {"name": one.path, "algorithm": "sha256", "digest": one.sha256}
                    for one in covered
                ],
            },
        }
    )


def bundle(payload: bytes, key: EcKey) -> bytes:
    """The file: a statement and its signature by ``key``."""
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


def _parts(entry: FileEntry) -> list[str]:
    """The order of the tool, which compares folder by folder."""
    return entry.path.split("/")
