"""Mirror: bring one revision of a repository into the archive, and publish it as a snapshot."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

from archiver.archive.pin import Pin, check_pin
from archiver.archive.plans import note_gone, outcome_of
from archiver.archive.vouching import HUGGINGFACE
from archiver.errors import ArchiverError, UpstreamGoneError
from archiver.operations.mirror.options import MirrorOptions, select
from archiver.operations.mirror.remarks import NARROWER, Remark, require_fit
from archiver.operations.mirror.report import FileFailure, MirrorError, MirrorReport
from archiver.operations.mirror.run import Run

if TYPE_CHECKING:
    from archiver.archive.archive import Archive
    from archiver.catalogue.database import Catalogue
    from archiver.progress import Progress
    from archiver.upstream.protocol import Upstream


def mirror(
    archive: Archive,
    catalogue: Catalogue,
    upstream: Upstream,
    repository: str,
    revision: str | None,
    *,
    options: MirrorOptions,
    progress: Progress,
    pins: tuple[Pin, ...] = (),
) -> MirrorReport:
    """Mirror one revision; returns what was done.

    Raises:
        MirrorError: Some files failed; the others are stored and the next run goes on from there.
        MismatchError: A pinned digest disagrees with upstream, or the archive holds a file of this commit
            with other bytes, that are as good or better.
        UsageError: A folder holds what is plainly no content.
        NoSpaceError, NetworkError, UpstreamGoneError, AccessError: As upstream or the disk say.
    """
    archive.require_writable()
    if not options.dry_run:
        archive.store.require_writable()
    try:
        whole = upstream.list(repository, revision)
    except UpstreamGoneError as error:
        if upstream.endpoint and not options.dry_run and outcome_of(error) == "gone":
            with suppress(ArchiverError):  # that it is gone is what must be told
                note_gone(archive, repository, revision or "main", upstream.endpoint)
        raise
    listing = select(whole, options)
    require_fit(listing)
    claims = {file.path: (file.size, file.sha256) for file in listing.files}
    for pin in pins:
        check_pin(pin, listing.repository, listing.revision, claims)
    run = Run(archive, catalogue, upstream, listing, options, progress, whole)
    held = run.already_sealed(pins)
    if held is None and listing.files != whole.files and listing.upstream == HUGGINGFACE:
        # Upstream has just told of every file: what is held of all of them is raised, not a part.
        every = msgspec.structs.replace(options, include=(), exclude=())
        raising = Run(archive, catalogue, upstream, whole, every, progress, whole)
        if raising.raises_whole():
            run, held = raising, raising.already_sealed(pins)
    if options.dry_run:
        return run.planned() if held is None else run.report("held", snapshot=held)
    if held is not None:
        return run.keep(held)
    return run.execute(pins)


__all__ = [
    "NARROWER",
    "FileFailure",
    "MirrorError",
    "MirrorOptions",
    "MirrorReport",
    "Remark",
    "mirror",
]
