"""``archiver plan``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click
import msgspec

from archiver.cli import output
from archiver.cli.options import advised, common, open_archive
from archiver.text import in_short, plural, printable

if TYPE_CHECKING:
    from archiver.operations.plans import CheckedEntry, PlanCheck

_NAMED: Final = 20
_STATES: Final = {
    "held": "held",
    "missing": "MISSING",
    "unvouched": "NOBODY VOUCHED",
    "incomplete": "PACKS MISSING",
    "unreadable": "UNREADABLE",
    "differs": "DIFFERS FROM ITS PIN",
}


@click.group(epilog="Example: archiver plan check -C weights qwen3.5")
def command() -> None:
    """Compare the archive with a plan, or end a plan. Neither needs a network.

    A plan begins with the first 'archiver sync' that runs it; 'archiver status' judges by it from
    then on.
    """


@command.command(epilog="Example: archiver plan retire -C weights nightly")
@click.argument("name", metavar="NAME")
@common
def retire(name: str) -> None:
    """Say that a plan feeds this archive no longer, so that 'archiver status' stops asking for it.

    NAME is what the plan calls itself. What it brought stays. A later 'archiver sync' of it begins
    it anew.
    """
    from archiver.operations import plans

    plans.retire(open_archive(), name)
    output.record("plan-retired", plan=name)
    output.line(f"The plan {printable(name)} is retired; what it brought stays.")


@command.command(epilog="Example: archiver plan check -C weights qwen3.5")
@click.argument("plan", metavar="PLAN")
@common
def check(plan: str) -> None:
    """Compare the archive with a plan and with the published pins, without a network.

    PLAN is as for 'archiver sync'. Exits with 24 if something of it is not held, with 22 if something
    that is held differs from a pin. Nothing is written.
    """
    from archiver.archive.pins import published_pins
    from archiver.operations import plans
    from archiver.plan.reader import find_plan

    result = plans.check(open_archive(), find_plan(plan), published_pins())
    for entry in result.entries:
        output.record("entry", **msgspec.to_builtins(entry))
    output.record(
        "plan-check", plan=result.plan, besides=result.besides, exit_code=result.exit_code
    )
    _verdict(result, plan)
    for entry in result.entries:
        _show(entry)
    if result.besides:
        names = in_short(map(printable, result.besides), _NAMED)
        output.line(f"Held, and not in the plan: {names}.")
    if result.exit_code:
        output.exit_with(result.exit_code)


def _verdict(result: PlanCheck, plan: str) -> None:
    counts = {state: sum(entry.state == state for entry in result.entries) for state in _STATES}
    total = plural(len(result.entries), "repository", "repositories")
    held = f"Plan {result.plan}: {counts['held']:,} of {total} held"
    rest = [
        f"{counts[state]:,} {word.lower()}"
        for state, word in _STATES.items()
        if counts[state] and state != "held"
    ]
    output.line(f"{'; '.join([held, *rest])}.")
    if counts["missing"] or counts["unvouched"]:
        output.hint(f"Run {advised('sync', plan)}.")
    if counts["incomplete"] or counts["unreadable"]:
        output.hint(f"Run {advised('repair')}.")
    if counts["differs"]:
        output.hint("Find out who changed what, and do not use what differs until you know.")


def _show(entry: CheckedEntry) -> None:
    at = f" at {entry.revision[:12]}" if entry.revision else ""
    pin = {
        "": "",
        "agrees": "; its pin agrees",
        "differs": "",
        "other-revision": "; its pin is of another revision",
    }[entry.pin]
    output.line(f"{_STATES[entry.state]}: {printable(entry.title)}{printable(at)}{pin}.")
    for difference in entry.differences[:_NAMED]:
        path = printable(difference.path)
        if difference.what == "extra":
            output.line(f"    {path} is not in the pin, which lists every file.")
        elif difference.what == "absent":
            output.line(f"    {path} is in the pin, and is not held.")
        else:
            word = "SHA-256" if difference.what == "sha256" else "size"
            output.line(
                f"    {path}: {word} {printable(difference.held)}, by the pin {difference.pinned}."
            )
    if len(entry.differences) > _NAMED:
        output.line(f"    and {len(entry.differences) - _NAMED:,} more.")
