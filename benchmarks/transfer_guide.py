"""Baseline for fine-tuning: a frozen backbone trained as in the Keras transfer learning guide.

Images from `image_dataset_from_directory`, random flips and rotations, cached and prefetched
batches of 64, the frozen backbone called with `training=False`, average pooling, dropout 0.2 and
Adam at its default rate. The backbone, its normalization and its weights are the ones cnnclf uses.

Prints one line of JSON: seconds from process start, seconds of each epoch, and peak memory.
Run from the root of the project: python -m benchmarks.transfer_guide TRAIN VAL --backbone NAME
"""

import argparse
import json
import resource
import time
from pathlib import Path
from typing import Any

from cnnclf.models.backbones import find_backbone

BATCH = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("train", type=Path, help="class folders")
    parser.add_argument("val", type=Path, help="class folders")
    parser.add_argument("--backbone", required=True)
    parser.add_argument("--weights", default="none", choices=("none", "imagenet"))
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--xla", action="store_true", help="compile as Keras does by default")
    arguments = parser.parse_args()
    start = time.perf_counter()
    row = find_backbone(arguments.backbone)
    model, train, val = build(arguments, row.default_size)
    ends: list[float] = []

    import keras

    class Clock(keras.callbacks.Callback):  # type: ignore[misc]
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002
            ends.append(time.perf_counter() - start)

    history = model.fit(
        train, validation_data=val, epochs=arguments.epochs, verbose=0, callbacks=[Clock()]
    )
    print(
        json.dumps(
            {
                "seconds": time.perf_counter() - start,
                "epoch_ends": ends,
                "val_accuracy": history.history["val_accuracy"],
                "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            }
        ),
        flush=True,
    )


def build(arguments: argparse.Namespace, size: int) -> tuple[Any, Any, Any]:
    import keras

    from cnnclf.models.trunk import build_backbone
    from cnnclf.models.weights.filling import load_weights
    from cnnclf.models.weights.sources import find_weights
    from cnnclf.progress import Silent

    row = find_backbone(arguments.backbone)

    def read(folder: Path) -> Any:
        return keras.utils.image_dataset_from_directory(
            folder, label_mode="int", image_size=(size, size), batch_size=BATCH, verbose=False
        )

    train, val = read(arguments.train), read(arguments.val)
    classes = len(train.class_names)
    augment = [keras.layers.RandomFlip("horizontal"), keras.layers.RandomRotation(0.1)]

    def change(x: Any, y: Any) -> tuple[Any, Any]:
        for layer in augment:
            x = layer(x)
        return x, y

    train = train.map(change).prefetch(2).cache()
    val = val.prefetch(2).cache()
    base = build_backbone(row, height=size, width=size)
    if arguments.weights == "imagenet":
        load_weights(base, find_weights(row, "imagenet"), progress=Silent())
    base.trainable = False
    inputs = keras.Input((size, size, 3))
    vector = keras.layers.GlobalAveragePooling2D()(base(inputs, training=False))
    outputs = keras.layers.Dense(classes)(keras.layers.Dropout(0.2)(vector))
    model = keras.Model(inputs, outputs)
    model.compile(
        keras.optimizers.Adam(),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        jit_compile="auto" if arguments.xla else False,
    )
    return model, train, val


if __name__ == "__main__":
    main()
