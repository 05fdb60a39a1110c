"""What the progress shows of the steps of an epoch."""

from types import SimpleNamespace
from typing import Any

import pytest

from cnnclf.config import OptimizerConfig, TrainingConfig
from cnnclf.training.fitting import callbacks
from cnnclf.training.fitting.callbacks import Conductor, FitHooks
from cnnclf.training.fitting.fit import Phase
from cnnclf.training.fitting.state import TrainingState


class Steps:
    """100 steps of one image."""

    wait_s = 0.0
    count = 100

    def step_begins(self) -> None:
        """Do nothing."""

    def __len__(self) -> int:
        return self.count


@pytest.mark.parametrize(("step_s", "readings"), [(0.001, 0), (0.1, 9), (2.0, 99)])
def test_the_loss_is_read_once_a_second_at_most(
    monkeypatch: pytest.MonkeyPatch, step_s: float, readings: int
) -> None:
    shown: list[str] = []
    now = 0.0
    monkeypatch.setattr("time.perf_counter", lambda: now)
    monkeypatch.setattr(callbacks, "_NAN_CHECK_STEPS", 1000)
    trainer: Any = SimpleNamespace(metrics=[SimpleNamespace(result=lambda: 0.25)])
    conductor = conduct(trainer, shown)
    conductor.begin_epoch(2)
    for step in range(100):
        conductor.begin_step(step)
        now += step_s
    assert shown == ["epoch 3/9", *["epoch 3/9, loss 0.2500"] * readings]


@pytest.mark.parametrize("every", [1, 1000])
def test_what_jax_keeps_elsewhere_is_brought_back_before_it_is_read_or_set(
    monkeypatch: pytest.MonkeyPatch, every: int
) -> None:
    monkeypatch.setattr(callbacks, "_SHOW_LOSS_S", 1e9 if every == 1 else 0.0)
    monkeypatch.setattr(callbacks, "_NAN_CHECK_STEPS", every)
    held: dict[str, Any] = {"loss": None}
    read_values: list[float] = []

    class Trainer(SimpleNamespace):
        def jax_state_sync(self) -> None:
            held["loss"] = 0.25

    def read() -> float:
        value, held["loss"] = held["loss"], None  # the next step gives them away again
        read_values.append(float(value))
        return read_values[-1]

    trainer: Any = Trainer(metrics=[SimpleNamespace(result=read)])
    conductor = conduct(trainer, [])
    conductor.begin_epoch(2)
    for step in range(5):
        conductor.begin_step(step)
    assert len(read_values) > 1
    assert set(read_values) == {0.25}


def test_plateau_warms_up_step_by_step_and_keeps_its_rate() -> None:
    trainer: Any = SimpleNamespace(metrics=[], optimizer=SimpleNamespace())
    optimizer = OptimizerConfig(schedule="plateau", learning_rate=0.1, warmup=0.1)
    conductor = conduct(trainer, [], optimizer=optimizer, epoch=0)
    rates = []
    for epoch, factor in enumerate((1.0, 1.0, 0.2)):
        conductor.state.epoch, conductor.state.plateau_factor = epoch, factor
        conductor.begin_epoch(epoch)
        for step in range(40):
            conductor.begin_step(step)
            rates.append(trainer.optimizer.learning_rate)
    assert rates[:90:20] == pytest.approx([0.1 * 1 / 91, 0.1 * 21 / 91, 0.1, 0.1, 0.02])


def conduct(
    trainer: Any,
    shown: list[str],
    *,
    optimizer: OptimizerConfig | None = None,
    epoch: int = 2,
) -> Conductor:
    task: Any = SimpleNamespace(describe=shown.append, advance=lambda _amount: None)
    steps: Any = Steps()
    return Conductor(
        trainer,
        TrainingState(epoch=epoch),
        Phase("train", TrainingConfig(), optimizer or OptimizerConfig()),
        epochs=9,
        patience=0,
        batches=steps,
        val_images=100,
        hooks=FitHooks(
            save=lambda **_: None,
            finish=lambda: None,
            on_epoch=lambda _row, _best: None,
            task=task,
            check_interrupt=lambda: None,
        ),
    )
