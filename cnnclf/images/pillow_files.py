"""Opens one image file with Pillow, upright and in 8 bits: the lower half of the one decoder.

Only `cnnclf.images.decode` imports this, and nothing else uses Pillow's openers or plugins. It
decides which images are too large, which of Pillow's errors mean a damaged file, which way is up
and which of several frames is read.
"""

import contextlib
import importlib
import importlib.util
import io
import logging
import re
import stat
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageFile, JpegImagePlugin, TiffImagePlugin

from cnnclf.bounded import MAX_IMAGE_BYTES, find_slice, read_bytes
from cnnclf.errors import ImageError
from cnnclf.images.deep_colors import join_bytes, take_other_byte
from cnnclf.images.dicom_files import read_dicom
from cnnclf.images.formats import (
    FORMATS,
    HEAD_BYTES,
    describe_content,
    find_extra_format,
)
from cnnclf.images.modes import (
    convert_to_8_bit,
    describe_peak,
    scale_to_extremes,
    scale_values,
)
from cnnclf.images.tiff_channels import read_channels, read_page
from cnnclf.packages import suggest_install

# Twice Pillow's own warning level, where Pillow too gives up: 179 million pixels, 0.7 GB as RGB.
MAX_PIXELS = 178_956_970

# From the value of the EXIF tag Orientation (JEITA CP-3451) to what makes the image upright.
_TRANSPOSES = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = frozenset({5, 6, 7, 8})  # rows and columns are swapped
_COLUMNS_REVERSED = frozenset({2, 3, 6, 7})  # in the upright image
_ROWS_REVERSED = frozenset({3, 4, 7, 8})
_TURNS = {
    2: "mirrored by EXIF",
    3: "rotated by EXIF",
    4: "mirrored by EXIF",
    5: "mirrored and rotated by EXIF",
    6: "rotated by EXIF",
    7: "mirrored and rotated by EXIF",
    8: "rotated by EXIF",
}

_TIFF_STARTS = {b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"}
_ORDINARY_MODES = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA"})

_LUMINANCE_SUM = 3688  # of the 64 numbers of table K.1 of the JPEG standard (quality 50)
_MAX_CAMERA = 40
_FEW_HIGH_BITS = 64  # of 256: values below a quarter of the 16 bits

_ALL_AT_ONCE_BYTES = 1 << 25  # files up to 32 MiB are read in one go, larger ones as Pillow asks

# What Pillow's plugins raise on damaged content (found by reading them and by mutating files).
_DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    EOFError,
    OverflowError,
    ZeroDivisionError,
    RuntimeError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


# What Pillow says of intact files that it does not decode.
_UNSUPPORTED = re.compile(
    r"unsupported|not supported|cannot handle|unknown pixel mode|not available", re.IGNORECASE
)
# The start of a frame: its marker, length, 8 bits per sample.
_JPEG_FRAME = re.compile(rb"\xff([\xc0-\xc3\xc5-\xc7\xc9-\xcb\xcd-\xcf])\0.[\x02-\x10]", re.DOTALL)
_JPEG_HEADER_BYTES = 2**18
_JPEG_DECODED = {0xC0, 0xC1, 0xC2, 0xC9, 0xCA}  # by libjpeg
_SAMPLES_PER_PIXEL, _BITS_PER_SAMPLE, _SAMPLE_FORMAT, _IS_FLOAT = 277, 258, 339, 3
_TEXT_MARKS = (b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf")  # UTF-16 and UTF-8


_Enough = Callable[[int, int], tuple[int, int]]
_Box = tuple[float, float, float, float]


class FileFacts(NamedTuple):
    """What a file reports about how it was made.

    Args:
        turn: How EXIF turns the stored pixels, in words; "" if they are upright.
        camera: Maker and model in EXIF; "" for none.
        jpeg_quality: 1 to 100, as libjpeg counts, estimated from the first quantization table; None
            if there is none.
        taken: When the image was taken, as EXIF writes it; "" for unknown.
    """

    turn: str
    camera: str
    jpeg_quality: int | None
    taken: str = ""


NO_FACTS: Final = FileFacts("", "", None)


@dataclass(frozen=True, slots=True)
class LoadedImage:
    """One decoded image.

    Args:
        image: Mode L, RGB or RGBA; upright; the first frame.
        box: (left, upper, right, lower) of `image` that the file fills: all of it, unless a JPEG
            was decoded at a fraction of its size, which is rounded up to whole pixels.
        width: Columns of the upright image in full size.
        height: Rows of the upright image in full size.
        mode: Pillow's word for the colors in the file.
        format: A key of `FORMATS`.
        oddities: What is unusual about the file, in words; only with `with_oddities`.
        facts: How the file was made; only with `with_oddities`.
    """

    image: Image.Image
    box: _Box
    width: int
    height: int
    mode: str
    format: str
    oddities: tuple[str, ...]
    facts: FileFacts = NO_FACTS


def load_image(
    source: Path | bytes,
    *,
    max_pixels: int,
    enough: _Enough | None = None,
    with_oddities: bool = False,
    value_range: tuple[float, float] | None = None,
    bands: tuple[int, ...] | None = None,
) -> LoadedImage:
    """Read and decode one image.

    Args:
        source: A file, or a file's content.
        max_pixels: Refuse larger images before decoding them.
        enough: Maps (width, height) of the upright image to a (width, height) that is enough: a
            JPEG is then decoded at 1/2, 1/4 or 1/8 of its size if at least that many pixels remain.
            None: always at full size.
        with_oddities: Whether to fill in `oddities`.
        value_range: As in `InputSpec`.
        bands: As in `InputSpec`.

    Returns:
        The image.

    Raises:
        ImageError: The content is not an image, damaged, or larger than `max_pixels`.
    """
    _quiet_pillow()
    try:
        with _open_source(source) as stream:
            values = _read_values(stream, max_pixels=max_pixels, bands=bands)
            if values is not None:
                return _load_values(values, value_range)
            loaded = _load(
                stream,
                max_pixels=max_pixels,
                enough=enough,
                with_oddities=with_oddities,
                value_range=value_range,
            )
            return loaded if bands is None else _take_bands(loaded, bands)
    except ImageError as error:
        if isinstance(source, bytes):
            raise
        raise ImageError(f"{_printable(str(source))}: {error.message}", error.hint) from error


def load_16_bit_values(
    source: Path | bytes, *, max_pixels: int, bands: tuple[int, ...] | None = None
) -> npt.NDArray[np.uint16] | None:
    """Read the values of an image of 16 bits as they are in the file, not turned upright.

    Args:
        source: A file, or a file's content.
        max_pixels: Refuse larger images before decoding them.
        bands: As in `InputSpec`.

    Returns:
        uint16 [H, W], or [H, W, 3] for colors; None if the image has another depth.

    Raises:
        ImageError: The content is not an image, damaged, or larger than `max_pixels`.
    """
    _quiet_pillow()
    with _open_source(source) as stream:
        found = _read_values(stream, max_pixels=max_pixels, bands=bands)
        if found is not None:
            is_deep = found.values.dtype == np.uint16 and found.value_range is None
            return found.values.squeeze() if is_deep else None
        image, file_format = _open_image(stream)
        is_gray = image.mode.startswith("I;16") or (
            image.mode == "I" and file_format in {"PNG", "PPM"}
        )
        has_colors = _has_deep_colors(image)
        if image.width * image.height > max_pixels or not (is_gray or has_colors):
            return None
        try:
            image.load()
            if has_colors:
                colors = join_bytes(image, _read_low_bytes(stream, file_format))
                return colors if bands is None else colors[:, :, list(bands)]
        except (MemoryError, *_DAMAGE) as error:
            raise ImageError(_describe_damage(error, file_format, stream)) from error
        return np.ascontiguousarray(image).astype(np.uint16)


def _load(
    stream: BinaryIO,
    *,
    max_pixels: int,
    enough: _Enough | None,
    with_oddities: bool,
    value_range: tuple[float, float] | None,
) -> LoadedImage:
    image, file_format = _open_image(stream)
    mode, (width, height) = image.mode, image.size
    if width * height > max_pixels:
        raise ImageError(
            f"too many pixels: {width} x {height} = {width * height:,}, "
            f"the limit is {max_pixels:,}",
            "make the image smaller, or remove it",
        )
    try:
        oddities = [_describe_mode(image)] if with_oddities else []
        facts = NO_FACTS
        has_16_bits = _has_deep_colors(image)
        orientation, turn = 1, 1
        if isinstance(image, TiffImagePlugin.TiffImageFile):
            turn = image.tag_v2.get(ExifTags.Base.Orientation, 1)
            image.load()  # and turn upright, which Pillow does by itself with these
            box: _Box = (0, 0, *image.size)
        else:
            box = _draft(image, enough)
            image.load()
            orientation = turn = _find_orientation(image)
        upright, deep = convert_to_8_bit(image, value_range)
        if has_16_bits:
            upright, dark = _deepen(upright, image, stream, file_format, value_range)
            deep = dark if with_oddities else []
        upright, box = _turn(upright, box, orientation)
        if with_oddities and _is_transparent(upright):
            deep = [*deep, "transparent pixels, blended with the background"]
        if with_oddities:
            frames = _describe_frames(image, file_format, stream)
            oddities += [*deep, _TURNS.get(turn, ""), frames]
            camera, taken = _read_exif(image)
            facts = FileFacts(_TURNS.get(turn, ""), camera, _estimate_quality(image), taken)
    except MemoryError as error:
        raise ImageError(f"not enough memory to decode {width} x {height} pixels") from error
    except _DAMAGE as error:
        raise ImageError(_describe_damage(error, file_format, stream)) from error
    if orientation in _SIDEWAYS:
        width, height = height, width
    return LoadedImage(
        image=upright,
        box=box,
        width=width,
        height=height,
        mode=mode,
        format=file_format,
        oddities=tuple(filter(None, oddities)),
        facts=facts,
    )


@dataclass(frozen=True, slots=True)
class _Values:
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


def _read_values(
    stream: BinaryIO, *, max_pixels: int, bands: tuple[int, ...] | None
) -> _Values | None:
    """Read a DICOM, or a TIFF of channels that Pillow does not open; None for other files."""
    stream.seek(0)
    head = stream.read(HEAD_BYTES)
    stream.seek(0)
    if find_extra_format(head) == "DICOM":
        found = read_dicom(stream, max_pixels=max_pixels)
        values = found.values if found.values.ndim == 3 else found.values[:, :, None]
        if bands is not None:
            values = values[:, :, _check_bands(bands, values.shape[2])]
        return _Values(
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
            f"this kind of TIFF is not supported: {page.spoken()}; --channels of cnnclf import "
            "chooses one or three of them"
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
    return _Values(values, None, mode, "TIFF", oddities, orientation=page.orientation)


def _is_for_pillow(stream: BinaryIO) -> bool:
    """Return whether Pillow opens a TIFF, or it is not known what else to do with it."""
    stream.seek(0)
    try:
        image = TiffImagePlugin.TiffImageFile(stream, "")
        if image.mode == "L" and 2 in image.tag_v2.get(_SAMPLE_FORMAT, ()):
            return False  # signed, of which Pillow makes unsigned ones
    except _DAMAGE:
        try:
            read_page(stream)
        except ImageError:
            return True  # which then says what is wrong
        return False
    return True


def _load_values(found: _Values, value_range: tuple[float, float] | None) -> LoadedImage:
    values, oddities = found.values, list(found.oddities)
    value_range = value_range or found.value_range
    if values.dtype == np.uint8 and found.value_range is None:
        pixels = values
    elif values.dtype == np.uint16 and found.value_range is None:
        oddities += describe_peak(int(values.max()))
        pixels = scale_values(values, value_range or (0, 65_535))
    elif value_range is not None:
        pixels = scale_values(values, value_range)
    else:
        pixels, note = scale_to_extremes(values)
        oddities.append(note)
    pixels = 255 - pixels if found.is_inverted else pixels
    flat = pixels[:, :, 0] if pixels.shape[2] == 1 else pixels
    image, box = _turn(
        Image.fromarray(np.ascontiguousarray(flat)),
        (0, 0, values.shape[1], values.shape[0]),
        found.orientation,
    )
    return LoadedImage(
        image=image,
        box=box,
        width=image.width,
        height=image.height,
        mode=found.mode,
        format=found.format,
        oddities=tuple(filter(None, [*oddities, _TURNS.get(found.orientation, "")])),
    )


def _take_bands(loaded: LoadedImage, bands: tuple[int, ...]) -> LoadedImage:
    """Keep some channels of an image that Pillow opened."""
    values = np.asarray(loaded.image)
    values = values if values.ndim == 3 else values[:, :, None]
    chosen = values[:, :, _check_bands(bands, values.shape[2])]
    image = Image.fromarray(np.ascontiguousarray(chosen[:, :, 0] if len(bands) == 1 else chosen))
    return replace(loaded, image=image, mode=image.mode)


def _check_bands(bands: tuple[int, ...], count: int) -> list[int]:
    if max(bands) >= count:
        raise ImageError(f"channel {max(bands)} does not exist: there are {count}, from 0")
    return list(bands)


def _has_deep_colors(image: ImageFile.ImageFile) -> bool:
    """Return whether a file, of which only the header is parsed, has colors of 16 bits."""
    return image.mode in {"RGB", "RGBA"} and any(";16" in str(tile.args) for tile in image.tile)


def _read_low_bytes(stream: BinaryIO, file_format: str) -> Image.Image:
    """Decode a file again, with the low bytes of its colors as values."""
    stream.seek(0)
    image: ImageFile.ImageFile = Image.OPEN[file_format][0](stream, "")
    image.tile = [tile._replace(args=take_other_byte(tile.args)) for tile in image.tile]
    image.load()
    return image


def _deepen(
    upright: Image.Image,
    image: ImageFile.ImageFile,
    stream: BinaryIO,
    file_format: str,
    value_range: tuple[float, float] | None,
) -> tuple[Image.Image, list[str]]:
    """Use all 16 bits of colors for a range, and say whether they use few of their 16 bits."""
    dark = int(np.asarray(image)[:, :, :3].max()) < _FEW_HIGH_BITS
    if value_range is None and not dark:
        return upright, []
    values = join_bytes(image, _read_low_bytes(stream, file_format))
    oddities = describe_peak(int(values.max()))[1:]
    if value_range is None:
        return upright, oddities
    colors = Image.fromarray(scale_values(values, value_range))
    if upright.mode == "RGBA":
        colors.putalpha(upright.getchannel("A"))
    return colors, oddities


def _load_plugins() -> None:
    """Register the plugins of `FORMATS`; Pillow itself would load all its plugins at a miss."""
    for plugin, _ in FORMATS.values():
        # Pillow supports AVIF from 11.3 on; an older one reads everything else.
        with contextlib.suppress(ModuleNotFoundError):
            importlib.import_module(f"PIL.{plugin}")


_load_plugins()
for _library in ("PIL", "pydicom"):  # what they log is raised, too, or of no consequence
    logging.getLogger(_library).addHandler(logging.NullHandler())


def _quiet_pillow() -> None:
    """Keep Pillow's warnings (odd EXIF, palettes) off the screen: what matters becomes a note.

    `warnings.catch_warnings` is not thread-safe before Python 3.14, so one entry is added to the
    process's filter list, and added again if other code has cleared the list.
    """
    if _PILLOW_FILTER not in warnings.filters:
        warnings.filterwarnings("ignore", module=_PILLOW_FILTER[3].pattern)


_PILLOW_FILTER = ("ignore", None, Warning, re.compile(r"(PIL|pydicom|pillow_heif)\."), 0)


@contextlib.contextmanager
def _open_source(source: Path | bytes) -> Iterator[BinaryIO]:
    if isinstance(source, bytes):
        yield io.BytesIO(source)
        return
    try:
        stream = _open_file(source)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ImageError(f"the file cannot be read: {reason}") from error
    except ValueError as error:  # a NUL in the path
        raise ImageError(f"not a valid file name: {error}") from error
    with stream:
        yield stream


def _open_file(path: Path) -> BinaryIO:
    if find_slice(path):
        return io.BytesIO(read_bytes(path, max_bytes=MAX_IMAGE_BYTES))
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):  # a pipe would block forever
        kind = "a directory" if stat.S_ISDIR(status.st_mode) else "a pipe or device"
        raise ImageError(f"not an image file but {kind}")
    stream = path.open("rb")
    if status.st_size <= _ALL_AT_ONCE_BYTES:
        with stream:
            return io.BytesIO(stream.read())
    return stream


def _open_image(stream: BinaryIO) -> tuple[ImageFile.ImageFile, str]:
    """Recognize the format by content and parse the header.

    Does what Image.open does, but tries a short list of formats and skips Pillow's check of the
    size, whose limit and warnings are settings of the whole process.
    """
    head = stream.read(HEAD_BYTES)
    content, hint = describe_content(head)
    if find_extra_format(head) == "HEIF":
        return _open_heif(stream), "HEIF"
    for file_format in FORMATS if not content else ():
        factory, accept = Image.OPEN.get(file_format, (None, None))
        accepted = accept is not None and accept(head[:16])
        if (
            factory is None or accepted is not True
        ):  # a str: this Pillow was built without the library
            continue
        stream.seek(0)
        try:
            image = factory(stream, "")
        except _DAMAGE as error:
            raise ImageError(_describe_damage(error, file_format, stream)) from error
        if image.width < 1 or image.height < 1:
            raise ImageError("the image has no pixels")
        return image, file_format
    content = content or _describe_unknown(head[:8])
    hint = hint or f"supported formats are {', '.join(FORMATS)}"
    raise ImageError(f"not a supported image: {content}", hint)


def _open_heif(stream: BinaryIO) -> ImageFile.ImageFile:
    """Open a HEIC image; the optional package turns it upright."""
    if importlib.util.find_spec("pillow_heif") is None:
        raise ImageError(
            f"a HEIC image needs pillow-heif: {suggest_install('pillow_heif')}",
            "or convert it to JPEG or PNG",
        )
    from pillow_heif import HeifImageFile

    stream.seek(0)
    try:
        image: ImageFile.ImageFile = HeifImageFile(stream, "")
    except _DAMAGE as error:
        raise ImageError(_describe_damage(error, "HEIF", stream)) from error
    return image


def _draft(image: ImageFile.ImageFile, enough: _Enough | None) -> _Box:
    """Let libjpeg decode at 1/2, 1/4 or 1/8 if `enough` pixels remain; return the filled box."""
    if enough is not None and isinstance(image, JpegImagePlugin.JpegImageFile):
        width, height = image.size
        sideways = _find_orientation(image) in _SIDEWAYS  # a JPEG's EXIF comes before its pixels
        drafted = image.draft(
            None, enough(height, width)[::-1] if sideways else enough(*image.size)
        )
        if drafted is not None:
            return drafted[1]
    return 0, 0, image.width, image.height


def _is_transparent(image: Image.Image) -> bool:
    return image.mode == "RGBA" and image.getchannel("A").getextrema() != (255, 255)


def _find_orientation(image: ImageFile.ImageFile) -> int:
    """Read the orientation, 1 if none; after loading, as a PNG may store it after the pixels."""
    sources = ("exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif")
    if not any(name in image.info for name in sources):
        return 1
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except _DAMAGE:
        return 1  # the pixels are intact: damaged metadata is no reason to lose the image
    return orientation if isinstance(orientation, int) and orientation in _TRANSPOSES else 1


def _read_exif(image: ImageFile.ImageFile) -> tuple[str, str]:
    """Read the camera and the time that the image was taken; "" for unknown."""
    if "exif" not in image.info:
        return "", ""
    try:
        exif = image.getexif()
        words = [str(exif.get(tag, "")) for tag in (ExifTags.Base.Make, ExifTags.Base.Model)]
        taken = exif.get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.DateTimeOriginal, "")
    except _DAMAGE:
        return "", ""
    camera = " ".join(_printable(word.strip("\0 "))[:_MAX_CAMERA] for word in words).strip()
    return camera, _printable(str(taken or exif.get(ExifTags.Base.DateTime, "")))[:_MAX_CAMERA]


def _estimate_quality(image: ImageFile.ImageFile) -> int | None:
    """Invert how libjpeg scales its table of luminance by the quality."""
    table = getattr(image, "quantization", None)
    if not isinstance(image, JpegImagePlugin.JpegImageFile) or not table:
        return None
    percent: float = 100 * sum(next(iter(table.values()))) / _LUMINANCE_SUM
    return max(1, round((200 - percent) / 2 if percent <= 100 else 5000 / percent))


def _turn(image: Image.Image, box: _Box, orientation: int) -> tuple[Image.Image, _Box]:
    """Turn an image upright, and the box that the file fills."""
    if orientation not in _TRANSPOSES:
        return image, box
    image = image.transpose(_TRANSPOSES[orientation])
    left, upper, right, lower = box
    if orientation in _SIDEWAYS:
        left, upper, right, lower = upper, left, lower, right
    if orientation in _COLUMNS_REVERSED:
        left, right = image.width - right, image.width - left
    if orientation in _ROWS_REVERSED:
        upper, lower = image.height - lower, image.height - upper
    return image, (left, upper, right, lower)


def _describe_mode(image: ImageFile.ImageFile) -> str:
    """Name unusual colors of a file of which only the header is parsed; "" if there are none."""
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        count, used = image.tag_v2.get(_SAMPLES_PER_PIXEL, 1), len(image.getbands())
        if image.mode != "P" and count > used:
            oddity = (
                f"first {used} of {count} channels" if used > 1 else f"first of {count} channels"
            )
            return f"{oddity}; 16-bit" if _has_deep_colors(image) else oddity
    if image.mode.startswith("I") or image.mode == "F":
        return ""  # convert_to_8_bit knows more
    if image.mode not in _ORDINARY_MODES:
        return image.mode
    return "16-bit" if any(";16" in str(tile.args) for tile in image.tile) else ""


def _describe_frames(image: ImageFile.ImageFile, file_format: str, stream: BinaryIO) -> str:
    """Say that only the first of several frames or pages is read; "" if there is only one."""
    if image.format == "MPO":  # a photograph with its preview or depth map: one image to a user
        return ""
    word = "pages" if file_format == "TIFF" else "frames"
    count = getattr(image, "n_frames", 1) if file_format in {"PNG", "WEBP", "AVIF"} else 1
    if file_format in {"GIF", "TIFF"}:
        # Counting walks through the file: a second reader keeps the first frame intact.
        stream.seek(0)
        try:
            count = getattr(Image.OPEN[file_format][0](stream, ""), "n_frames", 1)
        except _DAMAGE:
            return f"first of several {word}, later ones damaged"
    if count < 2:
        return ""
    return f"first of {count} pages" if word == "pages" else f"animated, first of {count} frames"


def _describe_damage(error: BaseException, file_format: str, stream: BinaryIO) -> str:
    """Put an error of Pillow into words: how much is missing, or what is wrong."""
    reason = _printable(str(error)) or type(error).__name__
    if isinstance(error, Image.DecompressionBombError):
        return f"the {file_format} is too large to decode: {reason}"
    if "truncated" in reason.lower():
        size = stream.seek(0, io.SEEK_END)
        return f"the {file_format} is truncated after {size:,} bytes"
    if unsupported := _find_unsupported(error, reason, file_format, stream):
        return f"this kind of {file_format} is not supported: {unsupported}"
    if "b'" in reason or 'b"' in reason:  # quotes the file, which may be any text
        reason = "its header is not valid"
    return f"the {file_format} is damaged: {reason}"


def _find_unsupported(error: BaseException, reason: str, file_format: str, stream: BinaryIO) -> str:
    """Say what Pillow does not support about an intact file; "" if the file may be damaged."""
    if file_format == "TIFF" and ("unknown pixel mode" in reason or "samples per pixel" in reason):
        return _describe_channels(stream) or reason
    if _UNSUPPORTED.search(reason):
        return reason
    is_number = isinstance(error.__cause__ or error, KeyError) and reason.isdecimal()
    if is_number and file_format == "TIFF":
        return f"compression {reason}"
    if file_format == "JPEG" and "broken data stream" in reason:
        stream.seek(0)
        frame = _JPEG_FRAME.search(stream.read(_JPEG_HEADER_BYTES))
        if frame is not None and frame[1][0] not in _JPEG_DECODED:
            return "lossless or hierarchical compression"
    return ""


def _describe_channels(stream: BinaryIO) -> str:
    """Say how many channels of how many bits the first page of a TIFF has; "" if it does not."""
    stream.seek(0)
    try:
        tags = TiffImagePlugin.ImageFileDirectory_v2(stream.read(8))
        stream.seek(tags.next)
        tags.load(stream)
        channels = int(tags.get(_SAMPLES_PER_PIXEL, 1))
        bits = max(tags.get(_BITS_PER_SAMPLE, (1,)))
        is_float = max(tags.get(_SAMPLE_FORMAT, (1,))) == _IS_FLOAT
    except _DAMAGE:
        return ""
    kind = "floating point" if is_float else f"{bits} bits"
    word = "channel" if channels == 1 else "channels"
    return f"{channels} {word} of {kind}; save 1 or 3 of them, as 8 or 16 bits"


def _describe_unknown(start: bytes) -> str:
    """Show how content of an unknown format begins, unless that is text."""
    letters = sum(0x20 <= byte < 0x7F for byte in start)
    if start.startswith(_TEXT_MARKS):
        return "text"
    if letters >= len(start) / 2:
        return "unknown content"
    return f"unknown content that begins {start.hex(' ')}"


def _printable(text: str) -> str:
    """Escape line breaks and bytes that are not UTF-8, so that a message stays on one line."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text
    )
