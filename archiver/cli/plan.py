"""``archiver plan``."""

from __future__ import annotations

import click

from archiver.cli import output
from archiver.cli.options import common, open_archive
from archiver.text import printable


@click.group(epilog="Example: archiver plan retire -C weights nightly")
def command() -> None:
    """End a plan, or compare the archive with one, without a network.

    A plan begins with the first 'archiver sync' that runs it; 'archiver status' judges by it from
    then on.
    """


@command.command(epilog="Example: archiver plan retire -C weights nightly")
@click.argument("name", metavar="NAME")
@common
def retire(name: str) -> None:
    """Say that a plan feeds this archive no more, so that 'archiver status' asks for it no longer.

    NAME is what the plan calls itself. What it brought stays. A later 'archiver sync' of it begins
    it anew.
    """
    from archiver.operations.plans import retire as end  # noqa: PLC0415 - start-up stays light

    end(open_archive(), name)
    output.record("plan-retired", plan=name)
    output.line(f"The plan {printable(name)} is retired; what it brought stays.")
