"""A catalogue as plain rows, for comparing: the same archive gives the same rows in one order."""

from __future__ import annotations

from sqlalchemy import select

from archiver.catalogue.database import Catalogue
from archiver.catalogue.schema import Base

NATURAL = {"repositories": "name"}
"""What names a row of a table that has a number; elsewhere it is the digest."""


def dump(path):
    """Every row as (table, values), ordered by natural keys; numbers are resolved to these keys."""

    def rows(connection):
        return [
            (name, tuple(row))
            for name, table in sorted(Base.metadata.tables.items())
            for row in connection.execute(natural(table))
        ]

    with Catalogue.open(path) as catalogue:
        return catalogue.read(rows)


def natural(table):
    """All of the table's columns but its own number, what it points to by name."""
    columns = []
    source = table
    for column in table.columns:
        if column.name == "id":
            continue
        target = next((key.column.table for key in column.foreign_keys), None)
        if target is None:
            columns.append(column)
            continue
        columns.append(target.c[NATURAL.get(target.name, "digest")])
        source = source.outerjoin(target, column == target.c.id)
    keys = [shown for shown in columns if shown.name not in {"parent", "selection"}]
    return select(*columns).select_from(source).order_by(*keys)
