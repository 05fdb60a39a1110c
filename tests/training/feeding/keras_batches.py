"""Run by test_batches.py in a process of its own: TensorFlow's devices are set before it starts."""

import os
import sys
import zlib
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
sys.path.insert(0, str(Path(__file__).parents[3]))

import keras
import numpy as np
import tensorflow as tf

from cnnclf.augmentation.table import Augmenter
from cnnclf.training.feeding.batches import Batches

CLASSES = np.arange(100) % 3
WEIGHTS = np.array([1.0, 2.0, 0.5], np.float32)


class Pixels:
    """Random images in memory."""

    def __init__(self) -> None:
        self.failed: dict[int, str] = {}
        self.shape = (6, 6, 3)
        self._array = np.random.default_rng(0).integers(0, 256, (100, 6, 6, 3), dtype=np.uint8)

    def gather(self, rows: np.ndarray) -> np.ndarray:
        """Give copies."""
        return np.take(self._array, rows, axis=0)


def make_batches(rows: int = 100, **more: object) -> Batches:
    augmenter = Augmenter({"translate": 0.2, "brightness": 0.3, "mixup": 0.5}, seed=3)
    return Batches(
        Pixels(),
        np.arange(rows),
        class_indices=CLASSES,
        num_classes=3,
        batch_size=16,
        seed=7,
        augmenter=augmenter,
        class_weights=WEIGHTS,
        **more,  # type: ignore[arg-type]
    )


def make_model() -> keras.Model:
    keras.utils.set_random_seed(0)
    net = keras.Sequential(
        [
            keras.Input((6, 6, 3)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Conv2D(4, 3),
            keras.layers.BatchNormalization(),
            keras.layers.Flatten(),
            keras.layers.Dense(3),
        ]
    )
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    net.compile("adam", loss, weighted_metrics=["accuracy"], jit_compile=False)
    return net


def fit(net: keras.Model, first: int, end: int, *, threads: int) -> None:
    batches = make_batches(threads=threads)
    net.fit(
        batches.as_keras(first, end),
        initial_epoch=first,
        epochs=end,
        steps_per_epoch=len(batches),
        validation_data=make_batches(shuffle=False).as_keras(0, None),
        validation_steps=len(batches),
        shuffle=False,
        verbose=0,
        callbacks=[
            keras.callbacks.LambdaCallback(
                on_train_batch_begin=lambda batch, logs: batches.step_begins()
            )
        ],
    )
    assert batches.wait_s >= 0
    assert not batches._waits._asked or not batches._waits._given


def check_feed() -> None:
    """Write a checksum of what two epochs show."""
    checksum = 0
    for batch in make_batches(threads=3).as_keras(1, 3):
        for array in batch:
            checksum = zlib.crc32(np.asarray(array).tobytes(), checksum)
    sys.stdout.write(f"{checksum}\n")


def check_resume() -> None:
    """Train 3 epochs at once, and 1 + 2."""
    tf.config.experimental.enable_op_determinism()
    whole, parts = make_model(), make_model()
    fit(whole, 0, 3, threads=1)
    fit(parts, 0, 1, threads=3)
    fit(parts, 1, 3, threads=2)
    for one, other in zip(whole.get_weights(), parts.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    sys.stdout.write("same\n")


def check_mirrored() -> None:
    """Train on two devices and count what they were shown."""
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    batches, val_batches = make_batches(99, devices=2), make_batches(13, shuffle=False, devices=2)
    with strategy.scope():
        net = make_model()
    history = net.fit(
        batches.as_keras(0, 2),
        epochs=2,
        steps_per_epoch=len(batches),
        validation_data=val_batches.as_keras(0, 2),
        validation_steps=len(val_batches),
        shuffle=False,
        verbose=0,
    )
    assert np.isfinite(history.history["loss"]).all()
    assert np.isfinite(history.history["val_loss"]).all()
    shown = [0, 0]
    divided = strategy.experimental_distribute_dataset(batches.as_keras(0, 1))
    for x, _, _ in divided:
        for device, part in enumerate(strategy.experimental_local_results(x)):
            shown[device] += len(part)
    assert shown[0] == shown[1]
    sys.stdout.write(f"{sum(shown)} images an epoch\n")


if __name__ == "__main__":
    checks = {"feed": check_feed, "resume": check_resume, "mirrored": check_mirrored}
    checks[sys.argv[1]]()
