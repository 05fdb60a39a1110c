"""The judge's memory and the training state on disk."""

import math
from pathlib import Path

import numpy as np
import pytest

from cnnclf.errors import RunError
from cnnclf.training.epochs import EpochRow
from cnnclf.training.fitting.state import Snapshot, TrainingState, load_state, save_state


def test_the_better_accuracy_wins_and_loss_breaks_ties() -> None:
    state = TrainingState()
    scores = [(0.5, -1.0), (0.5, -2.0), (0.5, -0.9), (0.4, -0.1), (0.6, -9.0)]
    best = []
    for score in scores:
        state.epoch += 1
        best.append(state.judge(score))
    assert best == [True, False, True, False, True]
    assert state.best_epoch == 5
    assert state.epochs_without_better == 0


def make_row(val_loss: float, val_accuracy: float = 1.0, epoch: int = 1) -> EpochRow:
    return EpochRow(epoch, "train", 0.1, 1.0, val_loss, val_accuracy, 1e-3, 0.25, 0.0)


def make_state(*rows: EpochRow) -> TrainingState:
    return TrainingState(epoch=len(rows), history=list(rows))


def count_perfect(state: TrainingState, *rows: EpochRow, bound: float = 0.05) -> int:
    for row in rows:
        state.history.append(row)
        state.count_perfect(bound)
    return state.perfect_epochs


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([make_row(0.01)] * 3, 3),
        ([make_row(0.5), *[make_row(0.01)] * 3], 3),
        ([make_row(0.01)] * 2, 2),
        ([make_row(0.01), make_row(0.05), make_row(0.01)], 1),
        ([make_row(0.01), make_row(0.01, 0.99), make_row(0.01)], 1),
        ([make_row(math.nan)] * 3, 0),
    ],
    ids=["3", "the last 3", "2", "loss at the bound", "accuracy", "NaN"],
)
def test_only_epochs_in_a_row_without_any_fault_are_perfect(
    rows: list[EpochRow], expected: int
) -> None:
    assert count_perfect(TrainingState(), *rows) == expected


def test_perfect_epochs_of_an_earlier_phase_do_not_count() -> None:
    state = TrainingState()
    assert count_perfect(state, *[make_row(0.01)] * 4) == 4
    state.begin_phase("tail")
    assert count_perfect(state, make_row(0.01)) == 1


def test_nothing_is_perfect_without_val_or_with_a_bound_of_0() -> None:
    row = EpochRow(1, "train", 0.0, 1.0, None, None, 1e-3, 0.25, 0.0)
    assert count_perfect(TrainingState(), row, row) == 0
    assert count_perfect(TrainingState(), make_row(0.0), make_row(0.0), bound=0.0) == 0


@pytest.mark.parametrize(
    ("accuracies", "best"),
    [
        ([0.1, 0.9, 0.1, 0.6, 0.6, 0.6, 0.5], 6),  # not one lucky epoch
        ([0.5, 0.7, 0.7, 0.7, 0.7, 0.7], 6),  # the newest of equals
        ([0.9, 0.7, 0.8], 3),  # not the first by chance
    ],
)
def test_an_averaged_accuracy_finds_the_best_epoch(accuracies: list[float], best: int) -> None:
    state = TrainingState()
    for accuracy in accuracies:
        state.epoch += 1
        # the loss of a network that is ever surer rises, even if it is right ever more often
        state.history.append(make_row(state.epoch, accuracy, epoch=state.epoch))
        state.judge(state.score_last(3))
    assert state.best_epoch == best


def test_the_newest_of_equals_is_no_improvement() -> None:
    state = TrainingState()
    for epoch in range(1, 6):
        state.epoch = epoch
        assert state.judge((0.5, 0.0))
    assert state.best_epoch == 5
    assert state.epochs_without_better == 4, "so patience ends a plateau"


def test_scores_by_accuracy_and_by_loss() -> None:
    state = make_state(make_row(0.9, 0.5), make_row(0.2, 0.7))
    assert state.score_last() == state.history[-1].score == (0.7, -0.2)
    assert state.score_last(2) == pytest.approx((0.6, 0.0))
    assert state.score_last(4) == pytest.approx((0.3, 0.0)), "few epochs are no luck"
    assert state.score_last(by_loss=True) == (-0.2, 0.7)


def test_a_val_loss_of_nan_loses_to_any_number_and_still_gives_a_best_epoch() -> None:
    state = TrainingState()
    for epoch, loss in enumerate([math.nan, math.nan, 0.5, 0.4], 1):
        state.epoch = epoch
        state.history.append(make_row(loss, epoch=epoch))
        state.judge(state.score_last(by_loss=True))
        assert state.best_epoch == epoch


def test_a_val_loss_of_nan_loses_a_tie_of_accuracies() -> None:
    state = TrainingState()
    for epoch, loss in enumerate([math.nan, 0.5, math.nan, 0.4], 1):
        state.epoch = epoch
        state.history.append(make_row(loss, 0.75, epoch=epoch))
        assert state.judge(state.score_last()) == (epoch != 3)
    assert state.epochs_without_better == 0


def test_a_plateau_reduces_the_rate_once_per_patience() -> None:
    state = TrainingState()
    state.judge((0.5, 0.0))
    factors = []
    for _ in range(6):
        state.judge((0.1, 0.0))
        state.reduce_on_plateau(2)
        factors.append(state.plateau_factor)
    assert factors == pytest.approx([1, 1, 0.2, 0.2, 0.2, 0.04])


def test_state_comes_back_exactly(tmp_path: Path) -> None:
    import keras

    def build() -> tuple[keras.Model, keras.Optimizer]:
        net = keras.Sequential([keras.Input((3,)), keras.layers.Dropout(0.5, seed=1)])
        net.add(keras.layers.Dense(2))
        optimizer = keras.optimizers.AdamW(use_ema=True)
        optimizer.build(net.trainable_variables)
        return net, optimizer

    net, optimizer = build()
    net(np.ones((4, 3), np.float32), training=True)  # moves the dropout's generator
    optimizer.apply([np.ones((3, 2), np.float32), np.ones(2, np.float32)])
    row = EpochRow(1, "train", 0.7, 0.5, None, None, 1e-3, 0.25, 0.0)
    state = TrainingState(epoch=3, best_epoch=2, best_score=(0.5, -1.5), history=[row])
    save_state(tmp_path, Snapshot.of(state, net=net, optimizer=optimizer))

    other_net, other_optimizer = build()
    assert load_state(tmp_path, net=other_net, optimizer=other_optimizer) == state
    for mine, theirs in zip(optimizer.variables, other_optimizer.variables, strict=True):
        np.testing.assert_array_equal(np.asarray(mine), np.asarray(theirs))
    other_net.set_weights(net.get_weights())
    x = np.ones((8, 3), np.float32)
    np.testing.assert_array_equal(
        np.asarray(net(x, training=True)), np.asarray(other_net(x, training=True))
    )


def test_damaged_state_is_refused(tmp_path: Path) -> None:
    import keras

    net = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    optimizer = keras.optimizers.SGD()
    optimizer.build(net.trainable_variables)
    save_state(tmp_path, Snapshot.of(TrainingState(), net=net, optimizer=optimizer))
    whole = (tmp_path / "optimizer.npz").read_bytes()
    (tmp_path / "optimizer.npz").write_bytes(whole[:40])
    with pytest.raises((RunError,), match="missing or damaged"):
        load_state(tmp_path, net=net, optimizer=optimizer)
    (tmp_path / "optimizer.npz").unlink()
    with pytest.raises(RunError, match="missing or damaged"):
        load_state(tmp_path, net=net, optimizer=optimizer)
