"""Objects out of an archive at another place, read by a child process: no dead mount holds up anybody.

Whoever reads from a mount whose server went may wait for ever, and no signal ends that. So a child reads,
and is given up when it does not answer in time. It ends by itself when nobody asks it for a while: what
keeps files open on a disk keeps that disk from being unmounted.
"""

from __future__ import annotations

import json
import logging
import os
import re
import select
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from archiver.archive.archive import Archive
from archiver.archive.serving.recovery import SOURCES, Recovered, Recovery
from archiver.codec.segment import SEGMENT_MAX
from archiver.digest import blake3_hex
from archiver.errors import ArchiverError

if TYPE_CHECKING:
    from archiver.archive.serving.recovery import Source

_log = logging.getLogger(__name__)

ANSWER_SECONDS: Final = 30.0
"""A disk wakes up in ten, and then the indexes of a thousand packs are read."""
_IDLE_SECONDS: Final = 20.0
_GRACE: Final = 0.5
_LINE_MAX: Final = 200
_PIECE: Final = 1 << 20
_PROGRAM: Final = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from archiver.archive.serving.place_reader import main; main(sys.argv[2])"
)
"""With the parent's own path: ``-m`` would import from the current folder too."""
_REQUEST: Final = re.compile(rb"([0-9a-f]{64}) ([0-9]{1,9})\n\Z")
_ANSWER: Final = re.compile(rb"([0-9]{1,9}) ([a-z-]{1,20})\n\Z")
_SECRETS: Final = frozenset(
    {"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "ARCHIVER_KEY_PASSWORD", "ARCHIVER_SERVE_TOKEN"}
)
"""Variables that a child which reads another place's files has no use for."""
_abandoned: Final[list[subprocess.Popen[bytes]]] = []
"""Children that even SIGKILL did not end: they are held, so that nobody waits for them."""


class PlaceReader:
    """Reads objects at the path of another place; one thread at a time."""

    def __init__(self, path: str, place: str) -> None:
        self.place = place
        self._path = path
        self._child: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self.silent = False
        """Whether it gave no answer once: nothing is asked of it any more."""

    def fetch(self, digest: str, size: int) -> Recovered | None:
        """Return an object of ``size`` plain bytes, proven; None if the place has it not, or is silent."""
        with self._lock:
            for _ in range(2):  # a child that had ended by itself is started anew
                if self.silent:
                    return None
                try:
                    return self._ask(digest, size)
                except _EndedError:
                    self._end()
                except TimeoutError:
                    _log.info("%s gave no answer", self._path)
                    self.silent = True
                    self._end()
            return None

    def _ask(self, digest: str, size: int) -> Recovered | None:
        deadline = time.monotonic() + ANSWER_SECONDS
        child = self._child = self._child or _start(self._path)
        assert child.stdin is not None
        try:
            child.stdin.write(b"%s %d\n" % (digest.encode(), size))
        except OSError:
            raise _EndedError from None
        line = bytearray()
        while not line.endswith(b"\n"):
            if len(line) > _LINE_MAX:
                raise _EndedError
            line += _read(child, 1, deadline)
        answer = _ANSWER.match(line)
        source = next(
            (source for source in SOURCES if answer and source.encode() == answer[2]), None
        )
        if answer is None or int(answer[1]) != size or source is None:
            return None
        return self._plain(child, digest, size, source, deadline)

    def _plain(
        self,
        child: subprocess.Popen[bytes],
        digest: str,
        size: int,
        source: Source,
        deadline: float,
    ) -> Recovered | None:
        plain = bytearray()
        while len(plain) < size:
            plain += _read(child, min(_PIECE, size - len(plain)), deadline)
        if blake3_hex(plain) != digest:
            return None
        return Recovered(memoryview(plain), source, self.place)

    def close(self) -> None:
        """End the child."""
        with self._lock:
            self._end()

    def _end(self) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        if child.poll() is None:
            child.kill()
            try:
                child.wait(_GRACE)
            except subprocess.TimeoutExpired:
                _abandoned.append(child)
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()


class _EndedError(Exception):
    """The child is no more."""


def _start(path: str) -> subprocess.Popen[bytes]:
    child = subprocess.Popen(  # noqa: S603 - this interpreter, a module of ours, and no shell
        [sys.executable, "-I", "-c", _PROGRAM, json.dumps(sys.path), path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={name: value for name, value in os.environ.items() if name not in _SECRETS},
        start_new_session=True,  # Ctrl-C is for this process to hear, which then ends the child
        bufsize=0,
    )
    _log.info("process %d reads objects at %s", child.pid, path)
    return child


def _read(child: subprocess.Popen[bytes], size: int, deadline: float) -> bytes:
    """Return the next bytes; raise TimeoutError at the deadline, _EndedError if there are none."""
    assert child.stdout is not None
    if not _is_ready(child.stdout.fileno(), deadline - time.monotonic()):
        raise TimeoutError
    data = os.read(child.stdout.fileno(), size)
    if not data:
        raise _EndedError
    return data


def _is_ready(handle: int, seconds: float) -> bool:
    """Return whether there is something to read within so many seconds."""
    # Not select: a server has files open whose numbers are too high for it.
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    return seconds > 0 and bool(poll.poll(seconds * 1000))


# ---- the child


def main(path: str) -> None:
    """Answer requests for objects of the archive in ``path`` until nobody asks any more."""
    try:
        recovery = Recovery(Archive.open(Path(path)))
    except ArchiverError:
        recovery = None
    requests = os.fdopen(os.dup(0), "rb", buffering=0)
    while _is_ready(requests.fileno(), _IDLE_SECONDS):
        request = _REQUEST.match(requests.readline(_LINE_MAX))
        if request is None:
            return
        size = int(request[2])
        recovered = None
        if recovery is not None and 0 < size <= SEGMENT_MAX:
            recovered = recovery.recover(request[1].decode(), size).recovered
        if recovered is None:
            _write(b"0 none\n")
        else:
            _write(b"%d %s\n" % (size, recovered.source.encode()))
            _write(recovered.plain)


def _write(data: bytes | memoryview) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(sys.stdout.fileno(), view) :]
