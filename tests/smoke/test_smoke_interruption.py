"""Being told to stop where Python drops what is raised."""

from __future__ import annotations

import os
import signal

import pytest

from archiver.smoke.interruption import Interruption


class Careless:
    """What it raises as it goes is dropped."""

    def __init__(self, number: signal.Signals) -> None:
        self._number = number

    def __del__(self) -> None:
        os.kill(os.getpid(), self._number)


@pytest.fixture
def as_in_the_tool():
    """The tool takes being told to stop as it takes Ctrl-C."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("as_in_the_tool")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_a_finalizer_swallows_is_raised_at_the_next_look(number):
    before = signal.getsignal(number)
    with Interruption() as interruption:
        interruption.check()
        Careless(number)
        with pytest.raises(KeyboardInterrupt):
            interruption.check()
    assert signal.getsignal(number) is before


def test_what_is_not_swallowed_comes_at_once():
    with Interruption(), pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)


def test_a_process_that_ignores_it_goes_on_doing_so():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Interruption() as interruption:
            os.kill(os.getpid(), signal.SIGINT)
            interruption.check()
    finally:
        signal.signal(signal.SIGINT, before)
