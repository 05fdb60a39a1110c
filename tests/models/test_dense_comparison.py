"""A network beside a fully connected one, with the numbers of textbooks."""

import pytest

from cnnclf.config import TrainConfig, load_config
from cnnclf.models.cnn_anatomy import plan_cnn
from cnnclf.models.dense_comparison import SIDES, compare_dense, count_dense
from cnnclf.planning.network_settings import resolve_model


def test_the_numbers_of_textbooks() -> None:
    assert count_dense((28 * 28, 10)) == 7_840 + 10
    assert count_dense((3 * 7 * 7, 10)) == 1_470 + 10
    assert count_dense((784, 20, 10)) == 15_910
    assert count_dense((256 * 256, 20, 10)) > 1_000_000


@pytest.mark.parametrize(("preset", "is_constant"), [("default", True), ("textbook", False)])
def test_only_filters_do_not_grow_with_the_image(preset: str, is_constant: bool) -> None:
    config, given = load_config(options={"model.preset": preset}, kind=TrainConfig)
    model, _ = resolve_model(config.model, (64, 64), given=given)
    plan = plan_cnn(model, (64, 64, 1), num_classes=10)

    def parameters_at(side: int) -> int:
        return plan_cnn(model, (side, side, 1), num_classes=10).parameters

    found = compare_dense(plan, (64, 64, 1), parameters_at=parameters_at)
    assert found.widths[0] == 64 * 64
    assert found.widths[1:] == tuple(layer.units for layer in plan.layers if layer.units)
    assert found.parameters == count_dense(found.widths)
    assert tuple(row.side for row in found.growth) == SIDES
    assert len({row.shared for row in found.growth}) == 1
    assert (len({row.network for row in found.growth}) == 1) is is_constant
    dense = [row.dense for row in found.growth]
    assert dense == sorted(set(dense))
    assert found.growth[1].network == plan.parameters
