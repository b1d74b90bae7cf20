"""A folder that is an OCI image layout: an index, and blobs by their SHA-256.

``index.json`` is the publication: a blob that it does not lead to counts for nothing. It is replaced as a
whole, by one run at a time; what others wrote into it stays.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import msgspec

from archiver.archive.destination import (
    ExistingFileError,
    holds_pieces,
    is_unfinished,
    open_folder,
    writing,
)
from archiver.errors import LockedError, UsageError, explain_system_error
from archiver.export.modelpack import REF_NAME
from archiver.export.text import document
from archiver.storage.files import write_over
from archiver.storage.filesystem import try_lock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LAYOUT: Final = "oci-layout"
INDEX: Final = "index.json"
BLOBS: Final = "blobs/sha256"
_VERSION: Final = "1.0.0"
_INDEX_TYPE: Final = "application/vnd.oci.image.index.v1+json"
_LAYOUT_MAX: Final = 4 << 10
INDEX_MAX: Final = 4 << 20
"""Bytes of an ``index.json`` that is added to: what registries take of a manifest."""
_LEFT: Final = re.compile(r"\.(?:oci-layout|index\.json)-[0-9a-f]{8}")
"""What a run that was killed leaves of these two."""
_WAIT: Final = 30.0
"""Seconds in which another run is waited for; it holds the lock for as long as a small file takes."""
_NAME: Final = re.compile(r"[A-Za-z0-9]+(?:(?:[-._:@+]|--)[A-Za-z0-9]+)*")
_NAME_MAX: Final = 128
_ANOTHER: Final = "Name another folder: a new or empty one, or an OCI image layout."


class OciLayout:
    """The layout in the folder ``root``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.blobs = root / BLOBS

    def open(self) -> None:
        """Make the folder a layout, if it is empty or not there.

        Raises:
            UsageError: It holds something else, or is none.
            ArchiverError: It cannot be written to.
        """
        open_folder(self.root)
        with self._locked():  # another run may be making it just now
            there = [path.name for path in self.root.iterdir() if not _is_left(path.name)]
            if not there:
                write_over(self.root / LAYOUT, document({"imageLayoutVersion": _VERSION}))
            elif LAYOUT not in there:
                raise UsageError(
                    f"{self.root} is neither empty nor an OCI image layout; nothing was written.",
                    hint=_ANOTHER,
                )
        marker = self._read(LAYOUT, _LAYOUT_MAX)
        if marker.get("imageLayoutVersion") != _VERSION:
            raise self._refused(
                f"{LAYOUT} is not that of an OCI image layout of version {_VERSION}"
            )
        self._index()
        open_folder(self.blobs)

    def blob(self, sha256: str) -> Path:
        """Return where the blob of that digest lies."""
        return self.blobs / sha256

    def named(self, name: str) -> str:
        """Return the digest, ``sha256:…``, of what has this name; ``""`` if nothing has."""
        return next((str(each["digest"]) for each in self._index() if _name(each) == name), "")

    def put(self, data: bytes) -> str:
        """Store a small blob, unless it is there; return its SHA-256.

        Raise UsageError if other bytes have its name.
        """
        digest = hashlib.sha256(data).hexdigest()
        path = self.blob(digest)
        try:
            if holds_pieces(path, len(data), iter([memoryview(data)])):
                return digest
            with writing(path) as writer:
                writer.write(memoryview(data))
                try:
                    writer.accept()
                except ExistingFileError:  # a run beside this one may have been quicker
                    holds_pieces(path, len(data), iter([memoryview(data)]))
        except UsageError:
            raise self.wrong_blob(digest) from None
        return digest

    def add(self, descriptor: dict[str, Any]) -> bool:
        """Name a manifest in the index; return False if it was there by that name.

        Raise UsageError if the name stands for another one; what that is stays as it was.
        """
        with self._locked():
            for path in self.root.iterdir():
                if _LEFT.fullmatch(path.name):
                    path.unlink(missing_ok=True)
            index = self._read(INDEX, INDEX_MAX, absent=True)
            entries = self._index(index)
            name = _name(descriptor)
            other = next((each for each in entries if _name(each) == name), None)
            if other is not None:
                if other["digest"] != descriptor["digest"]:
                    raise self.taken(name)
                return False
            entries = sorted([*entries, descriptor], key=lambda each: (_name(each), each["digest"]))
            fields = {"schemaVersion": 2, "mediaType": _INDEX_TYPE} | index | {"manifests": entries}
            data = document(fields)
            if len(data) > INDEX_MAX:
                raise self._refused(f"{INDEX} would be larger than {INDEX_MAX:,} bytes")
            write_over(self.root / INDEX, data)
        return True

    def taken(self, name: str) -> UsageError:
        """Return the error for a name that stands for another artifact."""
        return UsageError(
            f"{self.root} has another artifact by the name {name}; it was left as it is.",
            hint="Choose another name with --tag, or another folder.",
        )

    def wrong_blob(self, sha256: str) -> UsageError:
        """Return the error for a blob whose bytes are not those that its name says."""
        return UsageError(
            f"{self.blob(sha256)} holds other bytes than its name says; it was left as it is.",
            hint="It is damaged, or was never whole: remove it and run the same command again.",
        )

    def _index(self, index: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        """Return the index's entries; raise UsageError if it is no index."""
        if index is None:
            index = self._read(INDEX, INDEX_MAX, absent=True)
        entries: list[dict[str, Any]] = index.get("manifests", [])
        is_index = index.get("schemaVersion", 2) == 2 and isinstance(entries, list)  # noqa: PLR2004 - OCI's own
        if not is_index or not all(
            isinstance(each, dict) and isinstance(each.get("digest"), str) for each in entries
        ):
            raise self._refused(f"{INDEX} is no index of an OCI image layout")
        return entries

    def _read(self, name: str, most: int, *, absent: bool = False) -> dict[str, Any]:
        path = self.root / name
        try:
            # What leads out of the layout is not written through.
            if path.is_symlink() or (path.exists() and not path.is_file()):
                raise self._refused(f"{name} is no file, or a link to one")
            with path.open("rb") as file:
                data = file.read(most + 1)
        except FileNotFoundError:
            if absent:
                return {}
            raise self._refused(f"it has no {name}") from None
        except OSError as error:
            raise explain_system_error(error, f"{path} was read") from error
        if len(data) > most:
            raise self._refused(f"{name} is larger than {most:,} bytes")
        try:
            fields = msgspec.json.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            fields = None
        if not isinstance(fields, dict):
            raise self._refused(f"{name} cannot be read")
        return fields

    def _refused(self, why: str) -> UsageError:
        return UsageError(f"{self.root} cannot be added to: {why}.", hint=_ANOTHER)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep other runs from the two small files; raise LockedError if one holds them for long."""
        try:
            handle = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                deadline = time.monotonic() + _WAIT
                while not _tried(handle):
                    if time.monotonic() > deadline:
                        raise LockedError(
                            f"Another run holds {self.root}.", hint="Run the same command again."
                        )
                    time.sleep(0.05)
                yield
            finally:
                os.close(handle)
        except OSError as error:
            raise explain_system_error(error, f"{self.root} was written to") from error


def _tried(handle: int) -> bool:
    try:
        try_lock(handle)  # where there are no locks, nobody else has one either
    except BlockingIOError:
        return False
    return True


def is_name(text: str) -> bool:
    """Return whether an artifact can be called so, in a layout and as a registry's tag."""
    return (
        len(text) <= _NAME_MAX and _NAME.fullmatch(text) is not None and not set(":@+") & set(text)
    )


def _name(descriptor: dict[str, Any]) -> str:
    annotations = descriptor.get("annotations")
    name = annotations.get(REF_NAME) if isinstance(annotations, dict) else None
    return name if isinstance(name, str) else ""


def _is_left(name: str) -> bool:
    return _LEFT.fullmatch(name) is not None or is_unfinished(name)
