"""Whether a volume is what its lists say: every file of it, and nothing else beside them."""

from __future__ import annotations

import hashlib
import os
import stat
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

import msgspec
from blake3 import blake3

from archiver.archive import layout
from archiver.archive.bundles.records import BUNDLE, VOLUME, piece_of
from archiver.archive.fixity import require_named
from archiver.archive.foreign import is_litter
from archiver.buffers import workspace
from archiver.errors import ArchiverError, DamageError, DeniedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from archiver.archive.bundles.records import Explanation, ToolFile
    from archiver.archive.bundles.volumes import FoundVolume
    from archiver.storage.local import LocalStore
    from archiver.storage.store import Reader

_PIECE: Final = 4 << 20
_UNLISTED_MAX: Final = 1_000
"""Foreign files that are named one by one."""

FaultKind = Literal["missing", "truncated", "damaged", "unreadable", "unlisted", "contradicts"]


class VolumeFault(msgspec.Struct, frozen=True):
    """What is wrong with one file of a volume.

    Attributes:
        volume: The volume's number; 0 if that is not known.
        path: The volume's folder.
        name: The file's name in it.
        kind: ``unlisted``: it is there and no list has it; ``contradicts``: the volume's list says
            something else of it than the bundle's.
        message: The same as a sentence.
        healed: Parity that is here makes it whole.
    """

    volume: int
    path: str
    name: str
    kind: FaultKind
    message: str
    healed: bool = False


class Listed(NamedTuple):
    """A file that a volume should have; a digest is ``""`` where none is known."""

    name: str
    size: int | None
    blake3: str
    sha256: str = ""


def listed_files(found: FoundVolume) -> list[Listed]:
    """Return what a volume should have: by its ``volume.json``, or else by its bundle, or by names."""
    if found.volume is not None:
        files = (*found.volume.files, *found.volume.tools)
        return [Listed(*msgspec.structs.astuple(file)) for file in files]
    if found.bundle is not None:
        tools = found.bundle.tools_on(found.number)
        return [Listed(file.name, file.size, file.blake3, file.sha256) for file in tools] + [
            Listed(
                file.name,
                file.size if file.blake3 else None,
                "" if piece_of(file.name) else file.blake3,
            )
            for file in found.bundle.on(found.number)
        ]
    names = (name for name in found.store.list("") if layout.digest_of(name))
    return [Listed(name, None, "") for name in names]


def check_volume(found: FoundVolume, advance: Callable[[int], None]) -> Iterator[VolumeFault]:
    """Read all of a volume; yield what is wrong with it."""
    for name, message in found.problems:
        if found.unfinished and found.store.stat(name) is None:
            continue  # that is what it means
        kind: FaultKind = "missing" if found.store.stat(name) is None else "damaged"
        yield _fault(found, name, kind, message)
    yield from contradictions(found)
    listed = listed_files(found)
    for file in listed:
        if found.bundle is None and file.name == BUNDLE:
            continue  # that was said already
        fault = _file_fault(found.store, file, advance)
        if fault is not None and not (found.unfinished and fault[0] == "missing"):
            yield _fault(found, file.name, *fault)
    if found.volume is not None:
        known = {VOLUME, *(file.name for file in listed)}
        for number, (name, message) in enumerate(_unlisted(found.path, known)):
            if number == _UNLISTED_MAX:
                break
            yield _fault(found, name, "unlisted", message)


def _fault(found: FoundVolume, name: str, kind: FaultKind, message: str) -> VolumeFault:
    return VolumeFault(found.number, str(found.path), name, kind, message)


def contradictions(found: FoundVolume) -> Iterator[VolumeFault]:
    """Yield the files of which the volume's list says something else than the bundle's."""
    if found.volume is None or found.bundle is None:
        return
    listed = {file.name: file for file in found.volume.files}
    if (found.volume.volumes, found.volume.number > found.bundle.volumes) != (
        found.bundle.volumes,
        False,
    ):
        text = (
            f"{found.path / VOLUME} says volume {found.volume.number} of {found.volume.volumes}; "
            f"its bundle has {found.bundle.volumes}."
        )
        yield _fault(found, VOLUME, "contradicts", text)
    for file in found.bundle.on(found.volume.number):
        own = listed.get(file.name)
        other = own is not None and file.blake3 and own.size != file.size
        if own is not None and file.blake3 and not piece_of(file.name):
            other = other or own.blake3 != file.blake3
        if own is None or other:
            text = f"{found.path / file.name}: {VOLUME} says something else of it than {BUNDLE}."
            yield _fault(found, file.name, "contradicts", text)
    tools = found.bundle.tools_on(found.volume.number)
    if found.bundle.tools is not None or found.volume.tools:
        listed.update({file.name: file for file in found.volume.tools})
        known = {file.name for file in tools}
        for name in (file.name for file in found.volume.tools if file.name not in known):
            yield _fault(
                found, name, "contradicts", f"{found.path / name}: {BUNDLE} has no such tool."
            )
    required: list[Explanation | ToolFile] = [*found.bundle.explanations, *tools]
    for each in required:
        own = listed.get(each.name)
        if own is None or (own.size, own.sha256) != (each.size, each.sha256):
            text = f"{found.path / each.name}: {VOLUME} says something else of it than {BUNDLE}."
            yield _fault(found, each.name, "contradicts", text)


def _file_fault(
    store: LocalStore, file: Listed, advance: Callable[[int], None]
) -> tuple[FaultKind, str] | None:
    """Return what is wrong with one file: read twice before it is called damaged."""
    path = store.path / file.name
    for last in (False, True):
        fault = outer_fault(store, file)
        if fault is not None:
            return fault
        try:
            with closing(store.open(file.name)) as reader:
                if last:
                    reader.fresh()
                if file.blake3:
                    digests = _digests(reader, advance)
                    right = digests[0] == file.blake3 and file.sha256 in {"", digests[1]}
                else:
                    right = _is_right_alone(store, file.name)
                if right:
                    return None
        except FileNotFoundError:
            return "missing", f"{path} is missing."
        except DeniedError as error:
            return "unreadable", error.message
        except ArchiverError as error:
            if last:
                return "damaged", error.message
    return "damaged", f"{path} is damaged: its bytes have another digest."


def outer_fault(store: LocalStore, file: Listed) -> tuple[FaultKind, str] | None:
    """Return what is wrong with a file before it is read: it is missing, no file, or of another size.

    A sparse file takes no room on a medium, and would take hours to read.
    """
    path = store.path / file.name
    try:
        size = store.stat(file.name)
    except DeniedError as error:
        return "unreadable", error.message
    except ArchiverError as error:
        return "damaged", error.message
    if size is None and os.path.lexists(path):
        return "damaged", f"{path} is a link, a pipe or a device, and no file."
    if size is None:
        return "missing", f"{path} is missing."
    if file.size is not None and size != file.size:
        kind: FaultKind = "truncated" if size < file.size else "damaged"
        return kind, f"{path} has {size:,} bytes; it should have {file.size:,}."
    return None


def _is_right_alone(store: LocalStore, name: str) -> bool:
    """Return whether a file of which no list tells is what its own name demands."""
    if layout.digest_of(name) is None:
        return True  # a piece, a sidecar or a signature: what it is part of proves it
    with closing(store.open(name)) as reader:
        try:
            require_named(reader, name)
        except DamageError:
            return False
    return True


def _digests(reader: Reader, advance: Callable[[int], None]) -> tuple[str, str]:
    plain, sha256 = blake3(), hashlib.sha256()
    size = reader.size
    for at in range(0, size, _PIECE):
        buffer = workspace().take("check", min(_PIECE, size - at)).data
        if reader.read_into(at, buffer) != len(buffer):
            raise DamageError("A file became shorter while it was read.")
        plain.update(buffer)
        sha256.update(buffer)
        advance(len(buffer))
    return plain.hexdigest(), sha256.hexdigest()


def _unlisted(folder: Path, known: set[str]) -> Iterator[tuple[str, str]]:
    """Yield what lies in a volume's folder, and in no list, with a sentence on it; no link is followed."""
    for place, folders, files in os.walk(folder):
        below = Path(place).relative_to(folder)
        for name in sorted(files + [each for each in folders if Path(place, each).is_symlink()]):
            own = (below / name).as_posix()
            if own in known:
                continue
            path = Path(place, name)
            mode = path.lstat().st_mode
            if stat.S_ISREG(mode) and is_litter(own):
                continue
            what = (
                "a file" if stat.S_ISREG(mode) else "a link" if stat.S_ISLNK(mode) else "a device"
            )
            yield own, f"{path} is {what} that the volume's list does not have."
