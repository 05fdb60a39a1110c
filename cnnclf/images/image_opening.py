"""Opens a file with Pillow and parses its header; the pixels are decoded later."""

import contextlib
import importlib
import importlib.util
import io
import logging
import re
import stat
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from PIL import Image, ImageFile

from cnnclf.bounded import MAX_IMAGE_BYTES, find_slice, read_bytes
from cnnclf.errors import ImageError
from cnnclf.images.formats import FORMATS, HEAD_BYTES, describe_content, find_extra_format
from cnnclf.images.image_words import DAMAGE, describe_damage, describe_unknown
from cnnclf.packages import suggest_install

_ALL_AT_ONCE_BYTES = 1 << 25  # files up to 32 MiB are read in one go, larger ones as Pillow asks


def _load_plugins() -> None:
    """Register the plugins of `FORMATS`; Pillow itself would load all its plugins at a miss."""
    for plugin, _ in FORMATS.values():
        # Pillow supports AVIF from 11.3 on; an older one reads everything else.
        with contextlib.suppress(ModuleNotFoundError):
            importlib.import_module(f"PIL.{plugin}")


_load_plugins()
for _library in ("PIL", "pydicom"):  # what they log is raised, too, or of no consequence
    logging.getLogger(_library).addHandler(logging.NullHandler())


def quiet_pillow() -> None:
    """Keep Pillow's warnings (odd EXIF, palettes) off the screen: what matters becomes a note.

    `warnings.catch_warnings` is not thread-safe before Python 3.14, so one entry is added to the
    process's filter list, and added again if other code has cleared the list.
    """
    if _PILLOW_FILTER not in warnings.filters:
        warnings.filterwarnings("ignore", module=_PILLOW_FILTER[3].pattern)


_PILLOW_FILTER = ("ignore", None, Warning, re.compile(r"(PIL|pydicom|pillow_heif)\."), 0)


@contextlib.contextmanager
def open_source(source: Path | bytes) -> Iterator[BinaryIO]:
    """Open a file, or its content.

    Raises:
        ImageError: It is no file, or cannot be read.
    """
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


def open_image(stream: BinaryIO) -> tuple[ImageFile.ImageFile, str]:
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
        except DAMAGE as error:
            raise ImageError(describe_damage(error, file_format, stream=stream)) from error
        if image.width < 1 or image.height < 1:
            raise ImageError("the image has no pixels")
        return image, file_format
    content = content or describe_unknown(head[:8])
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
    except DAMAGE as error:
        raise ImageError(describe_damage(error, "HEIF", stream=stream)) from error
    return image
