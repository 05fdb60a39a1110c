"""Every command at 60, 80 and 120 columns: words stay whole at the edge, and names in tables."""

import os
import re
import shutil
from itertools import product
from pathlib import Path

import pytest

from tests.conftest import Golden
from tests.terminal.terminal import WIDTHS, Shown, draw, run_each
from tests.terminal.test_every_command import CALLS, COPYING, RUN

pytestmark = pytest.mark.skipif(os.name != "posix", reason="pseudo-terminals of posix")

# What needs no TensorFlow, all in one process; the others are slow, in one process, too.
LIGHT = (
    *("import", "backbones", "weights list", "weights path", "augment-preview", "convolve"),
    *("runs list", "runs show", "runs remove", "glossary", "sample-data"),
    *("cache list", "help", "version", "weights pull"),
)
TRAINED = "--preset tiny --epochs 1 --image-size 16 --out OUT"
TUNED = "--backbone mobilenet-0.25 --weights none --image-size 32 --head-epochs 1 --unfreeze none"
MORE = {  # besides their --dry-run
    "train": f"sample_data/x_or_o {TRAINED}",
    "finetune": f"sample_data/x_or_o {TUNED} --out OUT",
}
HEAVY = tuple(name for name in CALLS if name not in LIGHT)
WIDEST_FIRST = sorted(WIDTHS, reverse=True)  # what is said only once is in the widest
# Said from the second call on, when the first has imported, examined or converted.
AGAIN = "the images are unchanged since its import into; they were examined: using that"
ROOM = 4  # of an indentation: longer words cannot stay whole

Screens = dict[tuple[str, int], Shown]


def show(names: tuple[str, ...], place: Path) -> Screens:
    """Run commands at all widths."""
    kinds = [(name, width) for name, width in product(names, WIDEST_FIRST)]
    calls = []
    for name, width in kinds:
        target = place / f"{name.replace(' ', '-')}-{width}"
        if name in COPYING:
            shutil.copytree(RUN, target / "run")
            (target / "run" / "reference_logits.json").unlink()
        words = [str(each).replace("OUT", str(target)) for each in CALLS[name]]
        calls.append((width, [*name.split(), *words]))
        if name in MORE:
            calls.append((width, [name, *MORE[name].replace("OUT", str(target)).split()]))
    kinds = [(" ".join(map(str, words)), width) for width, words in calls]
    shown = run_each(calls, CNNCLF_CACHE_DIR=str(place / "c"), KERAS_HOME=str(place / "k"))
    return dict(zip(kinds, shown, strict=True))


def assert_readable(screens: Screens) -> None:
    wide = [each for (_, width), each in screens.items() if width == WIDEST_FIRST[0]]
    known = {*AGAIN.split(), *(word for each in wide for word in words_of(each))}
    for (name, width), each in screens.items():
        told = f"{name} at {width} columns"
        assert "Traceback" not in each.stdout, told
        for line in lines_of(each):
            assert line.isprintable(), told
            for broken in find_broken(line, width):
                pytest.fail(f"{told} breaks {broken!r} in {line!r}")
        # A name that a table cuts or folds is a word that wide terminals do not show.
        assert set(words_of(each)) <= known, told


def lines_of(shown: Shown) -> tuple[str, ...]:
    """Give the lines as they were written, before a terminal breaks them."""
    return draw(shown.stdout.encode(), 1000)


def words_of(shown: Shown) -> list[str]:
    """Give the words but for numbers, absolute paths, and rates, which only long tasks have."""
    unlike = r" in [\d.]+ (s|min)|^not shown at this width: "  # narrow ones leave columns out
    lines = [line for line in lines_of(shown) if not re.search(unlike, line)]
    words = [word for line in lines for word in re.split(r"[\s|]+", line) if word[:1] != "/"]
    return [re.sub(r"\d[\d.,:-]*", "#", word) for word in words if re.search(r"\w", word)]


def find_broken(line: str, width: int) -> list[str]:
    """Give the words that a terminal breaks although they fit on a line."""
    return [
        word.group()
        for word in re.finditer(r"\S+", line)
        if word.start() // width != (word.end() - 1) // width and len(word.group()) <= width - ROOM
    ]


def test_what_counts_as_broken() -> None:
    assert find_broken("a" * 58 + " bbbb", 60) == ["bbbb"]
    assert find_broken("a" * 58 + "   bbbb", 60) == []
    assert find_broken("a" * 58 + " " + "b" * 60, 60) == []  # no terminal has room for it


def test_light_commands(tmp_path: Path) -> None:
    assert_readable(show(LIGHT, tmp_path))


@pytest.mark.slow
def test_heavy_commands(tmp_path: Path) -> None:
    assert_readable(show(HEAVY, tmp_path))


RECORDED = (  # without places, whose length differs
    "runs list sample_data",
    "runs show sample_data/tiny_run",
    "glossary stride --run sample_data/tiny_run",
    "weights list",
    "backbones",
)


def test_recorded(golden: Golden, tmp_path: Path) -> None:
    calls = [(width, command.split()) for command, width in product(RECORDED, WIDTHS)]
    shown = run_each(calls, CNNCLF_CACHE_DIR=str(tmp_path), KERAS_HOME="/none")
    for (width, words), each in zip(calls, shown, strict=True):
        assert each.code == 0, words
        assert max(map(len, each.screen)) <= width
        name = "-".join(word for word in words if word.isalpha())
        golden(f"terminal/{name}-{width}.txt", "\n".join(each.screen) + "\n")
