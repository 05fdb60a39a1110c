"""Augmentation: the table, the presets, and what every operation must hold to."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnclf.augmentation.table import AUGMENTATIONS, PRESETS, Augmenter, choose_operations
from cnnclf.config import AugmentConfig
from cnnclf.errors import ConfigError

SHAPES = [(12, 12, 1), (17, 14, 3), (60, 60, 3)]


def batch(shape: tuple[int, int, int], count: int = 16) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    x = rng.integers(0, 256, (count, *shape), dtype=np.uint8)
    return x, np.eye(4, dtype=np.float32)[np.arange(count) % 4]


def run(
    operations: dict[str, float], x: np.ndarray, y: np.ndarray, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    augmenter = Augmenter(operations, seed)
    return augmenter(x.copy(), y.copy(), rng=augmenter.rng(0, 0))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_every_operation_keeps_shapes_and_types_and_the_sum_of_labels(
    name: str, shape: tuple[int, int, int]
) -> None:
    x, y = batch(shape)
    for strength in (AUGMENTATIONS[name].default, AUGMENTATIONS[name].max_strength):
        new_x, new_y = run({name: strength}, x, y)
        assert (new_x.shape, new_x.dtype) == (x.shape, x.dtype)
        assert (new_y.shape, new_y.dtype) == (y.shape, y.dtype)
        np.testing.assert_allclose(new_y.sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_every_operation_changes_images_and_zero_changes_nothing(name: str) -> None:
    x, y = batch((20, 20, 3), count=64)
    changed, _ = run({name: AUGMENTATIONS[name].default}, x, y)
    assert (changed != x).any()
    same_x, same_y = run({name: 0.0}, x, y)
    assert (same_x == x).all()
    assert (same_y == y).all()


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_the_generator_alone_decides(name: str) -> None:
    x, y = batch((16, 16, 3), count=48)
    operations = {name: AUGMENTATIONS[name].default}
    first, again, other = (run(operations, x, y, seed) for seed in (1, 1, 2))
    assert (first[0] == again[0]).all()
    assert (first[1] == again[1]).all()
    assert (first[0] != other[0]).any()


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("shape", [(12, 12, 1), (1, 1, 1), (2, 9, 3), (56, 50, 3)])
def test_presets_work_on_any_shape_and_on_a_single_image(
    preset: str, shape: tuple[int, int, int]
) -> None:
    for count in (1, 7):
        x, y = batch(shape, count)
        new_x, new_y = run(choose_operations(preset), x, y)
        assert new_x.shape == x.shape
        np.testing.assert_allclose(new_y.sum(axis=1), 1, atol=1e-5)


def test_the_table_and_the_settings_say_the_same() -> None:
    fields = {name: field for name, field in AugmentConfig.model_fields.items() if name != "preset"}
    assert set(fields) == set(AUGMENTATIONS)
    for name, row in AUGMENTATIONS.items():
        limits = {type(each).__name__: each for each in fields[name].metadata}
        assert limits["Ge"].ge == 0
        assert limits["Le"].le == row.max_strength
        assert 0 < row.default <= row.max_strength
        assert row.name == name
        assert row.summary
        assert row.parameter


def test_presets_are_in_range_and_light_cannot_change_a_class() -> None:
    for operations in PRESETS.values():
        Augmenter(operations)
    assert not set(PRESETS["light"]) & {"flip", "rotate", "hue", "randaugment", "erasing", "crop"}
    assert not PRESETS["none"]


def test_choosing_overrides_a_preset() -> None:
    chosen = choose_operations("medium", {"flip": 0.0, "cutmix": 0.5, "rotate": None})
    assert "flip" not in chosen
    assert chosen["cutmix"] == 0.5
    assert chosen["rotate"] == PRESETS["medium"]["rotate"]


def test_wrong_names_and_strengths_are_all_named_at_once() -> None:
    with pytest.raises(ConfigError) as raised:
        Augmenter({"flipp": 0.5, "rotate": 181.0, "zoom": -0.1})
    message = raised.value.message
    assert "did you mean flip?" in message
    assert "rotate from 0 to 180, received 181.0" in message
    assert "zoom" in message
    with pytest.raises(ConfigError, match="'heavy'") as raised:
        choose_operations("heavy")
    assert raised.value.hint == "presets are none, light, medium, strong, sound"


def test_a_flip_is_a_flip() -> None:
    x, y = batch((9, 8, 3))
    flipped, _ = run({"flip": 1.0}, x, y)
    assert (flipped == x[:, :, ::-1]).all()
    half, _ = run({"flip": 0.5}, x, y)
    same = (half == x).all(axis=(1, 2, 3))
    assert (half[~same] == x[~same][:, :, ::-1]).all()
    assert 0 < same.sum() < len(x)


def test_moves_leave_no_wedge() -> None:
    x = np.full((32, 20, 20, 3), 200, np.uint8)
    y = np.eye(4, dtype=np.float32)[np.zeros(32, int)]
    moves = {"rotate": 180.0, "translate": 0.5, "zoom": 0.9, "crop": 0.95, "flip": 0.5}
    moved, _ = run(moves, x, y)
    assert (np.abs(moved.astype(int) - 200) <= 1).all()


def test_a_shift_alone_does_not_blur() -> None:
    x, y = batch((15, 15, 1))
    moved, _ = run({"translate": 0.2}, x, y)
    for before, after in zip(x, moved, strict=True):
        assert set(after.ravel().tolist()) <= set(before.ravel().tolist())


def test_hue_leaves_gray_images_alone() -> None:
    x, y = batch((9, 9, 1))
    assert (run({"hue": 0.5}, x, y)[0] == x).all()


def test_erasing_fills_one_box_and_leaves_the_rest() -> None:
    x = np.zeros((200, 20, 20, 1), np.uint8)
    y = np.eye(4, dtype=np.float32)[np.zeros(200, int)]
    erased, _ = run({"erasing": 1.0}, x, y)
    for image in erased[:, :, :, 0]:
        rows, columns = np.nonzero(image)
        area = (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
        assert 1 <= area <= 0.45 * 400  # 33 % and rounding
    untouched, _ = run({"erasing": 0.25}, x, y)
    assert 20 < (untouched != 0).any(axis=(1, 2, 3)).sum() < 80


def test_mixup_mixes_pixels_and_labels_by_the_same_fraction() -> None:
    count = 40
    x = np.repeat(np.arange(count, dtype=np.uint8) * 6, 4).reshape(count, 2, 2, 1)
    y = np.eye(count, dtype=np.float32)
    mixed, labels = run({"mixup": 1.0}, x, y)
    expected = labels @ x[:, 0, 0, 0].astype(np.float64)
    assert np.abs(mixed[:, 0, 0, 0] - expected).max() <= 1
    assert ((labels > 0).sum(axis=1) == 2).sum() > count / 2
    assert (labels.diagonal() >= 0.5).all(), "an image keeps the larger fraction"


def test_cutmix_labels_go_by_area() -> None:
    count = 40
    x = np.repeat(np.arange(count, dtype=np.uint8), 12 * 10).reshape(count, 12, 10, 1)
    y = np.eye(count, dtype=np.float32)
    mixed, labels = run({"cutmix": 1.0}, x, y)
    for image, label in zip(mixed, labels, strict=True):
        parts = np.bincount(image.ravel(), minlength=count) / image.size
        np.testing.assert_allclose(parts, label, atol=1e-5)


def test_mixup_and_cutmix_share_the_rows() -> None:
    count = 60
    x = np.repeat(np.arange(count, dtype=np.uint8) * 4, 100).reshape(count, 10, 10, 1)
    y = np.eye(count, dtype=np.float32)
    mixed, _ = run({"mixup": 1.0, "cutmix": 1.0}, x, y)
    pasted = np.array([len(np.unique(image)) > 1 for image in mixed])
    blended = np.array(
        [len(np.unique(m)) == 1 and m[0, 0, 0] != b[0, 0, 0] for m, b in zip(mixed, x, strict=True)]
    )
    assert pasted.sum() > 5
    assert blended.sum() > 5


@given(
    st.dictionaries(
        st.sampled_from(sorted(AUGMENTATIONS)), st.floats(0, 1), min_size=1, max_size=12
    ),
    st.integers(1, 33),
    st.integers(1, 33),
    st.sampled_from([1, 3]),
)
@settings(max_examples=40, deadline=None)
def test_any_operations_together_keep_the_contract(
    fractions: dict[str, float], height: int, width: int, channels: int
) -> None:
    operations = {
        name: fraction * AUGMENTATIONS[name].max_strength for name, fraction in fractions.items()
    }
    x, y = batch((height, width, channels), count=5)
    new_x, new_y = run(operations, x, y)
    assert (new_x.shape, new_x.dtype) == (x.shape, x.dtype)
    assert np.isfinite(new_y).all()
    np.testing.assert_allclose(new_y.sum(axis=1), 1, atol=1e-5)


def test_batches_of_one_seed_have_generators_of_their_own() -> None:
    augmenter = Augmenter({"flip": 0.5}, seed=3)
    draws = {
        augmenter.rng(epoch, index).integers(1 << 62) for epoch in range(4) for index in range(4)
    }
    assert len(draws) == 16
    assert augmenter.rng(2, 1).integers(1 << 62) == augmenter.rng(2, 1).integers(1 << 62)
