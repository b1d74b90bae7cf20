"""Pins: digests of a revision that are known from elsewhere, and that a mirrored one must have."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING, Literal

import msgspec

from archiver.errors import MismatchError

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable


class PinnedFile(msgspec.Struct, frozen=True):
    """What is known of one file; a size of -1 or an empty digest is not known."""

    path: str
    size: int = -1
    sha256: str = ""
    oid: str = ""


class Pin(msgspec.Struct, frozen=True):
    """What is known of one revision; ``complete`` if every file of it is listed."""

    repository: str
    revision: str
    complete: bool = False
    files: tuple[PinnedFile, ...] = ()
    note: str = ""
    kind: str = "pin"
    format: int = 1


class PinDifference(msgspec.Struct, frozen=True):
    """A file that is not as its pin says; ``held`` and ``pinned`` are ``""`` where it is not there."""

    path: str
    what: Literal["size", "sha256", "extra", "absent"]
    held: str = ""
    pinned: str = ""


def compare_pin(
    pin: Pin, files: dict[str, tuple[int, str]], *, whole: bool
) -> tuple[PinDifference, ...]:
    """Return how files, path -> (size, SHA-256), differ from a pin of their revision.

    ``whole`` says that these are meant to be all files of the revision.
    """
    found: list[PinDifference] = []
    for known in pin.files:
        size, sha256 = files.get(known.path, (-1, ""))
        if known.path not in files:
            found += [PinDifference(known.path, "absent")] if whole else []
        elif known.size >= 0 and size != known.size:
            found.append(PinDifference(known.path, "size", str(size), str(known.size)))
        elif known.sha256 and sha256 != known.sha256:
            found.append(PinDifference(known.path, "sha256", sha256, known.sha256))
    pinned = {known.path for known in pin.files}
    extra = sorted(files.keys() - pinned) if pin.complete else []
    return (*found, *(PinDifference(path, "extra") for path in extra))


def check_pin(pin: Pin, repository: str, revision: str, facts: dict[str, tuple[int, str]]) -> None:
    """Compare a revision's files, path -> (size, SHA-256 or ""), with a pin of the same revision.

    Raises MismatchError that names every file which disagrees. Files that are not there are not
    compared: a run may have chosen some files only.
    """
    if (pin.repository.casefold(), pin.revision) != (repository.casefold(), revision):
        return
    wrong = []
    for known in pin.files:
        if known.path not in facts:
            continue
        size, sha256 = facts[known.path]
        if known.size >= 0 and size != known.size:
            wrong.append(f"{known.path} has {size} bytes, the pin says {known.size}")
        elif known.sha256 and sha256 and sha256 != known.sha256:
            wrong.append(f"{known.path} has SHA-256 {sha256}, the pin says {known.sha256}")
    extra = sorted(set(facts) - {known.path for known in pin.files}) if pin.complete else []
    wrong += [f"{path} is not in the pin, which lists every file" for path in extra]
    if wrong:
        raise MismatchError(
            f"{repository}@{revision[:12]} does not agree with its pin: {'; '.join(wrong[:20])}.",
            hint="Nothing was sealed. Find out who changed what before you trust this upstream.",
        )


# ---- Pins: the published digests that mirrored revisions must agree with.


def published_pins() -> tuple[Pin, ...]:
    """The pins that come with archiver (``manifests/pins``)."""
    return tuple(_pins_below(resources.files("archiver") / "carried" / "manifests" / "pins"))


def _pins_below(folder: Traversable) -> list[Pin]:
    found: list[Pin] = []
    for item in sorted(folder.iterdir(), key=lambda one: one.name):
        if item.is_dir():
            found += _pins_below(item)
        elif item.name.endswith(".json"):
            found.append(msgspec.json.decode(item.read_bytes(), type=Pin))
    return found
