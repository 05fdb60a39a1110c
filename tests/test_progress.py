from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from cnnclf.progress import Abandoned, Held, Silent, Task


class Counting(Silent):
    """Keeps the tasks it was shown and what they came to."""

    def __init__(self) -> None:
        super().__init__()
        self.tasks: list[tuple[str, int | None, str, float | None]] = []
        self.done = 0
        self.words: list[str] = []
        self.is_open = False

    @contextmanager
    def task(
        self, name: str, total: int | None, *, unit: str, since: float | None = None
    ) -> Iterator[Task]:
        self.tasks.append((name, total, unit, since))
        self.is_open = True
        yield self
        self.is_open = False

    def advance(self, amount: int = 1) -> None:
        self.done += amount

    def describe(self, text: str) -> None:
        self.words.append(text)

    def expect(self, total: int) -> None:
        self.words.append(f"of {total}")


def test_what_is_said_is_kept_in_order_until_somebody_listens() -> None:
    held, listener = Held(), Silent()
    held.note("one")
    held.warn("careful")
    held.row("epochs", {"epoch": 1})
    held.release(listener)
    assert listener.notes == ["one"]
    held.note("two")
    assert listener.notes == ["one", "two"]
    assert listener.warnings == ["careful"]
    assert listener.rows == [("epochs", {"epoch": 1})]


def test_a_task_is_shown_with_what_it_did_before() -> None:
    held, listener = Held(), Counting()
    with held.task("decoding", 10, unit="images", since=2.5) as task:
        task.advance(4)
        task.describe("large ones")
        held.release(listener)
        assert listener.tasks == []  # it belongs to the thread that works, which shows it
        task.advance()
        assert listener.tasks == [("decoding", 10, "images", 2.5)]
        assert (listener.done, listener.words) == (5, ["large ones"])
        assert listener.is_open
        task.expect(20)
    assert listener.words == ["large ones", "of 20"]
    assert not listener.is_open


def test_a_task_that_ended_before_is_not_shown() -> None:
    held, listener = Held(), Counting()
    with held.task("decoding", 10, unit="images") as task:
        task.advance(10)
    held.release(listener)
    assert listener.tasks == []


@pytest.mark.parametrize("released", [False, True])
def test_abandoned_work_ends_at_its_next_step(released: bool) -> None:
    held = Held()
    with held.task("decoding", 10, unit="images") as task:
        if released:
            held.release(Silent())
            task.advance()
        held.abandon()
        with pytest.raises(Abandoned):
            task.advance()
