"""docs/format.md and the code name the same keys, codecs, magics, dtypes and file names."""

import re
from pathlib import Path
from typing import get_args

import msgspec
import pytest

from archiver.archive import events, layout
from archiver.archive.events import (
    AuditLimits,
    Event,
    FileChanges,
    MetObject,
    Outcome,
    PlaceSeen,
    PlannedEntry,
    Sample,
    SmokeFinding,
    UnseenRepository,
    UpstreamChange,
)
from archiver.archive.packs import format as pack_format
from archiver.archive.packs.format import IndexEntry, PackHead, PackIndex
from archiver.archive.parity import sidecar
from archiver.archive.parity.sidecar import HEADER_MAX as PARITY_HEADER_MAX
from archiver.archive.parity.sidecar import ParityHeader
from archiver.archive.records import (
    FORMAT,
    ArchiveInfo,
    Features,
    FileEntry,
    Manifest,
    ManifestRef,
    Seal,
    Selection,
    Source,
    Totals,
)
from archiver.archive.watch import ChangeKind
from archiver.codec.segment import SEGMENT_MAX, ObjectHeader
from archiver.codec.transforms import CODECS
from archiver.operations.audit.statement import Counts, Statement
from archiver.operations.audit.statement import Outcome as AuditOutcome
from archiver.tensors.dtypes import BITS
from archiver.tensors.gguf import (
    HEADER_MAX,
    KEY_MAX,
    KEYS_MAX,
    NAME_MAX,
    TENSORS_MAX,
    TYPES,
    GgmlType,
)
from archiver.tensors.header import MAX_LENGTH, MAX_RANK, Tensor

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "format.md").read_text()
HEX = "ab" * 32
REVISION = "01" * 20
KEY = "0123456789abcdef"


def section(title: str) -> str:
    """The text from a heading to the next one."""
    match = re.search(
        rf"^##+ {re.escape(title)}.*?\n(.*?)(?=^##+ |\Z)", PAGE, re.DOTALL | re.MULTILINE
    )
    assert match, title
    return match.group(1)


def rows(text: str) -> list[list[str]]:
    """The rows of a section's tables, their heads left out."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    heads = {lines[i - 1] for i, line in enumerate(lines) if line.startswith("|---")}
    kept = [line for line in lines if line not in heads and not line.startswith("|---")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in kept]


def first_column(text: str) -> set[str]:
    return {name for row in rows(text) for name in re.findall(r"`([^`]+)`", row[0])}


def keys(record: type[msgspec.Struct]) -> set[str]:
    return {field.encode_name for field in msgspec.structs.fields(record)}


TABLES = {
    "2. The directory": ArchiveInfo,
    "3.1 Objects": ObjectHeader,
    "6. Manifests": Manifest,
    "6.1 `source`": Source,
    "6.2 Files": FileEntry,
    "7. Seals": Seal,
}


def test_the_keys_of_a_parity_header():
    table = section("10. Parity").partition("If the first is damaged")[2]
    assert first_column(table) == keys(ParityHeader)


@pytest.mark.parametrize("title", TABLES)
def test_a_records_keys_are_those_of_its_table(title):
    reserved = set(
        re.findall(r"^Reserved: a header may have `([a-z]+)`", section(title), re.MULTILINE)
    )
    assert first_column(section(title)) == keys(TABLES[title]) - reserved


def told_in(cell_of: str, title: str) -> set[str]:
    """The names in code type in the cell beside a key."""
    row = next(row for row in rows(section(title)) if f"`{cell_of}`" in row[0])
    return set(re.findall(r"`([a-z0-9_]+)`", row[1]))


def test_the_keys_inside_keys():
    assert told_in("features", "2. The directory") >= keys(Features)
    assert told_in("manifest", "7. Seals") == keys(ManifestRef)
    assert told_in("totals", "7. Seals") == keys(Totals)
    assert told_in("selection", "7. Seals") == keys(Selection)
    (tensor,) = re.findall(r"`\{([a-z, ]+)\}`", section("6.2 Files"))
    assert set(tensor.split(", ")) == keys(Tensor)
    assert re.search(r"list of `\[size, blake3\]`", section("6.2 Files"))
    assert re.search(r"list of `\[blake3, size\]`", section("7. Seals"))


def test_the_keys_of_head_and_index():
    magics = {row[0]: row[1] for row in rows(section("3. Packs"))}
    head = next(text for name, text in magics.items() if "head" in name and "object" not in name)
    assert set(re.findall(r"`([a-z]+)`", head)) == keys(PackHead)
    index = next(text for name, text in magics.items() if "index" in name)
    entry = re.search(r"of `\[([a-z0-9, ]+)\]`", index)
    assert entry
    assert entry.group(1).split(", ") == [f.name for f in msgspec.structs.fields(IndexEntry)]
    assert {"kind", "objects"} == keys(PackIndex)
    assert all(f"`{key}`" in index for key in keys(PackIndex))


def tables(text: str) -> list[str]:
    """The tables of a section, each as its own text."""
    return [part for part in text.split("\n\n") if part.startswith("|")]


def marked(text: str) -> dict[str, bool]:
    """The keys that a text names in code type -> whether they must be there: not in brackets."""
    required: dict[str, bool] = {}
    for open_, name in re.findall(r"(?<!as in )(\[?)`([a-z_]+)`", text):
        if name not in {"true", "false"}:
            required[name] = required.get(name, True) and not open_
    return required


def told_of_events() -> dict[str, dict[str, bool]]:
    """Kind of event -> the keys of its detail that the page tells of."""
    (of_names,) = tables(section("A.1 Events"))
    told = {row[0].strip("`"): marked(row[2]) for row in rows(of_names)}
    told["policy"] = dict.fromkeys(first_column(section("A.2 The policy")), False)
    for row in rows(section("A.3 Receipts of smoke tests")):
        told["smoke-tested"] |= marked(row[0])
    kind = ""
    for row in rows(section("A.6 Plans, and what is known")):
        kind = row[0].strip("`") or kind
        told[kind] |= marked(row[1])
    of_audits, _ = tables(section("A.7 What an audit proved"))
    for row in rows(of_audits):
        told["audited"] |= marked(row[0])
    of_changed, _, _, of_unseen, of_checked = tables(section("A.8 What upstream does"))
    for kind, table in (
        ("upstream-changed", of_changed),
        ("upstream-unseen", of_unseen),
        ("cross-checked", of_checked),
    ):
        for row in rows(table):
            told[kind] |= marked(row[0])
    return told


def fields(record: type[msgspec.Struct]) -> dict[str, bool]:
    return {field.encode_name: field.required for field in msgspec.structs.fields(record)}


def test_the_keys_of_an_event_and_its_names():
    (of_keys,), (of_names,) = tables(section("8. Journal")), tables(section("A.1 Events"))
    assert first_column(of_keys) == keys(Event)
    assert first_column(of_names) == set(events.KINDS)


@pytest.mark.parametrize("kind", events.KINDS)
def test_the_keys_of_a_kind_of_event_and_whether_they_may_be_absent(kind):
    known = fields(events.KINDS[kind])
    if kind == "places-seen":
        known |= fields(PlaceSeen)
    if kind == "damage-met":
        known |= fields(MetObject)
    assert told_of_events()[kind] == known


def test_what_stands_inside_the_details_of_events():
    outcomes = set(get_args(Outcome))
    row = next(row for row in rows(section("A.6")) if "`outcomes`" in row[1])
    assert set(re.findall(r'`"([a-z-]+)"`', row[2])) == outcomes
    for key in keys(PlannedEntry):
        assert f"`{key}`" in section("A.6"), key
    for key in keys(Sample) | keys(AuditLimits):
        assert f"`{key}`" in section("A.7"), key
    for key in keys(SmokeFinding):
        assert f"`{key}`" in section("A.3"), key


def test_what_a_look_at_upstream_journals():
    _, of_change, of_kinds, of_unseen, _ = tables(section("A.8 What upstream does"))
    assert {key: need for row in rows(of_change) for key, need in marked(row[0]).items()} == fields(
        UpstreamChange
    )
    kinds = {word for kind in get_args(ChangeKind) for word in get_args(kind) or (kind,)}
    assert first_column(of_kinds) == kinds
    for key in keys(FileChanges):
        assert f"`{key}`" in of_change, key
    for key in keys(UnseenRepository):
        assert f"`{key}`" in of_unseen, key


def test_the_keys_of_an_audits_report():
    _, of_report = tables(section("A.7 What an audit proved"))
    assert first_column(of_report) == keys(Statement)
    assert {key for key in keys(Counts) if f"`{key}`" not in of_report} == set()
    assert set(re.findall(r'`"([a-z]+)"`', of_report.split("`outcome`")[1].split("\n")[0])) == set(
        get_args(AuditOutcome)
    )


KINDS = {ArchiveInfo: "archive", PackHead: "pack", PackIndex: "index", Manifest: "manifest"}
KINDS |= {Seal: "snapshot", Event: "event", ParityHeader: "parity"}


@pytest.mark.parametrize("record", KINDS, ids=lambda record: record.__name__)
def test_kinds_and_format_number(record):
    defaults = {field.name: field.default for field in msgspec.structs.fields(record)}
    assert defaults["kind"] == KINDS[record]
    assert f'`"{defaults["kind"]}"`' in PAGE
    assert defaults.get("format", FORMAT) == FORMAT
    assert PAGE.startswith(f"# The archive format, number {FORMAT}\n")


def test_the_magics():
    listed = {
        row[0].split("**")[1]: int(re.search(r"0x[0-9A-F]{8}", row[0]).group(), 16)
        for row in rows(section("3. Packs"))
    }
    assert listed == {
        "head": pack_format.HEAD,
        "object header": pack_format.OBJECT,
        "index": pack_format.INDEX,
        "trailer": pack_format.TRAILER,
    }
    assert pack_format.OBJECT_MAGIC.hex(" ") in section("3.2 When a signpost is damaged")
    assert f"the last {pack_format.TRAILER_SIZE} bytes of a pack" in section("3. Packs")


def test_the_magics_and_bounds_of_parity():
    text = section("10. Parity")
    listed = {
        row[0].split("**")[1]: int(re.search(r"0x[0-9A-F]{8}", row[0]).group(), 16)
        for row in rows(text)
        if "**" in row[0]
    }
    assert listed == {
        "parity header": pack_format.PARITY_HEADER,
        "parity blocks": pack_format.PARITY_BLOCKS,
    }
    assert f"`0x{pack_format.TRAILER:08X}` trailer" in text
    assert f"a power of two from 1 to {sidecar.BLOCK_MAX:,}" in text
    assert f"from {sidecar.BLOCK_LEAST:,} to {sidecar.BLOCK_MAX:,}" in text
    assert f"*p*, 1 to {sidecar.PARITY_MAX}" in text
    assert f"at most {sidecar.MEMBERS_MAX} \N{MINUS SIGN} *p*" in text


def test_the_codecs():
    listed = [
        (int(row[0]), row[1], int(row[2]), int(row[3]), row[4].count(",") + 1)
        for row in rows(section("4. Codecs"))
    ]
    assert listed == [
        (codec.number, codec.name, codec.word, codec.streams, codec.streams)
        for codec in CODECS.values()
    ]
    for row in rows(section("4. Codecs")):
        lengths = [length.strip() for length in row[4].split(",")]
        clipped = CODECS[int(row[0])].exponent_stream
        assert [i for i, length in enumerate(lengths) if "clipped" in length] == (
            [] if clipped is None else [clipped]
        )
        assert f"**{row[0]} {row[1]}.**" in section("4. Codecs")


def test_the_dtypes_and_bounds_of_safetensors():
    text = section("5.1 Which safetensors files are accepted")
    known = text[text.index("Known are") : text.index("An unknown dtype")]
    listed = {}
    for bits, names in re.findall(r"(\d+) `([A-Z0-9_\s]+)`", known):
        listed |= dict.fromkeys(names.split(), int(bits))
    assert listed == BITS
    assert f"{MAX_LENGTH:,}" in text
    assert f"at most {MAX_RANK} integers" in text
    assert f"{SEGMENT_MAX:,}" in section("5. Segments")


def test_the_types_and_bounds_of_gguf():
    text = section("5.2 Which GGUF files are accepted")
    listed = {}
    for row in rows(text):
        for number, name, size in re.findall(r"(\d+) `(\w+)` (\d+)", row[1]):
            listed[int(number)] = GgmlType(name, int(row[0]), int(size))
    assert listed == TYPES
    for bound in (HEADER_MAX, TENSORS_MAX, KEYS_MAX, KEY_MAX, NAME_MAX):
        assert f"{bound:,}" in text


NAMES = {
    "packs/<aa>/<blake3>.pack": layout.pack_name(HEX),
    "manifests/<org>/<name>/<revision>.<blake3>.json.zst": layout.manifest_name(
        "o/n", REVISION, HEX
    ),
    "snapshots/<org>/<name>/<revision>.<blake3>.json": layout.seal_name("o/n", REVISION, HEX),
    "journal/<yyyy>/<mm>/<yyyymmddthhmmssz>.<blake3>.json": layout.event_name(
        "2026-01-02T03:04:05Z", HEX
    ),
    "archive.json": layout.INFO,
    "place.json": layout.PLACE,
    "catalogue.sqlite*": layout.CATALOGUE,
    "tmp/": layout.TMP + "/",
    "parity/<aa>/<blake3>.par": layout.parity_name(HEX),
    "signatures/<aa>/<blake3>.<key>.minisig": layout.signature_name(HEX, KEY),
    "quarantine/": "quarantine/",
    "trash/": "trash/",
    "README.txt": "README.txt",
    "FORMAT.md": "FORMAT.md",
    "decode.py": "decode.py",
}
PARTS = {
    "<aa>": "ab",
    "<blake3>": HEX,
    "<key>": KEY,
    "<org>": "o",
    "<name>": "n",
    "<revision>": REVISION,
    "<yyyy>": "2026",
    "<mm>": "01",
    "<yyyymmddthhmmssz>": "20260102t030405z",
    "*": "",
}


def test_the_names_of_the_directory():
    block = re.search(r"((?:^    .*\n)+)", section("2. The directory"), re.MULTILINE)
    assert block
    patterns = {
        word
        for line in block.group(1).splitlines()
        for word in re.split(r"   +", line.strip())[0].split()
    }
    assert patterns == NAMES.keys()
    for pattern, name in NAMES.items():
        filled = pattern
        for part, value in PARTS.items():
            filled = filled.replace(part, value)
        assert filled == name


def test_the_bounds_are_those_of_the_code():
    from archiver.archive import fixity, journal, manifests, records
    from archiver.archive.packs import format as pack

    text = " ".join(section("1. Ground rules").split())
    bounds = {
        "an object header or a head has at most 64 KiB": pack.HEADER_MAX == 64 << 10,
        "an index 16 MiB": pack.INDEX_MAX == 16 << 20,
        "a seal 8 MiB": records.SEAL_MAX == 8 << 20,
        "a parity header 64 MiB": PARITY_HEADER_MAX == 64 << 20,
        "a manifest 64 MiB of plain JSON": records.MANIFEST_MAX == 64 << 20,
        "at most 100,000 files, 320,000 tensors and 500,000 segments": (
            (records.FILES_MAX, records.TENSORS_MAX, records.SEGMENTS_MAX)
            == (100_000, 320_000, 500_000)
        ),
        "its `card` has at most 1 MiB": records.CARD_MAX == 1 << 20,
        "`,` stands at most 4,000,000 times, `[` 1,500,000 and `{` 1,000,000 times": (
            manifests.VALUES_MAX == {b",": 4_000_000, b"[": 1_500_000, b"{": 1_000_000}
        ),
        "at most 100,000 packs, and 10,000 patterns": (
            (records.PACKS_MAX, records.PATTERNS_MAX) == (100_000, 10_000)
        ),
        "an event 1 MiB": journal.EVENT_MAX == 1 << 20,
        "an object's frames together 40 MiB": pack.STORED_MAX == 40 << 20,
        "a window of at most 32 MiB": fixity.WINDOW_MAX == 32 << 20,
    }
    for words, same in bounds.items():
        assert words in text
        assert same, words


def test_the_page_is_the_one_that_archives_carry():
    assert (ROOT / "archiver" / "carried" / "FORMAT.md").read_text() == PAGE
