"""When checkpoints are written."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cnnclf.inference.classifier import Classifier
from cnnclf.runs.run_names import STATE_FILE
from cnnclf.training.fitting import checkpoints
from cnnclf.training.fitting.callbacks import Conductor
from cnnclf.training.fitting.checkpoints import BundleContent, Checkpoints
from cnnclf.training.fitting.state import TrainingState
from cnnclf.training.run import TrainResult


@pytest.mark.parametrize(
    ("write_s", "every_s", "epoch_s", "written"),
    [
        (0.25, 0.0, 20.0, [1, 2, 3, 4]),
        (0.25, 0.0, 4.0, [1, 4]),  # 0.5 s of writing: once in 10 s
        (0.25, 15.0, 6.0, [3]),
        (0.25, 15.0, 20.0, [1, 2, 3, 4]),
        (10.0, 0.0, 35.0, [1, 3]),  # 20 s of writing: once in 60 s, not in 400
    ],
)
def test_writing_takes_at_most_a_twentieth_of_the_time(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    write_s: float,
    every_s: float,
    epoch_s: float,
    written: list[int],
) -> None:
    now = [0.0]
    saved: list[Path] = []

    def save(directory: Path, *_: Any, **__: Any) -> None:
        now[0] += write_s
        saved.append(directory)

    monkeypatch.setattr(checkpoints, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    monkeypatch.setattr(checkpoints, "save_bundle", save)
    monkeypatch.setattr(checkpoints, "save_state", lambda *_: None)
    state = TrainingState()
    run: Any = SimpleNamespace(best=tmp_path / "best", last=tmp_path / "last")
    net: Any = SimpleNamespace(weights=[], variables=[])
    average: Any = SimpleNamespace(active=False)
    one = Checkpoints(
        net,
        net,
        trainer=SimpleNamespace(weights=[], optimizer=SimpleNamespace(variables=[])),
        run=run,
        content=BundleContent((), None, {}),
        state=state,
        average=average,
        every_s=every_s,
    )
    monkeypatch.setattr(one, "_written", 0.0)
    epochs = []
    for epoch in range(1, 5):
        now[0] += epoch_s
        state.epoch = epoch
        before = len(saved)
        one.save(is_best=True)
        epochs += [epoch] * (len(saved) - before == 2)
        assert len(saved) - before in {0, 2}, "the best is never newer than the last"
    assert epochs == written
    before = len(saved)
    one.finish()
    assert len(saved) - before == (0 if 4 in written else 2)


Train = Callable[..., TrainResult]


@pytest.fixture
def second_is_best(monkeypatch: pytest.MonkeyPatch) -> None:
    def score(state: TrainingState, *_: Any, **__: Any) -> tuple[float, float]:
        return (float(state.epoch == 2), 0.0)

    monkeypatch.setattr(TrainingState, "score_last", score)


@pytest.mark.parametrize("ema", [0.0, 0.5])
@pytest.mark.usefixtures("second_is_best")
def test_what_is_written_later_is_what_would_have_been_written_at_once(
    train_tiny: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ema: float
) -> None:
    """With the moving averages of batch normalization, and the last without averaged weights."""
    for name, share in (("at once", float("inf")), ("later", 1e-9)):
        monkeypatch.setattr(checkpoints, "_MAX_SHARE", share)
        result = train_tiny(tmp_path / name, **{"training.epochs": 4, "optimizer.ema": ema})
        assert result.state.best_epoch == 2
    compare(tmp_path / "at once", tmp_path / "later", name="best")
    compare(tmp_path / "at once", tmp_path / "later", name="last")
    best, last = (weights(tmp_path / "later", name) for name in ("best", "last"))
    assert all(np.any(one != other) for one, other in zip(best, last, strict=True))


@pytest.mark.parametrize("ema", [0.0, 0.5])
@pytest.mark.parametrize(
    ("place", "epoch", "left"),
    [
        ((Conductor, "begin_step"), 3, (3, 2)),
        ((Conductor, "end_epoch"), 3, (3, 2)),
        ((Checkpoints, "save"), 2, (2, 2)),
        ((Checkpoints, "_read_weights"), 2, (1, 1)),
    ],
)
@pytest.mark.usefixtures("second_is_best")
def test_an_interruption_costs_no_epoch(
    train_tiny: Train,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    place: tuple[Any, str],
    epoch: int,
    left: tuple[int, int],
    ema: float,
) -> None:
    """Ctrl-C after what is named is called after an epoch; the last and the best are left."""
    method = getattr(*place)

    def press_ctrl_c(self: Any, *arguments: Any, **options: Any) -> Any:
        result = method(self, *arguments, **options)
        if self.state.epoch == epoch:
            raise KeyboardInterrupt
        return result

    settings = {"training.epochs": 4, "optimizer.ema": ema}
    with monkeypatch.context() as patch:
        patch.setattr(*place, press_ctrl_c)
        for name, share in (("at once", float("inf")), ("later", 1e-9)):
            patch.setattr(checkpoints, "_MAX_SHARE", share)
            with pytest.raises(KeyboardInterrupt):
                train_tiny(tmp_path / name, **settings)
            state = json.loads((tmp_path / name / "checkpoints" / "last" / STATE_FILE).read_text())
            assert (state["epoch"], state["best_epoch"]) == left
    for which in ("best", "last"):
        compare(tmp_path / "at once", tmp_path / "later", name=which)
    resumed = train_tiny(tmp_path / "later", resume=True, **settings)
    whole = train_tiny(tmp_path / "whole", **settings)
    assert [row.loss for row in resumed.state.history] == [row.loss for row in whole.state.history]
    for which in ("best", "last"):
        compare(tmp_path / "later", tmp_path / "whole", name=which)


def compare(first: Path, second: Path, *, name: str) -> None:
    both = [weights(path, name) for path in (first, second)]
    for one, other in zip(*both, strict=True):
        np.testing.assert_array_equal(one, other, err_msg=name)


def weights(run: Path, name: str) -> list[Any]:
    return list(Classifier.load(run / "checkpoints" / name).model.get_weights())
