import io
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cnnclf.config import ImportConfig
from cnnclf.errors import DataError
from cnnclf.importers.formats import arrays
from cnnclf.importers.formats.arrays import (
    Part,
    check_image_shape,
    encode_pngs,
    index_labels,
    scale_samples,
    unpack_parts,
)
from cnnclf.importers.importer import ImportJob, Listing
from cnnclf.progress import Silent


def part(split: str, indices: list[int], samples: npt.NDArray[np.uint8], step: int = 2) -> Part:
    def blocks() -> Iterator[npt.NDArray[np.uint8]]:
        for start in range(0, len(samples), step):
            yield samples[start : start + step]

    return Part(f"x_{split}", split, np.array(indices), blocks)


def unpack(tmp_path: Path, parts: list[Part], names: tuple[str, ...]) -> Listing:
    return unpack_parts(
        tmp_path / "source",
        parts,
        names=names,
        job=ImportJob(tmp_path / "images", ImportConfig(threads=2), Silent()),
    )


def numbers(*shape: int) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(7).integers(0, 256, shape, np.uint8)


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    channels=st.sampled_from([None, 1, 2, 3, 4]),
    seed=st.integers(0, 99),
)
def test_png_files_hold_the_pixels_unchanged(
    height: int, width: int, channels: int | None, seed: int
) -> None:
    shape = (2, height, width) if channels is None else (2, height, width, channels)
    block = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    for sample, data in zip(block, encode_pngs(block), strict=True):
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            assert image.format == "PNG"
            assert np.array_equal(np.asarray(image).reshape(sample.shape), sample)


def test_large_images_pack_well() -> None:
    steps = np.random.default_rng(1).integers(-3, 4, (1, 200, 200))
    smooth = np.abs(np.cumsum(steps, axis=2) % 511 - 255).astype(np.uint8)
    (data,) = encode_pngs(smooth)
    assert len(data) < 0.9 * len(zlib.compress(smooth.tobytes()))


def test_samples_become_files_by_split_label_and_position(tmp_path: Path) -> None:
    train, test = numbers(5, 4, 3), numbers(2, 4, 3)
    parts = [part("test", [0, 2], test), part("train", [2, 0, 0, 2, 2], train)]
    listing = unpack(tmp_path, parts, ("T-shirt/top", "never seen", "b"))
    records = list(listing.records)
    assert [(r.path, r.label, r.split) for r in records[:2]] == [
        ("train/b/000000.png", "b", "train"),
        ("train/T-shirt_top/000001.png", "T-shirt/top", "train"),
    ]
    assert (listing.root, listing.unpacked, listing.total) == (tmp_path / "images", True, 7)
    assert listing.labels == ("T-shirt/top", "b")
    assert listing.remarks == ["classes without a sample are excluded: never seen"]
    for record, sample in zip(records, [*train, *test], strict=True):
        with Image.open(listing.root / record.path) as image:
            assert np.array_equal(np.asarray(image), sample)


def test_labels_that_are_no_names_of_folders(tmp_path: Path) -> None:
    names = ("..", "a/b", "a\\b", "", "x" * 300, "\udcff", "中" * 90, "con|", "./hidden")
    samples = numbers(len(names), 2, 2)
    listing = unpack(tmp_path, [part("", list(range(len(names))), samples)], names)
    records = list(listing.records)
    assert tuple(record.label for record in records) == names
    written = {
        path.relative_to(tmp_path / "images").as_posix()
        for path in (tmp_path / "images").rglob("*.png")
    }
    assert written == {record.path for record in records}
    assert len(written) == len(names)
    assert all(record.path.count("/") == 1 for record in records)


def test_faulty_samples_are_skipped_by_name(tmp_path: Path) -> None:
    faulty = part("train", [0, 1, 2], numbers(3, 2, 2))
    faulty.faults[2] = "has no finite value"
    listing = unpack(tmp_path, [faulty], ("a", "b", "c"))
    assert listing.skipped == [("x_train[2]", "has no finite value")]
    assert [record.label for record in listing.records] == ["a", "b"]
    assert listing.labels == ("a", "b")
    assert len(list((tmp_path / "images").rglob("*.png"))) == 2


@pytest.mark.parametrize("count", [4, 6, 9])
def test_more_or_fewer_samples_than_labels_leave_nothing_behind(tmp_path: Path, count: int) -> None:
    with pytest.raises(DataError, match=f"{count} samples, 5 labels"):
        unpack(tmp_path, [part("train", [0, 1, 0, 1, 0], numbers(count, 2, 2))], ("a", "b"))
    assert not (tmp_path / "images").exists()


def test_two_arrays_of_one_split_are_refused(tmp_path: Path) -> None:
    parts = [part("test", [0], numbers(1, 2, 2)), part("test", [0], numbers(1, 2, 2))]
    with pytest.raises(DataError, match="more than one array for the same split"):
        unpack(tmp_path, parts, ("a",))


def test_a_fault_while_writing_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(block: npt.NDArray[np.uint8]) -> Iterator[bytes]:
        yield from list(encode_pngs(block))[:1]
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(arrays, "encode_pngs", fail)
    with pytest.raises(OSError, match="No space left"):
        unpack(tmp_path, [part("", [0, 1], numbers(2, 2, 2))], ("a", "b"))
    assert not (tmp_path / "images").exists()


def test_numbers_without_names_are_their_own_labels() -> None:
    values = {"a": np.array([7, 3, 7]), "b": np.array([-1, 3, 10])}
    names, indices = index_labels(Path("x"), values, classes=None)
    assert names == ("-1", "3", "7", "10")
    assert [names[i] for i in indices["a"]] == ["7", "3", "7"]
    assert [names[i] for i in indices["b"]] == ["-1", "3", "10"]


@pytest.mark.parametrize("wrong", [-1, 2])
def test_a_number_beyond_the_names_is_refused(wrong: int) -> None:
    with pytest.raises(DataError, match=f"class numbers 0 to 1 .* received {wrong}") as caught:
        index_labels(Path("x"), {"a": np.array([0, wrong])}, classes=("a", "b"))
    assert "--classes-file" in caught.value.hint


def test_bytes_and_truth_values_keep_their_meaning() -> None:
    block = numbers(3, 4, 5)
    assert scale_samples(block)[0] is block
    pixels, faults = scale_samples(block > 127)
    assert np.array_equal(pixels, np.where(block > 127, 255, 0))
    assert faults == {}


@settings(max_examples=60, deadline=None)
@given(
    dtype=st.sampled_from(["i1", "i2", "u2", "i4", "i8", "u8", ">f4", "f8", "f2"]),
    seed=st.integers(0, 999),
    scale=st.sampled_from([1e-3, 1.0, 100.0]),
)
def test_each_sample_spans_all_levels_and_keeps_its_order(
    dtype: str, seed: int, scale: float
) -> None:
    rng = np.random.default_rng(seed)
    block = (rng.normal(size=(4, 6, 5)) * scale + np.arange(4)[:, None, None]).astype(dtype)
    pixels, faults = scale_samples(block)
    assert pixels.dtype == np.uint8
    assert pixels.shape == block.shape
    for index, (sample, image) in enumerate(zip(block, pixels, strict=True)):
        if sample.min() == sample.max():
            assert "only one value" in faults[index]
            continue
        assert index not in faults
        assert (image.min(), image.max()) == (0, 255)
        order = np.argsort(sample, axis=None, kind="stable")
        assert (np.diff(image.reshape(-1)[order].astype(int)) >= 0).all()
        alone, _ = scale_samples(sample[None])
        assert np.array_equal(alone[0], image)


def test_values_that_are_no_numbers() -> None:
    odd = np.array(
        [[np.nan, 1, 2], [-np.inf, 5, np.inf], [np.nan, np.inf, np.nan], [-1.7e308, 0, 1.7e308]]
    )
    odd = np.concatenate([odd, [[1, 3, np.inf]]])
    pixels, faults = scale_samples(odd)
    assert pixels[0].tolist() == [0, 0, 255]
    assert "only one value, 5" in faults[1]
    assert faults[2] == "has no finite value"
    assert pixels[3].tolist() == [0, 128, 255]
    assert pixels[4].tolist() == [0, 255, 255]


@pytest.mark.parametrize(
    "shape", [(), (3,), (0, 5), (5, 0), (4, 4, 5), (70_000, 1), (2, 2, 2, 2), (40_000, 40_000)]
)
def test_shapes_that_are_no_images_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match="height x width"):
        check_image_shape("x", shape)
    check_image_shape("x", (1, 1))
    check_image_shape("x", (5000, 5000, 1))
