"""The judge's memory and the training state on disk."""

from pathlib import Path

import numpy as np
import pytest

from cnnclf.errors import RunError
from cnnclf.training.epochs import EpochRow
from cnnclf.training.fitting.state import TrainingState, load_state, save_state


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
    save_state(tmp_path, state, net=net, optimizer=optimizer)

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
    save_state(tmp_path, TrainingState(), net=net, optimizer=optimizer)
    whole = (tmp_path / "optimizer.npz").read_bytes()
    (tmp_path / "optimizer.npz").write_bytes(whole[:40])
    with pytest.raises((RunError,), match="missing or damaged"):
        load_state(tmp_path, net=net, optimizer=optimizer)
    (tmp_path / "optimizer.npz").unlink()
    with pytest.raises(RunError, match="missing or damaged"):
        load_state(tmp_path, net=net, optimizer=optimizer)
