"""Searches whose trainings are played: their run directories are real, their epochs cost nothing.

The last test trains and kills real processes.
"""

import csv
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cnnclf.config import TrainConfig, load_config
from cnnclf.config.tune_config import TuneConfig
from cnnclf.data.manifest import load_dataset
from cnnclf.errors import ConfigError, DataError, RunError, UsageError
from cnnclf.files import read_json, write_json_atomic
from cnnclf.importers import import_source
from cnnclf.planning import choices
from cnnclf.planning.finetune_plan import FinetunePlan
from cnnclf.planning.train_plan import TrainPlan
from cnnclf.progress import Progress, Silent
from cnnclf.runs.run_directory import RunDirectory, RunStatus
from cnnclf.runs.run_lock import holding_run
from cnnclf.runs.run_names import STATE_FILE
from cnnclf.runs.run_opening import create_run
from cnnclf.training.epochs import EpochRow, StopRequest
from cnnclf.tuning import budget, finals, search, workers
from cnnclf.tuning.leaderboard import SearchResult, write_result
from cnnclf.tuning.proposals import POINTS_FILE
from cnnclf.tuning.request import SearchRequest, prepare_search
from cnnclf.tuning.search import Search
from cnnclf.tuning.space import read_space
from cnnclf.tuning.trial import TrialJob, TrialOutcome, read_outcome
from cnnclf.tuning.workers import TrialReport, Workers, run_job
from tests.evaluation.test_paired_runs import write_evaluation
from tests.prediction.cluster.ray_nodes import open_nodes

EPOCHS = 18
SPACE = {
    "model.dropout": {"low": 0.0, "high": 0.5},
    "model.activation": ["relu", "gelu", "swish"],
    "optimizer.learning_rate": {"low": 0.1, "high": 10.0, "log": True, "relative": True},
}


class Player:
    """Plays trainings; raises KeyboardInterrupt after so many epochs of all trials together."""

    def __init__(self, *, epoch_s: float = 0.0, failing: str = "") -> None:
        self.epochs = 0
        self.interrupt_after = 10**9
        self.epoch_s = epoch_s
        self.clock = 0.0
        self.failing = failing  # the trial whose loss becomes NaN in epoch 5
        self.evaluation_s = 0.0

    def __call__(
        self,
        job: TrialJob,
        *,
        on_epoch: Callable[[EpochRow], StopRequest | None],
        progress: Progress,
        **_: object,
    ) -> TrialOutcome:
        path, plan, epochs = job.path, job.plan, job.epochs
        assert isinstance(plan, TrainPlan)
        run = RunDirectory(path)
        if not run.record.exists():
            create_run(path)
        history = [row.to_dict() for row in read_outcome(path).history]
        for epoch in range(len(history) + 1, epochs + 1):
            if path.name == self.failing and epoch == 5:
                run.update_run(status=RunStatus.FAILED, problem="loss became NaN")
                progress.warn("loss became NaN")
                return read_outcome(path)
            row = EpochRow(epoch, "train", 1.0, 0.5, *self.judge(plan, epoch), self.epoch_s, 0.0)
            history.append(row.to_dict())
            write_json_atomic(run.last / STATE_FILE, {"history": history})
            wall_s = len(history) * self.epoch_s
            run.update_run(status=RunStatus.INTERRUPTED, wall_s=wall_s)
            self.epochs += 1
            self.clock += self.epoch_s
            if self.epochs == self.interrupt_after:
                raise KeyboardInterrupt
            if on_epoch(row) is not None:
                run.update_run(status=RunStatus.PRUNED)
                return read_outcome(path)
        if epochs == EPOCHS:
            if not self.evaluation_s and not run.evaluation("val").exists():
                self.evaluate(run)
            run.update_run(status=RunStatus.FINISHED)
        else:
            run.update_run(status=RunStatus.PRUNED)
        return read_outcome(path)

    def evaluate(self, run: RunDirectory, *_: object, **__: object) -> None:
        """Write which val images a training has right."""
        self.clock += self.evaluation_s
        right = round(300 * (read_outcome(run.path).history[-1].val_accuracy or 0))
        paths = [f"x/{number}" for number in range(300)]
        found = ["x"] * right + ["o"] * (300 - right)
        write_evaluation(run.path, found, split="val", paths=paths)

    def judge(self, plan: TrainPlan, epoch: int) -> tuple[float, float, float]:
        """Return val loss, val accuracy and rate: low dropout and rates near 0.01 are good."""
        rate = float(plan.config.optimizer.learning_rate)
        quality = (
            0.9 - plan.config.model.dropout - abs(rate - 0.01) + 0.001 * plan.config.runtime.seed
        )
        accuracy = max(0.1, quality * (1 - 0.5**epoch))
        return 1 - accuracy, round(accuracy, 4), rate


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("tuned") / "data"
    import_source(Path("sample_data/x_or_o"), place, progress=Silent())
    return place


def start(
    directory: Path, dataset: Path, *, space: dict[str, Any] | None = None, **settings: object
) -> Search:
    config, _ = load_config(arguments={"trials": 12, **settings}, kind=TuneConfig)
    request = SearchRequest(
        dataset,
        load_dataset(dataset).fingerprint,
        (f"training.epochs={EPOCHS}",),
        read_space(space or SPACE, source="here"),
        config,
    )
    directory.mkdir()
    request.save(directory)
    return again(directory)


def again(directory: Path) -> Search:
    return Search(directory, SearchRequest.load(directory), Silent())


def test_a_killed_trial_took_as_long_as_its_epochs(tmp_path: Path) -> None:
    run = create_run(tmp_path / "000")
    rows = [EpochRow(epoch, "train", 1.0, 0.5, 1.0, 0.5, 0.01, 7.0, 0.0) for epoch in (1, 2)]
    write_json_atomic(run.last / STATE_FILE, {"history": [row.to_dict() for row in rows]})
    assert read_outcome(run.path).wall_s == 14
    run.update_run(wall_s=20.0)
    assert read_outcome(run.path).wall_s == 20


def essence(result: SearchResult) -> Any:
    """Return everything but the time that it took."""
    rows = [(row.trial, row.epochs, row.val_accuracy, row.settings) for row in result.rows]
    order = [mark[1:] for mark in result.marks]
    return rows, order, result.confirmations, result.winner


def test_a_better_configuration_is_found_and_confirmed(
    tmp_path: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    player = Player()
    monkeypatch.setattr(workers, "continue_trial", player)
    result = start(tmp_path / "s", dataset).run()
    assert result.rows[0].trial == result.winner > 0
    assert result.verdict.startswith(f"trial {result.winner} is better than the default (diff")
    assert result.rows[-1].epochs == 2  # of the first rung
    default = next(row for row in result.rows if row.trial == 0)
    assert default.epochs == EPOCHS
    assert all(each.seeds == 3 for each in result.confirmations)
    trained = sum(row.epochs for row in result.rows) + EPOCHS * 2 * (1 + len(result.confirmations))
    assert player.epochs == trained  # nothing was trained twice
    write_result(result)
    text = (tmp_path / "s" / "best.toml").read_text(encoding="utf-8")
    config, given = load_config(tmp_path / "s" / "best.toml", kind=TrainConfig)
    assert config.training.epochs == EPOCHS
    assert f"Trial {result.winner} of s" in text
    assert set(result.rows[0].settings) <= set(given)
    with (tmp_path / "s" / "leaderboard.csv").open(encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    assert [json.loads(row["settings"]) for row in table] == [row.settings for row in result.rows]
    assert len(table) == 12
    monkeypatch.chdir(tmp_path / "s")
    write_result(replace(result, directory=Path()))
    assert Path("best.toml").read_text(encoding="utf-8") == text
    assert read_json(tmp_path / "s" / "result.json")["winner"] == result.winner


def test_the_leaderboard_has_the_values_that_were_trained_not_factors_or_auto(
    tmp_path: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans: dict[int, TrainPlan] = {}

    def play(job: TrialJob, **others: Any) -> TrialOutcome:
        assert isinstance(job.plan, TrainPlan)
        plans.setdefault(int(job.path.name.partition("-")[0]), job.plan)
        return player(job, **others)

    player, rate, convs = Player(), "optimizer.learning_rate", "model.convs_per_block"
    monkeypatch.setattr(workers, "continue_trial", play)
    space: dict[str, Any] = {rate: SPACE[rate], convs: ["auto", [1], [3]]}
    result = start(tmp_path / "s", dataset, space=space).run()
    shown = [row for row in result.rows if rate in row.settings]
    assert len(shown) > 5
    for row in result.rows:
        own = plans[row.trial].config
        assert row.settings.get(rate, own.optimizer.learning_rate) == own.optimizer.learning_rate
        assert row.settings.get(convs, own.model.convs_per_block) == own.model.convs_per_block
        assert row.settings.get(convs) != plans[0].config.model.convs_per_block
    write_result(result)
    row = shown[0]
    text = (tmp_path / "s" / "leaderboard.csv").read_text(encoding="utf-8")
    assert f"learning_rate={row.settings[rate]:.4g}" in text


def test_interrupted_at_any_epoch_the_search_ends_as_if_it_were_not(
    tmp_path: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    player = Player()
    monkeypatch.setattr(workers, "continue_trial", player)
    player.failing = (
        f"{start(tmp_path / 'first', dataset, trials=7, seeds=1).run().rows[0].trial:03d}"
    )
    player.epochs = 0
    whole = start(tmp_path / "whole", dataset, trials=7, seeds=2).run()
    assert any(row.problem for row in whole.rows)
    count = player.epochs
    for moment in range(1, count + 1, 3):
        player.epochs, player.interrupt_after = 0, moment
        directory = tmp_path / f"at-{moment}"
        with pytest.raises(KeyboardInterrupt):
            start(directory, dataset, trials=7, seeds=2).run()
        player.interrupt_after = 10**9
        assert essence(again(directory).run()) == essence(whole)
        assert player.epochs == count


@pytest.mark.usefixtures("timed")
def test_more_minutes_do_not_change_earlier_trials(tmp_path: Path, dataset: Path) -> None:
    first = start(tmp_path / "s", dataset, minutes=1.5, trials=40).run()
    assert first.seconds <= 1.1 * 90
    assert first.rows[0].epochs == EPOCHS
    points = read_json(tmp_path / "s" / POINTS_FILE)["points"]
    assert len(points) > 4
    request = SearchRequest.load(tmp_path / "s")
    longer = request.config.model_copy(update={"minutes": 6.0})
    second = Search(
        tmp_path / "s",
        SearchRequest(request.dataset, request.fingerprint, request.fixed, request.space, longer),
        Silent(),
    ).run()
    assert read_json(tmp_path / "s" / POINTS_FILE)["points"][: len(points)] == points
    assert 1.5 * first.seconds < second.seconds <= 1.1 * 360
    assert len(second.rows) > len(first.rows)


@pytest.mark.usefixtures("timed")
def test_the_end_of_the_time_is_for_trials_that_can_be_trained_to_the_end(
    tmp_path: Path, dataset: Path
) -> None:
    result = start(tmp_path / "s", dataset, minutes=1.5, trials=40, seeds=1).run()
    first: dict[int, float] = {}
    for mark in result.marks:
        first.setdefault(mark.trial, mark.seconds)
    assert 6 < len(first) < 40
    assert max(first.values()) <= 90 - EPOCHS + 2
    # less is left than the last rung takes, from a third of the epochs to all
    assert 90 - result.marks[-1].seconds < EPOCHS - EPOCHS // 3
    assert sum(row.epochs == EPOCHS for row in result.rows) >= 3


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> Player:
    """Trainings whose epochs take a second of a clock that only they move."""
    player = Player(epoch_s=1.0)
    monkeypatch.setattr(workers, "continue_trial", player)
    for module in (budget, workers):
        monkeypatch.setattr(module, "monotonic", lambda: player.clock)
    return player


def test_time_that_is_too_short_for_another_training_is_used_by_first_rungs(
    tmp_path: Path, dataset: Path, timed: Player
) -> None:
    search = start(tmp_path / "s", dataset, minutes=0.5, trials=None)
    result = search.run()
    assert 28 <= timed.clock <= 1.1 * 30
    assert sorted((row.epochs for row in result.rows), reverse=True) == [EPOCHS, 6, 2, 2, 2]
    assert result.verdict == "the default: no other configuration was trained to the end"
    assert search.progress.notes == []  # type: ignore[attr-defined]


def test_two_seeds_of_the_best_and_the_default_are_kept_where_there_is_time(
    tmp_path: Path, dataset: Path, timed: Player
) -> None:
    limit_s = 84.0
    result = start(tmp_path / "s", dataset, minutes=limit_s / 60, trials=None).run()
    assert 0.9 * limit_s <= timed.clock <= 1.1 * limit_s
    assert [each.seeds for each in result.confirmations] == [2]
    assert len(result.rows) >= 4
    whole, count = essence(result), timed.epochs
    for moment in range(EPOCHS, count, 7):
        timed.epochs, timed.interrupt_after = 0, moment
        directory = tmp_path / f"at-{moment}"
        with pytest.raises(KeyboardInterrupt):
            start(directory, dataset, minutes=limit_s / 60, trials=None).run()
        timed.interrupt_after = 10**9
        assert essence(again(directory).run()) == whole
        assert timed.epochs == count


def test_time_is_kept_for_other_seeds_only_once_there_is_another_configuration(
    tmp_path: Path, dataset: Path, timed: Player, monkeypatch: pytest.MonkeyPatch
) -> None:
    def play(job: TrialJob, **others: Any) -> TrialOutcome:
        if not timed.clock:
            timed.clock = 12.0  # what starts before the first training
        return timed(job, **others)

    monkeypatch.setattr(workers, "continue_trial", play)
    result = start(tmp_path / "s", dataset, minutes=75 / 60, trials=None).run()
    assert len(result.rows) > 1
    assert timed.clock <= 1.1 * 75


def test_a_training_that_was_cut_is_not_the_winners(
    tmp_path: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def play(job: TrialJob, **others: Any) -> TrialOutcome:
        outcome = player(replace(job, epochs=5) if is_cut(job) else job, **others)
        RunDirectory(job.path).update_run(best_val_accuracy=0.9 if is_cut(job) else 0.5)
        return outcome

    def is_cut(job: TrialJob) -> bool:
        return job.path.name.endswith("-seed2")

    player = Player()
    monkeypatch.setattr(workers, "continue_trial", play)
    result = start(tmp_path / "s", dataset).run()
    assert {each.seeds for each in result.confirmations} == {2}
    assert list((tmp_path / "s").rglob(f"{result.winner:03d}-seed2"))
    assert RunDirectory(result.run.path).status() is RunStatus.FINISHED


def test_a_finished_search_that_is_resumed_trains_no_further(
    tmp_path: Path, dataset: Path, timed: Player, monkeypatch: pytest.MonkeyPatch
) -> None:
    def play(job: TrialJob, **others: Any) -> TrialOutcome:
        if not timed.clock:
            timed.clock = 30.0  # of the search, not of a trial
        return timed(job, **others)

    monkeypatch.setattr(workers, "continue_trial", play)
    first = start(tmp_path / "s", dataset, minutes=1.5, trials=None).run()
    write_result(first)
    count = timed.epochs
    assert essence(again(tmp_path / "s").run()) == essence(first)
    assert timed.epochs == count


def test_evaluations_are_part_of_the_time(
    tmp_path: Path, dataset: Path, timed: Player, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed.evaluation_s = 15.0
    monkeypatch.setattr(finals, "evaluate_trial", timed.evaluate)
    monkeypatch.setattr(finals, "monotonic", lambda: timed.clock)
    result = start(tmp_path / "s", dataset, minutes=5, trials=None).run()
    assert 0.9 * 300 <= timed.clock <= 1.1 * 300
    assert result.confirmations[0].seeds >= 2
    runs = [each for each in (tmp_path / "s" / "trials").iterdir() if read_outcome(each).is_over]
    evaluated = [each for each in runs if RunDirectory(each).evaluation("val").exists()]
    assert timed.clock == timed.epochs + 15 * len(evaluated)
    assert again(tmp_path / "s").run().seconds == timed.clock


def test_what_others_take_before_their_epochs_is_expected_of_the_next_trial(
    tmp_path: Path, dataset: Path, timed: Player, monkeypatch: pytest.MonkeyPatch
) -> None:
    def play(job: TrialJob, **others: Any) -> TrialOutcome:
        """Search for the rates of a head, which the default does not need."""
        is_new = job.path.name != "000" and not job.path.exists()
        timed(job, **others)
        if is_new:
            timed.clock += 60
            run = RunDirectory(job.path)
            run.update_run(wall_s=run.read_record()["wall_s"] + 60)
        return read_outcome(job.path)

    monkeypatch.setattr(workers, "continue_trial", play)
    start(tmp_path / "s", dataset, minutes=5, trials=None, seeds=1).run()
    assert timed.clock <= 1.1 * 300


def test_a_seed_of_the_best_is_not_trained_without_that_of_the_default(
    tmp_path: Path, dataset: Path, timed: Player
) -> None:
    result = start(tmp_path / "s", dataset, minutes=70 / 60, trials=4).run()
    assert timed.clock == 2 * EPOCHS + 2 + 2
    assert [each.seeds for each in result.confirmations] == [1]


@pytest.mark.parametrize(("part", "epoch_s"), [("003", 70.0), ("-seed", 6.0)])
def test_a_trial_that_becomes_slow_is_cut_once_the_time_is_over(
    tmp_path: Path,
    dataset: Path,
    timed: Player,
    monkeypatch: pytest.MonkeyPatch,
    part: str,
    epoch_s: float,
) -> None:
    cut: set[str] = set()

    def play(job: TrialJob, **others: Any) -> TrialOutcome:
        is_slow = part in job.path.name and not job.path.name.startswith("000")
        timed.epoch_s = epoch_s if is_slow else 1.0
        cut.update([job.path.name] * is_slow)
        return timed(job, **others)

    monkeypatch.setattr(workers, "continue_trial", play)
    result = start(tmp_path / "s", dataset, minutes=1.4, trials=None).run()
    [name] = cut
    assert 0 < read_outcome(tmp_path / "s" / "trials" / name).epochs < EPOCHS
    assert 84 < timed.clock < 1.05 * 84 + epoch_s
    assert result.winner == 0
    assert result.seconds == timed.clock


def test_a_search_that_ends_early_says_why(
    tmp_path: Path, dataset: Path, timed: Player, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules[__name__], "EPOCHS", 4)  # they have one rung
    timed.epoch_s = 15.0
    search = start(tmp_path / "s", dataset, minutes=1.8, trials=None)
    search.run()
    assert timed.clock == 60
    note = "0.8 of 1.8 minutes are left: another training takes about 1.0"
    assert search.progress.notes == [note]  # type: ignore[attr-defined]


def test_a_budget_shorter_than_one_training_is_refused(
    tmp_path: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    player = Player(epoch_s=10.0)
    monkeypatch.setattr(workers, "continue_trial", player)
    for module in (budget, workers):
        monkeypatch.setattr(module, "monotonic", lambda: player.clock)
    with pytest.raises(UsageError, match="--minutes 1 is shorter than one training") as caught:
        start(tmp_path / "s", dataset, minutes=1.0).run()
    assert "about 3.0 minutes" in caught.value.message
    assert f"--resume {tmp_path / 's'} --minutes 30" in caught.value.hint
    config, _ = load_config(arguments={"minutes": 0.01}, kind=TuneConfig)
    data = load_dataset(dataset)
    with pytest.raises(UsageError, match=r"--minutes 0\.01 is shorter than one training"):
        prepare_search(data, config, command="train", space=None, source="", fix=())


def test_a_default_that_was_interrupted_needs_only_its_other_epochs(
    tmp_path: Path, dataset: Path, timed: Player
) -> None:
    timed.interrupt_after = 12
    with pytest.raises(KeyboardInterrupt):
        start(tmp_path / "s", dataset, minutes=20 / 60).run()
    timed.interrupt_after = 10**9
    result = again(tmp_path / "s").run()
    assert (result.rows[0].trial, result.rows[0].epochs) == (0, EPOCHS)


def test_a_default_that_fails_does_not_cost_the_search(
    tmp_path: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    player = Player()
    player.failing = "000"
    monkeypatch.setattr(workers, "continue_trial", player)
    result = start(tmp_path / "s", dataset).run()
    write_result(result)
    assert result.winner == result.rows[0].trial > 0
    assert result.run.path.name == f"{result.winner:03d}"
    assert result.verdict.endswith("the best of one seed: the default failed (loss became NaN)")
    assert essence(again(tmp_path / "s").run()) == essence(result)


def test_a_search_in_which_all_fail_says_why(
    tmp_path: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing(Player):
        def __call__(self, job: TrialJob, **others: Any) -> TrialOutcome:
            self.failing = job.path.name
            return super().__call__(replace(job, epochs=EPOCHS), **others)

    monkeypatch.setattr(workers, "continue_trial", Failing())
    with pytest.raises(RunError, match="no configuration could be trained; the default: loss bec"):
        start(tmp_path / "s", dataset, trials=3).run()


def test_no_better_than_the_default_is_a_result(
    tmp_path: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "continue_trial", Player())
    space = {"model.activation": ["relu", "gelu"]}  # neither of which changes anything; seeds do
    result = start(tmp_path / "s", dataset, space=space, trials=4).run()
    assert result.winner == 0
    assert result.verdict.startswith("no better than the default (difference 0.1 points, interval")
    assert result.run.path.name.startswith("000")
    write_result(result)
    assert "nothing was shown to beat" in (tmp_path / "s" / "best.toml").read_text(encoding="utf-8")


def test_what_cannot_be_searched_is_refused(
    tmp_path: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "continue_trial", Player())
    impossible = {"augment.hue": [0.1], "data.color": ["gray"]}
    with pytest.raises(ConfigError, match=r"none of 200 configurations .*hue needs color images"):
        start(tmp_path / "a", dataset, space=impossible, sampler="random").run()
    config, _ = load_config(kind=TuneConfig)
    for space, message in (
        ({"model.blocks": [1], "model.filters": [[8, 16]]}, r"model.filters = 8,16: 2 .* 1 block"),
        ({"model.activation": {"low": 1, "high": 2, "relative": True}}, "model.activation is relu"),
    ):
        with pytest.raises(ConfigError, match=f"none of 50 .* can be trained: {message}"):
            prepare_search(
                load_dataset(dataset), config, command="train", space=space, source="a", fix=()
            )
    directory = start(tmp_path / "b", dataset).directory
    with holding_run(directory), pytest.raises(RunError, match=r"b is still running \(process"):
        again(directory).run()
    content = read_json(directory / "tuning.json")
    content["dataset"]["fingerprint"] = "f0"
    write_json_atomic(directory / "tuning.json", content)
    with pytest.raises(DataError, match="has changed since the search"):
        again(directory).run()
    write_json_atomic(directory / "tuning.json", {"version": 1})
    with pytest.raises(RunError, match="damaged"):
        again(directory)
    with pytest.raises(RunError, match="not a tuning directory"):
        again(tmp_path)


def test_the_order_of_trials_does_not_depend_on_which_worker_is_faster(
    tmp_path: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "continue_trial", Player())
    found = []
    running, most = 0, 0

    def open_threads(speed: int) -> Callable[..., AbstractContextManager[Workers]]:
        draw = random.Random(speed).random

        def run(job: TrialJob, wait_s: float) -> TrialReport:
            nonlocal running, most
            running += 1
            most = max(most, running)
            time.sleep(wait_s)
            running -= 1
            return run_job(job)

        @contextmanager
        def opened(*_: object, **__: object) -> Iterator[Workers]:
            with ThreadPoolExecutor(3) as pool:
                yield Workers(3, lambda job: pool.submit(run, job, draw() / 20))

        return opened

    for speed in (0, 1, 2):
        monkeypatch.setattr(search, "open_workers", open_threads(speed))
        result = start(tmp_path / f"{speed}", dataset, trials=10, seeds=2, jobs=3).run()
        found.append(essence(result))
        assert len(result.rows) == 10
    assert most > 1
    assert found[0] == found[1] == found[2]


def test_networks_are_searched_around_the_default_preset_where_train_chooses_fast(
    dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choices, "MANY_IMAGES", 100)
    config, _ = load_config(kind=TuneConfig)
    fix, data = ("data.image_size=32",), load_dataset(dataset)
    request, plan = prepare_search(data, config, command="train", space=None, source="", fix=fix)
    assert isinstance(plan, TrainPlan)
    assert plan.config.model.preset == "fast"
    first = request.plan({}, data)
    assert isinstance(first, TrainPlan)
    assert first.config.model == plan.config.model  # trial 0 is what train would do
    space = {each.key: each for each in request.space.dimensions}
    point = dict.fromkeys(space, 0.5)
    other = request.plan(request.space.decode(point), data)
    assert isinstance(other, TrainPlan)
    assert other.config.model.preset == "default"
    assert [32, 56, 64] in space["model.filters"].choices
    assert other.config.optimizer.name == "adamw"
    assert float(other.config.optimizer.learning_rate) < 0.01  # not of the muon of fast


def test_settings_of_finetune_are_searched_by_the_epochs_of_its_tail(
    tmp_path: Path, dataset: Path
) -> None:
    config, _ = load_config(arguments={"trials": 3}, kind=TuneConfig)
    fix = ("tail.epochs=9", "data.image_size=32", "backbone.weights=none")
    data = load_dataset(dataset)
    request, plan = prepare_search(data, config, command="finetune", space=None, source="", fix=fix)
    assert request.recipe.count_epochs(plan) == 9
    request.save(tmp_path)
    assert SearchRequest.load(tmp_path) == request
    keys = [each.key for each in request.space.dimensions]
    assert "backbone.name" not in keys  # which of them is random says nothing
    assert "tail.learning_rate" in keys
    assert "head.search_rates" not in keys
    point = dict.fromkeys(keys, 0.99)
    other = request.plan(request.space.decode(point), data)
    assert isinstance(other, FinetunePlan)
    assert isinstance(plan, FinetunePlan)
    assert len(other.config.head.search_rates) == 5  # each trial but the default searches its head
    same = request.plan({}, data, seed=1)
    fixed = replace(request, fixed=(*fix, "head.search_rates=0.01"))
    alone = fixed.plan(request.space.decode(point), data)
    assert isinstance(same, FinetunePlan)
    assert isinstance(alone, FinetunePlan)
    assert same.config.head == plan.config.head
    assert alone.config.head.search_rates == [0.01]
    assert other.config.tail.unfreeze == plan.config.tail.unfreeze == "4"  # the automatic number
    assert other.config.tail.learning_rate == pytest.approx(
        4 * float(plan.config.tail.learning_rate), rel=0.05
    )
    free, _ = prepare_search(data, config, command="finetune", space=None, source="", fix=())
    assert "efficientnet-lite0" in free.space.dimensions[0].choices
    rows = [EpochRow(n, "head", 1.0, 0.5, 1.0, 0.9, 0.01, 1.0, 0.0) for n in (1, 2, 3)]
    rows += [EpochRow(n, "tail", 1.0, 0.5, 1.0, n / 10, 0.01, 7.0, 0.0) for n in (4, 5, 6)]
    outcome = TrialOutcome(rows, wall_s=30.0)
    assert (outcome.epochs, outcome.epoch_s, outcome.overhead_s) == (3, 7.0, 9.0)
    assert outcome.accuracy(1, val_count=300) == 0.9  # the head counts at every rung
    assert len(outcome.scores((3, 9), val_count=300)) == 1
    with pytest.raises(UsageError, match=r"--fix tail\.unfreeze: space a searches it"):
        prepare_search(
            data,
            config,
            command="finetune",
            space={"tail.unfreeze": ["1", "2"]},
            source="space a",
            fix=("tail.unfreeze=1",),
        )


@pytest.mark.slow
@pytest.mark.timeout(600)  # workers of Ray have a low priority
@pytest.mark.skipif(os.name != "posix", reason="clusters of Ray are on posix")
def test_a_job_of_a_killed_node_continues_on_another(tmp_path: Path, dataset: Path) -> None:
    pytest.importorskip("ray")
    fix = "--fix data.image_size=16 --fix model.filters=8,8 --fix training.epochs=6"
    words = f"tune {dataset} {fix} --trials 4 --seeds 1 --minutes 60 --jobs 2 --quiet".split()
    with open_nodes() as nodes:
        nodes.start()
        second = nodes.start()
        whole, lost = tmp_path / "whole", tmp_path / "lost"
        for directory in (whole, lost):
            command = [sys.executable, "-m", "cnnclf", *words, "--ray", nodes.address]
            process = subprocess.Popen(
                [*command, "--out", str(directory)],
                env=nodes.environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
            )
            while directory == lost and process.poll() is None:
                if len(list(lost.glob("trials/*/history.csv"))) == 3:
                    nodes.kill(second)
                    break
                time.sleep(0.05)
            error = process.communicate()[1].decode()
            assert process.returncode == 0, error
    results = [read_json(each / "result.json")["leaderboard"] for each in (whole, lost)]
    for row in (row for result in results for row in result):
        del row["seconds"]
    assert results[0] == results[1]
    assert len(results[0]) == 4


@pytest.mark.slow
@pytest.mark.timeout(600)  # workers of Ray have a low priority
@pytest.mark.skipif(os.name != "posix", reason="clusters of Ray are on posix")
def test_each_gpu_trains_a_trial_and_this_process_loads_no_network(
    tmp_path: Path, dataset: Path
) -> None:
    pytest.importorskip("ray")
    fix = "--fix data.image_size=16 --fix model.filters=8,8 --fix training.epochs=4"
    words = f"tune {dataset} {fix} --trials 3 --seeds 1 --minutes 60".split()
    search = tmp_path / "search"
    script = (
        "import sys; from cnnclf.cli.main import main; code = main(sys.argv[1:]); "
        "print({'keras', 'tensorflow'} & set(sys.modules)); sys.exit(code)"
    )

    def call(*arguments: object) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-c", script, *map(str, arguments)]
        return subprocess.run(
            command, env=nodes.environment, capture_output=True, text=True, check=False
        )

    with open_nodes() as nodes:
        nodes.start(gpus=1)
        nodes.start(gpus=1)
        given = (*words, "--gpus", "--ray", nodes.address, "--out", search)
        found = call(*given)
        assert found.returncode == 0, found.stderr
        assert "2 trials side by side" in found.stderr
        assert found.stdout.splitlines()[-1] == "set()"
        # Ray was told of GPUs that are not there, as where a driver is missing
        assert found.stderr.count("the GPU of --gpus was not used, but CPU") == 1
        assert "oneDNN" not in found.stderr
        assert (search / "trials" / "000" / "evaluation" / "val").is_dir()
        rest = call("tune", "--resume", search, "--final", "--ray", nodes.address, "--no-gpus")
    assert rest.returncode == 0, rest.stderr
    assert "test accuracy" in rest.stdout
    assert "oneDNN" not in rest.stderr


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="kills processes as posix does")
def test_killed_processes_continue_to_the_same_result(tmp_path: Path, dataset: Path) -> None:
    settings = "--fix data.image_size=16 --fix model.filters=8,8 --fix training.epochs=6"
    words = f"tune {dataset} {settings} --trials 4 --seeds 1 --minutes 60 --quiet".split()

    def call(*arguments: object, kill_after: int | None = None) -> None:
        command = [sys.executable, "-m", "cnnclf", *map(str, arguments)]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        while kill_after is not None and process.poll() is None:
            done = sum(len(read_outcome(path).history) for path in killed.glob("trials/*"))
            if done >= kill_after:
                process.send_signal(signal.SIGKILL)
            time.sleep(0.05)
        error = process.communicate()[1].decode()
        assert process.returncode == (0 if kill_after is None else -signal.SIGKILL), error

    whole, killed = tmp_path / "whole", tmp_path / "killed"
    call(*words, "--out", whole)
    call(*words, "--out", killed, kill_after=3)
    call("tune", "--resume", killed, "--quiet", kill_after=9)
    call("tune", "--resume", killed, "--quiet")
    results = [read_json(each / "result.json") for each in (whole, killed)]
    for result in results:
        for row in result["leaderboard"]:
            del row["seconds"]
    assert results[0]["leaderboard"] == results[1]["leaderboard"]
    assert len(results[0]["leaderboard"]) == 4
    time_free = re.compile(r",[0-9.]+,[0-9.]+$", re.MULTILINE)  # seconds and waits
    tables = [
        [time_free.sub("", path.read_text()) for path in sorted(each.glob("trials/*/history.csv"))]
        for each in (whole, killed)
    ]
    assert tables[0] == tables[1]
    assert not list(killed.glob("trials/*/evaluation/test"))
