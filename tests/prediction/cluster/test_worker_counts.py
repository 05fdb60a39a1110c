"""What is said of workers that come and go."""

from cnnclf.prediction.cluster.chunks import QueueState
from cnnclf.prediction.cluster.connecting import Node
from cnnclf.prediction.cluster.worker_counts import Watch, watching
from cnnclf.progress import Silent


class Words:
    """A task that keeps its words."""

    def __init__(self) -> None:
        self.words: list[str] = []

    def advance(self, amount: int = 1) -> None: ...

    def expect(self, total: int) -> None: ...

    def describe(self, text: str) -> None:
        self.words.append(text)


ONE, TWO = Node("n1", "10.0.0.1", 1, 0), Node("n2", "10.0.0.2", 1, 0)


class World:
    """A cluster that a test changes."""

    def __init__(self) -> None:
        self.nodes: list[Node] = [ONE, TWO]
        self.state = QueueState()
        self.now = 0.0
        self.task = Words()
        self.said = Silent()
        self.watch = Watch(
            lambda: self.nodes, lambda: self.state, self.task, self.said, lambda: self.now
        )


def test_workers_are_counted_where_their_node_lives() -> None:
    world = World()
    world.watch.look()
    world.state = QueueState({"a": "n1"})
    world.watch.look()
    world.state = QueueState({"a": "n1", "b": "n2"})
    world.watch.look()
    world.nodes = [ONE]
    world.watch.look()
    assert world.task.words == ["waiting for workers", "1 worker", "2 workers", "1 worker"]


def test_a_lost_node_is_reported_once_and_a_new_one_as_well() -> None:
    world = World()
    world.watch.look()
    world.nodes = [ONE]
    world.state = QueueState(redone=1)
    world.watch.look()
    world.watch.look()
    assert world.said.warnings == [
        "lost the node 10.0.0.2; its unfinished chunks are computed again"
    ]
    world.nodes = [ONE, TWO]
    world.watch.look()
    assert world.said.notes == ["the node 10.0.0.2 joined"]


def test_chunks_of_a_lost_worker_are_reported_where_the_node_stays() -> None:
    world = World()
    for redone in (0, 1, 1, 3):
        world.state = QueueState({"a": "n1"}, redone)
        world.watch.look()
    assert world.said.notes == [
        "1 chunk of a lost worker is computed again",
        "2 chunks of a lost worker are computed again",
    ]


def test_waiting_long_for_workers_is_reported_once() -> None:
    world = World()
    for now in (0.0, 59.0, 61.0, 200.0):
        world.now = now
        world.watch.look()
    assert len(world.said.warnings) == 1
    assert "ray status" in world.said.warnings[0]


def test_the_watch_ends_quietly_when_the_cluster_is_gone() -> None:
    world = World()

    def gone() -> list[Node]:
        raise ConnectionError

    world.watch.nodes = gone
    with watching(world.watch, ConnectionError, every_s=0.001):
        pass
    assert not world.said.warnings
