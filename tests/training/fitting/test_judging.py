"""What judging a checkpoint says about the time that later ones will take."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cnnclf.progress import Silent
from cnnclf.training.fitting import judging


@pytest.mark.parametrize(("count", "image_s", "load_s"), [(100, 0.01, 10.0), (36, 0.0, 10.36)])
def test_compiling_is_not_taken_for_the_time_of_images(
    monkeypatch: pytest.MonkeyPatch, count: int, image_s: float, load_s: float
) -> None:
    """Loading takes 5 s, compiling for 32 images 3 s, for a last batch of 4 another 2 s."""
    clock, sizes = SimpleNamespace(now=0.0), set[int]()

    def compute(pixels: Any) -> Any:
        clock.now += 0.01 * len(pixels)
        if len(pixels) not in sizes:
            clock.now += 2.0 if sizes else 3.0
            sizes.add(len(pixels))
        return np.zeros((len(pixels), 2), np.float32)

    def load(_path: Path) -> Any:
        clock.now += 5.0
        return SimpleNamespace(logits=compute)

    monkeypatch.setattr(judging, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    monkeypatch.setattr(judging, "Classifier", SimpleNamespace(load=load))
    dataset: Any = SimpleNamespace(manifest=SimpleNamespace(class_indices=np.zeros(count, int)))
    pixels: Any = SimpleNamespace(gather=lambda rows: rows)
    verdict = judging.judge_checkpoint(
        Path(),
        dataset,
        rows=np.arange(count),
        pixels=pixels,
        label_smoothing=0.0,
        progress=Silent(),
    )
    assert verdict.image_s == pytest.approx(image_s)
    assert verdict.load_s == pytest.approx(load_s)
