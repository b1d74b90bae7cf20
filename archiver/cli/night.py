"""``archiver night``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec

from archiver.archive.advice import quoted
from archiver.cli import output
from archiver.cli.mirroring import open_catalogue, open_upstream
from archiver.cli.options import (
    Size,
    common,
    max_rate_option,
    memory_budget,
    memory_option,
    open_archive,
    token_option,
)
from archiver.cli.progress import Meter
from archiver.names import HUGGING_FACE
from archiver.night.progress import NightProgress
from archiver.text import printable

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from archiver.errors import ArchiverError
    from archiver.night.report import NightReport
    from archiver.night.result import StepResult
    from archiver.plan.document import Plan, PlannedRepository
    from archiver.progress import Progress

_LONGEST: Final = 2000


@click.command(epilog="Example: archiver night -C weights plan.toml")
@click.argument("plan", metavar="PLAN")
@token_option
@max_rate_option
@memory_option
@click.option(
    "--min-free",
    type=Size(),
    default="1GiB",
    show_default=True,
    help="Room that must stay free.",
)
@click.option("--prometheus", metavar="FILE", help="Write metrics there, whatever the plan says.")
@click.option(
    "--ping",
    metavar="PLACE",
    multiple=True,
    help="Where a URL lies that is told of beginning and end, in place of the plan's: file:PATH, "
    "credential:NAME or env:VARIABLE; repeatable.",
)
@click.option(
    "--notify",
    metavar="PLACE",
    multiple=True,
    help="Likewise, of what is told of news by apprise; repeatable.",
)
@common
def command(plan: str, token: str | None, **settings: Any) -> None:
    """Do everything that a plan and its archive need, in one go: the one entry for cron and timers.

    What the plan lists is mirrored, parity made, copies brought up to date where their disks are there,
    what was proven longest ago audited, and what is not signed signed. What fails keeps nothing else from
    being done. The verdict comes first, in a line that fits a subject; then a line for each step.

    The exit code is that of the worst that is new. What an earlier night told rings no more, but damage,
    which rings until it is mended.
    """
    from archiver.night.plan_mirror import PlanMirror
    from archiver.night.run import NightRequest, night
    from archiver.night.words import next_command, verdict
    from archiver.operations.mirror.repositories import MirrorSettings
    from archiver.plan.reader import find_plan

    to_mirror = find_plan(plan)
    to_mirror = _with_options(to_mirror, settings)
    archive = open_archive()
    budget = memory_budget(settings["memory"])
    rate = settings["max_rate"] or to_mirror.max_rate or None
    min_free = settings["min_free"]
    if to_mirror.min_free is not None and not _is_typed("min_free"):
        min_free = to_mirror.min_free
    upstream = open_upstream(
        to_mirror.sources, {HUGGING_FACE: token}, rate, memory=settings["memory"]
    )
    shown = _Shown()
    how = MirrorSettings(memory=budget, min_free=min_free)
    with PlanMirror(archive, upstream, how, open_catalogue, lambda: Meter("Mirroring")) as mirror:
        request = NightRequest(
            to_mirror,
            str(Path(plan).absolute()) if Path(plan).is_file() else plan,
            mirror,
            connect=upstream.hub,
            min_free=min_free,
            memory=budget,
        )
        report = night(archive, request, shown)
    _show(report)
    if report.exit_code:
        # What goes to stderr is all that a mail of cron needs to hold, where stdout is led elsewhere.
        ringing = report.news.ringing
        command = next_command(ringing[0], archive.store.address) if ringing else ()
        hint = f"Run {quoted(command)}." if command else ""
        output.print_error(verdict(report), hint, report.exit_code)
        output.exit_with(report.exit_code)


def _with_options(plan: Plan, settings: dict[str, Any]) -> Plan:
    """Return the plan with what the command says in place of its own words."""
    from archiver.night.secret import parse_secret

    changes: dict[str, Any] = {}
    if settings["prometheus"]:
        changes["prometheus"] = str(Path(settings["prometheus"]).absolute())
    for name in ("ping", "notify"):
        if settings[name]:
            changes[name] = tuple(map(parse_secret, settings[name]))
    return msgspec.structs.replace(plan, night=msgspec.structs.replace(plan.night, **changes))


def _is_typed(option: str) -> bool:
    """Return whether an option was given, and has not its default."""
    source = click.get_current_context().get_parameter_source(option)
    return source is click.core.ParameterSource.COMMANDLINE


class _Shown(NightProgress):
    """Says on stderr what is being done, and what fails."""

    def meter(self, verb: str, unit: str) -> AbstractContextManager[Progress]:
        """Return the live line, or a line for each file."""
        return Meter(verb, unit)

    def began(self, step: str) -> None:
        """Say it."""
        output.remark(f"{step} …")

    def ended(self, result: StepResult) -> None:
        """Say what failed, besides entries of the plan, which were told as they did."""
        for error in () if result.step == "sync" and result.counts else result.errors:
            about = f"{printable(error.subject)}: " if error.subject else ""
            _remark_failure(f"{about}{printable(error.message, _LONGEST)}", error.hint)

    def failed(self, planned: PlannedRepository, error: ArchiverError) -> None:
        """Say why an entry failed."""
        about = "" if error.subject else f"{planned.title}: "
        _remark_failure(printable(f"{about}{error.message}", _LONGEST), error.hint)


def _remark_failure(message: str, hint: str) -> None:
    """Remark it: what rings is told in the end, and what is known is no alarm."""
    output.remark(message)
    if hint:
        output.remark(f"    → {printable(hint, _LONGEST)}")


def _show(report: NightReport) -> None:
    from archiver.night.words import lines

    first, *rest = lines(report)
    for result in report.steps:
        output.record("step", **msgspec.to_builtins(result))
    news = report.news
    output.record(
        "night",
        verdict=first,
        plan=report.plan,
        exit_code=report.exit_code,
        cut=report.cut,
        new=msgspec.to_builtins(news.new),
        known=msgspec.to_builtins(news.known),
        mended=msgspec.to_builtins(news.mended),
        seconds=report.seconds,
        event=report.event,
        opens=report.opens.isoformat() if report.opens else "",
    )
    output.line(first)
    for text in rest:
        output.line(f"  {text}")
