"""Plans `cnnclf train`: resolves every "auto" for a dataset."""

from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Any, Self

from cnnclf.augmentation.table import choose_operations
from cnnclf.config import AugmentConfig, TrainConfig, TrainingConfig, apply_preset
from cnnclf.data.manifest import Dataset
from cnnclf.errors import ConfigError
from cnnclf.images.decode import InputSpec
from cnnclf.models.anatomy import Anatomy
from cnnclf.models.cnn_anatomy import plan_cnn
from cnnclf.planning import choices
from cnnclf.planning.choices import check_weight_decay
from cnnclf.planning.network_settings import (
    is_preset,
    resolve_model,
    resolve_optimizer,
    scale_preset_rate,
)
from cnnclf.planning.pace import (
    START_S,
    Expectation,
    Pace,
    expect_epoch_s,
    expect_finish_s,
    expect_time,
    find_pace,
    keep_pace,
    plan_minutes,
)
from cnnclf.planning.plan import Plan, count_splits, is_gray, name_errors, name_origin, resolve_data
from cnnclf.planning.sounds import plan_sound, plan_sound_augmentation
from cnnclf.planning.value_range import plan_range
from cnnclf.planning.width import choose_width


@dataclass(frozen=True, kw_only=True)
class TrainPlan(Plan[TrainConfig]):
    """Everything `cnnclf train` will do.

    Args:
        anatomy: The network on paper.
        trained: Epochs that the run which is extended has; not in plan.json.
    """

    kind = TrainConfig

    anatomy: Anatomy
    trained: int = 0

    @property
    def parameters(self) -> int:
        """Weights of the network."""
        return self.anatomy.parameters

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one image."""
        return self.anatomy.macs

    @property
    def _step(self) -> dict[str, Any]:
        config = self.config
        batch_size = int(config.training.batch_size)
        return {"batch_size": batch_size, "optimizer": config.optimizer.name}

    @property
    def pace(self) -> Pace:
        """How fast this processor trains the network: as measured, or an estimate."""
        return find_pace(self.anatomy, **self._step)

    def keep_pace(self, rates: Mapping[str, float]) -> None:
        """Keep what was measured, as images per second by precision."""
        keep_pace(rates, self.anatomy, **self._step)

    def expect(self, precision: str = "") -> Expectation:
        """Return how long the run will take on this processor."""
        return expect_time(
            self.pace,
            counts=self.counts,
            epochs=int(self.config.training.epochs) - self.trained,
            precision=precision or self.config.runtime.precision,
        )

    @property
    def leaves_flips_open(self) -> bool:
        """Whether nobody said if images may be flipped, and none are."""
        is_sound = self.input_spec.sound is not None
        return not (is_sound or "augment.flip" in self.given or self.operations.get("flip"))

    @property
    def planned_epochs(self) -> int:
        """Epochs that are trained, or expected to fit into the minutes."""
        return int(self.config.training.epochs)

    def to_dict(self) -> dict[str, Any]:
        """Return the content of `plan.json`."""
        return super().to_dict() | {
            "parameters": self.parameters,
            "macs": self.macs,
            "layers": self.anatomy.to_dicts(),
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Self:
        """Read back what `to_dict` gave.

        Raises:
            RunError: The plan is of another command.
        """
        fields = cls.read_fields(content)
        return cls(**fields, anatomy=Anatomy.from_dicts(content["layers"]))


def check_settings(config: TrainConfig, *, given: Container[str] = ()) -> None:
    """Refuse settings that no dataset can fix, before one is imported.

    Args:
        config: Settings as the user gave them.
        given: Keys of the settings that were given.

    Raises:
        ConfigError: A weight decay was given for an optimizer that does not support it.
    """
    optimizer = config.optimizer
    decays = {"optimizer.weight_decay": optimizer.weight_decay}
    check_weight_decay(optimizer.name, decays, given=given)


def plan_training(
    config: TrainConfig, dataset: Dataset, *, given: Mapping[str, str] | None = None
) -> TrainPlan:
    """Resolve every "auto" for this dataset.

    Args:
        config: Settings as the user gave them.
        dataset: What to train on; its manifest is read, and some images if they have 16 bits.
        given: Where each given setting came from.

    Returns:
        The plan.

    Raises:
        ConfigError: Settings contradict each other or do not fit the images.
    """
    asked, given = config, dict(given or {})
    check_settings(config, given=given)
    reasons: dict[str, str] = {}
    counts = count_splits(dataset)
    spec = _plan_input(config, dataset, reasons)
    if config.model.preset == "auto":
        preset, reasons["model.preset"] = choices.choose_preset(
            counts["train"], (spec.height, spec.width), is_open=not _shapes_network(given)
        )
        config, given = apply_preset(config, preset, given=given)
    model, why = resolve_model(config.model, (spec.height, spec.width), given=given)
    reasons |= why
    training = _plan_training(config, counts, reasons, given)
    batch_size = int(training.batch_size)
    optimizer, why = scale_preset_rate(config, batch_size, given=given)
    reasons |= why
    optimizer, why = resolve_optimizer(
        optimizer, given=given, batch_norm=model.batch_norm, batch_size=batch_size
    )
    reasons |= why
    anatomy = plan_cnn(model, spec.shape, num_classes=len(dataset.labels))
    if training.minutes is not None:
        if config.model.preset == "fast" and is_preset(given, "model.filters"):
            model, anatomy, why_wide = choose_width(
                model,
                anatomy,
                shape=spec.shape,
                counts=counts,
                minutes=training.minutes,
                precision=config.runtime.precision,
                batch_size=batch_size,
                optimizer=optimizer.name,
            )
            reasons |= {"model.filters": why_wide} if why_wide else {}
        pace = find_pace(anatomy, batch_size=batch_size, optimizer=optimizer.name)
        training = _plan_minutes(training, pace.rate(config.runtime.precision), counts, given)
        if not training.patience:
            reasons["training.patience"] = "training ends when its minutes are spent"
        reasons["training.epochs"] = f"what {training.minutes:g} minutes are expected to allow"
    augment = plan_sound_augmentation(config.augment, dataset, given=given, reasons=reasons)
    operations = _plan_augmentation(augment, spec, given, reasons)
    data = resolve_data(config.data, spec, color="gray" if spec.channels == 1 else "rgb")
    resolved = config.model_copy(
        update={
            "data": data,
            "model": model,
            "training": training,
            "optimizer": optimizer,
            "augment": augment,
        }
    )
    return TrainPlan(
        asked=asked,
        config=resolved,
        reasons=reasons,
        given=given,
        input_spec=spec,
        labels=dataset.labels,
        counts=counts,
        anatomy=anatomy,
        operations=operations,
        dataset=name_origin(dataset),
        remarks=(*name_errors(dataset), *_remark(counts["val"])),
    )


def _shapes_network(given: Mapping[str, str]) -> bool:
    """Check whether anything of the network or the optimizer was given but the preset."""
    return any(key.startswith(("model.", "optimizer.")) for key in given if key != "model.preset")


def _remark(val_count: int) -> tuple[str, ...]:
    if not val_count:
        return ("no val split: the last epoch counts as the best",)
    averaged = choices.choose_averaging(val_count)
    if averaged == 1:
        return ()
    few = f"only {val_count} val images"
    return (f"{few}: best epoch by val accuracy, mean of {averaged} epochs",)


def _plan_input(config: TrainConfig, dataset: Dataset, reasons: dict[str, str]) -> InputSpec:
    manifest = dataset.manifest
    rows = manifest.training_rows()
    heights, widths = manifest.heights[rows], manifest.widths[rows]
    size, color, fit = config.data.image_size, config.data.color, config.data.fit
    sound = plan_sound(config.data.seconds, dataset, reasons=reasons)
    if size == "auto" and sound is not None:
        size = (sound.bands, sound.frames)
        reasons["data.image_size"] = (
            f"{sound.bands} mel bands of {sound.seconds:g} s, a column every "
            f"{1000 * sound.hop / sound.sample_rate:g} ms"
        )
    elif size == "auto":
        size, reasons["data.image_size"] = choices.choose_size(heights, widths)
    if color == "auto":
        all_gray = is_gray(dataset)
        color = "gray" if all_gray else "rgb"
        reasons["data.color"] = (
            "sounds have no colors"
            if sound is not None
            else "all training images are gray"
            if all_gray
            else "some training images have colors"
        )
    how: str = fit
    if fit == "auto" and sound is not None:
        how, reasons["data.fit"] = "squash", "all spectrograms have one size"
    elif fit == "auto":
        how, reasons["data.fit"] = choices.choose_fit(heights, widths, size=size)
    value_range = plan_range(config.data.range, dataset, reasons=reasons)
    return InputSpec(
        size[0],
        size[1],
        channels=1 if color == "gray" else 3,
        fit=how,
        value_range=value_range,
        kind=dataset.kind,
        sound=sound,
        bands=dataset.bands,
    )


def _plan_minutes(
    training: TrainingConfig, rate: float, counts: Mapping[str, int], given: Mapping[str, str]
) -> TrainingConfig:
    """Expect so many epochs as fit into the minutes; without patience, which would end it early."""
    if "training.epochs" in given and not is_preset(given, "training.epochs"):
        raise ConfigError(
            "training.minutes and training.epochs exclude each other", "give --minutes or --epochs"
        )
    epochs = plan_minutes(
        training.minutes or 0.0,
        START_S + expect_finish_s(rate, counts),
        batch_s=int(training.batch_size) / rate,
        epoch_s=expect_epoch_s(rate, counts=counts),
    )
    patience = training.patience if "training.patience" in given else 0
    return training.model_copy(update={"epochs": epochs, "patience": patience})


def _plan_training(
    config: TrainConfig,
    counts: Mapping[str, int],
    reasons: dict[str, str],
    given: Mapping[str, str],
) -> TrainingConfig:
    training, count = config.training, counts["train"]
    batch_size, epochs, patience = training.batch_size, training.epochs, training.patience
    if batch_size == "auto":
        batch_size, reasons["training.batch_size"] = choices.choose_batch_size(count)
    elif is_preset(given, "training.batch_size"):
        batch_size, reasons["training.batch_size"] = choices.fit_batch_size(batch_size, count)
    if epochs == "auto":
        epochs, reasons["training.epochs"] = choices.choose_epochs(count, batch_size)
    elif is_preset(given, "training.epochs"):
        epochs, reasons["training.epochs"] = choices.fit_epochs(
            epochs, count, batch_size=batch_size
        )
    if patience == "auto":
        patience, reasons["training.patience"] = choices.choose_patience(
            count, epochs, has_val=counts["val"] > 0
        )
    return training.model_copy(
        update={"batch_size": batch_size, "epochs": epochs, "patience": patience}
    )


def _plan_augmentation(
    augment: AugmentConfig, spec: InputSpec, given: Mapping[str, str], reasons: dict[str, str]
) -> dict[str, float]:
    operations = choose_operations(
        augment.preset, augment.model_dump(exclude={"preset", "alternate_flips"})
    )
    if operations.get("hue") and spec.channels == 1:
        if "augment.hue" in given:
            raise ConfigError(
                "augment.hue needs color images, and these are gray", "use --color rgb, or no --hue"
            )
        del operations["hue"]
    if "augment.preset" not in given and "augment.preset" not in reasons:
        reasons["augment.preset"] = "no flips or rotations by default: they might change the class"
    return operations
