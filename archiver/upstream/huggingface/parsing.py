"""The hub's JSON, made safe to keep: bounded, without floats, without anything but JSON's types."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from archiver.errors import NetworkError

_MOST_DIGITS = 16
_LARGEST_INTEGER = 2**53
_DEEPEST = 16
_LARGEST_CARD = 64 * 1024
_LONGEST_LICENCE = 200


def parse_json(body: bytes | bytearray, what: str) -> Any:
    """The JSON in ``body``, with floating-point numbers and huge integers as their own text.

    Raises NetworkError: what is no JSON was not sent by a hub.
    """
    try:
        return json.loads(body, parse_float=str, parse_constant=str, parse_int=_integer)
    except (ValueError, RecursionError) as error:
        raise NetworkError(
            f"The answer about {what} is no JSON: {type(error).__name__}.",
            hint="Check that HF_ENDPOINT is a hub and that no proxy stands in between.",
        ) from error


def _integer(digits: str) -> int | str:
    value = int(digits) if len(digits) <= _MOST_DIGITS else _LARGEST_INTEGER + 1
    return value if -_LARGEST_INTEGER <= value <= _LARGEST_INTEGER else digits


def card_of(info: dict[str, Any]) -> dict[str, Any]:
    """The model card's metadata as a manifest keeps it; ``{}`` if there is none.

    Keys become ASCII, what is nested deeper than 16 levels becomes null, and fields are left out
    from the first one on that would bring the card above 64 KiB of JSON.
    """
    told = info.get("cardData")
    card: dict[str, Any] = {}
    room = _LARGEST_CARD
    for key, value in told.items() if isinstance(told, dict) else ():
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


def time_of(text: Any) -> str:
    """A time of the hub's API as the format writes it; ``""`` if it is none."""
    try:
        moment = datetime.fromisoformat(text)
        return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (TypeError, ValueError, OverflowError):
        return ""
