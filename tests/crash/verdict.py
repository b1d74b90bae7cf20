"""Judges an archive as a crash left it: what it shows must be true."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from typing import TYPE_CHECKING, NamedTuple

import zstandard
from disk import Tree, lay_out

from archiver.archive import layout
from archiver.archive.archive import Archive
from archiver.archive.decode import FileDecoder
from archiver.archive.packs.index import ObjectIndex
from archiver.digest import blake3_hex
from archiver.errors import ArchiverError, DamageError, NoArchiveError

if TYPE_CHECKING:
    from pathlib import Path

    from archiver.archive.records import FileEntry
    from archiver.archive.seals import Snapshot


_REVISION = re.compile(r"([0-9a-f]{12})(?: has no manifest|[0-9a-f.]{94}json)")


class Verdict(NamedTuple):
    """``seals`` and ``events`` are the names of those that can be seen, ``problems`` sentences."""

    seals: frozenset[str]
    events: frozenset[str]
    problems: frozenset[str]

    @property
    def unknown(self) -> frozenset[str]:
        """The revisions of which seal or manifest is damaged: what else is wrong cannot be seen."""
        found = (_REVISION.search(one) for one in self.problems)
        return frozenset(match.group(1) for match in found if match)


class Judge:
    """Judges states below ``root``; what was judged before is not read again."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._states: dict[object, Verdict] = {}
        self._restores: dict[object, frozenset[str]] = {}
        self._names: dict[tuple[str, bytes], bool] = {}
        self.distinct = 0

    def judge(self, tree: Tree) -> Verdict:
        """What there is to say about a state."""
        key = frozenset(tree.items())
        if key not in self._states:
            self.distinct += 1
            root = lay_out(tree, self._root / f"state{self.distinct}")
            self._states[key] = self.judge_folder(root, tree)
        return self._states[key]

    def judge_folder(self, root: Path, tree: Tree) -> Verdict:
        """What there is to say about the archive in ``root``, whose content is ``tree``."""
        seals = frozenset(path for path in tree if _is_seal(path))
        events = frozenset(path for path in tree if layout.event_of(path))
        problems = {f"{path} is not what its name says" for path in tree if self._wrong(path, tree)}
        problems |= _broken_chain(tree, events)
        try:
            archive = Archive.open(root)
        except NoArchiveError:
            problems |= {f"{one} cannot be found" for one in seals}
            return Verdict(seals, events, frozenset(problems))
        except ArchiverError as error:
            return Verdict(seals, events, frozenset(problems | {error.message}))
        found = archive.snapshots(lambda name, _error: problems.add(f"{name} is damaged"))
        closure = frozenset(
            item for item in tree.items() if item[0].startswith(("packs/", "manifests/"))
        )
        for snapshot in found:
            key = (snapshot.id, closure)
            if key not in self._restores:
                self._restores[key] = frozenset(_unrestored(archive, snapshot))
            problems |= self._restores[key]
        return Verdict(seals, events, frozenset(problems))

    def _wrong(self, path: str, tree: Tree) -> bool:
        """Whether the file has a digest in its name that is not its own."""
        data, digest = tree[path], layout.digest_of(path)
        if data is None or digest is None:
            return False
        key = (path, data)
        if key not in self._names:
            self._names[key] = blake3_hex(_named(path, data)) != digest
        return self._names[key]


def _broken_chain(tree: Tree, events: frozenset[str]) -> set[str]:
    """The events that are listed by another one and not there."""
    there = {layout.event_of(path) for path in events}
    listed: set[str] = set()
    for path in events:
        with contextlib.suppress(ValueError):
            listed |= set(json.loads(tree[path] or b"")["after"])
    return {f"the journal lost {one}" for one in listed - there}


def _is_seal(path: str) -> bool:
    return path.startswith(layout.SNAPSHOTS) and layout.document_of(path) is not None


def _named(path: str, data: bytes) -> bytes:
    """The bytes whose digest is in the name."""
    if not path.endswith(".zst"):
        return data
    try:
        return zstandard.ZstdDecompressor().decompress(data)
    except zstandard.ZstdError:
        return b""


def _unrestored(archive: Archive, snapshot: Snapshot) -> list[str]:
    """The files that do not come out bit for bit."""
    title = snapshot.title
    try:
        manifest = archive.manifest_file(snapshot.seal)
    except DamageError:
        return [f"{title} has no manifest"]
    packs = ObjectIndex(archive, (pack for pack, _ in snapshot.seal.packs), archive.packs)
    with FileDecoder(packs, workers=1) as decoder:
        failed = [one.path for one in manifest.files if not _comes_out(decoder, one)]
    return [f"{path} of {title} cannot be restored" for path in failed]


def _comes_out(decoder: FileDecoder, entry: FileEntry) -> bool:
    digest = hashlib.sha256()
    try:
        decoder.copy(entry, digest.update)
    except DamageError:
        return False
    return digest.hexdigest() == entry.sha256
