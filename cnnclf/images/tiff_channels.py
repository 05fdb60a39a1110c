"""Channels of TIFF files that Pillow does not open: two, four or more, and numbers of any type.

Pillow decodes the compression, which it can do for images of 8 bits in any file: the rows of
`channels` values of `size` bytes are given to it as gray rows of `width * channels * size` pixels.
"""

import io
import struct
from typing import Any, BinaryIO, Final, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import TiffImagePlugin

from cnnclf.errors import ImageError

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _STRIPS, _SAMPLES = 256, 257, 258, 259, 273, 277
_ROWS_PER_STRIP, _STRIP_SIZES, _PLANAR, _PREDICTOR, _ORIENTATION = 278, 279, 284, 317, 274
_TILE_WIDTH, _TILE_HEIGHT, _TILES, _TILE_SIZES, _FORMAT, _PHOTOMETRIC = 322, 323, 324, 325, 339, 262
_DIFFERENCES, _FLOAT_DIFFERENCES = 2, 3  # predictors of TIFF 6.0 and its supplement 3
_KINDS: Final = {1: "u", 2: "i", 3: "f"}  # of SampleFormat
_SIZES: Final = {"u": (1, 2, 4, 8), "i": (1, 2, 4, 8), "f": (2, 4, 8)}
# JPEG, WebP and those of facsimiles know what a pixel is.
_BYTE_COMPRESSIONS: Final = {1, 5, 8, 32773, 32946, 34925, 50000}
_MAX_CHANNELS: Final = 4096
_MAX_PAGES: Final = 4096
_MAX_BYTES: Final = 2 << 30  # of one page
_LONG: Final = 4
_BIG: Final = (b"+\0", b"\0+")  # BigTIFF


class TiffPage(NamedTuple):
    """What the first page of a TIFF holds.

    Args:
        width: Columns.
        height: Rows.
        channels: Values per pixel.
        dtype: Their type, in the byte order of the file.
        orientation: As in EXIF, 1 to 8.
        tags: All tags.
    """

    width: int
    height: int
    channels: int
    dtype: np.dtype[Any]
    orientation: int
    tags: Any

    def spoken(self) -> str:
        """Say how many channels of which kind there are."""
        word = "channel" if self.channels == 1 else "channels"
        kind, bits = self.dtype.kind, 8 * self.dtype.itemsize
        size = "floating point" if kind == "f" else f"{bits} bits"
        return f"{self.channels} {word} of {size}"


def check_bands(bands: tuple[int, ...], count: int) -> list[int]:
    """Refuse channels that an image does not have.

    Raises:
        ImageError: It has fewer.
    """
    if max(bands) >= count:
        raise ImageError(f"channel {max(bands)} does not exist: there are {count}, from 0")
    return list(bands)


def read_page(stream: BinaryIO) -> tuple[TiffPage, int]:
    """Read the tags of the first page, and how many pages there are.

    Raises:
        ImageError: They are damaged, or of a kind that is not read.
    """
    directories = _find_directories(stream)
    return _parse(directories[0]), len(directories)


def read_channels(stream: BinaryIO, channels: tuple[int, ...]) -> npt.NDArray[Any]:
    """Decode some channels: of the first page, or pages of one channel each.

    Args:
        stream: A TIFF.
        channels: Their numbers, from 0.

    Returns:
        [H, W, len(channels)] in the type of the file.

    Raises:
        ImageError: There are fewer channels, or the file is damaged or of a kind that is not read.
    """
    directories = _find_directories(stream)
    first = _parse(directories[0])
    count = first.channels if first.channels > 1 else len(directories)
    check_bands(channels, count)
    stream.seek(0)
    content = stream.read()
    if first.channels > 1:
        values = _decode(content, first, channels)
    else:
        pages = [_parse(directories[number]) for number in channels]
        if len({(page.width, page.height, page.dtype) for page in pages}) > 1:
            raise ImageError("its pages differ in size or type: they are not channels of one image")
        values = np.concatenate([_decode(content, page, (0,)) for page in pages], axis=2)
    return values.astype(first.dtype.newbyteorder("="), copy=False)


def _find_directories(stream: BinaryIO) -> list[Any]:
    """Return the tags of all pages."""
    stream.seek(0)
    head = stream.read(16)
    head = head if head[2:4] in _BIG else head[:8]
    found: list[Any] = []
    seen: set[int] = set()
    try:
        tags = TiffImagePlugin.ImageFileDirectory_v2(head)
        while tags.next and tags.next not in seen and len(found) < _MAX_PAGES:
            seen.add(tags.next)
            stream.seek(tags.next)
            following = TiffImagePlugin.ImageFileDirectory_v2(head)
            following.load(stream)
            found.append(following)
            tags = following
    except (OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, struct.error) as e:
        if not found:
            raise ImageError(f"the TIFF is damaged: {e}") from e
    if not found:
        raise ImageError("the TIFF is damaged: it has no pages")
    return found


def _parse(tags: Any) -> TiffPage:
    try:
        width, height = int(tags[_WIDTH]), int(tags[_HEIGHT])
        channels = int(tags.get(_SAMPLES, 1))
        bits, formats = set(tags.get(_BITS, (1,))), set(tags.get(_FORMAT, (1,)))
        compression, predictor = int(tags.get(_COMPRESSION, 1)), int(tags.get(_PREDICTOR, 1))
        orientation = int(tags.get(_ORIENTATION, 1))
    except (KeyError, TypeError, ValueError) as error:
        raise ImageError(f"the TIFF is damaged: tag {error} is missing or wrong") from error
    kind = _KINDS.get(formats.pop()) if len(formats) == 1 else None
    size = bits.pop() / 8 if len(bits) == 1 else 0
    if kind is None or size not in _SIZES[kind]:
        raise ImageError("this kind of TIFF is not supported: its channels are of unusual types")
    if compression not in _BYTE_COMPRESSIONS or predictor not in (1, 2, 3):
        raise ImageError(
            f"this kind of TIFF is not supported: {channels} channels with compression "
            f"{compression} and predictor {predictor}"
        )
    if min(width, height, channels) < 1 or channels > _MAX_CHANNELS:
        raise ImageError("the image has no pixels")
    if width * height * channels * size > _MAX_BYTES:
        raise ImageError(f"too many pixels: {width} x {height} of {channels} channels")
    dtype = np.dtype(f"{'<' if tags.prefix == b'II' else '>'}{kind}{int(size)}")
    return TiffPage(width, height, channels, dtype, orientation, tags)


def _decode(content: bytes, page: TiffPage, channels: tuple[int, ...]) -> npt.NDArray[Any]:
    """Decode channels of a page, [H, W, len(channels)]."""
    tags = page.tags
    is_planar = int(tags.get(_PLANAR, 1)) == 2 and page.channels > 1
    is_tiled = _TILES in tags
    places, sizes = (_TILES, _TILE_SIZES) if is_tiled else (_STRIPS, _STRIP_SIZES)
    offsets, lengths = tuple(tags.get(places, ())), tuple(tags.get(sizes, ()))
    if not is_planar:
        values = _decode_strips(content, page, page.channels, (offsets, lengths))
        return values[:, :, list(channels)]
    count = len(offsets) // page.channels
    parts = [slice(number * count, (number + 1) * count) for number in channels]
    planes = [_decode_strips(content, page, 1, (offsets[p], lengths[p])) for p in parts]
    return np.concatenate(planes, axis=2)


def _decode_strips(
    content: bytes, page: TiffPage, channels: int, strips: tuple[tuple[int, ...], tuple[int, ...]]
) -> npt.NDArray[Any]:
    """Decode strips or tiles of `channels` values per pixel, [H, W, channels]."""
    tags, unit = page.tags, channels * page.dtype.itemsize
    is_tiled = _TILES in tags
    across = int(tags[_TILE_WIDTH]) if is_tiled else page.width
    columns = -(-page.width // across) * across
    entries = {
        _WIDTH: [columns * unit],
        _HEIGHT: [page.height],
        _BITS: [8],
        _COMPRESSION: [int(tags.get(_COMPRESSION, 1))],
        _PHOTOMETRIC: [1],
        _SAMPLES: [1],
        _STRIPS: strips[0],
        _ROWS_PER_STRIP: [min(int(tags.get(_ROWS_PER_STRIP, page.height)), page.height)],
        _STRIP_SIZES: strips[1],
    }
    if is_tiled:
        for tag in (_STRIPS, _ROWS_PER_STRIP, _STRIP_SIZES):
            del entries[tag]
        entries |= {_TILE_WIDTH: [across * unit], _TILE_HEIGHT: [int(tags[_TILE_HEIGHT])]}
        entries |= {_TILES: strips[0], _TILE_SIZES: strips[1]}
    order = "<" if tags.prefix == b"II" else ">"
    try:
        image = TiffImagePlugin.TiffImageFile(io.BytesIO(_with_directory(content, entries, order)))
        image.load()
        raw = np.array(image).reshape(page.height, -1, across * unit)
    except (OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, struct.error) as e:
        raise ImageError(f"the TIFF is damaged: {e}") from e
    rows = _undo_predictor(raw, page.dtype, channels, int(tags.get(_PREDICTOR, 1)))
    return rows.reshape(page.height, columns, channels)[:, : page.width]


def _with_directory(content: bytes, entries: dict[int, Any], order: str) -> bytes:
    """Append a directory of tags to a TIFF and let its header point there; the data stay."""
    at = len(content) + len(content) % 2
    body, after = b"", at + 2 + 12 * len(entries) + 4
    lists = b""
    for tag, values in sorted(entries.items()):
        packed = struct.pack(f"{order}{len(values)}I", *values)
        if len(values) > 1:
            place = after + len(lists)
            lists += packed
            packed = struct.pack(f"{order}I", place)
        body += struct.pack(f"{order}HHI", tag, _LONG, len(values)) + packed
    mark = b"II*\0" if order == "<" else b"MM\0*"
    head = mark + struct.pack(f"{order}I", at)
    directory = struct.pack(f"{order}H", len(entries)) + body + bytes(4) + lists
    return b"".join((head, memoryview(content)[8:], bytes(at - len(content)), directory))


def _undo_predictor(
    raw: npt.NDArray[np.uint8], dtype: np.dtype[Any], channels: int, predictor: int
) -> npt.NDArray[Any]:
    """Turn the bytes of rows of strips or tiles, [H, n, bytes], into values [H, n, values]."""
    if predictor == _FLOAT_DIFFERENCES and dtype.kind == "f":
        # Bytes are stored by significance, and as differences between pixels.
        height, count = raw.shape[:2]
        sums = np.cumsum(raw.reshape(height, count, -1, channels), axis=2, dtype=np.uint8)
        planes = sums.reshape(height, count, dtype.itemsize, -1)
        return np.ascontiguousarray(planes.swapaxes(2, 3)).view(dtype.newbyteorder(">"))[..., 0]
    values = raw.view(dtype)
    if predictor == 1:
        return values
    if predictor == _FLOAT_DIFFERENCES or dtype.kind == "f":
        raise ImageError("this kind of TIFF is not supported: its predictor is of another type")
    pixels = values.reshape(*values.shape[:2], -1, channels)
    native = dtype.newbyteorder("=")
    return np.cumsum(pixels, axis=2, dtype=native).reshape(values.shape)
