"""``archiver plan``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click
import msgspec

from archiver.cli import output
from archiver.cli.options import Size, advised, common, open_archive, token_option
from archiver.cli.progress import Meter
from archiver.text import human_bytes, human_duration, human_rate, in_short, plural, printable

if TYPE_CHECKING:
    from archiver.night.plan_preview import EntryPreview, PlanPreview
    from archiver.operations.plans import CheckedEntry, PlanCheck

_NAMED: Final = 20
_MIN_FREE: Final = 1 << 30
"""Room that stays free where neither the command nor the plan says how much."""
_STATES: Final = {
    "held": "held",
    "missing": "MISSING",
    "unvouched": "NOBODY VOUCHED",
    "incomplete": "PACKS MISSING",
    "unreadable": "UNREADABLE",
    "differs": "DIFFERS FROM ITS PIN",
    "unresolved": "NOT YET ASKED FOR",
}


@click.group(epilog="Example: archiver plan check -C weights qwen3.5")
def command() -> None:
    """Check a plan, show what a run of it would do, or end it.

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

    PLAN is as for 'archiver sync'. What a pattern stands for is what the last run of it was told. Exits
    with 24 if something of it is not held, with 22 if something that is held differs from a pin. Nothing
    is written.
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
    if counts["missing"] or counts["unvouched"] or counts["unresolved"]:
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
    meant = f" Did you mean {printable(entry.spelled)}?" if entry.spelled else ""
    if entry.spelled.casefold() == entry.repository.casefold():
        meant = f" Its name is spelled {printable(entry.spelled)}."
    output.line(f"{_STATES[entry.state]}: {printable(entry.title)}{printable(at)}{pin}.{meant}")
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


@command.command(epilog="Example: archiver plan show -C weights qwen3.5 --max-rate 50MB")
@click.argument("plan", metavar="PLAN")
@token_option
@click.option(
    "--max-rate", type=Size(1), help="Reckon with so many bytes per second, such as 50MB."
)
@click.option(
    "--min-free", type=Size(), help="Room that must stay free. [default: the plan's, else 1GiB]"
)
@click.option("--files", is_flag=True, help="Also list every file, and whether it is held.")
@common
def show(
    plan: str, token: str | None, max_rate: int | None, min_free: int | None, files: bool
) -> None:
    """Show what a run of a plan would do: new and changed files, bytes, room and time.

    PLAN is as for 'archiver sync'. Upstream is asked for listings only, and nothing is written. Exits with
    24 if there is news, with 31 if it cannot fit, and as 'archiver sync' does if entries fail.
    """
    from archiver.cli.mirroring import open_catalogue, open_upstream
    from archiver.memory import MemoryBudget
    from archiver.names import HUGGING_FACE
    from archiver.night.plan_preview import PlanPreviewRequest, preview_plan
    from archiver.operations.mirror.repositories import MirrorSettings
    from archiver.plan.reader import find_plan

    wanted = find_plan(plan)
    room = wanted.min_free if min_free is None else min_free
    result = preview_plan(
        open_archive(),
        PlanPreviewRequest(
            wanted,
            open_upstream(wanted.sources, {HUGGING_FACE: token}),
            MirrorSettings(
                memory=MemoryBudget(), min_free=_MIN_FREE if room is None else room, dry_run=True
            ),
            open_catalogue,
            lambda: Meter("Looking"),
            max_rate or 0,
        ),
    )
    for entry in result.entries:
        fields = msgspec.to_builtins(entry)
        del fields["listed"]
        output.record("entry", **fields)
        for file in entry.listed if files else ():
            listed = {"repository": entry.repository, "revision": entry.revision}
            output.record("file", **listed, **msgspec.to_builtins(file))
    figures = msgspec.to_builtins(result)
    del figures["entries"]
    output.record("plan-show", **figures, exit_code=result.exit_code)
    _show_preview(result, plan)
    if files:
        _show_files(result)
    if result.exit_code:
        output.exit_with(result.exit_code)


def _show_files(result: PlanPreview) -> None:
    rows = [
        (entry.title, file.path, human_bytes(file.size), "held" if file.held else "to fetch")
        for entry in result.entries
        for file in entry.listed
    ]
    if rows:
        output.line()
        output.table(("ENTRY", "FILE", "SIZE", ""), rows, right=(2,))


def _show_preview(result: PlanPreview, plan: str) -> None:
    news = [*result.entries_with("new"), *result.entries_with("changed")]
    failed = result.entries_with("failed")
    counts = [f"{len(result.entries_with('new')):,} new"]
    counts.append(f"{len(result.entries_with('changed')):,} changed")
    counts.append(f"{len(result.entries_with('held')):,} held as upstream has it")
    known = result.entries_with("known")
    counts += [f"{len(known):,} gone or refused, as is known"] if known else []
    counts += [f"{len(failed):,} failed"] if failed else []
    total = plural(len(result.entries), "entry", "entries")
    output.line(f"Plan {result.plan}: {total}: {', '.join(counts)}.")
    for entry in news:
        output.line(f"{_news(entry)}.")
    for entry in failed:
        output.line(
            f"FAILED: {printable(entry.title)}{_because(entry)}: {printable(entry.message, 2000)}"
        )
        if entry.spelled:
            output.hint(f"Did you mean {printable(entry.spelled)}?")
        elif entry.hint:
            output.hint(entry.hint)
    if result.free >= 0 or result.fetch_bytes:
        _show_figures(result)
    if news:
        output.hint(f"{advised('sync', plan)} fetches it.")


def _news(entry: EntryPreview) -> str:
    title = f"{printable(entry.title)}{_because(entry)}"
    fetch = f"{human_bytes(entry.fetch_bytes)} to fetch"
    if entry.resumed_bytes:
        fetch += f", {human_bytes(entry.resumed_bytes)} stored by an earlier run"
    if entry.news == "new":
        return f"NEW: {title}: {plural(entry.files, 'file')}, {human_bytes(entry.bytes)}; {fetch}"
    changes = [
        f"{count:,} {word}"
        for count, word in (
            (entry.added, "added"),
            (entry.changed, "changed"),
            (entry.removed, "removed upstream"),
        )
        if count
    ]
    said = f"files: {', '.join(changes)}" if changes else "the same files, in another commit"
    return f"CHANGED: {title}, {entry.commit[:12]}: {said}; {fetch}"


def _because(entry: EntryPreview) -> str:
    """Return which pattern stands for an entry, if one does."""
    if not entry.of or entry.of == entry.title:
        return ""
    return f" (new for {printable(entry.of)})" if entry.appeared else f" ({printable(entry.of)})"


def _show_figures(result: PlanPreview) -> None:
    free = (
        "room left unknown"
        if result.free < 0
        else f"{human_bytes(result.free)} left on the disk, {human_bytes(result.min_free)} of it stay free"
    )
    fits = {
        "enough": "That fits",
        "unsure": "Whether that fits depends on how well it compresses",
        "too-little": "That does not fit, however well it compresses",
    }
    output.line(
        f"  {human_bytes(result.fetch_bytes)} to fetch; {free}. {fits[result.room]}."
        if result.fetch_bytes
        else f"  Nothing to fetch; {free}."
    )
    if not result.fetch_bytes:
        return
    sources = {"given": "", "plan": ", as the plan allows", "last-run": ", as in its last run"}
    time = (
        f"At {human_rate(result.rate)}{sources[result.rate_source]}, that takes "
        f"{human_duration(result.seconds)}"
        if result.rate_source
        else "How long that takes is not known; --max-rate reckons with a rate"
    )
    runs = (
        f"; within the plan's budget and window, {plural(result.runs, 'run')}"
        if result.runs
        else ""
    )
    output.line(f"  {time}{runs}.")
