"""Objects that read damaged: had from elsewhere and proven, or refused; and journalled once."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
import time
from contextlib import closing

import pytest
from healingkit import damage, error_of, make, met, objects, pack_path
from kit.archive import copy
from kit.disks import needs_mount, read_only, skip_unless_mountable, stoppable_mount
from kit.faults import flip, wipe

from archiver.archive.archive import Archive
from archiver.archive.check.proofs import proofs_of
from archiver.archive.events import DamageMet, MetObject, new_event
from archiver.archive.packs.index import ObjectIndex
from archiver.archive.packs.writer import PackWriter
from archiver.archive.places import settled_place
from archiver.archive.serving import damage_journal, healing, place_reader, recovery
from archiver.archive.serving.healing import Healer
from archiver.digest import blake3_hex
from archiver.errors import DamageError, UnreadableError
from archiver.storage.locks import RunLock


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    return make(tmp_path_factory.mktemp("healing"))


@pytest.fixture
def root(pristine, tmp_path):
    """The archive to damage; it has parity."""
    return copy(pristine, tmp_path / "weights")


@pytest.fixture
def bare(root):
    """The same without parity."""
    shutil.rmtree(root / "parity")
    return root


@pytest.fixture
def healer(root):
    with closing(Healer(Archive.open(root))) as opened:
        yield opened


def sources(root):
    return [each.get("source", "") for each in met(root)]


PATIENCE = 60.0


# ---- where it is had from


def test_what_reads_whole_again_was_no_damage(root, healer):
    stored = objects(root)[0]
    assert bytes(healer.heal(error_of(stored), stored.size)) == stored.plain
    assert met(root) == []


def test_from_another_pack(bare, healer):
    stored = objects(bare)[2]
    archive = Archive.open(bare)
    writer = PackWriter(archive.store, archive.info)
    writer.append(ObjectIndex(archive, [stored.pack]).copy(stored.digest))
    writer.complete()
    writer.publish()
    error = damage(bare, stored)
    assert bytes(healer.heal(error, stored.size)) == stored.plain
    assert met(bare) == [{"object": stored.digest, "packs": [stored.pack], "source": "pack"}]


def test_from_quarantine(bare, healer):
    stored = objects(bare)[2]
    old = bare / "quarantine" / "20250101t000000z" / pack_path(bare, stored).relative_to(bare)
    old.parent.mkdir(parents=True)
    shutil.copy(pack_path(bare, stored), old)
    error = damage(bare, stored)
    assert bytes(healer.heal(error, stored.size)) == stored.plain
    assert sources(bare) == ["quarantine"]


def test_by_parity(root, healer):
    before = {path: path.read_bytes() for path in (root / "packs").rglob("*.pack")}
    for stored in objects(root)[:2]:
        error = damage(root, stored)
        assert bytes(healer.heal(error, stored.size)) == stored.plain
    # Repair is repair's: what lies there is as damaged as it was.
    after = {path: path.read_bytes() for path in (root / "packs").rglob("*.pack")}
    assert after.keys() == before.keys()
    assert after != before


def test_by_parity_where_the_index_is_gone(root, healer):
    stored = objects(root)[1]
    error = damage(root, stored)
    path = pack_path(root, stored)
    wipe(path, path.stat().st_size - 40, path.stat().st_size)
    # Also where nobody can say which pack had it.
    for pack in (stored.pack, ""):
        error.pack = pack
        assert bytes(healer.heal(error, stored.size)) == stored.plain


@pytest.mark.parametrize("begin", ["header", "blocks"])
def test_by_parity_that_is_damaged_itself(root, healer, begin):
    stored = objects(root)[1]
    (sidecar,) = [path for path in (root / "parity").rglob("*.par") if stored.pack in path.name]
    size = sidecar.stat().st_size
    wipe(sidecar, *((0, 64) if begin == "header" else (size // 3, size // 3 + 100)))
    error = damage(root, stored)
    assert bytes(healer.heal(error, stored.size)) == stored.plain
    assert sources(root) == ["parity"]


def test_beyond_parity(root, healer):
    stored = objects(root)[1]
    path = pack_path(root, stored)
    wipe(path, stored.offset, stored.offset + stored.stored)
    with pytest.raises(DamageError):
        healer.heal(error_of(stored), stored.size)
    assert sources(root) == [""]


@pytest.fixture
def other(cli, bare, tmp_path):
    """A copy at another place, which the journal knows."""
    assert cli("copy", "-q", "-C", bare, "--new", tmp_path / "copy", "--min-free", "0").code == 0
    return tmp_path / "copy"


def test_from_another_place(bare, other, healer):
    stored = objects(bare)[3]
    error = damage(bare, stored)
    assert bytes(healer.heal(error, stored.size)) == stored.plain
    (event,) = met(bare)
    assert event["source"] == json.loads((other / "place.json").read_bytes())["place"]


def test_from_another_place_where_the_pack_is_gone(bare, other, healer):
    stored = objects(bare)[3]
    pack_path(bare, stored).unlink()
    assert bytes(healer.heal(error_of(stored), stored.size)) == stored.plain


def test_another_place_with_other_bytes_is_not_believed(bare, other, healer):
    stored = objects(bare)[3]
    error = damage(bare, stored)
    flip(pack_path(other, stored), stored.offset + stored.stored // 2)
    with pytest.raises(DamageError):
        healer.heal(error, stored.size)


ANSWERS = """
import os, sys
sys.stdin.readline()
assert not {secrets} & set(os.environ)
print("14 pack\\n{given}", end="", flush=True)
sys.stdin.read()
"""
"""What reads at another place, that answers as a test says."""


@pytest.mark.parametrize("given", ["what was asked", "something else"])
def test_what_a_place_answers_is_proven_here(monkeypatch, given):
    """By the process that asks, whatever another one says; and that one knows no secret of it."""
    secrets = {"HF_TOKEN", "ARCHIVER_KEY_PASSWORD", "ARCHIVER_SERVE_TOKEN"}
    for name in secrets:
        monkeypatch.setenv(name, "a-secret-of-this-process")
    program = ANSWERS.format(given=given, secrets=secrets)
    monkeypatch.setattr(place_reader, "_PROGRAM", program)
    with closing(place_reader.PlaceReader("/nowhere", "another")) as reader:
        answer = reader.fetch(blake3_hex(b"what was asked"), 14)
    if given == "what was asked":
        assert (bytes(answer.plain), answer.place) == (given.encode(), "another")
    else:
        assert answer is None


def test_from_another_place_by_its_parity(bare, other, healer, cli):
    stored = objects(bare)[3]
    assert cli("parity", "add", "-q", "-C", other).code == 0
    flip(pack_path(other, stored), stored.offset + stored.stored // 2)
    assert bytes(healer.heal(damage(bare, stored), stored.size)) == stored.plain


def test_what_may_not_be_read_is_not_called_damaged(root, healer):
    stored = objects(root)[0]
    damage(root, stored)
    error = UnreadableError("Denied.", object=stored.digest, pack=stored.pack)
    assert bytes(healer.heal(error, stored.size)) == stored.plain
    assert met(root) == []


# ---- what nobody has


def test_what_nobody_has_is_refused_and_the_rest_is_given(bare, healer):
    lost, kept, *_ = objects(bare)
    error = damage(bare, lost)
    with pytest.raises(DamageError) as caught:
        healer.heal(error, lost.size)
    assert (caught.value.object, caught.value.pack) == (lost.digest, lost.pack)
    assert f"archiver repair -C {bare}" in caught.value.hint
    assert bytes(healer.heal(error_of(kept), kept.size)) == kept.plain
    assert met(bare) == [{"object": lost.digest, "packs": [lost.pack]}]


def test_what_nobody_had_is_not_looked_for_again_at_once(bare, healer, monkeypatch):
    stored = objects(bare)[0]
    error = damage(bare, stored)
    whole = healer.heal
    with pytest.raises(DamageError):
        whole(error, stored.size)
    damage(bare, stored)  # the bit flips back
    for _ in range(1000):
        with pytest.raises(DamageError):
            whole(error, stored.size)
    monkeypatch.setattr(healing, "_LOST_SECONDS", 0.0)
    healer._lost.clear()
    assert bytes(whole(error, stored.size)) == stored.plain


def test_many_lost_objects_read_the_indexes_once(bare, healer, monkeypatch):
    read = []

    def counted(*arguments):
        read.append(arguments)
        return ObjectIndex(*arguments)

    monkeypatch.setattr(recovery, "ObjectIndex", counted)
    for stored in objects(bare):
        with pytest.raises(DamageError):
            healer.heal(damage(bare, stored), stored.size)
    assert len(read) == 2  # of the packs, and of those out of use


def test_many_at_once_get_the_same(root, healer):
    stored = objects(root)[0]
    error = damage(root, stored)
    got: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: got.append(bytes(healer.heal(error, stored.size))))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == [stored.plain] * 8
    assert len(met(root)) == 1


# ---- the journal

_HEAL = """
import sys
from contextlib import closing
from pathlib import Path
from archiver.archive.archive import Archive
from archiver.archive.serving.healing import Healer
from archiver.digest import blake3_hex
from archiver.errors import DamageError, UnreadableError
from archiver.storage.locks import RunLock
root, digest, size, pack, times = sys.argv[1:]
with closing(Healer(Archive.open(Path(root)))) as healer:
    input()
    for _ in range(int(times)):
        healer.heal(DamageError("", object=digest, pack=pack), int(size))
"""


def test_an_event_a_day_over_processes(root):
    stored = objects(root)[0]
    damage(root, stored)
    words = (root, stored.digest, stored.size, stored.pack, 20)
    children = [
        subprocess.Popen([sys.executable, "-c", _HEAL, *map(str, words)], stdin=subprocess.PIPE)
        for _ in range(3)
    ]
    for child in children:
        child.stdin.write(b"\n")
        child.stdin.close()
    assert [child.wait() for child in children] == [0, 0, 0]
    assert sources(root) == ["parity"]


def test_one_process_at_a_time_judges_by_the_journal(root, monkeypatch):
    """Else two that see the same journal at once would both write."""
    monkeypatch.setattr(damage_journal, "_PATIENCE", PATIENCE)
    stored = objects(root)[0]
    error = damage(root, stored)
    with closing(Healer(Archive.open(root))) as healer:
        heals = threading.Thread(target=lambda: healer.heal(error, stored.size))
        with RunLock(root / "tmp" / "damage-met.lock", "Another"):
            heals.start()
            heals.join(1.0)
            assert heals.is_alive()
            assert met(root) == []
        heals.join()
    assert sources(root) == ["parity"]


def test_again_a_day_later(root, monkeypatch):
    from datetime import UTC, datetime, timedelta

    from archiver import text

    stored = objects(root)[0]
    error = damage(root, stored)
    counts = []
    for hours in (0, 20, 30, 48, 60):
        now = datetime.now(UTC) + timedelta(hours=hours)
        monkeypatch.setattr(text, "_machine_clock", lambda now=now: now)
        with closing(Healer(Archive.open(root))) as healer:
            healer.heal(error, stored.size)
        counts.append(len(met(root)))
    assert counts == [1, 1, 2, 2, 3]


def test_again_after_it_was_repaired(root, cli):
    stored = objects(root)[0]
    error = damage(root, stored)
    for _ in range(2):
        with closing(Healer(Archive.open(root))) as healer:
            healer.heal(error, stored.size)
    assert cli("repair", "-q", "-C", root, "--no-upstream").code == 0
    damage(root, stored)
    with closing(Healer(Archive.open(root))) as healer:
        healer.heal(error, stored.size)
    assert sources(root) == ["parity", "parity"]


def test_many_objects_share_an_event(bare, healer):
    every = objects(bare)
    for stored in every:
        with pytest.raises(DamageError):
            healer.heal(damage(bare, stored), stored.size)
    healer.close()
    assert {each["object"] for each in met(bare)} == {each.digest for each in every}
    events = [json.loads(path.read_bytes()) for path in (bare / "journal").rglob("*.json")]
    assert sum(event["event"] == "damage-met" for event in events) == 2


def test_what_was_met_at_another_place_is_no_damage_here(root):
    archive, pack = Archive.open(root), "a" * 64
    here = settled_place(archive)
    for place, damaged in ((here.key, True), ("00000000-0000-4000-8000-000000000000", False)):
        event = new_event(DamageMet((MetObject("b" * 64, (pack,), ""),), place))
        proofs = proofs_of([("c" * 64, event)], event.time, here)
        assert bool(proofs.damaged(pack)) == damaged


def test_it_rings_until_it_is_mended(root, run, healer):
    assert run("audit", "-q", "-C", root).code == 0
    assert run("status", "-C", root).code == 0
    stored = objects(root)[0]
    healer.heal(damage(root, stored), stored.size)
    result = run("status", "-C", root)
    assert result.code == 24
    assert "archiver repair" in result.out
    assert run("audit", "-q", "-C", root, "--level", "structure").code == 0
    assert run("status", "-C", root).code == 24
    log = run("log", "-C", root, "--kind", "damage-met")
    assert "met damage, 1 object" in log.out
    assert "got the right bytes from elsewhere" in log.out
    assert run("repair", "-q", "-C", root, "--no-upstream").code == 0
    assert run("audit", "-q", "-C", root).code == 0
    assert run("status", "-C", root).code == 0


@needs_mount
def test_an_archive_that_can_only_be_read(root):
    skip_unless_mountable()
    stored = objects(root)[0]
    error = damage(root, stored)
    remarks = []
    with (
        read_only(root),
        closing(Healer(Archive.open(root), on_unwritten=remarks.append)) as healer,
    ):
        for each in (stored, *objects(root)[1:3]):
            assert bytes(healer.heal(error_of(each), each.size)) == each.plain
            assert bytes(healer.heal(error, stored.size)) == stored.plain
    assert len(remarks) == 1
    assert met(root) == []


# ---- a mount that is dead


@needs_mount
@pytest.mark.parametrize("found_out", ["by a look", "by a read"])
def test_a_dead_place_holds_up_nobody(bare, cli, tmp_path, monkeypatch, found_out):
    skip_unless_mountable()
    monkeypatch.setattr("archiver.archive.place_look.LOOK_SECONDS", 2.0)
    monkeypatch.setattr(place_reader, "ANSWER_SECONDS", 2.0)
    one, two, *_ = objects(bare)
    with stoppable_mount(tmp_path, PATIENCE) as dead:
        to = dead.folder / "copy"
        assert cli("copy", "-q", "-C", bare, "--new", to, "--min-free", "0").code == 0
        with closing(Healer(Archive.open(bare))) as healer:
            if found_out == "by a read":
                # The place is known to be there by then.
                monkeypatch.setattr(place_reader, "ANSWER_SECONDS", 60.0)
                assert bytes(healer.heal(damage(bare, one), one.size)) == one.plain
                monkeypatch.setattr(place_reader, "ANSWER_SECONDS", 2.0)
            with dead(), pytest.raises(DamageError):
                healer.heal(damage(bare, two), two.size)


@needs_mount
def test_a_dead_place_holds_up_one_reader_at_a_time(bare, cli, tmp_path, monkeypatch):
    skip_unless_mountable()
    monkeypatch.setattr("archiver.archive.place_look.LOOK_SECONDS", 5.0)
    monkeypatch.setattr(healing, "_TURN_SECONDS", 0.1)
    one, two, *_ = objects(bare)
    with stoppable_mount(tmp_path, PATIENCE) as dead:
        to = dead.folder / "copy"
        assert cli("copy", "-q", "-C", bare, "--new", to, "--min-free", "0").code == 0
        first, second = damage(bare, one), damage(bare, two)
        with closing(Healer(Archive.open(bare))) as healer:
            with dead():
                waits = threading.Thread(target=_refused, args=(healer, first, one.size))
                waits.start()
                while not healer._turn.locked():
                    time.sleep(0.01)
                with pytest.raises(DamageError, match="slow to answer"):
                    healer.heal(second, two.size)
                waits.join()
            # It was not said to be lost: once the place is there it is given.
            healer._looked = float("-inf")
            assert bytes(healer.heal(second, two.size)) == two.plain
    assert {each["object"]: bool(each.get("source")) for each in met(bare)} == {
        one.digest: False,
        two.digest: True,
    }


def _refused(healer, error, size):
    with pytest.raises(DamageError):
        healer.heal(error, size)
