"""The pixel normalization a backbone was trained with, as the first layers of its graph.

Our models take pixels 0..255, RGB; the layers built here convert them to what the backbone was
trained on. They have no weights, so unfreezing a whole model never trains them and weights files of
the backbone still fit layer by layer. They always compute in float32, whatever the precision of the
other layers, because a mean in bfloat16 would be off by up to half a gray level.
"""

from typing import Any

NORMALIZATIONS = ("inside", "tf", "caffe", "torch", "lite")

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
IMAGENET_MEAN_BGR = (103.939, 116.779, 123.68)


def normalize_pixels(pixels: Any, kind: str) -> Any:
    """Append the normalization layers of one kind to a graph.

    Args:
        pixels: Symbolic tensor [N, H, W, 3], RGB, 0..255.
        kind: One of `NORMALIZATIONS`: `inside` (the backbone does it itself), `tf` (-1..1), `caffe`
            (BGR minus the ImageNet mean), `torch` (0..1, minus mean, over standard deviation, per
            channel) or `lite` ((x - 127) / 128).

    Returns:
        Symbolic tensor of the same shape.

    Raises:
        ValueError: The kind is unknown, which is a mistake in the table of backbones.
    """
    from keras import layers, ops

    if kind == "inside":
        return pixels
    if kind == "caffe":
        # A gather, not a 1x1 convolution and not a flip: it stays exact where an engine computes
        # convolutions in bfloat16 (0.68 off there), and every export format knows it.
        pixels = ops.take(pixels, [2, 1, 0], axis=-1)
    if kind not in _SCALE_AND_OFFSET:
        raise ValueError(f"expected a normalization among {NORMALIZATIONS}, received {kind!r}")
    scale, offset = _SCALE_AND_OFFSET[kind]
    return layers.Rescaling(scale, offset, dtype="float32", name="normalize")(pixels)


def complete_inside_normalization(model: Any) -> None:
    """Set the normalization inside EfficientNet (the first family) to its ImageNet statistics.

    Keras builds that family with a `Normalization` layer that divides by the root of the standard
    deviation, and adds the missing second division only when it loads ImageNet weights itself. A
    graph built without weights therefore normalizes differently from the trained one. Setting mean
    and variance here makes both equal: (x / 255 - mean) / std. Call it after building and again
    after loading a weights file, which contains Keras's incomplete variance.

    Args:
        model: A built backbone; one without such a layer is not changed.
    """
    import keras
    import numpy as np

    for layer in model.layers:
        if isinstance(layer, keras.layers.Normalization) and layer.weights:
            mean, variance, count = layer.weights
            mean.assign(np.reshape(IMAGENET_MEAN, mean.shape))
            variance.assign(np.reshape(np.square(IMAGENET_STD), variance.shape))
            count.assign(np.ones(count.shape))
            layer.finalize_state()


_SCALE_AND_OFFSET: dict[str, tuple[float | list[float], float | list[float]]] = {
    "tf": (1 / 127.5, -1.0),
    "caffe": (1.0, [-mean for mean in IMAGENET_MEAN_BGR]),
    "torch": (
        [1 / (255 * std) for std in IMAGENET_STD],
        [-mean / std for mean, std in zip(IMAGENET_MEAN, IMAGENET_STD, strict=True)],
    ),
    "lite": (1 / 128, -127 / 128),
}
