"""Keras baseline for accuracy per minute: the convolutional network of Keras' own first example.

Two 3x3 convolutions with 32 and 64 filters and max pooling, flattened, dropout 0.5, Adam at its
default rate, batches of 128, as keras.io shows for small images. As many epochs as the minutes
allow after the first one was timed; the rate is constant, so the last epoch needs no plan.

Imports nothing from cnnclf. Prints one line of JSON.
Run as: python benchmarks/keras_small_net.py IMAGES.npz MINUTES SEED
"""

import argparse
import json
import os
import time
from typing import Any

BEGIN = time.perf_counter()
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images")
    parser.add_argument("minutes", type=float)
    parser.add_argument("seed", type=int)
    arguments = parser.parse_args()
    import keras
    import numpy as np

    keras.utils.set_random_seed(arguments.seed)
    content = np.load(arguments.images)
    sets = {
        split: (content[f"{split}_images"].astype("float32") / 255, content[f"{split}_labels"])
        for split in ("train", "val", "test")
    }
    net = build(sets["train"][0].shape[1:])
    curve: list[tuple[float, float]] = []

    class Clock(keras.callbacks.Callback):  # type: ignore[misc]
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            now = time.perf_counter() - BEGIN
            curve.append((now, float(logs["val_accuracy"])))
            longest = now / (epoch + 1)
            self.model.stop_training = now + longest > arguments.minutes * 60

    images, truth = sets["train"]
    net.fit(
        images,
        truth,
        batch_size=128,
        epochs=1000,
        validation_data=sets["val"],
        verbose=0,
        callbacks=[Clock()],
    )
    accuracy = net.evaluate(*sets["test"], verbose=0)[1]
    seconds = time.perf_counter() - BEGIN
    result = {"accuracy": accuracy, "curve": curve, "seconds": seconds}
    print(json.dumps(result | {"parameters": net.count_params()}))


def build(shape: tuple[int, ...]) -> Any:
    import keras

    layers = keras.layers
    net = keras.Sequential(
        [
            keras.Input(shape),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(64, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dropout(0.5),
            layers.Dense(10, activation="softmax"),
        ]
    )
    net.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return net


if __name__ == "__main__":
    main()
