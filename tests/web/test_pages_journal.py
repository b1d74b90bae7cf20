"""The journal's page: every event in a sentence, found by its words, turned over without losing any."""

from __future__ import annotations

import re

from healthkit import Kept
from kit.journal import lengthen, raw_event
from pageskit import Served

from archiver.archive.events import Acknowledged, Audited, Gone, NightRun, new_event
from archiver.web.pages.journal import KINDS_MAX, PAGE

HOSTILE = (
    "<script>document.title='ran'</script>",
    "</title></style><style>@import url(http://127.0.0.1:9/css)</style>",
    '"><svg onload="document.title=\'ran\'">',
    "'{{ 7 * 7 }}{% raw %}",
    "javascript:alert(1)",
    "\x1b]0;ran\x07\u202egnp",
)


def listed(page) -> list[str]:
    return re.findall(r'<td class="said">(.*?)</td>', page.source)


def test_the_newest_comes_first_in_the_words_of_the_command(kept, run):
    kept.record(Gone("main", "huggingface"), 3, "org/one")
    kept.record(Audited("content", packs=("1" * 64,)), 2)
    page = kept.page("/journal")
    said = [line.split("  ")[-1] for line in run("-C", kept.root, "log").out.splitlines()]
    shown = [re.sub("<[^>]+>", "", words) for words in listed(page)]
    assert len(shown) == len(said) >= 3
    assert shown[0] == "audited: 1 pack proven at level content."
    assert shown[1] == "org/one: huggingface no longer has main of it."
    assert [line.strip() for line in said[::-1]][:2] == shown[:2]
    assert {"href": "/repositories/org/one"} in page.all("a")


def test_filters_go_together_and_are_in_the_form(kept):
    kept.record(Gone("main", "huggingface"), 3, "org/one")
    kept.record(Gone("v1", "huggingface"), 3, "org/two")
    kept.record(Audited("content"), 2)
    served = Served(kept.root)
    assert len(listed(served.page("/journal", kind="gone"))) == 2
    page = served.page("/journal", kind="gone", repository="ORG/T", q="NO LONGER HAS V1")
    assert [re.sub("<[^>]+>", "", words) for words in listed(page)] == [
        "org/two: huggingface no longer has v1 of it."
    ]
    assert "org/two" not in [each.get("href") for each in page.all("a")]  # nothing of it is held
    assert [each["value"] for each in page.all("option") if "selected" in each] == ["gone"]
    assert [each["value"] for each in page.all("input")] == ["NO LONGER HAS V1", "ORG/T"]
    none = served.page("/journal", kind="policy", q="x")
    assert "No event fits" in none.text
    assert served.page("/journal", q="y" * 5000).text.count("y" * 201) == 0


def test_every_event_is_on_one_page_and_what_comes_meanwhile_moves_nothing(kept):
    for number in range(2 * PAGE + 7):
        kept.record(Audited("content", objects=number), 50 - number / 100)
    total = len(list(kept.archive.events()))
    served, path, seen = Served(kept.root), "/journal", []
    for _ in range(total // PAGE + 1):
        page = served.page(path)
        seen += re.findall(r'<time datetime="([^"]+)">', page.source)
        kept.record(Gone("main", "huggingface"), 0, "org/one")  # on top, while one reads
        links = {each.get("rel"): each["href"] for each in page.all("a")}
        path = links.get("next", path)
    assert "next" not in links
    assert len(seen) == total
    assert seen == sorted(seen, reverse=True)
    back = served.page(links["prev"])
    assert len(listed(back)) == PAGE


def test_an_id_that_nobody_knows_begins_at_the_beginning(kept):
    served = Served(kept.root)
    for after in ("0" * 64, "'", "x" * 9999):
        assert listed(served.page("/journal", after=after)) == listed(served.page("/journal"))


def test_an_empty_journal_has_a_page(tmp_path, monkeypatch):
    empty = Kept(tmp_path, monkeypatch)
    for event in empty.root.rglob("journal/*/*/*"):
        event.unlink()
    assert "No event yet" in empty.page("/journal").text


def test_however_many_kinds_somebody_makes_up_so_many_are_to_choose_from(kept):
    archive = kept.archive
    for number in range(KINDS_MAX + 20):
        archive.record(raw_event(f"kind-{number}", "2027-04-01T00:00:00Z"))
    page = kept.page("/journal")
    assert len(page.all("option")) == KINDS_MAX + 1
    assert len(listed(page)) == PAGE


def test_nothing_that_is_held_gets_out_of_its_text(kept):
    archive = kept.archive
    for number, text in enumerate(HOSTILE):
        time = f"2027-04-{number + 1:02}T00:00:00Z"
        archive.record(new_event(Gone(text, text), text, text, time=time))
        archive.record(new_event(Acknowledged("gone", text, text, text), text, text, time=time))
        archive.record(new_event(NightRun(text, kept.here, 3, ((text, text),)), time=time))
        archive.record(raw_event("audited", time, text, text, text, {"level": text, "x": text}))
        archive.record(raw_event(text, time, text, text, text, {text: text}))
        archive.record(raw_event("planned", time, text, "", "", {"plan": text, "place": kept.here,
            "source": text, "entries": [{"repository": text, "revision": text}]}))  # fmt: skip
    served = Served(kept.root)
    for path in ("/journal", "/plans", "/status", "/fixity"):
        page = served.page(path)  # which checks what there is of elements and addresses
        assert not [each for each in page.all("script") if "src" not in each]
        assert "\x1b" not in page.source
        assert "\u202e" not in page.source
    assert "{{ 7 * 7 }}" in served.page("/journal").text


def test_a_journal_of_many_years_is_read_once(kept, monkeypatch):
    """Twenty thousand take seconds to read; here are as many as show that a second page reads none."""
    kept.record(Audited("content", packs=tuple(pack for pack, _ in kept.packs)), 90)
    kept.record(NightRun("nightly", kept.here, 0, (("sync", "idle"),)), 90)
    lengthen(kept.root, 400)
    served, reads = Served(kept.root), []
    first = served.page("/journal")
    assert "400 events" in first.text
    from archiver.archive.journal import Journal

    known = Journal.known
    monkeypatch.setattr(
        Journal, "known", lambda self, name: reads.append(name) or known(self, name)
    )
    for path in ("/journal", "/status", "/fixity", "/plans"):
        served.page(path)
    assert reads == []
