"""`-v` and `-vv`: what is logged, where, and what never is."""

from __future__ import annotations

import errno
import json
import logging
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from kit.repository import noise, write_model

import archiver
from archiver.archive import place_look
from archiver.cli import output
from archiver.loopback.faults import Fault

LINE = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (INFO|DEBUG) (archiver(?:\.[a-z_0-9]+)+): (.+)"
)
TOKEN = "hf_" + "s3cret" * 5


def logged(err: str) -> list[tuple[str, str, str]]:
    """The lines of the log in what was printed: level, module, message."""
    return [match.groups() for line in err.splitlines() if (match := LINE.fullmatch(line))]


def messages(err: str, module: str) -> list[str]:
    return [message for _, name, message in logged(err) if name == f"archiver.{module}"]


@pytest.fixture
def archive(tmp_path, run):
    assert run("init", "-C", tmp_path / "weights").code == 0
    return tmp_path / "weights"


@pytest.fixture
def model(tmp_path):
    return write_model(tmp_path / "model", 1, 50)


@pytest.fixture
def repository(hub):
    hub.tokens = {TOKEN: ["Org/Closed"]}
    hub.create("Org/Closed", {"config.json": b"{}", "m.bin": noise(1, 9000)}, private=True)
    return "Org/Closed"


def test_nothing_is_logged_unless_asked_for(run, archive, model):
    result = run("import", "-C", archive, model, "--min-free", "0B")
    assert result.code == 0
    assert not logged(result.err)


def test_a_run_after_one_that_logged_logs_nothing(run, archive):
    assert logged(run("-v", "list", "-C", archive).err)
    assert not logged(run("list", "-C", archive).err)


@pytest.mark.parametrize(
    "words",
    [("-v", "list"), ("list", "-v"), ("list", "--verbose"), ("-v", "list", "-v"), ("policy", "-v")],
)
def test_the_option_may_stand_before_or_after_the_command(run, archive, words):
    levels = {level for level, _, _ in logged(run(*words, "-C", archive).err)}
    assert levels == {"INFO"}


def test_a_command_of_two_words_takes_it_before_and_after(run, archive):
    for words in (("-v", "parity", "status"), ("parity", "status", "-v")):
        assert logged(run(*words, "-C", archive).err)


def test_the_log_says_which_command_ran_and_how_it_ended(run, archive):
    (begun, ended) = (text for _, _, text in logged(run("list", "-v", "-C", archive).err))
    assert re.fullmatch(rf"archiver list of version \S+, archive {re.escape(str(archive))}", begun)
    assert re.fullmatch(r"exit code 0 after \d+\.\d s", ended)
    failed = run("-v", "list", "-C", archive / "none")
    assert "exit code 10" in messages(failed.err, "cli.main")[-1]


def test_results_stay_alone_on_stdout(run, archive):
    quiet, loud = run("list", "-C", archive), run("list", "-C", archive, "-vv")
    assert loud.out == quiet.out
    assert all(record["kind"] for record in run("list", "-C", archive, "-vv", "--json").records)


def test_quiet_silences_progress_and_not_the_log(run, archive, model):
    result = run("import", "-q", "-v", "-C", archive, model, "--min-free", "0B")
    assert len(logged(result.err)) == len(result.err.splitlines()) > 0


def test_what_is_published_and_sealed_is_logged(run, archive, model):
    err = run("import", "-v", "-C", archive, model, "--as", "org/m", "--min-free", "0B").err
    published = messages(err, "storage.staging")
    stored = [
        path.relative_to(archive).as_posix()
        for folder in ("packs", "manifests", "snapshots", "journal")
        for path in (archive / folder).rglob("*")
        if path.is_file()
    ]
    assert {f"published {name}" for name in stored} == set(published)
    (seal,) = (archive / "snapshots").rglob("*.json")
    assert [text for text in messages(err, "archive.seals") if seal.name.split(".")[1] in text]


def test_in_detail_each_file_that_is_begun_or_read_is_logged(run, archive, model):
    err = run("import", "-vv", "-C", archive, model, "--min-free", "0B").err
    assert any(text.startswith("staging pack-") for text in messages(err, "storage.staging"))
    (pack,) = (path.relative_to(archive).as_posix() for path in (archive / "packs").rglob("*.pack"))
    assert f"reading {pack}" in messages(run("audit", "-vv", "-C", archive).err, "storage.local")
    assert not messages(run("audit", "-v", "-C", archive).err, "storage.local")


def test_what_is_removed_is_logged(run, archive, model):
    assert run("import", "-C", archive, model, "--as", "org/m", "--min-free", "0B").code == 0
    (seal,) = (archive / "snapshots").rglob("*.json")
    name = seal.relative_to(archive).as_posix()
    lines = messages(run("forget", "-v", "-C", archive, "org/m").err, "storage.local")
    assert f"removed {name}" in lines
    assert any(text.startswith(f"linked {name} as trash/") for text in lines)


def test_a_request_is_logged_with_status_and_time(run, archive, hub, repository):
    words = ("mirror", "-v", "-C", archive, repository, "--token", TOKEN, "--min-free", "0B")
    requests = messages(run(*words).err, "upstream.http")
    assert requests
    for text in requests:
        assert re.fullmatch(r"GET http://\S+( bytes=\S+)?: HTTP \d{3} after \d+\.\d{3} s", text)
    assert any(text.startswith(f"GET {hub.endpoint}/api/models/{repository}") for text in requests)
    assert {text.split(": HTTP ")[1][:3] for text in requests} == {"200", "302"}


def test_neither_tokens_nor_the_queries_of_signed_links_are_logged(run, archive, repository):
    words = ("mirror", "-vv", "-C", archive, repository, "--token", TOKEN, "--min-free", "0B")
    result = run(*words)
    assert result.code == 0
    assert any(": HTTP 302 " in text for _, _, text in logged(result.err)), "no link was signed"
    assert TOKEN not in result.err
    assert "Signature" not in result.err
    assert "?" not in "".join(messages(result.err, "upstream.http"))


def test_a_password_in_the_hubs_address_is_not_logged(run, archive, hub, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", hub.endpoint.replace("://", "://someone:hush@"))
    assert "hush" not in run("mirror", "-vv", "-C", archive, "Org/None").err


def test_a_wait_for_the_hub_is_logged_with_its_reason(run, archive, hub, monkeypatch):
    from archiver.upstream.retry import RetryPolicy

    monkeypatch.setattr(RetryPolicy, "delay", lambda *_: 0.0)
    hub.create("Org/M", {"config.json": b"{}"})
    hub.faults.add(Fault("status", status=503, times=1))
    words = ("mirror", "-q", "-v", "-C", archive, "Org/M", "--min-free", "0B")
    (line,) = messages(run(*words).err, "upstream.retry")
    assert re.fullmatch(r"hub: HTTP 503; try 2 of \d+ in 0\.0 s", line)


def test_a_child_that_is_started_is_logged(run, tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(place_look, "_has_server", lambda _path: True)
        err = run("init", "-v", "-C", tmp_path / "new").err
    (line,) = messages(err, "archive.place_look")
    assert re.fullmatch(rf"process \d+ looks at {re.escape(str(tmp_path / 'new'))}", line)


def test_what_upstream_says_cannot_write_lines_of_its_own(capfd):
    output.configure(as_json=False, quiet=False, verbosity=1)
    try:
        logging.getLogger("archiver.upstream").info("read %s", "a\n\x1b[2Jb")
        logging.getLogger("archiver.upstream").info("read %s", "x" * 100_000)
    finally:
        output.configure(as_json=False, quiet=False)
    first, second = capfd.readouterr().err.splitlines()
    assert first.endswith(r"read a\n\x1b[2Jb")
    assert len(second) < 3000


def test_a_log_that_cannot_be_written_ends_no_run(monkeypatch, run, archive):
    def full(_text: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sys, "stderr", SimpleNamespace(write=full))
    assert run("list", "-v", "-C", archive).code == 0


def test_nothing_in_the_package_logs_above_info():
    """Else a line would come without -v, by logging's handler of last resort."""
    for path in Path(archiver.__file__).parent.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"_log\.(warning|error|exception|critical|log)\(", text), path


def test_the_log_as_json_has_time_repository_and_size(run, archive, model):
    words = ("import", "-q", "-v", "-C", archive, model, "--as", "org/one", "--min-free", "0B")
    result = run("--log-format", "json", *words)
    assert result.code == 0
    lines = [json.loads(line) for line in result.err.splitlines()]
    assert all(line.keys() >= {"time", "level", "module", "message"} for line in lines)
    (sealed,) = [line for line in lines if line["module"] == "archiver.archive.seals"]
    assert (sealed["repository"], sealed["size"] > 0) == ("org/one", True)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", sealed["time"])
    text = run("-v", "list", "-C", archive).err
    assert logged(text), "the next run logs as it did before"
