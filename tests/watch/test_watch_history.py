"""A month at the hub, a look each night: all that happens is in the journal once, and nothing else."""

from __future__ import annotations

from collections import Counter

from kit.repository import REPO, model

from archiver.loopback.history import History

OTHER = "org/other"


def test_a_month_is_told_once_and_in_order(held):
    hub = held.hub
    hub.create(OTHER, model(7), card={"license": "mit"})
    assert held.run("mirror", "-C", held.archive, OTHER).code == 0
    history = History(hub)
    history.on(2, lambda hub: hub.commit(REPO, {"config.json": b"{}"}))
    history.on(4, lambda hub: hub.tag(REPO, "v1"))
    history.on(5, lambda hub: hub.describe(OTHER, {"license": "proprietary"}))
    history.between(7, 9, lambda hub: hub.stop(), lambda hub: hub.start(), "no network")
    history.on(8, lambda hub: hub.commit(REPO, {"config.json": b"[]"}))
    history.on(11, lambda hub: hub.force_push(REPO, model(1)))
    history.on(11, lambda hub: hub.tag(REPO, "v1"))
    history.on(13, lambda hub: hub.gate(OTHER, "manual"))
    history.between(14, 15, lambda hub: hub.delete(REPO), lambda hub: hub.undelete(REPO), "hidden")
    history.between(18, 22, lambda hub: hub.delete(OTHER), lambda hub: hub.undelete(OTHER), "gone")
    history.on(24, lambda hub: hub.rename(OTHER, "org/renamed"))
    history.on(26, lambda hub: hub.disable(REPO))
    codes = Counter()
    for day in range(30):
        history.play(until=day)
        codes[held.night().code] += 1
    assert [(change.what, change.name, change.history) for change in held.records(REPO)] == [
        ("branch", "main", "continued"),
        ("tag", "v1", ""),
        ("branch", "main", "continued"),
        ("branch", "main", "rewritten"),
        ("tag", "v1", ""),
        ("disabled", "", ""),
    ]
    assert [change.what for change in held.records(OTHER)] == [
        *("licence", "card", "branch"),
        *("gating", "gone", "back", "name"),
    ]
    assert codes[30] == 3, "nights without a network"
    assert codes[23] == 3, "rewritten, gone, switched off"
    assert len(history.played) == 15
    assert history.seen[20].refs.keys() == {REPO}
    assert history.seen[29].refs.keys() == {"org/renamed"}


def test_the_same_history_gives_the_same_commits(hub):
    histories = []
    for _ in range(2):
        hub.repositories.clear()
        hub._created.clear()
        hub.create(REPO, model())
        history = History(hub)
        for day in range(0, 300, 7):
            history.on(day, lambda hub, day=day: hub.commit(REPO, {"n": b"%d" % day}))
        history.play(until=364)
        histories.append(history.seen)
    assert histories[0] == histories[1]
    assert len(histories[0]) == 365
