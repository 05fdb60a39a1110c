"""Draws and checks the maps of any method: over the image, alone, and one line of checks."""

from dataclasses import asdict
from functools import partial

import numpy as np
import numpy.typing as npt

from cnnclf.drawing.canvas import ColorBar, Tile
from cnnclf.drawing.color_maps import to_colors, to_signed_colors
from cnnclf.explainers.explainer import (
    ClassMaps,
    ExplainContext,
    Explanation,
    MapMethod,
    Pixels,
    Subject,
    keep,
)
from cnnclf.explainers.explainer_table import ExplainerRow
from cnnclf.explainers.fills import resize_map
from cnnclf.explainers.map_checks import CheckedImage, MapChecks, correlate_ranks

_WEAKEST, _STRONGEST = 0.5, 0.85  # how much an overlay covers the image, by the strength of the map


def explain_by_maps(
    row: ExplainerRow, method: MapMethod, *, context: ExplainContext, subject: Subject
) -> Explanation:
    """Compute, check and draw the maps of an image."""
    maps = method(context.network, subject.pixels, classes=subject.classes, config=context.config)
    checks = check_maps(row, method, maps=maps, context=context, subject=subject)
    return draw_maps(row, maps, checks=checks, context=context, subject=subject)


def check_maps(
    row: ExplainerRow,
    method: MapMethod,
    *,
    maps: ClassMaps,
    context: ExplainContext,
    subject: Subject,
) -> MapChecks | None:
    """Check the map of the first class; None if checks are off."""
    config, network = context.config, context.network
    if not config.checks:
        return None
    image = CheckedImage(network, subject.pixels, subject.classes[0], config.fill)
    shape = maps.values.shape[1:]
    edges = keep(subject, "edges", make=image.measure_edges)
    random = keep(
        subject, f"random {shape}", make=lambda: image.measure_random(shape, seed=config.seed)
    )
    found: list[float | None] = []
    cheaper = config | row.random_settings
    for number in range(row.random_networks if network.has_graph else 0):
        other = network.randomize(config.seed + number)
        first = subject.classes[:1]
        random_map = method(other, subject.pixels, classes=first, config=cheaper).values[0]
        if np.isfinite(random_map).all():
            found.append(correlate_ranks(maps.values[0], random_map))
    usable = [each for each in found if each is not None]
    randomized = float(np.mean(usable)) if usable else None
    ends = (float(subject.probabilities[subject.classes[0]]), image.filled_probability())
    return MapChecks(image.measure(maps.values[0]), random, edges, ends, randomized)


def draw_maps(
    row: ExplainerRow,
    maps: ClassMaps,
    *,
    checks: MapChecks | None,
    context: ExplainContext,
    subject: Subject,
) -> Explanation:
    """Draw maps with one scale of colors for all classes."""
    labels, config = context.network.labels, context.config
    limit = float(np.abs(maps.values).max()) or 1.0
    places = f"{maps.values.shape[1]}x{maps.values.shape[2]} places"
    completeness = describe_errors(maps)
    found = [part for part in (completeness, checks.words if checks else "") if part]
    about = f"checks for {labels[subject.classes[0]]} (fill {config.fill}): " if checks else ""
    bar = (
        ColorBar("signed", -limit, limit, "against (blue) and for (red) the class, per place")
        if maps.is_signed
        else ColorBar("importance", 0, limit, "importance for the class, per place")
    )
    return Explanation(
        rows=partial(_draw_tiles, maps, subject, labels, limit),
        title=describe_subject(subject, labels),
        lines=[f"{row.name}: {maps.method}; {places}.", about + "; ".join(found)],
        summary="; ".join(found),
        scores={
            "method": maps.method,
            "classes": [labels[index] for index in subject.classes],
            "completeness_errors": None if maps.errors is None else maps.errors.tolist(),
            "checks": asdict(checks) if checks else None,
        },
        arrays={"maps": maps.values, "classes": np.array([labels[i] for i in subject.classes])},
        bar=bar,
    )


def _draw_tiles(
    maps: ClassMaps, subject: Subject, labels: tuple[str, ...], limit: float
) -> list[list[Tile | None]]:
    image = to_rgb(subject.pixels)
    over: list[Tile | None] = [Tile(image, "the image", "as the network sees it")]
    alone: list[Tile | None] = [None]
    for number, index in enumerate(subject.classes):
        values = maps.values[number]
        caption = f"p = {subject.probabilities[index]:.3f}, logit {subject.logits[index]:+z.3f}"
        over.append(Tile(overlay(image, values, limit=limit), labels[index], caption))
        terms = maps.terms[number] if maps.terms else ""
        colors = _colors(values, limit, maps.is_signed)
        alone.append(Tile(colors, "", terms, like=image.shape[:2]))
    return [over, alone]


def describe_subject(subject: Subject, labels: tuple[str, ...]) -> str:
    """Return the title of a figure: what the network says about the image."""
    best = int(np.argmax(subject.probabilities))
    name = subject.path.rpartition("/")[2]
    answer = f"{labels[best]}, {100 * subject.probabilities[best]:.1f} %"
    return f"{name}: {answer}" if name else answer


def to_rgb(pixels: Pixels) -> Pixels:
    """Return uint8 [H, W, 3] of gray or color pixels."""
    return np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels


def overlay(image: Pixels, values: npt.NDArray[np.floating], *, limit: float) -> Pixels:
    """Color a faint gray version of an image by a map, strongly where the map is strong.

    Args:
        image: uint8 [H, W, 3].
        values: [h, w]; blue where negative, red where positive.
        limit: The absolute value that gets the darkest colors.
    """
    height, width = image.shape[:2]
    smooth = np.clip(resize_map(values, height, width=width) / limit, -1, 1)
    gray = image.mean(axis=2, keepdims=True)
    # No square root or absolute value alone: its steep ends draw lines where the sign changes.
    colors = to_signed_colors(smooth * (2 - np.abs(smooth)), 1.0)
    strength = (_WEAKEST + (_STRONGEST - _WEAKEST) * smooth**2)[..., None]
    mixed: Pixels = np.round(gray * (1 - strength) + colors * strength).astype(np.uint8)
    return mixed


def _colors(values: npt.NDArray[np.floating], limit: float, is_signed: bool) -> Pixels:
    if is_signed:
        return to_signed_colors(values, limit)
    return to_colors(values, "importance", low=0, high=limit)


def describe_errors(maps: ClassMaps) -> str:
    """Return whether maps add up, and the largest error; empty if they need not."""
    if maps.errors is None:
        return ""
    worst = float(maps.errors.max())
    amount = f"{worst:.1e}" if worst < 0.01 else f"{100 * worst:.1f} %"
    error = f"error {amount} of {maps.scale}"
    if np.isinf(maps.tolerance):
        return f"approximate: {error}"
    return f"complete: {error}" if worst <= maps.tolerance else f"NOT complete: {error}"
