"""A segment's plain bytes <-> an object's header and Zstandard frames.

Every encoding is decoded again and compared before it is handed out. Format: ``docs/format.md``, 3.1 and 4.
"""

from __future__ import annotations

import threading
from contextlib import ExitStack, nullcontext
from enum import StrEnum
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec
import numpy as np
from blake3 import blake3

from archiver.buffers import Workspace, workspace
from archiver.codec import zstd
from archiver.codec.transforms import CODECS, Sink, Transform
from archiver.digest import Blake3Hex, HexDigest, blake3_hex
from archiver.errors import ArchiverError, DamageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from archiver.buffers import Bytes
    from archiver.codec.zstd import Source

SEGMENT_MAX: Final = 16 << 20
"""The greatest plain size of an object, in bytes."""
_TINY = 4 << 10
"""Below this size the streams of a split are too short to pay for their frames."""
_COPIED = 64 << 10
"""Up to this many bytes are compared as copies: numpy's calls cost more than the bytes."""
_SURPRISE = 1.02
"""An encoding this much larger than its sample promised is tried against the runner-up."""

_second_attempt = threading.Lock()
"""Few segments surprise, and two encodings of one take twice the memory: so there is one such at a time."""
_unchecked_attempt = threading.Lock()
"""Few objects are damaged, and one that is tried without its checksums is all in memory: likewise."""


class Effort(StrEnum):
    """How much work an encoding may cost."""

    FAST = "fast"
    NORMAL = "normal"


class ObjectHeader(msgspec.Struct, frozen=True, omit_defaults=True):
    """The JSON before an object's frames (``docs/format.md``, 3.1)."""

    blake3: HexDigest
    size: int
    codec: int
    frames: tuple[int, ...]
    emax: int | msgspec.UnsetType = msgspec.UNSET
    tail: str = ""
    bases: tuple[HexDigest, ...] = ()
    """Objects that this one can only be decoded with: reserved, and no codec of this version has any."""


class EncodedObject(msgspec.Struct, frozen=True):
    """An object ready to be stored: its header and its frames, these in pieces."""

    header: ObjectHeader
    pieces: tuple[zstd.Piece, ...]

    @property
    def frames(self) -> tuple[bytes, ...]:
        """Each frame, joined."""
        whole, ends = b"".join(self.pieces), list(accumulate(self.header.frames))
        return tuple(whole[begin:end] for begin, end in pairwise([0, *ends]))

    @property
    def stored(self) -> int:
        """Bytes of all frames."""
        return sum(self.header.frames)


_WAYS = {
    Effort.FAST: (zstd.HUFFMAN, 1, 3),
    Effort.NORMAL: (zstd.HUFFMAN, 1, 3, 9),
}
"""How bytes that are not split may be coded."""
_STREAM_WAYS = {
    Effort.FAST: (zstd.STORED, zstd.HUFFMAN, 1),
    Effort.NORMAL: (zstd.HUFFMAN, 1, 3),
}
"""How the streams of a split may be coded. Where only some blocks of a stream shrink, HUFFMAN finds them,
which costs the other blocks a look; for a packed stream that is too much at any effort: 0.17 s a GB."""
_RIVAL_WAYS = (1,)
"""For a first look at codec 0 on weights, which hardly ever wins: more would cost too much."""
_CANDIDATES: dict[Effort, dict[str, tuple[int, ...]]] = {
    Effort.FAST: {"BF16": (1, 0), "F16": (1, 0), "F32": (2, 0), "": (0, 1, 2)},
    Effort.NORMAL: {"BF16": (5, 0), "F16": (1, 0), "F32": (4, 2, 0), "": (0, 1, 5, 2, 4)},
}


class _Choice(NamedTuple):
    """A codec, how each of its streams is coded, and the bytes that a sample promises of all."""

    transform: Transform
    ways: tuple[int, ...]
    promised: float


def encode(
    plain: Bytes, dtype: str | None, effort: Effort, digest: Blake3Hex | None = None
) -> EncodedObject:
    """Return the smallest encoding that ``effort`` allows for a segment of 1 byte to 16 MiB.

    Args:
        plain: The segment.
        dtype: The safetensors dtype, or None where the file's structure is unknown.
        effort: Which codecs may be tried.
        digest: The segment's BLAKE3, if the caller has it already.

    Raises:
        ArchiverError: The encoding does not decode to the same bytes: this machine cannot be trusted.
    """
    work = workspace()
    digest = digest or blake3_hex(plain.data)
    best: EncodedObject | None = None
    limit = 0.0
    for choice in _ranked(plain, dtype, effort, work):
        if best is not None and best.stored <= limit:
            break
        with nullcontext() if best is None else _second_attempt:
            encoded = _attempt(plain, choice, effort, digest, work)
            if encoded is not None and (best is None or encoded.stored < best.stored):
                best = encoded
            del encoded
        limit = choice.promised * _SURPRISE
    if best is not None:
        return best
    raise ArchiverError(
        f"The segment {digest} does not decode to the bytes it was encoded from.",
        hint="Nothing was stored. Test this machine's memory before you archive with it.",
    )


def _ranked(plain: Bytes, dtype: str | None, effort: Effort, work: Workspace) -> list[_Choice]:
    """Return the candidates, first the one of which a sample promises the fewest bytes.

    Codec 0 is always among them. Nothing but the segment decides, so that a repair encodes as before.
    """
    table = _CANDIDATES[effort]
    numbers = table.get(dtype, (0,)) if dtype else table[""]
    if len(plain) < _TINY:
        numbers = (0,)
    if len(numbers) == 1:
        return [_Choice(CODECS[0], (), len(plain))]
    probe = zstd.sample(plain, multiple=64)
    # Where the structure is unknown, words may begin at odd bytes here and at even ones there: pieces
    # that share a frame would spoil each other's planes.
    piece = len(probe) if dtype else zstd.SAMPLE_PIECE
    parts = [probe[at : at + piece] for at in range(0, len(probe), piece)]
    scale = len(plain) / len(probe)
    choices = []
    for number in numbers:
        transform = CODECS[number]
        ways = _RIVAL_WAYS if dtype and number == 0 else _ways(number, effort)
        packed = (zstd.STORED, *(way for way in ways if way != zstd.STORED))
        best = [
            zstd.best_way(stream, packed if index == transform.packed_stream else ways)
            for index, stream in enumerate(_sampled(parts, transform, work))
        ]
        promised = sum(way.size for way in best) * scale
        choices.append(_Choice(transform, tuple(way.number for way in best), promised))
    return sorted(choices, key=lambda choice: choice.promised)


def _sampled(parts: list[Bytes], transform: Transform, work: Workspace) -> list[list[Bytes]]:
    """Return the streams of the sample, each in as many parts."""
    streams: list[list[Bytes]] = [[] for _ in range(transform.streams)]
    for part in parts:
        pieces: list[list[Bytes]] = [[] for _ in streams]
        whole = len(part) // transform.word * transform.word
        transform.split(part[:whole], [_keep_in(kept) for kept in pieces], work)
        for stream, kept in zip(streams, pieces, strict=True):
            stream.append(np.concatenate(kept) if kept else np.empty(0, np.uint8))
    return streams


def _keep_in(pieces: list[Bytes]) -> Sink:
    return lambda piece: pieces.append(piece.copy())


def _ways(number: int, effort: Effort) -> tuple[int, ...]:
    return (_WAYS if number == 0 else _STREAM_WAYS)[effort]


def _attempt(
    plain: Bytes, choice: _Choice, effort: Effort, digest: Blake3Hex, work: Workspace
) -> EncodedObject | None:
    """Encode, decode and compare; return None if the result is not the same."""
    transform = choice.transform
    count = len(plain) // transform.word
    whole = count * transform.word
    frames: Sequence[Sequence[zstd.Piece]]
    if transform.number == 0:
        # Of the whole bytes, which may be anything, a sample says too little.
        frames, emax = [[zstd.compress_best(plain, _ways(0, effort))]], None
    else:
        frames, emax = _split(plain[:whole], choice, _ways(transform.number, effort), work)
    header = ObjectHeader(
        blake3=digest,
        size=len(plain),
        codec=transform.number,
        frames=tuple(sum(map(len, frame)) for frame in frames),
        emax=msgspec.UNSET if emax is None else emax,
        tail=plain[whole:].tobytes().hex(),
    )
    encoded = EncodedObject(header, tuple(piece for frame in frames for piece in frame))
    return encoded if _decodes_to(plain, encoded, work) else None


def _split(
    plain: Bytes, choice: _Choice, ways: tuple[int, ...], work: Workspace
) -> tuple[list[list[zstd.Piece]], int | None]:
    """Return the frames of the streams, each coded while it is split off, and ``emax``."""
    transform, count = choice.transform, len(plain) // choice.transform.word
    exponents: list[Bytes] = []
    coders: dict[int, zstd.Coder | zstd.RawCoder] = {}
    sinks: list[Sink] = []
    for index in range(transform.streams):
        if index == transform.exponent_stream:
            sinks.append(exponents.append)
        else:
            size = transform.length(index, count)
            coders[index] = zstd.coder(choice.ways[index], size, index)
            sinks.append(coders[index].write)
    emax = transform.split(plain, sinks, work)
    clipped = np.concatenate(exponents) if exponents else np.empty(0, np.uint8)
    frames = [
        # Clipped exponents may stand anywhere, so of them too a sample says too little.
        coders[index].pieces() if index in coders else [zstd.compress_best(clipped, ways)]
        for index in range(transform.streams)
    ]
    return frames, emax


def _decodes_to(plain: Bytes, encoded: EncodedObject, work: Workspace) -> bool:
    """Decode step by step, and compare each while it is in the core's cache."""
    header, source, at = encoded.header, zstd.InMemory(*encoded.pieces), 0
    step = _step(header, work)
    try:
        for piece in _decoded(header, source, _steps_in(step, header), work, checksums=True):
            if not _same(plain[at : at + len(piece)], piece):
                return False
            at += len(piece)
    except ValueError:
        return False
    return at == len(plain)


def _same(left: Bytes, right: Bytes) -> bool:
    if len(left) <= _COPIED:
        return left.tobytes() == right.tobytes()
    whole = len(left) // 8 * 8
    words = left[:whole].view(np.uint64) == right[:whole].view(np.uint64)
    return bool(words.all()) and left[whole:].tobytes() == right[whole:].tobytes()


def decode(header: ObjectHeader, body: memoryview | Source, out: Bytes | None = None) -> None:
    """Fill ``out`` (``header.size`` bytes), if it is given, from an object's frames; check its BLAKE3.

    A frame's checksum that is wrong costs nothing: the digest proves more.

    Raises:
        DamageError: The frames are damaged, or give other bytes than the header names.
    """
    try:
        digest = decoded_digest(header, body, out)
    except DamageError:
        if not is_named_rightly(header, body, out):
            raise
        return
    require_named_rightly(header, digest)


def require_named_rightly(header: ObjectHeader, digest: str) -> None:
    """Raise DamageError unless this is the digest that an object is named by."""
    if digest != header.blake3:
        raise DamageError(
            f"Object {header.blake3} is damaged: its bytes have another digest.",
            object=header.blake3,
        )


def is_named_rightly(
    header: ObjectHeader, body: memoryview | Source, out: Bytes | None = None
) -> bool:
    """Return whether an object's frames give the bytes that it is named by, whatever their checksums say.

    ``out``, if it is given, is filled with these bytes.
    """
    with _unchecked_attempt:
        try:
            unchecked = _without_checksums(header, body)
            return decoded_digest(*unchecked, out) == header.blake3
        except (DamageError, ValueError):
            return False


def _without_checksums(
    header: ObjectHeader, body: memoryview | Source
) -> tuple[ObjectHeader, Source]:
    """Return an object as if its frames had no checksums, in memory; ValueError if it cannot be."""
    source = zstd.InMemory(body) if isinstance(body, memoryview) else body
    if sum(header.frames) != source.size or min(header.frames) < zstd.FRAME_LEAST:
        raise ValueError("the frames are cut short")
    pieces: list[zstd.Piece] = []
    sizes, begin = [], 0
    for length in header.frames:
        frame = source.read(begin, length, np.empty(length, np.uint8))
        kept = zstd.without_checksum(frame)
        pieces += kept
        sizes.append(sum(map(len, kept)))
        begin += length
    return msgspec.structs.replace(header, frames=tuple(sizes)), zstd.InMemory(*pieces)


def decoded_digest(
    header: ObjectHeader,
    body: memoryview | Source,
    out: Bytes | None = None,
    *,
    checksums: bool = False,
) -> Blake3Hex:
    """Fill ``out`` (``header.size`` bytes), if it is given, from an object's frames, whatever it is called.

    Return the BLAKE3 of these bytes; raise DamageError if the frames give none. Those frames that need no
    decoder are compared with their ``checksums`` only if that is asked for: the others always are.
    """
    check_header(header)
    work = workspace()
    outs = _steps_in(_step(header, work), header) if out is None else _steps_of(out, header)
    hasher = blake3()
    try:
        if isinstance(body, memoryview):
            body = zstd.InMemory(body)
        if sum(header.frames) != body.size:
            raise ValueError("the frames are cut short")  # noqa: TRY301 - one place words the error
        for piece in _decoded(header, body, outs, work, checksums=checksums):
            hasher.update(piece.data)
        if out is not None and header.tail:
            out[len(out) - len(piece) :] = piece  # what is no whole word came last
    except ValueError as error:
        raise DamageError(
            f"Object {header.blake3} is damaged: {error}.", object=header.blake3
        ) from error
    return Blake3Hex(hasher.hexdigest())


def check_header(header: ObjectHeader) -> None:
    """Raise DamageError unless the header's numbers can be those of an object of format 1."""
    transform = CODECS.get(header.codec)
    if transform is None or header.bases:
        raise DamageError(
            f"Object {header.blake3} uses codec {header.codec}"
            f"{' with other objects as its bases' if header.bases else ''}, which is unknown.",
            hint="Use a newer archiver, or the decode.py in the archive.",
            object=header.blake3,
        )
    tail = header.size % transform.word
    whole = 0 < header.size <= SEGMENT_MAX and len(header.frames) == transform.streams
    emax = (
        header.emax is msgspec.UNSET
        if transform.exponent_stream is None
        else header.emax in range(256)
    )
    if not whole or not emax or len(header.tail) != 2 * tail or min(header.frames) < 0:
        raise DamageError(
            f"Object {header.blake3} has a header that contradicts itself.", object=header.blake3
        )


def _step(header: ObjectHeader, work: Workspace) -> Bytes:
    """Return room for what is decoded at once."""
    transform = CODECS[header.codec]
    return work.take("step", transform.step * transform.word)


def _steps_of(out: Bytes, header: ObjectHeader) -> Iterator[Bytes]:
    """Yield the steps in which an object is decoded into ``out``, without what is no whole word."""
    word = CODECS[header.codec].word
    whole, step = header.size // word * word, CODECS[header.codec].step * word
    return (out[at : min(at + step, whole)] for at in range(0, whole, step))


def _steps_in(step: Bytes, header: ObjectHeader) -> Iterator[Bytes]:
    """Yield the same steps, all of them in the same place."""
    whole = header.size // CODECS[header.codec].word * CODECS[header.codec].word
    return (step[: min(len(step), whole - at)] for at in range(0, whole, len(step)))


def _decoded(
    header: ObjectHeader, source: Source, outs: Iterable[Bytes], work: Workspace, *, checksums: bool
) -> Iterator[Bytes]:
    """Decode an object into ``outs``, yield each of them once it is filled, and then what is left over.

    Raise ValueError if the frames are damaged, not before all of them were looked at to their ends.
    """
    transform = CODECS[header.codec]
    count = header.size // transform.word
    emax = 0 if isinstance(header.emax, msgspec.UnsetType) else header.emax
    with ExitStack() as opened:
        streams, begin = [], 0
        for index, length in enumerate(header.frames):
            stream = zstd.Content(source, begin, length, index, checksum=checksums)
            opened.callback(stream.close)
            begin += length
            size = transform.length(index, count)
            if index == transform.exponent_stream:
                if stream.size > size:
                    raise ValueError("more exponents are stored than there are words")
            elif stream.size != size:
                raise ValueError("the frame's content size is not the one expected")
            streams.append(stream)
        yield from transform.merge(streams, emax, outs, work)
        for stream in streams:
            stream.finish()
    if header.tail:
        tail = np.frombuffer(bytes.fromhex(header.tail), np.uint8)
        # Blanks are no digits: they would leave bytes of the object to whatever the buffer held.
        if len(tail) != header.size % transform.word:
            raise ValueError("what is no whole word has another length")
        yield tail
