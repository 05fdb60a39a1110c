"""Prediction as a stream: in order, in constant memory, and no bad file stops it."""

import contextlib
import json
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import numpy as np
import pytest

from cnnclf.errors import DataError, DeviceError
from cnnclf.inference.classifier import Classifier
from cnnclf.prediction.inputs import Found, ImageInputs
from cnnclf.prediction.label_pipeline import PredictOptions
from cnnclf.prediction.placing import Placer
from cnnclf.prediction.predict import predict_images
from cnnclf.prediction.row_file import open_rows
from cnnclf.prediction.rows import Prediction, RowColumns
from cnnclf.progress import Silent
from tests.inference.conftest import Draw
from tests.prediction.numbers_engine import Numbers, Rows, numbers, run

# --- the stream


def test_an_error_of_the_sink_passes_through() -> None:
    class Full:
        def write(self, prediction: Prediction) -> None:
            raise DeviceError("the disk is full")

        def flush(self) -> None:
            pass

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


class HugeFolder:
    """Stands in for os.scandir: 200,000 files, and how many were listed so far."""

    def __init__(self) -> None:
        self.listed = 0

    @contextlib.contextmanager
    def __call__(self, path: str) -> Iterator[Iterator[Any]]:
        yield self._entries()

    def _entries(self) -> Iterator[Any]:
        for number in range(200_000):
            self.listed += 1
            yield SimpleNamespace(name=f"{number}.jpg", is_dir=lambda: False, is_file=lambda: True)


def test_the_first_row_of_a_huge_folder_comes_long_before_it_is_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    huge = HugeFolder()
    monkeypatch.setattr(os, "scandir", huge)
    listed_at_first: list[int] = []

    class First(Rows):
        def write(self, prediction: Prediction) -> None:
            listed_at_first.append(huge.listed)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict_images(
            Numbers(),
            ImageInputs([str(tmp_path)]).first(),
            rows=First(),
            options=PredictOptions(),
            progress=Silent(),
        )
    assert listed_at_first == [20_000]


def test_rows_are_flushed_after_each_batch_and_when_broken_off() -> None:
    class Flushed(Rows):
        def __init__(self) -> None:
            super().__init__()
            self.flushed: list[int] = []

        def write(self, prediction: Prediction) -> None:
            if prediction.path == "10.jpg":
                raise KeyboardInterrupt
            self.append(prediction)

        def flush(self) -> None:
            self.flushed.append(len(self))

    rows = Flushed()

    with pytest.raises(KeyboardInterrupt):
        predict_images(
            Numbers(),
            numbers(20),
            rows=rows,
            options=PredictOptions(batch_size=4),
            progress=Silent(),
        )
    assert rows.flushed == [4, 8, 10]


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
        placer=Placer("move", tmp_path / "out", labels=engine.labels),
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
        placer=Placer("copy", tmp_path / "out", labels=Numbers.labels),
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
            placer=Placer("copy", tmp_path / "out", labels=Numbers.labels),
        )


@pytest.mark.parametrize("mode", ["copy", "link", "move"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_was_placed_has_its_row_whenever_a_signal_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str, number: signal.Signals
) -> None:
    found = []
    for name in ("0.jpg", "1.jpg", "2.jpg"):
        (tmp_path / name).write_text(name)
        found.append(Found(str(tmp_path / name)))
    replace = os.replace

    def replace_and_stop(source: Any, target: Any) -> None:
        replace(source, target)
        if Path(target).name == "1.jpg":
            signal.raise_signal(number)

    monkeypatch.setattr(os, "replace", replace_and_stop)
    before = signal.signal(number, signal.default_int_handler)
    columns = RowColumns(1, placed=True)
    try:
        with (
            pytest.raises(KeyboardInterrupt),
            open_rows(tmp_path / "rows.jsonl", columns) as rows,
        ):
            predict_images(
                Numbers(),
                found,
                rows=rows,
                options=PredictOptions(),
                progress=Silent(),
                placer=Placer(mode, tmp_path / "out", labels=Numbers.labels),
            )
    finally:
        signal.signal(number, before)
    lines = (tmp_path / "rows.jsonl.partial").read_text().splitlines()
    assert [json.loads(line)["placed"] for line in lines] == [
        str(tmp_path / "out" / "even" / "0.jpg"),
        str(tmp_path / "out" / "odd" / "1.jpg"),
    ]
    assert sorted(path.name for path in tmp_path.glob("out/*/*")) == ["0.jpg", "1.jpg"]


# --- progress


def test_progress_learns_how_many_there_are(tmp_path: Path) -> None:
    class Watched(Silent):
        expected = -1
        done = 0

        def task(
            self, name: str, total: int | None, *, unit: str, since: float | None = None
        ) -> Any:
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


def test_a_real_model_sees_colors(classifier: Classifier, draw: Draw, tmp_path: Path) -> None:
    colors = ["red", "green", "blue", "blue", "green"]
    for number, color in enumerate(colors):
        draw(f"images/{number}.png", color)
    (tmp_path / "images" / "9.jpg").write_text("no image at all")
    rows, summary = run(classifier, ImageInputs([str(tmp_path / "images")]).first(), batch_size=2)
    assert [row.label for row in rows] == [*colors, ""]
    assert rows[-1].error.startswith("not a supported image")
    assert summary.counts == {"red": 1, "green": 2, "blue": 2}
    direct = classifier.probabilities(
        classifier.logits(classifier.decode(tmp_path / "images" / "0.png")[None])
    )
    assert rows[0].ranking[0][1] == pytest.approx(direct.max(), abs=1e-5)
