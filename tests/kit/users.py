"""Python as another user, or bound by modes although it is root's.

Run as a program it becomes that user and then runs what its other words say: ``-m`` and a module, or
``-c`` and code.
"""

from __future__ import annotations

import ctypes
import json
import os
import runpy
import sys
from typing import NamedTuple

CAP_DAC_READ_SEARCH = 1 << 2
PR_SET_KEEPCAPS = 8


class User(NamedTuple):
    uid: int
    gid: int
    groups: tuple[int, ...] = ()
    umask: int = 0o022
    powerless: bool = False
    """Whether modes bind it also where it reads."""


POWERLESS = User(0, 0, powerless=True)
"""Root, whom modes bind as they bind anybody."""
NOBODY = User(65534, 65534)


def python_as(user: User, *arguments: object) -> list[str]:
    """Return the command of a Python that runs as the user; only root can become somebody else."""
    return [sys.executable, __file__, json.dumps(user._asdict()), *map(str, arguments)]


def limit_capabilities(rights: int = 0) -> None:
    """Be bound by modes, also as root: Linux's capset, version 3, with only these rights."""
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    data = (ctypes.c_uint32 * 6)(rights, rights, 0, 0, 0, 0)
    if ctypes.CDLL(None, use_errno=True).capset(header, data):
        raise OSError(ctypes.get_errno(), "capset")


def become(user: User) -> None:
    os.umask(user.umask)
    os.setgroups(user.groups)
    os.setgid(user.gid)
    ctypes.CDLL(None).prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0)
    os.setuid(user.uid)
    if user.uid or user.powerless:
        # Python itself may lie in root's home: to read is allowed, to write is not.
        limit_capabilities(0 if user.powerless else CAP_DAC_READ_SEARCH)


def _main() -> None:
    _, user, kind, program, *words = sys.argv
    # Not this folder: its modules are imported as `kit.NAME`.
    sys.path.pop(0)
    become(User(**json.loads(user)))
    sys.argv = ["", *words]
    if kind == "-m":
        runpy.run_module(program, run_name="__main__", alter_sys=True)
    else:
        exec(program, {"__name__": "__main__"})


if __name__ == "__main__":
    _main()
