"""``archiver log``: the journal, a sentence for each event."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from archiver.cli import output
from archiver.cli.options import Moment, common, exit_damaged, open_archive, split_reference
from archiver.report.event_words import sentence
from archiver.text import plural, printable

if TYPE_CHECKING:
    from archiver.archive.events import Event
    from archiver.errors import DamageError

_DAMAGED: Final = 20


@click.command(epilog="Example: archiver log -C weights --since 7d --kind audited")
@click.argument("reference", metavar="[REPO[@REVISION]]", required=False)
@click.option(
    "--since", type=Moment(), help="Only from this time on: 2026-11-29, or 7d for a week ago."
)
@click.option("--until", type=Moment(), help="Only before this time.")
@click.option(
    "--kind", "chosen_kinds", metavar="KIND", multiple=True, help="Only these; repeatable."
)
@click.option("--last", type=click.IntRange(1), metavar="N", help="Only the newest N of these.")
@common
def command(
    reference: str | None,
    since: str | None,
    until: str | None,
    chosen_kinds: tuple[str, ...],
    last: int | None,
) -> None:
    """Show what happened to the archive: the events of its journal, oldest first.

    With REPO only what concerns that repository, or one revision or seal of it. What this version does
    not know is shown as it stands. Nothing is written.
    """
    from archiver.operations.log import LogRequest, log

    damaged: list[DamageError] = []
    repository, revision = split_reference(reference) if reference else ("", None)
    request = LogRequest(
        repository, revision or "", since or "", until or "", frozenset(chosen_kinds), last
    )
    for digest, event in log(open_archive(), request, lambda _name, error: damaged.append(error)):
        output.record("event", id=digest, **_stored(event))
        output.line(_line(event))
    for error in damaged[:_DAMAGED]:
        output.print_error(error.message, error.hint, int(error.exit_code))
    if damaged:
        output.remark(f"{plural(len(damaged), 'event')} cannot be read.")
        exit_damaged()


def _stored(event: Event) -> dict[str, object]:
    """Return the event as it is stored, less its ``kind`` and ``format``, which say nothing of it."""
    return {
        "event": event.event,
        "time": event.time,
        "tool": event.tool,
        "repository": event.repository,
        "revision": event.revision,
        "detail": event.fields,
        "after": event.after,
    }


def _line(event: Event) -> str:
    about = ""
    if event.repository:
        at = f"@{event.revision[:12]}" if event.revision else ""
        about = f"{printable(event.repository + at)}: "
    words = f"{about}{sentence(event)}"
    return f"{printable(event.time, 20)}  {printable(event.event, 60):16}  {words}"
