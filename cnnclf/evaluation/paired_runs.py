"""Two runs that were evaluated on the same images: which of them changed sides, what it means."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from cnnclf.bounded import read_table
from cnnclf.errors import DataError, RunError
from cnnclf.evaluation.paired_statistics import (
    Interval,
    bootstrap_macro_f1,
    difference_interval,
    mcnemar_mid_p,
    smallest_difference,
)
from cnnclf.files import read_json
from cnnclf.names import natural_key, short_names
from cnnclf.runs.run_directory import RunDirectory
from cnnclf.runs.run_names import EVALUATION, METRICS_FILE, PREDICTIONS_FILE

if TYPE_CHECKING:
    from cnnclf.data.manifest import Dataset

_SPLITS = ("test", "all", "val", "train")  # in the order of preference
_IN_FIGURE, _SIDE = 12, 160  # images of each side, and their pixels

ReportKey = tuple[str, str]
"""The fingerprint of a dataset, and the split."""

Reports = dict[ReportKey, tuple[Path, Path]]
"""The evaluations of a run: the directory of the report, and that of the dataset."""


class Answer(NamedTuple):
    """What a model said about an image."""

    path: str
    label: str
    predicted: str
    probability: float


class AnswerPair(NamedTuple):
    """What two models said about the same image."""

    first: Answer
    second: Answer

    @property
    def gained(self) -> int:
        """1 if only the second is right, -1 if only the first is, else 0."""
        label = self.first.label
        return (self.second.predicted == label) - (self.first.predicted == label)


@dataclass(frozen=True)
class ClassChange:
    """How the recall of a class changed."""

    label: str
    images: int
    first_right: int
    second_right: int
    gained: int
    lost: int


@dataclass(frozen=True)
class PairedTest:
    """The second of two runs compared with the first, on the images that both were evaluated on.

    Differences are second minus first.

    Args:
        first: Directory of the first run.
        second: Directory of the second run.
        split: The split of the dataset.
        dataset: Directory of the dataset.
        fingerprint: Of the dataset.
        images: How many there are.
        accuracies: Of the first and the second.
        difference: Of the accuracies, with its 95 % interval.
        gained: Images that only the second has right.
        lost: Images that only the first has right.
        p_value: Of McNemar's exact test (mid-p).
        macro_f1: Difference of macro F1, with its 95 % interval (paired bootstrap).
        smallest: The smallest difference that would be found in 80 % of such tests.
        classes: Classes in which images changed sides, those that changed most first.
        pairs: What both said about every image.
    """

    first: Path
    second: Path
    split: str
    dataset: Path
    fingerprint: str
    images: int
    accuracies: tuple[float, float]
    difference: tuple[float, Interval]
    gained: int
    lost: int
    p_value: float
    macro_f1: tuple[float, Interval]
    smallest: float
    classes: list[ClassChange]
    pairs: Sequence[AnswerPair] = field(repr=False, compare=False)

    @property
    def changed(self) -> list[AnswerPair]:
        """The images that exactly one of the two has right, the most confident mistakes first."""
        changed = [pair for pair in self.pairs if pair.gained]
        return sorted(changed, key=lambda pair: -pair[pair.gained < 0].probability)

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the images that did not change sides."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        changed = [
            {
                "path": pair.first.path,
                "label": pair.first.label,
                "first": pair.first.predicted,
                "second": pair.second.predicted,
            }
            for pair in self.changed
        ]
        return fields | {"pairs": None, "changed": changed}


def compare_runs(first: RunDirectory, second: RunDirectory) -> PairedTest:
    """Compare two runs on the images that both were evaluated on.

    Returns:
        The comparison on test, or on another split if they have no evaluation on test in common.

    Raises:
        DataError: They were evaluated on different images.
        RunError: One was not evaluated, or its evaluation is damaged.
    """
    reports = [_find_reports(run) for run in (first, second)]
    common = [key for key in reports[0] if key in reports[1]]
    if not common:
        raise _refusal((first.path, second.path), reports)
    key = common[0]
    tables = [read_answers(found[key][0] / PREDICTIONS_FILE) for found in reports]
    pairs = [
        AnswerPair(tables[0][path], tables[1][path]) for path in tables[0] if path in tables[1]
    ]
    if not pairs or any(pair.first.label != pair.second.label for pair in pairs):
        raise DataError(f"{first.path} and {second.path} were evaluated on different images")
    return _test(first.path, second.path, pairs=pairs, key=key, dataset=reports[0][key][1])


def open_compared(test: PairedTest) -> "Dataset":
    """Open the dataset that two runs were evaluated on, shown with the values of the first.

    Raises:
        DataError: It is not where it was, or has changed.
    """
    from cnnclf.data.manifest import load_dataset
    from cnnclf.planning.value_range import show_as_trained

    folder = load_dataset(test.dataset)
    if folder.fingerprint != test.fingerprint:
        raise DataError(
            f"the dataset in {test.dataset} has changed since {test.first} was evaluated on it",
            f"evaluate again: cnnclf evaluate {shlex.quote(str(test.first))}",
        )
    return show_as_trained(folder, RunDirectory(test.first))


def draw_changed(test: PairedTest, path: Path) -> None:
    """Draw images that changed sides, the most confident mistakes first.

    Raises:
        DataError: The dataset is not where it was, or its images cannot be read.
        RunError: The file cannot be written.
    """
    from cnnclf.drawing.canvas import Tile, draw_canvas, save_canvas

    folder = open_compared(test)
    files = {name: folder.file(row) for row, name in enumerate(folder.manifest.paths)}
    names = short_names([test.first, test.second])
    rows: list[list[Tile | None]] = []
    for sign in (1, -1):
        changed = [pair for pair in test.changed if pair.gained == sign][:_IN_FIGURE]
        tiles: list[Tile | None] = []
        for pair in changed:
            said = "\n".join(
                f"{name}: {each.predicted} ({each.probability:.2f})"
                for name, each in zip(names, pair, strict=True)
            )
            file = files[pair.first.path]
            image = folder.reduce(file, _SIDE).image
            tiles.append(Tile(np.asarray(image), f"is {pair.first.label}", said, marked=sign < 0))
        rows += [tiles[start : start + 6] for start in range(0, len(tiles), 6)]
    title = (
        f"{test.split} images that changed sides: {test.gained:,} that only {names[1]} has right "
        f"(light frames), {test.lost:,} that only {names[0]} has right (dark frames)"
    )
    save_canvas(draw_canvas(rows, title=title, side=120), path)


def _test(
    first: Path, second: Path, *, pairs: list[AnswerPair], key: ReportKey, dataset: Path
) -> PairedTest:
    labels = sorted(
        {name for pair in pairs for each in pair for name in each[1:3]}, key=natural_key
    )
    position = {label: index for index, label in enumerate(labels)}
    truth = np.array([position[pair.first.label] for pair in pairs])
    answers = [np.array([position[pair[i].predicted] for pair in pairs]) for i in (0, 1)]
    right = [answer == truth for answer in answers]
    images, (gained, lost) = len(pairs), _count_changed(*right)
    accuracies = (float(right[0].mean()), float(right[1].mean()))
    classes = []
    for index, label in enumerate(labels):
        own = [each[truth == index] for each in right]
        counts = _count_changed(*own)
        if any(counts):
            sums = [int(each.sum()) for each in own]
            classes.append(ClassChange(label, len(own[0]), sums[0], sums[1], *counts))
    classes.sort(key=lambda row: -abs(row.gained - row.lost))
    return PairedTest(
        first,
        second,
        split=key[1],
        dataset=dataset,
        fingerprint=key[0],
        images=images,
        accuracies=accuracies,
        difference=(
            (gained - lost) / images,
            difference_interval(gained, lost, total=images),
        ),
        gained=gained,
        lost=lost,
        p_value=mcnemar_mid_p(gained, lost),
        macro_f1=bootstrap_macro_f1(truth, answers[0], second=answers[1], classes=len(labels)),
        smallest=smallest_difference(images, gained + lost),
        classes=classes,
        pairs=pairs,
    )


def _count_changed(first: Any, second: Any) -> tuple[int, int]:
    return int((second & ~first).sum()), int((first & ~second).sum())


def _find_reports(run: RunDirectory) -> Reports:
    """Find the evaluations of a run, in the order of preference."""
    found = {}
    for path in sorted((run.path / EVALUATION).glob(f"*/{METRICS_FILE}")):
        content = read_json(path)
        dataset, split = content.get("dataset"), content.get("split")
        if isinstance(dataset, dict) and split in _SPLITS:
            place = Path(str(dataset.get("directory")))
            found[str(dataset.get("fingerprint")), split] = (path.parent, place)
    if not found:
        raise RunError(f"the run {run.path} was not evaluated", run.evaluate_hint())
    return dict(sorted(found.items(), key=lambda item: _SPLITS.index(item[0][1])))


def _refusal(paths: tuple[Path, Path], reports: Sequence[Reports]) -> DataError:
    """Say what two runs were evaluated on, and how they can be compared."""
    keys = [next(iter(found)) for found in reports]
    places = [found[key][1] for found, key in zip(reports, keys, strict=True)]
    known = [
        f"{path} on {split} of {place} ({fingerprint[:12]})"
        for path, (fingerprint, split), place in zip(paths, keys, places, strict=True)
    ]
    labels = [
        read_json(found[key][0] / METRICS_FILE).get("labels")
        for found, key in zip(reports, keys, strict=True)
    ]
    if all(labels) and labels[0] != labels[1]:
        return DataError(
            f"not evaluated on the same images, and their classes differ: {', '.join(known)}",
            "only runs with the same classes can be tested against each other",
        )
    again = ["cnnclf", "evaluate", str(paths[1])]
    is_same = keys[0][0] == keys[1][0]
    again += ["--split", keys[0][1]] if is_same else [str(places[0])]
    return DataError(
        f"not evaluated on the same images: {', '.join(known)}",
        f"evaluate both on one split of one dataset: {shlex.join(again)}",
    )


def read_answers(path: Path) -> dict[str, Answer]:
    """Read predictions.csv of an evaluation, by the path of the image.

    Raises:
        RunError: It is missing or damaged.
    """
    answers = read_table(path, _parse, hint="evaluate the run again: cnnclf evaluate RUN")
    return {answer.path: answer for answer in answers}


def _parse(row: Mapping[str, str]) -> Answer:
    return Answer(row["path"], row["label"], row["predicted"], float(row["probability"]))
