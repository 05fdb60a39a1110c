"""Almost equal images are found in memory that does not grow with their number."""

import tracemalloc
from pathlib import Path

import numpy as np

from cnnclf.quality.perceptual_hash import SIDE
from cnnclf.quality.twins import find_near_pairs

MAX_BYTES = 30_000_000  # beside the images themselves; the arrays of one chunk take most of it


def test_many_mapped_images_are_compared_some_at_a_time(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    count = 6_000
    images = rng.integers(0, 256, (count, SIDE, SIDE), dtype=np.uint8)
    images[count // 2 :] = images[: count // 2]  # each in two files: all pairs are verified
    images.tofile(tmp_path / "gray.u8")
    gray = np.memmap(tmp_path / "gray.u8", np.uint8, "r").reshape(-1, SIDE, SIDE)
    del images
    tracemalloc.start()
    contents, usable = np.arange(count), np.ones(count, bool)
    found = find_near_pairs(gray, contents, usable=usable, mirrored=False)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    half = np.arange(count // 2)
    order = np.argsort(found.rows[:, 0])
    assert np.array_equal(found.rows[order], np.stack([half, half + count // 2], axis=1))
    assert peak < MAX_BYTES


def test_a_pair_has_the_form_that_fits_best() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 200, (SIDE, SIDE), dtype=np.uint8)
    noisy = image[:, ::-1] + rng.integers(0, 9, image.shape, dtype=np.uint8)
    symmetric = np.concatenate([image[:, :16], image[:, 15::-1]], axis=1)
    gray = np.stack([image, noisy, symmetric, symmetric])
    found = find_near_pairs(gray, np.arange(4), usable=np.ones(4, bool), mirrored=True)
    assert found.rows.tolist() == [[2, 3], [0, 1]]
    assert found.forms == ["", "mirrored"]
    assert found.edges[0] > found.edges[1] > 0.9
