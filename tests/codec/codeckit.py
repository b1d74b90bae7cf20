"""Segments to try codecs on, and the reference decoder as a second opinion."""

import importlib.util
import json
import sys
from functools import cache
from pathlib import Path
from types import ModuleType

import numpy as np
import zstandard

from archiver.archive.records import canonical
from archiver.buffers import workspace
from archiver.codec import segment, zstd
from archiver.codec.segment import Effort, EncodedObject
from archiver.codec.transforms import CODECS
from archiver.digest import blake3_hex

TESTS = Path(__file__).parents[1]
VECTORS = json.loads((TESTS / "formats" / "vectors.json").read_text())
DTYPES = ["BF16", "F16", "F32", "F64", "I8", "U8", "F8_E4M3", "I64", "BOOL", None]


def array(data: bytes) -> np.ndarray:
    """Bytes as codecs take them: aligned, and writable, as buffers are."""
    return np.frombuffer(bytearray(data), np.uint8)


def bf16(count: int, seed: int = 1, scale: float = 0.02) -> bytes:
    values = np.random.default_rng(seed).standard_normal(count, dtype=np.float32)
    return ((values * np.float32(scale)).view(np.uint32) >> 16).astype("<u2").tobytes()


def f32(count: int, seed: int = 2) -> bytes:
    values = np.random.default_rng(seed).standard_normal(count, dtype=np.float32)
    return (values * np.float32(0.02)).astype("<f4").tobytes()


def upcast(count: int, seed: int = 3) -> bytes:
    """BF16 that was cast to F32: the two lower bytes of each word are zero."""
    return (np.frombuffer(bf16(count, seed), "<u2").astype("<u4") << 16).astype("<u4").tobytes()


def noise(count: int, seed: int = 4) -> bytes:
    return np.random.default_rng(seed).integers(0, 256, count).astype(np.uint8).tobytes()


def encoded_by(number: int, plain: bytes, effort: Effort = Effort.FAST) -> EncodedObject:
    """The object as this codec stores it, whether it is a candidate or not."""
    codec = CODECS[number]
    choice = segment._Choice(codec, (zstd.HUFFMAN,) * codec.streams, 0)
    item = segment._attempt(array(plain), choice, effort, blake3_hex(plain), workspace())
    assert item is not None
    return item


@cache
def reference() -> ModuleType:
    """The decoder that is carried in every archive."""
    path = TESTS.parent / "archiver" / "carried" / "decode.py"
    spec = importlib.util.spec_from_file_location("carried_decode", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def decoded_by_reference(item: EncodedObject) -> bytes:
    """What the carried decoder makes of an object."""
    header = json.loads(canonical(item.header))
    module = reference()
    keys = ("codec", "size", "frames", "emax", "tail")
    how = module.recipe(*(header.get(key, {"tail": ""}.get(key)) for key in keys))
    sizes = module.stream_sizes(how, list(item.frames))
    streams = [
        zstandard.ZstdDecompressor().decompress(frame, max_output_size=size or 1)
        for frame, size in zip(item.frames, sizes, strict=True)
    ]
    return bytes(module.undo_codec(how, streams))


def split(number: int, plain: np.ndarray) -> tuple[list[np.ndarray], int | None]:
    """The streams of a codec, and emax."""
    codec = CODECS[number]
    pieces: list[list[np.ndarray]] = [[] for _ in range(codec.streams)]
    sinks = [lambda piece, kept=kept: kept.append(piece.copy()) for kept in pieces]
    emax = codec.split(plain, sinks, workspace())
    return [np.concatenate([np.empty(0, np.uint8), *kept]) for kept in pieces], emax
