"""What is wrong in the archive that is copied, as findings that say what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archiver.archive.advice import Advice, RepairFrom
from archiver.archive.finding import Finding
from archiver.archive.identity import require_named
from archiver.errors import ArchiverError

if TYPE_CHECKING:
    from archiver.archive.advice import Actions
    from archiver.archive.archive import Archive
    from archiver.archive.audit.wanted import Wanted
    from archiver.archive.finding import Code
    from archiver.archive.fixity.read_twice import Twice


class Faults:
    """Collects findings on ``source`` while it is copied to ``target``."""

    def __init__(self, source: Archive, target: Archive) -> None:
        self._source = source.store
        self._target = target.store
        self._advice = Advice(source.store.describe())
        self.findings: list[Finding] = []
        self.packs: set[str] = set()
        """The packs that are not whole in the source."""

    def missing_pack(self, wanted: Wanted) -> bool:
        """Whether the source has not even a file of the right size; then that is noted."""
        try:
            size = self._source.stat(wanted.name)
        except ArchiverError as error:
            self._pack("file-unreadable", error.message, wanted)
            return True
        if size in wanted.sizes:
            return False
        if size is None:
            self._pack("pack-missing", f"{wanted.name} is missing.", wanted)
        else:
            said = " or ".join(f"{one:,}" for one in sorted(wanted.sizes))
            text = f"{wanted.name} has {size:,} bytes, its seals say {said}."
            self._pack("pack-size", text, wanted)
        return True

    def pack(self, wanted: Wanted, state: Twice) -> None:
        """Note what came out of copying a pack."""
        if state.unstable:
            self._unstable(state, wanted.name)
        if state.denied:
            self._pack("file-unreadable", state.problem, wanted)
        elif state.problem:
            there = self._source.stat(wanted.name) is not None
            self._pack("pack-damaged" if there else "pack-missing", state.problem, wanted)

    def _pack(self, code: Code, message: str, wanted: Wanted) -> None:
        actions, titles = self._actions(wanted.name, code), tuple(wanted.snapshots)
        self.findings.append(
            Finding(code, message, pack=wanted.pack, snapshots=titles, actions=actions)
        )
        self.packs.add(wanted.pack)

    def _actions(self, name: str, code: Code, snapshot: str = "") -> Actions:
        if code == "file-unreadable":
            return self._advice.make_readable(snapshot)
        if self._target_has(name):
            here, there = self._source.describe(), self._target.describe()
            return (RepairFrom(here, there),)
        return self._advice.copy_back(name, code, snapshot)

    def _target_has(self, name: str) -> bool:
        """Whether the target has the file, whole: read to its end, because someone may rely on it."""
        try:
            reader = self._target.open(name)
        except (ArchiverError, FileNotFoundError):
            return False
        try:
            require_named(reader, name)
        except ArchiverError:
            return False
        finally:
            reader.close()
        return True

    def document(self, code: Code, state: Twice, name: str, snapshot: str = "") -> bool:
        """Note what came out of copying another file; whether it is right."""
        if state.unstable:
            self._unstable(state, name)
        if state.problem:
            told: Code = "file-unreadable" if state.denied else code
            actions = self._actions(name, told, snapshot)
            if state.invalid:
                actions = self._advice.replace_snapshot(snapshot)
            titles = (snapshot,) if snapshot else ()
            finding = Finding(told, state.problem, path=name, snapshots=titles, actions=actions)
            self.findings.append(finding)
        return not state.problem

    def _unstable(self, state: Twice, name: str) -> None:
        actions = self._advice.unstable()
        self.findings.append(Finding("read-unstable", state.unstable, path=name, actions=actions))
