"""Every row of the table, built: what it states, and what the rest of the program relies on."""

import gc
import inspect
import math
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from cnnclf.errors import ConfigError
from cnnclf.models.backbones import BACKBONES, Backbone, find_backbone
from cnnclf.models.normalize import IMAGENET_MEAN, IMAGENET_STD
from cnnclf.models.trunk import build_backbone, find_cut, find_stage_end

Pixels = npt.NDArray[np.float32]

# Our own builder and the fastest of Keras's; all others are slow.
QUICK = ("efficientnet-lite0", "mobilenet-0.25")
# Above this a training step and a reload take gigabytes and minutes, and show nothing that the
# same family's smaller members do not.
HUGE = 150_000_000
NORMALIZING = ("InputLayer", "Take", "Rescaling", "Normalization")

ROWS = [
    pytest.param(
        row,
        id=row.name,
        marks=[] if row.name in QUICK else [pytest.mark.slow, pytest.mark.timeout(900)],
    )
    for row in BACKBONES
]


@pytest.fixture(autouse=True)
def free_memory() -> Iterator[None]:
    import keras

    yield
    keras.backend.clear_session()
    gc.collect()


@pytest.mark.parametrize("row", ROWS)
def test_row(row: Backbone, tmp_path: Path) -> None:
    model = build_backbone(row, height=row.min_size, width=row.min_size)
    pixels = draw_pixels(row.min_size)
    assert model.count_params() == row.parameters
    check_normalization(row, model, pixels)
    check_stages(row, model, pixels)
    if row.parameters > HUGE:
        return
    check_training_step(model, pixels)
    check_reload(model, pixels, tmp_path / "model.keras")


def test_published_digests_are_those_that_keras_checks() -> None:
    import keras

    # Some families check a hash that another family's module states.
    package = Path(inspect.getfile(keras.applications.ResNet50)).parent
    sources = "".join(path.read_text(encoding="utf-8") for path in package.glob("*.py"))
    for row in [row for row in BACKBONES if row.imagenet.url]:
        assert row.imagenet.digest in sources, row.name
        if not row.imagenet.digest:
            source = inspect.getsource(find_module(row))
            assert "get_file(" in source
            assert "hash" not in source, row.name


class AskedForFileError(Exception):
    """Carries which weight file Keras would download."""


@pytest.mark.parametrize(
    "row", [row for row in ROWS if not str(row.id).startswith("efficientnet-lite")]
)
def test_file_and_url_are_those_that_keras_asks_for(
    row: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = find_module(row)

    def refuse(file_name: str, address: str, **options: Any) -> None:
        raise AskedForFileError(file_name, address, options.get("file_hash") or "")

    downloader = find_module(find_backbone("resnet50")).file_utils  # one for all families
    monkeypatch.setattr(downloader, "get_file", refuse)
    builder = getattr(module, row.builder.rpartition(".")[2])
    size = row.default_size
    options = dict(row.arguments) | {"weights": "imagenet", "input_shape": (size, size, 3)}
    with pytest.raises(AskedForFileError) as asked:
        builder(**options)
    assert asked.value.args == (row.imagenet.name, row.imagenet.url, row.imagenet.digest)


def test_images_may_be_oblong() -> None:
    row = find_backbone("efficientnet-lite0")
    model = build_backbone(row, height=64, width=97)
    assert model.input_shape == (None, 64, 97, 3)
    assert model.output_shape == (None, 2, 4, 1280)


def test_what_cannot_be_built_or_cut_is_refused() -> None:
    row = find_backbone("efficientnet-lite0")
    with pytest.raises(ConfigError, match="at least 32x32"):
        build_backbone(row, height=64, width=31)
    model = build_backbone(row, height=32, width=32)
    with pytest.raises(ConfigError, match="'stage8'") as error:
        find_stage_end(model, row, stage="stage8")
    assert "stem, stage1" in error.value.hint


def check_normalization(row: Backbone, model: Any, pixels: Pixels) -> None:
    """The first layers, whoever made them, do what the family was trained with."""
    import keras

    follower = next(op for op in model.operations if type(op).__name__ not in NORMALIZING)
    normalized = keras.Model(model.input, follower.input)(pixels)
    expected = normalize_as_trained(row, pixels)
    np.testing.assert_allclose(normalized, expected, rtol=0, atol=1e-4)


def normalize_as_trained(row: Backbone, pixels: Pixels) -> Any:
    if row.normalization == "lite":
        return (pixels - 127) / 128
    preprocessed = find_module(row).preprocess_input(pixels.copy())
    if row.normalization != "inside":
        return preprocessed
    np.testing.assert_array_equal(preprocessed, pixels)
    if row.name.startswith("mobilenetv3"):
        return pixels / 127.5 - 1
    if row.name in ("efficientnetv2-s", "efficientnetv2-m", "efficientnetv2-l"):
        return (pixels - 128) / 128
    return (pixels / 255 - np.array(IMAGENET_MEAN)) / np.array(IMAGENET_STD)


def check_stages(row: Backbone, model: Any, pixels: Pixels) -> None:
    """Stages follow each other, and trunk and tail at each cut are the whole backbone."""
    import keras

    ends = [find_stage_end(model, row, stage=name) for name in row.stage_names]
    assert ends == sorted(set(ends))
    assert ends[-1] == len(model.operations) - 1
    assert find_cut(model, ends[-1]) == []
    for name, end in zip(row.stage_names[:-1], ends[:-1], strict=True):
        expected = 2 if row.name.startswith("nasnet") and name != "stem" else 1
        assert len(find_cut(model, end)) == expected, name
    cut = find_cut(model, ends[len(ends) // 2])
    crossing = cut[0] if len(cut) == 1 else cut
    trunk, tail = keras.Model(model.input, crossing), keras.Model(crossing, model.output)
    whole = np.asarray(model(pixels, training=False))
    joined = np.asarray(tail(trunk(pixels, training=False), training=False))
    assert np.isfinite(whole).all()
    assert np.abs(whole).max() > 0
    np.testing.assert_allclose(joined, whole, rtol=1e-5, atol=1e-6 * np.abs(whole).max())
    assert {id(w) for part in (trunk, tail) for w in part.weights} == {id(w) for w in model.weights}


def check_training_step(model: Any, pixels: Pixels) -> None:
    import keras

    pooled = keras.layers.GlobalAveragePooling2D()(model.output)
    whole = keras.Model(model.input, keras.layers.Dense(2)(pooled))
    whole.compile(keras.optimizers.SGD(1e-3), loss="mse", run_eagerly=True)
    last = model.trainable_weights[-1]
    before = np.asarray(last)
    loss = whole.train_on_batch(pixels, np.ones((len(pixels), 2)))
    assert math.isfinite(float(loss))
    assert not np.array_equal(np.asarray(last), before)


def check_reload(model: Any, pixels: Pixels, path: Path) -> None:
    import keras

    expected = np.asarray(model(pixels, training=False))
    model.save(path)
    loaded = keras.saving.load_model(path, safe_mode=True, compile=False)
    path.unlink()
    received = np.asarray(loaded(pixels, training=False))
    np.testing.assert_allclose(received, expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max())


def draw_pixels(size: int) -> Pixels:
    rng = np.random.default_rng(size)
    return rng.integers(0, 256, (2, size, size, 3)).astype("f4")


def find_module(row: Backbone) -> Any:
    """The module in which Keras defines the family."""
    package, _, name = row.builder.rpartition(".")
    return sys.modules[getattr(import_module(package), name).__module__]
