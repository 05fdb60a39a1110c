"""The line of stages: in order, in constant memory, and no bad file stops it."""

import re
import threading
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnclf.errors import ExitCode
from cnnclf.images.decode import decode_image
from cnnclf.prediction.inputs import PAUSE, Found
from cnnclf.prediction.label_pipeline import (
    PredictOptions,
    _count_ahead,
    iter_batches,
    predict_files,
)
from cnnclf.prediction.predict import predict_images
from cnnclf.progress import Silent
from tests.inference.conftest import Draw
from tests.prediction.numbers_engine import Numbers, Rows, numbers, run


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


@pytest.mark.parametrize("name", ["plain.jpg", "a\x1b[2Jb.jpg", "two\nlines.jpg", "d/../x.jpg"])
def test_errors_do_not_repeat_the_path(tmp_path: Path, name: str) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / name).write_text("no image")
    engine = Numbers()
    engine.decode = lambda source: decode_image(source, engine.input_spec)  # type: ignore[method-assign]
    [row] = run(engine, [Found(str(tmp_path / name))], batch_size=4)[0]
    assert row.error == "not a supported image: text"


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
    assert rows[3].error == "expected an image, received text"
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

    batches = iter_batches(Numbers(), endless(), options=options)
    for _ in range(250):
        given += len(next(batches))
    batches.close()
    assert given == 2000
    held = (_count_ahead(options) + 1) * options.batch_size
    assert peak <= held
    assert taken <= 2000 + held


def test_decoding_continues_while_a_batch_is_computed() -> None:
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
    batches = iter_batches(
        Numbers(), numbers(1000), options=PredictOptions(batch_size=8, threads=4)
    )
    assert next(batches)[0].path == "0.jpg"
    assert threading.active_count() > before
    batches.close()
    assert threading.active_count() == before


class Streaming(Numbers):
    """Holds as many batches as it can before it gives the logits of the first."""

    depth = 3

    def __init__(self) -> None:
        super().__init__()
        self.most_held = 0
        self.has_ended = False

    def stream(
        self, batches: Iterable[tuple[Any, np.ndarray]]
    ) -> Generator[tuple[Any, np.ndarray], None, None]:
        held: list[tuple[Any, np.ndarray]] = []
        try:
            for tag, pixels in batches:
                held.append((tag, pixels))
                self.most_held = max(self.most_held, len(held))
                while held and (len(held) > self.depth or not len(pixels)):
                    yield self._finish(held)
            while held:
                yield self._finish(held)
        finally:
            self.has_ended = True

    def _finish(self, held: list[tuple[Any, np.ndarray]]) -> tuple[Any, np.ndarray]:
        tag, pixels = held.pop(0)
        return tag, self.logits(pixels) if len(pixels) else np.zeros((0, 2), np.float32)


def test_an_engine_that_streams_gets_several_batches_at_once() -> None:
    engine = Streaming()
    engine.broken = {f"{number}.jpg" for number in (3, *range(8, 16), 39)}
    rows, summary = run(engine, numbers(40), batch_size=4, threads=2)
    assert [row.path for row in rows] == [found.path for found in numbers(40)]
    expected = ["odd" if number % 2 else "even" for number in range(40)]
    assert [row.label or expected[at] for at, row in enumerate(rows)] == expected
    assert summary.failed == 10
    assert engine.most_held == engine.depth + 1
    assert 0 not in engine.batches
    assert engine.has_ended


def test_breaking_off_ends_the_stream_of_the_engine() -> None:
    engine = Streaming()
    batches = iter_batches(engine, numbers(1000), options=PredictOptions(batch_size=4))
    next(batches)
    assert not engine.has_ended
    batches.close()
    assert engine.has_ended


@pytest.mark.parametrize("engine", [Numbers(), Streaming()])
def test_a_source_that_pauses_gets_all_its_rows_first(engine: Numbers) -> None:
    rows = Rows()
    written: list[int] = []

    def source() -> Iterator[Found]:
        for count in (1, 5, 11):
            yield from numbers(count)
            yield PAUSE
            written.append(len(rows))

    summary = predict_images(
        engine,
        source(),
        rows=rows,
        options=PredictOptions(batch_size=4),
        progress=Silent(),
    )
    assert written == [1, 6, 17]
    assert summary.files == 17


def test_the_first_batch_may_be_shorter() -> None:
    engine = Numbers()
    options = PredictOptions(batch_size=8, first_batch=3)
    assert [len(batch) for batch in iter_batches(engine, numbers(20), options=options)] == [
        3,
        8,
        8,
        1,
    ]
    assert engine.batches == [3, 8, 8, 1]


@pytest.mark.parametrize(("rows", "first"), [(0, 8), (1, 7), (8, 8), (15, 1)])
def test_batches_are_cut_as_if_the_job_had_not_been_interrupted(rows: int, first: int) -> None:
    assert PredictOptions(batch_size=8).continue_after(rows).first_batch == first


def test_a_chunk_is_predicted_as_a_worker_does_it() -> None:
    engine = Numbers()
    engine.broken = {"1.jpg"}
    rows = predict_files(engine, ["2.jpg", "1.jpg", "3.jpg"], options=PredictOptions(top_k=1))
    assert [(row.path, row.label, bool(row.error)) for row in rows] == [
        ("2.jpg", "even", False),
        ("1.jpg", "", True),
        ("3.jpg", "odd", False),
    ]


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


def test_the_program_of_the_page(
    bundle: Path, draw: Draw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one at the end of docs/how-to/predict.md, with the tiny model."""
    page = Path(__file__).parents[2] / "docs" / "how-to" / "predict.md"
    (code,) = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    draw("a.jpg", "red")
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "pets").symlink_to(bundle)
    monkeypatch.chdir(tmp_path)
    lines: list[tuple[str, ...]] = []
    code = code.replace('engine="auto", device="auto"', "")  # Keras is there already
    exec(code, {"print": lambda *words: lines.append(words)})
    assert [(path, label) for path, label, _ in lines] == [("a.jpg", "red"), ("b.jpg", "")]
    assert "No such file" in lines[1][2]
