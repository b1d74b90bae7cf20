"""``archiver acknowledge``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import msgspec

from archiver.cli import output
from archiver.cli.options import Moment, common, open_archive, split_reference
from archiver.text import printable

if TYPE_CHECKING:
    from archiver.operations.acknowledge import KnownFact


@click.command(epilog="Example: archiver acknowledge -C weights gone Org/Name --until 90d")
@click.argument("fact", metavar="[FACT", required=False)
@click.argument("reference", metavar="REPO[@REVISION]]", required=False)
@click.option(
    "--until",
    type=Moment(ahead=True),
    help="Only until this day, or for so long: 2027-01-31, or 90d.",
)
@click.option("--note", default="", help="The reason, for whoever reads the journal.")
@click.option("--undo", is_flag=True, help="Take it back: the fact is a failure again.")
@common
def command(
    fact: str | None, reference: str | None, until: str | None, note: str, *, undo: bool
) -> None:
    """Say that a loss upstream is known, so that it fails no run.

    FACT is 'gone' (upstream no longer has REPO) or 'refused' (upstream refuses access to it), of what
    the archive holds. Runs go on reporting it. Once upstream gives it again, the next loss is a failure
    again. Damage and missing copies cannot be acknowledged. Without a fact: what was acknowledged.
    """
    from archiver.operations import acknowledge as operation

    if fact is None:
        facts = operation.acknowledged(open_archive())
        for known in facts:
            _show(known)
        if not facts:
            output.line("Nothing is acknowledged.")
        return
    parsed = operation.parse_fact(fact)
    if reference is None:
        raise click.UsageError("Name the repository: REPO or REPO@REVISION.")
    repository, revision = split_reference(reference)
    request = operation.AcknowledgeRequest(
        parsed, repository, revision or "", until or "", note, undo
    )
    known = operation.acknowledge(open_archive(), request)
    if undo:
        output.record("withdrawn", **msgspec.to_builtins(known))
        output.line(f"{printable(reference)}: {fact} is a failure again.")
        return
    _show(known)


def _show(fact: KnownFact) -> None:
    output.record("acknowledged", **msgspec.to_builtins(fact))
    name = "" if fact.name == "main" else f"@{printable(fact.name)}"
    until = f"until {printable(fact.until)}" if fact.until else "for good"
    note = f" ({printable(fact.note, 500)})" if fact.note else ""
    output.line(
        f"{fact.fact}: {printable(fact.repository)}{name}, known since {fact.since}, {until}{note}."
    )
