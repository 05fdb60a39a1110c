"""The nearest images in feature space, compared with sorting every row."""

import numpy as np
import pytest

from cnnclf.quality import neighbors
from cnnclf.quality.neighbors import find_neighbors


@pytest.mark.parametrize("count", [1, 2, 5, 11, 64, 65, 200, 1000])
def test_the_nearest_are_those_of_sorted_rows(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbors, "_BLOCK_VALUES", 20_000)  # several blocks
    rng = np.random.default_rng(count)
    features = rng.normal(size=(count, 16)).astype(np.float16)
    features[rng.random(count) < 0.1] = 0  # images that could not be read
    features[count // 2] = features[0]
    found = find_neighbors(features, min_cosine=0.8)

    known = np.flatnonzero(features.any(axis=1))
    x = features[known].astype(np.float64)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    cosines = x @ x.T
    np.fill_diagonal(cosines, -np.inf)
    best = np.argsort(-cosines, axis=1)[:, :4]
    one, place = np.nonzero(np.take_along_axis(cosines, best, axis=1) >= 0.8)
    near = np.sort(np.stack([known[one], known[best[one, place]]], axis=1), axis=1)
    assert {tuple(pair) for pair in found.pairs.tolist()} == {tuple(pair) for pair in near.tolist()}
    assert (np.diff(found.cosines) <= 0).all()
    nearest = np.sort(cosines, axis=1)[:, ::-1][:, : min(10, len(known) - 1)]
    expected = np.full(count, np.nan)
    if nearest.size:
        expected[known] = 1 - nearest.mean(axis=1)
    np.testing.assert_allclose(found.distances, expected, atol=1e-5)


def test_of_images_that_are_all_alike_each_is_paired_with_the_nearest_only() -> None:
    features = np.ones((200, 8), np.float16)
    found = find_neighbors(features)
    assert len(found.pairs) <= 4 * len(features)
    assert set(found.pairs.ravel().tolist()) == set(range(200))
