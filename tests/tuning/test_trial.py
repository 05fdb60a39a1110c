"""Trials that are trained for real, in legs."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cnnclf.config import TrainConfig, load_config
from cnnclf.data.manifest import load_dataset
from cnnclf.errors import RunError
from cnnclf.importers import import_source
from cnnclf.planning.train_plan import plan_training
from cnnclf.progress import Silent
from cnnclf.runs.run_directory import RunDirectory, RunStatus
from cnnclf.runs.run_lock import LOCK_FILE
from cnnclf.training.fitting import fit
from cnnclf.tuning import trial
from cnnclf.tuning.trial import KeptNetworks, TrialJob, TrialOutcome, continue_trial
from tests.training.conftest import draw_shapes


def test_a_trial_in_legs_equals_a_whole_one_and_compiles_once_in_a_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled = []

    def watch(*arguments: Any, **options: Any) -> Any:
        compiled.append(arguments)
        return compile_phase(*arguments, **options)

    compile_phase = fit.compile_phase
    monkeypatch.setattr(fit, "compile_phase", watch)
    import_source(draw_shapes(tmp_path / "shapes"), tmp_path / "data", progress=Silent())
    data = load_dataset(tmp_path / "data")
    settings = {"training.epochs": 4, "model.filters": [4, 4], "model.dropout": 0.3}
    config, given = load_config(arguments={"training.batch_size": 16, **settings}, kind=TrainConfig)
    job = TrialJob(tmp_path, plan_training(config, data, given=given), data.directory, 0, 4)

    def reach(name: str, epochs: int, kept: KeptNetworks | None = None) -> TrialOutcome:
        progress = Silent()
        leg = replace(job, path=tmp_path / name, epochs=epochs)
        found = continue_trial(leg, on_epoch=lambda _: None, progress=progress, kept=kept)
        assert (found.epochs, progress.warnings) == (epochs, [])
        return found

    kept, whole = KeptNetworks(), reach("whole", 4)
    reach("legs", 1, kept)
    reach("legs", 2)  # as another process would, which changes what is on disk
    assert len(compiled) == 3
    legs = reach("legs", 4, kept)
    assert len(compiled) == 3
    rows = [
        [replace(row, seconds=0.0, data_wait_s=0.0) for row in outcome.history]
        for outcome in (whole, legs)
    ]
    assert rows[0] == rows[1]
    assert legs.is_over
    assert legs.val_accuracy == whole.val_accuracy


@pytest.mark.parametrize("module", ["tensorflow.python", "here"])
def test_a_trial_without_memory_ends_itself_and_not_the_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise type("ResourceExhaustedError", (Exception,), {"__module__": module})("OOM when")

    monkeypatch.setattr(trial, "fit", fail)
    import_source(draw_shapes(tmp_path / "shapes"), tmp_path / "data", progress=Silent())
    data = load_dataset(tmp_path / "data")
    plan = plan_training(TrainConfig(), data, given={})
    job = TrialJob(tmp_path / "007", plan, data.directory, 1, 4)
    progress, kept = Silent(), KeptNetworks()
    kept.take(tmp_path / "006")
    if module == "here":  # any other error is a bug
        with pytest.raises(Exception, match="OOM when"):
            continue_trial(job, on_epoch=lambda _: None, progress=progress, kept=kept)
        return
    found = continue_trial(job, on_epoch=lambda _: None, progress=progress, kept=kept)
    assert (found.problem, found.is_over) == ("not enough memory: OOM when", True)
    assert progress.warnings == [found.problem]
    assert not kept


def test_a_trial_whose_process_is_killed_three_times_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import_source(draw_shapes(tmp_path / "shapes"), tmp_path / "data", progress=Silent())
    data = load_dataset(tmp_path / "data")
    job = TrialJob(
        tmp_path / "007", plan_training(TrainConfig(), data, given={}), data.directory, 1, 4
    )

    def kill(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(trial, "fit", kill)
    for status in (RunStatus.INTERRUPTED, *3 * [RunStatus.RUNNING]):
        with pytest.raises(KeyboardInterrupt):
            continue_trial(job, on_epoch=lambda _: None, progress=Silent())
        RunDirectory(job.path).update_run(status=status)
        (job.path / LOCK_FILE).touch()  # a kill leaves it, and the status RUNNING
    progress = Silent()
    found = continue_trial(job, on_epoch=lambda _: None, progress=progress)
    assert found.is_over
    assert progress.warnings == [found.problem]
    assert "was killed 3 times after epoch 0" in found.problem


def test_a_finished_trial_counts_without_the_state_that_continues_it(tmp_path: Path) -> None:
    path = tmp_path / "007"
    assert trial.read_outcome(path).epochs == 0
    shutil.copytree("sample_data/tiny_run", path)
    assert not (path / "checkpoints" / "last").exists()
    found = trial.read_outcome(path)
    assert found.is_whole
    assert found.epochs == len((path / "history.csv").read_text().splitlines()) - 1 > 0
    (path / "run.json").write_text("{")
    for _ in range(2):
        with pytest.raises(RunError, match="is damaged") as caught:
            trial.read_outcome(path)
        assert caught.value.hint == f"to train this trial again, first: rm -r {path}"
        (path / "run.json").unlink(missing_ok=True)


def test_only_the_last_networks_are_kept() -> None:
    kept = KeptNetworks()
    first = kept.take(Path("0"))
    for number in range(1, 8):
        kept.take(Path(str(number)))
    assert kept.take(Path("0")) is first
    kept.take(Path("8"))
    assert next(iter(kept)) == Path("2")
