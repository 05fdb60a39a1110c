"""A worker without a cluster: what it makes of chunks, and what it says when it cannot."""

import json
import pickle
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from cnnclf.config import PredictConfig
from cnnclf.errors import CnnclfError, DataError, DeviceError, MissingPackageError, RunError
from cnnclf.inference.answer_rules import read_rules
from cnnclf.inference.classifier import Classifier
from cnnclf.prediction.cluster.chunks import Chunk
from cnnclf.prediction.cluster.parts import PartWriter
from cnnclf.prediction.cluster.worker import ChunkResult, ChunkWorker, WorkOrder
from cnnclf.prediction.inputs import Found
from cnnclf.prediction.label_pipeline import PredictOptions, predict_files
from cnnclf.prediction.rows import RowColumns

Draw = Callable[..., Path]
CONFIG = PredictConfig(engine="keras", device="cpu", threads=1)


@pytest.fixture
def order(bundle: Path, classifier: Classifier, monkeypatch: pytest.MonkeyPatch) -> WorkOrder:
    """An order whose engine is open already."""

    def load(_path: Path, **settings: object) -> Classifier:
        assert settings["engine"] == "keras"
        assert settings["threads"] == 1
        return classifier

    monkeypatch.setattr(Classifier, "load", load)
    return WorkOrder(bundle, classifier.bundle["sha256"], CONFIG, PredictOptions(top_k=2))


def test_rows_are_those_of_a_prediction_without_a_cluster(
    order: WorkOrder, classifier: Classifier, draw: Draw
) -> None:
    paths = [str(draw(f"{color}.png", color)) for color in ("red", "green", "blue")]
    found = [Found(paths[0]), Found("gone.png", "no such file or folder"), *map(Found, paths[1:])]
    result = ChunkWorker(order, "here").run(Chunk(3, tuple(found)))
    assert result.problem is None
    assert (result.index, result.files) == (3, 4)
    expected = predict_files(classifier, paths, options=PredictOptions(top_k=2))
    assert [row for row in result.predictions if not row.error] == expected
    assert result.predictions[1].error == "no such file or folder"
    assert result.summary is None


def test_sets_familiarity_and_views_are_those_without_a_cluster(
    calibrated: Path, draw: Draw
) -> None:
    content = json.loads((calibrated / "classifier.json").read_text())
    config = PredictConfig(sets=0.9, unknown_by="both")
    rules = read_rules(content, calibrated, config=config)
    options = PredictOptions(top_k=2, rules=rules)
    order = WorkOrder(calibrated, content["sha256"], CONFIG | {"views": "mirror"}, options)
    paths = [str(draw(f"{color}.png", color)) for color in ("red", "green", "blue")]
    Image.new("RGB", (16, 16), (128, 128, 128)).save(paths[2])
    sent = pickle.loads(pickle.dumps(order))
    result = ChunkWorker(sent, "here").run(Chunk(0, tuple(map(Found, paths))))
    here = Classifier.load(calibrated, features=rules.features, views="mirror")
    assert list(result.predictions) == predict_files(here, paths, options=options)
    assert [row.label for row in result.predictions] == ["red", "green", "unknown"]
    assert [row.label_set for row in result.predictions[:2]] == [("red",), ("green",)]
    assert [row.is_unfamiliar for row in result.predictions] == [False, False, True]


def test_rows_may_go_into_a_part(order: WorkOrder, draw: Draw, tmp_path: Path) -> None:
    bad = tmp_path / "bad.png"
    bad.write_text("text")
    chunk = Chunk(7, (Found(str(draw("red.png"))), Found(str(bad))))
    parts = PartWriter(tmp_path, ".csv", RowColumns(2))
    result = ChunkWorker(replace(order, parts=parts), "here").run(chunk)
    assert not result.predictions
    assert result.summary is not None
    assert (result.summary.files, result.summary.failed) == (2, 1)
    assert len(parts.path(7).read_text().splitlines()) == 3


def test_a_result_can_be_sent(order: WorkOrder) -> None:
    gone = replace(order, bundle=Path("/nowhere"))
    result = ChunkWorker(gone, "here").run(Chunk(0, ()))
    copy: ChunkResult = pickle.loads(pickle.dumps(result))
    assert isinstance(copy.problem, RunError)
    assert result.problem is not None
    assert (copy.problem.message, copy.problem.hint) == (
        result.problem.message,
        result.problem.hint,
    )
    assert pickle.loads(pickle.dumps(order)) == order


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"bundle": Path("/nowhere")}, RunError, "on the node 10.0.0.7: the bundle /nowhere does"),
        ({"checksum": "0"}, RunError, "another model at"),
        ({"folder": "/nowhere", "sample": "1.jpg"}, DataError, "image /nowhere/1.jpg"),
        ({"sample": "/nowhere/1.jpg"}, DataError, "the image /nowhere/1.jpg does not exist"),
        ({"version": "0.0.1"}, MissingPackageError, "started with 0.0.1"),
        (
            {"parts": PartWriter(Path("/nowhere"), ".csv", RowColumns(2))},
            RunError,
            "the directory /nowhere does not exist",
        ),
    ],
)
def test_what_a_node_lacks_is_said_with_its_name(
    order: WorkOrder, changes: dict[str, object], kind: type[CnnclfError], message: str
) -> None:
    result = ChunkWorker(replace(order, **changes), "10.0.0.7").run(Chunk(0, ()))  # type: ignore[arg-type]
    assert type(result.problem) is kind
    assert message in result.problem.message
    assert result.problem.message.startswith("on the node 10.0.0.7: ")
    assert result.problem.hint


def test_relative_paths_are_those_of_the_driver(
    order: WorkOrder, draw: Draw, tmp_path: Path
) -> None:
    draw("photos/red.png")
    worker = ChunkWorker(replace(order, folder=str(tmp_path), sample="photos/red.png"), "here")
    paths = ("photos/red.png", str(draw("blue.png", "blue")))
    result = worker.run(Chunk(0, tuple(map(Found, paths))))
    assert [(row.path, row.label) for row in result.predictions] == [
        (paths[0], "red"),
        (paths[1], "blue"),
    ]


def test_images_that_end_every_worker_end_the_job(order: WorkOrder, draw: Draw) -> None:
    worker, chunk = ChunkWorker(order, "here"), Chunk(0, (Found(str(draw("red.png"))),))
    assert worker.run(chunk, attempts=5).problem is None
    problem = worker.run(chunk, attempts=6).problem
    assert isinstance(problem, DeviceError)
    assert "5 workers crashed" in problem.message
    assert "red.png" in problem.message


def test_a_part_that_cannot_be_written_is_the_result(
    order: WorkOrder, draw: Draw, tmp_path: Path
) -> None:
    parts = PartWriter(tmp_path / "parts", ".csv", RowColumns(2))
    parts.directory.mkdir()
    worker = ChunkWorker(replace(order, parts=parts), "10.0.0.7")
    shutil.rmtree(parts.directory)
    parts.directory.write_text("in the way")
    problem = worker.run(Chunk(0, (Found(str(draw("red.png"))),))).problem
    assert isinstance(problem, RunError)
    assert problem.message.startswith("on the node 10.0.0.7: cannot write")


def test_too_little_memory_is_reported(
    order: WorkOrder, classifier: Classifier, draw: Draw, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    worker = ChunkWorker(order, "10.0.0.7")
    monkeypatch.setattr(Classifier, "stream_outputs", fail)
    problem = worker.run(Chunk(0, (Found(str(draw("red.png"))),))).problem
    assert isinstance(problem, DeviceError)
    assert problem.message == "on the node 10.0.0.7: not enough memory"
