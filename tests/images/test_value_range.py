"""Images of more than 8 bits: the range of values that an input spec names."""

import io
import zlib
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from cnnclf.errors import ConfigError, ImageError
from cnnclf.images.decode import InputSpec, count_16_bit_values, decode_image, inspect_image

SIDE = 6
TWELVE_BITS = (0.0, 4095.0)
RNG = np.random.default_rng(5)
GRAY = RNG.integers(0, 4096, (SIDE, SIDE), np.uint16)
COLORS = RNG.integers(0, 4096, (SIDE, SIDE, 3), np.uint16)
OPAQUE = np.dstack([COLORS, np.full((SIDE, SIDE), 65_535, np.uint16)])
OPAQUE_GRAY = np.dstack([GRAY, np.full((SIDE, SIDE), 65_535, np.uint16)])


def encode(values: npt.NDArray[Any], file_format: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, file_format)
    return buffer.getvalue()


def encode_png(values: npt.NDArray[np.uint16]) -> bytes:
    """Write colors of 16 bits, which Pillow cannot."""
    rows = values.astype(">u2").reshape(SIDE, -1)
    data = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    color_type = {2: 4, 3: 2, 4: 6}[values.shape[2]]
    header = SIDE.to_bytes(4, "big") * 2 + bytes([16, color_type, 0, 0, 0])
    chunks = (b"IHDR" + header, b"IDAT" + data, b"IEND")
    body = b"".join(
        (len(c) - 4).to_bytes(4, "big") + c + zlib.crc32(c).to_bytes(4, "big") for c in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body


def encode_tiff(values: npt.NDArray[np.uint16], *, order: str, packed: bool) -> bytes:
    """Write colors of 16 bits as TIFF, in either byte order, compressed or not."""
    data = values.astype(f"{order}u2").tobytes()
    data = zlib.compress(data) if packed else data
    endian: Literal["little", "big"] = "little" if order == "<" else "big"
    channels = values.shape[2]
    start = 8 + 2 + 10 * 12 + 4
    bits = b"".join((16).to_bytes(2, endian) for _ in range(channels))
    inline = 16 * 65_537 if endian == "little" else 0  # two of 2 bytes fit into the tag itself
    tags = [
        (256, SIDE), (257, SIDE), (258, start if channels > 2 else inline),
        (259, 8 if packed else 1), (262, 2 if channels > 2 else 1), (273, start + len(bits)),
        (277, channels), (278, SIDE), (279, len(data)), (284, 1),
    ]  # fmt: skip
    content = (b"II*\0" if order == "<" else b"MM\0*") + (8).to_bytes(4, endian)
    content += len(tags).to_bytes(2, endian)
    for tag, value in tags:
        count = channels if tag == 258 else 1
        kind = 3 if tag == 258 else 4
        content += b"".join(
            number.to_bytes(size, endian)
            for number, size in ((tag, 2), (kind, 2), (count, 4), (value, 4))
        )
    return content + bytes(4) + bits + data


@pytest.mark.parametrize(
    ("content", "values"),
    [
        (encode(GRAY, "PNG"), GRAY),
        (encode(GRAY, "TIFF"), GRAY),
        (encode(GRAY.astype(np.float32), "TIFF"), GRAY),
        (encode(GRAY.astype(np.int32), "TIFF"), GRAY),
        (encode_png(COLORS), COLORS),
        (encode_png(OPAQUE), COLORS),
        (encode_png(OPAQUE_GRAY), GRAY),
        (encode_tiff(COLORS, order="<", packed=False), COLORS),
        (encode_tiff(COLORS, order=">", packed=False), COLORS),
        (encode_tiff(COLORS, order="<", packed=True), COLORS),
        (encode_tiff(COLORS, order=">", packed=True), COLORS),
    ],
    ids=[
        *("png", "tiff", "float", "int32", "png-rgb", "png-rgba", "png-la"),
        *("II", "MM", "II-zip", "MM-zip"),
    ],
)
def test_values_of_a_range_become_0_to_255(content: bytes, values: npt.NDArray[np.uint16]) -> None:
    channels = 1 if values.ndim == 2 else 3
    spec = InputSpec(SIDE, SIDE, channels, value_range=TWELVE_BITS)
    pixels = decode_image(content, spec).squeeze()
    assert np.array_equal(pixels, np.rint(values.astype(float) * 255 / 4095).astype(np.uint8))


def test_values_outside_of_the_range_are_clipped() -> None:
    values = np.array([[0, 100, 150, 200, 60_000]], np.uint16)
    spec = InputSpec(1, 5, 1, value_range=(100, 200))
    assert decode_image(encode(values, "PNG"), spec).ravel().tolist() == [0, 0, 128, 255, 255]
    odd = np.array([[-np.inf, np.nan, 150, 200, np.inf]], np.float32)
    assert decode_image(encode(odd, "TIFF"), spec).ravel().tolist() == [0, 0, 128, 255, 255]


def test_8_bits_are_not_changed_by_a_range() -> None:
    content = encode(RNG.integers(0, 256, (SIDE, SIDE, 3), np.uint8), "PNG")
    plain, ranged = InputSpec(SIDE, SIDE), InputSpec(SIDE, SIDE, value_range=TWELVE_BITS)
    assert np.array_equal(decode_image(content, plain), decode_image(content, ranged))


def test_dark_colors_are_noted_and_told_apart() -> None:
    one, other = COLORS // 32, COLORS // 32 + 1
    assert inspect_image(encode_png(one)).note.startswith("16-bit; dark: brightest value 12")
    sums = {inspect_image(encode_png(each)).pixels_sha256 for each in (one, other)}
    assert len(sums) == 2
    packed = encode_tiff(one, order=">", packed=True)
    assert inspect_image(packed).pixels_sha256 in sums
    bright = inspect_image(encode_png(COLORS * 16))
    assert bright.note == "16-bit"


def test_values_are_counted() -> None:
    for content, values in ((encode(GRAY, "PNG"), GRAY), (encode_png(COLORS), COLORS)):
        counts = count_16_bit_values(content)
        assert counts is not None
        assert counts.tolist() == np.bincount(values.ravel(), minlength=65_536).tolist()
    assert count_16_bit_values(encode(GRAY.astype(np.uint8), "PNG")) is None
    counts = count_16_bit_values(encode_png(OPAQUE_GRAY))
    assert counts is not None
    assert (counts > 0).tolist() == (np.bincount(GRAY.ravel(), minlength=65_536) > 0).tolist()


def test_dark_gray_with_opacity_is_no_damage() -> None:
    half = np.dstack([GRAY, np.full((SIDE, SIDE), 32_768, np.uint16)])
    found = inspect_image(encode_png(half))
    assert found.note.startswith("16-bit; dark: brightest value")
    assert "transparent" in found.note
    spec = InputSpec(SIDE, SIDE, 1, background=(0, 0, 0), value_range=TWELVE_BITS)
    pixels = decode_image(encode_png(half), spec).squeeze()
    assert np.abs(pixels - GRAY.astype(float) * 128 / 4095).max() <= 1


@pytest.mark.parametrize("bad", [(1, 1), (2, 1), (1,), "type", (0, float("inf")), (True, 5)])
def test_a_wrong_range_is_refused(bad: Any) -> None:
    with pytest.raises(ConfigError, match="value_range"):
        InputSpec(4, 4, value_range=bad)


def test_specs_without_a_range_can_be_read() -> None:
    values = InputSpec(4, 5, value_range=TWELVE_BITS).to_dict()
    assert InputSpec.from_dict(values).value_range == TWELVE_BITS
    del values["value_range"]
    assert InputSpec.from_dict(values).value_range is None


def test_other_numbers_of_channels_are_named() -> None:
    for channels in (2, 5):
        values = RNG.integers(0, 4096, (SIDE, SIDE, channels), np.uint16)
        content = encode_tiff(values, order="<", packed=False)
        with pytest.raises(ImageError, match=f"not supported: {channels} channels of 16 bits"):
            inspect_image(content)
