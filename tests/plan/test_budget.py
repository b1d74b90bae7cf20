"""What of a run's budget is used up, by a clock that never jumps and by the date."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from archiver.errors import BudgetSpentError
from archiver.plan.budget import RunBudget
from archiver.plan.document import Budget

END = datetime(2026, 12, 1, 5, tzinfo=UTC)


class Clocks:
    def __init__(self):
        self.seconds = 100.0
        self.date = END - timedelta(hours=1)

    def budget(self, limits=None, end=None):
        limits = limits or Budget()
        return RunBudget(limits, end, clock=lambda: self.seconds, now=lambda: self.date)


def test_nothing_is_used_up_where_nothing_is_limited():
    clocks = Clocks()
    budget = clocks.budget()
    budget.take(1 << 60)
    clocks.seconds += 1e9
    assert budget.spent == ""
    budget.require("x")


def test_bytes_and_time():
    clocks = Clocks()
    budget = clocks.budget(Budget(bytes=10, seconds=60))
    budget.take(9)
    assert budget.spent == ""
    budget.take(1)
    assert budget.spent == "bytes"
    budget.require_time("x")
    clocks.seconds += 60
    assert budget.spent == "time"
    with pytest.raises(BudgetSpentError, match="x was stopped") as caught:
        budget.require_time("x")
    assert (caught.value.spent, caught.value.exit_code) == ("time", 3)


def test_a_window_ends_by_either_clock():
    clocks = Clocks()
    budget = clocks.budget(end=END)
    clocks.date -= timedelta(hours=5)  # the date jumps back; an hour passes all the same
    clocks.seconds += 3599
    assert budget.spent == ""
    clocks.seconds += 1
    assert budget.spent == "window"
    slept = Clocks()
    budget = slept.budget(end=END)
    slept.date = END  # a machine that was suspended counts no seconds
    assert budget.spent == "window"
