import io
import os
import struct
import warnings
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image, PngImagePlugin

from cnnclf.errors import ImageError
from cnnclf.images.decode import (
    INTERPOLATIONS,
    MAX_PIXELS,
    InputSpec,
    decode_image,
    fit_pixels,
    inspect_image,
)
from cnnclf.images.formats import FORMATS

Pixels = npt.NDArray[np.uint8]

# What makes an upright image into the one a camera stores with each EXIF orientation.
_AS_STORED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def draw_photo(width: int, height: int, *, seed: int = 0) -> Image.Image:
    """Give smooth colors with a little grain, as a photograph has."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (5, 6, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
    grain = rng.normal(0, 5, (height, width, 3))
    return Image.fromarray((smooth + grain).clip(0, 255).astype(np.uint8))


def encode(image: Image.Image, file_format: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def encode_turned(image: Image.Image, orientation: int, file_format: str = "PNG") -> bytes:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    turn = _AS_STORED[orientation]
    stored = image if turn is None else image.transpose(turn)
    return encode(stored, file_format, exif=exif)


def encode_png_by_hand(pixels: npt.NDArray[Any], color_type: int, *chunks: bytes) -> bytes:
    """Write the PNGs of 16 bits that Pillow can read but not write."""
    height, width = pixels.shape[:2]
    rows = pixels.astype(">u2").reshape(height, -1)
    data = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    header = struct.pack(">IIBBBBB", width, height, 16, color_type, 0, 0, 0)
    return join_png_chunks([b"IHDR" + header, *chunks, b"IDAT" + data, b"IEND"])


def join_png_chunks(chunks: list[bytes]) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
        for chunk in chunks
    )


def decode_whole(source: Path | bytes, width: int, height: int, **options: Any) -> Pixels:
    return decode_image(source, InputSpec(height, width, **options))


def difference(first: npt.NDArray[Any], second: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.asarray(np.abs(first.astype(int) - second.astype(int)))


class TestFormats:
    @pytest.mark.parametrize("file_format", FORMATS)
    def test_every_format_of_the_table_is_recognized_by_its_content(self, file_format: str) -> None:
        photo = draw_photo(40, 30)
        try:
            content = encode(photo, file_format)
        except (KeyError, OSError):
            pytest.skip(f"this Pillow cannot write {file_format}")
        pixels = decode_whole(content, 40, 30)
        # JPEG, WebP, AVIF and GIF lose colors
        assert difference(pixels, np.asarray(photo)).mean() < 12
        assert inspect_image(content).format == file_format

    @pytest.mark.parametrize("file_format", ["PNG", "BMP", "TIFF", "PPM"])
    def test_a_image_of_the_right_size_keeps_every_pixel(self, file_format: str) -> None:
        photo = draw_photo(40, 30)
        assert np.array_equal(decode_whole(encode(photo, file_format), 40, 30), np.asarray(photo))

    def test_a_jpeg_is_decoded_as_pillow_decodes_it(self) -> None:
        content = encode(draw_photo(50, 37), "JPEG", quality=90)
        expected = np.asarray(Image.open(io.BytesIO(content)))
        assert np.array_equal(decode_whole(content, 50, 37), expected)

    def test_a_file_and_its_content_give_the_same(self, tmp_path: Path) -> None:
        content = encode(draw_photo(50, 37), "JPEG")
        path = tmp_path / "ein schönes Bild.jpg"
        path.write_bytes(content)
        spec = InputSpec(20, 20)
        assert np.array_equal(decode_image(path, spec), decode_image(content, spec))
        assert inspect_image(path) == inspect_image(content)

    def test_the_name_does_not_matter(self, tmp_path: Path) -> None:
        photo = draw_photo(20, 10)
        path = tmp_path / "photo.jpg"
        path.write_bytes(encode(photo, "BMP"))
        assert np.array_equal(decode_whole(path, 20, 10), np.asarray(photo))
        assert inspect_image(path).note == "content is BMP, name says .jpg"

    @pytest.mark.parametrize("file_format", ["GIF", "PNG", "WEBP"])
    def test_of_an_animation_the_first_frame_is_read(self, file_format: str) -> None:
        frames = [Image.new("RGB", (8, 8), color) for color in ("red", "lime", "blue")]
        options = {"lossless": True} if file_format == "WEBP" else {}
        content = encode(frames[0], file_format, save_all=True, append_images=frames[1:], **options)
        assert decode_whole(content, 8, 8)[4, 4].tolist() == [255, 0, 0]
        assert inspect_image(content).note == "animated, first of 3 frames"

    def test_of_a_tiff_the_first_page_is_read(self) -> None:
        pages = [Image.new("RGB", (8, 8), color) for color in ("red", "lime")]
        content = encode(pages[0], "TIFF", save_all=True, append_images=pages[1:])
        assert decode_whole(content, 8, 8)[4, 4].tolist() == [255, 0, 0]
        assert inspect_image(content).note == "first of 2 pages"

    def test_damage_in_a_later_frame_does_not_cost_the_first(self) -> None:
        frames = [draw_photo(8, 8, seed=seed) for seed in range(3)]
        content = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
        assert inspect_image(content[:-60]).note.startswith("animated, first of ")


class TestColors:
    def test_the_result_is_a_fresh_array_of_bytes(self) -> None:
        content = encode(draw_photo(9, 7))
        pixels = decode_whole(content, 9, 7)
        assert pixels.dtype == np.dtype(np.uint8)
        assert pixels.shape == (7, 9, 3)
        assert pixels.flags.writeable
        assert pixels.flags.c_contiguous

    def test_gray_becomes_three_equal_channels(self) -> None:
        gray = draw_photo(9, 7).convert("L")
        pixels = decode_whole(encode(gray), 9, 7)
        assert np.array_equal(pixels, np.repeat(np.asarray(gray)[..., None], 3, axis=2))

    def test_colors_become_gray_as_pillow_weighs_them(self) -> None:
        photo = draw_photo(9, 7)
        pixels = decode_whole(encode(photo), 9, 7, channels=1)
        assert pixels.shape == (7, 9, 1)
        assert np.array_equal(pixels[..., 0], np.asarray(photo.convert("L")))

    def test_one_bit_is_black_and_white(self) -> None:
        bits = np.array([[0, 255], [255, 0]], np.uint8)
        content = encode(Image.fromarray(bits).convert("1"))
        assert np.array_equal(decode_whole(content, 2, 2)[..., 0], bits)
        assert inspect_image(content).mode == "1"

    def test_a_palette_is_looked_up(self) -> None:
        image = Image.new("P", (2, 1))
        image.putpalette([10, 20, 30, 200, 150, 100])
        image.putpixel((1, 0), 1)
        assert decode_whole(encode(image), 2, 1).tolist() == [[[10, 20, 30], [200, 150, 100]]]

    @pytest.mark.parametrize("background", [(255, 255, 255), (0, 0, 0), (10, 200, 30)])
    @pytest.mark.parametrize("alpha", [0, 100, 255])
    def test_transparency_is_blended_over_the_background(
        self, background: tuple[int, int, int], alpha: int
    ) -> None:
        content = encode(Image.new("RGBA", (2, 2), (200, 100, 50, alpha)))
        pixels = decode_whole(content, 2, 2, background=background)
        mixed = [
            (color * alpha + behind * (255 - alpha)) / 255
            for color, behind in zip((200, 100, 50), background, strict=True)
        ]
        assert difference(pixels, np.array(mixed)).max() <= 1

    def test_gray_with_transparency_is_blended(self) -> None:
        content = encode(Image.new("LA", (2, 2), (100, 0)))
        assert decode_whole(content, 2, 2, background=(1, 2, 3))[0, 0].tolist() == [1, 2, 3]
        assert decode_whole(content, 2, 2, channels=1, background=(9, 9, 9))[0, 0].tolist() == [9]

    def test_a_palette_with_transparency_is_blended_without_a_warning(self) -> None:
        image = Image.new("P", (2, 1))
        image.putpalette([10, 20, 30, 200, 150, 100])
        image.putpixel((1, 0), 1)
        content = encode(image, transparency=b"\xff\x00")
        pixels = decode_whole(content, 2, 1, background=(7, 7, 7))
        assert pixels.tolist() == [[[10, 20, 30], [7, 7, 7]]]

    @pytest.mark.parametrize(("mode", "color"), [("RGB", (5, 6, 7)), ("L", 5)])
    def test_a_transparent_color_is_blended(self, mode: str, color: Any) -> None:
        content = encode(Image.new(mode, (2, 2), color), transparency=color)
        assert decode_whole(content, 2, 2, background=(8, 8, 8))[0, 0].tolist() == [8, 8, 8]

    @pytest.mark.parametrize("file_format", ["JPEG", "TIFF"])
    def test_cmyk_has_the_colors_it_was_drawn_with(self, file_format: str) -> None:
        drawn = Image.new("RGB", (16, 16), (220, 40, 90))
        content = encode(drawn.convert("CMYK"), file_format)
        assert difference(decode_whole(content, 16, 16), np.array([220, 40, 90])).max() <= 3
        info = inspect_image(content)
        assert (info.mode, info.note) == ("CMYK", "CMYK")

    @pytest.mark.parametrize("file_format", ["PNG", "TIFF"])
    def test_16_bit_gray_is_scaled_and_rounded(self, file_format: str) -> None:
        values = np.array([[0, 127, 129, 256, 32768, 65407, 65535]], np.uint16)
        content = encode(Image.fromarray(values), file_format)
        pixels = decode_whole(content, 7, 1, channels=1)
        assert pixels.ravel().tolist() == np.rint(values.ravel() / 257).astype(int).tolist()
        assert inspect_image(content).note == "16-bit"

    def test_16_bit_gray_that_is_nearly_black_is_noted(self) -> None:
        content = encode(Image.fromarray(np.full((2, 2), 4095, np.uint16)))
        assert inspect_image(content).note == "16-bit; dark: brightest value 4095 of 65535"

    @pytest.mark.parametrize(("color_type", "channels"), [(2, 3), (6, 4), (4, 2)])
    def test_16_bit_colors_keep_their_high_byte(self, color_type: int, channels: int) -> None:
        values = np.full((2, 2, channels), 0xFFFF, np.uint16)
        values[..., : max(1, channels // 2)] = 0x7F80
        content = encode_png_by_hand(values, color_type)
        pixels = decode_whole(content, 2, 2)
        assert pixels[0, 0, 0] == 0x7F
        assert inspect_image(content).note == "16-bit"

    def test_the_transparent_color_of_16_bit_colors_is_blended(self) -> None:
        values = np.full((1, 2, 3), 0x1234, np.uint16)
        values[0, 1] = 0xFFFF
        chunk = b"tRNS" + struct.pack(">HHH", 0x1234, 0x1234, 0x1234)
        pixels = decode_whole(encode_png_by_hand(values, 2, chunk), 2, 1, background=(0, 0, 9))
        assert pixels.tolist() == [[[0, 0, 9], [255, 255, 255]]]

    def test_the_transparent_value_of_16_bit_gray_is_blended(self) -> None:
        values = np.array([[0x1234, 0xFFFF]], np.uint16)
        content = encode_png_by_hand(values, 0, b"tRNS" + struct.pack(">H", 0x1234))
        pixels = decode_whole(content, 2, 1, background=(0, 0, 9))
        assert pixels.tolist() == [[[0, 0, 9], [255, 255, 255]]]

    @pytest.mark.parametrize(
        ("dtype", "kind"), [(np.int32, "32-bit"), (np.float32, "floating point")]
    )
    def test_numbers_without_an_agreed_range_are_scaled_from_their_extremes(
        self, dtype: type, kind: str
    ) -> None:
        content = encode(Image.fromarray(np.array([[-10, 0, 40]], dtype)), "TIFF")
        assert decode_whole(content, 3, 1, channels=1).ravel().tolist() == [0, 51, 255]
        assert inspect_image(content).note == f"{kind}, scaled from -10..40"

    @pytest.mark.parametrize("values", [[np.nan, 1, 2], [np.inf, 1, 2], [np.nan, -np.inf, 5]])
    def test_infinite_values_do_not_stretch_the_range(self, values: list[float]) -> None:
        content = encode(Image.fromarray(np.array([values], np.float32)), "TIFF")
        pixels = decode_whole(content, 3, 1, channels=1).ravel()
        assert pixels[0] == 0
        assert pixels[2] in {0, 255}


class TestFit:
    @pytest.mark.parametrize("size", [(500, 375), (375, 500), (256, 256), (300, 700), (90, 60)])
    @pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos"])
    @pytest.mark.parametrize(("fraction", "shorter"), [(1.0, 224), (0.875, 256)])
    def test_crop_is_scaling_the_shorter_side_and_cutting_the_middle(
        self, size: tuple[int, int], interpolation: str, fraction: float, shorter: int
    ) -> None:
        """With 0.875 and bicubic this is how EfficientNet-Lite0 was evaluated on ImageNet."""
        photo = draw_photo(*size)
        pixels = decode_image(
            encode(photo, compress_level=0),
            InputSpec(224, 224, interpolation=interpolation, crop_fraction=fraction),
        )
        width, height = size
        scaled = (
            (shorter, int(shorter * height / width))
            if width <= height
            else (int(shorter * width / height), shorter)
        )
        left, top = round((scaled[0] - 224) / 2), round((scaled[1] - 224) / 2)
        whole = photo.resize(scaled, Image.Resampling[interpolation.upper()])
        expected = np.asarray(whole.crop((left, top, left + 224, top + 224)))
        # Pillow rounds between its two passes, whose order depends on the sizes.
        assert difference(pixels, expected).max() <= 2
        assert difference(pixels, expected).mean() < 0.35

    @pytest.mark.parametrize("interpolation", INTERPOLATIONS)
    def test_squash_is_a_plain_resize(self, interpolation: str) -> None:
        photo = draw_photo(90, 60)
        spec = InputSpec(20, 50, fit="squash", interpolation=interpolation)
        expected = photo.resize((50, 20), Image.Resampling[interpolation.upper()])
        assert np.array_equal(decode_image(encode(photo), spec), np.asarray(expected))

    @pytest.mark.parametrize(("size", "inner"), [((90, 60), (30, 20)), ((40, 80), (15, 30))])
    def test_pad_keeps_everything_and_fills_the_border(
        self, size: tuple[int, int], inner: tuple[int, int]
    ) -> None:
        photo = draw_photo(*size)
        spec = InputSpec(30, 30, fit="pad", background=(1, 2, 3))
        expected = Image.new("RGB", (30, 30), (1, 2, 3))
        at = (30 - inner[0]) // 2, (30 - inner[1]) // 2
        expected.paste(photo.resize(inner, Image.Resampling.BILINEAR), at)
        assert np.array_equal(decode_image(encode(photo), spec), np.asarray(expected))

    def test_pad_in_gray_fills_with_the_gray_of_the_background(self) -> None:
        spec = InputSpec(4, 8, channels=1, fit="pad", background=(200, 100, 50))
        pixels = decode_image(encode(Image.new("L", (4, 4), 7)), spec)
        expected = Image.new("RGB", (1, 1), (200, 100, 50)).convert("L").getpixel((0, 0))
        assert pixels[0, :, 0].tolist() == [expected] * 2 + [7] * 4 + [expected] * 2

    def test_gray_images_are_padded_in_color(self) -> None:
        spec = InputSpec(4, 8, fit="pad", background=(200, 100, 50))
        pixels = decode_image(encode(Image.new("L", (4, 4), 7)), spec)
        assert pixels[0, 0].tolist() == [200, 100, 50]
        assert pixels[0, 4].tolist() == [7, 7, 7]

    def test_a_small_image_is_enlarged(self) -> None:
        pixels = decode_image(encode(Image.new("RGB", (1, 1), (4, 5, 6))), InputSpec(9, 5))
        assert np.array_equal(pixels, np.full((9, 5, 3), (4, 5, 6)))

    @pytest.mark.parametrize("fit", ["crop", "pad", "squash"])
    @pytest.mark.parametrize("size", [(20_000, 1), (1, 20_000)])
    @pytest.mark.parametrize("interpolation", INTERPOLATIONS)
    def test_a_very_long_image_costs_little(
        self, monkeypatch: pytest.MonkeyPatch, fit: str, size: tuple[int, int], interpolation: str
    ) -> None:
        resize = Image.Image.resize
        asked: list[int] = []

        def watch(image: Image.Image, wanted: tuple[int, int], *rest: Any) -> Image.Image:
            asked.append(wanted[0] * wanted[1])
            return resize(image, wanted, *rest)

        content = encode(Image.new("RGB", size, (4, 5, 6)))
        monkeypatch.setattr(Image.Image, "resize", watch)
        spec = InputSpec(64, 64, fit=fit, interpolation=interpolation, background=(4, 5, 6))
        assert np.array_equal(decode_image(content, spec), np.full((64, 64, 3), (4, 5, 6)))
        assert max(asked) <= 64 * 64 * 8

    @settings(max_examples=60, deadline=None)
    @given(
        width=st.integers(1, 60),
        height=st.integers(1, 60),
        wanted=st.tuples(st.integers(1, 24), st.integers(1, 24)),
        fit=st.sampled_from(["crop", "pad", "squash"]),
        interpolation=st.sampled_from(INTERPOLATIONS),
        fraction=st.sampled_from([1.0, 0.875, 0.3]),
        orientation=st.integers(1, 8),
        mode=st.sampled_from(["RGB", "L", "RGBA", "P"]),
        channels=st.sampled_from([1, 3]),
    )
    @example(60, 1, (24, 24), "crop", "lanczos", 0.3, 6, "RGB", 3)
    @example(59, 60, (23, 24), "crop", "bicubic", 0.875, 7, "L", 3)
    def test_every_image_gets_the_wanted_shape_whichever_way_it_is_stored(
        self,
        width: int,
        height: int,
        wanted: tuple[int, int],
        fit: str,
        interpolation: str,
        fraction: float,
        orientation: int,
        mode: str,
        channels: int,
    ) -> None:
        spec = InputSpec(
            *wanted,
            channels=channels,
            fit=fit,
            interpolation=interpolation,
            crop_fraction=fraction if fit == "crop" else 1.0,
        )
        photo = draw_photo(width, height).convert(mode)
        upright = decode_image(encode(photo), spec)
        turned = decode_image(encode_turned(photo, orientation), spec)
        assert upright.shape == turned.shape == spec.shape
        assert np.array_equal(upright, turned)


class TestOrientation:
    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize("file_format", ["PNG", "TIFF"])
    def test_a_turned_image_is_set_upright(self, orientation: int, file_format: str) -> None:
        photo = draw_photo(12, 7)
        content = encode_turned(photo, orientation, file_format)
        assert np.array_equal(decode_whole(content, 12, 7), np.asarray(photo))
        info = inspect_image(content)
        assert (info.width, info.height) == (12, 7)
        assert info.pixels_sha256 == inspect_image(encode(photo)).pixels_sha256
        assert info.note.endswith("by EXIF") is (orientation > 1)

    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_a_large_turned_jpeg_is_set_upright_too(self, orientation: int) -> None:
        """Large enough to be decoded at a part of its size."""
        photo = draw_photo(640, 401)
        expected = decode_image(encode(photo), InputSpec(33, 32))
        content = encode_turned(photo, orientation, "JPEG")
        # JPEG itself accounts for most of the difference
        assert difference(decode_image(content, InputSpec(33, 32)), expected).max() <= 6

    def test_an_orientation_written_as_xmp_counts(self) -> None:
        photo = draw_photo(12, 7)
        notes = PngImagePlugin.PngInfo()
        notes.add_itxt("XML:com.adobe.xmp", '<x:xmpmeta><a tiff:Orientation="3"/></x:xmpmeta>')
        content = encode(photo.rotate(180), pnginfo=notes)
        assert np.array_equal(decode_whole(content, 12, 7), np.asarray(photo))

    @pytest.mark.parametrize("exif", [b"Exif\0\0rubbish", b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12"])
    def test_a_damaged_exif_block_does_not_cost_the_image(self, exif: bytes) -> None:
        photo = draw_photo(12, 7)
        content = encode(photo, exif=exif)
        assert np.array_equal(decode_whole(content, 12, 7), np.asarray(photo))

    @pytest.mark.parametrize("orientation", [0, 9, 65_535])
    def test_an_unknown_orientation_is_ignored(self, orientation: int) -> None:
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = orientation
        info = inspect_image(encode(draw_photo(12, 7), exif=exif))
        assert (info.width, info.height, info.note) == (12, 7, "")


class TestLargeJpeg:
    @pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos", "box"])
    @pytest.mark.parametrize("fit", ["crop", "pad", "squash"])
    @pytest.mark.parametrize("size", [(1200, 900), (901, 1203), (1999, 527)])
    def test_decoding_at_a_part_of_the_size_changes_little(
        self, interpolation: str, fit: str, size: tuple[int, int]
    ) -> None:
        content = encode(draw_photo(*size), "JPEG", quality=92)
        whole = encode(Image.open(io.BytesIO(content)), compress_level=0)
        spec = InputSpec(64, 64, fit=fit, interpolation=interpolation)
        apart = difference(decode_image(content, spec), decode_image(whole, spec))
        assert apart.mean() < 0.5
        assert apart.max() <= 4

    def test_the_hardest_pattern_stays_close_too(self) -> None:
        """Fine lines from black to white, where a full decode clips what a smaller one keeps."""
        drawing = np.zeros((1024, 1024, 3), np.uint8)
        drawing[:, ::7] = 255
        drawing[::5, :, 1] = 128
        content = encode(Image.fromarray(drawing), "JPEG", quality=92)
        whole = encode(Image.open(io.BytesIO(content)), compress_level=0)
        spec = InputSpec(128, 128)
        apart = difference(decode_image(content, spec), decode_image(whole, spec))
        assert apart.mean() < 5
        assert apart.max() <= 10

    def test_a_jpeg_less_than_eight_times_too_large_is_decoded_in_full(self) -> None:
        content = encode(draw_photo(511, 511), "JPEG")
        image = Image.open(io.BytesIO(content)).resize((64, 64), Image.Resampling.BILINEAR)
        assert np.array_equal(decode_image(content, InputSpec(64, 64)), np.asarray(image))

    def test_nearest_takes_pixels_that_are_in_the_file(self) -> None:
        content = encode(draw_photo(1024, 1024), "JPEG")
        image = Image.open(io.BytesIO(content)).resize((64, 64), Image.Resampling.NEAREST)
        pixels = decode_image(content, InputSpec(64, 64, interpolation="nearest"))
        assert np.array_equal(pixels, np.asarray(image))


class TestLimits:
    @pytest.mark.parametrize("read", [inspect_image, lambda content: decode_whole(content, 8, 8)])
    def test_a_decompression_bomb_is_refused_before_it_is_decoded(
        self, read: Callable[[bytes], object]
    ) -> None:
        header = b"IHDR" + struct.pack(">IIBBBBB", 30_000, 6_000, 1, 0, 0, 0, 0)
        content = join_png_chunks([header, b"IDATnever looked at", b"IEND"])
        with pytest.raises(ImageError) as caught:
            read(content)
        assert caught.value.message == (
            f"too many pixels: 30000 x 6000 = 180,000,000, the limit is {MAX_PIXELS:,}"
        )

    def test_the_limit_can_be_set(self) -> None:
        content = encode(draw_photo(10, 10))
        assert inspect_image(content, max_pixels=100).width == 10
        with pytest.raises(ImageError, match="10 x 10 = 100, the limit is 99"):
            inspect_image(content, max_pixels=99)
        with pytest.raises(ImageError, match="the limit is 99"):
            decode_image(content, InputSpec(4, 4), max_pixels=99)

    def test_pillows_own_limit_neither_warns_nor_changes(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 60)
        for file_format in ("PNG", "JPEG", "TIFF", "WEBP", "GIF"):
            content = encode(Image.new("RGB", (10, 10)), file_format)
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                assert inspect_image(content).width == 10
            assert [str(warning.message) for warning in caught] == []
        assert Image.MAX_IMAGE_PIXELS == 60

    def test_where_pillow_itself_refuses_its_limit_is_named(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        content = encode(Image.new("RGB", (10, 10)), "TIFF")
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
        with pytest.raises(ImageError, match="exceeds limit of 20 pixels"):
            inspect_image(content)

    def test_running_out_of_memory_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*_: object) -> None:
            raise MemoryError

        monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load_prepare", fail)
        with pytest.raises(ImageError, match="not enough memory to decode 10 x 7 pixels"):
            inspect_image(encode(draw_photo(10, 7)))


class TestDamage:
    @pytest.mark.parametrize(
        ("content", "words"),
        [
            (b"", "image: an empty file (0 bytes)"),
            (b"\0" * 500, "image: nothing but zero bytes"),
            (b"\0", "image: nothing but zero bytes"),
            (b"Just a note\n", "image: text"),
            ("Fünf Bären und etwas mehr Text als der Kopf einer Datei lang ist".encode(), "text"),
            (b"<!DOCTYPE html><html>404</html>", "image: a web page"),
            (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "the HEIF is damaged"),
            (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "the HEIF is damaged"),
            (b"\0" * 128 + b"DICM\x02\0\0\0UL", "the DICOM"),
            (b"\xff\x0a\xfa\x1f\x41", "image: a JPEG XL image"),
            (b"\0\0\0\x0cJXL \r\n\x87\n", "image: a JPEG XL image"),
            (b"\0\0\0\x18ftypcrx \0\0\0\1", "image: a raw photo (CR3)"),
            (b"FUJIFILMCCD-RAW 0201", "image: a raw photo (RAF)"),
            (b"\0\0\0\x20ftypisom\0\0\2\0", "image: a video (MP4)"),
            (b"RIFF\x24\0\0\0AVI LIST", "image: a video (AVI)"),
            (b"\x1aE\xdf\xa3\x9fB\x86", "image: a video (Matroska)"),
            (b'<?xml version="1.0"?>\n<svg xmlns="x">', "image: an SVG drawing"),
            (b"%PDF-1.7\n%\xe2\xe3", "image: a PDF"),
            (b"PK\x03\x04\x14\0\0\0", "image: a zip archive"),
            (b"8BPS\0\x01", "image: a Photoshop file"),
            (b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS"),
            (b"\x7fELF\x02\x01\x01\0", "unknown content that begins 7f 45 4c 46 02 01 01 00"),
            (b"P", "text"),
            ("Passwort: süß\n".encode("latin-1"), "unknown content"),
            ("secret".encode("utf-16"), "text"),
            (b"BM", "text"),
            (b"\xff\xd8\xff", "JPEG"),
        ],
    )
    def test_what_is_no_image_is_named(self, content: bytes, words: str) -> None:
        with pytest.raises(ImageError) as caught:
            decode_image(content, InputSpec(8, 8))
        assert caught.value.message.startswith(("not a supported image: ", "the "))
        assert words in caught.value.message
        assert "\n" not in caught.value.message

    @pytest.mark.parametrize(
        ("file_format", "old", "new", "words"),
        [
            ("BMP", b"\x18\0\0\0\0\0", b"\x18\0\x04\0\0\0", "BMP compression (4)"),
            ("TIFF", b"\x03\1\3\0\1\0\0\0\1", b"\x03\1\3\0\1\0\0\0\x52", "compression 82"),
            ("JPEG", b"\xff\xc0\0\x11\x08", b"\xff\xc0\0\x11\x0c", "cannot handle 12-bit"),
            ("JPEG", b"\xff\xc0\0\x11\x08", b"\xff\xc3\0\x11\x08", "lossless"),
        ],
    )
    def test_an_unsupported_kind_is_not_damaged(
        self, file_format: str, old: bytes, new: bytes, words: str
    ) -> None:
        content = encode(draw_photo(10, 7), file_format)
        assert content.count(old) == 1
        with pytest.raises(ImageError) as caught:
            inspect_image(content.replace(old, new))
        assert caught.value.message.startswith(f"this kind of {file_format} is not supported: ")
        assert words in caught.value.message

    @pytest.mark.parametrize(
        "content", [b"P6\npassword 1 255\n", b"P1\npassword123456 8\n", b"password: 1234567\n" * 9]
    )
    def test_reasons_do_not_quote_text(self, content: bytes) -> None:
        with pytest.raises(ImageError) as caught:
            inspect_image(content)
        assert "pass" not in caught.value.message
        assert "70 61 73 73" not in caught.value.message

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "a HEIC image needs pillow-heif"),
            (b"\0" * 128 + b"DICM\x02\0\0\0UL", "a DICOM image needs pydicom"),
        ],
    )
    def test_the_extra_that_reads_a_format_is_named(
        self, content: bytes, words: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        with pytest.raises(ImageError) as caught:
            inspect_image(content)
        extra = "heif" if "HEIC" in words else "dicom"
        install = f"python -m pip install 'cnnclf[{extra}]'"
        assert caught.value.message == f"{words}: {install}"
        assert caught.value.hint.startswith("or convert it")

    @pytest.mark.parametrize("file_format", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "PPM"])
    @pytest.mark.parametrize("part", [0.4, 0.9])
    def test_a_truncated_file_is_refused(self, file_format: str, part: float) -> None:
        content = encode(draw_photo(64, 48), file_format)
        content = content[: int(len(content) * part)]
        for read in (inspect_image, lambda source: decode_image(source, InputSpec(8, 8))):
            with pytest.raises(ImageError, match=f"the {file_format} is (truncated|damaged)"):
                read(content)

    def test_a_truncated_jpeg_says_where_it_ends(self) -> None:
        content = encode(draw_photo(200, 200), "JPEG")[:1500]
        with pytest.raises(ImageError) as caught:
            inspect_image(content)
        assert caught.value.message == "the JPEG is truncated after 1,500 bytes"

    def test_the_path_is_named_once(self, tmp_path: Path) -> None:
        path = tmp_path / "notes.jpg"
        path.write_text("hello")
        with pytest.raises(ImageError) as caught:
            inspect_image(path)
        assert caught.value.message.startswith(f"{path}: not a supported image: ")
        assert caught.value.message.count("notes.jpg") == 1

    @pytest.mark.skipif(os.name != "posix", reason="names of bytes are a thing of POSIX")
    def test_a_strange_name_stays_printable_and_on_one_line(self, tmp_path: Path) -> None:
        path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9\n.jpg"))
        path.write_bytes(b"")
        with pytest.raises(ImageError) as caught:
            inspect_image(path)
        assert r"caf\udce9\n.jpg: not a supported image" in caught.value.message
        assert caught.value.message.encode("utf-8")

    def test_a_file_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(ImageError, match=r"no\.png: the file cannot be read: No such file"):
            inspect_image(tmp_path / "no.png")

    def test_a_directory(self, tmp_path: Path) -> None:
        with pytest.raises(ImageError, match="not an image file but a directory"):
            inspect_image(tmp_path)

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
    def test_a_pipe_is_not_waited_for(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe.png")
        with pytest.raises(ImageError, match="not an image file but a pipe or device"):
            inspect_image(tmp_path / "pipe.png")

    def test_a_name_with_a_nul(self) -> None:
        with pytest.raises(ImageError, match="not a valid file name"):
            inspect_image(Path("a\0.png"))

    @settings(max_examples=150, deadline=None)
    @given(data=st.data())
    def test_damaged_content_gives_pixels_or_an_image_error(self, data: st.DataObject) -> None:
        content = bytearray(data.draw(st.sampled_from(_WHOLE)))
        for _ in range(data.draw(st.integers(1, 4))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        content = content[: data.draw(st.integers(1, len(content)))]
        try:
            pixels = decode_image(bytes(content), InputSpec(8, 8), max_pixels=100_000)
        except ImageError as error:
            words = error.message
        else:
            words = f"the image has the shape {pixels.shape}"
        known = ("not a supported image: ", "too many pixels: ", "the ", "this kind of ")
        assert words.startswith(known)


def _draw_whole() -> list[bytes]:
    photo = draw_photo(20, 15)
    frames = [draw_photo(20, 15, seed=seed) for seed in (1, 2)]
    return [
        encode_turned(photo, 6, "JPEG"),
        encode(photo.convert("CMYK"), "JPEG"),
        encode(photo.convert("L"), "JPEG", progressive=True),
        encode_turned(photo, 3, "PNG"),
        encode(photo.quantize(16)),
        encode(Image.fromarray(np.asarray(photo.convert("L")).astype(np.uint16) * 257)),
        encode(photo, save_all=True, append_images=frames),
        encode(photo, "GIF", save_all=True, append_images=frames),
        encode(photo, "WEBP", save_all=True, append_images=frames),
        encode(photo, "BMP"),
        encode(photo, "TIFF"),
        encode(photo.convert("F"), "TIFF"),
        encode(photo, "PPM"),
    ]


_WHOLE = _draw_whole()


class TestInspect:
    def test_it_says_what_a_file_holds(self) -> None:
        info = inspect_image(encode(draw_photo(30, 20), "JPEG"))
        assert (info.width, info.height, info.mode, info.format, info.note) == (
            30,
            20,
            "RGB",
            "JPEG",
            "",
        )
        assert len(bytes.fromhex(info.pixels_sha256)) == 32

    @pytest.mark.parametrize("size", [(40, 30), (300, 200), (700, 600)])
    def test_the_checksum_is_of_the_pixels_and_not_of_the_file(self, size: tuple[int, int]) -> None:
        photo = draw_photo(*size)
        contents = [
            encode(photo, compress_level=1),
            encode(photo, compress_level=2),
            encode(photo, "BMP"),
            encode(photo, "TIFF"),
            encode_turned(photo, 8),
        ]
        assert len({inspect_image(content).pixels_sha256 for content in contents}) == 1

    def test_metadata_does_not_matter(self) -> None:
        photo = draw_photo(300, 200)
        plain, noted = encode(photo, "JPEG"), encode(photo, "JPEG", comment=b"a cat")
        assert plain != noted
        assert inspect_image(plain).pixels_sha256 == inspect_image(noted).pixels_sha256

    @pytest.mark.parametrize("size", [(40, 30), (700, 600)])
    @pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
    def test_one_level_of_one_pixel_matters(self, size: tuple[int, int], mode: str) -> None:
        values = np.asarray(draw_photo(*size).convert(mode)).copy()
        before = inspect_image(encode(Image.fromarray(values), compress_level=0))
        for row, column in ((0, 0), (size[1] // 2, 7), (size[1] - 1, size[0] - 1)):
            other = values.copy()
            other[row, column] ^= 1
            after = inspect_image(encode(Image.fromarray(other), compress_level=0))
            assert after.pixels_sha256 != before.pixels_sha256

    def test_a_sample_tells_most_images_apart_and_equal_ones_never(self) -> None:
        photo = draw_photo(700, 600)
        other = photo.rotate(1)
        contents = [encode(photo), encode(photo, "BMP"), encode_turned(photo, 8), encode(other)]
        infos = [inspect_image(content, exact=False) for content in contents]
        assert [info.exact for info in infos] == [False] * 4
        assert len({info.pixels_sha256 for info in infos[:3]}) == 1
        assert infos[3].pixels_sha256 != infos[0].pixels_sha256
        assert inspect_image(contents[0]).pixels_sha256 != infos[0].pixels_sha256

    def test_small_images_are_never_sampled(self) -> None:
        content = encode(draw_photo(40, 30))
        info = inspect_image(content, exact=False)
        assert info.exact
        assert info == inspect_image(content)

    def test_size_and_palette_matter(self) -> None:
        flat = [Image.new("L", size, 3) for size in ((6, 2), (2, 6), (3, 4))]
        palettes = []
        for color in (1, 2):
            image = Image.new("P", (4, 3))
            image.putpalette([color] * 3)
            palettes.append(image)
        checksums = {inspect_image(encode(image)).pixels_sha256 for image in flat + palettes}
        assert len(checksums) == 5

    @pytest.mark.parametrize(
        ("name", "note"),
        [
            ("a.jpg", ""),
            ("a.JPEG", ""),
            ("no suffix", ""),
            ("a.b.data", ""),
            ("a.PNG", "content is JPEG, name says .png"),
            ("a.heic", "content is JPEG, name says .heic"),
        ],
    )
    def test_a_name_that_promises_another_format_is_noted(self, name: str, note: str) -> None:
        assert inspect_image(encode(draw_photo(9, 9), "JPEG"), name=name).note == note

    def test_a_raw_photograph_is_noted(self) -> None:
        info = inspect_image(encode(draw_photo(9, 9), "TIFF"), name="DSC1.NEF")
        assert info.note == "content is TIFF, name says .nef"

    def test_several_oddities_are_all_noted(self) -> None:
        content = encode_turned(draw_photo(9, 5).convert("CMYK"), 6, "JPEG")
        note = inspect_image(content, name="a.png").note
        assert note == "content is JPEG, name says .png; CMYK; rotated by EXIF"


def test_many_threads_get_what_one_gets() -> None:
    spec = InputSpec(16, 12)
    contents = _WHOLE * 6
    alone = [decode_image(content, spec) for content in contents]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda content: decode_image(content, spec), contents))
        infos = list(pool.map(inspect_image, contents))
    assert all(np.array_equal(*pair) for pair in zip(alone, together, strict=True))
    assert infos == [inspect_image(content) for content in contents]


def test_a_image_is_decoded_the_same_in_a_store_of_mixed_files_and_alone() -> None:
    """Nothing of one call may leak into the next: no draft mode, no filter, no palette."""
    spec = InputSpec(16, 12)
    large = encode(draw_photo(900, 700), "JPEG")
    first = decode_image(large, spec)
    for content in _WHOLE:
        decode_image(content, spec)
    assert np.array_equal(decode_image(large, spec), first)


class TestFitPixels:
    @pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
    @pytest.mark.parametrize("fit", ["crop", "pad", "squash"])
    @pytest.mark.parametrize("channels", [1, 3])
    def test_an_array_is_prepared_as_its_png_would_be(
        self, mode: str, fit: str, channels: int
    ) -> None:
        image = draw_photo(31, 20).convert(mode)
        spec = InputSpec(12, 16, channels=channels, fit=fit)
        prepared = fit_pixels(np.asarray(image), spec)
        assert (prepared == decode_image(encode(image), spec)).all()

    def test_gray_may_have_a_third_axis(self) -> None:
        pixels = np.asarray(draw_photo(9, 8).convert("L"))
        spec = InputSpec(6, 6)
        assert (fit_pixels(pixels[:, :, None], spec) == fit_pixels(pixels, spec)).all()

    @pytest.mark.parametrize(
        "pixels",
        [
            np.zeros((4, 4, 3), np.float32),
            np.zeros((4, 4, 2), np.uint8),
            np.zeros((2, 4, 4, 3), np.uint8),
            np.zeros((0, 4), np.uint8),
        ],
    )
    def test_other_arrays_are_refused(self, pixels: np.ndarray) -> None:
        with pytest.raises(ImageError, match="expected uint8 pixels"):
            fit_pixels(pixels, InputSpec(4, 4))

    @pytest.mark.parametrize(
        ("pixels", "values", "hint"),
        [
            (np.eye(4, dtype=np.float32), "float32 of 0 to 1", "(255 * pixels).round()"),
            (200 * np.eye(4), "float64 of 0 to 200", ": pixels.round()"),
            (np.eye(4) > 0, "bool of 0 to 1", "(255 * pixels).round()"),
            (np.full((4, 4), -0.5), "float64 of -0.5 to -0.5", "scale them to 0 to 255"),
            (np.full((4, 4), 4095, np.uint16), "uint16 of 4095 to 4095", "scale them"),
            (np.full((4, 4), "x"), "received <U1", "scale them"),
        ],
    )
    def test_arrays_of_another_type_are_refused_with_how_they_become_bytes(
        self, pixels: np.ndarray, values: str, hint: str
    ) -> None:
        with pytest.raises(ImageError, match=values) as caught:
            fit_pixels(pixels, InputSpec(4, 4))
        assert hint in caught.value.hint
