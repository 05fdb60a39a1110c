"""Which column and lane each block of a branching diagram stands in, and where lines run.

The longest path stays in lane 0. Every branch beside it, also a line that only skips blocks, has a
lane that no other branch uses in the same columns.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

Inputs = Sequence[Sequence[int]]


@dataclass(frozen=True)
class Lanes:
    """A graph in columns and lanes.

    Args:
        columns: Column of each block; those that it reads are further left.
        lanes: Lane of each block, 0 for the longest path.
        lines: Of each connection: from block, to block, and the lane it runs in between.
        breaks: Columns before which nothing but one line from the column before passes.
    """

    columns: tuple[int, ...]
    lanes: tuple[int, ...]
    lines: tuple[tuple[int, int, int], ...]
    breaks: frozenset[int]


def find_lanes(inputs: Inputs) -> Lanes:
    """Place a graph.

    Args:
        inputs: Of each block, the blocks that it reads, all of them earlier ones.
    """
    columns: list[int] = []
    for each in inputs:
        columns.append(max((columns[at] + 1 for at in each), default=0))
    main = _find_longest(inputs, columns)
    lanes = [0] * len(inputs)
    taken: defaultdict[int, set[int]] = defaultdict(set)  # lanes by column

    def take(span: range) -> int:
        used = set().union(*(taken[column] for column in span))
        lane = next(lane for lane in range(1, len(used) + 2) if lane not in used)
        for column in span:
            taken[column].add(lane)
        return lane

    def find_span(source: int, target: int, chain: Sequence[int] = ()) -> range:
        # beside a branch, other lines of its lane would seem to be connected with it
        first, last = columns[source] + (source in main), columns[target] - (target in main)
        # a block in the middle may be read sooner than the last one stands
        last = max(first, last, *(columns[at] for at in chain))
        return range(first, last + 1)

    chains = _find_chains(inputs, columns, main)
    # short branches first, so that they stay near the path
    for source, chain, target in sorted(
        chains, key=lambda each: columns[each[2]] - columns[each[0]]
    ):
        lane = take(find_span(source, target, chain))
        for at in chain:
            lanes[at] = lane
    blocks = set(zip(columns, lanes, strict=True))
    edges = [(source, at) for at, each in enumerate(inputs) for source in dict.fromkeys(each)]
    lines: dict[tuple[int, int], int] = {}
    for source, at in sorted(edges, key=lambda edge: columns[edge[1]] - columns[edge[0]]):
        between = range(columns[source] + 1, columns[at])
        ways = sorted({lanes[source], lanes[at]}, reverse=True)
        free = [way for way in ways if not any((column, way) in blocks for column in between)]
        lines[source, at] = free[0] if free else take(find_span(source, at))
    passing = {
        column: {source for source, at in edges if columns[source] < column <= columns[at]}
        for column in range(1, max(columns, default=0) + 1)
    }
    breaks = frozenset(
        column
        for column, sources in passing.items()
        if len(sources) == 1 and columns[next(iter(sources))] == column - 1
    )
    routed = tuple((source, at, lane) for (source, at), lane in lines.items())
    return Lanes(tuple(columns), tuple(lanes), routed, breaks)


def _find_longest(inputs: Inputs, columns: Sequence[int]) -> set[int]:
    """Return the blocks of a longest path."""
    at = max(range(len(columns)), key=lambda each: columns[each], default=-1)
    path = set()
    while at >= 0:
        path.add(at)
        at = next((each for each in inputs[at] if columns[each] == columns[at] - 1), -1)
    return path


def _find_chains(
    inputs: Inputs, columns: Sequence[int], main: set[int]
) -> list[tuple[int, list[int], int]]:
    """Cut everything beside the longest path into chains: from, blocks, to."""
    readers: defaultdict[int, list[int]] = defaultdict(list)
    for at, each in enumerate(inputs):
        for source in each:
            readers[source].append(at)
    chains, placed = [], set(main)
    for at in range(len(inputs)):
        if at in placed:
            continue
        chain = [at]
        while True:
            placed.add(chain[-1])
            after = [reader for reader in readers[chain[-1]] if reader not in placed]
            if not after:
                break
            chain.append(after[0])
        starts = [source for block in chain for source in inputs[block]]
        ends = [reader for block in chain for reader in readers[block]]
        ends = [*ends, chain[-1]]
        source = min(starts, default=at, key=lambda each: columns[each])
        chains.append((source, chain, max(ends, key=lambda each: columns[each])))
    return chains
