"""Text for people: upstream's words made harmless, and sizes, rates, times and counts in short."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

from archiver.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

_SIZE = re.compile(
    r"\s*([0-9]{1,18}(?:\.[0-9]{1,9})?)\s*(?:([kmgtp])(i?b)?|b)?\s*\Z", re.IGNORECASE
)
_POWERS = "kmgtp"
_DURATION = re.compile(r"\s*([0-9]{1,9}(?:\.[0-9]{1,3})?)\s*([smhdw])\s*\Z", re.IGNORECASE)
_SHARE = re.compile(r"\s*([0-9]{1,3}(?:\.[0-9]{1,6})?)\s*%\s*\Z")
_UTC = "%Y-%m-%dT%H:%M:%SZ"
_UNITS = ("B", "kB", "MB", "GB", "TB", "PB", "EB")
_THOUSAND = 1000
_TEN = 10
_MINUTE = 60
_HOUR = 3600
_DAY = 86400
_SECONDS = {"s": 1, "m": _MINUTE, "h": _HOUR, "d": _DAY, "w": 7 * _DAY}
_LONGEST = 36500 * _DAY
_WHOLE = 100


def printable(text: str, limit: int = 200) -> str:
    r"""Return ``text`` safe to show: control characters, terminal escapes and odd spaces as ``\x1b``.

    Whatever Unicode does not call printable is escaped, also text-direction marks and surrogates;
    a backslash is doubled, so that an escape that upstream wrote cannot pass for one of ours.

    Args:
        text: What upstream sent.
        limit: The most characters of ``text`` that are shown; ``…`` marks what was left out.
    """
    shown = text[:limit]
    if "\\" in shown or not shown.isprintable():
        shown = "".join(map(_escaped, shown))
    return shown + "…" if len(text) > limit else shown


def _escaped(char: str) -> str:
    if char == "\\":
        return "\\\\"
    return char if char.isprintable() else char.encode("unicode_escape").decode()


def human_bytes(count: float) -> str:
    """Return ``count`` bytes in decimal units: ``0 B``, ``999 B``, ``1.50 GB``, ``807 GB``."""
    value = float(count)
    for unit in _UNITS:
        if abs(value) < _THOUSAND - 0.5 or unit == _UNITS[-1]:
            break
        value /= _THOUSAND
    return f"{value:.{_decimals(value, unit)}f} {unit}"


def _decimals(value: float, unit: str) -> int:
    """Return how many decimals keep three significant digits; whole bytes have none."""
    if unit == "B":
        return 0
    if abs(value) < _TEN - 0.005:
        return 2
    return 1 if abs(value) < _TEN**2 - 0.05 else 0


def human_rate(count: float, seconds: float = 1) -> str:
    """Return the speed of ``count`` bytes in ``seconds``, in decimal units: ``112 MB/s``."""
    return human_bytes(count / max(seconds, 1e-6)) + "/s"


def human_duration(seconds: float) -> str:
    """Return a duration in its two greatest units: ``0.4 s``, ``12 s``, ``3 min 05 s``, ``2 h 07 min``."""
    if seconds < _TEN - 0.05:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE} min {whole % _MINUTE:02} s"
    if whole < _DAY:
        return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE:02} min"
    return f"{whole // _DAY} d {whole % _DAY // _HOUR:02} h"


def parse_size(text: str) -> int:
    """Return the bytes that ``text`` stands for, rounded down; raise UsageError if it is no size.

    The units are those of GNU coreutils: ``500MB`` is decimal, ``1.5GiB`` and ``4G`` are binary, a
    bare number counts bytes. Case does not matter.
    """
    match = _SIZE.match(text)
    if not match:
        raise UsageError(f"{text[:80]!r} is not a size.", hint="Write it like 4G, 500MB or 1.5GiB.")
    number, power, suffix = match.groups()
    base = 1000 if (suffix or "").lower() == "b" else 1024
    return int(Decimal(number) * base ** (_POWERS.index(power.lower()) + 1 if power else 0))


def parse_duration(text: str) -> int:
    """Return the seconds that ``text`` stands for, rounded down: ``90s``, ``30m``, ``2h``, ``30d``, ``4w``.

    Raise UsageError if it is no duration, or longer than a hundred years.
    """
    match = _DURATION.match(text)
    seconds = int(Decimal(match[1]) * _SECONDS[match[2].lower()]) if match else _LONGEST + 1
    if seconds > _LONGEST:
        raise UsageError(
            f"{text[:80]!r} is not a duration.", hint="Write it like 90s, 30m, 2h or 30d."
        )
    return seconds


def parse_share(text: str) -> float:
    """Return the part of a whole that ``text`` stands for, such as ``5%``: more than 0, at most 1.

    Raise UsageError if it is none.
    """
    match = _SHARE.match(text)
    share = float(match[1]) / _WHOLE if match else 0.0
    if not 0 < share <= 1:
        raise UsageError(f"{text[:80]!r} is not a share.", hint="Write it like 5% or 0.5%.")
    return share


def human_share(part: float, whole: float) -> str:
    """Return a part in percent, rounded down, so that only all of it is ``100%``; ``-`` of nothing."""
    return f"{int(_WHOLE * part / whole)}%" if whole else "-"


def plural(count: int, noun: str, many: str = "") -> str:
    """Return a count with its noun: ``1 file``, ``1,234 files``; ``many`` is an irregular plural."""
    return f"{count:,} {noun if count == 1 else many or noun + 's'}"


def in_short(names: Iterable[str], most: int) -> str:
    """Return the first names of many in one line, and how many more there are."""
    listed = list(names)
    more = f" and {len(listed) - most:,} more" if len(listed) > most else ""
    return f"{', '.join(listed[:most])}{more}"


def utc_after(last: str) -> str:
    """Return the time now, or a second after ``last`` if now is not later."""
    now = utc_now()
    if now > last:
        return now
    try:
        moment = datetime.strptime(last, _UTC).replace(tzinfo=UTC) + timedelta(seconds=1)
    except (ValueError, OverflowError):
        return now
    return moment.strftime(_UTC)


def utc_before(seconds: float) -> str:
    """Return the time so many seconds ago; ``""``, which sorts first, if no year is so long ago."""
    try:
        return (wall_clock() - timedelta(seconds=seconds)).strftime(_UTC)
    except OverflowError:
        return ""


def utc_now() -> str:
    """Return the time now as the format writes it (docs/format.md section 1): ``YYYY-MM-DDTHH:MM:SSZ``."""
    return wall_clock().strftime(_UTC)


def utc_text(seconds: float) -> str:
    """Return a time, in seconds since 1970, as the format writes it; "" for one that is none."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime(_UTC)
    except (ValueError, OverflowError, OSError):
        return ""


def seconds_of(time: str) -> int | None:
    """Return the seconds since 1970 of a time as the format writes it; None if it is not one."""
    try:
        return int(datetime.strptime(time, _UTC).replace(tzinfo=UTC).timestamp())
    except ValueError:
        return None


def wall_clock() -> datetime:
    """Return what the clock says: the only place that asks for the date."""
    return _machine_clock()


def _machine_clock() -> datetime:
    """Return what this machine's clock says. A test puts a clock of its own in this place."""
    return datetime.now(UTC)
