"""Canvases: everything fits, is where it belongs, and small images keep their pixels."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnnclf.drawing.canvas import ColorBar, Tile, draw_canvas, measure, save_canvas, wrap

RED = np.zeros((8, 8, 3), np.uint8)
RED[..., 0] = 255


def count_red(image: Image.Image) -> int:
    colors = np.asarray(image).reshape(-1, 3)
    return int((colors == (255, 0, 0)).all(axis=1).sum())


def test_small_images_are_enlarged_by_whole_pixels() -> None:
    image = draw_canvas([[Tile(RED)]], side=100)
    assert count_red(image) == (8 * 25) ** 2  # 200 pixels hold 8 x 25


@pytest.mark.parametrize("shape", [(7, 7), (13, 13), (64, 64), (300, 300)])
def test_images_of_one_canvas_are_equally_large(shape: tuple[int, int]) -> None:
    black = np.zeros(shape, np.uint8)
    assert (np.asarray(draw_canvas([[Tile(black)]], side=100)) == 0).all(axis=2).sum() == 200**2


def test_a_map_has_the_proportions_of_its_image() -> None:
    image, few = np.zeros((50, 75), np.uint8), np.zeros((7, 10), np.uint8)
    one, two = (
        np.asarray(draw_canvas([[tile]])) for tile in (Tile(image), Tile(few, like=(50, 75)))
    )
    assert (one == two).all()


def test_every_tile_has_its_place() -> None:
    one = draw_canvas([[Tile(RED)]], side=160)
    many = draw_canvas(
        [[Tile(RED), Tile(RED, title="a", caption="b")], [None, Tile(RED)]], side=160
    )
    assert count_red(many) == 3 * count_red(one)


def test_text_makes_room_for_itself() -> None:
    plain = draw_canvas([[Tile(RED)]])
    rich = draw_canvas(
        [[Tile(RED, title="猫" * 80, caption="long " * 60)]],
        title="title " * 40,
        lines=["checks " * 50],
        bar=ColorBar("signed", -1, 1, "evidence"),
    )
    assert rich.height > plain.height + 300
    assert rich.width == plain.width
    edges = np.asarray(rich)
    margins = (edges[:, :20], edges[:, -20:], edges[:20], edges[-10:])
    assert all((margin == 255).all() for margin in margins)


def test_what_colors_mean_is_never_shortened() -> None:
    short = draw_canvas([[Tile(RED)]], bar=ColorBar("signed", -1, 1, "evidence"))
    long = "against (blue) and for (red) the class, per place"
    below = draw_canvas([[Tile(RED)]], bar=ColorBar("signed", -0.00566, 0.00566, long))
    line = draw_canvas(
        [[Tile(RED)]], bar=ColorBar("signed", -0.00566, 0.00566, ""), lines=[f"colors: {long}"]
    )
    assert below.height > short.height
    assert (np.asarray(below) == np.asarray(line)).all()


@pytest.mark.parametrize("text", ["x" * 300, "several words " * 20, "a\nb", ""])
def test_wrapped_lines_fit(text: str) -> None:
    lines = wrap(text, 100, size=10)
    assert all(measure(line, size=10) <= 100 for line in lines)
    assert bool(lines) == bool(text)


def test_a_saved_canvas_is_a_png_in_print_size(tmp_path: Path) -> None:
    save_canvas(draw_canvas([[Tile(RED[..., 0])]]), tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        assert image.format == "PNG"
        assert image.info["dpi"][0] == pytest.approx(144, abs=0.1)


@pytest.mark.parametrize("shape", [(2000, 20), (20, 2000), (1, 500), (13, 1280)])
def test_narrow_images_are_no_lines_and_a_line_says_so(shape: tuple[int, int]) -> None:
    tile = Tile(np.zeros(shape, np.uint8))
    narrow, plain = (
        np.asarray(draw_canvas([[each]])) for each in (tile, Tile(np.zeros((50, 60), np.uint8)))
    )
    rows, columns = np.nonzero((narrow == 0).all(axis=2))
    assert min(np.ptp(rows), np.ptp(columns)) >= 20
    text = narrow[-40:], plain[-40:]
    assert [bool((part < 200).any()) for part in text] == [True, False]
