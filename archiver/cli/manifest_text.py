"""How a manifest is shown: its source, its files and its tensors. Upstream's text is escaped."""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import msgspec

from archiver.cli import output
from archiver.text import human_bytes, printable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from archiver.archive.records import FileEntry, Source
    from archiver.archive.vouching import Vouch
    from archiver.operations.show import ShownTensor

_CARD = ("pipeline_tag", "library_name", "base_model", "language", "datasets", "tags")
"""What of a model card is worth a line; --json prints all of it."""
_CARD_MAX = 100


def facts(rows: Iterable[tuple[str, str]]) -> None:
    """Names and values in two columns; rows without a value are left out."""
    told = [(name, value) for name, value in rows if value]
    width = max((len(name) for name, _ in told), default=0)
    for name, value in told:
        output.line(f"{name.ljust(width)}  {printable(value, 1000)}")


def source_facts(source: Source) -> list[tuple[str, str]]:
    """What upstream says of a revision."""
    return [
        ("repository", source.repository),
        ("revision", source.revision),
        ("upstream", " ".join(filter(None, [source.upstream, source.endpoint]))),
        ("upstream id", source.id),
        ("committed", source.committed),
        ("licence", source.licence),
        *((f"card {key}", _in_short(source.card[key])) for key in _CARD if key in source.card),
    ]


def _in_short(value: Any) -> str:
    items = value if isinstance(value, list) else [value]
    text = ", ".join(str(item) for item in items[:_CARD_MAX])
    return text if len(text) <= _CARD_MAX else text[:_CARD_MAX] + "…"


def print_files(files: Iterable[FileEntry], vouches: Iterable[Vouch] = ()) -> None:
    """The files with their sizes and digests; for each who vouched for it, as far as that is given."""
    rows = []
    for entry, vouch in zip_longest(files, vouches):
        described = msgspec.to_builtins(entry)
        if vouch is not None:
            described |= {"vouched_by": vouch.by.word, "vouched_digest": vouch.digest}
        described["segments"] = len(entry.segments)
        described["tensors"] = len(described.get("tensors", ()))
        output.record("file", **described)
        by = () if vouch is None else (f"{vouch.by.word} {vouch.digest}".strip(),)
        rows.append((entry.path, human_bytes(entry.size), entry.sha256, entry.blake3, *by))
    if not output.wants_json():
        head = ("FILE", "SIZE", "SHA-256", "BLAKE3", "VOUCHED BY")
        output.table(head[: len(rows[0])] if rows else head[:4], rows, right=(1,))


def print_tensors(tensors: Iterable[ShownTensor]) -> None:
    """The tensors with what they are and where they lie."""
    rows = []
    for tensor in tensors:
        output.record("tensor", **msgspec.to_builtins(tensor))
        if not output.wants_json():
            shape, size = str(list(tensor.shape)), human_bytes(tensor.bytes)
            count = str(len(tensor.segments))
            rows.append((tensor.name, tensor.dtype, shape, size, count, tensor.path))
    if not output.wants_json():
        head = ("TENSOR", "DTYPE", "SHAPE", "BYTES", "SEGMENTS", "FILE")
        output.table(head, rows, right=(3, 4))
