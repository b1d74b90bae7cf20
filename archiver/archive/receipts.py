"""Receipts: what a place that nobody can look at says of itself, in a small file that comes back.

A receipt lists the snapshots that are whole at its place, and when their packs were last proven there.
It is canonical JSON (``docs/format.md``, section 14), signed as ``minisign`` signs. Who accepts one keeps
the very bytes, and the signature, in an event of the journal; so whether a key that the policy trusts
made it is looked at again whenever copies are counted, and nobody's word is taken for it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Final, NamedTuple

import msgspec

from archiver.archive.clock import has_come
from archiver.archive.events import CopyLost, ReceiptAccepted
from archiver.archive.place_look import Device, Medium
from archiver.archive.records import (
    FORMAT,
    Features,
    canonical,
    declared,
    is_identity,
    parse_record,
    require_known,
)
from archiver.archive.signing.minisign import FILE_MAX, parse_public_key, parse_signature
from archiver.digest import Blake3Hex, HexDigest, blake3_hex
from archiver.errors import ArchiverError, DamageError, UnknownFormatError, UsageError
from archiver.tensors.header import Count
from archiver.text import printable, seconds_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from archiver.archive.events import Event
    from archiver.archive.seals import Snapshot
    from archiver.archive.signing.minisign import PublicKey, Signature

RECEIPT_MAX: Final = 700_000
"""Bytes of a receipt: as a text in an event it stays below what an event may have."""
SNAPSHOTS_MAX: Final = 10_000
LISTED_MAX: Final = 1_000
NAME_MAX: Final = 255
_DEVICES_MAX: Final = 64
_SIGNS_MAX: Final = 200_000
"""The signs `,` `[` `{` of a receipt: none of the largest has as many."""
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")

Trouble = Annotated[str, msgspec.Meta(max_length=40)]
"""Why a snapshot that is at a place is not among those that are whole: ``damaged``, ``missing`` (packs of
it are) or ``unproven``. A newer writer may have more words."""


class ReportedSnapshot(msgspec.Struct, frozen=True, omit_defaults=True):
    """A snapshot that a receipt tells of; ``id`` is its seal's, which vouches for its packs."""

    id: HexDigest
    repository: str
    revision: str

    @property
    def title(self) -> str:
        """``Org/Name@revision``, for messages."""
        return f"{self.repository}@{self.revision[:12]}"


class ReceivedSnapshot(ReportedSnapshot, frozen=True, omit_defaults=True):
    """A snapshot that is whole at a place, every pack there in its size and proven.

    Attributes:
        packs: How many these are, and how many ``bytes`` they have: as the seal says.
        stored: Since when each of its packs is proven there to have the digest that is its name: the
            time of the oldest proof; of ``content`` and ``files`` likewise, ``""`` if not all of it was.
        tested: When its model was last run there, every level up to ``generate``; ``""``: never.
        held: When that last held.
    """

    packs: Count
    bytes: Count
    stored: str
    content: str = ""
    files: str = ""
    tested: str = ""
    held: str = ""

    @property
    def times(self) -> tuple[str, ...]:
        """Every time that it tells."""
        known = (self.stored, self.content, self.files, self.tested, self.held)
        return tuple(time for time in known if time)

    def is_of(self, snapshot: Snapshot) -> bool:
        """Return whether it says of a snapshot with this id what its seal says."""
        seal = snapshot.seal
        size = sum(size for _, size in seal.packs)
        return (self.repository, self.revision, self.packs, self.bytes) == (
            seal.repository,
            seal.revision,
            len(seal.packs),
            size,
        )

    def is_held(self, snapshots: Mapping[Blake3Hex, Snapshot]) -> bool:
        """Return whether it is one of those that are held, by id, and says of it what its seal says."""
        snapshot = snapshots.get(Blake3Hex(self.id))
        return snapshot is not None and self.is_of(snapshot)


class TroubledSnapshot(ReportedSnapshot, frozen=True):
    """A snapshot whose seal is at a place, and that does not count there."""

    trouble: Trouble


class Receipt(msgspec.Struct, frozen=True):
    """What a place says of itself.

    Attributes:
        archive: The id of the archive that lies there.
        place: Its identity.
        name: What people call it.
        time: When it was written.
        tool: By which writer.
        heads: The ids of its journal's heads.
        snapshots: Those that are whole and proven there.
        troubled: Those that are there and are not.
        origins: The ids of the archives that bundles came in from.
        bundles: The ids of the bundles of which something came in, the first thousand.
        part: It tells of chosen snapshots only, and of the others nothing.
        medium: What it lies on; ``devices`` and ``label`` as in ``place_look.Device``.
        check: The BLAKE3 of this document in which this key is ``""``: the receipt's id.
    """

    archive: str
    place: str
    name: Annotated[str, msgspec.Meta(max_length=NAME_MAX)]
    time: str
    tool: Annotated[str, msgspec.Meta(max_length=NAME_MAX)]
    heads: Annotated[tuple[HexDigest, ...], msgspec.Meta(max_length=LISTED_MAX)]
    snapshots: Annotated[tuple[ReceivedSnapshot, ...], msgspec.Meta(max_length=SNAPSHOTS_MAX)]
    troubled: Annotated[tuple[TroubledSnapshot, ...], msgspec.Meta(max_length=SNAPSHOTS_MAX)] = ()
    origins: Annotated[tuple[str, ...], msgspec.Meta(max_length=LISTED_MAX)] = ()
    bundles: Annotated[tuple[HexDigest, ...], msgspec.Meta(max_length=LISTED_MAX)] = ()
    part: bool = False
    medium: Medium = "unknown"
    devices: Annotated[tuple[str, ...], msgspec.Meta(max_length=_DEVICES_MAX)] = ()
    label: Annotated[str, msgspec.Meta(max_length=NAME_MAX)] = ""
    kind: str = "receipt"
    format: int = FORMAT
    features: Features = Features()
    check: str = ""

    @property
    def id(self) -> str:
        """What a bundle names it by."""
        return self.check

    @property
    def device(self) -> Device:
        """What its place lies on."""
        return Device(self.medium, self.devices, self.label)


# ---- reading and writing


def receipt_file(receipt: Receipt) -> bytes:
    """Return what the file of a receipt should hold: with its digest, canonical, and a line feed."""
    bare = msgspec.structs.replace(receipt, check="")
    return canonical(msgspec.structs.replace(bare, check=blake3_hex(canonical(bare)))) + b"\n"


def parse_receipt(data: bytes, what: str) -> Receipt:
    """Return the receipt in a file, whoever wrote that.

    Raises:
        DamageError: It is none, is not as it was written, or says what cannot be.
        UnknownFormatError: A newer version wrote it.
    """
    if len(data) > RECEIPT_MAX:
        raise DamageError(f"{what} is no receipt: it has more than {RECEIPT_MAX:,} bytes.")
    if sum(map(data.count, (b",", b"[", b"{"))) > _SIGNS_MAX:
        raise DamageError(f"{what} lists more than a receipt may hold.")
    try:
        require_known(what, *declared(data))
    except UnknownFormatError as error:
        raise UnknownFormatError(
            error.message, hint="Nothing was read of it. Use a newer archiver."
        ) from None
    receipt = parse_record(data, Receipt, what)
    _require_unchanged(data, receipt, what)
    _require_possible(receipt, what)
    return receipt


def _require_unchanged(data: bytes, receipt: Receipt, what: str) -> None:
    """Raise DamageError unless it is canonical, also with keys that are not known, and has its check."""
    try:
        keys = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
        same = data == canonical(msgspec.json.decode(data)) + b"\n"
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        same, keys = False, {}
    bare = canonical({**keys, "check": ""}) if same else b""
    if not same or receipt.check != blake3_hex(bare):
        raise DamageError(f"{what} is damaged: it says something else than was written.")


def _require_possible(receipt: Receipt, what: str) -> None:
    """Raise DamageError for what no writer says."""
    named = (receipt.archive, receipt.place, *receipt.origins)
    if not all(map(is_identity, named)):
        raise DamageError(f"{what} names an archive or a place that is none.")
    shown = (receipt.name, receipt.label, receipt.tool, *receipt.devices)
    if not all(text.isprintable() and len(text) <= NAME_MAX for text in shown):
        raise DamageError(f"{what} has a name that cannot be shown.")
    if not receipt.name.strip():
        raise DamageError(f"{what} has no name for its place.")
    told: tuple[ReportedSnapshot, ...] = (*receipt.snapshots, *receipt.troubled)
    ids = [each.id for each in told]
    if len(set(ids)) < len(ids):
        raise DamageError(f"{what} names a snapshot twice.")
    # Most snapshots share their times, and a time costs more to read than a digest.
    times = {receipt.time, *(time for each in receipt.snapshots for time in each.times)}
    if any(not _TIME.fullmatch(time) or seconds_of(time) is None for time in times):
        raise DamageError(f"{what} has a time that is none.")
    for each in receipt.snapshots:
        if not each.stored or max(each.times) > receipt.time:
            raise DamageError(
                f"{what} says of {printable(each.title)} that it was proven after the receipt was written, "
                "or never."
            )


# ---- accepted


class AcceptedReceipt(NamedTuple):
    """A receipt as an event of the journal keeps it.

    Attributes:
        event: The event's id.
        accepted: When it was accepted.
        receipt: What it says.
        data: The file's very bytes, which a signature covers.
        signature: None if it has none that can be read.
    """

    event: str
    accepted: str
    receipt: Receipt
    data: bytes
    signature: Signature | None

    @property
    def seen(self) -> str:
        """Since when it is certain that the place was there: the earlier of two clocks' words."""
        return min(self.receipt.time, self.accepted)

    def signer(self, keys: Iterable[PublicKey]) -> str:
        """Return the id of the one of ``keys`` that signed it; ``""`` if none did."""
        return signer_of(self.signature, self.data, keys)


def signer_of(signature: Signature | None, data: bytes, keys: Iterable[PublicKey]) -> str:
    """Return the id of the one of ``keys`` that signed these bytes; ``""`` if none did."""
    for key in keys if signature else ():
        try:
            if signature is not None and signature.key == key.id:
                signature.verify(key, data)
                return key.id
        except DamageError:
            continue
    return ""


def accepted_receipt(event: str, time: str, detail: ReceiptAccepted) -> AcceptedReceipt | None:
    """Return the receipt that an event of ``time`` keeps; None if it cannot be one, or is yet to come.

    Whoever can write to the journal may have put anything there.
    """
    data = detail.text.encode(errors="replace")
    try:
        receipt = parse_receipt(data, "A receipt")
    except ArchiverError:
        return None
    if receipt.place != detail.place or not has_come(receipt.time):
        return None
    return AcceptedReceipt(event, time, receipt, data, _signature_in(detail.signature))


def _signature_in(text: str) -> Signature | None:
    data = text.encode(errors="replace")
    try:
        return parse_signature(data) if 0 < len(data) <= FILE_MAX else None
    except DamageError:
        return None


class ReceiptHistory:
    """The receipts that a journal keeps: to be fed with its events, oldest first.

    Once a place was noted as lost, what was written there until then counts no more, whenever it comes.
    """

    def __init__(self) -> None:
        self.receipts: list[AcceptedReceipt] = []
        self._lost: dict[str, str] = {}

    def note(self, digest: str, event: Event, time: str) -> None:
        """Take in an event, which counts as of ``time``."""
        match event.detail:
            case ReceiptAccepted() as detail:
                accepted = accepted_receipt(digest, time, detail)
                if accepted and accepted.receipt.time > self.lost(accepted.receipt.place):
                    self.receipts.append(accepted)
            case CopyLost(name, identity):
                for place in {name, identity} - {""}:
                    self._lost[place] = max(time, self.lost(place))
                self.receipts = [
                    each
                    for each in self.receipts
                    if each.receipt.time > self.lost(each.receipt.place)
                ]

    def lost(self, place: str) -> str:
        """Return when the place with this identity was last noted as lost; ``""`` if never."""
        return self._lost.get(place, "")


def accepted_receipts(events: Iterable[tuple[str, Event]]) -> list[AcceptedReceipt]:
    """Return the receipts that events (id and event, oldest first) keep, of places that are not lost."""
    return receipt_history(events).receipts


def receipt_history(events: Iterable[tuple[str, Event]]) -> ReceiptHistory:
    """Return what events (id and event, oldest first) keep of receipts."""
    history = ReceiptHistory()
    for digest, event in events:
        history.note(digest, event, event.time)
    return history


def _by_age(receipts: Iterable[AcceptedReceipt]) -> list[AcceptedReceipt]:
    """Return them as they were written; those of one second as they were accepted."""
    return sorted(receipts, key=lambda accepted: accepted.receipt.time)


class PlaceReceipts(NamedTuple):
    """What the receipts of one place add up to.

    Attributes:
        newest: Its newest receipt that counts; the newest claim, if none counts.
        signer: The id of the trusted key that signed ``newest``; ``""``: it is a claim.
        held: Snapshots that are whole there, each with when it was proven there, by id.
        troubled: Those that are there and are not whole, by id.
        claim: A newer receipt that counts for nothing; None: there is none.
    """

    newest: AcceptedReceipt
    signer: str
    held: dict[str, str]
    troubled: dict[str, TroubledSnapshot]
    claim: AcceptedReceipt | None = None


def receipts_by_place(
    receipts: Iterable[AcceptedReceipt],
    keys: Iterable[str],
    snapshots: Mapping[Blake3Hex, Snapshot],
) -> dict[str, PlaceReceipts]:
    """Return what each place says of those snapshots that are held here, by its identity.

    ``keys`` are the public keys that are trusted: what no such key signed is a claim, and only told where
    nothing better is known. Of several receipts the newest decides; one of chosen snapshots adds to what
    the others say.
    """
    trusted = _public_keys(keys)
    by_place: dict[str, list[AcceptedReceipt]] = {}
    for accepted in receipts:
        by_place.setdefault(accepted.receipt.place, []).append(accepted)
    summed = {}
    for place, all_of_it in by_place.items():
        ordered = _by_age(all_of_it)
        signers = {accepted.event: accepted.signer(trusted) for accepted in ordered}
        counting = [accepted for accepted in ordered if signers[accepted.event]]
        newest = (counting or ordered)[-1]
        held, troubled = _added_up(counting or ordered[-1:], snapshots)
        newer = ordered[-1] if ordered[-1].receipt.time > newest.receipt.time else None
        summed[place] = PlaceReceipts(newest, signers[newest.event], held, troubled, newer)
    return summed


def places_called(by_place: Mapping[str, PlaceReceipts], text: str) -> dict[str, PlaceReceipts]:
    """Return those of the places whose identity, or name by its newest receipt, is ``text``."""
    return {
        place: says for place, says in by_place.items() if text in {place, says.newest.receipt.name}
    }


def _added_up(
    receipts: Iterable[AcceptedReceipt], snapshots: Mapping[Blake3Hex, Snapshot]
) -> tuple[dict[str, str], dict[str, TroubledSnapshot]]:
    held: dict[str, str] = {}
    troubled: dict[str, TroubledSnapshot] = {}
    for accepted in receipts:
        receipt = accepted.receipt
        if not receipt.part:
            held, troubled = {}, {}
        for each in receipt.snapshots:
            troubled.pop(each.id, None)
            if each.is_held(snapshots):
                held[each.id] = min(each.stored, accepted.accepted)
        for short in receipt.troubled:
            held.pop(short.id, None)
            if Blake3Hex(short.id) in snapshots:
                troubled[short.id] = short
    return held, troubled


def _public_keys(texts: Iterable[str]) -> list[PublicKey]:
    keys = []
    for text in texts:
        try:
            keys.append(parse_public_key(text))
        except UsageError:
            continue  # a policy may name anything
    return keys
