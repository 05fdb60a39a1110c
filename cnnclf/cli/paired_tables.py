"""The comparison of two runs on the same images, in words and tables."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cnnclf.cli.output import out
from cnnclf.names import count_of

if TYPE_CHECKING:
    from cnnclf.evaluation.paired_runs import PairedTest

_LEVEL = 0.05
_CLASSES = 10  # shown
_CHOSEN = "val chose the epochs, and in a search the trials: what it chose looks better than it is"


def show_tests(
    tests: "Sequence[PairedTest]", names: Mapping[Path, str], *, p_values: Sequence[float]
) -> None:
    """Show how later runs compare with the first.

    Args:
        tests: Of each later run and the first.
        names: Of the runs, by directory.
        p_values: Of the tests, adjusted for their number.
    """
    adjusted = " (Holm)" if len(tests) > 1 else ""
    for test, p_value in zip(tests, p_values, strict=True):
        first, second = names[test.first], names[test.second]
        detectable = f"a difference of {100 * test.smallest:.1f} points (power 80 %)"
        out.pairs(
            f"{second} against {first}, on {count_of(test.images, f'{test.split} image')} of both",
            {
                "accuracy": f"{test.accuracies[0]:.4f} to {test.accuracies[1]:.4f}: "
                + _with_interval(*test.difference),
                "macro F1": _with_interval(*test.macro_f1),
                "changed sides": f"{test.gained:,} only {second} has right, {test.lost:,} only "
                f"{first} has right",
                "McNemar mid-p" + adjusted: _short(p_value),
            }
            | ({"detectable": detectable} if test.gained or test.lost else {})
            | {"result": _judge(test, first, second, p_value=p_value)}
            | ({"caution": _CHOSEN} if test.split == "val" else {}),
        )
    if len(tests) == 1 and tests[0].classes:
        _show_classes(tests[0], (names[tests[0].first], names[tests[0].second]))


def _judge(test: "PairedTest", first: str, second: str, *, p_value: float) -> str:
    from cnnclf.evaluation.paired_statistics import SMALL

    if not test.gained and not test.lost:
        return "no difference: both have the same images right"
    better, worse = (second, first) if test.gained > test.lost else (first, second)
    difference = abs(test.difference[0])
    if p_value >= _LEVEL and difference > SMALL:
        more = f"the {100 * difference:.1f} points more of {better} may be chance"
        return f"no difference was shown: {more}; more images would tell"
    if p_value >= _LEVEL:
        return "no difference was shown; one below the detectable may exist"
    return f"{better} is more accurate than {worse}"


def _show_classes(test: "PairedTest", names: tuple[str, str]) -> None:
    rows = [
        (
            row.label,
            row.images,
            row.first_right / row.images,
            row.second_right / row.images,
            row.gained,
            row.lost,
        )
        for row in test.classes[:_CLASSES]
    ]
    more = len(test.classes) - len(rows)
    out.table(
        "Recall of the classes that changed" + (f" most, of {len(test.classes)}" if more else ""),
        ("class", "images", names[0], names[1], "gained", "lost"),
        rows=rows,
    )


def _with_interval(difference: float, interval: tuple[float, float]) -> str:
    low, high = interval
    return f"{100 * difference:+.1f} points (95 % interval {100 * low:+.1f} to {100 * high:+.1f})"


def _short(p_value: float) -> str:
    return "below 0.0001" if p_value < 1e-4 else f"{p_value:.2g}"
