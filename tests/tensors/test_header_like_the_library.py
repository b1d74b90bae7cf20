"""The table of docs/smoke-test.md, row by row, against the safetensors package itself."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from safetensors import SafetensorError, safe_open

from archiver.tensors.dtypes import BITS
from archiver.tensors.header import HeaderBoundError, HeaderError, parse_header

PAGE = (Path(__file__).parents[2] / "docs/smoke-test.md").read_text(encoding="utf-8")
SECTION = PAGE.partition("\n## Which safetensors headers load\n")[2].partition("\n## ")[0]
ROWS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in SECTION.splitlines()
    if line.startswith("| ") and not line.startswith("| header")
]
R = '{"dtype":"U8","shape":[4],"data_offsets":[0,4]}'
EMPTY = '{"dtype":"U8","shape":[0],"data_offsets":[0,0]}'


def record(**more):
    return json.dumps({"dtype": "U8", "shape": [4], "data_offsets": [0, 4]} | more)


def ranks(count):
    return json.dumps({"a": {"dtype": "U8", "shape": [1] * count, "data_offsets": [0, 1]}})


def levels(count):
    inner = "[" * (count - 2) + "]" * (count - 2)
    return '{"a":' + R[:-1] + f',"x":{inner}}}}}'


def tensors(count, more=""):
    return "{" + ",".join(f'"t{number}{more}":{EMPTY}' for number in range(count)) + "}"


def length(size):
    return ('{"a":' + R + "}").ljust(size)


MADE = {
    "a shape of 64 dimensions": lambda: ranks(64),
    "a shape of 65 dimensions": lambda: ranks(65),
    "127 levels": lambda: levels(127),
    "128 levels": lambda: levels(128),
    "320,000 tensors": lambda: tensors(320_000),
    "320,001 tensors": lambda: tensors(320_001),
    "780,000 tensors in 77 MB": lambda: tensors(780_000, "." + "x" * 41),
    "100,000,000 bytes": lambda: length(100_000_000),
    "100,000,001 bytes": lambda: length(100_000_001),
}


def ours(raw, size):
    try:
        header = parse_header(raw, size)
    except HeaderBoundError:
        return "beyond"
    except HeaderError:
        return "refused"
    known = all(tensor.dtype in BITS for tensor in header.tensors)
    return "parsed" if known else "parsed, not sound"


@pytest.mark.parametrize(
    ("name", "text", "data", "library", "here"), ROWS, ids=[row[0] for row in ROWS]
)
def test_the_table_is_what_the_library_and_the_parser_do(tmp_path, name, text, data, library, here):
    found = re.fullmatch("`(.*)`", text)
    raw = (found[1].replace(":R", f":{R}") if found else MADE[name]()).encode()
    whole = len(raw).to_bytes(8, "little") + raw + bytes(int(data))
    path = tmp_path / "x.safetensors"
    path.write_bytes(whole)
    try:
        with safe_open(path, "np") as opened:
            theirs, keys = "loads", len(opened.keys())
    except SafetensorError:
        theirs = "refuses"
    assert theirs == library
    assert ours(whole, len(whole)) == here
    # What it loads is never called unsound, and what it refuses is never called sound.
    assert (library, here) in {
        ("loads", "parsed"),
        ("loads", "beyond"),
        ("refuses", "refused"),
        ("refuses", "parsed, not sound"),
    }
    if here == "parsed":
        assert len(parse_header(whole, len(whole)).tensors) == keys


def test_the_table_has_its_rows():
    assert len(ROWS) > 35
    assert MADE.keys() <= {row[0] for row in ROWS}
