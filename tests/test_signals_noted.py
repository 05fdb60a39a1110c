"""A Ctrl-C that Python loses still ends the run."""

import os
import signal
import threading
import weakref
from collections.abc import Iterator

import pytest

from cnnclf.signals import Interrupts


@pytest.fixture(autouse=True)
def listen() -> Iterator[None]:
    """Heed Ctrl-C even if the tests run in the background of a shell, where it is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def lose_an_interrupt() -> None:
    """Send Ctrl-C while a weak reference's callback runs, where Python drops the exception."""

    class Thing:
        pass

    def callback(_: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        sum(range(1000))  # gives Python a chance to run the handler here

    thing = Thing()
    reference = weakref.ref(thing, callback)
    del thing
    assert reference() is None


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_lost_interrupt_is_raised_at_the_next_check() -> None:
    with Interrupts() as interrupts:
        interrupts.check()
        lose_an_interrupt()
        with pytest.raises(KeyboardInterrupt):
            interrupts.check()


def test_an_interrupt_still_comes_at_once_and_handlers_come_back() -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), Interrupts():
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_other_threads_are_left_alone() -> None:
    before, seen = signal.getsignal(signal.SIGINT), []

    def work() -> None:
        with Interrupts() as interrupts:
            interrupts.check()
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]
