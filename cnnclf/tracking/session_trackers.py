"""Logs runs to Weights & Biases and Trackio; every epoch is on disk at once."""

import contextlib
import importlib
import io
import os
from typing import Any

from cnnclf.runs.run_directory import RunDirectory
from cnnclf.tracking.tracker import list_images, read_figures, read_settings


class SessionTracker:
    """A run of wandb or trackio, whose functions have the same names, in the dataset's project.

    Args:
        package: wandb or trackio.
        place: For wandb a mode, online or offline, which is the default without WANDB_API_KEY;
            for trackio a directory.
    """

    def __init__(self, package: str, place: str) -> None:
        if package == "trackio" and place:
            os.environ["TRACKIO_DIR"] = place  # read at import
        self._package: Any = importlib.import_module(package)
        self.errors: tuple[type[Exception], ...] = (OSError, RuntimeError, ValueError)
        self._options: dict[str, Any] = {}
        if package == "wandb":
            self.errors += (self._package.errors.Error,)
            known = "online" if os.environ.get("WANDB_API_KEY") else "offline"
            quiet = self._package.Settings(
                silent=True, console="off", disable_git=True, disable_code=True
            )
            mode = place or os.environ.get("WANDB_MODE") or known
            self._options = {"mode": mode, "settings": quiet}
        self._session: Any = None

    def start(self, run: RunDirectory, *, time_s: float) -> None:  # noqa: ARG002
        """Open a run with the settings."""
        settings = read_settings(run)
        options = self._options | ({"dir": str(run.path)} if self._options else {})
        with contextlib.redirect_stdout(io.StringIO()):
            self._session = self._package.init(
                project=settings["dataset.name"], name=run.title, config=settings, **options
            )

    def log(self, figures: dict[str, float], *, epoch: int, time_s: float) -> None:  # noqa: ARG002
        """Log the numbers of an epoch."""
        self._session.log(figures, step=epoch)

    def end(self, run: RunDirectory, *, time_s: float) -> None:  # noqa: ARG002
        """Log metrics and figures, and end the run."""
        try:
            images = {name: self._package.Image(str(p)) for name, p in list_images(run).items()}
            if last := read_figures(run) | images:
                self._session.log(last)
        finally:
            with contextlib.redirect_stdout(io.StringIO()):
                self._package.finish()  # that of the session alone prints once more at the end
