"""Checkpoints of the way of training, and the slices of the loss through them."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cnnclf.evaluation.learning_diagnosis import read_rows
from cnnclf.explainers.descent import _find_main, _project
from cnnclf.runs.run_directory import RunDirectory
from cnnclf.runs.run_listing import remove_run
from cnnclf.runs.run_opening import create_run
from cnnclf.training.fitting.weight_path import WeightPath
from cnnclf.training.run import TrainResult
from tests.conftest import Cli

Train = Callable[..., TrainResult]


@dataclass
class Weights:
    """A model of one variable, whose value is the number of the epoch."""

    value: float = 0.0
    path: str = "conv/kernel"
    shape: tuple[int, ...] = (2,)

    @property
    def trainable_variables(self) -> list[Any]:
        return [self]

    def __array__(self, *_arguments: Any, **_options: Any) -> Any:
        return np.full(2, self.value)


def walk(run: RunDirectory, epochs: range, *, finish: bool = True) -> list[int]:
    model = Weights(float(epochs.start - 1))
    path = WeightPath(model, run, done=epochs.start - 1)
    for epoch in epochs:
        model.value = float(epoch)
        path.end_epoch(epoch)
    if finish:
        path.finish(epochs.stop - 1)
    with np.load(run.descent) as arrays:
        assert arrays["weights"][:, 0].tolist() == arrays["epochs"].tolist()
        return list(map(int, arrays["epochs"]))


def test_few_checkpoints_are_kept_and_resuming_keeps_the_same(tmp_path: Path) -> None:
    whole, stopped = create_run(tmp_path / "whole"), create_run(tmp_path / "stopped")
    assert walk(whole, range(1, 4)) == [0, 1, 2, 3]
    assert walk(whole, range(1, 62)) == [*range(0, 57, 8), 61]
    walk(stopped, range(1, 31), finish=False)
    assert walk(stopped, range(27, 62)) == [*range(0, 57, 8), 61]
    assert whole.descent.stat().st_size < 2000
    whole.declare_interrupted()
    assert remove_run(whole) == []


def test_a_plane_shows_a_path_that_lies_in_it() -> None:
    rng = np.random.default_rng(0)
    plane, other = rng.normal(size=(2, 50)), rng.normal(size=50)
    moves = np.array([[2.0, 0.5], [1.0, 1.5], [0.2, 0.3], [0, 0]]) @ plane
    found = _project("", _find_main(moves, other), moves)
    assert found.shown == pytest.approx(1)
    assert found.places[0] == pytest.approx([1, 0])
    line = moves[[0, -1]]
    assert _project("", _find_main(line, other), line).shown == pytest.approx(1)
    assert _project("", rng.normal(size=(2, 50)), moves).shown < 0.3


def test_the_loss_along_the_way_is_drawn(cli: Cli, train_tiny: Train, tmp_path: Path) -> None:
    run = train_tiny(tmp_path / "run", **{"training.trace": True}).run
    result = cli("explain", run.path, "--show", "descent", "--out", tmp_path / "out", "--json")
    assert result.code == 0, result.stderr
    scores = json.loads(result.stdout)["rows"][0]["scores"]
    assert scores["epochs"] == [0, 1, 2, 3]
    assert scores["losses"][-1] < scores["losses"][0]
    assert 0.5 < scores["shown"][0] <= 1 > scores["shown"][1]
    with Image.open(tmp_path / "out/network-descent.png") as image:
        assert image.width > 1200
        assert len(np.unique(np.asarray(image.convert("L")))) > 50
    assert len(read_rows(run.trace)) == 9
    run.descent.write_bytes(b"no numbers")
    assert cli("explain", run.path, "--show", "descent").code == 4
    run.descent.unlink()
    missing = cli("explain", run.path, "--show", "descent")
    assert missing.code == 4
    assert "--trace" in missing.stderr
