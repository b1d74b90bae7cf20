"""What a restore tells."""

from __future__ import annotations

import msgspec

from archiver.archive.finding import TensorRows
from archiver.archive.vouching import Vouching
from archiver.upstream.hub_cache import RefSkipped


class RestoreFailure(msgspec.Struct, frozen=True):
    """A file that could not be restored.

    Attributes:
        path: The file.
        reason: Why, for people.
        hint: What to do next, for people.
        exit_code: What it would end a run with that restores nothing else.
        tensors: The tensors that are damaged, and which of their rows, as far as that is known.
        object: The BLAKE3 of the object that could not be read, or ``""``.
        pack: The id of the pack that it was read from, or ``""``.
    """

    path: str
    reason: str
    hint: str
    exit_code: int
    tensors: tuple[TensorRows, ...] = ()
    object: str = ""
    pack: str = ""


class RestoreReport(msgspec.Struct, frozen=True):
    """What was restored; sizes in bytes.

    ``files`` are right now; ``kept`` of them were there already. ``refused`` of the failures are
    files that are there with other content. ``refs`` are the names (``main``, …)
    of a hub cache that point at the revision now, ``refs_skipped`` those that should and do not.
    ``vouched`` says whose digests stand behind the files that were asked for.
    """

    repository: str
    revision: str
    snapshot: str
    destination: str
    files: int
    bytes: int
    kept: int
    refused: int = 0
    failures: tuple[RestoreFailure, ...] = ()
    refs: tuple[str, ...] = ()
    refs_skipped: tuple[RefSkipped, ...] = ()
    vouched: Vouching = Vouching()


class RestoredTensor(msgspec.Struct, frozen=True):
    """Where a tensor is; ``kept`` if it was there already and right."""

    tensor: str
    file: str
    kept: bool
