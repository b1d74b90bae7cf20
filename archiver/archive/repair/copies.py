"""Where a whole stored file may come from: other files that had, or have, its name; and parity."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from archiver.archive import layout
from archiver.archive.out_of_use import aside_names
from archiver.archive.repair.proof import stored_right
from archiver.archive.repair.trial import Trial
from archiver.archive.transfer import pieces
from archiver.errors import ArchiverError

if TYPE_CHECKING:
    from archiver.storage.store import Staged, Store


class Candidate(NamedTuple):
    """A file that may be the one that is wanted.

    Attributes:
        source: Where it comes from, for the report.
        write: Writes it to a staged file; ArchiverError if it cannot be had.
        usable: Whether it would do, without writing anything.
    """

    source: str
    write: Callable[[Staged], None]
    usable: Callable[[], bool]


FileSource = Callable[[str], Iterator[Candidate]]
"""Stored name -> what may be the file."""


def same_name(store: Store, title: str) -> FileSource:
    """The file of the same name in another store."""

    def find(name: str) -> Iterator[Candidate]:
        if store.stat(name) is not None:
            yield stored_candidate(store, name, name, title)

    return find


def aside_copies(store: Store, title: str) -> FileSource:
    """Files in quarantine and trash that had the name, the newest first."""
    names: list[str] = []
    listed = False

    def find(name: str) -> Iterator[Candidate]:
        nonlocal listed
        if not listed:
            names.extend(aside_names(store))
            listed = True
        for one in names:
            found = layout.aside_of(one)
            if found is not None and found.name == name.lower():
                yield stored_candidate(store, one, name, f"{title}{one.partition('/')[0]}")

    return find


def from_parity(store: Store, title: str) -> FileSource:
    """What a sidecar, and what is left of the file, give."""
    from archiver.archive.parity.heal import heal  # noqa: PLC0415 - only a repair pays for its codec

    def usable(name: str) -> bool:
        trial = Trial()
        try:
            heal(store, name, trial)
        except (ArchiverError, FileNotFoundError):
            return False
        finally:
            trial.abort()
        return True

    def find(name: str) -> Iterator[Candidate]:
        digest = layout.digest_of(name)
        if digest is not None and store.stat(layout.parity_name(digest)) is not None:
            yield Candidate(
                f"{title}parity", lambda out: heal(store, name, out), lambda: usable(name)
            )

    return find


def stored_candidate(store: Store, where: str, name: str, source: str) -> Candidate:
    """The stored file ``where``, if it is what ``name`` demands."""
    return Candidate(
        source, lambda out: _copy(store, where, out), lambda: stored_right(store, where, name)
    )


def _copy(store: Store, where: str, out: Staged) -> None:
    reader = store.open(where)
    try:
        for piece in pieces(reader):
            out.write(piece)
    finally:
        reader.close()
