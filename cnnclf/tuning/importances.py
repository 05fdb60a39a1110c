"""Which settings matter: functional analysis of variance of the scores, by a random forest."""

from collections.abc import Sequence

import numpy as np

from cnnclf.tuning.space import Point, Space

_MIN_TRIALS = 10
_TREES = 64
_GRID, _SAMPLED = 16, 128  # values of a setting, and points that each is set in


def find_importances(
    space: Space, points: Sequence[Point], *, scores: Sequence[float]
) -> dict[str, float]:
    """Return the fraction of the variance of the rank that each setting explains alone.

    The main effects of fANOVA (Hutter, Hoos and Leyton-Brown, 2014).

    Args:
        space: What was searched.
        points: Of all trials; the default, which has no place in the space, is empty.
        scores: Of all trials; those that failed have none that is finite.

    Returns:
        By key, the largest first; empty if there are too few trials, or the forest predicts those
        that a tree did not see (out of bag) no better than their mean does: it learned noise.
    """
    keys = [each.key for each in space.dimensions]
    rows = [
        ([point.get(key, 0.5) for key in keys], score)
        for point, score in zip(points, scores, strict=True)
        if point and np.isfinite(score)
    ]
    if len(rows) < _MIN_TRIALS or len({score for _, score in rows}) == 1:
        return {}
    from scipy.stats import rankdata
    from sklearn.ensemble import RandomForestRegressor

    forest = RandomForestRegressor(_TREES, min_samples_leaf=2, random_state=0, oob_score=True)
    # ranks: the loss of one trial that diverged would be all the variance there is
    forest.fit(np.array([row for row, _ in rows]), rankdata([score for _, score in rows]))
    if forest.oob_score_ <= 0:
        return {}
    drawn = np.random.default_rng(0).random((_SAMPLED, len(keys)))
    whole = float(forest.predict(np.random.default_rng(1).random((2048, len(keys)))).var())
    found = {}
    for index, key in enumerate(keys):
        moved = np.tile(drawn, (_GRID, 1))
        moved[:, index] = np.repeat((np.arange(_GRID) + 0.5) / _GRID, _SAMPLED)
        means = forest.predict(moved).reshape(_GRID, _SAMPLED).mean(axis=1)
        # of other points than the whole, so that one setting alone may have a little more
        found[key] = round(min(1.0, float(means.var()) / whole), 4) if whole else 0.0
    return dict(sorted(found.items(), key=lambda item: -item[1]))
