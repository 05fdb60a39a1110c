"""Where a model comes from: its run, the plan of the run, and the dataset it was trained on."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cnnclf.data.moved import find_dataset
from cnnclf.errors import CnnclfError, DataError, UsageError
from cnnclf.files import find_whole_directory, read_json
from cnnclf.runs.run_directory import RunDirectory
from cnnclf.runs.run_names import CLASSIFIER_FILE

if TYPE_CHECKING:
    from cnnclf.data.manifest import Dataset
    from cnnclf.progress import Progress


def warn_of_unfinished(path: Path, *, use: str, progress: "Progress") -> None:
    """Warn that the training of a run has not finished, and how its best checkpoint is used."""
    run = RunDirectory(path)
    status = run.status() if run.record.exists() else "finished"
    if status != "finished":
        progress.warn(f"the run {path} is {status}; its best checkpoint so far is {use}")


def is_trained_on(bundle: Path, data: "Dataset") -> bool:
    """Return whether the model in a bundle was trained on a dataset as it is now."""
    trained = read_json(bundle / CLASSIFIER_FILE).get("dataset") or {}
    return bool(trained.get("fingerprint") == data.fingerprint)


@dataclass(frozen=True)
class Origin:
    """What is known about the origin of a bundle.

    Args:
        path: As the user typed it.
        bundle: Its directory.
        run: The run it belongs to; None if it was moved out of its run.
        dataset: What the run was trained on: name, path and fingerprint; None without a run.
    """

    path: Path
    bundle: Path
    run: RunDirectory | None
    dataset: Mapping[str, str] | None

    def open_data(
        self, given: str | Path | None, progress: "Progress", *, command: str
    ) -> "Dataset":
        """Open the dataset that was given, or the one that was trained on.

        Args:
            given: A dataset or any source that can be imported; None for the training dataset.
            progress: Receives the progress of an import.
            command: What to type to name another dataset, up to the path.

        Raises:
            UsageError: None is given, and the training dataset is not known.
            DataError: The training dataset is not at its path.
        """
        from cnnclf.config import ImportConfig
        from cnnclf.importers import open_dataset

        options = ImportConfig(one_class=True)
        place = given or self._find_data(command)
        return open_dataset(place, options=options, progress=progress)

    def find_training_data(self) -> "Dataset | None":
        """Return the dataset of the training if it is still there, unchanged; None otherwise."""
        from cnnclf.data.manifest import is_dataset, load_dataset

        if self.dataset is None or not is_dataset(place := self._place(self.dataset)):
            return None
        try:
            data = load_dataset(place)
        except CnnclfError:
            return None  # it was only to say more
        return data if data.fingerprint == self.dataset["fingerprint"] else None

    def choose_directory(self) -> RunDirectory:
        """Choose where reports and exports go: the run of a best checkpoint, or the bundle.

        Any other bundle keeps its own, so that those of a run describe its best checkpoint.
        """
        if self.run is not None:
            # After a kill in the middle of a swap the best checkpoint has another name.
            best = find_whole_directory(self.run.best)
            if best is not None and self.bundle.absolute() == best.absolute():
                return self.run
        return RunDirectory(self.bundle)

    def _place(self, dataset: Mapping[str, str]) -> Path:
        """Return where the dataset is, or was."""
        beside = self.bundle if self.run is None else self.run.path
        return find_dataset(Path(dataset["path"]), dataset["fingerprint"], beside=beside)

    def _find_data(self, command: str) -> Path:
        if self.dataset is None:
            raise UsageError(
                f"{self.path} does not record which dataset it was trained on",
                f"name one: {command} DATASET",
            )
        found = self._place(self.dataset)
        if not found.exists():
            raise DataError(
                f"the dataset that {self.path} was trained on does not exist: {found}",
                f"if it was moved, name its new path: {command} DATASET",
            )
        return found


def find_origin(path: Path, bundle: Path) -> Origin:
    """Find the origin of a bundle.

    Args:
        path: As the user typed it: a run directory, a checkpoint, a bundle or a file of one.
        bundle: The directory that `find_bundle` returns for it.

    Raises:
        RunError: The plan of the run is damaged, or was written by a newer version.
    """
    from cnnclf.planning.plan import read_origin

    places = [path, *path.absolute().parents[:3]]
    run = next((run for run in map(RunDirectory, places) if run.record.exists()), None)
    return Origin(path, bundle, run, None if run is None else read_origin(run.plan))


def quote(*words: object) -> str:
    """Return a command that can be pasted into a shell."""
    return shlex.join(str(word) for word in words)
