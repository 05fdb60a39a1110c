"""Opens what is explained: the model with its engine, and the dataset when a view needs it."""

from functools import partial
from pathlib import Path

from cnnclf.config import ExplainConfig
from cnnclf.errors import CnnclfError
from cnnclf.explainers.explainer import ExplainContext
from cnnclf.explainers.network import Network
from cnnclf.explainers.training_images import TrainingImages, sample_images
from cnnclf.inference.bundle_paths import find_bundle
from cnnclf.inference.bundles import read_bundle
from cnnclf.inference.classifier import Classifier
from cnnclf.inference.origins import Origin, find_origin, quote
from cnnclf.progress import Progress


def load_explained(
    path: Path, config: ExplainConfig, *, verbose: bool = False, progress: Progress
) -> Classifier:
    """Open a model with the engine that predict would choose, in float32 if nothing else is said.

    Raises:
        CnnclfError: As `Classifier.load`.
    """
    is_trained = read_bundle(find_bundle(path)).model.format == "keras"
    is_exact = is_trained and config.precision == "auto"
    return Classifier.load(
        path,
        engine=config.engine,
        precision="float32" if is_exact else config.precision,
        device=config.device,
        threads=config.threads,
        verbose=verbose,
        progress=progress,
    )


def open_context(
    classifier: Classifier,
    model: Path,
    *,
    config: ExplainConfig,
    data: str | Path | None = None,
    progress: Progress,
) -> ExplainContext:
    """Open what all explainers share; the dataset is opened only when a view needs it.

    Args:
        classifier: The trained network.
        model: Its path, as the user typed it.
        config: Settings.
        data: A dataset or any source that can be imported; None for that of the training.
        progress: Receives tasks and notes.
    """
    origin = find_origin(model, classifier.directory)
    open_images = partial(
        _open_images, classifier, origin, data=data, config=config, progress=progress
    )
    return ExplainContext(Network(classifier), config, open_images, progress)


def _open_images(
    classifier: Classifier,
    origin: Origin,
    *,
    data: str | Path | None,
    config: ExplainConfig,
    progress: Progress,
) -> TrainingImages:
    command = quote("cnnclf", "explain", origin.path, "IMAGES", "--data")
    try:
        dataset = origin.open_data(data, progress, command=command)
    except CnnclfError as error:
        error.add_note("views that need no training images work without it")
        raise
    return sample_images(
        dataset,
        classifier.input_spec,
        labels=classifier.labels,
        count=config.samples,
        seed=config.seed,
        progress=progress,
    )
