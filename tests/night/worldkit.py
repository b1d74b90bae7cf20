"""A made-up world for nights: repositories of two hubs that change each day, lines that fail or crawl,
disks that go away, bits that flip."""

from __future__ import annotations

import random
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from kit.repository import noise

from archiver.loopback.faults import Fault
from archiver.loopback.history import History
from archiver.loopback.modelscope import ModelScopeHub, commit_id

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from archiver.loopback.hub import Hub

STEADY = ("lab/steady", "lab/tagged", "lab/busy", "lab/twin")
"""Always shown under their names."""
SHAKY = ("org/rewritten", "org/deleted", "org/hidden", "org/gated", "org/old-name")
"""Each has troubles of its own."""
ELSEWHERE = ("ms/steady", "ms/fleeting")
"""On ModelScope."""
FOLLOWED = {"lab/tagged": ("main", "v*")}
TWIN = "lab/twin"
"""On both hubs, with the same files: what one cannot give comes from the other."""
PLANNED = (*STEADY, *SHAKY, *(f"modelscope:{name}" for name in ELSEWHERE))
MONTH = 30


class Days(NamedTuple):
    """From one day to another; ``last`` is one of them."""

    first: int
    last: int

    def __contains__(self, day: object) -> bool:
        return isinstance(day, int) and self.first <= day <= self.last


class Sight(NamedTuple):
    """What anybody could see of one hub on a day: repository, as the plan names it -> name -> commit."""

    day: int
    hub: str
    refs: dict[str, dict[str, str]]


class Told(NamedTuple):
    """What upstream did, as the journal and the report are to tell it: once."""

    repository: str
    what: str
    name: str = ""
    after: str = ""


class World:
    """Both hubs, the disk with the copy, and what happens to them, by a seed.

    Attributes:
        content: Commit -> its files, for every commit that there ever was.
        seen: What was to be seen of each hub on each day.
        outages: Hub -> the days on which it answered nobody.
        absences: The days on which the disk with the copy was away.
        slow: The days on which the line was so slow that the window ended before all was mirrored.
        rescued: The days on which only the other hub could give the bytes.
        told: What upstream did besides moving branches and tags, which are told by what was seen.
        flipped: The days on which a bit of a pack was flipped,
        mended: and those on which its owner mended that.
    """

    def __init__(
        self,
        hub: Hub,
        modelscope: ModelScopeHub,
        archive: Path,
        disk: Path,
        hours: Callable[[float], object],
        seed: int,
    ) -> None:
        self.hub, self.modelscope = hub, modelscope
        self.histories = {"huggingface": History(hub), "modelscope": History(modelscope)}
        self.content: dict[str, dict[str, bytes]] = {}
        self.seen: list[Sight] = []
        self.outages: dict[str, list[Days]] = {name: [] for name in self.histories}
        self.absences: list[Days] = []
        self.slow: list[int] = []
        self.rescued: list[int] = []
        self.told: Counter[Told] = Counter()
        self.flipped: list[int] = []
        self.mended: list[int] = []
        self._archive, self._disk, self._pass_hours = archive, disk, hours
        self._random = random.Random(seed)
        self._files: dict[tuple[Hub, str], dict[str, bytes]] = {}
        self._commits: dict[str, str] = {}
        """ModelScope's ids of commits, by those of this registry."""
        self._count = 0
        for name in (*STEADY, *SHAKY):
            self._create(hub, name, self._noise())
        for name in ELSEWHERE:
            self._create(modelscope, name, self._noise())
        self._create(modelscope, TWIN, self._files[hub, TWIN]["weights.bin"])

    def play(self, day: int) -> None:
        """Live through a day."""
        for name, history in self.histories.items():
            history.play(day)
            refs = history.seen[-1].refs
            if name == "modelscope":
                refs = {
                    f"modelscope:{repository}": {
                        ref: self._commits[commit] for ref, commit in commits.items()
                    }
                    for repository, commits in refs.items()
                }
            self.seen.append(Sight(day, name, refs))

    # ---- what upstream does

    def _create(self, hub: Hub, name: str, weights: bytes) -> None:
        files = {
            "config.json": b"{}",
            "weights.bin": weights,
            "README.md": b"---\nlicense: mit\n---\n",
        }
        self._files[hub, name] = files
        self._note(hub, name, hub.create(name, files, card={"license": "mit"}))

    def _noise(self) -> bytes:
        self._count += 1
        return noise(self._count, 3_000)

    def _note(self, hub: Hub, name: str, commit: str) -> None:
        if hub is self.modelscope:
            own = commit_id(hub.repository(name).commits[commit])
            self._commits[commit], commit = own, own
        self.content[commit] = dict(self._files[hub, name])

    def _commit(self, hub: Hub, name: str, changes: dict[str, bytes]) -> None:
        self._files[hub, name] |= changes
        self._note(hub, name, hub.commit(name, changes))

    def release(self, name: str) -> Callable[[Hub], None]:
        """New weights, as a commit."""

        def act(hub: Hub) -> None:
            weights = self._noise()
            self._commit(hub, name, {"weights.bin": weights, f"notes-{self._count}.txt": b"new"})

        return act

    def tag(self, name: str) -> Callable[[Hub], None]:
        """A release with a tag."""

        def act(hub: Hub) -> None:
            self.release(name)(hub)
            hub.tag(name, f"v{self._count}")

        return act

    def rewrite(self, name: str) -> Callable[[Hub], None]:
        """A force-push: the old commits are gone."""

        def act(hub: Hub) -> None:
            self._files[hub, name] = {"config.json": b"[]", "weights.bin": self._noise()}
            self._note(hub, name, hub.force_push(name, self._files[hub, name]))

        return act

    def relicense(self, name: str, licence: str) -> Callable[[Hub], None]:
        """Another licence in the card."""

        def act(hub: Hub) -> None:
            text = f"---\nlicense: {licence}\n---\n{self._count}\n".encode()
            self._files[hub, name] |= {"README.md": text}
            self._note(hub, name, hub.describe(name, {"license": licence}, text))
            self.told[Told(_planned(hub, name), "licence", after=licence)] += 1

        return act

    def vanish(self, name: str, *, private: bool) -> Callable[[Hub], None]:
        """A repository is shown no more: deleted, or made private; nobody can tell which."""

        def act(hub: Hub) -> None:
            hub.hide(name) if private else hub.delete(name)
            self.told[Told(_planned(hub, name), "gone")] += 1

        return act

    def appear(self, name: str) -> Callable[[Hub], None]:
        """It is back, with something new."""

        def act(hub: Hub) -> None:
            hub.undelete(name) if name in hub.deleted else hub.hide(name, private=False)
            self.release(name)(hub)
            self.told[Told(_planned(hub, name), "back")] += 1

        return act

    def gate(self, name: str, gate: str) -> Callable[[Hub], None]:
        """A gate is put before a repository, or taken away."""

        def act(hub: Hub) -> None:
            hub.gate(name, gate or False)
            self.told[Told(_planned(hub, name), "gating", after=gate)] += 1

        return act

    def rename(self, old: str, new: str) -> Callable[[Hub], None]:
        """A repository gets another name; the old one leads there."""

        def act(hub: Hub) -> None:
            hub.rename(old, new)
            self.told[Told(old, "name", after=new)] += 1

        return act

    # ---- what becomes of the line

    def outage(self, hub: str, first: int, last: int) -> None:
        """A hub does not answer from one day to another."""
        self.outages[hub].append(Days(first, last))
        self._faulty(hub, first, last, lambda: Fault("status", times=None), "outage")

    def _faulty(
        self, hub: str, first: int, last: int, fault: Callable[[], Fault], title: str
    ) -> None:
        self.histories[hub].between(
            first,
            last,
            lambda hub: hub.faults.add(fault()),
            lambda hub: hub.faults.clear(),
            title,
        )

    def crawl(self, name: str, day: int) -> None:
        """The line is so slow that this repository's weights take until the window has ended."""
        self.slow.append(day)

        def fault() -> Fault:
            return Fault(
                "call",
                route="resolve",
                repository=name,
                path="weights.bin",
                call=lambda: self._pass_hours(6),
            )

        self._faulty("huggingface", day, day, fault, "slow line")

    def release_twins(self, day: int) -> None:
        """Both hubs have the same new weights, and Hugging Face's CDN does not give them."""
        self.rescued.append(day)
        changes: dict[str, bytes] = {}

        def act(hub: Hub) -> None:
            if not changes:
                changes["weights.bin"] = self._noise()
            self._commit(hub, TWIN, changes)

        for history in self.histories.values():
            history.on(day, act, "twins")
        fault = Fault("status", route="cdn", repository=TWIN, times=None)
        self._faulty("huggingface", day, day, lambda: fault, "broken CDN")

    # ---- what this side does

    def unplug(self, first: int, last: int) -> None:
        """The disk with the copy is away."""
        self.absences.append(Days(first, last))
        aside = self._disk.with_name("unplugged")
        self.histories["huggingface"].between(
            first,
            last,
            lambda _: self._disk.rename(aside),
            lambda _: aside.rename(self._disk),
            "disk",
        )

    def flip(self, day: int) -> None:
        """A bit of a pack turns."""

        def act(_: Hub) -> None:
            packs = sorted((self._archive / "packs").rglob("*.pack"))
            pack = self._random.choice(packs)
            data = bytearray(pack.read_bytes())
            data[self._random.randrange(len(data))] ^= 1 << self._random.randrange(8)
            pack.chmod(0o644)
            pack.write_bytes(data)
            self.flipped.append(day)

        self.histories["huggingface"].on(day, act, "bit")

    # ---- the script

    def script(self, days: int) -> None:
        """A month of it, again and again. In the seventh the disk stays away until its copy is too old."""
        for begin in range(0, days, MONTH):
            self._month(begin)
            self._month_elsewhere(begin)
            if begin == 6 * MONTH:
                self.unplug(begin + 10, begin + 10 + 43)
            elif begin != 7 * MONTH:
                self.unplug(begin + 10, begin + 23)
        self.histories["huggingface"].on(26, self.rename("org/old-name", "org/new-name"), "rename")

    def _month(self, begin: int) -> None:
        history, at = self.histories["huggingface"], begin.__add__
        history.on(at(2), self.release("lab/busy"), "release")
        history.on(at(3), self.tag("lab/tagged"), "tag")
        history.on(at(4), self.rewrite("org/rewritten"), "force-push")
        history.on(at(5), self.relicense("lab/steady", f"licence-{begin}"), "licence")
        history.on(at(6), self.release("org/deleted"))
        history.on(at(7), self.vanish("org/deleted", private=False), "deletion")
        history.on(at(8), self.release("lab/busy"))
        self.outage("huggingface", at(9), at(11))
        history.on(at(10), self.release("lab/busy"), "release in an outage")
        history.on(at(13), self.vanish("org/hidden", private=True), "private")
        history.on(at(14), lambda hub: hub.faults.add(Fault("rate_limit", times=3)), "rate limit")
        self.flip(at(14))
        history.on(at(15), self.gate("org/gated", "manual"), "gate")
        history.on(at(17), self.appear("org/deleted"), "back")
        history.on(at(18), self.gate("org/gated", ""), "gate open")
        history.on(at(19), self.tag("lab/tagged"), "tag")
        history.on(at(20), self.appear("org/hidden"), "public")
        self.flip(at(20))
        self.release_twins(at(21))
        history.on(at(22), self.rewrite("org/rewritten"), "force-push")
        history.on(at(23), self.release("org/gated"))
        history.on(at(24), self.release("lab/busy"))
        history.on(at(24), self.release("org/gated"))
        self.crawl("lab/busy", at(24))

    def _month_elsewhere(self, begin: int) -> None:
        history, at = self.histories["modelscope"], begin.__add__
        history.on(at(3), self.release("ms/steady"))
        history.on(at(6), self.relicense("ms/steady", f"ms-licence-{begin}"), "licence")
        history.on(at(7), self.vanish("ms/fleeting", private=False), "deletion")
        # Both hubs are away on two of these days.
        self.outage("modelscope", at(10), at(12))
        history.on(at(11), self.release("ms/steady"), "release in an outage")
        history.on(at(13), lambda hub: hub.faults.add(Fault("rate_limit", times=2)), "rate limit")
        history.on(at(15), self.appear("ms/fleeting"), "back")

    # ---- what is to come of it

    def is_answered(self, hub: str, day: int) -> bool:
        """Return whether the hub answered on a day."""
        return not any(day in outage for outage in self.outages[hub])

    def expected(self) -> Counter[Told]:
        """Return all that a look each night could see of what upstream did."""
        told = Counter(self.told)
        known: dict[tuple[str, str], str] = {}
        for sight in self.seen:
            if not self.is_answered(sight.hub, sight.day):
                continue
            for repository, refs in sight.refs.items():
                for ref, commit in refs.items():
                    before = known.get((repository, ref))
                    known[repository, ref] = commit
                    if repository not in PLANNED or before == commit or not sight.day:
                        continue
                    branch = {"main": "master"}.get(ref, ref) if sight.hub != "huggingface" else ref
                    what = "tag" if ref.startswith("v") else "branch"
                    told[Told(repository, what, branch, commit)] += 1
        return told


def _planned(hub: Hub, name: str) -> str:
    """Return a repository's name as a plan has it."""
    return f"modelscope:{name}" if isinstance(hub, ModelScopeHub) else name
