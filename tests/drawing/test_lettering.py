"""Text in figures: every string can be drawn, fits its place and stays distinguishable."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib import font_manager

from cnnclf.drawing import lettering
from cnnclf.drawing.lettering import MISSING, distinct_names, drawable, elide


def test_what_the_font_knows_is_kept() -> None:
    assert drawable("Größe кошка 25 % $x^2$ _a_") == "Größe кошка 25 % $x^2$ _a_"


def test_a_home_that_cannot_be_written_is_no_warning() -> None:
    code = "import cnnclf.drawing.lettering, matplotlib; print(matplotlib.get_cachedir())"
    kept = {name: value for name, value in os.environ.items() if name != "MPLCONFIGDIR"}
    closed = {"HOME": "/dev/null", "XDG_CONFIG_HOME": "/dev/null", "XDG_CACHE_HOME": "/dev/null"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[2],
        env=kept | closed,
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(done.stdout.strip()).name.startswith("matplotlib-")
    assert done.stderr == ""


def test_control_characters_become_spaces() -> None:
    assert drawable("a\nb\tc\x00d\u2028e") == "a b c d e"


def test_undecodable_bytes_become_boxes() -> None:
    assert drawable(b"caf\xe9.png".decode("utf-8", "surrogateescape")) == f"caf{MISSING}.png"


def test_decomposed_letters_are_composed() -> None:
    assert drawable("e\u0301") == "\u00e9"


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(), max_size=30))
def test_every_character_that_comes_out_has_a_glyph(text: str) -> None:
    known = lettering._known_characters()
    result = drawable(text)
    assert all(ord(char) in known for char in result)
    assert drawable(result) == result


@pytest.mark.parametrize("text", ["short", "x" * 500, "W" * 40, "猫" * 60, "a/b/c/" * 30 + "d.png"])
def test_an_elided_text_fits(text: str) -> None:
    result = elide(text, 1.5, size=8)
    assert lettering._width_inches(result, 8) <= 1.5


def test_a_path_keeps_its_beginning_and_its_end() -> None:
    result = elide("photos/" + "x" * 300 + "/IMG_0001.jpeg", 2.0, size=8)
    assert result.startswith("photos/")
    assert result.endswith("/IMG_0001.jpeg")
    assert "\N{HORIZONTAL ELLIPSIS}" in result


def test_a_text_that_fits_is_left_alone() -> None:
    assert elide("cat", 2.0, size=8) == "cat"


def test_labels_that_would_look_alike_get_their_index() -> None:
    labels = ["x" * 200 + "1" + "x" * 200, "x" * 200 + "2" + "x" * 200, "dog"]
    names = distinct_names(labels, 1.0, size=8)
    assert len(set(names)) == 3
    assert names[0].startswith("0: ")
    assert names[2] == "dog"


def test_labels_no_font_can_draw_get_their_index() -> None:
    labels = ["\U000f0000", "\U000f0001", "cat"]  # private use: no font has them
    assert distinct_names(labels, 1.0, size=8) == [f"0: {MISSING}", f"1: {MISSING}", "cat"]


def test_fonts_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for find in (lettering._find_file, lettering._characters, lettering._known_characters):
        find.cache_clear()
    read: list[str] = []
    real = font_manager.get_font

    def count(file: str) -> Any:
        read.append(file)
        return real(file)

    monkeypatch.setattr(font_manager, "get_font", count)
    for text in ("first", "second", "猫"):
        assert Path(lettering.find_font_file(text)).is_file()
        drawable(text)
    assert sorted(read) == sorted(lettering._font_files().values())


def test_fonts_are_only_those_that_exist() -> None:
    families = lettering.font(8).get_family()
    assert "DejaVu Sans" in families
    assert set(families) == set(lettering._font_files())
