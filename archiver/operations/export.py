"""Export: a manifest as a file of its own, or as a signature that the tool ``model_signing`` verifies."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import msgspec

from archiver.archive import layout
from archiver.archive.manifests import pretty
from archiver.archive.signing.keys import public_keys
from archiver.archive.signing.minisign import FILE_MAX
from archiver.archive.signing.model_signing import bundle, is_covered, statement
from archiver.archive.signing.signatures import beside, stored_signature
from archiver.digest import is_sha256
from archiver.errors import DamageError, UsageError
from archiver.names import check_paths
from archiver.storage.files import require_absent, write_new

if TYPE_CHECKING:
    from pathlib import Path

    from archiver.archive.archive import Archive
    from archiver.archive.seals import Snapshot
    from archiver.archive.signing.model_signing import EcKey


class ExportReport(msgspec.Struct, frozen=True):
    """What was exported.

    ``blake3`` is of the canonical JSON, ``bytes`` counts what was written of it.

    ``file`` and ``signatures`` are the names of the files.
    """

    repository: str
    revision: str
    blake3: str
    bytes: int
    file: str = ""
    signatures: tuple[str, ...] = ()


def manifest_file(
    archive: Archive, snapshot: Snapshot, *, readable: bool
) -> tuple[bytes, ExportReport]:
    """Return the manifest of a snapshot: its canonical JSON, or the same with white space."""
    seal = snapshot.seal
    plain = archive.manifest_bytes(seal)
    data = pretty(plain) if readable else plain
    return data, ExportReport(seal.repository, seal.revision, seal.manifest.blake3, len(data))


def export_manifest(
    archive: Archive, snapshot: Snapshot, target: Path, *, readable: bool = False
) -> ExportReport:
    """Write a manifest to ``target``, and its signatures beside it unless it is made readable.

    The first signature, by a key that the policy trusts if there is one, is ``target``.minisig.
    Raise UsageError if one of these files is there already; then nothing was written.
    """
    archive.require_outside(target, "Name a file in another folder.")
    data, report = manifest_file(archive, snapshot, readable=readable)
    files = {target: data}
    if not readable:
        for key, signature in _signatures(archive, snapshot.seal.manifest.blake3).items():
            files[beside(target, key if beside(target) in files else "")] = signature
    for path in files:
        require_absent(path)
    for path, content in files.items():
        write_new(path, content)
    names = [str(path) for path in files]
    return msgspec.structs.replace(report, file=names[0], signatures=tuple(names[1:]))


def _signatures(archive: Archive, digest: str) -> dict[str, bytes]:
    """Return the signatures of a document by the ids of their keys, trusted ones first."""
    signatures = {}
    for name in archive.store.list(f"{layout.SIGNATURES}/{digest[:2]}"):
        signature = layout.signature_of(name)
        if signature and signature.digest == digest:
            with contextlib.suppress(DamageError):
                stored_signature(archive.store, name)
                signatures[signature.key] = archive.store.get(name, FILE_MAX)
    try:
        trusted = {key.id for key in public_keys(archive.policy().keys)}
    except (DamageError, UsageError):
        trusted = set()  # an audit says so; who uses the signature names the key
    return dict(sorted(signatures.items(), key=lambda pair: (pair[0] not in trusted, pair[0])))


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


def model_signature(
    archive: Archive, snapshot: Snapshot, key: EcKey
) -> tuple[bytes, SignatureReport]:
    """Return the signature file of the files that a snapshot's manifest lists; none of them is read.

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


def export_model_signature(
    archive: Archive, snapshot: Snapshot, key: EcKey, target: Path
) -> SignatureReport:
    """Write the signature to ``target``; raise UsageError if something is there already."""
    archive.require_outside(target, "Name a file in another folder.")
    data, report = model_signature(archive, snapshot, key)
    write_new(target, data)
    return msgspec.structs.replace(report, file=str(target))
