"""Numbers of images that Pillow does not open: DICOM, and TIFF of other channels."""

from dataclasses import replace
from typing import BinaryIO

from PIL import TiffImagePlugin

from cnnclf.errors import ImageError
from cnnclf.images.dicom_files import read_dicom
from cnnclf.images.formats import HEAD_BYTES, find_extra_format
from cnnclf.images.image_words import DAMAGE, SAMPLE_FORMAT
from cnnclf.images.modes import RawValues
from cnnclf.images.tiff_channels import check_bands, read_channels, read_page

_TIFF_STARTS = {b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"}


def read_values(
    stream: BinaryIO, *, max_pixels: int, bands: tuple[int, ...] | None
) -> RawValues | None:
    """Read a DICOM, or a TIFF of channels that Pillow does not open; None for other files."""
    stream.seek(0)
    head = stream.read(HEAD_BYTES)
    stream.seek(0)
    if find_extra_format(head) == "DICOM":
        found = read_dicom(stream, max_pixels=max_pixels)
        if bands is None:
            return found
        return replace(found, values=found.values[:, :, check_bands(bands, found.values.shape[2])])
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
    oddities: tuple[str, ...] = ()
    if bands is not None and (page.channels > 1 or count > 1):
        total = page.channels if page.channels > 1 else count
        oddities = (f"channels {','.join(map(str, bands))} of {total}",)
    elif count > 1:
        oddities = (f"first of {count} pages",)
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
