"""What is said of an image file: its colors, its frames, and what is wrong with it."""

import io
import re
import struct
import zlib
from typing import BinaryIO

from PIL import Image, ImageFile, TiffImagePlugin

_ORDINARY_MODES = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA"})
# What Pillow's plugins raise on damaged content (found by reading them and by mutating files).
DAMAGE = (
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
_SAMPLES_PER_PIXEL, _BITS_PER_SAMPLE, SAMPLE_FORMAT, _IS_FLOAT = 277, 258, 339, 3
_TEXT_MARKS = (b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf")  # UTF-16 and UTF-8


def has_deep_colors(image: ImageFile.ImageFile) -> bool:
    """Return whether a file, of which only the header is parsed, has colors of 16 bits."""
    return image.mode in {"RGB", "RGBA"} and any(";16" in str(tile.args) for tile in image.tile)


def describe_mode(image: ImageFile.ImageFile) -> str:
    """Name unusual colors of a file of which only the header is parsed; "" if there are none."""
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        count, used = image.tag_v2.get(_SAMPLES_PER_PIXEL, 1), len(image.getbands())
        if image.mode != "P" and count > used:
            oddity = (
                f"first {used} of {count} channels" if used > 1 else f"first of {count} channels"
            )
            return f"{oddity}; 16-bit" if has_deep_colors(image) else oddity
    if image.mode.startswith("I") or image.mode == "F":
        return ""  # convert_to_8_bit knows more
    if image.mode not in _ORDINARY_MODES:
        return image.mode
    return "16-bit" if any(";16" in str(tile.args) for tile in image.tile) else ""


def describe_frames(image: ImageFile.ImageFile, file_format: str, *, stream: BinaryIO) -> str:
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
        except DAMAGE:
            return f"first of several {word}, later ones damaged"
    if count < 2:
        return ""
    return f"first of {count} pages" if word == "pages" else f"animated, first of {count} frames"


def describe_damage(error: BaseException, file_format: str, *, stream: BinaryIO) -> str:
    """Put an error of Pillow into words: how much is missing, or what is wrong."""
    reason = printable(str(error)) or type(error).__name__
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
        is_float = max(tags.get(SAMPLE_FORMAT, (1,))) == _IS_FLOAT
    except DAMAGE:
        return ""
    kind = "floating point" if is_float else f"{bits} bits"
    word = "channel" if channels == 1 else "channels"
    return f"{channels} {word} of {kind}; save 1 or 3 of them, as 8 or 16 bits"


def describe_unknown(start: bytes) -> str:
    """Show how content of an unknown format begins, unless that is text."""
    letters = sum(0x20 <= byte < 0x7F for byte in start)
    if start.startswith(_TEXT_MARKS):
        return "text"
    if letters >= len(start) / 2:
        return "unknown content"
    return f"unknown content that begins {start.hex(' ')}"


def printable(text: str) -> str:
    """Escape line breaks and bytes that are not UTF-8, so that a message stays on one line."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text
    )
