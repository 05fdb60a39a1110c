"""What networks say about the images of a dataset, for `cnnclf check`; computed when it asks."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cnnclf.config import CheckConfig
from cnnclf.data.manifest import Dataset
from cnnclf.data.store import open_pixels
from cnnclf.errors import ConfigError
from cnnclf.evaluation.predictions import check_labels, predict_rows
from cnnclf.inference.classifier import Classifier
from cnnclf.progress import Progress
from cnnclf.quality.check_evidence import Networks
from cnnclf.runs.run_directory import RunDirectory
from cnnclf.training.fitting.margins import read_margins
from cnnclf.training.frozen.embedding import embed_images

# Below, a classifier learns too little; above, features take longer than a minute or two.
_MIN_IMAGES, _MAX_IMAGES = 100, 5_000


def open_networks(
    dataset: Dataset, config: CheckConfig, *, run: Path | None = None, progress: Progress
) -> Networks:
    """Open the networks that a check asks.

    Args:
        dataset: The dataset.
        config: Says whether features are used; without a word, for 100 to 5,000 images.
        run: A run whose probabilities are used; a wrong one is refused here, at once.
        progress: Receives the progress.

    Raises:
        ConfigError: Features are wanted of something else than images.
        DataError: The dataset has labels that the run does not know.
        RunError: The run cannot be opened.
    """
    wanted = config.cross_validate
    if dataset.kind != "image":
        if wanted or config.embeddings:
            raise ConfigError(
                f"the features of a pretrained network are of images, not of {dataset.kind} files",
                "omit --cross-validate and --embeddings; --run RUN finds wrong labels, too",
            )
        wanted = False
    if wanted is None:
        wanted = config.embeddings or (
            run is None and _MIN_IMAGES <= len(dataset) <= _MAX_IMAGES and len(dataset.labels) > 1
        )
    judge: _Judge | None = None
    margins: dict[str, float] = {}
    if run is not None:
        classifier = Classifier.load(run, device="auto", threads=config.threads, progress=progress)
        check_labels(classifier.labels, dataset)
        judge = _Judge(classifier, config.threads, progress)
        margins = read_margins(RunDirectory(run).margins)
    embed = partial(embed_images, threads=config.threads, progress=progress) if wanted else None
    return Networks(embed, judge, margins)


@dataclass(eq=False)
class _Judge:
    """Computes the probabilities of a run, in the order of the labels of the dataset."""

    classifier: Classifier
    threads: int | None
    progress: Progress

    def __call__(self, dataset: Dataset, rows: npt.NDArray[np.intp]) -> npt.NDArray[np.float32]:
        pixels = open_pixels(
            dataset,
            self.classifier.input_spec,
            cache="none",
            rows=rows,
            threads=self.threads,
            progress=self.progress,
        )
        found = predict_rows(
            self.classifier, dataset, rows=rows, pixels=pixels, progress=self.progress
        )
        order = [self.classifier.labels.index(label) for label in dataset.labels]
        probabilities = np.full((len(dataset), len(order)), np.nan, np.float32)
        probabilities[found.rows] = found.probabilities[:, order]
        return probabilities
