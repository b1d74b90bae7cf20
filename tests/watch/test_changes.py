"""What a look is compared with: each change is told once, whatever upstream says and in whichever order."""

from __future__ import annotations

import string

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver.archive.events import (
    Sighted,
    UnseenRepository,
    UpstreamChanged,
    UpstreamUnseen,
    new_event,
)
from archiver.archive.journal import EVENT_MAX
from archiver.archive.records import canonical
from archiver.archive.watch import (
    BRANCHES_MAX,
    NAME_MAX,
    TAGS_MAX,
    HeldFacts,
    RepositoryState,
    UpstreamFile,
    UpstreamHistory,
    changes,
    commit_to_ask,
    file_changes,
    is_noted,
    verdict,
    weights_left_out,
)

REPO = "org/model"
A, B, C = "aa" * 20, "bb" * 20, "cc" * 20

commits = st.sampled_from([A, B, C])
names = st.text(string.ascii_lowercase + "/é", min_size=1, max_size=6)
texts = st.sampled_from(["", "mit", "other", "\ud7ff"])
states = st.builds(
    RepositoryState,
    asked=st.just(REPO),
    repository=st.sampled_from([REPO, "ORG/model", "org/new"]),
    endpoint=st.just("http://hub"),
    time=st.just("t"),
    head=commits,
    branches=st.none() | st.dictionaries(names, commits, max_size=4),
    tags=st.none() | st.dictionaries(names, commits, max_size=4),
    complete=st.booleans(),
    id=st.sampled_from(["", "1", "2"]),
    licence=texts,
    gated=st.sampled_from(["", "auto", "manual"]),
    private=st.booleans(),
    disabled=st.booleans(),
    card=st.none() | texts,
)


class Journal:
    """Events, one after the other, a day apart."""

    def __init__(self) -> None:
        self.events: list = []
        self.day = 0

    @property
    def now(self) -> str:
        return f"2027-{self.day // 28 % 12 + 1:02}-{self.day % 28 + 1:02}T02:00:00Z"

    def known(self):
        return UpstreamHistory(self.events).of(REPO)

    def add(self, detail, revision=""):
        event = new_event(detail, REPO, revision, time=self.now)
        self.events.append((f"{len(self.events):064x}", event))

    def look(self, state, held=None):
        known = self.known()
        new = changes(known, state, self.now, held)
        if new or not known.looked:
            self.add(UpstreamChanged("http://hub", new, not known.looked))
        return new


@given(st.lists(states, min_size=1, max_size=6))
def test_a_second_look_at_the_same_state_finds_nothing(seen):
    journal = Journal()
    for state in seen:
        journal.look(state)
        assert journal.look(state) == ()
        journal.day += 40  # longer than what goes to and fro is passed over for
        assert journal.look(state) == ()
        known = journal.known()
        for what, value in state.attributes.items():
            assert known.attributes.get(what, "") == value
        if state.complete:
            assert state.refs.items() <= known.refs.items()
        if state.lists_refs:
            assert known.refs == state.refs


@given(states, states)
def test_what_is_told_is_the_difference(first, second):
    journal = Journal()
    journal.look(first)
    journal.day += 1
    for change in journal.look(second):
        assert change.before != change.after
        if change.what in {"branch", "tag"}:
            assert first.refs.get((change.what, change.name), "") == change.before
            assert second.refs.get((change.what, change.name), "") == change.after


def state(**fields) -> RepositoryState:
    given = {"asked": REPO, "repository": REPO, "endpoint": "e", "time": "t", "head": A}
    return RepositoryState(**given | {"branches": {"main": A}, "tags": {}} | fields)


def test_the_largest_event_fits_the_journal():
    name = "x" * (NAME_MAX - 5)
    large = {"branches": {f"{name}{n:05}": A for n in range(BRANCHES_MAX)}}
    large |= {"tags": {f"{name}{n:05}": A for n in range(TAGS_MAX)}}
    journal = Journal()
    journal.look(state(**large))
    journal.day += 1
    other = {kind: {f"y{name[1:]}{ref[-5:]}": B for ref in refs} for kind, refs in large.items()}
    new = journal.look(state(**other))
    assert len(new) == 2 * (BRANCHES_MAX + TAGS_MAX)
    assert len(canonical(journal.events[-1][1])) < EVENT_MAX


def test_a_sighting_by_a_mirror_is_what_it_was_before_the_first_look():
    journal = Journal()
    journal.add(Sighted("main", "u"), A)
    journal.add(Sighted("v1", "u"), A)
    journal.add(Sighted("dev", "directory"), C)
    new = journal.look(state(branches={"main": B, "dev": B}, tags={"v1": A}), HeldFacts("mit", "1"))
    assert [(change.name, change.before) for change in new if change.what != "licence"] == [
        ("dev", ""),
        ("main", A),
        ("v1", ""),
    ]
    assert [(change.what, change.before, change.after) for change in new[:1]] == [
        ("licence", "mit", "")
    ]


def test_what_may_lie_beyond_the_end_of_a_look_is_no_news():
    journal = Journal()
    journal.look(state(tags={"a": A}))
    journal.day += 1
    assert journal.look(state(tags={"b": A}, complete=False)) == ()
    assert [change.what for change in journal.look(state(tags={"a": B}, complete=False))] == ["tag"]


UNSEEN = UnseenRepository(REPO, 401)


def nights(*days: int, control="whoami-v2") -> Journal:
    journal = Journal()
    for day in days:
        journal.day = day
        journal.add(UpstreamUnseen("u", control, (UNSEEN,)))
    return journal


@pytest.mark.parametrize(
    ("days", "today", "gone"),
    [
        ((), 1, False),
        ((1,), 2, False),
        ((1, 2), 3, True),
        ((1, 1, 1), 1, False),
        ((1, 9), 30, True),
    ],
)
def test_three_different_days_make_it_gone(days, today, gone):
    journal = nights(*days)
    journal.day = today
    change = verdict(journal.known(), UNSEEN, "whoami-v2", journal.now)
    assert (change is not None) == gone
    assert verdict(journal.known(), UNSEEN, "", journal.now) is None, "nothing was answered"


def test_what_was_seen_between_begins_the_count_again():
    for seen in (UpstreamUnseen("u", "", (), (REPO,)), Sighted("main", "u")):
        journal = nights(1, 2)
        journal.add(seen, A)
        journal.day = 3
        assert verdict(journal.known(), UNSEEN, "whoami-v2", journal.now) is None
        assert not is_noted(journal.known(), journal.now)


def test_every_old_commit_has_its_day():
    histories = [("a", {A, B}), ("b", {C}), ("c", set())]
    asked = {commit_to_ask(histories, f"2027-01-{day:02}T02:00:00Z") for day in (1, 2, 3)}
    assert asked == {("a", A), ("a", B), ("b", C)}
    assert commit_to_ask([], "2027-01-01T00:00:00Z") is None
    assert commit_to_ask(histories, "no time") is not None


def test_weights_that_patterns_leave_out():
    files = tuple(map(UpstreamFile, ("a.safetensors", "b.gguf", "c.json", "d/e.bin")))
    known = Journal().known()
    left = weights_left_out(known, state(files=files), ("*.json", "*.gguf"), ())
    assert (left.count, left.paths) == (2, ("a.safetensors", "d/e.bin"))
    left = weights_left_out(known, state(files=files), (), ("*.gguf",))
    assert left.paths == ("b.gguf",)
    assert weights_left_out(known, state(files=files), ("*",), ()) is None
    assert weights_left_out(known, state(files=None), ("*.json",), ()) is None
    journal = Journal()
    journal.add(UpstreamChanged("u", (left,)))
    assert weights_left_out(journal.known(), state(files=files), (), ("*.gguf",)) is None
    more = (*files, UpstreamFile("f.gguf"))
    assert weights_left_out(journal.known(), state(files=more), (), ("*.gguf",)).count == 2


def test_files_are_compared_by_whichever_digest_both_have():
    old = [UpstreamFile("a", 1, "x", ""), UpstreamFile("b", 1, "", "y"), UpstreamFile("c", 1, "z")]
    new = [UpstreamFile("a", 1, "x", "n"), UpstreamFile("b", 1, "m", "y"), UpstreamFile("c", -1)]
    found = file_changes(old, new)
    assert (found.added, found.removed, found.changed, found.bytes) == (0, 0, 1, 0)


def test_what_another_version_says_is_kept_and_means_nothing():
    journal = Journal()
    raw = {
        "upstream": "u",
        "changes": [{"what": "mood", "after": "sad"}, {"what": "licence", "after": "x"}],
    }
    event = new_event(UpstreamChanged("u", ()), REPO, time=journal.now)
    event = msgspec.structs.replace(event, raw=msgspec.Raw(msgspec.json.encode(raw)))
    journal.events.append(("f" * 64, event))
    assert journal.known().attributes["licence"] == "x"
    assert [change.what for change in journal.look(state(licence="x"))] == ["branch"]
