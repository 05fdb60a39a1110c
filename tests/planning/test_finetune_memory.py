"""What a plan for fine-tuning freezes, and the memory it needs, from a table."""

import pytest

from cnnclf.data.manifest import Dataset
from cnnclf.planning.finetune_memory import count_memory, plan_parts
from tests.training.tiny_finetune import plan_tiny, tiny_backbone


@pytest.mark.parametrize(
    ("unfreeze", "frozen", "tail"),
    [("none", 4, 0), ("1", 3, 1), ("stage1", 1, 3), ("all", 0, 4)],
)
def test_what_is_frozen_and_trained(shapes: Dataset, unfreeze: str, frozen: int, tail: int) -> None:
    plan = plan_tiny(shapes, **{"tail.unfreeze": unfreeze, "head.units": 8})
    with tiny_backbone():
        parts = plan_parts(plan)
    assert [len(part.layers) for part in (parts.frozen, parts.tail)] == [frozen, tail]
    classes = len(shapes.labels)
    assert parts.head.parameters == 64 * 8 + 8 + 8 * classes + classes  # both kinds of pooling


def test_more_of_anything_needs_more(shapes: Dataset) -> None:
    def memory(**options: object) -> int:
        plan = plan_tiny(shapes, **options)
        with tiny_backbone():
            return count_memory(plan)

    batch = 16 * 1500 * 4  # outputs of one trained stage
    assert batch < memory() < batch + 20 * 5000 * 4
    assert memory(**{"tail.unfreeze": "none"}) < memory()
    assert memory(**{"tail.unfreeze": "2"}) > memory() + batch
    assert memory(**{"training.batch_size": 32}) > memory() + batch * 0.99
