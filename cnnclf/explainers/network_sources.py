"""Networks to describe: of a run, of settings, or of the table of backbones.

Loads no weights. Networks of `cnnclf train` are laid out from settings alone, without Keras, and
backbones once per version of Keras: their layers are kept in the cache.
"""

import hashlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from cnnclf import models
from cnnclf.config import FinetuneConfig, HeadConfig, ModelConfig, TrainConfig
from cnnclf.data.cache import cache_dir
from cnnclf.errors import CnnclfError, ConfigError, RunError
from cnnclf.explainers.network_description import NetworkDescription, Shape
from cnnclf.files import read_json, write_json_atomic
from cnnclf.inference.bundle_paths import find_bundle
from cnnclf.inference.bundles import read_bundle
from cnnclf.models.anatomy import Anatomy
from cnnclf.models.backbones import Backbone, check_size, find_backbone
from cnnclf.models.cnn_anatomy import plan_cnn
from cnnclf.planning.finetune_plan import FinetunePlan
from cnnclf.planning.network_settings import resolve_model, resolve_optimizer
from cnnclf.planning.plan import parse_plan
from cnnclf.planning.train_plan import TrainPlan
from cnnclf.runs.run_directory import RunDirectory
from cnnclf.runs.run_opening import open_run

DEFAULT_SHAPE = (64, 64, 3)
DEFAULT_CLASSES = 10
DEFAULT_BATCH = 32
Prepare = Callable[[], object]


def describe_cnn(
    config: TrainConfig,
    *,
    classes: int = DEFAULT_CLASSES,
    given: Mapping[str, str] | None = None,
) -> NetworkDescription:
    """Describe the network that `cnnclf train` would build.

    Args:
        config: Settings; images are `DEFAULT_SHAPE` unless they say otherwise.
        classes: Outputs.
        given: Where each given setting came from.

    Raises:
        ConfigError: The network does not fit the images.
    """
    height, width, channels = DEFAULT_SHAPE
    if config.data.image_size != "auto":
        height, width = config.data.image_size
    channels = 1 if config.data.color == "gray" else channels
    given = given or {}
    model, _ = resolve_model(config.model, (height, width), given=given)
    planned = config.training.batch_size
    batch_size = DEFAULT_BATCH if planned == "auto" else planned
    optimizer, _ = resolve_optimizer(
        config.optimizer, given=given, batch_norm=model.batch_norm, batch_size=batch_size
    )
    return _describe_cnn(
        f"preset {model.preset}",
        model,
        (height, width, channels),
        classes=classes,
        batch_size=batch_size,
        optimizer=optimizer.name,
    )


def describe_backbone(
    name: str,
    *,
    image_size: tuple[int, int] | None = None,
    classes: int | None = None,
    batch_size: int = DEFAULT_BATCH,
    prepare: Prepare = bool,
) -> NetworkDescription:
    """Describe a backbone of the table. Keras builds it, without weights, if the cache lacks it.

    Args:
        name: Its name.
        image_size: Height and width in pixels; None for what it was trained on.
        classes: Outputs of a new head; None for no head.
        batch_size: Images in a training batch.
        prepare: Called before Keras is needed.

    Raises:
        ConfigError: There is no such backbone, or the size is below its minimum.
    """
    row = find_backbone(name)
    height, width = image_size or (row.default_size, row.default_size)
    check_size(row, height=height, width=width)
    head = None if classes is None else HeadConfig()
    anatomy = _plan_backbone(row, (height, width), head=head, classes=classes or 0, prepare=prepare)
    words = f"backbone {row.name}" + (f" with a head for {classes} classes" if classes else "")
    return NetworkDescription(
        words,
        anatomy,
        (height, width, 3),
        batch_size,
        FinetuneConfig().optimizer.name,
        is_staged=True,
    )


def describe_run(
    path: Path, *, batch_size: int | None = None, prepare: Prepare = bool
) -> NetworkDescription:
    """Describe the network of a run, from its plan, or of a bundle, from the graph in its file.

    Args:
        path: A run directory, a checkpoint or a bundle.
        batch_size: Images in a training batch; None for that of the run.
        prepare: Called before Keras is needed: not for runs of `cnnclf train`.

    Raises:
        RunError: There is no run or bundle, it is damaged, or has no Keras graph.
    """
    if RunDirectory(path).record.exists():
        run = open_run(path)
        plan = parse_plan(run.plan, _read_plan)
        return _describe_plan(plan, f"run {path}", batch_size, prepare)
    bundle = read_bundle(find_bundle(path))
    if bundle.model.format != "keras":
        raise RunError(
            f"the model in {bundle.directory} has the format {bundle.model.format}, not keras",
            "describe the run it was exported from",
        )
    prepare()
    anatomy = _read_graph(bundle.model.path)
    return NetworkDescription(
        f"bundle {path}",
        anatomy,
        bundle.input_spec.shape,
        batch_size or DEFAULT_BATCH,
        "adamw",
        is_staged=False,
    )


def _read_plan(content: Mapping[str, Any]) -> TrainPlan | FinetunePlan:
    if content["command"] == FinetuneConfig.command:
        return FinetunePlan.from_dict(content)
    return TrainPlan.from_dict(content)


def _describe_plan(
    plan: TrainPlan | FinetunePlan, name: str, batch_size: int | None, prepare: Prepare
) -> NetworkDescription:
    planned = plan.config.training.batch_size
    batch = batch_size or (DEFAULT_BATCH if planned == "auto" else planned)
    shape, classes = plan.input_spec.shape, len(plan.labels)
    if isinstance(plan, TrainPlan):
        return _describe_cnn(
            f"{name} (train, preset {plan.config.model.preset})",
            plan.config.model,
            shape,
            classes=classes,
            batch_size=batch,
            optimizer=plan.config.optimizer.name,
        )
    row = plan.backbone
    anatomy = _plan_backbone(
        row, shape[:2], head=plan.config.head, classes=classes, prepare=prepare
    )
    return NetworkDescription(
        f"{name} (finetune, backbone {row.name})",
        anatomy,
        shape,
        batch,
        plan.config.optimizer.name,
        is_staged=True,
    )


def _describe_cnn(
    name: str,
    model: ModelConfig,
    shape: Shape,
    *,
    classes: int,
    batch_size: int,
    optimizer: str,
) -> NetworkDescription:
    def parameters_at(side: int) -> int | None:
        try:
            return plan_cnn(model, (side, side, shape[2]), num_classes=classes).parameters
        except ConfigError:  # a window is larger than its feature maps
            return None

    return NetworkDescription(
        name,
        plan_cnn(model, shape, num_classes=classes),
        shape,
        batch_size,
        optimizer,
        is_staged=False,
        parameters_at=parameters_at,
    )


def _plan_backbone(
    row: Backbone,
    size: tuple[int, int],
    *,
    head: HeadConfig | None,
    classes: int,
    prepare: Prepare,
) -> Anatomy:
    path = _find_place(row, size, head, classes)
    with suppress(CnnclfError, KeyError, ValueError):  # it is laid out again
        return Anatomy.from_dicts(read_json(path)["layers"])
    prepare()
    from cnnclf.models.graph_anatomy import find_stage_ends, plan_graph
    from cnnclf.models.transfer import build_transfer
    from cnnclf.models.trunk import build_backbone
    from cnnclf.models.weightless import build_weightless

    height, width = size

    def build_and_plan() -> Anatomy:
        if head is None:
            model = build_backbone(row, height=height, width=width)
        else:
            parts = build_transfer(row, head, height=height, width=width, num_classes=classes)
            model = parts.whole
        return plan_graph(model, stage_ends=find_stage_ends(model, row))

    anatomy = build_weightless(build_and_plan)
    with suppress(CnnclfError, OSError):  # a full disk, or a cache that cannot be written
        write_json_atomic(path, {"layers": anatomy.to_dicts()})
    return anatomy


def _find_place(
    row: Backbone, size: tuple[int, int], head: HeadConfig | None, classes: int
) -> Path:
    """Return the cache file of a backbone; its name holds all that the layers depend on."""
    digest = hashlib.sha256(f"{row} {size} {head} {classes} {metadata.version('keras')}".encode())
    for source in sorted(Path(models.__path__[0]).glob("*.py")):
        digest.update(source.read_bytes())
    return cache_dir() / "layers" / f"{row.name}-{digest.hexdigest()[:16]}.json"


def _read_graph(path: Path) -> Anatomy:
    from cnnclf.inference.engines.keras_engine import read_keras_graph
    from cnnclf.models.graph_anatomy import plan_graph
    from cnnclf.models.weightless import build_weightless

    return build_weightless(lambda: plan_graph(read_keras_graph(path)))
