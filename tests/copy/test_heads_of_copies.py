"""A kept head is judged where it was kept: elsewhere it is skipped, and neither damage nor a success."""

from __future__ import annotations

import re

import pytest
from copykit import place_id

from archiver.archive.archive import Archive


@pytest.fixture
def keep(run, tmp_path):
    """Keep the head of an archive in a file, as text or as JSON."""

    def call(root, *words):
        path = tmp_path / f"heads{len(list(tmp_path.glob('heads*')))}"
        path.write_text(run("head", "-C", root, *words).out)
        return path

    return call


@pytest.fixture
def judged(run):
    """How an audit and ``head --check`` judge a file of heads: both alike."""

    def call(root, path):
        check = run("head", "-q", "--json", "-C", root, "--check", path)
        audit = run("audit", "-q", "--json", "-C", root, "--head", path)
        codes = {one["code"] for one in audit.kinds("finding") if not one["remark"]}
        assert (check.code, check.finding_codes) == (audit.code, codes)
        return check.code, codes

    return call


def test_a_line_says_what_it_covers(source, target, copy, keep):
    copy("--snapshot", "org/one")
    for root, scope in ((source.root, "archive"), (target, "snapshots")):
        line = keep(root).read_text()
        archive = Archive.open(root).info.archive
        assert f"archive={archive} place={place_id(root)} scope={scope}" in line
    copy()
    assert "scope=archive" in keep(target).read_text()
    copy("--snapshot", "org/one")
    assert "scope=archive" in keep(target).read_text()
    copy("--snapshot", "org/one", of=source._replace(root=target), to=source.root)
    assert "scope=archive" in keep(source.root).read_text()


@pytest.mark.parametrize("words", [(), ("--json",)])
def test_a_head_of_another_place_is_skipped(
    source, target, foreign, copy, run, keep, judged, words
):
    head = keep(source.root, *words)
    assert judged(source.root, head) == (0, set())
    part, merged = target.with_name("part"), foreign.copied(target.with_name("merged")).root
    copy("--snapshot", "org/one", to=part)
    for chosen in (("--snapshot", "org/one"), ()):
        assert copy(*chosen, to=merged).code == 0
        assert judged(merged, head) == (4, {"head-elsewhere"})
    assert judged(part, head) == (4, {"head-elsewhere"})
    copy()
    assert judged(target, head) == (4, {"head-elsewhere"}), "also where the event is there"
    result = run("head", "-C", target, "--check", head)
    assert "is in this journal too" in result.out + result.err
    result = run("head", "-C", part, "--check", head)
    assert "which need not have it" in result.out + result.err
    assert "NOT CHECKED" in result.out
    assert judged(source.root, head) == (0, set())
    # What was skipped is no damage that an audit found.
    assert "damage" not in {
        one["what"] for one in run("status", "-q", "--json", "-C", target).kinds("shortfall")
    }


def test_a_head_of_the_scope_before_is_skipped(source, target, copy, keep, judged):
    copy("--snapshot", "org/one")
    head = keep(target)
    assert judged(target, head) == (0, set())
    copy()
    assert judged(target, head) == (4, {"head-elsewhere"})
    assert judged(target, keep(target)) == (0, set())


def test_an_archive_that_was_set_back_is_still_damage(source, keep, judged, run):
    before = source.copied(source.root.with_name("before")).root
    assert run("audit", "-q", "-C", source.root).code == 0
    head, ids = keep(source.root), source.root.with_name("ids")
    assert judged(before, head) == (20, {"head-missing"})
    # As older versions wrote it: ids alone.
    ids.write_text("".join(re.findall(r"^[0-9a-f]{64}", head.read_text(), re.MULTILINE)) + "\n")
    assert judged(source.root, ids) == (0, set())
    assert judged(before, ids) == (20, {"head-missing"})


def test_an_audit_records_the_heads_that_it_judged(source, target, copy, keep, judged, run):
    head = keep(source.root)
    copy()
    judged(target, head)
    judged(source.root, head)
    records = {}
    for root in (source.root, target):
        audited = [event for _, event in Archive.open(root).events() if event.event == "audited"]
        records[root] = audited[-1].fields.get("heads", [])
    assert records[target] == []
    assert records[source.root] == [head.read_text()[:64]]
