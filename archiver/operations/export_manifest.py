"""Export: a manifest as a file of its own."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec

from archiver.archive.manifest_file import pretty
from archiver.errors import UsageError, explain_system_error

if TYPE_CHECKING:
    from pathlib import Path

    from archiver.archive.archive import Archive, Snapshot


class ExportReport(msgspec.Struct, frozen=True):
    """What was exported; ``blake3`` is of the canonical JSON, ``bytes`` counts what was written."""

    repository: str
    revision: str
    blake3: str
    bytes: int
    file: str = ""


def exported(archive: Archive, snapshot: Snapshot, *, readable: bool) -> tuple[bytes, ExportReport]:
    """The manifest of a snapshot: its canonical JSON, or the same with white space."""
    seal = snapshot.seal
    plain = archive.manifest_bytes(seal)
    data = pretty(plain) if readable else plain
    return data, ExportReport(seal.repository, seal.revision, seal.manifest.blake3, len(data))


def write_new(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path`` and make it durable; UsageError if there is something already."""
    try:
        with path.open("xb") as file:
            try:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            except BaseException:
                path.unlink(missing_ok=True)
                raise
    except FileExistsError:
        raise UsageError(f"{path} is there already.", hint="Choose another name.") from None
    except FileNotFoundError:
        raise UsageError(f"There is no folder for {path}.", hint="Make it first.") from None
    except OSError as error:
        raise explain_system_error(error, f"{path} was written") from error
