"""Where to copy to: an archive that is there, or a new one that begins as the same archive."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from archiver.archive import archive, layout
from archiver.archive.advice import command
from archiver.archive.archive import Archive, KnownDocuments
from archiver.archive.copies import PlaceHistory, device_of
from archiver.archive.editions import newest_explanations, renew_explanations
from archiver.archive.place_look import Device, Look, look_at, no_answer
from archiver.archive.places import Place, place_of
from archiver.archive.records import info_file, parse_info, place_file
from archiver.archive.transfer import PURPOSE
from archiver.errors import (
    ArchiverError,
    DamageError,
    NoArchiveError,
    NoSpaceError,
    UnknownFormatError,
    UsageError,
    explain_system_error,
)
from archiver.storage.local import LocalStore
from archiver.text import human_bytes, printable

if TYPE_CHECKING:
    from archiver.storage.store import Store

_SMALL_MAX: Final = 1 << 20
_LEFT_OR_NEW: Final = {*archive.CARRIED, layout.PLACE, layout.TMP, archive.LOST_AND_FOUND}
"""What a run that died before ``archive.json`` leaves, and what a new disk has from the start."""
_PURPOSES: Final = (PURPOSE, "put", "intent")


class Target(msgspec.Struct, frozen=True):
    """Where is copied to.

    Attributes:
        archive: The archive there.
        begun: False if it is still to be begun.
        look: What was seen there.
        gone: The places that the journal knows at this path, and that were deleted: their disk is
            there, and they are not.
    """

    archive: Archive
    begun: bool
    look: Look
    gone: tuple[Place, ...] = ()


def open_target(
    source: Archive,
    root: Path,
    history: PlaceHistory,
    *,
    name: str = "",
    new: bool = False,
    known_documents: KnownDocuments | None = None,
) -> Target:
    """Return the archive to copy to; where there is none yet it is only begun if ``new`` says so.

    ``name`` is what a person called the place; ``""``: host and path. ``known_documents`` is what this
    process read of the archive there before. Whatever is mounted at ``root``, this ends within
    ``place_look.LOOK_SECONDS`` or so.

    Raises:
        NoArchiveError: No archive is there and ``new`` does not say that one is wanted; or the journal
            knows another place under this name or path than what lies there.
        UsageError: It is the source, lies in it, or is to be new and is something else already.
        UnknownFormatError: It is of a format, or needs a writer, that this version does not know.
        ArchiverError: It gives no answer.
    """
    look = look_at(root)
    if not look.answered:
        raise no_answer(root)
    if source.store.folder:
        _require_apart(source.store.folder.path, root)
    known = _known_at(history, name, Path(look.path))
    if _is_empty(root):
        gone = _require_new(root, look, known, history, new=new)
        return Target(Archive(LocalStore(root), source.info), begun=False, look=look, gone=gone)
    archive = _opened(root, look, known_documents, new=new)
    _require_known(root, look, known, history)
    if new and archive.info.archive != source.info.archive:
        raise UsageError(
            f"{root} is an archive already, and another one than {source.store.address}.",
            hint="Leave --new out to add to it, or choose a new folder.",
        )
    return Target(archive, begun=True, look=look)


def _opened(root: Path, look: Look, known: KnownDocuments | None, *, new: bool) -> Archive:
    if look.error:
        raise UsageError(f"{root}: {look.error}.", hint="Choose a folder that can be read.")
    try:
        archive = Archive.open(root, known=known)
    except UnknownFormatError:
        raise
    except NoArchiveError:
        if new:
            raise UsageError(
                f"{root} is neither an archive nor an empty folder.", hint="Choose a new folder."
            ) from None
        raise NoArchiveError(
            f"{root} is no archive, and has other files in it.",
            hint="Is the right disk mounted? --new makes a replica in a new folder.",
        ) from None
    archive.require_writable()
    return archive


def _known_at(history: PlaceHistory, name: str, path: Path) -> list[Place]:
    """Return the places that the journal knows under this name, or at this path of this machine."""
    copies = history.copies()
    where = place_of(path)
    known = []
    for identity in sorted(copies.places().keys() & copies.identities()):
        place = Place(copies.name(identity), identity)
        seen = history.device([identity])
        if identity == history.here.id:
            continue
        if place.name == (name or where) or (seen is not None and seen.where == where):
            known.append(place)
    return known


def _require_new(
    root: Path, look: Look, known: list[Place], history: PlaceHistory, *, new: bool
) -> tuple[Place, ...]:
    """Raise NoArchiveError unless a replica may be begun at a place where nothing is.

    Return the places that were known there and are gone for good.
    """
    missing, gone = [], []
    for place in known:
        seen = history.device([place.id])
        device = device_of(seen) if seen else Device()
        if device.is_on(look.device):
            gone.append(place)
        elif not new or not look.mount:
            missing.append((place, device))
    is_there = "is empty" if look.there else "is not there"
    for place, device in missing:
        on = f", on {printable(device.label)}" if device.label else ""
        seen_at = history.seen([place.id, place.name])
        raise NoArchiveError(
            f"{root} {is_there}, and the journal knows a copy there: {printable(place.name)} "
            f"({place.id}), last seen {seen_at or 'never'}{on}.",
            hint="Nothing was copied. Mount its disk. If that copy is lost, run "
            f"{command('copy', history.root, '--lost', place.id)}, then copy with --new.",
        )
    if new and look.unmounted:
        raise NoArchiveError(
            f"{root} {is_there}, and what /etc/fstab wants at {printable(look.unmounted)} is not mounted.",
            hint=f"Nothing was copied. Run {shlex.join(['mount', look.unmounted])!r} first.",
        )
    if not new:
        raise NoArchiveError(
            f"{root} {is_there}: there is no archive to copy to.",
            hint="Nothing was copied. Is its disk mounted? To make a new replica there, add --new.",
        )
    return tuple(gone)


def _require_known(root: Path, look: Look, known: list[Place], history: PlaceHistory) -> None:
    """Raise NoArchiveError if another place was expected than the one that lies there."""
    copies = history.copies()
    if not known or look.place in {*copies.places(), history.here.id}:
        return
    is_now = f"another one, {look.place}" if look.place else "one that has no identity"
    raise NoArchiveError(
        f"The journal knows {root} as the place {known[0].id}, and what lies there now is {is_now}.",
        hint="Nothing was copied. Is the right disk mounted? If the former one is lost, run "
        f"{command('copy', history.root, '--lost', known[0].id)} and copy again.",
    )


def _require_apart(source: Path, root: Path) -> None:
    target = Path(os.path.realpath(root))
    for folder in (target, *target.parents):
        if folder.exists() and folder.samefile(source):
            where = "is" if folder == target else "lies in"
            raise UsageError(
                f"{root} {where} the archive {source} itself.", hint="Copy it to another folder."
            )


def _is_empty(root: Path) -> bool:
    try:
        return set(os.listdir(root)) <= _LEFT_OR_NEW  # noqa: PTH208 - only the names
    except FileNotFoundError:
        return True
    except NotADirectoryError:
        raise UsageError(f"{root} is not a folder.", hint="Choose a new folder.") from None
    except OSError as error:
        raise explain_system_error(error, "the folder to copy to was looked at") from error


def begin(source: Archive, target: Archive, *, new: bool) -> None:
    """Make the target ready: what dead runs left in ``tmp/`` is removed, a new archive is begun."""
    if not new:
        target.store.require_writable()
    for purpose in _PURPOSES:
        for leftover in target.store.leftovers(purpose):
            leftover.discard()
    explanations = newest_explanations(source.store)
    if new:
        for name, data in explanations.items():
            target.store.put_new(name, data)
        target.store.put_new(layout.PLACE, place_file())
        # Last, so that a folder with archive.json is always a whole archive.
        target.store.put_new(layout.INFO, _info(source))
    else:
        renew_explanations(target.store, explanations.items())


def _small_file(store: Store, name: str) -> bytes | None:
    try:
        return store.get(name, _SMALL_MAX)
    except (ArchiverError, FileNotFoundError):
        return None


def _info(source: Archive) -> bytes:
    """Return ``archive.json`` as the source has it; made anew if it is damaged there."""
    data = _small_file(source.store, layout.INFO) or b""
    try:
        if parse_info(data) == source.info:
            return data
    except DamageError:
        pass
    return info_file(source.info)


def require_room(free: int | None, where: str, needed: int, min_free: int) -> None:
    """Raise NoSpaceError unless ``needed`` more bytes leave ``min_free`` of those that are free.

    Where nobody can tell what is free (None), the system says by itself when the disk is full.
    """
    if free is None or free >= needed + min_free:
        return
    keeps = f", of which --min-free keeps {human_bytes(min_free)}" if min_free else ""
    raise NoSpaceError(
        f"{human_bytes(needed)} are to be copied; {human_bytes(free)} are free on the disk of "
        f"{where}{keeps}.",
        hint="Free some room, copy to a larger disk, or choose some with --snapshot.",
    )
