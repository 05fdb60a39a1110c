"""Finds the layers of a backbone among the layers of a file, by order and shapes.

Names cannot decide alone: Keras numbers some anew for each model. In an older file the backbone is
an unbroken run of layers. In a newer one, layers of one class keep their order within each model,
so the backbone is a run in each class. Before and behind the runs a file may hold other layers: a
head, a whole other model around it.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from cnnclf.models.weights.stored_layers import Container, Shape, StoredLayer, StoredModel


@dataclass(frozen=True)
class WantedLayer:
    """A layer of a built backbone.

    Args:
        name: Its name.
        kind: Its class, as newer files spell it.
        weights: Its Keras variables, trainable ones first.
        shapes: Their shapes.
        parts: The layers of a layer that is a model itself.
    """

    name: str
    kind: str
    weights: tuple[Any, ...]
    shapes: tuple[Shape, ...]
    parts: tuple["WantedLayer", ...] = ()

    @property
    def leaves(self) -> tuple["WantedLayer", ...]:
        """The layer itself, or the layers in it."""
        return self.parts or (self,)

    @property
    def has_own_name(self) -> bool:
        """Whether its name was given, not numbered by Keras."""
        return re.fullmatch(rf"{self.kind}(_\d+)?", self.name) is None


@dataclass(frozen=True)
class Pair:
    """A wanted layer and what a file has for it, if anything."""

    wanted: WantedLayer
    stored: StoredLayer | None

    @property
    def fits(self) -> bool:
        """Whether the shapes are the same."""
        return self.stored is not None and self.stored.shapes == self.wanted.shapes


def list_wanted(model: Any) -> tuple[WantedLayer, ...]:
    """List the layers of a built backbone that have weights, in their order."""
    wanted = []
    for layer in model.layers:
        # of a frozen layer Keras counts all weights as not trainable, in the same order
        weights = (*layer.trainable_weights, *layer.non_trainable_weights)
        if weights:
            parts = list_wanted(layer) if hasattr(layer, "layers") else ()
            shapes = tuple(tuple(each.shape) for each in weights)
            wanted.append(WantedLayer(layer.name, _kind(layer), weights, shapes, parts))
    return tuple(wanted)


def match_layers(
    wanted: Sequence[WantedLayer], stored: StoredModel, *, check_names: bool
) -> tuple[list[Pair], list[Pair]]:
    """Find each wanted layer in a file.

    Args:
        wanted: What `list_wanted` gave.
        stored: What the file holds.
        check_names: Also refuse a layer whose name the file gives to another one. Layers of equal
            shape in another order are noticed by this alone.

    Returns:
        All pairs in the order of the backbone, as near as the file comes, and those that do not
        fit; the file serves if there are none.
    """
    nearest: tuple[list[Pair], list[Pair]] | None = None
    for pairs, names in _try_all(wanted, stored):
        misfits = [
            pair for pair in pairs if not pair.fits or (check_names and _is_misnamed(pair, names))
        ]
        if nearest is None or len(misfits) < len(nearest[1]):
            nearest = (pairs, misfits)
        if not misfits:
            break
    if nearest is None:
        raise ValueError("expected at least one list or container of layers, received none")
    return nearest


_Attempt = tuple[list[Pair], set[str]]


def _try_all(wanted: Sequence[WantedLayer], stored: StoredModel) -> Iterator[_Attempt]:
    apart = [leaf for layer in wanted for leaf in layer.leaves]
    for layers in stored.lists:
        names = {layer.name for layer in layers}
        for each in (wanted, apart):
            for run in _runs(len(each), layers):
                yield [Pair(*pair) for pair in zip(each, run, strict=True)], names
    order = {id(leaf): index for index, leaf in enumerate(apart)}
    for container in stored.containers:
        pairs = _pair_container(wanted, container)
        pairs.sort(key=lambda pair: order[id(pair.wanted)])
        yield pairs, {leaf.name for leaf in container.leaves()}


def _pair_container(wanted: Sequence[WantedLayer], container: Container) -> list[Pair]:
    kinds: dict[str, list[WantedLayer]] = {}
    for layer in wanted:
        kinds.setdefault(layer.kind, []).append(layer)
    pairs = []
    for kind, layers in kinds.items():
        runs = _runs(len(layers), container.kinds.get(kind, ()))
        attempts = (_pair_run(layers, run) for run in runs)
        pairs += min(attempts, key=lambda attempt: sum(not pair.fits for pair in attempt))
    return pairs


def _pair_run(
    wanted: Sequence[WantedLayer], run: Sequence[StoredLayer | Container | None]
) -> list[Pair]:
    pairs = []
    for layer, stored in zip_longest(wanted, run):
        if layer.parts and isinstance(stored, Container):
            pairs += _pair_container(layer.parts, stored)
        else:
            found = stored if isinstance(stored, StoredLayer) and not layer.parts else None
            pairs += [Pair(leaf, found) for leaf in layer.leaves]
    return pairs


def _runs(length: int, stored: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """Cut every unbroken run of a length out of a sequence; one that is too short is filled up."""
    missing = length - len(stored)
    if missing > 0:
        yield (*stored, *([None] * missing))
        return
    for start in range(len(stored) - length + 1):
        yield stored[start : start + length]


def _is_misnamed(pair: Pair, names: set[str]) -> bool:
    wanted, stored = pair.wanted, pair.stored
    is_other = stored is not None and stored.name != wanted.name
    return is_other and wanted.has_own_name and wanted.name in names


def _kind(layer: Any) -> str:
    """Spell a class as newer files do: `BatchNormalization` is `batch_normalization`."""
    name = re.sub(r"\W+", "", type(layer).__name__)
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()
