"""A headless Chromium, driven over a pipe by its own protocol, and pages on a port for it to look at."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import uvicorn

from archiver.archive.archive import Archive
from archiver.archive.serving.segment_cache import SegmentCache
from archiver.web.app import create_app
from archiver.web.serving import Options, Serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CHROMIUM = "/usr/bin/chromium"
ANSWER_SECONDS = 120
"""A browser on a machine that has other work to do may take long."""


class Browser:
    """One page of a browser: where it is sent, what it asked for, and what its console said."""

    def __init__(self, process: subprocess.Popen[bytes], write: int, read: int) -> None:
        self._process, self._into, self._out = process, write, read
        self._buffer = b""
        self._number = 0
        self._events: list[dict[str, Any]] = []
        target = self._call("Target.createTarget", url="about:blank", session="")["targetId"]
        attached = self._call("Target.attachToTarget", targetId=target, flatten=True, session="")
        self._session = attached["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime", "Audits"):
            self._call(f"{domain}.enable")

    def close(self) -> None:
        self._call("Browser.close", session="")
        self._process.wait(timeout=ANSWER_SECONDS)

    # ---- looking

    def window(
        self, width: int, height: int, *, scheme: str = "light", script: bool = True
    ) -> None:
        """Look through a window of this size; ``script``: whether the page may run any."""
        mobile = width < 600
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile}
        self._call("Emulation.setDeviceMetricsOverride", **size)
        features = [
            {"name": "prefers-color-scheme", "value": scheme},
            {"name": "prefers-reduced-motion", "value": "reduce"},
        ]
        self._call("Emulation.setEmulatedMedia", features=features)
        self._call("Emulation.setScriptExecutionDisabled", value=not script)

    def go(self, address: str) -> None:
        """Open a page, and wait until all that belongs to it is there."""
        self._events.clear()
        answer = self._call("Page.navigate", url=address)
        assert "errorText" not in answer, answer
        self._wait("Page.loadEventFired")

    def run(self, expression: str, *, world: bool = False) -> Any:
        """The value of an expression, or of its promise; in a ``world`` of its own or the page's."""
        context = {}
        if world:
            frame = self._call("Page.getFrameTree")["frameTree"]["frame"]["id"]
            made = self._call("Page.createIsolatedWorld", frameId=frame, worldName="check")
            context = {"contextId": made["executionContextId"]}
        answer = self._call(
            "Runtime.evaluate",
            expression=expression,
            awaitPromise=True,
            returnByValue=True,
            **context,
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def press(self, key: str) -> None:
        """Press a key and let it go."""
        code = {"Tab": 9, "Enter": 13}[key]
        for kind in ("rawKeyDown", "keyUp"):
            self._call("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code)

    def write(self, text: str) -> None:
        """Put text where the cursor is, as if it was typed."""
        self._call("Input.insertText", text=text)

    def until(self, condition: str) -> None:
        """Wait until an expression is true."""
        self.run(
            "new Promise(done => { const look = () => "
            f"({condition}) ? done(true) : setTimeout(look, 20); look(); }})"
        )

    def picture(self, *, whole: bool = False) -> bytes:
        """What the window shows, as a PNG; ``whole``: all of the page."""
        shot = self._call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        return base64.b64decode(shot["data"])

    def asked(self) -> list[str]:
        """The addresses that were asked for since the page was opened."""
        return [
            event["params"]["request"]["url"]
            for event in self._events
            if event["method"] == "Network.requestWillBeSent"
        ]

    def complaints(self) -> list[str]:
        """What the console said, what went wrong, and what the content security policy forbade."""
        told = []
        for event in self._events:
            params = event["params"]
            match event["method"]:
                case "Log.entryAdded":
                    told.append(f"{params['entry']['source']}: {params['entry']['text']}")
                case "Runtime.consoleAPICalled" | "Runtime.exceptionThrown":
                    told.append(json.dumps(params)[:500])
                case "Audits.issueAdded":
                    told.append(json.dumps(params["issue"])[:500])
                case "Network.loadingFailed":
                    told.append(f"failed: {params.get('errorText')} {params.get('blockedReason')}")
        return told

    # ---- the pipe

    def _call(self, method: str, *, session: str | None = None, **params: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        session = self._session if session is None else session
        if session:
            message["sessionId"] = session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._into, data) :]
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]
            self._events.append(answer)

    def _wait(self, method: str) -> None:
        while not any(event.get("method") == method for event in self._events):
            self._events.append(self._next())

    def _next(self) -> dict[str, Any]:
        deadline = time.monotonic() + ANSWER_SECONDS
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._out], [], [], deadline - time.monotonic())
            assert ready, "the browser gives no answer"
            piece = os.read(self._out, 1 << 20)
            assert piece, "the browser ended"
            self._buffer += piece
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)


@contextmanager
def browser(profile: Path, hosts: str = "") -> Iterator[Browser]:
    """Start a browser with an empty profile; it is ended in any case. ``hosts`` says where names lead."""
    assert shutil.which(CHROMIUM), "this needs the package chromium"
    into, write = os.pipe()
    read, out = os.pipe()

    words = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    words += ["--disable-background-networking", "--no-first-run", "--hide-scrollbars"]
    words += ["--remote-debugging-pipe", "--force-color-profile=srgb", "--font-render-hinting=none"]
    words += [f"--host-resolver-rules={hosts}"] if hosts else []
    # The browser reads from 3 and writes to 4.
    shell = f'exec "$@" 3<&{into} 4>&{out}'
    process = subprocess.Popen(
        ["/bin/bash", "-c", shell, "chromium", *words, f"--user-data-dir={profile}"],
        pass_fds=(into, out),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(into)
    os.close(out)
    try:
        driven = Browser(process, write, read)
        yield driven
        driven.close()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        os.close(write)
        os.close(read)


@contextmanager
def port_of_pages(root: Path, host: str = "localhost") -> Iterator[str]:
    """Serve an archive's pages; the address. ``host`` is what the server may be called besides."""
    options = Options(hosts=frozenset({host}))
    serving = Serving(Archive.open(root), SegmentCache(64 << 20), options)
    app = create_app(serving)
    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error", lifespan="off")
    server = uvicorn.Server(config)
    server.install_signal_handlers = lambda: None  # type: ignore[method-assign]
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()
        serving.threads.close()
        serving.cache.close()
