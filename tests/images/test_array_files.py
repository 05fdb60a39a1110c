"""Arrays of one sample as pixels."""

import io

import numpy as np
import numpy.typing as npt
import pytest

from cnnclf.errors import ImageError
from cnnclf.images.decode import InputSpec, decode_image, inspect_image

NAN, INF = np.nan, np.inf


def save(array: object) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.asarray(array), allow_pickle=True)
    return buffer.getvalue()


def decode(
    array: npt.NDArray[np.generic], value_range: tuple[float, float] | None = None
) -> object:
    height, width = array.shape[-2:] if array.ndim == 2 or array.shape[0] == 1 else array.shape[:2]
    channels = 3 if array.ndim == 3 and array.shape[2] == 3 else 1
    spec = InputSpec(height, width, channels, kind="array", value_range=value_range)
    return decode_image(save(array), spec)[..., 0].tolist()


@pytest.mark.parametrize(
    ("array", "pixels"),
    [
        (np.array([[-80.0, -40.0, 0.0]]), [[0, 128, 255]]),
        (np.array([[7, 200]], np.uint8), [[7, 200]]),
        (np.array([[True, False]]), [[255, 0]]),
        (np.array([[0, 65535], [1, 2]], np.uint16), [[0, 255], [0, 0]]),
        (np.asfortranarray(np.arange(6.0).reshape(2, 3)), [[0, 51, 102], [153, 204, 255]]),
        (np.array([[1, 2], [2, 3]], ">i4"), [[0, 128], [128, 255]]),
        (np.array([[NAN, 1.0, 2.0, INF, -INF]]), [[0, 0, 255, 255, 0]]),
        (
            np.arange(10.0).reshape(1, 2, 5),
            [[0, 28, 57, 85, 113], [142, 170, 198, 227, 255]],
        ),
    ],
)
def test_numbers_become_pixels_by_the_extremes_of_their_array(
    array: npt.NDArray[np.generic], pixels: object
) -> None:
    assert decode(array) == pixels


def test_a_range_keeps_arrays_comparable() -> None:
    assert decode(np.array([[0.0, 0.5]]), (0.0, 1.0)) == [[0, 128]]
    assert decode(np.array([[0.0, 2.0]]), (0.0, 1.0)) == [[0, 255]]
    assert decode(np.array([[0.3, 0.3]]), (0.0, 1.0)) == [[76, 76]]


def test_colors_are_scaled_together() -> None:
    array = np.stack([np.full((2, 2), 0.0), np.full((2, 2), 5.0), np.full((2, 2), 10.0)], axis=-1)
    spec = InputSpec(2, 2, 3, kind="array")
    assert decode_image(save(array), spec)[0, 0].tolist() == [0, 128, 255]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (save([1, 2, 3]), "height x width"),
        (save(np.zeros((2, 2, 5))), "height x width"),
        (save(np.zeros((0, 2))), "height x width"),
        (save([[3.0, 3.0]]), "only one value"),
        (save([[NAN, INF]]), "no finite value"),
        (save([["x", "y"]]), "received text"),
        (save([[1j, 2]]), "plain numbers"),
        (save(np.array([[{}]], object)), "plain numbers"),
        (save([[1.0, 2.0]])[:-1], "truncated"),
        (save([[1.0, 2.0]]) + b"x", "truncated"),
        (b"\x93NUMPY", "NumPy's format"),
        (b"\x89PNG\r\n\x1a\n", "expected a NumPy array"),
        (b"", "expected a NumPy array"),
    ],
)
def test_what_is_no_sample_is_refused_with_the_reason(content: bytes, reason: str) -> None:
    with pytest.raises(ImageError, match=reason):
        inspect_image(content, kind="array")


def test_a_huge_array_is_refused_by_its_header() -> None:
    with pytest.raises(ImageError, match="too many pixels"):
        inspect_image(save(np.ones((40, 50))), kind="array", max_pixels=1999)


def test_an_array_is_described() -> None:
    info = inspect_image(save(np.arange(12.0).reshape(3, 4)), kind="array")
    assert (info.height, info.width, info.mode, info.format) == (3, 4, "array", "NPY")
    assert info.note == "float64, scaled from its extremes"
    assert inspect_image(save(np.zeros((3, 4, 3), np.uint8)), kind="array").mode == "array RGB"


def test_a_model_of_images_refuses_arrays_and_sounds() -> None:
    with pytest.raises(ImageError, match="a NumPy array"):
        decode_image(save(np.eye(3)), InputSpec(3, 3))
    with pytest.raises(ImageError, match="a sound"):
        decode_image(b"RIFF\0\0\0\0WAVEfmt ", InputSpec(3, 3))
