"""``archiver import``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from archiver.cli import output
from archiver.cli.mirroring import ingest_options, mirror_all
from archiver.cli.options import common
from archiver.errors import UsageError
from archiver.text import printable

if TYPE_CHECKING:
    from archiver.upstream.local import SkippedRepository


@click.command(
    epilog="Examples: archiver import ~/.cache/huggingface/hub; archiver import model --as folder:me/model"
)
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--as",
    "name",
    metavar="REPO",
    help="Which repository it is, such as modelscope:Org/Name. [default: folder:<folder>]",
)
@click.option("--revision", help="Which revision of a hub cache. [default: main]")
@ingest_options
@common
def command(folder: Path, name: str | None, revision: str | None, **rest: Any) -> None:
    """Bring a plain folder or a hub cache into the archive.

    A hub cache's layout names its repositories, revisions and digests; they are believed only after a
    check. A plain folder has no revision: it gets one from its files' digests.
    """
    from archiver.names import HUBS, TYPES, RepositoryName
    from archiver.upstream.local import LocalUpstream

    hub, kind, _ = RepositoryName.parse(name or "x")
    if hub not in HUBS or kind not in TYPES:
        raise UsageError(
            f"{printable(name or '')} is of a hub, or a type, that this version does not know.",
            hint="Hubs are huggingface, modelscope and folder; a dataset is written datasets/Org/Name.",
        )
    upstream = LocalUpstream(folder, name)
    for skipped in upstream.skipped:
        output.record("skipped", **msgspec.to_builtins(skipped))
        output.remark(f"note: {_skipped(skipped)}")
    requests = [(upstream, repository, revision) for repository in upstream.repositories()]
    if not requests:
        raise UsageError(
            f"{printable(str(folder))} holds neither a model nor a dataset: there is nothing to import.",
            hint="To keep other files, copy them into a folder of their own (cp -rL) and import that.",
        )
    mirror_all(requests, "Importing", **rest)


def _skipped(skipped: SkippedRepository) -> str:
    name = printable(skipped.repository)
    if skipped.type in {"model", "dataset"}:
        return f"The {skipped.type} {name} was skipped: the cache holds no revision of it."
    return f"The {skipped.type} {name} was skipped: archiver keeps models and datasets."
