"""Reading ahead: what comes next is there in time, in bounds, and nothing of it is left behind."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archiver.smoke.loading.read_ahead import Piece, ReadAhead

A, B, C, D = (Piece(key, size=10) for key in "abcd")


class Store:
    """Gives each piece its name, and notes who read it."""

    def __init__(self) -> None:
        self.read_by: dict[str, list[str]] = {}
        self.broken: set[Piece] = set()

    def __call__(self, piece: Piece) -> str:
        kind = "ahead" if threading.current_thread().name.startswith("ahead") else "itself"
        self.read_by.setdefault(piece.key, []).append(kind)
        if piece in self.broken:
            raise ValueError(piece.key)
        return f"<{piece.key}>"


def one_pass(ahead, *pieces):
    with ahead.one_pass():
        return "".join(ahead.get(one) for one in pieces)


def threads():
    return [one for one in threading.enumerate() if one.name.startswith("ahead")]


@pytest.fixture
def store():
    return Store()


@pytest.mark.parametrize("count", [1, 2, 5])
def test_what_came_next_before_is_read_ahead(store, count):
    ahead = ReadAhead(store, room=100, threads=count)
    for _ in range(2):
        with ahead.one_pass():
            for one in (A, B, C, D):
                assert ahead.get(one) == f"<{one.key}>"
                assert len(ahead._under_way) <= count
    assert store.read_by.pop("a") == ["itself", "itself"]
    assert store.read_by == {key: ["itself", "ahead"] for key in "bcd"}
    assert not threads()


def test_without_room_no_thread_is_begun(store):
    ahead = ReadAhead(store, room=0, threads=2)
    for _ in range(2):
        with ahead.one_pass():
            assert ahead.get(A) + ahead.get(B) == "<a><b>"
            assert not threads()
    assert store.read_by["b"] == ["itself", "itself"]


def test_what_is_larger_than_the_room_is_read_when_it_is_needed(store):
    large = Piece("large", size=101)
    ahead = ReadAhead(store, room=100, threads=2)
    for _ in range(2):
        assert one_pass(ahead, A, large, B) == "<a><large><b>"
    assert store.read_by["large"] == ["itself", "itself"]
    assert store.read_by["b"] == ["itself", "ahead"]


def test_what_stays_in_memory_is_not_read_ahead(store):
    ahead = ReadAhead(store, room=100, threads=1)
    one_pass(ahead, A, B, C, D)
    ahead.keep(B)
    ahead.keep(C)
    for _ in range(2):
        assert one_pass(ahead, A, D) == "<a><d>"
    assert (store.read_by["b"], store.read_by["c"]) == (["itself"], ["itself"])
    assert store.read_by["d"] == ["itself", "ahead", "ahead"]


def test_after_another_order_nothing_is_foretold_there(store):
    ahead = ReadAhead(store, room=100, threads=1)
    for order in ((A, B, C), (A, C), (A, B), (A, B)):
        assert one_pass(ahead, *order) == "".join(f"<{one.key}>" for one in order)
    assert store.read_by["b"].count("ahead") <= 1  # in vain, unless it had not yet begun


def test_what_was_read_in_vain_makes_room(store):
    ahead = ReadAhead(store, room=10, threads=1)
    one_pass(ahead, A, B, C, D)
    with ahead.one_pass():
        ahead.get(A)
        ahead._under_way[B].result(10)
        assert ahead.get(C) + ahead.get(D) == "<c><d>"
    assert store.read_by["b"] == store.read_by["d"] == ["itself", "ahead"]


def test_what_cannot_be_read_is_raised_where_it_is_asked_for(store):
    ahead = ReadAhead(store, room=100, threads=2)
    one_pass(ahead, A, B, C)
    store.broken = {B}
    with ahead.one_pass():
        assert ahead.get(A) == "<a>"
        with pytest.raises(ValueError, match="b"):
            ahead.get(B)
    assert store.read_by["b"] == ["itself", "ahead"]
    one_pass(ahead, A)  # what nobody asks for is nobody's error
    assert not threads()


def test_an_interrupted_pass_leaves_no_thread_and_begins_no_read():
    going, goes_on = threading.Event(), threading.Event()
    read: list[str] = []

    def slow(piece):
        read.append(piece.key)
        if threading.current_thread().name.startswith("ahead"):
            going.set()
            goes_on.wait(600)
        return piece.key

    ahead = ReadAhead(slow, room=100, threads=1)
    one_pass(ahead, A, B, C, D)
    read.clear()

    def interrupted():
        with ahead.one_pass():
            ahead.get(A)
            assert going.wait(600)
            threading.Timer(0.05, goes_on.set).start()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert sorted(read) == ["a", "b"]
    assert not threads()
    assert one_pass(ahead, A, B) == "ab"


def test_a_pass_within_a_pass_is_part_of_it(store):
    ahead = ReadAhead(store, room=100, threads=1)
    for _ in range(2):
        with ahead.one_pass():
            ahead.get(A)
            assert one_pass(ahead, B, C) == "<b><c>"
            assert ahead.get(D) == "<d>"
    assert store.read_by["d"] == ["itself", "ahead"]


ORDERS = st.lists(st.lists(st.integers(0, 6), max_size=12), min_size=1, max_size=6)


@settings(max_examples=60, deadline=None)
@given(
    orders=ORDERS, kept=st.sets(st.integers(0, 6)), room=st.integers(0, 40), count=st.integers(1, 3)
)
def test_whatever_the_order_each_gets_what_it_asked_for_within_the_room(orders, kept, room, count):
    pieces = [Piece(str(number), size=5 + number) for number in range(7)]
    ahead = ReadAhead(lambda piece: piece.key, room, count)
    for order in orders:
        with ahead.one_pass():
            for number in order:
                assert ahead.get(pieces[number]) == str(number)
                assert sum(one.size for one in ahead._under_way) <= room
        assert not ahead._under_way
        for number in kept:
            ahead.keep(pieces[number])
    assert not threads()
