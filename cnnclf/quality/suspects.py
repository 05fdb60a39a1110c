"""Which images other images disagree with: probabilities from a classifier that has not seen them.

A linear classifier is fitted to features of a pretrained network, in folds: each image gets
probabilities from a fit without it. Groups, duplicates and near duplicates are never on both sides,
as a copy with the same wrong label would confirm it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from cnnclf.data.checks import FEW_IMAGES
from cnnclf.names import name_some
from cnnclf.probabilities import softmax
from cnnclf.quality.network_features import NetworkFeatures

Floats = npt.NDArray[np.float32]

_FOLDS: Final = 5
_MAX_REPEATS: Final = 4
_STABLE: Final = 0.95  # of the first tenth of the ranking stays when folds are drawn again
_DOUBTED: Final = -0.5  # margin of labels from which nothing is learned the second time
_SURE: Final = 0.9  # probability of another label, however probable that label usually is
_TRUSTED: Final = 0.9  # agreement with labels, above which most suspects are wrong labels
_STEPS: Final = 60
_PENALTIES: Final = (0.1, 0.4, 1.5)
_DIMENSIONS: Final = 512  # main directions of the features
_BLOCK: Final = 4096  # images at once
_TINY: Final = 1e-12


@dataclass(frozen=True, eq=False)
class Judgement:
    """What the other images say about the label of each.

    Args:
        probabilities: float32 [N, K], of a classifier that has not seen the image; NaN if there are
            no features of it.
        accuracy: Fraction of the images whose label is the most probable one; NaN if there is none.
        repeats: How often folds were drawn.
        unjudged: Class indices of which too few images are known to judge their labels.
    """

    probabilities: Floats
    accuracy: float
    repeats: int
    unjudged: tuple[int, ...] = ()

    def margins(self, classes: npt.NDArray[np.int32]) -> npt.NDArray[np.float64]:
        """Return how much more probable the given label is than the best other one, -1 to 1.

        The difference of both probabilities in units of their sum, so that it grows with their
        ratio: a label without any probability is more suspicious than one that comes second.

        Args:
            classes: int32 [N], the given labels.

        Returns:
            float64 [N].
        """
        rows = np.arange(len(classes))
        given = self.probabilities[rows, classes].astype(np.float64)
        others = self.probabilities.copy()
        others[rows, classes] = -np.inf
        best = others.max(axis=1)
        margins: npt.NDArray[np.float64] = (given - best) / (given + best + _TINY)
        return margins


def cross_validate_labels(
    features: NetworkFeatures,
    classes: npt.NDArray[np.int32],
    *,
    units: npt.NDArray[np.int64],
) -> Judgement:
    """Judge each label by a classifier that was fitted without the image.

    Args:
        features: Of N images.
        classes: int32 [N].
        units: int64 [N], equal for images that must be on the same side of a fold.

    Returns:
        The mean over several drawings of folds, as many as make the ranking stable. In each, labels
        that the other folds contradict are no longer learned from the second time. With fewer than
        two units there is nothing to learn from, and all is NaN.
    """
    rows = np.flatnonzero(features.known)
    if len(np.unique(units[rows])) < 2:
        unknown = np.full((len(classes), int(classes.max()) + 1), np.nan, np.float32)
        return Judgement(unknown, float("nan"), 0)
    names, labels = np.unique(classes[rows], return_inverse=True)
    x = _reduce(np.concatenate([each[rows] for each in features], axis=1))
    total = np.zeros((len(rows), len(names)), np.float32)
    first: set[int] = set()
    penalty, repeats = 0.0, 0
    for seed in range(_MAX_REPEATS):
        folds = _draw_folds(units[rows], labels, seed=seed)
        penalty = penalty or _choose_penalty(x, labels, folds)
        doubtful = np.zeros(len(rows), np.bool_)
        doubtful = _find_doubtful(
            _judge_folds(x, labels, folds=folds, penalty=penalty, doubtful=doubtful), labels
        )
        total += _judge_folds(x, labels, folds=folds, penalty=penalty, doubtful=doubtful)
        repeats += 1
        before, first = first, _rank_first(total, labels)
        if len(before & first) >= _STABLE * len(first):
            break
    probabilities = np.full((len(classes), int(classes.max()) + 1), np.nan, np.float32)
    probabilities[rows] = 0
    probabilities[np.ix_(rows, names)] = total / repeats
    hits = total.argmax(axis=1) == labels
    unjudged = names[_find_unjudged(hits, labels, units=units[rows])]
    return Judgement(probabilities, float(hits.mean()), repeats, tuple(unjudged.tolist()))


def _find_unjudged(
    hits: npt.NDArray[np.bool_], labels: npt.NDArray[np.intp], *, units: npt.NDArray[np.int64]
) -> npt.NDArray[np.bool_]:
    """Return which labels have few images, copies counted once, most of which are contradicted."""
    pairs = np.unique(np.stack([labels, units]), axis=1)
    return (np.bincount(pairs[0]) < FEW_IMAGES) & (
        np.bincount(labels, hits) < 0.5 * np.bincount(labels)
    )


def _judge_folds(
    x: Floats,
    labels: npt.NDArray[np.intp],
    *,
    folds: npt.NDArray[np.intp],
    penalty: float,
    doubtful: npt.NDArray[np.bool_],
) -> Floats:
    """Return what a fit to the other folds, without the doubtful, says of each image."""
    count = int(labels.max()) + 1
    found = np.zeros((len(x), count), np.float32)
    for fold in range(_FOLDS):
        mine, learned = folds == fold, (folds != fold) & ~doubtful
        if mine.any() and learned.any():
            weights = fit_logistic(x[learned], labels[learned], classes=count, penalty=penalty)
            found[mine] = softmax(x[mine] @ weights)
    return found


def _find_doubtful(probabilities: Floats, labels: npt.NDArray[np.intp]) -> npt.NDArray[np.bool_]:
    """Return which labels are contradicted; none of a label that would lose half of its images."""
    margins = Judgement(probabilities, 0.0, 1).margins(labels.astype(np.int32))
    doubtful: npt.NDArray[np.bool_] = margins < _DOUBTED
    lost = np.bincount(labels, doubtful) / np.bincount(labels)
    return doubtful & (lost < 0.5)[labels]


def fit_logistic(
    x: Floats, labels: npt.NDArray[np.intp], *, classes: int, penalty: float
) -> Floats:
    """Fit multinomial logistic regression.

    Each step solves with one matrix that bounds the curvature for any weights, so that the loss
    falls in every step and nothing has to be tuned (Boehning, 1992: "Multinomial logistic
    regression algorithm"); momentum makes it several times as fast.

    Args:
        x: float32 [n, D].
        labels: int [n], 0 to `classes` - 1.
        classes: K.
        penalty: Of the squared weights, above 0.

    Returns:
        float32 [D, K].
    """
    count = len(x)
    curvature = 0.5 * (x.T @ x) / count + penalty / count * np.eye(x.shape[1], dtype=np.float32)
    inverse = np.linalg.inv(curvature + 1e-6 * np.eye(len(curvature), dtype=np.float32))
    targets = np.zeros((count, classes), np.float32)
    targets[np.arange(count), labels] = 1
    weights = np.zeros((x.shape[1], classes), np.float32)
    ahead, before = weights, weights
    for step in range(_STEPS):
        gradient = x.T @ (softmax(x @ ahead) - targets) / count + penalty / count * ahead
        weights = ahead - inverse @ gradient
        ahead = weights + step / (step + 3) * (weights - before)
        before = weights
    return weights


def find_suspects(
    judgement: Judgement, classes: npt.NDArray[np.int32]
) -> list[tuple[int, int, float]]:
    """Find images whose label is probably wrong.

    Another label must be more probable, and at least as probable as it usually is for images that
    have it (confident learning: Northcutt, Jiang and Chuang, 2021), or 0.9.

    Args:
        judgement: The probabilities.
        classes: int32 [N], the given labels.

    Returns:
        Row, suggested class and margin, the most suspicious first.
    """
    probabilities = judgement.probabilities
    usual = np.array(
        [
            np.nanmean(column[mine])
            if (mine := (classes == index) & np.isfinite(column)).any()
            else 1
            for index, column in enumerate(probabilities.T)
        ]
    )
    margins = judgement.margins(classes)
    best = np.where(np.isfinite(probabilities), probabilities, -1).argmax(axis=1)
    chosen = probabilities[np.arange(len(best)), best]
    needed = np.minimum(usual, _SURE)[best]
    rows = np.flatnonzero((best != classes) & (margins < 0) & (chosen >= needed))
    rows = rows[np.argsort(margins[rows], kind="stable")]
    return [(row, int(best[row]), float(margins[row])) for row in rows.tolist()]


def describe_judge(accuracy: float, images: int, *, unjudged: Sequence[str]) -> str:
    """Say how far a classifier that finds suspects can be trusted.

    Args:
        accuracy: Fraction of the labels that it agrees with.
        images: Their number.
        unjudged: Labels that it knows too little of.
    """
    words = f"a classifier that agrees with {100 * accuracy:.0f} % of the labels"
    if accuracy < _TRUSTED:
        wrong = round((1 - accuracy) * images)
        words += (
            ", which is too weak to judge, and --relabel may make them worse: if every label were "
            f"right, it would still contradict about {wrong:,} of {images:,}"
        )
    if unjudged:
        words += f"; of rare classes it knows too little to judge: {name_some(unjudged)}"
    return words


def _reduce(features: npt.NDArray[np.float16]) -> Floats:
    """Scale features to unit variance, and keep their main directions and a constant."""
    from scipy.linalg import eigh

    count, width = features.shape
    starts = range(0, count, _BLOCK)
    mean = features.mean(axis=0, dtype=np.float64)
    squares = sum(((features[at : at + _BLOCK] - mean) ** 2).sum(axis=0) for at in starts)
    scale = (1 / (np.sqrt(squares / count) + 1e-3)).astype(np.float32)

    def scaled(at: int) -> Floats:
        block: Floats = (features[at : at + _BLOCK] - mean.astype(np.float32)) * scale
        return block

    least = max(0, min(count, width) - _DIMENSIONS)
    if count < width:  # the same coordinates from the smaller matrix
        x = np.concatenate([scaled(at) for at in starts])
        values, vectors = eigh(x @ x.T, subset_by_index=(least, count - 1))
        main = vectors * np.sqrt(np.maximum(values, 0))
    else:
        products = np.zeros((width, width), np.float32)
        for at in starts:
            products += (block := scaled(at)).T @ block
        vectors = eigh(products, subset_by_index=(least, width - 1))[1]
        main = np.concatenate([scaled(at) @ vectors for at in starts])
    main /= np.sqrt(np.float32(width))
    return np.concatenate([main, np.ones((count, 1), np.float32)], axis=1)


def _choose_penalty(x: Floats, labels: npt.NDArray[np.intp], folds: npt.NDArray[np.intp]) -> float:
    """Choose the penalty under which images of the first fold are the least surprising."""
    inside, count = folds != 0, int(labels.max()) + 1
    losses = {}
    for penalty in _PENALTIES:
        weights = fit_logistic(x[inside], labels[inside], classes=count, penalty=penalty)
        found = softmax(x[~inside] @ weights)[np.arange((~inside).sum()), labels[~inside]]
        losses[penalty] = float(-np.log(np.maximum(found, _TINY)).mean())
    return min(losses, key=losses.__getitem__)


def _draw_folds(
    units: npt.NDArray[np.int64], labels: npt.NDArray[np.intp], *, seed: int
) -> npt.NDArray[np.intp]:
    """Deal the units to folds, class by class, so that each fold has images of each class."""
    _, first, inverse = np.unique(units, return_index=True, return_inverse=True)
    order = np.random.default_rng(seed).permutation(len(first))
    order = order[np.argsort(labels[first[order]], kind="stable")]
    folds = np.empty(len(first), np.intp)
    folds[order] = np.arange(len(first)) % _FOLDS
    return folds[inverse]


def _rank_first(total: Floats, labels: npt.NDArray[np.intp]) -> set[int]:
    """Return the most suspicious tenth."""
    margins = Judgement(total, 0.0, 1).margins(labels.astype(np.int32))
    return set(np.argsort(margins, kind="stable")[: max(1, len(margins) // 10)].tolist())
