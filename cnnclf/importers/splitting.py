"""The split of each image of a source, and the notes and warnings about it."""

import re
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from cnnclf.config import DEFAULT_SPLIT, ImportConfig
from cnnclf.data.manifest import Dataset
from cnnclf.data.manifest_rows import SPLITS
from cnnclf.data.splits import Fractions, Ids, Keys, assign_splits, check_fractions, join_units
from cnnclf.importers.sample_columns import SampleColumns
from cnnclf.names import count_of, name_some
from cnnclf.quality.twins import find_near_pairs

# Val, as a fraction of train, if a source has train and test only. 3,000 images give an accuracy to
# within one point (Wilson 95 % at 0.93: +-0.9); more would only be missing from training.
_VAL_FRACTION: Final = 0.1
_MAX_VAL: Final = 3_000

_SPLIT_AGAIN: Final = "--split 0.7,0.15,0.15 splits all images again"
_OPTIMISTIC: Final = (
    "models will be evaluated on val, which also selects the best epoch, so scores will be "
    "slightly too high"
)

# The largest group that near duplicates join: 2 % of all images, but of small sets a tenth, up to
# as many as a photo has copies where it was augmented before.
_MAX_GROUP: Final = 0.02
_MAX_GROUP_OF_FEW: Final = 0.1
_COPIES: Final = 20

_DIGEST: Final = re.compile("[0-9a-f]{64}")
_NO_DIGEST: Final = 32 * "0"  # of a manifest that somebody edited


@dataclass(frozen=True)
class Division:
    """The splits of a source.

    Args:
        splits: int8 [N], index into `SPLITS` or -1.
        kind: `made`, `kept` (from the source) or `kept, val from train`.
        contents: int64 [N], equal for images with the same bytes or the same pixels.
        notes: What the user should know.
        warnings: What the user may have to act on.
    """

    splits: npt.NDArray[np.int8]
    kind: str
    contents: Ids
    notes: list[str]
    warnings: list[str]


def split_images(
    columns: SampleColumns,
    labels: tuple[str, ...],
    *,
    gray: npt.NDArray[np.uint8],
    options: ImportConfig,
    earlier: Dataset | None = None,
) -> Division:
    """Keep the split of the source if it has one, or else make one.

    A source with train only has no split; with train and test, a tenth of train becomes val;
    without test, the split stays as it is. `options.split` overrides the source, and an
    earlier dataset both.

    Args:
        columns: The images.
        labels: In the order of the class indices.
        gray: uint8 [N, 32, 32], of which near duplicates are found; [0, 32, 32] for none.
        options: Options of the import.
        earlier: A dataset whose images stay in their split.
    """
    check_fractions(options.split or DEFAULT_SPLIT)
    contents = join_units(columns.files, columns.pixels)
    units = join_units(columns.files, columns.pixels, columns.groups)
    given = columns.splits
    present = {split for index, split in enumerate(SPLITS) if (given == index).any()}
    near = units
    if len(gray) and options.group_near_duplicates:
        every = np.ones(len(gray), np.bool_)
        pairs = find_near_pairs(gray, contents, usable=every, mirrored=False).rows
        near = _join_near(units, pairs)
    splitter = _Splitter(columns, labels, units, near=near, seed=options.seed)
    if options.split is not None or earlier is not None or present <= {"train"}:
        fractions = options.split or DEFAULT_SPLIT
        notes, warnings = [], []
        option = "--split" if earlier is None else "--keep-splits"
        if present == {"train"}:
            notes.append("the source has train but neither val nor test: all of it is split again")
        elif present:
            warnings.append(f"{option} replaces the split of the source")
        if earlier is None:
            splits = splitter.make(np.arange(len(columns)), fractions)
        else:
            known = _find_earlier(columns.files, earlier)
            splits = splitter.extend(known, fractions)
            count = int((known >= 0).sum())
            text = f"{count:,} of the {len(known):,} images stay in their split of {earlier.place}"
            (notes if count else warnings).append(text)
        notes += splitter.notes
        warnings += [*_report_absent(fractions), *splitter.report_missing(splits, fractions)]
        return Division(splits, "made", contents, notes, warnings)
    return _keep(splitter, given, present, contents, columns.groups)


def _keep(
    splitter: "_Splitter",
    given: npt.NDArray[np.int8],
    present: set[str],
    contents: Ids,
    groups: npt.NDArray[np.uint64],
) -> Division:
    splits, kind = given, "kept"
    notes = [f"the split of the source is kept ({', '.join(s for s in SPLITS if s in present)})"]
    warnings = []
    if present == {"train", "test"}:
        train = np.flatnonzero(given == SPLITS.index("train"))
        splits = given.copy()
        fraction = min(_VAL_FRACTION, _MAX_VAL / len(train))
        splits[train] = splitter.make(train, (1 - fraction, fraction, 0.0))
        kind = "kept, val from train"
        notes += splitter.notes
        taken = int((splits == SPLITS.index("val")).sum())
        notes.append(
            f"the source has no val: {count_of(taken, 'image')} ({100 * taken / len(train):.0f} "
            "%) of "
            "train became val"
        )
    elif "train" in present and "test" not in present:
        warnings.append(f"the source has no test images: {_OPTIMISTIC}; {_SPLIT_AGAIN}")
    if "train" not in present:
        warnings.append("the source has no train images: it is for evaluation only")
    warnings += splitter.report_unmeasured(splits)
    unsplit = int((given < 0).sum())
    if unsplit:
        warnings.append(
            f"{count_of(unsplit, 'image')} without a split, although others have one: not used"
        )
    torn = _count_torn(groups, splits)
    if torn:
        warnings.append(
            f"{count_of(torn, 'group')} in more than one split of the source, so scores may be too "
            "high; --split makes a new split"
        )
    return Division(splits, kind, contents, notes, warnings)


def _find_earlier(files: Keys, earlier: Dataset) -> npt.NDArray[np.int8]:
    """Return the split that each image has in another dataset, int8 [N]; -1 if it has none.

    Args:
        files: Hashes of the bytes of the files, as in `SampleColumns`.
        earlier: The other dataset; an image that is in several of its splits counts for the first.
    """
    digests = (
        digest[:32] if _DIGEST.fullmatch(digest) else _NO_DIGEST
        for digest in earlier.manifest.sha256
    )
    keys = np.frombuffer(bytes.fromhex("".join(digests)), "<u8").reshape(-1, 2).astype(np.uint64)
    ids = join_units(np.concatenate([keys, files]))
    found = np.full(len(ids), len(SPLITS), np.int8)
    used = np.flatnonzero(earlier.manifest.splits >= 0)
    np.minimum.at(found, ids[used], earlier.manifest.splits[used])
    known = found[ids[len(keys) :]]
    return np.where(known < len(SPLITS), known, -1).astype(np.int8)


def _report_absent(fractions: Fractions) -> list[str]:
    """Report what it means that a split gets no images."""
    _, val, test = fractions
    if not val and not test:
        return ["--split makes neither val nor test images: nothing will measure the models"]
    if not val:
        return ["--split makes no val images: the last epoch will count as the best"]
    return [] if test else [f"--split makes no test images: {_OPTIMISTIC}"]


class _Splitter:
    """Makes splits of some of the images."""

    def __init__(
        self,
        columns: SampleColumns,
        labels: tuple[str, ...],
        units: Ids,
        *,
        near: Ids,
        seed: int,
    ) -> None:
        self.notes: list[str] = []
        self._near = near
        self._labels = labels
        self._class_indices = columns.class_indices(labels)
        self._digests = columns.files
        self._units = units
        self._seed = seed

    def make(self, rows: Ids, fractions: Fractions) -> npt.NDArray[np.int8]:
        """Split the images of some rows; report the near duplicates that stay together."""
        plain = self._assign(rows, self._units, fractions)
        if np.array_equal(self._near, self._units):
            return plain
        self.notes += _report_near(self._near[rows], self._units[rows], splits=plain)
        return self._assign(rows, self._near, fractions)

    def extend(self, known: npt.NDArray[np.int8], fractions: Fractions) -> npt.NDArray[np.int8]:
        """Split the images whose split is not known.

        Args:
            known: int8 [N], index into `SPLITS` or -1. Images of one unit may be in several splits;
                those that come to it go to the first of these.
            fractions: Of all images.
        """
        kept = known >= 0
        first = np.full(len(known), len(SPLITS), np.int8)
        np.minimum.at(first, self._near[kept], known[kept])
        joined = first[self._near]
        known = np.where(kept | (joined == len(SPLITS)), known, joined)
        return self._assign(np.arange(len(known)), self._near, fractions, known=known)

    def _assign(
        self,
        rows: Ids,
        ids: Ids,
        fractions: Fractions,
        *,
        known: npt.NDArray[np.int8] | None = None,
    ) -> npt.NDArray[np.int8]:
        _, units = np.unique(ids[rows], return_inverse=True)
        return assign_splits(
            self._class_indices[rows],
            units,
            digests=self._digests[rows],
            classes=len(self._labels),
            fractions=fractions,
            seed=self._seed,
            known=known,
        )

    def report_missing(self, splits: npt.NDArray[np.int8], fractions: Fractions) -> list[str]:
        """Report which classes are too small for all splits."""
        wanted = [index for index, fraction in enumerate(fractions) if fraction]
        table = self._count(splits)
        small: dict[str, list[str]] = {}
        for place, label in enumerate(self._labels):
            missing = [SPLITS[index] for index in wanted if not table[index, place]]
            total = int(table[:, place].sum())
            if missing and total:
                small.setdefault(" and ".join(missing), []).append(f"{label} ({total})")
        return [
            f"too few different images or groups for every split, none in {missing}: "
            f"{name_some(classes)}"
            for missing, classes in small.items()
        ]

    def report_unmeasured(self, splits: npt.NDArray[np.int8]) -> list[str]:
        """Report which classes of train a split of the source has no images of."""
        train, *others = self._count(splits)
        return [
            f"{SPLITS[index]} has no images of {name_some(absent)}, so it does not measure them; "
            f"{_SPLIT_AGAIN}"
            for index, counts in enumerate(others, 1)
            if counts.any()
            and (absent := [self._labels[at] for at in np.flatnonzero((counts == 0) & (train > 0))])
        ]

    def _count(self, splits: npt.NDArray[np.int8]) -> Ids:
        """Count the images of each split and class."""
        used = splits >= 0
        pairs = splits[used].astype(np.int64) * len(self._labels) + self._class_indices[used]
        counts = np.bincount(pairs, minlength=len(SPLITS) * len(self._labels))
        return counts.reshape(len(SPLITS), -1)


def _join_near(units: Ids, pairs: Ids) -> Ids:
    """Join units that have near duplicates, the most similar first, into groups of limited size.

    Where all images are alike, a chain of pairs would join them all, and nothing could be split.
    """
    few = min(_COPIES, int(_MAX_GROUP_OF_FEW * len(units)))
    limit = max(2, few, int(_MAX_GROUP * len(units)))
    sizes = np.bincount(units, minlength=len(units))
    roots = np.arange(len(units))

    def find(unit: int) -> int:
        while roots[unit] != unit:
            roots[unit] = roots[roots[unit]]
            unit = int(roots[unit])
        return unit

    for one, two in units[pairs].tolist():
        first, second = sorted((find(one), find(two)))
        if first != second and sizes[first] + sizes[second] <= limit:
            roots[second] = first
            sizes[first] += sizes[second]
    for unit in np.unique(units[pairs]).tolist():
        roots[unit] = find(unit)
    return roots[units]


def _report_near(near: Ids, units: Ids, *, splits: npt.NDArray[np.int8]) -> list[str]:
    """Report how many near duplicates stay together that would have been in several splits.

    Args:
        near: int64 [n], equal for images that stay together.
        units: int64 [n], equal for those that would stay together in any case.
        splits: int8 [n], without regard to near duplicates.
    """
    pairs = np.unique(np.stack([near, units], axis=1), axis=0)
    names, counts = np.unique(pairs[:, 0], return_counts=True)
    mine = np.isin(near, names[counts > 1])
    if not mine.any():
        return []
    _, groups = np.unique(near[mine], return_inverse=True)
    table = np.zeros((groups.max() + 1, len(SPLITS)), np.int64)
    np.add.at(table, (groups, splits[mine]), 1)
    moved = int((table.sum(axis=1) - table.max(axis=1)).sum())
    note = (
        f"{count_of(int(mine.sum()), 'image')} in {count_of(len(table), 'group')} of near "
        "duplicates stay in one split each"
    )
    if moved:
        note += (
            f": {count_of(moved, 'image')} moved to the split of the others; "
            "--no-group-near-duplicates splits them like all others"
        )
    return [note]


def _count_torn(groups: npt.NDArray[np.uint64], splits: npt.NDArray[np.int8]) -> int:
    """Count the groups with images in more than one split."""
    rows = np.flatnonzero(groups.any(axis=1) & (splits >= 0))
    units = join_units(groups[rows])
    pairs = np.unique(units * len(SPLITS) + splits[rows]) // len(SPLITS)
    return int((np.unique(pairs, return_counts=True)[1] > 1).sum())
