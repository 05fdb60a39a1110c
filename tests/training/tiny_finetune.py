"""Plans and runs of `cnnclf finetune` on a backbone of four layers, a second or two each."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cnnclf.config import FinetuneConfig, load_config
from cnnclf.data.manifest import Dataset
from cnnclf.models import backbone_costs, backbones
from cnnclf.models.backbones import BACKBONES, Backbone
from cnnclf.models.stages import Stage
from cnnclf.models.weights.weight_files import WeightsFile
from cnnclf.planning.finetune_plan import FinetunePlan, plan_finetuning
from cnnclf.progress import Silent
from cnnclf.runs.run_opening import create_run, open_run
from cnnclf.runtime import setup_runtime
from cnnclf.training.epochs import EpochListener
from cnnclf.training.frozen import phase_data
from cnnclf.training.run import TrainResult, conduct_run
from cnnclf.training.work import Work, open_work

TINY = {
    "backbone.name": "tiny",
    "backbone.weights": "none",
    "data.image_size": 16,
    "head.epochs": 3,
    "head.pooling": "both",
    "head.search": False,
    "head.learning_rate": 0.1,
    "head.weight_decay": 0.01,
    "tail.epochs": 3,
    "tail.unfreeze": "1",
    "tail.learning_rate": 0.03,
    "training.batch_size": 16,
    "runtime.device": "cpu",
    "runtime.deterministic": True,
}


def build_tiny(*, input_tensor: Any) -> Any:
    """Build the tiny backbone; its random features are good enough to tell shapes apart."""
    return _build(input_tensor, joined=False)


def build_tiny_joined(*, input_tensor: Any) -> Any:
    """Build it with a last stage that takes the maps of the two before it."""
    return _build(input_tensor, joined=True)


def _build(input_tensor: Any, *, joined: bool) -> Any:
    import keras
    from keras import layers

    x = before = input_tensor
    for number, filters in enumerate((8, 16, 16, 32)):
        if joined and number == 3:
            x = layers.Concatenate()([x, layers.AveragePooling2D(2)(before)])
        before = x
        x = layers.Conv2D(
            filters,
            3,
            strides=2 if number < 3 else 1,
            padding="same",
            kernel_initializer=keras.initializers.HeNormal(seed=number),
            name=f"conv{number}",
        )(x)
        x = layers.BatchNormalization(name=f"bn{number}")(x)
        x = layers.ReLU(name=f"relu{number}")(x)
    return keras.Model(keras.utils.get_source_inputs(input_tensor), x)


ROW = Backbone(
    name="tiny",
    builder=f"{__name__}.build_tiny",
    default_size=16,
    min_size=8,
    normalization="tf",
    parameters=0,
    gmacs=0.0,
    top1=0.0,
    top1_source="",
    stages=(
        Stage("stem", end="relu0"),
        Stage("stage1", end="relu1"),
        Stage("stage2", end="relu2"),
        Stage("stage3"),
    ),
    imagenet=WeightsFile("none.h5"),
)

# The maps of two stages cross the cut before its last stage, as in a NASNet.
JOINED = replace(ROW, name="tiny-joined", builder=f"{__name__}.build_tiny_joined")

COSTS = [
    {"stage": name, "parameters": "1000", "macs": "90000", "values": "1500", "border": "0"}
    | {"features": features}
    for name, features in (("stem", ""), ("stage1", ""), ("stage2", ""), ("stage3", "32"))
]


@contextmanager
def tiny_backbone(engine: str = "keras-float32") -> Iterator[None]:
    """Add the tiny backbone to the table, and let one engine compute frozen layers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backbones, "BACKBONES", (*BACKBONES, ROW, JOINED))
        for row in (ROW, JOINED):
            patch.setitem(backbone_costs._read_table(), row.name, COSTS)
        patch.setattr(phase_data, "choose_engine", lambda *_, **__: engine)
        yield


def plan_tiny(dataset: Dataset, **options: object) -> FinetunePlan:
    """Plan to fine-tune: `plan_tiny(dataset, **{"features.views": 2})`."""
    config, given = load_config(options=TINY | options, kind=FinetuneConfig)
    with tiny_backbone():
        return plan_finetuning(config, dataset, given=given)


def tune_tiny(
    dataset: Dataset,
    path: Path,
    *,
    resume: bool = False,
    listeners: Sequence[EpochListener] = (),
    progress: Silent | None = None,
    engine: str = "keras-float32",
    **options: object,
) -> TrainResult:
    """Fine-tune: `tune_tiny(dataset, path, **{"features.views": 2})`."""
    runtime = setup_runtime(device="cpu", seed=0, deterministic=True)
    with tiny_backbone(engine):
        plan = plan_tiny(dataset, **options)
        run = open_run(path) if resume else create_run(path)
        work = Work(plan, dataset, run, runtime, progress or Silent(), resume, listeners)
        with open_work(work):
            return conduct_run(work)
