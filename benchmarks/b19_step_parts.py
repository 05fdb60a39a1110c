"""B19: where the time of a training step goes, layer by layer, against the limit of arithmetic.

Each layer of a network runs alone, forward and backward, on a batch of the shape that it sees in
training; so does the whole step with its optimizer. The limit is what a float32 matrix product
needs for the same multiplications in the same process. All by processor time, the fastest of some.
The whole step is also measured with the batch normalization of Keras, which training does not use.
Run from the root of the project:
    python -m benchmarks.b19_step_parts --preset textbook fast --size 28 28 1
"""

import argparse
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np

from cnnclf.config import TrainConfig, load_config
from cnnclf.models.cnn import build_cnn
from cnnclf.models.cnn_anatomy import plan_cnn
from cnnclf.planning.network_settings import resolve_model, resolve_optimizer
from cnnclf.runtime import setup_runtime
from cnnclf.runtime.fused_norms import fuse_norms
from cnnclf.training.fitting.fit import build_loss
from cnnclf.training.fitting.optimizers import build_optimizer

CLASSES = 10
SIDE = 1024  # of the matrices of the limit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", nargs="+", default=["textbook", "fast"])
    parser.add_argument("--size", type=int, nargs=3, default=(28, 28, 1), help="of the images")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--precision", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    setup_runtime(device="cpu", precision=arguments.precision, seed=0)
    matrix = np.random.default_rng(0).random((SIDE, SIDE), np.float32)
    product = measure(lambda: matrix @ matrix, arguments.rounds)
    per_s = 2 * SIDE**3 / product
    print(f"matrix product: {per_s / 1e9:.1f} GFLOP per processor second")
    for preset in arguments.preset:
        show(preset, tuple(arguments.size), arguments.batch, arguments.rounds, per_s)


def show(preset: str, shape: Any, batch: int, rounds: int, per_s: float) -> None:
    """Measure the layers and the whole step of one network."""
    import keras

    config, given = load_config(options={"model.preset": preset}, kind=TrainConfig)
    model, _ = resolve_model(config.model, shape[:2], given=given)
    optimizer, _ = resolve_optimizer(
        config.optimizer, given=given, batch_norm=model.batch_norm, batch_size=batch
    )
    rng = np.random.default_rng(0)
    net = build_cnn(model, shape, num_classes=CLASSES)
    anatomy = plan_cnn(model, shape, num_classes=CLASSES)
    pixels = rng.integers(0, 256, (batch, *shape), np.uint8)
    truth = np.eye(CLASSES, dtype=np.float32)[rng.integers(0, CLASSES, batch)]

    def measure_whole() -> float:
        net.compile(
            build_optimizer(optimizer, total_steps=1000),
            loss=build_loss(config.training),
            jit_compile=False,
        )
        return measure(lambda: net.train_on_batch(pixels, truth), rounds)

    before = measure_whole()
    fuse_norms(net)
    seconds: dict[str, float] = defaultdict(float)
    for layer in net.layers:
        if not isinstance(layer, keras.layers.InputLayer):
            step = build_layer_step(layer, (batch, *layer.input.shape[1:]), rng)
            seconds[type(layer).__name__] += measure(step, rounds)
    whole = measure_whole()
    seconds["optimizer, loss, between layers"] = max(0.0, whole - sum(seconds.values()))
    limit = 3 * 2 * anatomy.macs * batch / per_s
    print(
        f"\n{preset}, {batch} images of {'x'.join(map(str, shape))}: {1000 * whole:.0f} ms a step,"
    )
    print(f"{1000 * before:.0f} ms with the batch normalization of Keras")
    print(f"{batch / whole:.0f} images per processor second, {limit / whole:.2f} of the limit")
    for name, part in sorted(seconds.items(), key=lambda item: -item[1]):
        print(f"  {name:32} {1000 * part:7.1f} ms {100 * part / whole:5.0f} %")


def build_layer_step(layer: Any, shape: tuple[int, ...], rng: np.random.Generator) -> Any:
    """Return a call that runs a layer forward and backward."""
    import tensorflow as tf

    values = tf.cast(rng.normal(size=shape), layer.compute_dtype)

    @tf.function(jit_compile=False)
    def step() -> Any:
        with tf.GradientTape() as tape:
            tape.watch(values)
            total = tf.reduce_sum(layer(values, training=True))
        return tape.gradient(
            total, [values, *layer.trainable_variables], unconnected_gradients="zero"
        )

    return step


def measure(step: Callable[[], Any], rounds: int) -> float:
    """Return the processor seconds of the fastest call; the first one compiles."""
    step()
    fastest = float("inf")
    for _ in range(rounds):
        begin = time.process_time()
        step()
        fastest = min(fastest, time.process_time() - begin)
    return fastest


if __name__ == "__main__":
    main()
