"""The preview of augmentation: which images it takes and how it lays them out."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnnclf.augmentation.preview import (
    choose_rows,
    save_sheet,
    take_examples,
    vary_each,
    vary_together,
)
from cnnclf.augmentation.table import AUGMENTATIONS
from cnnclf.data.manifest import Dataset, Manifest
from cnnclf.data.store import Pixels
from cnnclf.errors import DataError, ImageError


class StandInPixels(Pixels):
    """Images whose values tell their row; odd rows are bad."""

    shape = (4, 4, 3)
    nbytes = 0

    def __init__(self) -> None:
        self.failed = {}

    def gather(self, rows: np.ndarray) -> np.ndarray:
        if rows[0] % 2:
            raise ImageError("bad")
        return np.full((1, 4, 4, 3), rows[0], np.uint8)


def dataset(classes: list[int]) -> Dataset:
    count = len(classes)
    texts = [""] * count
    manifest = Manifest(
        texts,
        np.array(classes, np.int32),
        np.zeros(count, np.int8),
        np.ones(count, np.int32),
        np.ones(count, np.int32),
        texts,
        texts,
        texts,
        texts,
    )
    return Dataset(Path(), Path(), ("a", "b", "c"), manifest, {}, "")


def test_every_class_comes_before_a_second_of_any() -> None:
    classes = [0] * 50 + [1] * 3 + [2]
    rows = choose_rows(dataset(classes), np.arange(54), seed=1)
    assert sorted(rows) == list(range(54))
    assert [classes[row] for row in rows[:6]] == [0, 1, 2, 0, 1, 0]
    assert rows == choose_rows(dataset(classes), np.arange(54), seed=1)
    assert rows != choose_rows(dataset(classes), np.arange(54), seed=2)


def test_unreadable_images_are_skipped() -> None:
    examples = take_examples(StandInPixels(), [1, 2, 3, 4, 6], count=2)
    assert [example.row for example in examples] == [2, 4]
    assert (examples[1].pixels == 4).all()
    with pytest.raises(DataError, match="none of 2"):
        take_examples(StandInPixels(), [1, 3], count=2)


def test_the_first_column_is_the_image_itself() -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 6, 6, 3), dtype=np.uint8)
    sheet = vary_together(images, {"flip": 1.0}, variants=2, seed=0)
    assert sheet.shape == (3, 3, 6, 6, 3)
    assert (sheet[:, 0] == images).all()
    assert (sheet[:, 2] == images[:, :, ::-1]).all()
    rows, sheet = vary_each(images, {"rotate": 90.0}, variants=4, seed=0)
    assert [name for name, _ in rows] == list(AUGMENTATIONS)
    assert dict(rows)["rotate"] == 90.0
    assert dict(rows)["zoom"] == AUGMENTATIONS["zoom"].default
    assert sheet.shape == (len(AUGMENTATIONS), 5, 6, 6, 3)
    assert (sheet[:, 0] == images[0]).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_rows_are_named_and_small_images_enlarged_by_whole_pixels(
    tmp_path: Path, channels: int
) -> None:
    sheet = np.random.default_rng(0).integers(1, 255, (2, 3, 30, 20, channels), dtype=np.uint8)
    drawn = []
    for names in (("x", "o"), ("", "")):
        save_sheet(sheet, tmp_path / "sheet.png", names=names, lines=("all of them",))
        with Image.open(tmp_path / "sheet.png") as image:
            drawn.append(np.asarray(image))
    shown = np.broadcast_to(sheet[0, 0], (30, 20, 3)).repeat(8, axis=0).repeat(8, axis=1)
    windows = np.lib.stride_tricks.sliding_window_view(drawn[0][:, 24:184], 240, axis=0)
    assert any((windows[top].transpose(2, 0, 1) == shown).all() for top in range(len(windows)))
    assert drawn[0].shape[0] > drawn[1].shape[0], "names need room"
    assert [path.name for path in tmp_path.iterdir()] == ["sheet.png"]
