"""The checkpoints of `train --trace`: what `training/fitting/weight_path.py` kept."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cnnclf.errors import RunError
from cnnclf.explainers.network import Network
from cnnclf.inference.origins import find_origin
from cnnclf.runs.run_names import DESCENT_FILE


def find_checkpoints(network: Network) -> Path:
    """Return the file of the checkpoints that `train --trace` kept.

    Raises:
        RunError: There is none.
    """
    directory = network.classifier.directory
    run = find_origin(directory, directory).run
    if run is None or not run.descent.exists():
        raise RunError(
            f"{run.path if run else directory} has no checkpoints of its way: no {DESCENT_FILE}",
            "they are kept by: cnnclf train DATASET --trace",
        )
    return run.descent


def read_checkpoints(file: Path, model: Any) -> tuple[list[int], npt.NDArray[np.float64]]:
    """Return epochs, ascending, and the weights of a network after them, float [n, P].

    Raises:
        RunError: The file is damaged, or of another network.
    """
    try:
        with np.load(file) as arrays:
            epochs, weights = arrays["epochs"], arrays["weights"].astype(np.float64)
            names = [str(name).split("/")[-2:] for name in arrays["names"]]
    except (OSError, ValueError, LookupError) as error:
        raise RunError(f"{file} is damaged: {error}", "train again with --trace") from error
    variables = model.trainable_variables
    count = sum(int(np.prod(each.shape)) for each in variables)
    known = [each.path.split("/")[-2:] for each in variables]  # a network may have another name
    if names != known or weights.shape != (len(epochs), count):
        raise RunError(f"the weights in {file} are of another network", "train again with --trace")
    order = np.argsort(epochs)
    return epochs[order].tolist(), weights[order]
