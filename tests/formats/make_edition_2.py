"""Made `vectors/edition-2.json`, once, from edition 2 of docs/format.md alone. Kept for the record.

The vectors are never made anew. Run with a path to see that it still makes vectors of the same
meaning; Zstandard frames may differ with the version of the library.
"""

from __future__ import annotations

import base64
import hashlib
import json
import struct
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import blake3
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from kit import handmade
from kit.handmade import canonical, digest, skippable
from make_vectors import SPECIAL16, bf16, normal

if TYPE_CHECKING:
    from collections.abc import Sequence

SHORT = bytes.fromhex("803f80bf0000813fc07faa3e55be9f3fa5")
"""Eight words of BF16 and a byte; or four of F32 and a byte. With codec 3 two words are clipped."""
CODECS = (0, 1, 2, 3, 4, 5)
PARITY_FILE = b"archive!"
SEED = bytes(range(32))
KEY_ID = "0123456789abcdef"


def short() -> list[dict[str, object]]:
    """The same bytes by every codec."""
    vectors = []
    for codec in CODECS:
        streams = handmade.streams(SHORT, codec, 127)
        stored = handmade.object_frames(SHORT, codec, 127)
        header = json.loads(stored[8 : 8 + int.from_bytes(stored[4:8], "little")])
        vectors.append(
            {
                "codec": codec,
                "emax": header.get("emax"),
                "streams": [stream.hex() for stream in streams],
                "tail": header.get("tail", ""),
                "object": stored.hex(),
            }
        )
    return vectors


def packed_words() -> list[tuple[str, bytes, int]]:
    """Codec 5: name, plain bytes, emax."""
    import random

    rng = random.Random(20261130)
    half = [word >> 16 for word in normal(rng, 301)]
    top = max(word >> 7 & 255 for word in half)
    every = [sign << 15 | e << 7 | e & 127 for e in range(256) for sign in (0, 1)]
    return [
        ("weights, none clipped", bf16(half[:300]), top),
        ("one word more than a multiple of four", bf16(half), top),
        ("two words more", bf16(half[:298]), top),
        ("three words more", bf16(half[:299]), top),
        ("tail", bf16(half[:9]) + b"\x5a", top),
        ("special values, most clipped", bf16(SPECIAL16), 120),
        ("every exponent, emax 255", bf16(every), 255),
        ("every exponent, emax 124", bf16(every), 124),
        ("every exponent, emax 0", bf16(every), 0),
        ("single word", bf16([0xBF81]), 127),
        ("single word, clipped", bf16([0xBF81]), 126),
        ("less than a word", b"\x7f", 0),
        ("all zero", bytes(200), 0),
        ("noise", rng.randbytes(512), 200),
    ]


def malformed() -> list[dict[str, object]]:
    """Objects that a reader refuses whatever their digest is: section 4."""
    words = [0x3F80, 0xBF80, 0x0000, 0x3F81]
    plain = bf16(words)
    a, b, exponents = handmade.streams(plain, 3, 127)
    low = bytes([a[0] + 4 * 9]) + a[1:]

    def stored(codec: int, parts: Sequence[bytes], **changes: object) -> str:
        frames = [handmade.frame(part) for part in parts]
        lengths = [len(frame) for frame in frames]
        header = {"blake3": digest(plain), "codec": codec, "frames": lengths, "size": len(plain)}
        return (skippable(1, canonical({**header, **changes})) + b"".join(frames)).hex()

    packed = handmade.packed(b)
    cases = [
        ("fewer exponents than clipped words", stored(3, [a, b, b""], emax=127)),
        ("more exponents than clipped words", stored(3, [a, b, exponents + b"\x00"], emax=127)),
        ("c greater than emax", stored(3, [low, b, exponents], emax=3)),
        ("c greater than emax, packed", stored(5, [low, packed, exponents], emax=3)),
        ("fewer exponents, packed", stored(5, [a, packed, b""], emax=127)),
        ("more exponents, packed", stored(5, [a, packed, exponents + b"\x00"], emax=127)),
        ("B not packed", stored(5, [a, b, exponents], emax=127)),
        ("B packed short", stored(5, [a, packed[:-1], exponents], emax=127)),
        ("no emax", stored(5, [a, packed, exponents])),
        ("emax 256", stored(5, [a, packed, exponents], emax=256)),
        ("a tail too many", stored(5, [a, packed, exponents], emax=127, tail="00")),
        ("an unknown codec", stored(6, [a, packed, exponents], emax=127)),
        (
            "a base",
            stored(3, [a, b, exponents], emax=127, bases=[digest(b"base")]),
        ),
    ]
    return [
        {"name": name, "size": len(plain), "blake3": digest(plain), "object": text}
        for name, text in cases
    ]


def snapshot() -> dict[str, object]:
    """A whole archive but for archive.json: one pack, its manifest in it too, and its seal."""
    config = b'{"model_type":"tiny"}\n'
    files = [
        handmade.described("config.json", [config]),
        handmade.described("model.bin", [SHORT]),
    ]
    document = handmade.manifest(files)
    stored = [(config, 0), (SHORT, 5), (document, 0)]
    pack = handmade.pack(
        [(data, codec, handmade.object_frames(data, codec, 127)) for data, codec in stored],
        full=True,
    )
    totals = {
        "bytes": len(config) + len(SHORT),
        "files": 2,
        "objects": 2,
        "stored": sum(len(handmade.object_frames(d, c, 127)) for d, c in stored[:2]),
        "tensors": 0,
    }
    sealed = handmade.seal(
        document, [pack], manifest=handmade.with_copy(document), committed="", totals=totals
    )
    return {
        "pack": base64.b64encode(pack).decode(),
        "pack_blake3": digest(pack),
        "manifest": document.decode(),
        "seal": sealed.decode(),
        "files": {"config.json": config.hex(), "model.bin": SHORT.hex()},
    }


def multiply(a: int, b: int) -> int:
    product = 0
    while b:
        product ^= a if b & 1 else 0
        a, b = a << 1 ^ (0x11D if a & 0x80 else 0), b >> 1
    return product


def inverse(a: int) -> int:
    return next(b for b in range(256) if multiply(a, b) == 1)


def value_at(x: int, points: dict[int, int]) -> int:
    """The value at `x` of the polynomial of least degree through these points."""
    total = 0
    for at, value in points.items():
        term = value
        for other in points:
            if other != at:
                term = multiply(term, multiply(x ^ other, inverse(at ^ other)))
        total ^= term
    return total


def parity() -> dict[str, object]:
    """A file of eight bytes in blocks of two, in one group of four, with two parity blocks."""
    data, block, groups, count = PARITY_FILE, 2, 1, 2
    blocks = [data[i : i + block] for i in range(0, len(data), block)]
    points = [0, 1]
    while len(points) < len(blocks) + count:
        points.append(multiply(points[-1], 2))
    coded = [
        bytes(
            value_at(points[len(blocks) + j], {points[i]: b[at] for i, b in enumerate(blocks)})
            for at in range(block)
        )
        for j in range(count)
    ]
    name = f"journal/2026/01/20260102t030405z.{digest(data)}.json"
    header = canonical(
        {
            "archive": handmade.ARCHIVE,
            "blake3": digest(data),
            "block": block,
            "blocks": [digest(b) for b in coded],
            "data": [digest(b) for b in blocks],
            "features": handmade.FEATURES,
            "file": name,
            "format": 1,
            "groups": groups,
            "kind": "parity",
            "parity": count,
            "size": len(data),
        }
    )
    payload = blake3.blake3(header).digest() + header
    sidecar = skippable(4, payload) + skippable(5, b"".join(coded))
    second = len(sidecar)
    sidecar += skippable(4, payload) + skippable(3, struct.pack("<Q", second))
    return {
        "file": data.hex(),
        "block": block,
        "groups": groups,
        "parity": count,
        "blocks": [b.hex() for b in coded],
        "sidecar": sidecar.hex(),
    }


def signature() -> dict[str, object]:
    """A signature as minisign makes it, by a key whose secret is the bytes 0 to 31."""
    signed, comment = b"archive", b"timestamp:0"
    key = Ed25519PrivateKey.from_private_bytes(SEED)
    public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    identity = bytes.fromhex(KEY_ID)[::-1]
    first = key.sign(hashlib.blake2b(signed).digest())
    second = key.sign(first + comment)
    lines = [
        b"untrusted comment: a test",
        base64.b64encode(b"ED" + identity + first),
        b"trusted comment: " + comment,
        base64.b64encode(second),
    ]
    return {
        "signed": signed.hex(),
        "key": base64.b64encode(b"Ed" + identity + public).decode(),
        "file": b"".join(line + b"\n" for line in lines).decode(),
    }


def names() -> list[dict[str, object]]:
    """What `--rename` makes of paths that a disk cannot hold: section 6.3."""
    return [
        {"path": "a:b/c?.bin", "name": "a%3Ab/c%3F.bin"},
        {"path": "dir./x ", "name": "dir%2E/x%20"},
        {"path": "100%.txt", "name": "100%25.txt"},
        {"path": "line\nfeed\x85\x7f", "name": "line%0Afeed%C2%85%7F"},
        {"path": "back\\slash", "name": "back%5Cslash"},
        {"path": "plain/über.txt", "name": "plain/über.txt"},
        {"path": "...", "name": "%2E%2E%2E"},
    ]


def build() -> dict[str, object]:
    return {
        "short": {"plain": SHORT.hex(), "blake3": digest(SHORT), "codecs": short()},
        "objects": [
            {
                "name": f"joint16p {name}",
                "codec": 5,
                "size": len(plain),
                "blake3": digest(plain),
                "plain": plain.hex(),
                "object": handmade.object_frames(plain, 5, emax).hex(),
            }
            for name, plain, emax in packed_words()
        ],
        "malformed": malformed(),
        "snapshot": snapshot(),
        "parity": parity(),
        "signature": signature(),
        "names": names(),
    }


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(json.dumps(build(), indent=1, ensure_ascii=True) + "\n")
