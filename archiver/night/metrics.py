"""Metrics for Prometheus, as the textfile collector reads them: times and sizes, written in one piece.

No gauge says that all is well: one that a crashed night left behind would go on saying so. Whoever asks
looks at how old a time is.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from archiver.errors import explain_system_error
from archiver.text import seconds_of, utc_now

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from archiver.night.facts import News
    from archiver.operations.status.report import Status

OLD_MAX: Final = 1 << 20
"""Bytes of the file that is there, which are read for the time of the last success."""
_SUCCESS: Final = "archiver_night_last_success_timestamp_seconds"
_HELP: Final = {
    "archiver_night_last_end_timestamp_seconds": "When a night of the plan last came to its end.",
    _SUCCESS: "When a night of the plan last ended with exit code 0; 0: never.",
    "archiver_upstream_answered_timestamp_seconds": "When upstream last answered for that entry of the "
    "plan for which this is longest ago; 0: never.",
    "archiver_proof_oldest_timestamp_seconds": "When that pack at the place was last proven for which "
    "this is longest ago; 0: never.",
    "archiver_place_seen_timestamp_seconds": "When the place was last known to be there; 0: never.",
    "archiver_copies_short": "Snapshots that lie in fewer places that count than the policy wants.",
    "archiver_findings": "Facts that stand, by their kind, whether they are new or known.",
    "archiver_snapshots": "Snapshots that are held.",
    "archiver_stored_bytes": "Bytes of all packs that are there.",
    "archiver_free_bytes": "Bytes that are free on the archive's disk.",
}
Sample = tuple[str, dict[str, str], float]


def write_metrics(
    path: Path, plan: str, archive: str, status: Status, news: News, *, cut: bool
) -> None:
    """Write the file; whoever reads it meanwhile sees the one before or this one, whole.

    Raise ArchiverError if that fails.
    """
    labels = {"archive": archive, "plan": plan}
    now = float(seconds_of(utc_now()) or 0)
    success = now if not news.exit_code and not cut else _last_success(path, labels)
    samples = [
        ("archiver_night_last_end_timestamp_seconds", labels, now),
        (_SUCCESS, labels, success),
        *_samples(status, news, plan, archive),
    ]
    try:
        _write(path, "".join(_lines(samples)).encode())
    except OSError as error:
        raise explain_system_error(error, "the metrics were written") from error


def _samples(status: Status, news: News, plan: str, archive: str) -> Iterator[Sample]:
    of = {"archive": archive}
    for known in status.plans:
        if known.plan == plan:
            oldest = min((entry.answered for entry in known.entries), default="")
            labels = {**of, "plan": plan}
            yield "archiver_upstream_answered_timestamp_seconds", labels, _time(oldest)
    for place in status.places:
        if place.standing == "claim":
            continue  # anybody could have written that there is such a place
        labels = {**of, "place": place.place}
        yield "archiver_proof_oldest_timestamp_seconds", labels, _time(place.proven)
        yield "archiver_place_seen_timestamp_seconds", labels, _time(place.seen)
    yield "archiver_copies_short", of, float(_short(status))
    kinds = sorted({fact.fact for fact in news.standing if fact.exit_code})
    for kind in kinds:
        count = sum(fact.fact == kind for fact in news.standing if fact.exit_code)
        yield "archiver_findings", {**of, "plan": plan, "kind": kind}, float(count)
    yield "archiver_snapshots", of, float(status.snapshots)
    yield "archiver_stored_bytes", of, float(status.bytes)
    if status.free >= 0:
        yield "archiver_free_bytes", of, float(status.free)


def _short(status: Status) -> int:
    from archiver.operations.status.report import FewCopies  # noqa: PLC0415 - only its name is needed

    return sum(
        shortfall.snapshots for shortfall in status.shortfalls if isinstance(shortfall, FewCopies)
    )


def _time(text: str) -> float:
    return float(seconds_of(text) or 0) if text else 0.0


def _lines(samples: Iterable[Sample]) -> Iterator[str]:
    """Yield the text format of version 0.0.4, each family once and in one piece."""
    families: dict[str, list[str]] = {}
    for name, labels, value in samples:
        inside = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
        families.setdefault(name, []).append(f"{name}{{{inside}}} {value!r}\n")
    for name, rows in families.items():
        yield f"# HELP {name} {_HELP[name]}\n# TYPE {name} gauge\n"
        yield from rows


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _last_success(path: Path, labels: Mapping[str, str]) -> float:
    """Return what the file that is there says; 0 if it says nothing."""
    inside = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
    row = re.compile(
        rf"^{_SUCCESS}{{{re.escape(inside)}}} ([0-9]{{1,15}}(?:\.[0-9]+)?)$", re.MULTILINE
    )
    try:
        with path.open("rb") as file:
            match = row.search(file.read(OLD_MAX).decode(errors="replace"))
    except OSError:
        return 0.0
    return float(match[1]) if match else 0.0


def _write(path: Path, data: bytes) -> None:
    """Put a file in the place of another, by a temporary one in the same folder."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), 0o644)  # another user reads it
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise
