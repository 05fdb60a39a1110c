"""The checks tell a good map from a random one, and an image's edges from what was learned."""

import numpy as np
import pytest

from cnnclf.explainers.explainer import ExplainContext
from cnnclf.explainers.map_checks import CheckedImage, correlate_ranks, find_edges


class BrightSquare:
    """A network that sees only the brightness of one square."""

    has_graph = False
    labels = ("dark", "bright")

    def logits(self, pixels: np.ndarray) -> np.ndarray:
        brightness = pixels[:, 4:8, 4:8].mean(axis=(1, 2, 3)) / 255
        return np.stack([-brightness, brightness * 10 - 5], axis=1).astype(np.float32)

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        odds = np.exp(logits)
        return np.asarray(odds / odds.sum(axis=1, keepdims=True))


def make_image() -> CheckedImage:
    pixels = np.full((16, 16, 3), 20, np.uint8)
    pixels[4:8, 4:8] = 255
    return CheckedImage(BrightSquare(), pixels, 1, "gray")  # type: ignore[arg-type]


def test_the_right_map_beats_a_random_one() -> None:
    image = make_image()
    right = np.zeros((16, 16))
    right[4:8, 4:8] = 1
    good, wrong = image.measure(right), image.measure(-right)
    random = image.measure_random((16, 16), seed=0)
    assert good.deletion < random.deletion < wrong.deletion
    assert good.insertion > random.insertion > wrong.insertion


def test_random_maps_depend_only_on_the_seed() -> None:
    image = make_image()
    assert image.measure_random((4, 4), seed=1) == image.measure_random((4, 4), seed=1)
    assert image.measure_random((4, 4), seed=1) != image.measure_random((4, 4), seed=2)


def test_edges_are_where_brightness_changes() -> None:
    pixels = np.zeros((6, 8, 1), np.uint8)
    pixels[:, 4:] = 200
    edges = find_edges(pixels)
    assert edges.shape == (6, 8)
    assert (edges[:, 3:5] > 0).all()
    assert edges[:, :3].max() == edges[:, 5:].max() == 0


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [([1, 2, 3, 9], [2, 4, 6, 7], 1.0), ([1, 2, 3, 4], [4, 3, 2, 1], -1.0)],
)
def test_ranks_are_correlated(first: list[float], second: list[float], expected: float) -> None:
    assert correlate_ranks(np.array(first), np.array(second)) == pytest.approx(expected)


def test_equal_values_share_a_rank_and_a_constant_map_has_none() -> None:
    found = correlate_ranks(np.array([1.0, 1, 2, 3]), np.array([1.0, 2, 3, 4]))
    assert found == pytest.approx(0.9486832980505138)  # scipy.stats.spearmanr
    assert correlate_ranks(np.ones(4), np.arange(4.0)) is None


def test_a_randomized_network_is_another_one(tiny: ExplainContext) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3)).astype(np.uint8)
    shape = tiny.network.classifier.input_spec.shape
    pixels = pixels[:, : shape[0], : shape[1], : shape[2]]
    trained = tiny.network.logits(pixels)
    first = tiny.network.randomize(0).logits(pixels)
    second = tiny.network.randomize(1).logits(pixels)
    again = tiny.network.randomize(0).logits(pixels)
    assert np.isfinite(first).all()
    assert np.abs(first - second).max() > 1e-3
    assert np.abs(first - trained).max() > 1e-3
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(tiny.network.logits(pixels), trained)
