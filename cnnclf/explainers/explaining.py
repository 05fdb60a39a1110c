"""From a model and images to figures: what `cnnclf explain` and `cnnclf.explain` do."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cnnclf.drawing.canvas import draw_canvas, save_canvas
from cnnclf.errors import CnnclfError, ImageError, UsageError
from cnnclf.explainers.descent_checkpoints import find_checkpoints
from cnnclf.explainers.explainer import ExplainContext, Explanation, Pixels, Subject
from cnnclf.explainers.explainer_table import ExplainerRow
from cnnclf.explainers.feature_maps import find_first_convolution
from cnnclf.explainers.heads import find_head
from cnnclf.explainers.map_figure import explain_by_maps
from cnnclf.explainers.network import read_layer_names
from cnnclf.files import atomic_path, safe_name
from cnnclf.images.decode import fit_pixels
from cnnclf.inference.bundles import Bundle
from cnnclf.names import suggest
from cnnclf.runtime.gradients import check_gradients

_ALL_LAYERS = "all"
_MAX_FIGURES = 200
_BATCH = 16  # images whose logits are computed at once


@dataclass(frozen=True)
class ExplainedImage:
    """The outcome of one view of one image.

    Args:
        path: The image; empty for a view of the network alone.
        view: A name of `EXPLAINERS`.
        label: The most probable label; empty without an image.
        probability: Its probability, 0..1; None without an image.
        figure: The PNG file; None if nothing was written.
        arrays: The file of arrays; None without --npz.
        summary: What was found, in one line.
        scores: Numbers and names, as JSON values.
        error: Why there is no explanation, or empty.
        skipped: Why the model cannot give this one of all views, or empty.
        explanation: Figure and arrays; None if there is none.
    """

    path: str
    view: str
    label: str = ""
    probability: float | None = None
    figure: Path | None = None
    arrays: Path | None = None
    summary: str = ""
    scores: dict[str, Any] = field(default_factory=dict)
    error: str = ""
    skipped: str = ""
    explanation: Explanation | None = field(default=None, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        names = [name for name in self.__dataclass_fields__ if name != "explanation"]
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class ExplainRequest:
    """What is explained.

    Args:
        views: Rows of `EXPLAINERS`.
        classes: Labels to explain; none: the most probable ones of each image.
        out: Directory of the figures; None writes nothing.
        npz: Write arrays, too.
        overwrite: Replace figures of earlier calls; if not, new ones of their names get a number.
        is_every: Whether all views were asked for, so that one the model cannot give is no error.
    """

    views: Sequence[ExplainerRow]
    classes: Sequence[str] = ()
    out: Path | None = None
    npz: bool = False
    overwrite: bool = False
    is_every: bool = False


def check_names(bundle: Bundle, *, classes: Sequence[str], layer: str | None) -> None:
    """Refuse names of classes and layers that a bundle has not, before a library is loaded.

    Args:
        bundle: The model.
        classes: Labels.
        layer: Names of layers, separated by commas; None or `all`.

    Raises:
        UsageError: There is no such class or layer.
    """
    _find_classes(bundle.labels, classes)
    if layer is None or layer == _ALL_LAYERS or bundle.model.format != "keras":
        return
    known = read_layer_names(bundle.model.path)
    for name in _split_names(layer) if known else ():
        if name not in known:
            raise UsageError(
                f"--layer {name}: the network has no layer of this name",
                suggest(name, known, count=3, cutoff=0.3) or "cnnclf describe lists them",
            )


def explain_images(
    context: ExplainContext,
    found: Iterable[tuple[str, str] | bytes | Pixels],
    *,
    request: ExplainRequest,
) -> Iterator[ExplainedImage]:
    """Explain images one after the other; logits are computed in batches.

    Args:
        context: Of the network.
        found: Path and error of each image, as `ImageInputs.find` yields them; or contents of
            files; or arrays, uint8 [H, W] or [H, W, C] of any size.
        request: Views and outputs.

    Yields:
        One outcome per image and view, in order; first those of the network alone. A view that is
        not possible for this model gives one outcome with an error, or says that it is skipped if
        all views were asked for, and the others continue.

    Raises:
        UsageError: A label or layer is unknown, or no view fits the network.
        CnnclfError: No view is possible, because the model is an export or the dataset is gone.
    """
    classes = _find_classes(context.network.labels, request.classes)
    possible, problems = _sort_views(context, request.views)
    if not possible:
        raise problems[0][1]
    for row, problem in problems:
        words = f"--show {row.name}: {problem.message}"
        if request.is_every:
            yield ExplainedImage("", row.name, skipped=words)
        else:
            yield ExplainedImage("", row.name, error=words)
    layers, written = find_layers(context), set[Path]()

    def write(made: Explanation, outcome: ExplainedImage, layer: str) -> ExplainedImage:
        layer = layer if len(layers) > 1 else ""
        return _write(made, outcome, request=request, layer=layer, written=written)

    every = [(row, layer) for row in possible for layer in (layers if row.is_of_layer else [""])]
    for row, layer in every:
        if not row.needs_image:
            made = row.load()(_at_layer(context, layer))
            outcome = ExplainedImage("", row.name)
            yield write(made, outcome, layer)
    views = [each for each in every if each[0].needs_image]
    # the others need logits only, from whatever engine there is
    ahead = any(row.needs_head for row, _ in views)
    for made_of in _open_subjects(context, found if views else (), classes=classes, ahead=ahead):
        if isinstance(made_of, ExplainedImage):
            yield made_of
            continue
        for row, layer in views:
            best = int(np.argmax(made_of.probabilities))
            label, probability = context.network.labels[best], float(made_of.probabilities[best])
            outcome = ExplainedImage(made_of.path, row.name, label, probability)
            made = make_explanation(_at_layer(context, layer), row, subject=made_of)
            yield write(made, outcome, layer)


def _open_subjects(
    context: ExplainContext,
    found: Iterable[tuple[str, str] | bytes | Pixels],
    *,
    classes: Sequence[int],
    ahead: bool,
) -> Iterator[Subject | ExplainedImage]:
    """Decode images, and compute what the network says about them, a batch at a time.

    With `ahead`, their last features, too.

    Yields:
        In order, a subject or, for an image that cannot be decoded, the outcome.
    """
    images, classifier = iter(found), context.network.classifier
    while chunk := list(islice(images, _BATCH)):
        decoded: list[tuple[str, Pixels | ExplainedImage]] = []
        for each in chunk:
            path, error = each if isinstance(each, tuple) else ("", "")
            if not path and isinstance(each, tuple):
                continue  # a list on stdin pauses
            try:
                if error:
                    raise ImageError(error)
                pixels = (
                    fit_pixels(each, classifier.input_spec)
                    if isinstance(each, np.ndarray)
                    else classifier.decode(each if isinstance(each, bytes) else Path(path))
                )
                decoded.append((path, pixels))
            except ImageError as failure:
                decoded.append((path, ExplainedImage(path, "", error=str(failure))))
        good = [image for _, image in decoded if isinstance(image, np.ndarray)]
        network, logits = context.network, iter(())
        if good:
            logits = iter(network.look_ahead(good) if ahead else network.logits(np.stack(good)))
        for path, image in decoded:
            if isinstance(image, ExplainedImage):
                yield image
            else:
                yield make_subject(context, image, path=path, classes=classes, logits=next(logits))


def make_subject(
    context: ExplainContext,
    pixels: Any,
    *,
    path: str = "",
    classes: Sequence[int] = (),
    logits: npt.NDArray[np.float32] | None = None,
) -> Subject:
    """Compute what the network says about an image.

    Args:
        context: Of the network.
        pixels: uint8 [H, W, C] of the input spec.
        path: Of the image.
        classes: Class indices to explain; none: the most probable ones.
        logits: float32 [K], if they are known.
    """
    known = context.network.logits(pixels[None])[0] if logits is None else logits
    probabilities = context.network.probabilities(known[None])[0]
    best = np.argsort(-probabilities, kind="stable")[: context.config.top_k]
    return Subject(path, pixels, known, probabilities, tuple(classes) or tuple(map(int, best)))


def make_explanation(
    context: ExplainContext, row: ExplainerRow, *, subject: Subject
) -> Explanation:
    """Compute one view of an image."""
    if row.is_map:
        return explain_by_maps(row, row.load(), context=context, subject=subject)
    explanation: Explanation = row.load()(context, subject)
    return explanation


def find_layers(context: ExplainContext) -> list[str]:
    """Return the layers that views of one layer look at; "" lets the view choose.

    Raises:
        UsageError: There is no such layer.
    """
    network, given = context.network, context.config.layer
    if given is None or not network.has_graph:
        return [given or ""]
    if given == _ALL_LAYERS:
        return [step.name for step in network.graph.convolutions]
    return [network.graph.find_layer(name).name for name in _split_names(given)]


def _split_names(given: str) -> list[str]:
    return list(dict.fromkeys(name.strip() for name in given.split(",")))


def check_count(context: ExplainContext, images: int, *, request: ExplainRequest) -> None:
    """Refuse to write far more figures than anybody looks at.

    Raises:
        UsageError: Several layers give more than 200 figures; it says how many.
    """
    layers = find_layers(context)
    figures = sum(
        (images if row.needs_image else 1) * (len(layers) if row.is_of_layer else 1)
        for row in request.views
    )
    if len(layers) > 1 and figures > _MAX_FIGURES:
        raise UsageError(
            f"--layer: {len(layers)} layers of {images} images would write {figures:,} figures",
            "name fewer layers, or explain fewer images with --limit",
        )


def _at_layer(context: ExplainContext, layer: str) -> ExplainContext:
    """Return a context whose views look at one layer; what is kept is shared."""
    config = context.config.model_copy(update={"layer": layer or None})
    return replace(context, config=config)


def _write(
    explanation: Explanation,
    outcome: ExplainedImage,
    *,
    request: ExplainRequest,
    layer: str,
    written: set[Path],
) -> ExplainedImage:
    """Write figure and arrays, and add the figure to `written`; return the outcome with both."""
    figure = arrays = None
    if request.out is not None:
        image = draw_canvas(
            explanation.tiles,
            title=explanation.title,
            lines=explanation.lines,
            bar=explanation.bar,
            side=explanation.side,
        )
        stem = safe_name(Path(outcome.path).stem, fallback="image") if outcome.path else "network"
        name = "-".join(filter(None, [stem, outcome.view, safe_name(layer, fallback="")]))
        figure = _choose_path(request.out, name, request=request, written=written)
        written.add(figure)
        save_canvas(image, figure)
        if request.npz:
            arrays = figure.with_suffix(".npz")
            with atomic_path(arrays) as temporary, temporary.open("wb") as file:
                np.savez_compressed(file, allow_pickle=False, **dict(explanation.arrays))
    return replace(
        outcome,
        figure=figure,
        arrays=arrays,
        summary=explanation.summary,
        scores=dict(explanation.scores),
        explanation=explanation,
    )


def _choose_path(
    directory: Path, name: str, *, request: ExplainRequest, written: set[Path]
) -> Path:
    """Return the first path, numbered if needed, that no file has or one that may be replaced."""
    number = 1
    while True:
        path = directory / (f"{name}.png" if number == 1 else f"{name}-{number}.png")
        files = [path, path.with_suffix(".npz")] if request.npz else [path]
        is_free = request.overwrite or not any(file.exists() for file in files)
        if is_free and path not in written:
            return path
        number += 1


def _find_classes(labels: Sequence[str], names: Sequence[str]) -> list[int]:
    for name in names:
        if name not in labels:
            raise UsageError(
                f"--class {name}: the network has no class of this name",
                suggest(name, labels, count=3, cutoff=0.3)
                or f"its classes are {', '.join(labels[:10])}",
            )
    return [labels.index(name) for name in dict.fromkeys(names)]


def _sort_views(
    context: ExplainContext, views: Sequence[ExplainerRow]
) -> tuple[list[ExplainerRow], list[tuple[ExplainerRow, CnnclfError]]]:
    """Find out which views are possible before the first image is explained.

    Returns:
        Views that are possible, and the others with the reason.

    Raises:
        UsageError: There is no such layer.
    """
    network = context.network
    find_layers(context)
    possible, problems = [], []
    for row in views:
        try:
            if row.needs_convolution:
                find_first_convolution(network.graph)
            elif row.needs_head:
                network.find_head()
            elif row.needs_graph:
                find_head(network.graph)
            if row.needs_gradient:
                check_gradients()
            if row.needs_checkpoints:
                find_checkpoints(network)
            if row.needs_dataset:
                context.training_images()
            possible.append(row)
        except CnnclfError as problem:
            problems.append((row, problem))
    return possible, problems
