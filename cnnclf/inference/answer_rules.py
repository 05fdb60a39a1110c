"""What is said of an image beside its labels: the set that holds the true one, and familiarity."""

import hashlib
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cnnclf.config import PredictConfig
from cnnclf.errors import UsageError
from cnnclf.inference.calibration_data import FIELD, can_compare, load_calibration
from cnnclf.inference.familiarity import Familiarity
from cnnclf.inference.label_sets import LabelSets


@dataclass(frozen=True, eq=False)
class AnswerRules:
    """How answers are made from logits and features.

    Args:
        sets: Finds sets of labels; None for none.
        familiarity: Compares images with training images; None where there is no index.
        unknown_by: What makes a label unknown: a low probability, a large distance, or either.
        limit: Familiarity at or below which an image is unlike anything learned.
    """

    sets: LabelSets | None = None
    familiarity: Familiarity | None = None
    unknown_by: str = "probability"
    limit: float = 0.0

    @property
    def features(self) -> int:
        """How many features a classifier has to be loaded with."""
        return self.familiarity.features if self.familiarity else 0

    @property
    def set_words(self) -> str:
        """How sets are made, such as "0.95 lac (1f40fc92)"; empty for none."""
        if self.sets is None:
            return ""
        return f"{self.sets.level:g} {self.sets.method} ({_hash(self.sets.limits)})"

    @property
    def familiar_words(self) -> str:
        """How familiarity is used, such as "both 0.01 (1f40fc92)"; empty for not at all."""
        if self.familiarity is None:
            return ""
        return f"{self.unknown_by} {self.limit:g} ({_hash(self.familiarity.distances)})"


def _hash(calibrated: npt.NDArray[np.float32]) -> str:
    """Tell calibrations apart: rows of two of them must not be mixed in one file."""
    return hashlib.sha256(calibrated.tobytes()).hexdigest()[:8]


def read_rules(
    content: Mapping[str, Any], directory: Path, *, config: PredictConfig
) -> AnswerRules:
    """Read from a bundle what the settings ask for.

    Args:
        content: Of classifier.json.
        directory: The bundle.
        config: Sets and familiarity.

    Raises:
        UsageError: The bundle lacks what is asked for; with how to get it.
        DataError: The sets need more images than the bundle was calibrated on.
        RunError: The file of the bundle is damaged.
    """
    level, unknown_by = config.sets, config.unknown_by
    by_distance = unknown_by != "probability"
    if content.get(FIELD) is None and (level is not None or by_distance):
        option = f"--sets {level:g}" if level is not None else f"--unknown-by {unknown_by}"
        raise UsageError(
            f"{directory} was not calibrated, which {option} needs",
            f"cnnclf calibrate {shlex.quote(str(directory))}",
        )
    data = load_calibration(content, directory)
    familiarity = data.familiarity if data is not None and can_compare(content) else None
    if familiarity is None and by_distance:
        raise UsageError(
            f"--unknown-by {unknown_by}: {directory} "
            + ("has no index of features" if can_compare(content) else "has logits only"),
            "cnnclf calibrate RUN makes one from the training images"
            if can_compare(content)
            else "use the run it was exported from, or --format keras; --unknown-by probability "
            "needs no features",
        )
    sets = None
    if data is not None and level is not None:
        sets = data.fit_sets(method=config.set_method, level=level, classes=len(content["labels"]))
    limit = familiarity.find_limit(config.min_familiar) if familiarity else 0.0
    return AnswerRules(sets, familiarity, unknown_by, limit)
