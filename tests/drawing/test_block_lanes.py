"""Branches do not cross blocks, and lines in a lane of their own do not touch any."""

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from cnnclf.drawing.block_lanes import find_lanes

Inputs = list[tuple[int, ...]]


@st.composite
def draw_graphs(draw: st.DrawFn) -> Inputs:
    count = draw(st.integers(2, 14))
    graph: Inputs = [()]
    for at in range(1, count):
        chosen = draw(st.lists(st.integers(max(0, at - 5), at - 1), min_size=1, max_size=3))
        graph.append(tuple(dict.fromkeys(chosen)))
    return graph


@given(draw_graphs())
def test_nothing_stands_or_runs_on_top_of_a_block(graph: Inputs) -> None:
    found = find_lanes(graph)
    places = list(zip(found.columns, found.lanes, strict=True))
    assert len(set(places)) == len(places)
    assert {column for column, lane in places if lane == 0} == set(range(max(found.columns) + 1))
    assert sorted((source, at) for source, at, _ in found.lines) == sorted(
        (source, at) for at, sources in enumerate(graph) for source in sources
    )
    for source, at, lane in found.lines:
        first, last = found.columns[source], found.columns[at]
        assert first < last
        assert not [each for each in places if each[1] == lane and first < each[0] < last]
    for column in found.breaks:
        passing = {s for s, at, _ in found.lines if found.columns[s] < column <= found.columns[at]}
        assert len(passing) == 1


def test_a_residual_block_has_two_lanes() -> None:
    found = find_lanes([(), (0,), (1,), (2,), (1,), (3, 4, 1), (5,)])
    assert found.lanes == (0, 0, 0, 0, 1, 0, 0)
    assert found.columns == (0, 1, 2, 3, 2, 4, 5)
    assert dict.fromkeys(lane for source, at, lane in found.lines if (source, at) == (1, 5)) == {
        2: None
    }
    assert found.breaks == {1, 2, 5}


def test_a_chain_has_no_branches() -> None:
    found = find_lanes([(), (0,), (1,)])
    assert not any(found.lanes)
    assert found.breaks == {1, 2}


def test_neighboring_branches_in_a_lane_would_seem_connected() -> None:
    """Two splits within different branches, as in Inception: their parts have other lanes."""
    graph = [(), (0,), (0,), (1,), (2,), (2,), (3,), (3,), (6, 7), (4, 5), (8, 9)]
    found = find_lanes(graph)
    inner = [at for at in range(len(graph)) if found.lanes[at]]
    for one, other in combinations(inner, 2):
        if found.lanes[one] == found.lanes[other] and one not in graph[other]:
            assert abs(found.columns[one] - found.columns[other]) > 1
