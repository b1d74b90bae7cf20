"""What a restore came to: what is right now, and each file that is not."""

from __future__ import annotations

import msgspec

from archiver.archive.decode import Proof
from archiver.archive.findings import TensorRows
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


class RenamedFile(msgspec.Struct, frozen=True):
    """A file that is under another name at the destination: ``name`` is a path too."""

    path: str
    name: str


class RestoreReport(msgspec.Struct, frozen=True):
    """What was restored; sizes in bytes.

    ``files`` are right now; ``kept`` of them were there already, and those of ``replaced`` took the place
    of other content. ``refused`` of the failures are files that are there with other content; ``untried``
    are those that come after the one that ended the run. ``refs`` are the names (``main``, …)
    of a hub cache that point at the revision now, ``refs_skipped`` those that should and do not.
    ``renamed`` are those of the files that have another name here.
    ``vouched`` says whose digests stand behind the files that were asked for, and ``proof`` what was
    compared with them.
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
    renamed: tuple[RenamedFile, ...] = ()
    vouched: Vouching = Vouching()
    proof: Proof = Proof.FILES
    replaced: tuple[str, ...] = ()
    untried: int = 0
