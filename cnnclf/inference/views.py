"""Several views of each image, mirrored or shifted, whose logits are averaged."""

from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing

import numpy as np

from cnnclf.inference.engines.engine import Engine, Logits, Pixels, Tag

MIN_PROBABILITY = 1e-30
"""Smaller probabilities of an artifact are rounded up to this one, whose logarithm is finite."""

_SHIFT = 1 / 16  # of the size


class AveragedViews:
    """An engine that computes several views of each image with another engine.

    Args:
        engine: Computes each view.
        kind: `mirror`: the image and its mirror image. `shifts`: the image, and moved by a
            sixteenth to each side, with its edge repeated.
        of_probabilities: Whether the engine returns probabilities: those whose logarithms are the
            mean of logarithms, as if logits were averaged.
    """

    def __init__(self, engine: Engine, kind: str, *, of_probabilities: bool = False) -> None:
        self._engine = engine
        self.kind = kind
        self._of_probabilities = of_probabilities
        self.name = engine.name
        self.precision = engine.precision
        self.count = sum(1 for _ in make_views(np.zeros((0, 1, 1, 1), np.uint8), kind))

    def logits(self, pixels: Pixels) -> Logits:
        """Compute one batch."""
        return self._average([self._engine.logits(v) for v in make_views(pixels, self.kind)])

    def stream(
        self, batches: Iterable[tuple[Tag, Pixels]]
    ) -> Generator[tuple[Tag, Logits], None, None]:
        """Compute batches in order; see `Engine.stream`."""

        def views() -> Iterator[tuple[Tag, Pixels]]:
            for tag, pixels in batches:
                for view in make_views(pixels, self.kind):
                    yield tag, view

        found: deque[Logits] = deque()
        with closing(self._engine.stream(views())) as results:
            for tag, logits in results:
                found.append(logits)
                if len(found) == self.count:
                    yield tag, self._average(found)
                    found.clear()

    def _average(self, views: Sequence[Logits]) -> Logits:
        if not self._of_probabilities:
            return np.asarray(np.mean(views, axis=0, dtype=np.float64), np.float32)
        values = np.maximum(np.asarray(views, np.float64), MIN_PROBABILITY)
        return np.asarray(np.exp(np.log(values).mean(axis=0)), np.float32)


def make_views(pixels: Pixels, kind: str) -> Iterator[Pixels]:
    """Yield the views of images, uint8 [n, H, W, C]; the first is the images themselves.

    Args:
        pixels: uint8 [n, H, W, C].
        kind: none, mirror or shifts.
    """
    yield pixels
    if kind == "mirror":
        yield mirror(pixels)
    elif kind == "shifts":
        height, width = pixels.shape[1:3]
        for down, right in ((-1, 0), (1, 0), (0, -1), (0, 1)):
            rows = np.arange(height) - down * max(1, round(height * _SHIFT))
            columns = np.arange(width) - right * max(1, round(width * _SHIFT))
            rows, columns = np.clip(rows, 0, height - 1), np.clip(columns, 0, width - 1)
            yield pixels[:, rows[:, None], columns[None]]


def mirror(pixels: Pixels) -> Pixels:
    """Exchange left and right of images [n, H, W, C]."""
    return np.ascontiguousarray(pixels[:, :, ::-1])
