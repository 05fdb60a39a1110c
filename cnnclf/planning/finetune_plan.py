"""Plans `cnnclf finetune`: resolves every "auto" for a dataset and finds the weights.

Needs no TensorFlow: `--dry-run` shows the plan at once. With a head search, the learning rate and
weight decay of the head stay "auto"; run.json has the result of the search.
"""

from collections.abc import Container, Mapping
from dataclasses import dataclass

from cnnclf.augmentation.table import AUGMENTATIONS, choose_operations
from cnnclf.config import (
    AugmentConfig,
    FinetuneConfig,
    FinetuneTrainingConfig,
    HeadConfig,
    TailConfig,
)
from cnnclf.data.manifest import Dataset
from cnnclf.errors import ConfigError, DataError
from cnnclf.images.decode import InputSpec
from cnnclf.models.backbones import Backbone, check_size, find_backbone
from cnnclf.models.transfer import choose_frozen_stage
from cnnclf.models.weights.sources import WeightSource, check_weights, find_weights
from cnnclf.names import count_of
from cnnclf.planning import choices
from cnnclf.planning.choices import check_weight_decay
from cnnclf.planning.finetune_pace import FinetuneWork
from cnnclf.planning.pace import Expectation, Pace, plan_minutes
from cnnclf.planning.plan import Plan, count_splits, is_gray, name_errors, name_origin, resolve_data
from cnnclf.planning.sounds import plan_sound, plan_sound_augmentation
from cnnclf.planning.value_range import plan_range

_PHASES = ("head", "tail")
_VIEW_CROP = 0.3
_IMAGES_PER_CLASS = 2  # one to learn from, one to check with


@dataclass(frozen=True, kw_only=True)
class FinetunePlan(Plan[FinetuneConfig]):
    """Everything `cnnclf finetune` will do, except for the results of a head search."""

    kind = FinetuneConfig

    @property
    def backbone(self) -> Backbone:
        """The row of the backbone."""
        return find_backbone(self.config.backbone.name)

    @property
    def weights(self) -> WeightSource:
        """Where the weights of the backbone come from."""
        return find_weights(self.backbone, self.config.backbone.weights)

    @property
    def work(self) -> FinetuneWork:
        """What the run computes."""
        is_light = choices.has_light_stages(self.backbone.stage_names)
        return FinetuneWork(self.backbone, self.config, self.counts, self.frozen_stage, is_light)

    @property
    def pace(self) -> Pace:
        """How fast this processor trains the tail: as measured, or an estimate."""
        return self.work.find_pace()

    def keep_pace(self, rates: Mapping[str, float]) -> None:
        """Keep what was measured, as images per second by precision."""
        self.work.keep_pace(rates)

    def expect(self, precision: str = "") -> Expectation:
        """Return how long the run will take on this processor."""
        return self.work.expect(self.pace, precision or self.config.runtime.precision)

    @property
    def planned_epochs(self) -> int:
        """Epochs of the tail, or how many are expected to fit into the minutes."""
        return 0 if self.frozen_stage is None else int(self.config.tail.epochs)

    @property
    def frozen_stage(self) -> str | None:
        """The last frozen stage in the second phase; empty: none is; None: no second phase."""
        return choose_frozen_stage(self.backbone, self.config.tail.unfreeze)


def check_settings(config: FinetuneConfig, *, given: Container[str] = ()) -> None:
    """Refuse settings that no dataset can fix, before hours go into importing one.

    Args:
        config: Settings as the user gave them.
        given: Keys of the settings that were given.

    Raises:
        ConfigError: There is no such backbone or stage, images are too small for it, or
            settings contradict each other.
        RunError: A file of weights is missing, damaged, too small or of another kind.
        MissingPackageError: The package with the weights is not installed.
    """
    _check_together(config, given)
    row, size = find_backbone(config.backbone.name), config.data.image_size
    if size != "auto":
        check_size(row, height=size[0], width=size[1])
    if config.tail.unfreeze != "auto":
        choose_frozen_stage(row, config.tail.unfreeze)
    check_weights(find_weights(row, config.backbone.weights))


def plan_finetuning(
    config: FinetuneConfig, dataset: Dataset, *, given: Mapping[str, str] | None = None
) -> FinetunePlan:
    """Resolve every "auto" for this dataset and find the weights.

    Args:
        config: Settings as the user gave them.
        dataset: What to train on; only its manifest is read.
        given: Where each given setting came from.

    Raises:
        DataError: There are fewer images, in all splits together, than twice the classes.
        ConfigError: Settings contradict each other or do not fit the backbone.
        RunError: The file of weights is missing.
        MissingPackageError: The package with the weights is not installed.
    """
    _check_together(config, given or {})
    row = find_backbone(config.backbone.name)
    weights = find_weights(row, config.backbone.weights).setting
    _check_count(dataset)
    reasons: dict[str, str] = {}
    counts = count_splits(dataset)
    spec = _plan_input(config, row, dataset=dataset, reasons=reasons)
    training = _plan_training(config.training, counts, reasons)
    tail = _plan_tail(
        config.tail,
        row,
        counts=counts,
        classes=len(dataset.labels),
        batch_size=int(training.batch_size),
        kind=dataset.kind,
        reasons=reasons,
    )
    frozen = choose_frozen_stage(row, tail.unfreeze)  # refuses unknown stages
    backbone = config.backbone.model_copy(update={"name": row.name, "weights": weights})
    resolved = config.model_copy(
        update={
            "backbone": backbone,
            "data": resolve_data(config.data, spec),
            "tail": tail,
            "head": _plan_head(config, counts, reasons),
            "training": training,
            "augment": _plan_augmentation(config, dataset, given or {}, reasons),
        }
    )
    if config.training.minutes is not None:
        is_light = choices.has_light_stages(row.stage_names)
        work = FinetuneWork(row, resolved, counts, frozen, is_light)
        resolved = _plan_minutes(work, given or {}, reasons)
    on_pixels = not config.features.cache or frozen == ""
    return FinetunePlan(
        # settings are read again in any directory: a file of weights has its whole path
        asked=config.model_copy(update={"backbone": backbone}),
        config=resolved,
        reasons=reasons,
        given=dict(given or {}),
        input_spec=spec,
        labels=dataset.labels,
        counts=counts,
        operations=plan_operations(resolved, on_pixels=on_pixels),
        dataset=name_origin(dataset),
        remarks=(*name_errors(dataset), *_remark(dataset, counts, row)),
    )


def plan_operations(config: FinetuneConfig, *, on_pixels: bool) -> dict[str, float]:
    """Choose the operations that are applied.

    Args:
        config: Settings of a plan.
        on_pixels: Whether a phase trains on images, which are augmented in every epoch;
            else only cached views are augmented, and the first view of an image is itself.
    """
    single = config.augment.model_dump(exclude={"preset"})
    operations = choose_operations(config.augment.preset, single)
    if on_pixels:
        return operations
    if config.features.views == 1:
        return {}
    return {
        name: strength
        for name, strength in operations.items()
        if AUGMENTATIONS[name].stage != "mix"  # views are made one by one
    }


def settle_head(head: HeadConfig, optimizer: str) -> tuple[HeadConfig, dict[str, str]]:
    """Choose the usual rates for a head without a search, with the reasons."""
    update, reasons = {}, {}
    if head.learning_rate == "auto":
        update["learning_rate"], reasons["head.learning_rate"] = choices.choose_head_rate()
    if head.weight_decay == "auto":
        update["weight_decay"], reasons["head.weight_decay"] = choices.choose_head_decay(optimizer)
    return head.model_copy(update=update), reasons


def _check_together(config: FinetuneConfig, given: Container[str]) -> None:
    """Refuse settings that contradict each other."""
    decays = {f"{name}.weight_decay": getattr(config, name).weight_decay for name in _PHASES}
    check_weight_decay(config.optimizer.name, decays, given=given)
    mixing = [row.name for row in AUGMENTATIONS.values() if row.stage == "mix"]
    wanted = [name for name in mixing if getattr(config.augment, name)]
    if wanted and config.features.cache and config.features.views > 1:
        raise ConfigError(
            f"{' and '.join(wanted)} cannot be used with several cached views: these are made "
            "one by one",
            "add --no-feature-cache",
        )


def _check_count(dataset: Dataset) -> None:
    least = _IMAGES_PER_CLASS * len(dataset.labels)
    if len(dataset) < least:
        raise DataError(
            f"{dataset.place} has {len(dataset)} images for {len(dataset.labels)} classes; "
            f"fine-tuning needs at least {least}, {_IMAGES_PER_CLASS} per class on average",
            "import more images, or fewer classes",
        )


def _plan_input(
    config: FinetuneConfig, row: Backbone, *, dataset: Dataset, reasons: dict[str, str]
) -> InputSpec:
    size, fit = config.data.image_size, config.data.fit
    if size == "auto":
        size = (row.default_size, row.default_size)
        reasons["data.image_size"] = f"{row.name} was trained on {size[0]}x{size[1]}"
    check_size(row, height=size[0], width=size[1])
    how: str = fit
    sound = plan_sound(config.data.seconds, dataset, reasons=reasons)
    if fit == "auto" and sound is not None:
        how, reasons["data.fit"] = "squash", "the network sees the whole spectrogram"
    elif fit == "auto":
        how, reasons["data.fit"] = "crop", "keeps the proportions the backbone was trained on"
    value_range = plan_range(config.data.range, dataset, reasons=reasons)
    return InputSpec(
        size[0],
        size[1],
        channels=3,
        fit=how,
        interpolation="bicubic",
        value_range=value_range,
        kind=dataset.kind,
        sound=sound,
        bands=dataset.bands,
    )


def _plan_training(
    training: FinetuneTrainingConfig, counts: Mapping[str, int], reasons: dict[str, str]
) -> FinetuneTrainingConfig:
    batch_size, patience = training.batch_size, training.patience
    if batch_size == "auto":
        batch_size, reasons["training.batch_size"] = choices.choose_batch_size(counts["train"])
    if patience == "auto":
        patience, reasons["training.patience"] = choices.choose_phase_patience(
            has_val=counts["val"] > 0
        )
    return training.model_copy(update={"batch_size": batch_size, "patience": patience})


def _plan_minutes(
    work: FinetuneWork, given: Mapping[str, str], reasons: dict[str, str]
) -> FinetuneConfig:
    """Expect so many epochs of the tail as fit into the minutes; without patience."""
    if "tail.epochs" in given and work.frozen is not None:
        raise ConfigError(
            "training.minutes and tail.epochs exclude each other",
            "give --minutes or --tail-epochs",
        )
    config, pace = work.config, work.find_pace()
    minutes, rate = config.training.minutes or 0.0, pace.rate(config.runtime.precision)
    expected = work.expect(pace, config.runtime.precision)
    tail_s = expected.parts.get("the second phase", 0.0)
    batch_s = 0.0 if work.frozen is None else int(config.training.batch_size) / rate
    epochs = plan_minutes(
        minutes, expected.seconds - tail_s, batch_s=batch_s, epoch_s=work.expect_epoch_s(rate)
    )
    if not epochs:
        return config
    reasons["tail.epochs"] = f"what {minutes:g} minutes are expected to allow"
    update: dict[str, object] = {"tail": config.tail.model_copy(update={"epochs": epochs})}
    if "training.patience" not in given:
        reasons["training.patience"] = "training ends when its minutes are spent"
        update["training"] = config.training.model_copy(update={"patience": 0})
    return config.model_copy(update=update)


def _plan_tail(
    tail: TailConfig,
    row: Backbone,
    *,
    counts: Mapping[str, int],
    classes: int,
    batch_size: int,
    kind: str,
    reasons: dict[str, str],
) -> TailConfig:
    if tail.unfreeze == "auto":
        unfreeze, why = choices.choose_unfrozen(
            row.stage_names, count=counts["train"], classes=classes
        )
        tail, reasons["tail.unfreeze"] = tail.model_copy(update={"unfreeze": unfreeze}), why
    if tail.epochs == "auto":
        epochs, why = choices.choose_tail_epochs(
            row.stage_names, counts=counts, batch_size=batch_size, kind=kind
        )
        tail = tail.model_copy(update={"epochs": epochs})
        if tail.unfreeze != "none":
            reasons["tail.epochs"] = why
    if tail.learning_rate == "auto":
        rate, why = choices.choose_tail_rate(row.stage_names)
        tail = tail.model_copy(update={"learning_rate": rate})
        if tail.unfreeze != "none":
            reasons["tail.learning_rate"] = why
    if tail.layer_decay == "auto":
        decay, why = choices.choose_layer_decay(row.stage_names)
        tail = tail.model_copy(update={"layer_decay": decay})
        if tail.unfreeze != "none":
            reasons["tail.layer_decay"] = why
    return tail


def _plan_head(
    config: FinetuneConfig, counts: Mapping[str, int], reasons: dict[str, str]
) -> HeadConfig:
    head, why = config.head, ""
    if not config.features.cache:
        why = "it needs cached features"
    elif not counts["val"]:
        why = "it needs a val split"
    elif config.optimizer.name != "adamw":
        why = f"it supports adamw only, not {config.optimizer.name}"
    elif "auto" not in (head.learning_rate, head.weight_decay):
        why = "both rates are given"
    if head.search and why:
        reasons["head.search"] = why
        head = head.model_copy(update={"search": False})
    if head.search:
        return head
    head, chosen = settle_head(head, config.optimizer.name)
    reasons |= chosen
    return head


def _plan_augmentation(
    config: FinetuneConfig,
    dataset: Dataset,
    given: Mapping[str, str],
    reasons: dict[str, str],
) -> AugmentConfig:
    """Choose a crop for cached views by default: it does not change the class of an image."""
    features = config.features
    augment = plan_sound_augmentation(config.augment, dataset, given=given, reasons=reasons)
    if dataset.kind == "sound":
        return augment
    is_open = "augment.preset" not in given and augment.crop is None
    if features.cache and features.views > 1 and is_open:
        reasons["augment.crop"] = "without it, the views would be almost identical"
        return augment.model_copy(update={"crop": _VIEW_CROP})
    return augment


def _remark(dataset: Dataset, counts: Mapping[str, int], row: Backbone) -> tuple[str, ...]:
    remarks = []
    if is_gray(dataset):
        remarks.append(
            f"all training images are gray: their values are repeated for the three channels of "
            f"{row.name}"
        )
    if not counts["val"]:
        remarks.append("no val split: the last epoch counts as the best")
    elif counts["val"] < choices.MIN_VAL_IMAGES:
        remarks.append(
            f"val has only {count_of(counts['val'], 'image')}: each is {100 / counts['val']:.1f} "
            "% of "
            "its accuracy, so the choice of epoch, phase and learning rate is partly chance"
        )
    return tuple(remarks)
