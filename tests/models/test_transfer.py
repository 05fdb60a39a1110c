"""A backbone with a new head: its parts make up the whole, and only the right ones are trained."""

import gc
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from cnnclf.config import HeadConfig
from cnnclf.errors import ConfigError
from cnnclf.models.backbones import BACKBONES, Backbone, find_backbone
from cnnclf.models.transfer import Transfer, build_transfer, choose_frozen_stage

QUICK = ("mobilenet-0.25", "mobilenetv3-small-0.75", "efficientnet-lite0")
# Above this building a network takes gigabytes and shows nothing that its family's others do not.
HUGE = 150_000_000
ROWS = [
    pytest.param(
        row,
        id=row.name,
        marks=[] if row.name in QUICK else [pytest.mark.slow, pytest.mark.timeout(900)],
    )
    for row in BACKBONES
    if row.parameters < HUGE
]


@pytest.fixture(autouse=True)
def free_memory() -> Iterator[None]:
    import keras

    yield
    keras.backend.clear_session()
    gc.collect()


def build(row: Backbone, **head: Any) -> Transfer:
    return build_transfer(
        row, HeadConfig(**head), height=row.min_size, width=row.min_size, num_classes=3
    )


def draw(row: Backbone, count: int = 2) -> Any:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (count, row.min_size, row.min_size, 3)).astype(np.float32)


@pytest.mark.parametrize("row", ROWS)
def test_every_backbone_can_be_fine_tuned(row: Backbone) -> None:
    transfer = build(row)
    check_cut(transfer, draw(row))
    check_rates(transfer)


def check_cut(transfer: Transfer, pixels: Any) -> None:
    """What `--unfreeze 1` needs: cached maps, and the same the plain way."""
    stage = choose_frozen_stage(transfer.row, "1")
    assert stage
    expected = np.asarray(transfer.whole(pixels, training=False))
    pooled, maps = transfer.features(stage)(pixels, training=False)
    assert all(size is not None for size in maps.shape[1:])
    rest = transfer.cut(stage)[1]
    tolerance = {"rtol": 1e-4, "atol": 1e-5 * np.abs(expected).max()}
    np.testing.assert_allclose(np.asarray(rest(maps, training=False)), expected, **tolerance)
    head = transfer.head
    np.testing.assert_allclose(np.asarray(head(pooled, training=False)), expected, **tolerance)
    plain = transfer.trained_after(stage)
    np.testing.assert_allclose(np.asarray(plain(pixels, training=False)), expected, **tolerance)
    trained = {id(variable) for variable in rest.trainable_variables}
    assert trained == {id(variable) for variable in plain.trainable_variables}
    assert 0 < len(trained) < len(transfer.whole.variables)
    norms = [layer for layer in transfer.backbone.layers if is_norm(layer)]
    assert not any(layer.trainable for layer in norms), "then Keras takes the stored statistics"


def is_norm(layer: Any) -> bool:
    import keras

    return isinstance(layer, keras.layers.BatchNormalization)


def check_rates(transfer: Transfer) -> None:
    """Each stage has half the rate of the next one, and the head the full rate."""
    scales = transfer.scale_rates(0.5)
    stages = len(transfer.row.stage_names)
    assert set(scales.values()) <= {0.5**depth for depth in range(1, stages + 1)}
    assert 0.5 in scales.values()
    assert {id(variable) for variable in transfer.backbone.variables} == set(scales)
    ordered = [
        scales[id(variable)] for layer in transfer.backbone.layers for variable in layer.variables
    ]
    assert ordered == sorted(ordered), "layers are listed from the pixels on"
    assert not set(scales) & {id(variable) for variable in transfer.head.variables}


def test_a_cut_through_several_tensors_trains_them_all() -> None:
    """The cells of a NASNet look back over two others: both maps travel as one vector."""
    row = find_backbone("nasnet-mobile")
    transfer, pixels = build(row), draw(row)
    trunk, rest = transfer.cut("stage2")
    assert len(trunk.output_shape) == 2
    maps = np.asarray(trunk(pixels, training=False))
    rest.compile("sgd", "mse", run_eagerly=True)
    before = [np.asarray(variable) for variable in rest.trainable_variables]
    rest.train_on_batch(maps, np.ones((2, 3), np.float32))
    changed = [
        not np.array_equal(np.asarray(variable), old)
        for variable, old in zip(rest.trainable_variables, before, strict=True)
    ]
    assert sum(changed) > len(changed) / 2


@pytest.mark.parametrize(
    ("pooling", "features"), [("global_average", 256), ("global_max", 256), ("both", 512)], ids=str
)
def test_pooling_makes_a_vector_of_the_maps(pooling: str, features: int) -> None:
    transfer = build(find_backbone("mobilenet-0.25"), pooling=pooling, units=5)
    assert transfer.pooled.output_shape == (None, features)
    assert transfer.head.layers[-1].units == 3
    pixels = draw(transfer.row)
    maps = np.asarray(transfer.backbone(pixels, training=False))
    parts = {"global_average": [maps.mean((1, 2))], "global_max": [maps.max((1, 2))]}
    parts["both"] = parts["global_average"] + parts["global_max"]
    np.testing.assert_allclose(
        np.asarray(transfer.pooled(pixels, training=False)),
        np.concatenate(parts[pooling], axis=1),
        rtol=1e-4,
        atol=1e-6,
    )


def test_a_head_has_dropout_before_each_dense_layer() -> None:
    row = find_backbone("mobilenet-0.25")
    names = [layer.name for layer in build(row, units=8, dropout=0.3).head.layers[1:]]
    assert names == ["head_dropout1", "head_dense", "head_dropout", "logits"]
    assert [layer.name for layer in build(row, dropout=0.0).head.layers[1:]] == ["logits"]


@pytest.mark.parametrize(
    ("unfreeze", "frozen"),
    [
        ("none", None),
        ("0", None),
        ("all", ""),
        ("9", ""),
        ("2", "stage6"),
        ("final", "stage7"),
        ("stem", ""),
    ],
)
def test_what_is_unfrozen_names_the_last_frozen_stage(unfreeze: str, frozen: str | None) -> None:
    assert choose_frozen_stage(find_backbone("efficientnet-lite0"), unfreeze) == frozen


@pytest.mark.parametrize("unfreeze", ["10", "stage9", "some", "-1", "1.5", ""])
def test_unknown_stages_are_refused_and_the_stages_listed(unfreeze: str) -> None:
    with pytest.raises(ConfigError) as error:
        choose_frozen_stage(find_backbone("efficientnet-lite0"), unfreeze)
    assert "stem, stage1" in error.value.hint
