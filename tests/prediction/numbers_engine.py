"""A fake engine that needs no model: it tells odd numbers from even ones by the names of files."""

from pathlib import Path
from typing import Any

import numpy as np

from cnnclf.errors import ImageError
from cnnclf.images.input_spec import InputSpec
from cnnclf.prediction.inputs import Found
from cnnclf.prediction.label_pipeline import PredictOptions
from cnnclf.prediction.predict import predict_images
from cnnclf.prediction.rows import Prediction
from cnnclf.prediction.summary import PredictSummary
from cnnclf.progress import Silent


class Rows(list[Prediction]):
    """Keeps rows in memory."""

    write = list[Prediction].append

    def flush(self) -> None:
        pass


class Numbers:
    """An engine of another kind: a file named 17.jpg holds the number 17, which is odd."""

    labels = ("even", "odd")
    input_spec = InputSpec(1, 1, 1)

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.broken: set[str] = set()
        self.not_numbers: set[int] = set()

    def decode(self, source: Path | bytes) -> np.ndarray:
        assert isinstance(source, Path)
        if source.name in self.broken:
            raise ImageError(f"{source}: expected an image, received text")
        if source.stem == "locked":
            raise PermissionError(13, "Permission denied", str(source))
        if source.stem == "huge":
            raise MemoryError
        return np.full((1, 1, 1), int(source.stem) % 256, np.uint8)

    def logits(self, pixels: np.ndarray) -> np.ndarray:
        self.batches.append(len(pixels))
        values = pixels.reshape(-1).astype(np.float32)
        logits = np.stack([1 - values % 2, values % 2], axis=1)
        logits[np.isin(values, list(self.not_numbers))] = np.nan
        return logits

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        powers = np.exp(np.asarray(logits, np.float64))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def numbers(count: int) -> list[Found]:
    return [Found(f"{number}.jpg") for number in range(count)]


def run(engine: Any, found: Any, **options: Any) -> tuple[Rows, PredictSummary]:
    rows = Rows()
    summary = predict_images(
        engine, found, rows=rows, options=PredictOptions(**options), progress=Silent()
    )
    return rows, summary
