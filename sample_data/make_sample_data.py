"""Draws the sample data: X's and O's as a hand would draw them, and one odd image of each kind.

    python sample_data/make_sample_data.py [DIR]

writes `x_or_o/` and `odd_images/` below DIR (default: the folder of this file). Everything follows
from a seed, so that the same versions of Python and Pillow write the same bytes. Pillow and the
standard library are all it needs.
"""

import argparse
import io
import itertools
import math
import random
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import ExifTags, Image, ImageDraw

SEED = 20_240_229
LABELS = ("o", "x")
IMAGES_PER_LABEL = 150
SIDE = 64
QUALITY = 85  # of the JPEGs

_SCALE = 4  # strokes are drawn so many times larger and averaged down, for smooth edges
_TAU = 2 * math.pi

Point = tuple[float, float]
Color = tuple[int, int, int]


def main() -> None:
    """Write the sample data."""
    parser = argparse.ArgumentParser(description="Draw the sample data.")
    parser.add_argument("directory", nargs="?", type=Path, default=Path(__file__).parent)
    directory = parser.parse_args().directory
    write_marks(directory / "x_or_o")
    write_odd_images(directory / "odd_images")
    print(f"wrote {directory / 'x_or_o'} and {directory / 'odd_images'}")


def write_marks(directory: Path) -> None:
    """Write the class folders `o/` and `x/`."""
    for label in LABELS:
        (directory / label).mkdir(parents=True, exist_ok=True)
        for index in range(IMAGES_PER_LABEL):
            path = directory / label / f"{label}{index:03}.jpg"
            draw_mark(label, index).save(path, quality=QUALITY)


def draw_mark(label: str, index: int) -> Image.Image:
    """Draw one X or O, RGB of 64x64; the same for the same label and index."""
    rng = random.Random(f"{SEED} {label} {index}")
    hand = _Hand.pick(rng)
    image, ink, strokes = _draw_parts(rng, hand, label)
    image.paste(ink, mask=strokes)
    return _add_noise(rng, image, hand.noise)


def draw_stroke_mask(label: str, index: int) -> Image.Image:
    """Draw where the strokes of an X or O are: gray levels of 64x64, 255 in a stroke."""
    rng = random.Random(f"{SEED} {label} {index}")
    return _draw_parts(rng, _Hand.pick(rng), label)[2]


def _draw_parts(
    rng: random.Random, hand: "_Hand", label: str
) -> tuple[Image.Image, Image.Image, Image.Image]:
    """Draw paper, ink and the mask of the strokes."""
    strokes = _draw_x(rng, hand) if label == "x" else _draw_o(rng, hand)
    paper = _draw_paper(rng, hand.paper)
    ink = _draw_paper(rng, hand.ink, strength=0.5)
    return paper, ink, _draw_strokes(rng, hand, strokes)


@dataclass(frozen=True)
class _Hand:
    """How one mark is drawn; lengths are fractions of the side of the image.

    Args:
        center: Middle of the mark.
        radius: Half the size of the mark.
        angle: Rotation in radians.
        aspect: Width by height before the rotation.
        weight: Width of the stroke.
        wobble: How far the line deviates, as a fraction of the radius.
        paper: Mean color around the mark.
        ink: Mean color of the mark.
        noise: Levels by which single pixels deviate.
    """

    center: Point
    radius: float
    angle: float
    aspect: float
    weight: float
    wobble: float
    paper: Color
    ink: Color
    noise: int

    @classmethod
    def pick(cls, rng: random.Random) -> "_Hand":
        radius = rng.uniform(0.22, 0.40)
        room = 0.5 - radius
        paper, ink = _pick_colors(rng)
        return cls(
            center=(0.5 + rng.uniform(-room, room), 0.5 + rng.uniform(-room, room)),
            radius=radius,
            angle=rng.uniform(0, _TAU),
            aspect=rng.uniform(0.75, 1.0),
            weight=rng.uniform(0.05, 0.10),
            wobble=rng.uniform(0.02, 0.08),
            paper=paper,
            ink=ink,
            noise=rng.randrange(3, 13),
        )


def _pick_colors(rng: random.Random) -> tuple[Color, Color]:
    """Pick a light and a dark color; in some images the mark is the lighter one."""
    light, dark = rng.randrange(170, 226), rng.randrange(30, 86)
    if rng.random() < 0.5:
        light, dark = dark, light
    return _tint(rng, light), _tint(rng, dark)


def _tint(rng: random.Random, level: int) -> Color:
    red, green, blue = (level + rng.randrange(-30, 31) for _ in range(3))
    return red, green, blue


def _draw_x(rng: random.Random, hand: _Hand) -> list[list[Point]]:
    """Two lines that cross near the middle, not quite at a right angle and often unequal."""
    tilt = rng.uniform(-0.3, 0.3)
    strokes = []
    for direction in (math.pi / 4 + tilt, 3 * math.pi / 4 - rng.uniform(-0.3, 0.3)):
        reach = [hand.radius * rng.uniform(0.9, 1.2) for _ in range(2)]
        shift = hand.radius * rng.uniform(-0.15, 0.15)
        bend = hand.radius * rng.uniform(-0.25, 0.25)
        along, across = (
            (math.cos(direction), math.sin(direction)),
            (
                -math.sin(direction),
                math.cos(direction),
            ),
        )
        line = []
        for step in range(41):
            part = step / 40
            away = -reach[0] + part * (reach[0] + reach[1])
            aside = shift + bend * math.sin(math.pi * part)
            line.append((away * along[0] + aside * across[0], away * along[1] + aside * across[1]))
        strokes.append(line)
    return [_place(rng, hand, line) for line in strokes]


def _draw_o(rng: random.Random, hand: _Hand) -> list[list[Point]]:
    """A loop that does not quite close, or overshoots, and is not evenly round."""
    start = rng.uniform(0, _TAU)
    turn = _TAU + rng.uniform(-1.1, 0.5)
    drift = rng.uniform(-0.15, 0.15)
    line = []
    for step in range(91):
        part = step / 90
        angle = start + turn * part
        radius = hand.radius * (1 + drift * (part - 0.5))
        line.append((radius * math.cos(angle), radius * math.sin(angle)))
    return [_place(rng, hand, line)]


def _place(rng: random.Random, hand: _Hand, line: list[Point]) -> list[Point]:
    """Squeeze, wobble, rotate and move a line drawn around 0, 0."""
    waves = [
        (rng.uniform(0.5, 1) * hand.wobble * hand.radius / (1 + order), rng.uniform(0, _TAU), order)
        for order in (1, 2, 3, 5)
    ]
    turn = math.cos(hand.angle), math.sin(hand.angle)
    placed = []
    for step, (x, y) in enumerate(line):
        part = step / (len(line) - 1)
        strays = [size * math.sin(_TAU * order * part + phase) for size, phase, order in waves]
        across, along = (x + sum(strays[::2])) * hand.aspect, y + sum(strays[1::2])
        placed.append(
            (
                hand.center[0] + across * turn[0] - along * turn[1],
                hand.center[1] + across * turn[1] + along * turn[0],
            )
        )
    return placed


def _draw_strokes(rng: random.Random, hand: _Hand, strokes: list[list[Point]]) -> Image.Image:
    """Draw lines as a mask, 255 for ink: pressure varies, and the pen lifts occasionally."""
    size = SIDE * _SCALE
    mask = Image.new("L", (size, size))
    draw = ImageDraw.Draw(mask)
    for line in strokes:
        pressure, phase = rng.uniform(0, 0.35), rng.uniform(0, _TAU)
        gap = rng.uniform(0.1, 0.9) if rng.random() < 0.3 else 2.0
        gap_width = rng.uniform(0.02, 0.05)
        for part, (x, y) in _walk(line):
            if abs(part - gap) < gap_width:
                continue
            radius = hand.weight * size / 2 * (1 + pressure * math.sin(_TAU * part + phase))
            left, upper = x * size - radius, y * size - radius
            draw.ellipse((left, upper, left + 2 * radius, upper + 2 * radius), fill=255)
    return mask.resize((SIDE, SIDE), Image.Resampling.BOX)


def _walk(line: list[Point]) -> Iterator[tuple[float, Point]]:
    """Follow a line in small steps; yield the fraction of its length and the point."""
    fine = 4
    for index, (first, second) in enumerate(itertools.pairwise(line)):
        for step in range(fine):
            part = step / fine
            yield (
                (index + part) / (len(line) - 1),
                (
                    first[0] + part * (second[0] - first[0]),
                    first[1] + part * (second[1] - first[1]),
                ),
            )


def _draw_paper(rng: random.Random, color: Color, *, strength: float = 1.0) -> Image.Image:
    """Draw a surface: a gradient of light, blotches, and sometimes ruled lines."""
    image = Image.new("RGB", (SIDE, SIDE), color)
    light = [rng.uniform(-25, 25) * strength for _ in range(4)]
    corners = Image.new("RGB", (2, 2))
    for place, change in zip(((0, 0), (1, 0), (0, 1), (1, 1)), light, strict=True):
        corners.putpixel(place, _brighten(color, change))
    image = corners.resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    cells = rng.choice((5, 8, 12))
    gray = Image.frombytes("L", (cells, cells), rng.randbytes(cells * cells))
    blotches = gray.resize((SIDE, SIDE), Image.Resampling.BICUBIC).convert("RGB")
    image = Image.blend(image, blotches, rng.uniform(0.02, 0.10) * strength)
    if strength == 1 and rng.random() < 0.2:
        _rule(rng, image, color)
    return image


def _rule(rng: random.Random, image: Image.Image, color: Color) -> None:
    """Rule a paper with thin lines, along or across."""
    draw = ImageDraw.Draw(image)
    line = _brighten(color, rng.choice((-1, 1)) * rng.uniform(12, 30))
    along = rng.random() < 0.5
    for place in range(rng.randrange(12), SIDE, rng.randrange(8, 16)):
        draw.line((0, place, SIDE, place) if along else (place, 0, place, SIDE), fill=line)


def _brighten(color: Color, change: float) -> Color:
    red, green, blue = (min(255, max(0, round(channel + change))) for channel in color)
    return red, green, blue


def _add_noise(rng: random.Random, image: Image.Image, levels: int) -> Image.Image:
    """Add grain of a triangular distribution to every pixel, the same in all three channels."""
    count = SIDE * SIDE
    first, second = rng.randbytes(count), rng.randbytes(count)
    grain = bytes((a + b) // 2 for a, b in zip(first, second, strict=True))
    noise = Image.frombytes("L", (SIDE, SIDE), grain).convert("RGB")
    return Image.blend(image, noise, levels / 128)


@dataclass(frozen=True)
class OddImage:
    """A file that is not an ordinary image, and how cnnclf handles it.

    Args:
        name: File name.
        what: What it is.
        encode: Returns its bytes.
        note: The note of the import about it; "" for none.
        error: Why it is refused; "" if it is read.
    """

    name: str
    what: str
    encode: Callable[[], bytes]
    note: str = ""
    error: str = ""


def write_odd_images(directory: Path) -> None:
    """Write one file of each kind, and a README.md that lists them."""
    directory.mkdir(parents=True, exist_ok=True)
    for odd in ODD_IMAGES:
        (directory / odd.name).write_bytes(odd.encode())
    (directory / "README.md").write_text(describe_odd_images(), encoding="utf-8")


def describe_odd_images() -> str:
    """Return the README.md of the odd images."""
    rows = [
        f"| `{odd.name}` | {odd.what} | "
        + (f"refused: {odd.error}" if odd.error else f"read; {odd.note or 'no note'}")
        + " |"
        for odd in ODD_IMAGES
    ]
    return "\n".join(
        (
            "# Odd images",
            "",
            "One small file of each kind that is found among ordinary images in real folders,",
            "drawn by `../make_sample_data.py`, which also writes this page; tests check every",
            "line of it. Refused files never stop an import or a prediction: they are counted,",
            "and listed with these reasons.",
            "",
            "| file | what it is | what cnnclf does |",
            "|---|---|---|",
            *rows,
            "",
        )
    )


def _encode(image: Image.Image, file_format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def _draw_example() -> Image.Image:
    return draw_mark("x", 2)


def _draw_cutout() -> Image.Image:
    """An O whose corners are transparent."""
    image = draw_mark("o", 7).convert("RGBA")
    mask = Image.new("L", image.size)
    ImageDraw.Draw(mask).ellipse((2, 2, SIDE - 3, SIDE - 3), fill=255)
    image.putalpha(mask)
    return image


def _encode_frames(file_format: str, **options: object) -> bytes:
    frames = [draw_mark("x", index) for index in range(3)]
    options |= {"save_all": True, "append_images": frames[1:], "duration": 200}
    return _encode(frames[0], file_format, **options)


def _encode_rotated() -> bytes:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    return _encode(_draw_example().rotate(90), "JPEG", exif=exif)


def _encode_16_bit_gray() -> bytes:
    rows = [[(x * y * 65_535) // (SIDE - 1) ** 2 for x in range(SIDE)] for y in range(SIDE)]
    return _encode_16_bit_png(SIDE, rows, color_type=0)


def _encode_16_bit_colors() -> bytes:
    rows = [
        [level * 65_535 // (SIDE - 1) for x in range(SIDE) for level in (x, y, SIDE - 1 - x)]
        for y in range(SIDE)
    ]
    return _encode_16_bit_png(SIDE, rows, color_type=2)


def _encode_16_bit_png(width: int, rows: list[list[int]], *, color_type: int) -> bytes:
    """Write a PNG of 16 bits by hand (ISO/IEC 15948): Pillow cannot write such colors."""
    pixels = b"".join(b"\0" + struct.pack(f">{len(row)}H", *row) for row in rows)
    header = struct.pack(">IIBBBBB", width, len(rows), 16, color_type, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(pixels, 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content))
        + name
        + content
        + struct.pack(">I", zlib.crc32(name + content))
        for name, content in chunks
    )


def encode_blank_fax(width: int, height: int) -> bytes:
    """Write a blank TIFF of one bit a pixel (TIFF 6.0, compression 4: ITU-T T.6).

    A row like the one above takes one bit, so that 30000 rows of 30000 pixels fit into 4 kB.
    """
    code = "1" * height + "000000000001" * 2
    code += "0" * (-len(code) % 8)
    strip = int(code, 2).to_bytes(len(code) // 8, "big")
    tags = (
        (256, 4, width),  # ImageWidth
        (257, 4, height),  # ImageLength
        (258, 3, 1),  # BitsPerSample
        (259, 3, 4),  # Compression: T.6
        (262, 3, 0),  # PhotometricInterpretation: 0 is white
        (273, 4, 8),  # StripOffsets
        (277, 3, 1),  # SamplesPerPixel
        (278, 4, height),  # RowsPerStrip
        (279, 4, len(strip)),  # StripByteCounts
    )
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    padding = b"\0" * (len(strip) % 2)
    directory = struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0)
    start = 8 + len(strip) + len(padding)
    return b"II*\0" + struct.pack("<I", start) + strip + padding + directory


_BLENDED = "transparent pixels, blended with the background"


def _encode_channels(channels: int, code: str, values: list[float], sample_format: int) -> bytes:
    """Write a TIFF of 16x16 pixels by hand: Pillow cannot write such channels."""
    pixels = struct.pack(f"<{len(values)}{code}", *values)
    size = struct.calcsize(code)
    tags = (
        (256, 4, 16),  # ImageWidth
        (257, 4, 16),  # ImageLength
        (258, 3, 8 * size),  # BitsPerSample, the same for all
        (259, 3, 1),  # Compression: none
        (262, 3, 1 if channels != 3 else 2),  # PhotometricInterpretation: gray or RGB
        (273, 4, 8),  # StripOffsets
        (277, 3, channels),  # SamplesPerPixel
        (278, 4, 16),  # RowsPerStrip
        (279, 4, len(pixels)),  # StripByteCounts
        (339, 3, sample_format),  # 1: unsigned, 3: floating point
    )
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    directory = struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0)
    return b"II*\0" + struct.pack("<I", 8 + len(pixels)) + pixels + directory


ODD_IMAGES = (
    OddImage(
        "empty.jpg",
        "an empty file",
        lambda: b"",
        error="not a supported image: an empty file (0 bytes)",
    ),
    OddImage(
        "zeros.png",
        "only zero bytes, as after a failed copy",
        lambda: bytes(2048),
        error="not a supported image: nothing but zero bytes",
    ),
    OddImage(
        "truncated.jpg",
        "a truncated JPEG",
        lambda: _encode(_draw_example(), "JPEG")[:1000],
        error="the JPEG is truncated after 1,000 bytes",
    ),
    OddImage(
        "text.jpg",
        "text with the name of an image",
        lambda: b"This is not an image.\n",
        error="not a supported image: text",
    ),
    OddImage(
        "page.png",
        "a web page with the name of an image, as after a failed download",
        lambda: b"<!DOCTYPE html><html><body>404 Not Found</body></html>\n",
        error="not a supported image: a web page",
    ),
    OddImage(
        "bomb.tiff",
        "a decompression bomb: 30000x30000 pixels in 4 kB",
        lambda: encode_blank_fax(30_000, 30_000),
        error="too many pixels: 30000 x 30000 = 900,000,000, the limit is 178,956,970",
    ),
    OddImage(
        "bmp_named.jpg",
        "a BMP with the name of a JPEG",
        lambda: _encode(_draw_example(), "BMP"),
        note="content is BMP, name says .jpg",
    ),
    OddImage(
        "rotated.jpg",
        "a JPEG that is upright only with its EXIF orientation (6)",
        _encode_rotated,
        note="rotated by EXIF",
    ),
    OddImage(
        "cmyk.jpg",
        "a CMYK JPEG, inverted in the way of Adobe programs",
        lambda: _encode(_draw_example().convert("CMYK"), "JPEG"),
        note="CMYK",
    ),
    OddImage(
        "animated.gif",
        "a GIF of three frames",
        lambda: _encode_frames("GIF"),
        note="animated, first of 3 frames",
    ),
    OddImage(
        "animated.webp",
        "a WebP of three frames",
        lambda: _encode_frames("WEBP", quality=80),
        note="animated, first of 3 frames",
    ),
    OddImage(
        "animated.png",
        "an animated PNG of three frames",
        lambda: _encode(
            draw_mark("x", 0).quantize(8),
            "PNG",
            save_all=True,
            append_images=[draw_mark("x", index).quantize(8) for index in (1, 2)],
        ),
        note="animated, first of 3 frames",
    ),
    OddImage(
        "pages.tiff",
        "a compressed TIFF of two pages",
        lambda: _encode(
            draw_mark("x", 0),
            "TIFF",
            compression="tiff_lzw",
            save_all=True,
            append_images=[draw_mark("x", 1).convert("1")],
        ),
        note="first of 2 pages",
    ),
    OddImage("16_bit_gray.png", "a 16-bit grayscale PNG", _encode_16_bit_gray, note="16-bit"),
    OddImage("16_bit_colors.png", "a 16-bit RGB PNG", _encode_16_bit_colors, note="16-bit"),
    OddImage(
        "floating_point.tiff",
        "a floating point TIFF with values from -1 to 1",
        lambda: _encode(
            Image.frombytes(
                "F", (16, 16), struct.pack("=256f", *(index / 127.5 - 1 for index in range(256)))
            ),
            "TIFF",
        ),
        note="floating point, scaled from -1..1",
    ),
    OddImage(
        "floating_point_colors.tiff",
        "a floating point RGB TIFF with values from 0 to 1",
        lambda: _encode_channels(3, "f", [index / 767 for index in range(768)], 3),
        note="floating point, scaled from 0..1",
    ),
    OddImage(
        "five_channels.tiff",
        "a TIFF of five channels, as of satellites and microscopes",
        lambda: _encode_channels(5, "B", [index % 256 for index in range(1280)], 1),
        error="this kind of TIFF is not supported: 5 channels of 8 bits, of which cnnclf "
        "import --channels chooses one or three, before training",
    ),
    OddImage(
        "palette_with_transparency.png",
        "a palette PNG with one transparent color",
        lambda: _encode(draw_mark("o", 7).quantize(16), "PNG", transparency=0),
        note=_BLENDED,
    ),
    OddImage(
        "transparent.png", "an RGBA PNG", lambda: _encode(_draw_cutout(), "PNG"), note=_BLENDED
    ),
    OddImage(
        "transparent_gray.png",
        "a grayscale PNG with an alpha channel",
        lambda: _encode(_draw_cutout().convert("LA"), "PNG"),
        note=_BLENDED,
    ),
    OddImage(
        "one_bit.png", "black and white", lambda: _encode(_draw_example().convert("1"), "PNG")
    ),
    OddImage(
        "one_pixel.png",
        "1x1 pixel",
        lambda: _encode(Image.new("RGB", (1, 1), (200, 40, 40)), "PNG"),
    ),
    OddImage(
        "very_wide.png",
        "20000x1 pixels",
        lambda: _encode(Image.linear_gradient("L").resize((20_000, 1)), "PNG"),
    ),
    OddImage(
        "ein Kätzchen 猫.png",
        "a file name with a space and non-ASCII characters",
        lambda: _encode(draw_mark("o", 3), "PNG"),
    ),
)


if __name__ == "__main__":
    main()
