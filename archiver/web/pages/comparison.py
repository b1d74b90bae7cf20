"""The page that compares two revisions of a repository, down to their tensors."""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from typing import TYPE_CHECKING, Final, NamedTuple

from archiver.errors import UsageError
from archiver.names import as_repo_id
from archiver.operations.diff import Diff, diff
from archiver.web.pages.rendering import page, paging

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from archiver.archive.seals import Snapshot
    from archiver.web.pages.held import Held, HeldSnapshots

_KEPT: Final = 4
"""Comparisons that are kept."""
WHATS: Final = ("changed", "removed", "added")


class Side(NamedTuple):
    """One of the two revisions."""

    snapshot: Snapshot
    reference: str
    href: str


class Choice(NamedTuple):
    """A revision that can be chosen."""

    reference: str
    snapshot: Snapshot


class ComparisonPage:
    """The page."""

    def __init__(self, held: Held) -> None:
        self._held = held
        self._lock = threading.Lock()
        self._known: OrderedDict[tuple[str, str], Diff] = OrderedDict()

    def answer(self, request: Request) -> Response:
        """Return the page; without a choice, the newest revision with the one that was sealed before."""
        name = as_repo_id(request.path_params["repository"])
        holding = self._held.of(name)
        if holding is None:
            raise UsageError(f"{name} is not held here.")
        old, new = self._sides(request, holding)
        found = self._diff(old.snapshot, new.snapshot) if old.snapshot != new.snapshot else None
        files = paging(request, len(found.files) if found else 0, key="files")
        tensors = paging(request, len(found.tensors) if found else 0, key="tensors")
        facts = {
            "name": holding.repository,
            "holding": holding,
            "old": old,
            "new": new,
            "choices": [Choice(holding.reference(each), each) for each in holding.snapshots],
            "diff": found,
            "whats": WHATS,
            "file_counts": Counter(change.what for change in found.files) if found else Counter(),
            "tensor_counts": Counter(each.what for each in found.tensors) if found else Counter(),
            "files": found.files[files.begin : files.last] if found else (),
            "tensors": found.tensors[tensors.begin : tensors.last] if found else (),
            "files_paging": files,
            "tensors_paging": tensors,
        }
        return page(request, "comparison.html", facts, archive=self._held.archive)

    def _sides(self, request: Request, holding: HeldSnapshots) -> tuple[Side, Side]:
        newest = holding.snapshots[0]
        before = holding.snapshots[1] if len(holding.snapshots) > 1 else newest
        sides = []
        for key, usual in (("from", before), ("to", newest)):
            asked = request.query_params.get(key, "")
            snapshot = self._held.find(holding.repository, asked)[1] if asked else usual
            sides.append(Side(snapshot, holding.reference(snapshot), holding.href(snapshot)))
        return sides[0], sides[1]

    def _diff(self, old: Snapshot, new: Snapshot) -> Diff:
        key = old.id, new.id
        with self._lock:
            known = self._known.get(key)
        if known is not None:
            return known
        made = diff(self._held.manifest(old), self._held.manifest(new))
        with self._lock:
            self._known[key] = made
            while len(self._known) > _KEPT:
                self._known.popitem(last=False)
        return made
