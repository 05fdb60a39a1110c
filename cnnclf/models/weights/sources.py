"""From the text of `--weights` to where the weights come from.

Light: looks at names, first bytes and plans, loads no Keras. `models/weights/filling.py` reads
what is found.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cnnclf.errors import RunError
from cnnclf.files import find_whole_directory, read_json
from cnnclf.models.backbones import Backbone, find_backbone
from cnnclf.models.weights.downloads import fetch_published
from cnnclf.models.weights.published import find_published_path
from cnnclf.models.weights.stored_layers import HDF5_START, ZIP_START
from cnnclf.progress import Progress
from cnnclf.runs import CLASSIFIER_FILE, MODEL_FILE, PLAN_FILE, RECORD_FILE, open_run

IMAGENET, NONE = "imagenet", "none"

_CHOICES = "imagenet, none, a file of weights or a run"
_BYTES_PER_WEIGHT = 4


@dataclass(frozen=True)
class WeightSource:
    """Where the weights of a backbone come from.

    Args:
        kind: What was asked for.
        backbone: The row that is filled.
        path: The file that is read; a download need not be there yet. None for `none`.
        name: File name, or the run as it was given; empty for `none`.
    """

    kind: Literal["imagenet", "file", "run", "none"]
    backbone: Backbone
    path: Path | None = None
    name: str = ""

    @property
    def setting(self) -> str:
        """What to write into a plan, so that it means the same from every directory."""
        if self.kind in {IMAGENET, NONE}:
            return self.kind
        return str(Path(self.name if self.kind == "run" else self.path or "").absolute())

    @property
    def is_here(self) -> bool:
        """Whether nothing has to be downloaded."""
        return self.path is None or self.path.is_file()

    @property
    def summary(self) -> str:
        """The source in a few words, for the plan that people see."""
        if self.kind == "none":
            return "random"
        if self.kind != "imagenet":
            return f"from {'the run ' if self.kind == 'run' else ''}{self.name}"
        if self.backbone.imagenet.package:
            return "ImageNet (installed)"
        size = f"{estimate_bytes(self.backbone) / 1e6:.0f} MB"
        return "ImageNet" if self.is_here else f"ImageNet (a download of about {size})"


def find_weights(backbone: Backbone, weights: str) -> WeightSource:
    """Find what a setting of weights means for a backbone.

    Args:
        backbone: The row that shall be filled.
        weights: `imagenet`, `none`, or the path of a `.h5`, `.weights.h5` or `.keras` file, of a
            run of `cnnclf finetune`, or of a checkpoint in it.

    Raises:
        RunError: There is nothing, a file of another kind, or a run of another backbone.
        MissingPackageError: The package that brings the weights is not installed.
    """
    if weights == NONE:
        return WeightSource("none", backbone)
    if weights == IMAGENET:
        path = find_published_path(backbone)
        return WeightSource("imagenet", backbone, path, path.name)
    if not weights:  # to pathlib it would be the working directory
        raise RunError(f"expected {_CHOICES}, received an empty text", "--weights imagenet")
    path = Path(weights)
    if path.is_file():
        _check_kind(path, backbone)
        return WeightSource("file", backbone, path, path.name)
    if _find_directory(path) is not None:
        return WeightSource("run", backbone, _find_model(path, backbone), weights)
    raise RunError(f"expected {_CHOICES}, found no file {weights}", "--weights imagenet")


def fetch_weights(source: WeightSource, *, progress: Progress) -> Path | None:
    """Bring the file of a source here and check it, as far as its hash is published.

    Returns:
        The file; None for random weights.

    Raises:
        RunError: It cannot be downloaded (the message says which file belongs where), or what is
            here is not what was published.
        DeviceError: The disk is full.
    """
    if source.kind == "imagenet" and not source.backbone.imagenet.package:
        return fetch_published(source.backbone, progress=progress)
    return source.path


def estimate_bytes(backbone: Backbone) -> int:
    """Estimate the size of a published file: float32, and little else."""
    return _BYTES_PER_WEIGHT * backbone.parameters


def _check_kind(path: Path, backbone: Backbone) -> None:
    """Refuse what is no file of weights before anything is loaded; content tells, not the name."""
    try:
        with path.open("rb") as stream:
            start = stream.read(len(HDF5_START))
    except OSError as error:
        raise RunError(
            f"expected a readable file of weights, received {error.strerror}: {path}"
        ) from error
    is_packaged_kind = backbone.imagenet.package and path.suffix == ".pth"
    if start != HDF5_START and not start.startswith(ZIP_START) and not is_packaged_kind:
        raise RunError(
            f"expected a .h5, .weights.h5 or .keras file of weights, received another kind: {path}",
            "save the weights with Keras: model.save_weights('NAME.weights.h5')",
        )


def _find_model(path: Path, backbone: Backbone) -> Path:
    """Find the model in a run, or in a checkpoint."""
    if (path / RECORD_FILE).exists() or (path / PLAN_FILE).exists():
        run = open_run(path)
        _check_plan(run.plan, backbone)
        return run.find_checkpoint("best") / MODEL_FILE
    checkpoint = _find_directory(path) or path
    if not (checkpoint / CLASSIFIER_FILE).is_file():
        raise RunError(
            f"expected {_CHOICES}, received a directory that is no run: {path}",
            "cnnclf runs list shows the runs there are",
        )
    return checkpoint / MODEL_FILE


def _find_directory(path: Path) -> Path | None:
    """Find a whole directory, also where the path ends in no name, as `.` and `/` do."""
    path = path.absolute()
    return find_whole_directory(path) if path.name else path


def _check_plan(path: Path, backbone: Backbone) -> None:
    """Refuse a run whose network holds no such backbone."""
    config = read_json(path, hint="name another run, or --weights imagenet").get("config")
    section = config.get("backbone") if isinstance(config, dict) else None
    name = section.get("name") if isinstance(section, dict) else None
    if not isinstance(name, str):
        raise RunError(
            f"expected a run of cnnclf finetune, received one without a backbone: {path.parent}",
            "name a run of cnnclf finetune, or --weights imagenet",
        )
    if find_backbone(name) != backbone:
        raise RunError(
            f"expected a run with the backbone {backbone.name}, received one with {name}:"
            f" {path.parent}",
            f"--backbone {name}, or --weights imagenet",
        )
