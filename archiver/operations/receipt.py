"""Receipt: write what is whole and proven at this place, and accept what another place says of itself.

The writing is done on the far side of a gap, the accepting at home (``archive/receipts.py``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec

from archiver.archive.bundles.ledger import Ledger
from archiver.archive.check.proofs import proofs_of, readable_events
from archiver.archive.clock import has_come
from archiver.archive.copies import PlaceHistory
from archiver.archive.events import TOOL, BundleImported, ReceiptAccepted, new_event
from archiver.archive.journal import EVENT_MAX
from archiver.archive.place_look import look_at
from archiver.archive.places import forgotten, own_place, settled_place
from archiver.archive.publish import missing_packs
from archiver.archive.receipts import (
    LISTED_MAX,
    NAME_MAX,
    RECEIPT_MAX,
    AcceptedReceipt,
    Receipt,
    ReceivedSnapshot,
    ReportedSnapshot,
    TroubledSnapshot,
    parse_receipt,
    receipt_file,
    receipt_history,
    signer_of,
)
from archiver.archive.records import canonical, is_identity
from archiver.archive.signing.keys import public_keys, read_small
from archiver.archive.signing.minisign import parse_signature
from archiver.archive.signing.signatures import beside
from archiver.errors import (
    DamageError,
    MismatchError,
    TooLargeError,
    UsageError,
    skip_damaged,
)
from archiver.smoke.receipt import last_tested
from archiver.storage.files import explain, require_outside, require_place, write_new
from archiver.storage.store import local_folder
from archiver.text import plural, printable, utc_now

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence
    from pathlib import Path

    from archiver.archive.archive import Archive
    from archiver.archive.check.proofs import Proofs
    from archiver.archive.events import Event
    from archiver.archive.places import Place
    from archiver.archive.seals import Snapshot
    from archiver.archive.signing.keys import SecretKey
    from archiver.archive.signing.minisign import Signature
    from archiver.smoke.receipt import Tested

Standing = Literal["counts", "claim"]
"""Whether a receipt counts: a key that the policy trusts signed it, or none did."""


# ---- on the far side


class WriteRequest(NamedTuple):
    """What a receipt is to tell of, and where it goes.

    Attributes:
        path: The file to write; its signature goes beside it.
        references: Repositories, each with (the beginning of) a revision or None; none: all.
        name: What it is to call the place; ``""``: what that is called here.
        key: Signs it; None: nobody does.
    """

    path: Path
    references: tuple[tuple[str, str | None], ...] = ()
    name: str = ""
    key: SecretKey | None = None

    @property
    def signature(self) -> Path | None:
        """Where its signature goes."""
        return beside(self.path) if self.key else None

    def require_place(self, archive: Path) -> None:
        """Raise UsageError or DeniedError now if it could not be written later.

        In the folder of the archive it would be one more file to ask about.
        """
        require_outside(self.path, archive, "Name a file in another folder.")
        for path in (self.path, self.signature):
            if path is not None:
                require_place(path)


class WrittenReceipt(msgspec.Struct, frozen=True):
    """A receipt that was written, and where; ``signature`` and ``signer`` are ``""`` without a key."""

    path: str
    bytes: int
    receipt: Receipt
    signature: str = ""
    signer: str = ""


def write(archive: Archive, request: WriteRequest) -> WrittenReceipt:
    """Write what is whole and proven here, from names and the journal: no pack is read.

    Raises:
        UsageError: No such snapshot is held, or the file is there already.
        TooLargeError: There is more to tell than a receipt can.
    """
    request.require_place(local_folder(archive.store).path)
    data = receipt_file(_Writing(archive, request).receipt())
    if len(data) > RECEIPT_MAX:
        raise TooLargeError(
            f"The receipt would have {len(data):,} bytes; at most {RECEIPT_MAX:,} can be accepted.",
            hint="Name the repositories that it is to tell of, and write several.",
        )
    receipt = parse_receipt(data, str(request.path))
    if request.key is None or request.signature is None:
        write_new(request.path, data)
        Ledger(archive.store).note_receipt(receipt.id, data)
        return WrittenReceipt(str(request.path), len(data), receipt)
    comment = f"receipt of place {receipt.place}, archive {receipt.archive}, {receipt.time}"
    # The signature first: a receipt without it would look like one that nobody signed.
    write_new(request.signature, request.key.signature(data, comment))
    try:
        write_new(request.path, data)
    except BaseException:
        request.signature.unlink(missing_ok=True)
        raise
    Ledger(archive.store).note_receipt(receipt.id, data)
    return WrittenReceipt(
        str(request.path), len(data), receipt, str(request.signature), request.key.id
    )


class _Writing:
    """What an archive can say of its own place."""

    def __init__(self, archive: Archive, request: WriteRequest) -> None:
        self._archive = archive
        self._request = request
        self._now = utc_now()
        self._place: Place = settled_place(archive)
        self._history = PlaceHistory(self._place, self._now, archive.store.address)
        events = list(self._history.noted(readable_events(archive.journal)))
        self._proofs: Proofs = proofs_of(events, self._now, self._place)
        self._imported = dict(_imported(events, self._place, self._now))
        """Snapshot -> when a bundle's import decoded and hashed every file of it here."""

    def receipt(self) -> Receipt:
        """Return it, without its digest."""
        archive, ledger = self._archive, Ledger(self._archive.store)
        if not is_identity(self._place.id):
            raise UsageError(
                f"{archive.store.address} has no identity yet, and cannot be written to.",
                hint="Run the command once where the archive can be written to.",
            )
        snapshots = self._snapshots()
        models = [snapshot for snapshot in snapshots if snapshot.should_run]
        tested = last_tested(archive, models, self._place)
        told = [self._told(snapshot, tested) for snapshot in snapshots]
        folder = archive.store.folder
        device = look_at(folder.path).device if folder else None
        return Receipt(
            archive=archive.info.archive,
            place=self._place.id,
            name=printable(self._request.name or self._place.name, NAME_MAX - 1),
            time=self._now,
            tool=TOOL,
            heads=archive.journal.heads()[:LISTED_MAX],
            snapshots=tuple(each for each in told if isinstance(each, ReceivedSnapshot)),
            troubled=tuple(each for each in told if isinstance(each, TroubledSnapshot)),
            origins=tuple(sorted(ledger.archives()))[:LISTED_MAX],
            bundles=tuple(ledger.received())[:LISTED_MAX],
            part=bool(self._request.references),
            medium=device.medium if device else "unknown",
            devices=device.devices if device else (),
            label=printable(device.label, NAME_MAX - 1) if device else "",
        )

    def _snapshots(self) -> list[Snapshot]:
        chosen: dict[str, Snapshot] = {}
        for repository, revision in self._request.references:
            for snapshot in self._archive.fitting(repository, revision, skip_damaged):
                chosen[snapshot.id] = snapshot
        held = (
            chosen.values() if self._request.references else self._archive.snapshots(skip_damaged)
        )
        return sorted((snapshot for snapshot in held if snapshot.sealed), key=lambda each: each.id)

    def _told(
        self, snapshot: Snapshot, tested: dict[str, Tested]
    ) -> ReceivedSnapshot | TroubledSnapshot:
        seal, trouble = snapshot.seal, ""
        packs = [pack for pack, _ in seal.packs]
        if missing_packs(self._archive, seal.packs):
            trouble = "missing"
        elif self._history.damaged(self._names, packs):
            trouble = "damaged"
        imported = self._imported.get(snapshot.id, "")
        files = max(self._proofs.snapshot(snapshot.id), imported)
        content = max(self._oldest(packs, files), files)
        stored = max(content, self._stored(snapshot, files))
        if not trouble and not stored:
            trouble = "unproven"
        if trouble:
            return TroubledSnapshot(snapshot.id, seal.repository, seal.revision, trouble)
        ran = tested.get(snapshot.id)
        return ReceivedSnapshot(
            id=snapshot.id,
            repository=seal.repository,
            revision=seal.revision,
            packs=len(packs),
            bytes=sum(size for _, size in seal.packs),
            stored=stored,
            content=content,
            files=files,
            tested=ran.tried if ran else "",
            held=ran.held if ran else "",
        )

    @property
    def _names(self) -> tuple[str, str]:
        return self._place.id, self._place.name

    def _oldest(self, packs: Iterable[str], files: str) -> str:
        """Return since when the content of all these packs is proven; ``""``: that of one never was."""
        return min((max(self._proofs.pack(pack, "content"), files) for pack in packs), default="")

    def _stored(self, snapshot: Snapshot, files: str) -> str:
        proofs = self._history.pack_proofs(self._names, [snapshot])
        return min((max(time, files) for time in proofs.values()), default="")


def _imported(
    events: Iterable[tuple[str, Event]], place: Place, now: str
) -> Iterator[tuple[str, str]]:
    for _, event in events:
        match event.detail:
            case BundleImported() as detail if place.is_named(detail.place) and event.time <= now:
                yield from ((snapshot, event.time) for snapshot in detail.snapshots)


# ---- at home


class ReadReceipt(NamedTuple):
    """A receipt as it lies in a file, and its signature's file."""

    path: Path
    data: bytes
    receipt: Receipt
    signature: Signature | None
    signature_text: str


def read(path: Path, signature: Path | None = None) -> ReadReceipt:
    """Return the receipt in a file, with the signature that lies beside it, or that is named.

    Raises:
        UsageError: There is no such file.
        DamageError: It is no receipt, or not as it was written, or what lies beside it is no signature.
        UnknownFormatError: A newer version wrote it.
    """
    if not path.is_file():
        raise UsageError(
            f"There is no receipt at {path}, or it is no file.",
            hint="'archiver receipt write' on the far machine writes one.",
        )
    try:
        with path.open("rb") as file:
            data = file.read(RECEIPT_MAX + 1)
    except OSError as error:
        raise explain(error, path, "the receipt was read") from error
    try:
        receipt = parse_receipt(data, str(path))
    except DamageError as error:
        error.hint = error.hint or "Have it brought again, or written and signed anew."
        raise
    where = signature or beside(path)
    if not where.is_file():
        if signature is not None:
            raise UsageError(
                f"There is no signature at {where}.", hint="Name the .minisig that came with it."
            )
        return ReadReceipt(path, data, receipt, None, "")
    signed = read_small(where, "signature")
    try:
        return ReadReceipt(path, data, receipt, parse_signature(signed), signed.decode())
    except UnicodeDecodeError:
        raise DamageError(f"{where} is not a signature: its comments are no text.") from None
    except DamageError as error:
        raise DamageError(f"{where} is not a signature: {error.message}.") from None


class AcceptReport(msgspec.Struct, frozen=True):
    """What became of a receipt.

    Attributes:
        standing: Whether it counts.
        signer: The id of the trusted key that signed it; ``""``: none did.
        claimed_signer: The id of the key that its signature names, trusted or not; ``""``: it has none.
        state: ``accepted``; ``before``: this very receipt was already; ``older``: a newer one of the same
            place says more, and nothing was changed.
        snapshots: Titles of those that it says are whole there, and that are held here.
        troubled: Titles of those that it says are not, each with why.
        unknown: Titles of those that are not held here: they count for nothing.
        forgotten: How many of these were forgotten here on purpose.
        oldest: Since when all that it lists is proven there.
        held: How many of ``snapshots`` held when their model was last run there.
        failed: Titles of those that did not, or could not run.
        newer: When the newer one was written, if ``older``.
    """

    receipt: str
    place: str
    name: str
    time: str
    standing: Standing
    state: Literal["accepted", "before", "older"]
    signer: str = ""
    claimed_signer: str = ""
    snapshots: tuple[str, ...] = ()
    troubled: tuple[tuple[str, str], ...] = ()
    unknown: tuple[str, ...] = ()
    forgotten: int = 0
    oldest: str = ""
    held: int = 0
    failed: tuple[str, ...] = ()
    newer: str = ""


def accept(archive: Archive, path: Path, signature: Path | None = None) -> AcceptReport:
    """Journal what another place says of itself, unless it cannot be.

    Raises:
        UsageError: There is no such file.
        DamageError: It is not what was written, or not what the key that it names has signed.
        UnknownFormatError: A newer version wrote it.
        MismatchError: It is of another archive or of this very place, of a time to come, or contradicts
            what is known here.
    """
    archive.require_writable()
    read_receipt = read(path, signature)
    receipt = read_receipt.receipt
    trusted = public_keys(archive.policy().keys)
    signer = signer_of(read_receipt.signature, read_receipt.data, trusted)
    claimed = read_receipt.signature.key if read_receipt.signature else ""
    if not signer and claimed in {key.id for key in trusted}:
        raise DamageError(
            f"{path} is not what the key {claimed} signed: it, or its signature, was changed.",
            hint="Nothing was accepted. Have it brought again, or written and signed anew.",
        )
    _require_of_here(archive, receipt, path)
    held: dict[str, Snapshot] = {each.id: each for each in archive.snapshots(skip_damaged)}
    _require_agreed(receipt, held, path)
    events = list(archive.events(skip_damaged))
    history = receipt_history(events)
    _require_not_lost(receipt, history.lost(receipt.place), path)
    # What a trusted key signed is not held against what none did.
    rivals = [
        each
        for each in history.receipts
        if each.receipt.place == receipt.place and (not signer or each.signer(trusted))
    ]
    _require_same_archive(receipt, rivals, path)
    report = _report_of(receipt, held, signer, claimed, forgotten(events))
    if report.unknown and not report.snapshots and not report.troubled:
        raise MismatchError(
            f"{path} tells of {plural(len(report.unknown), 'snapshot')}, such as "
            f"{printable(report.unknown[0])}, and none of them is held here.",
            hint="Nothing was accepted. Is it for another archive?",
        )
    same = [each for each in rivals if each.receipt.id == receipt.id]
    if any(signer or each.signature == read_receipt.signature for each in same):
        return msgspec.structs.replace(report, state="before")
    newer = max((each.receipt.time for each in rivals if not each.receipt.part), default="")
    if newer > receipt.time:
        return msgspec.structs.replace(report, state="older", newer=newer)
    text = read_receipt.data.decode()
    event = new_event(ReceiptAccepted(receipt.place, receipt.id, text, read_receipt.signature_text))
    if len(canonical(event)) > EVENT_MAX - LISTED_MAX * 70:
        raise TooLargeError(
            f"{path} is larger than an event of the journal may be.",
            hint="Nothing was accepted. Have several written, each of some of the repositories.",
        )
    archive.record(event)
    return report


def _report_of(
    receipt: Receipt,
    held: dict[str, Snapshot],
    signer: str,
    claimed: str,
    gone: Collection[str],
) -> AcceptReport:
    """Return what a receipt tells of the snapshots that are ``held`` here, and of others."""
    listed = [each for each in receipt.snapshots if each.id in held]
    told: tuple[ReportedSnapshot, ...] = (*receipt.snapshots, *receipt.troubled)
    unknown = [each for each in told if each.id not in held]
    return AcceptReport(
        receipt=receipt.id,
        place=receipt.place,
        name=receipt.name,
        time=receipt.time,
        standing="counts" if signer else "claim",
        state="accepted",
        signer=signer,
        claimed_signer=claimed,
        snapshots=tuple(each.title for each in listed),
        troubled=tuple((each.title, each.trouble) for each in receipt.troubled if each.id in held),
        unknown=tuple(each.title for each in unknown),
        forgotten=sum(each.id in gone for each in unknown),
        oldest=min((each.stored for each in listed), default=""),
        held=sum(bool(each.held) and each.held == each.tested for each in listed),
        failed=tuple(each.title for each in listed if each.tested > each.held),
    )


def _require_of_here(archive: Archive, receipt: Receipt, path: Path) -> None:
    """Raise MismatchError for a receipt of another archive, of this place, or of a time to come."""
    if not has_come(receipt.time):
        raise MismatchError(
            f"{path} says that it was written at {receipt.time}, and here it is {utc_now()}.",
            hint="Nothing was accepted. Set the clock that is wrong; if it is the far one, have the "
            "receipt written anew.",
        )
    own = archive.info.archive
    if own != receipt.archive and own not in receipt.origins:
        raise MismatchError(
            f"{path} is of another archive: {receipt.archive}, into which no bundle of this one ({own}) "
            "came.",
            hint="Nothing was accepted. Accept it in the archive that its bundles were made in.",
        )
    if own_place(archive).id == receipt.place:
        raise MismatchError(
            f"{path} is of this very place: what lies here is no copy of itself.",
            hint="Nothing was accepted. If the far archive was copied with its place.json, delete that "
            "file there, and have the receipt written anew.",
        )


def _require_not_lost(receipt: Receipt, lost: str, path: Path) -> None:
    """Raise MismatchError if it was written before its place was noted as ``lost``."""
    if receipt.time <= lost:
        raise MismatchError(
            f"{path} is of {receipt.time}, and what lay at that place was noted as lost at {lost}.",
            hint="Nothing was accepted. If that place is there again, have the receipt written anew.",
        )


def _require_agreed(receipt: Receipt, held: dict[str, Snapshot], path: Path) -> None:
    """Raise MismatchError if it says something else of a seal than the seal."""
    for each in receipt.snapshots:
        if each.id in held and not each.is_of(held[each.id]):
            seal = held[each.id].seal
            raise MismatchError(
                f"{path} says of the seal {each.id[:12]} that it is {printable(each.title)} in "
                f"{plural(each.packs, 'pack')} of {each.bytes:,} bytes; it is {seal.repository}@"
                f"{seal.revision[:12]} in {plural(len(seal.packs), 'pack')} of "
                f"{sum(size for _, size in seal.packs):,} bytes.",
                hint="Nothing was accepted. Ask whoever keeps that place: an audit there says what is "
                "wrong.",
            )


def _require_same_archive(receipt: Receipt, before: Sequence[AcceptedReceipt], path: Path) -> None:
    """Raise MismatchError if the place was that of another archive before."""
    others = {each.receipt.archive for each in before} - {receipt.archive}
    if others:
        raise MismatchError(
            f"{path} says that the archive {receipt.archive} lies at the place {receipt.place}; receipts "
            f"of that place told of the archive {min(others)} before.",
            hint="Nothing was accepted. If that place was begun anew, note 'archiver copy --lost' of the "
            "place first, and then have the receipt written anew.",
        )
