"""Starts the command line in processes of its own, fast: one process imports, and forks for each.

Run as a program it is that process; `Zygote` is the side that a test holds.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Self

from kit import processes
from kit.cli import Result
from kit.users import limit_capabilities

_TESTS = Path(__file__).parents[1]


class Child:
    """A running command."""

    def __init__(self, zygote: Zygote, pid: int, output: Path) -> None:
        self.pid = pid
        self._zygote = zygote
        self._output = output
        self._ended = False
        processes.end_with_test(self._end)

    def kill(self) -> None:
        """SIGKILL; harmless when it has ended by itself."""
        os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> Result:
        """Wait for its end; the code is negative for a signal."""
        code = self._zygote.ask({"wait": self.pid})
        self._ended = True
        out, err = (self._output / name for name in ("out", "err"))
        return Result(code, out.read_text(), err.read_text())

    def _end(self) -> None:
        if not self._ended:
            self.kill()
            self.wait()


class Zygote:
    """The forking process; use as a context manager.

    With ``smoke`` it can run models at once. ``environ`` is for what libraries read when they are
    imported; a command has the environment of the test that starts it.
    """

    def __init__(self, *, smoke: bool = False, **environ: str) -> None:
        self._more = ["smoke"] if smoke else []
        self._environ = environ

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory()
        self._count = 0
        environ = os.environ | {"OPENBLAS_NUM_THREADS": "1", "HF_HUB_DISABLE_XET": "1"}
        # Threads that wait for each other at every small tensor take minutes on a busy machine.
        environ |= {"OMP_NUM_THREADS": "1"} if self._more else {}
        environ |= self._environ | {"PYTHONPATH": str(_TESTS)}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "kit.zygote", *self._more],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environ,
        )  # fmt: skip
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()
        self._folder.cleanup()

    def ask(self, request: dict) -> int:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def start(self, *arguments: object, **hooks: object) -> Child:
        """Start ``archiver ARGUMENTS`` with this process's environment; hooks: see `_prepare`."""
        self._count += 1
        output = Path(self._folder.name) / str(self._count)
        output.mkdir()
        for name in ("out", "err"):
            (output / name).touch()
        request = {
            "arguments": [str(one) for one in arguments],
            "environ": dict(os.environ),
            "output": str(output),
            **hooks,
        }
        return Child(self, self.ask(request), output)

    def run(self, *arguments: object, **hooks: object) -> Result:
        """Start a command and wait for its end."""
        return self.start(*arguments, **hooks).wait()


def _serve() -> None:
    import archiver.catalogue.rebuild
    import archiver.cli.mirror
    import archiver.operations.mirror
    import archiver.operations.restore.run
    import archiver.upstream.huggingface  # noqa: F401

    if "smoke" in sys.argv:
        import_libraries()
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            _, status = os.waitpid(request["wait"], 0)
            print(os.waitstatus_to_exitcode(status), flush=True)
            continue
        pid = os.fork()
        if not pid:
            _become(request)
        print(pid, flush=True)


def import_libraries() -> None:
    """What running a model imports. None of it computes, so no thread is lost by forking."""
    from archiver.smoke import libraries

    libraries.require("torch", "transformers", "accelerate")
    import transformers.models.auto
    import transformers.models.bert.modeling_bert
    import transformers.models.qwen3_5.modeling_qwen3_5
    import transformers.models.qwen3_5_moe.modeling_qwen3_5_moe  # noqa: F401

    import archiver.operations.smoke_test
    import archiver.smoke.worker  # noqa: F401


def _become(request: dict) -> None:
    from archiver.cli.main import run

    output = Path(request["output"])
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(output / name, os.O_CREAT | os.O_WRONLY, 0o666), number)
    os.environ.clear()
    os.environ.update(request["environ"])
    tempfile.tempdir = None  # that process may have found its own
    code = 1
    try:
        _prepare(request)
        if "smoke" in sys.argv:
            import archiver.smoke.run

            archiver.smoke.run.start_worker = forked_worker
        run(request["arguments"])
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


class _Forked:
    """A process that is a fork of this one, to whoever would hold a Popen."""

    def __init__(self, pid: int, stdin: int, stdout: int) -> None:
        self.pid = pid
        self.stdin, self.stdout = os.fdopen(stdin, "wb", 0), os.fdopen(stdout, "rb", 0)
        self._code: int | None = None

    def poll(self) -> int | None:
        if self._code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self._code = os.waitstatus_to_exitcode(status) if pid else None
        return self._code

    def wait(self, _seconds: float) -> int:
        if self._code is None:
            self._code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self._code

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)


def forked_worker() -> _Forked:
    """The child of a smoke test as a fork of this process: with all that was imported, or changed."""
    from archiver.smoke import worker

    theirs, requests = os.pipe()
    events, told = os.pipe()
    pid = os.fork()
    if pid:
        os.close(theirs)
        os.close(told)
        return _Forked(pid, requests, events)
    os.setsid()
    for number, handle in enumerate((theirs, told, os.open(os.devnull, os.O_WRONLY))):
        os.dup2(handle, number)
    os.closerange(3, 4096)
    try:
        worker.main()
    finally:
        os._exit(1)


def _prepare(request: dict) -> None:
    """The hooks: ``cores``, ``file_limit`` and ``part_bytes`` (bytes), ``powerless``, ``without``,
    ``die_at``, ``below``.
    """
    if "KIT_BY_CATALOGUE" in os.environ:
        import kit.by_catalogue  # noqa: F401
    for name in request.get("without", ()):
        sys.modules[name] = None
    if "cores" in request:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: request["cores"]])
    if "file_limit" in request:
        _limit_files(request["file_limit"])
    if "die_at" in request:
        _die_at(request["die_at"], request["below"])
    if "part_bytes" in request:
        import archiver.upstream.stream as hub_stream

        hub_stream.PART_BYTES = request["part_bytes"]
    if request.get("powerless"):
        limit_capabilities()


def _limit_files(size: int) -> None:
    import resource

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


_EVENTS = ("open", "os.rename", "os.mkdir", "os.remove", "os.link", "os.chmod")


def _die_at(step: int, below: str) -> None:
    """Die by SIGKILL just before the ``step``-th change of the folder ``below``."""
    left = step

    def count() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(60)

    def hook(event: str, arguments: tuple) -> None:
        if event not in _EVENTS or not str(arguments[0]).startswith(below):
            return
        if event == "open" and not (isinstance(arguments[2], int) and arguments[2] & os.O_CREAT):
            return
        count()

    real = os.fsync

    def fsync(handle: int) -> None:
        count()
        real(handle)

    os.fsync = fsync
    sys.addaudithook(hook)


if __name__ == "__main__":
    _serve()
