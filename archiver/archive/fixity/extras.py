"""Checking what stands beside the archive proper: parity sidecars and signatures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archiver.archive.fixity.parity_check import parity_findings
from archiver.archive.fixity.signature_check import signature_findings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from archiver.archive.archive import Archive
    from archiver.archive.finding import Finding
    from archiver.progress import Progress


def extra_findings(
    archive: Archive, keys: Sequence[str], *, deep: bool, progress: Progress
) -> Iterator[Finding]:
    """What is wrong with sidecars, read whole if ``deep``, and with signatures by trusted keys."""
    yield from parity_findings(archive, deep=deep, progress=progress)
    yield from signature_findings(archive, keys)
