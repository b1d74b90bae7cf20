"""A plan is read strictly: what it cannot mean is refused, all of it at once, by file and entry."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver.archive import policy
from archiver.errors import ArchiverError, UsageError
from archiver.plan.document import (
    AuditDepth,
    Budget,
    NightAudit,
    PlannedRepository,
    SecretName,
    SmokeWish,
)
from archiver.plan.reader import (
    AUDIT_DEPTHS,
    SMOKE_LEVELS,
    _plan,
    find_plan,
    parse_plan,
    shipped_plans,
)
from archiver.plan.table import Problems
from archiver.plan.toml import Document
from archiver.smoke import report

HEAD = '[plan]\nname = "p"\n'
ONE = '[[repository]]\nname = "Org/One"\n'


def problems(text, what="p.toml"):
    with pytest.raises(UsageError) as caught:
        parse_plan(text.encode() if isinstance(text, str) else text, what)
    assert caught.value.message.startswith(f"{what} is not a plan (")
    return "\n".join([caught.value.message, *caught.value.details])


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
        (
            HEAD + '[[repository]]\nname = "../b"',
            'line 4: repository 1 (../b): name is "../b", which is not the name',
        ),
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
    assert told.count("\n") == 21
    assert "and 80 more" in told


def test_text_from_a_plan_is_harmless_in_a_message():
    assert "\x1b" not in problems(HEAD + '[[repository]]\nname = "a\\u001b[31m"\n"k\\u001b" = 1')


def test_two_revisions_of_one_repository_are_two_entries():
    plan = parse_plan((HEAD + ONE + ONE + 'revision = "v1"').encode(), "p")
    assert [repository.revision for repository in plan.repositories] == [None, "v1"]


WHOLE = """
[plan]
name = "p"
window = ["01:00-06:00", "Sat,Sun 00:00-24:00"]
timezone = "Europe/Berlin"
budget = { bytes = "500GB", hours = 4.5 }
max_rate = "50MB"
min_free = "10GiB"
sources = ["huggingface", "modelscope"]
[[repository]]
name = "Qwen/Qwen3.5-*"
revisions = ["main", "v*", "tags"]
priority = 10
effort = "fast"
smoke = "forward"
gone = 2026-11-29
sources = ["huggingface"]
[[repository]]
author = "datasets/Org"
smoke = false
gone = "2026-11-29"
[[repository]]
collection = "Qwen/qwen35"
[[repository]]
name = "modelscope:Org/Name"
[night]
audit = { share = "5%", hours = 2, bytes = "1TB", level = "content" }
copies = ["/mnt/disk/weights"]
parity = true
sign = "/etc/archiver/key"
report = true
prometheus = "/var/lib/node_exporter/archiver.prom"
ping = "file:/etc/archiver/ping.url"
notify = ["credential:notify", "env:NOTIFY_URL"]
before = [["mount", "/mnt/disk"], "systemctl start 'a b'"]
after = [["umount", "/mnt/disk"]]
"""


def test_every_key_of_a_whole_plan_is_read():
    plan = parse_plan(WHOLE.encode(), "p")
    assert (plan.window.timezone, [span.start for span in plan.window.spans]) == (
        "Europe/Berlin",
        [60, 0],
    )
    assert plan.budget == Budget(500 * 10**9, 16_200)
    assert (plan.max_rate, plan.min_free) == (50 * 10**6, 10 << 30)
    assert plan.sources == ("huggingface", "modelscope")
    pattern, author, collection, elsewhere = plan.repositories
    assert (pattern.name, pattern.is_open, pattern.follows) == ("Qwen/Qwen3.5-*", True, True)
    assert (pattern.priority, pattern.effort, pattern.smoke) == (10, "fast", "forward")
    assert (pattern.gone, pattern.sources) == ("2026-11-29", ("huggingface",))
    assert pattern.title == "Qwen/Qwen3.5-*@main,v*,tags"
    assert (author.author, author.selector, author.smoke) == (
        "datasets/Org",
        "datasets/Org/*",
        "none",
    )
    assert author.gone == pattern.gone
    assert (collection.collection, collection.is_open) == ("Qwen/qwen35", True)
    assert (elsewhere.name, elsewhere.is_open) == ("modelscope:Org/Name", False)
    night = plan.night
    assert night.audit == NightAudit(0.05, 7200, 10**12, "content")
    assert night.copies == ("/mnt/disk/weights",)
    assert (night.parity, night.report, night.sign) == (True, True, "/etc/archiver/key")
    assert night.ping == (SecretName("file", "/etc/archiver/ping.url"),)
    assert night.notify == (SecretName("credential", "notify"), SecretName("env", "NOTIFY_URL"))
    assert night.before == (("mount", "/mnt/disk"), ("systemctl", "start", "a b"))


def test_words_are_those_of_the_rooms_that_know_them():
    assert policy.LEVELS == AUDIT_DEPTHS == get_args(AuditDepth)
    assert report.LEVELS == SMOKE_LEVELS
    assert {"", "none", *SMOKE_LEVELS} == set(get_args(SmokeWish))


def test_whoever_can_write_a_plan_is_known(tmp_path):
    path = tmp_path / "plan.toml"
    path.write_text(HEAD + ONE)
    for mode, own in ((0o644, True), (0o600, True), (0o664, False), (0o646, False)):
        path.chmod(mode)
        plan = find_plan(str(path))
        assert (plan.file, plan.is_own) == (str(path), own), oct(mode)
    assert (find_plan("qwen3.5").file, find_plan("qwen3.5").is_own) == ("", False)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            HEAD + "window_ = 1\n" + ONE,
            "line 3: [plan]: 'window_' is not a key that a plan has here;",
        ),
        (
            HEAD + "windw = 1\n" + ONE,
            "line 3: [plan]: 'windw' is not a key that a plan has here; did you mean window?",
        ),
        (HEAD + "Max_Age = 1\n" + ONE, "did you mean max_age?"),
        (HEAD + ONE + 'zzz = "x"', "line 5: repository 1 (Org/One): 'zzz' is not a key"),
        (HEAD + ONE + 'zzz = "x"', "there are name, author, collection,"),
        (
            HEAD + "[nigth]\n" + ONE,
            "line 3: 'nigth' is not a key that a plan has here; did you mean night?",
        ),
        (HEAD + 'window = "1-6"\n' + ONE, 'line 3: [plan]: window is "1-6": not a window such as'),
        (
            HEAD + 'window = ["01:00-02:00",\n"06:00-06:00"]\n' + ONE,
            (
                'line 4: [plan]: window must be a list such as ["01:00-06:00"]: element 2 is '
                '"06:00-06:00": a window without a length'
            ),
        ),
        (HEAD + 'window = ["01:00-02:00"]\n' + ONE, "line 3: [plan]: window needs a timezone"),
        (HEAD + 'timezone = "UTC"\n' + ONE, "line 3: [plan]: timezone is of no use without window"),
        (
            HEAD + 'window=["01:00-02:00"]\ntimezone = "Europe/Berlon"\n' + ONE,
            (
                'line 4: [plan]: timezone is "Europe/Berlon": not a time zone that is known here; did you '
                "mean Europe/Berlin?"
            ),
        ),
        (HEAD + "budget = 3\n" + ONE, "line 3: [plan] budget is not a table"),
        (
            HEAD + 'budget = { byte = "1GB" }\n' + ONE,
            "line 3: [plan] budget: 'byte' is not a key that a plan has here; did you mean bytes?",
        ),
        (HEAD + "budget = { hours = nan }\n" + ONE, "hours must be a number of hours"),
        (HEAD + "budget = { hours = true }\n" + ONE, "hours must be a number of hours"),
        (HEAD + 'budget = { bytes = "0B" }\n' + ONE, "bytes must be more than 0 bytes"),
        (HEAD + 'max_rate = "fast"\n' + ONE, 'max_rate must be a size such as "500GB"'),
        (HEAD + f"min_free = {1 << 63}\n" + ONE, "min_free must be a size"),
        (
            HEAD + 'sources = ["hugingface"]\n' + ONE,
            (
                'sources must be a list such as ["huggingface"]: element 1 must be "huggingface" or '
                '"modelscope"; did you mean huggingface?'
            ),
        ),
        (HEAD + "sources = []\n" + ONE, "sources must be a list"),
        (HEAD + 'sources = ["huggingface", "huggingface"]\n' + ONE, "names a hub twice"),
        (
            HEAD + ONE + 'author = "Org"',
            "line 5: repository 1 (Org/One): name and author exclude each other",
        ),
        (HEAD + '[[repository]]\nauthor = "Org/One"', "which is no name that a hub has"),
        (HEAD + '[[repository]]\nauthor = "O*"', "must be the name of an organisation"),
        (HEAD + '[[repository]]\nname = "*/One"', "a pattern has its organisation written out"),
        (HEAD + '[[repository]]\nname = "One*"', "a pattern has its organisation written out"),
        (HEAD + '[[repository]]\nname = "Org/One *"', "which no repository's name can fit"),
        (HEAD + '[[repository]]\nname = "Org/a/One*"', "which is no name that a hub has"),
        (HEAD + '[[repository]]\nname = "spaces/Org/One"', "a plan mirrors models and datasets"),
        (
            HEAD + '[[repository]]\nname = "folder:datasets/Org/One"',
            "of Hugging Face and ModelScope",
        ),
        (HEAD + '[[repository]]\ncollection = "x"', "collection must be as in its address"),
        (
            HEAD + ONE + 'revision = "a"\nrevisions = ["b"]',
            "line 6: repository 1 (Org/One): revision and revisions exclude each other",
        ),
        (HEAD + ONE + "revisions = []", "revisions must be a list"),
        (HEAD + ONE + 'revisions = ["v *"]', 'is "v *", which no branch or tag can fit'),
        (
            HEAD + ONE + 'include = ["a", "/b"]',
            (
                'include must be a list such as ["*.json"]: element 2 is "/b", which fits no file: paths '
                "of a repository begin without a slash"
            ),
        ),
        (HEAD + ONE + 'include = ["./b"]', "no path has a part that is empty"),
        (
            HEAD + ONE + 'include = ["a"]\nexclude = ["a", "b"]',
            "exclude leaves nothing of what include takes",
        ),
        (HEAD + ONE + 'exclude = ["*"]', "exclude leaves nothing"),
        (HEAD + ONE + "priority = 1.5", "priority must be a whole number"),
        (HEAD + ONE + "priority = true", "priority must be a whole number"),
        (HEAD + ONE + 'effort = "slow"', 'effort must be "fast" or "normal"'),
        (HEAD + ONE + 'smoke = "foward"', "smoke must be false, "),
        (HEAD + ONE + 'smoke = "foward"', "did you mean forward?"),
        (HEAD + ONE + "smoke = true", "smoke must be false, "),
        (HEAD + ONE + 'gone = "yesterday"', 'gone must be a day such as "2026-11-29"'),
        (HEAD + ONE + "gone = 2026-11-29T00:00:00Z", "gone must be a day"),
        (HEAD + ONE + "partial = true", "line 5: repository 1 (Org/One): partial is of no use"),
        (HEAD + ONE + 'acknowledge = ["damage"]', "acknowledge can hold gone and refused only"),
        (
            HEAD + ONE + '[night]\nping = "https://hc.example/secret"',
            "must say where a URL lies, not the URL",
        ),
        (HEAD + ONE + '[night]\nping = ["x:y"]', 'must be "file:PATH"'),
        (HEAD + ONE + "[night]\naudit = true", "line 6: [night] audit is not a table"),
        (HEAD + ONE + '[night]\naudit = { level = "contents" }', "did you mean content?"),
        (HEAD + ONE + '[night]\naudit = { share = "0%" }', 'share must be a share such as "5%"'),
        (HEAD + ONE + "[night]\nbefore = [[]]", "must be a command and its words"),
        (HEAD + ONE + '[night]\nbefore = ["a \'b"]', "must be a command and its words"),
        (HEAD + ONE + '[night]\ncopies = "/mnt"', "copies must be a list such as"),
    ],
)
def test_what_is_wrong_is_told_with_its_line_and_the_nearest_word(text, told):
    assert told in problems(text)


def test_a_secret_in_a_plan_is_not_repeated():
    text = HEAD + ONE + '[night]\nnotify = ["https://hc.example/s3cr3t", "x"]'
    assert "s3cr3t" not in problems(text)


def test_problems_come_in_the_order_of_the_file(run, tmp_path):
    path = tmp_path / "p.toml"
    path.write_text('[night]\nx = 1\n[[repository]]\nnme = "a/b"\n[plan]\nname = "p"\nagee = 1\n')
    result = run("plan", "check", "-C", tmp_path, path)
    assert result.code == 10, "no archive"
    run("init", "-C", tmp_path / "a")
    result = run("plan", "check", "--json", "-C", tmp_path / "a", path)
    assert result.code == 2
    (error,) = result.kinds("error")
    assert [detail.partition(":")[0] for detail in error["details"]] == [
        f"line {number}" for number in (2, 3, 4, 7)
    ]
    assert "    line 4: repository 1: 'nme' is not a key" in result.err


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=2)
            | st.dictionaries(
                st.sampled_from(
                    [
                        *(
                            "plan",
                            "name",
                            "repository",
                            "night",
                            "window",
                            "budget",
                            "bytes",
                            "hours",
                        ),
                        *("audit", "ping", "before", "include", "revisions", "gone", "author", "x"),
                    ]
                ),
                inner,
                max_size=4,
            )
        ),
        max_leaves=20,
    )
)
def test_any_values_are_a_plan_or_its_problems(values):
    noted = Problems()
    _plan(values if isinstance(values, dict) else {"plan": values, "repository": [values]}, noted)
    document = Document(b"")
    assert len(noted.sentences(document, 20)) <= 20
