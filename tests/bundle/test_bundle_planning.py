"""Which file goes on which volume: nothing is lost, nothing twice, no volume too full."""

from __future__ import annotations

from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver.archive.bundles.planning import CLUSTER, Item, plan_volumes, room_for
from archiver.archive.bundles.records import piece_of, portable_name, stored_name
from archiver.errors import UsageError

MIB = 1 << 20
sizes = st.integers(1, 40 * MIB)
groups = st.lists(st.lists(sizes, min_size=1, max_size=3), max_size=30)


@given(groups, st.integers(2 * MIB, 24 * MIB))
def test_every_byte_has_one_place(sizes_of_groups, capacity):
    names = iter(range(10_000))
    made = [[Item(f"{next(names)}.pack", size) for size in group] for group in sizes_of_groups]
    placed = plan_volumes(made, capacity, CLUSTER)
    used: dict[int, int] = defaultdict(int)
    stretches: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for each in placed:
        used[each.volume] += room_for(each.size, CLUSTER)
        stretches[stored_name(each.name)].append((each.offset, each.size))
        assert each.size > 0
    assert all(room <= capacity for room in used.values())
    assert used.keys() == set(range(1, len(used) + 1))
    for group in made:
        for item in group:
            at = 0
            for offset, size in sorted(stretches.pop(item.name)):
                assert offset == at
                at += size
            assert at == item.size
    assert not stretches
    assert plan_volumes(made, capacity, CLUSTER) == placed


@given(groups, st.integers(2 * MIB, 24 * MIB))
def test_what_fits_stays_whole_and_together(sizes_of_groups, capacity):
    names = iter(range(10_000))
    made = [[Item(f"{next(names)}.pack", size) for size in group] for group in sizes_of_groups]
    volumes: dict[str, set[int]] = defaultdict(set)
    cut = set()
    for each in plan_volumes(made, capacity, CLUSTER):
        volumes[stored_name(each.name)].add(each.volume)
        piece = piece_of(each.name)
        if piece:
            cut.add(piece.file)
            assert 1 <= piece.number <= piece.pieces
    for group in made:
        if sum(room_for(item.size, CLUSTER) for item in group) <= capacity:
            assert len(set().union(*(volumes[item.name] for item in group))) == 1
        for item in group:
            assert (item.name in cut) == (room_for(item.size, CLUSTER) > capacity)


def test_there_is_an_end_to_volumes():
    with pytest.raises(UsageError, match="volumes"):
        plan_volumes([[Item("x.pack", 1 << 50)]], 2 * MIB, CLUSTER)


@pytest.mark.parametrize(
    ("name", "portable"),
    [
        ("snapshots/con/aux/x.json", "snapshots/con_/aux_/x.json"),
        ("manifests/org/name./x.json.zst", "manifests/org/name._/x.json.zst"),
        ("manifests/com1.x/console/x.json.zst", "manifests/com1.x_/console/x.json.zst"),
        ("manifests/org/com/x.json.zst", "manifests/org/com/x.json.zst"),
    ],
)
def test_no_folder_is_a_device(name, portable):
    assert portable_name(name) == portable
