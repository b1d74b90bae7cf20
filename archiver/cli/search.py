"""``archiver search``."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

import click
import msgspec

from archiver.cli import output
from archiver.cli.options import Size, common, open_archive
from archiver.cli.progress import IndexMeter
from archiver.errors import UsageError
from archiver.text import human_bytes, plural, printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from archiver.catalogue.search import FileHit, Hit, Hits, RepositoryHit, TensorHit

_KINDS = ("repository", "file", "tensor")
_REVISION = 12
_SHAPE = 40


@click.command(epilog="Example: archiver search -C weights q_proj --dtype BF16")
@click.argument("words", nargs=-1)
@click.option(
    "--kind", "kinds", type=click.Choice(_KINDS), multiple=True, help="Only such; repeatable."
)
@click.option("--dtype", help="Only tensors of this type, such as BF16.")
@click.option("--licence", help="Only repositories whose licence has this in it.")
@click.option("--larger", type=Size(1), help="Only what has so many bytes or more.")
@click.option("--smaller", type=Size(1), help="Only what has so many bytes or less.")
@click.option(
    "--limit",
    type=click.IntRange(1, 10_000),
    default=20,
    show_default=True,
    help="So many of each kind.",
)
@common
def command(
    words: tuple[str, ...],
    kinds: tuple[str, ...],
    dtype: str | None,
    licence: str | None,
    larger: int | None,
    smaller: int | None,
    limit: int,
) -> None:
    """Search repositories with their cards, files and tensors.

    All WORDS must be in one place, each as the beginning of a word there. Signs part words: q_proj is
    found in model.layers.0.self_attn.q_proj.weight. Numbers in the names of tensors are not told apart.
    """
    from archiver.catalogue.search import Kind, Query, usable
    from archiver.operations.search import search_archive

    if words and not usable(words):
        raise UsageError("None of the words has a letter or a digit.")
    if not (words or dtype or licence or larger or smaller):
        raise UsageError("Nothing is asked for.", hint="Give some words, or an option.")
    chosen = tuple(kind for kind in get_args(Kind) if not kinds or kind in kinds)
    query = Query(
        words=usable(words),
        kinds=("tensor",) if dtype and not kinds else chosen,
        dtype=(dtype or "").upper(),
        licence=licence or "",
        larger=larger or 0,
        smaller=smaller or 0,
        limit=limit,
    )
    archive = open_archive(reading=True)
    with IndexMeter() as meter:
        hits = search_archive(archive, query, meter)
    for hit in hits.hits:
        fields = msgspec.to_builtins(hit)
        output.record("hit", **fields)
    output.record("search", total=hits.total)
    _show(hits)


def _show(hits: Hits) -> None:
    from archiver.catalogue.search import FileHit, RepositoryHit, TensorHit

    repositories = [hit for hit in hits.hits if isinstance(hit, RepositoryHit)]
    files = [hit for hit in hits.hits if isinstance(hit, FileHit)]
    tensors = [hit for hit in hits.hits if isinstance(hit, TensorHit)]
    head = ("REPOSITORY", "REVISION", "SIZE")
    shown = False
    for table, rows, right in (
        ((*head, "LICENCE", "TITLE"), list(map(_repository, repositories)), (2,)),
        ((*head, "FILE"), list(map(_file, files)), (2,)),
        ((*head, "TENSORS", "DTYPE", "SHAPE", "NAME"), list(map(_tensor, tensors)), (2, 3)),
    ):
        if rows:
            if shown:
                output.line()
            output.table(table, rows, right=right)
            shown = True
    counts = [(kind, hits.total.get(kind, 0)) for kind in _KINDS if kind in hits.total]
    nouns = {
        "repository": ("repository", "repositories"),
        "file": ("file", "files"),
        "tensor": ("group of tensors", "groups of tensors"),
    }
    output.line(f"Found: {', '.join(plural(count, *nouns[kind]) for kind, count in counts)}.")
    if sum(hits.total.values()) > len(hits.hits):
        output.remark("Not all are shown: --limit shows more.")


def _start(hit: Hit) -> tuple[str, str, str]:
    return printable(hit.repository), hit.revision[:_REVISION], human_bytes(hit.bytes)


def _repository(hit: RepositoryHit) -> Sequence[str]:
    return *_start(hit), hit.licence or "-", hit.title[:60]


def _file(hit: FileHit) -> Sequence[str]:
    return *_start(hit), hit.path


def _tensor(hit: TensorHit) -> Sequence[str]:
    shape = "x".join(map(str, hit.shape))[:_SHAPE] or "-"
    return *_start(hit), f"{hit.tensors:,}", hit.dtype, shape, hit.pattern or "(others)"
