"""The supported image formats, and names for content that is none of them."""

import re

# In the order in which they are tried: Pillow's plugin and the file name extensions of the format.
# Anything else is refused: Pillow's other plugins start programs (EPS), guess without a magic
# number (TGA) or read things that are not images (icons, fonts, weather grids).
FORMATS: dict[str, tuple[str, tuple[str, ...]]] = {
    "JPEG": ("JpegImagePlugin", (".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".mpo")),
    "PNG": ("PngImagePlugin", (".png", ".apng")),
    "WEBP": ("WebPImagePlugin", (".webp",)),
    "GIF": ("GifImagePlugin", (".gif",)),
    "BMP": ("BmpImagePlugin", (".bmp", ".dib")),
    "TIFF": ("TiffImagePlugin", (".tif", ".tiff")),
    "PPM": ("PpmImagePlugin", (".ppm", ".pgm", ".pbm", ".pnm", ".pfm")),
    "JPEG2000": ("Jpeg2KImagePlugin", (".jp2", ".j2k", ".jpx", ".jpf", ".j2c", ".jpc")),
    "AVIF": ("AvifImagePlugin", (".avif", ".avifs")),
}

# Formats that need a package of an extra of cnnclf: the module, and the extensions.
EXTRA_FORMATS: dict[str, tuple[str, tuple[str, ...]]] = {
    "HEIF": ("pillow_heif", (".heic", ".heif", ".hif")),
    "DICOM": ("pydicom", (".dcm", ".dicom")),
}

SUFFIXES = frozenset(
    suffix for _, each in (*FORMATS.values(), *EXTRA_FORMATS.values()) for suffix in each
)
"""The extensions of all formats, in lower case."""

# Raw photos are TIFF inside and decode to their thumbnail, which deserves a note.
_RAW_SUFFIXES = {".arw", ".cr2", ".cr3", ".dng", ".nef", ".orf", ".raf", ".rw2"}
_OTHER_SUFFIXES = _RAW_SUFFIXES | {".ico", ".psd", ".svg", ".tga"}

_FETCH_AGAIN = "the download or copy may have failed: fetch the file again"
_TO_PNG = "convert it to PNG first"
_FROM_RAW = "develop it to JPEG or TIFF first"
_FRAMES = "extract its frames first: ffmpeg -i VIDEO -r 1 frames/%05d.png"

# How videos begin, at which byte, what they are and what to do.
VIDEOS: tuple[tuple[bytes, int, str, str], ...] = (
    (b"ftypisom", 4, "a video (MP4)", _FRAMES),
    (b"ftypmp4", 4, "a video (MP4)", _FRAMES),
    (b"ftypqt", 4, "a video (QuickTime)", _FRAMES),
    (b"\x1aE\xdf\xa3", 0, "a video (Matroska)", _FRAMES),
    (b"AVI ", 8, "a video (AVI)", _FRAMES),
)

# The same for what often has the name of an image.
_CONTENTS: tuple[tuple[bytes, int, str, str], ...] = (
    (b"\xff\x0a", 0, "a JPEG XL image", "convert it to PNG first: djxl IMAGE.jxl IMAGE.png"),
    (b"JXL \r\n\x87\n", 4, "a JPEG XL image", "convert it to PNG first: djxl IMAGE.jxl IMAGE.png"),
    (b"ftypcrx", 4, "a raw photo (CR3)", _FROM_RAW),
    (b"FUJIFILMCCD-RAW", 0, "a raw photo (RAF)", _FROM_RAW),
    (b"IIRO", 0, "a raw photo (ORF)", _FROM_RAW),
    *VIDEOS,
    (b"\x93NUMPY", 0, "a NumPy array", "arrays are a dataset of their own, without images"),
    (b"WAVE", 8, "a sound", "sounds are a dataset of their own, without images"),
    (b"fLaC", 0, "a sound", "sounds are a dataset of their own, without images"),
    (b"OggS", 0, "a sound", "sounds are a dataset of their own, without images"),
    (b"%PDF", 0, "a PDF", "export its images first"),
    (b"PK\x03\x04", 0, "a zip archive", ""),
    (b"\x1f\x8b", 0, "gzip-compressed content", ""),
    (b"8BPS", 0, "a Photoshop file", _TO_PNG),
    (b"\x00\x00\x01\x00", 0, "an icon file", _TO_PNG),
    (b"<svg", 0, "an SVG drawing", _TO_PNG),
    (b"<!doctype html", 0, "a web page", _FETCH_AGAIN),
    (b"<html", 0, "a web page", _FETCH_AGAIN),
    (b"version https://git-lfs", 0, "a pointer of Git LFS", "fetch the real files: git lfs pull"),
)

_ORDINARY = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")
HEAD_BYTES = 144  # how much of a file `describe_content` needs


def describe_name(name: str, file_format: str) -> str:
    """Say that the extension belongs to another format than the content; "" if it does not."""
    suffix = name[name.rfind(".") :].lower()
    known = (FORMATS | EXTRA_FORMATS).get(file_format)
    if (known and suffix in known[1]) or suffix not in SUFFIXES | _OTHER_SUFFIXES:
        return ""
    return f"content is {file_format}, name says {suffix}"


def find_extra_format(head: bytes) -> str:
    """Return the key of `EXTRA_FORMATS` that content has; "" for none."""
    if head[128:132] == b"DICM":
        return "DICOM"
    # The main brand may be generic, and HEIC one of the others.
    size = min(int.from_bytes(head[:4], "big"), HEAD_BYTES)
    is_heif = head[4:8] == b"ftyp" and any(
        head[at : at + 4] in _HEIF_BRANDS for at in range(8, size, 4)
    )
    return "HEIF" if is_heif else ""


_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"}


def describe_content(head: bytes) -> tuple[str, str]:
    """Name content that is certainly not a supported image.

    Args:
        head: The first `HEAD_BYTES` of a file; fewer if it is shorter.

    Returns:
        What it is and what to do; ("", "") if it may be an image or is unknown.
    """
    if head.startswith(_ORDINARY):  # most files: the rest would take a tenth of their decoding
        return "", ""
    if not head:
        return "an empty file (0 bytes)", ""
    if not head.strip(b"\0"):
        return "nothing but zero bytes", _FETCH_AGAIN
    if b"<svg" in head[:HEAD_BYTES].lower() and head.lstrip().startswith(b"<?xml"):
        return "an SVG drawing", _TO_PNG
    for start, offset, content, hint in _CONTENTS:
        if head[offset : offset + len(start)].lower() == start.lower():
            return content, hint
    try:
        # a short file must be valid text; of a longer one the head may end inside a character
        text = head.decode("utf-8", "strict" if len(head) < HEAD_BYTES else "ignore")
    except UnicodeDecodeError:
        return "", ""
    is_text = all(c.isprintable() or c in "\t\n\r\f" for c in text)
    if is_text and len(text) > len(head) // 2 and not re.match(r"P[1-6fFy]\s", text):  # PPM is text
        return "text", ""  # and not which: reasons are stored in tables that others may read
    return "", ""
