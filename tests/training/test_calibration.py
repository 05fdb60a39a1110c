"""The temperature: found again where it is known, and what it may not do."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnclf.training.calibration import calibrate, fit_temperature
from cnnclf.training.fitting.judging import Verdict, choose_judged, measure


def draw(count: int, *, sharpness: float = 1.0) -> Verdict:
    """Labels drawn from the probabilities of logits, which are then made too sharp or too flat."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (count, 5))
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    truth = np.array([rng.choice(5, p=row) for row in chances])
    return Verdict((sharpness * logits).astype(np.float32), truth)


@pytest.mark.parametrize("sharpness", [0.25, 1.0, 4.0])
def test_the_temperature_is_found_again(sharpness: float) -> None:
    verdict = draw(4000, sharpness=sharpness)
    assert fit_temperature(verdict.logits, verdict.truth) == pytest.approx(sharpness, rel=0.1)


@given(seed=st.integers(0, 99), count=st.integers(2, 40), classes=st.integers(2, 5))
@settings(max_examples=60, deadline=None)
def test_no_other_temperature_makes_the_labels_likelier(
    seed: int, count: int, classes: int
) -> None:
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 3, (count, classes)).astype(np.float32)
    truth = rng.integers(classes, size=count)
    found = fit_temperature(logits, truth)
    targets = np.full(logits.shape, 1 / (count + 2) / (classes - 1))
    targets[np.arange(count), truth] = (count + 1) / (count + 2)

    def loss(temperature: float) -> float:
        values = logits.astype(float) / temperature
        values -= np.log(np.exp(values).sum(axis=1, keepdims=True))
        return -float((targets * values).sum())

    assert 0.05 <= found <= 20
    for other in (found * 1.01, found / 1.01):
        if 0.05 <= other <= 20:
            assert loss(found) <= loss(other) + 1e-9


def test_a_network_that_is_always_right_does_not_become_certain() -> None:
    truth = np.arange(60) % 3
    logits = np.eye(3, dtype=np.float32)[truth]
    temperature = fit_temperature(logits, truth)
    certainty = np.exp(1 / temperature) / (np.exp(1 / temperature) + 2)
    assert certainty == pytest.approx(61 / 62, abs=1e-3)


def test_it_is_written_into_the_bundle_with_what_it_does(tmp_path: Path) -> None:
    (tmp_path / "classifier.json").write_text('{"temperature": 1.0, "labels": ["a", "b"]}')
    found = calibrate(tmp_path, draw(500, sharpness=0.3))
    assert found is not None
    written = json.loads((tmp_path / "classifier.json").read_text())
    assert written == {"temperature": found.temperature, "labels": ["a", "b"]}
    assert found.images == 500
    assert found.ece_after < found.ece_before / 2


def test_too_few_images_leave_it_as_it_is(tmp_path: Path) -> None:
    assert calibrate(tmp_path, draw(49)) is None
    assert list(tmp_path.iterdir()) == []


def test_a_verdict_measures_as_keras_does() -> None:
    import keras

    verdict = draw(64)
    truth = np.eye(5, dtype=np.float32)[verdict.truth]
    for smoothing in (0.0, 0.1):
        accuracy, negative_loss = measure(verdict.logits, verdict.truth, label_smoothing=smoothing)
        loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=smoothing)
        assert -negative_loss == pytest.approx(float(loss(truth, verdict.logits)), rel=1e-5)
    assert accuracy == pytest.approx((verdict.logits.argmax(1) == verdict.truth).mean())


def test_thousands_of_val_images_are_judged_by_a_part_that_the_seed_chooses() -> None:
    rows = np.arange(100, 5100)
    chosen = choose_judged(rows, seed=1)
    assert len(chosen) == len(set(chosen.tolist())) == 2000
    assert chosen.tolist() == sorted(chosen.tolist())
    assert chosen.tolist() == choose_judged(rows, seed=1).tolist()
    assert chosen.tolist() != choose_judged(rows, seed=2).tolist()
    assert choose_judged(rows[:7], seed=1).tolist() == list(range(7))
