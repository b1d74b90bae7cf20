"""The page of all repositories: what it lists, and what a search and each filter leave."""

from __future__ import annotations

import os

import pytest
from kit.cli import invoke
from kit.repository import bf16, noise, safetensors
from pageskit import Page, Served

CARD = "---\nlicense: {licence}\n---\n# {title}\n\nIt knows about {topic}.\n"
HELD = {
    "Qwen/Qwen3.5-0.8B": ("apache-2.0", "Small", "whales", "BF16", 900),
    "Qwen/Qwen3.5-4B-Base": ("apache-2.0", "Base", "ferns", "F16", 3000),
    "meta-llama/Llama-3.1-8B": ("llama3.1", "A llama", "mountains", "BF16", 2000),
}


def put(root, folder, name, files):
    folder.mkdir()
    for path, data in files.items():
        (folder / path).write_bytes(data)
    assert invoke("import", "-q", "-C", root, folder, "--as", name, "--min-free", "0B") == 0


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("repositories")
    root = folder / "archive"
    os.environ["HOME"] = str(folder / "home")
    assert invoke("init", "-q", "-C", root) == 0
    for number, (name, (licence, title, topic, dtype, side)) in enumerate(HELD.items()):
        data = bf16(number, side)
        card = CARD.format(licence=licence, title=title, topic=topic).encode()
        weights = safetensors({f"layers.{number}.weight": (dtype, (side,), data)})
        put(root, folder / str(number), name, {"README.md": card, "model.safetensors": weights})
    return root


@pytest.fixture(scope="module")
def served(root):
    return Served(root)


def listed(page: Page) -> list[str]:
    """The repositories whose pages it leads to, in order, each once."""
    links = (each.get("href", "") for each in page.all("a"))
    found = [link.removeprefix("/repositories/") for link in links if "/repositories/" in link]
    return list(dict.fromkeys(name.partition("/revisions/")[0] for name in found))


ALL = sorted(HELD, key=str.casefold)


def test_all_are_listed_by_name(served):
    page = served.page("/repositories")
    assert listed(page) == sorted(HELD, key=str.casefold) == listed(served.page("/"))
    for words in ("3 repositories, 3 revisions", "apache-2.0 · Small", "BF16", "nobody"):
        assert words in page.text


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ({"q": "qwen"}, ["Qwen/Qwen3.5-0.8B", "Qwen/Qwen3.5-4B-Base"]),
        ({"q": "QWEN base"}, ["Qwen/Qwen3.5-4B-Base"]),
        ({"q": "whale"}, ["Qwen/Qwen3.5-0.8B"]),  # of the card
        ({"q": "llama3"}, ["meta-llama/Llama-3.1-8B"]),
        ({"q": "submarine"}, []),
        ({"q": '">'}, []),
        ({"family": "Qwen3.5"}, ["Qwen/Qwen3.5-0.8B", "Qwen/Qwen3.5-4B-Base"]),
        ({"dtype": "BF16"}, ["meta-llama/Llama-3.1-8B", "Qwen/Qwen3.5-0.8B"]),
        ({"dtype": "BF16", "family": "Qwen3.5"}, ["Qwen/Qwen3.5-0.8B"]),
        ({"licence": "llama3.1"}, ["meta-llama/Llama-3.1-8B"]),
        ({"licence": "never"}, []),
        ({"size": "-1"}, ALL),
        ({"size": "100-"}, []),
        ({"size": "nonsense", "sort": "nonsense", "page": "-7"}, ALL),
        ({"page": "9" * 40}, ALL),
        ({"sort": "size"}, ["Qwen/Qwen3.5-4B-Base", "meta-llama/Llama-3.1-8B", "Qwen/Qwen3.5-0.8B"]),
        ({"sort": "size-up"}, ["Qwen/Qwen3.5-0.8B", "meta-llama/Llama-3.1-8B", "Qwen/Qwen3.5-4B-Base"]),
        ({"sort": "name-down"}, ALL[::-1]),
    ],
)  # fmt: skip
def test_a_search_and_filters_leave_what_fits(served, query, names):
    page = served.page("/repositories", **query)
    assert listed(page) == names
    if not names:
        assert "No repository fits" in page.text
        assert "0 of 3 repositories" in page.text


def test_what_was_asked_for_stays_in_the_form(served):
    page = served.page("/repositories", q='a "quoted" <b>', family="Qwen3.5", sort="size")
    assert page.all("input")[0]["value"] == 'a "quoted" <b>'
    chosen = [each["value"] for each in page.all("option") if "selected" in each]
    assert chosen == ["Qwen3.5", "size"]


def test_the_column_that_is_sorted_by_says_so(served):
    (sorted_by,) = [each for each in served.page("/", sort="size").all("th") if "aria-sort" in each]
    assert sorted_by["aria-sort"] == "descending"


def test_a_search_looks_at_files_and_tensors_if_asked(served):
    assert "layers.#.weight" not in served.page("/", q="layers").text
    page = served.page("/", q="layers", **{"in": "everything"})
    assert "layers.#.weight" in page.text
    assert len(listed(page)) == 3


def test_an_empty_archive_says_how_to_begin(tmp_path):
    root = tmp_path / "archive"
    assert invoke("init", "-q", "-C", root) == 0
    page = Served(root).page("/repositories")
    assert "Nothing is held yet" in page.text
    assert "archiver mirror -C" in page.text
    assert not page.all("form")


def test_what_is_new_shows_without_a_restart(tmp_path, root):
    other = tmp_path / "archive"
    assert invoke("init", "-q", "-C", other) == 0
    served = Served(other)
    assert listed(served.page("/")) == []
    put(other, tmp_path / "new", "org/new", {"data.bin": noise(1, 100)})
    assert listed(served.page("/")) == ["org/new"]


def test_without_a_catalogue_the_seals_tell(root, monkeypatch):
    def broken(*_words, **_options):
        raise OSError("no database")

    monkeypatch.setattr("archiver.operations.overview.ask", broken)
    page = Served(root).page("/repositories", q="qwen")
    assert listed(page) == ["Qwen/Qwen3.5-0.8B", "Qwen/Qwen3.5-4B-Base"]
    assert "listed from the seals" in page.text


def test_static_files_are_named_by_what_they_are_and_kept(served):
    page = served.page("/")
    files = [each["href"] for each in page.all("link")] + [
        each["src"] for each in page.all("script")
    ]
    assert len(files) == 3
    for path in files:
        answer = served.get(path)
        assert answer.status_code == 200
        assert "immutable" in answer.headers["cache-control"]
        _, _, digest, name = path.split("/")
        assert served.get(f"/static/{'0' * len(digest)}/{name}").status_code == 404


def test_a_page_that_is_not_there_is_a_page(served):
    page = served.page("/no/such/page", status=404)
    assert "There is no such page" in page.text
