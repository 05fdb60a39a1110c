"""The trace: its figures are those of the network, and training does not notice it."""

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnclf.evaluation.learning_diagnosis import diagnose, read_rows
from cnnclf.runs.run_directory import RunDirectory
from cnnclf.training.epochs import EpochRow
from cnnclf.training.fitting.tracing import Tracer
from cnnclf.training.run import TrainResult

Train = Callable[..., TrainResult]


@dataclass
class OneBatch:
    """A source whose probe is its only batch."""

    images: Any
    labels: Any

    @property
    def count(self) -> int:
        return len(self.images)

    def __len__(self) -> int:
        return 1

    def draw_plain(self, _count: int, *, stream: int) -> tuple[Any, Any]:
        return self.images, self.labels


def build(*, bias: float) -> Any:
    import keras

    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.layers.Input((6, 6, 1)),
            keras.layers.Conv2D(
                4, 3, name="conv", bias_initializer=keras.initializers.Constant(bias)
            ),
            keras.layers.BatchNormalization(name="norm", center=False, scale=False)
            if not bias
            else keras.layers.Identity(),
            keras.layers.Activation("relu", name="conv_relu"),
            keras.layers.Dropout(0.5, name="dropout"),
            keras.layers.Flatten(),
            keras.layers.Dense(2, name="logits"),
        ]
    )
    model = keras.Model(model.inputs, model.outputs)
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(1e-4), loss=loss, jit_compile=False)
    return model


def trace(model: Any, path: Path) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    batch = OneBatch(rng.random((16, 6, 6, 1), np.float32), np.eye(2, dtype=np.float32)[[0, 1] * 8])
    source: Any = batch
    tracer = Tracer(model, source, run=RunDirectory(path), first_epoch=0, done=0)
    model.fit(
        batch.images, batch.labels, batch_size=16, verbose=0, callbacks=[*tracer.as_callbacks()]
    )
    return read_rows(path / "trace.csv")


def test_an_update_is_the_rate_times_the_gradient(tmp_path: Path) -> None:
    model = build(bias=0.0)
    model.get_layer("dropout").rate = 0.0
    conv, logits = trace(model, tmp_path)
    assert [conv["layer"], logits["layer"]] == ["conv", "logits"]
    for row in (conv, logits):
        norm = float(np.linalg.norm(np.asarray(model.get_layer(row["layer"]).kernel)))
        assert row["update_ratio"] * norm == pytest.approx(1e-4 * row["gradient_norm"], rel=0.02)
    assert conv["dead_fraction"] == 0
    assert logits["dead_fraction"] is None


def test_dead_units_are_found_and_said(tmp_path: Path) -> None:
    rows = trace(build(bias=-100.0), tmp_path)
    assert rows[0]["dead_fraction"] == 1
    assert rows[0]["gradient_norm"] == 0
    assert "dead units: 100 % of conv" in diagnose([], rows)[0]


def test_a_trace_changes_nothing(train_tiny: Train, tmp_path: Path) -> None:
    plain = train_tiny(tmp_path / "plain")
    traced = train_tiny(tmp_path / "traced", **{"training.trace": True})
    assert [row.loss for row in traced.history] == [row.loss for row in plain.history]
    with (tmp_path / "traced/trace.csv").open() as file:
        rows = list(csv.DictReader(file))
    layers = dict.fromkeys(row["layer"] for row in rows)
    assert len(rows) == len(traced.history) * len(layers)
    assert len(layers) == 3
    assert not (tmp_path / "plain/trace.csv").exists()


@pytest.mark.usefixtures("saves_every_epoch")
def test_a_resumed_run_keeps_the_trace_of_earlier_epochs(train_tiny: Train, tmp_path: Path) -> None:
    def interrupt(row: EpochRow, _best: bool) -> None:
        if row.epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_tiny(tmp_path / "run", listeners=[interrupt], **{"training.trace": True})
    train_tiny(tmp_path / "run", resume=True, **{"training.trace": True})
    train_tiny(tmp_path / "whole", **{"training.trace": True})
    found = [read_rows(tmp_path / name / "trace.csv") for name in ("run", "whole")]
    assert [row["epoch"] for row in found[0]] == [1] * 3 + [2] * 3 + [3] * 3
    assert found[0] == found[1]


def test_an_epoch_that_ends_early_is_traced(tmp_path: Path) -> None:
    import keras

    model, rng = build(bias=0.0), np.random.default_rng(0)
    batch = OneBatch(rng.random((16, 6, 6, 1), np.float32), np.eye(2, dtype=np.float32)[[0, 1] * 8])
    weights: list[Any] = []

    def end_early(at: int, logs: Any = None) -> None:
        weights.append(keras.ops.convert_to_numpy(model.get_layer("conv").kernel))
        model.stop_training = at == 1

    source: Any = batch
    tracer = Tracer(model, source, run=RunDirectory(tmp_path), first_epoch=0, done=0)
    tracer._steps = 4
    early = keras.callbacks.LambdaCallback(on_train_batch_begin=end_early)
    callbacks = [early, *tracer.as_callbacks()]
    model.fit(batch.images, batch.labels, batch_size=4, verbose=0, callbacks=callbacks)
    after = keras.ops.convert_to_numpy(model.get_layer("conv").kernel)
    assert len(weights) == 2
    row = read_rows(tmp_path / "trace.csv")[0]
    moved = np.linalg.norm(after - weights[1]) / np.linalg.norm(weights[1])
    assert row["update_ratio"] == pytest.approx(float(moved), rel=1e-3)
