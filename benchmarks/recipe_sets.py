"""Makes the data sets of A2 as pre-split folders: few photographs, few grayscale clothes, stars.

  stars    stars of 3 to 8 points with random position, size, rotation and colors: 60, 20 and
           80 of each for train, val and test
  shapes   rings, disks, squares, triangles, crosses and bars likewise: 60, 60 and 80 of each
  few      15, 6 and 60 images of each class of a folder of class folders, linked
  clothes  60, 20 and 60 images of each class of an IDX pair of files, such as Fashion-MNIST
Run from the root of the project:
    python -m benchmarks.recipe_sets OUT stars
    python -m benchmarks.recipe_sets OUT shapes
    python -m benchmarks.recipe_sets OUT few FOLDER
    python -m benchmarks.recipe_sets OUT clothes IDX-FOLDER
"""

import argparse
import gzip
import math
import random
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

SIDE = 160
SHAPES = ("ring", "disk", "square", "triangle", "cross", "bar")
SPLITS = ("train", "val", "test")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("kind", choices=("stars", "shapes", "few", "clothes"))
    parser.add_argument("source", type=Path, nargs="?")
    arguments = parser.parse_args()
    if arguments.kind == "stars":
        draw_stars(arguments.out / "stars")
    elif arguments.kind == "shapes":
        draw_shapes(arguments.out / "shapes")
    elif arguments.source is None:
        parser.error(f"{arguments.kind} needs a source")
    elif arguments.kind == "few":
        link_few(arguments.source.resolve(), arguments.out / f"{arguments.source.name}_few")
    else:
        take_clothes(arguments.source, arguments.out / "clothes_few")


def draw_stars(out: Path) -> None:
    for points in range(3, 9):
        for split, count in zip(SPLITS, (60, 20, 80), strict=True):
            folder = out / split / f"points{points}"
            folder.mkdir(parents=True)
            for index in range(count):
                star = draw_star(random.Random(f"{points}{split}{index}"), points)
                star.save(folder / f"{index}.jpg", quality=88)


def draw_shapes(out: Path) -> None:
    for name in SHAPES:
        for split, count in zip(SPLITS, (60, 60, 80), strict=True):
            folder = out / split / name
            folder.mkdir(parents=True)
            for index in range(count):
                shape = draw_shape(random.Random(f"{name}{split}{index}"), name)
                shape.save(folder / f"{index}.png")


def draw_shape(rng: random.Random, name: str) -> Image.Image:
    noise = Image.frombytes("RGB", (16, 16), rng.randbytes(768))
    image = noise.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    pen, color = ImageDraw.Draw(image), draw_color(rng)
    radius, width = rng.uniform(30, 55), rng.randrange(10, 18)
    x, y = rng.uniform(55, SIDE - 55), rng.uniform(55, SIDE - 55)
    box = (x - radius, y - radius, x + radius, y + radius)
    if name in {"ring", "disk"}:
        pen.ellipse(box, fill=color if name == "disk" else None, outline=color, width=width)
        return image
    turn = rng.uniform(0, 2 * math.pi)
    corners = {"triangle": 3, "square": 4}.get(name, 2)
    ends = [
        (x + radius * math.cos(angle), y + radius * math.sin(angle))
        for angle in (turn + 2 * math.pi * corner / corners for corner in range(corners))
    ]
    if corners > 2:
        pen.polygon(ends, fill=color)
        return image
    pen.line(ends, fill=color, width=width)
    if name == "cross":
        dx, dy = ends[0][0] - x, ends[0][1] - y
        pen.line([(x - dy, y + dx), (x + dy, y - dx)], fill=color, width=width)
    return image


def draw_star(rng: random.Random, points: int) -> Image.Image:
    noise = Image.frombytes("RGB", (8, 8), rng.randbytes(192))
    image = noise.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    image = image.filter(ImageFilter.GaussianBlur(2))
    pen = ImageDraw.Draw(image)
    for _ in range(6):
        ends = [rng.randrange(SIDE) for _ in range(4)]
        pen.line(ends, fill=draw_color(rng), width=2)
    outer, inner = rng.uniform(30, 60), rng.uniform(0.35, 0.7)
    x, y = (rng.uniform(outer, SIDE - outer) for _ in range(2))
    turn = rng.uniform(0, 6.3)
    corners = []
    for corner in range(2 * points):
        radius, angle = outer * (inner if corner % 2 else 1), turn + corner * math.pi / points
        corners.append((x + radius * math.cos(angle), y + radius * math.sin(angle)))
    color = draw_color(rng)
    if rng.random() < 0.5:
        pen.polygon(corners, fill=color)
    else:
        pen.line(corners + corners[:2], fill=color, width=rng.randrange(3, 7))
    return image


def draw_color(rng: random.Random) -> tuple[int, int, int]:
    return rng.randrange(256), rng.randrange(256), rng.randrange(256)


def link_few(source: Path, out: Path) -> None:
    rng = random.Random(5)
    for label in sorted(each for each in source.iterdir() if each.is_dir()):
        files = sorted(label.iterdir())
        rng.shuffle(files)
        for split, start, end in zip(SPLITS, (0, 15, 21), (15, 21, 81), strict=True):
            folder = out / split / label.name
            folder.mkdir(parents=True)
            for file in files[start:end]:
                (folder / file.name).symlink_to(file)


def take_clothes(source: Path, out: Path) -> None:
    rng = np.random.default_rng(0)
    parts = {
        part: (read_idx(source, f"{part}-images"), read_idx(source, f"{part}-labels"))
        for part in ("train", "t10k")
    }
    for label in range(10):
        chosen = {
            part: rng.permutation(np.flatnonzero(classes == label))
            for part, (_, classes) in parts.items()
        }
        for split, part, start, end in (
            ("train", "train", 0, 60),
            ("val", "train", 60, 80),
            ("test", "t10k", 0, 60),
        ):
            folder = out / split / f"class{label}"
            folder.mkdir(parents=True)
            for row in chosen[part][start:end].tolist():
                Image.fromarray(parts[part][0][row]).save(folder / f"{row}.png")


def read_idx(source: Path, name: str) -> npt.NDArray[np.uint8]:
    [file] = source.glob(f"{name}*.gz")
    content = gzip.decompress(file.read_bytes())
    rank = content[3]
    shape = [int.from_bytes(content[4 + 4 * axis : 8 + 4 * axis]) for axis in range(rank)]
    return np.frombuffer(content, np.uint8, offset=4 + 4 * rank).reshape(shape)


if __name__ == "__main__":
    main()
