"""``archiver manifest``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
import msgspec

from archiver.cli import output
from archiver.cli.options import common, open_archive, unlocked, unswallowed
from archiver.cli.snapshots import (
    facts,
    given,
    print_files,
    print_tensors,
    snapshot_of,
    source_facts,
)
from archiver.errors import UsageError
from archiver.text import human_bytes, in_short, plural, printable

if TYPE_CHECKING:
    from archiver.archive.archive import Archive
    from archiver.archive.records import Manifest
    from archiver.archive.seals import Snapshot

_NAMED: Final = 8
"""Files that are named; --json names them all."""


@click.group(epilog="Example: archiver manifest export -C weights Qwen/Qwen3.5-0.8B -o qwen.json")
def command() -> None:
    """Export or show manifests: what the files of a revision are."""


@command.command(epilog="Example: archiver manifest export -C weights Qwen/Qwen3.5-0.8B | b3sum")
@click.argument("reference", metavar="REPO[@REVISION]")
@click.option(
    "-o",
    "--output",
    "target",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="A new file. [default: stdout]",
)
@click.option("--pretty", is_flag=True, help="Indented, for people to read.")
@click.option(
    "--model-signing",
    "key",
    metavar="KEY",
    type=click.Path(path_type=Path),
    help="Not the manifest, but a signature by this EC key (PEM) that 'model_signing verify key' takes.",
)
@common
def export(reference: str, target: Path | None, pretty: bool, key: Path | None) -> None:
    """Write the manifest of a snapshot, as canonical JSON.

    Its BLAKE3 is then the digest that the seal names. 'archiver verify' takes either form. Signatures
    that the archive has of it are written beside FILE, as FILE.minisig, unless it is made pretty.
    """
    from archiver.operations.export import export_manifest, manifest_file

    if pretty and key:
        raise UsageError("--pretty and --model-signing exclude each other.")
    archive = open_archive()
    snapshot = snapshot_of(archive, reference)
    if key:
        _export_signature(archive, snapshot, target, key)
        return
    if target is None:
        output.write_data(manifest_file(archive, snapshot, readable=pretty)[0])
        return
    report = export_manifest(archive, snapshot, target, readable=pretty)
    output.record("manifest", **msgspec.to_builtins(report) | given(snapshot))
    output.line(f"Wrote {target}: {snapshot.title}, manifest {report.blake3}.")
    for signature in report.signatures:
        output.line(f"Wrote {signature}: its signature.")


def _export_signature(archive: Archive, snapshot: Snapshot, target: Path | None, key: Path) -> None:
    """Write a signature of the files that the manifest lists, not of the manifest itself."""
    from archiver.archive.signing.model_signing import read_ec_key
    from archiver.operations.export import export_model_signature, model_signature

    secret = unlocked(read_ec_key(key), key)
    if target is None:
        output.write_data(model_signature(archive, snapshot, secret)[0])
        return
    report = export_model_signature(archive, snapshot, secret, target)
    output.record("model-signing", **msgspec.to_builtins(report))
    output.line(f"Wrote {target}: it signs {plural(report.files, 'file')} of {snapshot.title}.")
    if report.left_out:
        names = in_short(map(printable, report.left_out), _NAMED)
        output.line(f"Left out, as the tool does by itself: {names}.")


@command.command(epilog="Example: archiver manifest show qwen.json --tensors '*embed*'")
@click.argument("what", metavar="FILE|REPO[@REVISION]", required=False)
@click.option(
    "--tensors",
    metavar="[PATTERN]",
    is_flag=False,
    flag_value="*",
    help="Also list the tensors whose names fit; without PATTERN all.",
)
@common
def show(what: str | None, tensors: str | None) -> None:
    """Show the manifest in a file, or of a snapshot. A file of that name comes first."""
    from archiver.operations.show import matching_tensors

    what, tensors = unswallowed(what, tensors, "*")
    manifest, digest = _load(what)
    size = sum(entry.size for entry in manifest.files)
    source = manifest.source
    output.record(
        "manifest",
        blake3=digest,
        source=msgspec.to_builtins(source),
        files=len(manifest.files),
        bytes=size,
    )
    holds = f"{plural(len(manifest.files), 'file')}, {human_bytes(size)}"
    facts([*source_facts(source), ("lists", holds), ("manifest", digest)])
    output.line()
    print_files(manifest.files)
    if tensors:
        output.line()
        print_tensors(matching_tensors(manifest, tensors))


def _load(what: str) -> tuple[Manifest, str]:
    """Return the manifest, and the BLAKE3 of its canonical JSON."""
    from archiver.archive.manifests import NoManifestError, read_manifest_file

    if Path(what).is_file():
        try:
            return read_manifest_file(Path(what))
        except NoManifestError as error:
            raise UsageError(error.message, hint="Name another file, or REPO@REVISION.") from None
    archive = open_archive()
    seal = snapshot_of(archive, what).seal
    return archive.manifest(seal), seal.manifest.blake3
