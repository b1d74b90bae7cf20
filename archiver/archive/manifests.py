"""Manifests: checked against the seals that name them, stored, and as files outside of an archive.

What a manifest holds is bounded before any of it is built (:func:`parse_manifest`), whether it comes from
an archive, which may be hostile, or from a person. What would be beyond the bounds is never written.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from contextlib import contextmanager
from hashlib import sha256
from itertools import accumulate
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec
import zstandard

from archiver.archive import layout
from archiver.archive.advice import command, mending
from archiver.archive.fixity import WINDOW_MAX, require_one_frame
from archiver.archive.records import (
    CARD_MAX,
    FILES_MAX,
    FORMAT,
    MANIFEST_MAX,
    SEGMENTS_MAX,
    TENSORS_MAX,
    Manifest,
    ManifestFacts,
    ManifestRef,
    canonical,
    parse_record,
    require_known,
)
from archiver.digest import Blake3Hex, are_blake3, blake3_hex, is_blake3, is_object_id, is_sha256
from archiver.errors import (
    ArchiverError,
    DamageError,
    InvalidDocumentError,
    TooLargeError,
    UnknownFormatError,
    UsageError,
    explain_system_error,
)
from archiver.names import path_problems
from archiver.tensors.cuts import SEGMENT_MAX
from archiver.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from archiver.archive.findings import Code
    from archiver.archive.records import FileEntry, FileFacts, Seal, Source
    from archiver.buffers import Bytes
    from archiver.codec.segment import EncodedObject
    from archiver.storage.store import Store
    from archiver.tensors.header import Tensor


Segments = tuple[tuple[int, str], ...]
"""(size in bytes, BLAKE3) of each segment, in order."""
DOCUMENT_DTYPE: Final = "U8"
"""Of a document that is stored as objects: bytes, for which only codec 0 is tried."""
_LEVEL: Final = 9
"""Of Zstandard."""
_ZSTD: Final = b"\x28\xb5\x2f\xfd"
_SUFFIX: Final = (".json", ".json.zst")
VALUES_MAX: Final = {b",": 4_000_000, b"[": 1_500_000, b"{": 1_000_000}
"""How often these may stand in a manifest: more than its bounds allow, looked at before it is parsed.

A value of two bytes becomes an object of sixty, so that the length alone bounds nothing.
"""
_SHOWN: Final = 5


class _Card(msgspec.Struct, frozen=True):
    card: msgspec.Raw = msgspec.Raw(b"{}")


class _Outline(msgspec.Struct, frozen=True):
    """A manifest of which nothing is built but where its card lies."""

    source: _Card = _Card()


class Manifests:
    """The manifests in one store.

    Where the file of one is missing or damaged, ``copies`` has its JSON out of the seal's packs.
    """

    def __init__(self, store: Store, copies: Callable[[Seal], bytes]) -> None:
        self._store = store
        self._copies = copies

    def read(self, seal: Seal) -> Manifest:
        """Return the manifest that a seal names; raise DamageError if it comes out of nowhere."""
        with self._advising(seal):
            return self._parsed(seal, self._plain(seal), f"The manifest {_name(seal)}")

    def facts(self, seal: Seal) -> ManifestFacts:
        """Return what a seal's files are, without segments and tensors; raise as ``read`` does."""
        with self._advising(seal):
            what, plain = f"The manifest {_name(seal)}", self._plain(seal)
            require_few_values(plain, what)
            return parse_record(plain, ManifestFacts, what)

    def read_file(self, seal: Seal, where: str = "") -> Manifest:
        """Return the manifest from its file alone, which lies in its place, or, out of use, at ``where``.

        Raise DamageError if that is missing or damaged.
        """
        with self._advising(seal):
            what = f"The manifest {where or _name(seal)}"
            return self._parsed(seal, self._file(seal, where), what, where)

    @contextmanager
    def _advising(self, seal: Seal) -> Iterator[None]:
        """Give damage of a seal's manifest what to do next."""
        try:
            yield
        except DamageError as error:
            name = _name(seal)
            title = f"{seal.repository}@{seal.revision[:12]}"
            there = self._store.stat(name) is not None
            place = self._store.address
            if isinstance(error, InvalidDocumentError):
                error.hint = (
                    "Every copy of it says the same. Mirror the repository again, and take this snapshot "
                    f"out of use with {command('forget', place, title)}."
                )
                raise
            code: Code = "manifest-damaged" if there else "manifest-missing"
            error.hint = mending(place, code, title)
            raise

    def _parsed(self, seal: Seal, plain: bytes, what: str, where: str = "") -> Manifest:
        manifest = parse_manifest(plain, what)
        require_known(what, manifest.format)
        source = manifest.source
        if (source.repository, source.revision) != (seal.repository, seal.revision):
            raise DamageError(
                f"{what} is of another repository or revision than its seal.",
                path=where or _name(seal),
            )
        require_valid(manifest, what)
        return manifest

    def named(self, name: str) -> tuple[Manifest, bytes]:
        """Return the manifest in the file ``name``, which proves it, and its canonical JSON.

        Raise DamageError if it is missing, damaged or invalid.
        """
        what = f"The manifest {name}"
        plain = self._unpack(name)
        if blake3_hex(plain) != layout.digest_of(name):
            raise DamageError(f"{what} is damaged: its bytes have another digest.", path=name)
        manifest = parse_manifest(plain, what)
        require_known(what, manifest.format)
        require_valid(manifest, what)
        return manifest, plain

    def plain(self, seal: Seal) -> bytes:
        """Return the canonical JSON of the manifest that a seal names, checked; raise as ``read``."""
        with self._advising(seal):
            return self._plain(seal)

    def _plain(self, seal: Seal) -> bytes:
        try:
            return self._file(seal)
        except DamageError as error:
            if not seal.manifest.copies:
                raise
            try:
                return self.copy(seal)
            except ArchiverError:
                raise error from None

    def copy(self, seal: Seal) -> bytes:
        """Return the canonical JSON out of the seal's packs; raise DamageError if it is not there whole."""
        plain = self._copies(seal)
        if blake3_hex(plain) != seal.manifest.blake3:
            raise DamageError(f"The packs have another manifest than {_name(seal)}.")
        return plain

    def _file(self, seal: Seal, where: str = "") -> bytes:
        name = where or _name(seal)
        plain = self._unpack(name, seal.manifest.size)
        if blake3_hex(plain) != seal.manifest.blake3:
            raise DamageError(
                f"The manifest {name} is damaged: its bytes have another digest.", path=name
            )
        return plain

    def _unpack(self, name: str, size: int | None = None) -> bytes:
        """Return what the file decompresses to: ``size`` bytes if a seal says so."""
        try:
            data = self._store.get(name, MANIFEST_MAX)
            claimed = zstandard.frame_content_size(data)
            if (size is not None and claimed != size) or not 0 < claimed <= MANIFEST_MAX:
                raise DamageError(
                    f"The manifest {name} has not the size its seal names.", path=name
                )
            plain = zstandard.ZstdDecompressor(max_window_size=WINDOW_MAX).decompress(data)
            require_one_frame(lambda at, size: data[at : at + size], len(data))
        except FileNotFoundError:
            raise DamageError(f"The manifest {name} is missing.", path=name) from None
        except (zstandard.ZstdError, ValueError) as error:
            raise DamageError(f"The manifest {name} is damaged: {error}.", path=name) from error
        return plain

    def publish(self, source: Source, plain: bytes) -> None:
        """Store a manifest of this source, given by its canonical JSON, unless it is there.

        Raise DamageError if it is there, and damaged.
        """
        name = layout.manifest_name(source.repository, source.revision, blake3_hex(plain))
        if not self._store.put_new(name, manifest_file(plain)):
            self._require_whole(name, plain)

    def _require_whole(self, name: str, plain: bytes) -> None:
        """Raise DamageError unless the manifest that was there already still says the same."""
        try:
            same = self._unpack(name, len(plain)) == plain
        except DamageError:
            same = False
        if not same:
            raise DamageError(
                f"The manifest {name} is there already, and it is damaged.",
                hint="Copy it back from another copy of the archive, or delete it, and run again.",
            )


def manifest_bytes(manifest: Manifest) -> bytes:
    """Return a manifest's canonical JSON; raise TooLargeError if no reader could take it."""
    plain = canonical(manifest)
    require_room(plain, manifest)
    return plain


def manifest_ref(plain: bytes) -> ManifestRef:
    """Return what a seal says of a manifest's canonical JSON, but for its copy in packs."""
    return ManifestRef(blake3_hex(plain), len(plain), sha256(plain).hexdigest())


def manifest_file(plain: bytes) -> bytes:
    """Return what the file of a manifest holds."""
    return zstandard.ZstdCompressor(_LEVEL, write_checksum=True).compress(plain)


def pieces_of(plain: bytes) -> Iterator[Bytes]:
    """Yield the pieces in which a document is stored as objects."""
    import numpy as np  # noqa: PLC0415 - whoever only reads manifests need not wait for it

    whole = np.frombuffer(plain, np.uint8)
    for at in range(0, len(whole), SEGMENT_MAX):
        yield whole[at : at + SEGMENT_MAX]


def encode_piece(piece: Bytes, digest: Blake3Hex) -> EncodedObject:
    """Return a piece of a document as it is stored: by codec 0, which a person can undo."""
    from archiver.codec.segment import Effort, encode  # noqa: PLC0415 - the same

    return encode(piece, DOCUMENT_DTYPE, Effort.NORMAL, digest)


def parse_manifest(plain: bytes, what: str) -> Manifest:
    """Return the manifest that its JSON says; what it holds is bounded before any of it is built.

    Raise DamageError, naming ``what``, if it is none, or holds more than a manifest may.
    """
    require_few_values(plain, what)
    card = parse_record(plain, _Outline, what).source.card
    if memoryview(card).nbytes > CARD_MAX:
        raise InvalidDocumentError(
            f"{what} has a card of more than {CARD_MAX:,} bytes, which no manifest may have."
        )
    return parse_record(plain, Manifest, what)


def require_few_values(plain: bytes, what: str) -> None:
    """Raise InvalidDocumentError if a manifest's JSON would become too many objects."""
    for sign, most in VALUES_MAX.items():
        if plain.count(sign) > most:
            raise InvalidDocumentError(f"{what} holds more values than a manifest may.")


def require_valid(manifest: Manifest, what: str) -> None:
    """Raise InvalidDocumentError for what the format forbids, whoever wrote it (sections 6.1 to 6.3)."""
    counts = (
        ("files", len(manifest.files), FILES_MAX),
        ("segments", sum(len(entry.segments) for entry in manifest.files), SEGMENTS_MAX),
        ("tensors", sum(len(tensors_of(entry)) for entry in manifest.files), TENSORS_MAX),
    )
    for noun, count, most in counts:
        if count > most:
            raise InvalidDocumentError(f"{what} lists {count:,} {noun}; at most {most:,} may be.")
    problems = path_problems([entry.path for entry in manifest.files])
    problems += [
        f"{printable(entry.path)} {fault}"
        for entry in manifest.files
        if (fault := entry_fault(entry))
    ]
    if problems:
        more = len(problems) - _SHOWN
        listed = "; ".join(problems[:_SHOWN]) + (f"; and {more:,} more" if more > 0 else "")
        raise InvalidDocumentError(f"{what} says what the format forbids: {listed}.")


def entry_fault(entry: FileEntry) -> str:
    """Return why the entry of a file cannot be, as the rest of a sentence; empty if it can."""
    sizes = [size for size, _ in entry.segments]
    if any(not 0 < size <= SEGMENT_MAX for size in sizes) or sum(sizes) != entry.size:
        return "has segments that do not make up its size"
    digests = are_blake3(digest for _, digest in entry.segments)
    if not digests or not is_sha256(entry.sha256) or not is_sha256(entry.blake3):
        return "has a digest that is not 64 hexadecimal digits"
    if entry.oid and not is_object_id(entry.oid):
        return "has a git object id that is not 40 or 64 hexadecimal digits"
    return _tensor_fault(entry)


def _tensor_fault(entry: FileEntry) -> str:
    """Return what is wrong with tensors: they stand in file order, and begin and end where segments do."""
    ends = accumulate(size for size, _ in entry.segments)
    cut = at = 0
    for tensor in tensors_of(entry):
        begin, end = tensor.begin, tensor.end
        if not at <= begin <= end <= entry.size:
            return "has tensors that overlap or leave the file"
        # One after the other, and not in a loop: there may be hundreds of thousands.
        while cut < begin:
            cut = next(ends)
        if cut > begin:
            return "has tensors that are not made of its segments"
        while cut < end:
            cut = next(ends)
        if cut > end:
            return "has tensors that are not made of its segments"
        at = end
    return ""


def derived_revision(files: Iterable[FileEntry | FileFacts]) -> str:
    """Return the revision of files that have no commit (``docs/format.md``, 6.1): it says what they are."""
    rows = [[file.path, file.size, file.sha256] for file in sorted(files, key=attrgetter("path"))]
    return blake3_hex(msgspec.json.encode(rows))[:40]


def require_room(plain: bytes, manifest: Manifest) -> None:
    """Raise TooLargeError if a manifest would be larger than a reader has to take."""
    what, repository = "The manifest", manifest.source.repository
    if len(plain) > MANIFEST_MAX:
        reason = f"{what} would have {len(plain):,} bytes; at most {MANIFEST_MAX:,} may be."
        raise _too_large(repository, reason)
    try:
        require_few_values(plain, what)
        require_valid(manifest, what)
    except InvalidDocumentError as error:
        raise _too_large(repository, error.message) from error


def require_few_files(repository: str, files: int, size: int) -> None:
    """Raise TooLargeError if so many files, or bytes of files, cannot be in one manifest."""
    if files > FILES_MAX:
        raise _too_large(repository, f"It has {files:,} files; at most {FILES_MAX:,} may be.")
    if size // SEGMENT_MAX > SEGMENTS_MAX:
        raise _too_large(repository, f"Its {size:,} bytes are too many for one snapshot.")


def require_few_tensors(tensors: int) -> None:
    """Raise TooLargeError if so many tensors cannot be in one manifest."""
    if tensors > TENSORS_MAX:
        reason = f"Its files have {tensors:,} tensors or more; at most {TENSORS_MAX:,} may be."
        raise _too_large("The revision", reason)


def _too_large(repository: str, reason: str) -> TooLargeError:
    return TooLargeError(
        f"{repository} cannot be sealed as one snapshot: {reason}",
        hint="Mirror it in parts, with --include and --exclude.",
        subject=repository,
    )


def _name(seal: Seal) -> str:
    return layout.manifest_name(seal.repository, seal.revision, seal.manifest.blake3)


def objects_of(seal: Seal, manifest: Manifest) -> set[str]:
    """Return the BLAKE3 of every object that a snapshot needs: of its files and of its manifest's copy."""
    return objects_of_files(manifest).union(digest for _, digest in seal.manifest.copies)


def objects_of_files(manifest: Manifest) -> set[str]:
    """Return the BLAKE3 of every object that the files are made of."""
    return {digest for entry in manifest.files for _, digest in entry.segments}


def tensors_of(entry: FileEntry) -> tuple[Tensor, ...]:
    """Return the tensors of a file; empty if its header was not accepted."""
    return () if isinstance(entry.tensors, msgspec.UnsetType) else entry.tensors


def tensor_segments(entry: FileEntry) -> Iterator[tuple[Tensor, Segments]]:
    """Yield each tensor of a file with its segments; a tensor of no bytes has none."""
    starts = list(accumulate((size for size, _ in entry.segments), initial=0))
    for tensor in tensors_of(entry):
        first, end = bisect_left(starts, tensor.begin), bisect_left(starts, tensor.end)
        yield tensor, entry.segments[first:end]


class _Kind(msgspec.Struct, frozen=True):
    kind: str = ""
    format: int = 0


class NoManifestError(DamageError):
    """The file is no JSON that could be a manifest: another file, or a badly damaged one."""


class ManifestFile(NamedTuple):
    """A manifest and the BLAKE3 of its canonical JSON, however the file wrote it."""

    manifest: Manifest
    digest: Blake3Hex


Prove = Callable[[bytes], None]
"""Told the canonical JSON of a manifest; raises a domain error if it is not to be believed."""


def read_manifest_file(path: Path, prove: Prove = lambda _plain: None) -> ManifestFile:
    """Return the manifest in ``path``: canonical JSON, that in Zstandard, or JSON with white space.

    ``prove`` is called before any of it is believed, and may raise.

    Raises:
        UsageError: There is no such file, or it is no manifest at all.
        UnknownFormatError: It is a manifest of another format.
        NoManifestError: It is no JSON: another file, or a badly damaged one.
        DamageError: It cannot be read, or its name has the digest of other bytes.
    """
    plain = _plain(path)
    try:
        kind = parse_record(plain, _Kind, str(path))
    except DamageError:
        raise NoManifestError(f"{path} is not a manifest, or it is damaged.") from None
    if kind.kind != "manifest":
        raise UsageError(
            f"{path} is not a manifest.",
            hint="'archiver manifest export -C ARCHIVE REPO@REVISION -o FILE' writes one.",
        )
    if kind.format != FORMAT:
        raise UnknownFormatError(
            f"{path} is a manifest of format {kind.format}; this archiver knows {FORMAT}."
        )
    require_few_values(plain, str(path))
    plain = _canonical(plain, str(path))
    prove(plain)
    manifest = parse_manifest(plain, str(path))
    digest = blake3_hex(plain)
    expected = named_digest(path.name)
    if expected and expected != digest:
        raise DamageError(f"{path} is damaged: its bytes have another digest than its name.")
    return ManifestFile(manifest, digest)


def named_digest(name: str) -> str:
    """Return the digest in a file's name as an archive writes it, or ``""``."""
    suffix = next((end for end in _SUFFIX if name.endswith(end)), None)
    parts = name.removesuffix(suffix).split(".") if suffix else []
    named = len(parts) == 2 and is_object_id(parts[0]) and is_blake3(parts[1])  # noqa: PLR2004 - commit and BLAKE3
    return parts[1] if named else ""


def pretty(plain: bytes) -> bytes:
    """Return canonical JSON with white space, for people; its canonical form and digest are the same."""
    return msgspec.json.format(plain, indent=2) + b"\n"


def _canonical(plain: bytes, what: str) -> bytes:
    """Return the canonical JSON, also of keys that this version does not know: the digest covers them."""
    encoded = canonical(parse_manifest(plain, what))
    if encoded == plain:
        return plain  # the usual case, and built with types, which takes less than what follows
    try:
        document: dict[str, Any] = msgspec.json.decode(plain)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DamageError(f"{what} is damaged: {error}.") from error
    return canonical(document)


def _plain(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MANIFEST_MAX + 1)
    except (FileNotFoundError, IsADirectoryError):
        raise UsageError(f"There is no manifest at {path}.") from None
    except OSError as error:
        raise explain_system_error(error, "the manifest was read") from error
    if data[:4] == _ZSTD:
        data = decompressed(data, path)
    if len(data) > MANIFEST_MAX:
        raise DamageError(f"{path} is larger than a manifest may be.")
    return data


def decompressed(data: bytes, what: object) -> bytes:
    """Return what a frame holds, never much more than its limit: a small file may claim anything.

    Raise DamageError, naming ``what``, if it is damaged.
    """
    try:
        with zstandard.ZstdDecompressor().stream_reader(data) as stream:
            return stream.read(MANIFEST_MAX + 1)
    except zstandard.ZstdError as error:
        raise DamageError(f"{what} is damaged: {error}.") from error
