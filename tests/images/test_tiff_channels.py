"""TIFF files of any number of channels and any type, written here by hand."""

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnclf.errors import ConfigError, ImageError
from cnnclf.images.decode import InputSpec, count_16_bit_values, decode_image, inspect_image
from tests.conftest import Cli

RNG = np.random.default_rng(5)
HEIGHT, WIDTH = 20, 30
_FORMATS = {"u": 1, "i": 2, "f": 3}


def encode_tiff(
    *pages: npt.NDArray[Any],
    order: str = "<",
    planar: bool = False,
    tile: int = 0,
    packed: bool = False,
    predictor: int = 1,
) -> bytes:
    """Write pages [H, W, C], each as one strip or as tiles, as TIFF 6.0 has it."""
    body, directories = b"", []
    for page in pages:
        values: npt.NDArray[Any] = page.astype(f"{order}{page.dtype.kind}{page.dtype.itemsize}")
        planes = (
            [values[:, :, at : at + 1] for at in range(values.shape[2])] if planar else [values]
        )
        parts = []
        for plane in planes:
            for part in _cut(plane, tile):
                data = _predict(part, predictor)
                parts.append(zlib.compress(data) if packed else data)
        places = []
        for strip in parts:
            places.append(8 + len(body))
            body += strip + b"\0" * (len(strip) % 2)
        height, width, channels = page.shape
        bits, kind = 8 * page.dtype.itemsize, _FORMATS[page.dtype.kind]
        tags: dict[int, list[int]] = {
            256: [width],
            257: [height],
            258: [bits] * channels,
            259: [8 if packed else 1],
            262: [1],
            277: [channels],
            284: [2 if planar else 1],
            317: [predictor],
            339: [kind] * channels,
        }
        if tile:
            tags |= {322: [tile], 323: [tile], 324: places, 325: [len(each) for each in parts]}
        else:
            tags |= {273: places, 278: [height], 279: [len(each) for each in parts]}
        directories.append(tags)
    start = 8 + len(body)
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", start)
    for number, tags in enumerate(directories):
        size = 2 + 12 * len(tags) + 4
        lists, entries = b"", b""
        for tag, numbers in sorted(tags.items()):
            value = struct.pack(f"{order}{len(numbers)}I", *numbers)
            if len(numbers) > 1:
                lists, value = lists + value, struct.pack(f"{order}I", start + size + len(lists))
            entries += struct.pack(f"{order}HHI", tag, 4, len(numbers)) + value
        start += size + len(lists)
        following = start if number + 1 < len(directories) else 0
        directory = struct.pack(f"{order}H", len(tags)) + entries
        body += directory + struct.pack(f"{order}I", following) + lists
    return head + body


def _cut(values: npt.NDArray[Any], tile: int) -> list[npt.NDArray[Any]]:
    if not tile:
        return [values]
    height, width = (-(-side // tile) * tile for side in values.shape[:2])
    whole = np.zeros((height, width, values.shape[2]), values.dtype)
    whole[: values.shape[0], : values.shape[1]] = values
    return [
        whole[y : y + tile, x : x + tile]
        for y in range(0, height, tile)
        for x in range(0, width, tile)
    ]


def _predict(values: npt.NDArray[Any], predictor: int) -> bytes:
    if predictor == 1:
        return values.tobytes()
    if predictor == 2:
        native = values.astype(values.dtype.newbyteorder("="))
        first = np.zeros_like(native[:, :1])
        return np.diff(native, axis=1, prepend=first).astype(values.dtype).tobytes()
    # By significance, then differences of bytes: TIFF Technical Note 3.
    height, _, channels = values.shape
    flat = values.astype(values.dtype.newbyteorder(">")).reshape(height, -1)
    planes = flat.view(np.uint8).reshape(height, -1, values.dtype.itemsize).swapaxes(1, 2)
    pixels = np.ascontiguousarray(planes).reshape(height, -1, channels)
    return np.diff(pixels, axis=1, prepend=np.zeros_like(pixels[:, :1])).tobytes()


def draw(channels: int, dtype: str = "u1", high: int = 256) -> npt.NDArray[Any]:
    if dtype.startswith("f"):
        return RNG.random((HEIGHT, WIDTH, channels)).astype(dtype)
    low = -100 if dtype.startswith("i") else 0
    return RNG.integers(
        low, min(high, 120 if dtype == "i1" else high), (HEIGHT, WIDTH, channels)
    ).astype(dtype)


def decode(content: bytes, **spec: Any) -> npt.NDArray[Any]:
    return decode_image(content, InputSpec(HEIGHT, WIDTH, **spec))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("packed", "predictor"), [(False, 1), (True, 1), (True, 2)])
@pytest.mark.parametrize("tile", [0, 16])
@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("channels", [2, 4, 5, 12])
def test_channels_are_those_of_the_file(
    channels: int, planar: bool, tile: int, predictor: int, packed: bool, order: str
) -> None:
    for dtype in ("u1", "u2"):
        values = draw(channels, dtype)
        content = encode_tiff(
            values, order=order, planar=planar, tile=tile, packed=packed, predictor=predictor
        )
        found = decode(content, bands=(channels - 1, 0, 1), value_range=(0, 255))
        assert np.array_equal(found, values[:, :, [channels - 1, 0, 1]])
        one = decode(content, channels=1, bands=(1,), value_range=(0, 255))
        assert np.array_equal(one, values[:, :, 1:2])


@pytest.mark.parametrize("channels", [2, 4, 5, 10])
@pytest.mark.parametrize("planar", [False, True])
def test_without_a_choice_they_are_not_supported_and_never_damaged(
    channels: int, planar: bool
) -> None:
    content = encode_tiff(draw(channels), planar=planar)
    with pytest.raises(ImageError) as caught:
        inspect_image(content)
    assert caught.value.message == (
        f"this kind of TIFF is not supported: {channels} channels of 8 bits, of which "
        "cnnclf import --channels chooses one or three, before training"
    )


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i1", "u4"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("order", ["<", ">"])
def test_numbers_of_other_types_are_scaled_and_that_is_said(
    dtype: str, channels: int, order: str
) -> None:
    values = draw(channels, dtype)
    content = encode_tiff(values, order=order)
    numbers = values.astype(np.float64)
    low, high = numbers.min(), numbers.max()
    expected = np.rint((numbers - low) * 255 / (high - low))
    found = decode(content, channels=channels)
    assert np.abs(found - expected).max() <= 1
    assert f"scaled from {low:g}..{high:g}" in inspect_image(content).note
    fixed = decode(content, channels=channels, value_range=(-2, 200))
    assert np.abs(fixed - np.rint(np.clip((numbers + 2) * 255 / 202, 0, 255))).max() <= 1


@pytest.mark.parametrize("tile", [0, 16])
@pytest.mark.parametrize("planar", [False, True])
def test_the_predictor_of_floating_point_is_undone(planar: bool, tile: int) -> None:
    values = draw(4, "f4")
    content = encode_tiff(values, planar=planar, tile=tile, packed=True, predictor=3)
    found = decode(content, bands=(3, 1, 0), value_range=(0, 1))
    assert np.abs(found - values[:, :, [3, 1, 0]] * 255).max() <= 0.51


def test_pages_of_one_channel_are_channels_if_they_are_chosen() -> None:
    pages = [draw(1) for _ in range(4)]
    content = encode_tiff(*pages)
    assert np.array_equal(decode(content, channels=1), pages[0])
    assert inspect_image(content).note == "first of 4 pages"
    found = decode(content, bands=(3, 0, 2))
    assert np.array_equal(found, np.concatenate([pages[3], pages[0], pages[2]], axis=2))
    assert inspect_image(content, bands=(3, 0, 2)).note == "channels 3,0,2 of 4"
    odd = encode_tiff(pages[0], draw(1, "u2"))
    with pytest.raises(ImageError, match="differ in size or type"):
        decode(odd, bands=(0, 1, 0))


def test_deep_channels_are_counted_and_noted() -> None:
    values = draw(4, "u2", 4096)
    content = encode_tiff(values)
    counts = count_16_bit_values(content, bands=(2,))
    assert counts is not None
    assert np.array_equal(counts, np.bincount(values[:, :, 2].ravel(), minlength=2**16))
    note = inspect_image(content, bands=(2,)).note
    assert note.startswith("channels 2 of 4; 16-bit; dark: brightest value")


def test_channels_of_other_formats_can_be_chosen_too() -> None:
    import io

    from PIL import Image

    values = draw(3)
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "PNG")
    assert np.array_equal(decode(buffer.getvalue(), channels=1, bands=(2,)), values[:, :, 2:])
    for content in (buffer.getvalue(), encode_tiff(draw(2))):
        with pytest.raises(ImageError, match="channel 7 does not exist"):
            decode(content, bands=(0, 1, 7))


@pytest.mark.parametrize("bad", [(), (0, 1), (-1,), (0, 1, 5000), [0], ("a",)])
def test_wrong_bands_are_refused(bad: Any) -> None:
    with pytest.raises(ConfigError, match="bands"):
        InputSpec(4, 4, bands=bad)
    assert InputSpec.from_dict(InputSpec(4, 4, bands=(2, 1, 0)).to_dict()).bands == (2, 1, 0)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_damage_gives_pixels_or_an_image_error(data: st.DataObject) -> None:
    whole = encode_tiff(draw(4), draw(4), packed=data.draw(st.booleans()))
    content = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(len(content) // 2, len(content)))
    try:
        decode(bytes(content[:cut]), bands=(0, 1, 3))
    except ImageError as error:
        assert "\n" not in error.message  # noqa: PT017


def test_a_dataset_of_five_channels_keeps_its_choice(cli: Cli, tmp_path: Path) -> None:
    for label, at in (("dry", 60), ("wet", 180)):
        for number in range(6):
            values = draw(5)
            values[:, :, 4] = np.clip(values[:, :, 4] // 4 + at, 0, 255)
            path = tmp_path / "fields" / label / f"{number}.tif"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encode_tiff(values))
    refused = cli("import", tmp_path / "fields", "-o", tmp_path / "none")
    assert refused.code == 3
    assert "--channels" in refused.stderr
    words = ("import", tmp_path / "fields", "-o", tmp_path / "data", "--channels")
    assert cli(*words, "0,1").code == 2
    result = cli(*words, "4,1,0")
    assert result.code == 0, result.stderr
    assert "channels 4,1,0 of 5" in result.stdout
    planned = cli("train", tmp_path / "data", "--dry-run", "--json")
    assert planned.code == 0, planned.stderr
    assert '"bands": [' in planned.stdout
    assert "channels 4,1,0 of 5" in planned.stderr
    assert cli("check", tmp_path / "data").code == 0
