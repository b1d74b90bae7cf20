"""How snapshots and manifests are shown: who vouched for the files, their source, files and tensors.

Whoever vouched decides what a check of the bytes proves. Upstream's text is escaped.
"""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING, Any, Final

import msgspec

from archiver.archive.findings import Finding
from archiver.archive.layout import document_of
from archiver.archive.vouching import Voucher
from archiver.cli import output
from archiver.cli.findings import described as described_finding
from archiver.cli.options import split_reference
from archiver.errors import ExitCode
from archiver.names import RepositoryName
from archiver.text import human_bytes, plural, printable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from archiver.archive.archive import Archive
    from archiver.archive.records import FileEntry, Source
    from archiver.archive.seals import Snapshot
    from archiver.archive.vouching import Vouch, Vouching
    from archiver.errors import DamageError
    from archiver.operations.show import ShownTensor

_VOUCHERS: Final = {
    Voucher.UPSTREAM: "upstream",
    Voucher.PIN: "a pin",
    Voucher.CACHE: "a cache's own record",
    Voucher.NOBODY: "nobody",
}
_CARD = ("pipeline_tag", "library_name", "base_model", "language", "datasets", "tags")
"""What of a model card is worth a line; --json prints all of it."""
_CARD_MAX = 100


def title_of(repository: str, revision: str) -> str:
    """Return a snapshot's name for people, with the beginning of its commit or of its seal's id."""
    return f"{repository}@{revision[:12]}".rstrip("@")


def identity(repository: str) -> dict[str, str]:
    """Return, for JSON, a repository's spelling, and the hub and type in it."""
    name = RepositoryName.parse(repository)
    return {"repository": repository, "hub": name.hub, "type": name.type}


def given(snapshot: Snapshot) -> dict[str, Any]:
    """Return, for JSON, which snapshot a reader was given: revision, selection, whether it has a seal."""
    return {
        "revision": snapshot.seal.revision,
        "selection": msgspec.to_builtins(snapshot.seal.selection),
        "sealed": snapshot.sealed,
    }


def snapshot_of(archive: Archive, reference: str) -> Snapshot:
    """Return the snapshot that REPO[@REVISION] means, as every reader does; remark what it is not.

    A seal that was perhaps meant, and that only a newer version can read, is a finding. Where it may hold
    what the snapshot does not, the command ends with 3 at best.
    """
    newer: dict[str, DamageError] = {}
    snapshot = archive.find(*split_reference(reference), newer.__setitem__)
    remark_given(snapshot)
    for name, error in newer.items():
        document = document_of(name)
        same = document is not None and document.revision == snapshot.seal.revision
        _passed_over(name, error, snapshot, lesser=not (same and snapshot.seal.selection.whole))
    return snapshot


def _passed_over(name: str, error: DamageError, snapshot: Snapshot, *, lesser: bool) -> None:
    """Say which seal was passed over; ``lesser``: the snapshot may not hold all that this one does."""
    finding = described_finding(Finding("not-understood", error.message, name))
    output.record("finding", **finding | {"remark": not lesser})
    instead = (
        f"{snapshot.title} is given instead." if lesser else f"{snapshot.title} has all files."
    )
    output.remark(f"passed over: {error.message} {instead}")
    if lesser:
        output.fall_short(ExitCode.PARTIAL)


def remark_given(snapshot: Snapshot) -> None:
    """Remark a snapshot that may not be all of its revision, or that has no seal."""
    selection, title = snapshot.seal.selection, snapshot.title
    if not snapshot.sealed:
        held = "Perhaps not all files of the revision are held. "
        if selection.known:
            held = "Only chosen files of the revision are held. " if selection.chosen else ""
        output.remark(
            f"note: {title} is read without a seal, by its manifest alone: the seal is lost. {held}"
            "'archiver repair' makes a new seal."
        )
    elif selection.chosen:
        output.remark(f"note: only chosen files of {title} are held.")
    elif not selection.known:
        output.remark(f"note: perhaps not all files of {title} are held.")


def described(vouching: Vouching | None) -> dict[str, Any] | None:
    """Return, for JSON, how many files each voucher stands for, and the least; None if it is not known."""
    if vouching is None:
        return None
    counts: dict[str, Any] = msgspec.to_builtins(vouching)
    return counts | {"least": vouching.least.word}


def summary(vouching: Vouching | None) -> str:
    """Return who vouched for how many files, for people."""
    if vouching is None:
        return "not known: the manifest that tells it is not whole"
    sha1 = f" ({vouching.git_sha1:,} of them by a git SHA-1)" if vouching.git_sha1 else ""
    if vouching.nobody == vouching.files and vouching.files:
        return "nobody: no digest came with any file"
    return f"{_counts(vouching)}{sha1}"


def compared(vouching: Vouching | None) -> str:
    """Return what bytes that agree with their manifest were compared with, in the end.

    The rest of a sentence that begins "every byte": only what upstream gave is upstream's digest.
    """
    if vouching is None:
        return "is as its manifest says; who vouched for that is not known"
    if vouching.least is Voucher.UPSTREAM:
        return "checked against upstream's digests"
    if vouching.nobody == vouching.files:
        return "is as it was taken in, and nobody had vouched for it then"
    return f"is as its manifest says; for that vouched {_counts(vouching)}"


def _counts(vouching: Vouching) -> str:
    counts = [(_VOUCHERS[who], getattr(vouching, who.word)) for who in reversed(Voucher)]
    some = [(name, count) for name, count in counts if count]
    if len(some) == 1:
        ((name, count),) = some
        return f"{name} for all {plural(count, 'file')}"
    return ", ".join(f"{name} for {plural(count, 'file')}" for name, count in some)


def facts(rows: Iterable[tuple[str, str]]) -> None:
    """Print names and values in two columns; rows without a value are left out."""
    filled = [(name, value) for name, value in rows if value]
    width = max((len(name) for name, _ in filled), default=0)
    for name, value in filled:
        output.line(f"{name.ljust(width)}  {printable(value, 1000)}")


def source_facts(source: Source) -> list[tuple[str, str]]:
    """Return what upstream says of a revision."""
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
    """Print the files with sizes and digests; for each who vouched for it, as far as that is given."""
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
    """Print the tensors with what they are and where they lie."""
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
