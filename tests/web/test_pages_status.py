"""The page of the verdict: it says what the command says, and what to run."""

from __future__ import annotations

import threading
from types import SimpleNamespace

from healthkit import Kept, words

from archiver.archive.events import Audited, Copied, Gone
from archiver.web.pages.standing import KEPT_SECONDS, StandingCache


def test_what_falls_short_comes_with_its_command(kept, run):
    page = kept.page("/status")
    said = run("-C", kept.root, "status", "--json").only("shortfall")
    assert said["what"] == "audit"
    assert page.title.startswith("1 thing falls short")
    assert said["message"] in words(page)
    assert "archiver audit -C" in words(page)
    kept.run("audit")
    page = kept.page("/status")
    assert page.title.startswith("Nothing falls short")
    assert "What falls short" not in words(page)
    assert "There is no copy." in words(page)


def test_a_place_that_does_not_count_says_why(kept):
    ids = tuple(snapshot.id for snapshot in kept.archive.snapshots())
    (pack, _), *_ = kept.packs
    told = {"from_": "here", "from_id": kept.here, "snapshots": ids}
    kept.record(Copied(to="usb", packs=(pack,), **told), 95)
    kept.record(Copied(to="nas", packs=(pack,), **told), 9)
    kept.record(Gone("main", "huggingface"), 3, "org/one")
    page = kept.page("/status")
    assert "usb does not count its packs were proven there too long ago" in words(page)
    assert "nas counts on a disk that is not known 1 of 1" in words(page)
    assert "Gone upstream, and held here" in words(page)
    assert {"href": "/repositories/org/one"} in page.all("a")


def test_an_empty_archive_has_a_page(tmp_path, monkeypatch):
    page = Kept(tmp_path, monkeypatch).page("/status")
    assert "The archive is empty" in words(page)
    assert "archiver mirror -C" in words(page)
    assert "there is nothing to prove" in words(page)


def test_the_record_is_made_anew_when_the_journal_grows_or_a_minute_has_passed(kept):
    made, now = [], [0.0]

    def make(archive, _before):
        made.append(archive)
        return SimpleNamespace(number=len(made))

    cache = StandingCache(kept.archive, make, lambda: now[0])
    assert [cache.current().number for _ in range(3)] == [1, 1, 1]
    kept.record(Audited("content"), 1)
    assert [cache.current().number for _ in range(2)] == [2, 2]
    now[0] = KEPT_SECONDS
    assert [cache.current().number for _ in range(2)] == [3, 3]


def test_who_asks_while_it_is_made_waits_and_an_error_is_not_kept(kept):
    begun, go_on, made = threading.Event(), threading.Event(), []

    def make(*_):
        made.append(1)
        begun.set()
        assert go_on.wait(60)
        if len(made) == 1:
            raise ValueError
        return SimpleNamespace()

    cache, ended = StandingCache(kept.archive, make), []

    def ask():
        try:
            ended.append(cache.current())
        except ValueError:
            ended.append(None)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    assert begun.wait(60)
    go_on.set()
    for thread in threads:
        thread.join()
    assert len(made) == 2
    assert ended.count(None) == 1
