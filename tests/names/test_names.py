"""Names at the seam: docs/format.md sections 2 and 6.3."""

from __future__ import annotations

import unicodedata

import pytest
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id
from hypothesis import example, given
from hypothesis import strategies as st

from archiver.errors import ExitCode, HostileNameError, UsageError
from archiver.names import as_commit, as_repo_id, as_repo_path, check_paths, slug, unportable


@pytest.mark.parametrize(
    "path",
    [
        "config.json",
        "a/b/c.safetensors",
        ".gitattributes",
        "...",
        "a b/ü😀.txt",
        "CON",
        "a:b",
        "trailing.",
        "~",
        "-rf",
        "x" * 255,
        "/".join(["x" * 255] * 4),
    ],
)
def test_fine_paths(path):
    assert as_repo_path(path) == path


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("/etc/passwd", "is absolute"),
        ("", "is empty"),
        ("x" * 1025, "1,025 bytes"),
        ("ü" * 513, "1,026 bytes"),
        ("a\\b", "backslash"),
        ("a\0b", "control"),
        ("a\nb", "control"),
        ("a\x1b[2Jb", "control"),
        ("a\x7fb", "control"),
        ("a\x9bb", "control"),
        ("a//b", "part ''"),
        ("a/", "part ''"),
        (".", "part '.'"),
        ("a/./b", "part '.'"),
        ("..", "part '..'"),
        ("a/../../b", "part '..'"),
        ("x" * 256, "255 bytes"),
        ("a/" + "ü" * 128, "255 bytes"),
        ("a\ud800", "Unicode"),
    ],
)
def test_hostile_paths(path, why):
    with pytest.raises(HostileNameError, match=why) as caught:
        as_repo_path(path)
    assert caught.value.exit_code is ExitCode.MISMATCH
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 1000


@given(st.text(st.sampled_from("./\\\0\nab\x85é"), max_size=8) | st.text(max_size=20))
@example("a/..")
def test_a_checked_path_holds_nothing_that_a_reader_refuses(path):
    """ "absolute, empty, … a backslash, a NUL or another control character, or a part that is
    empty, ., .. or longer than 255 bytes" """
    try:
        as_repo_path(path)
        fine = True
    except HostileNameError:
        fine = False
    categories = {unicodedata.category(char) for char in path}
    parts = path.split("/")
    assert fine == (
        "\\" not in path and not categories & {"Cc", "Cs"} and not {"", ".", ".."} & set(parts)
    )


def test_paths_are_returned_in_their_order():
    assert check_paths(iter(["b", "a", "c/d", "c/e"])) == ["b", "a", "c/d", "c/e"]
    assert check_paths([]) == []


@pytest.mark.parametrize(
    ("paths", "why"),
    [
        (["a", "b", "a"], "'a' is listed twice"),
        (["a", "a/b"], "'a' is a file and also the folder of 'a/b'"),
        (["a/b/c/d", "a/b"], "'a/b' is a file and also the folder of 'a/b/c/d'"),
        (["a", "a!", "a/b", "a.b"], "'a' is a file and also the folder of 'a/b'"),
    ],
)
def test_paths_that_no_filesystem_can_hold_together(paths, why):
    """ "or two paths of one manifest that are the same, or of which one is a folder of the other" """
    with pytest.raises(HostileNameError, match=why):
        check_paths(paths)
    with pytest.raises(HostileNameError, match=r"listed twice|also the folder"):
        check_paths(reversed(paths))


@pytest.mark.parametrize(
    ("paths", "path", "why"),
    [
        (["README", "ReadMe"], "ReadMe", "is the same name as 'README'"),
        (["\u00e9", "e\u0301"], "e\u0301", "is the same name as"),
        (["straße", "STRASSE"], "STRASSE", "is the same name as"),
        (["\u00c9/x", "e\u0301/X"], "e\u0301/X", "is the same name as"),
        (["Docs", "docs/x"], "Docs", "is a file and also the folder of 'docs/x'"),
        (["a:b"], "a:b", "characters"),
        (["a./b"], "a./b", "characters"),
        (["a/b "], "a/b ", "characters"),
    ],
)
def test_what_only_some_filesystems_cannot_hold_is_kept_and_named(paths, path, why):
    """ "kept, and judged by each restore" """
    assert check_paths(paths) == paths
    assert next(iter(unportable(paths))) == path
    assert why in unportable(paths)[path]


def test_ordinary_paths_can_be_held_everywhere():
    paths = ["config.json", ".gitattributes", "a/b-1_2+3=4,5 (6).txt", "...a", "ü/😀"]
    assert unportable(paths) == {}


def test_paths_of_many_parts_take_time_in_proportion():
    paths = [f"{'a/' * 500}{number}" for number in range(2000)]
    assert check_paths(paths) == paths
    assert unportable(paths) == {}


def test_neighbours_do_not_clash():
    paths = ["a/b", "a.b", "a b", "ab/c", "A/c", "a-/b"]
    assert check_paths(paths) == paths


def test_all_problems_are_named_at_once():
    with pytest.raises(HostileNameError) as caught:
        check_paths(["/x", "a", "A", "b", "b/c", "y\x1b[31m", "z", "z"])
    for part in ("(4)", "'/x'", "'b/c'", r"y\x1b[31m", "'z' is listed twice"):
        assert part in caught.value.message
    assert caught.value.hint


def test_problems_are_bounded():
    with pytest.raises(HostileNameError) as caught:
        check_paths(f"/{n}{'x' * 5000}" for n in range(1000))
    message = caught.value.message
    assert message.count("has 5,00") == 20
    assert "(1,000)" in message
    assert "and 980 more" in message
    assert len(message) < 6000


@pytest.mark.parametrize(
    "text", ["Qwen/Qwen3.5-4B", "gpt2", "a/b", "_/_", "A" * 96 + "/" + "b" * 96]
)
def test_fine_repositories(text):
    assert as_repo_id(text) == text


@pytest.mark.parametrize(
    "text",
    [
        *("", "/", "a/", "/a", "a/b/c", "../a", "a/..", "a/.b", "a/b.", "-a", "a-", "a--b", "a..b"),
        *("a b", "a/b\n", "ü/x", "a\\b", "a.git", "a" * 97, "a" * 97 + "/b", "https://x/y", "a\0"),
    ],
)
def test_what_is_no_repository(text):
    with pytest.raises(UsageError, match="not the name of a repository"):
        as_repo_id(text)


@given(st.text("aZ0._-/é\n", max_size=8) | st.text(max_size=10))
def test_repositories_are_those_that_the_hubs_own_client_takes(text):
    try:
        validate_repo_id(text)
        fine = True
    except HFValidationError:
        fine = False
    try:
        assert as_repo_id(text) == text
        assert fine
    except UsageError:
        assert not fine


@pytest.mark.parametrize(
    ("repo_id", "folder"),
    [
        ("Qwen/Qwen3.5-4B", "qwen/qwen3.5-4b"),
        ("gpt2", "_/gpt2"),
        # names that only a directory as upstream could have
        (".Hidden/.x", "_hidden/_x"),
        ("A b/Ü", "a_b/_"),
    ],
)
def test_slug(repo_id, folder):
    """ "in lowercase, with every character outside [a-z0-9._-] replaced by _ and a leading .
    replaced by _; a repository without an organisation has _ as <org>" """
    assert slug(repo_id) == folder


def test_commits():
    assert as_commit("0123456789abcdef0123456789abcdef01234567")
    for text in ("", "main", "a" * 39, "a" * 41, "A" * 40, "a" * 40 + "\n", "\x1b" * 40):
        with pytest.raises(HostileNameError, match="not a commit") as caught:
            as_commit(text)
        assert caught.value.message.isprintable()
