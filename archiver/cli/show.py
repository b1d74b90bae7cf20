"""``archiver show``."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec

from archiver.cli import output
from archiver.cli.options import common, open_archive, unswallowed
from archiver.cli.snapshots import (
    described,
    facts,
    identity,
    print_files,
    print_tensors,
    snapshot_of,
    source_facts,
    summary,
)
from archiver.smoke.report import LEVELS
from archiver.text import human_bytes, in_short, plural, printable

if TYPE_CHECKING:
    from archiver.archive.records import Selection, Totals
    from archiver.operations.show import FileMetadata, LastTest, SnapshotFacts
    from archiver.tensors.gguf import MetadataValue

_LONGEST: Final = 500
_SHOWN_MAX: Final = 8
"""Files that are named; --json names them all."""
_KEY_MAX: Final = 100
_VALUE_MAX: Final = 200
_ELEMENT_MAX: Final = 40
_LIBRARIES: Final = ("torch", "transformers")


@click.command(
    epilog="Example: archiver show -C weights Qwen/Qwen3.5-0.8B --tensors 'model.layers.0.*'"
)
@click.argument("reference", metavar="REPO[@REVISION]", required=False)
@click.option("--files", is_flag=True, help="Also list every file, with its digests.")
@click.option(
    "--tensors",
    metavar="[PATTERN]",
    is_flag=False,
    flag_value="*",
    help="Also list the tensors whose names fit; without PATTERN all.",
)
@click.option(
    "--metadata", is_flag=True, help="Also list what the headers of GGUF files say of the model."
)
@common
def command(reference: str | None, files: bool, tensors: str | None, metadata: bool) -> None:
    """Show one snapshot: source, files, tensors.

    REVISION may be the beginning of a commit; without one, the snapshot is shown that 'archiver list'
    marks with a star.
    """
    from archiver.archive.vouching import vouches_of
    from archiver.operations.show import gguf_metadata, matching_tensors, show

    reference, tensors = unswallowed(reference, tensors, "*")
    archive = open_archive(reading=True)
    snapshot = snapshot_of(archive, reference)
    shown, manifest = show(archive, snapshot)
    fields = msgspec.to_builtins(shown) | {"vouched": described(shown.vouched)}
    output.record(
        "snapshot", **identity(snapshot.seal.repository), **fields, ratio=round(shown.ratio, 4)
    )
    facts(source_facts(shown.source) + _seal_facts(shown))
    if files:
        output.line()
        print_files(manifest.files, vouches_of(snapshot.seal, manifest.source, manifest.files))
    if tensors:
        output.line()
        print_tensors(matching_tensors(manifest, tensors))
    if metadata:
        for file in gguf_metadata(archive, snapshot, manifest):
            _print_metadata(file)


def _print_metadata(file: FileMetadata) -> None:
    output.record(
        "gguf",
        path=file.path,
        metadata=[_described(value) for value in file.metadata],
        left_out=file.left_out,
    )
    output.line()
    output.line(printable(file.path))
    facts([(printable(value.key, _KEY_MAX), _in_words(value)) for value in file.metadata])
    if file.left_out:
        output.line(f"and {plural(file.left_out, 'key')} more.")


def _described(value: MetadataValue) -> dict[str, Any]:
    """Return a value for JSON; what is no number there, such as infinity, is a text."""
    several = isinstance(value.value, tuple)
    numbers = value.value if isinstance(value.value, tuple) else (value.value,)
    finite = [
        str(number) if isinstance(number, float) and not isfinite(number) else number
        for number in numbers
    ]
    fields = {"key": value.key, "type": value.type, "value": finite if several else finite[0]}
    return (
        fields
        | ({"elements": value.elements} if several else {})
        | ({"cut": True} if value.cut else {})
    )


def _in_words(value: MetadataValue) -> str:
    if not isinstance(value.value, tuple):
        text = _in_short(value.value, _VALUE_MAX)
        return f"{text} ({value.type})" if value.type != "string" else text or '""'
    first = "".join(f"{_in_short(element, _ELEMENT_MAX)}, " for element in value.value)
    more = "…" if value.elements > len(value.value) else ""
    return f"{value.elements:,} of {value.type}: {first}{more}".removesuffix(", ")


def _in_short(value: object, most: int) -> str:
    text = str(value)
    return text if len(text) <= most else f"{text[:most]}…"


def _seal_facts(shown: SnapshotFacts) -> list[tuple[str, str]]:
    stored = f"{human_bytes(shown.totals.stored)}, ratio {shown.ratio:.3f}"
    packs = f"{plural(shown.packs, 'pack')}, {human_bytes(shown.pack_bytes)}"
    some_unvouched = len(shown.unvouched) < shown.totals.files
    return [
        ("holds", _holds(shown.totals)),
        ("stored", f"{stored}, in {packs}"),
        ("selection", _selection(shown.selection)),
        ("vouched by", summary(shown.vouched)),
        ("unvouched", in_short(shown.unvouched, _SHOWN_MAX) if some_unvouched else ""),
        ("manifest", shown.manifest),
        ("seal", shown.snapshot),
        ("parent", shown.parent or "none"),
        ("sealed", f"{shown.sealed} by {shown.tool}" if shown.snapshot else "without a seal"),
        ("smoke test", _last_test(shown.smoke_test)),
    ]


def _last_test(test: LastTest | None) -> str:
    if test is None:
        return "never"
    levels = [f"{level} {test.levels[level]}" for level in LEVELS if level in test.levels]
    versions = ", ".join(
        f"{library} {test.versions[library]}" for library in _LIBRARIES if library in test.versions
    )
    accepted = f"; accepted by the policy: {', '.join(test.accepted)}" if test.accepted else ""
    ended = printable(", ".join(levels) + accepted, _LONGEST)
    made = ", of a restored folder" if test.read == "folder" else ""
    with_ = printable(versions) or "no versions"
    return f"{test.time}, {with_}, event {test.event[:16]}{made}: {ended}"


def _holds(totals: Totals) -> str:
    counts = (plural(totals.files, "file"), plural(totals.tensors, "tensor"))
    return f"{', '.join(counts)}, {human_bytes(totals.bytes)} in {plural(totals.objects, 'object')}"


def _selection(selection: Selection) -> str:
    parts = [f"--include {pattern}" for pattern in selection.include]
    parts += [f"--exclude {pattern}" for pattern in selection.exclude]
    if not selection.known:
        parts.append("unknown: no record listed the files of the revision")
    return " ".join(parts) or "every file"
