"""The ledger of an audit: what was proven goes into the journal, in parts, also when a run is cut short."""

from __future__ import annotations

import time
from itertools import islice
from typing import TYPE_CHECKING, Final, Self

import msgspec

from archiver.archive.audit.level import proves
from archiver.archive.events import Audited, new_event
from archiver.archive.place import settled_place
from archiver.errors import ArchiverError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from types import TracebackType

    from archiver.archive.archive import Archive
    from archiver.archive.audit.examination import Examination
    from archiver.archive.audit.packs import Examined
    from archiver.archive.policy import Level

_SECONDS: Final = 300
"""What was proven is journalled at least so often: a power cut costs no more."""
_LISTED: Final = 10_000
"""Digests that one event lists: it has at most 1 MiB."""
_NAMED: Final = 1_000
"""Names of files that one event lists beside them."""
_CHECKED_AGAINST: Final = 256
"""Heads, and keys, that one event lists."""


class Ledger:
    """Use as a context manager: on the way out, the rest is journalled, whatever happened.

    ``terms`` are what every part of the audit says of it. With ``read_only`` nothing is written.
    """

    def __init__(
        self,
        archive: Archive,
        level: Level,
        repository: str,
        revision: str,
        terms: Audited,
        *,
        read_only: bool = False,
    ) -> None:
        self._archive = archive
        self._level = level
        self._of_packs: Level = "content" if level == "files" else level
        self._terms = terms
        self._read_only = read_only
        self._ended = False
        self._against: tuple[tuple[str, ...], tuple[str, ...]] = (), ()
        self._complete = False
        self._subject = repository, revision
        self._last = time.monotonic()
        self._whole: set[str] = set()
        self._packs: list[str] = []
        self._broken: list[str] = []
        self._objects = self._damaged = 0
        self._files: list[str] = []
        self._checked: tuple[str, ...] = ()
        self._closed = False
        self.journalled = not read_only
        """Whether all of it could be written."""

    @property
    def proven(self) -> int:
        """How many packs were proven at the level at which packs are read."""
        return len(self._whole)

    @property
    def whole(self) -> list[str]:
        """Those packs, in order."""
        return sorted(self._whole)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if (self._packs or self._broken) and not self._closed:
            self._flush()

    def note(self, examined: Examined) -> None:
        """Take in a pack that was read."""
        read = proves(examined.level, self._of_packs)
        if read and examined.state is not None:
            self._objects += examined.state.objects
        if read and examined.whole and not examined.unstable:
            self._whole.add(examined.wanted.pack)
            self._packs.append(examined.wanted.pack)
        elif not examined.whole:
            self._damaged += 1
            self._broken.append(examined.wanted.pack)
        if (
            len(self._packs) + len(self._broken) >= _LISTED
            or time.monotonic() - self._last > _SECONDS
        ):
            self._flush()

    def _flush(self) -> None:
        self._last = time.monotonic()
        self._write(self._of_packs, self._packs, (), self._damaged)
        self._packs = []

    def close(self, found: Examination, heads: Sequence[str], keys: Sequence[str]) -> None:
        """The run came to its end with these findings, checked against these heads and keys."""
        self._closed = True
        self._against = tuple(heads[:_CHECKED_AGAINST]), tuple(keys[:_CHECKED_AGAINST])
        self._complete = found.complete
        damaged = sum(not one.remark and one.code != "head-elsewhere" for one in found.findings)
        files = self._level == "files"
        if files and self._packs:
            self._flush()
        self._files, self._checked = found.damaged_files, found.checked
        self._ended = True
        if not files:
            self._write(self._level, self._packs, (), damaged)
            return
        made = frozenset(found.files)
        open_ = {pack for one in found.sealed if one.id not in made for pack, _ in one.seal.packs}
        # A pack is proven at this level with all the files that stand on it.
        self._write(self._level, sorted(self._whole - open_), sorted(made), damaged)

    def _write(
        self, level: Level, packs: Iterable[str], snapshots: Iterable[str], damaged: int
    ) -> None:
        """Journal what one audit proved; more than fits into an event goes into further ones."""
        if self._read_only:
            return
        left, told = iter(packs), iter(snapshots)
        place = settled_place(self._archive).told
        while True:
            some, others = list(islice(left, _LISTED)), []
            if len(some) < _LISTED:
                others = list(islice(told, _LISTED - len(some)))
            last = len(some) + len(others) < _LISTED and len(self._files) <= _NAMED
            detail = msgspec.structs.replace(
                self._terms,
                level=level,
                objects=self._objects,
                checked=self._checked,
                damaged=damaged,
                damaged_files=tuple(self._files[:_NAMED]),
                damaged_packs=tuple(self._broken),
                packs=tuple(some),
                place=place,
                snapshots=tuple(others),
            )
            if self._ended and last:
                heads, keys = self._against
                detail = msgspec.structs.replace(
                    detail, complete=self._complete, heads=heads, keys=keys
                )
            self._objects, self._broken, self._checked = 0, [], ()
            self._files = self._files[_NAMED:]
            self._record(detail)
            if last:
                return

    def _record(self, detail: Audited) -> None:
        try:
            self._archive.require_writable()
            self._archive.record(new_event(detail, *self._subject))
        except ArchiverError:
            self.journalled = False
