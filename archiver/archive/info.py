"""``archive.json``: which archive this is, with a digest of its own (``docs/format.md``, section 2)."""

from __future__ import annotations

from typing import Any

import msgspec

from archiver.archive.layout import INFO
from archiver.archive.records import FORMAT, ArchiveInfo, canonical, parse_record
from archiver.digest import blake3_hex
from archiver.errors import DamageError


def with_check(info: ArchiveInfo) -> ArchiveInfo:
    """The same with its digest."""
    return msgspec.structs.replace(info, check=_check(msgspec.to_builtins(info)))


def info_file(info: ArchiveInfo) -> bytes:
    """What ``archive.json`` should hold."""
    return canonical(with_check(info)) + b"\n"


def parse_info(data: bytes) -> ArchiveInfo:
    """What an ``archive.json`` says.

    Raises DamageError if it cannot be read, or says something else than was written. One without a
    ``check``, of an older writer, is taken as it is.
    """
    info = parse_record(data, ArchiveInfo, INFO)
    if isinstance(info.check, msgspec.UnsetType):
        return info
    told = keys_of(data)
    # A person who writes the line anew may leave out its end.
    if info.check != _check(told) or data.removesuffix(b"\n") != canonical(told):
        raise DamageError(f"{INFO} is damaged: it says something else than was written.", path=INFO)
    return info


def keys_of(data: bytes) -> dict[str, Any]:
    """Every key of an ``archive.json``, also those that this version does not know.

    Raises DamageError if one of them cannot be read.
    """
    try:
        told: dict[str, Any] = msgspec.json.decode(data, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DamageError(f"{INFO} is damaged: {error}.", path=INFO) from error
    return told


def _check(told: dict[str, Any]) -> str:
    """The digest of everything else, also of keys that only a newer version knows."""
    return blake3_hex(canonical({key: value for key, value in told.items() if key != "check"}))


class _Declared(msgspec.Struct):
    format: Any = FORMAT


def declared_format(data: bytes) -> Any:
    """The format that a file of whatever shape declares; ours if it is damaged and declares none."""
    try:
        return msgspec.json.decode(data, type=_Declared).format
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return FORMAT
