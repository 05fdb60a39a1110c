"""The precision that `auto` becomes on a CPU: by measuring a few steps of the network in each.

Reduced precision is faster for some networks and slower for others on the same processor, so it is
measured, once per network, machine and versions.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from cnnclf.hardware import has_bfloat16
from cnnclf.models.cnn import build_cnn
from cnnclf.planning.pace import PARALLEL, Pace, expect_time, find_pace, keep_pace
from cnnclf.planning.train_plan import TrainPlan
from cnnclf.progress import Progress
from cnnclf.runtime import RuntimeInfo, setup_runtime

_ROUNDS = 3
_STEP_S = 0.15  # aimed at, per step
_WORTH_S = 60.0  # a run that is shorter gains less than measuring takes


def choose_precision(
    plan: Any, runtime: RuntimeInfo, *, wait: Callable[[], Any], progress: Progress
) -> RuntimeInfo:
    """Return the runtime in the precision that trains a network fastest on this CPU.

    Args:
        plan: The plan of a run that starts; only those of `cnnclf train` are measured.
        runtime: Already set up, with the settings of the plan.
        wait: Waits for other work of this process, so that it is not measured.
        progress: Receives notes.

    Returns:
        The same runtime, or one in bfloat16 that was set up instead.
    """
    settings = plan.config.runtime
    if not isinstance(plan, TrainPlan) or runtime.kind != "cpu" or settings.precision != "auto":
        return runtime
    if settings.deterministic:  # a time would decide what is computed
        return replace(runtime, precision_reason="deterministic runs use it on a CPU")
    if not has_bfloat16():
        return replace(runtime, precision_reason="the processor has no bfloat16 arithmetic")
    pace = _find_pace(plan, runtime, wait=wait, progress=progress)
    if pace is None:
        return replace(runtime, precision_reason="the run is too short to measure others")
    chosen = _set_up(plan, pace.choose())  # measuring also used random numbers: seeded again
    return replace(chosen, precision_reason=pace.words)


def change_precision(plan: Any, precision: str, *, reason: str) -> RuntimeInfo:
    """Set the runtime up again in another precision, with the seed of the plan."""
    return replace(_set_up(plan, precision), precision_reason=reason)


def _find_pace(
    plan: TrainPlan, runtime: RuntimeInfo, *, wait: Callable[[], Any], progress: Progress
) -> Pace | None:
    training, optimizer = plan.config.training, plan.config.optimizer
    network: dict[str, Any] = {"batch_size": int(training.batch_size), "optimizer": optimizer.name}
    pace = find_pace(plan.anatomy, **network)
    if pace.is_measured:
        return pace
    expected = expect_time(
        pace, counts=plan.counts, epochs=int(training.epochs), precision="float32"
    )
    if expected.seconds < _WORTH_S:
        return None
    wait()
    progress.note("measuring steps in float32 and bfloat16, once for this network and machine")
    rates = _measure(plan, runtime, expected_rate=pace.rates["float32"])
    keep_pace(rates, plan.anatomy, **network)
    return Pace(rates, is_measured=True)


def _measure(plan: TrainPlan, runtime: RuntimeInfo, *, expected_rate: float) -> dict[str, float]:
    """Return images per second by precision: the fastest of a few steps, taken in turn.

    By processor time, as if all processors were free: other programs hardly change the result.
    """
    largest = int(plan.config.training.batch_size)
    count = min(largest, max(16, int(expected_rate * _STEP_S)))
    steps = {}
    for precision in ("float32", "bfloat16"):
        _set_up(plan, precision)
        steps[precision] = _build_step(plan, runtime, count=count)
    seconds = dict.fromkeys(steps, float("inf"))
    for _ in range(_ROUNDS):
        for precision, step in steps.items():
            begin = time.process_time()
            step()
            seconds[precision] = min(seconds[precision], time.process_time() - begin)
    at_once = max(1.0, PARALLEL * runtime.threads)
    return {precision: round(at_once * count / each, 1) for precision, each in seconds.items()}


def _build_step(plan: TrainPlan, runtime: RuntimeInfo, *, count: int) -> Callable[[], Any]:
    """Build and compile the network as for training, and run one step of random pixels."""
    from cnnclf.training.fitting.fit import build_loss
    from cnnclf.training.fitting.optimizers import build_optimizer

    config, shape, classes = plan.config, plan.input_spec.shape, len(plan.labels)
    net = build_cnn(config.model, shape, num_classes=classes)
    net.compile(
        build_optimizer(config.optimizer, total_steps=1),
        loss=build_loss(config.training),
        metrics=["accuracy"],
        jit_compile=runtime.jit_compile,
    )
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (count, *shape), np.uint8)
    labels = np.eye(classes, dtype=np.float32)[rng.integers(0, classes, count)]

    def step() -> Any:
        return net.train_on_batch(pixels, labels)

    step()  # compiles
    return step


def _set_up(plan: Any, precision: str) -> RuntimeInfo:
    settings = plan.config.runtime
    return setup_runtime(
        device=settings.device,
        precision=precision,
        seed=settings.seed,
        deterministic=settings.deterministic,
    )
