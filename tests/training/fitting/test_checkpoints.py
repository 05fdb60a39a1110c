"""When checkpoints are written."""

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cnnclf.training.fitting import checkpoints
from cnnclf.training.fitting.checkpoints import BundleContent, Checkpoints
from cnnclf.training.fitting.state import TrainingState


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
    monkeypatch.setattr(checkpoints, "save_state", lambda *_, **__: None)
    state = TrainingState()
    run: Any = SimpleNamespace(best=tmp_path / "best", last=tmp_path / "last")
    net: Any = SimpleNamespace(trainable_variables=[])
    average: Any = SimpleNamespace(in_net=nullcontext)
    one = Checkpoints(
        net,
        net,
        trainer=SimpleNamespace(trainable_variables=[], optimizer=None),
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
        one.save_best()
        one.save_last()
        epochs += [epoch] * (len(saved) - before == 2)
        assert len(saved) - before in {0, 2}, "the best is never newer than the last"
    assert epochs == written
    before = len(saved)
    one.finish()
    assert len(saved) - before == (0 if 4 in written else 2)
