"""``archiver stats``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import msgspec

from archiver.cli import output
from archiver.cli.options import common, exit_damaged, open_archive, unlisted
from archiver.cli.progress import IndexMeter
from archiver.cli.snapshots import facts
from archiver.errors import ExitCode
from archiver.text import human_bytes, plural

if TYPE_CHECKING:
    from archiver.catalogue.stats import Stats


@click.command(epilog="Example: archiver stats -C weights")
@common
def command() -> None:
    """Show what the archive holds and what it saves.

    Exits with 20 if packs or snapshots are missing or could not be read, with 4 if this user may not read
    some; the numbers then leave them out.
    """
    from archiver.operations.stats import stats

    archive = open_archive(reading=True)
    with IndexMeter() as meter:
        totals, packs, snapshots, missing, denied = stats(archive, meter)
    output.record(
        "stats",
        **_described(totals),
        unreadable_packs=packs,
        unreadable_snapshots=snapshots,
        missing_packs=missing,
    )
    facts(_totals(totals))
    _tables(totals)
    if missing:
        output.remark(f"{plural(missing, 'pack')} that seals name: missing.")
    if packs or snapshots:
        left_out = f"{plural(packs, 'pack')} and {plural(snapshots, 'snapshot')}"
        output.remark(f"{left_out} could not be read and are left out.")
    for sentence in unlisted(archive):
        output.remark(sentence)
    if denied and denied >= packs + snapshots and not missing:
        output.remark("What may not be read is not counted. Check the permissions.")
        output.exit_with(ExitCode.SKIPPED)
    if packs or snapshots or missing:
        exit_damaged()


def _described(stats: Stats) -> dict[str, object]:
    from archiver.codec.transforms import CODECS

    return msgspec.structs.asdict(stats) | {
        "dtypes": {name: row._asdict() for name, row in stats.dtypes.items()},
        "codecs": {CODECS[number].name: row._asdict() for number, row in stats.codecs.items()},
        "ratio": round(stats.ratio, 4),
        "compression": round(stats.compression, 4),
        "dedup_saving": stats.dedup_saving,
    }


def _totals(stats: Stats) -> list[tuple[str, str]]:
    saved = stats.dedup_saving
    return [
        ("repositories", f"{stats.repositories:,}"),
        ("snapshots", f"{stats.snapshots:,}"),
        ("files", f"{plural(stats.files, 'file')}, {human_bytes(stats.logical_bytes)}"),
        ("distinct files", human_bytes(stats.distinct_file_bytes)),
        ("objects", f"{plural(stats.objects, 'object')}, {human_bytes(stats.object_bytes)}"),
        (
            "stored",
            f"{human_bytes(stats.stored_bytes)}, {stats.compression:.3f} of their plain size",
        ),
        ("packs", f"{plural(stats.packs, 'pack')}, {human_bytes(stats.pack_bytes)}"),
        ("saved by dedup", human_bytes(saved)),
        ("ratio", f"{stats.ratio:.3f} (bytes of packs per byte of all snapshots)"),
    ]


def _tables(stats: Stats) -> None:
    from archiver.codec.transforms import CODECS

    dtypes = sorted(stats.dtypes.items(), key=lambda item: -item[1].size)
    rows = [(name, f"{row.tensors:,}", human_bytes(row.size)) for name, row in dtypes]
    output.line()
    output.table(("DTYPE", "TENSORS", "BYTES"), rows, right=(1, 2))
    output.line()
    codecs = []
    for number, row in sorted(stats.codecs.items()):
        sizes = (human_bytes(row.size), human_bytes(row.stored))
        ratio = f"{row.stored / max(row.size, 1):.3f}"
        codecs.append((CODECS[number].name, f"{row.objects:,}", *sizes, ratio))
    output.table(("CODEC", "OBJECTS", "PLAIN", "STORED", "RATIO"), codecs, right=(1, 2, 3, 4))
