"""``archiver parity``."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import click
import msgspec

from archiver.cli import output
from archiver.cli.options import (
    advised,
    common,
    memory_budget,
    memory_option,
    open_archive,
    split_reference,
)
from archiver.cli.progress import Meter
from archiver.errors import ExitCode
from archiver.text import human_bytes, human_rate, plural, printable

if TYPE_CHECKING:
    from archiver.archive.parity.protect import ProtectionReport
    from archiver.operations.parity import ParityStatus

_SHOWN: Final = 20
"""Files that are named one by one; --json names them all."""


@click.group(epilog="Example: archiver parity add -C weights")
def command() -> None:
    """Make, remove and count the parity that repairs damaged files."""


@command.command(epilog="Example: archiver parity add -C weights --parity 2 --group 32")
@click.argument("references", metavar="[REPO[@REVISION]]...", nargs=-1)
@click.option(
    "--parity",
    type=click.IntRange(1, 128),
    metavar="P",
    help="Blocks of a group that may be lost. [default: the policy's, else 2]",
)
@click.option(
    "--group",
    type=click.IntRange(1, 255),
    metavar="K",
    help="Data blocks of a group, at most. [default: the policy's, else 32]",
)
@click.option("--redo", is_flag=True, help="Also remake sidecars that are good.")
@memory_option
@common
def add(
    references: tuple[str, ...],
    parity: int | None,
    group: int | None,
    redo: bool,
    memory: int | None,
) -> None:
    """Make parity for everything that seals need, or that the snapshots named need.

    Each file is first proven to be what its name demands; a damaged one is named and gets no parity.
    Files that have good parity of the same shape are left alone.
    """
    from archiver.operations.parity import ParityRequest, add_parity

    request = ParityRequest(
        tuple(map(split_reference, references)), parity, group, redo, memory_budget(memory)
    )
    started = time.monotonic()
    archive = open_archive()
    with Meter("Protecting") as meter:
        report = add_parity(archive, request, meter)
    _show_added(report, time.monotonic() - started)


def _show_added(report: ProtectionReport, seconds: float) -> None:
    output.record("parity", **msgspec.to_builtins(report))
    unchanged = f"; {len(report.kept)} had theirs already" if report.kept else ""
    output.line(
        f"Made parity for {plural(len(report.made), 'file')}, {human_bytes(report.bytes)}: "
        f"{human_bytes(report.parity_bytes)} ({human_rate(report.bytes, seconds)}){unchanged}."
    )
    for failure in report.failures:
        output.line(f"  {failure.file}: {printable(failure.reason, 2000)}")
    if not report.failures:
        return
    codes = {failure.exit_code for failure in report.failures}
    if int(ExitCode.DAMAGE) in codes:
        output.hint(f"Run {advised('audit')} to see all that is damaged.", 2)
        output.exit_with(ExitCode.DAMAGE)
    for hint in sorted({failure.hint for failure in report.failures if failure.hint}):
        output.hint(hint, 2)
    output.exit_with(int(ExitCode.PARTIAL if report.made else codes.pop()))


@command.command(epilog="Example: archiver parity remove -C weights Qwen/Qwen3.5-0.8B")
@click.argument("references", metavar="[REPO[@REVISION]]...", nargs=-1)
@common
def remove(references: tuple[str, ...]) -> None:
    """Remove all parity, or what only the snapshots named need of it. No data is lost."""
    from archiver.operations.parity import remove_parity

    report = remove_parity(open_archive(), list(map(split_reference, references)))
    output.record("parity-removed", **msgspec.to_builtins(report))
    shared = f"; {report.shared} that other snapshots need stay" if report.shared else ""
    output.line(
        f"Removed {plural(len(report.files), 'sidecar')}, {human_bytes(report.bytes)}{shared}."
    )
    _show_names(report.files)


@command.command(epilog="Example: archiver parity status -C weights")
@common
def status() -> None:
    """Show how much is protected, what that costs, and what is not protected."""
    from archiver.operations.parity import parity_status

    report = parity_status(open_archive())
    output.record(
        "parity-status",
        bytes=report.bytes,
        parity_bytes=report.parity_bytes,
        overhead=round(report.overhead, 4),
        **msgspec.to_builtins(report),
    )
    _show_status(report)


def _show_status(report: ParityStatus) -> None:
    rows = [
        (
            kind.name,
            f"{kind.protected:,} of {kind.files:,}",
            f"{human_bytes(kind.protected_bytes)} of {human_bytes(kind.bytes)}",
            human_bytes(kind.parity_bytes),
        )
        for kind in report.kinds
    ]
    output.table(("FILES", "PROTECTED", "BYTES", "PARITY"), rows, right=(1, 2, 3))
    policy = f"{report.wanted} blocks for each {report.group}" if report.wanted else "no parity"
    output.line(
        f"Parity takes {report.overhead:.1%} of what it protects. The policy wants {policy}."
    )
    if report.unprotected:
        output.line(f"{plural(len(report.unprotected), 'file')} not protected:")
        _show_names(report.unprotected)
        output.remark(f"Run {advised('parity add')} to protect them.")


def _show_names(names: tuple[str, ...]) -> None:
    for name in names[:_SHOWN]:
        output.line(f"  {printable(name, 1024)}")
    if len(names) > _SHOWN:
        output.line(f"  and {len(names) - _SHOWN:,} more")
