"""`cnnclf train` from the command line: plans, refusals and what a run prints."""

import errno
import json
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from cnnclf.cli import training_commands
from cnnclf.errors import ExitCode

Cli = Callable[..., Any]
ROOT = Path(__file__).parents[3]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Class folders of bright and dark noise."""
    rng = random.Random(0)
    for label, low in (("bright", 150), ("dark", 0)):
        (tmp_path / "images" / label).mkdir(parents=True)
        for index in range(20):
            pixels = bytes(low + rng.randrange(100) for _ in range(16 * 16))
            Image.frombytes("L", (16, 16), pixels).save(
                tmp_path / "images" / label / f"{index}.png"
            )
    return tmp_path / "images"


def test_a_dry_run_shows_the_plan_with_reasons_and_writes_nothing(
    cli: Cli, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    result = cli("train", images, "--dry-run", "--json")
    assert result.code == ExitCode.OK
    plan, time = (json.loads(result.stdout)[each] for each in ("plan", "time"))
    assert 0 < time["at_least_s"] < time["seconds"] < time["at_most_s"]
    assert time["images_per_s"]["float32"] > 0
    assert plan["parameters"] > 0
    assert plan["reasons"]["data.color"] == "all training images are gray"
    assert sorted(tmp_path.rglob("*")) == before
    shown = cli("train", images, "--dry-run")
    assert shown.stdout.startswith("dataset       images: 2 classes")
    assert "muon, learning rate 0.018, cosine schedule" in shown.stdout
    for line in shown.stdout.splitlines():  # the plan of a run fits on eight lines of 80 columns
        if line.startswith(("network ", "training ", "note ")):
            assert len(line) <= 80
    assert "data.image_size = 16x16: all images are 16x16\n" in shown.stdout
    assert "model.blocks = 2: " in shown.stdout
    assert "learning rate" not in shown.stderr


@pytest.mark.parametrize("command", ["train", "finetune"])
def test_a_folder_has_one_split_with_every_seed(cli: Cli, images: Path, command: str) -> None:
    found = [
        json.loads(cli(command, images, "--dry-run", "--json", "--seed", seed).stdout)["plan"]
        for seed in (0, 1)
    ]
    assert [each["config"]["runtime"]["seed"] for each in found] == [0, 1]
    assert found[0]["dataset"] == found[1]["dataset"]


@pytest.mark.parametrize(("usable", "warned"), [(False, True), (True, False)])
def test_a_dry_run_warns_of_a_device_that_is_not_there(
    cli: Cli, images: Path, monkeypatch: pytest.MonkeyPatch, usable: bool, warned: bool
) -> None:
    monkeypatch.setattr("cnnclf.hardware.is_gpu_usable", lambda _backend: usable)
    result = cli("train", images, "--dry-run", "--device", "gpu")
    assert result.code == 0
    assert ("--device gpu: no usable GPU is found" in result.stderr) == warned
    assert "no usable GPU" not in cli("train", images, "--dry-run").stderr


def test_a_dry_run_estimates_the_memory_from_the_batch_size(cli: Cli, images: Path) -> None:
    lines = {}
    for size in (8, 80):
        shown = cli("train", images, "--dry-run", "--batch-size", size).stdout
        [lines[size]] = [line for line in shown.splitlines() if line.startswith("memory")]
        assert f"the outputs of {size} images" in lines[size]
        assert lines[size].split()[1] == "about"  # with the program itself
    counted = [line.split(": ")[1].split(" for ")[0] for line in lines.values()]
    assert counted[0] != counted[1]


def test_a_dry_run_shows_the_layers_and_what_was_given(cli: Cli, images: Path) -> None:
    options = ("--filters", "4,6", "--set", "optimizer.momentum=0.9")
    shown = cli("train", images, "--dry-run", *options).stdout
    lines = [" ".join(line.split()) for line in shown.splitlines()]
    assert "given optimizer.momentum = 0.9" in lines
    assert "model.filters = 4,6" in lines
    assert "layer output parameters MACs receptive field" in lines
    assert "block1_conv1 16x16x4 36 9,216 3" in lines
    assert "block2_conv1 8x8x6 216 13,824 8" in lines
    assert lines[-1].startswith("logits 2 14 12 ")


@pytest.mark.parametrize("command", ["train", "finetune"])
def test_the_plan_of_a_run_is_short_unless_it_is_asked_for(
    cli: Cli, images: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setattr(training_commands, "_train", lambda *_, **__: 0)
    options: tuple[str, ...] = (
        ("--epochs", "3") if command == "train" else ("--weights", "none", "--hue", "0")
    )
    options += ("--set", "training.label_smoothing=0.2", "--cache", "ram", "--seed", "0")
    options += ("--deterministic", "--no-calibrate")
    cli(command, images, "--dry-run")  # imports
    said = cli(command, images, *options).stderr.splitlines()
    start = next(i for i, line in enumerate(said) if line.startswith("dataset "))
    assert len(said) - start <= 8
    (given,) = [line for line in said if line.startswith("given ")]
    assert "--label-smoothing 0.2" in given
    assert "--cache ram" in given
    assert "--deterministic, " in f"{given}, "
    assert "--no-calibrate, " in f"{given}, "
    assert "--seed" not in given, "it is the default"
    assert not [line for line in said if line.startswith("auto ")]
    whole = cli(command, images, *options, "-v").stderr
    assert "runtime.seed = 0" in whole
    assert "\nauto " in whole


def test_a_dry_run_loads_no_tensorflow(images: Path) -> None:
    code = (
        "import sys; from cnnclf.cli.main import main; "
        f"code = main(['train', {str(images)!r}, '--dry-run', '--preset', 'textbook']); "
        "print(code, sorted({'tensorflow', 'keras'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("0 []"), done.stdout


def test_textbook_announces_the_textbook_count(cli: Cli, images: Path) -> None:
    options = ("--preset", "textbook", "--image-size", "64", "--color", "rgb")
    result = cli("train", images, *options, "--dry-run", "--json")
    layers = {layer["name"]: layer for layer in json.loads(result.stdout)["plan"]["layers"]}
    # ten classes instead of two are 8 more outputs of 128 weights and a bias
    assert json.loads(result.stdout)["plan"]["parameters"] + 8 * 129 == 3_938_570
    assert layers["dense1"]["parameters"] == 3_936_384


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ((), ExitCode.USAGE, "missing DATASET"),
        (("nowhere",), ExitCode.DATA, "nowhere"),
        (
            ("{images}", "--dropout", "2"),
            ExitCode.USAGE,
            "--dropout 2: expected a number of at least 0",
        ),
        (("{images}", "--preset", "resnet50"), ExitCode.USAGE, "are backbones of cnnclf finetune"),
        (("{images}", "--set", "model.x=1"), ExitCode.USAGE, "--set model.x=1: unknown setting"),
        (("{images}", "--config", "none.toml"), ExitCode.CONFIG, "none.toml"),
        (("{images}", "--epochs"), ExitCode.USAGE, "--epochs"),
        (("{images}", "--no-such-option"), ExitCode.USAGE, "--no-such-option"),
        (("{images}", "--resume", "run"), ExitCode.USAGE, "--resume RUN takes no other settings"),
        (
            ("--resume", "run", "--epochs", "9"),
            ExitCode.USAGE,
            "train --extend run --epochs N",
        ),
        (("--resume", "nowhere"), ExitCode.CONFIG, "nowhere"),
        (("--resume", "run", "--dry-run"), ExitCode.USAGE, "--resume RUN takes no other settings"),
        (("{images}", "--device", "tpu"), ExitCode.USAGE, "--device tpu: expected auto, cpu, gpu"),
        (("{images}", "--out", "{images}"), ExitCode.USAGE, "it contains bright"),
        (
            ("{images}", "--out", "{images}", "--overwrite"),
            ExitCode.USAGE,
            "not a run: it contains bright",
        ),
        (("--resume", "r", "--overwrite"), ExitCode.USAGE, "--resume RUN takes no other"),
        (
            ("{images}", "--padding", "valid", "--kernel-size", "31", "--dry-run"),
            ExitCode.USAGE,
            "block1_conv1: its window of 31x31 is larger than the feature maps",
        ),
        (
            ("{images}", "--track", "neptune", "--dry-run"),
            ExitCode.USAGE,
            "--track neptune: expected one of tensorboard, mlflow",
        ),
        (
            ("{images}", "--hue", "0.1", "--dry-run"),
            ExitCode.USAGE,
            "error: --hue needs color images",
        ),
    ],
    ids=lambda value: str(value)[:40],
)
def test_refusals_are_one_line_with_the_right_code(
    cli: Cli, images: Path, arguments: tuple[str, ...], code: ExitCode, words: str
) -> None:
    filled = [each.replace("{images}", str(images)) for each in arguments]
    result = cli("train", *filled)
    assert result.code == code
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert words in " ".join(result.stderr.split())
    assert "Traceback" not in result.stderr


def test_a_setting_from_a_file_that_does_not_fit_the_images_is_no_wrong_usage(
    cli: Cli, images: Path, tmp_path: Path
) -> None:
    file = tmp_path / "my.toml"
    file.write_text("[augment]\nhue = 0.1\n")
    result = cli("train", images, "--config", file, "--epochs", "3", "--dry-run")
    assert result.code == ExitCode.CONFIG
    assert "augment.hue needs color images" in result.stderr


def test_several_errors_of_a_file_are_reported_at_once(
    cli: Cli, images: Path, tmp_path: Path
) -> None:
    file = tmp_path / "my.toml"
    file.write_text("[model]\nfiltres = [1]\n[optimizer]\nname = 'sgdd'\n[training]\nepochs = -1\n")
    result = cli("train", images, "--config", file)
    assert result.code == ExitCode.CONFIG
    said = " ".join(result.stderr.split())
    assert "did you mean model.filters?" in said
    assert "optimizer.name" in said
    assert "training.epochs" in said


# What takes more than a second says so first, in this order.
WAITS = [
    "building the network",
    "compiling",
    "drawing the curves",
    "computing metrics",
    "drawing figures",
]


def test_a_run_prints_its_test_accuracy_and_refuses_to_be_overwritten(
    cli: Cli, images: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    options = ("--filters", "4", "--epochs", "4", "--batch-size", "8", "--device", "cpu")
    result = cli("train", images, "--out", run, *options, "--json")
    assert result.code == ExitCode.OK, result.stderr
    told = json.loads(result.stdout)
    said = [line for line in result.stderr.splitlines() if line in WAITS]
    assert said == WAITS
    assert told["split"] == "test"
    assert 0 <= told["metrics"]["accuracy_low"] <= told["metrics"]["accuracy"] <= 1
    again = cli("train", images, "--out", run, *options)
    assert again.code == ExitCode.USAGE
    assert "replace it with --overwrite, or choose another --out" in again.stderr
    # as after a kill between the end of the run and that of its process
    finished = cli("train", "--resume", run, "--json")
    assert finished.code == ExitCode.OK
    assert "is finished: there is nothing to resume" in finished.stderr
    assert f"cnnclf train --extend {run} --epochs N" in finished.stderr
    assert json.loads(finished.stdout)["best_epoch"] == told["best_epoch"]
    planned = json.loads((run / "plan.json").read_text())
    same = cli("train", images, "--config", run, "--dry-run", "--json")
    repeated = json.loads(same.stdout)["plan"]
    assert repeated.pop("given").keys() == planned.pop("given").keys()
    assert repeated == planned
    predicted = cli("predict", run, images / "dark", "--json")
    assert predicted.code == ExitCode.OK, predicted.stderr
    (run / "notes.txt").write_text("mine")
    dry = cli("train", images, "-o", run, *options, "--overwrite", "--dry-run")
    assert dry.code == ExitCode.OK
    assert json.loads((run / "run.json").read_text())["status"] == "finished"
    shown = ("--track", "tensorboard")
    replaced = cli("train", images, "-o", run, *options[:2], "--epochs", 1, "--overwrite", *shown)
    assert replaced.code == ExitCode.OK, replaced.stderr
    assert ["tensorboard", str(run / "tensorboard")] in map(str.split, replaced.stdout.splitlines())
    assert len((run / "history.csv").read_text().splitlines()) == 2
    assert (run / "notes.txt").read_text() == "mine"


TINY = ("--filters", "4", "--batch-size", "8", "--device", "cpu")


def test_a_file_of_settings_gives_way_to_set_and_options(
    cli: Cli, images: Path, tmp_path: Path
) -> None:
    (tmp_path / "my.toml").write_text(
        "[model]\ndropout = 0.1\nfilters = [4, 8]\n[training]\nepochs = 3\n"
    )
    layers = ("--config", tmp_path / "my.toml", "--set", "model.dropout=0.2", "--epochs", "5")
    result = cli("train", images, "--set", "training.epochs=4", *layers, "--dry-run", "--json")
    plan = json.loads(result.stdout)["plan"]
    assert plan["config"]["model"]["filters"] == [4, 8]
    assert plan["config"]["model"]["dropout"] == 0.2
    assert plan["config"]["training"]["epochs"] == 5
    assert plan["given"]["model.dropout"] == "--set"


def test_classes_of_one_and_two_images_are_warned_of_and_trained(
    cli: Cli, images: Path, tmp_path: Path
) -> None:
    for label, count in (("one", 1), ("two", 2)):
        (tmp_path / "images" / label).mkdir()
        for index in range(count):
            image = Image.new("L", (16, 16), 60 * index)
            image.save(tmp_path / "images" / label / f"{index}.png")
    options = (*TINY, "--epochs", "1", "--json")
    result = cli("train", images, "--out", tmp_path / "run", *options)
    assert result.code == ExitCode.OK, result.stderr
    said = " ".join(result.stderr.split())
    assert "labels with fewer than 10 training images: one (1)" in said
    assert (tmp_path / "run" / "evaluation" / "test" / "confusion.png").exists()


def test_images_that_went_bad_are_skipped_and_the_exit_code_tells(
    cli: Cli, images: Path, tmp_path: Path
) -> None:
    assert cli("import", images, "--out", tmp_path / "set").code == ExitCode.OK
    (images / "dark" / "3.png").write_bytes(b"")
    (images / "bright" / "4.png").unlink()
    options = (*TINY, "--epochs", "1", "--json")
    result = cli("train", tmp_path / "set", "--out", tmp_path / "run", *options)
    assert result.code == ExitCode.SOME_FAILED, result.stderr
    assert json.loads(result.stdout)["failed"] == 2
    assert "skipped 2 images that could not be decoded" in " ".join(result.stderr.split())


def test_files_that_the_import_skipped_are_reported_at_the_end_and_by_the_exit_code(
    cli: Cli, images: Path, tmp_path: Path
) -> None:
    (images / "dark" / "3.png").write_bytes(b"no image")
    options = (*TINY, "--epochs", "1")
    result = cli("train", images, "--out", tmp_path / "run", *options)
    assert result.code == ExitCode.SOME_FAILED, result.stderr
    assert "1 file at the import, listed in " in result.stdout
    again = cli("train", images, "--out", tmp_path / "again", *options, "--json")
    assert again.code == ExitCode.SOME_FAILED, "the import lies in the cache, the file is as bad"
    told = json.loads(again.stdout)
    assert (told["failed"], told["failed_at_import"]) == (1, 1)
    assert cli("import", images, "--out", tmp_path / "set").code == ExitCode.SOME_FAILED
    known = cli("train", tmp_path / "set", "--out", tmp_path / "third", *options)
    assert known.code == ExitCode.OK, "of a dataset, `import` told"


def test_a_loss_that_is_no_number_ends_with_one_line(
    cli: Cli, images: Path, tmp_path: Path
) -> None:
    wild = ("--optimizer", "sgd", "--learning-rate", "10", "--warmup", "0", "--l2", "10")
    options = (*TINY, *wild, "--epochs", "40", "--patience", "0")
    result = cli("train", images, "--out", tmp_path / "run", *options)
    assert result.code == ExitCode.CONFIG
    assert "error: loss became " in result.stderr
    assert "hint: use a lower --learning-rate" in result.stderr
    shown = cli("runs", "show", tmp_path / "run").stdout
    assert "why it ended  loss became " in shown
    assert "Traceback" not in result.stderr


def test_a_disk_that_fills_up_costs_nothing_that_was_reached(
    cli: Cli, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cnnclf.training.fitting import checkpoints
    from cnnclf.training.fitting.state import save_state

    calls = []

    def fill(*arguments: Any, **options: Any) -> None:
        calls.append(1)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        save_state(*arguments, **options)

    monkeypatch.setattr(checkpoints, "save_state", fill)
    run = tmp_path / "run"
    result = cli("train", images, "--out", run, *TINY, "--epochs", "3")
    assert result.code == ExitCode.DEVICE
    said = " ".join(result.stderr.split())
    assert "error: the disk is full: cannot write" in said
    assert (
        "hint: free some space and try again; once there is enough, "
        f"continue with: cnnclf train --resume {run}" in said
    )
    assert json.loads((run / "run.json").read_text())["status"] == "failed"
    assert not list(run.rglob("*.new"))
    finished = cli("train", "--resume", run, "--json")
    assert finished.code == ExitCode.OK, finished.stderr
    assert json.loads(finished.stdout)["epochs"] == 3


def test_a_gpu_that_is_not_there_leaves_no_run_behind(
    cli: Cli, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tensorflow as tf

    monkeypatch.setattr(tf.config, "list_physical_devices", lambda _kind: [])
    result = cli("train", images, "--out", tmp_path / "run", "--device", "gpu")
    assert result.code == ExitCode.DEVICE
    assert "error: --device gpu: " in result.stderr
    assert "hint: " in result.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("run.json", None, "run.json is missing"),
        ("run.json", "{", "run.json is damaged"),
        ("run.json", '{"version": 99}', "written by a newer version of cnnclf"),
        ("plan.json", None, "cannot read"),
        ("plan.json", '{"plan_version": 99}', "written by a newer version of cnnclf"),
        ("plan.json", '{"plan_version": 1, "layers": []}', "plan.json is damaged"),
        ("checkpoints/last/state.json", None, "state.json"),
        ("checkpoints/last/state.json", "{}", "state.json is damaged"),
    ],
)
def test_a_run_that_cannot_be_resumed_is_named(
    cli: Cli, images: Path, tmp_path: Path, file: str, content: str | None, words: str
) -> None:
    from cnnclf.runs.run_opening import create_run

    planned = cli("train", images, *TINY, "--dry-run", "--json")
    run = create_run(tmp_path / "run")
    run.plan.write_text(json.dumps(json.loads(planned.stdout)["plan"]))
    run.last.mkdir(parents=True)
    run.update_run(status="interrupted")
    if content is None:
        (run.path / file).unlink(missing_ok=True)
    else:
        (run.path / file).write_text(content)
    result = cli("train", "--resume", run.path)
    assert result.code == ExitCode.CONFIG
    said = " ".join(result.stderr.split())
    assert words in said
    assert "hint: " in said
    assert "Traceback" not in said


def test_extending_takes_nothing_that_the_run_has(cli: Cli) -> None:
    run = ROOT / "sample_data" / "tiny_run"
    for other in ([run], ["--resume", run], ["--set", "training.batch_size=8"]):
        refused = cli("train", "--extend", run, "--epochs", 9, *other)
        assert refused.code == ExitCode.USAGE
        assert "--extend RUN takes neither a dataset nor --resume" in refused.stderr
    alone = cli("train", "--extend", run, "--epochs", 9)
    assert alone.code == ExitCode.CONFIG
    assert "has no checkpoints/last" in alone.stderr


@pytest.mark.parametrize("command", ["train", "finetune"])
def test_a_run_beside_a_dataset_is_recognized(cli: Cli, images: Path, command: str) -> None:
    run = ROOT / "sample_data" / "tiny_run"
    for words in ([run, images], [images, run]):
        result = cli(command, *words)
        assert result.code == ExitCode.USAGE
        said = " ".join(result.stderr.split())
        assert f"{run} is a run, not a dataset" in said
        assert f"{command}: {run} is a run" in said
        # the command that made it: another one refuses its settings
        assert f"cnnclf train DATASET --config {run}" in said
        assert f"cnnclf train --resume {run}" in said
        assert f"cnnclf train --extend {run}" in said
