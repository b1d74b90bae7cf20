"""Archives to forget in and to prune, and stores that fail or take turns at each operation."""

from __future__ import annotations

import hashlib
import itertools
import threading

import numpy as np
from kit.archive import NoHints

from archiver.archive.archive import Archive
from archiver.archive.ingest.object_store import ObjectStore
from archiver.archive.packs.index import ObjectIndex
from archiver.archive.publish import publish
from archiver.archive.records import FileEntry, Manifest, Selection, Source
from archiver.codec.segment import Effort
from archiver.digest import blake3_hex

CONTENTS = {"org/one": b"the first " * 40, "org/two": b"the second " * 40}


def entry_of(plain: bytes) -> FileEntry:
    digest = blake3_hex(plain)
    sha256 = hashlib.sha256(plain).hexdigest()
    return FileEntry("a.bin", len(plain), sha256, digest, segments=((len(plain), digest),))


def store_object(archive: Archive, plain: bytes) -> ObjectStore:
    """A pack with this content; the store knows where it lies."""
    objects = ObjectStore(archive, Effort.FAST, NoHints())
    objects.put(np.frombuffer(bytearray(plain), np.uint8), None)
    objects.flush()
    objects.close()
    return objects


def manifest_of(repository: str, plain: bytes, revision: str = "ab" * 20) -> Manifest:
    return Manifest(Source("directory", "", repository, revision), (entry_of(plain),))


def seal(archive: Archive, repository: str, plain: bytes, revision: str = "ab" * 20):
    location = store_object(archive, plain).location
    return publish(archive, manifest_of(repository, plain, revision), location, Selection())


def filled(root) -> Archive:
    """An archive of one snapshot for each of CONTENTS."""
    archive = Archive.create(root)
    for repository, plain in CONTENTS.items():
        seal(archive, repository, plain)
    return archive


def content(archive: Archive, snapshot) -> bytes:
    """The one file of a snapshot, from its seal's packs."""
    (entry,) = archive.manifest(snapshot.seal).files
    packs = ObjectIndex(archive, (pack for pack, _ in snapshot.seal.packs))
    out = np.empty(entry.size, np.uint8)
    packs.read(entry.segments[0][1], entry.size, out)
    assert blake3_hex(out.tobytes()) == entry.blake3
    return out.tobytes()


def all_restore(root) -> set[str]:
    """The repositories that are there; each of their files was made, from a fresh look at the disk."""
    archive = Archive.open(root)
    snapshots = list(archive.snapshots())
    for snapshot in snapshots:
        content(archive, snapshot)
    return {snapshot.seal.repository for snapshot in snapshots}


class Watched:
    """A store that calls ``step`` before each operation; moving and putting are several."""

    _STEPS = ("stage", "leftovers", "get", "open", "link", "remove", "stat", "list")

    def __init__(self, inner, step) -> None:
        self._inner = inner
        self._step = step

    def __getattr__(self, name):
        member = getattr(self._inner, name)
        return self._stepped(name, member) if name in self._STEPS else member

    def _stepped(self, name, call):
        def stepped(*arguments):
            self._step(name, *arguments)
            result = call(*arguments)
            if name == "stage":
                self._watch(result)
            # What is listed was listed now, not when its names are looked at.
            return iter(list(result)) if name in {"list", "leftovers"} else result

        return stepped

    def _watch(self, staged) -> None:
        for name in ("write", "publish", "abort"):
            setattr(staged, name, self._stepped(name, getattr(staged, name)))

    def move(self, name: str, other: str) -> None:
        self.link(name, other)
        self.remove(name)

    def put_new(self, name: str, data: bytes) -> bool:
        if self.stat(name) is not None:
            return False
        staged = self.stage("put")
        try:
            staged.write(data)
            staged.publish(name)
        finally:
            staged.abort()
        return True


class Killed(BaseException):
    """As if the process had been killed: whoever catches it cannot do a thing to the store."""


def dying_at(archive: Archive, step: int) -> Archive:
    """The archive as a process sees it that is killed at its ``step``-th operation."""
    counter = itertools.count(1)

    def count(*_: object) -> None:
        if next(counter) >= step:
            raise Killed

    return Archive(Watched(archive.store, count), archive.info)


class Turns:
    """Runs functions in threads, of which one moves at a time, operation by operation."""

    def __init__(self) -> None:
        self._go: dict[str, threading.Semaphore] = {}
        self._paused = threading.Semaphore(0)
        self._threads: dict[str, threading.Thread] = {}
        self.results: dict[str, object] = {}
        self.traced: list[str] = []

    def add(self, who: str, work) -> None:
        """``work`` gets the function that its store calls before each operation."""
        go = self._go[who] = threading.Semaphore(0)

        def step(*_: object) -> None:
            self._paused.release()
            go.acquire()

        def body() -> None:
            go.acquire()
            try:
                self.results[who] = work(step)
            except Exception as error:  # noqa: BLE001 - it is the result
                self.results[who] = error
            self._paused.release()

        self._threads[who] = threading.Thread(target=body, daemon=True)
        self._threads[who].start()

    def run(self, who: str, steps: int | None = None) -> int:
        """Let one go on for so many operations, or to its end; how many it made."""
        made = 0
        while who not in self.results and (steps is None or made < steps):
            self._go[who].release()
            self._paused.acquire()
            made += 1
        return made
