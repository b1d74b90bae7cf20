"""The lines of a TOML file's keys, and what a hostile file costs."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver.plan.toml import BYTES_MAX, Document, TomlError

TEXT = '''\
# a plan = "no key"
[plan] # name = 3
name = "p"
"odd \\u0041 key" = """
text = "no key"
""" # yes
budget = { bytes = "1GB", hours = 2.5 }
when = 2026-11-29 07:32:00
a.b."c d" = 1

[[repository]]
name = 'x'
include = [
    "*.json", # first
    "a]b",
    { deep = [1,
      2] },
]
[[repository]]
[repository.table]
key = true
[[repository.list]]
[[repository.list]]
key = \'\'\'
\'\'\'
last = 1
'''


def test_every_key_and_element_has_its_line():
    document = Document(TEXT.encode())
    for path, line in {
        ("plan",): 2,
        ("plan", "name"): 3,
        ("plan", "odd A key"): 4,
        ("plan", "budget"): 7,
        ("plan", "budget", "hours"): 7,
        ("plan", "when"): 8,
        ("plan", "a", "b", "c d"): 9,
        ("repository", 0): 11,
        ("repository", 0, "name"): 12,
        ("repository", 0, "include"): 13,
        ("repository", 0, "include", 0): 14,
        ("repository", 0, "include", 1): 15,
        ("repository", 0, "include", 2, "deep"): 16,
        ("repository", 0, "include", 2, "deep", 1): 17,
        ("repository", 1): 19,
        ("repository", 1, "table", "key"): 21,
        ("repository", 1, "list", 1): 23,
        ("repository", 1, "list", 1, "key"): 24,
        ("repository", 1, "list", 1, "last"): 26,
    }.items():
        assert document.line_of(path) == line, path
    assert document.line_of(("plan", "none", 3)) == 2, "what holds it"
    assert document.line_of(("none",)) == 0


def test_lines_are_the_same_where_lines_end_with_two_characters():
    document = Document(TEXT.replace("\n", "\r\n").encode())
    assert document.line_of(("repository", 1, "list", 1, "last")) == 26


KEYS = st.text("ab .\"'\\#=[]é\n\t", min_size=1, max_size=4)
LEAVES = (
    st.integers(-9, 9)
    | st.booleans()
    | st.floats(-9, 9)
    | st.text("ab\"'#=[]{},\\\n ", max_size=6)
    | st.dates().map(lambda day: f"\x00{day.isoformat()} 07:32:00")
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)


def written(value, newline):
    """A value as TOML, with line breaks where TOML 1.0 allows them."""
    if isinstance(value, dict):
        pairs = (f"{json.dumps(key)} = {written(inner, False)}" for key, inner in value.items())
        return "{ " + ", ".join(pairs) + " }"
    if isinstance(value, list):
        gap = "\n" if newline else " "
        return f"[{gap}" + f",{gap}".join(written(inner, newline) for inner in value) + f"{gap}]"
    if isinstance(value, str) and value.startswith("\x00"):
        return value[1:]
    if isinstance(value, str) and newline and "'''" not in value and not value.endswith("'"):
        return f"'''\n{value}'''"
    return json.dumps(value)


def paths_of(value, path=()):
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in items:
        yield (*path, key)
        if isinstance(inner, dict | list):
            yield from paths_of(inner, (*path, key))


@given(
    st.dictionaries(KEYS, VALUES, max_size=3),
    st.lists(st.dictionaries(KEYS, VALUES, max_size=3), max_size=3),
    st.booleans(),
)
def test_the_paths_that_have_lines_are_those_that_are_parsed(root, tables, newline):
    text = "".join(f"{json.dumps(key)}={written(value, newline)}\n" for key, value in root.items())
    for table in tables:
        text += "[['rows'.\"x\"]]\n"
        text += "".join(
            f"{json.dumps(key)}={written(each, newline)}\n" for key, each in table.items()
        )
    document = Document(text.encode())
    document.line_of(())
    assert set(document._lines) == set(paths_of(document.values))
    last = text.count("\n") + 1
    assert all(0 < line <= last for line in document._lines.values())


@pytest.mark.parametrize(
    ("text", "line", "told"),
    [
        ("a = 1\nb =\n", 2, "Invalid value"),
        ("a = 1\na = 2\n", 2, "Cannot overwrite a value"),
        ("[plan\n", 1, "Expected ']'"),
        ("x = 'a\n", 1, ""),
        ("x = 1\ny = [1,\n\n", 2, ""),
    ],
)
def test_what_is_not_toml_is_told_with_its_line(text, line, told):
    with pytest.raises(TomlError) as caught:
        Document(text.encode())
    assert (caught.value.line, told in caught.value.reason) == (line, True)


def test_what_is_not_text_is_told_with_its_line():
    with pytest.raises(TomlError, match="not UTF-8") as caught:
        Document(b"a = 1\nb = '\xff'\n")
    assert caught.value.line == 2


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a.b.c.d.e.f.g.h = 1", None),
        ("[a.b.c.d.e.f.g.h.i]", "a key has more than 8 parts"),
        ("a.b.c.'d'.e.f.g.h.i = 1", "a key has more than 8 parts"),
        ("a = " + "[" * 16 + "]" * 16, None),
        ("a = " + "[" * 17 + "]" * 17, "nested deeper than 16 levels"),
        ("a = 1.5\nb = 2.5\n" * 1, None),
    ],
)
def test_a_file_is_bounded_before_it_is_parsed(text, told):
    if told is None:
        assert Document(text.encode()).values
        return
    with pytest.raises(TomlError, match=told):
        Document(text.encode())


MEGABYTE = BYTES_MAX - 64


@pytest.mark.parametrize(
    "text",
    [
        "a=" + "[" * MEGABYTE,
        "a=" + "{a=" * (MEGABYTE // 3),
        "a=" + "1" * MEGABYTE,
        "a." * (MEGABYTE // 2) + "a=1",
        "[" + "a." * (MEGABYTE // 2) + "a]",
        "".join(f"[{'.'.join('a' * 8)}.x{number}]\n" for number in range(MEGABYTE // 24)),
        "a=[" + "1," * (MEGABYTE // 2) + "]",
        '"' * MEGABYTE,
        "'" * MEGABYTE,
        'a="""' + "''\"\"'" * (MEGABYTE // 5),
        "[" * MEGABYTE,
        "a=2026-13-41T99:99:99Z",
    ],
    ids=range(12),
)
def test_a_hostile_file_is_refused(text):
    with pytest.raises(TomlError):
        Document(text.encode())


@given(st.text(max_size=60) | st.text("[]{}=.,\"'#\\\n a1", max_size=60))
def test_any_text_is_parsed_or_told(text):
    try:
        document = Document(text.encode("utf-8", "surrogatepass"))
    except TomlError:
        return
    document.line_of(())
    assert set(document._lines) == set(paths_of(document.values))
