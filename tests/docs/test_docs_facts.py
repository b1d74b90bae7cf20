"""Pages that state facts of the code: bounds, exit codes, and which test shows which promise."""

from __future__ import annotations

import re
import runpy

import docskit
import pytest

from archiver import front_matter
from archiver.archive import journal, lookup, manifests, records, watch
from archiver.archive.packs import format as packs
from archiver.archive.packs import reader, writer
from archiver.catalogue import cards, groups, sql, sqlite_file
from archiver.catalogue import search as catalogue_search
from archiver.codec import segment
from archiver.errors import ExitCode
from archiver.export import model, modelpack, oci_layout
from archiver.export import text as export_text
from archiver.mount import contents, filesystem, mountpoint, tree
from archiver.night import commands as night_commands
from archiver.night import delivery, metrics
from archiver.night import facts as night_facts
from archiver.night import result as night_result
from archiver.night import secret as night_secret
from archiver.night import words as night_words
from archiver.operations import doctor
from archiver.plan import reader as plan_reader
from archiver.plan import table, toml, window
from archiver.schedule import systemd
from archiver.tensors import header, weight_files
from archiver.upstream import deadlines, http, hub_cache, refs
from archiver.upstream import listing as hub_listing
from archiver.upstream.huggingface import client, listing, search, state

KIB, MIB = 1 << 10, 1 << 20
BOUNDS_PAGE = (docskit.ROOT / "docs/bounds.md").read_text()
ROWS = [line.split("|")[1:-1] for line in BOUNDS_PAGE.splitlines() if line.startswith("|")]
BOUNDS = [
    ("Characters of the verdict", f"{night_words.VERDICT_MAX}"),
    ("Facts that the journal keeps of a night", f"{night_facts.FACTS_MAX:,}"),
    ("Errors of one step", f"{night_result.ERRORS_MAX:,}"),
    ("A command before or after", f"{night_commands.COMMAND_SECONDS} seconds"),
    ("The end of what a command prints", f"{night_commands.TAIL_MAX:,} bytes"),
    ("A secret", f"{night_secret.SECRET_MAX:,} bytes, {night_secret.URLS_MAX} URLs"),
    ("The text of a ping or notice", f"{delivery.BODY_MAX:,} bytes"),
    ("A ping or notice, to one URL", f"{delivery.SECONDS:.0f} seconds"),
    ("The metrics that are there", f"{metrics.OLD_MAX // MIB} MiB"),
    ("A repository's description", f"{client._LARGEST_INFO // MIB} MiB"),
    ("All JSON of one listing", f"{deadlines._LARGEST_LISTING // MIB} MiB"),
    ("Entries of one listing", f"{hub_listing._MOST_ENTRIES:,}"),
    ("Files of one listing", f"{records.FILES_MAX:,}"),
    ("Characters of all paths", f"{hub_listing._MOST_PATH_BYTES // MIB} Mi"),
    ("Pages of one listing", f"{hub_listing._MOST_PAGES:,}"),
    ("A model card's metadata", f"{listing._LARGEST_RAW_CARD // MIB} MiB"),
    ("up to 64 KiB, 16 levels deep", f"{listing._LARGEST_RAW_CARD // MIB} MiB"),
    ("The head of an answer,", f"{deadlines._LARGEST_HEAD // KIB} KiB"),
    ("The branches and tags of a repository", f"{refs.LARGEST_REFS // MIB} MiB"),
    (
        "Of these, those that are looked at",
        f"{watch.BRANCHES_MAX} branches, {watch.TAGS_MAX:,} tags",
    ),
    (f"names of up to {watch.NAME_MAX} bytes", f"{watch.BRANCHES_MAX} branches"),
    (
        "What a watched repository's description says of its files",
        f"{state._LARGEST_SIBLINGS // MIB} MiB, {records.FILES_MAX:,} files",
    ),
    ("Pages of commits", f"{state.HISTORY_PAGES}"),
    ("Redirects of one request", f"{http._MOST_REDIRECTS}"),
    ("the body of a refusal", f"{http._LARGEST_REFUSAL // KIB} KiB"),
    ("A cache's record", f"{hub_cache._LARGEST_TREE // MIB} MiB, {records.FILES_MAX:,} files"),
    ("A cache's ref", f"{hub_cache._LARGEST_REF} bytes"),
    (
        "An index of shards",
        f"{weight_files.INDEX_MAX // MIB} MiB, {weight_files._COLONS_MAX:,} colons",
    ),
    ("A manifest, as JSON", f"{records.MANIFEST_MAX // MIB} MiB"),
    (
        "Its files, tensors, segments",
        f"{records.FILES_MAX:,} / {records.TENSORS_MAX:,} / {records.SEGMENTS_MAX:,}",
    ),
    ("Its card", f"{records.CARD_MAX // MIB} MiB"),
    ("The signs", " / ".join(f"{most:,}" for most in manifests.VALUES_MAX.values())),
    ("A seal, with at most", f"{records.SEAL_MAX // MIB} MiB"),
    (f"{records.PACKS_MAX:,} packs and {records.PATTERNS_MAX:,} patterns", "8 MiB"),
    ("A pack's index", f"{packs.INDEX_MAX // MIB} MiB"),
    (f"A writer ends a pack at {writer._ENTRIES_MAX:,}", "16 MiB"),
    ("An object's header", f"{packs.HEADER_MAX // KIB} KiB"),
    ("What object headers that no frame follows", f"{reader._DOUBTFUL_MAX} "),
    ("An event", f"{journal.EVENT_MAX // MIB} MiB"),
    ("A header, the library's own limit", f"{header.MAX_LENGTH:,} bytes"),
    ("What of it goes into a manifest", f"{records.TENSORS_MAX:,} tensors"),
    ("What of it goes into a manifest", f"{header.MAX_WEIGHT // MIB} MiB"),
    ("What is kept of its metadata", f"{header.METADATA_MAX // MIB} MiB"),
    (
        "An entry of that schema",
        f"{sqlite_file.SCHEMA_VALUE_MAX // KIB} KiB, {sqlite_file.SCHEMA_STEPS_MAX:,} steps of SQLite",
    ),
    (
        "The catalogue's schema",
        f"{len(sqlite_file.TABLES)} tables of plain columns, {sqlite_file._SCHEMA_ENTRIES_MAX} entries",
    ),
    ("A model card that is searched", f"{front_matter.README_MAX // MIB} MiB"),
    (
        "The front matter of a card",
        f"{front_matter.FRONT_MATTER_MAX:,} characters, {front_matter.DEPTH_MAX} levels",
    ),
    (
        "What is kept of a card",
        f"{cards.TEXT_MAX:,} characters, {cards.TERMS_MAX} terms of {front_matter.TERM_MAX}",
    ),
    ("A `config.json` that a paper speaks of", f"{model.CONFIG_MAX // MIB} MiB"),
    (
        "A text of upstream's in a paper",
        f"{export_text.TEXT_MAX} characters, {model.LISTED_MAX} of",
    ),
    ("The `index.json` of an OCI image layout", f"{oci_layout.INDEX_MAX // MIB} MiB"),
    ("A manifest that every registry takes", f"{modelpack.MANIFEST_MAX // MIB} MiB"),
    ("Groups of tensors of a layout", f"{groups.GROUPS_MAX:,}"),
    ("A search", f"{catalogue_search.WORDS_MAX} words of {catalogue_search.WORD_MAX} characters"),
    ("Paths, patterns or cards that a search finds", f"{catalogue_search.MATCHES_MAX:,}"),
    (
        "A query of `sql`",
        f"{sql.SECONDS:.0f} s, {sql.ROWS:,} rows, {sql.MEMORY_MAX // MIB} MiB of memory",
    ),
    ("The text of such a query", f"{sql.SQL_MAX // KIB} KiB"),
    ("A value that SQLite may make", f"{sqlite_file.VALUE_MAX // MIB} MiB"),
    (f"one author, on {search.PAGES_MAX} pages", f"{search.REPOSITORIES_MAX:,}"),
    (
        "Pack indexes that a run reads",
        f"{lookup.PACKS_READ} packs, {lookup.INDEXES_READ // MIB} MiB",
    ),
    ("manifests that it reads for that", f"{lookup.MANIFESTS_READ // MIB} MiB"),
    ("Files of which a run keeps", f"{lookup.FILES_KEPT:,}"),
    ("Units of systemd", f"{systemd._UNIT_MAX // KIB} KiB of {systemd._UNITS_MAX:,} files"),
    (
        "The silence of a hub that `doctor` bears",
        f"{doctor.SILENCE:.0f} s, {systemd.ANSWER_SECONDS:.0f} s",
    ),
    ("Manifests that are kept open, beside", f"{contents.OPEN_SNAPSHOTS} snapshots"),
    ("Names of snapshots that were looked at", f"{tree.LISTED_FILES:,} files"),
    ("new, or taken out of use, is seen", f"{tree.FRESH_SECONDS:.0f} second"),
    ("the kernel may go by what it knows", f"{mountpoint.KEPT_SECONDS} seconds"),
    ("Files that cannot be read and are", f"{filesystem.SEEN_MAX:,}"),
    ("A plan's file", f"{toml.BYTES_MAX // MIB} MiB"),
    ("Brackets within brackets", f"{toml.DEPTH_MAX}"),
    ("Parts of a dotted key", f"{toml.PARTS_MAX}"),
    ("Its brackets, points, commas", f"{toml.MARKS_MAX:,}"),
    ("Characters of a text in it", f"{table.TEXT_MAX}"),
    ("Elements of a list in it", f"{table.LIST_MAX:,}"),
    ("Spans of its window", f"{window.SPANS_MAX}"),
    ("Problems that are told of it", f"{plan_reader.PROBLEMS_MAX}"),
]


@pytest.mark.parametrize(("holds", "bound"), BOUNDS)
def test_a_row_of_the_page_says_what_the_code_does(holds, bound):
    rows = [row for row in ROWS if holds in row[1]]
    assert len(rows) == 1, (holds, rows)
    assert bound in rows[0][0].strip(), (bound, rows[0])


def test_the_reader_that_an_archive_carries_has_the_same_bounds():
    script = docskit.ROOT / "archiver/carried/decode.py"
    carried = runpy.run_path(str(script))
    assert [carried[name] for name in ("SEAL", "INDEX_SIZE", "MANIFEST", "HEADER", "STORED")] == [
        records.SEAL_MAX,
        packs.INDEX_MAX,
        records.MANIFEST_MAX,
        packs.HEADER_MAX,
        packs.STORED_MAX,
    ]
    assert [carried[name] for name in ("FILES", "SEGMENTS", "PACKS", "PATTERNS")] == [
        records.FILES_MAX,
        records.SEGMENTS_MAX,
        records.PACKS_MAX,
        records.PATTERNS_MAX,
    ]
    assert (carried["VALUES"], carried["SEGMENT"]) == (manifests.VALUES_MAX, segment.SEGMENT_MAX)


def test_the_format_has_the_numbers_of_the_page():
    text = re.sub(r"\s+", " ", (docskit.ROOT / "docs/format.md").read_text())
    for most in (records.FILES_MAX, records.TENSORS_MAX, records.SEGMENTS_MAX, records.PACKS_MAX):
        assert f"{most:,}" in text, most
    for most in manifests.VALUES_MAX.values():
        assert f"{most:,}" in text, most


# ---- docs/exit-codes.md and the short table of the README

EXIT_CODES = (docskit.ROOT / "docs" / "exit-codes.md").read_text(encoding="utf-8")
README = (docskit.ROOT / "README.md").read_text(encoding="utf-8")
SUMMARY = docskit.table_rows(docskit.section(EXIT_CODES, "Exit codes"))


def test_the_summary_has_every_code_under_its_name():
    names = {int(re.findall(r"\d+", row[0])[0]): row[1] for row in SUMMARY}
    assert names == {int(code): code.name.lower().replace("_", " ") for code in ExitCode}


def test_every_code_has_a_section_and_says_what_to_do():
    for code in ExitCode:
        text = docskit.section(EXIT_CODES, f"{int(code)} {code.name.lower().replace('_', ' ')}")
        assert "**Do:**" in text or "none ends with this code" in " ".join(text.split()), code


def test_no_section_is_about_another_code():
    titles = [title for level, title in docskit.headings(EXIT_CODES) if level > 1]
    assert [int(title.split()[0]) for title in titles] == [int(code) for code in ExitCode]


def test_the_readme_says_the_same():
    short = [
        (int(row[0]), row[1]) for row in docskit.table_rows(docskit.section(README, "Exit codes"))
    ]
    assert short == [(int(re.findall(r"\d+", row[0])[0]), row[2]) for row in SUMMARY]


# ---- docs/reliability.md: every promise names the tests that show it

RELIABILITY = (docskit.ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
PROMISES = RELIABILITY[
    RELIABILITY.index("\n## The promises") : RELIABILITY.index("\n## Faults, and what")
]
_TEST = re.compile(r"`(tests/[a-z0-9_/]+\.py)::(test_[a-z0-9_]+)`")


def promises() -> list[str]:
    """The bullets of the section, each with the lines below it."""
    bullets = re.split(r"^- ", PROMISES, flags=re.MULTILINE)[1:]
    return [part.split("\n\n")[0] for part in bullets]


def test_there_are_promises():
    assert len(promises()) > 20
    assert all(promise.startswith("**") for promise in promises())


@pytest.mark.parametrize("promise", promises(), ids=lambda text: text[2:40])
def test_each_promise_names_tests_that_are_there(promise):
    named = _TEST.findall(promise)
    assert named
    assert len(named) == promise.count("tests/")
    for path, name in named:
        source = (docskit.ROOT / path).read_text(encoding="utf-8")
        assert re.search(rf"^def {name}\(", source, re.MULTILINE), f"{path}::{name}"
