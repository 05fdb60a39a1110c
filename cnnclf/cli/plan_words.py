"""A plan in words: what will happen, what was given, and why."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cnnclf.config import format_setting, list_fields, typed_option
from cnnclf.files import format_bytes
from cnnclf.names import count_of, name_some

if TYPE_CHECKING:
    from cnnclf.planning.finetune_plan import FinetunePlan
    from cnnclf.planning.train_plan import TrainPlan

_MAX_SUMMARY = 8  # lines
_CHOICES = 3  # of the lines of a plan that say what is trained and how
_PROGRAM_BYTES = 1_300_000_000  # of a process that trains on a CPU; see docs/how-to/finetune.md
_MAX_CHANGED = 6  # settings in the line of what was given


def describe_time(plan: "TrainPlan | FinetunePlan") -> str:
    """Say how long a run will take on this processor, and what that rests on; empty on a GPU."""
    epochs = plan.planned_epochs
    return (
        plan.expect().describe(plan.config.training.minutes, epochs=epochs) if _is_cpu(plan) else ""
    )


def describe_memory(plan: "TrainPlan | FinetunePlan", counted: int, *, where: str = "") -> str:
    """Say how much memory training needs, and what of it is counted.

    Args:
        plan: The plan.
        counted: Bytes of weights, optimizer and outputs.
        where: The layers whose outputs are counted, as words that follow "images".
    """
    training, optimizer = plan.config.training, plan.config.optimizer.name
    outputs = f"the outputs of {count_of(int(training.batch_size), 'image')}{where}"
    words = f"{format_bytes(counted)} for the weights, {optimizer} and {outputs}"
    if plan.config.runtime.device.startswith("gpu"):
        return f"{words}; TensorFlow itself is not counted"
    return f"about {format_bytes(_PROGRAM_BYTES + counted)}: {words}, the rest for the program"


def expect_time(plan: "TrainPlan | FinetunePlan") -> dict[str, Any] | None:
    """Return the same as JSON values."""
    return plan.expect().to_dict() if _is_cpu(plan) else None


def _is_cpu(plan: "TrainPlan | FinetunePlan") -> bool:
    from cnnclf.planning.pace import is_estimable

    return not plan.config.runtime.device.startswith("gpu") and is_estimable()


def summarize(
    plan: "TrainPlan | FinetunePlan", described: Mapping[str, str]
) -> list[tuple[str, str]]:
    """Say in at most eight lines what will happen, and what differs from the defaults."""
    lines = _describe_data(plan) + list(described.items())[:_CHOICES]
    lines += [("time", described["time"])] if "time" in described else []
    defaults = {key: field.default for key, field in list_fields(type(plan.config)).items()}
    changed = [
        typed_option(key, value)
        for key, value in plan.given_values().items()
        if value != defaults[key]
    ]
    if changed:
        lines.append(("given", name_some(changed, limit=_MAX_CHANGED)))
    notes = _MAX_SUMMARY - len(lines)
    return lines + [("note", remark) for remark in plan.remarks[:notes]]


def describe_plan(
    plan: "TrainPlan | FinetunePlan", described: Mapping[str, str]
) -> list[tuple[str, str]]:
    """List what will happen, what was given, and the reason for every value that was "auto"."""
    lines = _describe_data(plan) + list(described.items())
    lines += [("note", remark) for remark in plan.remarks]
    for number, (key, value) in enumerate(plan.given_values().items()):
        lines.append(("" if number else "given", f"{key} = {format_setting(key, value)}"))
    config = plan.config.model_dump(mode="json")
    for number, (key, reason) in enumerate(plan.reasons.items()):
        section, _, name = key.partition(".")
        value = format_setting(key, config[section][name])
        lines.append(("" if number else "auto", f"{key} = {value}: {reason}"))
    return lines


def _describe_data(plan: "TrainPlan | FinetunePlan") -> list[tuple[str, str]]:
    counts = ", ".join(f"{count:,} {split}" for split, count in plan.counts.items() if count)
    spec = plan.input_spec
    colors = "gray" if spec.channels == 1 else "RGB"
    return [
        ("dataset", f"{plan.dataset['name']}: {count_of(len(plan.labels), 'class')}, {counts}"),
        ("images", f"{spec.height}x{spec.width} {colors}, {spec.fit}"),
    ]
