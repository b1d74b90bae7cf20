"""The JSON documents of an archive as typed records, and their canonical bytes.

Format: ``docs/format.md``, sections 1 (canonical JSON), 2 (``archive.json``, ``place.json``), 6 (manifests)
and 7 (seals). A record's field names are the document's keys. Events are in ``events.py``.
"""

from __future__ import annotations

import functools
import re
import threading
import uuid
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

import msgspec

from archiver.archive.layout import INFO, PLACE
from archiver.digest import Blake3Hex, HexDigest, blake3_hex
from archiver.errors import DamageError, UnknownFormatError
from archiver.tensors.header import Count, Tensor
from archiver.text import printable

if TYPE_CHECKING:
    from archiver.storage.store import Store


FORMAT = 1
"""The format number that this version reads and writes."""
SEAL_MAX = 8 << 20
"""A seal's file has at most this many bytes,"""
MANIFEST_MAX = 64 << 20
"""and a manifest's JSON this many, as its file."""
FILES_MAX = 100_000
"""Files of a manifest,"""
TENSORS_MAX = 320_000
"""its tensors, of all files together,"""
SEGMENTS_MAX = 500_000
"""and its segments."""
CARD_MAX = 1 << 20
"""Bytes of a manifest's ``card``."""
PACKS_MAX = 100_000
"""Packs that a seal names."""
PATTERNS_MAX = 10_000
"""Patterns of each of a selection's two lists."""

_PLACE_MAX: Final = 1 << 16
_UUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")

Record = TypeVar("Record", bound=msgspec.Struct)


class Features(msgspec.Struct, frozen=True):
    """Names of what a reader, or a writer, must know before it may touch the archive."""

    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()


class ArchiveInfo(msgspec.Struct, frozen=True):
    """``archive.json``: which archive this is and what one must know to use it."""

    archive: str
    created: str
    tool: str
    kind: str = "archive"
    format: int = FORMAT
    features: Features = Features()
    check: str | msgspec.UnsetType = msgspec.UNSET


class PlaceInfo(msgspec.Struct, frozen=True):
    """``place.json``: a random UUID for the folder that holds an archive, one of its copies."""

    place: str
    kind: str = "place"
    format: int = FORMAT


class Source(msgspec.Struct, frozen=True):
    """Where a revision came from, as upstream tells it (``docs/format.md``, 6.1)."""

    upstream: str
    endpoint: str
    repository: str
    revision: str
    id: str = ""
    committed: str = ""
    licence: str = ""
    card: dict[str, Any] = {}


class FileEntry(msgspec.Struct, frozen=True, gc=False):
    """One file of a revision (``docs/format.md``, 6.2).

    ``segments`` lists (size in bytes, BLAKE3) in file order; ``tensors`` is there if the file is a
    safetensors or GGUF file whose header was accepted. ``container`` says which: ``"gguf"``, or safetensors
    where it is not there.
    """

    path: str
    size: int
    sha256: str
    blake3: str
    oid: str = ""
    lfs: bool = False
    segments: tuple[tuple[int, str], ...] = ()
    tensors: tuple[Tensor, ...] | msgspec.UnsetType = msgspec.UNSET
    container: str | msgspec.UnsetType = msgspec.UNSET


class Manifest(msgspec.Struct, frozen=True):
    """What the files of one revision are; says nothing about storage."""

    source: Source
    files: tuple[FileEntry, ...]
    kind: str = "manifest"
    format: int = FORMAT

    def file(self, path: str) -> FileEntry | None:
        """Return the entry of ``path``, or None."""
        return next((entry for entry in self.files if entry.path == path), None)


class SourceFacts(msgspec.Struct, frozen=True):
    """Of ``Source``, whom the files came from, the time of the commit, upstream's id, the licence."""

    upstream: str
    committed: str = ""
    id: str = ""
    licence: str = ""


class FileFacts(msgspec.Struct, frozen=True, gc=False):
    """Of a ``FileEntry``, what the file is: neither its segments nor its tensors."""

    path: str
    size: int
    sha256: str
    oid: str = ""
    lfs: bool = False


class ManifestFacts(msgspec.Struct, frozen=True):
    """A manifest without segments and tensors, of which a model may have hundreds of thousands."""

    source: SourceFacts
    files: tuple[FileFacts, ...]
    kind: str = "manifest"


class ManifestRef(msgspec.Struct, frozen=True):
    """A seal's pointer to its manifest: digests and size of the canonical JSON.

    ``objects`` are that JSON once more, cut every 16 MiB and stored in the seal's packs: (size in bytes,
    BLAKE3) of each. Seals of older writers have neither them nor ``sha256``.
    """

    blake3: HexDigest
    size: Count
    sha256: HexDigest | msgspec.UnsetType = msgspec.UNSET
    objects: tuple[tuple[Count, HexDigest], ...] | msgspec.UnsetType = msgspec.UNSET

    @property
    def copies(self) -> tuple[tuple[int, str], ...]:
        """The objects; none of an older writer's seal."""
        return () if isinstance(self.objects, msgspec.UnsetType) else self.objects


class Totals(msgspec.Struct, frozen=True):
    """Counts over one snapshot; ``bytes`` are plain, ``stored`` are the bytes its objects take."""

    files: Count
    bytes: Count
    objects: Count
    stored: Count
    tensors: Count


Patterns = Annotated[tuple[str, ...], msgspec.Meta(max_length=PATTERNS_MAX)]


class Selection(msgspec.Struct, frozen=True):
    """The patterns that chose the files; both empty when the whole revision is held.

    ``completeness`` is ``"unknown"`` where nobody could tell which files the revision has: they came
    from a cache without a record of it.
    """

    include: Patterns = ()
    exclude: Patterns = ()
    completeness: str | msgspec.UnsetType = msgspec.UNSET

    @property
    def chosen(self) -> bool:
        """Whether patterns chose the files."""
        return bool(self.include or self.exclude)

    @property
    def known(self) -> bool:
        """Whether it is known which files the revision has."""
        return self.completeness is msgspec.UNSET

    @property
    def whole(self) -> bool:
        """Whether every file of the revision is held, and that is known."""
        return self.known and not self.chosen


class Seal(msgspec.Struct, frozen=True):
    """The publication of a snapshot: this manifest is held here, in these packs.

    ``vouched`` says whose digests the files were compared with (:mod:`archiver.archive.vouching`), and
    ``committed`` is the time of the commit, as the manifest has it; older writers wrote neither.
    """

    archive: str
    repository: str
    revision: str
    manifest: ManifestRef
    packs: Annotated[tuple[tuple[HexDigest, Count], ...], msgspec.Meta(max_length=PACKS_MAX)]
    totals: Totals
    sealed: str
    tool: str
    selection: Selection = Selection()
    parent: str = ""
    kind: str = "snapshot"
    format: int = FORMAT
    features: Features = Features()
    vouched: tuple[tuple[int, str, str], ...] | msgspec.UnsetType = msgspec.UNSET
    committed: str | msgspec.UnsetType = msgspec.UNSET


def canonical(record: msgspec.Struct | dict[str, Any] | tuple[Any, ...]) -> bytes:
    """Return the canonical JSON of a record (RFC 8785; keys are ASCII and there are no floats)."""
    return msgspec.json.encode(record, order="sorted")


def record_digest(record: msgspec.Struct) -> Blake3Hex:
    """Return the BLAKE3 of a record's canonical JSON: the record's identity."""
    return blake3_hex(canonical(record))


def parse_record(data: bytes | bytearray | memoryview, kind: type[Record], what: str) -> Record:
    """Return a record of the given type; raise DamageError, naming ``what``, if it is not one."""
    try:
        record = _decoder(kind).decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DamageError(f"{what} is not a readable {kind.__name__}: {error}.") from error
    expected = _kind_of(kind)
    if expected is not None and getattr(record, "kind", None) != expected:
        raise DamageError(f"{what} does not say that it is of the kind {expected!r}.")
    return record


def require_known(what: str, number: Any, features: Features | None = None) -> None:
    """Raise UnknownFormatError for a format, or features to read, that this version does not know."""
    unknown = sorted(features.read) if features else []
    if number == FORMAT and not unknown:
        return
    has = f"format {printable(str(number))}" if number != FORMAT else f"features {unknown}"
    raise UnknownFormatError(
        f"{what} has {has}; this version of archiver knows format {FORMAT}.",
        hint="Nothing was touched. Use a newer archiver, or the decode.py in the archive.",
    )


_DECODERS: dict[type[msgspec.Struct], msgspec.json.Decoder[Any]] = {}
_DECODERS_LOCK = threading.Lock()


def _decoder(kind: type[Record]) -> msgspec.json.Decoder[Record]:
    """Return the decoder of a type.

    Made by one thread at a time: msgspec shows others what it has learned of a type before it is done,
    and a thread that decodes with that crashes the process.
    """
    with _DECODERS_LOCK:
        if kind not in _DECODERS:
            _DECODERS[kind] = msgspec.json.Decoder(kind)
        return _DECODERS[kind]


@functools.cache
def _kind_of(kind: type[msgspec.Struct]) -> Any:
    """Return what the key ``kind`` must hold in such a record; None if it has no such key."""
    fields = {field.name: field.default for field in msgspec.structs.fields(kind)}
    return fields.get("kind") or None


def with_check(info: ArchiveInfo) -> ArchiveInfo:
    """Return the same with its digest, which ``archive.json`` has (``docs/format.md``, section 2)."""
    return msgspec.structs.replace(info, check=_check(msgspec.to_builtins(info)))


def info_file(info: ArchiveInfo) -> bytes:
    """Return what ``archive.json`` should hold."""
    return canonical(with_check(info)) + b"\n"


def parse_info(data: bytes) -> ArchiveInfo:
    """Return what an ``archive.json`` says.

    Raise DamageError if it cannot be read, or says something else than was written. One without a
    ``check``, of an older writer, is taken as it is.
    """
    info = parse_record(data, ArchiveInfo, INFO)
    if isinstance(info.check, msgspec.UnsetType):
        return info
    keys = keys_of(data)
    # A person who writes the line anew may leave out its end.
    if info.check != _check(keys) or data.removesuffix(b"\n") != canonical(keys):
        raise DamageError(f"{INFO} is damaged: it says something else than was written.", path=INFO)
    return info


def has_right_check(data: bytes) -> bool:
    """Return whether an ``archive.json``, of this or of a newer format, is as it was written."""
    try:
        keys = keys_of(data)
    except DamageError:
        return False
    check = keys.get("check")
    return check == _check(keys) and data.removesuffix(b"\n") == canonical(keys)


def keys_of(data: bytes) -> dict[str, Any]:
    """Return every key of an ``archive.json``, also those that this version does not know.

    Raise DamageError if one of them cannot be read.
    """
    try:
        keys: dict[str, Any] = msgspec.json.decode(data, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DamageError(f"{INFO} is damaged: {error}.", path=INFO) from error
    return keys


def _check(keys: dict[str, Any]) -> str:
    """Return the digest of everything else, also of keys that only a newer version knows."""
    return blake3_hex(canonical({key: value for key, value in keys.items() if key != "check"}))


class _Declared(msgspec.Struct):
    format: Any = FORMAT
    features: msgspec.Raw = msgspec.Raw(b"{}")
    """Of another format they may have another shape."""


def declared(data: bytes | bytearray | memoryview) -> tuple[Any, Features]:
    """Return the format and features that a document of whatever shape declares; ours if it has none."""
    try:
        document = msgspec.json.decode(data, type=_Declared)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return FORMAT, Features()
    try:
        return document.format, msgspec.json.decode(document.features, type=Features)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return document.format, Features()


def place_file(place: str = "") -> bytes:
    """Return what ``place.json`` should hold: this identity, or a new one (``docs/format.md``, 2.1)."""
    return canonical(PlaceInfo(place or str(uuid.uuid4()))) + b"\n"


def parse_place(data: bytes) -> str:
    """Return the identity in a ``place.json``; raise DamageError if it is not as one was written."""
    info = parse_record(data, PlaceInfo, PLACE)
    if not is_identity(info.place) or data != canonical(info) + b"\n":
        raise DamageError(
            f"{PLACE} is damaged: it says something else than was written.", path=PLACE
        )
    return info.place


def is_identity(text: str) -> bool:
    """Return whether it has the form of a place's identity."""
    return _UUID.fullmatch(text) is not None


def read_place(store: Store) -> str:
    """Return the identity of a store's place, ``""`` if it has none yet; raise DamageError for damage."""
    try:
        return parse_place(store.get(PLACE, _PLACE_MAX))
    except FileNotFoundError:
        return ""
