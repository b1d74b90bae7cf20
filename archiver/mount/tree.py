"""The tree of names that a mount shows: repositories, their revisions, and the files of these.

::

    Org/Name/<revision>/<path>       what Org/Name@<revision> names
    Org/Name/<seal>/<path>           another snapshot of a revision, by its seal's first digits
    Org/Name/main                    -> <revision>: what Org/Name alone names; further branches and tags
    datasets/Org/Name/…              a dataset
    modelscope:Org/Name/…            of another hub: each repository stands under its one spelling
    .hub/models--Org--Name/…         the same once more, as a hub client's cache has it

A name is looked up from the top, and each folder is built when it is asked for. Which snapshots there are
is looked up again where the last look was a second ago.
"""

from __future__ import annotations

import re
import threading
import time
from collections import OrderedDict
from datetime import datetime
from typing import TYPE_CHECKING, Final, NamedTuple

from archiver.archive import layout
from archiver.archive.refs import Refs
from archiver.errors import (
    ArchiverError,
    DamageError,
    InvalidDocumentError,
    explain_system_error,
    skip_damaged,
)
from archiver.names import HUGGING_FACE, RepositoryName, path_problems
from archiver.text import printable
from archiver.upstream.hub_cache import cache_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from archiver.archive.archive import Archive
    from archiver.archive.seals import Snapshot

FRESH_SECONDS: Final = 1.0
"""A snapshot that was sealed, or taken out of use, is seen after so long."""
_FRESH_TIMES: Final = 20
"""Or this many times as long as the look took."""
LISTED_FILES: Final = 200_000
"""So many files of snapshots that were looked at are kept as a tree; at least those of the last one."""
HUB_CACHE: Final = ".hub"
"""No repository can be called so."""
_SEAL_DIGITS: Final = 12
_PLAIN: Final = re.compile(r"[^A-Za-z0-9._-]")
_COMMIT_DIGITS: Final = 40
_SECOND: Final = 10**9
_NAME_MAX: Final = 255


class File(NamedTuple):
    """A file of a snapshot."""

    snapshot: Snapshot
    path: str
    size: int
    time: int


class Link(NamedTuple):
    """A symbolic link."""

    target: str


class Text(NamedTuple):
    """A small file that stands in no manifest."""

    data: bytes
    time: int


class Folder:
    """A folder; ``names`` are given by a function where they cost something."""

    def __init__(self, time: int, names: Callable[[], Mapping[str, Node]]) -> None:
        self.time = time
        """When it was changed, in nanoseconds."""
        self._names = names

    @property
    def names(self) -> Mapping[str, Node]:
        """What lies in it. Raise ArchiverError if that cannot be read."""
        return self._names()


Node = File | Link | Text | Folder


class Totals(NamedTuple):
    """What all snapshots hold together, files that several have counted for each."""

    snapshots: int = 0
    files: int = 0
    bytes: int = 0


class _View(NamedTuple):
    """All that is shown at a moment."""

    signature: tuple[int, int]
    root: Folder
    totals: Totals


class Tree:
    """The names of one archive, as they are at the moment. Several threads may use it.

    ``warn`` is called with the title of what cannot be shown, once, and the reason.
    """

    def __init__(self, archive: Archive, warn: Callable[[str, ArchiverError], None]) -> None:
        self._archive = archive
        self._warn = warn
        self._warned: set[str] = set()
        self._lock = threading.Lock()
        self._listing = threading.Lock()
        self._files: OrderedDict[str, tuple[int, Mapping[str, Node]]] = OrderedDict()
        began = time.monotonic()
        self._view = self._look(None)
        self._stale_at = _stale_after(began)

    # ---- asked by the filesystem

    @property
    def totals(self) -> Totals:
        """How much is shown."""
        return self._current().totals

    def find(self, path: str) -> Node:
        """Return what lies at a path such as ``/Org/Name``.

        Raise FileNotFoundError or NotADirectoryError if nothing does, ArchiverError if it cannot be read.
        """
        node: Node = self._current().root
        for part in path.split("/"):
            if not part:
                continue
            if not isinstance(node, Folder):
                raise NotADirectoryError(path)
            try:
                node = node.names[part]
            except KeyError:
                raise FileNotFoundError(path) from None
        return node

    def is_held(self, snapshot: Snapshot) -> bool:
        """Return whether a snapshot is still in use, as far as anybody can tell."""
        return self._archive.store.stat(snapshot.name) is not None or self._is_away()

    def _is_away(self) -> bool:
        """Return whether nothing of the archive is there: its disk is not mounted any more."""
        names = self._archive.journal.names()
        return not names and not any(self._archive.store.list(layout.SNAPSHOTS))

    # ---- which snapshots there are

    def _current(self) -> _View:
        """Return what is shown, looked up anew where that was long ago; by one thread."""
        if time.monotonic() >= self._stale_at and self._lock.acquire(blocking=False):
            began = time.monotonic()
            try:
                self._view = self._look(self._view)
            except ArchiverError as error:
                # Its disk may be gone for a moment: what was seen last stays.
                self._tell("What is new cannot be shown", error)
            except OSError as error:
                self._tell("What is new cannot be shown", explain_system_error(error))
            finally:
                self._stale_at = _stale_after(began)
                self._lock.release()
        return self._view

    def _look(self, before: _View | None) -> _View:
        if before is not None and before.totals.snapshots and self._is_away():
            raise ArchiverError(
                "The archive is not where it was: nothing of it is there.",
                hint="Is its disk still mounted? Files can be read again once it is.",
            )
        store = self._archive.store
        seals = hash(tuple(store.list(layout.SNAPSHOTS)))
        signature = seals, hash(tuple(self._archive.journal.names()))
        if before is not None and before.signature == signature:
            return before
        snapshots = list(self._archive.snapshots(self._pass_over))
        refs = Refs(self._archive, self._archive.events(skip_damaged))
        repositories: dict[str, list[Snapshot]] = {}
        for snapshot in snapshots:
            repositories.setdefault(snapshot.seal.repository.casefold(), []).append(snapshot)
        top = _Builder()
        cache = _Builder()
        for held in repositories.values():
            newest = max(held, key=lambda each: (each.seal.sealed, each.id))
            spelling = RepositoryName.parse(newest.seal.repository)
            names = self._archived(held)
            top.put(spelling.spelling, self._repository(held, names, refs))
            if spelling.hub == HUGGING_FACE:
                folder = self._cached(spelling, held, names, refs)
                cache.put(cache_folder(newest.seal.repository), folder)
        top.put(HUB_CACHE, cache.folder())
        totals = Totals(
            len(snapshots),
            sum(snapshot.seal.totals.files for snapshot in snapshots),
            sum(snapshot.seal.totals.bytes for snapshot in snapshots),
        )
        return _View(signature, top.folder(), totals)

    def _pass_over(self, name: str, error: DamageError) -> None:
        self._tell(name, error)

    def _tell(self, title: str, error: ArchiverError) -> None:
        """Say of something that it cannot be shown, once."""
        key = f"{title} {error.message}"
        if key not in self._warned and len(self._warned) < LISTED_FILES:
            self._warned.add(key)
            self._warn(title, error)

    def _archived(self, held: Iterable[Snapshot]) -> dict[str, Snapshot]:
        """Return the snapshots of a repository by the names of their folders.

        The one that restore would take stands under its revision; another one, of other files, under its
        seal's id: so a folder's name is what comes behind the ``@``.
        """
        names: dict[str, Snapshot] = {}
        revisions: dict[str, list[Snapshot]] = {}
        for snapshot in held:
            revisions.setdefault(snapshot.seal.revision, []).append(snapshot)
        for revision, same in revisions.items():
            best = names[revision] = self._archive.preferred(same)
            manifests = {best.seal.manifest.blake3}
            for snapshot in sorted(same, key=lambda each: (each.seal.sealed, each.id)):
                if snapshot.seal.manifest.blake3 not in manifests:
                    manifests.add(snapshot.seal.manifest.blake3)
                    names[snapshot.id[:_SEAL_DIGITS]] = snapshot
        return names

    # ---- folders

    def _repository(
        self, held: list[Snapshot], names: Mapping[str, Snapshot], refs: Refs
    ) -> Folder:
        """Return the folder of a repository."""
        made: dict[str, Node] = {}

        def content() -> Mapping[str, Node]:
            if not made:
                nodes: dict[str, Node] = {
                    name: self._snapshot(each) for name, each in names.items()
                }
                for ref in refs.of(held):
                    if len(safe := _ref_name(ref.name)) <= _NAME_MAX:
                        nodes.setdefault(safe, Link(ref.commit))
                made.update(nodes)
            return made

        return Folder(max(_time(each) for each in held), content)

    def _cached(
        self,
        repository: RepositoryName,
        held: list[Snapshot],
        names: Mapping[str, Snapshot],
        refs: Refs,
    ) -> Folder:
        """Return the folder of a repository as a hub client's cache has it."""
        made: dict[str, Node] = {}
        changed = max(_time(each) for each in held)

        def text(commit: str) -> Text:
            # The time of the seal: where a name moves, the kernel sees that the file changed.
            return Text(commit.encode(), _time(names[commit]))

        def content() -> Mapping[str, Node]:
            if not made:
                commits = {name for name in names if len(name) == _COMMIT_DIGITS}
                snapshots = _Builder()
                for commit in commits:
                    snapshots.put(commit, Link(f"../../../{repository.spelling}/{commit}"))
                named = _Builder()
                for ref in refs.of(held):
                    if ref.commit in commits and not path_problems([ref.name]):
                        named.put(ref.name, text(ref.commit))
                made.update(refs=named.folder(changed), snapshots=snapshots.folder(changed))
            return made

        return Folder(changed, content)

    def _snapshot(self, snapshot: Snapshot) -> Folder:
        """Return the folder of a snapshot's files; its manifest is read when somebody looks into it."""
        return Folder(_time(snapshot), lambda: self._files_of(snapshot))

    def _files_of(self, snapshot: Snapshot) -> Mapping[str, Node]:
        with self._listing:
            kept = self._files.get(snapshot.id)
            if kept is not None:
                self._files.move_to_end(snapshot.id)
                return kept[1]
            try:
                count, names = self._read_files(snapshot)
            except ArchiverError as error:
                self._tell(snapshot.title, error)
                raise
            self._files[snapshot.id] = count, names
            while len(self._files) > 1 and self._listed > LISTED_FILES:
                self._files.popitem(last=False)
            return names

    @property
    def _listed(self) -> int:
        return sum(count for count, _ in self._files.values())

    def _read_files(self, snapshot: Snapshot) -> tuple[int, Mapping[str, Node]]:
        facts = self._archive.manifest_facts(snapshot.seal)
        problems = path_problems([file.path for file in facts.files])
        if problems:
            raise InvalidDocumentError(
                f"The manifest of {snapshot.title} says what the format forbids: "
                f"{printable(problems[0])}."
            )
        top, sealed = _Builder(), _time(snapshot)
        for file in facts.files:
            top.put(file.path, File(snapshot, file.path, file.size, sealed))
        return len(facts.files), top.folder(sealed).names


class _Builder:
    """A folder that is put together from paths. What is there first stays, as a file or as a folder."""

    def __init__(self) -> None:
        self._names: dict[str, Node | _Builder] = {}
        self._own: Folder | None = None

    def put(self, path: str, node: Node) -> None:
        """Add what lies at a path; a folder also where others lie below it, as ``x`` beside ``x/y``."""
        part, slash, rest = path.partition("/")
        if not slash and not isinstance(node, Folder):
            self._names.setdefault(part, node)
            return
        below = self._names.setdefault(part, _Builder())
        if not isinstance(below, _Builder):
            return
        if slash:
            below.put(rest, node)
        elif isinstance(node, Folder):
            below._own = below._own or node  # noqa: SLF001 - of the same class

    def folder(self, changed: int = 0) -> Folder:
        """Return it with all that was added; changed then, or when the newest folder in it was."""
        if self._own is not None and not self._names:
            return self._own
        nodes = {
            name: node.folder(changed) if isinstance(node, _Builder) else node
            for name, node in self._names.items()
        }
        own = self._own
        folders = [node for node in (*nodes.values(), own) if isinstance(node, Folder)]
        newest = changed or max((folder.time for folder in folders), default=0)
        if own is None:
            return Folder(newest, lambda: nodes)
        return Folder(newest, lambda: {**own.names, **nodes})


def _stale_after(began: float) -> float:
    """Return until when a look that began then counts: one that took long counts long."""
    now = time.monotonic()
    return now + max(FRESH_SECONDS, _FRESH_TIMES * (now - began))


def _ref_name(name: str) -> str:
    """Return a branch's or tag's name as one of a file: what is odd in it as ``%2F``."""
    escaped = _PLAIN.sub(lambda odd: "".join(f"%{byte:02X}" for byte in _raw(odd[0])), name)
    return f"%2E{escaped[1:]}" if escaped.startswith(".") else escaped


def _raw(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _time(snapshot: Snapshot) -> int:
    """Return when a snapshot was sealed, in nanoseconds; 0 if its seal has no time that can be."""
    try:
        return int(datetime.fromisoformat(snapshot.seal.sealed).timestamp()) * _SECOND
    except (ValueError, OverflowError):
        return 0
