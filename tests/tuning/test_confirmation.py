import numpy as np
import pytest

from cnnclf.tuning.confirmation import Confirmation, Correct, compare_seeds, stack_correct


def draw(random: np.random.Generator, hard: np.ndarray, *, accuracy: float, seeds: int) -> Correct:
    """Draw trainings: images have a difficulty, and each seed an accuracy of its own."""
    own = accuracy + random.normal(0, 0.01, size=(seeds, 1))
    return np.asarray(random.random((seeds, len(hard))) < own + hard)


def compare(random: np.random.Generator, gain: float, *, images: int = 300) -> Confirmation:
    hard = random.choice([-0.5, 0.1], p=[1 / 6, 5 / 6], size=images)
    default = draw(random, hard, accuracy=0.85, seeds=3)
    return compare_seeds(default, draw(random, hard, accuracy=0.85 + gain, seeds=3), trial=4)


def test_the_interval_covers_the_difference() -> None:
    random = np.random.default_rng(0)
    found = [compare(random, 0.02) for _ in range(300)]
    covered = np.mean([each.interval[0] <= 0.02 <= each.interval[1] for each in found])
    assert covered >= 0.94


def test_no_difference_is_rarely_called_better_and_a_large_one_is() -> None:
    random = np.random.default_rng(1)
    assert np.mean([compare(random, 0.0).is_better for _ in range(300)]) <= 0.04
    assert np.mean([compare(random, 0.08, images=1000).is_better for _ in range(300)]) > 0.95


def test_of_many_equal_configurations_none_is_better_and_their_luck_does_not_count() -> None:
    random = np.random.default_rng(3)
    found = []
    for _ in range(200):
        hard = random.choice([-0.5, 0.1], p=[1 / 6, 5 / 6], size=300)
        default = draw(random, hard, accuracy=0.85, seeds=3)
        trials = draw(random, hard, accuracy=0.85, seeds=40)
        others = draw(random, hard, accuracy=0.85, seeds=2)
        chosen = np.vstack([trials[[trials.mean(axis=1).argmax()]], others])
        found.append(compare_seeds(default, chosen, trial=1))
    assert np.mean([each.is_better for each in found]) <= 0.04
    assert abs(np.mean([each.difference for each in found])) < 0.003


@pytest.mark.parametrize("seeds", [2, 3])
def test_many_images_show_a_difference_with_few_seeds(seeds: int) -> None:
    random = np.random.default_rng(4)
    found = []
    for _ in range(100):
        default, other = (random.random((seeds, 1000)) < rate for rate in (0.8, 0.88))
        found.append(compare_seeds(default, other, trial=1, compared=3))
    assert np.mean([each.is_better for each in found]) > 0.7


def test_one_seed_is_never_a_confirmation() -> None:
    default, other = np.zeros((1, 50), bool), np.ones((1, 50), bool)
    found = compare_seeds(default, other, trial=1)
    assert found.difference == 1
    assert found.interval[0] > 0.8
    assert not found.is_better


def test_more_candidates_need_more_evidence() -> None:
    random = np.random.default_rng(2)
    default, other = (random.random((3, 200)) < rate for rate in (0.8, 0.85))
    one, three = (
        compare_seeds(default, other, trial=1, compared=count).interval for count in (1, 3)
    )
    assert three[0] < one[0] < one[1] < three[1]


def test_no_interval_is_wider_than_all_differences_there_are() -> None:
    default, other = np.array([[True] * 20, [False] * 20]), np.ones((2, 20), bool)
    assert compare_seeds(default, other, trial=1, compared=3).interval == (-1, 1)


def test_few_equal_images_are_no_certainty() -> None:
    same = np.ones((2, 10), bool)
    low, high = compare_seeds(same, same, trial=1).interval
    assert low < -0.1 < 0.1 < high


def test_only_images_of_all_trainings_count() -> None:
    stacked = stack_correct([{"a": True, "b": False, "c": True}, {"c": False, "a": True}])
    assert stacked.tolist() == [[True, True], [True, False]]


@pytest.mark.parametrize(
    ("seeds", "better", "verdict"),
    [
        (2, 0.3, "trial 4 is better than the default (difference 30.0 points, interval 10.0 to"),
        (2, 0.163, "the default: trial 4 was not shown to be better, 16.3 points more on average"),
        (2, 0.009, "no better than the default (difference 0.9 points, interval -19.1 to 20.9)"),
        (2, -0.1, "no better than the default (difference -10.0 points, interval -30.0 to 10.0)"),
        (1, 0.163, "the default: trial 4 was trained with one seed only (difference 16.3 p"),
        (1, 0.0, "the default: trial 4 was trained with one seed only (difference 0.0 po"),
        (1, -0.3, "no better than the default (difference -30.0 points, interval -50.0 to -10.0)"),
    ],
)
def test_a_large_difference_that_may_be_chance_is_not_called_none(
    seeds: int, better: float, verdict: str
) -> None:
    found = Confirmation(4, seeds, 0.5 + better, 0.5, (better - 0.2, better + 0.2))
    assert found.verdict.startswith(verdict)
    assert ("would tell" in found.verdict) == (better == 0.163)
