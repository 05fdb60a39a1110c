"""The report of an evaluation: what it says, writes, refuses and warns of."""

import csv
import json
import tracemalloc
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from cnnclf.data.manifest import SPLITS, Dataset, Manifest
from cnnclf.errors import DataError, ImageError, RunError, UsageError
from cnnclf.evaluation import report as report_module
from cnnclf.evaluation import report_files
from cnnclf.evaluation.confusions import confused_pairs, confusion_counts
from cnnclf.evaluation.figures import draw_confusion
from cnnclf.evaluation.metrics import METRICS, measure
from cnnclf.evaluation.report import evaluate
from cnnclf.evaluation.report_content import Report
from cnnclf.evaluation.report_tables import write_confusion
from cnnclf.images.input_spec import InputSpec
from cnnclf.inference.classifier import Classifier
from cnnclf.progress import Silent

LABELS = ("cat", "dog", "2", "10")
FILES = {"metrics.json", "predictions.csv", "confusion.csv", "confusion.png", "worst.png"}


class StandInClassifier:
    """Takes the first pixel for ten times the class index; between two classes it is unsure."""

    def __init__(self, labels: Sequence[str] = LABELS, fingerprint: str | None = "same") -> None:
        self.labels = tuple(labels)
        self.input_spec = InputSpec(2, 3, 1)
        self.directory = Path("run/checkpoints/best")
        self.bundle: dict[str, Any] = {
            "sha256": "f" * 64,
            "dataset": {"name": "pets", "fingerprint": fingerprint},
        }
        self.engine = SimpleNamespace(name="keras", precision="float32")
        self.batches: list[int] = []
        self.broken = False

    def logits(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        assert pixels.dtype == np.uint8
        assert pixels.shape[1:] == (2, 3, 1)
        self.batches.append(len(pixels))
        distance = pixels[:, 0, 0, :].astype(np.float32) - 10 * np.arange(len(self.labels))
        logits = -np.abs(distance)
        return np.full_like(logits, np.nan) if self.broken else logits.astype(np.float32)

    def stream(
        self, batches: Iterable[tuple[Any, NDArray[np.uint8]]]
    ) -> Iterator[tuple[Any, NDArray[np.float32]]]:
        for tag, pixels in batches:
            yield tag, self.logits(pixels)

    def probabilities(self, logits: NDArray[np.float32]) -> NDArray[np.float64]:
        raised = np.exp(logits.astype(np.float64))
        return np.asarray(raised / raised.sum(axis=1, keepdims=True))


class StandInPixels:
    """Pixels in memory; `late` rows turn out bad only when they are read."""

    def __init__(
        self, values: Sequence[int], bad: dict[int, str] | None = None, late: Sequence[int] = ()
    ) -> None:
        self.values = np.array(values)
        self.failed = dict(bad or {})
        self.late = set(late)

    def gather(self, rows: NDArray[np.intp]) -> NDArray[np.uint8]:
        assert not set(rows.tolist()) & set(self.failed)
        late = self.late & set(rows.tolist())
        if late:
            self.late -= late
            self.failed |= dict.fromkeys(late, "truncated")
            raise ImageError("expected an image, received half of one")
        return np.broadcast_to(
            self.values[rows].astype(np.uint8)[:, None, None, None], (len(rows), 2, 3, 1)
        ).copy()


def _dataset(
    true: Sequence[str],
    *,
    labels: Sequence[str] = LABELS,
    split: Sequence[str] | str = "test",
    paths: Sequence[str] | None = None,
) -> Dataset:
    n = len(true)
    splits = [split] * n if isinstance(split, str) else list(split)
    manifest = Manifest(
        paths=list(paths or [f"{label}/{i}.png" for i, label in enumerate(true)]),
        class_indices=np.array([list(labels).index(label) for label in true], np.int32),
        splits=np.array([SPLITS.index(name) if name else -1 for name in splits], np.int8),
        widths=np.full(n, 3, np.int32),
        heights=np.full(n, 2, np.int32),
        modes=["L"] * n,
        sha256=["0" * 64] * n,
        groups=[""] * n,
        notes=[""] * n,
    )
    return Dataset(
        directory=Path("pets"),
        root=Path("photos"),
        labels=tuple(labels),
        manifest=manifest,
        source={},
        fingerprint="same",
    )


class Case:
    """One evaluation with stand-ins; predictions are given as labels."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.out = tmp_path / "run" / "evaluation" / "test"
        self.progress = Silent()
        self.asked: dict[str, Any] = {}
        self._monkeypatch = monkeypatch

    def run(
        self,
        true: Sequence[str],
        predicted: Sequence[str],
        *,
        classifier: StandInClassifier | None = None,
        dataset: Dataset | None = None,
        pixels: StandInPixels | None = None,
        split: str = "test",
        **more: Any,
    ) -> Report:
        classifier = classifier or StandInClassifier()
        dataset = dataset or _dataset(true)
        values = [10 * classifier.labels.index(label) for label in predicted]
        pixels = pixels or StandInPixels(values)

        def open_pixels(*arguments: Any, **options: Any) -> StandInPixels:
            self.asked = {"arguments": arguments, **options}
            return pixels

        self._monkeypatch.setattr(report_module, "open_pixels", open_pixels)
        return evaluate(
            cast("Classifier", classifier),
            dataset,
            split=split,
            out=self.out,
            progress=self.progress,
            **more,
        )

    def read(self, name: str) -> list[list[str]]:
        with (self.out / name).open(encoding="utf-8", errors="surrogateescape", newline="") as file:
            return list(csv.reader(file))

    def metrics(self) -> dict[str, Any]:
        content = json.loads((self.out / "metrics.json").read_text(encoding="utf-8"))
        return dict(content)


@pytest.fixture
def case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Case:
    return Case(tmp_path, monkeypatch)


TRUE = ("cat", "cat", "cat", "dog", "dog", "2")
PREDICTED = ("cat", "cat", "dog", "dog", "10", "2")


def test_the_numbers_of_a_small_example(case: Case) -> None:
    report = case.run(TRUE, PREDICTED)
    assert (report.split, report.n, report.correct) == ("test", 6, 4)
    assert report.metrics["accuracy"] == pytest.approx(4 / 6)
    assert report.metrics["balanced_accuracy"] == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)
    assert report.interval == pytest.approx((0.29999, 0.90323), abs=1e-4)
    assert report.top_k == 3
    assert report.absent_labels == ("10",)
    assert [(p.label, p.predicted, p.count) for p in report.confused] == [
        ("dog", "10", 1),
        ("cat", "dog", 1),
    ]
    assert report.headline == "0.6667 (95 % interval 0.3000 to 0.9032, 4 of 6)"
    assert case.progress.warnings == []
    assert case.progress.notes == ["computing metrics", "drawing figures"]


def test_the_summary_is_flat_and_holds_every_metric(case: Case) -> None:
    summary = case.run(TRUE, PREDICTED).summary
    assert {metric.name for metric in METRICS} <= set(summary)
    assert all(isinstance(value, int | float) for value in summary.values())


@pytest.mark.parametrize(
    ("predicted", "is_beaten"),
    [(("cat",) * 27 + ("dog",) * 3, False), (("cat",) * 20 + ("dog",) * 10, True)],
)
def test_what_always_answering_the_largest_class_would_give(
    case: Case, predicted: tuple[str, ...], is_beaten: bool
) -> None:
    largest = case.run(("cat",) * 20 + ("dog",) * 10, predicted).largest_class
    assert (largest.label, largest.count, largest.is_beaten) == ("cat", 20, is_beaten)
    assert case.metrics()["largest_class"]["is_beaten"] is is_beaten
    assert largest.describe(30) == (
        "always 'cat' would be right in 20 of 30 (0.6667): nothing better was shown"
    )


def test_exactly_the_files_of_the_report_are_written(case: Case) -> None:
    case.run(TRUE, PREDICTED)
    assert {file.name for file in case.out.iterdir()} == FILES
    for name in ("confusion.png", "worst.png"):
        with Image.open(case.out / name) as image:
            assert image.format == "PNG"


def test_metrics_json_says_what_was_measured_on_what(case: Case) -> None:
    report = case.run(TRUE, PREDICTED)
    content = case.metrics()
    assert content["schema_version"] == 1
    assert (content["split"], content["n"]) == ("test", 6)
    assert content["labels"] == list(LABELS)
    assert content["metrics"] == report.metrics
    assert content["accuracy_interval"]["low"] == report.interval[0]
    assert content["model"] == {
        "directory": "run/checkpoints/best",
        "sha256": "f" * 64,
        "engine": "keras",
        "precision": "float32",
    }
    place = str(Path("pets").absolute())  # whoever reads it may be elsewhere
    assert content["dataset"] == {"directory": place, "fingerprint": "same", "trained_on": True}
    assert content["failed"] == {"count": 0, "files": []}
    assert {"cnnclf", "python", "numpy", "keras"} <= set(content["versions"])
    assert [row["label"] for row in content["per_class"]] == list(LABELS)
    assert content["per_class"][3]["recall"] is None  # no image of "10"


def test_predictions_csv_agrees_with_the_numbers(case: Case) -> None:
    report = case.run(TRUE, PREDICTED)
    header, *lines = case.read("predictions.csv")
    assert header == ["path", "label", "predicted", "probability", "correct"] + [
        f"p_{label}" for label in LABELS
    ]
    assert [line[0] for line in lines] == [f"{label}/{i}.png" for i, label in enumerate(TRUE)]
    assert [line[1] for line in lines] == list(TRUE)
    assert [line[2] for line in lines] == list(PREDICTED)
    assert sum(line[4] == "true" for line in lines) == report.correct
    probabilities = np.array([[float(cell) for cell in line[5:]] for line in lines])
    truth = np.array([LABELS.index(label) for label in TRUE])
    assert measure(truth, probabilities) == pytest.approx(report.metrics, abs=1e-4)
    assert [float(line[3]) for line in lines] == pytest.approx(probabilities.max(axis=1))


def test_confusion_csv_has_true_labels_down(case: Case) -> None:
    case.run(TRUE, PREDICTED)
    assert case.read("confusion.csv") == [
        ["label", *LABELS],
        ["cat", "2", "1", "0", "0"],
        ["dog", "0", "1", "0", "1"],
        ["2", "0", "0", "1", "0"],
        ["10", "0", "0", "0", "0"],
    ]


def test_many_classes_get_the_five_best_instead_of_a_column_each(case: Case) -> None:
    labels = [f"class {i}" for i in range(25)]
    labels += [f"more {i}" for i in range(76)]
    classifier = StandInClassifier(labels)
    true = ["class 1", "class 2"]
    case.run(true, true, classifier=classifier, dataset=_dataset(true, labels=labels))
    header, first, _ = case.read("predictions.csv")
    assert header[5:] == [
        name for rank in (2, 3, 4, 5) for name in (f"label_{rank}", f"probability_{rank}")
    ]
    assert first[2] == "class 1"
    assert first[5] == "class 0"  # as near as class 2, and before it
    assert [float(cell) for cell in first[6::2]] == sorted(
        (float(cell) for cell in first[6::2]), reverse=True
    )


def test_many_classes_need_little_memory_and_only_the_pairs_that_occur(tmp_path: Path) -> None:
    classes, rng = 3000, np.random.default_rng(0)
    truth = np.repeat(np.arange(classes), 2)
    predicted = np.where(rng.random(2 * classes) < 0.8, truth, rng.integers(0, 7, 2 * classes))
    labels = [f"class {index}" for index in range(classes)]
    table, figure = tmp_path / "confusion.csv", tmp_path / "confusion.png"
    draw_confusion(np.eye(2, dtype=np.int64), figure, labels=["a", "b"], title="libraries load")
    tracemalloc.start()
    try:
        confusion = confusion_counts(truth, predicted, classes=classes)
        confused_pairs(confusion, labels, limit=20)
        write_confusion(table, confusion, labels=labels)
        peak = tracemalloc.get_traced_memory()[1]
        draw_confusion(confusion, figure, labels=labels, title="test")
        peak_of_figure = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 16 * classes**2, "10,000 classes would need more than 1.6 GB"
    assert peak_of_figure < 600e6, "as the figure of 100 classes, however many there are"
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["label", "predicted", "count"]
    read = {(row["label"], row["predicted"]): int(row["count"]) for row in rows}
    assert read == {
        (labels[row], labels[column]): int(confusion[row, column])
        for row, column in zip(*np.nonzero(confusion), strict=True)
    }
    with Image.open(figure) as image:
        assert max(image.size) < 3000


def test_labels_in_another_order_are_matched_by_name(case: Case) -> None:
    expected = case.run(TRUE, PREDICTED)
    shuffled = _dataset(TRUE, labels=("10", "2", "cat", "dog"))
    found = case.run(TRUE, PREDICTED, dataset=shuffled)
    assert found.metrics == expected.metrics
    assert found.labels == LABELS
    assert found.per_class == expected.per_class


@pytest.mark.parametrize(
    ("labels", "named"),
    [
        (("cat", "dog", "2", "10", "cow"), ["does not know 'cow'"]),
        (("cat", "dog", "2", "ten"), ["does not know 'ten'", "lacks '10'"]),
    ],
)
def test_labels_that_differ_are_refused_by_name(
    case: Case, labels: tuple[str, ...], named: list[str]
) -> None:
    with pytest.raises(DataError) as caught:
        case.run(["cat"], ["cat"], dataset=_dataset(["cat"], labels=labels))
    assert all(words in caught.value.message for words in named)
    assert caught.value.hint
    assert not case.out.exists()


def test_data_may_lack_labels(case: Case) -> None:
    expected = case.run(["cat", "dog"], ["cat", "2"])
    fewer = _dataset(["cat", "dog"], labels=("dog", "cat"))
    found = case.run(["cat", "dog"], ["cat", "2"], dataset=fewer)
    assert (found.metrics, found.labels) == (expected.metrics, LABELS)
    assert set(found.absent_labels) == {"2", "10"}
    one = case.run(["cat"], ["cat"], dataset=_dataset(["cat"], labels=("cat",)))
    assert one.correct == 1


def test_a_long_list_of_differing_labels_is_cut_short(case: Case) -> None:
    labels = [f"label {i}" for i in range(300)]
    with pytest.raises(DataError, match="and 295 more") as caught:
        case.run(["label 1"], [], dataset=_dataset(["label 1"], labels=labels))
    assert len(caught.value.message) < 400


def test_a_split_without_images_is_refused_and_the_others_named(case: Case) -> None:
    dataset = _dataset(["cat", "dog"], split=["train", "val"])
    with pytest.raises(DataError, match="train and val"):
        case.run([], [], dataset=dataset)
    with pytest.raises(UsageError, match="holdout"):
        case.run([], [], dataset=dataset, split="holdout")


def test_only_the_rows_of_the_split_are_read_and_counted(case: Case) -> None:
    dataset = _dataset(TRUE, split=["train", "test", "test", "val", "test", ""])
    report = case.run(TRUE, PREDICTED, dataset=dataset)
    assert case.asked["rows"].tolist() == [1, 2, 4]
    assert case.asked["cache"] == "disk"
    assert report.n == 3
    assert [line[0] for line in case.read("predictions.csv")[1:]] == [
        "cat/1.png",
        "cat/2.png",
        "dog/4.png",
    ]
    assert case.run(TRUE, PREDICTED, dataset=dataset, split="all").n == 6


@pytest.mark.parametrize("batch_size", [1, 2, 4, 6, 100, None])
def test_the_batch_size_changes_nothing(case: Case, batch_size: int | None) -> None:
    classifier = StandInClassifier()
    report = case.run(TRUE, PREDICTED, classifier=classifier, batch_size=batch_size)
    assert report.correct == 4
    assert sum(classifier.batches) == 6
    assert max(classifier.batches) <= (batch_size or 256)


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_images_that_cannot_be_decoded_are_listed_and_skipped(case: Case, batch_size: int) -> None:
    values = [10 * LABELS.index(label) for label in PREDICTED]
    pixels = StandInPixels(values, bad={2: "no image: cat/2.png"}, late=[4, 5])
    report = case.run(TRUE, PREDICTED, pixels=pixels, batch_size=batch_size)
    assert (report.n, report.correct) == (3, 3)
    assert [(file.path, file.reason) for file in report.failed] == [
        ("cat/2.png", "no image: cat/2.png"),
        ("dog/4.png", "truncated"),
        ("2/5.png", "truncated"),
    ]
    assert case.metrics()["failed"]["count"] == 3
    assert [line[0] for line in case.read("predictions.csv")[1:]] == [
        "cat/0.png",
        "cat/1.png",
        "dog/3.png",
    ]
    assert len(case.progress.warnings) == 1
    assert "3 of 6" in case.progress.warnings[0]
    assert report.absent_labels == ("2", "10")


def test_nothing_but_bad_images_is_an_error(case: Case) -> None:
    pixels = StandInPixels([0, 0], bad={0: "empty file"}, late=[1])
    with pytest.raises(DataError, match=r"none of the 2 images .* can be decoded.*empty file"):
        case.run(["cat", "cat"], ["cat", "cat"], pixels=pixels)
    assert not case.out.exists()


def test_data_that_changed_since_training_is_warned_of(case: Case) -> None:
    report = case.run(TRUE, PREDICTED, classifier=StandInClassifier(fingerprint="other"))
    assert len(case.progress.warnings) == 1
    assert "the data changed since training" in case.progress.warnings[0]
    assert report.dataset["trained_on"] is False


def test_a_bundle_that_does_not_know_its_data_is_not_warned_of(case: Case) -> None:
    report = case.run(TRUE, PREDICTED, classifier=StandInClassifier(fingerprint=None))
    assert case.progress.warnings == []
    assert report.dataset["trained_on"] is None


@pytest.mark.parametrize("split", ["train", "val", "all"])
def test_images_used_in_training_are_no_unseen_data(case: Case, split: str) -> None:
    dataset = _dataset(TRUE, split="val" if split == "val" else "train")
    case.run(TRUE, PREDICTED, dataset=dataset, split=split)
    assert case.progress.notes[-2:] == ["computing metrics", "drawing figures"]
    said = case.progress.notes[:-2] if split == "val" else case.progress.warnings
    assert len(said) == 1
    assert split in said[0]
    assert len(case.progress.notes) == (3 if split == "val" else 2)


def test_a_model_that_gives_no_numbers_is_refused(case: Case) -> None:
    classifier = StandInClassifier()
    classifier.broken = True
    with pytest.raises(RunError, match=r"returned NaN or infinity for .*cat/0\.png"):
        case.run(TRUE, PREDICTED, classifier=classifier)
    assert not case.out.exists()


@pytest.fixture
def sheet(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the sheet of worst mistakes was asked to show."""
    shown: dict[str, Any] = {}

    def draw_sheet(items: Any, path: Path, *, title: str) -> None:
        shown.update(items=items, title=title)
        path.write_bytes(b"")

    monkeypatch.setattr(report_files, "draw_sheet", draw_sheet)
    return shown


def test_the_worst_mistakes_come_most_confident_first(case: Case, sheet: dict[str, Any]) -> None:
    pixels = StandInPixels([14, 10, 12, 0, 20, 0])  # for TRUE: each is wrong
    case.run(TRUE, (), pixels=pixels)
    items = sheet["items"]
    # Of equally certain ones that first whose true label had the least probability.
    assert [item.path for item in items[:2]] == ["2/5.png", "dog/3.png"]
    assert {item.path for item in items[2:4]} == {"cat/1.png", "dog/4.png"}
    assert [item.path for item in items[4:]] == ["cat/2.png", "cat/0.png"]
    probabilities = [item.probability for item in items]
    assert probabilities == sorted(probabilities, reverse=True)
    assert all(item.label != item.predicted for item in items)
    assert all(item.label_probability <= item.probability for item in items)
    assert items[0].pixels.shape == (2, 3, 1)
    assert sheet["title"] == "test split, 6 images: 6 mistakes"


def test_without_mistakes_the_least_certain_are_shown(case: Case, sheet: dict[str, Any]) -> None:
    pixels = StandInPixels([0, 4, 1, 10, 13, 20])
    case.run(TRUE, (), pixels=pixels)
    assert [item.path for item in sheet["items"]][:2] == ["cat/1.png", "dog/4.png"]
    assert "no mistakes" in sheet["title"]


def test_a_report_replaces_the_old_one_and_leaves_other_files(case: Case) -> None:
    case.out.mkdir(parents=True)
    (case.out / "metrics.json").write_text("old")
    (case.out / "my notes.txt").write_text("mine")
    case.run(TRUE, PREDICTED)
    assert case.metrics()["n"] == 6
    assert (case.out / "my notes.txt").read_text() == "mine"
    assert {file.name for file in case.out.iterdir()} == FILES | {"my notes.txt"}


def test_the_figure_of_an_earlier_report_is_not_left_beside_other_numbers(case: Case) -> None:
    case.out.mkdir(parents=True)
    (case.out / "robustness.png").write_bytes(b"of another model")
    case.run(TRUE, PREDICTED)
    assert not (case.out / "robustness.png").exists()


def test_an_interrupted_report_leaves_the_old_one_whole(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    case.run(TRUE, PREDICTED)
    before = {file.name: file.read_bytes() for file in case.out.iterdir()}

    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(report_files, "draw_sheet", interrupt)
    with pytest.raises(KeyboardInterrupt):
        case.run(TRUE, TRUE)
    assert {file.name: file.read_bytes() for file in case.out.iterdir()} == before


def test_a_place_where_nothing_can_be_written_is_named(case: Case) -> None:
    case.out.parent.mkdir(parents=True)
    case.out.write_text("a file")
    with pytest.raises(RunError, match="cannot write") as caught:
        case.run(TRUE, PREDICTED)
    assert str(case.out) in caught.value.message


def test_the_same_evaluation_gives_the_same_bytes(case: Case) -> None:
    case.run(TRUE, PREDICTED)
    before = {file.name: file.read_bytes() for file in case.out.iterdir()}
    case.run(TRUE, PREDICTED)
    assert {file.name: file.read_bytes() for file in case.out.iterdir()} == before


def test_odd_names_survive_in_every_file(case: Case) -> None:
    labels = ("$a^$", "猫", "new\nline, and comma", "caf\udce9")
    paths = ["a b.png", "caf\udce9.png", 'say "x".png', "猫/1.png"]
    dataset = _dataset(labels, labels=labels, paths=paths)
    predicted = ("猫", *labels[1:])
    case.run(labels, predicted, classifier=StandInClassifier(labels), dataset=dataset)
    header, *lines = case.read("predictions.csv")
    assert [line[0] for line in lines] == paths
    assert [line[1] for line in lines] == list(labels)
    assert header[5:] == [f"p_{label}" for label in labels]
    assert case.metrics()["labels"] == list(labels)
    assert [line[0] for line in case.read("confusion.csv")] == ["label", *labels]
