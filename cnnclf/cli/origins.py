"""Where a model that a user names came from: its run, the run's plan, the data of its training."""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cnnclf.cli.output import out
from cnnclf.errors import DataError, UsageError
from cnnclf.files import find_whole_directory
from cnnclf.runs import RunDirectory

if TYPE_CHECKING:
    from cnnclf.data.manifest import Dataset
    from cnnclf.planning.plan import PlanOrigin
    from cnnclf.progress import Progress


def warn_of_unfinished(path: Path, *, use: str) -> None:
    """Warn of a run whose training has not ended; say what its best checkpoint so far is."""
    run = RunDirectory(path)
    status = run.status() if run.record.exists() else "finished"
    if status != "finished":
        out.warn(f"the run {path} is {status}; its best checkpoint so far is {use}")


@dataclass(frozen=True)
class Origin:
    """What is known of where a bundle came from.

    Args:
        path: As the user named it.
        bundle: Its directory.
        run: The run it belongs to; None for one that was taken out of its run.
        plan: Of the run.
    """

    path: Path
    bundle: Path
    run: RunDirectory | None
    plan: "PlanOrigin | None"

    def open_data(self, given: Path | None, progress: "Progress", *, command: str) -> "Dataset":
        """Open the dataset that was given, or the one that was trained on.

        Args:
            given: A dataset or any source that can be imported; None for the one trained on.
            progress: Is told what an import does.
            command: What to type to give another place, after which comes the place.

        Raises:
            UsageError: None is given and nobody knows which it was.
            DataError: It is not where it was.
        """
        from cnnclf.importers import ImportOptions, open_dataset

        # A source that was trained on directly was split with the seed of the run.
        options = ImportOptions(seed=self.plan.seed) if self.plan else ImportOptions()
        place = given or self._find_data(command)
        return open_dataset(place, options=options, progress=progress)

    def choose_directory(self) -> RunDirectory:
        """Choose what shall hold figures and exports: the run of a best checkpoint, or the bundle.

        Any other bundle keeps them itself, so that a run's are of its best checkpoint.
        """
        if self.run is not None:
            # After a kill in the middle of a swap the best checkpoint lies under another name.
            best = find_whole_directory(self.run.best)
            if best is not None and self.bundle.absolute() == best.absolute():
                return self.run
        return RunDirectory(self.bundle)

    def _find_data(self, command: str) -> Path:
        from cnnclf.planning.plan import read_dataset_path

        if self.plan is None:
            raise UsageError(
                f"expected a DATASET, since {self.path} does not say where its is",
                f"{command} DATASET",
            )
        found = read_dataset_path(self.plan)
        if not found.exists():
            raise DataError(
                f"expected the dataset that {self.path} was trained on at {found}, but there is "
                "nothing",
                f"give its new place: {command} DATASET",
            )
        return found


def find_origin(path: Path, bundle: Path) -> Origin:
    """Find out where a bundle came from.

    Args:
        path: As the user named it: a run directory, a checkpoint, a bundle or a file of one.
        bundle: What `find_bundle` made of it.

    Raises:
        RunError: The plan of its run is damaged or newer.
    """
    from cnnclf.planning.plan import read_origin

    places = [path, *path.absolute().parents[:3]]
    run = next((run for run in map(RunDirectory, places) if run.record.exists()), None)
    return Origin(path, bundle, run, None if run is None else read_origin(run.plan))


def quote(*words: object) -> str:
    """Write a command so that it can be copied to a shell."""
    return shlex.join(str(word) for word in words)
