"""What is asked of a run, and what it reports: its figures, or the files that failed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from archiver.archive.vouching import Vouching
from archiver.codec.segment import Effort
from archiver.errors import ExitCode, PartialError
from archiver.memory import MemoryBudget
from archiver.operations.mirror.remarks import Remark
from archiver.text import plural

if TYPE_CHECKING:
    from archiver.archive.lookup import Lookup
    from archiver.archive.pins import Pin
    from archiver.plan.budget import RunBudget
    from archiver.upstream.protocol import Upstream


_SHOWN: Final = 20
"""Failures that are spelled out in the message; all of them are in the error."""


class MirrorRequest(NamedTuple):
    """What to mirror, and how; sizes in bytes.

    Attributes:
        lookup: Where what is held is looked up, and told what is new.
        upstream: Where the repository comes from.
        repository: Its name there.
        revision: A branch, a tag or a commit; None for the main branch.
        pins: Digests that are known from elsewhere; those of this revision must agree.
        include: Only files that fit one of these patterns; empty: all.
        exclude: No files that fit one of these.
        effort: How hard to compress.
        jobs: Files at once; 0 for as many as keep the threads busy that encode.
        memory: What this may take, and so how many threads work.
        min_free: Bytes that must stay free on the archive's disk.
        dry_run: Nothing is fetched or written.
        budget: What the run may take; None: as much as it needs.
    """

    lookup: Lookup
    upstream: Upstream
    repository: str
    revision: str | None = None
    pins: tuple[Pin, ...] = ()
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    effort: Effort = Effort.NORMAL
    jobs: int = 0
    memory: MemoryBudget = MemoryBudget()
    min_free: int = 0
    dry_run: bool = False
    budget: RunBudget | None = None


class FileFailure(msgspec.Struct, frozen=True):
    """A file that could not be taken in, and why."""

    path: str
    reason: str
    hint: str
    exit_code: int


class CorrectedFile(msgspec.Struct, frozen=True):
    """A file that another snapshot of the commit, ``held``, has with other bytes than upstream's."""

    path: str
    held: str


class FetchedFrom(msgspec.Struct, frozen=True):
    """How many bytes of files came from a hub."""

    hub: str
    bytes: int


class MirrorReport(msgspec.Struct, frozen=True):
    """What a run did; sizes in bytes, plain ones but for those that have ``stored`` in their name.

    What an unfinished run of the same revision had stored is ``resumed``; ``total_stored_bytes`` is
    all that the snapshot takes, whenever it was written, ``stored_bytes`` what was written now.
    ``outcome`` is ``sealed``, ``held`` (it was there already) or ``planned`` (a dry run).
    ``origin`` is ``hub``, ``cache`` or ``folder``. ``vouched`` says whose digests the files were compared
    with, None of a dry run; ``raised`` counts those that were held until now by a lesser voucher.
    ``preferred`` is false if another snapshot is the one that the repository's name alone means.
    ``parity_bytes`` is what sidecars take that were made now, because the policy wants parity;
    ``remarks`` is what is worth saying of the choice of files and of what they hold;
    ``unprotected`` are stored files that should have got one and did not. ``fetched_from`` tells from
    where bytes came where several hubs were to give some. ``to_fetch_paths`` are, of a dry run,
    the files that are not held under any name.
    """

    repository: str
    revision: str
    outcome: str
    files: int
    bytes: int
    held_files: int
    held_bytes: int
    to_fetch_bytes: int
    resumed_bytes: int = 0
    stored_bytes: int = 0
    resumed_stored_bytes: int = 0
    total_stored_bytes: int = 0
    snapshot: str = ""
    notes: tuple[str, ...] = ()
    remarks: tuple[Remark, ...] = ()
    parity_bytes: int = 0
    unprotected: tuple[FileFailure, ...] = ()
    origin: str = "hub"
    vouched: Vouching | None = None
    raised: int = 0
    corrected: tuple[CorrectedFile, ...] = ()
    preferred: bool = True
    fetched_from: tuple[FetchedFrom, ...] = ()
    to_fetch_paths: tuple[str, ...] = ()


class MirrorError(PartialError):
    """Some files of a revision could not be taken in; no snapshot was published."""

    def __init__(
        self, title: str, failures: list[FileFailure], total: int, *, hub: bool = True
    ) -> None:
        """Say by ``hub`` whether the files come from a hub or from a folder."""
        shown = "; ".join(f"{failure.path}: {failure.reason}" for failure in failures[:_SHOWN])
        more = f"; and {len(failures) - _SHOWN} more" if len(failures) > _SHOWN else ""
        verb = "fetched" if hub else "read"
        super().__init__(
            f"{title} was not sealed: {len(failures)} of {plural(total, 'file')} failed. {shown}{more}",
            hint=next((failure.hint for failure in failures if failure.hint), "")
            or f"Run the same command again; what is stored already is not {verb} again.",
            subject=title,
        )
        self.failures = failures
        codes = {failure.exit_code for failure in failures}
        if len(codes) == 1:
            self.exit_code = ExitCode(codes.pop())
        else:
            # Of several reasons, wrong bytes from upstream are what must be heard.
            self.exit_code = ExitCode.MISMATCH if ExitCode.MISMATCH in codes else ExitCode.PARTIAL
