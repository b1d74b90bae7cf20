"""The hub's JSON: only the fields that are needed, bounded, without anything but JSON's types."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from archiver.errors import ArchiverError, HostileNameError, MismatchError, NetworkError

if TYPE_CHECKING:
    from archiver.upstream.huggingface.answers import Asked

_MOST_DIGITS = 16
_LARGEST_INTEGER = 2**53
_DEEPEST = 16
_LARGEST_CARD = 64 * 1024
_LARGEST_RAW_CARD = 2 * 1024 * 1024
_LARGEST_SEARCHED = 16 * 1024 * 1024
_LONGEST_LICENCE = 200
_LONGEST_TIME = 64
_PROXY_HINT = "Check that HF_ENDPOINT is a hub and that no proxy stands in between."
_SURROGATES = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)
"""Escapes of JSON; the group is a surrogate without its other half, which is no character."""

Document = TypeVar("Document")


class InfoDocument(msgspec.Struct):
    """What ``/api/models/…`` says of a repository, as far as it is of use."""

    id: str | None = None
    model_id: str | None = msgspec.field(name="modelId", default=None)
    internal_id: str | None = msgspec.field(name="_id", default=None)
    sha: str | None = None
    modified: str | None = msgspec.field(name="lastModified", default=None)
    disabled: bool | None = None
    card: msgspec.Raw = msgspec.field(name="cardData", default=msgspec.Raw(b"null"))


class LfsPointer(msgspec.Struct, gc=False):
    """What an entry of a tree says of a file in LFS."""

    oid: str = ""
    size: int = -1


class TreeEntry(msgspec.Struct, gc=False):
    """An entry of a tree; ``type`` is ``file`` or ``directory``."""

    path: str
    type: str = ""
    oid: str = ""
    size: int = -1
    lfs: LfsPointer | None = None


class CollectionItem(msgspec.Struct, gc=False):
    """An item of a collection, such as a model."""

    type: str = ""
    id: str | None = None


class CollectionDocument(msgspec.Struct):
    """What ``/api/collections/…`` lists."""

    items: list[CollectionItem]


def parse_info(body: bytes | bytearray, asked: Asked) -> InfoDocument:
    """A repository's description; raises HostileNameError if it is another kind of answer.

    Raises NetworkError for what is no JSON: that was not sent by a hub.
    """
    nonsense = HostileNameError(f"The hub's answer about {asked} describes no repository.")
    try:
        return _decoded(body, InfoDocument, asked, nonsense)
    except msgspec.DecodeError:
        # The card's text may hold half a character; the fields that count are checked anyway.
        return _decoded(_whole_characters(body), InfoDocument, asked, nonsense)


def parse_tree(body: bytes | bytearray, asked: Asked) -> list[TreeEntry]:
    """A page of a tree; raises as `parse_info`, and MismatchError for an entry without sense."""
    nonsense = MismatchError(
        f"Upstream's listing of {asked} has an entry without a name or size.",
        hint="Nothing was fetched; the hub, or what stands in between, sends nonsense.",
    )
    try:
        return _decoded(body, list[TreeEntry], asked, nonsense)
    except msgspec.DecodeError as error:
        raise HostileNameError(
            f"Upstream's listing of {asked} holds a name that is not Unicode text.",
            hint="Nothing was fetched. Ask the publisher to rename the file.",
        ) from error


def parse_collection(body: bytes | bytearray, asked: Asked) -> CollectionDocument:
    """A collection; raises as `parse_info`."""
    nonsense = HostileNameError(f"The hub's answer about {asked} describes no collection.")
    try:
        return _decoded(body, CollectionDocument, asked, nonsense)
    except msgspec.DecodeError:
        return _decoded(_whole_characters(body), CollectionDocument, asked, nonsense)


def _decoded(
    body: bytes | bytearray, kind: type[Document], asked: Asked, nonsense: ArchiverError
) -> Document:
    """The document in ``body``; raises a bare DecodeError if half characters are what is wrong."""
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise nonsense from error
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        small = len(body) <= _LARGEST_SEARCHED
        halves = small and any(match[1] for match in _SURROGATES.finditer(body))
        if halves and isinstance(error, msgspec.DecodeError):
            raise
        raise NetworkError(
            f"The answer about {asked} is no JSON: {type(error).__name__}.", hint=_PROXY_HINT
        ) from error


def _whole_characters(body: bytes | bytearray) -> bytearray:
    """``body`` with a question mark for each surrogate without its other half."""
    whole = bytearray(body)
    for match in _SURROGATES.finditer(body):
        if match[1]:
            whole[match.start() : match.end()] = b"\\u003f"  # as long as what it replaces
    return whole


def _integer(digits: str) -> int | str:
    value = int(digits) if len(digits) <= _MOST_DIGITS else _LARGEST_INTEGER + 1
    return value if -_LARGEST_INTEGER <= value <= _LARGEST_INTEGER else digits


def card_of(info: InfoDocument) -> dict[str, Any]:
    """The model card's metadata as a manifest keeps it; ``{}`` if there is none.

    Floating-point numbers and huge integers become their own text, keys become ASCII, what is
    nested deeper than 16 levels becomes null, and fields are left out from the first one on that
    would bring the card above 64 KiB of JSON. Of a card above 2 MiB nothing is kept.
    """
    if memoryview(info.card).nbytes > _LARGEST_RAW_CARD:
        return {}
    try:
        fields = json.loads(
            bytes(info.card), parse_float=str, parse_constant=str, parse_int=_integer
        )
    except (ValueError, RecursionError):
        return {}
    card: dict[str, Any] = {}
    room = _LARGEST_CARD
    for key, value in fields.items() if isinstance(fields, dict) else ():
        kept = {_ascii(key): _clean(value, 1)}
        room -= len(json.dumps(kept, ensure_ascii=False).encode())
        if room < 0:
            break
        card |= kept
    return card


def _clean(value: Any, depth: int) -> Any:
    if isinstance(value, str):
        return _unicode(value)
    if depth >= _DEEPEST:
        return value if value is None or isinstance(value, (bool, int)) else None
    if isinstance(value, dict):
        return {_ascii(key): _clean(inner, depth + 1) for key, inner in value.items()}
    if isinstance(value, list):
        return [_clean(inner, depth + 1) for inner in value]
    return value


def _ascii(key: str) -> str:
    return key.encode("ascii", "backslashreplace").decode()


def _unicode(text: str) -> str:
    """``text`` without lone surrogates, which JSON can hold and UTF-8 cannot."""
    return text.encode("utf-8", "replace").decode()


def licence_of(card: dict[str, Any]) -> str:
    """The licence that a card declares; the custom licence's name where it says ``other``."""
    told = card.get("license")
    names = [name for name in (told if isinstance(told, list) else [told]) if isinstance(name, str)]
    if names == ["other"] and isinstance(card.get("license_name"), str):
        names = [card["license_name"]]
    return ", ".join(names)[:_LONGEST_LICENCE]


def time_of(text: str | None) -> str:
    """A time of the hub's API as the format writes it; ``""`` if it is none."""
    try:
        moment = datetime.fromisoformat((text or "")[:_LONGEST_TIME]).astimezone(UTC)
    except (ValueError, OverflowError):
        return ""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ").zfill(len("2026-01-01T00:00:00Z"))
