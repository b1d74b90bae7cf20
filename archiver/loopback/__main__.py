"""``python -m archiver.loopback DIR``: every ``org/name`` folder below DIR as a repository.

Those below ``DIR/datasets`` are datasets.

Prints the endpoint as the first line of stdout, with --modelscope that of a ModelScope with the same
repositories as the second, and ends when stdin closes or the parent dies, so
that a killed test or bench leaves no hub behind.
"""

from __future__ import annotations

import argparse
import os
import select
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from archiver.loopback.hub import Hub
from archiver.loopback.modelscope import ModelScopeHub
from archiver.loopback.repository import DATASETS

if TYPE_CHECKING:
    from collections.abc import Sequence

_PARENT_CHECK_SECONDS = 0.3


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until nobody listens any more; return the exit code."""
    options = _parser().parse_args(arguments)
    parent = os.getppid()
    with ExitStack() as stack:
        hubs = [stack.enter_context(Hub(port=options.port))]
        if options.modelscope:
            hubs.append(stack.enter_context(ModelScopeHub()))
        for hub in hubs:
            hub.rate = options.rate
            hub.connection_rate = options.connection_rate
            hub.delay = options.delay
            publish(hub, options.directory)
        if options.port_file is not None:
            _write_whole(options.port_file, hubs[0].endpoint.rpartition(":")[2])
        sys.stdout.write("".join(f"{hub.endpoint}\n" for hub in hubs))
        sys.stdout.flush()
        _wait_until_alone(parent)
    return 0


def publish(hub: Hub, directory: Path) -> list[str]:
    """Create a model for each ``org/name`` folder of ``directory``, a dataset for those in ``datasets``.

    Return their names.

    All digests are computed now: a client would give up on a listing that takes minutes.
    """
    names = []
    folders = [*directory.glob("*/*"), *directory.glob(f"{DATASETS}*/*")]
    for folder in sorted(path for path in folders if path.is_dir()):
        if folder.parent == directory / DATASETS:
            continue
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        name = folder.relative_to(directory).as_posix()
        hub.create(name, {path.relative_to(folder).as_posix(): path for path in files})
        hub.prepare(name)
        names.append(name)
    return names


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m archiver.loopback", description=__doc__)
    parser.add_argument("directory", type=Path, help="holds a folder org/name per repository")
    parser.add_argument("--rate", type=float, help="bytes a second over all connections")
    parser.add_argument("--connection-rate", type=float, help="bytes a second of each connection")
    parser.add_argument("--delay", type=float, default=0.0, help="seconds before each answer")
    parser.add_argument("--modelscope", action="store_true", help="serve them as ModelScope too")
    parser.add_argument("--port", type=int, default=0, help="the hub's port; a free one by default")
    parser.add_argument("--port-file", type=Path, help="gets the hub's port when it listens")
    return parser


def _write_whole(path: Path, text: str) -> None:
    # By rename, so that who waits for the file never reads half a number.
    part = path.with_name(f"{path.name}.part")
    part.write_text(text)
    part.replace(path)


def _wait_until_alone(parent: int) -> None:
    while os.getppid() == parent:
        readable, _, _ = select.select([0], [], [], _PARENT_CHECK_SECONDS)
        if readable and not os.read(0, 4096):
            return


if __name__ == "__main__":
    sys.exit(main())
