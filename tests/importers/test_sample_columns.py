import hashlib

import numpy as np
import pytest

from cnnclf.images.decode import ImageInfo
from cnnclf.importers.importer import Record
from cnnclf.importers.reading import Checked
from cnnclf.importers.sample_columns import SampleColumns


def make(
    file: str, pixels: str, *, exact: bool = False, label: str = "a", group: str = ""
) -> Checked:
    def digest(text: str) -> bytes:
        return hashlib.sha256(text.encode()).digest()

    info = ImageInfo(9, 9, "RGB", "PNG", digest(pixels).hex(), exact, "")
    return Checked(Record(f"{file}.png", label, "test", group), info, digest(file))


def gather(*images: Checked) -> SampleColumns:
    columns = SampleColumns()
    for image in images:
        columns.add(image)
    return columns


def test_lookalikes_are_those_that_only_agree_in_a_sample() -> None:
    columns = gather(
        make("1", "x"),
        make("2", "y"),
        make("3", "x"),
        make("4", "z"),
        make("4", "z"),  # the same file twice
        make("5", "w", exact=True),
        make("6", "w", exact=True),  # known to be the same
        make("3", "x"),
    )
    assert columns.find_lookalikes().tolist() == [0, 2, 7]
    columns.settle_pixels(2, make("3", "other", exact=True))
    assert (columns.pixels[2] == gather(make("", "other")).pixels[0]).all()
    columns.settle_pixels(7, Checked(Record("3.png", "a"), None, reason="gone"))
    assert (columns.pixels[7] != columns.pixels[0]).any()


@pytest.mark.parametrize("count", [0, 1])
def test_few_images_are_no_lookalikes(count: int) -> None:
    assert gather(*[make("1", "x")] * count).find_lookalikes().tolist() == []


def test_columns_are_in_the_order_of_the_labels_wanted() -> None:
    columns = gather(make("1", "x", label="b"), make("2", "y", label="a", group="g"))
    assert columns.class_indices(("a", "b")).tolist() == [1, 0]
    assert columns.splits.tolist() == [2, 2]
    assert columns.groups[0].tolist() == [0, 0]
    assert columns.groups[1].any()
    assert columns.files.dtype == np.uint64
    assert len(columns) == 2


def test_a_image_that_was_not_read_is_a_mistake_of_ours() -> None:
    with pytest.raises(ValueError, match="gone"):
        SampleColumns().add(Checked(Record("1.png", "a"), None, reason="gone"))
