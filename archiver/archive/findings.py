"""Findings: what a check found, as records with stable codes."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from archiver.archive.advice import Actions

Code = Literal[
    # of audit: the archive
    "archive-json-missing",
    "archive-json-damaged",
    "seal-missing",
    "seal-damaged",
    "manifest-missing",
    "manifest-damaged",
    "manifest-invalid",
    "pack-missing",
    "pack-size",
    "pack-damaged",
    "index-damaged",
    "object-damaged",
    "object-missing",
    "file-differs",
    "seals-contradict",
    "event-damaged",
    "event-missing",
    "head-missing",
    "head-elsewhere",
    "parity-damaged",
    "signature-damaged",
    "signature-missing",
    "carried-missing",
    "read-unstable",
    "not-understood",
    # of audit: remarks
    "carried-differs",
    "foreign-document",
    "path-unportable",
    "seal-outranked",
    "unsealed-manifest",
    "unsealed-pack",
    "unneeded-parity",
    "unneeded-signature",
    "catalogue-damaged",
    "event-malformed",
    "place-damaged",
    "unknown-file",
    # of audit, and of verify
    "file-unreadable",
    # of verify: a folder
    "file-missing",
    "file-extra",
    "file-unfinished",
    "file-size",
    "file-damaged",
    "path-hostile",
    "link-escapes",
    # of verify: remarks
    "index-incomplete",
    "not-weights",
    # of smoke-test: a model
    "model-unreadable",
    "model-index",
    "model-config",
    "model-tensor-missing",
    "model-tensor-shape",
    "model-tensor-dtype",
    "model-scale",
    "model-mtp",
    "model-tokenizer",
    "model-special-token",
    "model-chat-template",
    "model-load",
    "model-output",
    "model-generate",
    "model-golden",
    # of smoke-test: remarks
    "model-tensor-unused",
    "model-tensor-zero",
    "model-not-tried",
]
"""Every code there is; ``docs/findings.md`` explains each one."""

REMARKS: Final = frozenset[Code](
    {
        "index-incomplete",
        "not-weights",
        "carried-differs",
        "foreign-document",
        "path-unportable",
        "seal-outranked",
        "unsealed-manifest",
        "unsealed-pack",
        "unneeded-parity",
        "unneeded-signature",
        "catalogue-damaged",
        "event-malformed",
        "place-damaged",
        "unknown-file",
        "file-unfinished",
        "model-tensor-unused",
        "model-tensor-zero",
        "model-not-tried",
    }
)
"""The codes that are worth a line but are no damage."""


FILES: Final = frozenset[Code](
    {
        "archive-json-missing",
        "archive-json-damaged",
        "seal-missing",
        "seal-damaged",
        "manifest-missing",
        "manifest-damaged",
        "manifest-invalid",
        "event-damaged",
        "parity-damaged",
        "signature-damaged",
        "carried-missing",
    }
)
"""The codes of an audit whose ``path`` is a stored file, no pack, that is damaged or gone."""

ACCEPTABLE: Final = frozenset[Code](
    {
        "model-unreadable",
        "model-index",
        "model-tensor-missing",
        "model-tensor-shape",
        "model-tensor-dtype",
        "model-scale",
        "model-mtp",
        "model-tokenizer",
        "model-special-token",
        "model-chat-template",
    }
)
"""The codes that a policy may accept: of what upstream published, and after which a test can go on."""

UNKNOWN: Final = frozenset[Code]({"file-unreadable", "not-understood", "head-elsewhere"})
"""The codes of what could not be checked: whether it is damaged is not known."""


class TensorRows(msgspec.Struct, frozen=True):
    """Rows (indices of dimension 0, both included) of a tensor; None for both if it has none."""

    name: str
    first: int | None = None
    last: int | None = None

    def __str__(self) -> str:
        if self.first is None:
            return self.name
        rows = f"row {self.first}" if self.first == self.last else f"rows {self.first}..{self.last}"
        return f"{self.name} {rows}"


class Finding(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a check found. What a program needs to know is a field; the message is for people.

    Attributes:
        code: What kind of thing; stable, so that scripts may rely on it.
        message: What happened, as one sentence.
        path: The file that it is about, of the archive or of a model, or ``""``.
        tensor: The tensor of a model that a smoke test is about, or ``""``.
        object: The BLAKE3 of the segment, or the id of the event, that should be there, or ``""``.
        hint: What to do next where no action says it, as of a model; or ``""``.
        pack: The BLAKE3 of the pack, or ``""``.
        packs: Those of all packs that it is about, where so many are gone that they are one finding.
        snapshots: ``Org/Name@revision`` of each snapshot that is hit.
        files: The files that it is about, where those are others than ``path``.
        tensors: The tensors that are hit, and which of their rows.
        actions: What to do next, in this order.
        whole_in: Where every object of a pack that is wrong was seen whole, so that nothing is lost;
            ``""`` if something is, or if that is not known.
        set_aside: Where a file that is missing lies since it was set aside, or ``""``.
        accepted: Whether the archive's policy accepts it of this snapshot.
        copied_from: Where a copy took the file from in its place, ``packs`` of its snapshot; or ``""``.
    """

    code: Code
    message: str
    path: str = ""
    tensor: str = ""
    object: str = ""
    hint: str = ""
    pack: str = ""
    packs: tuple[str, ...] = ()
    snapshots: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    tensors: tuple[TensorRows, ...] = ()
    actions: Actions = ()
    whole_in: Literal["", "this-pack", "other-packs"] = ""
    set_aside: str = ""
    accepted: bool = False
    copied_from: Literal["", "packs"] = ""

    @property
    def remark(self) -> bool:
        """Whether this is no damage, or none that the owner minds."""
        return self.accepted or self.code in REMARKS
