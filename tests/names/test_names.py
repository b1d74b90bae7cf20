"""Names at the seam: docs/format.md sections 2 and 6.3."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import pytest
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id
from hypothesis import example, given
from hypothesis import strategies as st

from archiver.archive.layout import document_of, repository_hint, seal_name
from archiver.errors import ExitCode, HostileNameError, UsageError
from archiver.names import (
    RepositoryName,
    as_commit,
    as_repo_id,
    as_repo_path,
    check_paths,
    portable_paths,
    repo_id_of,
    slug,
    unportable,
)

VECTORS = Path(__file__).parents[1] / "formats/vectors/edition-2.json"


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
        "a\\b",
        "a\nb",
        "a\x1b[2Jb",
        "a\x7fb",
        "a\x9bb",
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
        ("a\0b", "NUL"),
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
    """ "relative, no empty part, no . or .. part, no NUL, no lone surrogates"; all else is kept."""
    try:
        as_repo_path(path)
        fine = True
    except HostileNameError:
        fine = False
    categories = {unicodedata.category(char) for char in path}
    assert fine == (
        "\0" not in path and "Cs" not in categories and not {"", ".", ".."} & set(path.split("/"))
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
        (["a\nb"], "a\nb", "characters"),
        (["a\\b"], "a\\b", "characters"),
        (["\x9bb"], "\x9bb", "characters"),
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
        check_paths(["/x", "a", "A", "b", "b/c", "../y\x1b[31m", "z", "z"])
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


@given(
    st.text("aZ0._-/é\n", max_size=8) | st.text(max_size=10).filter(lambda text: ":" not in text)
)
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
    ("text", "name", "folder"),
    [
        ("Qwen/Qwen3.5-4B", ("huggingface", "model", "Qwen/Qwen3.5-4B"), "qwen/qwen3.5-4b"),
        ("gpt2", ("huggingface", "model", "gpt2"), "_/gpt2"),
        ("datasets/O/N", ("huggingface", "dataset", "O/N"), "huggingface.dataset/o/n"),
        ("datasets/squad", ("huggingface", "dataset", "squad"), "huggingface.dataset/_/squad"),
        ("datasets", ("huggingface", "model", "datasets"), "_/datasets"),
        ("modelscope:O/N", ("modelscope", "model", "O/N"), "modelscope.model/o/n"),
        ("modelscope:datasets/O/N", ("modelscope", "dataset", "O/N"), "modelscope.dataset/o/n"),
        ("folder:n", ("folder", "model", "n"), "folder.model/_/n"),
        ("later:spaces/O/N", ("later", "space", "O/N"), "later.space/o/n"),
    ],
)
def test_a_repository_is_a_hub_a_type_and_a_name(text, name, folder):
    """ "[hub:][datasets/]Org/Name"; "datasets/x is the dataset without an organisation" """
    assert RepositoryName.parse(text) == name
    assert as_repo_id(text) == text
    assert slug(as_repo_id(text)) == folder
    stored = seal_name(text, "0" * 64, "f" * 64)
    assert document_of(stored) == ("0" * 64, "f" * 64)
    assert repository_hint(stored) == text.lower()


@pytest.mark.parametrize(
    ("text", "spelling"),
    [
        ("huggingface:O/N", "O/N"),
        ("HuggingFace:Datasets/O/N", "datasets/O/N"),
        ("ModelScope:O/N", "modelscope:O/N"),
    ],
)
def test_a_repository_has_one_spelling(text, spelling):
    assert as_repo_id(text) == spelling


@pytest.mark.parametrize(
    "text",
    [
        "models/O/N",
        "datasets/",
        "datasets/a/b/c",
        ":a/b",
        "a:",
        "a:b:c/d",
        "..:a",
        "a/x:b",
        "spaces/",
    ],
)
def test_what_spells_no_repository(text):
    with pytest.raises(UsageError, match="not the name of a repository"):
        as_repo_id(text)


_NAMES = st.builds(
    RepositoryName,
    st.sampled_from(["huggingface", "modelscope", "folder", "a-hub"]),
    st.sampled_from(["model", "dataset", "space"]),
    st.sampled_from(["x", "datasets", "O/N", "datasets/N", "spaces/N", "O/datasets"]),
)


@given(_NAMES)
def test_what_has_a_spelling_has_it_alone(name):
    """Two repositories never have the same spelling, and none has the spelling of another."""
    try:
        spelling = repo_id_of(name.name, hub=name.hub, kind=name.type)
    except UsageError:
        assert name.name == "datasets/N" or name.type == "space"
        return
    assert RepositoryName.parse(spelling) == name


def test_a_stored_name_is_read_from_its_end():
    """ "readers parse names by position from the end, whatever folders are above" """
    base = f"{'a' * 40}.{'b' * 64}.json"
    for folders in ("x/", "x/y/", "x/y/z/", "a.b/c/d/e/"):
        assert document_of(f"snapshots/{folders}{base}") == ("a" * 40, "b" * 64)
        assert document_of(f"manifests/{folders}{base}.zst") == ("a" * 40, "b" * 64)
    for name in (f"packs/x/{base}", f"snapshots/{base}.tmp", f"snapshots/{base[1:]}", base):
        assert document_of(name) is None


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["a:b", "c"], {"a:b": "a%3Ab"}),
        (["a\nb\\c"], {"a\nb\\c": "a%0Ab%5Cc"}),
        (['x<>:"|?*'], {'x<>:"|?*': "x%3C%3E%3A%22%7C%3F%2A"}),
        (["é\x85\x1b"], {"é\x85\x1b": "é%C2%85%1B"}),
        (["100%", "100%:"], {"100%:": "100%25%3A"}),
        (["a./b ", "..."], {"a./b ": "a%2E/b%20", "...": "%2E%2E%2E"}),
        (["R.tar.gz", "r.tar.gz"], {"r.tar.gz": "r.tar~2.gz"}),
        (["README", "ReadMe", "readme"], {"ReadMe": "ReadMe~2", "readme": "readme~3"}),
        ([".X", ".x"], {".x": ".x~2"}),
        (["x~2", "X", "x"], {"x": "x~3"}),
        (["a/b:", "a/B:", "A/c:"], {"a/b:": "a/b%3A", "a/B:": "a/B%3A~2", "A/c:": "A/c%3A"}),
        (["B", "b/x"], {}),
        (["a:", "a%3A"], {"a:": "a%3A~2"}),
    ],
)
def test_portable_paths(paths, names):
    assert portable_paths(paths) == names


@given(st.lists(st.text("aA.:%~2/\n\x85é", min_size=1, max_size=6), unique=True, max_size=12))
def test_portable_paths_stand_beside_each_other_everywhere(paths):
    """Renamed as a whole, no two files have the same name anywhere; only files may have folders' names."""
    try:
        check_paths(paths)
    except HostileNameError:
        return
    names = portable_paths(paths)
    renamed = [names.get(path, path) for path in paths]
    kinds = {why.partition(",")[0].partition(" '")[0] for why in unportable(renamed).values()}
    assert kinds <= {"is a file and also the folder of", "lies below the file"}


def test_commits():
    assert as_commit("0123456789abcdef0123456789abcdef01234567")
    for text in ("", "main", "a" * 39, "a" * 41, "A" * 40, "a" * 40 + "\n", "\x1b" * 40):
        with pytest.raises(HostileNameError, match="not a commit") as caught:
            as_commit(text)
        assert caught.value.message.isprintable()


@pytest.mark.parametrize("vector", json.loads(VECTORS.read_bytes())["names"], ids=repr)
def test_other_names_are_those_of_the_vectors(vector):
    """ "The rule, so that every reader gives the same" """
    path, name = vector["path"], vector["name"]
    assert portable_paths([path]) == ({path: name} if unportable([path]) else {})
