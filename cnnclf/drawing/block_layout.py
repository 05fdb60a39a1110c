"""Where the blocks of a diagram stand, and how large they are.

Each block is a box of feature maps: as high and deep as their rows and columns, as wide as the root
of their number. Branches stand below the longest path. Lengths are points.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from cnnclf.drawing.block_lanes import Lanes, find_lanes
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
_LINE_GAP = 18.0  # between columns that lines connect
Point = tuple[float, float]
MAX_WIDTH = 940.0
_FULL = 1.25  # of it: where branches forbade to break a row earlier
TEXT, TITLE = 9.5, 14.0


@dataclass(frozen=True)
class Block:
    """One block.

    Args:
        lines: Text below it, the first bold.
        shape: (rows, columns, maps), or (units,).
        color: A key of `COLORS`.
        inputs: Numbers of the blocks that it reads; None: the one before.
    """

    lines: tuple[str, ...]
    shape: tuple[int, ...]
    color: str
    inputs: tuple[int, ...] | None = None


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
    def faces(self) -> list[tuple[float, list[Point]]]:
        """Opacity and corners of front, top and right side."""
        left, right, low, high = self.x, self.x + self.width, self.y, self.y - self.height
        over = self.depth
        shared = (right + over, high - over)  # by top and right side
        return [
            (0.95, [(left, low), (right, low), (right, high), (left, high)]),
            (0.45, [(left, high), (right, high), shared, (left + over, high - over)]),
            (0.7, [(right, low), (right, high), shared, (right + over, low - over)]),
        ]


@dataclass(frozen=True)
class Layout:
    """All boxes, the lines between them (none in a plain chain), and the size of the page."""

    width: float
    height: float
    title: str
    caption: str
    boxes: tuple[Box, ...]
    lines: tuple[tuple[Point, ...], ...] = ()


def read_inputs(blocks: Sequence[Block]) -> list[tuple[int, ...]]:
    """Return the numbers of the blocks that each block reads."""
    before = [(at - 1,) if at else () for at in range(len(blocks))]
    pairs = zip(blocks, before, strict=True)
    return [each if block.inputs is None else block.inputs for block, each in pairs]


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
    lanes = find_lanes(read_inputs(blocks))
    gap = _LINE_GAP if any(lanes.lanes) or len(lanes.lines) >= len(blocks) else _GAP
    measures = [_measure(block, largest, most[len(block.shape) > 1]) for block in blocks]
    members: list[list[int]] = [[] for _ in range(max(lanes.columns) + 1)]
    for at, column in enumerate(lanes.columns):
        members[column].append(at)
    widths = [max(measures[at][3] for at in each) for each in members]
    boxes: dict[int, Box] = {}
    edges: dict[int, tuple[float, float]] = {}  # left and right end of each column
    floors: dict[tuple[int, int], float] = {}  # of each lane in each column
    right, top = 0.0, MARGIN + 2 * TITLE
    rows = _break_rows(widths, gap, lanes.breaks)
    for row in rows:
        used = {lanes.lanes[at] for column in row for at in members[column]}
        for source, target, lane in lanes.lines:
            if lanes.columns[source] < row[-1] and lanes.columns[target] > row[0]:
                used.add(lane)
        for lane in sorted(used):
            here = [at for column in row for at in members[column] if lanes.lanes[at] == lane]
            low = top + max((measures[at][1] + measures[at][2] for at in here), default=LINE)
            floors |= {(column, lane): low for column in row}
            top = low + (text if here else 0) + 2 * _GAP
        left = MARGIN
        for column in row:
            edges[column] = left, left + widths[column]
            for at in members[column]:
                width, height, depth, _ = measures[at]
                x = left + (widths[column] - width - depth) / 2
                low, center = floors[column, lanes.lanes[at]], left + widths[column] / 2
                boxes[at] = Box(blocks[at], x, low, width, height, depth, center=center)
            left += widths[column] + gap
        right = max(right, left - gap)
    placed = tuple(boxes[at] for at in range(len(blocks)))
    starts = {column: row[0] for row in rows for column in row}
    is_plain = gap == _GAP
    drawn = (
        [] if is_plain else _draw_lines(lanes, placed, edges=edges, floors=floors, starts=starts)
    )
    needed = max(
        measure(drawable(title), size=TITLE, bold=True), measure(drawable(caption), size=TEXT)
    )
    width = max(right, MARGIN + needed) + MARGIN
    height = top + (2 * LINE if caption else 0)
    return Layout(width, height, title, caption, placed, tuple(drawn))


def _draw_lines(
    lanes: Lanes,
    boxes: Sequence[Box],
    *,
    edges: dict[int, tuple[float, float]],
    floors: dict[tuple[int, int], float],
    starts: dict[int, int],
) -> list[tuple[Point, ...]]:
    """Connect boxes: right of the source, along a lane, and from the left into the target.

    Args:
        lanes: Where boxes and lines are.
        boxes: At their places.
        edges: Left and right end of each column.
        floors: Bottom of each lane, by column and lane.
        starts: First column of the row of each column.
    """
    drawn: list[tuple[Point, ...]] = []
    half = _LINE_GAP / 2
    for number, target, lane in lanes.lines:
        source, box = boxes[number], boxes[target]
        first, last = lanes.columns[number], lanes.columns[target]
        start, end = source.x + source.width, box.x
        out, into = source.y - source.height / 2, box.y - box.height / 2
        if starts[first] != starts[last]:  # the line ends in the next row
            drawn.append(((start, out), (edges[first][1] + half, out)))
            first, start = starts[last], edges[starts[last]][0] - half
            out = into if last == first else floors[last, lane] - LINE / 2
        if last == first + 1 and lanes.lanes[number] == lanes.lanes[target]:
            out = into = source.y - min(source.height, box.height) / 2
        is_skip = lane not in {lanes.lanes[number], lanes.lanes[target]}
        level = into if lane == lanes.lanes[target] else out
        level = floors[last, lane] - LINE / 2 if is_skip else level
        leave, enter = max(start, edges[first][1] + half), edges[last][0] - half
        points = [
            *((start, out), (min(leave, enter), out), (min(leave, enter), level)),
            *((enter, level), (enter, into), (end, into)),
        ]
        drawn.append(tuple(dict.fromkeys(points)))
    return drawn


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


def _break_rows(widths: Sequence[float], gap: float, breaks: Collection[int]) -> list[list[int]]:
    """Break a line of columns into rows of about the same width, where no branch is cut."""
    total = sum(width + gap for width in widths)
    count = math.ceil(total / MAX_WIDTH)
    rows: list[list[int]] = [[]]
    for column, width in enumerate(widths):
        before = sum(widths[each] + gap for each in rows[-1])
        is_full = len(rows) < count and before >= total / count
        if column in breaks and (is_full or before + width > _FULL * MAX_WIDTH):
            rows.append([])
        rows[-1].append(column)
    return rows
