"""Diagrams of blocks: one layout, three formats."""

import re
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from PIL import Image

from cnnclf.drawing.block_diagram import save_diagram, to_image, to_mermaid, to_svg
from cnnclf.drawing.block_layout import Block, lay_out

BLOCKS = (
    Block(("input", "32x16x1"), (32, 16, 1), "input"),
    Block(("conv <3x3>", "32x16x64"), (32, 16, 64), "conv"),
    Block(("pool", "16x8x64"), (16, 8, 64), "pool"),
    Block(("dense", "10"), (10,), "dense"),
)
SVG = "{http://www.w3.org/2000/svg}"


def test_boxes_are_to_scale() -> None:
    first, conv, pool, dense = lay_out(BLOCKS, title="t", caption="").boxes
    assert conv.height == first.height == 2 * pool.height
    assert conv.depth == pytest.approx(2 * pool.depth)
    assert conv.width == pool.width > first.width
    assert [box.y for box in (conv, pool, dense)] == [first.y] * 3, "they stand on one line"
    assert first.x + first.width + first.depth < conv.x, "none covers another"


def test_many_blocks_are_broken_into_rows_of_one_page() -> None:
    layout = lay_out(BLOCKS * 12, title="t", caption="c")
    assert len({box.y for box in layout.boxes}) > 3
    assert layout.width < 1200
    assert all(box.x > 0 and box.x + box.width + box.depth < layout.width for box in layout.boxes)
    assert max(box.y for box in layout.boxes) < layout.height


def test_the_svg_is_a_document_for_light_dark_and_print() -> None:
    text = to_svg(BLOCKS, title='a "b" & <c>', caption="scale")
    root = ET.fromstring(text)
    assert root.get("aria-label") == 'a "b" & <c>'
    assert len(root.findall(f".//{SVG}polygon")) == 3 * len(BLOCKS)
    shown = [each.text for each in root.findall(f".//{SVG}text")]
    assert "conv <3x3>" in shown
    assert "scale" in shown
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text


def test_the_image_has_every_box_in_its_color() -> None:
    pixels = np.asarray(to_image(BLOCKS, title="t"))
    found = {tuple(map(int, color)) for color in pixels.reshape(-1, 3)}
    for red, green, blue in [(0, 114, 178), (230, 159, 0), (0, 158, 115)]:
        near = (round(255 - (255 - part) * 0.95) for part in (red, green, blue))
        assert tuple(near) in found


def test_mermaid_connects_all_blocks_and_escapes_their_text() -> None:
    lines = to_mermaid(BLOCKS, title='a "b"').splitlines()
    assert lines[1] == "title: \"a 'b'\""
    assert '    n1["conv &lt;3x3&gt;<br/>32x16x64"]' in lines
    arrows = [line.strip() for line in lines if "-->" in line]
    assert arrows == ["n0 --> n1", "n1 --> n2", "n2 --> n3"]


@pytest.mark.parametrize("ending", [".svg", ".png", ".mermaid", ".mmd", ".PNG"])
def test_the_name_says_the_format(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"net{ending}"
    save_diagram(BLOCKS, path, title="net")
    start = path.read_bytes()[:8]
    if ending.lower() == ".png":
        with Image.open(path) as image:
            assert image.mode == "RGB"
    else:
        assert re.match(rb"<svg|---", start)
    assert list(tmp_path.iterdir()) == [path]


def test_another_ending_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\.svg, \.png"):
        save_diagram(BLOCKS, tmp_path / "net.gif", title="net")
