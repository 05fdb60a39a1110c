"""Features of a frozen EfficientNet-Lite0 for B16: photo folders, CIFAR-10 in a zip, Fashion-MNIST.

Each set becomes one file NAME.npz with `features` float16 [n, 1280] and `truth` int64 [n]; what is
there already is kept. Run from the root of the project:
    python -m benchmarks.frozen_features OUT DATA FASHION-MNIST
"""

import argparse
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from benchmarks.recipe_sets import read_idx

SIDE, BATCH = 224, 32
CIFAR_IMAGES, CLOTHES = 400, 400  # of each class


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("clothes", type=Path)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    sources = {
        "flowers5": read_folders(arguments.data / "flowers5"),
        "sign_digits": read_folders(arguments.data / "sign_digits"),
        "cifar10": read_zip(arguments.data / "cifar10.zip"),
        "clothes": read_clothes(arguments.clothes),
    }
    compute = None
    for name, images in sources.items():
        file = arguments.out / f"{name}.npz"
        if not file.exists():
            compute = compute or open_backbone()
            features, truth = compute_features(compute, images)
            np.savez(file, features=features, truth=truth)
            print(f"{name}: {len(truth):,} images", flush=True)


def read_folders(folder: Path) -> Iterator[tuple[Image.Image, int]]:
    for index, label in enumerate(sorted(each for each in folder.iterdir() if each.is_dir())):
        for file in sorted(label.iterdir()):
            with Image.open(file) as image:
                yield image.convert("RGB"), index


def read_zip(path: Path) -> Iterator[tuple[Image.Image, int]]:
    with zipfile.ZipFile(path) as archive:
        names = sorted(name for name in archive.namelist() if name.startswith("test/"))
        labels = sorted({name.split("/")[1] for name in names})
        for index, label in enumerate(labels):
            for name in [each for each in names if each.split("/")[1] == label][:CIFAR_IMAGES]:
                yield Image.open(io.BytesIO(archive.read(name))).convert("RGB"), index


def read_clothes(folder: Path) -> Iterator[tuple[Image.Image, int]]:
    images, classes = read_idx(folder, "t10k-images"), read_idx(folder, "t10k-labels")
    for label in range(10):
        for row in np.flatnonzero(classes == label)[:CLOTHES]:
            yield Image.fromarray(images[row]).convert("RGB"), label


def open_backbone() -> object:
    from cnnclf.config import HeadConfig
    from cnnclf.models.backbones import find_backbone
    from cnnclf.models.transfer import build_transfer
    from cnnclf.models.weights.filling import load_weights
    from cnnclf.models.weights.sources import find_weights
    from cnnclf.progress import Silent
    from cnnclf.training.frozen.feature_engines import FrozenNetwork, open_engine

    row = find_backbone("efficientnet-lite0")
    transfer = build_transfer(row, HeadConfig(), height=SIDE, width=SIDE, num_classes=2)
    load_weights(transfer.backbone, find_weights(row, "imagenet"), progress=Silent())
    network = FrozenNetwork(row.name, f"{__name__}, {row}", lambda: transfer.features(""))
    return open_engine("openvino-bf16", network, progress=Silent())


def compute_features(
    engine: object, images: Iterator[tuple[Image.Image, int]]
) -> tuple[np.ndarray, np.ndarray]:
    truth: list[int] = []
    found: dict[int, np.ndarray] = {}

    def batches() -> Iterator[tuple[int, np.ndarray]]:
        batch: list[np.ndarray] = []
        number = 0
        for image, label in images:
            truth.append(label)
            batch.append(np.asarray(ImageOps.fit(image, (SIDE, SIDE), Image.Resampling.BICUBIC)))
            if len(batch) == BATCH:
                yield number, np.stack(batch)
                number, batch = number + 1, []
        if batch:
            yield number, np.stack(batch)

    engine.run(  # type: ignore[attr-defined]
        batches(), lambda number, outputs: found.update({number: outputs[0].copy()})
    )
    features = np.concatenate([found[number] for number in sorted(found)]).astype(np.float16)
    return features, np.array(truth)


if __name__ == "__main__":
    main()
