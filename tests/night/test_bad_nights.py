"""What goes wrong in a night: it is stopped, its window ends, the disk fills, a clock jumps, mounts die."""

from __future__ import annotations

import os
import signal

import pytest
from kit.disks import fill, memory_disk, needs_mount, skip_unless_mountable
from kit.repository import noise

from archiver.archive import place_look
from archiver.archive.archive import Archive
from archiver.loopback.faults import Fault


def step(result, name):
    (found,) = [each for each in result.kinds("step") if each["step"] == name]
    return found


def facts(result, which="new"):
    return [(fact["fact"], fact["subject"]) for fact in result.only("night")[which]]


def held(archive):
    return sorted(one.seal.repository for one in Archive.open(archive.root).snapshots())


@pytest.fixture
def stopping(repositories):
    """Ends this process, as SIGTERM would, once the weights of a repository are asked for."""

    def end():
        os.kill(os.getpid(), signal.SIGINT)

    return repositories.faults.add(
        Fault("call", route="resolve", repository="org/b", path="weights.bin", call=end, times=1)
    )


def test_a_night_that_is_stopped_ends_with_130_and_the_next_one_goes_on(
    night, repositories, archive, plan, stopping
):
    path = plan(
        "org/a", "org/b", "org/c", night='audit = { share = "100%" }\nprometheus = "a.prom"'
    )
    first = night(path)
    assert (first.code, first.only("night")["cut"]) == (130, "stopped")
    assert [step(first, name)["outcome"] for name in ("sync", "audit")] == ["cut", "cut"]
    assert step(first, "prometheus")["outcome"] == "idle", "what takes a moment is still done"
    assert first.only("night")["verdict"].endswith("; it was stopped")
    (event,) = archive.events("night")
    assert (event["detail"]["cut"], event["detail"]["exit_code"]) == ("stopped", 130)
    second = night(path)
    assert (second.code, held(archive)) == (0, ["org/a", "org/b", "org/c"])


def test_a_window_that_ends_is_no_failure(night, repositories, archive, plan, clock):
    # An hour is left by the clock of the machine, which also counts.
    head = 'window = "01:00-02:30"\ntimezone = "UTC"'
    path = plan("org/a", "org/b", head=head, night='audit = { share = "100%" }')
    repositories.faults.add(
        Fault(
            "call",
            route="resolve",
            repository="org/a",
            path="weights.bin",
            call=lambda: clock.forward(minutes=62),
            times=1,
        )
    )
    first = night(path)
    assert first.code == 0
    assert "org/b" not in held(archive)
    outside = night(path).only("night")
    opens = "nightly: nothing was done: its window opens at 2026-12-02 01:00 (UTC)"
    assert (outside["verdict"], outside["opens"]) == (opens, "2026-12-02T01:00:00+00:00")
    clock.forward(hours=22, minutes=58)
    second = night(path)
    assert (second.code, held(archive)) == (0, ["org/a", "org/b"])


def test_a_clock_that_jumps_back_in_the_night_tells_nothing_twice(
    night, repositories, archive, plan, clock
):
    path = plan("org/a", "org/never")
    assert night(path).code == 23
    repositories.faults.add(
        Fault(
            "call", route="info", repository="org/a", call=lambda: clock.forward(days=-400), times=1
        )
    )
    for _ in range(2):
        result = night(path)
        assert ("gone", "org/never") not in facts(result)
        # The clock is wrong, and so it seems that upstream has not answered.
        assert set(facts(result)) <= {("clock", ""), ("late", "org/a")}
    assert result.code == 0
    clock.forward(days=401)
    last = night(path)
    assert (last.code, facts(last)) == (0, [])


@pytest.mark.parametrize("purpose", ["pack", "parity"])
def test_a_full_disk_fails_its_step_and_the_next_night_goes_on(
    night, run, repositories, archive, plan, faulty, purpose
):
    run("policy", "set", "-q", "-C", archive.root, "--parity", "2")
    store = faulty(archive.root)
    path = plan("org/a", night="parity = true")
    store.full(purpose, 0)
    first = night(path)
    assert 31 in {each["exit_code"] for each in first.kinds("step")}
    assert first.code == {"pack": 31, "parity": 24}[purpose], "parity is short, which is worse"
    store._writing.clear()
    second = night(path)
    assert (second.code, held(archive)) == (0, ["org/a"])


CHORES = """parity = true
audit = {{ share = "100%" }}
copies = ["{copy}"]
sign = "night.key"
report = true
prometheus = "archiver.prom"
"""
"""All that a night can do, to an archive and to a copy of it."""


@pytest.fixture
def whole(run, archive, plan, tmp_path):
    """A plan with every chore, and its key."""
    copy = tmp_path / "copy"
    run("policy", "set", "-q", "-C", archive.root, "--parity", "2")
    path = plan("org/a", "org/b", night=CHORES.format(copy=copy))
    assert run("keys", "new", "-q", path.with_name("night"), "--no-password").code == 0
    assert run("copy", "-q", "-C", archive.root, "--new", copy, "--min-free", "0B").code == 0
    return path


@pytest.mark.parametrize(
    ("place", "purpose", "failing"),
    [
        ("weights", "pack", "sync"),
        ("weights", "signature", "sign"),
        ("weights", "report", "report"),
        ("copy", "copy", "copies"),
    ],
)
def test_a_disk_that_fills_up_in_a_step_fails_that_step_and_keeps_no_other(
    night, repositories, archive, whole, faulty, place, purpose, failing
):
    store = faulty(archive.root.with_name(place))
    store.full(purpose, 0)
    first = night(whole)
    outcomes = {each["step"]: (each["outcome"], each["exit_code"]) for each in first.kinds("step")}
    assert outcomes[failing] == ("failed", 31), outcomes
    others = [outcome for name, (outcome, _) in outcomes.items() if name != failing]
    assert not {"failed", "cut"} & set(others), outcomes
    assert first.code in {31, 24}, first.out
    store._writing.clear()
    second = night(whole)
    assert (second.code, held(archive)) == (0, ["org/a", "org/b"]), second.out
    assert not {each["exit_code"] for each in second.kinds("step")} - {0}


@needs_mount
def test_a_night_on_a_disk_without_a_byte_left_says_so_in_every_way_that_is_left(
    run, clock, repositories, plan, tmp_path, waits
):
    skip_unless_mountable()
    with memory_disk(tmp_path / "disk", 48 << 20) as disk:
        root = disk / "weights"
        assert run("init", "-q", "-C", root).code == 0
        path = plan("org/a", night='audit = { share = "100%" }\nparity = true\nreport = true')
        words = ("night", "-q", "--json", "-C", root, "--min-free", "0B", path)
        assert run(*words).code == 0
        repositories.commit("org/a", {"more.bin": noise(9, 50_000)})
        clock.forward(days=1)
        ballast = fill(disk, 0)
        first = run(*words)
        assert first.code == 31, first.out
        assert "no room is left" in first.only("night")["verdict"]
        assert "Traceback" not in first.out + first.err
        again = run(*words)
        assert again.code == 31, "it could not be journalled, and rings again"
        ballast.unlink()
        clock.forward(days=1)
        last = run(*words)
        assert last.code == 0, last.out
        assert run("audit", "-q", "-C", root, "--level", "files").code == 0


def test_a_disk_that_is_unplugged_in_the_middle_of_a_copy_is_away_and_no_failure(
    night, run, repositories, archive, plan, tmp_path, monkeypatch
):
    place = tmp_path / "disk" / "copy"
    assert run("copy", "-q", "-C", archive.root, "--new", place, "--min-free", "0B").code == 0
    from archiver.storage.local import LocalStore

    real = LocalStore.stage

    def unplugged(self, *args, **kwargs):
        if str(self.folder.path).startswith(str(place)):
            (tmp_path / "disk").rename(tmp_path / "gone")
            monkeypatch.setattr(LocalStore, "stage", real)
            raise OSError(5, "Input/output error", str(place))
        return real(self, *args, **kwargs)

    monkeypatch.setattr(LocalStore, "stage", unplugged)
    path = plan("org/a", night=f'copies = ["{place}"]')
    result = night(path)
    assert (result.code, step(result, "copies")["outcome"]) == (0, "away"), result.out
    assert not (tmp_path / "disk").exists()
    (tmp_path / "gone").rename(tmp_path / "disk")
    back = night(path)
    assert (back.code, step(back, "copies")["outcome"]) == (0, "done")
    assert run("audit", "-q", "-C", place).code == 0


def test_a_copy_on_a_dead_mount_is_away_within_the_time_of_a_look(
    night, run, repositories, archive, plan, tmp_path, monkeypatch
):
    monkeypatch.setattr(place_look, "LOOK_SECONDS", 0.2)
    hanging = tmp_path / "probe.py"
    hanging.write_text("import threading; threading.Event().wait()")
    monkeypatch.setattr(place_look, "_PROBE", hanging)
    monkeypatch.setattr(place_look, "_has_server", lambda _: False)
    result = night(plan("org/a", night='copies = ["/mnt/dead/copy"]'))
    assert (result.code, step(result, "copies")["outcome"]) == (0, "away")
    assert "gave no answer" in step(result, "copies")["errors"][0]["message"]


def test_a_plan_with_wrong_keys_is_refused_before_anything_is_done(night, archive, plan):
    result = night(plan("org/a", night="audits = 3"))
    assert result.code == 2
    assert "audits" in result.out
    assert "audit" in result.only("error")["message"] + result.out
    assert not archive.documents("journal")


def test_a_hub_that_is_away_for_days_ages_into_an_alarm(night, repositories, archive, plan, clock):
    path = plan("org/a", head='max_age = "3d"')
    assert night(path).code == 0
    repositories.faults.add(Fault("status", times=None))
    codes = []
    for _ in range(5):
        clock.forward(days=1)
        codes.append(night(path).code)
    assert codes == [30, 0, 0, 24, 0]


def test_what_is_new_and_large_fits_in_a_verdict_of_120_characters(night, repositories, plan):
    names = [f"org/{'a-very-long-name' * 3}-{number}" for number in range(30)]
    repositories.create("org/x" * 8, {"a.bin": noise(1, 10)})
    result = night(plan(*names))
    verdict = result.only("night")["verdict"]
    assert (result.code, len(verdict) <= 120) == (23, True)
    assert verdict == "nightly: NEW: 30 are gone upstream"
