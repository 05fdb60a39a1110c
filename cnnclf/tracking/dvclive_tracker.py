"""Logs runs to DVCLive: files that DVC plots, and an experiment where there is a DVC repository."""

import importlib
import logging
import os
from pathlib import Path
from typing import Any

from cnnclf.errors import UsageError
from cnnclf.runs.run_directory import RunDirectory
from cnnclf.runs.run_names import DVCLIVE
from cnnclf.tracking.tracker import list_images, read_figures, read_settings


class DvcliveTracker:
    """Writes metrics, parameters and figures into `dvclive/` of the run.

    Args:
        place: Must be empty: DVCLive deletes files of earlier runs in the directory that it gets.
        continues: Whether to add to the epochs that are there.

    Raises:
        UsageError: There is a place, or DVCLive would make a DVC repository of a Git repository.
    """

    def __init__(self, place: str, *, continues: bool = True) -> None:
        if place:
            raise UsageError(f"dvclive:{place}: dvclive always writes into the run", "dvclive")
        os.environ.setdefault("DVC_NO_ANALYTICS", "1")
        package: Any = importlib.import_module("dvclive")
        of_live: Any = importlib.import_module("dvclive.error")
        of_dvc: Any = importlib.import_module("dvc.exceptions")
        self._is_saved = find_repository(Path.cwd())
        for name in ("dvc", "dvclive"):
            logging.getLogger(name).setLevel(logging.ERROR)
        os.environ.setdefault("DVCLIVE_LOGLEVEL", "ERROR")  # it sets the level of both once more
        self.errors: tuple[type[Exception], ...] = (
            of_live.DvcLiveError,
            of_dvc.DvcException,
            OSError,
            ValueError,
        )
        self._class, self._continues = package.Live, continues
        self._live: Any = None

    def start(self, run: RunDirectory, *, time_s: float) -> None:  # noqa: ARG002
        """Open the directory, and log the settings."""
        folder = run.path / DVCLIVE
        self._live = self._class(
            dir=str(folder),
            resume=self._continues,
            save_dvc_exp=self._is_saved,
            dvcyaml=str(folder / "dvc.yaml"),  # else it would change that of the repository
        )
        self._live.log_params(read_settings(run))

    def log(self, figures: dict[str, float], *, epoch: int, time_s: float) -> None:  # noqa: ARG002
        """Log the numbers of an epoch; they are on disk at once."""
        self._live.step = epoch
        for name, value in figures.items():
            self._live.log_metric(name, value)
        self._live.make_summary()

    def end(self, run: RunDirectory, *, time_s: float) -> None:  # noqa: ARG002
        """Log metrics and figures, and end the experiment."""
        for name, value in read_figures(run).items():
            self._live.log_metric(name, value, plot=False)
        for name, path in list_images(run).items():
            self._live.log_image(f"{name}.png", path)
        self._live.end()


def find_repository(folder: Path) -> bool:
    """Return whether a directory is in a DVC repository.

    Args:
        folder: Where the command runs, absolute.

    Raises:
        UsageError: It is in a Git repository only, of which DVCLive would make a DVC repository.
    """
    folders = (folder, *folder.parents)
    if any((each / ".dvc").is_dir() for each in folders):
        return True
    git = next((each for each in folders if (each / ".git").exists()), None)
    if git is not None:
        raise UsageError(
            f"dvclive would make a DVC repository of the Git repository {git}",
            "run 'dvc init' there if you want one, or run cnnclf outside of it",
        )
    return False
