"""The range of values that a plan chooses for images of 16 bits."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cnnclf.config import ImportConfig, TrainConfig, load_config
from cnnclf.data.manifest import Dataset, load_dataset
from cnnclf.errors import CnnclfError
from cnnclf.importers import import_source
from cnnclf.planning.train_plan import plan_training
from cnnclf.progress import Silent


def draw(folder: Path, *, top: int, depth: type = np.uint16, hot: int = 0) -> Dataset:
    """Import two classes of noise up to a value, in a few pixels up to another."""
    rng = np.random.default_rng(top)
    for label in ("a", "b"):
        (folder / "source" / label).mkdir(parents=True)
        for number in range(4):
            values: Any = rng.integers(0, top + 1, (200, 200)).astype(depth)
            values[0, 0] = hot or top
            Image.fromarray(values).save(folder / "source" / label / f"{number}.png")
    options = ImportConfig(split=(1, 0, 0))
    import_source(folder / "source", folder / "data", options=options, progress=Silent())
    return load_dataset(folder / "data")


@pytest.mark.parametrize(
    ("top", "hot", "expected"),
    [
        (900, 0, (0, 1023)),
        (4095, 0, (0, 4095)),
        (4095, 65_535, (0, 4095)),
        (4096, 0, (0, 8191)),
        (60_000, 0, None),
        (90, 0, (0, 255)),
    ],
)
def test_the_bits_that_are_used_are_chosen(
    tmp_path: Path, top: int, hot: int, expected: tuple[int, int] | None
) -> None:
    plan = plan_training(TrainConfig(), draw(tmp_path, top=top, hot=hot))
    assert plan.input_spec.value_range == expected
    assert plan.config.data.range == (expected or "type")
    assert "8 training images of 16 bits" in plan.reasons["data.range"]


def test_images_of_8_bits_need_no_choice(tmp_path: Path) -> None:
    plan = plan_training(TrainConfig(), draw(tmp_path, top=200, depth=np.uint8))
    assert (plan.input_spec.value_range, plan.config.data.range) == (None, "type")
    assert "data.range" not in plan.reasons


def test_the_user_decides(tmp_path: Path) -> None:
    dataset = draw(tmp_path, top=900)
    for given, expected in (("type", None), ("0:4095", (0, 4095)), ("-5:2.5", (-5, 2.5))):
        config = load_config(options={"data.range": given}, kind=TrainConfig)[0]
        assert plan_training(config, dataset).input_spec.value_range == expected
    for wrong in ("5:5", "9:1", "a:b", "1:2:3", "bits"):
        with pytest.raises(CnnclfError, match="range"):
            load_config(options={"data.range": wrong}, kind=TrainConfig)
