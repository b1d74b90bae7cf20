"""What was asked of the hub, so that a test can prove what was not."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass
class Record:
    """One request and its answer.

    ``sent`` counts the body's bytes, each chunk just before it goes out, so that it is complete
    when the client has the last one; a transfer that breaks is corrected afterwards.
    """

    port: str
    method: str
    path: str
    route: str
    repository: str
    file: str
    range: str
    token: str
    status: int = 0
    sent: int = 0
    fault: str = ""
    cookie: str = ""


class Log:
    """Every request so far, in the order of arrival; safe to read while the hub answers."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._records: list[Record] = []

    def __iter__(self) -> Iterator[Record]:
        with self._lock:
            return iter(list(self._records))

    def __len__(self) -> int:
        with self._lock:
            return len(self._records)

    def add(self, record: Record) -> None:
        """Note a request."""
        with self._lock:
            self._records.append(record)

    def clear(self) -> None:
        """Forget everything, so that a test sees only what its second run asks."""
        with self._lock:
            self._records.clear()

    def of(
        self, *, route: str = "", port: str = "", method: str = "", file: str = ""
    ) -> list[Record]:
        """Return the records that agree with every argument that is given."""
        terms = {"route": route, "port": port, "method": method, "file": file}
        return [
            record
            for record in self
            if all(not value or getattr(record, name) == value for name, value in terms.items())
        ]

    def bodies(self) -> list[Record]:
        """Return the requests that carried bytes of files."""
        return [r for r in self if r.method == "GET" and r.file and r.status in {200, 206}]

    @property
    def bytes_sent(self) -> int:
        """How many bytes of files have been sent in all."""
        return sum(record.sent for record in self.bodies())
