"""Views: the mean of logits over mirrored and shifted images."""

from collections.abc import Generator, Iterable
from typing import Any

import numpy as np
import pytest

from cnnclf.inference.views import AveragedViews, make_views
from cnnclf.probabilities import softmax

PIXELS = np.random.default_rng(0).integers(0, 256, (3, 4, 32, 1), dtype=np.uint8)


class FirstColumn:
    """An engine whose logits are the sums of the first and the last column."""

    name, precision = "keras", "float32"

    def logits(self, pixels: np.ndarray) -> np.ndarray:
        return np.asarray(pixels[:, :, [0, -1], 0].sum(axis=1), np.float32)

    def stream(
        self, batches: Iterable[tuple[Any, np.ndarray]]
    ) -> Generator[tuple[Any, np.ndarray], None, None]:
        for tag, pixels in batches:
            yield tag, self.logits(pixels)


def test_a_mirrored_view_swaps_left_and_right() -> None:
    plain = FirstColumn().logits(PIXELS)
    found = AveragedViews(FirstColumn(), "mirror").logits(PIXELS)
    assert found == pytest.approx((plain + plain[:, ::-1]) / 2)
    assert not np.array_equal(found, plain)


def test_shifts_move_by_a_sixteenth_and_repeat_the_edge() -> None:
    views = list(make_views(PIXELS, "shifts"))
    assert len(views) == 5
    _, up, down, left, right = views
    assert np.array_equal(up[:, :-1], PIXELS[:, 1:])
    assert np.array_equal(up[:, -1], PIXELS[:, -1])
    assert np.array_equal(down[:, 1:], PIXELS[:, :-1])
    assert np.array_equal(left[:, :, :-2], PIXELS[:, :, 2:])
    assert np.array_equal(right[:, :, :3], PIXELS[:, :, [0, 0, 0]])


def test_of_probabilities_the_logits_are_averaged() -> None:
    """An export with probabilities gives the labels of the run that it was made from."""

    class Softmax(FirstColumn):
        def logits(self, pixels: np.ndarray) -> np.ndarray:
            return np.asarray(softmax(super().logits(pixels) / 100), np.float32)

    averaged = AveragedViews(Softmax(), "shifts", of_probabilities=True)
    expected = softmax(AveragedViews(FirstColumn(), "shifts").logits(PIXELS).astype(float) / 100)
    assert softmax(np.log(averaged.logits(PIXELS))) == pytest.approx(expected, abs=1e-6)
    [(_, streamed)] = averaged.stream([("a", PIXELS)])
    assert np.array_equal(streamed, averaged.logits(PIXELS))
    plain = AveragedViews(Softmax(), "shifts").logits(PIXELS)
    assert np.abs(plain - expected).max() > 0.01


@pytest.mark.parametrize("kind", ["none", "mirror", "shifts"])
def test_a_stream_gives_each_batch_once_also_empty_ones(kind: str) -> None:
    engine = AveragedViews(FirstColumn(), kind)
    batches = [("a", PIXELS), ("b", PIXELS[:0]), ("c", PIXELS[:1])]
    found = dict(engine.stream(batches))
    assert list(found) == ["a", "b", "c"]
    assert found["a"] == pytest.approx(engine.logits(PIXELS))
    assert [len(each) for each in found.values()] == [3, 0, 1]
