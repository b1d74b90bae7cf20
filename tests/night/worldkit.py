"""A made-up world for nights: repositories that change each day, disks that go away, bits that flip."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, NamedTuple

from kit.repository import noise

from archiver.loopback.faults import Fault
from archiver.loopback.history import History

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from archiver.loopback.hub import Hub

STEADY = ("lab/steady", "lab/tagged", "lab/busy")
"""Always shown under their names."""
SHAKY = ("org/rewritten", "org/deleted", "org/hidden", "org/gated", "org/old-name")
"""Each has troubles of its own."""
FOLLOWED = {"lab/tagged": ("main", "v*")}


class Outage(NamedTuple):
    """Days on which the hub does not answer; ``last`` is one of them."""

    first: int
    last: int


class World:
    """The hub, the disk with the copy, and what happens to them, by a seed.

    Attributes:
        content: Commit -> its files, for every commit that there ever was.
        answered: The days on which the hub answered everybody.
        faulty: The days on which a bit of a pack was flipped, and those on which its owner mended that.
    """

    def __init__(self, hub: Hub, archive: Path, disk: Path, seed: int) -> None:
        self.hub = hub
        self.history = History(hub)
        self.content: dict[str, dict[str, bytes]] = {}
        self.outages: list[Outage] = []
        self.flipped: list[int] = []
        self.mended: list[int] = []
        self._archive = archive
        self._disk = disk
        self._random = random.Random(seed)
        self._files: dict[str, dict[str, bytes]] = {}
        self._count = 0
        for name in (*STEADY, *SHAKY):
            self._create(name)

    # ---- what upstream does

    def _create(self, name: str) -> None:
        files = {
            "config.json": b"{}",
            "weights.bin": self._noise(),
            "README.md": b"---\nlicense: mit\n---\n",
        }
        self._files[name] = files
        self._note(name, self.hub.create(name, files, card={"license": "mit"}))

    def _noise(self) -> bytes:
        self._count += 1
        return noise(self._count, 3_000)

    def _note(self, name: str, commit: str) -> None:
        self.content[commit] = dict(self._files[name])

    def release(self, name: str) -> Callable[[Hub], None]:
        """New weights, as a commit."""

        def act(hub: Hub) -> None:
            changes = {"weights.bin": self._noise(), f"notes-{self._count}.txt": b"new"}
            self._files[name] |= changes
            self._note(name, hub.commit(name, changes))

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
            self._files[name] = {"config.json": b"[]", "weights.bin": self._noise()}
            self._note(name, hub.force_push(name, self._files[name]))

        return act

    def relicense(self, name: str, licence: str) -> Callable[[Hub], None]:
        """Another licence in the card."""

        def act(hub: Hub) -> None:
            text = f"---\nlicense: {licence}\n---\n{self._count}\n".encode()
            self._files[name] |= {"README.md": text}
            self._note(name, hub.describe(name, {"license": licence}, text))

        return act

    def outage(self, first: int, last: int, fault: Callable[[], Fault]) -> None:
        """The hub does not answer from one day to another."""
        self.outages.append(Outage(first, last))
        self.history.between(
            first,
            last,
            lambda hub: hub.faults.add(fault()),
            lambda hub: hub.faults.clear(),
            "outage",
        )

    # ---- what this side does

    def unplug(self, first: int, last: int) -> None:
        """The disk with the copy is away."""
        aside = self._disk.with_name("unplugged")
        self.history.between(
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

        self.history.on(day, act, "bit")

    # ---- the script

    def script(self, days: int) -> None:
        """A month of it, again and again."""
        history = self.history
        for begin in range(0, days, 30):
            at = begin.__add__
            history.on(at(2), self.release("lab/busy"), "release")
            history.on(at(3), self.tag("lab/tagged"), "tag")
            history.on(at(4), self.rewrite("org/rewritten"), "force-push")
            history.on(at(5), self.relicense("lab/steady", f"licence-{begin}"), "licence")
            history.on(at(6), self.release("org/deleted"))
            history.on(at(7), lambda hub: hub.delete("org/deleted"), "deletion")
            history.on(at(8), self.release("lab/busy"))
            self.outage(at(9), at(11), lambda: Fault("status", times=None))
            history.on(at(10), self.release("lab/busy"), "release in an outage")
            history.on(at(13), lambda hub: hub.hide("org/hidden"), "private")
            history.on(
                at(14), lambda hub: hub.faults.add(Fault("rate_limit", times=3)), "rate limit"
            )
            history.on(at(15), lambda hub: hub.gate("org/gated", "manual"), "gate")
            history.on(at(17), lambda hub: hub.undelete("org/deleted"), "back")
            history.on(at(17), self.release("org/deleted"))
            history.on(at(18), lambda hub: hub.gate("org/gated", gated=False), "gate open")
            history.on(at(19), self.tag("lab/tagged"), "tag")
            history.on(at(20), lambda hub: hub.hide("org/hidden", private=False), "public")
            history.on(at(20), self.release("org/hidden"))
            history.on(at(22), self.rewrite("org/rewritten"), "force-push")
            history.on(at(23), self.release("org/gated"))
            self.unplug(at(12), at(21))
            self.flip(at(16))
            self.flip(at(22))
        history.on(26, lambda hub: hub.rename("org/old-name", "org/new-name"), "rename")

    def is_answered(self, day: int) -> bool:
        """Whether the hub answered on a day."""
        return not any(outage.first <= day <= outage.last for outage in self.outages)
