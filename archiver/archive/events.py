"""What journal events say, as types: one record for each kind (``docs/format.md``, section 8).

An event's ``detail`` is read into such a record and written from one, so that no other module knows
its keys. What a record does not name stays in the event as it is.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, TypeVar

import msgspec

from archiver import __version__
from archiver.archive.records import Event
from archiver.archive.vouching import DIRECTORY
from archiver.text import utc_now

TOOL = f"archiver {__version__}"


class Detail(msgspec.Struct, frozen=True):
    """The detail of one kind of event; ``EVENT`` is the kind's name in the journal."""

    EVENT: ClassVar[str]


class ClockSeen(Detail, frozen=True):
    """Which time it was when a run looked, which is the event's own time.

    Attributes:
        since: The time that the journal had come to before.
        confirmed: Whether a person said that this clock is right: no event before counts as later.
    """

    EVENT: ClassVar[str] = "clock"

    since: str = ""
    confirmed: bool = False


D = TypeVar("D", bound=Detail)
Count = Annotated[int, msgspec.Meta(ge=0, le=1 << 62)]
"""A number of things, bytes or seconds."""
Room = Annotated[int, msgspec.Meta(ge=-1, le=1 << 62)]
"""Bytes on a disk; -1 if they are not known."""
ExitNumber = Annotated[int, msgspec.Meta(ge=0, le=255)]
"""How a run ended."""


def new_event(detail: Detail, repository: str = "", revision: str = "", *, time: str = "") -> Event:
    """Return the event that says ``detail``, of ``time`` or of now."""
    raw = msgspec.to_builtins(detail)
    return Event(detail.EVENT, time or utc_now(), TOOL, repository, revision, raw)


def detail_of(event: Event, kind: type[D]) -> D | None:
    """Return what the event says if it is of this kind, else None.

    Also None for a detail that does not have the kind's types: it comes from another writer, or from
    somebody who can write here, and counts for nothing.
    """
    if event.event != kind.EVENT:
        return None
    try:
        return msgspec.convert(event.detail, kind)
    except msgspec.ValidationError:
        return None


# ---- copies and places


class Copied(Detail, frozen=True, omit_defaults=True):
    """Snapshots are now at both places.

    ``packs`` were read at ``from_`` and read back at ``to``, and were whole at both; of the others
    this event proves nothing. Events of older writers have no such list. Ids are those of places.
    ``part``: ``to`` is a replica, and of the journal only what tells of these snapshots came along.
    """

    EVENT: ClassVar[str] = "copied"

    from_: str = msgspec.field(name="from")
    to: str
    snapshots: tuple[str, ...]
    packs: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET
    from_id: str = ""
    to_id: str = ""
    part: bool = False


class PlaceSeen(msgspec.Struct, frozen=True, omit_defaults=True):
    """A place that answered: its name and identity, where it lay, and on what.

    ``where`` is ``host:/absolute/path``; the rest is as in ``place_look.Device``.
    """

    place: str
    id: str = ""
    where: str = ""
    medium: str = "unknown"
    devices: tuple[str, ...] = ()
    label: str = ""
    filesystem: str = ""


class PlacesSeen(Detail, frozen=True):
    """These places were there."""

    EVENT: ClassVar[str] = "places-seen"

    places: tuple[PlaceSeen, ...]


class CopyLost(Detail, frozen=True, omit_defaults=True):
    """A place has no copies any more."""

    EVENT: ClassVar[str] = "copy-lost"

    place: str
    id: str = ""


# ---- audits


class Sample(msgspec.Struct, frozen=True):
    """A random part: ``share`` of 1 as a decimal text, and the seed that it was drawn with."""

    share: str
    seed: str


class AuditLimits(msgspec.Struct, frozen=True, omit_defaults=True):
    """What an audit was asked to stay within: seconds, bytes, and seconds since the last proof."""

    seconds: Count | None = None
    bytes: Count | None = None
    age: Count | None = None


class Audited(Detail, frozen=True):
    """An audit proved this of the bytes at ``place``, or a part of it did.

    What was examined is all, or the event's repository and (beginning of a) revision. The parts of
    one audit have its ``run``; its last one also says whether it was ``complete`` and what the journal
    and the signatures were checked against. Events of older writers have no keys from ``run`` on.
    """

    EVENT: ClassVar[str] = "audited"

    level: str
    objects: Count = 0
    checked: tuple[str, ...] = ()
    damaged: Count = 0
    damaged_files: tuple[str, ...] = ()
    damaged_packs: tuple[str, ...] = ()
    packs: tuple[str, ...] = ()
    place: str = ""
    snapshots: tuple[str, ...] = ()
    run: str | msgspec.UnsetType = msgspec.UNSET
    sample: Sample | msgspec.UnsetType = msgspec.UNSET
    limits: AuditLimits | msgspec.UnsetType = msgspec.UNSET
    complete: bool | msgspec.UnsetType = msgspec.UNSET
    heads: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET
    keys: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET


# ---- plans


AcknowledgedFact = Literal["gone", "refused"]
"""What an owner may acknowledge: upstream has something no more, or refuses access to it."""

Outcome = Literal[
    "sealed",
    "held",
    "gone",
    "refused",
    "mismatch",
    "failed",
    "no-space",
    "unreachable",
    "interrupted",
    "not-tried",
]
"""What came of asking upstream for one entry of a plan."""


class PlannedEntry(msgspec.Struct, frozen=True, omit_defaults=True):
    """One repository that a plan wants; ``revision`` is ``""`` for the main branch."""

    repository: str
    revision: str = ""
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    partial: bool = False
    acknowledge: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The branch, tag or commit that upstream is asked for."""
        return self.revision or "main"

    @property
    def key(self) -> tuple[str, str]:
        """Equal of two entries that ask for the same."""
        return self.repository.casefold(), self.name

    @property
    def title(self) -> str:
        """``Org/Name`` or ``Org/Name@revision``, as an owner types it."""
        return f"{self.repository}@{self.revision}" if self.revision else self.repository


class Planned(Detail, frozen=True, omit_defaults=True):
    """A plan feeds the archive at ``place``: what it wants there from now on.

    ``source`` is the plan's file, or its name; upstream should have answered for each entry within
    ``max_age`` seconds (0: the default).
    """

    EVENT: ClassVar[str] = "planned"

    plan: str
    place: str
    entries: tuple[PlannedEntry, ...]
    source: str = ""
    max_age: Count = 0


class PlanRetired(Detail, frozen=True):
    """A plan feeds the archive at ``place`` no more."""

    EVENT: ClassVar[str] = "plan-retired"

    plan: str
    place: str


class Synced(Detail, frozen=True):
    """A run of a plan ended: an outcome for each entry of the ``planned`` event of that id, in order.

    Sizes are in bytes; ``free`` is the room that was left, -1 if it is not known.
    """

    EVENT: ClassVar[str] = "synced"

    plan: str
    place: str
    planned: str
    outcomes: tuple[Outcome, ...]
    exit_code: ExitNumber
    seconds: Count
    fetched: Count
    stored: Count
    free: Room
    min_free: Count


class Acknowledged(Detail, frozen=True, omit_defaults=True):
    """The owner knows of a fact, until that time (``""``: for good), or takes that back.

    The event's ``repository`` is the one it is about, ``name`` the branch, tag or commit.
    """

    EVENT: ClassVar[str] = "acknowledged"

    fact: AcknowledgedFact
    name: str
    until: str = ""
    note: str = ""
    withdrawn: bool = False


# ---- what is stored: lists may go on in a further event


class Sealed(Detail, frozen=True, omit_defaults=True):
    """A snapshot, given by the id of its seal, was published.

    ``vouched`` is the lowest voucher of its files (:mod:`archiver.archive.vouching`), ``""`` if not told.
    """

    EVENT: ClassVar[str] = "sealed"

    snapshot: str
    vouched: str = ""


class Forgotten(Detail, frozen=True):
    """Seals were taken out of use on purpose."""

    EVENT: ClassVar[str] = "forgotten"

    snapshots: tuple[str, ...]


class Remembered(Detail, frozen=True):
    """Seals that were forgotten are back in use."""

    EVENT: ClassVar[str] = "remembered"

    snapshots: tuple[str, ...]


class Condemned(Detail, frozen=True):
    """Files that no seal needs may go once the grace has passed."""

    EVENT: ClassVar[str] = "condemned"

    files: tuple[str, ...]
    place: str = ""


class Spared(Detail, frozen=True):
    """Condemned files are needed again."""

    EVENT: ClassVar[str] = "spared"

    files: tuple[str, ...]


class Pruned(Detail, frozen=True):
    """Condemned files went to the trash, or (``to`` is ``""``) from there for good."""

    EVENT: ClassVar[str] = "pruned"

    files: tuple[str, ...]
    to: str = ""


class Repaired(Detail, frozen=True):
    """Stored files were brought back, or made anew; the seals ``snapshots`` were set aside for new ones."""

    EVENT: ClassVar[str] = "repaired"

    files: tuple[str, ...]
    source: str = ""
    place: str = ""
    snapshots: tuple[str, ...] = ()


class Signed(Detail, frozen=True):
    """Documents, given by their digests, were signed by the key of this id."""

    EVENT: ClassVar[str] = "signed"

    key: str
    documents: tuple[str, ...]


class SmokeTested(Detail, frozen=True):
    """The model of a snapshot was run: each level and how it ended, of what was read, and where."""

    EVENT: ClassVar[str] = "smoke-tested"

    snapshot: str
    levels: dict[str, str]
    place: str = ""


# ---- upstream


class Sighted(Detail, frozen=True):
    """Upstream was seen to point a name at the event's revision.

    Or a hub's cache said that it did: that is hearsay, and counts only where upstream was never asked.
    """

    EVENT: ClassVar[str] = "sighted"

    name: str
    upstream: str

    @property
    def hearsay(self) -> bool:
        """Whether a cache said it."""
        return self.upstream == DIRECTORY


class Gone(Detail, frozen=True):
    """Upstream was seen to have a repository, or this name of it, no more."""

    EVENT: ClassVar[str] = "gone"

    name: str
    upstream: str


def kinds() -> dict[str, type[Detail]]:
    """Return every kind of event that has a record here, by its name in the journal."""
    return {one.EVENT: one for one in Detail.__subclasses__()}
