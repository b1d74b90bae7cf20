"""A repository on two hubs, compared by what they list and by what the archive holds."""

from __future__ import annotations

import pytest

from archiver.loopback.faults import Fault

REPO = "Org/Model"
FILES = {
    "model.safetensors": bytes(range(256)) * 400,
    "tokenizer.json": b"{}" * 50,
    "config.json": b'{"a": 1}',
    "README.md": b"# A model",
    ".gitattributes": b"*.safetensors filter=lfs\n",
}
SMALL = ["README.md", "config.json", ".gitattributes"]


@pytest.fixture(autouse=True)
def both(hub, modelscope):
    hub.create(REPO, FILES)
    modelscope.create(REPO, FILES)


@pytest.fixture
def check(cli, archive, waits):
    def run(*words):
        return cli("cross-check", "--json", "-C", archive, *(words or (REPO,)))

    return run


def verdicts(result):
    return {file["path"]: file["verdict"] for file in result.kinds("file")}


def test_weights_are_compared_and_small_files_are_not_comparable(hub, modelscope, check):
    result = check()
    assert result.code == 0, result
    assert verdicts(result) == dict.fromkeys(SMALL, "not-comparable")
    summary = result.only("cross-check")
    assert (summary["same"], summary["not_comparable"]) == (2, 3)
    assert summary["second"] == f"modelscope:{REPO}"
    assert hub.requests.bodies() == modelscope.requests.bodies() == []


@pytest.mark.parametrize("held", [REPO, f"modelscope:{REPO}"])
def test_what_is_held_decides(hub, modelscope, check, mirror, held):
    modelscope.commit(REPO, {"README.md": b"# A modal"})
    assert mirror(held).code == 0
    hub.requests.clear()
    modelscope.requests.clear()
    result = check()
    assert result.code == 0
    assert verdicts(result) == {"README.md": "differs"}
    assert result.kinds("file")[0]["held"]
    assert hub.requests.bodies() == modelscope.requests.bodies() == []


@pytest.mark.parametrize(
    ("changes", "found", "code"),
    [
        ({"model.safetensors": bytes(256) * 400}, {"model.safetensors": "differs"}, 22),
        ({"model.safetensors": b"x"}, {"model.safetensors": "differs"}, 22),
        ({"model.safetensors": None}, {"model.safetensors": "only-first"}, 22),
        ({"more.gguf": b"x"}, {"more.gguf": "only-second"}, 22),
        ({"tokenizer.json": b"[]" * 50}, {"tokenizer.json": "differs"}, 0),
        ({"config.json": b"{}"}, {"config.json": "differs"}, 0),
        (
            {"configuration.json": b"{}", "README.md": None},
            {"configuration.json": "only-second"},
            0,
        ),
    ],
)
def test_what_differs(modelscope, check, changes, found, code):
    modelscope.commit(REPO, changes)
    result = check()
    assert found.items() <= verdicts(result).items()
    assert result.code == result.only("cross-check")["exit_code"] == code


def test_what_is_new_is_journalled_and_nothing_else(modelscope, check, cli, archive):
    assert check().only("cross-check")["journalled"]
    assert not check().only("cross-check")["journalled"]
    modelscope.commit(REPO, {"model.safetensors": b"x"})
    assert check().only("cross-check")["journalled"]
    log = cli("log", "-C", archive, "--kind", "cross-checked")
    assert len(log.out.splitlines()) == 2
    assert "1 different, 3 not comparable; 1 file of weights among them" in log.out
    assert "model.safetensors" in log.out


def test_a_pair_of_revisions_and_another_name_there(hub, modelscope, check):
    modelscope.create("LLM/Model-Copy", FILES)
    modelscope.tag("LLM/Model-Copy", "v1")
    modelscope.commit("LLM/Model-Copy", {"model.safetensors": b"x"})
    words = (REPO, "--with", "LLM/Model-Copy", "--revision")
    assert check(*words, "main:v1").code == 0
    assert check(*words, "main:master").code == 22
    assert check(*words, "v1").code == 23
    assert check(f"modelscope:{REPO}").code == 0
    assert check("folder:Org/Model").code == 2


@pytest.mark.parametrize("held", [False, True])
def test_tags_on_both_sides(hub, modelscope, check, mirror, held):
    hub.tag(REPO, "v1")
    modelscope.tag(REPO, "v1")
    modelscope.tag(REPO, "release-1")
    told = {"configuration.json": b"{}", "README.md": b"# Another", ".gitattributes": b""}
    modelscope.commit(REPO, {"model.safetensors": b"newer"} | told)
    modelscope.tag(REPO, "v2")
    hub.commit(REPO, {"model.safetensors": b"newer", "config.json": b"[]"})
    if held:
        assert mirror(f"{REPO}@v1").code == 0
    hub.requests.clear()
    modelscope.requests.clear()
    for pair in ("v1", "v1:v1", "v1:release-1"):
        result = check(REPO, "--revision", pair)
        assert result.code == 0, result
        assert verdicts(result) == ({} if held else dict.fromkeys(SMALL, "not-comparable"))
        summary = result.only("cross-check")
        assert summary["first_revision"] == hub.repository(REPO).tags["v1"]
        assert summary["second_revision"] != summary["first_revision"]
    changed = check(REPO, "--revision", "v1:v2")
    assert (changed.code, verdicts(changed)["model.safetensors"]) == (22, "differs")
    result = check(REPO, "--revision", "main:v2")
    assert result.code == 0, "what is no weights is only told"
    assert verdicts(result) == {
        "configuration.json": "only-second",
        "README.md": "differs" if held else "not-comparable",
        ".gitattributes": "differs",
        "config.json": "differs",
    }
    assert check(REPO, "--revision", "v1:v9").code == 23
    assert hub.requests.bodies() == modelscope.requests.bodies() == []


def test_weights_without_a_digest_of_one_kind_are_no_success(hub, modelscope, check):
    hub.create("Org/Tiny", {"w.pt": b"1"}, lfs=lambda _path, _size: False)
    modelscope.create("Org/Tiny", {"w.pt": b"1"})
    assert check("Org/Tiny").code == 4


def test_a_hub_that_cannot_be_asked(hub, modelscope, check, cli, archive):
    modelscope.faults.add(Fault("status", route="tree", times=None))
    assert check().code == 30
    assert check("Org/None").code == 23
    assert cli("log", "-C", archive, "--kind", "cross-checked").out.strip() == ""


def test_it_is_told_in_words(modelscope, cli, archive, waits):
    modelscope.commit(REPO, {"model.safetensors": b"x", "note\x1b[31m.txt": b"x"})
    result = cli("cross-check", "-C", archive, REPO)
    assert "~ model.safetensors  weights, 102 kB → 1 B: different" in result.out
    assert "Org/Model: weights differ, or are on one hub only (1 file)" in result.err
    assert "\x1b" not in result.out
