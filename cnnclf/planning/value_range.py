"""The values that become black and white in images of more than 8 bits."""

from dataclasses import replace

from cnnclf.data.bit_depth import ValueRange, find_bits, to_range
from cnnclf.data.manifest import Dataset
from cnnclf.images.input_spec import InputSpec
from cnnclf.runs.run_directory import RunDirectory, section


def plan_range(
    setting: str | ValueRange, dataset: Dataset, *, reasons: dict[str, str]
) -> ValueRange | None:
    """Resolve the setting `data.range`.

    "auto" takes the smallest range from 0 of 8 to 16 bits that holds 99.99 % of the pixels of the
    training images of 16 bits, of which at most 256 are read, spread evenly. A camera of 12 bits is
    then not reduced to the few gray levels that 12 of 16 bits are in 8.

    Args:
        setting: As the user gave it.
        dataset: What to train on.
        reasons: Receives the reason, if there is something to choose.

    Returns:
        The range for the input spec; None for that of the type.
    """
    if not isinstance(setting, str):
        return setting
    found = find_bits(dataset) if setting == "auto" else None
    if found is None:
        return None
    bits, images, high = found
    reasons["data.range"] = (
        f"99.99 % of the pixels of {images:,} training images of 16 bits are at most {high:,}, "
        f"which needs {bits} bits"
    )
    return to_range(bits)


def show_as_trained(dataset: Dataset, run: RunDirectory) -> Dataset:
    """Return the dataset with the values that a run makes black and white, if it has a plan.

    Raises:
        RunError, ConfigError: The plan is damaged.
    """
    spec = section(run.read_plan(), "input_spec")
    if not spec:
        return dataset
    return replace(dataset, shown_range=InputSpec.from_dict(spec).value_range)
