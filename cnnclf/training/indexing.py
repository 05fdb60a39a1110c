"""The index of training images, by which `cnnclf predict` knows images unlike anything learned.

Keras takes longer for it than for everything else after training a backbone. From some images on it
is quicker to convert the network for the engine that `predict` will use, which is then there, too.
"""

import time
from typing import Any, Final

from cnnclf.errors import DataError, DeviceError
from cnnclf.evaluation.deciding import index_training
from cnnclf.files import format_bytes
from cnnclf.inference.classifier import Classifier
from cnnclf.inference.familiarity import count_index
from cnnclf.planning.finetune_plan import FinetunePlan
from cnnclf.training.frozen.feature_engines import foresee_engine
from cnnclf.training.work import Work

# EfficientNet-Lite0 on two cores: Keras takes 9 s for them; converting 4 s, and OpenVINO 2 s.
_CONVERT_FROM: Final = 1000
_SAVED: Final = 0.5  # of the time that Keras would take


def index_training_images(work: Work[Any], classifier: Classifier) -> None:
    """Store what tells images apart that are unlike the training images; computes some once.

    Args:
        work: The run.
        classifier: Its best checkpoint with all features, in Keras.
    """
    start = time.perf_counter()
    rows = work.rows["val"][work.judged]
    train = min(work.plan.counts["train"], count_index(classifier.features))
    if _pays(work, len(rows) + train):
        try:
            classifier = classifier.with_fast_engine(progress=work.progress)
        except DeviceError as error:  # no space for the converted model; Keras needs none
            work.progress.note(f"{error.message}: the index is computed in Keras")
    try:
        found = index_training(
            classifier, work.dataset, rows=rows, pixels=work.pixels, progress=work.progress
        )
    except DataError as error:
        work.progress.note(f"no index of training images: {error.message}")
        return
    if found.familiarity is not None:
        index, count = found.familiarity.index, len(found.familiarity.distances)
        # with fewer, `min_familiar` = 0.01 is below the smallest fraction there is
        nearer = f"all {count} val images" if count < 99 else "99 % of the val images"
        work.progress.note(
            f"index of {len(index):,} training images ({format_bytes(index.nbytes)}, "
            f"{time.perf_counter() - start:.1f} s): predict marks images that are less like these "
            f"than {nearer}"
        )


def count_saved(work: Work[FinetunePlan]) -> int:
    """Return how many images Keras could compute in the time that another engine saves it."""
    counts, indexed = work.plan.counts, work.plan.work.indexed
    val = min(counts["val"], 2000)
    images = val + min(counts["train"], indexed)
    return round(_SAVED * images) if indexed and val and _pays(work, images) else 0


def _pays(work: Work[Any], images: int) -> bool:
    """Return whether converting is quicker than computing that many images in Keras."""
    if images < _CONVERT_FROM or not isinstance(work.plan, FinetunePlan):
        return False  # networks from scratch are small
    is_exact = work.plan.config.runtime.deterministic
    return not is_exact and work.runtime.kind == "cpu" and foresee_engine() is not None
