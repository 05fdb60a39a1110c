"""A backbone with a new head as one network, and the parts of it that are trained.

All parts share their weights with the whole network: training a part trains what is saved. Batch
normalization of the backbone is never trained: its layers are not trainable, so Keras uses their
pretrained statistics, which a few images would otherwise spoil.
"""

import math
from bisect import bisect_left
from dataclasses import dataclass
from typing import Any

from cnnclf.config import HeadConfig
from cnnclf.errors import ConfigError
from cnnclf.models.backbones import Backbone
from cnnclf.models.trunk import build_backbone, find_cut, find_stage_end


@dataclass(frozen=True)
class Transfer:
    """A whole network and its backbone.

    Args:
        row: The backbone's row in the table.
        backbone: Pixels 0..255 [N, H, W, 3] to feature maps [N, h, w, C].
        pooled: Pixels to the input vector of the head.
        whole: Pixels to logits [N, K].
    """

    row: Backbone
    backbone: Any
    pooled: Any
    whole: Any

    @property
    def head(self) -> Any:
        """The model from pooled features to logits."""
        import keras

        return keras.Model(self.pooled.output, self.whole.output, name="head")

    def cut(self, stage: str) -> tuple[Any, Any]:
        """Split the whole network after a stage of the backbone.

        Args:
            stage: The last frozen stage.

        Returns:
            Trunk (pixels to feature maps) and rest (these maps to logits). If several tensors
            cross the cut, as in a NASNet, they are joined to one flat vector.

        Raises:
            ConfigError: There is no such stage.
        """
        import keras

        tensors = find_cut(self.backbone, find_stage_end(self.backbone, self.row, stage=stage))
        if not tensors:
            return self.backbone, keras.Model(
                self.backbone.output, self.whole.output, name="head-with-pooling"
            )
        if len(tensors) > 1:
            return _cut_several(self.whole, tensors)
        trunk = keras.Model(self.whole.input, tensors[0], name="trunk")
        return trunk, keras.Model(tensors[0], self.whole.output, name="rest")

    def trained_after(self, stage: str) -> Any:
        """Join a frozen trunk and the trained rest, from pixels to logits.

        The trunk's layers are not trainable and run in inference mode: no dropout.

        Args:
            stage: The last frozen stage; empty: everything is trained.
        """
        import keras

        end = find_stage_end(self.backbone, self.row, stage=stage) if stage else -1
        for index, operation in enumerate(self.backbone.operations):
            is_norm = isinstance(operation, keras.layers.BatchNormalization)
            if isinstance(operation, keras.layers.Layer):
                operation.trainable = index > end and not is_norm
        if not stage:
            return self.whole
        trunk, rest = self.cut(stage)
        pixels = keras.Input(self.whole.input_shape[1:], name="pixels")
        return keras.Model(pixels, rest(trunk(pixels, training=False)), name="partly-frozen")

    def scale_rates(self, decay: float) -> dict[int, float]:
        """Return the factor of the learning rate of each variable of the backbone.

        Early layers detect what all images have in common and need to change least: each stage has
        `decay` times the rate of the next one towards the head (Howard and Ruder, 2018; with a
        constant factor Clark et al., ELECTRA, 2020). The head has the full rate.

        Args:
            decay: Above 0, at most 1.

        Returns:
            Factors by the id of the variable; all other variables have the full rate.
        """
        ends = [
            find_stage_end(self.backbone, self.row, stage=name) for name in self.row.stage_names
        ]
        return {
            id(variable): decay ** (len(ends) - bisect_left(ends, index))
            for index, operation in enumerate(self.backbone.operations)
            for variable in getattr(operation, "variables", ())
        }

    def features(self, stage: str) -> Any:
        """Join what is computed once per image: pooled features, and the maps after a stage.

        Args:
            stage: The last frozen stage; empty: only pooled features.

        Returns:
            A model from pixels to [pooled] or [pooled, maps].
        """
        import keras

        outputs = [self.pooled.output]
        if stage:
            outputs.append(self.cut(stage)[0].output)
        return keras.Model(self.whole.input, outputs, name="frozen")


def build_transfer(
    row: Backbone, head: HeadConfig, *, height: int, width: int, num_classes: int
) -> Transfer:
    """Build a backbone with random weights and a new head on it.

    Raises:
        ConfigError: The size is below the backbone's minimum.
    """
    import keras

    backbone = build_backbone(row, height=height, width=width)
    for layer in backbone.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = False
    vector = _pool(backbone.output, head.pooling)
    pooled = keras.Model(backbone.input, vector, name="pooled")
    if head.units:
        vector = _drop(vector, head.dropout, name="head_dropout1")
        vector = keras.layers.Dense(
            head.units, activation="relu", kernel_initializer="he_normal", name="head_dense"
        )(vector)
    vector = _drop(vector, head.dropout, name="head_dropout")
    # Small initial logits: the first steps then change the head and not the backbone. Always
    # float32, because softmax in half precision loses digits.
    logits = keras.layers.Dense(
        num_classes,
        kernel_initializer=keras.initializers.TruncatedNormal(stddev=0.01),
        dtype="float32",
        name="logits",
    )(vector)
    whole = keras.Model(backbone.input, logits, name=f"{row.name}-classifier")
    return Transfer(row, backbone, pooled, whole)


def choose_frozen_stage(row: Backbone, unfreeze: str) -> str | None:
    """Translate what is unfrozen to the last frozen stage.

    Args:
        row: The backbone.
        unfreeze: `none`, `all`, the name of a stage (it and all after it are trained) or a number
            of stages, counted from the end.

    Returns:
        Name of the last frozen stage; empty if nothing is frozen, None if nothing is unfrozen.

    Raises:
        ConfigError: There is no such stage or not that many.
    """
    names = row.stage_names
    if unfreeze == "none":
        return None
    if unfreeze == "all":
        return ""
    if unfreeze.isdigit():
        count = int(unfreeze)
        if count > len(names):
            raise ConfigError(
                f"{row.name} has {len(names)} stages, cannot unfreeze {count}",
                f"its stages are {', '.join(names)}",
            )
        first = len(names) - count
    elif unfreeze in names:
        first = names.index(unfreeze)
    else:
        raise ConfigError(
            f"expected none, all, a number or a stage of {row.name} to unfreeze,"
            f" received {unfreeze!r}",
            f"its stages are {', '.join(names)}",
        )
    if first == len(names):
        return None
    return names[first - 1] if first else ""


def _cut_several(whole: Any, tensors: list[Any]) -> tuple[Any, Any]:
    """Split where several tensors cross, joined to one vector so that one file can store them."""
    import keras

    flat = [
        keras.layers.Flatten(name=f"cut_flatten_{number}")(tensor)
        for number, tensor in enumerate(tensors)
    ]
    trunk = keras.Model(whole.input, keras.layers.Concatenate(name="cut_join")(flat), name="trunk")
    after = keras.Model(tensors, whole.output, name="after-cut")
    packed = keras.Input(trunk.output_shape[1:], name="packed")
    parts, start = [], 0
    for tensor in tensors:
        stop = start + math.prod(tensor.shape[1:])
        parts.append(keras.layers.Reshape(tensor.shape[1:])(packed[:, start:stop]))
        start = stop
    return trunk, keras.Model(packed, after(parts), name="rest")


def _pool(maps: Any, pooling: str) -> Any:
    """Pool in float32, as in `build_cnn`: it matters on the way to logits, and costs nothing."""
    from keras import layers

    exact, parts = {"dtype": "float32"}, []
    if pooling in ("global_average", "both"):
        parts.append(layers.GlobalAveragePooling2D(name="pool_avg", **exact)(maps))
    if pooling in ("global_max", "both"):
        parts.append(layers.GlobalMaxPooling2D(name="pool_max", **exact)(maps))
    return parts[0] if len(parts) == 1 else layers.Concatenate(name="pool_both", **exact)(parts)


def _drop(vector: Any, rate: float, *, name: str) -> Any:
    from keras import layers

    return layers.Dropout(rate, name=name)(vector) if rate else vector
