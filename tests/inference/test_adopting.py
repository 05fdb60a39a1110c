"""Models of other programs: the bundle gives what the model gave on scaled pixels."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnclf.errors import CnnclfError, DataError, RunError, UsageError
from cnnclf.inference.adopting import adopt_model, find_model
from cnnclf.inference.bundle_paths import find_bundle
from cnnclf.inference.classifier import Classifier
from cnnclf.inference.foreign_model import parse_scaling, parse_size, read_labels
from tests.conftest import Cli

LABELS = ("cat", "dog", "owl")
TINY_RUN = Path(__file__).parents[2] / "sample_data/tiny_run"


def adopt(
    model: Path, labels: Path, *, scale: str = "0:1", size: tuple[int, int] | None = None
) -> Path:
    bundle = labels.parent / "bundle"
    found = find_model(model, labels=labels, scaling=parse_scaling(scale), size=size, fit="crop")
    adopt_model(found, bundle)
    return bundle


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


def softmax_operation() -> Any:
    import keras

    model = build(keras.layers.Dense(3))
    return keras.Model(model.inputs, keras.ops.softmax(model.outputs[0]))


def nested() -> Any:
    import keras

    inner = build(keras.layers.Dense(3, activation="softmax"))
    pixels = keras.Input((8, 8, 3))
    return keras.Model(pixels, inner(pixels))


MAKERS = [with_softmax, with_softmax_layer, with_activation_layer, softmax_operation, nested]


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.filterwarnings("ignore")
def test_the_bundle_gives_the_probabilities_of_the_model(
    tmp_path: Path, labels: Path, make: Callable[[], Any], suffix: str
) -> None:
    model = make()
    model.save(tmp_path / f"model{suffix}")
    pixels = np.random.default_rng(2).integers(0, 256, (4, 8, 8, 3), np.uint8)
    expected = np.asarray(model(pixels.astype(np.float32) / 127.5 - 1))
    classifier = Classifier.load(adopt(tmp_path / f"model{suffix}", labels, scale="-1:1"))
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


def sigmoid_operation() -> Any:
    import keras

    model = build(keras.layers.Dense(3))
    return keras.Model(model.inputs, keras.ops.sigmoid(model.outputs[0]))


def sigmoid_inside() -> Any:
    import keras

    return keras.Sequential([keras.Input((8, 8, 3)), sigmoid_operation()])


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
        (five_channels, None, RunError, "images of 5 channels"),
        (sigmoid_operation, None, RunError, "ends in sigmoid: it is multi-label"),
        (sigmoid_inside, None, RunError, "multi-label"),
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
        adopt(tmp_path / "model.keras", labels, size=size)
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
            adopt(tmp_path / name, labels)


def test_a_pipe_is_not_waited_for(tmp_path: Path, labels: Path) -> None:
    os.mkfifo(tmp_path / "model.h5")
    with pytest.raises(RunError, match="a pipe or device, not a model"):
        adopt(tmp_path / "model.h5", labels)


def test_words_of_the_options() -> None:
    assert (parse_size("48x64"), parse_size("8"), parse_size(None)) == ((48, 64), (8, 8), None)
    assert parse_scaling("-1:1").low == (-1,)
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
    labels.write_text("a\nb\nc\n")
    assert cli(*words, "--scale", "0:1", "--overwrite").code == 0
    assert Classifier.load(tmp_path / "bundle").labels == ("a", "b", "c")
    (tmp_path / "bundle" / "classifier.json").unlink()
    other = cli(*words, "--scale", "0:1", "--overwrite")
    assert (other.code, "is not a bundle" in other.stderr) == (2, True)


@pytest.mark.parametrize("path", [TINY_RUN, TINY_RUN / "checkpoints/best"])
def test_what_is_ours_already_is_said_to_be_that(cli: Cli, tmp_path: Path, path: Path) -> None:
    result = cli("adopt", path, "--labels", "none.txt", "--scale", "0:1", "-o", tmp_path / "b")
    assert result.code == 2
    assert "of cnnclf already" in result.stderr
    assert f"cnnclf predict {path} IMAGES..." in result.stderr


def test_labels_are_read_before_a_library_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "model.keras").write_bytes(b"")
    code = (
        "import sys\n"
        "from cnnclf.cli.main import main\n"
        f"assert main(['adopt', {str(tmp_path / 'model.keras')!r}, '--labels', 'none.txt', "
        f"'--scale', '0:1', '-o', {str(tmp_path / 'b')!r}]) == 3\n"
        "assert not {'keras', 'tensorflow', 'onnx'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "none.txt" in done.stderr


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("model.pt", "a model of PyTorch"),
        ("model.tflite", "a LiteRT model"),
        ("model.bin", "not a model that is known"),
        ("none.onnx", "there is no model"),
    ],
)
def test_other_kinds_of_models_are_named(
    tmp_path: Path, labels: Path, name: str, told: str
) -> None:
    if not name.startswith("none"):
        (tmp_path / name).write_bytes(b"model")
    with pytest.raises(RunError, match=told) as caught:
        adopt(tmp_path / name, labels)
    assert caught.value.hint
    (tmp_path / "several").mkdir()
    for each in ("a.onnx", "b.keras"):
        (tmp_path / "several" / each).touch()
    with pytest.raises(UsageError, match=r"2 models: a\.onnx, b\.keras"):
        adopt(tmp_path / "several", labels)
    (tmp_path / "hollow").mkdir()
    with pytest.raises(UsageError, match="is a directory without a model"):
        adopt(tmp_path / "hollow", labels)
