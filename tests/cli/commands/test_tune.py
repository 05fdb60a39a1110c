import json
from pathlib import Path
from unittest.mock import Mock

import pytest

from cnnclf.cli.commands import tune
from cnnclf.config import ImportConfig
from cnnclf.data.manifest import load_dataset
from cnnclf.errors import DataError, DeviceError, RunError
from cnnclf.files import read_json, write_json_atomic
from cnnclf.importers import import_source
from cnnclf.inference.classifier import Classifier
from cnnclf.planning.train_plan import TrainPlan
from cnnclf.progress import Silent
from cnnclf.runs.run_directory import RunDirectory
from cnnclf.runs.run_lock import holding_run
from cnnclf.tuning import budget, leaderboard, search, workers
from cnnclf.tuning.finals import evaluate_trial
from tests.conftest import Cli
from tests.tuning.test_search import Player


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("tuned") / "xo"
    import_source(Path("sample_data/x_or_o"), place, progress=Silent())
    return place


@pytest.fixture
def player(monkeypatch: pytest.MonkeyPatch) -> Player:
    player = Player()
    monkeypatch.setattr(workers, "continue_trial", player)
    return player


def test_one_seed_is_not_called_a_confirmation(
    cli: Cli, tmp_path: Path, dataset: Path, player: Player, monkeypatch: pytest.MonkeyPatch
) -> None:
    player.epoch_s = 1.0
    for module in (budget, workers):
        monkeypatch.setattr(module, "monotonic", lambda: player.clock)
    space, directory = tmp_path / "space.toml", tmp_path / "search"
    space.write_text("[training]\nlabel_smoothing = [0.1, 0.2]\n", encoding="utf-8")
    monkeypatch.setattr(player, "judge", lambda plan, _: (0.5, 0.5 + _smoothing(plan), 0.1))
    words = ["--space", space, "--fix", "training.epochs=18", "--trials", "4", "--minutes", 1.17]
    result = cli("tune", dataset, *words, "--out", directory)
    assert result.code == 0, result.stderr
    text = " ".join(result.stdout.split())
    assert "Against the default" in text
    assert "With other seeds" not in text
    assert "was trained with one seed only" in text
    assert f"cnnclf tune --resume {directory} --minutes 3 has time for another" in result.stderr
    result = cli("report", directory)
    assert "With other seeds" not in (directory / "report.html").read_text(encoding="utf-8")


def _smoothing(plan: TrainPlan) -> float:
    return plan.config.training.label_smoothing


def test_a_search_from_start_to_result(
    cli: Cli, tmp_path: Path, dataset: Path, player: Player
) -> None:
    space = tmp_path / "space.toml"
    space.write_text("[model]\ndropout = { low = 0.0, high = 0.5 }\n", encoding="utf-8")
    directory = tmp_path / "search"
    words = ["--space", space, "--fix", "training.epochs=18", "--seeds", "2", "--trials", "6"]
    result = cli("tune", dataset, *words, "--out", directory)
    assert result.code == 0, result.stderr
    for part in ("Leaderboard", "dropout=", "default", "With other seeds", "winner", "best.toml"):
        assert part in result.stdout
    assert f"cnnclf train {dataset} --config {directory / 'best.toml'}" in result.stderr
    assert {path.name for path in directory.iterdir()} == {
        "tuning.json", "points.json", "trials", "result.json", "leaderboard.csv", "best.toml",
        "accuracy.png", "coordinates.png",
    }  # fmt: skip
    result = cli("report", directory)
    assert result.code == 0, result.stderr
    page = (directory / "report.html").read_text(encoding="utf-8")
    assert "<h2>Leaderboard</h2>" in page
    assert page.count("data:image/png;base64,") == 2
    assert f"cnnclf train {dataset} --config {directory / 'best.toml'}" in page
    count = player.epochs
    result = cli("tune", "--resume", directory, "--trials", "8", "--json")
    document = json.loads(result.stdout)
    assert player.epochs > count
    assert len(document["leaderboard"]) == 8
    assert document == document | read_json(directory / "result.json")
    assert not list(directory.glob("trials/*/evaluation/test"))


@pytest.mark.parametrize(
    "words",
    [[], ["--final", "--track", "mlflow", "--track", "dvclive", "--ray"], ["--ray", "auto"]],
)
def test_an_interrupted_search_names_the_command_that_continues_it(
    cli: Cli, tmp_path: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    def stop(*_arguments: object, **_options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(tune, "_check_together", lambda *_, **__: None)
    monkeypatch.setattr(search, "run_search", stop)
    directory = tmp_path / "search"
    result = cli("tune", dataset, "-o", directory, *words)
    assert result.code == 130
    text = " ".join(result.stderr.split())
    command = " ".join(["cnnclf tune --resume", str(directory), *words])
    assert text.endswith(f"continue with: {command}")
    again = cli(*command.split()[1:])
    assert again.code == 130
    assert " ".join(again.stderr.split()).endswith(command)
    lost = DeviceError("the cluster failed: it died", "see its logs")
    monkeypatch.setattr(search, "run_search", Mock(side_effect=lost))
    again = cli(*command.split()[1:])
    assert again.code == 6
    text = " ".join(again.stderr.split())
    assert text.endswith(f"hint: see its logs; continue with: {command}")


@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_a_winner_is_evaluated_where_nothing_was_trained(
    tmp_path: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    opened: list[object] = []
    monkeypatch.setattr(Classifier, "load", lambda path, **words: opened.append((path, words)))
    monkeypatch.setattr("cnnclf.evaluation.report.evaluate", Mock())
    run = RunDirectory(tmp_path)
    write_json_atomic(run.plan, {"config": {"runtime": {"device": device}}})
    evaluate_trial(run, load_dataset(dataset), split="val", progress=Silent())
    assert opened == [(tmp_path, {"device": device})]


def test_overwrite_replaces_an_earlier_search_and_nothing_else(
    cli: Cli, tmp_path: Path, dataset: Path, player: Player
) -> None:
    directory = tmp_path / "search"
    words = ["--fix", "training.epochs=18", "--trials", "2", "--seeds", "1", "-o", directory]
    assert cli("tune", dataset, *words).code == 0
    for path in (directory / "notes.txt", directory / "trials" / "000" / "mine.txt"):
        path.write_text("mine", encoding="utf-8")
    (directory / "trials" / "001" / "run.json").write_text("{", encoding="utf-8")
    # before the dataset is looked at
    result = cli("tune", "no-data", *words)
    assert result.code == 2
    assert "it is a search" in result.stderr
    assert f"cnnclf tune --resume {directory}" in " ".join(result.stderr.split())
    assert "--overwrite" in result.stderr
    epochs = player.epochs
    with holding_run(directory):
        result = cli("tune", dataset, *words, "--overwrite")
    assert result.code == 4
    assert "still running (process" in result.stderr
    assert (directory / "result.json").exists()
    words[-3] = "2"
    (directory / "optuna.sqlite").touch()
    result = cli("tune", dataset, *words, "--overwrite", "--seed", "1")
    assert result.code == 2
    assert "000 also contains mine.txt" in " ".join(result.stderr.split())
    assert (directory / "result.json").exists()
    (directory / "trials" / "000" / "mine.txt").unlink()
    result = cli("tune", dataset, *words, "--overwrite", "--seed", "1")
    assert result.code == 0, result.stderr
    assert player.epochs > epochs  # trained again
    assert (directory / "notes.txt").read_text(encoding="utf-8") == "mine"
    assert not (directory / "optuna.sqlite").exists()


def test_overwrite_replaces_only_searches(cli: Cli, tmp_path: Path, dataset: Path) -> None:
    (tmp_path / "notes.txt").touch()
    result = cli("tune", dataset, "--out", tmp_path, "--overwrite")
    assert result.code == 2
    assert "notes.txt" in result.stderr
    assert "choose another --out" in result.stderr


def test_only_figures_that_were_drawn_are_named(
    cli: Cli, tmp_path: Path, dataset: Path, player: Player, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As if the time had ended after the default, which has no settings to draw.
    monkeypatch.setattr(leaderboard, "draw_coordinates", lambda *_, **__: None)
    directory = tmp_path / "search"
    words = ["--fix", "training.epochs=18", "--trials", "2", "--seeds", "1", "-o", directory]
    result = cli("tune", dataset, *words)
    assert result.code == 0, result.stderr
    assert player.epochs > 0
    assert "accuracy.png" in result.stdout
    assert "coordinates.png" not in result.stdout
    assert "coordinates.png is missing" in cli("report", directory).stderr
    content = read_json(directory / "result.json")
    content["leaderboard"] = content["leaderboard"][:1]
    (directory / "result.json").write_text(json.dumps(content), encoding="utf-8")
    assert "is missing" not in cli("report", directory).stderr
    del content["leaderboard"][0]["epochs"]
    (directory / "result.json").write_text(json.dumps(content), encoding="utf-8")
    damaged = cli("report", directory)
    assert damaged.code == 4
    assert "result.json is damaged: leaderboard.0.epochs is missing" in damaged.stderr
    assert f"write it again: cnnclf tune --resume {directory}" in damaged.stderr


def test_a_search_that_runs_is_not_changed_by_another_process(
    cli: Cli, tmp_path: Path, dataset: Path, player: Player
) -> None:
    directory = tmp_path / "search"
    words = ["--fix", "training.epochs=18", "--trials", "2", "--seeds", "1", "-o", directory]
    assert cli("tune", dataset, *words).code == 0
    before, trained = (directory / "tuning.json").read_bytes(), player.epochs
    with holding_run(directory):
        refused = cli("tune", "--resume", directory, "--trials", "3")
    assert refused.code == 4
    assert (directory / "tuning.json").read_bytes() == before
    assert cli("tune", "--resume", directory, "--trials", "3").code == 0
    assert read_json(directory / "tuning.json")["config"]["trials"] == 3
    assert player.epochs > trained


def test_final_evaluates_the_winner_on_test(
    cli: Cli, tmp_path: Path, dataset: Path, player: Player, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluated: list[Path] = []

    def evaluate(run: RunDirectory, _: object, *, split: str, progress: object) -> str:
        assert split == "test"
        evaluated.append(run.path)
        return "0.9000 (45 of 50)"

    monkeypatch.setattr(search, "evaluate_trial", evaluate)
    directory = tmp_path / "search"
    words = ["--fix", "training.epochs=18", "--trials", "2", "--seeds", "1", "-o", directory]
    assert "0.9000" not in cli("tune", dataset, *words).stdout
    assert not evaluated
    result = cli("tune", "--resume", directory, "--final")
    assert "test accuracy" in result.stdout
    assert "0.9000 (45 of 50)" in result.stdout
    assert evaluated == [directory / "trials" / "000"]
    assert player.epochs > 0


def test_final_is_refused_without_a_test_split_and_loses_no_result(
    cli: Cli, tmp_path: Path, dataset: Path, player: Player, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ImportConfig(split=(0.8, 0.2, 0.0))
    import_source(Path("sample_data/x_or_o"), tmp_path / "xo", options=options, progress=Silent())
    directory = tmp_path / "search"
    result = cli("tune", tmp_path / "xo", "--final", "--out", directory)
    assert result.code == 3
    assert "has no test split for --final" in result.stderr
    assert not directory.exists()

    def fail(*_: object, **__: object) -> str:
        raise RunError("cannot be evaluated")

    monkeypatch.setattr(search, "evaluate_trial", fail)
    words = ["--fix", "training.epochs=18", "--trials", "2", "--seeds", "1", "-o", directory]
    assert cli("tune", dataset, *words, "--final").code == 4
    assert player.epochs > 0
    assert read_json(directory / "result.json")["test"] is None

    def lose(*_: object, **__: object) -> str:
        raise DataError("none of the 4 images in the test split can be decoded")

    monkeypatch.setattr(search, "evaluate_trial", lose)
    trained = player.epochs
    lost = cli("tune", "--resume", directory, "--final")
    assert lost.code == 3
    again = f"once they are back, test its winner: cnnclf tune --resume {directory} --final"
    assert again in " ".join(lost.stderr.split())
    assert player.epochs == trained


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ([], 2, "cnnclf tune: missing DATASET"),
        (["DATA", "--minutes", "0"], 2, "--minutes 0: expected a number greater than 0"),
        (["DATA", "--trials", "one"], 2, "--trials one: expected"),
        (["DATA", "--sampler", "grid"], 2, "one of evolution, random, tpe, gp, cmaes"),
        (
            ["DATA", "--fix", "model.dropuot=0.1"],
            2,
            "--fix model.dropuot=0.1: unknown setting; did",
        ),
        (["DATA", "--fix", "dropout"], 2, "hint: for example --fix model.dropout=0.3"),
        (["DATA", "--fix", "training.minutes=3"], 2, "training.minutes cannot be fixed"),
        (["DATA", "--fix", "runtime.seed=3"], 2, "choose the first one: --seed N"),
        (["DATA", "--space", "none.toml"], 4, "space none.toml does not exist"),
        (["DATA", "--space", "SPACE", "--fix", "model.dropout=0.1"], 2, "space.toml searches it"),
        (["DATA", "--resume", "there"], 2, "--resume DIR takes only"),
        (["--resume", "there", "--seed", "3"], 2, "--resume DIR takes only"),
        (["--resume", "there"], 4, "there is not a tuning directory"),
        (["no-data"], 3, "no-data"),
    ],
)
def test_what_is_wrong_is_one_line(
    cli: Cli, tmp_path: Path, dataset: Path, words: list[str], code: int, message: str
) -> None:
    space = tmp_path / "space.toml"
    space.write_text("[model]\ndropout = [0.1, 0.2]\n", encoding="utf-8")
    names = {"DATA": dataset, "SPACE": space}
    result = cli("tune", *(names.get(word, word) for word in words))
    assert result.code == code
    assert message in result.stderr
    assert result.stderr.count("error: ") == 1
    assert not (tmp_path / "tuning").exists()


def test_narrow_networks_are_searched_too(cli: Cli, dataset: Path) -> None:
    fix = ("--fix", "model.preset=tiny", "--fix", "data.image_size=16")
    result = cli("tune", dataset, "--dry-run", *fix, "--fix", "model.filters=8,8")
    assert result.code == 0, result.stderr
    result = cli("tune", dataset, "--dry-run", *fix, "--fix", "training.batch_size=4")
    assert result.code == 0, result.stderr


@pytest.mark.parametrize("command", ["train", "finetune"])
def test_dry_run_shows_the_space_and_the_time_of_a_trial(
    cli: Cli, dataset: Path, command: str
) -> None:
    words = {"train": ["data.image_size=16"], "finetune": ["tail.unfreeze=1", "--finetune"]}
    result = cli("tune", dataset, "--dry-run", "--minutes", "7", "--fix", *words[command])
    assert result.code == 0
    assert "0.25 to 4, log scale, times" in result.stdout.replace("0.125", "0.25")
    assert "search_rates" not in result.stdout
    assert " epochs" + " of the tail" * (command == "finetune") in result.stdout
    assert "a whole training" in result.stdout
    assert "7 min: as long as" in result.stdout
