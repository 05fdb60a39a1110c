"""Familiarity: what lies far from all training images in features."""

import numpy as np
import pytest

from cnnclf.inference.familiarity import (
    MAX_INDEX_BYTES,
    Familiarity,
    count_index,
    find_distances,
    join_features,
    quantize,
)


def draw(rng: np.random.Generator, count: int, center: float = 1.0) -> np.ndarray:
    found = rng.normal(0, 0.3, (count, 16)) + center * (np.arange(16) < 8)
    return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True), np.float32)


def test_ordinary_images_are_uniform_and_others_are_unfamiliar() -> None:
    rng = np.random.default_rng(0)
    index = quantize(draw(rng, 500))
    known = Familiarity(index, np.sort(find_distances(index, draw(rng, 4000))))
    values = known.measure(draw(rng, 4000))
    for fraction in (0.01, 0.1, 0.5):
        assert np.mean(values <= fraction) == pytest.approx(fraction, abs=0.03)
    strange = known.measure(draw(rng, 100, center=-1.0))
    assert (strange <= known.find_limit(0.01)).all()
    assert known.measure(np.zeros((0, 16), np.float32)).shape == (0,)


def test_familiarity_counts_the_val_images_at_least_as_far() -> None:
    index = np.array([[127, 0]] * 5, np.int8)
    known = Familiarity(index, np.array([0.0, 0.5, 1.0], np.float32))
    features = np.array([[1, 0], [0, 1], [-1, 0]], np.float32)  # distances 0, 1 and 2
    assert known.measure(features) == pytest.approx([1, 2 / 4, 1 / 4])


def test_with_few_val_images_the_limit_is_farther_than_all_of_them() -> None:
    few = Familiarity(np.ones((5, 2), np.int8), np.linspace(0, 1, 9, dtype=np.float32))
    assert few.find_limit(0.01) == pytest.approx(0.1)
    assert few.find_limit(0.3) == 0.3


def test_quantized_features_give_nearly_the_same_distances() -> None:
    rng = np.random.default_rng(0)
    known, new = draw(rng, 300), draw(rng, 50)
    exact = 1 - np.partition(new @ known.T, -5, axis=1)[:, -5]
    assert find_distances(quantize(known), new) == pytest.approx(exact, abs=2e-3)


def test_an_index_has_a_limited_size() -> None:
    for features in (8, 1280, 100_000, 10**7):
        count = count_index(features)
        assert 5 <= count <= 4000
        assert count == 5 or count * features <= MAX_INDEX_BYTES


@pytest.mark.parametrize("is_nested", [False, True])
def test_features_join_the_logits_also_of_nested_models(is_nested: bool) -> None:
    import keras

    pixels = keras.Input((8, 8, 3))
    vector = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3)(pixels))
    model = keras.Model(pixels, keras.layers.Dense(2)(keras.layers.Dropout(0.5)(vector)))
    if is_nested:
        outer = keras.Input((8, 8, 3))
        model = keras.Model(outer, model(keras.layers.Rescaling(1.0)(outer)))
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3)).astype(np.float32)
    outputs = np.asarray(join_features(model)(images))
    assert outputs.shape == (3, 2 + 4)
    assert outputs[:, :2] == pytest.approx(np.asarray(model(images)), abs=1e-5)
    assert np.linalg.norm(outputs[:, 2:], axis=1) == pytest.approx(np.ones(3), abs=1e-5)


def test_names_of_a_network_may_be_those_that_keras_gives() -> None:
    import keras

    pixels = keras.Input((4, 4, 3))
    taken = keras.layers.Concatenate(name="concatenate")([pixels, pixels])
    taken = keras.layers.UnitNormalization(name="unit_normalization")(taken)
    vector = keras.layers.Flatten(name="flatten")(taken)
    model = keras.Model(pixels, keras.layers.Dense(2)(vector))
    keras.utils.clear_session()  # as in a process that only loads the network
    assert join_features(model).output_shape == (None, 2 + 4 * 4 * 6)


def test_without_a_dense_layer_the_logits_are_the_features() -> None:
    import keras

    pixels = keras.Input((8, 8, 3))
    maps = keras.layers.Conv2D(2, 3)(pixels)
    model = keras.Model(pixels, keras.layers.GlobalAveragePooling2D()(maps))
    assert join_features(model).output_shape == (None, 2 + 2)
