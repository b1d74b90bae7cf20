"""``archiver import``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from archiver.cli.mirroring import intake_options, mirror_all
from archiver.cli.options import common


@click.command(
    epilog="Examples: archiver import ~/.cache/huggingface/hub; archiver import my-model --as me/my-model"
)
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--as", "name", metavar="REPO", help="The repository's name. [default: local/<folder>]"
)
@click.option("--revision", help="Which revision of a hub cache. [default: main]")
@intake_options
@common
def command(folder: Path, name: str | None, revision: str | None, **rest: Any) -> None:
    """Bring a plain folder or a hub cache into the archive.

    A hub cache's layout names its repositories, revisions and digests; they are believed only after a
    check. A plain folder has no revision: it gets one from its files' digests.
    """
    from archiver.upstream.directory import Directory  # noqa: PLC0415 - start-up stays light

    upstream = Directory(folder, name)
    wanted = [(upstream, repository, revision) for repository in upstream.repositories()]
    mirror_all(wanted, "Importing", **rest)
