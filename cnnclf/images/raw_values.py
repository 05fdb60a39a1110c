"""Numbers of images that Pillow does not open: DICOM, and TIFF of other channels."""

from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy.typing as npt
from PIL import TiffImagePlugin

from cnnclf.errors import ImageError
from cnnclf.images.dicom_files import read_dicom
from cnnclf.images.formats import HEAD_BYTES, find_extra_format
from cnnclf.images.image_words import DAMAGE, SAMPLE_FORMAT
from cnnclf.images.tiff_channels import check_bands, read_channels, read_page

_TIFF_STARTS = {b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"}


@dataclass(frozen=True, slots=True)
class RawValues:
    """Numbers of an image that Pillow does not open.

    Args:
        values: [H, W, 1] or [H, W, 3].
        value_range: Values that become black and white; None for those of the type.
        mode: Pillow's word for the colors, or that of the format.
        format: As in `LoadedImage`.
        oddities: What is unusual, in words.
        is_inverted: Whether low values are bright.
        orientation: As in EXIF.
    """

    values: npt.NDArray[Any]
    value_range: tuple[float, float] | None
    mode: str
    format: str
    oddities: list[str]
    is_inverted: bool = False
    orientation: int = 1


def read_values(
    stream: BinaryIO, *, max_pixels: int, bands: tuple[int, ...] | None
) -> RawValues | None:
    """Read a DICOM, or a TIFF of channels that Pillow does not open; None for other files."""
    stream.seek(0)
    head = stream.read(HEAD_BYTES)
    stream.seek(0)
    if find_extra_format(head) == "DICOM":
        found = read_dicom(stream, max_pixels=max_pixels)
        values = found.values if found.values.ndim == 3 else found.values[:, :, None]
        if bands is not None:
            values = values[:, :, check_bands(bands, values.shape[2])]
        return RawValues(
            values,
            found.value_range,
            found.mode,
            "DICOM",
            list(found.oddities),
            is_inverted=found.is_inverted,
        )
    if head[:4] not in _TIFF_STARTS or (bands is None and _is_for_pillow(stream)):
        stream.seek(0)
        return None
    page, count = read_page(stream)
    if page.width * page.height > max_pixels:
        raise ImageError(
            f"too many pixels: {page.width} x {page.height} = {page.width * page.height:,}, "
            f"the limit is {max_pixels:,}",
            "make the image smaller, or remove it",
        )
    if bands is None and page.channels not in (1, 3):
        raise ImageError(
            f"this kind of TIFF is not supported: {page.spoken()}, of which cnnclf "
            "import --channels chooses one or three, before training"
        )
    chosen = tuple(range(page.channels)) if bands is None else bands
    values = read_channels(stream, chosen)
    oddities = []
    if bands is not None and (page.channels > 1 or count > 1):
        total = page.channels if page.channels > 1 else count
        oddities.append(f"channels {','.join(map(str, bands))} of {total}")
    elif count > 1:
        oddities.append(f"first of {count} pages")
    mode = "L" if len(chosen) == 1 else "RGB"
    return RawValues(values, None, mode, "TIFF", oddities, orientation=page.orientation)


def _is_for_pillow(stream: BinaryIO) -> bool:
    """Return whether Pillow opens a TIFF, or it is not known what else to do with it."""
    stream.seek(0)
    try:
        image = TiffImagePlugin.TiffImageFile(stream, "")
        if image.mode == "L" and 2 in image.tag_v2.get(SAMPLE_FORMAT, ()):
            return False  # signed, of which Pillow makes unsigned ones
    except DAMAGE:
        try:
            read_page(stream)
        except ImageError:
            return True  # which then says what is wrong
        return False
    return True
