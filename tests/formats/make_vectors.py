"""Made `vectors.json`, once, from the specification alone. Kept for the record.

The vectors are never made anew: they are what archives of format 1 look like. Run with a path, to
see that it still makes vectors of the same meaning; frames may differ with the zstd version.
"""

import json
import random
import struct
import sys
from pathlib import Path

from kit.handmade import (
    canonical,
    described,
    digest,
    frame,
    manifest,
    object_frames,
    pack,
    seal,
    skippable,
    streams,
)


def normal(rng: random.Random, count: int, scale: float = 0.02) -> list[int]:
    """The bits of normally distributed 32-bit floats, as weights are."""
    values = [rng.gauss(0, scale) for _ in range(count)]
    return [int.from_bytes(struct.pack("<f", value), "little") for value in values]


def bf16(words: list[int]) -> bytes:
    return b"".join(struct.pack("<H", word) for word in words)


def f32(words: list[int]) -> bytes:
    return b"".join(struct.pack("<I", word) for word in words)


SPECIAL16 = [0x0000, 0x8000, 0x7F80, 0xFF80, 0x7FC0, 0xFFC1, 0x7FAA, 0xFFFF, 0x0001, 0x8001, 0x7F7F]
SPECIAL32 = [0x00000000, 0x80000000, 0x7F800000, 0xFF800000, 0x7FC00000, 0xFFC12345, 0x7FA5A5A5]
SPECIAL32 += [0xFFFFFFFF, 0x00000001, 0x80000001, 0x7F7FFFFF]


def cases() -> list[tuple[str, bytes, int, int]]:
    """Name, plain bytes, codec, emax."""
    rng = random.Random(20260102)
    weights = normal(rng, 300)
    half = [word >> 16 for word in weights]
    noise = rng.randbytes(517)
    f16 = b"".join(struct.pack("<e", rng.gauss(0, 0.02)) for _ in range(100))
    upcast = f32([word & 0xFFFF0000 for word in weights])
    every_exponent = [sign << 15 | e << 7 | e & 127 for e in range(256) for sign in (0, 1)]
    return [
        ("plain text", b"{}\n" * 50, 0, 0),
        ("plain one byte", b"\x00", 0, 0),
        ("plain noise", noise, 0, 0),
        ("plain of exactly 256 bytes, a two-byte content size", bytes(range(256)), 0, 0),
        ("plain 70,000 zeros, a four-byte content size", bytes(70000), 0, 0),
        ("planes16 weights", bf16(half), 1, 0),
        ("planes16 f16", f16, 1, 0),
        ("planes16 special values", bf16(SPECIAL16), 1, 0),
        ("planes16 single word", bf16([0xBF81]), 1, 0),
        ("planes16 tail", bf16(half[:9]) + b"\xa5", 1, 0),
        ("planes16 less than a word", b"\x7f", 1, 0),
        ("planes16 noise", noise[:512], 1, 0),
        ("planes32 weights", f32(weights), 2, 0),
        ("planes32 low planes all zero", upcast, 2, 0),
        ("planes32 special values", f32(SPECIAL32), 2, 0),
        ("planes32 single word", f32([0xBF812345]), 2, 0),
        ("planes32 tail of 1", f32(weights[:5]) + b"\x01", 2, 0),
        ("planes32 tail of 3", f32(weights[:5]) + b"\x01\x02\x03", 2, 0),
        ("planes32 noise", noise[:512], 2, 0),
        ("joint16 weights, none clipped", bf16(half), 3, max(word >> 7 & 255 for word in half)),
        ("joint16 special values, most clipped", bf16(SPECIAL16), 3, 120),
        ("joint16 every exponent, emax 255", bf16(every_exponent), 3, 255),
        ("joint16 every exponent, emax 124", bf16(every_exponent), 3, 124),
        ("joint16 every exponent, emax 0", bf16(every_exponent), 3, 0),
        ("joint16 c of 62 and of 63", bf16([62 << 7, 61 << 7, 124 << 7, 0x8000 | 61 << 7]), 3, 124),
        ("joint16 single word", bf16([0xBF81]), 3, 127),
        ("joint16 single word, clipped", bf16([0xBF81]), 3, 126),
        ("joint16 tail", bf16(half[:9]) + b"\x5a", 3, 126),
        ("joint16 all zero", bytes(200), 3, 0),
        ("joint16 noise", noise[:512], 3, 200),
        ("joint32 weights", f32(weights), 4, max(word >> 23 & 255 for word in weights)),
        ("joint32 low planes all zero", upcast, 4, max(word >> 23 & 255 for word in weights)),
        ("joint32 special values", f32(SPECIAL32), 4, 130),
        ("joint32 single word, clipped", f32([0x00012345]), 4, 130),
        ("joint32 tail of 2", f32(weights[:5]) + b"\x01\x02", 4, 126),
        ("joint32 noise", noise[:516], 4, 100),
    ]


def refused() -> list[tuple[str, str, bytes]]:
    """Name, the digest that is asked for, stored bytes that are not good for it."""
    plain = bf16([0x3F80, 0xBF80, 0x0000, 0x3F81])
    name, longer = digest(plain), digest(plain + b"!")
    frames = [*map(frame, streams(plain, 3, 127)[:2]), frame(b"")]
    header = {"blake3": name, "codec": 3, "size": 8, "frames": [len(data) for data in frames]}
    unclipped = skippable(1, canonical(header | {"emax": 127})) + b"".join(frames)
    no_emax = skippable(1, canonical(header)) + b"".join(frames)
    flipped = bytearray(object_frames(plain, 0))
    flipped[-6] ^= 1
    other = object_frames(bf16([0x3F80, 0xBF80, 0x0000, 0x3F82]), 1, changes={"blake3": name})
    no_tail = object_frames(plain, 1, changes={"blake3": longer, "size": 9})
    return [
        ("unknown codec", name, object_frames(plain, 0, changes={"codec": 5})),
        ("other bytes", name, other),
        ("size of one word more", name, object_frames(plain, 1, changes={"size": 10})),
        ("size of one word less", name, object_frames(plain, 1, changes={"size": 6})),
        ("a frame too few", name, object_frames(plain, 1, changes={"codec": 3, "emax": 127})),
        ("no emax", name, no_emax),
        ("a clipped word without exponent", name, unclipped),
        ("a bit flipped in a frame", name, bytes(flipped)),
        ("cut short", name, object_frames(plain, 1)[:-5]),
        ("tail missing", longer, no_tail),
    ]


def described_case(name: str, plain: bytes, codec: int, emax: int) -> dict[str, object]:
    zeros = len(plain) > 1000 and not any(plain)
    return {
        "name": name,
        "codec": codec,
        "size": len(plain),
        "blake3": digest(plain),
        "plain": f"zeros:{len(plain)}" if zeros else plain.hex(),
        "object": object_frames(plain, codec, emax).hex(),
    }


CANONICAL = [
    {},
    [],
    {"b": 1, "a": [True, False, None, -1, 9007199254740991]},
    {"text": 'quote " backslash \\ slash / tab \t bell \x07 umlaut ü ice 🧊'},
]


def build() -> dict[str, object]:
    by_name = {name: (plain, codec, emax) for name, plain, codec, emax in cases()}
    first, second = by_name["plain text"], by_name["joint16 weights, none clipped"]
    chosen = [
        (plain, codec, object_frames(plain, codec, emax)) for plain, codec, emax in (first, second)
    ]
    whole = pack(chosen)
    document = manifest(
        [
            described("config.json", [first[0]]),
            described("empty", []),
            described("weights/model.bin", [first[0], second[0]]),
            described("übersicht 🧊.txt", [first[0]]),
        ]
    )
    sealed = seal(document, [whole])
    return {
        "objects": [described_case(*case) for case in cases()],
        "refused": [
            {"name": n, "size": 9 if n == "tail missing" else 8, "blake3": b, "object": o.hex()}
            for n, b, o in refused()
        ],
        "pack": {
            "blake3": digest(whole),
            "hex": whole.hex(),
            "objects": [{"blake3": digest(p), "plain": p.hex()} for p, _, _ in chosen],
        },
        "canonical": [
            {"value": v, "hex": canonical(v).hex(), "blake3": digest(canonical(v))}
            for v in CANONICAL
        ],
        "manifest": {
            "blake3": digest(document),
            "hex": document.hex(),
            "stored": frame(document).hex(),
        },
        "seal": {"blake3": digest(sealed), "hex": sealed.hex()},
    }


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(json.dumps(build(), indent=1, ensure_ascii=True) + "\n")
