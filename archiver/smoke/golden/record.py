"""The golden record: which numbers a model gave once, kept so that later runs can be compared.

It is JSON without floats and part of the journal event ``smoke-tested`` (``docs/format.md``, annex A.4):

=============  =====================================================================================
``version``    1, the number of this layout. The fixed texts and picture belong to it
``dtype``      ``float32``: what was computed in
``attention``  ``eager``, as are the experts: plain matrix products
``output``     ``logits``: the model has a language model's head, or another one. ``hidden``: it has
               none, and its last hidden states are recorded
``inputs``     1 to 16 objects, one for each input, see below; no two have one name
``tokens``     list of lists of ids: what the tokenizer made of the fixed texts, in their order; empty
               if there is no tokenizer
``environment``  object: versions, processor, threads of the machine that made the record
=============  =====================================================================================

An input:

===============  ===================================================================================
``name``         ``text``, ``image`` or ``sentence-N``
``ids``          1 to 4,096 ids: the input. With a picture its placeholders are expanded
``decoder_ids``  ids: what the decoder began with, if the model has an encoder and a decoder; else empty
``pixels``       BLAKE3 of the prepared picture: each value v, as float32 and in the order of the
                 tensor, as the byte min(255, max(0, round(127.5 v + 127.5))); ``""`` without one
``positions``    n: for how many positions there were outputs
``width``        W: how many numbers each had: the rows of the head, or the width of the hidden state
``loss``         text: the mean of ``nll`` in nats, six decimals; ``""`` if that is empty
``nll``          floats: for each position but the last -ln of the softmax at the token that follows;
                 empty unless the model predicts the next token
``ranked``       of the last 16 positions, or of all if there are fewer, oldest first, a list ``[ids,
                 floats]``: the min(20, W) highest logits, descending, and the ids that have them;
                 empty if ``output`` is ``hidden``
``stride``       k = ceil(W / 32,768)
``last``         floats: numbers 0, k, 2k, … of the last position's logits; or of the mean of the last
                 hidden states of all positions, as sentence embeddings are made, if ``output`` is
                 ``hidden``
``ties``         choices of experts that hang on rounding, a list ``[c, r, ids…]`` each: the number c
                 of the choice in the pass, from 0 (each call of ``topk`` that leaves something); the
                 row r of its scores; the ids that were taken. In it the last one that was taken leads
                 the first one that was left by at most 1/1,000 of the standard deviation of the
                 row's finite scores. At most 4,096 numbers: those with the smallest lead
===============  ===================================================================================

Floats are a text: base64 (RFC 4648, with padding) of little-endian IEEE 754 binary32, all finite.
The whole is at most 700,000 bytes of canonical JSON. With a vocabulary of 248,320, k is 8: 31,040
numbers, 165 kB of text, for each input.
"""

from __future__ import annotations

import base64
import binascii
import os
import stat
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import msgspec
import numpy as np

from archiver.archive.records import canonical
from archiver.errors import DamageError, UsageError, explain_system_error
from archiver.smoke.model import Floats, Output
from archiver.storage.files import write_new
from archiver.text import printable

if TYPE_CHECKING:
    from pathlib import Path


VERSION: Final = 1
RECORD_MAX: Final = 700_000
SAMPLES: Final = 32_768
RANKED_POSITIONS: Final = 16
RANKED: Final = 20
IDS_MAX: Final = 4_096
TIES_MAX: Final = 4_096
_WIDTH_MAX: Final = 1 << 24

_Id = Annotated[int, msgspec.Meta(ge=0, lt=1 << 31)]
_Ids = Annotated[tuple[_Id, ...], msgspec.Meta(max_length=IDS_MAX)]
_Base64 = Annotated[str, msgspec.Meta(max_length=RECORD_MAX)]
_Ranked = tuple[Annotated[tuple[_Id, ...], msgspec.Meta(max_length=RANKED)], _Base64]

_Tie = Annotated[tuple[_Id, ...], msgspec.Meta(min_length=3, max_length=TIES_MAX)]


class GoldenInput(msgspec.Struct, frozen=True):
    """What the model made of one input; the module's text explains each field."""

    name: Annotated[str, msgspec.Meta(pattern=r"\A(text|image|sentence-[0-9]{1,2})\Z")]
    ids: Annotated[_Ids, msgspec.Meta(min_length=1)]
    positions: Annotated[int, msgspec.Meta(ge=1, le=IDS_MAX)]
    width: Annotated[int, msgspec.Meta(ge=1, le=_WIDTH_MAX)]
    stride: Annotated[int, msgspec.Meta(ge=1, le=_WIDTH_MAX)]
    last: _Base64
    nll: _Base64 = ""
    loss: Annotated[str, msgspec.Meta(pattern=r"\A([0-9]{1,40}\.[0-9]{6})?\Z")] = ""
    ranked: Annotated[tuple[_Ranked, ...], msgspec.Meta(max_length=RANKED_POSITIONS)] = ()
    decoder_ids: _Ids = ()
    pixels: Annotated[str, msgspec.Meta(pattern=r"\A([0-9a-f]{64})?\Z")] = ""
    ties: Annotated[tuple[_Tie, ...], msgspec.Meta(max_length=TIES_MAX)] = ()


class Golden(msgspec.Struct, frozen=True):
    """What a model gave once; the module's text explains each field."""

    version: int
    dtype: Literal["float32"]
    attention: Literal["eager"]
    output: Output
    inputs: Annotated[tuple[GoldenInput, ...], msgspec.Meta(min_length=1, max_length=16)]
    tokens: Annotated[tuple[_Ids, ...], msgspec.Meta(max_length=256)] = ()
    environment: dict[str, Any] = {}


def parse_golden(obj: object, what: str = "The golden record") -> Golden:
    """Return a record from what JSON gave.

    Raises:
        DamageError: It is no such record, or of a later version; names ``what``.
    """
    if isinstance(obj, dict) and obj.get("version") != VERSION:
        raise DamageError(
            f"{what} does not say that it is of version {VERSION}, the one that is known here.",
            hint="A later version of archiver may read it; or make a new one with --record.",
        )
    try:
        golden = msgspec.convert(obj, Golden)
        size = len(canonical(golden))
    except (msgspec.MsgspecError, TypeError, ValueError, RecursionError) as error:
        raise _unusable(what, printable(str(error))) from error
    if size > RECORD_MAX:
        raise _unusable(what, f"it has {size:,} bytes, at most {RECORD_MAX:,} are allowed")
    fault = _fault(golden)
    if fault:
        raise _unusable(what, fault)
    return golden


def _unusable(what: str, why: str) -> DamageError:
    return DamageError(f"{what} is not usable: {why}.", hint="Make a new one with --record.")


def _fault(golden: Golden) -> str:
    """Return what is wrong in it beyond its types, or ``""``."""
    names = [recorded.name for recorded in golden.inputs]
    if len(set(names)) != len(names):
        return "two inputs have one name"
    for entry in golden.inputs:
        fault = _fault_of_input(entry, golden.output)
        if fault:
            return f"input {entry.name}: {fault}"
    return ""


def _fault_of_input(recorded: GoldenInput, output: Output) -> str:
    if recorded.stride != stride_of(recorded.width):
        return f"of {recorded.width} numbers not every {recorded.stride}th is kept"
    ranked = min(RANKED_POSITIONS, recorded.positions) if output == "logits" else 0
    if len(recorded.ranked) != ranked:
        return f"{ranked} ranked positions were expected, not {len(recorded.ranked)}"
    try:
        unpacked(recorded.last, -(-recorded.width // recorded.stride))
        if recorded.nll:
            unpacked(recorded.nll, recorded.positions - 1)
        for ids, logits in recorded.ranked:
            unpacked(logits, min(RANKED, recorded.width))
            _require_ranked(ids, recorded.width)
    except ValueError as error:
        return str(error)
    return (
        "" if bool(recorded.nll) == bool(recorded.loss) else "a loss and its parts belong together"
    )


def _require_ranked(ids: tuple[int, ...], width: int) -> None:
    if len(set(ids)) != min(RANKED, width) or max(ids) >= width:
        raise ValueError(
            f"the ranked ids are not {min(RANKED, width)} different ones below {width}"
        )


def stride_of(width: int) -> int:
    """Return every how many-th of ``width`` numbers is kept."""
    return -(-width // SAMPLES)


def packed(values: Floats) -> str:
    """Return floats as text."""
    return base64.b64encode(values.astype("<f4").tobytes()).decode()


def unpacked(text: str, count: int) -> Floats:
    """Return so many floats from text.

    Raises:
        ValueError: They are not so many finite floats; says which.
    """
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("its floats are not base64") from None
    if len(data) != 4 * count:
        raise ValueError(f"there are {len(data)} bytes where {count} floats are expected")
    values = np.frombuffer(data, "<f4").astype(np.float32)
    if not np.isfinite(values).all():
        raise ValueError("not all of its floats are finite")
    return values


# ---- a file of its own


def read_golden_file(path: Path) -> Golden:
    """Return the record in a file.

    Raises:
        UsageError: There is no such file, or what it holds is no record; says why.
    """
    try:
        data = _read(path)
        return parse_golden(msgspec.json.decode(data), str(path))
    except OSError as error:
        raise UsageError(explain_system_error(error).message, hint=_HINT) from None
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise UsageError(f"{path} holds no JSON of a golden record.", hint=_HINT) from None
    except DamageError as error:
        raise UsageError(error.message, hint=_HINT) from None


_HINT: Final = "Name a file that 'archiver smoke-test DIR --record --golden FILE' wrote."


def _read(path: Path) -> bytes:
    with open(path, "rb", opener=_at_once) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise UsageError(f"{path} is not a plain file.", hint=_HINT)
        return file.read(RECORD_MAX + (1 << 16))


def _at_once(path: str, flags: int) -> int:
    """Open what may be a pipe, without waiting for somebody who writes to it."""
    return os.open(path, flags | os.O_NONBLOCK)


def write_golden_file(path: Path, golden: Golden) -> None:
    """Write a record to a new file; UsageError if there is something already."""
    write_new(path, canonical(golden))
