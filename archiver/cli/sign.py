"""``archiver sign``."""

from __future__ import annotations

from pathlib import Path

import click

from archiver.cli import output
from archiver.cli.findings import record_report, show_all
from archiver.cli.options import common, open_archive, split_reference, unlocked
from archiver.errors import ExitCode
from archiver.text import plural


@click.command(epilog="Example: archiver sign -C weights --key ~/keys/archive.key")
@click.argument("references", metavar="[REPO[@REVISION]]...", nargs=-1)
@click.option(
    "--key",
    "file",
    required=True,
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="The secret key: what 'archiver keys new' or minisign made.",
)
@common
def command(references: tuple[str, ...], file: Path) -> None:
    """Sign every snapshot, and the newest events of the journal.

    A snapshot's seal and its manifest are signed, unless they are damaged or this key has signed them
    already. A signature of the journal's head vouches for everything that was sealed here before.
    """
    from archiver.archive.signing.keys import read_secret_key
    from archiver.operations.sign import SignRequest, sign

    archive = open_archive()
    key = unlocked(read_secret_key(file), file)
    report = sign(archive, SignRequest(key, tuple(map(split_reference, references))))
    record_report("sign", report)
    output.line(
        f"Signed {plural(report.signed, 'document')} and "
        f"{plural(len(report.heads), 'head')} of the journal with the key {report.key}; "
        f"{plural(report.kept, 'document')} had a signature by it."
    )
    show_all(report.findings)
    if report.findings:
        output.exit_with(ExitCode.DAMAGE)
