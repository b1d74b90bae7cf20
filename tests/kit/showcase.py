"""An archive with a past, for pictures of pages and for tests of them: most of a year of nights, three
places, models that are called as those of Qwen3.5 are, a bit that turned, a repository that went away.

What happens is done by the commands, at the time that the clock of the past shows. The nights between, in
which nothing happened, are written into the journal as they would have been, because there are hundreds.
"""

from __future__ import annotations

import io
import os
import shutil
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

import msgspec

from archiver import text
from archiver.archive import layout
from archiver.archive.archive import Archive
from archiver.archive.events import (
    Audited,
    Copied,
    NightRun,
    PlaceSeen,
    PlacesSeen,
    Planned,
    Synced,
    new_event,
)
from archiver.archive.places import own_place
from archiver.archive.policy import LEVELS
from archiver.archive.records import canonical, record_digest
from archiver.demo.checkpoints import write_dense, write_gptq, write_moe
from archiver.loopback.faults import Fault
from archiver.loopback.hub import Hub
from archiver.upstream.retry import RetryPolicy
from kit.cli import invoke
from kit.repository import files_below

if TYPE_CHECKING:
    from collections.abc import Iterator

SMALL = "Qwen/Qwen3.5-0.8B"
SMALL_FP8 = "Qwen/Qwen3.5-0.8B-FP8"
LOST = "Qwen/Qwen3.5-0.8B-Base"
MIDDLE = "Qwen/Qwen3.5-4B"
LARGE = "Qwen/Qwen3.5-35B-A3B"
LARGE_INT4 = "Qwen/Qwen3.5-35B-A3B-GPTQ-Int4"
PLAN = "nightly"
NOW = datetime(2026, 11, 28, 6, 10, tzinfo=UTC)
BEGAN = datetime(2026, 1, 5, 1, 30, tzinfo=UTC)
NAS = PlaceSeen(
    place="nas",
    where="nas:/volume1/weights",
    medium="disk",
    devices=("disk-of-the-nas",),
    label="NAS, RAID 6",
    filesystem="ext4",
)
SHELF = PlaceSeen(
    place="shelf",
    where="shelf:/media/shelf/weights",
    medium="disk",
    devices=("disk-on-the-shelf",),
    label="USB disk, 4 TB",
    filesystem="ext4",
)


class Clock:
    """A clock that stands where it was put."""

    def __init__(self, now: datetime) -> None:
        self.now = now


@contextmanager
def standing_clock(now: datetime = NOW) -> Iterator[Clock]:
    """Let this clock be the machine's."""
    clock = Clock(now)

    def now_of_clock() -> datetime:
        return clock.now

    with mock.patch.object(text, "_machine_clock", now_of_clock):
        yield clock


def build(folder: Path) -> Path:
    """Build it in an empty folder; return the archive's."""
    # Nobody waits, not for a hub and not for the disk: no plug is pulled here.
    with (
        Hub() as hub,
        mock.patch.dict(os.environ, {"HF_ENDPOINT": hub.endpoint}),
        mock.patch.object(RetryPolicy, "wait", return_value=0.0),
        mock.patch.object(os, "fsync", return_value=None),
        standing_clock(BEGAN) as clock,
        chdir(folder),  # so the names of folders are short
    ):
        past = _Past(hub, clock)
        past.live()
    return folder / past.root


class _Past:
    """What happened, day by day."""

    def __init__(self, hub: Hub, clock: Clock) -> None:
        self.root = Path("weights")
        self._hub = hub
        self._clock = clock
        self._nas, self._shelf = Path("nas"), Path("shelf")
        self._plan = Path(f"{PLAN}.toml")

    def live(self) -> None:
        models = Path("models")
        write_dense(models / "small", seed=1)
        write_dense(models / "small-fp8", seed=1, fp8=True)
        write_dense(models / "middle", seed=2, shards=2)
        write_moe(models / "large", seed=3)
        write_gptq(models / "large-int4", seed=3)
        for name, model in ((SMALL, "small"), (SMALL_FP8, "small-fp8"), (LARGE, "large")):
            self._hub.create(name, files_below(models / model))
        base = {
            **files_below(models / "small"),
            "README.md": b"---\nlicense: apache-2.0\n---\n# Base\n",
        }
        self._hub.create(LOST, base)
        self._begin()
        self._idle_until(2026, 2, 16)
        self._hub.commit(SMALL, {"README.md": b"---\nlicense: apache-2.0\n---\n# Qwen3.5-0.8B\n"})
        self._night()
        self._copy(self._nas)
        self._idle_until(2026, 3, 9)
        self._hub.create(MIDDLE, files_below(models / "middle"))
        self._night()
        self._copy(self._nas)
        self._idle_until(2026, 5, 4)
        self._hub.create(LARGE_INT4, files_below(models / "large-int4"))
        self._night()
        self._copy(self._nas)
        self._idle_until(2026, 6, 22)
        self._turn_a_bit()
        self._run("audit", "-C", self.root, "--level", "content", code=20)
        for _ in range(2):
            self._night(code=20)
            self._pass(1)
        self._run("repair", "-C", self.root, "--from", self._nas)
        self._run("audit", "-C", self.root, "--level", "files")
        self._idle_until(2026, 8, 17)
        self._hub.delete(LOST)
        for _ in range(4):
            self._night(code=None)
            self._pass(1)
        self._run("acknowledge", "-C", self.root, "gone", LOST, "--note", "We have it.")
        self._idle_until(2026, 10, 12)
        self._hub.faults.add(Fault("status", times=None))
        self._night(code=30)
        self._hub.faults.clear()
        self._pass(1)
        self._night()
        self._idle_until(2026, 11, 27)
        self._night()
        self._pass(1)
        self._night()
        self._end()

    # ---- what people and nights did

    def _run(self, *words: object, code: int | None = 0) -> None:
        printed = io.StringIO()
        with redirect_stdout(printed), redirect_stderr(printed):
            ended = invoke(*words, "-q", "--json")
        assert code in {None, ended}, (words, ended, printed.getvalue())

    def _pass(self, days: float) -> None:
        self._clock.now += timedelta(days=days)

    def _begin(self) -> None:
        self._run("init", "-C", self.root)
        wanted = ("--copies", "1", "--parity", "2", "--audit-age", "60d", "--copy-age", "90d")
        self._run("policy", "set", "-C", self.root, *wanted)
        self._plan.write_text(
            f'[plan]\nname = "{PLAN}"\nmax_age = "7d"\n'
            f'[[repository]]\nname = "Qwen/Qwen3.5-*"\n'
            "[night]\nparity = true\n"
            'audit = { share = "20%", level = "content" }\n'
        )
        self._plan.chmod(0o644)
        self._night(code=None)
        for folder in (self._nas, self._shelf):
            self._copy(folder, "--new")
        self._tell_of(SHELF)

    def _copy(self, folder: Path, *words: object) -> None:
        names = ("--from-as", "attic", "--as", folder.name)
        self._run("copy", "-C", self.root, folder, *words, *names, "--min-free", "0B")

    def _night(self, code: int | None = 0) -> None:
        self._run("night", "-C", self.root, "--min-free", "0B", self._plan, code=code)

    def _end(self) -> None:
        """Both copies are on other machines, as far as the journal knows."""
        self._run("policy", "set", "-C", self.root, "--copies", "3")
        self._tell_of(NAS)
        shutil.rmtree(self._nas)
        shutil.rmtree(self._shelf)
        self._clock.now = NOW

    def _tell_of(self, place: PlaceSeen) -> None:
        """Say in the journal that a copy lies on another machine."""
        archive = Archive.open(self.root)
        copied = [event.detail for _, event in archive.events() if isinstance(event.detail, Copied)]
        ids = {each.to: each.to_id for each in copied}
        self._pass(0.01)
        seen = msgspec.structs.replace(place, id=ids[place.place])
        archive.record(new_event(PlacesSeen((seen,))))

    def _turn_a_bit(self) -> None:
        packs = sorted((self.root / "packs").rglob("*.pack"))
        pack = max(packs, key=lambda path: path.stat().st_size)
        data = bytearray(pack.read_bytes())
        data[len(data) // 2] ^= 1
        pack.chmod(0o644)
        pack.write_bytes(data)

    # ---- nights in which nothing happened

    def _idle_until(self, year: int, month: int, day: int) -> None:
        """Pass the days up to this one, which is still to come."""
        archive = Archive.open(self.root)
        events = [event for _, event in archive.events()]
        planned = next(
            digest
            for digest, event in reversed(list(archive.events()))
            if isinstance(event.detail, Planned)
        )
        nights = [event.detail for event in events if isinstance(event.detail, NightRun)]
        facts = tuple(fact for fact in nights[-1].facts if fact.exit_code not in {20, 30})
        packs = sorted(
            {pack for snapshot in archive.snapshots() for pack, _ in snapshot.seal.packs}
        )
        copied = [event.detail for event in events if isinstance(event.detail, Copied)]
        nas = next(each.to_id for each in reversed(copied) if each.to == "nas")
        here, heads = own_place(archive).key, archive.journal.heads()
        (synced,) = [event.detail for event in events if isinstance(event.detail, Synced)][-1:]
        outcomes = tuple("gone" if outcome == "gone" else "held" for outcome in synced.outcomes)
        number = (self._clock.now - BEGAN).days
        while self._clock.now.date() < datetime(year, month, day, tzinfo=UTC).date() - timedelta(1):
            self._pass(1)
            number += 1
            proven = tuple(packs) if number % 28 == 0 else (packs[number % len(packs)],)
            level = LEVELS[-1] if number % 28 == 0 else LEVELS[-2]
            details = [
                Synced(PLAN, here, planned, outcomes, 0, 2, 0, 0, 4 * 10**11, 1 << 30),
                Audited(
                    level, packs=proven, place=here, objects=40 * len(proven), run=f"{number:x}"
                ),
            ]
            away = number % 7 in {2, 3}
            if not away:
                proven = (packs[number * 5 // 7 % len(packs)],)
                details.append(Audited("content", packs=proven, place=nas))
            steps = {"watch": "done", "sync": "idle", "parity": "idle"}
            steps |= {"audit": "done"}
            details.append(
                NightRun(PLAN, here, 0, tuple(steps.items()), facts, seconds=95 + number % 40)
            )
            for seconds, detail in enumerate(details):
                time = (self._clock.now + timedelta(seconds=20 * seconds)).strftime(
                    "%Y-%m-%dT%H:%M:%SZ"
                )
                event = msgspec.structs.replace(new_event(detail, time=time), after=heads)
                heads = (record_digest(event),)
                # As an append would, which looks at those before it first: there are a thousand.
                archive.store.put_new(layout.event_name(time, heads[0]), canonical(event))
        self._pass(1)
