"""HEIC images, made here: read by the optional package, upright, the primary image."""

import io

import numpy as np
import pytest
from PIL import Image

from cnnclf.errors import ImageError
from cnnclf.images.decode import InputSpec, decode_image, inspect_image

pillow_heif = pytest.importorskip("pillow_heif")


def encode_heic(image: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    pillow_heif.from_pillow(image).save(buffer, quality=-1, **options)
    return buffer.getvalue()


def draw() -> Image.Image:
    ramp = np.linspace(0, 255, 64).astype(np.uint8)
    return Image.fromarray(np.stack([np.tile(ramp, (48, 1))] * 3, axis=2))


def test_pixels_are_those_that_were_saved() -> None:
    content = encode_heic(draw())
    found = decode_image(content, InputSpec(48, 64))
    assert np.abs(found.astype(int) - np.asarray(draw())).max() <= 2
    info = inspect_image(content, name="IMG_1.HEIC")
    assert (info.format, info.width, info.height, info.note) == ("HEIF", 64, 48, "")
    assert inspect_image(content, name="a.jpg").note == "content is HEIF, name says .jpg"


def test_the_orientation_in_exif_does_not_count() -> None:
    """HEIF has a rotation of its own, which the decoder applies; ISO/IEC 23008-12 ignores EXIF."""
    image = draw()
    exif = Image.Exif()
    exif[0x0112] = 6
    image.info["exif"] = exif.tobytes()
    found = inspect_image(encode_heic(image))
    assert (found.width, found.height, found.note) == (64, 48, "")


def test_damaged_files_are_image_errors() -> None:
    content = encode_heic(draw())
    for cut in (40, len(content) // 2, len(content) - 9):
        with pytest.raises(ImageError, match=r"the HEIF is (damaged|truncated)"):
            inspect_image(content[:cut])
