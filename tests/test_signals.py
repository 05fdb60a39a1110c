"""Ctrl-C and SIGTERM: one that Python drops is noted, one in the middle of a step is deferred."""

import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import AbstractContextManager

import pytest

from cnnclf import signals
from cnnclf.signals import Interrupts, deferring_signals

SIGNALS = signals._SIGNALS


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Let the signals raise KeyboardInterrupt, also where the shell ignores Ctrl-C."""
    before = [signal.signal(number, signal.default_int_handler) for number in SIGNALS]
    yield
    for number, handler in zip(SIGNALS, before, strict=True):
        signal.signal(number, handler)


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


# Noted signals


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_lost_interrupt_is_raised_at_the_next_check() -> None:
    with Interrupts() as interrupts:
        interrupts.check()
        lose_an_interrupt()
        with pytest.raises(KeyboardInterrupt):
            interrupts.check()


def test_an_interrupt_is_raised_at_once_and_handlers_are_restored() -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), Interrupts():
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


# Deferred signals


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_takes_effect_after_the_step(number: signal.Signals) -> None:
    done = []

    def step() -> None:
        with deferring_signals():
            signal.raise_signal(number)
            signal.raise_signal(number)  # as a terminal and a scheduler may send them at once
            done.append(number)

    with pytest.raises(KeyboardInterrupt):
        step()
    assert done == [number]
    assert [signal.getsignal(each) for each in SIGNALS] == [signal.default_int_handler] * len(
        SIGNALS
    )


def test_an_error_of_the_step_is_kept_as_the_context() -> None:
    def step() -> None:
        with deferring_signals():
            signal.raise_signal(signal.SIGINT)
            raise OSError("no space")

    with pytest.raises(KeyboardInterrupt) as caught:
        step()
    assert isinstance(caught.value.__context__, OSError)


def test_a_second_signal_after_a_while_takes_effect_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(signals, "_PATIENCE_S", 0.01)
    done = []

    def step() -> None:
        with deferring_signals():
            signal.raise_signal(signal.SIGINT)
            done.append("first")
            time.sleep(0.02)
            signal.raise_signal(signal.SIGINT)
            done.append("second")

    with pytest.raises(KeyboardInterrupt):
        step()
    assert done == ["first"]


def test_ignored_signals_stay_ignored() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with deferring_signals():
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
        signal.raise_signal(signal.SIGTERM)


# Other threads


@pytest.mark.parametrize("make", [Interrupts, deferring_signals])
def test_other_threads_leave_signals_alone(
    make: type[AbstractContextManager[object]],
) -> None:
    seen = []

    def work() -> None:
        with make() as noted:
            seen.append(signal.getsignal(signal.SIGINT))
            if isinstance(noted, Interrupts):
                noted.check()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.default_int_handler]


@pytest.mark.parametrize(("argument", "code"), [("version", 0), ("nosuch", 2)])
def test_a_process_ends_after_its_hooks_without_taking_itself_apart(
    argument: str, code: int
) -> None:
    script = f"""
import atexit, sys
from cnnclf.__main__ import run
class Kept:
    def __del__(self):
        print("taken apart")
kept = Kept()
sys.argv = ["cnnclf", {argument!r}]
from cnnclf.signals import process_end
process_end.take_signals()
atexit.register(print, "hook")
run()
"""
    done = subprocess.run(
        [sys.executable, "-c", script], check=False, capture_output=True, text=True
    )
    assert done.returncode == code
    assert done.stdout.endswith("hook\n"), "the hook ran, and what it wrote was flushed"
