"""Export: a snapshot's digests as a signature that the tool ``model_signing`` verifies."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from archiver.archive.signing.model_signing import bundle, is_covered, statement
from archiver.digest import is_sha256
from archiver.errors import DamageError
from archiver.names import check_paths
from archiver.storage.new_file import write_new

if TYPE_CHECKING:
    from pathlib import Path

    from archiver.archive.archive import Archive, Snapshot
    from archiver.archive.signing.ec_key import EcKey


class SignatureReport(msgspec.Struct, frozen=True):
    """What was signed.

    ``files`` counts those that the signature covers; ``left_out`` names the others. ``file`` is where
    the signature was written to.
    """

    repository: str
    revision: str
    files: int
    left_out: tuple[str, ...]
    file: str = ""


def signed(archive: Archive, snapshot: Snapshot, key: EcKey) -> tuple[bytes, SignatureReport]:
    """The signature file of the files that a snapshot's manifest lists; none of them is read.

    Raises:
        DamageError: The manifest is missing or damaged, or gives a file no SHA-256.
        HostileNameError: It lists a file that may not be written to any folder.
    """
    seal = snapshot.seal
    files = archive.manifest(seal).files
    check_paths(entry.path for entry in files)
    without = next((entry.path for entry in files if not is_sha256(entry.sha256)), None)
    if without is not None:
        raise DamageError(f"The manifest of {snapshot.title} gives {without!r} no SHA-256.")
    left_out = tuple(entry.path for entry in files if not is_covered(entry.path))
    data = bundle(statement(f"{seal.repository}@{seal.revision}", files), key)
    return data, SignatureReport(
        seal.repository, seal.revision, len(files) - len(left_out), left_out
    )


def write(archive: Archive, snapshot: Snapshot, key: EcKey, target: Path) -> SignatureReport:
    """Write the signature to ``target``; UsageError if something is there already."""
    data, report = signed(archive, snapshot, key)
    write_new(target, data)
    return msgspec.structs.replace(report, file=str(target))
