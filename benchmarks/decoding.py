"""Time to decode one image, compared with plain Pillow, and how much the pixels differ.

Measures processor time of the thread, which depends little on other programs; the two alternate,
and the best of several rounds is taken.
Run from the root of the project: python -m benchmarks.decoding
"""

import argparse
import io
import random
import time
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from PIL import ExifTags, Image, ImageOps

from benchmarks.images import draw_scene
from cnnclf.images.decode import InputSpec, decode_image, inspect_image

# name, image (width, height), EXIF orientation, format, wanted side
CASES = (
    ("JPEG", (512, 384), 1, "JPEG", 128),
    ("JPEG", (512, 384), 1, "JPEG", 224),
    ("JPEG of the wanted size", (128, 128), 1, "JPEG", 128),
    ("tiny PNG", (28, 28), 1, "PNG", 28),
    ("PNG", (512, 384), 1, "PNG", 128),
    ("JPEG of 3 megapixels", (2048, 1536), 1, "JPEG", 128),
    ("JPEG of 12 megapixels", (4000, 3000), 1, "JPEG", 224),
    ("the same, turned by EXIF", (4000, 3000), 6, "JPEG", 224),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    print("| image | to | plain Pillow, ms | cnnclf, ms | ratio | mean diff. | max diff. |")
    print("|---|---|---|---|---|---|---|")
    for name, size, orientation, file_format, side in CASES:
        content = draw(size, orientation, file_format)
        ways = (
            partial(decode_plainly, content, side),
            partial(decode_image, content, InputSpec(side, side)),
        )
        plain, ours = time_in_turns(ways, rounds)
        apart = np.abs(ways[0]().astype(int) - ways[1]())
        print(
            f"| {name}, {size[0]}x{size[1]} | {side}x{side} | {plain:.2f} | {ours:.2f} "
            f"| {plain / ours:.2f} | {apart.mean():.3f} | {apart.max()} |",
            flush=True,
        )
    content = draw((512, 384), 1, "JPEG")
    bare, sample, whole = time_in_turns(
        [
            lambda: Image.open(io.BytesIO(content)).load(),
            lambda: inspect_image(content, exact=False),
            lambda: inspect_image(content),
        ],
        rounds,
    )
    print(f"inspecting a JPEG of 512x384: {bare:.2f} ms for decoding alone, {sample:.2f} ms with")
    print(f"the checksum of a sample, {whole:.2f} ms with that of all pixels")


def draw(size: tuple[int, int], orientation: int, file_format: str) -> bytes:
    scene = draw_scene(random.Random(0), max(384, size[1]), max(512, size[0]), hue=1).resize(size)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    buffer = io.BytesIO()
    scene.save(buffer, file_format, quality=88, exif=exif)
    return buffer.getvalue()


def decode_plainly(content: bytes, side: int) -> np.ndarray:
    """The usual way: upright, RGB, shorter side scaled, center crop."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(content))).convert("RGB")
    width, height = image.size
    scaled = (side, side * height // width) if width <= height else (side * width // height, side)
    image = image.resize(scaled, Image.Resampling.BILINEAR)
    left, upper = round((scaled[0] - side) / 2), round((scaled[1] - side) / 2)
    return np.asarray(image.crop((left, upper, left + side, upper + side)))


def time_in_turns(calls: Sequence[Callable[[], object]], rounds: int) -> list[float]:
    """Milliseconds of each call, the best of several rounds."""
    best = [float("inf")] * len(calls)
    for _ in range(rounds):
        for number, call in enumerate(calls):
            times = max(1, round(0.2 / max(1e-5, min(0.2, time_once(call)))))
            start = time.thread_time()
            for _ in range(times):
                call()
            best[number] = min(best[number], (time.thread_time() - start) / times * 1e3)
    return best


def time_once(call: Callable[[], object]) -> float:
    start = time.thread_time()
    call()
    return time.thread_time() - start


if __name__ == "__main__":
    main()
