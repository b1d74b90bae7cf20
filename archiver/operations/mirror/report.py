"""What a run tells of itself: its figures, or the files that failed."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final

import msgspec

from archiver.archive.vouching import Vouching
from archiver.codec.segment import Effort
from archiver.errors import ExitCode, PartialError, UsageError
from archiver.operations.mirror.remarks import Remark
from archiver.text import plural

if TYPE_CHECKING:
    from archiver.upstream.remote_file import Listing


_SHOWN: Final = 20
"""Failures that are spelled out in the message; all of them are in the error."""


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
    ``unprotected`` are stored files that should have got one and did not.
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


class MirrorError(PartialError):
    """Some files of a revision could not be taken in; no snapshot was published."""

    def __init__(
        self, title: str, failures: list[FileFailure], total: int, *, hub: bool = True
    ) -> None:
        """Take ``hub`` as whether the files come from a hub, not from a folder."""
        shown = "; ".join(f"{one.path}: {one.reason}" for one in failures[:_SHOWN])
        more = f"; and {len(failures) - _SHOWN} more" if len(failures) > _SHOWN else ""
        verb = "fetched" if hub else "read"
        super().__init__(
            f"{title} was not sealed: {len(failures)} of {plural(total, 'file')} failed. {shown}{more}",
            hint=next((one.hint for one in failures if one.hint), "")
            or f"Run the same command again; what is stored already is not {verb} again.",
        )
        self.failures = failures
        self.exit_code = _common_code({one.exit_code for one in failures})


def _common_code(codes: set[int]) -> ExitCode:
    """The one code of all failures; of several, wrong bytes from upstream are what must be heard."""
    if len(codes) == 1:
        return ExitCode(codes.pop())
    return ExitCode.MISMATCH if ExitCode.MISMATCH in codes else ExitCode.PARTIAL


# ---- How to mirror, and which files of a listing that chooses.


class MirrorOptions(msgspec.Struct, frozen=True):
    """How to mirror; sizes in bytes."""

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    effort: Effort = Effort.NORMAL
    jobs: int = 4
    workers: int = 2
    min_free: int = 0
    dry_run: bool = False


def select(listing: Listing, options: MirrorOptions) -> Listing:
    """The listing with the chosen files only; UsageError if patterns choose none."""
    chosen = tuple(
        file for file in listing.files if _wanted(file.path, options.include, options.exclude)
    )
    if not chosen and listing.files and (options.include or options.exclude):
        raise UsageError(
            f"No file of {listing.repository} fits the patterns given.",
            hint="--include and --exclude are shell patterns such as '*.safetensors'.",
        )
    return msgspec.structs.replace(listing, files=chosen)


def _wanted(path: str, include: tuple[str, ...], exclude: tuple[str, ...]) -> bool:
    inside = not include or any(fnmatchcase(path, pattern) for pattern in include)
    return inside and not any(fnmatchcase(path, pattern) for pattern in exclude)
