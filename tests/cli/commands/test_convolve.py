"""`cnnclf convolve`: what it prints and writes, and what it refuses."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[3]
IMAGE = ROOT / "sample_data/x_or_o/x/x000.jpg"
TINY_RUN = ROOT / "sample_data/tiny_run"

Cli = Callable[..., Any]


@pytest.fixture
def ramp(tmp_path: Path) -> Path:
    """An image that rises by 10 per column."""
    path = tmp_path / "ramp.png"
    Image.fromarray(np.tile(np.arange(0, 80, 10, dtype=np.uint8), (6, 1))).save(path)
    return path


def test_the_size_formula_and_the_arithmetic_are_printed(cli: Cli, ramp: Path) -> None:
    result = cli("convolve", ramp, "--stride", "2", "--show-arithmetic", "1,2")
    assert result.code == 0, result.stderr
    assert "floor((6 - 3) / 2) + 1 = 2" in result.stdout
    assert "floor((8 - 3) / 2) + 1 = 3" in result.stdout
    lines = [line.split() for line in result.stdout.splitlines()]
    assert lines.count(["40", "50", "60"]) == 3
    assert ["-80", "0", "120"] in lines
    assert "sum of the products: 80" in result.stdout


def test_what_is_unusual_about_the_image_is_said(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "camera.png"
    Image.fromarray(np.arange(400, dtype=np.uint16).reshape(20, 20) * 10).save(path)
    result = cli("convolve", path)
    assert "the image: 16-bit; dark: brightest value 3990 of 65535" in result.stderr


def test_json_has_all_numbers(cli: Cli, ramp: Path) -> None:
    arguments = ("--filter", "blur", "--pool", "average", "--show-arithmetic", "0,0", "--json")
    result = cli("convolve", ramp, *arguments)
    document = json.loads(result.stdout)
    assert document["output_shape"] == [2, 3]
    assert document["arithmetic"]["sum"] == pytest.approx(10)
    assert np.sum(document["arithmetic"]["products"]) == pytest.approx(10)
    assert document["low"] == pytest.approx(15)
    assert document["files"] == []


def test_figure_and_animation_are_written_once(cli: Cli, ramp: Path, tmp_path: Path) -> None:
    files = ("--out", tmp_path / "c.png", "--animate", tmp_path / "c.gif")
    result = cli("convolve", ramp, *files)
    assert result.code == 0, result.stderr
    assert "24 steps" in result.stdout
    assert "drawing the animation: 24 steps in" in result.stderr
    for name in ("c.png", "c.gif"):
        with Image.open(tmp_path / name) as image:
            assert image.width > 100
    again = cli("convolve", ramp, *files)
    assert (again.code, "already exists" in again.stderr) == (2, True)
    assert cli("convolve", ramp, *files, "--overwrite").code == 0
    assert cli("convolve", ramp, "--animate", tmp_path / "d.png").code == 0
    with Image.open(tmp_path / "d.png") as image:
        assert (image.format, getattr(image, "n_frames", 1)) == ("PNG", 24)


def test_a_learned_filter_reads_what_its_layer_reads(cli: Cli) -> None:
    learned = f"{TINY_RUN}:block2_conv1:3"
    result = cli("convolve", IMAGE, "--filter", learned, "--show-arithmetic", "3,4")
    assert result.code == 0, result.stderr
    assert "32x32x8, what the layer reads" in result.stdout
    assert "and 4 more channels" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--filter", "sobel"), 2, "did you mean sobel-y or sobel-x?"),
        (("--filter", "1,0;-1, 0"), 2, "printf '%s\\n' 1,0 -1,0 > kernel.csv; then --filter"),
        (("--kernel-size", "9", "--filter", "blur"), 2, "the kernel is larger than the image"),
        (("--dilation", "4"), 2, "it covers 9 pixels"),
        (("--pool", "max", "--pool-size", "5"), 2, "larger than the result before it, 4x6"),
        (("--show-arithmetic", "4,0"), 2, "the result has rows 0 to 3 and columns 0 to 5"),
        (("--show-arithmetic", "4"), 2, "expected a row and a column"),
        (("--padding", "full"), 2, "expected one of valid, same"),
        (("--filter", "kernel.csv"), 3, "kernel.csv cannot be read: it does not exist"),
        (("--filter", f"{TINY_RUN}:conv1:0"), 2, "conv1 is no layer of the network"),
        (("--out", "c.jpg"), 2, "ends in .png"),
        (("--animate", "c.jpg"), 2, "ends in .gif"),
    ],
)
def test_what_does_not_fit_is_refused(
    cli: Cli, ramp: Path, arguments: tuple[str, ...], code: int, words: str
) -> None:
    result = cli("convolve", ramp, *arguments)
    assert (result.code, result.stdout) == (code, "")
    assert words in result.stderr


def test_what_is_no_image_is_refused(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no image")
    for name in ("text.png", "missing.png"):
        result = cli("convolve", tmp_path / name)
        assert (result.code, result.stdout) == (3, "")
        assert name in result.stderr
