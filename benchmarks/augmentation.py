"""Images per second of every augmentation and preset on one thread, compared with other libraries.

Peers are measured where they are installed: OpenCV instead of Pillow under our operations (one
warp, one color matrix), Albumentations image by image, and the preprocessing layers of Keras as a
graph of TensorFlow. They alternate with ours. The time is processor time of all threads of the
process, which depends little on other programs, and the best of several rounds is taken.
Run from the root of the project: python benchmarks/augmentation.py
"""

import argparse
import importlib
import importlib.util
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from types import ModuleType
from typing import Any
from unittest import mock

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from cnnclf.augmentation import operations as operations_module
from cnnclf.augmentation import tones
from cnnclf.augmentation.table import AUGMENTATIONS, PRESETS, Augmenter

SIZES = ((128, 28, 28, 1), (64, 128, 128, 3), (32, 224, 224, 3))
Batch = Any
Way = Callable[[Batch], Any]
Operations = Mapping[str, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.05, help="least time of one round")
    arguments = parser.parse_args()
    peers = {
        title: build
        for title, module, build in PEERS
        if importlib.util.find_spec(module) is not None
    }
    for shape in SIZES:
        print(f"\n{'x'.join(map(str, shape[1:]))}, batches of {shape[0]}\n")
        print(f"| operation | cnnclf, images/s |{''.join(f' {title} |' for title in peers)}")
        print("|---" * (2 + len(peers)) + "|")
        x = draw_batch(shape)
        for name, operations in every_case():
            ways: list[Way | None] = [build_ours(operations, shape)]
            ways += [build(operations, shape) for build in peers.values()]
            seconds = time_in_turn(ways, x, arguments.rounds, arguments.seconds)
            rate = f"{shape[0] / (seconds[0] or 1):,.0f}"
            ratios = [f"{seconds[0] / each:.2f}" if each else "" for each in seconds[1:]]
            print(f"| {name} | {rate} |" + "".join(f" {each} |" for each in ratios), flush=True)
    if importlib.util.find_spec("cv2"):
        compare_pixels(SIZES[1])


def every_case() -> Iterator[tuple[str, Operations]]:
    for name, row in AUGMENTATIONS.items():
        yield name, {name: row.default}
    for preset in PRESETS:
        yield f"preset {preset}", PRESETS[preset]


def draw_batch(shape: tuple[int, ...]) -> Batch:
    """Noise that is smooth over a few pixels, as images are."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (shape[0], shape[1] // 4, shape[2] // 4, shape[3]))
    fine = rng.integers(-20, 21, shape)
    return np.clip(coarse.repeat(4, 1).repeat(4, 2) + fine, 0, 255).astype(np.uint8)


def time_in_turn(ways: list[Way | None], x: Batch, rounds: int, least_s: float) -> list[float]:
    """Return the best processor time per batch of each way, 0 for a way that there is not."""
    best = [0.0 if way is None else float("inf") for way in ways]
    repeats = [1 if way is None else count_repeats(way, x, least_s) for way in ways]
    for _ in range(rounds):
        for number, way in enumerate(ways):
            if way is None:
                continue
            copies = [x.copy() for _ in range(repeats[number])]
            start = time.process_time()
            for each in copies:
                way(each)
            best[number] = min(best[number], (time.process_time() - start) / len(copies))
    return best


def count_repeats(way: Way, x: Batch, least_s: float) -> int:
    way(x.copy())  # builds what is built once
    start = time.process_time()
    way(x.copy())
    return min(50, 1 + int(least_s / max(time.process_time() - start, 1e-4)))


def build_ours(operations: Operations, shape: tuple[int, ...]) -> Way:
    augmenter = Augmenter(operations)
    y = np.eye(10, dtype=np.float32)[np.arange(shape[0]) % 10]
    rounds = iter(range(1_000_000))
    return lambda x: augmenter(x, y.copy(), rng=augmenter.rng(0, next(rounds)))


# OpenCV under our operations


def build_with_opencv(operations: Operations, shape: tuple[int, ...]) -> Way | None:
    if not {"plan"} & {AUGMENTATIONS[name].stage for name in operations}:
        return None
    ours = build_ours(operations, shape)

    def way(x: Batch) -> object:
        with with_opencv():
            return ours(x)

    return way


def with_opencv() -> ExitStack:
    stack = ExitStack()
    stack.enter_context(mock.patch.object(operations_module, "warp", warp_with_opencv))
    stack.enter_context(mock.patch.object(tones, "recolor", recolor_with_opencv))
    return stack


def warp_with_opencv(pixels: Batch, maps: Batch) -> Batch:
    cv2 = load_opencv()
    height, width = pixels.shape[1:3]
    # Our maps count from the center of the image, OpenCV's from the center of the first pixel.
    shift = np.array([[1, 0, (width - 1) / 2], [0, 1, (height - 1) / 2], [0, 0, 1]])
    affine = shift @ maps @ np.linalg.inv(shift)
    out = np.empty_like(pixels)
    for index in range(len(pixels)):
        warped = cv2.warpAffine(
            pixels[index],
            affine[index, :2],
            (width, height),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REFLECT_101,
        )
        out[index] = warped.reshape(out[index].shape)
    return out


def recolor_with_opencv(pixels: Batch, matrices: Batch) -> Batch:
    cv2 = load_opencv()
    weights, shift = matrices[:, :3, :3], matrices[:, :3, 3]
    gray = pixels.shape[3] == 1
    if gray:
        small = np.stack([weights.sum(axis=2) @ tones.LUMA, shift @ tones.LUMA], axis=1)[:, None]
    for index in range(len(pixels)):
        matrix = small[index] if gray else matrices[index, :3]
        pixels[index] = cv2.transform(pixels[index], matrix).reshape(pixels[index].shape)
    return pixels


def compare_pixels(shape: tuple[int, ...]) -> None:
    print("\nLevels of 255 by which OpenCV's pixels differ from ours (mean, largest):\n")
    x = draw_batch(shape)
    for name in ("rotate", "zoom", "crop", "hue"):
        ours, _ = build_ours({name: AUGMENTATIONS[name].default}, shape)(x.copy())
        with with_opencv():
            other, _ = build_ours({name: AUGMENTATIONS[name].default}, shape)(x.copy())
        apart = np.abs(ours.astype(int) - other)
        print(f"- {name}: {apart.mean():.2f}, {apart.max()}")


def load_opencv() -> Any:
    cv2 = importlib.import_module("cv2")
    cv2.setNumThreads(1)
    return cv2


# Albumentations, image by image


def build_albumentations(operations: Operations, shape: tuple[int, ...]) -> Way | None:
    albumentations = importlib.import_module("albumentations")
    load_opencv()
    steps = [in_albumentations(albumentations, *each, shape) for each in operations.items()]
    if not steps or None in steps:
        return None
    compose = albumentations.Compose(steps)
    return lambda x: [compose(image=image)["image"] for image in x]


def in_albumentations(
    library: ModuleType, name: str, strength: float, shape: tuple[int, ...]
) -> object:
    a: Any = library
    mirror = {"border_mode": load_opencv().BORDER_REFLECT_101, "p": 1}
    limits = (-strength, strength)
    hues = (-180 * strength, 180 * strength)
    make: dict[str, Callable[[], object]] = {
        "flip": lambda: a.HorizontalFlip(p=strength),
        "rotate": lambda: a.Rotate(limit=limits, **mirror),
        "translate": lambda: a.Affine(translate_percent=limits, **mirror),
        "zoom": lambda: a.Affine(scale=(1 / (1 + strength), 1 + strength), **mirror),
        "crop": lambda: a.RandomResizedCrop(size=shape[1:3], scale=(1 - strength, 1), p=1),
        "brightness": lambda: a.RandomBrightnessContrast(limits, (0, 0), p=1),
        "contrast": lambda: a.RandomBrightnessContrast((0, 0), limits, p=1),
        "hue": lambda: (
            a.HueSaturationValue(hues, (0, 0), (0, 0), p=1) if shape[3] == 3 else a.NoOp()
        ),
        "erasing": lambda: a.Erasing(fill="random", p=strength),
    }
    return make[name]() if name in make else None  # it has no RandAugment, MixUp and CutMix


# Keras's preprocessing layers, as a graph of TensorFlow


def build_keras(operations: Operations, shape: tuple[int, ...]) -> Way | None:
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    layers: list[Any] = [in_keras(*each, shape) for each in operations.items()]
    if not layers or None in layers:
        return None

    @tf.function
    def run(images: object, labels: object) -> object:
        batch: Any = {"images": images, "labels": labels}
        for layer in layers:
            batch = layer(batch, training=True)
        return batch["images"]

    y = np.eye(10, dtype=np.float32)[np.arange(shape[0]) % 10]
    return lambda x: run(x, y).numpy()


def in_keras(name: str, strength: float, shape: tuple[int, ...]) -> object:
    import keras

    if shape[3] == 1 and name in {"hue", "randaugment"}:  # they refuse gray images
        return keras.layers.Identity() if name == "hue" else None

    make: dict[str, Callable[[], object]] = {
        "flip": lambda: keras.layers.RandomFlip("horizontal"),
        "rotate": lambda: keras.layers.RandomRotation(strength / 360, fill_mode="reflect"),
        "translate": lambda: keras.layers.RandomTranslation(
            strength, strength, fill_mode="reflect"
        ),
        "zoom": lambda: keras.layers.RandomZoom((-strength, strength), fill_mode="reflect"),
        "brightness": lambda: keras.layers.RandomBrightness(strength),
        "contrast": lambda: keras.layers.RandomContrast(strength),
        "hue": lambda: keras.layers.RandomHue(strength),
        "randaugment": lambda: keras.layers.RandAugment(factor=strength / 10),
        "erasing": lambda: keras.layers.RandomErasing(strength),
        "mixup": lambda: keras.layers.MixUp(strength),
        "cutmix": lambda: keras.layers.CutMix(strength),
    }
    return make[name]() if name in make else None


PEERS: tuple[tuple[str, str, Callable[[Operations, tuple[int, ...]], Way | None]], ...] = (
    ("OpenCV under ours", "cv2", build_with_opencv),
    ("Albumentations", "albumentations", build_albumentations),
    ("Keras layers", "tensorflow", build_keras),
)

if __name__ == "__main__":
    main()
