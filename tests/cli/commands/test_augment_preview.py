"""`cnnclf augment-preview`, through the command line."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnnclf.augmentation.table import AUGMENTATIONS
from cnnclf.errors import ExitCode
from tests.conftest import Cli


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for label in ("cat", "dog"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for index in range(6):
            image = rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)
            Image.fromarray(image).save(tmp_path / "photos" / label / f"{index}.png")
    return tmp_path / "photos"


def test_it_writes_the_image_and_names_the_rows(cli: Cli, photos: Path, tmp_path: Path) -> None:
    target = tmp_path / "preview.png"
    result = cli(
        "augment-preview", photos, "--out", target, "--images", 3, "--variants", 2, "--flip", 0.5
    )
    assert result.code == 0, result.stderr
    assert "cat/" in result.stdout
    assert "dog/" in result.stdout
    assert f"wrote {target}" in result.stdout
    assert "flip 0.5" in result.stderr
    with Image.open(target) as image:
        assert image.width > 3 * 2 * 100, "three columns"


def test_json_says_what_is_in_force(cli: Cli, photos: Path, tmp_path: Path) -> None:
    target = tmp_path / "preview.png"
    result = cli("augment-preview", photos, "--out", target, "--augment", "medium", "--json")
    found = json.loads(result.stdout)
    assert found["operations"]["rotate"] == 10
    assert {row["label"] for row in found["rows"]} == {"cat", "dog"}
    assert found["file"] == str(target)


def test_a_single_image_is_drawn(cli: Cli, photos: Path, tmp_path: Path) -> None:
    image = photos / "cat" / "a [b] ü.png"
    (photos / "cat" / "0.png").rename(image)
    target = tmp_path / "preview.png"
    result = cli("augment-preview", image, "--out", target, "--augment", "medium", "--json")
    assert result.code == 0, result.stderr
    rows = json.loads(result.stdout)["rows"]
    assert rows == [{"label": "cat", "path": f"cat/{image.name}"}]
    result = cli("augment-preview", image, "--out", target, "--each", "--overwrite", "--json")
    names = {row["operation"] for row in json.loads(result.stdout)["rows"]}
    assert names == AUGMENTATIONS.keys() - {"mixup", "cutmix"}, "these need a second image"
    image.write_bytes(b"none")
    result = cli("augment-preview", image, "--out", target, "--overwrite")
    assert result.code == ExitCode.DATA
    assert str(tmp_path / "photos") in result.stderr


def test_each_shows_one_image(cli: Cli, photos: Path, tmp_path: Path) -> None:
    result = cli("augment-preview", photos, "-o", tmp_path / "x.png", "--each", "--images", 2)
    assert (result.code, list(tmp_path.glob("*.png"))) == (2, [])
    assert "--each shows one image" in result.stderr


def test_each_has_a_row_for_every_operation(cli: Cli, photos: Path, tmp_path: Path) -> None:
    target = tmp_path / "preview.png"
    result = cli("augment-preview", photos, "--out", target, "--each", "--zoom", 0.5, "--json")
    rows = json.loads(result.stdout)["rows"]
    assert [row["operation"] for row in rows] == list(AUGMENTATIONS)
    assert {row["operation"]: row["strength"] for row in rows}["zoom"] == 0.5


def test_an_operation_that_does_not_fit_the_images_is_wrong_usage(
    cli: Cli, photos: Path, tmp_path: Path
) -> None:
    given = ("--out", tmp_path / "preview.png", "--color", "gray", "--hue", 0.1)
    result = cli("augment-preview", photos, *given)
    assert result.code == ExitCode.USAGE
    assert "error: --hue needs color images" in result.stderr


def test_the_same_seed_draws_the_same(cli: Cli, photos: Path, tmp_path: Path) -> None:
    drawn = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        target = tmp_path / f"{name}.png"
        assert cli("augment-preview", photos, "--out", target, "--seed", seed).code == 0
        drawn.append(target.read_bytes())
    assert drawn[0] == drawn[1] != drawn[2]


def test_what_cannot_be_drawn_is_refused(cli: Cli, photos: Path, tmp_path: Path) -> None:
    result = cli("augment-preview", photos, "--augment", "none")
    assert result.code == 2
    assert "no augmentation is selected" in result.stderr
    result = cli("augment-preview", photos, "--out", tmp_path / "preview.jpg")
    assert result.code == 2
    assert "ends in .png" in result.stderr
    assert cli("augment-preview", photos, "--rotate", 200).code == 2
    assert cli("augment-preview", tmp_path / "nothing").code == 3


def test_it_loads_no_tensorflow(photos: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from cnnclf.cli.main import main; "
        f"code = main(['augment-preview', {str(photos)!r}, '--out', {str(tmp_path / 'p.png')!r}]); "
        "sys.exit(code or 10 * ('tensorflow' in sys.modules or 'keras' in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
