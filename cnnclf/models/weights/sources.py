"""Resolves the value of `--weights` to a weights file.

Light: looks at names, first bytes and plans, loads no Keras. `models/weights/filling.py` reads
the file.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cnnclf.bounded import check_regular
from cnnclf.errors import RunError
from cnnclf.files import find_whole_directory, read_json
from cnnclf.models.backbones import BACKBONES, Backbone, find_backbone
from cnnclf.models.weights.downloads import fetch_published
from cnnclf.models.weights.published import find_fault, find_published_path
from cnnclf.models.weights.stored_layers import HDF5_START, ZIP_START, open_stored, reading
from cnnclf.progress import Progress
from cnnclf.runs.run_names import CLASSIFIER_FILE, MODEL_FILE, PLAN_FILE, RECORD_FILE
from cnnclf.runs.run_opening import open_run

IMAGENET, NONE = "imagenet", "none"

_CHOICES = "imagenet, none, a weights file or a run"
_BYTES_PER_WEIGHT = 4
_MIN_FRACTION = 0.99  # the table may count the statistics of a normalization that files lack


@dataclass(frozen=True)
class WeightSource:
    """Where the weights of a backbone come from.

    Args:
        kind: What was requested.
        backbone: The row that is filled.
        path: The file to read; a download need not exist yet. None for `none`.
        name: File name, or the run as given; empty for `none`.
    """

    kind: Literal["imagenet", "file", "run", "none"]
    backbone: Backbone
    path: Path | None = None
    name: str = ""

    @property
    def setting(self) -> str:
        """What to write into a plan, so that it has the same meaning in every directory."""
        if self.kind in {IMAGENET, NONE}:
            return self.kind
        return str(Path(self.name if self.kind == "run" else self.path or "").absolute())

    @property
    def is_here(self) -> bool:
        """Whether nothing has to be downloaded."""
        return self.path is None or self.path.is_file()

    @property
    def summary(self) -> str:
        """The source in a few words, for the printed plan."""
        if self.kind == "none":
            return "random"
        if self.kind != "imagenet":
            return f"from {'the run ' if self.kind == 'run' else ''}{self.name}"
        if self.backbone.imagenet.package:
            return "ImageNet (installed)"
        size = f"{estimate_bytes(self.backbone) / 1e6:.0f} MB"
        return "ImageNet" if self.is_here else f"ImageNet (download of about {size})"


def find_weights(backbone: Backbone, weights: str) -> WeightSource:
    """Find the weights that a setting names for a backbone.

    Args:
        backbone: The row to fill.
        weights: `imagenet`, `none`, or the path of a `.h5`, `.weights.h5` or `.keras` file, of a
            run of `cnnclf finetune`, or of one of its checkpoints.

    Raises:
        RunError: Nothing is there, or a file of another kind, or a run of another backbone.
        MissingPackageError: The package that ships the weights is not installed.
    """
    if weights == NONE:
        return WeightSource("none", backbone)
    if weights == IMAGENET:
        path = find_published_path(backbone)
        return WeightSource("imagenet", backbone, path, path.name)
    if not weights:  # to pathlib it would be the working directory
        raise RunError(f"expected {_CHOICES}, received an empty value", "--weights imagenet")
    path = Path(weights)
    if path.is_file():
        _check_kind(path, backbone)
        return WeightSource("file", backbone, path, path.name)
    if _find_directory(path) is not None:
        return WeightSource("run", backbone, _find_model(path, backbone), weights)
    raise RunError(f"no weights file or run: {weights}", f"--weights takes {_CHOICES}")


def check_weights(source: WeightSource) -> None:
    """Refuse a file that cannot fill the backbone, as far as that is seen without building it.

    Raises:
        RunError: The file is damaged, not the published one, or has too few weights.
    """
    row = source.backbone
    if source.path is None or source.kind == IMAGENET:  # a published hash tells, once it is here
        return
    if row.imagenet.package and source.path.suffix == Path(row.imagenet.name).suffix:
        if fault := find_fault(source.path, row.imagenet):
            raise RunError(
                f"not the published weights of {row.name}: {fault}: {source.path}",
                f"use the file of the package {row.imagenet.package}: --weights imagenet",
            )
        return
    with open_stored(source.path) as stored, reading(source.path):
        count = stored.count()
    if count < _MIN_FRACTION * row.parameters:
        raise RunError(
            f"weights in {source.path} do not fit {row.name}: the file has {count:,} weights, "
            f"the backbone {row.parameters:,}",
            suggest_backbone(source.path, row),
        )


def suggest_backbone(path: Path, backbone: Backbone) -> str:
    """Return a hint for a file that does not fit a backbone: which one it is for, if known."""
    names = (row.name for row in BACKBONES if _bare(row.imagenet.name) == _bare(path.name))
    known = next(names, backbone.name)
    if known == backbone.name:
        return "use the --backbone that the file was saved from"
    return f"the file is for --backbone {known}"


def fetch_weights(source: WeightSource, *, progress: Progress) -> Path | None:
    """Download the file of a source if need be, and verify it if a checksum is published.

    Returns:
        The file; None for random weights.

    Raises:
        RunError: It cannot be downloaded (the message says which file belongs where), or the file
            on this machine is not the published one.
        DeviceError: The disk is full.
    """
    if source.kind == "imagenet" and not source.backbone.imagenet.package:
        return fetch_published(source.backbone, progress=progress)
    return source.path


def estimate_bytes(backbone: Backbone) -> int:
    """Estimate the size of a published file, which is float32 and little else."""
    return _BYTES_PER_WEIGHT * backbone.parameters


def _bare(name: str) -> str:
    """Remove from the name of a published file what says whether it includes the top."""
    return re.sub(r"[_-]no_?top(_v2)?", "", name)


def _check_kind(path: Path, backbone: Backbone) -> None:
    """Refuse other kinds of file before anything is loaded, by content and not by name."""
    try:
        check_regular(path)
        with path.open("rb") as stream:
            start = stream.read(len(HDF5_START))
    except OSError as error:
        raise RunError(f"cannot read weights file ({error.strerror}): {path}") from error
    is_packaged_kind = backbone.imagenet.package and path.suffix == ".pth"
    if start != HDF5_START and not start.startswith(ZIP_START) and not is_packaged_kind:
        raise RunError(
            f"not a .h5, .weights.h5 or .keras weights file: {path}",
            "save the weights with Keras: model.save_weights('NAME.weights.h5')",
        )


def _find_model(path: Path, backbone: Backbone) -> Path:
    """Return the model file in a run or checkpoint."""
    if (path / RECORD_FILE).exists() or (path / PLAN_FILE).exists():
        run = open_run(path)
        _check_plan(run.plan, backbone)
        return run.find_checkpoint("best") / MODEL_FILE
    checkpoint = _find_directory(path) or path
    if not (checkpoint / CLASSIFIER_FILE).is_file():
        raise RunError(
            f"directory is neither a run nor a checkpoint: {path}",
            f"--weights takes {_CHOICES}; cnnclf runs list lists runs",
        )
    return checkpoint / MODEL_FILE


def _find_directory(path: Path) -> Path | None:
    """Find a complete directory, also for paths without a last name, such as `.` and `/`."""
    path = path.absolute()
    return find_whole_directory(path) if path.name else path


def _check_plan(path: Path, backbone: Backbone) -> None:
    """Refuse a run whose network has another backbone or none."""
    config = read_json(path, hint="use another run, or --weights imagenet").get("config")
    section = config.get("backbone") if isinstance(config, dict) else None
    name = section.get("name") if isinstance(section, dict) else None
    if not isinstance(name, str):
        raise RunError(
            f"run has no backbone: {path.parent}",
            "use a run of cnnclf finetune, or --weights imagenet",
        )
    if find_backbone(name) != backbone:
        raise RunError(
            f"run has the backbone {name}, not {backbone.name}: {path.parent}",
            f"--backbone {name}, or --weights imagenet",
        )
