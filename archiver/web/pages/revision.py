"""The pages of a revision: what it is and how it is proven, its files, its tensors."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from archiver.archive.manifests import tensors_of
from archiver.archive.vouching import vouches_of
from archiver.errors import DamageError
from archiver.names import HUGGING_FACE, MODEL, RepositoryName
from archiver.operations.describe import Description, describe
from archiver.operations.show import snapshot_facts
from archiver.text import utc_before
from archiver.web.holdings import served_name
from archiver.web.pages.held import file_href
from archiver.web.pages.rendering import BAR, page, paging, with_query

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from starlette.requests import Request
    from starlette.responses import Response

    from archiver.archive.archive import Archive
    from archiver.archive.records import FileEntry, Manifest
    from archiver.archive.seals import Snapshot
    from archiver.archive.serving.proof import ProofBook
    from archiver.archive.vouching import Vouch
    from archiver.tensors.header import Tensor
    from archiver.web.pages.held import Held, HeldSnapshots

_DAY: Final = 86400
_DESCRIBED: Final = 16
"""Revisions whose description is kept,"""
_GROUPS: Final = 12
"""groups of tensors that the first page shows,"""
_FILES: Final = 8
"""files likewise, the largest,"""
_HUES: Final = 6
"""parts of a stacked bar,"""
_WORDS_MAX: Final = 200
"""and characters of what a list is searched for."""


class Stretch(NamedTuple):
    """One part of a stacked bar: where it begins, its length, its number from 1, what it is called."""

    x: float
    width: float
    number: int
    label: str
    amount: int


class ShownFile(NamedTuple):
    """A file, who vouched for it, and where its bytes are."""

    entry: FileEntry
    vouch: Vouch
    href: str
    tensors: int


class ShownTensor(NamedTuple):
    """A tensor and the file that it is in."""

    tensor: Tensor
    path: str

    @property
    def bytes(self) -> int:
        """Its bytes."""
        return self.tensor.end - self.tensor.begin


class Order(NamedTuple):
    """An order of a list: its words, and its key; None: as the manifest has it."""

    title: str
    key: Callable[[Any], Any] | None
    falling: bool = False


FILE_ORDERS: Final[dict[str, Order]] = {
    "path": Order("Path", None),
    "size": Order("Size, largest first", lambda file: file.entry.size, falling=True),
}
TENSOR_ORDERS: Final[dict[str, Order]] = {
    "place": Order("Place in the files", None),
    "name": Order("Name", lambda tensor: tensor.tensor.name),
    "bytes": Order("Bytes, most first", lambda tensor: tensor.bytes, falling=True),
}


class RevisionPages:
    """The pages of a revision."""

    def __init__(self, held: Held, proofs: ProofBook) -> None:
        self._held = held
        self._proofs = proofs
        self._lock = threading.Lock()
        self._described: OrderedDict[str, Description] = OrderedDict()

    # ---- what it is

    def answer(self, request: Request) -> Response:
        """Return the page of a revision."""
        holding, snapshot = self._asked(request)
        archive = self._held.archive
        manifest = self._held.manifest(snapshot)
        description = self._description(holding, snapshot, manifest)
        files = list(_files(snapshot, manifest))
        files.sort(key=lambda file: -file.entry.size)
        base = str(request.base_url).rstrip("/")
        facts = self._facts(holding, snapshot) | {
            "shown": snapshot_facts(archive, snapshot, manifest),
            "description": description,
            "dtypes": _stacked(((name, size) for name, _, size in description.dtypes), _HUES),
            "groups": description.groups[:_GROUPS],
            "files": files[:_FILES],
            "proof": self._proofs.snapshot(snapshot),
            "since": utc_before(days * _DAY) if (days := _audit_days(archive)) else "",
            "before": next(
                (each for each in holding.snapshots if each.id == snapshot.seal.parent), None
            ),
            "fetch": list(_commands(base, archive.store.address, holding, snapshot)),
        }
        return page(request, "revision.html", facts, archive=archive)

    def _description(
        self, holding: HeldSnapshots, snapshot: Snapshot, manifest: Manifest
    ) -> Description:
        with self._lock:
            known = self._described.get(snapshot.id)
        if known is not None:
            return known
        parent = next((each for each in holding.snapshots if each.id == snapshot.seal.parent), None)
        try:
            before = self._held.manifest(parent) if parent else None
        except DamageError:
            before = None
        made = describe(self._held.archive, snapshot, manifest, before)
        with self._lock:
            self._described[snapshot.id] = made
            while len(self._described) > _DESCRIBED:
                self._described.popitem(last=False)
        return made

    # ---- its files

    def files(self, request: Request) -> Response:
        """Return the list of files."""
        holding, snapshot = self._asked(request)
        manifest = self._held.manifest(snapshot)
        words = _words(request)
        files = [
            file
            for file in _files(snapshot, manifest)
            if all(word in file.entry.path.casefold() for word in words.casefold().split())
        ]
        order = _sorted(request, files, FILE_ORDERS, "path")
        shown = paging(request, len(files))
        facts = self._facts(holding, snapshot) | {
            "words": words,
            "order": order,
            "orders": FILE_ORDERS,
            "files": files[shown.begin : shown.last],
            "paging": shown,
            "most": max((file.entry.size for file in files), default=0),
            "all": with_query(request, q="", page=""),
        }
        return page(request, "files.html", facts, archive=self._held.archive)

    # ---- its tensors

    def tensors(self, request: Request) -> Response:
        """Return the list of tensors, of which there may be hundreds of thousands."""
        holding, snapshot = self._asked(request)
        manifest = self._held.manifest(snapshot)
        description = self._description(holding, snapshot, manifest)
        words = _words(request)
        dtype = request.query_params.get("dtype", "")[:_WORDS_MAX]
        wanted = words.casefold().split()
        tensors = [
            ShownTensor(tensor, entry.path)
            for entry in manifest.files
            for tensor in tensors_of(entry)
            if dtype in {"", tensor.dtype}
            and all(word in tensor.name.casefold() for word in wanted)
        ]
        order = _sorted(request, tensors, TENSOR_ORDERS, "place")
        shown = paging(request, len(tensors))
        facts = self._facts(holding, snapshot) | {
            "words": words,
            "dtype": dtype,
            "order": order,
            "orders": TENSOR_ORDERS,
            "description": description,
            "tensors": tensors[shown.begin : shown.last],
            "bytes": sum(tensor.bytes for tensor in tensors),
            "paging": shown,
            "all": with_query(request, q="", dtype="", page=""),
        }
        return page(request, "tensors.html", facts, archive=self._held.archive)

    # ---- what they share

    def _asked(self, request: Request) -> tuple[HeldSnapshots, Snapshot]:
        parameters = request.path_params
        return self._held.find(parameters["repository"], parameters["revision"])

    @staticmethod
    def _facts(holding: HeldSnapshots, snapshot: Snapshot) -> dict[str, Any]:
        return {
            "name": holding.repository,
            "holding": holding,
            "snapshot": snapshot,
            "seal": snapshot.seal,
        }


def _audit_days(archive: Archive) -> int:
    """Return within how many days the policy wants every pack proven; 0: no matter when."""
    try:
        return archive.policy().audit_days
    except DamageError:
        return 0  # a status says so


def _files(snapshot: Snapshot, manifest: Manifest) -> Iterator[ShownFile]:
    vouches = vouches_of(snapshot.seal, manifest.source, manifest.files)
    repository, revision = snapshot.seal.repository, snapshot.seal.revision
    for entry, vouch in zip(manifest.files, vouches, strict=True):
        href = file_href(repository, revision, entry.path)
        yield ShownFile(entry, vouch, href, len(tensors_of(entry)))


def _words(request: Request) -> str:
    return " ".join(request.query_params.get("q", "")[:_WORDS_MAX].split())


def _sorted(request: Request, rows: list[Any], orders: dict[str, Order], usual: str) -> str:
    """Sort rows as the query asks; return the name of that order."""
    asked = request.query_params.get("sort", "")
    name = asked if asked in orders else usual
    order = orders[name]
    if order.key is not None:
        rows.sort(key=order.key, reverse=order.falling)
    return name


class Command(NamedTuple):
    """What to type to have the revision."""

    title: str
    environment: str
    argv: tuple[str, ...]


def _commands(
    base: str, place: str, holding: HeldSnapshots, snapshot: Snapshot
) -> Iterator[Command]:
    name = RepositoryName.parse(holding.repository)
    revision = snapshot.seal.revision
    kind = () if name.type == MODEL else ("--repo-type", name.type)
    words = ("hf", "download", *kind, served_name(name), "--revision", revision)
    yield Command("From this server, with the hub's own client", f"HF_ENDPOINT={base}", words)
    reference = f"{holding.repository}@{holding.reference(snapshot)}"
    target = name.name.rpartition("/")[2] if name.hub == HUGGING_FACE else "restored"
    yield Command(
        "Where the archive is, without this server",
        "",
        ("archiver", "restore", "-C", place, reference, target),
    )


def _stacked(parts: Iterable[tuple[str, int]], most: int) -> list[Stretch]:
    """Return the parts, the first ``most - 1`` one by one and the others as one."""
    listed = [(label, amount) for label, amount in parts if amount > 0]
    if len(listed) > most:
        rest = sum(amount for _, amount in listed[most - 1 :])
        listed = [*listed[: most - 1], ("others", rest)]
    whole = sum(amount for _, amount in listed)
    stretches: list[Stretch] = []
    at = 0
    for number, (label, amount) in enumerate(listed, 1):
        x, end = BAR * at / whole, BAR * (at + amount) / whole
        stretches.append(Stretch(round(x, 2), round(end - x, 2), number, label, amount))
        at += amount
    return stretches
