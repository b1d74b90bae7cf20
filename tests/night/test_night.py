"""``archiver night`` against the loopback hub: the steps, and what rings when."""

from __future__ import annotations

import json
import os

from archiver.loopback.faults import Fault
from archiver.storage.locks import RunLock


def facts(result, which="new"):
    return [(fact["fact"], fact["subject"]) for fact in result.only("night")[which]]


def outcomes(result):
    return {step["step"]: step["outcome"] for step in result.kinds("step")}


def test_the_first_night_mirrors_and_an_idle_one_leaves_one_small_event(
    night, run, repositories, archive, plan
):
    path = plan("org/a", "org/b")
    first = night(path)
    assert (first.code, outcomes(first)["sync"]) == (0, "done")
    assert first.only("night")["verdict"] == "nightly: all is well: 2 new of 2"
    before = archive.documents("journal")
    second = night(path)
    assert (second.code, set(outcomes(second).values())) == (0, {"idle"})
    new = set(archive.documents("journal")) - set(before)
    assert [json.loads(path.read_bytes())["event"] for path in new] == ["synced"]
    assert not list((archive.root / "tmp").glob("**/put*"))


def test_the_verdict_comes_first_and_the_exit_code_on_stderr(run, archive, repositories, plan):
    repositories.delete("org/b")
    result = run("night", "-q", "-C", archive.root, "--min-free", "0B", plan("org/a", "org/b"))
    first, *rest = result.out.splitlines()
    assert first == "nightly: NEW: org/b is gone upstream"
    assert any(line.startswith("  sync: failed (23)") for line in rest)
    assert "  new: org/b is gone upstream (23)." in rest
    assert (result.code, result.err.splitlines()[0]) == (23, f"archiver: {first}")
    assert f"'archiver acknowledge -C {archive.root} gone org/b'" in result.err
    known = run("night", "-q", "-C", archive.root, "--min-free", "0B", plan("org/a", "org/b"))
    assert (known.code, known.err) == (0, ""), "a mail of cron would ring again"
    assert known.out.startswith("nightly: nothing new; known: org/b is gone upstream\n")


def spoil(hub, name, number=0):
    """A new commit, of which the hub lists a digest that its bytes do not have."""
    hub.commit(name, {"config.json": f"[{number}]".encode()})
    hub.claim(name, "config.json", oid="0" * 40)


def test_what_is_known_does_not_ring_and_what_is_mended_is_told_once(
    night, repositories, archive, plan
):
    path = plan("org/a", "org/b")
    assert night(path).code == 0
    spoil(repositories, "org/b")
    rings = night(path)
    assert (rings.code, facts(rings)) == (22, [("mismatch", "org/b")])
    for _ in range(2):
        silent = night(path)
        assert (silent.code, facts(silent)) == (0, [])
        assert facts(silent, "known") == [("mismatch", "org/b")]
    assert len(archive.events("night")) == 2, "nothing was done and nothing is news"
    repositories.repository("org/b").claims.clear()
    mended = night(path)
    assert (mended.code, facts(mended, "mended")) == (0, [("mismatch", "org/b")])
    spoil(repositories, "org/b", 2)
    again = night(path)
    assert (again.code, facts(again)) == (22, [("mismatch", "org/b")])


def test_the_worst_of_what_is_new_decides_and_a_known_one_adds_nothing(
    night, repositories, archive, plan
):
    path = plan("org/a", "org/b", "org/c")
    repositories.delete("org/a")
    assert night(path).code == 23
    spoil(repositories, "org/b")
    second = night(path)
    assert (second.code, facts(second)) == (22, [("mismatch", "org/b")])
    assert facts(second, "known") == [("gone", "org/a")]
    third = night(path)
    assert (third.code, len(facts(third, "known"))) == (0, 2)


def test_what_is_held_and_not_shown_is_called_gone_after_three_days(
    night, clock, repositories, archive, plan
):
    path = plan("org/a", "org/b")
    assert night(path).code == 0
    repositories.delete("org/b")
    for _ in range(2):
        clock.forward(days=1)
        soft = night(path)
        assert soft.code == 0
        verdict = soft.only("night")["verdict"]
        assert verdict == "nightly: nothing rings: 0 new of 2; org/b is not shown to us"
    clock.forward(days=1)
    rings = night(path)
    assert (rings.code, facts(rings)) == (23, [("changed", "org/b gone"), ("gone", "org/b")])
    clock.forward(days=1)
    known = night(path)
    assert (known.code, facts(known, "known"), facts(known, "mended")) == (
        0,
        [("gone", "org/b")],
        [],
    )


def test_an_idle_night_asks_two_things_of_each_repository(night, repositories, plan):
    path = plan("org/a", "org/b", "org/c")
    assert night(path).code == 0
    before = len(repositories.requests)
    assert night(path).code == 0
    assert len(repositories.requests) - before == 6


def test_damage_rings_every_night_until_it_is_mended(night, run, repositories, archive, plan):
    path = plan("org/a")
    assert night(path).code == 0
    (pack,) = (archive.root / "packs").rglob("*.pack")
    whole = pack.read_bytes()
    pack.chmod(0o644)
    pack.write_bytes(whole[:2000] + bytes([whole[2000] ^ 1]) + whole[2001:])
    assert run("audit", "-q", "-C", archive.root, "--level", "stored").code == 20
    name = str(pack.relative_to(archive.root))
    for which in ("new", "known", "known"):
        result = night(path)
        assert (result.code, facts(result, which)) == (20, [("damaged", name)])
        assert result.only("night")["verdict"].startswith("nightly: DAMAGE: ")
    pack.write_bytes(whole)
    assert run("audit", "-q", "-C", archive.root, "--level", "stored").code == 0
    mended = night(path)
    assert (mended.code, facts(mended, "mended")) == (0, [("damaged", name)])


def test_a_hub_that_is_away_rings_once_and_what_it_told_before_stands(
    night, repositories, archive, plan
):
    path = plan("org/a", "org/never")
    assert night(path).code == 23
    repositories.faults.add(Fault("status", status=503, times=None))
    away = night(path)
    assert (away.code, facts(away)) == (30, [("upstream", "huggingface")])
    assert facts(away, "known") == [("gone", "org/never")]
    assert night(path).code == 0
    repositories.faults.clear()
    back = night(path)
    assert (back.code, facts(back, "mended")) == (0, [("upstream", "huggingface")])


def test_a_second_night_ends_with_11_and_says_who_runs(night, repositories, archive, plan):
    lock = archive.root / "tmp" / "night-nightly.lock"
    with RunLock(lock, "The night of the plan nightly"):
        second = night(plan("org/a"))
    assert second.code == 11
    message = second.only("error")["message"]
    assert message.startswith(
        f"The night of the plan nightly is being run by process {os.getpid()} on"
    )
    assert not archive.documents("journal")


def test_a_sync_that_runs_is_no_failure_of_the_rest(night, repositories, archive, plan):
    with RunLock(archive.root / "tmp" / "plan-nightly.lock", "The plan nightly"):
        result = night(plan("org/a"))
    assert (result.code, outcomes(result)) == (3, {"watch": "done", "sync": "skipped"})
    assert facts(result) == [("step", "sync")]
    assert night(plan("org/a")).code == 0


def test_the_verdict_names_the_repository_whose_branch_was_rewritten(night, repositories, plan):
    name = "org/a-model-of-a-rather-long-name-that-is-cut"
    repositories.create(name, {"config.json": b"{}"})
    path = plan(name)
    assert night(path).code == 0
    commit = repositories.force_push(name, {"config.json": b"[]"})
    rewritten = night(path)
    assert rewritten.code == 23
    assert f"NEW: upstream: {name[:40]}" in rewritten.only("night")["verdict"]
    assert facts(rewritten) == [("changed", f"{name} rewritten main {commit[:12]}")]


def test_a_branch_that_is_deleted_rings_once_and_is_known_from_then_on(
    night, run, clock, repositories, archive, plan
):
    repositories.branch("org/a", "dev")
    entry = '[[repository]]\nname = "org/a"\nrevisions = ["branches"]\n'
    path = plan(entries=entry)
    assert night(path).code == 0
    repositories.drop_branch("org/a", "dev")
    codes, new = [], []
    for _ in range(4):
        clock.forward(days=1)
        result = night(path)
        codes.append(result.code)
        new += facts(result)
        assert ("gone", "org/a@dev") in facts(result) + facts(result, "known")
        sync = next(each for each in result.kinds("step") if each["step"] == "sync")
        assert sync["counts"]["gone"] == 1
    assert (codes, new) == ([23, 0, 0, 0], [("gone", "org/a@dev")])
    assert "dev is gone upstream" in result.only("night")["verdict"]
    assert len(archive.events("gone")) == 1
    assert run("acknowledge", "-C", archive.root, "gone", "org/a@dev").code == 0
    done = night(path)
    assert (done.code, facts(done, "known")) == (0, [])
    assert facts(done, "mended") == [], "its owner knows of it: nothing came back"
