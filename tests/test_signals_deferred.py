"""Signals that wait for the end of a step."""

import signal
import threading
import time
from collections.abc import Iterator

import pytest

from cnnclf import signals
from cnnclf.signals import deferring_signals

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@pytest.fixture(autouse=True)
def as_the_command_does() -> Iterator[None]:
    """Let both signals raise KeyboardInterrupt."""
    before = [signal.signal(number, signal.default_int_handler) for number in SIGNALS]
    yield
    for number, handler in zip(SIGNALS, before, strict=True):
        signal.signal(number, handler)


@pytest.mark.parametrize("number", SIGNALS)
def test_it_comes_behind_the_step(number: signal.Signals) -> None:
    done = []

    def step() -> None:
        with deferring_signals():
            signal.raise_signal(number)
            signal.raise_signal(number)  # as a terminal and a scheduler may send them at once
            done.append(number)

    with pytest.raises(KeyboardInterrupt):
        step()
    assert done == [number]
    assert [signal.getsignal(each) for each in SIGNALS] == [signal.default_int_handler] * 2


def test_an_error_of_the_step_is_not_forgotten() -> None:
    def step() -> None:
        with deferring_signals():
            signal.raise_signal(signal.SIGINT)
            raise OSError("no space")

    with pytest.raises(KeyboardInterrupt) as caught:
        step()
    assert isinstance(caught.value.__context__, OSError)


def test_who_asks_again_later_is_not_kept_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_what_is_ignored_stays_ignored() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with deferring_signals():
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
        signal.raise_signal(signal.SIGTERM)


def test_another_thread_leaves_signals_alone() -> None:
    handlers: list[object] = []

    def step() -> None:
        with deferring_signals():
            handlers.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=step)
    thread.start()
    thread.join()
    assert handlers == [signal.default_int_handler]
