"""The crash matrix: an operation is recorded, and every state that a crash may leave is judged."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from disk import Disk, Tree, lay_out, tree_of
from syscalls import Event, Recorder

if TYPE_CHECKING:
    from pathlib import Path

    from verdict import Judge, Verdict

Step = Callable[["Path"], None]
"""Changes the archive in a folder; raises if that fails."""

_OUTSIDE = "tmp/"
"""What lies there is never needed: no state differs by it, except for who goes on with it."""


class Recording(NamedTuple):
    """An operation's calls, and the archive before and after it."""

    before: Tree
    log: list[Event]
    after: Tree


class ViolationError(AssertionError):
    """A state in which an archive is not what it shows."""


def record(step: Step, root: Path, before: Disk | None = None) -> Recording:
    """Run ``step`` on the archive in ``root`` and write down what it does there."""
    root.mkdir(parents=True, exist_ok=True)
    start = tree_of(root)
    disk = before or Disk(start)
    with Recorder(root, disk.live()) as recorder:
        step(root)
    done = Recording(start, recorder.log, tree_of(root))
    replayed = before or Disk(start)
    for event in done.log:
        replayed.apply(event)
    assert replayed.whole() == done.after, "a call was not recorded"
    return done


def states(
    before: Tree, log: Iterable[Event], since: int = 0, outside: str | tuple[str, ...] = _OUTSIDE
) -> Iterator[tuple[int, Tree]]:
    """Each state after each event but the first ``since``, and how many events there were."""
    rng, disk = random.Random(len(before)), Disk(before)
    for at, event in enumerate(log, 1):
        disk.apply(event)
        for tree in disk.states(rng, outside) if at > since else ():
            yield at, tree


def _contents(tree: Tree) -> frozenset[bytes]:
    """What is held, whatever it is called: a file that is moved is under one of its names."""
    return frozenset(
        data for path, data in tree.items() if data is not None and not path.startswith(_OUTSIDE)
    )


class Matrix:
    """Judges all states of a recording."""

    def __init__(
        self,
        recording: Recording,
        judge: Judge,
        unsaid: frozenset[str] = frozenset(),
        outside: str | tuple[str, ...] = _OUTSIDE,
    ) -> None:
        """Take ``unsaid`` as the events that may be lost at the end, because nobody was told of them.

        What lies ``outside`` of what is judged is never needed.
        """
        self.recording = recording
        self._outside = outside
        self.judge = judge
        self.tried = 0
        self.first = self._verdict(recording.before)
        self.last = self._verdict(recording.after)
        self._told = self._shown(self.last) - unsaid
        self._lasting = self._shown(self.first) & self._shown(self.last)
        self._kept = _contents(recording.before) & _contents(recording.after)

    def _verdict(self, tree: Tree) -> Verdict:
        return self.judge.judge({path: data for path, data in tree.items() if path[:3] != "tmp"})

    def _shown(self, verdict: Verdict) -> frozenset[str]:
        return verdict.seals | verdict.events

    def violations(self, log: list[Event] | None = None, since: int = 0) -> Iterator[str]:
        """Each way in which a state is worse than the archive was before.

        With another ``log`` than the recorded one, that one is judged; the first ``since`` events
        of it are passed over.
        """
        log = self.recording.log if log is None else log
        assert not self.last.problems - self.first.problems, self.last.problems
        for at, tree in states(self.recording.before, log, since, self._outside):
            self.tried += 1
            verdict = self.judge.judge(tree)
            done = at == len(log)
            for wrong in verdict.problems - (self.last if done else self.first).problems:
                if not done and any(revision in wrong for revision in self.first.unknown):
                    continue
                yield f"{wrong} (after call {at} of {len(log)})"
            if self._kept - _contents(tree):
                yield f"a file has lost all its names (after call {at} of {len(log)})"
            for name in (self._told if done else self._lasting) - self._shown(verdict):
                yield f"{name} is gone (after call {at} of {len(log)})"

    def check(self) -> None:
        """Raise ViolationError at the first state that is worse than the archive was before."""
        for violation in self.violations():
            raise ViolationError(violation)

    def disk_at(self, at: int) -> Disk:
        """The disk after so many events."""
        disk = Disk(self.recording.before)
        for event in self.recording.log[:at]:
            disk.apply(event)
        return disk

    def check_again(self, again: Step, scratch: Path, count: int) -> None:
        """From ``count`` states by chance the operation, run again, ends as it did the first time."""
        rng = random.Random(count)
        calls = len(self.recording.log)
        for number, at in enumerate(rng.sample(range(1, calls + 1), min(count, calls))):
            tree = self.disk_at(at).some(rng)
            root = lay_out(tree, scratch / f"again{number}")
            if number % 3 and "archive.json" in tree:
                (root / "catalogue.sqlite").write_bytes(b"no catalogue at all" * number)
            again(root)
            self._require_complete(self.judge.judge_folder(root, tree_of(root)), at)

    def check_killed(self, again: Step, scratch: Path, every: int) -> None:
        """A run is killed at every ``every``-th call, run again, and then the power fails.

        What the killed run had not synced may be lost yet, though the second run saw it.
        """
        for at in range(every, len(self.recording.log), every):
            disk = self.disk_at(at)
            root = lay_out(disk.whole(), scratch / f"killed{at}")
            second = record(again, root, disk)
            self._require_complete(self.judge.judge_folder(root, second.after), at)
            log = self.recording.log[:at] + second.log
            unsaid = self.judge.judge_folder(root, second.before).events - self.first.events
            both = Recording(self.recording.before, log, second.after)
            whole = Matrix(both, self.judge, unsaid, self._outside)
            for violation in whole.violations(since=at):
                raise ViolationError(f"killed at call {at}: {violation}")
            self.tried += whole.tried

    def _require_complete(self, verdict: Verdict, at: int) -> None:
        assert not verdict.problems - self.last.problems, (at, verdict.problems)
        assert len(verdict.seals) >= len(self.last.seals), (at, verdict.seals)
