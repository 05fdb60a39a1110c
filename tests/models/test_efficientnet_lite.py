"""The mapping of EfficientNet-Lite, against a second implementation that shares no code with it.

The second one reads the network off the tensors of the file (kernel sizes, expansion, residuals)
and computes in NumPy; only the strides, which no tensor shows, are written down once more.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from cnnclf.errors import MissingPackageError, RunError
from cnnclf.models.efficientnet_lite import build_efficientnet_lite
from cnnclf.models.weights.lite_weights import assign_lite_state, load_lite_weights
from cnnclf.models.weights.published import LITE0_FILE, find_packaged
from cnnclf.models.weights.torch_state import read_torch_state
from cnnclf.models.weights.weight_files import WEIGHT_FILES

Array = npt.NDArray[np.float64]
State = dict[str, npt.NDArray[Any]]

STRIDE_2_BLOCKS = {16: (1, 3, 5, 11), 21: (1, 4, 7, 15)}  # by the number of blocks


@pytest.fixture(scope="module")
def lite0_path() -> Path:
    return find_packaged()


@pytest.fixture(scope="module")
def state(lite0_path: Path) -> State:
    return read_torch_state(lite0_path, sha256=LITE0_FILE.digest)


@pytest.mark.parametrize("size", [64, 45, 96, pytest.param(224, marks=pytest.mark.slow)])
def test_logits_equal_those_of_a_second_implementation(
    size: int, state: State, lite0_path: Path
) -> None:
    model = build_top(size)
    load_lite_weights(model, "efficientnet-lite0", path=lite0_path)
    pixels = draw_image(size)
    expected = compute_logits(state, pixels)
    assert np.abs(compute_with(model, pixels) - expected).max() < 1e-4
    assert np.std(expected) > 0.5


@pytest.mark.parametrize(("variant", "trainable"), [("lite1", 5_416_680), ("lite2", 6_092_072)])
def test_larger_variants_equal_the_second_implementation(variant: str, trainable: int) -> None:
    name, size = f"efficientnet-{variant}", 45
    try:
        path = find_packaged(WEIGHT_FILES[name])
    except MissingPackageError as error:
        pytest.skip(error.message)
    model = build_top(size, variant)
    load_lite_weights(model, name)
    assert trainable_and_other(model)[0] == trainable
    pixels = draw_image(size)
    expected = compute_logits(read_torch_state(path, sha256=WEIGHT_FILES[name].digest), pixels)
    assert np.abs(compute_with(model, pixels) - expected).max() < 1e-4
    assert np.std(expected) > 0.5


def test_a_swapped_pair_of_layers_would_be_noticed(state: State) -> None:
    """The comparison above has teeth: two batch norms of equal shape exchanged change logits."""
    swapped = dict(state)
    for part in ("weight", "bias", "running_mean", "running_var"):
        first, second = f"_blocks.6._bn1.{part}", f"_blocks.7._bn1.{part}"
        swapped[first], swapped[second] = state[second], state[first]
    model = build_top(64)
    assign_lite_state(model, swapped)
    pixels = draw_image(64)
    difference = compute_with(model, pixels) - compute_logits(state, pixels)
    assert np.abs(difference).max() > 0.1


def test_every_single_layer_is_compared(state: State) -> None:
    """Whichever layer is mapped wrongly, its numbers merely in another order, logits tell."""
    model = build_top(33)
    model.compile(jit_compile=False)
    assign_lite_state(model, state)
    pixels = draw_image(33)
    expected = compute_logits(state, pixels)
    assert np.abs(compute_with(model, pixels) - expected).max() < 1e-4
    layers = [layer for layer in model.layers if layer.weights]
    assert len(layers) == 99
    for layer in layers:
        for weight in layer.weights:
            right = np.asarray(weight)
            weight.assign(np.roll(right, 1, axis=-1 if right.shape[-1] > 1 else -2))
            difference = np.abs(compute_with(model, pixels) - expected).max()
            weight.assign(right)
            assert difference > 1e-3, (layer.name, weight.name)


def test_kernels_are_not_turned(state: State) -> None:
    """Height and width of a kernel have the same size; exchanged, they change the logits."""
    model = build_top(33)
    model.compile(jit_compile=False)
    assign_lite_state(model, state)
    pixels = draw_image(33)
    expected = compute_logits(state, pixels)
    turned = [layer for layer in model.layers if layer.weights and "depthwise_conv" in layer.name]
    for layer in [model.get_layer("stem_conv"), *turned]:
        (kernel,) = layer.weights
        right = np.asarray(kernel)
        kernel.assign(right.transpose(1, 0, 2, 3))
        assert np.abs(compute_with(model, pixels) - expected).max() > 1e-3, layer.name
        kernel.assign(right)


def test_size_with_and_without_top(lite0_path: Path) -> None:
    with_top = build_top(64)
    assert trainable_and_other(with_top) == (4_652_008, 42_016)
    assert with_top.count_params() == 4_694_024
    without = build_efficientnet_lite()
    load_lite_weights(without, "efficientnet-lite0", path=lite0_path)
    assert without.count_params() == 3_413_024
    assert without.output_shape == (None, 7, 7, 1280)


def test_missing_leftover_and_misshaped_tensors_are_refused(state: State) -> None:
    model = build_efficientnet_lite()
    missing = {name: array for name, array in state.items() if name != "_bn0.bias"}
    with pytest.raises(RunError, match="layer stem_bn"):
        assign_lite_state(model, missing)
    with pytest.raises(RunError, match=r"does not have: _blocks\.16\._conv"):
        assign_lite_state(model, state | {"_blocks.16._conv": np.zeros(3, "f4")})
    with pytest.raises(RunError, match="layer stage3_block1_depthwise_conv"):
        assign_lite_state(
            model, state | {"_blocks.3._depthwise_conv.weight": np.zeros((144, 1, 3, 3), "f4")}
        )


def build_top(size: int, variant: str = "lite0") -> Any:
    import keras

    pixels = keras.Input((size, size, 3))
    normalized = keras.layers.Rescaling(1 / 128, -127 / 128)(pixels)
    return build_efficientnet_lite(variant=variant, input_tensor=normalized, include_top=True)


def compute_with(model: Any, pixels: Array) -> Array:
    batch = pixels[np.newaxis].astype("f4")
    # compiling pays where one network is computed often
    logits = model.predict_on_batch(batch) if model.compiled else model(batch, training=False)
    return np.asarray(logits, "f8").reshape(-1)


def draw_image(size: int) -> Array:
    """A seeded image with edges, gradients and noise, so that every channel has work."""
    rng = np.random.default_rng(20)
    rows, columns = np.mgrid[0:size, 0:size] / size
    planes = [127 * (1 + np.sin(9 * rows * k + 5 * columns)) for k in (1, 2, 3)]
    image = np.stack(planes, axis=-1) + rng.normal(0, 20, (size, size, 3))
    image[size // 4 : size // 2, size // 3 :] = (250, 40, 90)
    return np.asarray(image.clip(0, 255).round())


def trainable_and_other(model: Any) -> tuple[int, int]:
    trainable = sum(math.prod(weight.shape) for weight in model.trainable_weights)
    return trainable, model.count_params() - trainable


def compute_logits(state: State, pixels: Array) -> Array:
    """The whole network in NumPy, channels last, one image."""
    x = (pixels - 127) / 128
    x = relu6(norm(state, "_bn0", convolve(x, state["_conv_stem.weight"], stride=2)))
    blocks = 1 + max(int(name.split(".")[1]) for name in state if name.startswith("_blocks."))
    for block in range(blocks):
        name = f"_blocks.{block}"
        inner = x
        if f"{name}._expand_conv.weight" in state:
            inner = convolve(inner, state[f"{name}._expand_conv.weight"])
            inner = relu6(norm(state, f"{name}._bn0", inner))
        stride = 2 if block in STRIDE_2_BLOCKS[blocks] else 1
        inner = filter_channels(inner, state[f"{name}._depthwise_conv.weight"], stride=stride)
        inner = relu6(norm(state, f"{name}._bn1", inner))
        inner = norm(state, f"{name}._bn2", convolve(inner, state[f"{name}._project_conv.weight"]))
        x = x + inner if inner.shape == x.shape else inner
    x = relu6(norm(state, "_bn1", convolve(x, state["_conv_head.weight"])))
    return np.asarray(state["_fc.weight"] @ x.mean((0, 1)) + state["_fc.bias"])


def convolve(x: Array, kernel: npt.NDArray[Any], *, stride: int = 1) -> Array:
    """Kernel [out, in, h, w]; padding as TensorFlow's "same"."""
    total = np.zeros(())
    for (i, j), window in windows(x, kernel.shape[2], stride):
        total = total + window @ kernel[:, :, i, j].T.astype("f8")
    return total


def filter_channels(x: Array, kernel: npt.NDArray[Any], *, stride: int) -> Array:
    """Kernel [channels, 1, h, w]."""
    total = np.zeros(())
    for (i, j), window in windows(x, kernel.shape[2], stride):
        total = total + window * kernel[:, 0, i, j].astype("f8")
    return total


def windows(x: Array, size: int, stride: int) -> list[tuple[tuple[int, int], Array]]:
    """Shifted, strided views of the padded image, one for each kernel position."""
    outputs, pads = [], []
    for side in x.shape[:2]:
        output = -(-side // stride)
        missing = max((output - 1) * stride + size - side, 0)
        outputs.append(output)
        pads.append((missing // 2, missing - missing // 2))
    padded = np.pad(x, (*pads, (0, 0)))
    rows, columns = ((output - 1) * stride + 1 for output in outputs)
    return [
        ((i, j), padded[i : i + rows : stride, j : j + columns : stride])
        for i in range(size)
        for j in range(size)
    ]


def norm(state: State, name: str, x: Array) -> Array:
    scale = state[f"{name}.weight"] / np.sqrt(state[f"{name}.running_var"].astype("f8") + 1e-3)
    return np.asarray((x - state[f"{name}.running_mean"]) * scale + state[f"{name}.bias"])


def relu6(x: Array) -> Array:
    return x.clip(0, 6)
