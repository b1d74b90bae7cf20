"""How to mirror, and which files of a listing that chooses."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import msgspec

from archiver.codec.segment import Effort
from archiver.errors import UsageError

if TYPE_CHECKING:
    from archiver.upstream.remote_file import Listing


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
