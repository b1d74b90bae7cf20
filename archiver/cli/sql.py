"""``archiver sql``."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

import click

from archiver.cli import output
from archiver.cli.options import Duration, common, open_archive
from archiver.cli.progress import IndexMeter
from archiver.errors import ExitCode
from archiver.text import plural

if TYPE_CHECKING:
    from archiver.catalogue.sql import Answer, Value


@click.command(epilog="Example: archiver sql -C weights 'SELECT name FROM repositories'")
@click.argument("query", metavar="SELECT")
@click.option("--csv", "as_csv", is_flag=True, help="Print comma-separated values.")
@click.option(
    "--limit",
    type=click.IntRange(1, 10_000_000),
    default=10_000,
    show_default=True,
    help="So many rows at most.",
)
@click.option("--max-duration", type=Duration(1), default="30s", show_default=True)
@common
def command(query: str, as_csv: bool, limit: int, max_duration: int) -> None:
    """Ask the catalogue in SQL, read-only.

    One SELECT of SQLite's over the tables that docs/catalogue.md describes. What has digests prints them
    as hexadecimal digits. Exits with 3 if there are more rows than --limit allows.
    """
    from archiver.operations.search import SqlRequest, query_catalogue

    archive = open_archive(reading=True)
    with IndexMeter() as meter:
        answer = query_catalogue(archive, SqlRequest(query, limit, max_duration), meter)
    columns = _distinct(answer.columns)
    for row in answer.rows:
        output.record("row", row=dict(zip(columns, map(_plain, row), strict=True)))
    output.record("sql", columns=columns, rows=len(answer.rows), cut=answer.cut)
    if as_csv:
        _csv(answer)
    elif answer.columns:
        right = [
            at
            for at in range(len(columns))
            if all(isinstance(row[at], int | float | None) for row in answer.rows)
        ]
        output.table(columns, [tuple(map(_cell, row)) for row in answer.rows], right=right)
    if answer.cut:
        output.remark(f"Cut after {plural(limit, 'row')}: --limit allows more.")
        output.exit_with(ExitCode.PARTIAL)


def _csv(answer: Answer) -> None:
    for row in (answer.columns, *(tuple(map(_plain, row)) for row in answer.rows)):
        line = io.StringIO()
        csv.writer(line, lineterminator="").writerow(row)
        output.line(line.getvalue())


def _plain(value: Value) -> str | int | float | None:
    return value.hex() if isinstance(value, bytes) else value


def _cell(value: Value) -> str:
    return "" if value is None else str(_plain(value))


def _distinct(columns: tuple[str, ...]) -> list[str]:
    """Return the names of columns, those that were there before with a number."""
    names: list[str] = []
    for column in columns:
        number, name = 1, column
        while name in names:
            number += 1
            name = f"{column}_{number}"
        names.append(name)
    return names
