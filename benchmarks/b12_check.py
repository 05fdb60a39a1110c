"""B12: `cnnclf check`: its rate, the planted copies it finds, and a million hashes.

  speed    all measurements and comparisons, against Image.open(file).load() on as many threads
  copies   altered copies of images of train are planted in test, among unrelated images; recall of
           each kind, and how many of all findings are pairs that were planted
  labels   5 and 10 % of the labels are replaced by another one; how many of these are in the first
           tenth of the ranking by margin, and the AUROC
  crops    100 images of --photos cropped by 5 and 15 % among the others, and 100 with another
           object before the same background, found by features, with and without aligning
  hashes   all pairs within 7 bits of 1,000,000 hashes, of which 2,000 pairs were planted, in one
           thread
  neighbors  the nearest of 50,000 images in drawn features of 1,280 values; goal: 60 s
Run from the root of the project: python -m benchmarks.b12_check [--photos FOLDER_OF_CLASS_FOLDERS]
"""

import argparse
import io
import os
import random
import resource
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageOps

from benchmarks.images import draw_jpegs, draw_scene
from cnnclf.config import CheckConfig, ImportConfig
from cnnclf.data.manifest import Dataset, load_dataset
from cnnclf.importers import import_source
from cnnclf.progress import Silent
from cnnclf.quality.checking import check_dataset
from cnnclf.quality.hash_join import find_close_hashes
from cnnclf.quality.image_facts import measure_images
from cnnclf.quality.neighbors import find_neighbors
from cnnclf.quality.network_features import NetworkFeatures
from cnnclf.quality.suspects import cross_validate_labels, find_suspects
from cnnclf.quality.twins import NearPairs
from cnnclf.training.frozen.embedding import embed_images

PER_KIND = 100
_PARTS = ("speed", "copies", "labels", "crops", "hashes", "neighbors")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "bench-jpegs")
    parser.add_argument("--photos", type=Path, help="folder of class folders of real photos")
    parser.add_argument("--only", choices=_PARTS)
    arguments = parser.parse_args()
    if arguments.only in {None, "speed"}:
        for count, height, width in (
            (arguments.count, 384, 512),
            (arguments.count // 20, 1536, 2048),
        ):
            photos = arguments.folder / f"{count}-{width}"
            draw_jpegs(photos, count=count, height=height, width=width)
            print(f"{count:,} JPEGs of {width} x {height}, medians of {arguments.rounds}")
            measure_speed(photos, count, arguments.rounds)
    if arguments.only in {None, "copies"}:
        print("\ndrawn images of 320 x 240")
        rng = random.Random(0)
        measure_copies([draw_scene(rng, 240, 320, hue=index % 2) for index in range(900)])
        if arguments.photos:
            files = sorted(path for path in arguments.photos.rglob("*.*") if path.is_file())
            print(f"\n{arguments.photos.name}")
            measure_copies([open_rgb(file) for file in random.Random(0).sample(files, 900)])
    if arguments.photos and arguments.only in {None, "labels"}:
        measure_labels(arguments.photos)
    if arguments.photos and arguments.only in {None, "crops"}:
        measure_crops(arguments.photos)
    if arguments.only in {None, "hashes"}:
        measure_hashes()
    if arguments.only in {None, "neighbors"}:
        measure_neighbors()


def measure_speed(photos: Path, count: int, rounds: int) -> None:
    threads = os.cpu_count() or 1
    files = sorted(photos.rglob("*.jpg"))
    limit, ours = [], []
    with tempfile.TemporaryDirectory() as work:
        import_source(photos, Path(work, "data"), options=ImportConfig(), progress=Silent())
        dataset = load_dataset(Path(work, "data"))
        for number in range(rounds):
            # each time without what the time before has measured
            os.environ["CNNCLF_CACHE_DIR"] = str(Path(work, f"cache-{number}"))
            start = time.perf_counter()
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(decode, files))
            limit.append(time.perf_counter() - start)
            start = time.perf_counter()
            check_dataset(dataset, config=CheckConfig(threads=threads), progress=Silent())
            ours.append(time.perf_counter() - start)
    bare, check = statistics.median(limit), statistics.median(ours)
    print(f"Pillow decoding alone {count / bare:7.0f} images/s")
    print(f"cnnclf check          {count / check:7.0f} images/s")
    print(f"ratio {bare / check:.2f} (goal: at least 0.8)")


def decode(file: Path) -> None:
    with Image.open(file) as image:
        image.load()


def open_rgb(file: Path) -> Image.Image:
    with Image.open(file) as image:
        return image.convert("RGB")


def recompress(quality: int) -> Callable[[Image.Image], Image.Image]:
    def change(image: Image.Image) -> Image.Image:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=quality)
        return open_rgb(buffer)  # type: ignore[arg-type]

    return change


def resize(factor: float) -> Callable[[Image.Image], Image.Image]:
    return lambda image: image.resize((round(image.width * factor), round(image.height * factor)))


def brighten(factor: float) -> Callable[[Image.Image], Image.Image]:
    return lambda image: image.point(lambda value: min(255, round(value * factor)))


def crop(fraction: float) -> Callable[[Image.Image], Image.Image]:
    def change(image: Image.Image) -> Image.Image:
        dx, dy = round(image.width * fraction / 2), round(image.height * fraction / 2)
        return image.crop((dx, dy, image.width - dx, image.height - dy))

    return change


def draw_other_object(image: Image.Image) -> Image.Image:
    """Make another image with the same background: no copy, though it looks like one."""
    other = image.copy()
    rng = random.Random(image.tobytes()[:64])
    x, y = rng.randrange(image.width // 2), rng.randrange(image.height // 2)
    box = (x, y, x + image.width * 2 // 5, y + image.height * 2 // 5)
    ImageDraw.Draw(other).ellipse(box, fill=tuple(rng.randrange(256) for _ in range(3)))
    return other


KINDS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "recompressed 50": recompress(50),
    "recompressed 75": recompress(75),
    "recompressed 95": recompress(95),
    "resized 0.5": resize(0.5),
    "resized 0.7": resize(0.7),
    "resized 2": resize(2.0),
    "brightened 1.2": brighten(1.2),
    "darkened 0.8": brighten(0.8),
    "mirrored": ImageOps.mirror,
    "cropped 5 %": crop(0.05),
    "rotated 5 degrees": lambda image: image.rotate(5, Image.Resampling.BICUBIC),
    "not a copy: same background": draw_other_object,
}
GOAL = tuple(KINDS)[:8]


def measure_copies(images: list[Image.Image]) -> None:
    """Plant copies of the first 600 images in test; the others are there without a copy."""
    with tempfile.TemporaryDirectory() as work:
        root = Path(work, "images")
        for split in ("train", "test"):
            for label in ("a", "b"):
                (root / split / label).mkdir(parents=True)
        planted: dict[str, tuple[str, str]] = {}
        for index, image in enumerate(images):
            label = "ab"[index % 2]
            split = "train" if index < 600 else "test"
            image.save(root / split / label / f"{index}.png")
        for number, (kind, change) in enumerate(KINDS.items()):
            for index in range(number * 50, number * 50 + PER_KIND):
                source, label = index % 600, "ab"[index % 2]
                name = f"{label}/{number}-{source}.png"
                change(images[source]).save(root / "test" / name)
                planted[f"test/{name}"] = (kind, f"train/{label}/{source}.png")
        import_source(root, Path(work, "data"), options=ImportConfig(), progress=Silent())
        dataset = load_dataset(Path(work, "data"))
        for mirrored in (False, True):
            config = CheckConfig(mirrored=mirrored)
            report, _ = check_dataset(dataset, config=config, progress=Silent())
            found = [each for each in report.findings if each.check.endswith("-across-splits")]
            hits = Counter(planted.get(each.path, ("not planted", ""))[0] for each in found)
            true = sum(
                not planted.get(each.path, ("not", ""))[0].startswith("not")
                and planted[each.path][1] == each.other_path
                for each in found
            )
            print(f"{'with --mirrored' if mirrored else 'default'}: found of {PER_KIND} each")
            print(", ".join(f"{kind} {hits[kind]}" for kind in KINDS))
            goal = sum(hits[kind] for kind in GOAL) / (PER_KIND * len(GOAL))
            print(
                f"recall of recompressed, resized, brightened {goal:.3f}; precision "
                f"{true / max(1, len(found)):.3f} of {len(found)} findings "
                f"({hits['not planted']} among {len(images) - 600} unrelated images)"
            )


def embed(folder: Path) -> tuple[NetworkFeatures, Dataset]:
    with tempfile.TemporaryDirectory() as work:
        import_source(folder, Path(work, "data"), options=ImportConfig(), progress=Silent())
        dataset = load_dataset(Path(work, "data"))
        rows = np.arange(len(dataset))
        return embed_images(dataset, rows, threads=None, progress=Silent()), dataset


def measure_labels(photos: Path) -> None:
    features, dataset = embed(photos)
    truth, count = dataset.manifest.class_indices, len(dataset)
    for fraction in (0.05, 0.1):
        rng = np.random.default_rng(0)
        flipped = rng.choice(count, round(fraction * count), replace=False)
        given = truth.copy()
        others = rng.integers(1, len(dataset.labels), len(flipped))
        given[flipped] = (given[flipped] + others) % len(dataset.labels)
        judgement = cross_validate_labels(features, given, units=np.arange(count))
        order = np.argsort(judgement.margins(given), kind="stable")
        is_flipped = np.isin(order, flipped)
        ranks = np.flatnonzero(is_flipped)
        least = len(ranks) * (len(ranks) - 1) / 2
        area = 1 - (ranks.sum() - least) / (len(ranks) * (count - len(ranks)))
        suspects = find_suspects(judgement, given)
        right = sum(row in set(flipped.tolist()) for row, _, _ in suspects)
        accuracy = (judgement.probabilities.argmax(axis=1) == truth).mean()
        print(
            f"{photos.name}, {count:,} images, {fraction:.0%} flipped: out-of-fold accuracy on "
            f"true labels {accuracy:.3f}; first 10 % of the ranking have "
            f"{is_flipped[: count // 10].sum() / len(flipped):.3f} of them, first 5 % "
            f"{is_flipped[: count // 20].sum() / len(flipped):.3f}; AUROC {area:.3f}; "
            f"{len(suspects)} suspects, {right} of them flipped",
            flush=True,
        )


def measure_crops(photos: Path) -> None:
    """Plant crops, and images with the same background that are none, among photos."""
    files = sorted(path for path in photos.rglob("*.*") if path.is_file())
    images = [open_rgb(file) for file in random.Random(0).sample(files, 600)]
    kinds = {"5 %": crop(0.05), "15 %": crop(0.15), "same background": draw_other_object}
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work, "photos", "all")
        folder.mkdir(parents=True)
        for number, image in enumerate(images):
            image.save(folder / f"{number:03}.png")
        for kind, change in enumerate(kinds.values()):
            for number in range(kind * PER_KIND, (kind + 1) * PER_KIND):
                change(images[number]).save(folder / f"{number:03}-copy.png")
        other = Path(work, "photos", "other")
        other.mkdir()
        images[-1].rotate(90).save(other / "one.png")  # a dataset has two classes
        features, dataset = embed(Path(work, "photos"))
        facts = measure_images(dataset, threads=None, progress=Silent())
    names = [Path(path).stem for path in dataset.manifest.paths]
    known = NearPairs(np.empty((0, 2), np.int64), np.empty(0, np.float32), [])
    for least in (0.8, 0.85, 0.9):
        neighbors = find_neighbors(features.last, min_cosine=least)
        for is_aligned in (False, True):
            rows = known.join(neighbors, facts).rows if is_aligned else neighbors.pairs
            found = Counter(name_pair(names[one], names[two]) for one, two in rows.tolist())
            right = sum(found[kind] for kind in range(2))
            parts = ", ".join(f"{name} {found[kind]}" for kind, name in enumerate(kinds))
            print(
                f"{photos.name}, cosine {least}{', aligned' * is_aligned}: of {PER_KIND} each "
                f"{parts}; others {found[-1]}; {right} of {len(rows)} pairs are crops",
                flush=True,
            )


def name_pair(one: str, two: str) -> int:
    """Return which kind of copy a pair is; -1 for none."""
    return int(one[:3]) // PER_KIND if one[:3] == two[:3] and one != "one" != two else -1


def measure_hashes(count: int = 1_000_000, pairs: int = 2000) -> None:
    rng = np.random.default_rng(0)
    hashes = np.unique(rng.integers(0, 2**64, count, dtype=np.uint64))
    copies = hashes[:pairs].copy()
    for index in range(pairs):
        for bit in rng.choice(64, rng.integers(1, 8), replace=False):
            copies[index] ^= np.uint64(1) << np.uint64(bit)
    hashes = np.concatenate([hashes[:-pairs], copies])
    start = time.process_time()
    found = {tuple(pair) for pair in find_close_hashes(hashes).tolist()}
    seconds = time.process_time() - start
    hits = sum((index, len(hashes) - pairs + index) in found for index in range(pairs))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"\n{len(hashes):,} hashes of 64 bits, all pairs within 7 bits, one thread")
    print(f"{seconds:.1f} processor seconds (goal: 30), {peak:.2f} GB (goal: 2)")
    print(f"planted pairs found {hits:,} of {pairs:,}; by chance {len(found) - hits}")


def measure_neighbors(count: int = 50_000, values: int = 1280, clusters: int = 50) -> None:
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(clusters, values))
    drawn = centers[rng.integers(0, clusters, count)] + rng.normal(size=(count, values))
    features = np.maximum(0, drawn).astype(np.float16)
    start, processor = time.perf_counter(), time.process_time()
    find_neighbors(features)
    wall, used = time.perf_counter() - start, time.process_time() - processor
    print(f"\nnearest images in {count:,} features: {wall:.0f} s, {used:.0f} of the processor")


if __name__ == "__main__":
    main()
