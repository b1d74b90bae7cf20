"""The journal's events, as types: one record for what each kind says (``docs/format.md``, annex A.1).

This is the one place that knows the names of the kinds and the keys of their details, both for writing
and for reading. An event keeps its detail as it is stored, so that a kind that only a newer version
knows is copied, merged and shown unchanged.
"""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Any, Final, Literal, NamedTuple, TypeAlias

import msgspec

from archiver import __version__
from archiver.archive.policy import Policy
from archiver.archive.records import FORMAT, Selection, canonical, parse_record
from archiver.archive.vouching import DIRECTORY
from archiver.errors import DamageError
from archiver.names import HUGGING_FACE, MODEL, RepositoryName
from archiver.text import utc_now

TOOL = f"archiver {__version__}"

Count = Annotated[int, msgspec.Meta(ge=0, le=1 << 62)]
"""A number of things, bytes or seconds."""
Room = Annotated[int, msgspec.Meta(ge=-1, le=1 << 62)]
"""Bytes on a disk; -1 if they are not known."""
ExitNumber = Annotated[int, msgspec.Meta(ge=0, le=255)]
"""How a run ended."""
HttpStatus = Annotated[int, msgspec.Meta(ge=0, le=999)]
"""Of an answer; 0 if there was none."""


class ClockSeen(msgspec.Struct, frozen=True):
    """Which time it was when a run looked, which is the event's own time.

    Attributes:
        since: The time that the journal had come to before.
        confirmed: Whether a person said that this clock is right: no event before counts as later.
    """

    since: str = ""
    confirmed: bool = False


# ---- copies and places


class Copied(msgspec.Struct, frozen=True, omit_defaults=True):
    """Snapshots are now at both places.

    ``packs`` were read at ``from_`` and read back at ``to``, and were whole at both; of the others
    this event proves nothing. Events of older writers have no such list. Ids are those of places.
    ``part``: ``to`` is a replica, and of the journal only what tells of these snapshots came along.
    """

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


class PlacesSeen(msgspec.Struct, frozen=True):
    """These places were there."""

    places: tuple[PlaceSeen, ...]


class CopyLost(msgspec.Struct, frozen=True, omit_defaults=True):
    """A place has no copies any more."""

    place: str
    id: str = ""


class BundleImported(msgspec.Struct, frozen=True, omit_defaults=True):
    """Snapshots of a bundle became whole at ``place``: it came from the archive of this id.

    What the bundle says of audits and smoke tests is no part of this journal.
    """

    bundle: str
    archive: str
    snapshots: tuple[str, ...] = ()
    place: str = ""


class ReceiptAccepted(msgspec.Struct, frozen=True, omit_defaults=True):
    """A receipt of the place with this identity came back, and was accepted.

    ``receipt`` is its id, ``text`` the file as it came, and ``signature`` that of its signature; ``""``: it
    had none. Whether it counts is for whoever reads this to find out (``archive/receipts.py``).
    """

    place: str
    receipt: str
    text: str
    signature: str = ""


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


class Audited(msgspec.Struct, frozen=True):
    """An audit proved this of the bytes at ``place``, or a part of it did.

    What was examined is all, or the event's repository and (beginning of a) revision. The parts of
    one audit have its ``run``; its last one also says whether it was ``complete`` and what the journal
    and the signatures were checked against. Events of older writers have no keys from ``run`` on.
    """

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


class MetObject(msgspec.Struct, frozen=True, omit_defaults=True):
    """An object that came out damaged when somebody read it.

    ``packs`` are those that have it damaged; none, if it is in none any more. ``source`` is where it was
    whole, so that whoever asked got the right bytes: ``pack``, ``quarantine``, ``parity``, or the name or
    identity of a place; ``""``: nowhere, and nobody got it.
    """

    object: str
    packs: tuple[str, ...] = ()
    source: str = ""


class DamageMet(msgspec.Struct, frozen=True, omit_defaults=True):
    """Whoever read from the archive at ``place`` met damage there: no audit looked for it."""

    objects: tuple[MetObject, ...]
    place: str = ""

    @property
    def packs(self) -> frozenset[str]:
        """The packs that are damaged."""
        return frozenset(pack for met in self.objects for pack in met.packs)


class Rehashed(msgspec.Struct, frozen=True, omit_defaults=True):
    """The SHA-256 of whole packs: (BLAKE3, SHA-256) of each, at ``place``.

    So what BLAKE3 names can be proven by another function, should it ever be broken.
    """

    packs: tuple[tuple[str, str], ...]
    place: str = ""


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


Stopped = Literal["bytes", "time", "window"]
"""What of a run's budget was used up: the bytes to fetch, the time to take, or the window of its plan."""


class PlannedEntry(msgspec.Struct, frozen=True, omit_defaults=True):
    """One repository that a plan wants; ``revision`` is ``""`` for the main branch.

    ``of`` is the pattern, author or collection that stood for it, ``""`` if the plan names it. ``gone`` is
    the day since which the owner knows that upstream has it no more, ``smoke`` to which level it is run.
    """

    repository: str
    revision: str = ""
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    partial: bool = False
    acknowledge: tuple[str, ...] = ()
    of: str = ""
    gone: str = ""
    smoke: str = ""

    @property
    def name(self) -> str:
        """The branch, tag or commit that upstream is asked for."""
        return self.revision or self._main

    @property
    def is_main(self) -> bool:
        """Whether that is the main branch."""
        return self.name == self._main

    @property
    def _main(self) -> str:
        # A pattern, which is the name of no repository, may stand there too.
        hub, colon, _ = self.repository.partition(":")
        return RepositoryName(hub if colon else HUGGING_FACE, MODEL, "").main_branch

    @property
    def key(self) -> tuple[str, str]:
        """Equal of two entries that ask for the same."""
        return self.repository.casefold(), self.name

    @property
    def title(self) -> str:
        """``Org/Name`` or ``Org/Name@revision``, as an owner types it."""
        return f"{self.repository}@{self.revision}" if self.revision else self.repository


class Planned(msgspec.Struct, frozen=True, omit_defaults=True):
    """A plan feeds the archive at ``place``: what it wants there from now on.

    ``source`` is the plan's file, or its name; upstream should have answered for each entry within
    ``max_age`` seconds (0: the default).
    """

    plan: str
    place: str
    entries: tuple[PlannedEntry, ...]
    source: str = ""
    max_age: Count = 0


class PlanRetired(msgspec.Struct, frozen=True):
    """A plan feeds the archive at ``place`` no more."""

    plan: str
    place: str


class Synced(msgspec.Struct, frozen=True):
    """A run of a plan ended: an outcome for each entry of the ``planned`` event of that id, in order.

    Sizes are in bytes; ``free`` is the room that was left, -1 if it is not known. ``stopped`` says what of
    its budget was used up, where that ended it.
    """

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
    stopped: Stopped | msgspec.UnsetType = msgspec.UNSET


class NightFact(msgspec.Struct, frozen=True, omit_defaults=True):
    """Something that an owner should know of, as a night found it.

    ``exit_code`` is what it rings with, 0 if it never does; ``step`` found it, ``subject`` is what it is
    about, and ``since`` the time of the night that told it first.
    """

    fact: str
    subject: str
    exit_code: ExitNumber
    step: str
    since: str = ""


class NightRun(msgspec.Struct, frozen=True, omit_defaults=True):
    """A night of a plan that feeds the archive at ``place`` ended, and something was done or is news.

    ``steps`` are (name, outcome), in their order. ``facts`` are all that stood at its end: what they have
    no next night tells as new. ``cut`` is why it ended early: ``window``, ``stopped`` or ``""``.
    """

    plan: str
    place: str
    exit_code: ExitNumber
    steps: tuple[tuple[str, str], ...] = ()
    facts: tuple[NightFact, ...] = ()
    seconds: Count = 0
    cut: str = ""


class Acknowledged(msgspec.Struct, frozen=True, omit_defaults=True):
    """The owner knows of a fact, until that time (``""``: for good), or takes that back.

    The event's ``repository`` is the one it is about, ``name`` the branch, tag or commit.
    """

    fact: AcknowledgedFact
    name: str
    until: str = ""
    note: str = ""
    withdrawn: bool = False


# ---- what is stored: lists may go on in a further event


class Sealed(msgspec.Struct, frozen=True, omit_defaults=True):
    """A snapshot, given by the id of its seal, was published.

    ``vouched`` is the lowest voucher of its files (:mod:`archiver.archive.vouching`), ``""`` if not told.
    ``manifest`` and ``selection`` are those of the seal, as far as they are told: without the seal they say
    whether the files of that manifest are all of the revision.
    """

    snapshot: str
    vouched: str = ""
    manifest: str = ""
    selection: Selection | None = None


class Forgotten(msgspec.Struct, frozen=True):
    """Seals were taken out of use on purpose."""

    snapshots: tuple[str, ...]


class Remembered(msgspec.Struct, frozen=True):
    """Seals that were forgotten are back in use."""

    snapshots: tuple[str, ...]


class Condemned(msgspec.Struct, frozen=True):
    """Files that no seal needs may go once the grace has passed."""

    files: tuple[str, ...]
    place: str = ""


class Spared(msgspec.Struct, frozen=True):
    """Condemned files are needed again."""

    files: tuple[str, ...]


class Pruned(msgspec.Struct, frozen=True):
    """Condemned files went to the trash, or (``to`` is ``""``) from there for good."""

    files: tuple[str, ...]
    to: str


class Repaired(msgspec.Struct, frozen=True):
    """Stored files were brought back, or made anew; the seals ``snapshots`` were set aside for new ones."""

    files: tuple[str, ...]
    source: str = ""
    place: str = ""
    snapshots: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET

    @property
    def replaced_seals(self) -> tuple[str, ...]:
        """The ids of the seals that new ones replaced."""
        return () if isinstance(self.snapshots, msgspec.UnsetType) else self.snapshots


class Signed(msgspec.Struct, frozen=True):
    """Documents, given by their digests, were signed by the key of this id."""

    key: str
    documents: tuple[str, ...]


class SmokeFinding(msgspec.Struct, frozen=True):
    """What a smoke test found; ``accepted``, and then true: the policy did, so that no level failed."""

    code: str
    message: str = ""
    accepted: bool | msgspec.UnsetType = msgspec.UNSET


class SmokeTested(msgspec.Struct, frozen=True):
    """The model of a snapshot was run: each level and how it ended, of what was read, and where.

    ``golden`` is a golden record as JSON, which is judged by whoever compares with it
    (:mod:`archiver.smoke.golden.record`).
    """

    snapshot: str
    levels: dict[str, str]
    manifest: str = ""
    read: str = ""
    place: str = ""
    dtype: str = ""
    device: str = ""
    mode: str = ""
    seconds: Count = 0
    environment: dict[str, Any] = {}
    findings: tuple[SmokeFinding, ...] = ()
    golden: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET

    @property
    def versions(self) -> dict[str, str]:
        """Library -> version, as far as the environment tells, which is for people and may say anything."""
        libraries = self.environment.get("libraries")
        pairs = libraries.items() if isinstance(libraries, dict) else ()
        return {name: version for name, version in pairs if isinstance(version, str)}


# ---- upstream


class Sighted(msgspec.Struct, frozen=True):
    """Upstream was seen to point a name at the event's revision.

    Or a hub's cache said that it did: that is hearsay, and counts only where upstream was never asked.
    """

    name: str
    upstream: str

    @property
    def hearsay(self) -> bool:
        """Whether a cache said it."""
        return self.upstream == DIRECTORY


class Gone(msgspec.Struct, frozen=True):
    """Upstream was seen to have a repository, or this name of it, no more."""

    name: str
    upstream: str


class FileChanges(msgspec.Struct, frozen=True, omit_defaults=True):
    """How the files of a branch differ from those that were held of its commit before.

    Counts of files; ``weights`` are those among them that hold weights, ``bytes`` the size of what was
    added or changed, ``paths`` the first of all of them.
    """

    added: Count = 0
    removed: Count = 0
    changed: Count = 0
    weights: Count = 0
    bytes: Count = 0
    paths: tuple[str, ...] = ()


class UpstreamChange(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing that upstream changed (:mod:`archiver.archive.watch` says what ``what`` may be).

    Attributes:
        what: What kind of thing. Of kinds that a reader does not know it makes nothing.
        name: The branch or tag; of ``commit-lost`` and ``left-out``, what says the rest.
        before: What it was; ``""`` if there was none, or it was not known.
        after: What it is; ``""`` if there is none.
        history: Of a branch that moved: whether its new commit comes after the one before.
        status: The HTTP status that shows it; 0 if there is none.
        code: The hub's own word for that.
        since: Of what took several nights: the times at which it was seen.
        control: What upstream answered meanwhile: a repository, or a request of its own.
        files: Of a branch: what it means for its files, if that could be told.
        count: Of ``left-out``: how many files there are.
        paths: Likewise: the first of them.
    """

    what: str
    name: str = ""
    before: str = ""
    after: str = ""
    history: Literal["", "continued", "rewritten"] = ""
    status: HttpStatus = 0
    code: str = ""
    since: tuple[str, ...] = ()
    control: str = ""
    files: FileChanges | None = None
    count: Count = 0
    paths: tuple[str, ...] = ()


class UpstreamChanged(msgspec.Struct, frozen=True, omit_defaults=True):
    """Upstream was looked at, and the event's repository was not as the journal knew it.

    ``first``: nobody had looked before, so that what has no ``before`` is how it was found.
    """

    upstream: str
    changes: tuple[UpstreamChange, ...]
    first: bool = False


class UnseenRepository(msgspec.Struct, frozen=True, omit_defaults=True):
    """A repository that upstream did not show, with the HTTP status and the hub's own word for it."""

    repository: str
    status: HttpStatus
    code: str = ""


class UpstreamUnseen(msgspec.Struct, frozen=True, omit_defaults=True):
    """Upstream did not show these repositories, though it answered the ``control`` request meanwhile.

    Whether they are gone, private, or not shown for another reason is not known. ``seen`` are those that
    an earlier event names so, and that were there again.
    """

    upstream: str
    control: str
    unseen: tuple[UnseenRepository, ...] = ()
    seen: tuple[str, ...] = ()


class CrossChecked(msgspec.Struct, frozen=True, omit_defaults=True):
    """The event's repository and revision was compared with another hub's, by digest and without fetching.

    Attributes:
        upstream: The address of its hub.
        other: The other repository.
        other_revision: Its commit there.
        other_upstream: The address of that hub.
        same: Paths that both have with one content; so the next four count paths.
        differs: Those with two.
        only_here: Those that only the first has.
        only_there: Those that only the other has.
        not_comparable: Those whose digests are of different kinds.
        weights: How many of those that differ, or are missing on one side, hold weights.
        paths: The first of these, weights first.
    """

    upstream: str
    other: str
    other_revision: str
    other_upstream: str
    same: Count = 0
    differs: Count = 0
    only_here: Count = 0
    only_there: Count = 0
    not_comparable: Count = 0
    weights: Count = 0
    paths: tuple[str, ...] = ()


# ---- the event that says it

KnownDetail: TypeAlias = (
    Acknowledged
    | Audited
    | BundleImported
    | ClockSeen
    | Condemned
    | Copied
    | CopyLost
    | CrossChecked
    | DamageMet
    | Forgotten
    | Gone
    | NightRun
    | PlacesSeen
    | Planned
    | PlanRetired
    | Policy
    | Pruned
    | ReceiptAccepted
    | Rehashed
    | Remembered
    | Repaired
    | Sealed
    | Sighted
    | Signed
    | SmokeTested
    | Spared
    | Synced
    | UpstreamChanged
    | UpstreamUnseen
)
"""What an event of any kind says that this version knows."""

KINDS: Final[dict[str, type[KnownDetail]]] = {
    "sealed": Sealed,
    "sighted": Sighted,
    "gone": Gone,
    "audited": Audited,
    "damage-met": DamageMet,
    "rehashed": Rehashed,
    "policy": Policy,
    "copied": Copied,
    "places-seen": PlacesSeen,
    "copy-lost": CopyLost,
    "bundle-imported": BundleImported,
    "receipt-accepted": ReceiptAccepted,
    "repaired": Repaired,
    "forgotten": Forgotten,
    "remembered": Remembered,
    "condemned": Condemned,
    "spared": Spared,
    "pruned": Pruned,
    "signed": Signed,
    "smoke-tested": SmokeTested,
    "clock": ClockSeen,
    "planned": Planned,
    "plan-retired": PlanRetired,
    "synced": Synced,
    "night": NightRun,
    "acknowledged": Acknowledged,
    "upstream-changed": UpstreamChanged,
    "upstream-unseen": UpstreamUnseen,
    "cross-checked": CrossChecked,
}
"""Every kind of event by its name in the journal: the union's tag, which stands beside the detail."""
_NAMES: Final = {kind: name for name, kind in KINDS.items()}


class Unknown(NamedTuple):
    """What an event of a kind says that only another version knows."""

    name: str


class Malformed(NamedTuple):
    """The detail of an event of a known kind that does not have the kind's keys and types.

    It comes from another writer, or from somebody who can write here, and counts for nothing, not even
    in part: what is left of a broken list proves less than the list did.
    """

    kind: type[KnownDetail]
    reason: str


Detail: TypeAlias = KnownDetail | Unknown | Malformed
"""What any event says."""


class Event(msgspec.Struct, frozen=True, dict=True):
    """One line of the archive's history (``docs/format.md``, 8).

    Attributes:
        event: The name of its kind.
        time: When.
        tool: By which writer.
        repository: What it concerns; ``""`` if none.
        revision: Likewise.
        raw: The detail's JSON, byte for byte as it is stored; ``detail`` is what that says.
        after: The ids of the events before it that no other event had named yet: so every event but
            the newest is named by another, and none can be taken away unnoticed.
    """

    event: str
    time: str
    tool: str
    repository: str = ""
    revision: str = ""
    raw: msgspec.Raw = msgspec.field(name="detail", default=msgspec.Raw(b"{}"))
    after: tuple[str, ...] = ()
    kind: str = "event"
    format: int = FORMAT

    @property
    def type(self) -> type[KnownDetail] | None:
        """The record of its kind, whatever its detail is like; None of a kind that is not known."""
        return KINDS.get(self.event)

    @cached_property
    def detail(self) -> Detail:
        """What the event says; never an error, whoever wrote it."""
        kind = self.type
        if kind is None:
            return Unknown(self.event)
        try:
            return msgspec.json.decode(self.raw, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return Malformed(kind, str(error))

    @property
    def fields(self) -> dict[str, Any]:
        """The detail as plain values, to be shown as it stands."""
        fields: dict[str, Any] = msgspec.json.decode(self.raw, type=dict[str, Any])
        return fields

    @property
    def snapshot(self) -> str:
        """The id of the one snapshot that the event tells of; ``""`` if it tells of none."""
        detail = self.detail
        return detail.snapshot if isinstance(detail, Sealed | SmokeTested) else ""

    @property
    def snapshots(self) -> frozenset[str]:
        """The ids of all snapshots that the event names."""
        match self.detail:
            case Sealed(snapshot=snapshot) | SmokeTested(snapshot=snapshot):
                return frozenset({snapshot})
            case Audited() | BundleImported() | Copied() | Forgotten() | Remembered() as detail:
                return frozenset(detail.snapshots)
            case Repaired() as detail:
                return frozenset(detail.replaced_seals)
            case _:
                return frozenset()


def name_of(kind: type[KnownDetail]) -> str:
    """Return the name that the journal has for a kind."""
    return _NAMES[kind]


def new_event(
    detail: KnownDetail, repository: str = "", revision: str = "", *, time: str = ""
) -> Event:
    """Return the event that says ``detail``, of ``time`` or of now."""
    raw = msgspec.Raw(canonical(detail))
    return Event(name_of(type(detail)), time or utc_now(), TOOL, repository, revision, raw)


def parse_event(data: bytes, what: str) -> Event:
    """Return the event in a file of the journal; raise DamageError, naming ``what``, if it is none.

    What its detail says is not judged here: a newer version may say more, and a hostile writer anything.
    """
    event = parse_record(data, Event, what)
    try:
        # A raw value is not looked into when it is read, and what is shown and merged must be JSON.
        msgspec.json.decode(event.raw, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DamageError(f"{what} is not a readable Event: {error}.") from error
    return event
