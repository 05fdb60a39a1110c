"""How long `cnnclf finetune` will take: features of frozen layers, head, tail, and measuring.

The pace of the tail is measured where that is worth it (`training/precision.py`). Until then it is
estimated from the arithmetic of the backbone, of which Keras uses a known part of the processor.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from cnnclf.config import FinetuneConfig
from cnnclf.models.backbones import Backbone
from cnnclf.planning.pace import (
    START_S,
    Expectation,
    Pace,
    expect_epoch_s,
    expect_finish_s,
    measure_products,
    read_pace,
    write_pace,
)

FORWARD = "evaluation"  # rate of the whole network, beside those of training by precision

# Fraction of the speed of matrix products at which Keras computes a backbone, as measured: light
# stages move more than they compute.
_EFFICIENCY, _LIGHT_EFFICIENCY = 0.45, 0.2
_CACHED_STEP, _FROZEN_STEP, _WHOLE_STEP = 1.25, 2.25, 3.0  # forward passes that a step takes
_FEATURES = 5.0  # OpenVINO is that much faster
_DECODED = 400.0  # images per second
_HEAD_RATE = 30_000.0  # images per second on cached features
_SEARCHED = 6 * 20  # epochs of a search
_HEAD_S = 6.0  # building, loading weights, compiling
_INDEXED = 1400  # with 1,280 features, as most backbones have
_POINTS = 4  # between the phases that are measured on val


@dataclass(frozen=True)
class FinetuneWork:
    """What a fine-tuning computes, on paper.

    Args:
        row: The backbone.
        config: Settings in which nothing is "auto" but those of the head.
        counts: Images per split.
        frozen: The last frozen stage of the tail; empty: none; None: there is no tail.
        is_light: Whether the stages of the backbone are light.
    """

    row: Backbone
    config: FinetuneConfig
    counts: Mapping[str, int]
    frozen: str | None
    is_light: bool

    @property
    def is_cached(self) -> bool:
        """Whether the tail is trained on cached feature maps."""
        return self.config.features.cache and bool(self.frozen)

    def find_pace(self) -> Pace:
        """Return the measured pace of the tail and of the whole network, or an estimate."""
        known = read_pace(self._facts)
        if known is not None and FORWARD in known.rates:
            return known
        height, width = self._size
        area = height * width / self.row.default_size**2
        flops = max(1e6, 2e9 * self.row.gmacs * area)
        efficiency = _LIGHT_EFFICIENCY if self.is_light else _EFFICIENCY
        forward = efficiency * measure_products() / flops
        step = _CACHED_STEP if self.is_cached else _FROZEN_STEP if self.frozen else _WHOLE_STEP
        return Pace({"float32": forward / step, FORWARD: forward}, is_measured=False)

    def keep_pace(self, rates: Mapping[str, float]) -> None:
        """Keep what was measured."""
        write_pace(rates, self._facts)

    def expect(self, pace: Pace, precision: str) -> Expectation:
        """Return how long the run will take."""
        forward, tail = pace.rates[FORWARD], pace.rate(precision)
        counts, config = self.counts, self.config
        head_s = _HEAD_S + counts["val"] / forward  # judged through the whole network
        epochs = config.head.epochs
        if config.features.cache:
            images = counts["train"] * config.features.views + counts["val"]
            head_s += images * (1 / _DECODED + 1 / (_FEATURES * forward))
            epochs += _SEARCHED if config.head.search else 0
            head_s += epochs * counts["train"] / _HEAD_RATE
        else:
            head_s += epochs * (counts["train"] + counts["val"]) / forward
        parts = {"the first phase": head_s}
        finish_s = self.expect_finish_s(pace)
        if self.frozen is not None:
            parts["the second phase"] = int(config.tail.epochs) * self.expect_epoch_s(tail)
            finish_s += (_POINTS * counts["val"] / 3) / tail + min(counts["val"], 2000) / forward
        return Expectation(START_S + sum(parts.values()) + finish_s, pace, parts)

    def expect_epoch_s(self, rate: float) -> float:
        """Return the seconds of an epoch of the tail, at a rate in images per second."""
        return expect_epoch_s(rate, counts=self.counts)

    def expect_finish_s(self, pace: Pace) -> float:
        """Return the seconds after the last epoch."""
        return expect_finish_s(pace.rates[FORWARD] / 3, self.counts, indexed=self.indexed)

    @property
    def indexed(self) -> int:
        """Training images of the index, about."""
        return _INDEXED if self.config.training.calibrate else 0

    @property
    def _size(self) -> tuple[int, int]:
        size = self.config.data.image_size
        return (self.row.default_size,) * 2 if size == "auto" else size

    @property
    def _facts(self) -> list[object]:
        config = self.config
        step = [config.training.batch_size, config.optimizer.name, self.is_cached]
        return ["finetune", self.row.name, list(self._size), self.frozen, *step]


def correct_pace(pace: Pace, forward: float) -> Pace:
    """Scale a pace by what the whole network was seen to do, in images per second."""
    factor = forward / pace.rates[FORWARD]
    return replace(pace, rates={name: factor * rate for name, rate in pace.rates.items()})
