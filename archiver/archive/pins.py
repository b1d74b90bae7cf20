"""Pins: digests of a revision that are known from elsewhere, and that a mirrored one must have.

Those that come with archiver lie in ``manifests/pins``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

import msgspec

from archiver.errors import MismatchError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from importlib.resources.abc import Traversable

_SHOWN: Final = 20


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

    def is_of(self, repository: str, revision: str) -> bool:
        """Return whether the pin is of this revision."""
        return (self.repository.casefold(), self.revision) == (repository.casefold(), revision)


class PinDifference(msgspec.Struct, frozen=True):
    """A file that is not as its pin says; ``held`` and ``pinned`` are ``""`` where it is not there."""

    path: str
    what: Literal["size", "sha256", "extra", "absent"]
    held: str = ""
    pinned: str = ""


def compare_pin(
    pin: Pin, files: dict[str, tuple[int, str]], *, whole: bool
) -> tuple[PinDifference, ...]:
    """Return how files, path -> (size, SHA-256 or ""), differ from a pin of their revision.

    ``whole`` says that these are meant to be all files of the revision.
    """
    differences: list[PinDifference] = []
    for pinned in pin.files:
        size, sha256 = files.get(pinned.path, (-1, ""))
        if pinned.path not in files:
            differences += [PinDifference(pinned.path, "absent")] if whole else []
        elif pinned.size >= 0 and size != pinned.size:
            differences.append(PinDifference(pinned.path, "size", str(size), str(pinned.size)))
        elif pinned.sha256 and sha256 and sha256 != pinned.sha256:
            differences.append(PinDifference(pinned.path, "sha256", sha256, pinned.sha256))
    extra = files.keys() - {pinned.path for pinned in pin.files} if pin.complete else ()
    return (*differences, *(PinDifference(path, "extra") for path in sorted(extra)))


def require_pinned(
    pins: Iterable[Pin], repository: str, revision: str, files: dict[str, tuple[int, str]]
) -> None:
    """Raise MismatchError, with all of them, if files differ from the pins of their revision.

    Files, path -> (size, SHA-256 or ""), that are not there are not compared: a run may have chosen some
    files only.
    """
    for pin in pins:
        if not pin.is_of(repository, revision):
            continue
        differences = compare_pin(pin, files, whole=False)
        if differences:
            title = f"{repository}@{revision[:12]}"
            listed = "; ".join(map(_described, differences[:_SHOWN]))
            raise MismatchError(
                f"{title} does not agree with its pin: {listed}.",
                hint="Nothing was sealed. Find out who changed what before you trust this upstream.",
                subject=title,
            )


def _described(difference: PinDifference) -> str:
    path, held, pinned = difference.path, difference.held, difference.pinned
    match difference.what:
        case "size":
            return f"{path} has {held} bytes, the pin says {pinned}"
        case "sha256":
            return f"{path} has SHA-256 {held}, the pin says {pinned}"
        case "extra":
            return f"{path} is not in the pin, which lists every file"
        case "absent":
            return f"{path} is missing"


def published_pins() -> tuple[Pin, ...]:
    """Return the pins that come with archiver."""
    from importlib import resources  # noqa: PLC0415 - it costs more than the rest of a small import's start

    return tuple(_pins_below(resources.files("archiver") / "carried" / "manifests" / "pins"))


def _pins_below(folder: Traversable) -> list[Pin]:
    pins: list[Pin] = []
    for item in sorted(folder.iterdir(), key=lambda item: item.name):
        if item.is_dir():
            pins += _pins_below(item)
        elif item.name.endswith(".json"):
            pins.append(msgspec.json.decode(item.read_bytes(), type=Pin))
    return pins
