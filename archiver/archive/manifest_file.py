"""A manifest in a file of its own, outside an archive: canonical, compressed, or made readable."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec
import zstandard

from archiver.archive.manifests import parse_manifest, require_few_values
from archiver.archive.records import FORMAT, MANIFEST_MAX, Manifest, canonical, parse_record
from archiver.digest import Blake3Hex, blake3_hex
from archiver.errors import DamageError, UnknownFormatError, UsageError, explain_system_error

if TYPE_CHECKING:
    from pathlib import Path

_ZSTD: Final = b"\x28\xb5\x2f\xfd"
_SUFFIX: Final = (".json", ".json.zst")


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
    """The manifest in ``path``: canonical JSON, that in Zstandard, or JSON with white space.

    ``prove`` is asked before any of it is believed.

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
    named = named_digest(path.name)
    if named and named != digest:
        raise DamageError(f"{path} is damaged: its bytes have another digest than its name.")
    return ManifestFile(manifest, digest)


def named_digest(name: str) -> str:
    """The digest in a file's name as an archive writes it, or ``""``."""
    suffix = next((end for end in _SUFFIX if name.endswith(end)), None)
    parts = name.removesuffix(suffix).split(".") if suffix else []
    return parts[1] if len(parts) == 2 and len(parts[0]) == 40 and len(parts[1]) == 64 else ""  # noqa: PLR2004 - hex digits of a commit and of a BLAKE3


def pretty(plain: bytes) -> bytes:
    """Canonical JSON with white space, for people; its canonical form and digest are the same."""
    return msgspec.json.format(plain, indent=2) + b"\n"


def _canonical(plain: bytes, what: str) -> bytes:
    """Also for keys that this version does not know: they are part of what the digest covers."""
    manifest = _bounded(plain, what)
    if manifest is not None:
        return manifest
    try:
        document: dict[str, Any] = msgspec.json.decode(plain)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DamageError(f"{what} is damaged: {error}.") from error
    return canonical(document)


def _bounded(plain: bytes, what: str) -> bytes | None:
    """The canonical JSON where every key is known, and ``plain`` is it: built with types, which is less.

    None for JSON with white space, in another order, or with other keys.
    """
    again = canonical(parse_manifest(plain, what))
    return again if again == plain else None


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
    """What a frame holds, never much more than its limit: a small file may claim anything.

    DamageError, naming ``what``, if it is damaged.
    """
    try:
        with zstandard.ZstdDecompressor().stream_reader(data) as stream:
            return stream.read(MANIFEST_MAX + 1)
    except zstandard.ZstdError as error:
        raise DamageError(f"{what} is damaged: {error}.") from error
