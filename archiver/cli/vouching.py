"""How it is told who vouched for the files of a snapshot, and so what a check of its bytes proves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from archiver.archive.vouching import Voucher
from archiver.text import plural

if TYPE_CHECKING:
    from archiver.archive.vouching import Vouching

_NAMED: Final = {
    Voucher.UPSTREAM: "upstream",
    Voucher.PIN: "a pin",
    Voucher.CACHE: "a cache's own record",
    Voucher.NOBODY: "nobody",
}


def described(vouching: Vouching | None) -> dict[str, Any] | None:
    """For JSON: how many files each voucher stands for, and the least; None if it is not known."""
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
    counts = [(_NAMED[who], getattr(vouching, who.word)) for who in reversed(Voucher)]
    told = [(name, count) for name, count in counts if count]
    if len(told) == 1:
        return f"{told[0][0]} for all {plural(told[0][1], 'file')}"
    return ", ".join(f"{name} for {plural(count, 'file')}" for name, count in told)
