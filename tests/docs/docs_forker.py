"""Runs ``archiver`` for a shell, each time in a process of its own, without starting Python each time.

Run as a program in a folder with two fifos, ``ask`` and ``answer``: it imports what is heavy once and forks
for each call. `FUNCTION` is the shell's side: a function that stands in for the program.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

FUNCTION = r"""
archiver() {
    env -0 > "$SPOOL/environ"
    printf '%s\0' "$BASHPID" "$PWD" "$@" > "$SPOOL/call"
    echo > "$SPOOL/ask"
    local code
    read -r code < "$SPOOL/answer"
    return "$code"
}
"""


def serve(spool: Path) -> None:
    import archiver.catalogue.rebuild
    import archiver.cli.mirror
    import archiver.operations.mirror
    import archiver.operations.restore.run
    import archiver.upstream.huggingface  # noqa: F401

    while True:
        if not (spool / "ask").read_text():
            return
        pid = os.fork()
        if not pid:
            become(spool)
        _, status = os.waitpid(pid, 0)
        (spool / "answer").write_text(f"{os.waitstatus_to_exitcode(status)}\n")


def become(spool: Path) -> None:
    from archiver.cli.main import invoke

    shell, folder, *arguments = (spool / "call").read_text().split("\0")[:-1]
    entries = (spool / "environ").read_text().split("\0")[:-1]
    os.environ.clear()
    os.environ.update(dict(entry.split("=", 1) for entry in entries))
    code = 1
    try:
        # Where the shell points now, so that a redirection works.
        for number in (1, 2):
            os.dup2(os.open(f"/proc/{shell}/fd/{number}", os.O_WRONLY), number)
        os.chdir(folder)
        code = invoke(arguments)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
