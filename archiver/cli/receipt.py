"""``archiver receipt``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
import msgspec

from archiver.cli import output
from archiver.cli.options import common, open_archive, split_reference, unlocked
from archiver.cli.snapshots import facts
from archiver.errors import ExitCode
from archiver.text import human_bytes, plural, printable

if TYPE_CHECKING:
    from archiver.archive.receipts import Receipt
    from archiver.operations.receipt import AcceptReport, WriteRequest, WrittenReceipt

_SHOWN: Final = 40
"""Snapshots that are named one by one; --json names them all."""


@click.group(epilog="Example: archiver receipt write -C weights -o /media/stick/receipt.json")
def command() -> None:
    """Tell home what arrived behind a gap, and count it there."""


def request_of(
    path: Path, secret: Path | None, name: str = "", references: tuple[str, ...] = ()
) -> WriteRequest:
    """Return where a receipt goes and who signs it; the key is opened before anything else is done."""
    from archiver.archive.signing.keys import read_secret_key
    from archiver.operations.receipt import WriteRequest

    key = unlocked(read_secret_key(secret), secret) if secret else None
    return WriteRequest(path, tuple(map(split_reference, references)), name, key)


@command.command(
    epilog="Example: archiver receipt write -C weights -o /media/stick/receipt.json --sign far.key"
)
@click.argument("references", metavar="[REPO[@REVISION]]...", nargs=-1)
@click.option(
    "-o",
    "--output",
    "path",
    metavar="FILE",
    type=click.Path(path_type=Path),
    default="receipt.json",
    show_default=True,
    help="The file to write; none is replaced.",
)
@click.option(
    "--sign",
    "secret",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Sign it with this secret key; the signature lies beside it.",
)
@click.option(
    "--name", default="", metavar="TEXT", help="What it calls this place. [default: host:/path]"
)
@common
def write(references: tuple[str, ...], path: Path, secret: Path | None, name: str) -> None:
    """Write what is whole here and when it was last proven, for whoever sent it.

    Carry FILE, and FILE.minisig beside it, home: 'archiver receipt accept FILE' counts this place as
    a copy there. It tells of all snapshots, or of those that are named. No pack is read: what audits
    and imports proved is told with its time.
    """
    from archiver.archive.places import as_place_name
    from archiver.operations.receipt import write as run

    if name:
        as_place_name(name)
    show_written(run(open_archive(), request_of(path, secret, name, references)))


def show_written(written: WrittenReceipt) -> None:
    """Print what a receipt says, and whether anybody signed it."""
    receipt = written.receipt
    output.record(
        "receipt-written",
        file=written.path,
        bytes=written.bytes,
        signature=written.signature,
        signer=written.signer,
        receipt=msgspec.to_builtins(receipt),
    )
    whole = plural(len(receipt.snapshots), "snapshot")
    output.line(f"Wrote {printable(written.path, 4000)}: {whole}, {human_bytes(written.bytes)}.")
    for each in receipt.troubled[:_SHOWN]:
        output.line(f"  {printable(each.title)} is told as {printable(each.trouble)}.")
    if written.signature:
        output.line(
            f"Signed by the key {written.signer}: carry {printable(written.signature, 4000)} along."
        )
    else:
        output.remark("Nobody signed it: at home it is a claim, and counts for nothing.")


@command.command(epilog="Example: archiver receipt show receipt.json")
@click.argument("path", metavar="FILE", type=click.Path(path_type=Path))
@common
def show(path: Path) -> None:
    """Show what a receipt says. No archive is needed, and nothing is believed."""
    from archiver.operations.receipt import read

    found = read(path)
    receipt = found.receipt
    signer = found.signature.key if found.signature else ""
    output.record("receipt", signer=signer, receipt=msgspec.to_builtins(receipt))
    facts(
        [
            ("receipt", receipt.id),
            ("place", f"{printable(receipt.name)} ({receipt.place})"),
            ("archive", receipt.archive),
            ("written", f"{receipt.time}, {printable(receipt.tool)}"),
            ("tells of", "chosen snapshots" if receipt.part else "all snapshots there"),
            ("signature", f"names the key {signer}; not checked" if signer else "none"),
            ("bundles", plural(len(receipt.bundles), "bundle")),
        ]
    )
    _snapshots(receipt)


def _snapshots(receipt: Receipt) -> None:
    rows = [
        (
            printable(each.title),
            f"{each.packs:,}",
            human_bytes(each.bytes),
            each.stored,
            "files" if each.files else "content" if each.content else "stored",
            each.held or "never",
        )
        for each in receipt.snapshots[:_SHOWN]
    ]
    header = ("SNAPSHOT", "PACKS", "BYTES", "PROVEN SINCE", "AT MOST", "RAN")
    output.table(header, rows, right=(1, 2))
    for each in receipt.troubled[:_SHOWN]:
        output.line(f"NOT WHOLE THERE: {printable(each.title)}: {printable(each.trouble)}.")
    if max(len(receipt.snapshots), len(receipt.troubled)) > _SHOWN:
        output.line("--json tells of all.")


@command.command(epilog="Example: archiver receipt accept -C weights /media/stick/receipt.json")
@click.argument("path", metavar="FILE", type=click.Path(path_type=Path))
@click.option(
    "--signature",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Its signature. [default: its name and .minisig, if that is there]",
)
@common
def accept(path: Path, signature: Path | None) -> None:
    """Journal a receipt that came back, and count its place as a copy if a trusted key signed it.

    Which keys are trusted the policy says ('archiver policy set --trust'). What no such key signed is
    kept as a claim: it is told, counts for nothing, and this exits with 4.
    """
    from archiver.operations.receipt import accept as run

    report = run(open_archive(), path, signature)
    output.record("receipt-accept", **msgspec.to_builtins(report))
    _show_accepted(report)
    if report.standing == "claim":
        output.exit_with(ExitCode.SKIPPED)


def _show_accepted(report: AcceptReport) -> None:
    place = f"{printable(report.name)} ({report.place})"
    if report.state == "before":
        output.remark(f"This receipt of {place} was accepted before; nothing is changed.")
    elif report.state == "older":
        output.remark(
            f"A receipt of {place} of {report.newer} was accepted before, and this one is of "
            f"{report.time}; nothing is changed."
        )
        return
    proven = f", proven there since {report.oldest}" if report.oldest else ""
    output.line(
        f"{place}, {report.time}: {plural(len(report.snapshots), 'snapshot')} of this archive{proven}."
    )
    if report.held or report.failed:
        count = plural(len(report.snapshots), "model")
        output.line(f"Smoke tests there: {report.held:,} of {count} held when last run.")
    for title in report.failed[:_SHOWN]:
        output.line(f"DID NOT RUN THERE, or did not hold: {printable(title)}.")
    for title, trouble in report.troubled[:_SHOWN]:
        output.line(f"NOT WHOLE THERE: {printable(title)}: {printable(trouble)}.")
    if report.troubled:
        output.hint("Send what is not whole there again: 'archiver bundle export'.")
    if report.unknown:
        known = f", {report.forgotten:,} of them forgotten on purpose" * bool(report.forgotten)
        output.remark(
            f"It tells of {plural(len(report.unknown), 'snapshot')} that this archive does not hold{known}"
            f": {', '.join(printable(title) for title in report.unknown[:3])}."
        )
    if report.standing == "counts":
        output.line(f"The key {report.signer} signed it, which the policy trusts: it counts.")
        return
    if report.claimed_signer:
        output.line(
            f"CLAIM: it names the key {report.claimed_signer}, which the policy does not trust."
        )
        output.hint(
            "It counts for nothing. If that is the key of whoever keeps that place, and only then: "
            "'archiver policy set --trust' with its public key, which reached you by another way."
        )
    else:
        output.line("CLAIM: nobody signed it.")
        output.hint(
            "It counts for nothing. Have it written with --sign, by a key that the policy trusts."
        )
