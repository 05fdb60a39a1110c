import json
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest

from cnnclf.files import write_json_atomic
from cnnclf.runs.run_directory import RunDirectory
from cnnclf.runs.run_lock import holding_run
from cnnclf.runs.run_opening import create_run, open_run
from tests.conftest import Cli
from tests.evaluation.test_paired_runs import write_evaluation


def write_run(
    path: Path,
    *,
    accuracy: float | None,
    status: str = "finished",
    settings: dict[str, Any] | None = None,
    labels: int = 2,
) -> RunDirectory:
    run = create_run(path, command=f"cnnclf train data --out {path.name}")
    write_json_atomic(
        run.plan,
        {
            "dataset": {"name": "x_or_o", "fingerprint": "f0"},
            "labels": [f"label {number}" for number in range(labels)],
            "counts": {"train": 210, "val": 45, "test": 45},
            "input_spec": {"height": 64, "width": 64},
            "config": {
                "model": {"filters": [24, 32], "dropout": 0.1},
                "training": {"epochs": 15},
            }
            | (settings or {}),
            "reasons": {"training.epochs": "few images"},
            "parameters": 89458,
        },
    )
    run.update_run(status=status, epochs=15, best_epoch=12, wall_s=83.2, device="CPU: X")
    if accuracy is not None:
        write_json_atomic(
            run.evaluation("test") / "metrics.json",
            {
                "split": "test",
                "n": 45,
                "metrics": {"accuracy": accuracy, "log_loss": 0.2, "ece": 0.01},
                "accuracy_interval": {"low": accuracy - 0.02, "high": accuracy + 0.01},
            },
        )
    return run


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    root = tmp_path / "runs"
    write_run(root / "x_or_o-1", accuracy=0.95)
    other = {"model": {"filters": [32], "dropout": 0.1}, "training": {"epochs": 15, "ema": None}}
    write_run(root / "x_or_o-2", accuracy=0.98, settings=other)
    write_run(root / "x_or_o-10", accuracy=None, status="interrupted")
    return root


def test_list_puts_the_best_first(cli: Cli, runs: Path) -> None:
    result = cli("runs", "list", runs)
    assert result.code == 0
    lines = result.stdout.splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["x_or_o-2", "x_or_o-1", "x_or_o-10"]
    assert "0.9800" in lines[1]
    assert "89,458" in lines[1]
    assert lines[1].index("89,458") + 6 == lines[0].index("params") + 6  # numbers to the right
    assert "interrupted" in lines[3]


@pytest.mark.parametrize(
    ("sort", "first"), [("name", "x_or_o-1"), ("created", "x_or_o-1"), ("accuracy", "x_or_o-2")]
)
def test_list_sorted(cli: Cli, runs: Path, sort: str, first: str) -> None:
    result = cli("runs", "list", runs, "--sort", sort, "--json")
    rows = json.loads(result.stdout)["runs"]
    assert rows[0]["name"] == first
    if sort == "name":
        assert [row["name"] for row in rows] == ["x_or_o-1", "x_or_o-2", "x_or_o-10"]


def test_list_json(cli: Cli, runs: Path) -> None:
    document = json.loads(cli("runs", "list", runs, "--json").stdout)
    assert document["schema_version"] == 1
    best = document["runs"][0]
    assert best["test_accuracy"] == 0.98
    assert best["test_accuracy_low"] == pytest.approx(0.96)
    assert best["dataset"] == "x_or_o"
    assert Path(best["run"]).is_dir()


def test_list_shows_the_epochs_so_far_of_a_run_that_did_not_end(cli: Cli, runs: Path) -> None:
    run = create_run(runs / "x_or_o-11", command="cnnclf train data")
    lines = ["epoch,phase,val_accuracy", "1,train,0.5", "2,train,0.75", "3,train,"]
    run.history.write_text("\n".join(lines) + "\n", encoding="utf-8")
    rows = json.loads(cli("runs", "list", runs, "--json").stdout)["runs"]
    found = next(row for row in rows if row["name"] == "x_or_o-11")
    assert (found["epochs"], found["val_accuracy"]) == (3, 0.75)


def test_list_shows_a_damaged_run_and_why(cli: Cli, runs: Path) -> None:
    (runs / "x_or_o-1" / "run.json").write_text("{", encoding="utf-8")
    result = cli("runs", "list", runs)
    assert result.code == 7
    assert "damaged" in result.stdout
    assert "warning: " in result.stderr
    assert "run.json" in result.stderr


@pytest.mark.parametrize("content", ["[]", "{}", '{"config": 3}', "{", None])
def test_list_survives_a_damaged_plan(cli: Cli, runs: Path, content: str | None) -> None:
    plan = runs / "x_or_o-1" / "plan.json"
    plan.unlink() if content is None else plan.write_text(content, encoding="utf-8")
    result = cli("runs", "list", runs)
    assert result.code == 7
    assert "damaged" in result.stdout
    assert "x_or_o-2" in result.stdout
    assert "plan.json" in result.stderr


def test_show_names_what_is_missing_and_shows_the_rest(cli: Cli, runs: Path) -> None:
    plan = runs / "x_or_o-1" / "plan.json"
    plan.unlink()
    result = cli("runs", "show", runs / "x_or_o-1")
    assert (result.code, "0.9500" in result.stdout) == (7, True)
    assert f"warning: {plan} is missing" in " ".join(result.stderr.split())
    assert json.loads(cli("runs", "show", runs / "x_or_o-1", "--json").stdout)["problem"]
    plan.write_text("{", encoding="utf-8")  # a copy that was cut
    result = cli("runs", "show", runs / "x_or_o-1")
    assert (result.code, "0.9500" in result.stdout) == (7, True)
    assert f"warning: {plan} is damaged" in " ".join(result.stderr.split())
    result = cli("runs", "compare", runs / "x_or_o-1", runs / "x_or_o-2")
    assert (result.code, "copy the whole run directory again" in result.stderr) == (4, True)
    metrics = runs / "x_or_o-2" / "evaluation" / "test" / "metrics.json"
    metrics.write_text("{", encoding="utf-8")
    result = cli("runs", "show", runs / "x_or_o-2")
    assert (result.code, "label 0, label 1" in result.stdout) == (7, True)
    assert f"warning: {metrics} is damaged" in " ".join(result.stderr.split())


def test_a_run_of_a_newer_version_is_named(cli: Cli, runs: Path) -> None:
    (runs / "x_or_o-1" / "run.json").write_text('{"version": 99}', encoding="utf-8")
    for arguments in (["show", runs / "x_or_o-1"], ["compare", runs / "x_or_o-1", runs]):
        result = cli("runs", *arguments)
        assert result.code == 4
        assert "written by a newer version of cnnclf" in " ".join(result.stderr.split())
        assert "pip install --upgrade cnnclf" in result.stderr
    result = cli("runs", "list", runs)
    assert result.code == 7
    assert "newer version of cnnclf" in " ".join(result.stderr.split())


def test_list_of_nothing(cli: Cli, tmp_path: Path) -> None:
    result = cli("runs", "list", tmp_path)
    assert result.code == 0
    assert "no runs" in result.stderr
    assert "cnnclf train" in result.stderr


def test_list_of_no_directory(cli: Cli, tmp_path: Path) -> None:
    result = cli("runs", "list", tmp_path / "none")
    assert result.code == 4
    assert str(tmp_path / "none") in result.stderr


def test_list_refuses_an_unknown_order(cli: Cli, runs: Path) -> None:
    result = cli("runs", "list", runs, "--sort", "size")
    assert result.code == 2
    assert "--sort size: expected one of accuracy, name, created" in result.stderr


def test_show(cli: Cli, runs: Path) -> None:
    result = cli("runs", "show", runs / "x_or_o-1")
    assert result.code == 0
    for words in ("finished", "1 min 23 s", "0.9500", "label 0, label 1", "few images", "24,32"):
        assert words in result.stdout


def test_show_says_figures_in_words_and_units(cli: Cli, runs: Path) -> None:
    run = open_run(runs / "x_or_o-1")
    run.update_run(fit_s=4020.0, data_wait_share=0.034, images_per_s=1234.5, parameters=3425834)
    plan = json.loads(run.plan.read_text(encoding="utf-8"))
    plan["config"]["data"] = {"image_size": [48, 64]}
    plan["config"]["augment"] = {"preset": "light", "flip": None}
    write_json_atomic(run.plan, plan | {"augmentation": {"translate": 0.04}})
    told = {" ".join(line.split()) for line in cli("runs", "show", run.path).stdout.splitlines()}
    assert {
        "training time 1 h 07 min",
        "waiting for images 3.4 %",
        "images per second 1,234",
        "parameters 3,425,834",
        "data.image_size 48x64",
        "augmentation translate 0.04",
        "calibration error (ECE) 0.0100",
    } <= told
    assert not any(line.startswith("augment.flip") for line in told)


def test_show_gives_times_of_exports_three_digits(cli: Cli, runs: Path) -> None:
    run = open_run(runs / "x_or_o-1")
    content = {"verdict": "accepted", "parity": {"images": 45, "after": {"image_ms": 11.34567}}}
    write_json_atomic(run.export("onnx") / "parity.json", content)
    words = cli("runs", "show", run.path).stdout.split("\n")[-2].split()
    assert words == ["onnx", "accepted", "-", "-", "-", "45", "11.3"]


def test_show_names_the_command_that_continues(cli: Cli, runs: Path) -> None:
    run = open_run(runs / "x_or_o-10")
    plan = json.loads(run.plan.read_text(encoding="utf-8"))
    assert "cnnclf train --resume" in cli("runs", "show", run.path).stderr
    write_json_atomic(run.plan, plan | {"command": "finetune"})
    assert "cnnclf finetune --resume" in cli("runs", "show", run.path).stderr


def test_show_json(cli: Cli, runs: Path) -> None:
    document = json.loads(cli("runs", "show", runs / "x_or_o-1", "--json").stdout)
    assert document["status"] == "finished"
    assert document["plan"]["parameters"] == 89458
    assert document["evaluations"]["test"]["accuracy"] == 0.95


def test_show_says_what_it_extends_and_how_the_learning_rate_continues(
    cli: Cli, runs: Path
) -> None:
    run = open_run(runs / "x_or_o-1")
    assert "  extends " not in cli("runs", "show", run.path).stdout
    plan = json.loads(run.plan.read_text(encoding="utf-8"))
    write_json_atomic(run.plan, plan | {"remarks": ["extends is a word of this remark"]})
    assert "  extends " not in cli("runs", "show", run.path).stdout
    run.update_run(extends="runs/a", extends_epoch=2, extends_rate="the learning rate stays 0.01")
    stdout = " ".join(cli("runs", "show", run.path).stdout.split())
    assert "extends runs/a from epoch 3: the learning rate stays 0.01" in stdout


def test_show_many_labels_in_short(cli: Cli, tmp_path: Path) -> None:
    write_run(tmp_path / "a", accuracy=0.5, labels=100)
    stdout = cli("runs", "show", tmp_path / "a").stdout
    assert "100: label 0, " in stdout
    assert "label 99" not in stdout


def test_show_an_interrupted_run_says_how_to_continue(cli: Cli, runs: Path) -> None:
    result = cli("runs", "show", runs / "x_or_o-10")
    assert result.code == 0
    assert "--resume" in result.stderr


def test_show_what_is_no_run(cli: Cli, tmp_path: Path) -> None:
    result = cli("runs", "show", tmp_path)
    assert result.code == 4
    assert "error: " in result.stderr


def test_compare_shows_only_what_differs(cli: Cli, runs: Path) -> None:
    result = cli("runs", "compare", runs / "x_or_o-1", runs / "x_or_o-2")
    assert result.code == 0
    settings, figures = result.stdout.split("Figures")
    assert "model.filters" in settings
    assert "24,32" in settings
    assert "model.dropout" not in settings
    assert "0.9500" in figures
    assert "0.9800" in figures


def test_compare_of_two_commands_hides_their_defaults(cli: Cli, runs: Path) -> None:
    tuned = {"head": {"epochs": 30, "units": 0}, "training": {"epochs": 15}}
    run = write_run(runs / "tuned", accuracy=0.9, settings=tuned)
    plan = json.loads(run.plan.read_text()) | {"given": {"head.epochs": "option"}}
    plan["config"].pop("model")
    run.plan.write_text(json.dumps(plan))
    result = cli("runs", "compare", runs / "x_or_o-1", runs / "tuned")
    settings, _ = result.stdout.split("Figures")
    assert "head.epochs" in settings
    assert "head.units" not in settings
    assert "3 defaults of settings that only one of the commands has: see --json" in result.stderr
    assert (
        "head.units" in cli("runs", "compare", runs / "x_or_o-1", runs / "tuned", "--json").stdout
    )


def test_compare_refuses_a_run_that_is_given_twice(cli: Cli, runs: Path) -> None:
    result = cli("runs", "compare", runs / "x_or_o-1", runs / "x_or_o-2", runs / "." / "x_or_o-1")
    assert result.code == 2
    assert "x_or_o-1 is given twice" in result.stderr


def test_compare_json(cli: Cli, runs: Path) -> None:
    result = cli("runs", "compare", runs / "x_or_o-1", runs / "x_or_o-2", "--json")
    document = json.loads(result.stdout)
    assert document["settings"]["model.filters"] == [[24, 32], [32]]
    assert "training.epochs" not in document["settings"]
    assert document["figures"]["test accuracy"] == [0.95, 0.98]


def test_compare_equal_runs(cli: Cli, tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_run(tmp_path / name, accuracy=0.9)
    result = cli("runs", "compare", tmp_path / "a", tmp_path / "b")
    assert "No setting differs" in result.stdout


def test_compare_runs_of_the_same_name(cli: Cli, tmp_path: Path) -> None:
    for parent in ("a", "b"):
        write_run(tmp_path / parent / "run", accuracy=0.9)
    result = cli("runs", "compare", tmp_path / "a" / "run", tmp_path / "b" / "run")
    assert str(tmp_path / "a" / "run") in result.stdout


def test_compare_of_runs_that_have_the_same_images_right(cli: Cli, tmp_path: Path) -> None:
    runs = [tmp_path / name for name in "ab"]
    for run in runs:
        write_evaluation(run, ["x"] * 20 + ["o"] * 40, paths=[*map("x/{}".format, range(60))])
    text = cli("runs", "compare", *runs).stdout
    assert "no difference: both have the same images right" in text
    assert "detectable" not in text


def test_compare_says_which_run_is_better(cli: Cli, tmp_path: Path) -> None:
    runs = [tmp_path / name for name in "abc"]
    for run, right in zip(runs, (20, 40, 21), strict=True):
        write_evaluation(
            run, ["x"] * right + ["o"] * (60 - right), paths=[*map("x/{}".format, range(60))]
        )
    result = cli("runs", "compare", *runs[:2])
    assert result.code == 0
    text = " ".join(result.stdout.split())
    assert "0.3333 to 0.6667: +33.3 points (95 % interval +20.2 to +44.3)" in text
    assert "20 only b has right, 0 only a has right" in text
    assert "b is more accurate than a" in text
    assert "caution" not in text
    assert "no difference was shown" in cli("runs", "compare", runs[0], runs[2]).stdout
    text = " ".join(cli("runs", "compare", runs[2], runs[0]).stdout.split())
    assert "the 1.7 points more of c may be chance; more images would tell" in text
    tests = json.loads(cli("runs", "compare", *runs, "--json").stdout)["tests"]
    assert [(test["gained"], test["lost"]) for test in tests] == [(20, 0), (1, 0)]
    assert tests[0]["p_adjusted"] == pytest.approx(2 * tests[0]["p_value"])
    runs = [tmp_path / name for name in ("d", "e")]
    for run, right in zip(runs, (20, 40), strict=True):
        found = ["x"] * right + ["o"] * (60 - right)
        write_evaluation(run, found, split="val", paths=[f"x/{number}" for number in range(60)])
    text = " ".join(cli("runs", "compare", *runs).stdout.split())
    assert "caution val chose the epochs" in text


def test_compare_of_runs_of_other_images_shows_their_figures(cli: Cli, tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    write_evaluation(first, ["x"] * 6)
    write_evaluation(second, ["x"] * 6, fingerprint="f1", dataset="cats")
    result = cli("runs", "compare", first, second)
    assert result.code == 0
    assert "not evaluated on the same images" in result.stderr
    assert f"cnnclf evaluate {second} data" in result.stderr
    figure = tmp_path / "changed.png"
    result = cli("runs", "compare", first, second, "--out", figure)
    assert result.code == 3
    assert result.stderr.startswith("error: not evaluated on the same images")
    assert not figure.exists()
    assert cli("runs", "compare", first, first, first, "-o", figure).code == 2
    assert cli("runs", "compare", first, first, "-o", "changed.txt").code == 2


def test_compare_needs_two(cli: Cli, runs: Path) -> None:
    result = cli("runs", "compare", runs / "x_or_o-1")
    assert result.code == 2
    assert "received 1" in result.stderr


def test_list_names_model_and_both_accuracies(cli: Cli, tmp_path: Path) -> None:
    root = tmp_path / "runs"
    write_run(root / "tested", accuracy=0.9)
    untested = write_run(
        root / "untested", accuracy=None, settings={"backbone": {"name": "resnet50"}}
    )
    untested.update_run(best_val_accuracy=0.95)
    result = cli("runs", "list", root)
    heading, first, second = result.stdout.splitlines()
    assert heading.split()[:5] == ["run", "status", "test", "val", "model"]
    assert first.split()[:5] == ["untested", "finished", "-", "0.9500", "resnet50"]
    assert second.split()[:4] == ["tested", "finished", "0.9000", "-"]
    assert "89,458" in second


def test_remove_keeps_the_best_and_what_is_not_of_the_run(cli: Cli, runs: Path) -> None:
    (runs / "x_or_o-10" / "notes.txt").write_text("mine")
    paths = sorted(runs.iterdir())
    result = cli("runs", "remove", *paths, "--keep-best", 1, "--yes")
    assert result.code == 0, result.stderr
    assert sorted(path.name for path in runs.iterdir()) == ["x_or_o-10", "x_or_o-2"]
    assert [path.name for path in (runs / "x_or_o-10").iterdir()] == ["notes.txt"]
    assert "notes.txt" in result.stderr


def test_a_run_that_is_given_twice_is_one(cli: Cli, runs: Path) -> None:
    (runs / "link").symlink_to("x_or_o-2")
    paths = [runs / name for name in ("x_or_o-2", "x_or_o-1", "link", "x_or_o-1")]
    result = cli("runs", "remove", *paths, "--keep-best", 1, "--yes")
    assert result.code == 0, result.stderr
    assert sorted(path.name for path in runs.iterdir()) == ["link", "x_or_o-10", "x_or_o-2"]
    assert result.stdout == f"removed {runs / 'x_or_o-1'}\n"
    assert cli("runs", "remove", runs / "link", "--yes").code == 0
    assert [path.name for path in runs.iterdir()] == ["x_or_o-10"]


@pytest.mark.parametrize(
    ("words", "more"),
    [
        (["runs", "compare"], []),
        (["runs", "export"], ["--to", "tensorboard:board"]),
        (["report"], ["--out", "both.html"]),
    ],
)
def test_a_run_is_not_compared_with_itself_nor_exported_twice(
    cli: Cli, runs: Path, words: list[str], more: list[str]
) -> None:
    with chdir(runs):
        result = cli(*words, "x_or_o-1", "x_or_o-2/../x_or_o-1", *more)
    assert result.code == 2
    assert "x_or_o-2/../x_or_o-1 is given twice" in result.stderr


def test_the_current_directory_stays_empty(cli: Cli, runs: Path) -> None:
    with chdir(runs / "x_or_o-1"):
        result = cli("runs", "remove", ".", "--yes")
    assert (result.code, result.stdout) == (0, "removed .\n")
    assert list((runs / "x_or_o-1").iterdir()) == []


def test_nothing_is_removed_beside_a_run_that_is_training(cli: Cli, runs: Path) -> None:
    training = create_run(runs / "training")
    with holding_run(training.path):
        result = cli("runs", "remove", runs / "x_or_o-1", training.path, "--yes")
    assert result.code == 4
    assert (runs / "x_or_o-1").exists()


def test_remove_asks_and_refuses_what_is_training_or_no_run(cli: Cli, runs: Path) -> None:
    assert cli("runs", "remove", runs / "x_or_o-1").code == 2
    assert (runs / "x_or_o-1").exists()
    assert cli("runs", "remove", runs, "--yes").code == 4
    training = create_run(runs / "training")
    with holding_run(training.path):
        result = cli("runs", "remove", training.path, "--yes")
    assert result.code == 4
    assert "still training" in result.stderr
    assert training.record.exists()


@pytest.mark.parametrize("name", ["run.json", "plan.json"])
def test_the_best_of_damaged_and_whole_runs_is_a_whole_one(cli: Cli, runs: Path, name: str) -> None:
    best = runs / "x_or_o-2"
    (best / name).write_text("{", encoding="utf-8")
    assert cli("runs", "list", runs).stdout.splitlines()[1].startswith("x_or_o-1 ")
    paths = [runs / f"x_or_o-{number}" for number in (1, 2, 10)]
    assert cli("runs", "remove", *paths, "--keep-best", 1, "--yes").code == 0
    assert [path.exists() for path in paths] == [True, False, False]


@pytest.mark.parametrize("name", ["run.json", "plan.json"])
def test_a_damaged_run_can_be_removed(cli: Cli, runs: Path, name: str) -> None:
    run = runs / "x_or_o-1"
    (run / name).write_text("{", encoding="utf-8")
    (run / "notes.txt").touch()
    assert cli("runs", "remove", run).code == 2  # it asks
    if name == "run.json":  # it may be training
        with holding_run(run):
            assert cli("runs", "remove", run, "--yes").code == 4
    result = cli("runs", "remove", run, runs / "x_or_o-2", "--yes", "--keep-best", "1")
    assert result.code == 0, result.stderr
    assert [path.name for path in run.iterdir()] == ["notes.txt"]
    assert (runs / "x_or_o-2").exists()
