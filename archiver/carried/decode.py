"""Restores and checks every snapshot of the archive that this file lies in.

    python3 decode.py list
    python3 decode.py restore REPOSITORY[@REVISION] DESTINATION
    python3 decode.py verify [REPOSITORY[@REVISION]]

It needs Python 3.8 or later and nothing but its standard library. Zstandard is quick with Python
3.14's own `compression.zstd`, with one of the packages `backports.zstd`, `zstandard`, `pyzstd`, or
with the program `zstd`; without them this file decompresses by itself, at some 2 MB/s. It only
reads the archive (`-C DIRECTORY` for one elsewhere; `--packs DIRECTORY` for packs kept elsewhere).
On a volume of a bundle it also reads the volumes beside it; `--packs` names those on other media.

The comments name sections of FORMAT.md, which lies beside this file and says everything that is
done here. What is checked: the size and SHA-256 of every file, always; the BLAKE3 of every seal
and manifest, always; the BLAKE3 of every object where the package `blake3` is installed, or with
`--blake3` (in Python alone, slower), or where a file is not right without. A file that fails a
check never appears under its name. What is damaged is looked for elsewhere, as section 9.1 says:
in other packs, in copies inside packs, in parity, in files out of use.

Exit codes: 0 all is well; 1 this machine failed (disk full); 2 usage; 3 this filesystem cannot
hold the names of some files, the others are restored (`--rename` gives them other names), or what
was restored came in place of a newer writer's snapshot; 10 no archive here, or a format this reader
does not know; 20 damage, and it was named. `restore` ends with 0 if every file came out right, even
past damage; `verify` then still ends with 20.
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
import struct
import subprocess
import sys
import threading
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import IO, Self

    Json = dict[str, Any]
    Row = tuple[int, int, int]  # of a table of states: symbol, bits to read, what to add to them

EDITION = 4  # of this file, section 2: a newer one replaces an older one
HEAD, OBJECT, INDEX, TRAILER, PARITY = (0x184D2A50 + i for i in range(5))  # sections 3 and 10
MIB = 1 << 20
SEGMENT = 16 * MIB  # the longest segment, section 5
SEAL, INDEX_SIZE, MANIFEST = 8 * MIB, 16 * MIB, 64 * MIB  # section 1: never more
HEADER, STORED, EVENT = 64 << 10, 40 * MIB, MIB
VALUES = {b",": 4_000_000, b"[": 1_500_000, b"{": 1_000_000}  # how often, in a manifest
FILES, SEGMENTS, PACKS, PATTERNS = 100_000, 500_000, 100_000, 10_000
HEX64 = re.compile("[0-9a-f]{64}")
DOCUMENT = re.compile(r"([0-9a-f]{40}|[0-9a-f]{64})\.([0-9a-f]{64})\.json(\.zst)?")
PIECE = re.compile(r"([0-9a-f]{64})\.pack\.([0-9]{4})-([0-9]{4})")  # section 13
VOLUME_NAME = "volume-[0-9][0-9][0-9][0-9]"
EVENT_NAME = re.compile(r"([0-9]{8}t[0-9]{6}z)\.([0-9a-f]{64})\.json")
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


class Unknown(Exception):
    """A seal, pack or sidecar of a format or with features that this reader does not know."""

    features: Any = ()


class Log:
    """Says things on standard error, and remembers what any of them was about."""

    damaged = False
    skipped = False

    def damage(self, message: object) -> None:
        """Says it, and lets `verify` fail for it."""
        self.damaged = True
        self.note(f"damage: {message}")

    def skip(self, message: object) -> None:
        """What is not understood is passed over, section 2.3."""
        self.skipped = True
        self.note(f"passed over: {message}")

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


# ---- Zstandard: a module, the program, or by hand -----------------------------------------------


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

    def inflate(self, frames: Sequence[bytes], sizes: Sequence[int]) -> list[bytes]:
        """The contents of frames whose plain sizes are known; never more bytes than that."""
        if self.module:
            return [self.by_module(frame, size) for frame, size in zip(frames, sizes)]
        if not self.program:
            return [inflate(frame, size) for frame, size in zip(frames, sizes)]
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


# ---- Zstandard in Python alone: RFC 8878, without dictionaries. Slow, but always there -----------

WINDOW, BLOCK_MOST = 32 * MIB, 128 << 10
P64 = (11400714785074694791, 14029467366897019727, 1609587929392839161, 9650029242287828579)
P5, M64 = 2870177450012600261, (1 << 64) - 1


def xxh64(data: bytes) -> int:
    """The checksum of a frame is the lower half of this."""

    def turned(value: int, by: int) -> int:
        return (value << by | value >> 64 - by) & M64

    def mixed(lane: int, word: int) -> int:
        return turned(lane + word * P64[1] & M64, 31) * P64[0] & M64

    total = P5
    whole = len(data) // 32 * 32
    if whole:
        a, b, c, d = (P64[0] + P64[1] & M64, P64[1], 0, M64 + 1 - P64[0])
        for at in range(0, whole, 1 << 16):
            words = struct.unpack_from(f"<{min(1 << 16, whole - at) // 8}Q", data, at)
            for i in range(0, len(words), 4):
                a, b = mixed(a, words[i]), mixed(b, words[i + 1])
                c, d = mixed(c, words[i + 2]), mixed(d, words[i + 3])
        total = turned(a, 1) + turned(b, 7) + turned(c, 12) + turned(d, 18) & M64
        for lane in (a, b, c, d):
            total = (total ^ mixed(0, lane)) * P64[0] + P64[3] & M64
    total, at = total + len(data) & M64, whole
    for width, first, turn, second, third in (
        (8, 0, 27, P64[0], P64[3]),
        (4, P64[0], 23, P64[1], P64[2]),
        (1, P5, 11, P64[0], 0),
    ):
        while len(data) - at >= width:
            word = int.from_bytes(data[at : at + width], "little")
            total ^= word * first & M64 if first else mixed(0, word)
            total, at = turned(total, turn) * second + third & M64, at + width
    total = (total ^ total >> 33) * P64[1] & M64
    total = (total ^ total >> 29) * P64[2] & M64
    return total ^ total >> 32


class Backward:
    """A stream of bits that is read from its end; beyond its beginning there are zeros."""

    def __init__(self, data: bytes) -> None:
        require(len(data) > 0 and data[-1] > 0, "zstd: a stream without an end")
        self.data, self.left = data, 8 * len(data) - 9 + data[-1].bit_length()

    def read(self, count: int) -> int:
        """The next bits, at most 56, as a number."""
        self.left -= count
        at = max(self.left, 0)
        value = int.from_bytes(self.data[at >> 3 : (at >> 3) + 8], "little") >> (at & 7)
        if self.left >= 0:
            return value & (1 << count) - 1
        return (value & (1 << max(count + self.left, 0)) - 1) << -self.left & (1 << count) - 1


def states(shares: Sequence[int], log: int) -> list[Row]:
    """A table of states from the shares of symbols, section 4.1.1; a share of -1 is less than 1."""
    size, step = 1 << log, (5 << log >> 3) + 3
    symbols, high = [0] * size, size
    for symbol, share in enumerate(shares):
        if share < 0:
            high -= 1
            symbols[high] = symbol
    at = 0
    for symbol, share in enumerate(shares):
        for _ in range(share):
            symbols[at] = symbol
            at = at + step & size - 1
            while at >= high:
                at = at + step & size - 1
    following = [abs(share) for share in shares]
    rows = []
    for symbol in symbols:
        number = following[symbol]
        following[symbol] += 1
        bits = log + 1 - number.bit_length()
        rows.append((symbol, bits, (number << bits) - size))
    return rows


def read_states(data: bytes, at: int, symbols: int, log_most: int) -> tuple[list[Row], int]:
    """A stored table, section 4.1.1, and where it ends."""
    value, end = int.from_bytes(data[at : at + 256], "little"), 4
    log = (value & 15) + 5
    require(at < len(data) and log <= log_most, "zstd: a table too large")
    left, shares = 1 << log, []
    while left > 0:
        bits = (left + 1).bit_length()
        share, low = value >> end & (1 << bits) - 1, (1 << bits - 1) - 1
        short = (1 << bits) - 2 - left
        end += bits
        if share & low < short:
            share, end = share & low, end - 1
        elif share > low:
            share -= short
        left -= abs(share - 1)
        shares.append(share - 1)
        while share == 1:
            zeros = value >> end & 3
            end += 2
            shares += [0] * zeros
            share = 1 if zeros == 3 else 0
            require(len(shares) <= symbols, "zstd: a table of too many symbols")
        require(len(shares) <= symbols, "zstd: a table of too many symbols")
    after = at + (end + 7) // 8
    require(left == 0 and after <= len(data), "zstd: a table that does not add up")
    return states(shares, log), after


class Huffman(NamedTuple):
    """Which symbol the next bits mean, and how many of them."""

    bits: int
    symbols: bytes
    lengths: bytes


def read_huffman(data: bytes) -> tuple[Huffman, int]:
    """A tree of literals, section 4.2.1, and where it ends."""
    require(len(data) > 0, "zstd: no tree")
    size = data[0]
    if size >= 128:
        end = 1 + (size - 126) // 2
        weights = [n for byte in data[1:end] for n in (byte >> 4, byte & 15)][: size - 127]
    else:
        end, weights = 1 + size, []
        table, at = read_states(data[:end], 1, 13, 6)
        stream = Backward(data[at:end])
        log = len(table).bit_length() - 1
        now, other = stream.read(log), stream.read(log)
        require(stream.left >= 0, "zstd: a tree is cut short")
        while True:
            symbol, bits, base = table[now]
            weights.append(symbol)
            now, other = other, base + stream.read(bits)
            if stream.left < 0:
                weights.append(table[now][0])
                break
            require(len(weights) <= 255, "zstd: a tree of too many symbols")
    require(end <= len(data) and len(weights) <= 255, "zstd: a tree is cut short")
    total = sum(1 << weight >> 1 for weight in weights)
    bits = total.bit_length()
    rest = (1 << bits) - total
    require(total > 0 and bits <= 11 and not rest & rest - 1, "zstd: a tree that does not add up")
    weights.append(rest.bit_length())
    symbols, lengths = bytearray(), bytearray()
    for weight in range(1, bits + 1):
        for symbol, own in enumerate(weights):
            if own == weight:
                symbols += bytes([symbol]) * (1 << weight - 1)
                lengths += bytes([bits + 1 - weight]) * (1 << weight - 1)
    return Huffman(bits, bytes(symbols), bytes(lengths)), end


def read_literals(data: bytes, count: int, tree: Huffman) -> bytes:
    """One stream of literals, section 4.2.2."""
    require(len(data) > 0 and data[-1] > 0, "zstd: a stream without an end")
    bits, symbols, lengths = tree
    turned = data[::-1] + bytes(8)
    held = turned[0].bit_length() - 1
    window, at, mask = turned[0] & (1 << held) - 1, 1, (1 << bits) - 1
    out = bytearray(count)
    for i in range(count):
        if held < bits:
            window = (window & (1 << held) - 1) << 32 | int.from_bytes(turned[at : at + 4], "big")
            at, held = at + 4, held + 32
            require(at <= len(turned), "zstd: literals are cut short")
        code = window >> held - bits & mask
        out[i] = symbols[code]
        held -= lengths[code]
    require(8 * (at - len(data)) == held, "zstd: literals do not end where they should")
    return bytes(out)


def running(start: int, bits: Sequence[int]) -> list[tuple[int, int]]:
    """For each code the number it begins at, and how many further bits are added."""
    rows = []
    for count in bits:
        rows.append((start, count))
        start += 1 << count
    return rows


LITERALS = running(0, [0] * 16 + [1, 1, 1, 1, 2, 2, 3, 3, 4, *range(6, 17)])
MATCHES = running(3, [0] * 32 + [1, 1, 1, 1, 2, 2, 3, 3, 4, 4, 5, *range(7, 17)])
USUAL = (  # the tables that need not be stored, section 3.1.1.3.2.2: of literals, offsets, matches
    ([4, 3] + [2] * 11 + [1, 1, 1] + [2] * 9 + [3, 2, 1, 1, 1, 1, 1] + [-1] * 4, 6),
    ([1] * 6 + [2] * 3 + [1] * 15 + [-1] * 5, 5),
    ([1, 4, 3] + [2] * 6 + [1] * 37 + [-1] * 7, 6),
)
LARGEST = ((36, 9), (32, 8), (53, 9))  # symbols, and the logarithm of states, of each of the three


class Inflater:
    """One frame; what one block leaves for the next: tree, tables, and the last three offsets."""

    def __init__(self, most: int) -> None:
        self.out, self.most, self.block_most = bytearray(), most, BLOCK_MOST
        self.tree: Huffman | None = None
        self.tables: list[list[Row]] = [[], [], []]
        self.offsets = [1, 4, 8]

    def frame(self, data: bytes) -> bytes:
        """Section 3.1.1."""
        size = content_size(data)
        single, check, at = data[4] >> 5 & 1, data[4] >> 2 & 1, 5
        window = size or 0
        if not single:
            window = (8 + (data[at] & 7)) << 7 + (data[at] >> 3)
            at += 1
        require(window <= max(WINDOW, self.most * single), "zstd: too large a window")
        ids = (0, 1, 2, 4)[data[4] & 3]
        require(not any(data[at : at + ids]) and not data[4] & 8, "zstd: a dictionary is asked for")
        at += ids + (single, 2, 4, 8)[data[4] >> 6]
        self.block_most = min(window, BLOCK_MOST)
        last = 0
        while not last:
            require(at + 3 <= len(data), "zstd: a frame is cut short")
            head = int.from_bytes(data[at : at + 3], "little")
            last, kind, length = head & 1, head >> 1 & 3, head >> 3
            taken = 1 if kind == 1 else length
            block, at = data[at + 3 : at + 3 + taken], at + 3 + taken
            require(length <= self.block_most and len(block) == taken, "zstd: a block is cut short")
            if kind == 2:
                self.compressed(block)
            else:
                require(kind < 2, "zstd: a block of no kind")
                self.out += block * length if kind else block
            require(len(self.out) <= self.most, "zstd: more than it should be")
        require(size in (None, len(self.out)), "zstd: another length than it says")
        whole = bytes(self.out)
        if check:
            checksum, at = data[at : at + 4], at + 4
            require(
                checksum == xxh64(whole).to_bytes(8, "little")[:4], "zstd: the checksum is wrong"
            )
        require(at == len(data), "zstd: something follows the frame")
        return whole

    def compressed(self, block: bytes) -> None:
        """Section 3.1.1.3: literals, then sequences that lay them out and copy what was before."""
        literals, at = self.literals(block)
        head = block[at : at + 3]
        require(len(head) > 0, "zstd: a block is cut short")
        count, width = head[0], 1
        if count == 255:
            count, width = int.from_bytes(head[1:], "little") + 0x7F00, 3
        elif count >= 128:
            count, width = (count - 128 << 8) + head[1], 2
        at += width
        before = len(self.out)
        if count == 0:
            require(at == len(block), "zstd: something follows the literals")
            self.out += literals
        else:
            self.sequences(block, at, count, literals)
        require(len(self.out) - before <= self.block_most, "zstd: a block too long")

    def literals(self, block: bytes) -> tuple[bytes, int]:
        """Section 3.1.1.3.1, and where it ends."""
        require(len(block) > 0, "zstd: an empty block")
        kind, form = block[0] & 3, block[0] >> 2 & 3
        if kind < 2:
            width = (1, 2, 1, 3)[form]
            size = int.from_bytes(block[:width], "little") >> (4 if form & 1 else 3)
            taken = 1 if kind else size
            data = block[width : width + taken]
            require(len(data) == taken and size <= self.block_most, "zstd: literals are cut short")
            return data * size if kind else data, width + taken
        width, bits = ((3, 10), (3, 10), (4, 14), (5, 18))[form]
        head = int.from_bytes(block[:width], "little") >> 4
        size, taken = head & (1 << bits) - 1, head >> bits
        data, end = block[width : width + taken], width + taken
        require(end <= len(block) and size <= self.block_most, "zstd: literals are cut short")
        start = 0
        if kind == 2:
            self.tree, start = read_huffman(data)
        require(self.tree is not None, "zstd: no tree")
        assert self.tree is not None
        if form == 0:
            return read_literals(data[start:], size, self.tree), end
        require(len(data) >= start + 6, "zstd: literals are cut short")
        cuts = [start + 6]
        cuts += [int.from_bytes(data[start + i : start + i + 2], "little") for i in (0, 2, 4)]
        cuts = [sum(cuts[: i + 1]) for i in range(4)] + [len(data)]
        quarter = (size + 3) // 4
        counts = [quarter, quarter, quarter, size - 3 * quarter]
        require(cuts[3] <= len(data) and counts[3] >= 0, "zstd: literals are cut short")
        parts = [read_literals(data[cuts[i] : cuts[i + 1]], counts[i], self.tree) for i in range(4)]
        return b"".join(parts), end

    def sequences(self, block: bytes, at: int, count: int, literals: bytes) -> None:
        """Section 3.1.1.3.2: so many literals, then a match at so great an offset, and so on."""
        require(at < len(block) and not block[at] & 3, "zstd: a block is cut short")
        modes, at = block[at], at + 1
        for i, shift in enumerate((6, 4, 2)):
            mode = modes >> shift & 3
            if mode == 0:
                self.tables[i] = states(*USUAL[i])
            elif mode == 1:
                require(at < len(block) and block[at] < LARGEST[i][0], "zstd: no such symbol")
                self.tables[i], at = [(block[at], 0, 0)], at + 1
            elif mode == 2:
                self.tables[i], at = read_states(block, at, *LARGEST[i])
            require(len(self.tables[i]) > 0, "zstd: no table")
        stream = Backward(block[at:])
        read = stream.read
        tables = self.tables
        states_now = [read(len(table).bit_length() - 1) for table in tables]
        placed = 0
        for number in range(count, 0, -1):
            rows = [table[state] for table, state in zip(tables, states_now)]
            value = (1 << rows[1][0]) + read(rows[1][0])
            start, extra = MATCHES[rows[2][0]]
            length = start + read(extra)
            start, extra = LITERALS[rows[0][0]]
            run = start + read(extra)
            if number > 1:
                first = rows[0][2] + read(rows[0][1])
                third = rows[2][2] + read(rows[2][1])
                states_now = [first, rows[1][2] + read(rows[1][1]), third]
            require(stream.left >= 0, "zstd: sequences are cut short")
            require(placed + run <= len(literals), "zstd: more literals than there are")
            self.out += literals[placed : placed + run]
            placed += run
            self.copy(self.offset(value, run), length)
            require(len(self.out) <= self.most + BLOCK_MOST, "zstd: more than it should be")
        require(stream.left == 0, "zstd: sequences do not end where they should")
        self.out += literals[placed:]

    def offset(self, value: int, run: int) -> int:
        """Section 3.1.1.5: 1 to 3 mean one of the last three offsets, or the newest less one."""
        before = self.offsets
        if value > 3:
            self.offsets = [value - 3, *before[:2]]
        else:
            which = value - (run > 0)
            offset = before[which] if which < 3 else before[0] - 1
            self.offsets = [offset, *before[: max(which, 0)], *before[which + 1 :]][:3]
        return self.offsets[0]

    def copy(self, offset: int, length: int) -> None:
        """What was written so long ago, once more; it may run into itself."""
        require(0 < offset <= len(self.out), "zstd: a match before the beginning")
        start = len(self.out) - offset
        piece = self.out[start : start + length]
        self.out += (piece * (length // len(piece) + 1))[:length]


def unchecked(frame: bytes) -> bytes:
    """The same frame without its checksum."""
    if len(frame) < 9 or not frame[4] & 4:
        return frame
    return frame[:4] + bytes([frame[4] & ~4]) + frame[5:-4]


def inflate(frame: bytes, size: int) -> bytes:
    """The content of one frame, whose plain size is known."""
    data = Inflater(size).frame(frame)
    require(len(data) == size, "zstd: another length than expected")
    return data


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


def blake3_python(data: Any) -> str:
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


class Slices:
    """A file as the bytes that are cut from it: a pack need not fit into memory to be hashed."""

    def __init__(self, file: IO[bytes]) -> None:
        """Its bytes as they are now."""
        self.file, self.size = file, file.seek(0, os.SEEK_END)

    def __len__(self) -> int:
        """In bytes."""
        return self.size

    def __getitem__(self, cut: Any) -> Any:
        """The bytes of a slice."""
        begin, end, _ = cut.indices(self.size)
        self.file.seek(begin)
        return self.file.read(end - begin)

    def blake3(self) -> str:
        """The digest of all."""
        if not BLAKE3:
            return blake3_python(self)
        hasher = BLAKE3.blake3()
        for at in range(0, self.size, MIB):
            hasher.update(self[at : at + MIB])
        return str(hasher.hexdigest())


# ---- Section 4: codecs. Bytes are moved by tables, and joined by OR as long integers ------------

WORD = {0: 1, 1: 2, 2: 4, 3: 2, 4: 4, 5: 2}
STREAMS = {0: 1, 1: 2, 2: 4, 3: 3, 4: 5, 5: 3}
JOINT = (3, 4, 5)  # these have emax, and the exponents of clipped words as their third stream
BLOCK = 1 << 16  # words at a time: small enough for a processor's cache


def table(function: Callable[[int], int]) -> bytes:
    """What becomes of each of the 256 bytes."""
    return bytes(function(byte) & 255 for byte in range(256))


def tables(codec: int, emax: int) -> list[tuple[bytes, bytes]]:
    """How A and B each make the lower and the upper of a word's two high bytes."""
    down, top = table(lambda x: x >> 1), table(lambda x: x << 7)
    if codec in (1, 2):
        return [(top, down), (down, top)]
    # A clipped word gets no exponent here.
    exponent = [emax - (a >> 2) & 255 if a < 252 else 0 for a in range(256)]
    lower = table(lambda a: exponent[a] << 7 | (a & 3) << 5), table(lambda b: b & 31)
    return [lower, (table(lambda a: exponent[a] >> 1), table(lambda b: b >> 5 << 7))]


def both(first: bytes, second: bytes) -> bytes:
    """The bytewise OR of two strings of one length."""
    joined = int.from_bytes(first, "little") | int.from_bytes(second, "little")
    return joined.to_bytes(len(first), "little")


def unpacked(packed: bytes) -> bytes:
    """Codec 5's B, and zeros up to a multiple of four: the last quarter lies above the others."""
    m = len(packed) // 3
    low, last = table(lambda x: x & 63), bytes(m)
    for i in range(3):
        high = table(lambda x, i=i: x >> 6 << 2 * i)  # type: ignore[misc]
        last = both(last, packed[i * m : (i + 1) * m].translate(high))
    return packed.translate(low) + last


def clipped(a: bytes) -> list[int]:
    """Where c = A >> 2 is 63. Such words are rare, and `find` is quick between them."""
    places = []
    for byte in (252, 253, 254, 255):
        at = a.find(byte)
        while at >= 0:
            places.append(at)
            at = a.find(byte, at + 1)
    return sorted(places)


class Recipe(NamedTuple):
    """How an object is made of its frames: section 3.1, from its header or from an index."""

    codec: int
    size: int
    frames: tuple[int, ...]
    emax: int
    tail: bytes


def recipe(codec: Any, size: Any, frames: Any, emax: Any, tail: Any) -> Recipe:
    """The same with everything checked that decoding relies on."""
    require(type(codec) is int and codec in WORD, f"codec {codec!r} is not known")
    require(type(size) is int and 1 <= size <= SEGMENT, "impossible size")
    require(len(frames) == STREAMS[codec], "wrong number of frames")
    possible = (type(n) is int and 0 < n <= 2 * SEGMENT for n in frames)
    require(all(possible) and sum(frames) <= STORED, "impossible frames")
    rest = bytes.fromhex(tail)
    require(len(rest) == size % WORD[codec], "wrong tail")
    require((emax is not None) == (codec in JOINT), "emax where there is none, or none")
    require(emax is None or (type(emax) is int and 0 <= emax <= 255), "wrong emax")
    return Recipe(codec, size, tuple(frames), emax or 0, rest)


def undo_codec(how: Recipe, streams: Sequence[bytes]) -> bytes:
    """The plain bytes of an object, from its decompressed frames."""
    word = WORD[how.codec]
    if word == 1:
        return streams[0]
    d1, d2 = streams[0], unpacked(streams[1]) if how.codec == 5 else streams[1]
    if how.codec in JOINT:  # c > emax: a word that no writer makes
        impossible = bytes(range(min(4 * how.emax + 4, 252), 252))
        require(not impossible or len(d1.translate(None, impossible)) == len(d1), "an exponent < 0")
    out, moves = bytearray(len(d1) * word), tables(how.codec, how.emax)
    for at in range(0, len(d1), BLOCK):
        a, b = d1[at : at + BLOCK], d2[at : min(at + BLOCK, len(d1))]
        for byte, (of_a, of_b) in enumerate(moves, start=word - 2):
            joined = both(a.translate(of_a), b.translate(of_b))
            out[at * word + byte : (at + len(a)) * word : word] = joined
    if how.codec in JOINT:
        places = clipped(d1)
        require(len(places) == len(streams[2]), "clipped words and their exponents do not match")
        for place, exponent in zip(places, streams[2]):
            out[place * word + word - 2] |= exponent << 7 & 128
            out[place * word + word - 1] |= exponent >> 1
    if word == 4:
        out[1::4], out[0::4] = streams[-2:]
    return bytes(out) + how.tail


def stream_sizes(how: Recipe, frames: Sequence[bytes]) -> list[int]:
    """How long each frame is when decompressed; Damage where section 4 wants something else."""
    words = how.size // WORD[how.codec]
    sizes = [content_size(frame) for frame in frames]
    lengths = [words] * len(frames)
    if how.codec in JOINT:  # how many words are clipped is written nowhere else
        lengths[2] = min(sizes[2] or 0, words)
    if how.codec == 5:
        lengths[1] = (words + 3) // 4 * 3
    require(sizes == lengths, "the frames do not have the lengths that the codec gives them")
    return lengths


# ---- Sections 2 and 3: documents and packs ------------------------------------------------------


def document(data: bytes, kind: str, load: Callable[[bytes], Any] = json.loads) -> Json:
    """JSON of this kind, of a format that this reader knows; else Unknown, section 2.3."""
    value = load(data)
    require(value["kind"] == kind, f"not of kind `{kind}`")
    features = value.get("features", {"read": []})["read"] if value["format"] == 1 else []
    if value["format"] != 1 or features:
        knows = "this reader knows 1, []"
        error = Unknown(f"format {value['format']!r}, features {features!r}: {knows}")
        error.features = features
        raise error
    return dict(value)


JOINED: dict[Path, list[tuple[Path, int]]] = {}  # a pack's first piece -> each, and how long it is


def opened(path: Path) -> IO[bytes]:
    """A stored file, or one in pieces: no link, pipe or device, which could wait or never end."""
    if path in JOINED:
        return Joined(JOINED[path])  # type: ignore[return-value] # as much of a file as is needed
    return opened_alone(path)


def opened_alone(path: Path) -> IO[bytes]:
    """The same of one file."""
    extra = (getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY", "O_CLOEXEC"))
    handle = os.open(path, os.O_RDONLY | functools.reduce(operator.or_, extra))
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise Damage("no regular file")
    return os.fdopen(handle, "rb")


class Joined:
    """A pack in pieces, section 13: read like a file, with one piece open at a time."""

    def __init__(self, pieces: Sequence[tuple[Path, int]]) -> None:
        self.paths, self.sizes, self.at = [path for path, _ in pieces], [], 0
        for path, size in pieces:
            with opened_alone(path) as file:
                self.sizes.append(size or file.seek(0, os.SEEK_END))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """No piece is kept open."""

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """As a file's."""
        self.at = offset + (sum(self.sizes) if whence == os.SEEK_END else 0)
        require(self.at >= 0, "the pack is too short")
        return self.at

    def read(self, count: int = -1) -> bytes:
        """As a file's."""
        end = sum(self.sizes) if count < 0 else self.at + count
        parts, begin = [], 0
        for path, size in zip(self.paths, self.sizes):
            if begin <= self.at < min(begin + size, end):
                with opened_alone(path) as file:
                    file.seek(self.at - begin)
                    parts.append(file.read(min(begin + size, end) - self.at))
                self.at += len(parts[-1])
            begin += size
        return b"".join(parts)


def read_whole(path: Path, limit: int) -> bytes:
    """A file that has no reason to be longer than `limit`."""
    with opened(path) as file:
        data = file.read(limit + 1)
    require(len(data) <= limit, f"longer than {limit} bytes")
    return data


def files_below(folder: Path, name: re.Pattern[str]) -> list[Path]:
    """Section 2: files are known by their own names, whatever the folders above are called."""
    paths = []
    for place, _, files in os.walk(folder):
        paths += [Path(place, file) for file in files if name.fullmatch(file)]
    return sorted(paths)


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
    """Where an object lies, and how it is made if a full index entry says so."""

    pack: Path
    offset: int
    stored: int
    how: Recipe | None = None
    rebuilt: bool = False  # read with the blocks that parity gave


class Stored(NamedTuple):
    """An object as it was read from its pack, not yet decompressed."""

    name: str
    how: Recipe
    frames: list[bytes]
    sizes: list[int]


def index_offset(file: IO[bytes]) -> Iterator[int]:
    """Where the index is: as the trailer says, else wherever its magic is, from the end on."""
    end = file.seek(0, os.SEEK_END)
    with contextlib.suppress(Damage):
        yield int.from_bytes(skippable(file, end - 16, TRAILER), "little")
    magic, kept = INDEX.to_bytes(4, "little"), b""
    for at in range(max(end - MIB, 0), max(end - INDEX_SIZE - 2 * MIB, -MIB), -MIB):
        start = max(at, 0)
        file.seek(start)
        block = file.read(min(MIB, end - start, at + MIB - start)) + kept
        place = block.rfind(magic)
        while place >= 0:
            yield start + place
            place = block.rfind(magic, 0, place)
        kept = block[:3]


def read_index(file: IO[bytes], pack: Path) -> tuple[dict[str, Place], str]:
    """The short way to a pack's objects, and what is wrong with it."""
    problem, size = "", file.seek(0, os.SEEK_END)
    for number, offset in enumerate(index_offset(file)):
        if number == 64:
            break
        try:
            with reading("index"):
                document_of = json.loads(skippable(file, offset, INDEX, INDEX_SIZE))
                require(document_of["kind"] == "index", "not of kind `index`")
                rows = list(document_of["objects"])
        except Damage as error:
            problem = problem or str(error)
            continue
        places = {}
        for row in rows:
            try:
                with reading("index"):
                    name, place = read_row(row, pack, size)
                    places[name] = place
            except Damage as error:
                problem = problem or str(error)
        if magic_at(file, size - 16) != TRAILER or number:
            problem = problem or "index: the trailer does not lead to it"
        return places, problem
    return {}, problem or "index: there is none"


def read_row(row: Any, pack: Path, size: int) -> tuple[str, Place]:
    """An entry of an index: five elements of older writers, or eight; a ninth are bases."""
    name, begin, stored, plain, codec = row[:5]
    require(HEX64.fullmatch(name) is not None, "a name that is none")
    require(type(begin) is int and type(stored) is int, "numbers expected")
    possible = begin >= 0 and 8 <= stored <= STORED + HEADER + 8 and begin + stored <= size
    require(possible, "an object that cannot lie so")
    how = None
    if len(row) >= 8 and not any(row[8:9]) and codec in WORD:
        how = recipe(codec, plain, row[5], row[6], row[7])
        require(sum(how.frames) <= stored - 8, "frames that are longer than all of it")
    return name, Place(pack, begin, stored, how)


def object_header(file: IO[bytes], offset: int) -> tuple[str, Recipe, int, int]:
    """Section 3.1: an object's name, how it is made, where its frames begin, and end."""
    with reading(f"object header at offset {offset}"):
        payload = skippable(file, offset, OBJECT)
        header = dict(json.loads(payload))
        require(not header.get("bases"), "codec with bases is not known")
        tail = header.get("tail", "")
        how = recipe(header["codec"], header["size"], header["frames"], header.get("emax"), tail)
        begin = offset + 8 + len(payload)
        return str(header["blake3"]), how, begin, begin + sum(how.frames)


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
            place = self.block.find(magic, begin - self.base, min(end, last) - self.base)
            if place >= 0:
                return self.base + place
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
            name, _, _, end = object_header(file, offset)
            whole = end == search.end or magic_at(file, end) in (OBJECT, INDEX)
            doubtful -= 0 if whole else end - offset
            if end <= search.end and doubtful >= 0:
                yield name, Place(pack, offset, end - offset)
            following = end if whole else offset + 1
        offset = search.find(following, search.end)


# ---- Section 10: what parity gives in place of damaged blocks -----------------------------------


@functools.lru_cache(maxsize=None)
def field() -> tuple[list[int], list[int]]:
    """Powers of 2 in the field of 256 elements, twice around, and their logarithms."""
    powers, logarithms, value = [], [0] * 256, 1
    for exponent in range(255):
        powers.append(value)
        logarithms[value] = exponent
        value = value << 1 ^ (0x11D if value & 128 else 0)
    return powers * 2, logarithms


def product(a: int, b: int) -> int:
    """Of two elements."""
    powers, logarithms = field()
    return powers[logarithms[a] + logarithms[b]] if a and b else 0


def quotient(a: int, b: int) -> int:
    """The element that times b, which is not 0, gives a."""
    powers, logarithms = field()
    return powers[logarithms[a] - logarithms[b] + 255] if a else 0


def interpolated(x: int, known: Sequence[tuple[int, bytes]]) -> bytes:
    """At every byte position the value at x of the polynomial through the known blocks."""
    total = 0
    for at, block in known:
        factor = 1
        for other, _ in known:
            if other != at:
                factor = product(factor, quotient(x ^ other, at ^ other))
        times = table(functools.partial(product, factor))
        total ^= int.from_bytes(block.translate(times), "little")
    return total.to_bytes(len(known[0][1]), "little")


class Rebuilt:
    """A file some blocks of which are others than those on disk; it is read like a file."""

    def __init__(self, path: Path, size: int, block: int, blocks: dict[int, bytes]) -> None:
        self.file = opened(path) if len(blocks) * block < size else None
        self.size, self.block, self.blocks, self.at = size, block, blocks, 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.file:
            self.file.close()

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """As a file's."""
        self.at = offset + (self.size if whence == os.SEEK_END else 0)
        require(self.at >= 0, "the file is too short")
        return self.at

    def read(self, count: int = -1) -> bytes:
        """As a file's."""
        end = self.size if count < 0 else min(self.at + count, self.size)
        parts = []
        while self.at < end:
            number, start = divmod(self.at, self.block)
            stop = min(end - number * self.block, self.block)
            if number in self.blocks:
                parts.append(self.blocks[number][start:stop])
            else:
                assert self.file is not None
                self.file.seek(self.at)
                parts.append(self.file.read(stop - start))
                require(len(parts[-1]) == stop - start, "the file became shorter")
            self.at += stop - start
        return b"".join(parts)


class Sidecar:
    """The parity of one file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with reading(path), opened(path) as file:
            try:
                payload = self.header_at(file, 0)
            except Damage:
                end = file.seek(0, os.SEEK_END) - 16
                at = int.from_bytes(skippable(file, max(end, 0), TRAILER), "little")
                payload = self.header_at(file, at)
            self.header = document(payload[32:], "parity")
            numbers = (self.header[key] for key in ("size", "block", "groups", "parity"))
            self.size, self.block, self.groups, self.parity = numbers
            good = all(type(number) is int for number in (self.size, self.block, self.groups))
            require(good and type(self.parity) is int, "numbers expected")
            require(0 < self.size < 1 << 53 and 0 < self.block <= MIB, "impossible blocks")
            self.digests = [str(name) for name in self.header["data"]]
            self.coded = [str(name) for name in self.header["blocks"]]
            count = -(-self.size // self.block)
            fits = len(self.digests) == count and 1 <= self.groups <= count
            require(fits and len(self.coded) == self.groups * self.parity, "blocks do not fit")
            require(-(-count // self.groups) + self.parity <= 256, "too large a group")
            self.start = 16 + len(payload)

    @staticmethod
    def header_at(file: IO[bytes], offset: int) -> bytes:
        """A header whose digest is right."""
        payload = skippable(file, offset, PARITY, MANIFEST)
        require(blake3(payload[32:]) == payload[:32].hex(), "a damaged parity header")
        return payload

    def rebuild(self, path: Path) -> Rebuilt:
        """The protected file, with every block right; Damage if too much is lost."""
        with contextlib.ExitStack() as stack:
            file = None
            with contextlib.suppress(OSError, Damage):
                file = stack.enter_context(opened(path))
            sidecar = stack.enter_context(opened(self.path))
            bad = [i for i in range(len(self.digests)) if not self.data(file, i)]
            blocks: dict[int, bytes] = {}
            for group in {i % self.groups for i in bad}:
                lost = [i for i in bad if i % self.groups == group]
                blocks.update(self.recover(file, sidecar, group, lost))
        return Rebuilt(path, self.size, self.block, blocks)

    def data(self, file: IO[bytes] | None, number: int) -> bytes:
        """A block of the file if it is right, or nothing."""
        if file is None:
            return b""
        file.seek(number * self.block)
        length = min(self.block, self.size - number * self.block)
        block = file.read(length).ljust(self.block, b"\0")
        return block if blake3(block) == self.digests[number] else b""

    def recover(
        self, file: IO[bytes] | None, sidecar: IO[bytes], group: int, lost: Sequence[int]
    ) -> dict[int, bytes]:
        """The lost data blocks of a group from as many others as it has data blocks."""
        members = range(group, len(self.digests), self.groups)
        points = [0, *field()[0][: len(members) + self.parity]]
        known = []
        for own, number in enumerate(members):
            block = b"" if number in lost else self.data(file, number)
            known += [(points[own], block)] if block else []
        for own in range(self.parity):
            number = group * self.parity + own
            sidecar.seek(self.start + number * self.block)
            block = sidecar.read(self.block)
            if len(known) < len(members) and blake3(block) == self.coded[number]:
                known.append((points[len(members) + own], block))
        require(len(known) == len(members), f"{self.path}: more is lost than parity can give")
        blocks = {}
        for own, number in enumerate(members):
            if number in lost:
                block = interpolated(points[own], known)
                require(blake3(block) == self.digests[number], "parity gives other bytes")
                blocks[number] = block[: min(self.block, self.size - number * self.block)]
        return blocks


def sidecar_of(roots: Sequence[Path], digest: str) -> Path:
    """Where the parity of a file lies, or should lie."""
    paths = [root / "parity" / digest[:2] / f"{digest}.par" for root in roots]
    return next(filter(Path.is_file, paths), paths[0])


def rebuilt(roots: Sequence[Path], digest: str, path: Path) -> Rebuilt:
    """A damaged or lost file whose name has this digest, by its parity."""
    sidecar = sidecar_of(roots, digest)
    with reading(sidecar):
        if not sidecar.is_file():
            raise Damage("there is no parity")
        try:
            return Sidecar(sidecar).rebuild(path)
        except Unknown as error:
            raise Damage(str(error)) from None


def read_rebuilt(roots: Sequence[Path], digest: str, path: Path, limit: int) -> bytes:
    """All of a small file, by its parity."""
    with rebuilt(roots, digest, path) as file:
        require(file.size <= limit, f"longer than {limit} bytes")
        return file.read()


# ---- Section 13: volumes of a bundle -------------------------------------------------------------


def volumes_of(root: Path, elsewhere: Sequence[Path]) -> list[Path]:
    """The archive; or, on a volume, it and the others that are beside it or in further folders."""
    roots = [root]
    if (root / "volume.json").is_file():
        for place in (root.absolute().parent, *elsewhere):
            for folder in [place, *sorted(place.glob(VOLUME_NAME))]:
                there = (folder / "volume.json").is_file()
                if there and not any(folder.resolve() == known.resolve() for known in roots):
                    roots.append(folder)
    return roots


def listing(path: Path) -> dict[str, Any]:
    """What `bundle.json` or `volume.json` says; nothing if it is damaged."""
    with contextlib.suppress(Damage), reading(path):
        data = read_whole(path, 2 * INDEX_SIZE)
        require(sum(map(data.count, b",[{")) <= 2_500_000, "more than a bundle may hold")
        content = json.loads(data)
        require(isinstance(content, dict), "no object")
        return dict(content)
    return {}


def bundled(roots: Sequence[Path]) -> Iterator[tuple[int, str, int]]:
    """Volume, name and size of every file of the bundle, as far as a volume here tells."""
    for root in roots:
        with contextlib.suppress(Damage), reading(root):
            files = listing(root / "bundle.json")["files"]
            yield from [(int(row[0]), str(row[1]), int(row[2])) for row in files]
            return


@functools.lru_cache(maxsize=1)
def volumes_here(roots: Sequence[Path]) -> tuple[list[Any], bool]:
    """The numbers of the volumes of the first one's bundle, and whether a bundle leaves something out."""
    numbers, own, leaves_out = [], None, False
    for root in roots:
        volume = listing(root / "volume.json")
        own = own or volume.get("bundle")
        if own and volume.get("bundle") == own:
            numbers.append(volume.get("number"))
        leaves_out = leaves_out or bool(listing(root / "bundle.json").get("base"))
    return numbers, leaves_out


def carried_by(roots: Sequence[Path], pack: str) -> str:
    """Where a pack is that is not here: on which volumes, or that the bundle leaves it out."""
    if not (roots[0] / "volume.json").is_file():
        return ""
    here, leaves_out = volumes_here(tuple(roots))
    volumes = sorted({volume for volume, name, _ in bundled(roots) if pack in name})
    missing = [volume for volume in volumes if volume not in here]
    numbers = ", ".join(map(str, missing or volumes))
    if missing:
        plural = "s" if len(missing) > 1 else ""
        return f"; it is on volume{plural} {numbers}: name the folder with --packs"
    if volumes:
        plural, are = ("s", "are") if len(volumes) > 1 else ("", "is")
        return f"; it should be on volume{plural} {numbers}, which {are} here"
    if leaves_out:
        return "; this bundle leaves it out: name the volumes of the one before it with --packs"
    return ""


def piece_sizes(roots: Sequence[Path]) -> dict[str, int]:
    """How long each piece should be: one that is cut short moves no other."""
    files = ((name.rpartition("/")[2], size) for _, name, size in bundled(roots))
    return {name: size for name, size in files if PIECE.fullmatch(name) and size > 0}


# ---- Objects out of packs -----------------------------------------------------------------------


class Packs:
    """All objects of some packs. Damage sends it the long way round before it gives up."""

    def __init__(
        self, root: Path, elsewhere: Sequence[Path], zstandard: Zstandard, check: bool, log: Log
    ) -> None:
        self.roots = volumes_of(root, elsewhere)
        self.root, self.elsewhere, self.zstandard = root, [*elsewhere, *self.roots[1:]], zstandard
        self.pieces = self.find_pieces()
        self.check, self.log = check, log
        self.places: dict[str, list[Place]] = {}
        self.opened: dict[Path, bool] = {}  # and whether the pack was walked through
        self.named: list[str] = []  # packs that the seal names
        self.rebuilt: dict[str, Rebuilt | None] = {}
        self.needed: set[str] = set()  # objects: what else lies in a pack is not remembered

    def begin(self, needed: set[str], named: Sequence[str]) -> None:
        """Forget the packs before; open those that are named now."""
        self.close()
        self.places, self.opened, self.rebuilt = {}, {}, {}
        self.needed, self.named = needed, list(named)
        for name in named:
            paths = [path for path in self.paths(name) if os.path.lexists(path)]
            if not paths:
                self.log.damage(f"pack {name} is not here{carried_by(self.roots, name)}")
            for path in paths:
                self.open(path)
        if not named:
            for path in self.all_packs():
                self.open(path)

    def close(self) -> None:
        """Close what was rebuilt."""
        for file in filter(None, self.rebuilt.values()):
            file.__exit__()

    def paths(self, name: str) -> list[Path]:
        """Where a pack may lie: section 3."""
        folders = [self.root / "packs" / name[:2]]
        for place in self.elsewhere:
            folders += [place, place / name[:2], place / "packs" / name[:2]]
        joined = [self.pieces[name]] if name in self.pieces else []
        return [folder / f"{name}.pack" for folder in folders] + joined

    def find_pieces(self) -> dict[str, Path]:
        """Packs all of whose pieces are here, each by its first piece, which stands for it."""
        pieces: dict[tuple[str, str], dict[int, Path]] = {}
        for root in [*self.roots, *self.elsewhere]:
            for path in files_below(root / "pieces" / "packs", PIECE):
                name, number, count = path.name[:64], *path.name[70:].split("-")
                pieces.setdefault((name, count), {}).setdefault(int(number), path)
        whole, sizes = {}, piece_sizes(self.roots)
        for (name, count), paths in pieces.items():
            if sorted(paths) == list(range(1, int(count) + 1)):
                whole[name] = paths[1]
                ordered = [paths[number] for number in sorted(paths)]
                JOINED[paths[1]] = [(path, sizes.get(path.name, 0)) for path in ordered]
        return whole

    def all_packs(self) -> Iterator[Path]:
        """Every pack that is anywhere, those out of use last (section 12)."""
        patterns = ["packs/*/*.pack"]
        patterns += [f"{out}/*/packs/*/*.pack" for out in ("quarantine", "trash")]
        for pattern in patterns:
            yield from sorted(self.root.glob(pattern))
        for place in self.elsewhere:
            for pattern in ("*.pack", "*/*.pack", "packs/*/*.pack"):
                yield from sorted(place.glob(pattern))
        yield from self.pieces.values()

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
                try:
                    document(skippable(file, 0, HEAD), "pack")
                except Unknown as error:
                    # One flipped bit makes another format number; then the name says otherwise.
                    if error.features or Slices(file).blake3() == pack.name[:64]:
                        self.opened[pack] = True
                        self.log.skip(f"{pack}: {error}")
                        return
                    self.log.damage(f"{pack}: head: {error}")
                except (Damage, LookupError, TypeError, ValueError, AttributeError) as error:
                    self.log.damage(f"{pack}: head: {error}")
                places, problem = read_index(file, pack)
                for name, place in places.items():
                    self.learn(name, place)
                require(not problem, problem)
        except Damage as error:
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

    def by_parity(self, name: str) -> None:
        """Learns the objects of a pack whose damaged blocks are rebuilt from its parity."""
        if name in self.rebuilt:
            return
        self.rebuilt[name] = None
        path = next(filter(os.path.lexists, self.paths(name)), self.paths(name)[0])
        try:
            with reading(path):
                file = rebuilt(self.roots, name, path)
                places, problem = read_index(file, Path(name))  # type: ignore[arg-type]
                self.rebuilt[name] = file
                self.log.note(f"{path}: read with {len(file.blocks)} blocks from parity")
                for digest, place in places.items():
                    self.learn(digest, place._replace(rebuilt=True))
                require(not problem, problem)
        except Damage as error:
            self.log.note(f"by parity: {error}")

    def every_place(self, name: str) -> Iterator[Place]:
        """First what the indexes say, then what walking finds, then all packs, then parity."""
        yield from list(self.places.get(name, []))
        for pack in list(self.opened):
            self.walk(pack)
        yield from list(self.places.get(name, []))
        for pack in self.all_packs():
            self.open(pack)
        yield from list(self.places.get(name, []))
        for pack_name in self.named:
            self.by_parity(pack_name)
            yield from list(self.places.get(name, []))

    def read(self, place: Place, name: str, size: int, by_header: bool) -> Stored:
        """The object `name` from where it is said to lie, by its header or by its index entry."""
        with contextlib.ExitStack() as stack:
            source: Any = self.rebuilt[str(place.pack)] if place.rebuilt else None
            file = source or stack.enter_context(opened(place.pack))
            how, begin = place.how, 0
            if by_header or how is None:
                _, how, begin, _ = object_header(file, place.offset)
            else:
                begin = place.offset + place.stored - sum(how.frames)
            require(how.size == size, "has another size")
            file.seek(begin)
            frames = [file.read(length) for length in how.frames]
        return Stored(name, how, frames, stream_sizes(how, frames))

    def decode(self, objects: Sequence[Stored], check: bool) -> list[bytes]:
        """Decompresses all frames of some objects at once, then undoes their codecs."""
        frames = [frame for item in objects for frame in item.frames]
        sizes = [size for item in objects for size in item.sizes]
        streams = iter(self.zstandard.inflate(frames, sizes))
        plain = []
        for name, how, own, _ in objects:
            data = undo_codec(how, [next(streams) for _ in own])
            require(len(data) == how.size, "has another length")
            require(not check or blake3(data) == name, "has another BLAKE3")
            plain.append(data)
        return plain

    def fetch(self, segments: Sequence[Any], check: bool) -> list[bytes]:
        """The plain bytes of segments `[size, blake3]`; if anything is wrong, one by one."""
        try:
            with reading("the first places"):
                first = [(self.places[name][0], name, size) for size, name in segments]
                return self.decode([self.read(*item, by_header=False) for item in first], check)
        except Damage:
            return [self.fetch_anywhere(name, size) for size, name in segments]

    def fetch_anywhere(self, name: str, size: int) -> bytes:
        """One object from the first place where it is good: its BLAKE3 alone says so, no checksum."""
        tried: set[Place] = set()
        for place in self.every_place(name):
            if place in tried:
                continue
            tried.add(place)
            for by_header in (False, True) if place.how else (True,):
                try:
                    with reading(f"{place.pack}: object {name} at offset {place.offset}"):
                        stored = self.read(place, name, size, by_header)
                        frames = [unchecked(frame) for frame in stored.frames]
                        return self.decode([stored._replace(frames=frames)], check=True)[0]
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

    @property
    def packs(self) -> list[str]:
        """Their names; none where there is no seal and all packs are meant."""
        with reading(self.path):
            names = [name for name, _ in self.body["packs"]]
            possible = all(HEX64.fullmatch(name) for name in names)
            require(possible, "names an impossible pack")
            return names


def parse_seal(path: Path, data: bytes) -> Seal:
    """A seal that is what its name says."""
    with reading(path):
        revision, digest = path.name.split(".")[:2]
        require(blake3(data) == digest, "its BLAKE3 is not the one in its name")
        body = document(data, "snapshot")
        require(body["revision"] == revision, "its revision is not the one in its name")
        patterns = max(len(body["selection"][key]) for key in ("include", "exclude"))
        require(len(body["packs"]) <= PACKS and patterns <= PATTERNS, "more than it may list")
        require(len(body["manifest"].get("objects", ())) <= MANIFEST // SEGMENT, "too many pieces")
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


def lean(pairs: list[tuple[str, Any]]) -> Json | None:
    """An object of a manifest: tensors, which nothing here needs, are not kept."""
    kept = dict(pairs)
    return None if "dtype" in kept and "shape" in kept else kept


def lean_bytes(pairs: list[tuple[str, Any]]) -> Json | None:
    """The same where the text came as Latin-1, in which a byte stays a byte."""
    kept = lean(pairs)
    if kept is None:
        return None
    for key, value in pairs:
        if type(value) is str and not value.isascii():
            kept[key] = value.encode("latin-1").decode("utf-8")
    return kept


def load_manifest(data: bytes) -> Any:
    """A manifest's JSON, without what would take more memory than a reader must have."""
    few = all(data.count(sign) <= most for sign, most in VALUES.items())
    require(few, "more values than a manifest may hold")
    if re.search(rb"\\u(?!00[01])", data):  # escapes that canonical JSON has not
        require(len(data) <= 16 * MIB, "not canonical")
        return json.loads(data, object_pairs_hook=lean)
    # One letter beyond Latin-1 would make each of 64 million take four bytes.
    return json.loads(data.decode("latin-1"), object_pairs_hook=lean_bytes)


def check_paths(paths: Sequence[str]) -> None:
    """Section 6.3: nothing is written if one path of the manifest is not possible."""
    for path in paths:
        parts = path.split("/")
        safe = "\0" not in path and not {"", ".", ".."} & set(parts)
        lengths = [len(text.encode("utf-8")) for text in [path, *parts]]
        require(safe and lengths[0] <= 1024 and max(lengths[1:]) <= 255, f"unsafe path {path!r}")
    # As bytes with 0 for `/`, what lies in a folder comes right after the folder's name.
    before = "\0"
    for path in sorted(path.replace("/", "\0") for path in paths):
        require(path != before, f"two files under one path {path!r}")
        require(not path.startswith(before + "\0"), f"both file and folder: {before!r}")
        before = path


def has_right_check(data: bytes) -> bool:
    """Whether `archive.json` is as it was written: it has a digest of its own, section 2."""
    keys = json.loads(data)
    check = keys.pop("check", None)
    plain = json.dumps(keys, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return bool(check == blake3(plain.encode()))


class Snapshots:
    """The seals of an archive, and the manifests that they name, from wherever they can be had."""

    def __init__(self, packs: Packs) -> None:
        self.packs, self.root, self.log = packs, packs.root, packs.log
        self.roots = packs.roots
        self.manifests: dict[str, list[Path]] = {}
        self.newer: list[Path] = []  # seals that are not understood
        for path in self.below("manifests", DOCUMENT):
            self.manifests.setdefault(path.name.split(".")[1], []).append(path)
        self.seals = self.read_seals()

    def below(self, folder: str, name: re.Pattern[str]) -> list[Path]:
        """The files of a folder, in an archive or on all volumes."""
        return [path for root in self.roots for path in files_below(root / folder, name)]

    def read_seals(self) -> list[Seal]:
        """Every seal of the archive; before that, whether this is one that may be read."""
        known = self.is_known()
        paths = self.below("snapshots", DOCUMENT)
        paths += self.lost_seals({path.name for path in paths})
        named: dict[str, list[Path]] = {}
        for path in paths:  # several volumes may have the same one
            named.setdefault(path.name, []).append(path)
        if len(self.roots) > 1:
            read = (next(filter(None, map(self.read_seal, same)), None) for same in named.values())
        else:
            read = map(self.read_seal, paths)  # type: ignore[assignment]
        seals = list(filter(None, read))
        if not known and not seals and not self.manifests:
            raise Stop(10, f"{self.root}: no archive here: neither archive.json nor any good seal")
        return seals

    def is_known(self) -> bool:
        """Whether `archive.json` says that this is an archive; Stop if it says of what newer format."""
        path = self.root / "archive.json"
        try:
            with reading(path):
                data = read_whole(path, MIB)
                try:
                    document(data, "archive")
                except Unknown as error:
                    # One flipped bit makes another format number; then its digest says otherwise.
                    require(has_right_check(data), f"{error}; but its `check` is not its BLAKE3")
                    raise Stop(10, f"{path}: {error}") from None
        except Damage as error:
            self.log.damage(f"{error}; the seals must say what this is")
            return False
        return True

    def lost_seals(self, there: set[str]) -> list[Path]:
        """Seals that are gone, but whose parity is here."""
        digests = {name.split(".")[1] for name in there} | self.manifests.keys()
        lost = []
        for path in self.below("parity", re.compile(r"[0-9a-f]{64}\.par")):
            if path.stem in digests or os.path.lexists(self.packs.paths(path.stem)[0]):
                continue
            with contextlib.suppress(Damage, Unknown):
                parts = str(Sidecar(path).header["file"]).split("/")
                if parts[0] == "snapshots" and DOCUMENT.fullmatch(parts[-1]):
                    lost.append(self.root.joinpath("snapshots", parts[-1]))
        return lost

    def read_seal(self, path: Path) -> Seal | None:
        """One seal, if need be by its parity; None if it is damaged or not understood."""
        try:
            try:
                with reading(path):
                    data = read_whole(path, SEAL)
                return parse_seal(path, data)
            except Damage as error:
                self.log.damage(error)
                with reading(path):
                    data = read_rebuilt(self.roots, path.name.split(".")[1], path, SEAL)
                seal = parse_seal(path, data)
                self.log.note(f"{path}: read by its parity")
                return seal
        except Unknown as error:
            self.newer.append(path)
            self.log.skip(f"{path}: {error}")
        except Damage as error:
            self.log.note(f"by parity: {error}")
        return None

    def unsealed(self) -> list[Seal]:
        """Manifests that no seal names: section 9.1. Their names prove them, nobody vouches."""
        named = {str(seal.body["manifest"].get("blake3")) for seal in self.seals}
        newer = {path.name.split(".")[0] for path in self.newer}  # nothing stands in for these
        seals = []
        for digest, paths in self.manifests.items():
            revision = paths[0].name.split(".")[0]
            if digest in named or revision in newer:
                continue
            with contextlib.suppress(Damage):
                ref = {"blake3": digest, "size": None}
                body = {"manifest": ref, "packs": [], "selection": {}, "totals": {}}
                bare = Seal("", revision, True, "", digest, paths[0], body, None)
                source = self.manifest(bare)["source"]
                require(source["revision"] == revision, "of another revision than its name")
                seals.append(bare._replace(repository=str(source["repository"])))
        return seals

    def manifest(self, seal: Seal) -> Json:
        """What a seal names, checked: its file, its pieces in packs, or by its parity."""
        with reading(seal.path):
            ref = seal.body["manifest"]
            digest, size = str(ref["blake3"]), ref["size"]
            require(HEX64.fullmatch(digest) is not None, "impossible manifest")
            require(size is None or (type(size) is int and size <= MANIFEST), "impossible manifest")
        first: Damage | None = None
        for way in (self.from_files, self.from_packs, self.from_parity):
            for path, read in way(seal, digest, size):
                try:
                    with reading(path):
                        manifest = self.checked(seal, digest, read())
                except (Damage, Unknown) as error:
                    first = first or Damage(str(error))
                    self.log.damage(error)
                    continue
                if first:
                    self.log.note(f"the manifest was read from {path}")
                return manifest
        raise first or Damage(f"{seal.path}: its manifest {digest} is not here")

    def from_files(
        self, _: Seal, digest: str, size: int | None
    ) -> Iterator[tuple[Path, Callable[[], bytes]]]:
        """The manifest's own file, in whatever folder."""
        for path in self.manifests.get(digest, []):
            yield path, lambda path=path: self.plain(read_whole(path, MANIFEST), size)  # type: ignore[misc]

    def from_packs(self, seal: Seal, *_: object) -> Iterator[tuple[Path, Callable[[], bytes]]]:
        """Its copy, in pieces: section 7."""
        pieces = seal.body["manifest"].get("objects", [])
        if pieces:
            yield Path(f"packs of {seal.path.name}"), functools.partial(self.joined, seal, pieces)

    def from_parity(
        self, seal: Seal, digest: str, size: int | None
    ) -> Iterator[tuple[Path, Callable[[], bytes]]]:
        """The file again, with what parity gives."""
        usual = self.root / "manifests" / f"{seal.revision}.{digest}.json.zst"
        path = self.manifests.get(digest, [usual])[0]
        if sidecar_of(self.roots, digest).is_file():
            yield path, lambda: self.plain(read_rebuilt(self.roots, digest, path, MANIFEST), size)

    def joined(self, seal: Seal, pieces: Sequence[Any]) -> bytes:
        """The pieces of a manifest, one after another."""
        sizes = [size for size, _ in pieces]
        require(all(type(size) is int for size in sizes) and sum(sizes) <= MANIFEST, "too long")
        self.packs.begin({str(name) for _, name in pieces}, seal.packs)
        return b"".join(self.packs.fetch_anywhere(str(name), size) for size, name in pieces)

    def plain(self, frame: bytes, size: int | None) -> bytes:
        """A manifest's JSON from its file."""
        length = content_size(frame)
        require(length is not None and length <= MANIFEST, "its length is not known")
        require(size in (None, length), "its length is not the one in the seal")
        assert length is not None
        return self.packs.zstandard.inflate([frame], [length])[0]

    @staticmethod
    def checked(seal: Seal, digest: str, data: bytes) -> Json:
        """The manifest, if it is the one that was meant, with possible segments and paths."""
        require(blake3(data) == digest, "its BLAKE3 is not the one in its name")
        manifest = document(data, "manifest", load_manifest)
        count = sum(len(file["segments"]) for file in manifest["files"])
        require(len(manifest["files"]) <= FILES and count <= SEGMENTS, "more than it may list")
        same = seal.repository in ("", manifest["source"]["repository"])
        same = same and manifest["source"]["revision"] == seal.revision
        require(same, "is of another repository or revision than its seal")
        return manifest

    def files(self, seal: Seal) -> list[Json]:
        """The files of a snapshot, with safe paths and possible segments; its packs are opened."""
        files = list(self.manifest(seal)["files"])
        with reading(f"the manifest of {seal}"):
            for file in files:
                sizes = [size for size, name in file["segments"] if HEX64.fullmatch(name)]
                possible = (type(size) is int and 1 <= size <= SEGMENT for size in sizes)
                require(all(possible), f"{file['path']!r}: a segment of impossible size")
                fits = sum(sizes) == file["size"] and len(sizes) == len(file["segments"])
                require(fits, f"{file['path']!r}: segments do not make its size")
                named = all(HEX64.fullmatch(file[key]) for key in ("sha256", "blake3"))
                require(named, f"{file['path']!r}: a digest that is none")
            check_paths([file["path"] for file in files])
        self.packs.begin({name for file in files for _, name in file["segments"]}, seal.packs)
        return files

    def matching(self, reference: str) -> list[Seal]:
        """The seals of `repository`, `repository@beginning-of-revision-or-id` or `@id`."""
        reference = (
            reference[len("huggingface:") :] if reference.startswith("huggingface:") else reference
        )
        seals = self.among(self.seals, reference)
        if not seals:
            seals = self.among(self.unsealed(), reference)
            if seals:
                self.log.damage(f"{reference}: no good seal; a manifest without a seal is taken")
        if not seals:
            code = 10 if self.log.skipped else 2
            near = ", or ".join(self.near(reference))
            meant = f"did you mean {near}? " if near else ""
            raise Stop(
                code, f"{reference}: no such snapshot here; {meant}`list` shows what there is"
            )
        return seals

    def near(self, reference: str) -> list[str]:
        """Repositories of the same name in other case, or of another hub or type."""
        name = reference.partition("@")[0].lower().rpartition(":")[2].rpartition("datasets/")[2]
        names = sorted({seal.repository for seal in self.seals})
        ends = tuple(f"{mark}{name}" for mark in (":", "datasets/"))
        return [n for n in names if n.lower() == name or n.lower().endswith(ends)]

    @staticmethod
    def among(seals: Sequence[Seal], reference: str) -> list[Seal]:
        """Those that are meant."""
        name, _, prefix = reference.rpartition("@")
        meant = [seal for seal in seals if seal.repository == reference]
        meant += [s for s in seals if s.repository == name and s.revision.startswith(prefix)]
        if not meant and len(prefix) >= ID_DIGITS:
            meant = [s for s in seals if name in ("", s.repository) and s.id.startswith(prefix)]
        return meant

    def sighted(self, repository: str) -> str:
        """The revision to which upstream's `main` pointed when it was last asked: section 7."""
        for path in reversed(sorted_by_name(self.below("journal", EVENT_NAME))):
            time, digest = path.name.split(".")[:2]
            with contextlib.suppress(Damage), reading(path):
                data = read_whole(path, EVENT)
                if b'"sighted"' not in data or blake3(data) != digest:
                    continue
                event = json.loads(data)
                require(event["kind"] == "event" and event["format"] == 1, "no event")
                stamp = re.sub("[-:]", "", event["time"]).lower()
                detail = event["detail"]
                about = (event["event"], event["repository"], detail["name"], stamp)
                hub = type(detail["upstream"]) is str and detail["upstream"] != "directory"
                if hub and about == ("sighted", repository, "main", time):
                    return str(event["revision"])
        return ""

    def choose(self, reference: str) -> tuple[Seal, bool]:
        """The one that is meant among all that match: section 7; and whether a newer one may hold more."""
        seals = self.matching(reference)
        revisions = {seal.revision for seal in seals}
        newer = self.newer_seals(reference, seals)
        if "@" not in reference and (len(revisions) > 1 or newer):
            newest = self.sighted(seals[0].repository)
            if any(seal.whole for seal in seals if seal.revision == newest):
                seals = [seal for seal in seals if seal.revision == newest]
                newer &= {newest}
        elif newer - revisions:
            raise Stop(10, f"{reference}: only a newer reader can read what was asked for")
        seal = max(seals, key=self.order) if len(seals) > 1 else seals[0]
        return seal, bool(newer) and not (seal.whole and newer == {seal.revision})

    def newer_seals(self, reference: str, seals: Sequence[Seal]) -> set[str]:
        """The revisions of seals that are not understood, and that are perhaps meant."""
        prefix = reference.rpartition("@")[2] if "@" in reference else ""
        folders = {seal.path.parent for seal in seals}
        names = [path.name for path in self.newer if path.parent in folders]
        return {name.split(".")[0] for name in names if name.startswith(prefix)}

    def order(self, seal: Seal) -> tuple[bool, int, str, str, str]:
        """Whole before partial; then voucher, commit's time, time of the seal, id."""
        rank, committed = seal.rank, seal.body.get("committed")
        if rank is None or committed is None:
            try:
                manifest = self.manifest(seal)
                with reading(seal.path):
                    hub = manifest["source"]["upstream"] == "huggingface"
                    by = UPSTREAM if hub else VOUCHERS["cache"]
                    ranks = [by if f.get("lfs") or f.get("oid") else 0 for f in manifest["files"]]
                    lowest = min(ranks, default=UPSTREAM)
                    rank = lowest if rank is None else rank
                    committed = committed or manifest["source"].get("committed", "")
            except Damage:  # named as damaged if it is chosen; nothing takes its place unseen
                rank, committed = UPSTREAM if rank is None else rank, committed or ""
        return seal.whole, rank, str(committed), seal.sealed, seal.id


def sorted_by_name(paths: Sequence[Path]) -> list[Path]:
    """By time, then by digest: so the names of events sort."""
    return sorted(paths, key=lambda path: path.name)


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


def copy_file(packs: Packs, file: Json, write: Callable[[bytes], Any], check: bool) -> bool:
    """Every byte of a file goes to `write`; whether they were the right ones."""
    sha256 = hashlib.sha256()
    for batch in batches(file["segments"]):
        for data in packs.fetch(batch, check):
            sha256.update(data)
            write(data)
    return sha256.hexdigest() == str(file["sha256"])


class Unportable(Exception):
    """This filesystem cannot hold the name of a file, or not beside the others."""


NOT_A_NAME = (errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ, errno.ENOTDIR, errno.EEXIST)


ODD = re.compile(r'[\x00-\x1f\x7f-\x9f\\<>:"|?*%]|[. ]+\Z')  # in a part, and what marks an escape
NOT_EVERYWHERE = re.compile(r'[\x00-\x1f\x7f-\x9f\\<>:"|?*]|[. ](/|\Z)')


def other_name(path: str) -> str:
    """A path without what only some filesystems can hold: section 6.3."""

    def escaped(match: re.Match[str]) -> str:
        return "".join(f"%{byte:02X}" for byte in match[0].encode())

    return "/".join(ODD.sub(escaped, part) for part in path.split("/"))


def folded(path: str) -> str:
    """Twins are the same in this form."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())


def numbered(path: str, number: int) -> str:
    """A name with `~2`, `~3`, … before its last suffix."""
    folder, slash, name = path.rpartition("/")
    stem, dot, suffix = name.rpartition(".")
    if not stem:
        stem, dot, suffix = name, "", ""
    return f"{folder}{slash}{stem}~{number}{dot}{suffix}" if number > 1 else path


def other_names(paths: Sequence[str]) -> dict[str, str]:
    """What files are called where a filesystem cannot hold them beside the others: section 6.3."""
    keys = [folded(path) for path in paths]
    folders = {key[:at] for key in keys for at, letter in enumerate(key) if letter == "/"}
    files = set(keys)
    awkward, plain = [], set()
    for path, key in zip(paths, keys):
        below = any(key[:at] in files for at, letter in enumerate(key) if letter == "/")
        if NOT_EVERYWHERE.search(path) or below or key in folders or key in plain:
            awkward.append(path)
        else:
            plain.add(key)
    names, numbers = {}, {}  # type: tuple[dict[str, str], dict[str, int]]
    for path in awkward:
        escaped = other_name(path)
        number = numbers.get(folded(escaped), 1)
        while folded(numbered(escaped, number)) in plain:
            number += 1
        numbers[folded(escaped)] = number
        names[path] = numbered(escaped, number)
        plain.add(folded(names[path]))
    return {path: name for path, name in names.items() if name != path}


def place_file(partial: Path, destination: Path, path: str) -> None:
    """Gives a file its name, if the filesystem can and nothing has it already."""
    if os.sep != "/" and other_name(path) != path:
        raise Unportable("this system cannot hold the name")
    final = destination / path
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        if os.path.lexists(final):
            raise Unportable("there is a file of that name; nothing is overwritten")
        partial.rename(final)
    except OSError as error:
        if error.errno not in NOT_A_NAME:
            raise
        raise Unportable(f"this filesystem cannot hold the name: {error.strerror}") from None


def restore_file(packs: Packs, file: Json, destination: Path, other: str | None) -> str:
    """Under a passing name first: a file that is right gets its own, or another; which one."""
    partial = destination / f".partial-{secrets.token_hex(8)}"
    try:
        for check in (packs.check, True):
            with partial.open("wb") as sink:
                right = copy_file(packs, file, sink.write, check)
                sink.flush()
                os.fsync(sink.fileno())
            if right or check:
                break
        require(right, "its SHA-256 is not the one in the manifest")
        try:
            place_file(partial, destination, file["path"])
        except Unportable:
            if other is None:
                raise
            place_file(partial, destination, other)
            return other
        return str(file["path"])
    finally:
        if partial.exists():
            partial.unlink()


def restore(snapshots: Snapshots, seal: Seal, destination: Path, rename: bool) -> None:
    """Restores what can be restored, and names what cannot."""
    log, packs = snapshots.log, snapshots.packs
    if os.path.lexists(destination) and not (
        destination.is_dir() and {entry.name for entry in destination.iterdir()} <= {"lost+found"}
    ):
        raise Stop(2, f"{destination}: exists and is not an empty directory")
    selection = seal.body["selection"]
    chosen = "all files" if seal.whole else f"chosen files only: {selection}"
    if selection.get("completeness"):
        chosen = f"perhaps not every file of the revision: {selection}"
    about = f"sealed {seal.sealed}, id {seal.id}"
    if not seal.sealed:
        about, chosen = "without a seal", "nobody says whether these are all files"
    log.note(f"restoring {seal}, {about}; {chosen}")
    files = snapshots.files(seal)
    names = other_names([file["path"] for file in files]) if rename else {}
    destination.mkdir(parents=True, exist_ok=True)
    good = unportable = 0
    for file in files:
        try:
            name = restore_file(packs, file, destination, names.get(file["path"]))
            under = "" if name == file["path"] else f" as {name}"
            print(shown(f"ok {file['size']:>15} {file['path']}{under}"), flush=True)
            good += 1
        except Unportable as error:
            log.note(f"left out: {file['path']}: {error}")
            unportable += 1
        except Damage as error:
            log.damage(f"{seal} {file['path']}: {error}")
    print(f"{good} of {len(files)} files restored to {destination}")
    if good + unportable < len(files):
        raise Stop(20, f"{len(files) - good} of {len(files)} files could not be restored")
    if unportable:
        raise Stop(3, f"{unportable} files have names that this filesystem cannot hold here")


def verify(snapshots: Snapshots, seals: Sequence[Seal]) -> None:
    """Decodes everything and writes nothing. A file that recurs is read once."""
    proven = set()
    log, packs = snapshots.log, snapshots.packs
    for seal in sorted(seals, key=lambda seal: (seal.repository, seal.revision, seal.id)):
        good = 0
        try:
            files = snapshots.files(seal)
        except Damage as error:
            log.damage(error)
            continue
        for file in files:
            content = hashlib.sha256(repr((file["sha256"], file["segments"])).encode()).digest()
            try:
                if content not in proven:
                    right = copy_file(packs, file, len, packs.check)
                    right = right or (not packs.check and copy_file(packs, file, len, check=True))
                    require(right, "its SHA-256 is not the one in the manifest")
                proven.add(content)
                good += 1
            except Damage as error:
                log.damage(f"{seal} {file['path']}: {error}")
        print(shown(f"{seal} {seal.id}: {good} of {len(files)} files good"), flush=True)


def show(seals: Sequence[Seal]) -> None:
    """One line for each snapshot."""
    for seal in sorted(seals, key=lambda seal: (seal.repository, seal.sealed, seal.id)):
        with reading(seal.path):
            totals = " ".join(f"{k}={v}" for k, v in sorted(seal.body["totals"].items()))
        chosen = "" if seal.whole else " chosen-files-only"
        about = f"{seal.sealed} {totals}" if seal.sealed else "without-a-seal"
        print(shown(f"{seal} {about}{chosen} id={seal.id}"))


def run(arguments: argparse.Namespace, log: Log) -> None:
    """One of the three commands."""
    root, elsewhere = Path(arguments.directory), [Path(place) for place in arguments.packs]
    check = arguments.blake3 or BLAKE3 is not None
    with contextlib.closing(Packs(root, elsewhere, Zstandard(), check, log)) as packs:
        snapshots = Snapshots(packs)
        reference = arguments.repository
        if arguments.command == "restore":
            destination = Path(arguments.destination)
            seal, lesser = snapshots.choose(reference)
            restore(snapshots, seal, destination, arguments.rename)
            if lesser:
                raise Stop(3, f"{seal} is restored in place of what only a newer reader can read")
            return
        seals = snapshots.matching(reference) if reference else snapshots.seals
        if arguments.command == "list":
            show([*seals, *([] if reference else snapshots.unsealed())])
        else:
            verify(snapshots, seals)
    if log.damaged:
        raise Stop(20, "damage was found")
    if log.skipped:
        raise Stop(10, "not everything here is of a format that this reader knows")


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("command", choices=("list", "restore", "verify"))
    parser.add_argument("repository", nargs="?", help="Org/Name, or Org/Name@revision-or-seal")
    parser.add_argument("destination", nargs="?", help="for restore: a new or empty directory")
    here = Path(__file__).resolve().parent
    parser.add_argument("-C", dest="directory", default=here, help="the archive (default: here)")
    also = "a folder that has packs of it too; may be given again"
    parser.add_argument("--packs", metavar="DIRECTORY", action="append", default=[], help=also)
    parser.add_argument("--blake3", action="store_true", help="check objects without the package")
    other = "other names for files that this filesystem cannot hold"
    parser.add_argument("--rename", action="store_true", help=other)
    # Options may stand anywhere, also between what they follow in the usage.
    arguments = parser.parse_intermixed_args()
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
