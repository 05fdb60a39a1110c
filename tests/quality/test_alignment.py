"""Crops of one photo are found by aligning them; other photos are not."""

import random

import numpy as np
import pytest
from PIL import Image, ImageDraw

from cnnclf.quality.alignment import find_aligned
from cnnclf.quality.perceptual_hash import SIDE, Gray

LARGE = np.zeros(12, np.bool_)


def draw_scene(seed: int) -> Image.Image:
    rng = random.Random(seed)
    noise = Image.frombytes("L", (8, 6), rng.randbytes(48))
    scene = noise.resize((320, 240), Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(scene)
    for _ in range(8):
        x, y, size = rng.randrange(320), rng.randrange(240), rng.randrange(15, 60)
        pen.ellipse((x - size, y - size, x + size, y + size), fill=rng.randrange(256))
    return scene


def shrink(image: Image.Image) -> Gray:
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BOX))


@pytest.fixture(scope="module")
def scenes() -> list[Image.Image]:
    return [draw_scene(seed) for seed in range(12)]


@pytest.mark.parametrize(
    "box", [(0, 0, 320, 240), (16, 12, 304, 228), (40, 20, 310, 225), (0, 0, 290, 218)]
)
@pytest.mark.parametrize("is_mirrored", [False, True])
def test_crops_are_found_whichever_side_is_cropped(
    scenes: list[Image.Image], box: tuple[int, int, int, int], is_mirrored: bool
) -> None:
    crops = [shrink(each.crop(box)) for each in scenes]
    whole = np.stack([shrink(each) for each in scenes])
    other = np.stack([each[:, ::-1] if is_mirrored else each for each in crops])
    assert find_aligned(whole, other, are_small=LARGE).mean() > 0.9
    assert find_aligned(other, whole, are_small=LARGE).mean() > 0.9


def test_other_photos_are_not_found(scenes: list[Image.Image]) -> None:
    whole = np.stack([shrink(each) for each in scenes])
    assert not find_aligned(whole[:-1], whole[1:], are_small=~LARGE[1:]).any()


def test_copies_of_small_images_may_lose_more_edges(scenes: list[Image.Image]) -> None:
    tiny = [each.resize((32, 32), Image.Resampling.BOX) for each in scenes]
    crops = [each.crop((2, 1, 31, 30)).resize((32, 32), Image.Resampling.BICUBIC) for each in tiny]
    one, two = (np.stack([np.asarray(each) for each in some]) for some in (tiny, crops))
    noise = np.random.default_rng(0).normal(0, 25, two.shape)
    two = np.clip(two + noise, 0, 255).astype(np.uint8)
    found = [find_aligned(one, two, are_small=each).sum() for each in (LARGE, ~LARGE)]
    assert found[0] < found[1] > 8


def test_images_without_structure_are_not_aligned() -> None:
    flat = np.stack([np.full((SIDE, SIDE), value, np.uint8) for value in (0, 128, 255)])
    assert not find_aligned(flat, flat[::-1], are_small=~LARGE[:3]).any()
    assert find_aligned(flat[:0], flat[:0], are_small=LARGE[:0]).shape == (0,)
