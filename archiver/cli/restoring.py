"""What ``restore`` and ``bundle restore`` have in common: options, one run, and how its outcome is told."""

from __future__ import annotations

import functools
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import click
import msgspec

from archiver.cli import output
from archiver.cli.findings import shortened
from archiver.cli.progress import Meter
from archiver.cli.snapshots import compared, described, given, title_of
from archiver.errors import DamageError, ExitCode
from archiver.text import human_bytes, human_rate, in_short, plural, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from archiver.archive.archive import Archive
    from archiver.archive.seals import Snapshot
    from archiver.cli.options import Function
    from archiver.memory import MemoryBudget
    from archiver.operations.bundle.reading import Carrier
    from archiver.operations.restore.dry_run import RestorePlan
    from archiver.operations.restore.report import RestoreFailure, RestoreReport
    from archiver.progress import Progress

_SHOWN: Final = 8
"""Damaged tensors that are named for each file; --json names them all."""
PLAIN: Final = "plain"
CACHE: Final = "hf-cache"
TAR: Final = "tar"
_STDOUT: Final = Path("-")


class RestoreOptions(NamedTuple):
    """What was asked for, in words that go together."""

    destination: Path
    files: tuple[str, ...]
    tensor: str | None
    layout: str
    check: str
    rename: bool
    overwrite: bool
    stop_on_damage: bool
    dry_run: bool
    memory: int | None

    def require_sense(self) -> None:
        """Raise UsageError where one option takes the sense from another."""
        if self.tensor and (self.layout != PLAIN or self.check != "files"):
            raise click.UsageError("--tensor goes with neither --layout nor --check.")
        if self.rename and (self.tensor or self.layout != PLAIN):
            raise click.UsageError(
                "--rename goes with none of --tensor, --smoke-test and --layout: programs look for the "
                "files under their own names, and a tar holds any name."
            )
        if self.overwrite and self.layout == TAR:
            raise click.UsageError(
                "--overwrite does not go with --layout tar: nothing is there already."
            )
        if (self.layout == TAR) != (self.destination == _STDOUT):
            raise click.UsageError(
                "A tar goes to stdout: --layout tar and - for DEST go together. A folder called - is ./-"
            )


def restore_options(function: Function) -> Function:
    """Add DEST and the options of a restore; the command gets them, and its --memory, as ``options``."""

    @click.argument("destination", metavar="DEST", type=click.Path(path_type=Path))
    @click.option(
        "--file", "files", multiple=True, metavar="PATTERN", help="Only files that fit; repeatable."
    )
    @click.option(
        "--tensor", metavar="NAME", help="One tensor, as a safetensors or GGUF file of its own."
    )
    @click.option(
        "--layout",
        type=click.Choice([PLAIN, CACHE, TAR]),
        default=PLAIN,
        show_default=True,
        help="A plain folder; a cache that hub clients load offline; or, where DEST is -, one tar on "
        "stdout.",
    )
    @click.option(
        "--check",
        type=click.Choice(["files", "segments"]),
        default="files",
        show_default=True,
        help="What is compared. segments: each segment's BLAKE3; files: also the SHA-256 of the whole "
        "file.",
    )
    @click.option(
        "--rename",
        is_flag=True,
        help="Restore a file whose name this disk cannot hold under another one, and say which.",
    )
    @click.option(
        "--overwrite",
        is_flag=True,
        help="Replace files that are there and differ, each once the new one is proven. [default: they "
        "are refused]",
    )
    @click.option(
        "--stop-on-damage",
        is_flag=True,
        help="End at the first file that is damaged. [default: leave it out and go on]",
    )
    @click.option(
        "-n",
        "--dry-run",
        is_flag=True,
        help="Only say which packs are needed, how large they are, and whether they are there.",
    )
    @functools.wraps(function)
    def wrapped(**words: Any) -> Any:
        own = {name: words.pop(name) for name in RestoreOptions._fields}
        return function(options=RestoreOptions(**own), **words)

    return wrapped  # type: ignore[return-value] # click's decorators change the type; the name stays


class Restoring(NamedTuple):
    """One restore from an archive; ``mend`` may give another one, from which what is damaged is whole."""

    archive: Archive
    snapshot: Snapshot
    options: RestoreOptions
    budget: MemoryBudget
    mend: Callable[[Progress], Archive | None] | None = None

    def plan(self) -> RestorePlan:
        """Return what the restore would need."""
        from archiver.operations.restore.dry_run import PlanRequest, plan_restore

        request = PlanRequest(self.snapshot, self.options.files, self.options.tensor or "")
        return plan_restore(self.archive, request)

    def run(self) -> RestoreReport | None:
        """Restore, and return what came of it; None if it was a tensor, of which all is said."""
        if self.options.tensor:
            self._tensor()
            return None
        if self.options.layout == TAR:
            return self._tar()
        return self._files()

    def _tensor(self) -> None:
        from archiver.operations.restore.tensor import TensorRequest, restore_tensor

        options = self.options
        request = TensorRequest(
            self.snapshot,
            options.tensor or "",
            options.destination,
            options.files,
            options.overwrite,
            self.budget,
        )
        try:
            restored = restore_tensor(self.archive, request)
        except DamageError:
            with Meter("Mending") as meter:
                mended = self.mend(meter) if self.mend else None
            if mended is None:
                raise
            restored = restore_tensor(mended, request)
        output.record("tensor", **msgspec.to_builtins(restored))
        file = restored.file
        output.line(f"{file} was there already." if restored.kept else f"Wrote {file}.")

    def _tar(self) -> RestoreReport:
        from archiver.archive.decode import Proof
        from archiver.operations.restore.tar import TarRequest, restore_tar

        request = TarRequest(
            self.snapshot,
            self.options.files,
            Proof(self.options.check),
            self.options.stop_on_damage,
            self.budget,
            self.mend,
        )
        out = output.give_stdout_to_data()
        with Meter("Sending") as meter:
            return restore_tar(self.archive, request, out, meter)

    def _files(self) -> RestoreReport:
        from archiver.archive.decode import Proof
        from archiver.operations.restore.run import RestoreRequest, restore

        options = self.options
        request = RestoreRequest(
            self.snapshot,
            options.destination,
            patterns=options.files,
            hub_cache=options.layout == CACHE,
            rename=options.rename,
            overwrite=options.overwrite,
            stop_on_damage=options.stop_on_damage,
            proof=Proof(options.check),
            memory=self.budget,
        )
        with Meter("Restoring") as meter:
            report = restore(self.archive, request, meter)
            mended = self.mend(meter) if report.failures and self.mend else None
            if mended is None:
                return report
            return _as_one(report, restore(mended, request, meter))


def _as_one(first: RestoreReport, second: RestoreReport) -> RestoreReport:
    """Return the report of two runs, of which the second finds there what the first has written."""
    written = first.files - first.kept
    return msgspec.structs.replace(
        second,
        kept=second.kept - written,
        replaced=tuple(sorted({*first.replaced, *second.replaced})),
    )


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
    for path in report.replaced:
        output.line(f"  {printable(path)} had other content, and is replaced")
    if not report.failures:
        if report.destination == "-":
            output.line(
                f"{title}: sent {plural(report.files, 'file')}, {human_bytes(report.bytes)}, "
                f"{human_rate(report.bytes, seconds)}, and the end of the tar; every byte "
                f"{_proven(report)}."
            )
            return
        were = "was" if report.kept == 1 else "were"
        there = f"; {report.kept} {were} there already" if report.kept else ""
        verb = "compared" if report.kept == report.files else "restored"
        output.line(
            f"{title}: {verb} {plural(report.files, 'file')}, {human_bytes(report.bytes)}, "
            f"{human_rate(report.bytes, seconds)}{there}; every byte {_proven(report)}."
        )
        return
    output.line(f"{title}: {_counts(report)}.")
    if report.destination == "-":
        output.line("The tar is broken off, so that whoever reads it fails too.")
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
    untried = f", {report.untried} not tried" if report.untried else ""
    refused = f", {report.refused} of them refused" if report.refused else ""
    verb = "sent" if report.destination == "-" else "restored"
    failed = f"{plural(len(report.failures), 'file')} could not be {verb}"
    return f"{plural(report.files - report.kept, 'file')} {verb}{there}, {failed}{refused}{untried}"


def _code(report: RestoreReport) -> int:
    """Return the exit code: damage comes first, else 3 if some files are there now, else the reason."""
    codes = {failure.exit_code for failure in report.failures}
    if int(ExitCode.DAMAGE) in codes:
        return int(ExitCode.DAMAGE)
    if report.files:
        return int(ExitCode.PARTIAL)
    return codes.pop() if len(codes) == 1 else int(ExitCode.FAILURE)


def show_cache(report: RestoreReport) -> None:
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


def show_plan(
    plan: RestorePlan,
    snapshot: Snapshot,
    carriers: Mapping[str, Sequence[Carrier]] | None = None,
) -> None:
    """Show what a restore would need; end the command with the code of what is not there.

    ``carriers``: of each pack the volumes that have it, where it is to come from some.
    """
    volumes = sorted({each for found in (carriers or {}).values() for each in found})
    fields: dict[str, Any] = msgspec.to_builtins(plan) | given(snapshot)
    if carriers is not None:
        fields["volumes"] = [each._asdict() for each in volumes]
        for pack in fields["packs"]:
            pack["volumes"] = [each._asdict() for each in carriers.get(pack["pack"], ())]
    output.record("restore-plan", **fields)
    title = title_of(plan.repository, plan.revision)
    output.line(
        f"{title}: {plural(plan.files, 'file')}, {human_bytes(plan.bytes)}, of "
        f"{plural(len(plan.packs), 'pack')} of {human_bytes(sum(each.size for each in plan.packs))}."
    )
    for each in plan.packs:
        there = f"{plural(each.objects, 'object')} of it" if each.there else "NOT here"
        where = _volumes(carriers.get(each.pack, ())) if carriers is not None else ""
        output.line(f"  {printable(each.path)}  {human_bytes(each.size)}  {there}{where}")
    here = sorted(each for each in volumes if each.here)
    missing = sorted(each for each in volumes if not each.here)
    if here:
        output.line(f"Volumes that are needed and here: {_numbered(here)}.")
    if missing:
        output.line(f"Volumes that are needed and NOT here: {_numbered(missing)}.")
    if plan.lacking:
        files = in_short(map(printable, plan.lacking), _SHOWN)
        output.line(f"{plural(len(plan.lacking), 'file')} could not be restored: {files}.")
    output.line("No file was read, and nothing was written.")
    if missing or (carriers is not None and plan.lacking and not all(carriers.values())):
        output.exit_with(ExitCode.PARTIAL)
    if plan.lacking:
        output.exit_with(ExitCode.DAMAGE)


def _volumes(carriers: Sequence[Carrier]) -> str:
    return f"  volume {_numbered(carriers)}" if carriers else ""


def _numbered(carriers: Sequence[Carrier]) -> str:
    return ", ".join(str(each.volume) for each in carriers)
