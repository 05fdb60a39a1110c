"""The precision that `auto` becomes on a CPU: by measuring a few steps of the network in each.

Reduced precision is faster for some networks and slower for others on the same processor, so it is
measured, once per network, machine and versions.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from cnnclf.config import OptimizerConfig
from cnnclf.hardware import has_bfloat16
from cnnclf.models.cnn import build_cnn
from cnnclf.models.transfer import Transfer, build_transfer
from cnnclf.planning.finetune_pace import FORWARD
from cnnclf.planning.finetune_plan import FinetunePlan
from cnnclf.planning.pace import PARALLEL, Pace
from cnnclf.planning.train_plan import TrainPlan
from cnnclf.progress import Progress
from cnnclf.runtime import RuntimeInfo, setup_runtime

_ROUNDS = 3
_STEP_S = 0.15  # aimed at, per step
_WORTH_S = 60.0  # a run, or a second phase, that is shorter gains less than measuring takes

AnyPlan = TrainPlan | FinetunePlan


def choose_precision(
    plan: AnyPlan, runtime: RuntimeInfo, *, wait: Callable[[], Any], progress: Progress
) -> RuntimeInfo:
    """Return the runtime in the precision that trains a network fastest on this CPU.

    Args:
        plan: The plan of a run that starts; of a fine-tuning, the second phase is measured.
        runtime: Already set up, with the settings of the plan.
        wait: Waits for other work of this process, so that it is not measured.
        progress: Receives notes.

    Returns:
        The same runtime, or one in bfloat16 that was set up instead.
    """
    settings = plan.config.runtime
    if runtime.kind != "cpu" or settings.precision != "auto":
        return runtime
    if isinstance(plan, FinetunePlan) and plan.frozen_stage is None:
        return replace(runtime, precision_reason="a head alone takes seconds in any")
    if isinstance(plan, FinetunePlan) and plan.work.is_light:
        # gradients of depthwise convolutions take five times as long: docs/benchmarks.md, B19
        words = "depthwise convolutions are slower in bfloat16"
        return replace(runtime, precision_reason=words)
    if settings.deterministic:  # a time would decide what is computed
        return replace(runtime, precision_reason="deterministic runs use it on a CPU")
    if not has_bfloat16():
        return replace(runtime, precision_reason="the processor has no bfloat16 arithmetic")
    pace = _find_pace(plan, runtime, wait=wait, progress=progress)
    if pace is None:
        return replace(runtime, precision_reason="the run is too short to measure others")
    chosen = set_up(plan, pace.choose())  # measuring also used random numbers: seeded again
    return replace(chosen, precision_reason=pace.words)


def change_precision(plan: Any, precision: str, *, reason: str) -> RuntimeInfo:
    """Set the runtime up again in another precision, with the seed of the plan."""
    return replace(set_up(plan, precision), precision_reason=reason)


def _find_pace(
    plan: AnyPlan, runtime: RuntimeInfo, *, wait: Callable[[], Any], progress: Progress
) -> Pace | None:
    pace = plan.pace
    if pace.is_measured:
        return pace
    expected = plan.expect("float32")
    if expected.parts.get("the second phase", expected.seconds) < _WORTH_S:
        return None
    wait()
    progress.note("measuring steps in float32 and bfloat16, once for this network and machine")
    plan.keep_pace(_measure(plan, runtime, expected_rate=pace.rates["float32"]))
    return plan.pace


def _measure(plan: AnyPlan, runtime: RuntimeInfo, *, expected_rate: float) -> dict[str, float]:
    """Return images per second by precision: the fastest of a few steps, taken in turn.

    By processor time, as if all processors were free: other programs hardly change the result.
    """
    largest = int(plan.config.training.batch_size)
    count = min(largest, max(16, int(expected_rate * _STEP_S)))
    steps = {}
    for precision in ("float32", "bfloat16"):
        set_up(plan, precision)
        if isinstance(plan, TrainPlan):
            steps[precision] = _build_step(plan, runtime, count=count)
            continue
        transfer, steps[precision] = _build_tail_step(plan, runtime, count=count)
        if precision == "float32":
            steps[FORWARD] = _build_pass(transfer.whole, plan, runtime, count=count)
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
    net = build_cnn(plan.config.model, plan.input_spec.shape, num_classes=len(plan.labels))
    return _compile_step(net, plan.config.optimizer, plan=plan, runtime=runtime, count=count)


def _build_tail_step(
    plan: FinetunePlan, runtime: RuntimeInfo, *, count: int
) -> tuple[Transfer, Callable[[], Any]]:
    """Build a whole network with random weights, and a step of its tail."""
    spec, stage = plan.input_spec, plan.frozen_stage or ""
    transfer = build_transfer(
        plan.backbone,
        plan.config.head,
        height=spec.height,
        width=spec.width,
        num_classes=len(plan.labels),
    )
    part = transfer.cut(stage)[1] if plan.work.is_cached else transfer.trained_after(stage)
    optimizer = OptimizerConfig(name=plan.config.optimizer.name, learning_rate=1e-3)
    return transfer, _compile_step(part, optimizer, plan=plan, runtime=runtime, count=count)


def _build_pass(
    net: Any, plan: FinetunePlan, runtime: RuntimeInfo, *, count: int
) -> Callable[[], Any]:
    """Compile a forward pass through a network."""
    net.compile(jit_compile=runtime.jit_compile)
    pixels = np.zeros((count, *plan.input_spec.shape), np.uint8)

    def forward() -> Any:
        return net.predict_on_batch(pixels)

    forward()  # compiles
    return forward


def _compile_step(
    net: Any, optimizer: OptimizerConfig, *, plan: AnyPlan, runtime: RuntimeInfo, count: int
) -> Callable[[], Any]:
    """Compile a network as for training, and run one step of random inputs."""
    from cnnclf.runtime.fused_norms import fuse_norms
    from cnnclf.training.fitting.fit import build_loss
    from cnnclf.training.fitting.optimizers import build_optimizer

    if not runtime.jit_compile:
        fuse_norms(net)
    settings: Any = plan.config.training
    net.compile(
        build_optimizer(optimizer, total_steps=1),
        loss=build_loss(settings),
        metrics=["accuracy"],
        jit_compile=runtime.jit_compile,
    )
    rng, classes = np.random.default_rng(0), len(plan.labels)
    inputs = rng.integers(0, 256, (count, *net.input_shape[1:]), np.uint8)
    labels = np.eye(classes, dtype=np.float32)[rng.integers(0, classes, count)]

    def step() -> Any:
        return net.train_on_batch(inputs, labels)

    step()  # compiles
    return step


def set_up(plan: Any, precision: str = "", **options: Any) -> RuntimeInfo:
    """Set the runtime up as a plan says."""
    settings = plan.config.runtime
    return setup_runtime(
        device=settings.device,
        precision=precision or settings.precision,
        seed=settings.seed,
        deterministic=settings.deterministic,
        **options,
    )
