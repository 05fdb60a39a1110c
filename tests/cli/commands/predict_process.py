"""`cnnclf predict` as a process of its own, with an engine that needs no model and is not fast.

Run as: python -m tests.cli.commands.predict_process ARGUMENTS...; the bundle must be a real one,
and the images are empty files named by numbers. CNNCLF_TEST_SLOW_S is what a batch takes.
"""

import os
import signal
import time
from typing import Any

import numpy as np

from cnnclf.cli.main import run
from cnnclf.inference.classifier import Classifier
from tests.prediction.numbers_engine import Numbers


class SlowNumbers(Numbers):
    """Like a classifier as far as the command looks."""

    bundle = {"sha256": "0" * 64}  # noqa: RUF012
    threshold = None

    @classmethod
    def load(cls, *_: Any, **__: Any) -> "SlowNumbers":
        return cls()

    def logits(self, pixels: np.ndarray) -> np.ndarray:
        time.sleep(float(os.environ["CNNCLF_TEST_SLOW_S"]))
        return super().logits(pixels)


if __name__ == "__main__":
    # A parent that ignores Ctrl-C hands that down.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    Classifier.load = SlowNumbers.load  # type: ignore[method-assign, assignment]
    run()
