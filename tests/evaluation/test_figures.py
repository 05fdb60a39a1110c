"""Figures: every size and every text gives a sound PNG, and nothing global is touched."""

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from cnnclf.evaluation import figures, learning_curves
from cnnclf.evaluation.figures import SheetItem, draw_confusion, draw_sheet
from cnnclf.evaluation.learning_curves import draw_curves

ODD_LABELS = [
    "plain",
    "$a^2$ and $",
    "猫と犬",
    "a_very_long_label_that_goes_on_and_on_without_any_end_1",
    "bad\udce9\nname",
    "",
]


def _read(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


def _confusion(classes: int, *, seed: int = 0) -> NDArray[np.int64]:
    rng = np.random.default_rng(seed)
    counts = rng.poisson(0.2, (classes, classes)) + np.diag(rng.integers(1, 100, classes))
    return np.asarray(counts, dtype=np.int64)


@pytest.mark.parametrize("classes", [2, 6, 10, 21, 100, 101])
def test_confusion_of_any_number_of_classes(tmp_path: Path, classes: int) -> None:
    labels = [f"class {i}" for i in range(classes)]
    draw_confusion(_confusion(classes), tmp_path / "c.png", labels=labels, title="test")
    height, width, _ = _read(tmp_path / "c.png").shape
    assert 150 < height < 3000
    assert 150 < width < 3000


def test_the_title_does_not_widen_the_matrix_of_two_classes(tmp_path: Path) -> None:
    title = "test split: accuracy 1.0000 (95 % interval 0.9213 to 1.0000, 45 of 45)"
    draw_confusion(_confusion(2), tmp_path / "c.png", labels=["a", "b"], title=title)
    height, width, _ = _read(tmp_path / "c.png").shape
    assert width < 1.6 * height


def test_confusion_of_two_hundred_classes_shows_each_one(tmp_path: Path) -> None:
    confusion = np.diag(np.full(200, 5)).astype(np.int64)
    confusion[140, 40] = 5
    confusion[140, 140] = 0
    labels = [str(i) for i in range(200)]
    draw_confusion(confusion, tmp_path / "c.png", labels=labels, title="test")
    pixels = _read(tmp_path / "c.png").astype(int)
    blue = (pixels[..., 2] - pixels[..., 0] > 60).any(axis=1).sum()
    orange = ((pixels[..., 0] - pixels[..., 2] > 60)[:, : pixels.shape[1] // 2]).sum()
    assert blue >= 199  # one line of pixels or more for each class on the diagonal
    assert orange >= 1  # the one mistake


def test_confusion_without_images_of_some_classes(tmp_path: Path) -> None:
    confusion = _confusion(3)
    confusion[1] = 0
    draw_confusion(confusion, tmp_path / "c.png", labels=["a", "b", "c"], title="test")
    gray = (_read(tmp_path / "c.png") == round(figures._EMPTY * 255)).all(axis=-1)
    assert gray.mean() > 0.05


def test_confusion_with_odd_labels_and_large_counts(tmp_path: Path) -> None:
    confusion = _confusion(len(ODD_LABELS)) * 1_000_003
    draw_confusion(confusion, tmp_path / "c.png", labels=ODD_LABELS, title="$ odd\nthings 猫")
    assert _read(tmp_path / "c.png").size


@pytest.mark.parametrize(
    ("confusion", "expected"),
    [
        ([[99, 1], [0, 100]], ["99\n99 %", "1\n1 %", "100\n100 %"]),
        ([[997, 3], [500, 500]], ["997\n99.7 %", "3\n0.3 %", "500\n50 %", "500\n50 %"]),
    ],
)
def test_counts_and_shares_are_printed(confusion: list[list[int]], expected: list[str]) -> None:
    class Axes:
        def __init__(self) -> None:
            self.texts: list[str] = []

        def text(self, _x: float, _y: float, text: str, **_: object) -> None:
            self.texts.append(text)

    axes = Axes()
    counts = np.array(confusion)
    figures._print_counts(axes, counts, counts / counts.sum(axis=1, keepdims=True), cell=0.5)
    assert axes.texts == expected


def _history(epochs: int, **more: Any) -> list[dict[str, Any]]:
    return [
        {
            "epoch": i + 1,
            "phase": "head" if i < epochs // 2 else "tail",
            "loss": 2 * math.exp(-i / 6),
            "accuracy": 1 - 0.8 * math.exp(-i / 6),
            "val_loss": 2.2 * math.exp(-i / 6),
            "val_accuracy": 0.98 - 0.8 * math.exp(-i / 6),
            "learning_rate": 1e-3,
            **more,
        }
        for i in range(epochs)
    ]


HISTORIES: dict[str, list[dict[str, Any]]] = {
    "none": [],
    "one epoch": _history(1),
    "two phases": _history(20),
    "many epochs": _history(300),
    "many phases": [row | {"phase": f"phase {i}"} for i, row in enumerate(_history(30))],
    "no validation": _history(5, val_loss=None, val_accuracy=None),
    "diverged": _history(3, loss=math.nan, val_loss=math.inf),
    "text, as read from CSV": [
        {k: str(v) for k, v in row.items()} | {"val_loss": ""} for row in _history(4)
    ],
    "few columns": [{"loss": 1.0}, {"loss": 0.5}],
    "odd phase": _history(4, phase="$x^ 猫\udce9"),
}


@pytest.mark.parametrize(("second", "scale"), [(1e-4, "log"), (5e-3, "linear")])
def test_rates_of_phases_that_differ_much_are_drawn_on_a_logarithmic_axis(
    second: float, scale: str
) -> None:
    from matplotlib.figure import Figure

    axes = Figure().add_subplot()
    rates = np.array([1e-2, 1e-3, second, second / 100])
    learning_curves._draw_rates(axes, np.arange(1.0, 5.0), rates, ["head", "head", "tail", "tail"])
    assert axes.get_yscale() == scale
    assert [list(np.asarray(line.get_xdata())) for line in axes.lines] == [[1, 2], [3, 4]]
    low, high = axes.get_ylim()
    assert low <= rates.min()
    assert high >= rates.max()


@pytest.mark.parametrize("name", HISTORIES)
@pytest.mark.parametrize("best_epoch", [None, 1])
def test_curves_of_any_history(tmp_path: Path, name: str, best_epoch: int | None) -> None:
    draw_curves(HISTORIES[name], tmp_path / "h.png", best_epoch=best_epoch, title="run $1")
    pixels = _read(tmp_path / "h.png")
    assert pixels.shape[0] > 400
    assert pixels.shape[1] > 800


def test_curves_show_both_splits_and_the_best_epoch(tmp_path: Path) -> None:
    draw_curves(_history(20), tmp_path / "h.png", best_epoch=12)
    pixels = _read(tmp_path / "h.png")
    for color in (figures.BLUE, figures.ORANGE, learning_curves._GREEN):
        rgb = [int(color[i : i + 2], 16) for i in (1, 3, 5)]
        assert (pixels == rgb).all(axis=-1).sum() > 50


@pytest.mark.parametrize(
    ("averaged", "label"),
    [(1, "best: epoch 2, 0.5000"), (3, "best mean accuracy of 3: epoch 2, 0.5000")],
)
def test_curves_name_a_best_epoch_that_need_not_be_the_highest(averaged: int, label: str) -> None:
    seen = []

    class Axes:
        def axvline(self, at: int, **style: object) -> None:
            seen.append((at, style["label"]))

        def plot(self, *values: object, **style: object) -> None:
            pass

    epochs, val = np.array([1.0, 2.0, 3.0]), np.array([0.6, 0.5, 0.4])
    learning_curves._mark_best(Axes(), epochs, val, 2, averaged)
    assert seen == [(2, label)]


def _item(height: int, width: int, channels: int, **more: Any) -> SheetItem:
    content: dict[str, Any] = {
        "pixels": np.full((height, width, channels), 200, np.uint8),
        "path": "a/b.png",
        "label": "cat",
        "label_probability": 0.1,
        "predicted": "dog",
        "probability": 0.9,
    }
    return SheetItem(**content | more)


@pytest.mark.parametrize(
    "shape", [(1, 1, 3), (1, 1, 1), (28, 28, 1), (3, 700, 3), (700, 3, 1), (900, 1200, 3)]
)
def test_a_sheet_of_images_of_any_size(tmp_path: Path, shape: tuple[int, int, int]) -> None:
    draw_sheet([_item(*shape)] * 3, tmp_path / "s.png", title="all 3 mistakes")
    pixels = _read(tmp_path / "s.png")
    assert (pixels == 200).all(axis=-1).any()  # pixel values are shown as they are


def test_a_sheet_with_odd_texts(tmp_path: Path) -> None:
    items = [
        _item(8, 8, 3, path=f"{'x' * 200}/{label}.png", label=label, predicted=label)
        for label in ODD_LABELS
    ]
    draw_sheet(items, tmp_path / "s.png", title="$ odd\n猫")
    assert _read(tmp_path / "s.png").size


def test_a_sheet_holds_no_more_than_it_should(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures, "SHEET_SIZE", 2)
    draw_sheet([_item(4, 4, 3)] * 2, tmp_path / "full.png", title="t")
    draw_sheet([_item(4, 4, 3)] * 20, tmp_path / "more.png", title="t")
    assert (tmp_path / "more.png").read_bytes() == (tmp_path / "full.png").read_bytes()


def test_a_figure_replaces_the_old_one_and_leaves_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "h.png"
    target.write_text("old")
    draw_curves(_history(3), target)
    assert [file.name for file in tmp_path.iterdir()] == ["h.png"]
    assert _read(target).size


def test_the_users_matplotlib_settings_are_left_aside(tmp_path: Path) -> None:
    import matplotlib as mpl

    with mpl.rc_context({"text.usetex": True, "figure.facecolor": "black", "axes.grid": True}):
        draw_curves(_history(3), tmp_path / "a.png")
        assert mpl.rcParams["text.usetex"] is True
    draw_curves(_history(3), tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_neither_pyplot_nor_matplotlib_is_loaded_early(tmp_path: Path) -> None:
    code = f"""
import sys
from pathlib import Path
from cnnclf.drawing import lettering
from cnnclf.evaluation import learning_curves, metrics
assert not {{"matplotlib", "sklearn"}} & set(sys.modules)
learning_curves.draw_curves([], Path({str(tmp_path / "h.png")!r}))
assert "matplotlib.pyplot" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def test_of_very_many_classes_the_most_confused_are_drawn() -> None:
    confusion = np.diag(np.full(300, 5))
    confusion[7, 250], confusion[250, 7], confusion[9, 10] = 4, 2, 1
    labels = [str(index) for index in range(300)]
    support = confusion.sum(axis=1, keepdims=True)
    block, sizes, names, note = figures._select_confused(confusion, support, labels)
    assert block.shape == (100, 100)
    assert {"7", "9", "10", "250"} <= set(names)
    assert block[names.index("7"), names.index("250")] == 4
    assert sizes[names.index("7"), 0] == 9
    assert note == "the 100 most confused of 300 classes: 7 of 7 mistakes are among them"
