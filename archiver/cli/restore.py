"""``archiver restore``."""

from __future__ import annotations

import os
import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from archiver.cli import output
from archiver.cli.findings import shortened
from archiver.cli.options import (
    Size,
    common,
    memory_budget,
    open_archive,
    packs_option,
)
from archiver.cli.progress import Meter
from archiver.cli.snapshots import (
    compared,
    described,
    given,
    snapshot_of,
    summary,
    title_of,
)
from archiver.errors import ExitCode, skip_damaged
from archiver.memory import BUDGET_MIN
from archiver.text import human_bytes, human_rate, in_short, plural, printable

if TYPE_CHECKING:
    from archiver.archive.archive import Archive
    from archiver.archive.seals import Snapshot
    from archiver.operations.restore.files import RestoreFailure
    from archiver.operations.restore.run import RestoreReport

_SHOWN = 8
"""Damaged tensors that are named for each file; --json names them all."""


@click.command(
    epilog="Example: archiver restore -C weights Qwen/Qwen3.5-0.8B /models/qwen --file '*.json'"
)
@click.argument("reference", metavar="REPO[@REVISION]")
@click.argument("destination", metavar="DEST", type=click.Path(path_type=Path))
@click.option(
    "--file", "files", multiple=True, metavar="PATTERN", help="Only files that fit; repeatable."
)
@click.option(
    "--tensor", metavar="NAME", help="One tensor, as a safetensors or GGUF file of its own."
)
@click.option(
    "--layout",
    type=click.Choice(["plain", "hf-cache"]),
    default="plain",
    show_default=True,
    help="A plain folder, or a cache that hub clients load offline (HF_HUB_CACHE=DEST).",
)
@click.option(
    "--check",
    type=click.Choice(["files", "segments"]),
    default="files",
    show_default=True,
    help="What is compared. segments: each segment's BLAKE3; files: also the SHA-256 of the whole file.",
)
@click.option(
    "--rename",
    is_flag=True,
    help="Restore a file whose name this disk cannot hold under another one, and say which.",
)
@click.option("--smoke-test", "tested", is_flag=True, help="Then run the model that was restored.")
@click.option(
    "--memory",
    type=Size(1),
    help="Stay below this much memory in all. [default: 400 MB; for --smoke-test: what there is]",
)
@packs_option
@common
def command(
    reference: str,
    destination: Path,
    pack_folders: tuple[Path, ...],
    files: tuple[str, ...],
    tensor: str | None,
    layout: str,
    check: str,
    rename: bool,
    tested: bool,
    memory: int | None,
) -> None:
    """Write a snapshot, a file or a tensor back to disk, bit for bit.

    Every file is compared with its manifest's digests before it gets its name; the last line says who
    vouched for these. Nothing is overwritten: a file that is there already and right is kept. A damaged
    file is left out and named, with the tensors that are hit.
    """
    from archiver.archive.decode import Proof
    from archiver.operations.restore.run import RestoreRequest, restore
    from archiver.operations.restore.tensor import TensorRequest, restore_tensor

    if tested and (tensor or files):
        raise click.UsageError(
            "--smoke-test needs all files: it goes with neither --file nor --tensor."
        )
    if tensor and (layout != "plain" or check != "files"):
        raise click.UsageError("--tensor goes with neither --layout nor --check.")
    if rename and (tensor or tested or layout != "plain"):
        raise click.UsageError(
            "--rename goes with none of --tensor, --smoke-test and --layout hf-cache: programs look for "
            "the files under their own names."
        )
    budget = memory_budget(memory, least=1 if tested else BUDGET_MIN)
    archive = open_archive(reading=True, pack_folders=pack_folders)
    snapshot = snapshot_of(archive, reference)
    if tested:
        from archiver.operations.smoke_test import require_model

        require_model(snapshot)
    if tensor:
        tensor_request = TensorRequest(snapshot, tensor, destination, files, budget)
        restored = restore_tensor(archive, tensor_request)
        output.record("tensor", **msgspec.to_builtins(restored))
        file = restored.file
        output.line(f"{file} was there already." if restored.kept else f"Wrote {file}.")
        return
    request = RestoreRequest(
        snapshot,
        destination,
        patterns=files,
        hub_cache=layout == "hf-cache",
        rename=rename,
        proof=Proof(check),
        memory=budget,
    )
    started = time.monotonic()
    with Meter("Restoring") as meter:
        report = restore(archive, request, meter)
    _remark_selection(archive, snapshot)
    show_restored(report, snapshot, time.monotonic() - started)
    if layout == "hf-cache":
        _show_cache(report)
    if tested:
        _smoke_test(_folder(report, layout), archive, snapshot, memory)


def _remark_selection(archive: Archive, snapshot: Snapshot) -> None:
    """Remark a snapshot of more files, where chosen ones come first since their voucher is higher."""
    seal = snapshot.seal
    if not seal.selection.chosen:
        return
    held = archive.snapshots_of(seal.repository, on_damage=skip_damaged)
    unchosen = [
        other
        for other in held
        if other.seal.revision == seal.revision and not other.seal.selection.chosen
    ]
    if unchosen:
        best = archive.preferred(unchosen)
        output.remark(
            f"One without a choice is {seal.repository}@{best.id[:12]}, vouched for by "
            f"{summary(archive.vouching(best))}."
        )


def _folder(report: RestoreReport, layout: str) -> Path:
    """Return where the files lie that were restored."""
    if layout == "plain":
        return Path(report.destination)
    from archiver.upstream.hub_cache import CacheDestination

    cache = CacheDestination(Path(report.destination), report.repository, report.revision, ())
    return cache.snapshot


def _show_cache(report: RestoreReport) -> None:
    """Say how the hub's clients find what was restored, and which names do not lead to it."""
    for ref in report.refs_skipped:
        why = (
            "points at another revision already, and was left alone"
            if ref.reason == "another-revision"
            else "cannot be written: a file or folder of another name is in its place"
        )
        output.remark(f"The name {printable(ref.name)} {why}.")
    word = "" if "main" in report.refs else f", with revision={report.revision!r}"
    folder = shlex.quote(os.path.abspath(report.destination))  # noqa: PTH100 - links stay as they are
    output.line(f"Hub clients load it offline with HF_HUB_CACHE={folder} HF_HUB_OFFLINE=1{word}.")


def _smoke_test(folder: Path, archive: Archive, snapshot: Snapshot, memory: int | None) -> None:
    from archiver.cli.smoke_report import SmokeMeter, print_smoke_test, smoke_options
    from archiver.operations.smoke_test import smoke_test_restored

    options = smoke_options(memory=memory)
    with SmokeMeter() as meter:
        test = smoke_test_restored(folder, archive, snapshot, options, meter)
    print_smoke_test(test)


def show_restored(report: RestoreReport, snapshot: Snapshot, seconds: float) -> None:
    """Show what was restored, and end the command with the code that what failed asks for."""
    fields = (
        msgspec.to_builtins(report)
        | given(snapshot)
        | {
            "vouched": described(report.vouched),
            "failures": [_described_failure(failure) for failure in report.failures],
        }
    )
    output.record("restore", **fields)
    title = title_of(report.repository, report.revision)
    for file in report.renamed:
        output.line(f"  {printable(file.path)} is restored as {printable(file.name)}")
    if not report.failures:
        were = "was" if report.kept == 1 else "were"
        there = f"; {report.kept} {were} there already" if report.kept else ""
        verb = "compared" if report.kept == report.files else "restored"
        output.line(
            f"{title}: {verb} {plural(report.files, 'file')}, {human_bytes(report.bytes)}, "
            f"{human_rate(report.bytes, seconds)}{there}; every byte {_proven(report)}."
        )
        return
    output.line(f"{title}: {_counts(report)}.")
    for failure in report.failures:
        tensors = in_short(map(str, failure.tensors), _SHOWN)
        hit = f" [{tensors}]" if tensors else ""
        output.line(f"  {printable(failure.path)}: {shortened(failure.reason)}{printable(hit)}")
    for hint in sorted({failure.hint for failure in report.failures if failure.hint}):
        output.hint(hint, 2)
    output.exit_with(_code(report))


def _proven(report: RestoreReport) -> str:
    """Return what is known of every byte, the rest of a sentence."""
    if report.proof != "segments" or (report.kept and report.kept == report.files):
        return compared(report.vouched)  # what is there already is compared by its SHA-256
    of_which = "no file's SHA-256 was computed"
    if report.kept:
        of_which = (
            f"the SHA-256 was computed of the {plural(report.kept, 'file')} that "
            f"{'was' if report.kept == 1 else 'were'} there already, and of no other"
        )
    return f"is as the segments in its manifest say; {of_which}"


def _described_failure(failure: RestoreFailure) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.to_builtins(failure)
    return fields | {
        "tensors": [str(rows) for rows in failure.tensors],
        "tensor_rows": fields["tensors"],
    }


def _counts(report: RestoreReport) -> str:
    """Return how many files were restored, were there already, and could not be restored."""
    there = f", {report.kept} were there already" if report.kept else ""
    refused = f", {report.refused} of them refused" if report.refused else ""
    failed = f"{plural(len(report.failures), 'file')} could not be restored"
    return f"{plural(report.files - report.kept, 'file')} restored{there}, {failed}{refused}"


def _code(report: RestoreReport) -> int:
    """Return the exit code: damage comes first, else 3 if some files are there now, else the reason."""
    codes = {failure.exit_code for failure in report.failures}
    if int(ExitCode.DAMAGE) in codes:
        return int(ExitCode.DAMAGE)
    if report.files:
        return int(ExitCode.PARTIAL)
    return codes.pop() if len(codes) == 1 else int(ExitCode.FAILURE)
