"""The page of a repository: its revisions, upstream's history as the journal saw it, and its card."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from archiver.archive.refs import Refs
from archiver.archive.watch import UpstreamHistory
from archiver.errors import DamageError, UsageError, skip_damaged
from archiver.names import FOLDER, RepositoryName, as_repo_id
from archiver.operations.show import card_of
from archiver.report.changes import change_sentence
from archiver.text import printable
from archiver.web.pages.card import ShownCard, shown_card
from archiver.web.pages.rendering import page, paging

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.requests import Request
    from starlette.responses import Response

    from archiver.archive.events import UpstreamChange
    from archiver.archive.refs import Ref
    from archiver.archive.seals import Snapshot
    from archiver.archive.vouching import Vouching
    from archiver.archive.watch import KnownRepository, SeenChange
    from archiver.web.pages.held import Held, HeldSnapshots

_MOMENTS: Final = 50
"""Moments of a history that one page shows."""
Kind = Literal["held", "looked", "moved", "tag", "rewritten", "lost", "licence", "back", "other"]
"""What a moment is, for its mark: ``lost`` is whatever upstream no longer gives."""
_KINDS: Final[dict[str, Kind]] = {
    "branch": "moved",
    "tag": "tag",
    "commit-lost": "lost",
    "licence": "licence",
    "gating": "licence",
    "privacy": "lost",
    "disabled": "lost",
    "identity": "lost",
    "name": "other",
    "gone": "lost",
    "back": "back",
}

_GRAVEST: Final[tuple[Kind, ...]] = (
    "lost",
    "rewritten",
    "licence",
    "back",
    "tag",
    "moved",
    "other",
    "looked",
    "held",
)
"""Of several things that one look found, the first of these gives the mark."""


class HeldRevision(NamedTuple):
    """A snapshot as the history shows it; ``names`` are the branches and tags that mean its revision."""

    snapshot: Snapshot
    href: str
    names: tuple[Ref, ...]
    default: bool
    vouching: Vouching | None
    lost: str


class Told(NamedTuple):
    """What upstream was seen to do, as a sentence; ``href`` leads to the held revision that it is about."""

    text: str
    href: str = ""


class Moment(NamedTuple):
    """Something that happened: a revision was sealed, or upstream was seen to have changed."""

    time: str
    kind: Kind
    told: tuple[Told, ...] = ()
    held: HeldRevision | None = None


class RepositoryPage:
    """The page."""

    def __init__(self, held: Held) -> None:
        self._held = held

    def answer(self, request: Request) -> Response:
        """Return the page; raise UsageError if the repository is not held and was never looked at."""
        name = as_repo_id(request.path_params["repository"])
        archive = self._held.archive
        events = list(archive.events(skip_damaged))
        known, refs = UpstreamHistory(events).of(name), Refs(archive, events)
        holding = self._held.of(name)
        if holding is None and not (known.history or known.unseen):
            archive.find(name)  # says what is held instead
            raise UsageError(f"{name} is not held here.")
        revisions = tuple(self._revisions(holding, known, refs)) if holding else ()
        moments = _moments(revisions, known)
        shown = paging(request, len(moments), _MOMENTS)
        card, problem = self._card(holding)
        facts = {
            "name": holding.repository if holding else name,
            "holding": holding,
            "revisions": revisions,
            "current": next((each for each in revisions if each.default), None),
            "moments": moments[shown.begin : shown.last],
            "paging": shown,
            "known": known,
            "from_folder": RepositoryName.parse(name).hub == FOLDER,
            "card": card,
            "card_problem": problem,
        }
        return page(request, "repository.html", facts, archive=archive)

    def _card(self, holding: HeldSnapshots | None) -> tuple[ShownCard | None, str]:
        """Return the card of the current revision, or why it cannot be read."""
        if holding is None:
            return None, ""
        try:
            manifest = self._held.manifest(holding.default)
            data = card_of(self._held.archive, holding.default, manifest)
        except DamageError as error:
            return None, error.message
        return (shown_card(data) if data is not None else None), ""

    def _revisions(
        self, holding: HeldSnapshots, known: KnownRepository, refs: Refs
    ) -> Iterator[HeldRevision]:
        names: dict[str, list[Ref]] = {}
        for ref in refs.of(holding.snapshots):
            names.setdefault(ref.commit, []).append(ref)
        for snapshot in holding.snapshots:
            revision = snapshot.seal.revision
            yield HeldRevision(
                snapshot,
                holding.href(snapshot),
                tuple(names.get(revision, ())),
                default=snapshot == holding.default,
                vouching=self._held.archive.vouching(snapshot),
                lost=known.lost.get(revision, ""),
            )


def _moments(revisions: tuple[HeldRevision, ...], known: KnownRepository) -> list[Moment]:
    """Return the history, the newest first: what one look at upstream found is one moment."""
    moments = [Moment(each.snapshot.seal.sealed, "held", held=each) for each in revisions]
    hrefs = {each.snapshot.seal.revision: each.href for each in revisions}
    looks: dict[str, list[SeenChange]] = {}
    for seen in known.history:
        if seen.news:
            looks.setdefault(seen.event, []).append(seen)
    for changes in looks.values():
        kinds = [_kind(seen.change) for seen in changes]
        moments.append(
            Moment(
                changes[0].time,
                min(kinds, key=_GRAVEST.index),
                tuple(
                    Told(
                        printable(change_sentence(seen.change), 1000),
                        hrefs.get(seen.change.after, ""),
                    )
                    for seen in changes
                ),
            )
        )
    if known.looked:
        told = (Told("Looked at upstream for the first time."),)
        moments.append(Moment(known.looked, "looked", told))
    return sorted(moments, key=attrgetter("time"), reverse=True)


def _kind(change: UpstreamChange) -> Kind:
    if change.what in {"branch", "tag"} and not change.after:
        return "lost"
    if change.history == "rewritten":
        return "rewritten"
    return _KINDS.get(change.what, "other")
