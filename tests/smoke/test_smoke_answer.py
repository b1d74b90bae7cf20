"""Which choices of experts are taken for ties, and which of them are settled as before."""

from __future__ import annotations

import pytest

from archiver.smoke.golden.record import TIES_MAX
from archiver.smoke.passes.answer import Ties

SCORES = [[1.0, 2.0, 3.0, 3.0001], [1.0, 2.0, 3.0, 4.0], [3.0, 3.0001, 1.0, 2.0]]


def _top(scores, kept=1, before=()):
    import torch

    with Ties(before) as ties:
        values, ids = torch.topk(torch.tensor(scores), kept, dim=-1)
    return ties, values.tolist(), ids.tolist()


def test_a_lead_of_a_hair_is_noted_and_a_clear_one_is_not():
    ties, _, ids = _top(SCORES)
    assert ids == [[3], [3], [1]]
    assert ties.found == ((0, 0, 3), (0, 2, 1))
    assert ties.settled == 0


def test_a_tie_is_settled_as_before_with_its_own_scores():
    ties, values, ids = _top(SCORES, before=[(0, 0, 2), (0, 2, 1)])
    assert ids == [[2], [3], [1]]
    assert values[0] == [3.0]
    assert ties.settled == 1


@pytest.mark.parametrize(
    "tie",
    [
        (0, 1, 2),  # it led clearly
        (0, 0, 1),  # that one was far behind
        (1, 0, 2),  # there was no second choice
        (0, 9, 2),  # nor such a row
        (0, 0, 9),  # nor such an expert
        (0, 0, 2, 3),  # one is taken, not two
    ],
)
def test_what_rounding_does_not_explain_is_never_settled(tie):
    ties, _, ids = _top(SCORES, before=[tie])
    assert ids == [[3], [3], [1]]
    assert ties.settled == 0


def test_several_experts_may_be_tied_in_any_order():
    row = [[0.5, 0.1, 0.50001, 0.50002, 0.49999, 0.0]]
    assert sorted(_top(row, 2)[2][0]) == [2, 3]
    ties, values, ids = _top(row, 2, before=[(0, 0, 4, 0)])
    assert (ids, ties.settled) == ([[4, 0]], 1)
    assert values[0] == pytest.approx([0.49999, 0.5])
    assert _top(row, 2, before=[(0, 0, 2, 3)])[0].settled == 0  # the same, in another order


def test_an_expert_is_never_taken_twice():
    row = [[0.5, 0.1, 0.50001, 0.50002, 0.49999, 0.0]]
    assert _top(row, 2, before=[(0, 0, 4, 4)])[0].settled == 0


def test_all_experts_of_a_tie_must_be_near():
    row = [[0.5, 0.1, 0.50001, 0.50002, 0.49999, 0.0]]
    assert _top(row, 2, before=[(0, 0, 4, 1)])[0].settled == 0


def test_scores_that_are_masked_count_for_nothing():
    none = float("-inf")
    assert _top([[none, none, 1.0, 2.0, 2.0001]])[0].found == ((0, 0, 4),)
    assert not _top([[none, none, none, 1.0]], 2)[0].found
    assert not _top([[float("nan"), 1.0, 2.0, 3.0]])[0].found


def test_each_way_to_ask_for_the_highest_is_seen_and_other_questions_are_not():
    import torch

    scores = torch.tensor(SCORES)
    with Ties() as ties:
        scores.topk(1)
        scores.topk(4)  # leaves nothing
        scores.long().topk(1)
        torch.topk(input=scores[0], k=1)
        scores.reshape(3, 1, 4).topk(1, dim=-1, sorted=False)
    assert ties.found == ((0, 0, 3), (0, 2, 1), (1, 0, 3), (2, 0, 3), (2, 2, 1))
    scores.topk(1)
    assert len(ties.found) == 5


def test_of_too_many_ties_the_closest_are_kept():
    import torch

    rows = TIES_MAX // 3 + 10
    row = torch.tensor(SCORES[0]).repeat(rows, 1)
    row[:10, 2] -= 5e-5
    with Ties() as ties:
        row.topk(1)
    assert sum(map(len, ties.found)) <= TIES_MAX
    assert [row for _, row, _ in ties.found] == list(range(10, rows))[: len(ties.found)]
