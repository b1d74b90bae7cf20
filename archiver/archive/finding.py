"""What a check found, as a record with a stable code."""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

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

UNKNOWN: Final = frozenset[Code]({"file-unreadable", "head-elsewhere"})
"""The codes of what could not be checked: whether it is damaged is not known."""


class Finding(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing that was found.

    Attributes:
        code: What kind of thing; stable, so that scripts may rely on it.
        message: What happened, as one sentence.
        path: The file, or ``""``.
        tensor: The tensor that is hit, or ``""``.
        rows: The first and the last row of dimension 0 that may be hit, both included; None if it
            is not a tensor with rows.
        object: The BLAKE3 of the segment, or the id of the event, that should be there, or ``""``.
        hint: What to do next, or ``""``.
        snapshot: ``Org/Name@revision`` of the snapshot that is hit, or ``""``.
        pack: The BLAKE3 of the pack, or ``""``.
        tensors: The tensors and rows that are hit, where one finding stands for several.
        accepted: Whether the archive's policy accepts it of this snapshot.
    """

    code: Code
    message: str
    path: str = ""
    tensor: str = ""
    rows: tuple[int, int] | None = None
    object: str = ""
    hint: str = ""
    snapshot: str = ""
    pack: str = ""
    tensors: tuple[str, ...] = ()
    accepted: bool = False

    def described(self) -> dict[str, Any]:
        """For JSON: what every finding has is always there, the rest as far as it is known."""
        known: dict[str, Any] = msgspec.to_builtins(self)
        return known | {"hint": self.hint, "remark": self.remark}

    @property
    def remark(self) -> bool:
        """Whether this is no damage, or none that the owner minds."""
        return self.accepted or self.code in REMARKS
