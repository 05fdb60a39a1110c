"""The stages of a fine-tuning: told from directories alone, and what is left to do at each."""

import json
from pathlib import Path

import pytest

from cnnclf.errors import RunError
from cnnclf.runs.run_directory import RunDirectory
from cnnclf.runs.run_opening import create_run
from cnnclf.training.phases import (
    STEPS,
    RunStage,
    Step,
    drop_earlier,
    find_stage,
    keep_head,
    restore_head,
)


def make_run(path: Path, phase: str, *, has_earlier: bool) -> RunDirectory:
    run = create_run(path)
    run.last.mkdir(parents=True)
    (run.last / "state.json").write_text(json.dumps({"phase": phase}))
    if has_earlier:
        run.earlier.mkdir()
        (run.earlier / "who").write_text("head")
    return run


@pytest.mark.parametrize(
    ("phase", "has_earlier", "stage"),
    [
        ("head", False, RunStage.HEAD),
        ("head", True, RunStage.BETWEEN),
        ("tail", True, RunStage.TAIL),
        ("tail", False, RunStage.CHOSEN),
    ],
)
def test_directories_tell_the_stage(
    tmp_path: Path, phase: str, has_earlier: bool, stage: RunStage
) -> None:
    run = make_run(tmp_path / "run", phase, has_earlier=has_earlier)
    assert find_stage(run, resume=True) is stage
    assert find_stage(run, resume=False) is RunStage.NEW


def test_another_phase_is_damage(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", "train", has_earlier=False)
    with pytest.raises(RunError, match=r"state\.json is damaged: .* received 'train'"):
        find_stage(run, resume=True)


def test_steps_follow_from_the_stage() -> None:
    assert set(STEPS) == set(RunStage)
    for stage, steps in STEPS.items():
        assert len(set(steps)) == len(steps)
        assert (Step.FIT_HEAD in steps) == (stage is RunStage.NEW)
        assert (Step.RESTORE_HEAD in steps) == (stage is RunStage.BETWEEN)
        assert (Step.RESUME_TAIL in steps) == (stage in {RunStage.TAIL, RunStage.CHOSEN})
        assert (Step.CHOOSE in steps) == (stage is not RunStage.CHOSEN), "a choice is made once"
        assert steps[-1] is Step.SETTLE
    order = list(Step)
    assert all(list(steps) == sorted(steps, key=order.index) for steps in STEPS.values())


def test_the_best_of_the_head_comes_back(tmp_path: Path) -> None:
    """`earlier` is a copy until it is restored or dropped, and the stages follow."""
    run = make_run(tmp_path / "run", "head", has_earlier=False)
    run.best.mkdir()
    (run.best / "who").write_text("head")
    keep_head(run)
    assert find_stage(run, resume=True) is RunStage.BETWEEN
    (run.best / "who").write_text("tail")
    restore_head(run)
    assert (run.best / "who").read_text() == "head"
    assert find_stage(run, resume=True) is RunStage.HEAD
    restore_head(run)  # nothing to restore
    keep_head(run)
    (run.last / "state.json").write_text('{"phase": "tail"}')
    drop_earlier(run)
    assert find_stage(run, resume=True) is RunStage.CHOSEN
