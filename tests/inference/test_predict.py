"""Prediction as a stream: in order, in constant memory, and no bad file stops it."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest

from cnnclf.data.input_spec import InputSpec
from cnnclf.errors import DataError, DeviceError, ExitCode, ImageError
from cnnclf.inference.classifier import Classifier
from cnnclf.inference.inputs import Found, ImageInputs
from cnnclf.inference.placing import Placer
from cnnclf.inference.predict import (
    PredictOptions,
    PredictSummary,
    decode_in_order,
    in_flight,
    iter_predictions,
    predict_images,
)
from cnnclf.inference.rows import Prediction
from cnnclf.progress import Silent
from tests.inference.conftest import Draw


class Rows(list[Prediction]):
    """Keeps rows in memory."""

    write = list[Prediction].append


class Numbers:
    """An engine of another kind: a file named 17.jpg holds the number 17, which is odd."""

    labels = ("even", "odd")
    input_spec = InputSpec(1, 1, 1)

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.broken: set[str] = set()
        self.not_numbers: set[int] = set()

    def decode(self, source: Path | bytes) -> np.ndarray:
        assert isinstance(source, Path)
        if source.name in self.broken:
            raise ImageError(f"{source}: expected a picture, received text")
        if source.stem == "locked":
            raise PermissionError(13, "Permission denied", str(source))
        if source.stem == "huge":
            raise MemoryError
        return np.full((1, 1, 1), int(source.stem) % 256, np.uint8)

    def logits(self, pixels: np.ndarray) -> np.ndarray:
        self.batches.append(len(pixels))
        values = pixels.reshape(-1).astype(np.float32)
        logits = np.stack([1 - values % 2, values % 2], axis=1)
        logits[np.isin(values, list(self.not_numbers))] = np.nan
        return logits

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        powers = np.exp(np.asarray(logits, np.float64))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def numbers(count: int) -> list[Found]:
    return [Found(f"{number}.jpg") for number in range(count)]


def run(engine: Any, found: Any, **options: Any) -> tuple[Rows, PredictSummary]:
    rows = Rows()
    summary = predict_images(
        engine, found, rows=rows, options=PredictOptions(**options), progress=Silent()
    )
    return rows, summary


# --- the stream


@pytest.mark.parametrize("batch_size", [1, 4, 32, 100])
def test_rows_come_in_the_order_of_the_paths(batch_size: int) -> None:
    engine = Numbers()
    rows, summary = run(engine, numbers(50), batch_size=batch_size, threads=4)
    assert [row.path for row in rows] == [found.path for found in numbers(50)]
    assert [row.label for row in rows] == ["even", "odd"] * 25
    assert (summary.files, summary.failed) == (50, 0)
    assert summary.counts == {"even": 25, "odd": 25}
    assert engine.batches[0] == min(batch_size, 50)
    assert sum(engine.batches) == 50


def test_bad_files_become_rows_and_nothing_stops() -> None:
    engine = Numbers()
    engine.broken = {"3.jpg", "4.jpg"}
    engine.not_numbers = {5}
    found = [*numbers(8), Found("locked.jpg"), Found("huge.jpg"), Found("no.jpg", "no such file")]
    rows, summary = run(engine, found, batch_size=4)
    assert [row.path for row in rows if row.error] == [
        "3.jpg",
        "4.jpg",
        "5.jpg",
        "locked.jpg",
        "huge.jpg",
        "no.jpg",
    ]
    assert rows[3].error == "expected a picture, received text"
    assert rows[5].error == "the model's output is not a number"
    assert rows[8].error == "Permission denied"
    assert "memory" in rows[9].error
    assert rows[10].error == "no such file"
    assert all(not row.label for row in rows if row.error)
    assert summary.failed == 6
    assert summary.exit_code is ExitCode.SOME_FAILED
    assert summary.examples[0] == ("3.jpg", rows[3].error)
    assert len(summary.examples) == 5


def test_only_bad_files_need_no_model() -> None:
    engine = Numbers()
    rows, summary = run(engine, [Found("a.jpg", "gone")] * 9, batch_size=4)
    assert (len(rows), summary.failed, engine.batches) == (9, 9, [])


def test_memory_is_bounded_however_many_files_there_are() -> None:
    options = PredictOptions(batch_size=8, threads=3)
    taken = given = peak = 0

    def endless() -> Iterator[Found]:
        nonlocal taken, peak
        while True:
            taken += 1
            peak = max(peak, taken - given)
            yield Found(f"{taken}.jpg")

    predictions = iter_predictions(Numbers(), endless(), options)
    for _ in range(2000):
        next(predictions)
        given += 1
    predictions.close()
    assert peak <= in_flight(options)
    assert taken <= 2000 + in_flight(options)


def test_decoding_goes_on_while_a_batch_is_computed() -> None:
    """While the model holds batch 1, the threads decode batch 2: else this would wait for ever."""
    decoded = threading.Semaphore(0)

    class Slow(Numbers):
        def decode(self, source: Path | bytes) -> np.ndarray:
            pixels = super().decode(source)
            decoded.release()
            return pixels

        def logits(self, pixels: np.ndarray) -> np.ndarray:
            if not self.batches:
                for _ in range(8):
                    assert decoded.acquire(timeout=30)
            return super().logits(pixels)

    rows, _ = run(Slow(), numbers(16), batch_size=4, threads=2)
    assert len(rows) == 16


def test_breaking_off_ends_the_threads() -> None:
    before = threading.active_count()
    items = decode_in_order(numbers(1000), Numbers().decode, threads=4, ahead=16)
    assert next(items).path == "0.jpg"
    items.close()
    assert threading.active_count() == before


def test_an_error_of_the_sink_passes_through() -> None:
    class Full:
        def write(self, prediction: Prediction) -> None:
            raise DeviceError("the disk is full")

    before = threading.active_count()
    with pytest.raises(DeviceError):
        predict_images(
            Numbers(),
            numbers(100),
            rows=Full(),
            options=PredictOptions(),
            progress=Silent(),
        )
    assert threading.active_count() == before


def test_nothing_to_predict_is_an_error() -> None:
    with pytest.raises(DataError):
        run(Numbers(), ImageInputs(["no.jpg"]).find())


# --- labels


def test_top_k_and_threshold() -> None:
    rows, _ = run(Numbers(), numbers(1), top_k=5)
    (ranking,) = [row.ranking for row in rows]
    assert [label for label, _ in ranking] == ["even", "odd"]
    assert sum(probability for _, probability in ranking) == pytest.approx(1)
    assert len(run(Numbers(), numbers(1), top_k=1)[0][0].ranking) == 1
    rows, summary = run(Numbers(), numbers(2), threshold=0.9)
    assert [row.label for row in rows] == ["unknown", "unknown"]
    assert [row.ranking[0][0] for row in rows] == ["even", "odd"]
    assert summary.counts == {"unknown": 2}
    rows, _ = run(Numbers(), numbers(2), threshold=0.7)
    assert [row.label for row in rows] == ["even", "odd"]


def test_ties_go_to_the_first_label() -> None:
    class Tied(Numbers):
        def logits(self, pixels: np.ndarray) -> np.ndarray:
            return np.zeros((len(pixels), 2), np.float32)

    assert [row.label for row in run(Tied(), numbers(3))[0]] == ["even"] * 3


# --- placing


def test_files_are_placed_and_bad_ones_stay(tmp_path: Path) -> None:
    engine = Numbers()
    engine.broken = {"1.jpg"}
    found = []
    for number in range(4):
        (tmp_path / f"{number}.jpg").write_text(str(number))
        found.append(Found(str(tmp_path / f"{number}.jpg")))
    rows = Rows()
    summary = predict_images(
        engine,
        found,
        rows=rows,
        options=PredictOptions(),
        progress=Silent(),
        placer=Placer("move", tmp_path / "out", engine.labels),
    )
    assert (summary.placed, summary.failed) == (3, 1)
    assert rows[2].placed == str(tmp_path / "out" / "even" / "2.jpg")
    assert sorted(path.name for path in tmp_path.glob("*.jpg")) == ["1.jpg"]
    assert sorted(path.name for path in tmp_path.glob("out/*/*")) == ["0.jpg", "2.jpg", "3.jpg"]


def test_a_file_that_cannot_be_placed_is_a_failed_row_with_its_label(tmp_path: Path) -> None:
    rows = Rows()
    summary = predict_images(
        Numbers(),
        numbers(2),  # these files do not exist
        rows=rows,
        options=PredictOptions(),
        progress=Silent(),
        placer=Placer("copy", tmp_path / "out", Numbers.labels),
    )
    assert [row.label for row in rows] == ["even", "odd"]
    assert rows[0].error == "cannot copy it: No such file or directory"
    assert (summary.failed, summary.placed) == (2, 0)


def test_a_full_disk_stops_placing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Placer, path: str, label: str) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Placer, "place", full)
    with pytest.raises(DeviceError, match="disk is full"):
        predict_images(
            Numbers(),
            numbers(2),
            rows=Rows(),
            options=PredictOptions(),
            progress=Silent(),
            placer=Placer("copy", tmp_path / "out", Numbers.labels),
        )


# --- progress


def test_progress_learns_how_many_there_are(tmp_path: Path) -> None:
    class Watched(Silent):
        expected = -1
        done = 0

        def task(self, name: str, total: int | None, unit: str) -> Any:
            watched = self

            class Task:
                def __enter__(self) -> Self:
                    return self

                def __exit__(self, *exc: object) -> None:
                    return None

                def advance(self, amount: int = 1) -> None:
                    watched.done += amount

                def describe(self, text: str) -> None:
                    pass

                def expect(self, total: int) -> None:
                    watched.expected = total

            return Task()

    for number in range(5):
        (tmp_path / f"{number}.jpg").write_text("")
    counted = threading.Event()

    class Counting(ImageInputs):
        def count(self, stop: threading.Event) -> int | None:
            total = super().count(stop)
            counted.set()
            return total

    class Waiting(Numbers):
        def logits(self, pixels: np.ndarray) -> np.ndarray:
            assert counted.wait(30)
            return super().logits(pixels)

    inputs = Counting([str(tmp_path)])
    progress = Watched()
    predict_images(
        Waiting(),
        inputs.first(),
        rows=Rows(),
        options=PredictOptions(),
        progress=progress,
        inputs=inputs,
    )
    assert (progress.expected, progress.done) == (5, 5)


# --- with the real model


def test_a_real_model_sees_colours(classifier: Classifier, draw: Draw, tmp_path: Path) -> None:
    colours = ["red", "green", "blue", "blue", "green"]
    for number, colour in enumerate(colours):
        draw(f"pictures/{number}.png", colour)
    (tmp_path / "pictures" / "9.jpg").write_text("no picture at all")
    rows, summary = run(classifier, ImageInputs([str(tmp_path / "pictures")]).first(), batch_size=2)
    assert [row.label for row in rows] == [*colours, ""]
    assert rows[-1].error.startswith("expected a picture")
    assert summary.counts == {"red": 1, "green": 2, "blue": 2}
    direct = classifier.probabilities(
        classifier.logits(classifier.decode(tmp_path / "pictures" / "0.png")[None])
    )
    assert rows[0].ranking[0][1] == pytest.approx(direct.max(), abs=1e-5)
