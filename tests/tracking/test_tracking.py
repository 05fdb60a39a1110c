"""Trackers against their real packages, with local stores."""

import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from cnnclf.errors import MissingPackageError, RunError, UsageError
from cnnclf.files import read_json, write_json_atomic
from cnnclf.progress import Silent
from cnnclf.runs.run_directory import RunDirectory
from cnnclf.runs.run_names import SEARCH_FILE
from cnnclf.runs.run_opening import create_run, open_run
from cnnclf.tracking.dvclive_tracker import find_repository
from cnnclf.tracking.mlflow_tracker import MlflowTracker
from cnnclf.tracking.tracker import epoch_figures
from cnnclf.tracking.tracking import (
    Tracking,
    build_tracker,
    export_run,
    open_tracking,
    viewing_command,
)
from cnnclf.training.epochs import EpochRow
from tests.conftest import Cli, Close

ROWS = [
    EpochRow(1, "train", 1.5, 0.4, 1.25, 0.5, 0.002, 2.0, 0.1),
    EpochRow(2, "train", 0.75, 0.8, 0.5, 0.75, 0.001, 2.5, 0.0),
]


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    """A copy of the tiny run with a history of two epochs, and an evaluation."""
    shutil.copytree("sample_data/tiny_run", tmp_path / "run")
    run = open_run(tmp_path / "run")
    run.update_run(created="2026-01-02T03:04:05+00:00", ended="2026-01-02T03:05:00+00:00")
    write_json_atomic(run.last / "state.json", {"history": [row.to_dict() for row in ROWS]})
    write_json_atomic(
        run.evaluation("test") / "metrics.json",
        {"metrics": {"accuracy": 0.9}, "accuracy_interval": {"low": 0.8, "high": 0.95}},
    )
    from PIL import Image

    Image.new("RGB", (30, 20), "red").save(run.evaluation("test") / "confusion.png")
    return run


def read_events(directory: Path) -> dict[str, list[tuple[int, float, Any]]]:
    """Read event files back: tag to (step, time, value)."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(directory)).Reload()
    found: dict[str, list[tuple[int, float, Any]]] = {}
    for tag in events.Tags()["scalars"]:
        found[tag] = [(each.step, each.wall_time, each.value) for each in events.Scalars(tag)]
    for tag in events.Tags()["tensors"]:
        values = [
            (each.step, each.wall_time, each.tensor_proto.float_val[0])
            for each in events.Tensors(tag)
            if each.tensor_proto.float_val
        ]
        found[tag] = values
    for tag in events.Tags()["images"]:
        found[tag] = [(each.step, each.wall_time, each.width) for each in events.Images(tag)]
    return found


def test_event_files_hold_the_rows_of_the_history(run: RunDirectory, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    export_run(run, f"tensorboard:{tmp_path / 'board'}")
    board = tmp_path / "board" / "run"
    train, validation = read_events(board / "train"), read_events(board / "validation")
    for row in ROWS:
        figures = epoch_figures(row, images=210)
        assert figures["images_per_s"] == 210 / row.seconds
        for name, value in figures.items():
            split = validation if name.startswith("val_") else train
            steps = {each[0]: each[2] for each in split[f"epoch_{name.removeprefix('val_')}"]}
            assert steps[row.epoch] == pytest.approx(value, rel=1e-6)
    times = [each[1] for each in train["epoch_loss"]]
    assert times[1] - times[0] == pytest.approx(2.5, abs=0.01)
    assert train["test_accuracy"][0][2] == pytest.approx(0.9)
    assert train["test_confusion"][0][2] == 30
    assert set(validation) == {"epoch_loss", "epoch_accuracy"}


def test_trials_of_two_searches_have_directories_of_their_own(
    run: RunDirectory, tmp_path: Path
) -> None:
    pytest.importorskip("tensorboard")
    for search in ("pets-001", "pets-002"):
        trial = tmp_path / search / "trials" / "007"
        shutil.copytree(run.path, trial)
        (tmp_path / search / SEARCH_FILE).touch()
        assert RunDirectory(trial).title == f"{search}/007"
        export_run(RunDirectory(trial), f"tensorboard:{tmp_path / 'board'}")
        assert read_events(tmp_path / "board" / search / "007" / "train")


def test_runs_of_one_name_have_directories_of_their_own(
    cli: Cli, run: RunDirectory, tmp_path: Path
) -> None:
    pytest.importorskip("tensorboard")
    board, other = tmp_path / "board", tmp_path / "elsewhere" / run.path.name
    shutil.copytree(run.path, other)
    target = f"tensorboard:{board}"
    assert cli("runs", "export", run.path, other, "--to", target).stdout.count("exported") == 2
    assert "is in" in cli("runs", "export", other, "--to", target).stderr
    assert {each.name for each in board.iterdir()} == {"run", "run-2"}
    # live: one that is continued has the same directory, one in its place another
    assert track_epoch(open_run(other), target, row=ROWS[1]) == []
    open_run(other).update_run(created="2026-01-02T03:09:00+00:00")
    assert track_epoch(open_run(other), target, row=ROWS[1]) == []
    found = {each.name: len(read_events(each / "train")["epoch_loss"]) for each in board.iterdir()}
    assert found == {"run": 2, "run-2": 3, "run-3": 1}


def find_run(uri: str) -> tuple[Any, Any]:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("x_or_o")
    assert experiment is not None
    return client, client.search_runs([experiment.experiment_id])


def track_epoch(run: RunDirectory, target: str, *, row: EpochRow) -> list[str]:
    """Track an epoch of a run that continues; return the warnings."""
    progress = Silent()
    with open_tracking([target], progress) as tracking:
        tracking.watch(run)
        tracking.on_epoch(row, True)
    return progress.warnings


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # of the packages that MLflow uses
def test_mlflow_gets_the_rows_the_figures_and_the_bundle(
    run: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow")
    elsewhere, board = tmp_path / "elsewhere", tmp_path / "board"
    elsewhere.mkdir()
    board.mkdir()
    monkeypatch.chdir(elsewhere)
    uri = f"sqlite:///{board / 'mlflow.db'}"
    export_run(run, f"mlflow:{uri}")
    assert not list(elsewhere.iterdir())
    assert list(board.glob("mlruns/*/*/artifacts/bundle"))
    client, [found] = find_run(uri)
    assert found.info.status == "FINISHED"
    assert found.data.params["optimizer.name"] == "adamw"
    assert found.data.params["labels"] == "o, x"
    assert found.data.metrics["test_accuracy_low"] == 0.8
    losses = client.get_metric_history(found.info.run_id, "val_loss")
    assert [(each.step, each.value) for each in losses] == [(1, 1.25), (2, 0.5)]
    assert losses[1].timestamp - losses[0].timestamp == 2500
    files = {each.path for each in client.list_artifacts(found.info.run_id)}
    assert {"bundle", "figures", "history.csv", "plan.json"} <= files
    # a run that is tracked live is continued in the same run of MLflow
    for row in ROWS:
        assert track_epoch(run, f"mlflow:{uri}", row=row) == []
    assert len(find_run(uri)[1]) == 2
    live = read_json(run.record)["mlflow"]["run"]
    assert len(client.get_metric_history(live, "loss")) == 2
    # also from another working directory, and by its whole path
    run.update_run(status="interrupted")
    monkeypatch.chdir(board)
    assert track_epoch(run, "mlflow:sqlite:///other.db", row=ROWS[0]) == []
    other = f"sqlite:///{board / 'other.db'}"
    assert find_run(other)[1][0].info.status == "KILLED"
    monkeypatch.chdir(elsewhere)
    assert viewing_command("mlflow:sqlite:///other.db", run).endswith(other)
    exported = viewing_command("mlflow:sqlite:///other.db", run, continues=False)
    assert exported.endswith("sqlite:///other.db")
    run.update_run(status="finished")
    for target in ("mlflow:sqlite:///other.db", f"mlflow:{other}"):
        assert track_epoch(run, target, row=ROWS[1]) == []
        assert [each.info.status for each in find_run(other)[1]] == ["FINISHED"]
    assert not list(elsewhere.iterdir())
    monkeypatch.chdir(board)
    run.update_run(mlflow={"uri": uri, "store": uri, "run": live})
    # one that is gone is replaced
    client.delete_run(live)
    [warning] = track_epoch(run, f"mlflow:{uri}", row=ROWS[1])
    assert f"the run {live} of MLflow is not in {uri} any more: another one begins" in warning
    write_json_atomic(run.record, read_json(run.record) | {"mlflow": {"uri": uri, "run": "ab"}})
    [warning] = track_epoch(run, f"mlflow:{uri}", row=ROWS[1])
    assert warning.startswith("the run ab of MLflow is not in")
    assert len(find_run(uri)[1]) == 3
    last = read_json(run.record)["mlflow"]["run"]
    assert client.get_run(last).data.params["optimizer.name"] == "adamw"
    assert len(client.get_metric_history(last, "loss")) == 1


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # of the packages that MLflow uses
def test_an_export_that_fails_ends_its_run_of_mlflow(
    run: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow")
    (tmp_path / "mlruns").touch()  # files go there
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    with pytest.raises(RunError, match="was not exported"):
        export_run(run, f"mlflow:{uri}")
    assert [each.info.status for each in find_run(uri)[1]] == ["FAILED"]

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(MlflowTracker, "log", interrupt)
    with pytest.raises(KeyboardInterrupt):
        export_run(run, f"mlflow:{uri}")
    assert [each.info.status for each in find_run(uri)[1]] == ["FAILED", "FAILED"]


@pytest.mark.filterwarnings("default")  # of the package
def test_a_run_of_wandb_is_kept_offline(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    export_run(run, "wandb")
    [file] = run.path.glob("wandb/offline-run-*/run-*.wandb")
    assert file.stat().st_size > 2000
    [figure] = file.parent.glob("files/media/images/test_confusion_*.png")
    assert figure.read_bytes() == (run.evaluation("test") / "confusion.png").read_bytes()


@pytest.mark.filterwarnings("default")
def test_a_run_of_trackio_is_in_its_database(run: RunDirectory, tmp_path: Path) -> None:
    if find_spec("trackio") is None:
        pytest.skip("trackio is not installed")
    target = f"trackio:{tmp_path / 'store'}"
    words = [sys.executable, "-m", "cnnclf", "runs", "export", str(run.path), "--to", target]
    result = subprocess.run([*words, "--json"], capture_output=True, check=True)
    content = (tmp_path / "store" / "x_or_o.db").read_bytes()
    assert b"val_accuracy" in content
    assert b"test_accuracy_low" in content
    assert json.loads(result.stdout)["exported"] == [str(run.path)]  # the package prints nothing


@pytest.mark.filterwarnings("default")
def test_dvclive_writes_into_the_run(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("dvclive")
    monkeypatch.chdir(run.path.parent)
    export_run(run, "dvclive")
    folder = run.path / "dvclive"
    assert (folder / "plots" / "metrics" / "val_loss.tsv").read_text().split("\n")[1:3] == [
        "1\t1.25",
        "2\t0.5",
    ]
    figures = read_json(folder / "metrics.json")
    assert (figures["val_accuracy"], figures["test_accuracy_low"]) == (0.75, 0.8)
    assert "adamw" in (folder / "params.yaml").read_text()
    assert (folder / "plots" / "images" / "test_confusion.png").exists()
    assert {each.name for each in run.path.parent.iterdir()} == {"run"}
    with pytest.raises(UsageError, match="dvclive:here: dvclive always writes into the run"):
        build_tracker("dvclive:here", option="--to", progress=Silent())


def test_dvclive_makes_no_repository(tmp_path: Path) -> None:
    inner = tmp_path / "outer" / "inner"
    inner.mkdir(parents=True)
    assert not find_repository(inner)
    (tmp_path / ".git").mkdir()
    with pytest.raises(UsageError, match=f"of the Git repository {tmp_path}") as caught:
        find_repository(inner)
    assert "'dvc init'" in caught.value.hint
    (tmp_path / "outer" / ".dvc").mkdir()
    assert find_repository(inner)


@pytest.mark.parametrize("name", ["wandb", "trackio", "dvclive"])
def test_the_extra_of_a_tracker_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingPackageError, match=f"needs the package {name}") as caught:
        build_tracker(name, option="--track", progress=Silent())
    assert f"cnnclf[{name}]" in caught.value.hint


class Broken:
    """Fails at its second call."""

    errors: tuple[type[Exception], ...] = (OSError,)

    def __init__(self, error: Exception) -> None:
        self.error, self.calls = error, 0

    def _call(self, *_: object, **__: object) -> None:
        self.calls += 1
        if self.calls == 2:
            raise self.error

    start: Callable[..., None] = _call
    log: Callable[..., None] = _call
    end: Callable[..., None] = _call


def test_a_tracker_that_fails_warns_once_and_the_others_continue(run: RunDirectory) -> None:
    progress = Silent()
    broken, whole = Broken(OSError("no route to host\nmore")), Broken(OSError("later"))
    whole.calls = 10
    tracking = Tracking({"mlflow:http://down": broken, "tensorboard": whole}, progress)
    tracking.watch(run)
    for row in ROWS:
        assert tracking.on_epoch(row, True) is None  # type: ignore[func-returns-value]
    tracking.end()
    [warning] = progress.warnings
    assert warning.startswith(
        "tracking with mlflow:http://down ended: no route to host; the run dir"
    )
    assert (broken.calls, whole.calls) == (2, 14)


def test_a_slow_tracker_does_not_keep_training_waiting(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = 0.0

    class Slow(Broken):
        def log(self, figures: dict[str, float], **_: object) -> None:
            nonlocal clock
            clock += 25.0
            self.calls += 1
            assert figures["peak_memory_mb"] > 10

    monkeypatch.setattr("cnnclf.tracking.tracking.time.monotonic", lambda: clock)
    slow, progress = Slow(OSError()), Silent()
    slow.start = slow.end = lambda *_, **__: None
    tracking = Tracking({"mlflow:http://far": slow}, progress)
    tracking.watch(run)
    for row in ROWS * 4:
        tracking.on_epoch(row, True)
    assert (slow.calls, clock) == (3, 75)
    [warning] = progress.warnings
    assert "http://far ended: training waited 75 s for it; the run directory has" in warning


@pytest.mark.filterwarnings("default")  # of the packages that MLflow uses
@pytest.mark.parametrize("answer", ["refuses", "sleeps"])
def test_a_server_that_does_not_answer_is_given_up(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    progress = Silent()
    with socket.create_server(("127.0.0.1", 0)) as server:  # it accepts, and never answers
        port = server.getsockname()[1]
        if answer == "refuses":
            server.close()
        tracker = build_tracker(
            f"mlflow:http://127.0.0.1:{port}", option="--track", progress=progress
        )
        tracking = Tracking({"mlflow": tracker}, progress)
        tracking.watch(run)
        began = time.monotonic()
        for row in ROWS:
            tracking.on_epoch(row, True)
        tracking.end()
        assert time.monotonic() - began < 30  # 2 attempts of 1 s each, on any machine
    [warning] = progress.warnings
    assert warning.startswith("tracking with mlflow ended: ")


def test_other_errors_are_bugs(run: RunDirectory) -> None:
    tracking = Tracking({"broken": Broken(ZeroDivisionError())}, Silent())
    tracking.watch(run)
    with pytest.raises(ZeroDivisionError):
        tracking.on_epoch(ROWS[0], True)


def test_trackers_that_do_not_exist_or_are_not_installed_are_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(UsageError, match="--track neptune: expected one of tensorboard, mlflow"):
        build_tracker("neptune", option="--track", progress=Silent())
    with pytest.raises(UsageError, match="--track wandb:here: expected wandb, wandb:online or"):
        build_tracker("wandb:here", option="--track", progress=Silent())
    for name in ("tensorboard", "mlflow"):
        for module in (name, "tensorboard.summary.writer.event_file_writer"):
            monkeypatch.setitem(sys.modules, module, None)
        with (
            pytest.raises(MissingPackageError, match=f"--track {name} needs the package {name}"),
            open_tracking([name], Silent()),
        ):
            pass


@pytest.mark.parametrize(
    ("target", "command"),
    [
        ("tensorboard", "tensorboard --logdir {parent}"),
        ("tensorboard:my board", "tensorboard --logdir 'my board'"),
        ("mlflow:sqlite:///a.db", "mlflow ui --backend-store-uri sqlite:///a.db"),
        ("mlflow:http://host:5000", "http://host:5000"),
        ("wandb", "wandb sync {parent}/run/wandb/latest-run"),
        ("trackio:there", "TRACKIO_DIR=there trackio show"),
        ("dvclive", "dvc plots show {parent}/run/dvclive/dvc.yaml"),
    ],
)
def test_how_to_see_it_is_said(run: RunDirectory, target: str, command: str) -> None:
    assert viewing_command(target, run).endswith(command.format(parent=run.path.parent))


def test_a_board_that_cannot_be_written_is_named(
    run: RunDirectory, tmp_path: Path, close_folder: Close
) -> None:
    pytest.importorskip("tensorboard")
    (tmp_path / "board").mkdir()
    close_folder(tmp_path / "board")
    with pytest.raises(RunError, match=r"was not exported to tensorboard:.*: .*Permission denied"):
        export_run(run, f"tensorboard:{tmp_path / 'board'}")


def test_runs_export_says_how_to_see_it(cli: Cli, run: RunDirectory, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    board = tmp_path / "board"
    result = cli("runs", "export", run.path, "--to", f"tensorboard:{board}")
    assert f"hint: to see it: tensorboard --logdir {board}" in result.stderr
    files = sorted(board.rglob("events*"))
    result = cli("runs", "export", run.path, "--to", f"tensorboard:{board}")
    assert f"{run.path} is in {board / run.path.name} already" in result.stderr
    assert f"first: rm -r {board / run.path.name}" in result.stderr
    assert (result.code, sorted(board.rglob("events*"))) == (0, files)


def test_a_run_without_epochs_cannot_be_exported(run: RunDirectory, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    (run.last / "state.json").write_text("{}", encoding="utf-8")
    with pytest.raises(RunError, match="no whole history"):
        export_run(run, f"tensorboard:{tmp_path / 'board'}")


def test_one_run_that_cannot_be_exported_has_no_rest(
    cli: Cli, run: RunDirectory, tmp_path: Path, close_folder: Close
) -> None:
    pytest.importorskip("tensorboard")
    board = tmp_path / "board"
    board.mkdir()
    close_folder(board)
    result = cli("runs", "export", run.path, "--to", f"tensorboard:{board}")
    assert (result.code, "what is left" in result.stderr) == (3, False)
    run.plan.unlink()
    result = cli("runs", "export", run.path, "--to", f"tensorboard:{board}")
    assert (result.code, "plan.json" in result.stderr) == (4, True)


def test_nothing_is_exported_if_a_run_is_damaged_or_training(
    cli: Cli, run: RunDirectory, tmp_path: Path
) -> None:
    pytest.importorskip("tensorboard")
    target = f"tensorboard:{tmp_path / 'board'}"
    other = create_run(tmp_path / "other")
    result = cli("runs", "export", run.path, other.path, "--to", target)
    assert (result.code, "is still training" in result.stderr) == (4, True)
    other.update_run(status="interrupted")
    assert cli("runs", "export", run.path, other.path, "--to", target).code == 4
    assert not (tmp_path / "board").exists()


def test_an_export_that_fails_names_the_reason_and_what_is_left(
    cli: Cli, run: RunDirectory, tmp_path: Path
) -> None:
    pytest.importorskip("tensorboard")
    others = [tmp_path / name / "run" for name in ("b", "c d")]
    for other in others:
        shutil.copytree(run.path, other)
    (others[0] / "curves.png").write_bytes(b"no figure")
    target = f"tensorboard:{tmp_path / 'board'}"
    result = cli("runs", "export", run.path, *others, "--to", target)
    assert result.code == 4
    assert result.stdout.count("exported") == 1
    assert f"error: the run {others[0]} was not exported to {target}: " in result.stderr
    left = f"cnnclf runs export {others[0]} '{others[1]}' --to {target}"
    assert f"then export what is left: {left}" in result.stderr.replace("\n", " ")
