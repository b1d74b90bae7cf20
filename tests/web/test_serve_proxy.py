"""The configuration of nginx on the page about serving, run as it stands but for ports and paths."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from kit import processes
from kit.repository import WEIGHTS, files_below
from kit.served import served
from servedkit import MODEL

ROOT = Path(__file__).parents[2]
NGINX = ROOT / ".venv/debian/usr/sbin/nginx"
ANNA, BEN = "token-of-anna-0123456789", "token-of-ben-0123456789"


def _nginx() -> Path:
    program = next((each for each in (NGINX, Path("/usr/sbin/nginx")) if each.exists()), None)
    assert program, "this test needs the program nginx: make test unpacks it"
    return program


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def _certificate(folder: Path) -> None:
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost", "-addext", "basicConstraints=CA:TRUE"]
    files = ["-keyout", str(folder / "archive.key"), "-out", str(folder / "archive.crt")]
    subprocess.run([*command, *files], check=True, capture_output=True)


def _configuration(folder: Path, backend: int, port: int) -> Path:
    page = (ROOT / "docs/serve.md").read_text(encoding="utf-8")
    (text,) = re.findall(r"^```nginx\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    for shown, here in (
        ("/run/nginx-archive.pid", f"{folder}/pid"),
        ("/var/log/nginx/archive.log", f"{folder}/access.log"),
        ("/etc/ssl/", f"{folder}/"),
        ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
        ("http://127.0.0.1:8080", f"http://127.0.0.1:{backend}"),
        ("/meta-llama/", "/org/part"),
    ):
        assert text.count(shown) >= 1, shown
        text = text.replace(shown, here)
    # Debian's own folders are root's, and it need not be installed.
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "".join(f"    {kind}_temp_path {folder}/{kind};\n" for kind in kinds)
    text = text.replace("http {\n", f"http {{\n{temporary}", 1)
    path = folder / "nginx.conf"
    path.write_text(f"daemon off;\nerror_log {folder}/error.log;\n{text}")
    return path


@pytest.fixture
def proxy(history, tmp_path):
    """The proxy's address, its certificate, and its log."""
    folder = tmp_path / "nginx"
    folder.mkdir()
    folder.chmod(0o777)  # its workers are nobody
    tmp_path.chmod(0o755)
    _certificate(folder)
    port = _free_port()
    with served(history.archive, "--allowed-host", "archive.example") as server:
        conf = _configuration(folder, server.port, port)
        words = [_nginx(), "-p", folder, "-c", conf, "-e", folder / "error.log"]
        checked = subprocess.run(
            [*map(str, words), "-t"], capture_output=True, text=True, check=False
        )
        assert checked.returncode == 0, checked.stderr
        process = processes.start(words)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if not probe.connect_ex(("127.0.0.1", port)):
                    break
            assert process.poll() is None, (folder / "error.log").read_text()
            time.sleep(0.05)
        yield f"https://localhost:{port}", folder / "archive.crt", folder / "access.log"
        process.terminate()  # its master ends the workers, which a kill would leave
        process.wait(60)


def _curl(proxy, path: str, *words: str) -> tuple[int, bytes]:
    address, certificate, _ = proxy
    command = ["curl", "-sS", "--cacert", str(certificate), "-w", "\n%{http_code}", *words]
    done = subprocess.run([*command, address + path], capture_output=True, check=True)
    body, _, status = done.stdout.rpartition(b"\n")
    return int(status), body


def _bearer(token: str) -> tuple[str, str]:
    return "-H", f"Authorization: Bearer {token}"


def test_the_proxy_has_tls_tokens_and_rights(proxy, history, tmp_path):
    address, certificate, log = proxy
    home = tmp_path / "home"
    environ = os.environ | {"HF_ENDPOINT": address, "HF_TOKEN": BEN, "HF_HOME": str(home)}
    environ["SSL_CERT_FILE"] = str(certificate)
    command = [str(Path(sys.executable).parent / "hf"), "download", MODEL]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    folder = home / "hub/models--org--model/snapshots" / history.commits[2]
    assert files_below(folder) == history.model[history.commits[2]]
    data = history.model[history.commits[2]][WEIGHTS]
    path = f"/{MODEL}/resolve/main/{WEIGHTS}"
    assert _curl(proxy, path, *_bearer(ANNA), "-r", "10-19") == (206, data[10:20])
    assert _curl(proxy, path)[0] == 401
    assert _curl(proxy, path, *_bearer("token-of-nobody"))[0] == 401
    for part in (
        *("/api/models/org/part", "/api/models/ORG/%70art", "/org/part/resolve/main/config.json"),
        "/Org/Part/resolve/main/config.json",
    ):
        assert _curl(proxy, part, *_bearer(ANNA))[0] == 200
        assert _curl(proxy, part, *_bearer(BEN))[0] == 403
    named = ("-H", "Host: archive.example")
    assert _curl(proxy, path, *_bearer(ANNA), *named)[0] == 200
    assert _curl(proxy, path, *_bearer(ANNA), "-H", "Host: evil.example")[0] == 421
    status, body = _curl(proxy, "/api/models?limit=1", *_bearer(ANNA), "-i")
    assert status == 200
    # The next page is asked for by the same way.
    assert f"<{address}/api/models?limit=1&cursor=1>" in body.decode()
    assert " anna " in log.read_text()
    assert BEN not in log.read_text()
