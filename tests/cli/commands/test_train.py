"""`cnnclf train` from the command line: plans, refusals and what a run prints."""

import json
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from cnnclf.errors import ExitCode

Cli = Callable[..., Any]


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Class folders of bright and dark noise."""
    rng = random.Random(0)
    for label, low in (("bright", 150), ("dark", 0)):
        (tmp_path / "pictures" / label).mkdir(parents=True)
        for index in range(20):
            pixels = bytes(low + rng.randrange(100) for _ in range(16 * 16))
            Image.frombytes("L", (16, 16), pixels).save(
                tmp_path / "pictures" / label / f"{index}.png"
            )
    return tmp_path / "pictures"


def test_a_dry_run_shows_the_plan_with_reasons_and_writes_nothing(
    cli: Cli, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    result = cli("train", pictures, "--dry-run", "--json")
    assert result.code == ExitCode.OK
    plan = json.loads(result.stdout)["plan"]
    assert plan["parameters"] > 0
    assert plan["reasons"]["data.color"] == "all training pictures are grey"
    assert "model.blocks is auto" in result.stderr
    assert sorted(tmp_path.rglob("*")) == before


def test_a_dry_run_loads_no_tensorflow(pictures: Path) -> None:
    code = (
        "import sys; from cnnclf.cli.main import main; "
        f"code = main(['train', {str(pictures)!r}, '--dry-run', '--preset', 'textbook']); "
        "print(code, sorted({'tensorflow', 'keras'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("0 []"), done.stdout


def test_textbook_announces_the_textbook_count(cli: Cli, pictures: Path) -> None:
    options = ("--preset", "textbook", "--image-size", "64", "--color", "rgb")
    result = cli("train", pictures, *options, "--dry-run", "--json")
    layers = {layer["name"]: layer for layer in json.loads(result.stdout)["plan"]["layers"]}
    # ten classes instead of two are 8 more outputs of 128 weights and a bias
    assert json.loads(result.stdout)["plan"]["parameters"] + 8 * 129 == 3_938_570
    assert layers["dense1"]["parameters"] == 3_936_384


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ((), ExitCode.USAGE, "expected a DATASET"),
        (("nowhere",), ExitCode.DATA, "nowhere"),
        (("{pictures}", "--dropout", "2"), ExitCode.CONFIG, "model.dropout (option) received '2'"),
        (("{pictures}", "--set", "model.x=1"), ExitCode.CONFIG, "unknown setting model.x"),
        (("{pictures}", "--config", "none.toml"), ExitCode.CONFIG, "none.toml"),
        (("{pictures}", "--epochs"), ExitCode.USAGE, "--epochs"),
        (("{pictures}", "--no-such-option"), ExitCode.USAGE, "--no-such-option"),
        (("{pictures}", "--resume", "run"), ExitCode.USAGE, "--resume RUN alone"),
        (("--resume", "nowhere"), ExitCode.CONFIG, "nowhere"),
        (
            ("{pictures}", "--padding", "valid", "--kernel-size", "31", "--dry-run"),
            ExitCode.CONFIG,
            "block1_conv1: expected feature maps of at least 31x31",
        ),
        (("{pictures}", "--hue", "0.1", "--dry-run"), ExitCode.CONFIG, "expected colour pictures"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_refusals_are_one_line_with_the_right_code(
    cli: Cli, pictures: Path, arguments: tuple[str, ...], code: ExitCode, words: str
) -> None:
    filled = [each.replace("{pictures}", str(pictures)) for each in arguments]
    result = cli("train", *filled)
    assert result.code == code
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert words in " ".join(result.stderr.split())
    assert "Traceback" not in result.stderr


def test_several_errors_of_a_file_are_told_at_once(
    cli: Cli, pictures: Path, tmp_path: Path
) -> None:
    file = tmp_path / "my.toml"
    file.write_text("[model]\nfiltres = [1]\n[optimizer]\nname = 'sgdd'\n[training]\nepochs = -1\n")
    result = cli("train", pictures, "--config", file)
    assert result.code == ExitCode.CONFIG
    said = " ".join(result.stderr.split())
    assert "did you mean model.filters?" in said
    assert "optimizer.name" in said
    assert "training.epochs" in said


def test_a_run_prints_its_test_accuracy_and_refuses_to_be_overwritten(
    cli: Cli, pictures: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    options = ("--filters", "4", "--epochs", "4", "--batch-size", "8", "--device", "cpu")
    result = cli("train", pictures, "--out", run, *options, "--json")
    assert result.code == ExitCode.OK, result.stderr
    told = json.loads(result.stdout)
    assert told["split"] == "test"
    assert 0 <= told["metrics"]["accuracy_low"] <= told["metrics"]["accuracy"] <= 1
    again = cli("train", pictures, "--out", run, *options)
    assert again.code == ExitCode.CONFIG
    assert "--resume" in again.stderr
    finished = cli("train", "--resume", run)
    assert finished.code == ExitCode.CONFIG
    assert "is finished" in finished.stderr
    predicted = cli("predict", run, pictures / "dark", "--json")
    assert predicted.code == ExitCode.OK, predicted.stderr
