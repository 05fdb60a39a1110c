"""What each phase of fine-tuning trains on: cached features of frozen layers, or images."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from cnnclf.models.transfer import Transfer
from cnnclf.names import join_sides
from cnnclf.planning.finetune_plan import FinetunePlan, plan_operations
from cnnclf.training.feeding.batches import Batches
from cnnclf.training.frozen.feature_cache import NoRoomError, open_features
from cnnclf.training.frozen.feature_engines import (
    FeatureEngine,
    FrozenNetwork,
    choose_engine,
    open_engine,
)
from cnnclf.training.frozen.features import FeatureBatches, FeatureJob, Features, hash_weights
from cnnclf.training.work import Work

if TYPE_CHECKING:
    from cnnclf.runtime import RuntimeInfo

# Cached: feature maps for the tail and pooled features for the head, or only the latter.
_MAPS, _POOLED, _NONE = "maps", "pooled", "none"
_OPENVINO = {"float32": "openvino-f32", "bfloat16": "openvino-bf16"}


@dataclass(frozen=True)
class PhaseData:
    """The data of a phase, and the part of the network that it is the input of.

    Args:
        build_part: Builds the part, which shares its weights with the whole network; called when
            the phase starts, because it sets what is trained.
        batches: Of the training images.
        val_batches: Of the val images, if there are any.
        features: Features of train and val, if they are cached.
    """

    build_part: Callable[[], Any]
    batches: Batches
    val_batches: Batches | None
    features: tuple[Features, Features | None] | None = None


def open_phase_data(
    work: Work[FinetunePlan], transfer: Transfer
) -> tuple[PhaseData, PhaseData | None]:
    """Make the batches of both phases; compute frozen layers once, if there is room.

    Args:
        work: The run.
        transfer: The network with the weights it starts from.

    Returns:
        The data of the head, and of the tail if there is a second phase.

    Raises:
        NoRoomError: Not enough disk space for features, and no other way is allowed.
        DataError: No training image can be decoded.
    """
    stage, ways = work.plan.frozen_stage, _list_ways(work)
    for way, after in zip(ways, [*ways[1:], None], strict=True):
        work.run.update_run(features=way)
        if way == _NONE:
            break
        try:
            return _open_cached(work, transfer, (stage or "") if way == _MAPS else "")
        except NoRoomError as error:
            if after is None:
                raise
            what = "the tail" if way == _MAPS else "training"
            work.progress.warn(
                f"{error.message}: {what} continues without them and computes frozen layers in "
                "every epoch"
            )
    head = _open_plain(work, transfer, transfer.row.stage_names[-1])
    return head, None if stage is None else _open_plain(work, transfer, stage)


def _list_ways(work: Work[FinetunePlan]) -> list[str]:
    """List what may be cached, best first; a resumed run keeps to what it started with."""
    known = work.run.read_record().get("features") if work.resume else None
    if known is not None:
        return [str(known)]
    settings = work.plan.config.features
    if not settings.cache:
        return [_NONE]
    ways = [_MAPS, _POOLED] if work.plan.frozen_stage else [_POOLED]
    return [*ways, _NONE] if settings.fallback else ways[:1]


def _open_cached(
    work: Work[FinetunePlan], transfer: Transfer, kept: str
) -> tuple[PhaseData, PhaseData | None]:
    """Train the head on pooled features, and the tail on cached feature maps, if there are any.

    Args:
        work: The run.
        transfer: The network.
        kept: The stage whose feature maps are cached; empty: none.
    """
    stage = work.plan.frozen_stage
    made = _compute(work, transfer, kept)
    head = _from_features(work, [each[0] for each in made], lambda: transfer.head)
    if stage is None:
        return head, None
    if not kept:
        return head, _open_plain(work, transfer, stage)
    rest = transfer.cut(kept)[1]
    return head, _from_features(work, [each[1] for each in made], lambda: rest)


def _compute(work: Work[FinetunePlan], transfer: Transfer, kept: str) -> list[list[Features]]:
    """Return pooled features, and the feature maps after a stage, of train and val."""
    plan, config = work.plan, work.plan.config
    frozen = transfer.features(kept)
    engine = _choose_engine(work)
    job = FeatureJob(
        work.dataset,
        plan.input_spec,
        work.rows["train"],
        config.features.views,
        plan_operations(config, on_pixels=False),
        config.runtime.seed,
        # the whole row: other stages or another scaling give other features
        graph=f"{plan.backbone}, {config.head.pooling}, after {kept or 'all'}",
        weights=hash_weights(transfer.backbone),
        makers=_name_makers(work.runtime),
        shapes=tuple(tuple(output.shape[1:]) for output in frozen.outputs),
        dtype=config.features.dtype,
        backbone=config.backbone.name,
    )
    jobs = [job]
    if len(work.rows["val"]):
        jobs.append(replace(job, rows=work.rows["val"], views=1))

    size = join_sides(frozen.input_shape[1:])
    identity = f"{job.graph}\n{job.weights}\n{job.makers}\n{size}"

    def build() -> FeatureEngine:
        network = FrozenNetwork(plan.backbone.name, identity, lambda: frozen)
        return open_engine(engine, network, threads=work.threads, progress=work.progress)

    work.run.update_run(feature_engine=engine)
    return open_features(
        jobs,
        work.pixels,
        build=build,
        engine=engine,
        threads=work.threads,
        progress=work.progress,
    )


def _name_makers(runtime: "RuntimeInfo") -> str:
    """Name what may build the same network, or round its numbers, differently next time."""
    versions = ", ".join(f"{name} {runtime.versions.get(name)}" for name in ("cnnclf", "keras"))
    return f"{versions}, {runtime.backend} on {runtime.kind}"


def _choose_engine(work: Work[FinetunePlan]) -> str:
    known = work.run.read_record().get("feature_engine") if work.resume else None
    if known is not None:
        return str(known)
    precision = work.plan.config.runtime.precision
    engine = choose_engine(work.runtime, work.progress, precision=precision)
    wanted = work.plan.config.features.precision
    return _OPENVINO.get(wanted, engine) if engine in _OPENVINO.values() else engine


def _from_features(
    work: Work[FinetunePlan], features: list[Features], build_part: Callable[[], Any]
) -> PhaseData:
    labels = work.dataset.manifest.class_indices
    train = FeatureBatches(features[0], labels, shuffle=True, **work.train_settings)
    if len(features) == 1:
        return PhaseData(build_part, train, None, (features[0], None))
    val = FeatureBatches(features[1], labels, shuffle=False, **work.batch_settings)
    return PhaseData(build_part, train, val, (features[0], features[1]))


def _open_plain(work: Work[FinetunePlan], transfer: Transfer, stage: str) -> PhaseData:
    """Train on images, augmented in every epoch, with the frozen part in inference mode.

    Args:
        work: The run.
        transfer: The network.
        stage: The last frozen stage; empty: none is frozen.
    """
    batches, val = work.open_batches(plan_operations(work.plan.config, on_pixels=True))
    return PhaseData(lambda: transfer.trained_after(stage), batches, val)
