"""The range test: the suggestion is in the fall, whatever the noise, and a run follows it."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from cnnclf.config import TrainConfig, load_config
from cnnclf.data.manifest import Dataset
from cnnclf.errors import DataError
from cnnclf.planning.plan import parse_plan
from cnnclf.planning.train_plan import TrainPlan, plan_training
from cnnclf.progress import Silent
from cnnclf.runs.run_directory import RunDirectory
from cnnclf.runs.run_opening import create_run, open_run
from cnnclf.training import rate_range
from cnnclf.training.epochs import EpochRow
from cnnclf.training.rate_range import find_range, has_diverged, smooth_losses
from cnnclf.training.run import execute_plan
from tests.conftest import Cli
from tests.training.conftest import TINY, draw_shapes

RATES = np.geomspace(1e-6, 1, 100)


def draw_curve(seed: int, *, noise: float) -> np.ndarray:
    """Return a loss that falls around 1e-3 and rises from 0.1 on."""
    at = np.log10(RATES)
    loss = 2.5 - 1.2 / (1 + np.exp(-4 * (at + 3))) + 3 * np.clip(at + 1, 0, None)
    return np.asarray(loss + noise * np.random.default_rng(seed).normal(size=100))


@pytest.mark.parametrize("seed", range(20))
def test_the_suggestion_is_where_the_loss_falls(seed: int) -> None:
    found = find_range(RATES.tolist(), draw_curve(seed, noise=0.15).tolist())
    assert 2e-4 < found.suggested < 1e-2
    assert found.suggested < found.lowest < 0.4


def test_a_loss_that_only_falls_says_nothing_of_higher_rates() -> None:
    assert find_range(RATES.tolist(), draw_curve(0, noise=0).tolist()).has_end
    assert not find_range(RATES.tolist(), np.linspace(9, 1, 100).tolist()).has_end


def test_a_loss_that_becomes_nan_ends_the_curve() -> None:
    losses = [*draw_curve(0, noise=0)[:80], math.nan, 5.0]
    found = find_range(RATES[:82].tolist(), losses)
    assert len(found.losses) == len(found.rates) == 80
    assert has_diverged(losses)
    assert not has_diverged(losses[:80])


def test_a_loss_that_never_falls_is_refused() -> None:
    with pytest.raises(DataError, match="does not fall"):
        find_range(RATES.tolist(), np.linspace(1, 9, 100).tolist())


def test_a_loss_that_is_no_number_from_the_start_is_refused() -> None:
    for loss in (math.nan, math.inf):
        with pytest.raises(DataError, match=f"the loss is {loss:g} at the first step"):
            find_range([1e-6], [loss])


def test_the_average_has_no_bias() -> None:
    assert smooth_losses([2.0] * 5) == pytest.approx([2.0] * 5)


def test_a_run_finds_its_rate_once(
    shapes: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[object] = []

    def try_rates(plan: object, *_arguments: object, **_options: object) -> rate_range.RateRange:
        import keras

        keras.utils.set_random_seed(99)  # as training would
        tried.append(plan)
        return rate_range.RateRange([0.002] * 30, [1.0] * 30, 0.002, 0.01)

    monkeypatch.setattr(rate_range, "try_rates", try_rates)

    def train(path: Path, rate: object, *, resume: bool = False, stop: int = 0) -> list[float]:
        config, given = load_config(
            options=TINY | {"optimizer.learning_rate": rate}, kind=TrainConfig
        )
        plan = plan_training(config, shapes, given=given)
        if resume:
            plan = parse_plan(RunDirectory(path).plan, TrainPlan.from_dict)

        def interrupt(row: EpochRow, _best: bool) -> None:
            if row.epoch == stop:
                raise KeyboardInterrupt

        result = execute_plan(
            plan,
            shapes,
            make_run=lambda: open_run(path) if resume else create_run(path),
            progress=Silent(),
            resume=resume,
            listeners=[interrupt],
        )
        return [row.loss for row in result.history]

    given = train(tmp_path / "given", 0.002)
    assert train(tmp_path / "found", "find") == given
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "stopped", "find", stop=1)
    assert len(tried) == 2
    assert train(tmp_path / "stopped", "find", resume=True) == given
    assert len(tried) == 2
    run = RunDirectory(tmp_path / "stopped")
    plan = parse_plan(run.plan, TrainPlan.from_dict)
    assert plan.config.optimizer.learning_rate == 0.002
    assert "range test of 30 steps" in plan.reasons["optimizer.learning_rate"]
    assert load_config(run.settings, kind=TrainConfig)[0].optimizer.learning_rate == "find"


@pytest.mark.parametrize("options", [["--fix", "optimizer.learning_rate=find"], ["--space"]])
def test_a_search_refuses_to_find_the_rate(cli: Cli, tmp_path: Path, options: list[str]) -> None:
    draw_shapes(tmp_path / "shapes")
    space = tmp_path / "space.toml"
    space.write_text('"optimizer.learning_rate" = ["find", 0.01]')
    if options == ["--space"]:
        options = [*options, str(space)]
    result = cli("tune", tmp_path / "shapes", "--minutes", "1", *options)
    assert result.code in {2, 4}
    assert "lr-find" in result.stderr


def test_the_command_suggests_a_rate(cli: Cli, tmp_path: Path) -> None:
    draw_shapes(tmp_path / "shapes")
    page = tmp_path / "rate.html"
    result = cli("lr-find", tmp_path / "shapes", "--preset", "tiny", "--steps", "60", "-o", page)
    assert result.code == 0, result.stderr
    assert "suggested" in result.stdout
    said = "adamw, as train with --learning-rate; without it, train uses muon"
    assert said in " ".join(result.stdout.split())
    assert page.read_text(encoding="utf-8").count("<svg") == 1
    assert "the learning rate of adamw grew" in page.read_text(encoding="utf-8")
    assert "The first 10 steps" in page.read_text(encoding="utf-8")
    again = f"cnnclf train {tmp_path / 'shapes'} --preset tiny --learning-rate "
    assert again in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rate.html", "shapes"]
    assert "each training image is seen" not in result.stderr
    assert cli("lr-find", tmp_path / "shapes", "-o", page).code == 2
    given = ("--preset", "tiny", "--steps", "30", "--optimizer", "sgd", "--json")
    assert json.loads(cli("lr-find", tmp_path / "shapes", *given).stdout)["optimizer"] == "sgd"
    often = cli("lr-find", tmp_path / "shapes", *given[:-1], "--batch-size", "1000")
    assert "each training image is seen 30 times" in " ".join(often.stderr.split())
