from __future__ import annotations

import os
import select
import subprocess
import sys
import time

import pytest
from hubkit import FILES, WEIGHTS, request
from huggingface_hub import HfApi
from kit import processes


@pytest.fixture
def folder(tmp_path):
    for path, data in FILES.items():
        file = tmp_path / "repos" / "org" / "tiny" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    return tmp_path / "repos"


def start(folder, *options):
    command = [sys.executable, "-W", "error", "-m", "archiver.loopback", str(folder), *options]
    pipe = subprocess.PIPE
    return processes.start(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def test_a_process_serves_folders_until_stdin_closes(folder, tmp_path):
    port_file = tmp_path / "port"
    process = start(folder, "--rate", "1e9", "--port-file", str(port_file))
    endpoint = process.stdout.readline().strip()
    assert endpoint == f"http://127.0.0.1:{port_file.read_text()}"
    listed = HfApi(endpoint=endpoint, token=False).list_repo_files("org/tiny")
    assert set(listed) == set(FILES)
    answer = request(f"{endpoint}/org/tiny/resolve/main/README.md")
    assert answer.body == FILES["README.md"]
    process.stdin.close()
    assert process.wait(timeout=600) == 0
    assert process.stderr.read() == ""


def test_a_process_serves_the_same_as_modelscope(folder):
    process = start(folder, "--modelscope")
    endpoint, other = (process.stdout.readline().strip() for _ in range(2))
    answer = request(f"{endpoint}/org/tiny/resolve/main/README.md")
    same = request(f"{other}/api/v1/models/org/tiny/repo?Revision=master&FilePath=README.md")
    assert answer.body == same.body == FILES["README.md"]


def test_the_rate_of_a_process(folder):
    process = start(folder, "--rate", "4e6")
    endpoint = process.stdout.readline().strip()
    link = request(f"{endpoint}/org/tiny/resolve/main/model.safetensors").headers["Location"]
    started = time.monotonic()
    assert request(link).body == WEIGHTS
    assert time.monotonic() - started > 0.9 * len(WEIGHTS) / 4e6


def test_the_connections_of_a_process(folder):
    process = start(folder, "--connection-rate", "4e6", "--delay", "0.1")
    endpoint = process.stdout.readline().strip()
    link = request(f"{endpoint}/org/tiny/resolve/main/model.safetensors").headers["Location"]
    started = time.monotonic()
    assert request(link).body == WEIGHTS
    assert time.monotonic() - started > 0.1 + 0.9 * len(WEIGHTS) / 4e6


def test_a_process_ends_when_its_parent_dies(folder, tmp_path):
    # The grandchild keeps a stdin that never closes, so only the parent's death can end it.
    reader, writer = os.pipe()
    script = (
        "import subprocess, sys\n"
        "child = subprocess.Popen(sys.argv[1:], stdin=0, stdout=-1, stderr=-3)\n"
        "child.stdout.readline()\n"
        "print(child.pid, flush=True)\n"
    )
    command = [sys.executable, "-m", "archiver.loopback", str(folder)]
    parent = subprocess.run(
        [sys.executable, "-c", script, *command], stdin=reader, stdout=subprocess.PIPE, check=True
    )
    try:
        assert _ends(int(parent.stdout), within=60)
    finally:
        os.close(reader)
        os.close(writer)


def _ends(pid: int, *, within: float) -> bool:
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([handle], [], [], within)[0])
    finally:
        os.close(handle)
