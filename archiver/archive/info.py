"""``archive.json``: which archive this is, with a digest of its own (``docs/format.md``, section 2)."""

from __future__ import annotations

from typing import Any

import msgspec

from archiver.archive.layout import INFO
from archiver.archive.records import FORMAT, ArchiveInfo, canonical, parse_record
from archiver.digest import blake3_hex
from archiver.errors import DamageError


def info_file(info: ArchiveInfo) -> bytes:
    """What ``archive.json`` should hold."""
    return _file(msgspec.structs.replace(info, check=_check(info)))


def parse_info(data: bytes) -> ArchiveInfo:
    """What an ``archive.json`` says.

    Raises DamageError if it cannot be read, or says something else than was written. One without a
    ``check``, of an older writer, is taken as it is.
    """
    info = parse_record(data, ArchiveInfo, INFO)
    if isinstance(info.check, msgspec.UnsetType):
        return info
    # A person who writes the line anew may leave out its end.
    if info.check != _check(info) or data.removesuffix(b"\n") != canonical(info):
        raise DamageError(f"{INFO} is damaged: it says something else than was written.")
    return info


class _Declared(msgspec.Struct):
    format: Any = FORMAT


def declared_format(data: bytes) -> Any:
    """The format that a file of whatever shape declares; ours if it is damaged and declares none."""
    try:
        return msgspec.json.decode(data, type=_Declared).format
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return FORMAT


def _check(info: ArchiveInfo) -> str:
    return blake3_hex(canonical(msgspec.structs.replace(info, check=msgspec.UNSET)))


def _file(info: ArchiveInfo) -> bytes:
    return canonical(info) + b"\n"
