"""Intents: a writer's word, before it seals, on which files its seal will stand.

Whoever deletes moves files away first, then looks for intents and seals, and moves back what one of
them names. A writer announces first, then looks whether the files are there, then seals. Whichever of
the two comes second sees the other: so a seal never stands on files that are gone, however long
either of them pauses, and no lock is needed to add.
"""

from __future__ import annotations

import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import msgspec

from archiver.archive import layout
from archiver.archive.records import canonical, parse_record
from archiver.errors import DamageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from archiver.storage.store import Store

_PURPOSE: Final = "intent"
_INTENT_MAX: Final = 64 << 20


class Intent(msgspec.Struct, frozen=True):
    """The names of the stored files that a seal is about to need, and the machine of its writer."""

    needs: tuple[str, ...]
    host: str = ""
    kind: str = "intent"


@contextmanager
def announced(store: Store, needs: tuple[str, ...]) -> Iterator[None]:
    """While the block runs, nobody deletes these files for good."""
    staged = store.stage(_PURPOSE)
    try:
        staged.write(canonical(Intent(needs, socket.gethostname())))
        yield
    finally:
        staged.abort()


def announced_needs(store: Store) -> dict[str, frozenset[str]]:
    """What the writers that may still be at work announced: intent's name -> names of files.

    Those of dead writers are removed. DamageError if one cannot be read, which may have been begun this
    moment, or is of another machine that writes to this disk: what that does is not seen at once here.
    """
    for leftover in store.leftovers(_PURPOSE):
        leftover.discard()
    found = {}
    for name in store.list(layout.TMP):
        if name.startswith(f"{layout.TMP}/{_PURPOSE}-"):
            needs = _read(store, name)
            if needs is not None:
                found[name] = needs
    return found


def _read(store: Store, name: str) -> frozenset[str] | None:
    try:
        data = store.get(name, _INTENT_MAX)
    except FileNotFoundError:
        return None  # its writer has ended meanwhile
    try:
        intent = parse_record(data, Intent, f"The intent {name}")
        return _needs_of(intent, name, local=store.is_of_one_machine())
    except DamageError as error:
        error.hint = (
            f"A writer is about to seal, or died on another machine. Run it again; if {name} "
            "stays and nothing writes to this archive, delete that file. A week later it counts as "
            "left behind."
        )
        raise


def _needs_of(intent: Intent, name: str, *, local: bool) -> frozenset[str]:
    if not local and intent.host != socket.gethostname():
        raise DamageError(f"The intent {name} is of another machine, {intent.host[:80]!r}.")
    return frozenset(intent.needs)
