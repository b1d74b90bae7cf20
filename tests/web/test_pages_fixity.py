"""The calendar of proofs, and what is damaged: as the journal says it, day by day and place by place."""

from __future__ import annotations

import pytest
from healthkit import Kept, words

from archiver.archive.events import (
    Audited,
    Copied,
    DamageMet,
    MetObject,
    NightFact,
    NightRun,
    Repaired,
)
from archiver.archive.layout import pack_name
from archiver.web.pages import fixity


@pytest.fixture
def kept(kept):
    kept.at(100)
    kept.hold("org/two", 2, 45_000)
    kept.at(0)
    return kept


def days(kept, place=0):
    return {day.day: day for day in kept.standing.years[place].days}


def test_a_day_has_the_packs_that_it_proved_at_the_deepest_level(kept):
    (one, _), (two, size) = kept.packs
    kept.record(Audited("stored", packs=(one, two), place=kept.here), 30)
    kept.record(Audited("files", packs=(two,), place=kept.here), 30)
    kept.record(Audited("structure", packs=(two,), place=kept.here), 29.9)  # a look proves less
    kept.record(Audited("structure", packs=(one,), place=kept.here), 2)
    whole = days(kept)
    assert whole["2027-04-03"].packs == {"stored": 1, "files": 1}
    assert whole["2027-04-03"].bytes == sum(each for _, each in kept.packs) > size
    assert whole["2027-05-01"].packs == {"structure": 1}
    drawing = fixity.calendar(kept.standing.years[0], kept.standing.time)
    looks = {cell.look.text.partition(":")[0]: cell.look for cell in drawing.cells}
    assert (looks["2027-04-03"].shade, looks["2027-04-03"].mark) == (4, "deep")
    assert (looks["2027-05-01"].shade, looks["2027-05-01"].mark) == (2, "")
    assert "1 at level files, 1 at level stored" in looks["2027-04-03"].text
    assert len(drawing.cells) + len(drawing.blank) == 52 * 7 + 1  # NOW is a Monday


def test_what_is_older_than_the_calendar_or_still_to_come_is_not_in_it(kept):
    packs = tuple(pack for pack, _ in kept.packs)
    for before in (400, 366, -1):
        kept.record(Audited("content", packs=packs, place=kept.here), before)
    assert days(kept) == {}
    page = kept.page("/fixity")
    assert "No audit in the last year" in words(page)
    assert "archiver audit -C" in words(page)


def test_each_place_has_its_own_calendar_under_all_of_its_names(kept):
    (one, _), (two, _) = kept.packs
    here = kept.here
    snapshots = tuple(snapshot.id for snapshot in kept.archive.snapshots())
    identity = "11111111-2222-4333-8444-555555555555"
    told = {"from_": "here", "from_id": here, "to_id": identity, "snapshots": snapshots}
    kept.record(Copied(to="old name", packs=(one,), **told), 40)
    kept.record(Audited("content", packs=(two,), place="old name"), 39)
    kept.record(Copied(to="usb", packs=(one, two), **told), 20)
    kept.record(Audited("files", packs=(two,), place=identity), 20)
    assert [year.place.state.standing for year in kept.standing.years] == ["here", "counts"]
    assert sorted(days(kept)) == ["2027-03-24", "2027-04-13"]
    usb = days(kept, 1)
    assert sorted(usb) == ["2027-03-24", "2027-03-25", "2027-04-13"]
    assert usb["2027-04-13"].packs == {"stored": 1, "files": 1}
    page = kept.page("/fixity")
    assert "usb" in words(page)
    assert [each["aria-label"] for each in page.all("svg") if each.get("role") == "img"] == [
        "Something proven on 2 days of the last 53 weeks, last on 2027-04-13; no damage found.",
        "Something proven on 3 days of the last 53 weeks, last on 2027-04-13; no damage found.",
    ]
    assert "2027-04 1 files" in words(page)  # the table says the same


def test_damage_is_told_with_what_it_hits_since_when_and_what_to_run(kept):
    (one, _), (two, _) = kept.packs
    rings = NightFact("damaged", pack_name(two), 20, "audit")
    kept.record(Audited("content", packs=(one,), damaged=2, damaged_packs=(two,)), 5)
    kept.record(NightRun("p", kept.here, 20, (("audit", "failed"),), (rings,)), 5)
    kept.record(NightRun("p", kept.here, 20, (("audit", "failed"),), (rings,)), 4)
    (found,) = kept.standing.damage
    assert (found.path, found.missing, found.hit) == (pack_name(two), False, 1)
    assert (found.since[:10], found.nights) == ("2027-04-28", 2)
    assert [title.partition("@")[0] for title in found.titles] == ["org/two"]
    assert [command[1] for command in found.commands] == ["repair", "audit"]
    assert days(kept)["2027-04-28"].damaged == 2
    page = kept.page("/fixity")
    assert "1 file or place is known to be damaged" in words(page)
    assert "2 nights rang" in words(page)
    assert words(page).index("Damage that rings") < words(page).index("Calendar of proofs")
    assert words(page).count("archiver repair -C") == 1  # what falls short does not say it again
    assert any(each.get("class") == "dayx" for each in page.all("rect"))


def test_damage_that_is_mended_rings_no_more_and_is_new_if_it_comes_again(kept):
    (_, _), (two, _) = kept.packs
    found = Audited("content", damaged=1, damaged_packs=(two,))
    kept.record(found, 9)
    kept.record(Repaired((pack_name(two),), "usb", kept.here), 8)
    assert kept.standing.damage == ()
    said = words(kept.page("/fixity"))
    assert "What the last audit found, 9 days ago, is mended. An audit has yet to prove it." in said
    assert "No damage is known" not in said
    kept.record(Audited("content", packs=(two,)), 7)
    assert "No damage is known. The last audit was 7 days ago" in words(kept.page("/fixity"))
    kept.record(found, 2)
    (again,) = kept.standing.damage
    assert again.since[:10] == "2027-05-01"


def test_what_a_reader_met_damaged_is_damage_too(kept):
    (_, _), (two, _) = kept.packs
    kept.record(DamageMet((MetObject("0" * 64, (two,), "parity"),), kept.here), 3)
    (found,) = kept.standing.damage
    assert (found.path, found.since[:10]) == (pack_name(two), "2027-04-30")
    assert days(kept)["2027-04-30"].damaged == 1


def test_a_pack_that_is_gone_is_missing_here(kept):
    kept.run("audit")
    next(kept.root.glob("packs/*/*.pack")).unlink()
    (found,) = kept.standing.damage
    assert (found.missing, found.since, found.hit) == (True, "", 1)
    assert "No audit has told of it yet" in words(kept.page("/fixity"))


def test_an_empty_archive_has_a_page(tmp_path, monkeypatch):
    empty = Kept(tmp_path, monkeypatch)
    page = empty.page("/fixity")
    assert "Nothing is held yet, so nothing can be damaged." in words(page)
    assert "Once something is held, an audit proves it." in words(page)


def test_only_so_many_damaged_files_are_listed(kept, monkeypatch):
    packs = tuple(pack for pack, _ in kept.packs)
    kept.record(Audited("content", damaged=2, damaged_packs=packs), 1)
    monkeypatch.setattr(fixity, "DAMAGED_MAX", 1)
    assert len(kept.standing.damage) == 1
