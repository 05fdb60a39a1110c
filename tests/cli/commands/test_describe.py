"""`cnnclf describe`: of settings, runs, bundles and backbones, and what it refuses."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cnnclf.config import FinetuneConfig, load_config
from cnnclf.data.manifest import load_dataset
from cnnclf.files import write_json_atomic
from cnnclf.importers import import_source
from cnnclf.planning.finetune_plan import plan_finetuning
from cnnclf.progress import Silent
from cnnclf.runs.run_opening import create_run

ROOT = Path(__file__).parents[3]
TINY_RUN = ROOT / "sample_data/tiny_run"

Cli = Callable[..., Any]


def describe(cli: Cli, *arguments: object) -> dict[str, Any]:
    result = cli("describe", *arguments, "--json")
    assert result.code == 0, result.stderr
    document: dict[str, Any] = json.loads(result.stdout)
    return document


def test_large_numbers_of_layers_are_grouped_and_aligned(cli: Cli) -> None:
    lines = cli("describe", "--preset", "textbook").stdout.splitlines()
    counts = [line for line in lines if line.startswith(("dense1 ", "logits "))]
    assert [line.split()[-1] for line in counts[:2]] == ["3,936,384", "1,290"]
    assert len(counts[0]) == len(counts[1])


def test_the_textbook_network(cli: Cli) -> None:
    found = describe(cli, "--preset", "textbook")
    assert found["parameters"] == 3_938_570
    assert found["flops"] == 2 * found["macs"]
    assert found["input_shape"] == [64, 64, 3]
    conv = found["layers"][1]
    assert conv["name"] == "block1_conv1"
    assert (conv["kernel"], conv["stride"], conv["padding"]) == ([3, 3], 1, "valid")
    assert (conv["receptive_field"], conv["field_offset"]) == (3, [1.0, 1.0])
    assert conv["activation_bytes"] == 62 * 62 * 32 * 4


def test_formulas_and_the_comparison_are_printed(cli: Cli) -> None:
    result = cli("describe", "--preset", "textbook", "--formulas", "--compare-dense")
    assert result.code == 0, result.stderr
    assert "3x3x3x32 + 32 = 896" in result.stdout
    assert "30,752x128 + 128 = 3,936,384" in result.stdout
    assert "12,288 -> 32 -> 128 -> 10" in result.stdout
    rows = [line.split() for line in result.stdout.splitlines()]
    assert ["256", "896", "66,066,698", "6,297,002"] in rows


def test_options_describe_the_network_that_train_would_build(cli: Cli) -> None:
    given = ("--filters", "4,6", "--image-size", "30x20", "--color", "gray", "--classes", "3")
    found = describe(cli, *given, "--batch-size", "8")
    assert found["input_shape"] == [30, 20, 1]
    assert found["layers"][-1]["output_shape"] == [3]
    one = found["parameters"] * 4
    assert found["training_bytes"] == 8 * found["activation_bytes"] + 4 * one


def test_a_run_of_train_and_its_checkpoint_are_the_same_network(cli: Cli) -> None:
    run = describe(cli, TINY_RUN)
    bundle = describe(cli, TINY_RUN / "checkpoints/best")
    names = ("name", "parameters", "macs", "receptive_field", "field_offset", "output_shape")
    assert [[row[name] for name in names] for row in run["layers"]] == [
        [row[name] for name in names] for row in bundle["layers"]
    ]
    assert (run["batch_size"], run["parameters"]) == (32, 12_122)


def test_a_backbone_shows_its_stages_and_with_depth_its_layers(cli: Cli) -> None:
    stages = describe(cli, "--backbone", "mobilenet_0.25", "--classes", "4")
    names = [row["name"] for row in stages["layers"]]
    assert (names[0], names[-1]) == ("stem", "head")
    assert stages["layers"][-2]["receptive_field"] == 315
    layers = describe(cli, "--backbone", "mobilenet-0.25", "--classes", "4", "--depth", "2")
    assert "conv_dw_1" in [row["name"] for row in layers["layers"]]
    assert layers["parameters"] == stages["parameters"] == 218_544 + 256 * 4 + 4


def test_a_run_of_finetune_is_described_from_its_plan(cli: Cli, tmp_path: Path) -> None:
    import_source(ROOT / "sample_data/x_or_o", tmp_path / "data", progress=Silent())
    settings = {
        "backbone.name": "mobilenet-0.25",
        "backbone.weights": "none",
        "data.image_size": (64, 64),
    }
    config, given = load_config(options=settings, kind=FinetuneConfig)
    plan = plan_finetuning(config, load_dataset(tmp_path / "data"), given=given)
    run = create_run(tmp_path / "run")
    write_json_atomic(run.plan, plan.to_dict())
    found = describe(cli, run.path)
    assert found["input_shape"] == [64, 64, 3]
    assert found["parameters"] == 218_544 + 256 * 2 + 2


def test_gates_are_explained(cli: Cli) -> None:
    result = cli("describe", "--backbone", "mobilenetv3-small-0.75", "--depth", "2")
    assert "squeeze-and-excitation" in result.stderr
    assert "squeeze-and-excitation" not in cli("describe").stderr


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--backbone", "resnet51"), 2, "unknown backbone 'resnet51'"),
        (("--backbone", "vgg16", "--image-size", "8x8"), 2, "an image size of at least 32x32"),
        (("--backbone", "vgg16", "--filters", "3"), 2, "--filters cannot be given"),
        ((TINY_RUN, "--backbone", "vgg16"), 2, "two networks"),
        ((TINY_RUN, "--classes", "3"), 2, "--classes cannot be given"),
        ((TINY_RUN, "--stride", "2"), 2, "--stride cannot be given"),
        (
            ("--image-size", "4x4", "--kernel-size", "9", "--padding", "valid"),
            2,
            "its window of 9x9",
        ),
        (("nowhere",), 4, "nowhere is not a run directory or a bundle"),
        (("textbook",), 2, "hint: cnnclf describe --preset textbook"),
        (("resnet50",), 2, "hint: cnnclf describe --backbone resnet50"),
        (
            ("resnet50", "--image-size", "64", "--classes", "3", "--formulas"),
            2,
            "hint: cnnclf describe --backbone resnet50 --image-size 64 --classes 3 --formulas",
        ),
        (("--depth", "0"), 2, "--depth"),
    ],
)
def test_what_cannot_be_described(
    cli: Cli, arguments: tuple[object, ...], code: int, words: str
) -> None:
    result = cli("describe", *arguments)
    assert (result.code, result.stdout) == (code, "")
    assert words in result.stderr
    assert "starting TensorFlow" not in result.stderr


def test_a_diagram_is_written_once(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "net.svg"
    result = cli("describe", "--preset", "tiny", "--diagram", path)
    assert result.code == 0, result.stderr
    assert f"wrote {path}" in result.stdout
    first = path.read_bytes()
    again = cli("describe", "--diagram", path)
    assert (again.code, path.read_bytes()) == (2, first)
    assert f"{path} already exists" in again.stderr
    assert describe(cli, "--diagram", path, "--overwrite")["diagram"] == str(path)
    assert path.read_bytes() != first


@pytest.mark.parametrize(("name", "words"), [("net.jpg", "ends in .svg"), ("", "is a directory")])
def test_a_diagram_that_cannot_be_written(cli: Cli, tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / "folder.svg").mkdir()
    result = cli("describe", "--diagram", tmp_path / (name or "folder.svg"))
    assert result.code == 2
    assert words in result.stderr
