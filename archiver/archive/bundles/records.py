"""The documents of a bundle as typed records: bundle, volume and inventory (``docs/bundles.md``).

All of them come from a medium that anybody may have written: each is bounded before it is parsed, and a
name in it is believed only if it is one that a volume can have.
"""

from __future__ import annotations

import re
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Final, NamedTuple, TypeVar

import msgspec

from archiver.archive import layout
from archiver.archive.records import (
    FORMAT,
    Features,
    canonical,
    declared,
    is_identity,
    parse_record,
    require_known,
)
from archiver.digest import Blake3Hex, HexDigest, blake3_hex
from archiver.errors import DamageError, UnknownFormatError
from archiver.storage.store import check_name
from archiver.tensors.header import Count
from archiver.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BUNDLE: Final = "bundle.json"
VOLUME: Final = "volume.json"
SHEET: Final = "MANIFEST.md"
START: Final = "START-HERE.html"
SUMS: Final = "sha256sums.txt"
PIECES: Final = "pieces"
TOOLS: Final = "tools"
TOOLS_VOLUME: Final = 1
"""The volume that has the folder of the tool, if a bundle brings it."""
EXPLANATIONS: Final = ("README.txt", "FORMAT.md", "decode.py")
"""What explains an archive, and lies on every volume."""
PAPERS: Final = (START, SHEET, SUMS, BUNDLE, VOLUME, layout.INFO, *EXPLANATIONS)
"""The files in the root of a volume."""
DOCUMENT_MAX: Final = 32 << 20
"""Bytes of a bundle's, a volume's or an inventory's document."""
EVENTS_MAX: Final = 200
"""Events that a bundle brings of its archive's journal: the newest."""
VOLUMES_MAX: Final = 9_999
VOLUME_LEAST: Final = 32 << 20
"""Bytes of the smallest volume."""
_SIGNS_MAX: Final = 2_500_000
"""The signs `,` `[` `{` of a document: some 400,000 files, which cost a reader some 200 MB."""

_FOLDER: Final = re.compile(r"volume-(\d{4})\Z")
_PIECE: Final = re.compile(rf"{PIECES}/(.+)\.(\d{{4}})-(\d{{4}})\Z")
_DEVICES: Final = re.compile(r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?=\.|\Z)|.*\.\Z")
"""Names of folders that Windows takes for a device, or cuts."""

_TOOL: Final = re.compile(rf"{TOOLS}/(?=.{{1,115}}\Z)[a-z0-9][a-z0-9_.+!-]*\Z")

VolumeNumber = Annotated[int, msgspec.Meta(ge=1, le=VOLUMES_MAX)]


class BundledSnapshot(msgspec.Struct, frozen=True, array_like=True):
    """A snapshot that is in a bundle, by its seal."""

    id: HexDigest
    repository: str
    revision: str

    @property
    def title(self) -> str:
        """``Org/Name@revision``, for messages."""
        return f"{self.repository}@{self.revision[:12]}"


class BundledFile(msgspec.Struct, frozen=True, array_like=True):
    """A file that a volume is to have: its name there, and its size in bytes.

    ``blake3`` is that of the whole file as the archive has it; ``""`` of one that is made for the bundle.
    Of a file that is larger than a volume each piece has an entry: ``offset`` says where it begins.
    """

    volume: VolumeNumber
    name: str
    size: Count
    blake3: str
    offset: Count = 0


class Explanation(msgspec.Struct, frozen=True, array_like=True):
    """A file that explains the archive, and may be run: its size in bytes and its SHA-256."""

    name: str
    size: Count
    sha256: HexDigest


class ToolFile(msgspec.Struct, frozen=True, array_like=True):
    """A file that brings archiver itself, in the folder ``tools/`` of the first volume.

    ``package``, ``version`` and ``licence`` are those of a wheel, as it declares them; ``""`` of a list
    or a script.
    """

    name: str
    size: Count
    blake3: HexDigest
    sha256: HexDigest
    package: str = ""
    version: str = ""
    licence: str = ""


class Tools(msgspec.Struct, frozen=True):
    """The tool that a bundle brings: the machines it is for (``linux-x86_64,py311``), and its files."""

    targets: tuple[str, ...]
    files: tuple[ToolFile, ...]

    @property
    def bytes(self) -> int:
        """Bytes of all its files."""
        return sum(file.size for file in self.files)


class Bundle(msgspec.Struct, frozen=True, dict=True):
    """``bundle.json``: what a bundle carries, and on which of its volumes. Its BLAKE3 is the bundle's id.

    Attributes:
        archive: The id of the archive that it was taken from.
        tool: The writer.
        volume_size: Bytes that a volume may take.
        volumes: How many there are.
        snapshots: What can be restored from it, together with what ``base`` has.
        files: Every file but those that each volume has in its root.
        explanations: Of those in the root, the ones that explain the archive.
        base: The id of the inventory whose packs are left out; ``""``: none is.
        parity: Parity blocks of each group and data blocks of a group; ``null``: none was asked for.
        tools: The tool itself, on the first volume; ``null``: it is not brought.
        receipts: Places whose receipts its archive had accepted, each with the id of the newest; not
            there if there were none.
    """

    archive: str
    tool: str
    volume_size: Count
    volumes: VolumeNumber
    snapshots: tuple[BundledSnapshot, ...]
    files: tuple[BundledFile, ...]
    explanations: tuple[Explanation, ...]
    base: str = ""
    parity: tuple[int, int] | None = None
    tools: Tools | None = None
    receipts: tuple[tuple[str, HexDigest], ...] | msgspec.UnsetType = msgspec.UNSET
    kind: str = "bundle"
    format: int = FORMAT
    features: Features = Features()

    @cached_property
    def data(self) -> bytes:
        """The document: as it was read, with keys that this version does not know, or is to be written."""
        return canonical(self)

    @property
    def id(self) -> Blake3Hex:
        """The bundle's id."""
        return blake3_hex(self.data)

    def on(self, volume: int) -> list[BundledFile]:
        """Return the files of one volume."""
        return [file for file in self.files if file.volume == volume]

    def tools_on(self, volume: int) -> tuple[ToolFile, ...]:
        """Return the files of one volume that bring the tool."""
        return self.tools.files if self.tools and volume == TOOLS_VOLUME else ()

    def packs(self) -> dict[str, int]:
        """Return the packs that it carries, whole or in pieces, with their sizes."""
        sizes: dict[str, int] = {}
        for file in self.files:
            pack = layout.pack_of(stored_name(file.name))
            if pack is not None:
                sizes[pack] = sizes.get(pack, 0) + file.size
        return sizes


class StoredFile(msgspec.Struct, frozen=True, array_like=True):
    """A file as it lies on a volume."""

    name: str
    size: Count
    blake3: HexDigest
    sha256: HexDigest


class Volume(msgspec.Struct, frozen=True):
    """``volume.json``: which volume this is, and every other file on it. It is written last.

    ``bundle`` is the id of its bundle; ``tools`` lists what lies in the folder of the tool; ``check`` is
    the BLAKE3 of this document without that key.
    """

    bundle: HexDigest
    number: VolumeNumber
    volumes: VolumeNumber
    files: tuple[StoredFile, ...]
    tools: tuple[StoredFile, ...] = ()
    tool: str = ""
    kind: str = "volume"
    format: int = FORMAT
    features: Features = Features()
    check: str = ""


class HeldSnapshot(msgspec.Struct, frozen=True, array_like=True):
    """A snapshot that an archive has, by its seal."""

    id: HexDigest
    repository: str
    revision: str


class Inventory(msgspec.Struct, frozen=True):
    """What an archive has, for whoever makes a bundle for it: a claim of that archive's keeper.

    Attributes:
        archive: Its id.
        place: The identity of the folder that it lies in.
        time: When it was written.
        tool: By which writer.
        heads: The ids of its journal's heads.
        snapshots: Those that it has whole.
        packs: Those that are there with the size that they should have: BLAKE3 and size.
        bundles: The ids of the bundles that it has taken in.
        receipts: The id of the newest receipt that was written there; empty if none was.
        check: The BLAKE3 of this document without this key.
    """

    archive: str
    place: str
    time: str
    tool: str
    heads: tuple[HexDigest, ...]
    snapshots: tuple[HeldSnapshot, ...]
    packs: tuple[tuple[HexDigest, Count], ...]
    bundles: tuple[HexDigest, ...] = ()
    receipts: tuple[HexDigest, ...] = ()
    kind: str = "inventory"
    format: int = FORMAT
    features: Features = Features()
    check: str = ""

    @property
    def id(self) -> str:
        """What a bundle names it by."""
        return self.check


# ---- names


class PieceName(NamedTuple):
    """What the name of a piece says: of which file, which one, and of how many."""

    file: str
    number: int
    pieces: int


def folder_of(number: int) -> str:
    """Return the name of a volume's folder."""
    return f"volume-{number:04}"


def number_of(folder: str) -> int | None:
    """Return the volume whose folder is called so, or None."""
    match = _FOLDER.fullmatch(folder)
    return int(match[1]) if match else None


def piece_name(file: str, number: int, pieces: int) -> str:
    """Return the name of a file's piece."""
    return f"{PIECES}/{file}.{number:04}-{pieces:04}"


def piece_of(name: str) -> PieceName | None:
    """Return what the name of a piece says, or None if it is no piece's."""
    match = _PIECE.match(name)
    if not match or not 1 <= int(match[2]) <= int(match[3]):
        return None
    return PieceName(match[1], int(match[2]), int(match[3]))


def stored_name(name: str) -> str:
    """Return the file that a name on a volume stands for: itself, or that which it is a piece of."""
    piece = piece_of(name)
    return piece.file if piece else name


def portable_name(name: str) -> str:
    """Return the name that a stored file has on a volume: folders are hints, and none is a device's."""
    *folders, base = name.split("/")
    return "/".join([*(f"{one}_" if _DEVICES.match(one) else one for one in folders), base])


def is_volume_name(name: str) -> bool:
    """Return whether a volume may have a file of this name."""
    return name in PAPERS or is_carried(name)


def is_tool_name(name: str) -> bool:
    """Return whether it is the name of a file that brings the tool: lowercase, as every disk holds it."""
    return bool(_TOOL.match(name)) and not _DEVICES.match(name.removeprefix(f"{TOOLS}/"))


def is_carried(name: str) -> bool:
    """Return whether it is the name of an archive's file, or of a piece of one, on a volume."""
    file = stored_name(name)
    if len(name) > 1024 or ".." in name.split("/"):  # noqa: PLR2004 - as a store's names
        return False
    known = layout.digest_of(file) or layout.parity_of(file) or layout.signature_of(file)
    try:
        return bool(known) and check_name(name) == name
    except Exception:  # noqa: BLE001 - whatever it is, no volume has it
        return False


# ---- reading and writing

Document = TypeVar("Document", Bundle, Volume, Inventory)


Checked = TypeVar("Checked", bound=Volume | Inventory)


def checked(document: Checked) -> Checked:
    """Return the same with its digest: the BLAKE3 of its canonical JSON in which ``check`` is empty."""
    bare = canonical(msgspec.structs.replace(document, check=""))
    return msgspec.structs.replace(document, check=blake3_hex(bare))


def file_of(document: Volume | Inventory) -> bytes:
    """Return what the file of such a document should hold."""
    return canonical(document) + b"\n"


def _parsed(data: bytes, kind: type[Document], what: str) -> Document:
    """Return a document of this kind.

    Raise DamageError unless it is one, UnknownFormatError if a newer version wrote it.
    """
    _require_bounded(data, what)
    try:
        require_known(what, *declared(data))
    except UnknownFormatError as error:
        raise UnknownFormatError(
            error.message, hint="Nothing was read. Use a newer archiver."
        ) from None
    return parse_record(data, kind, what)


def _require_bounded(data: bytes, what: str) -> None:
    if len(data) > DOCUMENT_MAX:
        raise DamageError(f"{what} has more than {DOCUMENT_MAX:,} bytes.")
    if data.count(b"[") + data.count(b"{") + data.count(b",") > _SIGNS_MAX:
        raise DamageError(f"{what} lists more than a bundle may hold.")


def parse_bundle(data: bytes, what: str) -> Bundle:
    """Return the bundle that a ``bundle.json`` tells of; errors as for every document here.

    Also DamageError for a file whose name or volume cannot be.
    """
    bundle = _parsed(data, Bundle, what)
    bundle.__dict__["data"] = data
    if not is_identity(bundle.archive) or not bundle.snapshots:
        raise DamageError(f"{what} names no archive, or no snapshot.")
    _require_names((file.name for file in bundle.files), is_carried, what)
    if len({(file.volume, file.name) for file in bundle.files}) < len(bundle.files):
        raise DamageError(f"{what} names a file twice.")
    if any(file.volume > bundle.volumes for file in bundle.files):
        raise DamageError(f"{what} names a volume that it does not have.")
    _require_pieces(bundle, what)
    tools = [file.name for file in bundle.tools.files] if bundle.tools else []
    _require_names(iter(tools), is_tool_name, what)
    if len(set(tools)) < len(tools):
        raise DamageError(f"{what} names a file twice.")
    return bundle


def _require_pieces(bundle: Bundle, what: str) -> None:
    """Raise DamageError unless the pieces of every file make a whole, each once and in order."""
    found: dict[tuple[str, int], dict[int, BundledFile]] = {}
    for file in bundle.files:
        piece = piece_of(file.name)
        if piece:
            found.setdefault((piece.file, piece.pieces), {})[piece.number] = file
    for (name, count), pieces in found.items():
        at = 0
        for number in range(1, count + 1):
            if number not in pieces or pieces[number].offset != at:
                raise DamageError(f"{what} does not name every piece of {name}.")
            at += pieces[number].size


def parse_volume(data: bytes, what: str) -> Volume:
    """Return the volume that a ``volume.json`` tells of; errors as for every document here."""
    volume = _parsed(data, Volume, what)
    _require_check(volume, data, what)
    _require_names((file.name for file in volume.files), is_volume_name, what)
    _require_names((file.name for file in volume.tools), is_tool_name, what)
    names = [file.name for file in (*volume.files, *volume.tools)]
    if len(set(names)) < len(names):
        raise DamageError(f"{what} names a file twice.")
    if volume.number > volume.volumes:
        raise DamageError(f"{what} is of volume {volume.number} of {volume.volumes}.")
    return volume


def parse_inventory(data: bytes, what: str) -> Inventory:
    """Return the inventory in a file; errors as for every document here."""
    inventory = _parsed(data, Inventory, what)
    _require_check(inventory, data, what)
    return inventory


def _require_check(document: Volume | Inventory, data: bytes, what: str) -> None:
    # By its bytes: a newer version may have written more keys than are known here.
    own = f'"check":"{document.check}"'.encode()
    bare = data.removesuffix(b"\n").replace(own, b'"check":""', 1)
    if document.check != blake3_hex(bare):
        raise DamageError(f"{what} is damaged: it says something else than was written.")


def _require_names(names: Iterator[str], possible: Callable[[str], bool], what: str) -> None:
    for name in names:
        if not possible(name):
            raise DamageError(f"{what} names {printable(name, 100)!r}, which no volume has.")
