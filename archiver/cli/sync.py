"""``archiver sync``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
import msgspec

from archiver.cli import output
from archiver.cli.mirroring import (
    as_planned,
    finish,
    mirror_options,
    mirroring,
    open_hub,
    tell,
    tell_failure,
)
from archiver.cli.options import common, open_archive
from archiver.errors import ArchiverError, NoSpaceError, UsageError
from archiver.text import plural, printable

if TYPE_CHECKING:
    from archiver.operations.mirror import MirrorReport
    from archiver.plan import Plan, PlannedRepository
    from archiver.upstream.huggingface import HuggingFace


@click.command(epilog="Example: archiver sync -C weights qwen3.5 --max-rate 50MB")
@click.argument("plan", metavar="PLAN")
@click.option("--token", envvar="HF_TOKEN", help="An access token. [env: HF_TOKEN]")
@click.option(
    "--check-collection", is_flag=True, help="Also say what the plan's collection has besides."
)
@mirror_options
@common
def command(plan: str, token: str | None, *, check_collection: bool, **rest: Any) -> None:
    """Mirror everything a plan lists.

    PLAN is a TOML file, or the name of one that comes with archiver: qwen3.5. What fails is named
    and the rest is still done; nothing is ever deleted, also when upstream no longer has it. Patterns
    on the command line stand in for those of the plan.
    """
    from archiver.operations.sync import sync  # noqa: PLC0415 - start-up stays light
    from archiver.plan import find_plan  # noqa: PLC0415

    wanted = find_plan(plan)
    upstream = open_hub(token, rest.pop("max_rate"))
    archive = open_archive()
    if not rest["dry_run"]:
        archive.store.require_writable()
    unchecked = _check_collection(upstream, wanted) if check_collection else []
    unprotected: list[int] = []
    given = bool(rest["include"] or rest["exclude"])
    with mirroring(archive, rest) as mirror_one:

        def mirror(planned: PlannedRepository) -> MirrorReport:
            patterns = None if given else (planned.include, planned.exclude)
            try:
                report = mirror_one(upstream, planned.name, planned.revision, patterns)
                return report if given else as_planned(report, planned)
            except NoSpaceError as error:
                _failed(planned, error)
                raise click.exceptions.Exit(int(error.exit_code)) from None

        report = sync(
            archive,
            wanted,
            mirror,
            done=lambda done: unprotected.extend(tell(done)),
            failed=_failed,
            upstream=upstream.endpoint,
            journal=not rest["dry_run"],
        )
    output.record("sync", **msgspec.to_builtins(report))
    output.line(
        f"Plan {report.plan}: {report.done} of "
        f"{plural(report.total, 'repository', 'repositories')} done."
    )
    # A check that could not be made counts as one more thing that failed.
    finish([*report.exit_codes, *unchecked], report.total + len(unchecked), unprotected)


def _failed(planned: PlannedRepository, error: ArchiverError) -> None:
    tell_failure(planned.name, planned.revision, error, title=planned.title)


def _check_collection(upstream: HuggingFace, plan: Plan) -> list[int]:
    """Say how the plan differs from its collection; the exit code of a check that failed."""
    from archiver.operations.sync import compare_collection  # noqa: PLC0415 - start-up stays light

    if not plan.collection:
        raise UsageError(f"The plan {plan.name} names no collection.")
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
