"""Draws synthetic images for the benchmarks: seeded, with as much detail as photographs."""

import random
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image, ImageDraw, ImageFilter


def draw_jpegs(
    folder: Path, *, count: int, height: int, width: int, classes: int = 4, seed: int = 0
) -> None:
    """Draw `count` JPEGs into class folders, unless they are there already."""
    if sum(1 for _ in folder.rglob("*.jpg")) == count:
        return

    def draw(index: int) -> None:
        target = folder / f"class{index % classes}" / f"{index:06d}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        rng = random.Random(seed * 1_000_003 + index)
        draw_scene(rng, height, width, hue=index % classes).save(target, quality=88)

    with ThreadPoolExecutor() as pool:
        list(pool.map(draw, range(count)))


def draw_scene(rng: random.Random, height: int, width: int, *, hue: int) -> Image.Image:
    """Draw soft blobs, lines and grain, so that JPEGs are as large as those of photographs."""
    small = Image.frombytes("RGB", (16, 12), rng.randbytes(16 * 12 * 3))
    scene = small.resize((width, height), Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(scene)
    for _ in range(12):
        x, y, r = rng.randrange(width), rng.randrange(height), rng.randrange(10, width // 5)
        color = tuple(rng.randrange(256) for _ in range(3))
        shape = pen.ellipse if hue % 2 else pen.rectangle
        shape((x - r, y - r, x + r, y + r), outline=color, width=rng.randrange(2, 9))
    grain = Image.frombytes("L", (width // 2, height // 2), rng.randbytes(width * height // 4))
    grain = grain.resize((width, height)).filter(ImageFilter.GaussianBlur(1))
    return Image.blend(scene, Image.merge("RGB", [grain] * 3), 0.15)


def write_tiny_pngs(folder: Path, *, count: int, per_folder: int = 10_000) -> None:
    """Write `count` different 8x8 gray PNGs into class folders, as fast as the disk allows."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 0))
    end = chunk(b"IEND", b"")
    rng = random.Random(0)

    def write(part: int) -> None:
        target = folder / f"class{part % 10}" / f"part{part}"
        target.mkdir(parents=True, exist_ok=True)
        for index in range(part * per_folder, min(count, (part + 1) * per_folder)):
            noise = rng.randbytes(60) + struct.pack(">I", index)
            rows = b"".join(b"\0" + noise[row * 8 : row * 8 + 8] for row in range(8))
            (target / f"{index}.png").write_bytes(
                start + chunk(b"IDAT", zlib.compress(rows, 1)) + end
            )

    for part in range(-(-count // per_folder)):
        write(part)
