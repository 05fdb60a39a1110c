"""All that the checks look at; what several of them need is computed once."""

from functools import cached_property

import numpy as np
import numpy.typing as npt

from cnnclf.config import CheckConfig
from cnnclf.data.checks import Duplicates, find_duplicates
from cnnclf.data.manifest import SPLITS, Dataset
from cnnclf.quality.hash_join import Pairs
from cnnclf.quality.image_facts import ImageFacts
from cnnclf.quality.twins import NearPairs, find_near_pairs, identify_contents


class Evidence:
    """A dataset and the measurements of its images.

    Args:
        dataset: The dataset.
        facts: Its images.
        config: Settings of the check.
    """

    def __init__(self, dataset: Dataset, facts: ImageFacts, *, config: CheckConfig) -> None:
        self.dataset = dataset
        self.facts = facts
        self.config = config

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
        return find_near_pairs(self.facts, self.contents, mirrored=self.config.mirrored)

    def has(self, need: str) -> bool:
        """Return whether the dataset has what a check needs; see `Check.needs`."""
        manifest = self.dataset.manifest
        if need == "splits":
            return len(set(manifest.splits.tolist()) - {-1}) > 1
        if need == "classes":
            return len(set(manifest.class_indices.tolist())) > 1
        if need == "groups":
            return any(manifest.groups)
        return True

    def split_of(self, row: int) -> str:
        """Return the name of the split of an image, "" for none."""
        index = int(self.splits[row])
        return SPLITS[index] if index >= 0 else ""

    def label_of(self, row: int) -> str:
        """Return the label of an image."""
        return self.dataset.labels[int(self.classes[row])]
