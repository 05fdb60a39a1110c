"""Every engine of the table: the same logits as Keras, in order, one batch or a stream of them."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from cnnclf.errors import RunError
from cnnclf.inference.classifier import Classifier
from cnnclf.inference.engines.engine import Pixels
from cnnclf.inference.engines.engine_table import ENGINES, find_missing
from cnnclf.inference.engines.keras_comparison import compare_logits

INSTALLED = [row for row in ENGINES if not find_missing(row, converting=True)]
CASES = [(row.name, precision) for row in INSTALLED for precision in row.precisions]


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (24, 16, 16, 3), dtype=np.uint8)


@pytest.fixture(scope="module", params=CASES, ids=["-".join(case) for case in CASES])
def opened(request: pytest.FixtureRequest, own_bundle: Path) -> Classifier:
    name, precision = request.param
    return Classifier.load(own_bundle, engine=name, precision=precision)


def test_all_engines_are_tried_here() -> None:
    assert {row.name for row in INSTALLED} == {row.name for row in ENGINES}


@pytest.mark.parametrize("count", [1, 8, 3, 24])
def test_logits_are_those_of_keras(
    opened: Classifier, classifier: Classifier, pixels: Pixels, count: int
) -> None:
    row = next(row for row in ENGINES if row.name == opened.engine.name)
    logits = opened.logits(pixels[:count])
    assert logits.dtype == np.float32
    tolerance = row.tolerances[opened.engine.precision]
    found = compare_logits(logits, classifier.logits(pixels[:count]), tolerance=tolerance)
    assert found.is_close, found


def test_what_an_engine_fails_to_compute_is_an_error_of_ours(own_bundle: Path) -> None:
    """Images of another size stand for whatever a kernel may refuse when it is run."""
    pixels = np.zeros((2, 8, 8, 1), np.uint8)
    for name in ("openvino", "onnxruntime", "litert"):
        engine = Classifier.load(own_bundle, engine=name, precision="float32").engine
        with pytest.raises(RunError, match=" cannot compute this model: "):
            engine.logits(pixels)


def test_a_stream_gives_the_same_in_order(opened: Classifier, pixels: Pixels) -> None:
    counts = [8, 1, 3, 0, 24, 8, 8, 8, 5, 0, 7, 8, 8, 8, 8, 2]
    batches = [(number, pixels[24 - count :]) for number, count in enumerate(counts)]
    results = list(opened.stream(iter(batches)))
    assert [tag for tag, _ in results] == list(range(len(counts)))
    for (_, logits), count in zip(results, counts, strict=True):
        assert logits.shape == (count, 3)
        expected = opened.logits(pixels[24 - count :])
        np.testing.assert_allclose(logits, expected, atol=0.05)


def test_a_stream_may_reuse_its_memory(opened: Classifier, pixels: Pixels) -> None:
    expected = [opened.logits(pixels[at : at + 4]) for at in range(0, 24, 4)]

    def batches() -> Iterator[tuple[int, Pixels]]:
        for number in range(6):
            yield number, pixels[4 * number : 4 * number + 4].copy()

    kept = list(opened.stream(batches()))
    for number, logits in kept:
        np.testing.assert_allclose(logits, expected[number], atol=0.05)


def test_a_stream_takes_no_more_than_it_needs(opened: Classifier, pixels: Pixels) -> None:
    taken = given = most = 0

    def batches() -> Iterator[tuple[int, Pixels]]:
        nonlocal taken
        for number in range(200):
            taken += 1
            yield number, pixels[:2]

    for _ in opened.stream(batches()):
        given += 1
        most = max(most, taken - given)
    assert given == 200
    assert most <= 40


def test_an_empty_batch_gives_all_before_it(opened: Classifier, pixels: Pixels) -> None:
    given: list[int] = []

    def batches() -> Iterator[tuple[int, Pixels]]:
        yield 0, pixels[:2]
        yield 1, pixels[:0]
        assert given == [0, 1]
        yield 2, pixels[:2]

    for tag, _ in opened.stream(batches()):
        given.append(tag)
    assert given == [0, 1, 2]


def test_an_error_of_the_source_passes_through(opened: Classifier, pixels: Pixels) -> None:
    def batches() -> Iterator[tuple[int, Pixels]]:
        yield 0, pixels[:2]
        yield 1, pixels[:2]
        raise OSError("the disk went away")

    with pytest.raises(OSError, match="went away"):
        list(opened.stream(batches()))
    assert len(opened.logits(pixels[:2])) == 2


def test_a_stream_may_be_left(opened: Classifier, pixels: Pixels) -> None:
    stream = opened.stream((number, pixels[:2]) for number in range(50))
    assert next(stream)[0] == 0
    stream.close()
    expected = opened.logits(pixels[:2])
    [(_, logits)] = opened.stream([(0, pixels[:2])])
    np.testing.assert_allclose(logits, expected, atol=0.05)


def test_pixels_of_another_kind_are_refused_in_a_stream(opened: Classifier, pixels: Pixels) -> None:
    with pytest.raises(ValueError, match="expected uint8 pixels"):
        list(opened.stream([(0, pixels[:, :8])]))


def test_several_threads_may_compute_at_once(opened: Classifier, pixels: Pixels) -> None:
    parts = [pixels[at % 20 : at % 20 + 4] for at in range(40)]
    expected = [opened.logits(part) for part in parts]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(opened.logits, parts))
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=0.05)
