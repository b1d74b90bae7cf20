"""Restores and checks every snapshot of the archive that this file lies in.

    python3 decode.py list
    python3 decode.py restore REPOSITORY[@REVISION] DESTINATION
    python3 decode.py verify [REPOSITORY[@REVISION]]

It needs Python 3.8 or later, nothing but its standard library, and Zstandard in any of these
forms: Python 3.14's own `compression.zstd`; one of the packages `backports.zstd`, `zstandard`,
`pyzstd`; or the program `zstd`. It only reads the archive (`-C DIRECTORY` for one elsewhere).

The comments name sections of FORMAT.md, which lies beside this file and says everything that is
done here. What is checked: the size and SHA-256 of every file, always; the BLAKE3 of every seal
and manifest, always; the BLAKE3 of every object where the package `blake3` is installed, or with
`--blake3` (in Python alone, slower). A file that fails a check never appears under its name.

Exit codes: 0 all is well; 1 this machine failed (no Zstandard, disk full); 2 usage; 3 this
filesystem cannot hold the names of some files, the others are restored; 10 no archive here, or a
format this reader does not know; 20 damage, and it was named. `restore` ends with 0 if
every file came out right, even past damage; `verify` then still ends with 20.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import functools
import hashlib
import importlib
import json
import operator
import os
import re
import secrets
import shutil
import stat
import subprocess
import sys
import threading
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import IO

    Json = dict[str, Any]

EDITION = 2  # of this file, section 2: a newer one replaces an older one
HEAD, OBJECT, INDEX, TRAILER = (0x184D2A50 + i for i in range(4))  # section 3
MIB = 1 << 20
SEGMENT = 16 * MIB  # the longest segment, section 5
SEAL, INDEX_SIZE, MANIFEST = 8 * MIB, 16 * MIB, 64 * MIB  # section 1: never more
HEADER, STORED = 64 << 10, 40 * MIB
VALUES = {b",": 4_000_000, b"[": 1_500_000, b"{": 1_000_000}  # how often, in a manifest
FILES, SEGMENTS, PACKS, PATTERNS = 100_000, 500_000, 100_000, 10_000
HEX64 = re.compile("[0-9a-f]{64}")
VOUCHERS = {"cache": 1, "pin": 2, "upstream": 3}  # section 7.1
UPSTREAM = VOUCHERS["upstream"]
DIGESTS = ("sha256", "git-sha1")
ID_DIGITS = 8  # of a seal's id, at least


class Stop(Exception):
    """Ends the program with an exit code and a sentence."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class Damage(Exception):
    """Bytes are not what they should be; the message says which."""


class Log:
    """Says things on standard error, and remembers whether any of them was about damage."""

    damaged = False

    def damage(self, message: object) -> None:
        """Says it, and lets `verify` fail for it."""
        self.damaged = True
        self.note(f"damage: {message}")

    def note(self, message: object) -> None:
        """Only says it."""
        print(shown(str(message)[:4000]), file=sys.stderr, flush=True)


def shown(text: str) -> str:
    """Text from an archive without the characters that could steer a terminal."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


@contextlib.contextmanager
def reading(what: object) -> Iterator[None]:
    """Whatever goes wrong with bytes from the archive is Damage, and says where."""
    try:
        yield
    except Damage as error:
        raise Damage(f"{what}: {error}") from None
    except OSError as error:
        raise Damage(f"{what}: {error.strerror or error}") from None
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as e:
        raise Damage(f"{what}: not of the shape that the format gives it ({e!r})") from None


def require(good: bool, problem: str) -> None:
    """Damage unless it is so."""
    if not good:
        raise Damage(problem)


# ---- Zstandard: a module or the program ---------------------------------------------------------


def optional(name: str) -> Any:
    """A module that need not be there, or None."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


class Zstandard:
    """Decompresses frames with what this machine has."""

    def __init__(self) -> None:
        names = ("compression.zstd", "backports.zstd", "zstandard", "pyzstd")
        self.module = next(filter(None, map(optional, names)), None)
        self.program = shutil.which("zstd") or ""
        if not self.module and not self.program:
            raise Stop(1, "no Zstandard here: get Python 3.14, the package zstandard, or zstd")

    def inflate(self, frames: Sequence[bytes], sizes: Sequence[int]) -> list[bytes]:
        """The contents of frames whose plain sizes are known; never more bytes than that."""
        if self.module:
            return [self.by_module(frame, size) for frame, size in zip(frames, sizes)]
        data, end, out = self.by_program(frames, sum(sizes)), 0, []
        for size in sizes:
            out.append(data[end : end + size])
            end += size
        return out

    def by_module(self, frame: bytes, size: int) -> bytes:
        """One frame; room for one byte more, so that too many are noticed."""
        assert self.module is not None
        decoder = self.module.ZstdDecompressor()
        try:
            data = bytes(decoder.decompress(frame, size + 1))
        except self.module.ZstdError as error:
            raise Damage(f"zstd: {error}") from None
        require(len(data) == size and getattr(decoder, "eof", True), "zstd: a frame is cut short")
        return data

    def by_program(self, frames: Sequence[bytes], total: int) -> bytes:
        """All frames in one run: frames one after another are a valid .zst file."""
        command, pipe = [self.program, "-dcq"], subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL) as child:
            assert child.stdin is not None
            assert child.stdout is not None
            feeder = threading.Thread(target=self.feed, args=(child.stdin, frames))
            feeder.start()
            data = child.stdout.read(total + 1)
            if len(data) > total:
                child.kill()
            feeder.join()
        require(child.returncode == 0 and len(data) == total, "zstd: a frame is damaged")
        return data

    @staticmethod
    def feed(sink: IO[bytes], frames: Sequence[bytes]) -> None:
        """If the program gives up on damaged input, its exit code says so."""
        with contextlib.suppress(OSError), sink:
            sink.writelines(frames)


def content_size(frame: bytes) -> int | None:
    """What a frame's own header says of its plain length (RFC 8878, section 3.1.1.1)."""
    require(frame[:4] == b"\x28\xb5\x2f\xfd" and len(frame) > 8, "not a Zstandard frame")
    single = frame[4] >> 5 & 1
    width = (single, 2, 4, 8)[frame[4] >> 6]
    start = 5 + (1 - single) + (0, 1, 2, 4)[frame[4] & 3]
    value = int.from_bytes(frame[start : start + width], "little")
    return None if width == 0 else value + (256 if width == 2 else 0)


# ---- BLAKE3 in Python alone: many chunks at once, in the 64-bit lanes of long integers ----------

WORDS = "6a09e667 bb67ae85 3c6ef372 a54ff53a 510e527f 9b05688c 1f83d9ab 5be0cd19"
IV = [int(word, 16) for word in WORDS.split()]
ORDER = (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)
COLUMNS = [(0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15)]
DIAGONALS = [(0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14)]
CHUNK_START, CHUNK_END, PARENT, ROOT = 1, 2, 4, 8


def compress(v: list[int], words: list[int], mask: int) -> list[int]:
    """BLAKE3's compression function; every number holds one 32-bit word of every node."""
    for _ in range(7):
        for i, (a, b, c, d) in enumerate(COLUMNS + DIAGONALS):
            for word, first, second in ((words[2 * i], 16, 12), (words[2 * i + 1], 8, 7)):
                v[a] = v[a] + v[b] + word & mask
                x = v[d] ^ v[a]
                v[d] = (x >> first | x << 32 - first) & mask
                v[c] = v[c] + v[d] & mask
                x = v[b] ^ v[c]
                v[b] = (x >> second | x << 32 - second) & mask
        words = [words[i] for i in ORDER]
    return [v[i] ^ v[i + 8] for i in range(8)]


def nodes(data: bytes, size: int, number: int, parent: int = 0, root: int = 0) -> bytes:
    """The 32-byte values of nodes of `size` bytes each: chunks from `number` on, or parents."""
    step = max(size + -size % 64, 64)
    count = max(len(data) // step, 1)
    data = data.ljust(step, b"\0")  # only a last chunk, alone, is ever short
    ones = int.from_bytes(b"\1\0\0\0\0\0\0\0" * count, "little")
    mask, wide = ones * 0xFFFFFFFF, bytearray(8 * count)
    counter = 0 if parent else sum(i << 64 * i for i in range(count)) + number * ones
    value = [ones * word for word in IV]
    for at in range(0, step, 64):
        last = at + 64 == step
        flags = parent or CHUNK_START * (at == 0) | CHUNK_END * last
        words = []
        for place in range(at, at + 64, 4):
            for byte in range(4):
                wide[byte::8] = data[place + byte :: step]
            words.append(int.from_bytes(wide, "little"))
        tail = [counter & mask, counter >> 32 & mask]
        tail += [ones * min(64, size - at), ones * (flags | root * last)]
        value = compress(value + [ones * word for word in IV[:4]] + tail, words, mask)
    out = bytearray(32 * count)
    for place, raw in enumerate(word.to_bytes(8 * count, "little") for word in value):
        for byte in range(4):
            out[4 * place + byte :: 32] = raw[byte::8]
    return bytes(out)


def blake3_python(data: bytes) -> str:
    """BLAKE3 without any package, about 10 MB/s."""
    last = max(len(data) - 1, 0) // 1024 * 1024  # the last chunk may be short and is done alone
    if last == 0:
        return nodes(data, len(data), 0, root=ROOT).hex()
    parts = [nodes(data[i : min(i + MIB, last)], 1024, i // 1024) for i in range(0, last, MIB)]
    level = b"".join(parts) + nodes(data[last:], len(data) - last, last // 1024)
    while len(level) > 64:  # pairs become parents; an odd one out goes up as it is
        pairs = len(level) // 64 * 64
        level = nodes(level[:pairs], 64, 0, PARENT) + level[pairs:]
    return nodes(level, 64, 0, PARENT, ROOT).hex()


BLAKE3 = optional("blake3")


def blake3(data: bytes) -> str:
    """By the package if it is there."""
    return str(BLAKE3.blake3(data).hexdigest()) if BLAKE3 else blake3_python(data)


# ---- Section 4: codecs. Bytes are moved by tables, and joined by OR as long integers ------------

WORD = {0: 1, 1: 2, 2: 4, 3: 2, 4: 4}
STREAMS = {0: 1, 1: 2, 2: 4, 3: 3, 4: 5}
BLOCK = 1 << 16  # words at a time: small enough for a processor's cache


def table(function: Callable[[int], int]) -> bytes:
    """What becomes of each of the 256 bytes."""
    return bytes(function(byte) & 255 for byte in range(256))


def tables(header: Json) -> list[tuple[bytes, bytes]]:
    """How A and B each make the lower and the upper of a word's two high bytes."""
    down, top = table(lambda x: x >> 1), table(lambda x: x << 7)
    if header["codec"] in (1, 2):
        return [(top, down), (down, top)]
    # A clipped word gets no exponent here. What emax - c < 0 gives does not matter: no writer
    # makes it, and the object's digest would not be right.
    exponent = [header["emax"] - (a >> 2) & 255 if a < 252 else 0 for a in range(256)]
    lower = table(lambda a: exponent[a] << 7 | (a & 3) << 5), table(lambda b: b & 31)
    return [lower, (table(lambda a: exponent[a] >> 1), table(lambda b: b >> 5 << 7))]


def both(one: bytes, other: bytes) -> bytes:
    """The bytewise OR of two strings of one length."""
    joined = int.from_bytes(one, "little") | int.from_bytes(other, "little")
    return joined.to_bytes(len(one), "little")


def clipped(a: bytes) -> list[int]:
    """Where c = A >> 2 is 63. Such words are rare, and `find` is quick between them."""
    places = []
    for byte in (252, 253, 254, 255):
        at = a.find(byte)
        while at >= 0:
            places.append(at)
            at = a.find(byte, at + 1)
    return sorted(places)


def undo_codec(header: Json, streams: Sequence[bytes]) -> bytes:
    """The plain bytes of an object, from its header and its decompressed frames."""
    word = WORD[header["codec"]]
    if word == 1:
        return streams[0]
    d1, d2 = streams[:2]
    out, moves = bytearray(len(d1) * word), tables(header)
    for at in range(0, len(d1), BLOCK):
        a, b = d1[at : at + BLOCK], d2[at : at + BLOCK]
        for byte, (of_a, of_b) in enumerate(moves, start=word - 2):
            joined = both(a.translate(of_a), b.translate(of_b))
            out[at * word + byte : (at + len(a)) * word : word] = joined
    if header["codec"] in (3, 4):
        places = clipped(d1)
        require(len(places) == len(streams[2]), "clipped words and their exponents do not match")
        for place, exponent in zip(places, streams[2]):
            out[place * word + word - 2] |= exponent << 7 & 128
            out[place * word + word - 1] |= exponent >> 1
    if word == 4:
        out[1::4], out[0::4] = streams[-2:]
    return bytes(out) + bytes.fromhex(header.get("tail", ""))


def stream_sizes(header: Json, frames: Sequence[bytes]) -> list[int]:
    """How long each frame is when decompressed; Damage where section 4 wants something else."""
    words = header["size"] // WORD[header["codec"]]
    sizes = [content_size(frame) for frame in frames]
    wanted = [words] * len(frames)
    if header["codec"] in (3, 4):  # how many words are clipped is written nowhere else
        wanted[2] = min(sizes[2] or 0, words)
    require(sizes == wanted, "the frames do not have the lengths that the codec gives them")
    return wanted


# ---- Sections 2 and 3: documents and packs ------------------------------------------------------


def document(data: bytes, kind: str, load: Callable[[bytes], Any] = json.loads) -> Json:
    """JSON of this kind, of a format that this reader knows."""
    value = load(data)
    require(value["kind"] == kind, f"not of kind `{kind}`")
    features = value.get("features", {"read": []})["read"]
    if value["format"] != 1 or features:
        raise Stop(
            10, f"format {value['format']!r}, features {features!r}: this reader knows 1, []"
        )
    return dict(value)


def opened(path: Path) -> IO[bytes]:
    """A stored file: neither a link nor a pipe nor a device, which could wait or never end."""
    extra = (getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY", "O_CLOEXEC"))
    handle = os.open(path, os.O_RDONLY | functools.reduce(operator.or_, extra))
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise Damage("no regular file")
    return os.fdopen(handle, "rb")


def read_whole(path: Path, limit: int) -> bytes:
    """A file that has no reason to be longer than `limit`."""
    with opened(path) as file:
        data = file.read(limit + 1)
    require(len(data) <= limit, f"longer than {limit} bytes")
    return data


def magic_at(file: IO[bytes], offset: int) -> int:
    """The first four bytes there."""
    file.seek(offset)
    return int.from_bytes(file.read(4), "little")


def skippable(file: IO[bytes], offset: int, magic: int, limit: int = HEADER) -> bytes:
    """The payload of one skippable frame."""
    require(magic_at(file, offset) == magic, f"no frame {magic:#x} at offset {offset}")
    size = int.from_bytes(file.read(4), "little")
    require(size <= limit, f"the frame at offset {offset} is too long")
    payload = file.read(size)
    require(len(payload) == size, f"the frame at offset {offset} is cut short")
    return payload


class Place(NamedTuple):
    """Where an object lies."""

    pack: Path
    offset: int
    stored: int


class Stored(NamedTuple):
    """An object as it was read from its pack, not yet decompressed."""

    header: Json
    frames: list[bytes]
    sizes: list[int]


def read_index(file: IO[bytes], pack: Path) -> dict[str, Place]:
    """The short way to a pack's objects: trailer, then index."""
    with reading("index"):
        end = file.seek(0, os.SEEK_END) - 16
        offset = int.from_bytes(skippable(file, end, TRAILER), "little")
        index = json.loads(skippable(file, offset, INDEX, INDEX_SIZE))
        places, at = {}, 0
        for name, begin, stored in ((row[0], row[1], row[2]) for row in index["objects"]):
            require(type(begin) is int and type(stored) is int, "numbers expected")
            require(begin >= at and 8 <= stored <= STORED, "objects that cannot lie so")
            places[name], at = Place(pack, begin, stored), begin + stored
        return places


def object_header(file: IO[bytes], offset: int) -> Json:
    """Section 3.1, with everything checked that decoding relies on."""
    with reading(f"object header at offset {offset}"):
        payload = skippable(file, offset, OBJECT)
        header = dict(json.loads(payload))
        numbers = (header.get(key, 0) for key in ("codec", "size", "emax"))
        require(all(type(number) is int for number in numbers), "numbers expected")
        codec, frames = header["codec"], header["frames"]
        require(codec in WORD, f"codec {codec!r} is not known")
        require(1 <= header["size"] <= SEGMENT, "impossible size")
        require(len(frames) == STREAMS[codec], "wrong number of frames")
        possible = (type(n) is int and 0 < n <= 2 * SEGMENT for n in frames)
        require(all(possible), "impossible frames")
        tail = bytes.fromhex(header.get("tail", ""))
        require(len(tail) == header["size"] % WORD[codec], "wrong tail")
        require(codec < 3 or 0 <= header["emax"] <= 255, "wrong emax")
        header["start"] = offset + 8 + len(payload)
        header["end"] = header["start"] + sum(frames)
    return header


class Search:
    """Finds object headers in a pack that is read once, from its front on."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.end = file, file.seek(0, os.SEEK_END)
        self.base, self.block = 0, b""

    def find(self, begin: int, end: int) -> int:
        """Where the first magic is between two offsets, or -1."""
        magic, end = OBJECT.to_bytes(4, "little"), min(end, self.end)
        while begin < end:
            last = self.base + len(self.block)
            if begin < self.base or min(end, begin + 2 * HEADER) > last:
                self.base, self.block = begin, self.read(begin)
                last = begin + len(self.block)
            found = self.block.find(magic, begin - self.base, min(end, last) - self.base)
            if found >= 0:
                return self.base + found
            if last >= end or not self.block:
                return -1
            begin = max(last - 3, begin + 1)  # a magic may begin at the very end of a block
        return -1

    def read(self, offset: int) -> bytes:
        """The bytes there."""
        self.file.seek(offset)
        return self.file.read(MIB)


def walk(file: IO[bytes], pack: Path) -> Iterator[tuple[str, Place]]:
    """The long way: every object header from offset 0, past any damage, in one pass.

    JSON holds no byte as the last one of a magic, so that what holds another magic is no header. And
    objects do not overlap: headers that nothing follows may claim no more than 4 times the pack.
    """
    search = Search(file)
    doubtful = 4 * search.end
    offset = search.find(0, search.end)
    while offset >= 0:
        following = offset + 1
        with contextlib.suppress(Damage):
            file.seek(offset + 4)
            size = int.from_bytes(file.read(4), "little")
            require(size <= HEADER and search.find(offset + 1, offset + 8 + size) < 0, "no header")
            header = object_header(file, offset)
            whole = header["end"] == search.end or magic_at(file, header["end"]) in (OBJECT, INDEX)
            claimed = header["end"] - offset
            doubtful -= 0 if whole else claimed
            if header["end"] <= search.end and doubtful >= 0:
                yield str(header["blake3"]), Place(pack, offset, claimed)
            following = header["end"] if whole else offset + 1
        offset = search.find(following, search.end)


class Packs:
    """All objects of some packs. Damage sends it the long way round before it gives up."""

    def __init__(self, root: Path, zstandard: Zstandard, check: bool, log: Log) -> None:
        self.root, self.zstandard, self.check, self.log = root, zstandard, check, log
        self.places: dict[str, list[Place]] = {}
        self.opened: dict[Path, bool] = {}  # and whether the pack was walked through
        self.needed: set[str] = set()  # objects: what else lies in a pack is not remembered

    def begin(self, files: Sequence[Json]) -> None:
        """Forget the packs before, and what was needed of them."""
        self.places, self.opened = {}, {}
        self.needed = {name for file in files for _, name in file["segments"]}

    def learn(self, name: str, place: Place) -> None:
        """Remember where a needed object lies."""
        if name in self.needed:
            self.places.setdefault(name, []).append(place)

    def open(self, pack: Path) -> None:
        """Learns a pack's objects from its index, or by walking if that is damaged."""
        if pack in self.opened:
            return
        self.opened[pack] = False
        try:
            with reading(pack), opened(pack) as file:
                for name, place in read_index(file, pack).items():
                    self.learn(name, place)
                document(skippable(file, 0, HEAD), "pack")
        except (Damage, Stop) as error:  # the seal, whose digest is right, said that it is format 1
            self.log.damage(error)
            self.walk(pack)

    def walk(self, pack: Path) -> None:
        """Learns a pack's objects from their own headers."""
        if self.opened[pack]:
            return
        self.opened[pack] = True
        with contextlib.suppress(OSError, Damage), opened(pack) as file:
            for name, place in walk(file, pack):
                self.learn(name, place)

    def every_place(self, name: str) -> Iterator[Place]:
        """First what the indexes say, then what walking finds, then all packs of the archive."""
        yield from list(self.places.get(name, []))
        for pack in list(self.opened):
            self.walk(pack)
        yield from list(self.places.get(name, []))
        for pack in sorted(self.root.glob("packs/*/*.pack")):
            self.open(pack)
        yield from list(self.places.get(name, []))

    def read(self, place: Place, name: str, size: int) -> Stored:
        """The object `name` from where it is said to lie."""
        with opened(place.pack) as file:
            header = object_header(file, place.offset)
            require(header["blake3"] == name and header["size"] == size, "is another object")
            require(header["end"] == place.offset + place.stored, "the index is wrong")
            file.seek(header["start"])
            frames = [file.read(length) for length in header["frames"]]
        return Stored(header, frames, stream_sizes(header, frames))

    def decode(self, objects: Sequence[Stored]) -> list[bytes]:
        """Decompresses all frames of some objects at once, then undoes their codecs."""
        frames = [frame for item in objects for frame in item.frames]
        sizes = [size for item in objects for size in item.sizes]
        streams = iter(self.zstandard.inflate(frames, sizes))
        plain = []
        for header, own, _ in objects:
            data = undo_codec(header, [next(streams) for _ in own])
            require(len(data) == header["size"], "has another length")
            require(not self.check or blake3(data) == header["blake3"], "has another BLAKE3")
            plain.append(data)
        return plain

    def fetch(self, segments: Sequence[Any]) -> list[bytes]:
        """The plain bytes of segments `[size, blake3]`; if anything is wrong, one by one."""
        try:
            with reading("the first places"):
                first = [(self.places[name][0], name, size) for size, name in segments]
                return self.decode([self.read(*item) for item in first])
        except Damage:
            return [self.fetch_anywhere(name, size) for size, name in segments]

    def fetch_anywhere(self, name: str, size: int) -> bytes:
        """One object from the first place where it is good."""
        tried: set[Place] = set()
        for place in self.every_place(name):
            if place in tried:
                continue
            tried.add(place)
            try:
                with reading(f"{place.pack}: object {name} at offset {place.offset}"):
                    return self.decode([self.read(place, name, size)])[0]
            except Damage as error:
                self.log.damage(error)
        raise Damage(f"object {name}: {'every copy is damaged' if tried else 'is in no pack'}")


# ---- Sections 6 and 7: seals and manifests ------------------------------------------------------


class Seal(NamedTuple):
    """A snapshot: which manifest is held, in which packs."""

    repository: str
    revision: str
    whole: bool  # no selection: every file of the revision
    sealed: str
    id: str
    path: Path
    body: Json
    rank: int | None  # the lowest voucher of its files, section 7.1; None: its manifest tells

    def __str__(self) -> str:
        return f"{self.repository}@{self.revision}"


def read_seal(path: Path) -> Seal:
    """A seal that is what its name says."""
    with reading(path):
        data, (revision, digest) = read_whole(path, SEAL), path.name.split(".")[:2]
        require(blake3(data) == digest, "its BLAKE3 is not the one in its name")
        body = document(data, "snapshot")
        require(body["revision"] == revision, "its revision is not the one in its name")
        patterns = max(len(body["selection"][key]) for key in ("include", "exclude"))
        require(len(body["packs"]) <= PACKS and patterns <= PATTERNS, "more than it may list")
        whole = not any(body["selection"].values())
        name, sealed = str(body["repository"]), str(body["sealed"])
        return Seal(name, revision, whole, sealed, digest, path, body, rank_of(body))


def rank_of(body: Json) -> int | None:
    """The lowest rank of those who vouched for a seal's files; what is not known is nobody's."""
    if "vouched" not in body:
        return None
    runs = [(count, str(word), str(digest)) for count, word, digest in body["vouched"]]
    require(all(type(count) is int for count, _, _ in runs), "vouched holds an impossible count")
    fit = sum(count for count, _, _ in runs) == body["totals"]["files"]
    if not fit or any(count < 1 for count, _, _ in runs):
        return 0
    ranks = [VOUCHERS.get(word, 0) for _, word, digest in runs if digest in DIGESTS]
    return 0 if len(ranks) < len(runs) else min(ranks, default=UPSTREAM)


def read_seals(root: Path, log: Log) -> list[Seal]:
    """Every seal of the archive; before that, whether this is an archive that may be read."""
    seals = []
    known = False
    try:
        with reading(root / "archive.json"):
            document(read_whole(root / "archive.json", MIB), "archive")
            known = True
    except Damage as error:
        log.damage(f"{error}; the seals must say what this is")
    for path in sorted(root.glob("snapshots/*/*/*.json")):
        if re.fullmatch(r"[0-9a-f]{40}\.[0-9a-f]{64}\.json", path.name):
            try:
                seals.append(read_seal(path))
            except Damage as error:
                log.damage(error)
    if not known and not seals:
        raise Stop(10, f"{root}: no archive here: neither archive.json nor any good seal")
    return seals


def matching(seals: Sequence[Seal], wanted: str) -> list[Seal]:
    """The seals of `repository`, `repository@beginning-of-revision-or-id` or `beginning-of-id`."""
    name, _, prefix = wanted.rpartition("@")
    found = [seal for seal in seals if seal.repository == wanted]
    found += [s for s in seals if s.repository == name and s.revision.startswith(prefix)]
    if not found and len(prefix) >= ID_DIGITS:
        found = [s for s in seals if name in ("", s.repository) and s.id.startswith(prefix)]
    if not found:
        raise Stop(2, f"{wanted}: no such snapshot here; `list` shows what there is")
    return found


def voucher(root: Path, seal: Seal, zstandard: Zstandard) -> int:
    """Who vouched for a seal's files, also where only its manifest tells (section 7.1)."""
    if seal.rank is not None:
        return seal.rank
    try:
        path, manifest = open_manifest(root, seal, zstandard)
        with reading(path):
            by = UPSTREAM if manifest["source"]["upstream"] == "huggingface" else VOUCHERS["cache"]
            ranks = [by if f.get("lfs") or f.get("oid") else 0 for f in manifest["files"]]
            return min(ranks, default=UPSTREAM)
    except Damage:
        return UPSTREAM  # so that it is named as damaged, and nothing takes its place unseen


def choose(packs: Packs, seals: Sequence[Seal]) -> Seal:
    """The best of these seals: the highest voucher, a whole one, the last one, the greatest id."""
    if len(seals) == 1:
        return seals[0]

    def order(seal: Seal) -> tuple[int, bool, str, str]:
        rank = voucher(packs.root, seal, packs.zstandard)
        return rank, seal.whole, seal.sealed, seal.id

    return max(seals, key=order)


def lean(pairs: list[tuple[str, Any]]) -> Json | None:
    """An object of a manifest: tensors, which nothing here needs, are not kept."""
    found = dict(pairs)
    return None if "dtype" in found and "shape" in found else found


def lean_bytes(pairs: list[tuple[str, Any]]) -> Json | None:
    """The same where the text came as Latin-1, in which a byte stays a byte."""
    found = lean(pairs)
    if found is None:
        return None
    for key, value in pairs:
        if type(value) is str and not value.isascii():
            found[key] = value.encode("latin-1").decode("utf-8")
    return found


def load_manifest(data: bytes) -> Any:
    """A manifest's JSON, without what would take more memory than a reader must have."""
    few = all(data.count(sign) <= most for sign, most in VALUES.items())
    require(few, "more values than a manifest may hold")
    if re.search(rb"\\u(?!00[01])", data):  # escapes that canonical JSON has not
        require(len(data) <= 16 * MIB, "not canonical")
        return json.loads(data, object_pairs_hook=lean)
    # One letter beyond Latin-1 would make each of 64 million take four bytes.
    return json.loads(data.decode("latin-1"), object_pairs_hook=lean_bytes)


def open_manifest(root: Path, seal: Seal, zstandard: Zstandard) -> tuple[Path, Json]:
    """The manifest of a seal, which is what its name says, and where it lies."""
    with reading(seal.path):
        digest, size = seal.body["manifest"]["blake3"], seal.body["manifest"]["size"]
        require(HEX64.fullmatch(digest) is not None and size <= MANIFEST, "impossible manifest")
    folder = root.joinpath("manifests", *seal.path.parts[-3:-1])
    path = folder / f"{seal.revision}.{digest}.json.zst"
    with reading(path):
        frame = read_whole(path, MANIFEST)
        require(content_size(frame) in (None, size), "its length is not the one in the seal")
        data = zstandard.inflate([frame], [size])[0]
        del frame
        require(blake3(data) == digest, "its BLAKE3 is not the one in its name")
        manifest = document(data, "manifest", load_manifest)
        count = sum(len(file["segments"]) for file in manifest["files"])
        require(len(manifest["files"]) <= FILES and count <= SEGMENTS, "more than it may list")
        same = all(manifest["source"][key] == seal.body[key] for key in ("repository", "revision"))
        require(same, "is of another repository or revision than its seal")
        return path, manifest


def read_manifest(root: Path, seal: Seal, zstandard: Zstandard) -> list[Json]:
    """The files of a snapshot, with safe paths and possible segments."""
    path, manifest = open_manifest(root, seal, zstandard)
    with reading(path):
        for file in manifest["files"]:
            sizes = [size for size, name in file["segments"] if HEX64.fullmatch(name)]
            possible = (type(size) is int and 1 <= size <= SEGMENT for size in sizes)
            require(all(possible), f"{file['path']!r}: a segment of impossible size")
            require(sum(sizes) == file["size"], f"{file['path']!r}: segments do not make its size")
            named = all(HEX64.fullmatch(file[key]) for key in ("sha256", "blake3"))
            require(named, f"{file['path']!r}: a digest that is none")
        check_paths([file["path"] for file in manifest["files"]])
        return list(manifest["files"])


def check_paths(paths: Sequence[str]) -> None:
    """Section 6.3: nothing is written if one path of the manifest is not possible."""
    for path in paths:
        parts = path.split("/")
        control = any(c == "\\" or unicodedata.category(c) == "Cc" for c in path)
        safe = not control and not {"", ".", ".."} & set(parts) and not os.path.splitdrive(path)[0]
        lengths = [len(text.encode("utf-8")) for text in [path, *parts]]
        require(safe and lengths[0] <= 1024 and max(lengths[1:]) <= 255, f"unsafe path {path!r}")
    # No path holds a lower character, so that what lies in a folder comes right after its name.
    before = "\0"
    for path in sorted(path.replace("/", "\0") for path in paths):
        require(path != before, f"two files under one path {path!r}")
        require(not path.startswith(before + "\0"), f"both file and folder: {before!r}")
        before = path


# ---- Section 9: restoring a file, and the three commands ----------------------------------------


def batches(segments: Sequence[Any]) -> Iterator[list[Any]]:
    """Segments in groups of at most 16 MiB, so that memory stays flat whatever the file's size."""
    batch: list[Any] = []
    for segment in segments:
        if len(batch) == 256 or sum(size for size, _ in batch) + segment[0] > SEGMENT:
            yield batch
            batch = []
        batch.append(segment)
    if batch:
        yield batch


def copy_file(packs: Packs, file: Json, write: Callable[[bytes], Any]) -> None:
    """Every byte of a file goes to `write`; Damage at the end if they were not the right ones."""
    sha256 = hashlib.sha256()
    for batch in batches(file["segments"]):
        for data in packs.fetch(batch):
            sha256.update(data)
            write(data)
    require(sha256.hexdigest() == file["sha256"], "its SHA-256 is not the one in the manifest")


class Unportable(Exception):
    """This filesystem cannot hold the name of a file, or not beside the others."""


NOT_A_NAME = (errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ, errno.ENOTDIR, errno.EEXIST)


def restore_file(packs: Packs, file: Json, destination: Path) -> None:
    """Under another name first: the final one is given only to a file that is right."""
    final = destination / file["path"]
    partial = destination / f".partial-{secrets.token_hex(8)}"
    try:
        with partial.open("xb") as sink:
            copy_file(packs, file, sink.write)
            sink.flush()
            os.fsync(sink.fileno())
        try:
            final.parent.mkdir(parents=True, exist_ok=True)
            if os.path.lexists(final):
                raise Unportable("there is a file of that name; nothing is overwritten")
            partial.rename(final)
        except OSError as error:
            if error.errno not in NOT_A_NAME:
                raise
            raise Unportable(f"this filesystem cannot hold the name: {error.strerror}") from None
    finally:
        if partial.exists():
            partial.unlink()


def open_snapshot(packs: Packs, seal: Seal) -> list[Json]:
    """Its files; its packs are opened."""
    files = read_manifest(packs.root, seal, packs.zstandard)
    packs.begin(files)
    with reading(seal.path):
        for name, _ in seal.body["packs"]:
            require(HEX64.fullmatch(name) is not None, "names an impossible pack")
            packs.open(packs.root / "packs" / name[:2] / f"{name}.pack")
    return files


def restore(packs: Packs, seal: Seal, destination: Path) -> None:
    """Restores what can be restored, and names what cannot."""
    if os.path.lexists(destination) and not (
        destination.is_dir() and {one.name for one in destination.iterdir()} <= {"lost+found"}
    ):
        raise Stop(2, f"{destination}: exists and is not an empty directory")
    selection = seal.body["selection"]
    chosen = "" if seal.whole else f"; chosen files only: {selection}"
    if selection.get("completeness"):
        chosen = f"; perhaps not every file of the revision: {selection}"
    packs.log.note(f"restoring {seal}, sealed {seal.sealed}, id {seal.id}{chosen}")
    files = open_snapshot(packs, seal)
    destination.mkdir(parents=True, exist_ok=True)
    good = unportable = 0
    for file in files:
        try:
            restore_file(packs, file, destination)
            print(shown(f"ok {file['size']:>15} {file['path']}"), flush=True)
            good += 1
        except Unportable as error:
            packs.log.note(f"left out: {file['path']}: {error}")
            unportable += 1
        except Damage as error:
            packs.log.damage(f"{seal} {file['path']}: {error}")
    print(f"{good} of {len(files)} files restored to {destination}")
    if good + unportable < len(files):
        raise Stop(20, f"{len(files) - good} of {len(files)} files could not be restored")
    if unportable:
        raise Stop(3, f"{unportable} files have names that this filesystem cannot hold here")


def verify(packs: Packs, seals: Sequence[Seal]) -> None:
    """Decodes everything and writes nothing. A file that recurs is read once."""
    proven = set()
    for seal in sorted(seals):
        good = 0
        try:
            files = open_snapshot(packs, seal)
        except Damage as error:
            packs.log.damage(error)
            continue
        for file in files:
            content = hashlib.sha256(repr((file["sha256"], file["segments"])).encode()).digest()
            try:
                if content not in proven:
                    copy_file(packs, file, len)
                proven.add(content)
                good += 1
            except Damage as error:
                packs.log.damage(f"{seal} {file['path']}: {error}")
        print(shown(f"{seal} {seal.id}: {good} of {len(files)} files good"), flush=True)


def run(arguments: argparse.Namespace, log: Log) -> None:
    """One of the three commands."""
    root = Path(arguments.directory)
    seals = read_seals(root, log)
    if arguments.repository:
        seals = matching(seals, arguments.repository)
    if arguments.command == "list":
        for seal in sorted(seals, key=lambda seal: (seal.repository, seal.sealed, seal.id)):
            with reading(seal.path):
                totals = " ".join(f"{k}={v}" for k, v in sorted(seal.body["totals"].items()))
            chosen = "" if seal.whole else " chosen-files-only"
            print(shown(f"{seal} {seal.sealed} {totals}{chosen} id={seal.id}"))
    else:
        packs = Packs(root, Zstandard(), arguments.blake3 or BLAKE3 is not None, log)
        if arguments.command == "restore":
            restore(packs, choose(packs, seals), Path(arguments.destination))
        else:
            verify(packs, seals)
    if log.damaged and arguments.command != "restore":
        raise Stop(20, "damage was found")


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("command", choices=("list", "restore", "verify"))
    parser.add_argument("repository", nargs="?", help="Org/Name, or Org/Name@revision-or-seal")
    parser.add_argument("destination", nargs="?", help="for restore: a new or empty directory")
    here = Path(__file__).resolve().parent
    parser.add_argument("-C", dest="directory", default=here, help="the archive (default: here)")
    parser.add_argument("--blake3", action="store_true", help="check objects without the package")
    arguments = parser.parse_args()
    if (arguments.command == "restore") != (arguments.destination is not None):
        parser.error("restore takes REPOSITORY DESTINATION; verify and list at most REPOSITORY")
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # names may be in any script
    log = Log()
    try:
        run(arguments, log)
    except Stop as error:
        log.note(f"decode: {error}")
        return error.code
    except Damage as error:
        log.damage(error)
        return 20
    except OSError as error:
        log.note(f"decode: {error}")
        return 1
    return 0


if __name__ == "__main__":
    if sys.getfilesystemencoding() != "utf-8":
        # Names of files are UTF-8, whatever the locale says: section 6.3. Only a new start can say so.
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.argv])  # noqa: S606
    sys.exit(main())
