"""A clean set of drawn images as a table, and one planted fault for each check."""

import csv
import io
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

from cnnclf.config import ImportConfig
from cnnclf.data.manifest import Dataset, load_dataset
from cnnclf.importers import import_source
from cnnclf.progress import Silent
from cnnclf.quality.network_features import NetworkFeatures

SIDE = 96
PER_CLASS = 30


@dataclass(frozen=True)
class Drawn:
    """One row of the table that is imported."""

    path: str
    label: str
    split: str
    group: str = ""


@cache
def draw_scene(seed: int, label: str) -> Image.Image:
    """Draw shapes of random places, sizes and colors, with the texture of a photo."""
    rng = random.Random(seed)
    noise = np.random.default_rng(seed)
    coarse = noise.integers(40, 216, (6, 6, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    drawing = ImageDraw.Draw(image)
    shapes = [drawing.ellipse, drawing.rectangle] * 2
    shapes.append(drawing.ellipse if label == "ball" else drawing.rectangle)
    for shape in shapes:
        x, y, size = rng.randint(0, 70), rng.randint(0, 70), rng.randint(12, 40)
        color = tuple(rng.randint(0, 255) for _ in range(3))
        shape((x, y, x + size, y + size), fill=color, outline=(0, 0, 0))
    grain = noise.normal(0, rng.uniform(2, 6), (SIDE, SIDE, 3))
    return Image.fromarray(np.clip(np.asarray(image) + grain, 0, 255).astype(np.uint8))


class DrawnSet:
    """A folder of drawn images and the table that lists them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.rows: list[Drawn] = []
        self.has_table = True
        for number in range(PER_CLASS):
            split = "val" if number >= 25 else "test" if number >= 20 else "train"
            for label in ("ball", "box"):
                path = f"{label}/{number:03}.png"
                self.add(path, draw_scene(2 * number + (label == "box"), label), label, split=split)

    def add(self, path: str, image: Image.Image, label: str, *, split: str = "train") -> None:
        """Save an image and list it."""
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        image.save(self.root / path)
        self.rows.append(Drawn(path, label, split))

    def open(self, path: str) -> Image.Image:
        with Image.open(self.root / path) as image:
            return image.convert("RGB")

    def import_into(self, out: Path) -> Dataset:
        """Write the table and import it, or the class folders if there is none."""
        if not self.has_table:
            import_source(self.root, out, options=ImportConfig(), progress=Silent())
            return load_dataset(out)
        table = self.root / "table.csv"
        with table.open("w", newline="", encoding="utf-8") as file:
            write = csv.writer(file).writerow
            write(("path", "label", "split", "group"))
            for row in self.rows:
                write((row.path, row.label, row.split, row.group))
        import_source(table, out, options=ImportConfig(), progress=Silent())
        return load_dataset(out)


Plant = Callable[[DrawnSet], None]

FIRST = "ball/000.png"


def _copy(target: str, label: str, split: str) -> Plant:
    return lambda drawn: drawn.add(target, drawn.open(FIRST), label, split=split)


def _near(label: str, split: str) -> Plant:
    def plant(drawn: DrawnSet) -> None:
        buffer = io.BytesIO()
        drawn.open(FIRST).resize((70, 70)).save(buffer, "JPEG", quality=60)
        with Image.open(buffer) as image:
            brighter = image.convert("RGB").point(lambda value: min(255, round(value * 1.15)))
        drawn.add("planted.png", brighter, label, split=split)

    return plant


def _changed(change: Callable[[Image.Image], Image.Image]) -> Plant:
    return lambda drawn: drawn.add("planted.png", change(draw_scene(999, "ball")), "ball")


def _tear(drawn: DrawnSet) -> None:
    for place in (0, -1):
        drawn.rows[place] = replace(drawn.rows[place], group="patient 7")


def _truncate(drawn: DrawnSet) -> None:
    drawn.add("planted.jpg", draw_scene(999, "ball"), "ball")
    path = drawn.root / "planted.jpg"
    path.write_bytes(path.read_bytes()[:900])


def _omit_label(drawn: DrawnSet) -> None:
    drawn.add("planted.png", draw_scene(999, "ball"), "")


def _rename_class(drawn: DrawnSet) -> None:
    drawn.rows = [
        replace(row, label="Ball ") if row.path.startswith("ball/01") else row for row in drawn.rows
    ]


def _add_small_class(drawn: DrawnSet) -> None:
    for number in range(3):
        drawn.add(f"star/{number}.png", draw_scene(500 + number, "ball"), "star")


def _unbalance(drawn: DrawnSet) -> None:
    kept = {"box/000.png", "box/020.png", "box/025.png"}
    drawn.rows = [row for row in drawn.rows if row.label == "ball" or row.path in kept]


def _give_away(drawn: DrawnSet) -> None:
    for row in list(drawn.rows):
        if row.label == "box":
            drawn.open(row.path).resize((SIDE, 90)).save(drawn.root / row.path)


def _orient(drawn: DrawnSet) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    drawn.add("planted.jpg", draw_scene(999, "ball"), "ball")
    draw_scene(999, "ball").save(drawn.root / "planted.jpg", exif=exif, quality=95)


def _misname(drawn: DrawnSet) -> None:
    drawn.add("planted.png", draw_scene(999, "ball"), "ball")
    draw_scene(999, "ball").save(drawn.root / "planted.png", "JPEG", quality=95)


def _add_transparent(drawn: DrawnSet) -> None:
    image = draw_scene(999, "ball").convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    drawn.add("planted.png", image, "ball")


def _hide_folder(drawn: DrawnSet) -> None:
    drawn.has_table = False
    (drawn.root / ".thumbnails").mkdir()
    (drawn.root / ".thumbnails" / "000.png").write_bytes((drawn.root / FIRST).read_bytes())
    (drawn.root / "star").mkdir()


def _scaled(factor: float) -> Callable[[Image.Image], Image.Image]:
    return lambda image: image.point(lambda value: round(value * factor))


PLANTS: dict[str, Plant] = {
    "duplicates-across-splits": _copy("planted.png", "ball", "test"),
    "near-duplicates-across-splits": _near("ball", "test"),
    "duplicates-across-classes": _copy("planted.png", "box", "train"),
    "near-duplicates-across-classes": _near("box", "train"),
    "torn-groups": _tear,
    "unreadable": _truncate,
    "unusable-rows": _omit_label,
    "similar-labels": _rename_class,
    "small-classes": _add_small_class,
    "imbalance": _unbalance,
    "shortcuts": _give_away,
    "uniform": _changed(lambda image: Image.new("RGB", image.size, (250, 250, 250))),
    "dark": _changed(_scaled(0.15)),
    "bright": _changed(lambda image: image.point(lambda value: 215 + value // 7)),
    "blurred": _changed(lambda image: image.filter(ImageFilter.GaussianBlur(5))),
    "tiny": _changed(lambda image: image.resize((12, 14))),
    "mixed-modes": _changed(lambda image: image.convert("L")),
    "transparency": _add_transparent,
    "duplicates": _copy("planted.png", "ball", "train"),
    "near-duplicates": _near("ball", "train"),
    "odd-sizes": lambda drawn: drawn.add(
        "planted.png", draw_scene(999, "ball").resize((700, 700)), "ball"
    ),
    "odd-aspects": lambda drawn: drawn.add(
        "planted.png", draw_scene(999, "ball").resize((300, 60)), "ball"
    ),
    "exif-orientation": _orient,
    "name-mismatch": _misname,
    "skipped-folders": _hide_folder,
}
"""Faults in the source, by the check that must find them."""


def _delete(drawn: DrawnSet) -> None:
    (drawn.root / FIRST).unlink()


def _replace(drawn: DrawnSet) -> None:
    draw_scene(999, "ball").save(drawn.root / FIRST)


LATER_PLANTS: dict[str, Plant] = {"missing": _delete, "changed": _replace}
"""Faults that come after the import."""


def _mislabel(drawn: DrawnSet) -> None:
    drawn.rows[0] = replace(drawn.rows[0], label="box")


def _add_stranger(drawn: DrawnSet) -> None:
    drawn.add("planted.png", draw_scene(999, "ball"), "ball")


NETWORK_PLANTS: dict[str, Plant] = {"label-suspects": _mislabel, "outliers": _add_stranger}
"""Faults that features of a network reveal."""


def embed_drawn(dataset: Dataset, rows: npt.NDArray[np.intp]) -> NetworkFeatures:
    """Stand for a network that knows balls from boxes, and has never seen what was planted."""
    features = np.zeros((len(dataset), 32), np.float16)
    rng = np.random.default_rng(0)
    for row in rows.tolist():
        kind = ("ball", "box", "planted.png").index(dataset.manifest.paths[row].split("/")[0])
        features[row] = rng.normal(0, 0.2, 32)
        features[row, 8 * kind : 8 * kind + 8] += 1
    return NetworkFeatures(features, features[:, :0])
