"""Export of a snapshot's bill of materials, made of the digests in its manifest.

Of the files only ``config.json`` and the card are read, for what they say of the model.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import msgspec

from archiver.archive.quarantine import manifest_for, packs_for
from archiver.archive.vouching import Vouching, counted, vouches_of
from archiver.export.cyclonedx import bill_of_materials, serial_number
from archiver.export.model import model_facts
from archiver.names import check_paths
from archiver.storage.files import write_new

if TYPE_CHECKING:
    from pathlib import Path

    from archiver.archive.archive import Archive
    from archiver.archive.seals import Snapshot


class BomReport(msgspec.Struct, frozen=True):
    """What was written: a document of ``bytes`` bytes about so many files, at ``file``."""

    repository: str
    revision: str
    snapshot: str
    serial: str
    files: int
    bytes: int
    sha256: str
    vouched: Vouching
    file: str = ""


def bom_file(archive: Archive, snapshot: Snapshot) -> tuple[bytes, BomReport]:
    """Return the bill of materials of a snapshot.

    Raises:
        DamageError: The manifest, ``config.json`` or the card is damaged.
        HostileNameError: The manifest lists a file that may not be written to any folder.
    """
    manifest, seal = manifest_for(archive, snapshot), snapshot.seal
    check_paths(entry.path for entry in manifest.files)
    vouches = vouches_of(seal, manifest.source, manifest.files)
    facts = model_facts(manifest, packs_for(archive, snapshot))
    data = bill_of_materials(facts, snapshot, zip(manifest.files, vouches, strict=True))
    report = BomReport(
        repository=seal.repository,
        revision=seal.revision,
        snapshot=snapshot.id,
        serial=serial_number(snapshot.id),
        files=len(manifest.files),
        bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        vouched=counted(vouches),
    )
    return data, report


def export_bom(archive: Archive, snapshot: Snapshot, target: Path) -> BomReport:
    """Write it to ``target``; raise UsageError if something is there already, or the archive is."""
    archive.require_outside(target, "Name a file in another folder.")
    data, report = bom_file(archive, snapshot)
    write_new(target, data)
    return msgspec.structs.replace(report, file=str(target))
