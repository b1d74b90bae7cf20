"""What a hostile ModelScope may cost and claim: memory in a child, and what it says of names and tokens."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from kit.worklog import assert_nothing_published

from archiver.archive.archive import Archive
from archiver.loopback.faults import Fault
from archiver.loopback.modelscope import ModelScopeHub

REPO = "modelscope:Org/Model"
WEIGHTS = "model.safetensors"
FILES = {WEIGHTS: bytes(range(256)) * 400, "config.json": b"{}"}
LARGEST_PEAK = 400 * 1024 * 1024
MEASURED = """
import json, sys
from archiver.cli.main import invoke
codes = [invoke(words) for words in json.loads(sys.argv[1])]
status = open("/proc/self/status").read()
print("codes", json.dumps(codes))
print("peak", int(status.split("VmHWM:")[1].split()[0]) * 1024)
"""


@pytest.fixture
def served(modelscope):
    modelscope.create("Org/Model", FILES)
    return modelscope


def answer(data, **more) -> bytes:
    return json.dumps({"Code": 200, "Success": True, "Data": data, **more}).encode()


def enveloped(data: bytes) -> bytes:
    return b'{"Code":200,"Success":true,"Data":' + data + b"}"


def forged(route: str, body: bytes | None, **more) -> Fault:
    headers = more.pop("headers", {})
    return Fault("forge", route=route, forge=lambda _: (body, headers), times=None, **more)


def packet(text: bytes) -> bytes:
    return b"%04x%s" % (len(text) + 4, text)


ADVERTISED = packet(b"# service=git-upload-pack\n") + b"0000"
REFS = b"".join(packet(b"%040x refs/heads/b%06d\n" % (n + 1, n)) for n in range(64_000))
LARGE = {
    "a card of 60 MB": ("info", enveloped(b'{"ReadMeContent":"' + b"x" * 60_000_000 + b'"}')),
    "a card of escapes": (
        "info",
        enveloped(b'{"ReadMeContent":"' + rb"\n\ud800" * 3_000_000 + b'"}'),
    ),
    "a gate of lists": ("info", enveloped(b'{"ProtectedMode":[' + b"[]," * 20_000_000 + b"0]}")),
    "branches of git": ("git", ADVERTISED + REFS + b"0000"),
    "branches of git without end": ("git", ADVERTISED + REFS * 20),
    "branches": (
        "refs",
        enveloped(b'{"RevisionMap":{"Branches":[' + b"{}," * 1_300_000 + b"{}]}}"),
    ),
    "branches of lists": (
        "refs",
        enveloped(b'{"RevisionMap":{"Branches":' + b"[" * 2_000_000 + b"]" * 2_000_000 + b"}}"),
    ),
    "commits": ("commits", enveloped(b'{"Commit":[' + b'{"Id":""},' * 1_500_000 + b'{"Id":""}]}')),
}


def test_no_look_and_no_list_of_an_author_takes_much_memory(modelscope, archive, tmp_path):
    for number, (route, body) in enumerate(LARGE.values()):
        name = f"org/m{number}"
        modelscope.create(name, {"config.json": b"{}"})
        modelscope.faults.add(forged(route, body, repository=name))
        if route in {"refs", "commits"}:
            missing = {"route": "git", "status": 404, "times": None}
            modelscope.faults.add(Fault("status", repository=name, **missing))
    listed = (
        b'{"success":true,"data":{"total_count":3000,"models":[' + b"{}," * 5_000_000 + b"{}]}}"
    )
    modelscope.faults.add(forged("list", listed))
    plan = tmp_path / "plan.toml"
    plan.write_text('[plan]\nname = "p"\n[[repository]]\nauthor = "modelscope:org"\n')
    watch = ["watch", "-C", str(archive), *(f"modelscope:org/m{n}" for n in range(len(LARGE)))]
    commands = [watch, ["sync", "-C", str(archive), "--min-free", "0B", str(plan)]]
    child = [sys.executable, "-c", MEASURED, json.dumps(commands)]
    ended = subprocess.run(child, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "Traceback" not in ended.stderr
    codes = json.loads(ended.stdout.split("codes ")[1].splitlines()[0])
    assert codes[0] in {0, 3, 22, 30}
    assert codes[1] in {3, 22, 30}
    assert int(ended.stdout.split("peak ")[1]) < LARGEST_PEAK


WRONG = [None, 5, "x", [], [5], {}, {"Branches": 5}, True]


@pytest.mark.parametrize("route", ["info", "git", "refs", "commits", "tree", "list"])
def test_wrong_types_are_a_sentence_and_nothing_is_believed(
    served, archive, mirror, cli, waits, route
):
    assert mirror(REPO).code == 0
    assert cli("watch", "-C", archive, REPO).code == 0
    served.serves_git = route == "git"
    events = len(list(Archive.open(archive).events()))
    for data in WRONG:
        for body in (answer(data), json.dumps(data).encode(), answer({"RevisionMap": data})):
            served.faults.clear()
            fault = served.faults.add(forged(route, body))
            for words in (("watch", "-C", archive, REPO), ("mirror", "-C", archive, f"{REPO}@v1")):
                result = cli(*words)
                assert "Traceback" not in result.err
                assert result.code in {0, 3, 22, 23, 30}, (body, result)
            assert fault.hits or route in {"list", "tree", "git", "refs"}
    news = [
        change.what
        for _, event in list(Archive.open(archive).events())[events:]
        for change in getattr(event.detail, "changes", ())
    ]
    assert set(news) <= {"licence", "identity", "branch", "card"}, "what was left out is not there"
    assert "gone" not in news


@pytest.mark.parametrize("status", [301, 302, 307, 308])
@pytest.mark.parametrize("route", ["info", "git", "refs", "commits", "tree", "list", "resolve"])
def test_the_token_follows_no_redirect_to_another_host(
    served, archive, mirror, cli, waits, monkeypatch, route, status
):
    monkeypatch.setenv("MODELSCOPE_API_TOKEN", "ms-secret")
    served.tokens = {"ms-secret": {"Org/Model"}}
    served.serves_git = route == "git"
    with ModelScopeHub() as other:
        elsewhere = {"Location": f"{other.endpoint}/api/v1/models/Org/Model"}
        fault = served.faults.add(forged(route, b"", status=status, headers=elsewhere))
        if route == "list":
            served.delete("Org/Model")
        cli("watch", "-C", archive, REPO)
        mirror(REPO)
        if route in {"git", "list"}:
            assert fault.hits
        else:
            assert fault.hits or route == "refs"
        asked = list(other.requests)
        assert len(asked) >= fault.hits > 0
        assert {(record.token, record.cookie) for record in asked} == {("", "")}
    assert {record.token for record in served.requests if record.port == "hub"} == {"ms-secret"}


@pytest.mark.parametrize(
    ("claim", "code"),
    [({"Size": 102_399}, 22), ({"Size": 102_401}, 22), ({"Size": 1}, 22), ({"Size": 2**52}, 1)],
    ids=str,
)
def test_a_size_that_lies_seals_nothing(served, archive, mirror, waits, claim, code):
    served.claim("Org/Model", WEIGHTS, **claim)
    result = mirror(REPO)
    assert result.code == code, result
    assert_nothing_published(archive)


def test_a_dataset_whose_pages_never_end_is_refused(modelscope, archive, mirror):
    modelscope.create("datasets/Org/Rows", FILES)
    digest = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

    def page(number: int):
        files = [
            {"Path": f"{number}/{n}", "Type": "blob", "Size": 0, "Sha256": digest}
            for n in range(200)
        ]
        return answer({"Files": files}), {}

    fault = served_forever(modelscope, page)
    result = mirror("modelscope:datasets/Org/Rows")
    assert (result.code, "more than 100,000 files" in result.err) == (22, True)
    assert fault.hits == 501
    assert_nothing_published(archive)


def test_a_dataset_that_answers_each_page_alike_is_refused(modelscope, archive, mirror):
    modelscope.create("datasets/Org/Rows", {f"{n}": b"%d" % n for n in range(200)})
    files = [{"Path": f"{n}", "Type": "blob", "Size": 1, "Sha256": "a" * 64} for n in range(200)]
    fault = served_forever(modelscope, lambda _: (answer({"Files": files}), {}))
    result = mirror("modelscope:datasets/Org/Rows")
    assert (result.code, "is listed twice" in result.err) == (22, True)
    assert fault.hits == 2


def served_forever(modelscope, forge):
    return modelscope.faults.add(Fault("forge", route="tree", forge=forge, times=None))


def test_an_author_whose_list_never_ends_has_so_many_pages(modelscope, archive, cli, tmp_path):
    plan = tmp_path / "plan.toml"
    plan.write_text('[plan]\nname = "p"\n[[repository]]\nauthor = "modelscope:Org"\n')
    names = [{"id": "Org/Same"}, {"id": "Other/Theirs"}, {"id": "../x"}, {"id": None}]
    body = json.dumps({"success": True, "data": {"models": names, "total_count": 3000}}).encode()
    fault = modelscope.faults.add(forged("list", body))
    result = cli("sync", "-C", archive, "--min-free", "0B", plan)
    assert result.code == 23
    assert "Org/Same" in result.err
    assert "Theirs" not in result.err + result.out
    assert fault.hits == 120, "once for what it has, once for what was meant"


def test_names_of_branches_are_shown_without_what_they_do_to_a_terminal(
    served, archive, cli, mirror
):
    assert mirror(REPO).code == 0
    evil = "x\x1b[31m\u202e"
    refs = [
        {"Revision": evil, "CommitId": "1" * 40},
        {"Revision": "a\u202eb", "CommitId": "2" * 40},
    ]
    body = answer({"RevisionMap": {"Branches": refs, "Tags": refs}})
    served.serves_git = False
    served.faults.add(forged("refs", body))
    for words in (("watch",), ("log",), ("upstream",)):
        result = cli(words[0], "-C", archive, REPO)
        assert "\x1b" not in result.out + result.err
        assert "\u202e" not in result.out + result.err
