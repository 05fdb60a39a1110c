"""A run that has minutes ends in time, whatever steps cost, and its rate has no jumps."""

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import pytest

from cnnclf.config import OptimizerConfig
from cnnclf.training.fitting.pacing import Pacer
from cnnclf.training.fitting.state import TrainingState

LINEAR = OptimizerConfig(schedule="linear", learning_rate=1.0, warmup=0.2)


@dataclass
class Machine:
    """A clock that steps and validations move on."""

    step_s: float
    val_s: float
    now: float = 5.0
    rates: list[float] = field(default_factory=list)

    def train(self, pacer: Pacer, *, first: int = 0, interrupt_at: int | None = None) -> int:
        """Take the steps of a fit; return how many were done when the last epoch was saved."""
        rng, step, saved = np.random.default_rng(0), first, first
        while True:
            pacer.begin_epoch()
            for _ in range(pacer.steps):
                if step == interrupt_at:
                    return saved
                pacer.begin_step(step)
                self.rates.append(pacer.rate(step))
                is_last = pacer.is_last(step)
                compiling = 2.0 if step == first else 0.0
                self.now += self.step_s * rng.uniform(0.7, 1.3) + compiling
                step += 1
                if is_last:
                    break
            self.now += self.val_s
            saved = step
            pacer.state.spent_s = self.now
            if is_last:
                return step


def make_pacer(machine: Machine, state: TrainingState, *, minutes: float, steps: int) -> Pacer:
    before, leg = state.spent_s, machine.now if state.spent_s else 0.0
    return Pacer(
        60 * minutes,
        lambda: before + machine.now - leg,
        state,
        LINEAR,
        steps=steps,
        batch_size=100,
        val_images=300,
        final_images=1000,
    )


@pytest.mark.parametrize("guess", [0.3, 3])
@pytest.mark.parametrize(
    ("steps", "step_s", "val_s"), [(50, 1.2, 8.0), (4, 0.1, 0.4), (1, 0.3, 0.2), (450, 0.07, 0.5)]
)
def test_training_ends_in_time_with_the_whole_schedule(
    guess: float, steps: int, step_s: float, val_s: float
) -> None:
    machine, state = Machine(step_s, val_s), TrainingState()
    state.planned_steps = round(guess * 170 / (step_s + val_s / steps))
    done = machine.train(make_pacer(machine, state, minutes=3, steps=steps))
    finishing_s = 1000 * step_s / 100 / 3 + 4
    assert machine.now + finishing_s == pytest.approx(180, rel=0.05)
    assert max(machine.rates) == pytest.approx(1, abs=0.05)
    assert machine.rates[-1] < 0.06
    assert len(machine.rates) == done
    jumps = [abs(after - before) for before, after in pairwise(machine.rates)]
    assert max(jumps) < max(0.1, 20 / done)


def test_a_machine_that_becomes_slower_is_noticed() -> None:
    machine, state = Machine(0.2, 1.0), TrainingState(planned_steps=500)
    pacer = make_pacer(machine, state, minutes=4, steps=60)
    machine.train(pacer, interrupt_at=400)
    machine.step_s = 0.5
    machine.train(pacer, first=400)
    assert machine.now == pytest.approx(240 - 4 - 1.7, rel=0.05)


def test_a_resumed_run_has_the_time_that_is_left() -> None:
    machine, state = Machine(0.5, 2.0), TrainingState(planned_steps=100)
    saved = machine.train(make_pacer(machine, state, minutes=3, steps=40), interrupt_at=130)
    assert saved == 120
    spent, rate = state.spent_s, machine.rates[saved]
    machine.now = 7_000.0  # much later, in a new process
    resumed = make_pacer(machine, state, minutes=3, steps=40)
    assert resumed.rate(saved) == pytest.approx(rate, abs=0.02)
    machine.train(resumed, first=saved)
    assert spent + machine.now - 7_000 == pytest.approx(180 - 4 - 1.7, rel=0.05)
