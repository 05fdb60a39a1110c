"""Where the blocks of a diagram stand, and how large they are.

Each block is a box of feature maps: as high and deep as their rows and columns, as wide as the root
of their number. Lengths are points.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from cnnclf.drawing.canvas import measure
from cnnclf.drawing.lettering import drawable

# Okabe and Ito (2008): distinct for every kind of color vision, and of different lightness.
COLORS = {
    "input": "#999999",
    "conv": "#0072b2",
    "pool": "#e69f00",
    "join": "#cc79a7",
    "dense": "#009e73",
    "stage": "#56b4e9",
}
_SIDE, _FLAT = 110.0, 4.0  # height of the largest maps, smallest extent, in points
_DEPTH = 0.32  # of a side, in both directions
_THICK = 46.0  # width of the largest number of maps
_CELL, _GAP, MARGIN, LINE = 88.0, 8.0, 16.0, 13.0
MAX_WIDTH = 940.0
TEXT, TITLE = 9.5, 14.0


@dataclass(frozen=True)
class Block:
    """One block.

    Args:
        lines: Text below it, the first bold.
        shape: (rows, columns, maps), or (units,).
        color: A key of `COLORS`.
    """

    lines: tuple[str, ...]
    shape: tuple[int, ...]
    color: str


@dataclass(frozen=True)
class Box:
    """A block at its place, in points; (x, y) is the lower left corner of its front."""

    block: Block
    x: float
    y: float
    width: float
    height: float
    depth: float
    center: float  # of its text

    @property
    def faces(self) -> list[tuple[float, list[tuple[float, float]]]]:
        """Opacity and corners of front, top and right side."""
        left, right, low, high, over = (
            *(self.x, self.x + self.width, self.y, self.y - self.height),
            self.depth,
        )
        return [
            (0.95, [(left, low), (right, low), (right, high), (left, high)]),
            (
                0.45,
                [
                    (left, high),
                    (right, high),
                    (right + over, high - over),
                    (left + over, high - over),
                ],
            ),
            (
                0.7,
                [
                    (right, low),
                    (right, high),
                    (right + over, high - over),
                    (right + over, low - over),
                ],
            ),
        ]


@dataclass(frozen=True)
class Layout:
    """All boxes, and the size of the page in points."""

    width: float
    height: float
    title: str
    caption: str
    boxes: tuple[Box, ...]


def lay_out(blocks: Sequence[Block], *, title: str, caption: str) -> Layout:
    """Place the blocks in rows that are at most as wide as a page.

    Args:
        blocks: From input to output, at least one of them maps.
        title: Above them.
        caption: Below them.
    """
    largest = max(max(block.shape[:2]) for block in blocks if len(block.shape) > 1)
    # a flattened vector would make all maps thin: vectors have a scale of their own
    most = {
        is_map: max((b.shape[-1] for b in blocks if (len(b.shape) > 1) is is_map), default=1)
        for is_map in (True, False)
    }
    text = max(len(block.lines) for block in blocks) * LINE
    boxes: list[Box] = []
    left, low = MARGIN, 0.0
    rows = _break_rows([_measure(block, largest, most[len(block.shape) > 1]) for block in blocks])
    numbers = iter(blocks)
    right, top = 0.0, MARGIN + 2 * TITLE
    for row in rows:
        low = top + max(height + depth for _, height, depth, _ in row)
        left = MARGIN
        for width, height, depth, cell in row:
            x = left + (cell - width - depth) / 2
            boxes.append(Box(next(numbers), x, low, width, height, depth, center=left + cell / 2))
            left += cell + _GAP
        right = max(right, left - _GAP)
        top = low + text + 2 * _GAP
    needed = max(
        measure(drawable(title), size=TITLE, bold=True), measure(drawable(caption), size=TEXT)
    )
    width = max(right, MARGIN + needed) + MARGIN
    return Layout(width, top + (2 * LINE if caption else 0), title, caption, tuple(boxes))


_Measures = tuple[float, float, float, float]  # width, height, depth, cell


def _measure(block: Block, largest: int, most: int) -> _Measures:
    thick = max(_FLAT, _THICK * math.sqrt(block.shape[-1] / most))
    if len(block.shape) == 1:  # a vector stands upright
        width, height, depth = _FLAT * 2, thick, _FLAT
    else:
        height = max(_FLAT, _SIDE * block.shape[0] / largest)
        width, depth = thick, _DEPTH * max(_FLAT, _SIDE * block.shape[1] / largest)
    text = max(
        measure(drawable(line), size=TEXT, bold=number == 0)
        for number, line in enumerate(block.lines)
    )
    return width, height, depth, max(text, width + depth, _CELL * 0.6)


def _break_rows(cells: Sequence[_Measures]) -> list[list[_Measures]]:
    """Break a line of blocks into rows of about the same width."""
    total = sum(cell[3] + _GAP for cell in cells)
    count = math.ceil(total / MAX_WIDTH)
    rows: list[list[_Measures]] = [[]]
    for cell in cells:
        before = sum(each[3] + _GAP for each in rows[-1])
        if len(rows) < count and before >= total / count:
            rows.append([])
        rows[-1].append(cell)
    return rows
