"""``archiver sync``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec

from archiver.cli import output
from archiver.cli.mirroring import (
    finish,
    mirror_options,
    mirror_settings,
    open_catalogue,
    open_hub,
    open_upstream,
    print_failure,
    print_report,
    sentence,
)
from archiver.cli.options import (
    Duration,
    Size,
    advised,
    common,
    open_archive,
    remark_limits,
    token_option,
)
from archiver.cli.progress import Meter
from archiver.errors import (
    ArchiverError,
    ExitCode,
    RenamedError,
    SkippedError,
    UnseenError,
    UpstreamGoneError,
    UsageError,
    skip_damaged,
)
from archiver.names import HUGGING_FACE
from archiver.text import human_bytes, human_duration, in_short, plural, printable, wall_clock

if TYPE_CHECKING:
    from archiver.archive.archive import Archive
    from archiver.night.plan_mirror import PlanMirror
    from archiver.operations.mirror.report import MirrorReport
    from archiver.operations.sync import SyncReport
    from archiver.plan.budget import RunBudget
    from archiver.plan.document import Plan, PlannedRepository
    from archiver.upstream.huggingface.client import HuggingFace
    from archiver.upstream.resolution import Finder

_NAMED: Final = 20
"""Names in a line; --json has them all."""


@click.command(epilog="Example: archiver sync -C weights qwen3.5 --max-rate 50MB")
@click.argument("plan", metavar="PLAN")
@token_option
@click.option(
    "--check-collection",
    is_flag=True,
    help="Also say how the plan differs from its collection on the hub.",
)
@click.option("--max-bytes", type=Size(1), help="Fetch so much at most, such as 500GB.")
@click.option("--max-duration", type=Duration(1), help="Take so long at most, such as 4h.")
@click.option("--now", is_flag=True, help="Run also outside of the plan's window.")
@mirror_options
@common
def command(plan: str, token: str | None, *, check_collection: bool, **rest: Any) -> None:
    """Mirror everything a plan lists.

    PLAN is a TOML file, or the name of one that comes with archiver: qwen3.5. What fails is named
    and the rest is still done; nothing is ever deleted, also when upstream no longer has it. Patterns
    on the command line, and other options, stand in for what the plan says. The plan is journalled
    first: 'archiver status' then judges by it, until 'archiver plan retire' ends it. A run whose budget
    or window is used up ends well, and the next one goes on.
    """
    from archiver.night.plan_mirror import PlanMirror
    from archiver.operations.sync import SyncRequest, sync
    from archiver.plan.reader import find_plan

    to_mirror = find_plan(plan)
    if check_collection and not to_mirror.collection:
        raise UsageError(f"The plan {to_mirror.name} names no collection.")
    budget = _budget(to_mirror, rest)
    if rest["sources"]:
        to_mirror = _without_sources(to_mirror)
    upstream = open_upstream(
        rest.pop("sources") or to_mirror.sources,
        {HUGGING_FACE: token},
        rest.pop("max_rate") or to_mirror.max_rate or None,
        rest.pop("connections"),
        rest["memory"],
    )
    archive = open_archive()
    if not rest["dry_run"]:
        archive.store.require_writable()
        remark_limits(archive.store)
    if to_mirror.min_free is not None and not _is_typed("min_free"):
        rest["min_free"] = to_mirror.min_free
    with PlanMirror(
        archive,
        upstream,
        mirror_settings(rest),
        open_catalogue,
        lambda: Meter("Mirroring"),
        effort=mirror_settings(rest).effort if _is_typed("effort") else None,
    ) as mirror:
        run = _PlanRun(archive, to_mirror, mirror, open_hub(token) if check_collection else None)
        report = sync(
            archive,
            SyncRequest(
                to_mirror,
                run,
                source=str(Path(plan).absolute()) if Path(plan).is_file() else plan,
                min_free=rest["min_free"],
                dry_run=rest["dry_run"],
                budget=budget,
            ),
            run,
        )
    output.record("sync", exit_code=report.exit_code, **msgspec.to_builtins(report))
    _verdict(report)
    if mirror.open_error:
        raise mirror.open_error
    if report.ended == ExitCode.INTERRUPTED:
        raise KeyboardInterrupt
    if report.ended == ExitCode.NO_SPACE or report.room == "too-little":
        output.exit_with(ExitCode.NO_SPACE)
    # A check that could not be made counts as one more thing that failed.
    failures = [*report.exit_codes, *run.unchecked]
    finish(failures, report.total + len(run.unchecked), run.unprotected, counted=True)


def _is_typed(option: str) -> bool:
    """Return whether an option was given, and has not its default."""
    source = click.get_current_context().get_parameter_source(option)
    return source is click.core.ParameterSource.COMMANDLINE


def _without_sources(plan: Plan) -> Plan:
    """Return a plan whose entries name no sources."""
    entries = (msgspec.structs.replace(entry, sources=()) for entry in plan.repositories)
    return msgspec.structs.replace(plan, repositories=tuple(entries))


def _budget(plan: Plan, settings: dict[str, Any]) -> RunBudget | None:
    """Return what the run may take; raise SkippedError if the plan's window is closed."""
    from archiver.plan.budget import RunBudget
    from archiver.plan.document import Budget

    limits = Budget(
        settings.pop("max_bytes") or plan.budget.bytes,
        settings.pop("max_duration") or plan.budget.seconds,
    )
    ignores_window = settings.pop("now") or settings["dry_run"]
    if settings["dry_run"]:
        return None
    if plan.window is None or ignores_window:
        return RunBudget(limits)
    now = wall_clock()
    end = plan.window.ends_at(now)
    if end is None:
        opens = plan.window.local(plan.window.opens_at(now))
        raise SkippedError(
            f"The window of the plan {plan.name} opens at {opens:%Y-%m-%d %H:%M} "
            f"({plan.window.timezone}); nothing was done.",
            hint="--now runs the plan all the same.",
        )
    return RunBudget(limits, end)


class _PlanRun:
    """Hands the entries of a plan on to what mirrors them, and prints what becomes of each.

    With a ``hub`` the plan is compared with its collection there first.
    """

    def __init__(
        self, archive: Archive, plan: Plan, mirror: PlanMirror, hub: HuggingFace | None
    ) -> None:
        self._archive = archive
        self._plan = plan
        self._mirror = mirror
        self._hub = hub
        self.unchecked: list[int] = []
        """The exit codes of checks of the collection that could not be made."""
        self.unprotected: list[int] = []
        """Those of files that got no parity, though it is wanted."""

    def open(self) -> None:
        """Open the catalogue; compare the plan with its collection, if that was asked for."""
        self._mirror.open()
        if self._hub is not None:
            self.unchecked += _check_collection(self._hub, self._plan)

    def finder(self) -> Finder:
        """Return what says which repositories there are."""
        return self._mirror.finder()

    def mirror(self, planned: PlannedRepository, budget: RunBudget | None = None) -> MirrorReport:
        """Mirror an entry."""
        return self._mirror.mirror(planned, budget)

    def partial_bytes(self) -> tuple[int, int]:
        """Return what was fetched and stored of the last entry."""
        return self._mirror.partial_bytes()

    def mirrored(self, report: MirrorReport) -> None:
        """Print what was done."""
        self.unprotected += print_report(report)

    def failed(self, planned: PlannedRepository, error: ArchiverError) -> None:
        """Print why an entry failed."""
        from archiver.night.plan_mirror import NarrowedError

        if isinstance(error, NarrowedError):
            print_report(error.report)
            sentences = (sentence(remark, error.report) for remark in error.remarks)
            error.message = " ".join((error.message, *sentences))
        if isinstance(error, UpstreamGoneError):
            error.hint = _hint_for_gone(self._archive, planned, error, self._mirror.finder())
        print_failure(planned.selector, planned.revision, error, title=planned.title)

    def acknowledged(self, planned: PlannedRepository, error: ArchiverError) -> None:
        """Print that upstream does not give an entry, as its owner knows."""
        from archiver.archive.plans import outcome_of

        fact = outcome_of(error)
        about = {"repository": planned.name, "revision": planned.revision or ""}
        output.record("acknowledged", fact=fact, message=error.message, **about)
        how = "upstream no longer has it" if fact == "gone" else "upstream refuses access to it"
        output.line(f"{printable(planned.title)}: {how}, as is known; what is held of it stays.")


def _hint_for_gone(
    archive: Archive, planned: PlannedRepository, error: ArchiverError, finder: Finder
) -> str:
    """Return what to do about a loss: a name that is held was not mistyped, and the loss may be known."""
    from archiver.archive.pins import published_pins
    from archiver.archive.plans import outcome_of
    from archiver.archive.watch import awaits_verdict
    from archiver.upstream.resolution import spelled_upstream

    if planned.is_open or planned.follows:
        return error.hint
    held = archive.snapshots_of(planned.name, on_damage=skip_damaged)
    if not held:
        names = [snapshot.seal.repository for snapshot in archive.snapshots(skip_damaged)]
        names += [pin.repository for pin in published_pins()]
        renamed = isinstance(error, RenamedError)
        right = "" if renamed else spelled_upstream(planned.name, finder, names)
        return f"Did you mean {printable(right)}? {error.hint}" if right else error.hint
    if isinstance(error, UnseenError) and awaits_verdict(
        archive.events(skip_damaged), planned.name
    ):
        return (
            "It may be private, or hidden from a token that expired: it is called gone after three days on "
            "which 'archiver watch' was answered otherwise. What is held stays."
        )
    command = advised("acknowledge", outcome_of(error), planned.title)
    stays = f"The archive keeps what it holds of {printable(planned.name)}."
    known = f"{stays} Is that known? Then {command} says so, and it is reported without a failure."
    # A refusal may still be a matter of a token, and what has another name can be had by that.
    if outcome_of(error) == "refused" or isinstance(error, RenamedError):
        return f"{error.hint} {known}"
    return known


_STOPPED: Final = {
    "bytes": "Stopped, as it has fetched what it may fetch at once",
    "time": "Stopped, as it has taken as long as it may take",
    "window": "Stopped, as the plan's window is over",
}


def _verdict(report: SyncReport) -> None:
    """Print what came of the run, also of one that ended early."""
    word = "would be new" if report.dry_run else "new"
    new = report.done - report.held if report.dry_run else report.new
    counts = [f"{new:,} {word}", f"{report.held:,} held", f"{len(report.failed):,} failed"]
    if report.unseen:
        counts.append(f"{len(report.unseen):,} not shown to us")
    if report.unresolved:
        counts.append(f"{plural(len(report.unresolved), 'pattern')} unresolved")
    known = len(set(report.gone) & set(report.acknowledged))
    gone = f"{len(report.gone):,} gone upstream"
    counts.append(f"{gone} ({known:,} known)" if known else gone)
    if report.not_tried:
        counts.append(f"{len(report.not_tried):,} not tried")
    total = plural(report.total, "repository", "repositories")
    done = f"of {total}" if report.dry_run else f"{report.done} of {total} done"
    output.line(f"Plan {report.plan}: {done}: {', '.join(counts)}.")
    if report.stopped:
        output.line(f"  {_STOPPED[report.stopped]}; the next run goes on from there.")
    cut = report.ended == ExitCode.NETWORK
    not_tried = "Not tried, as upstream could not be reached" if cut else "Not tried"
    for title, names in (
        ("New in the plan since its last run", report.appeared),
        ("Failed", report.failed),
        ("As before, since upstream did not say what it stands for now", report.unresolved),
        ("Not shown to us", report.unseen),
        ("Gone upstream, or never there", report.gone),
        (not_tried, report.not_tried),
    ):
        if names:
            output.line(f"  {title}: {in_short(map(printable, names), _NAMED)}.")
    _figures(report)


def _figures(report: SyncReport) -> None:
    free = (
        "room left unknown" if report.free < 0 else f"{human_bytes(report.free)} left on the disk"
    )
    if report.min_free and report.free >= 0:
        free += f", of which --min-free keeps {human_bytes(report.min_free)}"
    if not report.dry_run:
        fetched = f"{human_bytes(report.fetched)} fetched, {human_bytes(report.stored)} stored"
        output.line(f"  {fetched} in {human_duration(report.seconds)}; {free}.")
        return
    fits = {
        "enough": "That fits",
        "unsure": "Whether that fits depends on how well it compresses",
        "too-little": "That does not fit, however well it compresses",
    }
    fetch = f"{human_bytes(report.fetched)} to fetch"
    output.line(f"  {fetch}; {free}. {fits.get(report.room, '')}.")


def _check_collection(upstream: HuggingFace, plan: Plan) -> list[int]:
    """Print how the plan differs from its collection; return the exit code of a check that failed."""
    from archiver.operations.sync import compare_collection

    try:
        new, absent = compare_collection(plan, upstream.collection(plan.collection))
    except ArchiverError as error:
        output.print_error(error.message, error.hint, int(error.exit_code))
        return [int(error.exit_code)]
    output.record("collection", collection=plan.collection, new=new, absent=absent)
    for name in new:
        output.line(f"New in {plan.collection}, not in the plan: {printable(name)}")
    for name in absent:
        output.line(f"In the plan, not in {plan.collection}: {printable(name)}")
    if not new and not absent:
        output.line(f"The plan lists what {plan.collection} lists.")
    return []
