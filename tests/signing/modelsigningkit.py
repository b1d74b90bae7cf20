"""What ``model_signing verify key`` does, and examples that the tool itself has verified.

``model_signing_example/`` holds two signatures of ``write_example``'s folder by one key. The tool
model-signing 1.1.1 made ``model_signing.sig``, ``archiver manifest export`` made ``archiver.sig``; the tool
verified both for the restored folder, and refused it with a file changed, missing or added.
"""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_public_key

EXAMPLE = Path(__file__).with_name("model_signing_example")
HASHES = {256: hashes.SHA256(), 384: hashes.SHA384(), 521: hashes.SHA512()}
IGNORED = {".git", ".gitattributes", ".github", ".gitignore"}


def write_example(folder: Path) -> Path:
    content = {
        "config.json": '{"name": "example"}',
        "sub/a": "one",
        "sub-b": "two",
        "sub/ü ï.txt": "three",
        "nothing": "",
        ".gitattributes": "* text=auto",
        ".github/note": "x",
    }
    for name, text in content.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def statement_of(data: bytes) -> dict:
    return json.loads(payload_of(data))


def payload_of(data: bytes) -> bytes:
    return base64.b64decode(json.loads(data)["dsseEnvelope"]["payload"], validate=True)


def accepts(data: bytes, folder: Path, public: bytes) -> bool:
    """Whether the tool would say that the signature is this key's and of this folder."""
    return _signed(json.loads(data), public) and _listed(statement_of(data)) == _there(folder)


def _signed(bundle: dict, public: bytes) -> bool:
    assert bundle["mediaType"] == "application/vnd.dev.sigstore.bundle.v0.3+json"
    if bundle["verificationMaterial"]["publicKey"]["hint"] != hashlib.sha256(public).hexdigest():
        return False
    envelope = bundle["dsseEnvelope"]
    payload = base64.b64decode(envelope["payload"])
    signed = b"DSSEv1 28 application/vnd.in-toto+json %d %s" % (len(payload), payload)
    value = base64.b64decode(envelope["signatures"][0]["sig"])
    key = load_pem_public_key(public)
    assert isinstance(key, ec.EllipticCurvePublicKey)
    try:
        key.verify(value, signed, ec.ECDSA(HASHES[key.curve.key_size]))
    except InvalidSignature:
        return False
    return True


def _listed(statement: dict) -> dict[str, str]:
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["predicateType"] == "https://model_signing/signature/v1.0"
    resources = statement["predicate"]["resources"]
    joined = b"".join(bytes.fromhex(resource["digest"]) for resource in resources)
    (subject,) = statement["subject"]
    assert subject["digest"] == {"sha256": hashlib.sha256(joined).hexdigest()}
    return {resource["name"]: resource["digest"] for resource in resources}


def _there(folder: Path) -> dict[str, str]:
    names = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    return {
        name.as_posix(): hashlib.sha256((folder / name).read_bytes()).hexdigest()
        for name in names
        if name.parts[0] not in IGNORED
    }
