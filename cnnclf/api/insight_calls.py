"""Python interface: what networks and filters see, and what they consist of."""

import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from cnnclf.api.arguments import (
    Logged,
    Settings,
    StrPath,
    list_images,
    path_of,
    resolve,
    source_of,
    texts_of,
)
from cnnclf.config import ConvolveConfig, ExplainConfig, TrainConfig
from cnnclf.progress import Progress
from cnnclf.runtime import keeping_policy

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from cnnclf.api.arguments import OneImage
    from cnnclf.data.manifest import Dataset
    from cnnclf.explainers.convolved_image import ConvolvedImage
    from cnnclf.explainers.explaining import ExplainedImage
    from cnnclf.explainers.network_description import NetworkDescription
    from cnnclf.inference.classifier import Classifier


@keeping_policy()
def explain(
    model: "Classifier | StrPath",
    images: "OneImage | Iterable[OneImage]" = (),
    *,
    show: str | Sequence[str] = (),
    classes: str | Sequence[str] = (),
    config: ExplainConfig | Settings | None = None,
    dataset: "Dataset | StrPath | None" = None,
    out: StrPath | None = None,
    progress: Progress | None = None,
) -> "list[ExplainedImage]":
    """Explain what a trained network sees in images.

    Args:
        model: A loaded classifier; or the directory of one.
        images: Files, folders and patterns, contents of files, or arrays, as with `predict`; none
            for views of the network alone.
        show: Names of views, as `cnnclf explain --help` lists them; none for `evidence`.
        classes: Labels to explain; none for the most probable ones of each image.
        config: Settings of `cnnclf explain`.
        dataset: Training images, for views that need them; None for those of the run.
        out: Directory of the figures; None writes none.
        progress: Receives tasks, notes and warnings; None for the logger `cnnclf`.

    Returns:
        One outcome per image and view, in order: `figure`, `summary`, `scores` and `explanation`,
        whose `arrays` are the numbers. An image that cannot be read has an `error`.

    Raises:
        ConfigError: A setting is unknown or wrong.
        DataError: There are no images at a path, or a view needs training images that are gone.
        RunError: The model cannot be loaded, or is an export and a view needs its layers.
        UsageError: A view, class or layer is unknown.

    Example:
        >>> [explained] = cnnclf.explain("runs/first", "cat.jpg")
        >>> explained.explanation.arrays["maps"].shape  # classes, height, width
        (2, 7, 7)
    """
    from cnnclf.explainers.explain_opening import load_explained, open_context
    from cnnclf.explainers.explainer_table import EVERY_VIEW, find_explainers
    from cnnclf.explainers.explaining import ExplainRequest, explain_images
    from cnnclf.inference.classifier import Classifier

    settings, _ = resolve(ExplainConfig, config)
    progress = progress or Logged()
    show = texts_of(show)
    views = find_explainers(show)
    classifier = (
        model
        if isinstance(model, Classifier)
        else load_explained(Path(model), settings, progress=progress)
    )
    context = open_context(
        classifier,
        path_of(model),
        config=settings,
        data=source_of(dataset),
        progress=progress,
    )
    request = ExplainRequest(
        views,
        texts_of(classes),
        None if out is None else Path(out),
        is_every=EVERY_VIEW in show,
    )
    found = _find_images(images, kind=classifier.input_spec.kind, progress=progress)
    return list(explain_images(context, found, request=request))


@keeping_policy()
def describe(
    model: StrPath | None = None,
    config: TrainConfig | Settings | None = None,
    *,
    backbone: str | None = None,
    image_size: tuple[int, int] | None = None,
    classes: int | None = None,
) -> "NetworkDescription":
    """Describe a network: its layers, parameters, compute, memory and receptive fields.

    Loads no weights; a network of `cnnclf train` needs no Keras.

    Args:
        model: A run directory, a checkpoint or a bundle; or None.
        config: Without `model`: settings of `cnnclf train`, whose network is described.
        backbone: Without `model`: a backbone by name.
        image_size: Height and width of the backbone's images in pixels; None for what it was
            trained on.
        classes: Outputs; None for 10, and for a backbone without a head.

    Returns:
        The description: `anatomy` (`layers`, `parameters`, `macs`, `flops`), `input_shape`,
        `training_bytes`, `compare_dense()`.

    Raises:
        ConfigError: A setting is unknown or wrong, or the network does not fit the images.
        RunError: The run is damaged, or has no Keras graph.

    Example:
        >>> cnnclf.describe(config={"model.preset": "textbook"}).anatomy.parameters
        3938570
    """
    from cnnclf.explainers import network_sources

    others = [each for each in (config, backbone) if each is not None]
    if len(others) + (model is not None) > 1 or (model is not None and classes is not None):
        raise TypeError("expected one network: a model, or config, or backbone")
    if image_size is not None and backbone is None:
        raise TypeError("image_size is for a backbone; config has data.image_size")
    if model is not None:
        return network_sources.describe_run(Path(model))
    if backbone is not None:
        return network_sources.describe_backbone(backbone, image_size=image_size, classes=classes)
    settings, given = resolve(TrainConfig, config)
    return network_sources.describe_cnn(
        settings, classes=classes or network_sources.DEFAULT_CLASSES, given=given
    )


@keeping_policy()
def convolve(
    image: "StrPath | npt.NDArray[np.uint8]",
    config: ConvolveConfig | Settings | None = None,
    *,
    progress: Progress | None = None,
) -> "ConvolvedImage":
    """Slide a filter over an image, exactly as a layer of Keras does.

    Args:
        image: A file; or uint8 [H, W], [H, W, 1] or [H, W, 3].
        config: Settings of `cnnclf convolve`.
        progress: Receives tasks, notes and warnings; None for the logger `cnnclf`.

    Returns:
        Each step: `convolved` (`image`, `kernel`, `per_channel`, `summed`,
        `arithmetic(row, column)`), `activated`, `result`, and `formulas()` of their sizes.

    Raises:
        ConfigError: A setting is unknown or wrong.
        UsageError: There is no such filter, or it does not fit the image.
        DataError: The image or the file of a kernel cannot be read.
        RunError: There is no network with the learned filter.

    Example:
        >>> cnnclf.convolve("photo.jpg", {"filter": "sobel-x", "padding": "same"}).result.shape
        (375, 500)
    """
    from cnnclf.explainers.convolved_image import convolve_image

    settings, _ = resolve(ConvolveConfig, config)
    source = Path(image) if isinstance(image, str | os.PathLike) else image
    return convolve_image(source, settings, progress=progress or Logged())


def _find_images(
    images: "OneImage | Iterable[OneImage]",
    *,
    kind: str,
    progress: Progress,
) -> "Iterator[tuple[str, str] | bytes | npt.NDArray[np.uint8]]":
    """Yield the path and error of each file, each content of a file or each array, in order."""
    from cnnclf.prediction.inputs import ImageInputs

    for is_path, group in groupby(list_images(images), lambda each: isinstance(each, str)):
        if is_path:
            paths = [each for each in group if isinstance(each, str)]
            inputs = ImageInputs(paths, progress=progress, kind=kind, keep_repeated=True)
            yield from inputs.find()
        else:
            yield from (each for each in group if not isinstance(each, str))
