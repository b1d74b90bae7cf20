"""A plan is read strictly: what it cannot mean is refused, all of it at once, by file and entry."""

from __future__ import annotations

from pathlib import Path

import pytest

from archiver.errors import ArchiverError, UsageError
from archiver.plan import PlannedRepository, find_plan, parse_plan, shipped_plans

HEAD = '[plan]\nname = "p"\n'
ONE = '[[repository]]\nname = "Org/One"\n'


def problems(text, what="p.toml"):
    with pytest.raises(UsageError) as caught:
        parse_plan(text.encode() if isinstance(text, str) else text, what)
    assert caught.value.message.startswith(f"{what} is not a plan")
    return caught.value.message


def test_every_key_is_read():
    plan = parse_plan(
        b"""
        [plan]
        name = "p"
        collection = "Org/coll-1"
        [[repository]]
        name = "Org/One"
        revision = "v1"
        include = ["*.json"]
        exclude = ["a*", "b*"]
        [[repository]]
        name = "gpt2"
        """,
        "p",
    )
    assert (plan.name, plan.collection) == ("p", "Org/coll-1")
    assert plan.repositories == (
        PlannedRepository("Org/One", "v1", ("*.json",), ("a*", "b*")),
        PlannedRepository("gpt2"),
    )
    assert [repository.title for repository in plan.repositories] == ["Org/One@v1", "gpt2"]


def test_the_shipped_plan_is_found_by_name():
    assert set(shipped_plans()) == {"qwen3.5"}
    plan = find_plan("qwen3.5")
    assert (plan.name, len(plan.repositories)) == ("qwen3.5", 21)
    assert plan.collection == "Qwen/qwen35"


def test_a_file_of_the_same_name_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "qwen3.5").write_text(HEAD + ONE)
    assert find_plan("qwen3.5").name == "p"
    assert find_plan("./qwen3.5").name == "p"


@pytest.mark.parametrize("name", ["qwen3.6", "none.toml", "", "."])
def test_a_plan_that_is_not_there_is_refused_with_what_there_is(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError) as caught:
        find_plan(name)
    assert "qwen3.5" in caught.value.hint


def test_a_plan_that_cannot_be_read_is_an_explained_error(monkeypatch):
    ordinary = Path.open

    def refuse(path, *args, **named):
        if path.name == "p.toml":
            raise PermissionError(13, "Permission denied", "p.toml")
        return ordinary(path, *args, **named)

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ArchiverError, match=r"p\.toml cannot be opened"):
        find_plan("p.toml")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (ONE, "[plan] is missing"),
        ("plan = 3\n" + ONE, "[plan] is not a table"),
        ("[plan]\n" + ONE, "[plan]: name must be"),
        ('[plan]\nname = "No Good"\n' + ONE, "[plan]: name must be"),
        ("[plan]\nname = 3\n" + ONE, "[plan]: name must be"),
        (HEAD + "nam = 1\n" + ONE, "[plan]: 'nam' is not a key"),
        (HEAD + "collection = 3\n" + ONE, "[plan]: collection must be"),
        (HEAD + 'collection = "x"\n' + ONE, "[plan]: collection must be"),
        (HEAD, "it lists no [[repository]]"),
        (HEAD + '[repository]\nname = "a/b"', "repository is not a list of tables"),
        ("repository = [3]\n" + HEAD, "repository 1 is not a table"),
        (HEAD + "[[repository]]\n", "repository 1: name is missing"),
        (HEAD + "[[repository]]\nname = 3", "repository 1: name is no text"),
        (HEAD + '[[repository]]\nname = "../b"', "repository 1 (../b): '../b' is not the name"),
        (HEAD + ONE + 'revison = "x"', "repository 1 (Org/One): 'revison' is not a key"),
        (HEAD + ONE + "revision = 3", "repository 1 (Org/One): revision must be"),
        (HEAD + ONE + 'revision = ""', "repository 1 (Org/One): revision must be"),
        (HEAD + ONE + 'revision = "a\\u001b"', "repository 1 (Org/One): revision must be"),
        (HEAD + ONE + 'include = "*.json"', "repository 1 (Org/One): include must be a list"),
        (HEAD + ONE + "exclude = [3]", "repository 1 (Org/One): exclude must be a list"),
        (HEAD + ONE + ONE, "repository 2 (Org/One): is listed already as repository 1"),
        (HEAD + ONE + ONE.lower(), "repository 2 (org/one): is listed already"),
        (HEAD + ONE + ONE + 'revision = "main"', "is listed already as repository 1"),
        (HEAD + ONE + "[more]\n", "'more' is not a key"),
        ("[plan\n", "it is not TOML"),
        (b"\xff", "it is not TOML"),
        (b"#" * (1 << 20) + b"#", "more than 1,048,576 bytes"),
    ],
)
def test_what_a_plan_cannot_mean_is_refused(text, told):
    assert told in problems(text)


def test_all_problems_are_told_at_once():
    told = problems('x = 1\n[plan]\n[[repository]]\nname = 3\ny = 1\n[[repository]]\nname = "a b"')
    assert "(5 problems)" in told
    for part in ("'x' is", "name must be", "repository 1: name", "'y' is", "(a b)"):
        assert part in told


def test_many_problems_are_counted():
    told = problems(HEAD + "[[repository]]\nx = 1\n" * 50)
    assert told.count("'x' is not") < 50
    assert "and 80 more" in told


def test_text_from_a_plan_is_harmless_in_a_message():
    assert "\x1b" not in problems(HEAD + '[[repository]]\nname = "a\\u001b[31m"\n"k\\u001b" = 1')


def test_two_revisions_of_one_repository_are_two_entries():
    plan = parse_plan((HEAD + ONE + ONE + 'revision = "v1"').encode(), "p")
    assert [repository.revision for repository in plan.repositories] == [None, "v1"]
