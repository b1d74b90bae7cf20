"""Mirroring from ModelScope: what it lists, what it sends, and what is kept of that."""

from __future__ import annotations

import subprocess
import sys

import pytest

from archiver.loopback.faults import Fault
from archiver.loopback.modelscope import commit_id

REPO = "modelscope:Org/Model"
WEIGHTS = "model.safetensors-00001-of-00001.safetensors"


def bytes_of(count):
    return bytes(n * 37 % 251 for n in range(count))


FILES = {
    WEIGHTS: bytes_of(300_000),
    "config.json": b"{}",
    "empty": b"",
    "below/er/merges.txt": b"a b\n" * 1000,
}


def create(modelscope, name="Org/Model", files=FILES, **more):
    modelscope.create(name, files, **more)
    return commit_id(modelscope.repositories[name].head())


def test_a_model_comes_with_its_own_identity_and_every_byte_checked(
    modelscope, archive, mirror, cli, restores
):
    commit = create(modelscope, card={"license": "apache-2.0"})
    result = mirror("--json", REPO)
    assert result.code == 0, result
    report = result.only("mirror")
    assert (report["repository"], report["revision"]) == (REPO, commit)
    assert (report["origin"], report["vouched"]["upstream"]) == ("hub", len(FILES))
    assert report["vouched"]["git_sha1"] == 0
    restores(archive, FILES, REPO)
    shown = cli("show", "--json", "-C", archive, REPO).only("snapshot")
    assert shown["source"]["endpoint"] == modelscope.endpoint
    assert shown["source"]["licence"] == "apache-2.0"
    assert cli("audit", "-C", archive).code == 0
    again = mirror("--json", REPO)
    assert again.only("mirror")["outcome"] == "held"


def test_what_the_other_hub_gave_is_not_fetched_again(hub, modelscope, archive, mirror, restores):
    hub.create("Org/Model", FILES)
    create(modelscope)
    assert mirror("Org/Model").code == 0
    assert mirror(REPO).code == 0
    fetched = {record.file for record in modelscope.requests.bodies()}
    assert fetched == set()
    restores(archive, FILES, REPO)


@pytest.mark.parametrize("revision", ["v1", "master", None])
def test_a_name_is_pinned_to_a_commit_of_modelscope(modelscope, mirror, revision, cli, archive):
    commit = create(modelscope)
    modelscope.tag("Org/Model", "v1")
    named = f"{REPO}@{revision}" if revision else REPO
    assert mirror("--json", named).only("mirror")["revision"] == commit
    moved = modelscope.commit("Org/Model", {"config.json": b"{ }"})
    assert moved != commit
    assert mirror("--json", f"{REPO}@{commit}").only("mirror")["outcome"] == "held"
    sighted = cli("log", "--json", "-C", archive)
    assert (revision or "master") in sighted.out


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (Fault("flip", offset=1234, path="*.safetensors", times=None), 22),
        (Fault("etag", route="resolve", path="*.safetensors", times=None), 22),
        (Fault("pad", path="config.json", times=None), 22),
        (Fault("drop", after=100_000, route="cdn"), 0),
        (Fault("reset", after=100_000, route="cdn"), 0),
        (Fault("short", route="cdn", count=500), 0),
        (Fault("drop", after=1000, path="*/merges.txt"), 0),
        (Fault("rate_limit", seconds=3), 0),
        (Fault("rate_limit", route="cdn", seconds=3), 0),
        (Fault("status", route="tree", status=502, times=3), 0),
        (Fault("status", route="resolve", status=503, times=3), 0),
        (Fault("status", route="tree", status=503, times=None), 30),
        (Fault("status", route="cdn", status=404, times=None), 23),
        (Fault("status", route="info", status=403, times=None), 23),
    ],
    ids=lambda value: value.kind if isinstance(value, Fault) else str(value),
)
def test_faults(modelscope, archive, mirror, restores, fault, code):
    create(modelscope)
    modelscope.faults.add(fault)
    result = mirror(REPO)
    assert fault.hits
    assert result.code == code, result
    if code == 0:
        restores(archive, FILES, REPO)


def test_a_wrong_digest_is_told_and_nothing_is_sealed(modelscope, mirror, cli, archive):
    create(modelscope)
    modelscope.claim("Org/Model", "config.json", Sha256="1" * 64)
    result = mirror(REPO)
    assert result.code == 22
    assert "config.json" in result.err
    assert REPO not in cli("list", "-C", archive).out


@pytest.mark.parametrize(
    "claim",
    [
        {"Sha256": ""},
        {"Sha256": None},
        {"Size": -1},
        {"Size": 0},
        {"Size": 2**60},
        {"Path": "../x"},
        {"Path": "/etc/x"},
        {"Path": "empty"},
        {"Path": 5},
        {"Size": "7"},
    ],
    ids=str,
)
def test_an_entry_that_says_nothing_that_can_be_checked(modelscope, mirror, claim):
    create(modelscope)
    modelscope.claim("Org/Model", "config.json", **claim)
    assert mirror(REPO).code == 22
    assert modelscope.requests.bodies() == []


def test_a_repair_asks_modelscope_for_what_is_lost(modelscope, archive, mirror, cli, restores):
    create(modelscope)
    assert mirror(REPO).code == 0
    for pack in (archive / "packs").rglob("*.pack"):
        pack.unlink()
    modelscope.requests.clear()
    assert cli("repair", "-C", archive).code == 0
    assert WEIGHTS in {record.file for record in modelscope.requests.bodies()}
    restores(archive, FILES, REPO)


def test_a_listing_that_is_cut_off_is_walked_folder_by_folder(modelscope, mirror, monkeypatch):
    from archiver.upstream.modelscope import client

    files = {f"a/{n}": b"%d" % n for n in range(8)} | {f"b/c/{n}": b"x%d" % n for n in range(8)}
    create(modelscope, files=files | {"top": b"t"})
    modelscope.page_size = 10
    monkeypatch.setattr(client, "TRUNCATED_AT", 10)
    assert mirror("--json", REPO).only("mirror")["files"] == 17
    create(modelscope, "Org/Wide", {f"a/{n}": b"%d" % n for n in range(12)})
    result = mirror("modelscope:Org/Wide")
    assert result.code == 22
    assert "lists no more than 10 entries of a folder" in result.err


def test_a_dataset_comes_in_pages(modelscope, archive, mirror, restores, monkeypatch):
    from archiver.upstream.modelscope import client

    files = {f"part/{n}.txt": b"%d" % n for n in range(11)}
    create(modelscope, "datasets/Org/Rows", files)
    monkeypatch.setattr(client, "PAGE_SIZE", 5)
    assert mirror("modelscope:datasets/Org/Rows").code == 0
    assert len(modelscope.requests.of(route="tree")) == 3
    restores(archive, files, "modelscope:datasets/Org/Rows")


def test_a_private_repository_and_the_token(modelscope, mirror, monkeypatch):
    create(modelscope, private=True)
    modelscope.tokens = {"ms-secret": {"Org/Model"}}
    monkeypatch.setenv("HF_TOKEN", "hf_never_here")
    assert mirror(REPO).code == 23
    monkeypatch.setenv("MODELSCOPE_API_TOKEN", "ms-wrong")
    assert "invalid or expired" in mirror(REPO).err
    monkeypatch.setenv("MODELSCOPE_API_TOKEN", "ms-secret")
    assert mirror(REPO).code == 0
    assert mirror(REPO, "--token", "ms-secret").code == 0
    assert "hf_never_here" not in {record.token for record in modelscope.requests}
    at_the_cdn = [record for record in modelscope.requests if record.port == "cdn"]
    assert at_the_cdn
    assert {(record.token, record.cookie) for record in at_the_cdn} == {("", "")}


def test_a_token_that_was_typed_is_for_one_hub(modelscope, hub, mirror):
    result = mirror(REPO, "Org/Model", "--token", "x")
    assert result.code == 2
    assert len(hub.requests) == len(modelscope.requests) == 0


def test_a_listing_that_is_refused_now_and_then_is_asked_for_again(modelscope, mirror, monkeypatch):
    from archiver.upstream.modelscope import client

    create(modelscope, "datasets/Org/Rows", {f"{n}.txt": b"%d" % n for n in range(11)})
    monkeypatch.setattr(client, "PAGE_SIZE", 5)
    modelscope.faults.add(Fault("status", route="tree", status=403, skip=1, times=2))
    assert mirror("modelscope:datasets/Org/Rows").code == 0
    modelscope.faults.add(Fault("status", route="tree", status=403))
    assert mirror("modelscope:datasets/Org/Rows").code == 23


def test_a_failure_that_comes_with_200(modelscope, mirror):
    create(modelscope)
    body = b'{"Code": 404, "Success": false, "Message": "no", "Data": null}'
    modelscope.faults.add(Fault("forge", route="info", forge=lambda _: (body, {})))
    assert mirror(REPO).code == 23
    body = b'{"Code": 200, "Success": true, "Data": {"Files": 3}}'
    modelscope.faults.add(Fault("forge", route="tree", forge=lambda _: (body, {})))
    assert mirror(REPO).code == 22
    modelscope.faults.add(Fault("forge", route="tree", forge=lambda _: (b"<html>", {})))
    result = mirror(REPO)
    assert result.code == 30
    assert "MODELSCOPE_ENDPOINT" in result.err
    assert mirror("modelscope:Org/None").code == 23
    gone = mirror(f"{REPO}@v9")
    assert (gone.code, "has no revision v9" in gone.err) == (23, True)


def test_where_commits_are_listed_nothing_else_is_asked_for_one_that_is_not_there(
    modelscope, mirror
):
    create(modelscope)
    assert mirror(f"{REPO}@v9").code == 23
    asked = [record.route for record in modelscope.requests]
    assert asked == ["info", "commits", "commits"], "of v9, and of master whether any is listed"


def test_a_repository_that_was_renamed_is_named(modelscope, mirror, cli, archive):
    create(modelscope)
    modelscope.rename("Org/Model", "Org/Renamed")
    result = mirror(REPO)
    assert result.code == 23
    assert "is called modelscope:Org/Renamed now" in result.err
    assert mirror("modelscope:Org/Renamed").code == 0


WAYS = {
    "git": {"serves_git": True},
    "the API": {"serves_git": False, "lists_commits": True},
    "the listing": {"serves_git": False},
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ["", "datasets/"])
def test_a_hub_that_lists_no_commits_of_a_branch_is_asked_otherwise(
    modelscope, archive, mirror, restores, way, kind
):
    first = create(modelscope, f"{kind}Org/Model")
    modelscope.tag(f"{kind}Org/Model", "v1")
    modelscope.commit(f"{kind}Org/Model", {"config.json": b"{ }"})
    newest = commit_id(modelscope.repository(f"{kind}Org/Model").head())
    modelscope.serves_history = False
    for name, value in WAYS[way].items():
        setattr(modelscope, name, value)
    repository = f"modelscope:{kind}Org/Model"
    for revision, commit in (("v1", first), ("master", newest), (first, first)):
        result = mirror("--json", f"{repository}@{revision}")
        assert result.code == 0, result
        assert result.only("mirror")["revision"] == commit
    restores(archive, FILES, f"{repository}@{first[:12]}")
    gone = mirror(f"{repository}@v9")
    assert (gone.code, "has no revision v9" in gone.err) == (23, True)
    never = mirror(f"{repository}@{'9' * 40}")
    assert (never.code, "has no revision 9999" in never.err) == (23, True)


def test_a_listing_that_does_not_name_its_commit_is_not_pinned(modelscope, mirror):
    create(modelscope)
    modelscope.serves_history = modelscope.serves_git = False
    body = b'{"Code": 200, "Data": {"Files": [{"Path": "a", "Size": 0}], "LatestCommitter": null}}'
    modelscope.faults.add(Fault("forge", route="tree", forge=lambda _: (body, {}), times=None))
    result = mirror(REPO)
    assert (result.code, "does not say which commit that is" in result.err) == (22, True)


def test_a_repository_that_is_closed_is_not_said_to_lack_the_revision(modelscope, mirror):
    create(modelscope)
    modelscope.faults.add(Fault("status", route="commits", status=403, times=None))
    result = mirror(REPO)
    assert result.code == 23
    assert "refuses" in result.err
    assert "no revision" not in result.err


def test_every_connection_is_closed_when_a_process_that_ran_commands_ends(archive, modelscope):
    modelscope.create("org/model", {"config.json": b"{}", "weights.bin": b"x" * 200})
    words = ["mirror", "-q", "-C", str(archive), "modelscope:org/model", "--min-free", "0B"]
    code = "import sys; from archiver.cli.main import invoke; sys.exit(invoke(sys.argv[1:]))"
    command = [sys.executable, "-W", "default::ResourceWarning", "-c", code, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "unclosed" not in done.stderr
