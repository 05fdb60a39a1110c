"""All that the checks look at; what several of them need is computed once."""

from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from cnnclf.config import CheckConfig
from cnnclf.data.checks import Duplicates, find_duplicates
from cnnclf.data.manifest import SPLITS, Dataset
from cnnclf.data.splits import find_components
from cnnclf.quality.fact_cache import load_features, load_pairs, save_features, save_pairs
from cnnclf.quality.hash_join import Pairs
from cnnclf.quality.image_facts import ImageFacts
from cnnclf.quality.neighbors import Neighbors, find_neighbors
from cnnclf.quality.network_features import NetworkFeatures
from cnnclf.quality.suspects import Judgement, cross_validate_labels
from cnnclf.quality.twins import MIN_CONTRAST, NearPairs, find_near_pairs, identify_contents

Embed = Callable[[Dataset, npt.NDArray[np.intp]], NetworkFeatures]
Judge = Callable[[Dataset, npt.NDArray[np.intp]], npt.NDArray[np.float32]]


class Networks(NamedTuple):
    """What networks say about images; computed when a check asks for it.

    Args:
        embed: From a dataset and rows to features, 0 for other rows; None for none.
        judge: From a dataset and rows to probabilities [N, K] of a run, NaN for other rows; None
            without a run.
        margins: How sure a run was of the label of each training image, by path, while it learned.
    """

    embed: Embed | None = None
    judge: Judge | None = None
    margins: Mapping[str, float] = MappingProxyType({})


NO_NETWORKS: Final = Networks()


@dataclass(eq=False)
class Evidence:
    """A dataset and the measurements of its images.

    Args:
        dataset: The dataset.
        facts: Its images.
        config: Settings of the check.
        place: File in the cache that what is computed is named after; None for no cache.
        networks: What networks say about the images.
    """

    dataset: Dataset
    facts: ImageFacts
    _: KW_ONLY
    config: CheckConfig
    place: Path | None = None
    networks: Networks = NO_NETWORKS

    @property
    def classes(self) -> npt.NDArray[np.int32]:
        """The class index of each image, int32 [N]."""
        return self.dataset.manifest.class_indices

    @property
    def splits(self) -> npt.NDArray[np.int8]:
        """The split of each image, index into `SPLITS` or -1, int8 [N]."""
        return self.dataset.manifest.splits

    @cached_property
    def rows_by_path(self) -> dict[str, int]:
        """The row of each path."""
        return {path: row for row, path in enumerate(self.dataset.manifest.paths)}

    @cached_property
    def contents(self) -> Pairs:
        """A number for each image that equal images share, int64 [N]."""
        return identify_contents(self.dataset, self.facts)

    @cached_property
    def duplicates(self) -> Duplicates:
        """Equal images."""
        return find_duplicates(self.contents, self.classes, splits=self.splits)

    @cached_property
    def near_pairs(self) -> NearPairs:
        """Images that are almost equal."""
        mirrored = self.config.mirrored
        found = load_pairs(self.place, mirrored=mirrored) if self.place else None
        if found is None:
            usable = self.facts.numbers["contrast"] >= MIN_CONTRAST
            found = find_near_pairs(
                self.facts.gray, self.contents, usable=usable, mirrored=mirrored
            )
            if self.place is not None:
                save_pairs(self.place, found, mirrored=mirrored)
        if self.config.embeddings and self.has("features"):
            found = found.join(self.neighbors, self.facts)
        return found

    @cached_property
    def features(self) -> NetworkFeatures:
        """Features of a pretrained network; 0 for images without any."""
        if self.networks.embed is None:
            raise ValueError("there are no features; see `has`")
        found = load_features(self.place, len(self.facts)) if self.place else None
        if found is None:
            found = self.networks.embed(self.dataset, self.facts.usable)
            if self.place is not None:
                save_features(self.place, found)
        return found

    @cached_property
    def neighbors(self) -> Neighbors:
        """The images nearest to each in these features."""
        return find_neighbors(self.features.last)

    @cached_property
    def run_judgement(self) -> Judgement | None:
        """What a run says about the labels; None without a run."""
        if self.networks.judge is None:
            return None
        probabilities = self.networks.judge(self.dataset, self.facts.usable)
        hits = probabilities.argmax(axis=1) == self.classes
        return Judgement(probabilities, float(hits[self.facts.usable].mean()), 1)

    @cached_property
    def is_slow_to_learn(self) -> dict[int, bool]:
        """Whether the margin of a row was among the lowest tenth; of rows that have one."""
        margins = self.networks.margins
        found = {
            row: margins[path]
            for row, path in enumerate(self.dataset.manifest.paths)
            if path in margins
        }
        limit = np.quantile(list(found.values()), 0.1) if found else 0.0
        return {row: bool(margin < limit) for row, margin in found.items()}

    @cached_property
    def judgement(self) -> Judgement:
        """What a classifier says that has not seen the image; without features, what a run says."""
        if self.networks.embed is None and self.run_judgement is not None:
            return self.run_judgement
        return cross_validate_labels(self.features, self.classes, units=self.units)

    @property
    def unjudged(self) -> tuple[str, ...]:
        """Labels of which too few images are known to judge them."""
        return tuple(self.dataset.labels[index] for index in self.judgement.unjudged)

    @cached_property
    def units(self) -> npt.NDArray[np.int64]:
        """A number for each image that its group, its duplicates and near duplicates share."""
        return self.find_units(np.ones(len(self.splits), bool))

    def find_units(self, kept: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
        """Return the units of the images that are kept; others hold no two of them together.

        Args:
            kept: bool [N].
        """
        groups = np.array(self.dataset.manifest.groups)
        # near duplicates of one of several equal images are those of the first that is kept
        _, contents = np.unique(self.contents, return_inverse=True)
        firsts = np.full(len(groups), -1)
        rows = np.flatnonzero(kept)[::-1]
        firsts[contents[rows]] = rows
        near = firsts[contents[self.near_pairs.rows]]
        edges = [near[(near >= 0).all(axis=1)]]
        for keys, has_key in ((contents, kept), (groups, kept & (groups != ""))):
            rows = np.flatnonzero(has_key)
            order = rows[np.argsort(keys[rows], kind="stable")]
            same = keys[order[1:]] == keys[order[:-1]]
            edges.append(np.stack([order[:-1][same], order[1:][same]], axis=1))
        return find_components(len(groups), np.concatenate(edges))

    def has(self, need: str) -> bool:
        """Return whether the dataset has what a check needs; see `Check.needs`."""
        manifest = self.dataset.manifest
        if need == "splits":
            return len(set(manifest.splits.tolist()) - {-1}) > 1
        if need == "classes":
            return len(set(manifest.class_indices.tolist())) > 1
        if need == "groups":
            return any(manifest.groups)
        if need == "features":
            return self.networks.embed is not None and self.facts.usable.size > 0
        if need == "features or a run":
            return self.has("classes") and any(self.networks) and self.facts.usable.size > 0
        return True

    def split_of(self, row: int) -> str:
        """Return the name of the split of an image, "" for none."""
        index = int(self.splits[row])
        return SPLITS[index] if index >= 0 else ""

    def label_of(self, row: int) -> str:
        """Return the label of an image."""
        return self.dataset.labels[int(self.classes[row])]
