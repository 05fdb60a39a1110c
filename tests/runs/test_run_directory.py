"""Run directories: names, status, refusals, and writing that survives a kill."""

import errno
import json
import os
import platform
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cnnclf import files
from cnnclf.errors import ExitCode, RunError, UsageError
from cnnclf.files import write_json_atomic
from cnnclf.inference.bundle_paths import find_bundle
from cnnclf.runs import run_opening
from cnnclf.runs.run_directory import RunDirectory
from cnnclf.runs.run_listing import list_runs, remove_run
from cnnclf.runs.run_names import RECORD_FILE, RUN_VERSION
from cnnclf.runs.run_opening import (
    check_new_run,
    claim_next_path,
    create_run,
    find_settings,
    next_run_path,
    open_run,
)


def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


# --- creating and opening


def test_create_run_writes_a_running_record(tmp_path: Path) -> None:
    run = create_run(tmp_path / "a" / "b", command=["cnnclf", "train"])
    record = run.read_record()
    assert record["status"] == "running"
    assert record["version"] == RUN_VERSION
    assert record["command"] == ["cnnclf", "train"]
    assert open_run(run.path) == run
    assert run.status() == "running"


def test_create_run_refuses_a_directory_with_anything_in_it(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(UsageError, match=r"not a run: it contains notes\.txt") as caught:
            create_run(tmp_path, overwrite=overwrite)
    assert caught.value.hint == "choose another --out"
    assert caught.value.exit_code is ExitCode.USAGE
    create_run(tmp_path / "my run").update_run(status="interrupted")
    with pytest.raises(UsageError) as caught:
        check_new_run(tmp_path / "my run")
    assert f"--resume '{tmp_path / 'my run'}'; or replace it with --overw" in caught.value.hint
    open_run(tmp_path / "my run").update_run(status="finished")
    with pytest.raises(UsageError) as caught:
        check_new_run(tmp_path / "my run")
    assert "--resume" not in caught.value.hint, "a finished run cannot be gone on with"


def test_create_run_takes_an_empty_directory(tmp_path: Path) -> None:
    assert create_run(tmp_path).record.exists()


def test_create_run_refuses_a_file(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(RunError, match="cannot write"):
        create_run(tmp_path / "run")


def test_overwriting_removes_the_run_and_nothing_else(tmp_path: Path) -> None:
    run = create_run(tmp_path)
    run.best.mkdir(parents=True)
    run.plan.write_text("{}")
    for tracker in ("tensorboard", "wandb", "dvclive"):
        (tmp_path / tracker / "logs").mkdir(parents=True)
    (tmp_path / "notes.txt").write_text("mine")
    run.update_run(status="finished")
    create_run(tmp_path, overwrite=True)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["notes.txt", "run.json"]


def test_a_new_run_in_the_place_of_one_that_is_being_trained_needs_another_place(
    tmp_path: Path,
) -> None:
    create_run(tmp_path)
    with pytest.raises(RunError, match=r"is still training \(process \d+ on ") as caught:
        check_new_run(tmp_path)
    assert caught.value.hint.startswith("choose another --out")


def test_overwriting_refuses_a_run_that_is_being_trained(tmp_path: Path) -> None:
    create_run(tmp_path)
    with pytest.raises(RunError, match="still training"):
        create_run(tmp_path, overwrite=True)


def test_processes_that_start_together_get_runs_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ThreadPoolExecutor(8) as pool:
        paths = list(pool.map(lambda _: claim_next_path("pets", tmp_path / "runs"), range(8)))
    assert sorted(path.name for path in paths) == [f"pets-{number:03d}" for number in range(1, 9)]

    def check_and_be_late(path: Path, *, overwrite: bool) -> None:
        check_new_run(path, overwrite=overwrite)
        write_json_atomic(path / RECORD_FILE, {"of": "another process"})

    monkeypatch.setattr(run_opening, "check_new_run", check_and_be_late)
    with pytest.raises(RunError, match=r"another process has just made .*run\.json") as caught:
        create_run(paths[0])
    assert caught.value.hint == "choose another --out"
    assert json.loads((paths[0] / RECORD_FILE).read_text()) == {"of": "another process"}


def test_a_directory_of_runs_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "runs").touch()
    with pytest.raises(RunError, match=r"cannot write .*runs: File exists"):
        claim_next_path("pets", tmp_path / "runs")


def test_next_run_path_counts_on(tmp_path: Path) -> None:
    root = tmp_path / "runs"
    assert next_run_path("x_or_o", root) == root / "x_or_o-001"
    for name in ("x_or_o-002", "x_or_o-010", "x_or_o-best", "other-050"):
        (root / name).mkdir(parents=True)
    assert next_run_path("x_or_o", root) == root / "x_or_o-011"
    assert next_run_path("a/b", root).name == "a-b-001"
    assert next_run_path("..", root).name == "run-001"


def test_the_name_that_the_list_shows_is_recognized(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "pets").mkdir(parents=True)
    (tmp_path / "runs" / "pets" / RECORD_FILE).touch()
    for find in (open_run, find_bundle):
        with pytest.raises(RunError) as caught:
            find(Path("pets"))
        assert caught.value.hint == "did you mean runs/pets?"
        with pytest.raises(RunError) as caught:
            find(Path("pet"))
        assert caught.value.hint == "list the runs with: cnnclf runs list"


def test_open_run_tells_what_is_there(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="there is no run directory"):
        open_run(tmp_path / "none")
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="is a file, not a run directory"):
        open_run(tmp_path / "file")
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunError, match=r"has no run\.json"):
        open_run(tmp_path / "empty")


def test_open_run_tells_a_damaged_run(tmp_path: Path) -> None:
    run = create_run(tmp_path)
    run.record.write_bytes(run.record.read_bytes()[:20])
    with pytest.raises(RunError, match="damaged"):
        open_run(tmp_path)
    run.record.write_text("[]")
    with pytest.raises(RunError, match="expected a JSON object"):
        open_run(tmp_path)
    files.write_json_atomic(run.record, {"version": 1, "status": "odd"})
    with pytest.raises(RunError, match="expected a status"):
        open_run(tmp_path)
    files.write_json_atomic(run.record, {"version": 1})
    with pytest.raises(RunError, match=r"run\.json is damaged: its status is missing"):
        open_run(tmp_path)
    run.record.unlink()
    run.plan.write_text("{}")
    with pytest.raises(RunError, match=r"damaged: run\.json is missing"):
        open_run(tmp_path)


@pytest.mark.parametrize(
    ("version", "fault"),
    [
        ({}, "its format version is missing"),
        ({"version": None}, "its format version is missing"),
        ({"version": 0}, "expected format version 1, received 0"),
        ({"version": "1"}, "expected format version 1, received '1'"),
    ],
)
def test_open_run_refuses_a_record_without_version(
    tmp_path: Path, version: dict[str, object], fault: str
) -> None:
    files.write_json_atomic(tmp_path / "run.json", {"status": "finished"} | version)
    with pytest.raises(RunError, match=rf"run\.json is damaged: {fault}"):
        open_run(tmp_path)


def test_open_run_refuses_a_newer_version(tmp_path: Path) -> None:
    run = create_run(tmp_path)
    files.write_json_atomic(run.record, run.read_record() | {"version": 99})
    with pytest.raises(RunError, match="newer version of cnnclf") as caught:
        open_run(tmp_path)
    assert "upgrade" in caught.value.hint


# --- status


def test_update_run_keeps_other_fields(tmp_path: Path) -> None:
    run = create_run(tmp_path, seed=3)
    record = run.update_run(status="finished", accuracy=0.5)
    assert record == run.read_record()
    assert (record["seed"], record["accuracy"], run.status()) == (3, 0.5, "finished")
    assert record["ended"] >= record["created"]


def test_update_run_refuses_an_unknown_status(tmp_path: Path) -> None:
    run = create_run(tmp_path)
    with pytest.raises(ValueError, match="done"):
        run.update_run(status="done")


@pytest.mark.skipif(os.name != "posix", reason="processes are looked up on posix only")
def test_a_killed_run_counts_as_interrupted(tmp_path: Path) -> None:
    run = create_run(tmp_path)
    files.write_json_atomic(run.record, run.read_record() | {"pid": dead_pid()})
    assert run.status() == "interrupted"
    create_run(tmp_path, overwrite=True)
    assert run.status() == "running"


def test_a_run_of_another_machine_is_believed(tmp_path: Path) -> None:
    run = create_run(tmp_path)
    other = {"pid": dead_pid(), "host": platform.node() + "-other"}
    files.write_json_atomic(run.record, run.read_record() | other)
    assert run.status() == "running"


def test_resuming_takes_the_run_over(tmp_path: Path) -> None:
    run = create_run(tmp_path)
    run.update_run(status="interrupted")
    files.write_json_atomic(run.record, run.read_record() | {"pid": dead_pid()})
    run.update_run(status="running")
    assert run.status() == "running"


def test_list_runs_lists_damaged_ones_too(tmp_path: Path) -> None:
    assert list_runs(tmp_path / "none") == []
    for name in ("x-10", "x-9"):
        create_run(tmp_path / name).update_run(status="finished")
    create_run(tmp_path / "x-11").record.write_text("{")
    (tmp_path / "notes").mkdir()
    rows = list_runs(tmp_path)
    assert [row.directory.path.name for row in rows] == ["x-9", "x-10", "x-11"]
    assert [row.status for row in rows] == ["finished", "finished", "damaged"]
    assert "not valid JSON" in rows[2].problem


def test_names_stay_inside_the_run(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    names = (run.plan, run.record, run.history, run.log, run.curves, run.best, run.last)
    inside = {path.relative_to(tmp_path).as_posix() for path in names}
    assert inside == {
        "plan.json",
        "run.json",
        "history.csv",
        "log.txt",
        "curves.png",
        "checkpoints/best",
        "checkpoints/last",
    }
    assert run.evaluation("test") == tmp_path / "evaluation" / "test"


# --- checkpoints


def test_find_checkpoint_tells_unfinished_from_damaged(tmp_path: Path) -> None:
    run = create_run(tmp_path)
    with pytest.raises(RunError, match=r"unfinished \(running\)") as caught:
        run.find_checkpoint("best")
    assert "wait" in caught.value.hint
    run.history.write_text("epoch\n1\n")  # checkpoints are not written after every epoch
    run.update_run(status="interrupted")
    for name in ("best", "last"):
        with pytest.raises(RunError, match="stopped before its first checkpoint") as caught:
            run.find_checkpoint(name)
        assert "--resume" in caught.value.hint
    run.last.mkdir(parents=True)
    with pytest.raises(RunError, match="damaged: it has checkpoints/last but"):
        run.find_checkpoint("best")
    run.last.rmdir()
    run.update_run(status="finished")
    with pytest.raises(RunError, match="damaged"):
        run.find_checkpoint("best")
    run.best.mkdir(parents=True)
    assert run.find_checkpoint("best") == run.best


# --- names


def test_runs_are_listed_in_natural_order(tmp_path: Path) -> None:
    for name in ("10", "2", "a10", "a2", "A", "b", "1"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text("{}")
    names = [row.directory.path.name for row in list_runs(tmp_path)]
    assert names == ["1", "2", "10", "A", "a2", "a10", "b"]


def test_config_takes_the_settings_of_a_run_of_the_same_command(tmp_path: Path) -> None:
    file, run = tmp_path / "my.toml", create_run(tmp_path / "run")
    assert find_settings(file, command="train") == file
    run.plan.write_text('{"command": "train"}')
    with pytest.raises(RunError, match=r"has no settings\.toml: an earlier version"):
        find_settings(run.path, command="train")
    run.settings.write_text("")
    assert find_settings(run.path, command="train") == run.settings
    with pytest.raises(RunError, match="has the settings of cnnclf train, which cnnclf finetune"):
        find_settings(run.path, command="finetune")
    (tmp_path / "folder").mkdir()
    with pytest.raises(RunError, match="is not a run directory"):
        find_settings(tmp_path / "folder", command="train")


AGAIN = "for more epochs, train again with its settings"


@pytest.mark.parametrize(
    ("started", "other", "status", "hint"),
    [
        ("train", "finetune", "finished", "for more epochs: cnnclf train --extend {} --epochs N"),
        (
            "finetune",
            "train",
            "finished",
            f"{AGAIN}: cnnclf finetune 'my data' --config {{}} --tail-epochs N",
        ),
        ("finetune", "train", "interrupted", "continue with: cnnclf finetune --resume {}"),
    ],
)
def test_a_run_of_another_command_is_refused_with_what_works_for_it(
    tmp_path: Path, started: str, other: str, status: str, hint: str
) -> None:
    run = create_run(tmp_path / "run")
    run.update_run(status=status)
    run.plan.write_text(json.dumps({"command": started, "dataset": {"path": "my data"}}))
    run.check_command(started)
    with pytest.raises(
        RunError, match=f"is a run of cnnclf {started}, not of cnnclf {other}"
    ) as caught:
        run.check_command(other)
    assert caught.value.hint == hint.format(run.path)


def test_a_run_that_could_not_be_removed_whole_can_be_removed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = create_run(tmp_path / "run")
    run.update_run(status="finished")
    run.best.mkdir(parents=True)

    def refuse(path: Path) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", refuse)
        with pytest.raises(RunError, match="cannot write"):
            remove_run(run)
    assert remove_run(open_run(run.path)) == []
    assert not run.path.exists()


def test_the_command_that_continues_a_run_tracks_it_again(tmp_path: Path) -> None:
    run = create_run(tmp_path)
    assert run.resume_command() == f"cnnclf train --resume {tmp_path}"
    run.update_run(track=["mlflow:sqlite:///my runs.db", "dvclive"])
    assert run.resume_command().endswith(
        f"{tmp_path} --track 'mlflow:sqlite:///my runs.db' --track dvclive"
    )
