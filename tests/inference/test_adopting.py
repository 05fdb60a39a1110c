"""Models of other programs: the bundle gives what the model gave on scaled pixels."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnclf.errors import CnnclfError, DataError, RunError, UsageError
from cnnclf.inference.adopting import adopt_model, parse_scaling, parse_size, read_labels
from cnnclf.inference.bundles import find_bundle
from cnnclf.inference.classifier import Classifier
from tests.conftest import Cli

LABELS = ("cat", "dog", "owl")


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    path = tmp_path / "labels.txt"
    path.write_text("0 cat\n1 dog\n2 owl\n")
    return path


def build(*ending: Any, channels: int = 3, side: int | None = 8) -> Any:
    import keras

    keras.utils.set_random_seed(1)
    layers = keras.layers
    body = [layers.Conv2D(4, 3), layers.GlobalAveragePooling2D(), *ending]
    return keras.Sequential([keras.Input((side, side, channels)), *body])


def with_softmax() -> Any:
    import keras

    return build(keras.layers.Dense(3, activation="softmax"))


def with_softmax_layer() -> Any:
    import keras

    return build(keras.layers.Dense(3), keras.layers.Softmax())


def with_activation_layer() -> Any:
    import keras

    return build(keras.layers.Dense(3), keras.layers.Activation("softmax"))


def nested() -> Any:
    import keras

    inner = build(keras.layers.Dense(3, activation="softmax"))
    pixels = keras.Input((8, 8, 3))
    return keras.Model(pixels, inner(pixels))


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("make", [with_softmax, with_softmax_layer, with_activation_layer, nested])
@pytest.mark.filterwarnings("ignore")
def test_the_bundle_gives_the_probabilities_of_the_model(
    tmp_path: Path, labels: Path, make: Callable[[], Any], suffix: str
) -> None:
    model = make()
    model.save(tmp_path / f"model{suffix}")
    pixels = np.random.default_rng(2).integers(0, 256, (4, 8, 8, 3), np.uint8)
    expected = np.asarray(model(pixels.astype(np.float32) / 127.5 - 1))
    scaling = parse_scaling("-1:1")
    names = adopt_model(
        tmp_path / f"model{suffix}", tmp_path / "bundle", labels=labels, scaling=scaling
    )
    assert names == LABELS
    classifier = Classifier.load(tmp_path / "bundle")
    assert (classifier.labels, classifier.input_spec.shape) == (LABELS, (8, 8, 3))
    assert np.allclose(classifier.probabilities(classifier.logits(pixels)), expected, atol=1e-6)


def softmax_in_the_middle() -> Any:
    import keras

    layers = keras.layers
    return build(layers.Dense(3, activation="softmax"), layers.Activation("linear"))


def softmax_layer_inside() -> Any:
    import keras

    return keras.Sequential([keras.Input((8, 8, 3)), with_softmax_layer()])


def sigmoid() -> Any:
    import keras

    return build(keras.layers.Dense(3, activation="sigmoid"))


def one_output() -> Any:
    import keras

    return build(keras.layers.Dense(1, activation="sigmoid"))


def no_image() -> Any:
    import keras

    return keras.Sequential([keras.Input((9,)), keras.layers.Dense(3)])


def any_size() -> Any:
    import keras

    return build(keras.layers.Dense(3), side=None)


def five_channels() -> Any:
    import keras

    return build(keras.layers.Dense(3), channels=5)


@pytest.mark.parametrize(
    ("make", "size", "kind", "told"),
    [
        (with_softmax, (8, 9), RunError, "takes images of 8x8, not 8x9"),
        (sigmoid, None, RunError, "ends in sigmoid"),
        (softmax_in_the_middle, None, RunError, "softmax that is not its last layer"),
        (softmax_layer_inside, None, RunError, "softmax layer of a model inside it"),
        (one_output, None, DataError, "1 outputs, but there are 3 labels"),
        (no_image, None, RunError, "no classifier of images"),
        (five_channels, None, RunError, "no classifier of images"),
        (any_size, None, UsageError, "images of any size"),
    ],
)
def test_a_model_that_does_not_fit_is_refused(
    tmp_path: Path,
    labels: Path,
    make: Callable[[], Any],
    size: tuple[int, int] | None,
    kind: type[CnnclfError],
    told: str,
) -> None:
    make().save(tmp_path / "model.keras")
    with pytest.raises(kind, match=told):
        adopt_model(
            tmp_path / "model.keras",
            tmp_path / "bundle",
            labels=labels,
            scaling=parse_scaling("0:1"),
            size=size,
        )
    assert not (tmp_path / "bundle").exists()


@pytest.mark.filterwarnings("ignore")
def test_files_that_cannot_be_loaded_are_named(tmp_path: Path, labels: Path) -> None:
    import h5py  # type: ignore[import-untyped]
    import keras

    with_softmax().save_weights(tmp_path / "only.weights.h5")
    build(keras.layers.Lambda(lambda x: x), keras.layers.Dense(3)).save(tmp_path / "code.h5")
    with_softmax().save(tmp_path / "foreign.h5")
    with h5py.File(tmp_path / "foreign.h5", "r+") as file:
        config = json.loads(file.attrs["model_config"])
        config["config"]["layers"][-1] |= {"module": "os", "class_name": "system"}
        file.attrs["model_config"] = json.dumps(config)
    with h5py.File(tmp_path / "old.h5", "w") as file:
        file.attrs["model_config"] = '{"class_name": "Gone", "config": {}}'
    (tmp_path / "text.keras").write_text("no model")
    for name, told in (
        ("only.weights.h5", "weights only"),
        ("code.h5", "custom code"),
        ("foreign.h5", r"contains custom code \(os\.system\)"),
        ("old.h5", "an earlier version of Keras saved"),
        ("text.keras", "cannot load"),
    ):
        with pytest.raises(RunError, match=told):
            adopt_model(
                tmp_path / name, tmp_path / "b", labels=labels, scaling=parse_scaling("0:1")
            )


def test_words_of_the_options() -> None:
    assert (parse_size("48x64"), parse_size("8"), parse_size(None)) == ((48, 64), (8, 8), None)
    assert parse_scaling("-1:1").low == -1
    for wrong in ("1", "1:0", "a:b", "0:1:2"):
        with pytest.raises(UsageError, match="--scale"):
            parse_scaling(wrong)
    with pytest.raises(UsageError, match="--size"):
        parse_size("8,9")


def test_numbers_of_labels_are_taken_away_only_if_they_count(tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    for text, names in (
        ("0 cat\n1 dog\n", ("cat", "dog")),
        ("0: cat\n1: dog\n", ("cat", "dog")),
        ("7 up\n8 mile\n", ("7 up", "8 mile")),
        ("cat\ndog\n", ("cat", "dog")),
    ):
        path.write_text(text)
        assert read_labels(path) == names
    path.write_text("0 crane\n1 dog\n2 crane\n")
    with pytest.raises(DataError, match="'crane' more than once"):
        read_labels(path)


def test_models_of_other_programs_are_said_to_be_that(tmp_path: Path) -> None:
    (tmp_path / "keras_model.h5").write_bytes(b"model")
    for path in (tmp_path, tmp_path / "keras_model.h5"):
        with pytest.raises(RunError, match="of another program") as caught:
            find_bundle(path)
        assert "cnnclf adopt" in caught.value.hint


def test_the_command(cli: Cli, tmp_path: Path, labels: Path) -> None:
    with_softmax().save(tmp_path / "model.keras")
    words = ("adopt", tmp_path / "model.keras", "--labels", labels, "-o", tmp_path / "bundle")
    assert cli(*words, "--scale", "half").code == 2
    result = cli(*words, "--scale", "0:1")
    assert result.code == 0, result.stderr
    assert "cnnclf predict" in result.stderr
    assert find_bundle(tmp_path / "bundle") == tmp_path / "bundle"
    assert cli(*words, "--scale", "0:1").code == 2
