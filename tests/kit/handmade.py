"""A writer of archives made by hand from docs/format.md alone, word by word and without haste.

It shares no code with the package, so that what it writes tells whether the page and the package
agree. `make_vectors.py` used it once; the tests of the reference decoder build archives with it.
"""

import hashlib
import json
import struct
from pathlib import Path

import blake3
import zstandard

ARCHIVE = "0b6e1f9c-5d0a-4a51-9c36-8a2d1f6a7e55"
FEATURES = {"read": [], "write": []}
TIME = "2026-01-02T03:04:05Z"
REVISION = "0123456789abcdef0123456789abcdef01234567"
WORD = {0: 1, 1: 2, 2: 4, 3: 2, 4: 4, 5: 2}


def canonical(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def digest(data: bytes) -> str:
    return blake3.blake3(data).hexdigest()


def frame(data: bytes) -> bytes:
    options = {"write_checksum": True, "write_content_size": True}
    return zstandard.ZstdCompressor(level=3, **options).compress(data)


def skippable(kind: int, payload: bytes) -> bytes:
    return struct.pack("<II", 0x184D2A50 + kind, len(payload)) + payload


def rotated(word: int) -> tuple[int, int]:
    """Codec 1, the other way round: sign to the lowest bit, then two bytes."""
    r = (word << 1 | word >> 15) & 0xFFFF
    return r >> 8, r & 0xFF


def joined(word: int, emax: int) -> tuple[int, int, int | None]:
    """Codec 3, the other way round: A, B, and the exponent of a clipped word."""
    sign, exponent, mantissa = word >> 15, word >> 7 & 255, word & 127
    c = emax - exponent
    clipped = not 0 <= c < 63
    a = (63 if clipped else c) << 2 | mantissa >> 5
    return a, sign << 5 | mantissa & 31, exponent if clipped else None


def packed(b: bytes) -> bytes:
    """Codec 5, the other way round: four values of six bits in three bytes."""
    m = -(-len(b) // 4)
    q0, q1, q2, q3 = (b.ljust(4 * m, b"\0")[i * m : (i + 1) * m] for i in range(4))
    shares = ((q0, 0), (q1, 2), (q2, 4))
    return b"".join(bytes(q[i] | (q3[i] >> n & 3) << 6 for i in range(m)) for q, n in shares)


def streams(plain: bytes, codec: int, emax: int) -> list[bytes]:
    if codec == 0:
        return [plain]
    width = WORD[codec]
    count = len(plain) // width
    words = [int.from_bytes(plain[i * width : (i + 1) * width], "little") for i in range(count)]
    low = [bytes(w >> 8 & 255 for w in words), bytes(w & 255 for w in words)] * (width == 4)
    upper = [word >> 16 if width == 4 else word for word in words]
    if codec in (1, 2):
        pairs = [rotated(word) for word in upper]
        return [bytes(p[0] for p in pairs), bytes(p[1] for p in pairs), *low]
    triples = [joined(word, emax) for word in upper]
    exponents = bytes(t[2] for t in triples if t[2] is not None)
    second = bytes(t[1] for t in triples)
    if codec == 5:
        second = packed(second)
    return [bytes(t[0] for t in triples), second, exponents, *low]


def object_frames(
    plain: bytes, codec: int, emax: int = 0, changes: dict[str, object] | None = None
) -> bytes:
    """An object as it lies in a pack: its header frame, then its data frames.

    `changes` to the header make objects that are not good.
    """
    frames = [frame(data) for data in streams(plain, codec, emax)]
    header: dict[str, object] = {
        "blake3": digest(plain),
        "codec": codec,
        "frames": [len(data) for data in frames],
        "size": len(plain),
    }
    if codec in (3, 4, 5):
        header["emax"] = emax
    if len(plain) % WORD[codec]:
        header["tail"] = plain[len(plain) - len(plain) % WORD[codec] :].hex()
    return skippable(1, canonical(header | (changes or {}))) + b"".join(frames)


def pack(
    objects: list[tuple[bytes, int, bytes]], archive: str = ARCHIVE, *, full: bool = False
) -> bytes:
    """A whole pack from (plain bytes, codec, stored bytes); `full`: entries of eight elements."""
    head = {"archive": archive, "features": FEATURES, "format": 1, "kind": "pack"}
    out = skippable(0, canonical(head))
    rows = []
    for plain, codec, stored in objects:
        row: list[object] = [digest(plain), len(out), len(stored), len(plain), codec]
        if full:
            header = json.loads(stored[8 : 8 + int.from_bytes(stored[4:8], "little")])
            row += [header["frames"], header.get("emax"), header.get("tail", "")]
        rows.append(row)
        out += stored
    index = len(out)
    out += skippable(2, canonical({"kind": "index", "objects": rows}))
    return out + skippable(3, struct.pack("<Q", index))


def described(path: str, segments: list[bytes]) -> dict[str, object]:
    """A file of a manifest."""
    whole = b"".join(segments)
    return {
        "blake3": digest(whole),
        "lfs": False,
        "oid": "",
        "path": path,
        "segments": [[len(segment), digest(segment)] for segment in segments],
        "sha256": hashlib.sha256(whole).hexdigest(),
        "size": len(whole),
    }


def manifest(
    files: list[dict[str, object]], repository: str = "Org/Model", revision: str = REVISION
) -> bytes:
    source = {
        "card": {},
        "committed": "",
        "endpoint": "",
        "id": "",
        "licence": "",
        "repository": repository,
        "revision": revision,
        "upstream": "directory",
    }
    return canonical({"files": files, "format": 1, "kind": "manifest", "source": source})


def pieces(plain_manifest: bytes) -> list[bytes]:
    """A manifest as the objects that a pack keeps of it."""
    return [plain_manifest[at : at + (16 << 20)] for at in range(0, len(plain_manifest), 16 << 20)]


def with_copy(plain_manifest: bytes) -> dict[str, object]:
    """A seal's `manifest`, where a copy of it lies in packs."""
    return {
        "blake3": digest(plain_manifest),
        "objects": [[len(piece), digest(piece)] for piece in pieces(plain_manifest)],
        "sha256": hashlib.sha256(plain_manifest).hexdigest(),
        "size": len(plain_manifest),
    }


def seal(plain_manifest: bytes, packs: list[bytes], **changes: object) -> bytes:
    body = json.loads(plain_manifest)
    document = {
        "archive": ARCHIVE,
        "features": FEATURES,
        "format": 1,
        "kind": "snapshot",
        "manifest": {"blake3": digest(plain_manifest), "size": len(plain_manifest)},
        "packs": sorted([digest(data), len(data)] for data in packs),
        "parent": "",
        "repository": body["source"]["repository"],
        "revision": body["source"]["revision"],
        "sealed": TIME,
        "selection": {"exclude": [], "include": []},
        "tool": "handmade 1",
        "totals": {
            "bytes": sum(file["size"] for file in body["files"]),
            "files": len(body["files"]),
            "objects": len({str(s[1:]) for file in body["files"] for s in file["segments"]}),
            "stored": sum(len(data) for data in packs),
            "tensors": 0,
        },
    }
    return canonical(document | changes)


def write_identity(root: Path, **changes: object) -> None:
    document = {
        "archive": ARCHIVE,
        "created": TIME,
        "features": FEATURES,
        "format": 1,
        "kind": "archive",
        "tool": "handmade 1",
    }
    root.mkdir(parents=True, exist_ok=True)
    document |= changes
    data = canonical(document | {"check": digest(canonical(document))})
    (root / "archive.json").write_bytes(data + b"\n")


def write_pack(root: Path, data: bytes) -> Path:
    name = digest(data)
    path = root / "packs" / name[:2] / f"{name}.pack"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def write_snapshot(root: Path, plain_manifest: bytes, packs: list[bytes], **changes: object) -> str:
    """Manifest and seal; packs are written by `write_pack`. Returns the snapshot's id."""
    source = json.loads(plain_manifest)["source"]
    folder = Path(*source["repository"].lower().split("/"))
    document = seal(plain_manifest, packs, **changes)
    revision = source["revision"]
    for kind, name, data in (
        ("manifests", f"{revision}.{digest(plain_manifest)}.json.zst", frame(plain_manifest)),
        ("snapshots", f"{revision}.{digest(document)}.json", document),
    ):
        (root / kind / folder).mkdir(parents=True, exist_ok=True)
        (root / kind / folder / name).write_bytes(data)
    return digest(document)
