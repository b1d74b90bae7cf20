"""``archiver verify``."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from archiver.cli import output
from archiver.cli.findings import hint_of, message_of, record_all, shortened
from archiver.cli.options import common, memory_budget, memory_option, open_archive
from archiver.cli.progress import Meter
from archiver.cli.snapshots import title_of
from archiver.errors import ExitCode, NoArchiveError, UnknownFormatError, UsageError
from archiver.text import human_bytes, plural, printable

if TYPE_CHECKING:
    from archiver.archive.findings import Finding
    from archiver.archive.signing.signatures import Trust
    from archiver.operations.verify import VerifyReport

_SHOWN_MAX = 8
"""How many faults of one file are spelled out; --json prints all."""


@click.command(epilog="Example: archiver verify ./Qwen3.5-0.8B --manifest qwen3.5-0.8b.json")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--manifest",
    "manifest",
    required=True,
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="What 'archiver manifest export' wrote, or a .json.zst of an archive.",
)
@click.option(
    "--ignore",
    multiple=True,
    metavar="PATTERN",
    help="Files that need not be listed, such as '.cache/*'; repeatable.",
)
@click.option(
    "--require-signature",
    is_flag=True,
    help="Believe the manifest only if a trusted key signed it.",
)
@click.option(
    "--signature",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="The signature; implies --require-signature. [default: the manifest's name and .minisig]",
)
@click.option(
    "--key",
    "keys",
    multiple=True,
    metavar="KEY|FILE",
    help="A public key to trust; repeatable; implies --require-signature. "
    "[default: the keys of the policy of the archive that -C names]",
)
@memory_option
@common
def command(
    folder: Path,
    manifest: Path,
    ignore: tuple[str, ...],
    require_signature: bool,
    signature: Path | None,
    keys: tuple[str, ...],
    memory: int | None,
) -> None:
    """Check a plain folder against a manifest, without an archive.

    The folder must hold exactly the files that the manifest lists. Each file is read once; damage
    is named by tensor and rows. No link is followed out of the folder, except within a hub cache,
    where DIR is a snapshot. A manifest that must be signed and is not is refused before any file is
    read. Exits with 0 if all is as it should be, and with 20 otherwise.
    """
    from archiver.operations.verify import VerifyRequest, verify

    trust = _trust(keys, signature) if require_signature or signature or keys else None
    with Meter("Verifying") as meter:
        report = verify(
            VerifyRequest(folder, manifest, ignore, trust, memory_budget(memory)), meter
        )
    record_all(report.findings)
    described = msgspec.to_builtins(report) | {"findings": len(report.findings)}
    output.record("verify", intact=report.intact, **described)
    output.line(_verdict(report))
    for path, findings in groupby(report.findings, key=lambda finding: finding.path):
        _print_findings(path, list(findings))
    if report.command:
        output.line("To mend it, remove what is damaged, then restore it from an archive:")
        output.line(f"  {printable(report.command, 4000)}")
    if not report.intact:
        output.exit_with(ExitCode.DAMAGE)


def _trust(keys: tuple[str, ...], signature: Path | None) -> Trust:
    """Return the keys that are named, or else those that the archive's policy trusts."""
    from archiver.archive.signing.keys import public_keys
    from archiver.archive.signing.signatures import Trust

    trusted = public_keys(keys or _policy_keys())
    if not trusted:
        raise UsageError(
            "No key is trusted: the archive's policy names none.", hint="Name one with --key."
        )
    return Trust(trusted, signature)


def _policy_keys() -> tuple[str, ...]:
    try:
        return open_archive().policy().keys
    except UnknownFormatError:
        raise
    except NoArchiveError as error:
        raise NoArchiveError(
            f"No key is trusted: none was named, and no policy names one. {error.message}",
            hint="Name a public key with --key, or with -C an archive whose policy trusts one.",
        ) from error


def _verdict(report: VerifyReport) -> str:
    if not report.manifest:
        return "DAMAGED: the manifest cannot be used, so nothing was checked."
    size = f"{plural(report.files, 'file')}, {human_bytes(report.bytes)}"
    title = title_of(report.repository, report.revision)
    title = printable(f"{title} (manifest {report.manifest[:16]}: {size})")
    if report.intact:
        signed = f" The key {report.signer} signed it." if report.signer else ""
        return f"Intact: every byte is as {title} says.{signed}"
    bad = len({finding.path for finding in report.findings if not finding.remark})
    return f"DAMAGED: {plural(bad, 'path')} not as {title} says."


def _print_findings(path: str, findings: list[Finding]) -> None:
    output.line(f"  {printable(path or 'the manifest', 1024)}")
    for finding in findings[:_SHOWN_MAX]:
        output.line(f"    {finding.code}: {printable(shortened(message_of(finding)), 2000)}")
    if len(findings) > _SHOWN_MAX:
        output.line(f"    … and {len(findings) - _SHOWN_MAX:,} more; --json prints all.")
    for hint in sorted({hint for finding in findings if (hint := hint_of(finding))}):
        output.line(f"    → {printable(hint, 2000)}")
