"""Logs runs to MLflow by its client: to a SQLite file, or to a server."""

import logging
import os
import shlex
import shutil
import tempfile
from pathlib import Path
from typing import Any

from cnnclf.files import safe_name
from cnnclf.progress import Progress
from cnnclf.runs.run_directory import RunDirectory, RunStatus
from cnnclf.runs.run_names import CLASSIFIER_FILE
from cnnclf.tracking.tracker import list_images, read_figures, read_settings

DEFAULT_URI = "sqlite:///mlflow.db"  # the store of files is an error in MLflow 3

_MAX_VALUE = 500  # characters of a parameter
_BATCH = 100  # parameters of a request
_ENVIRONMENT = {
    # a server that is down must not stop training
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
_SQLITE = "sqlite:///"
_STATUS = {RunStatus.FINISHED: "FINISHED", RunStatus.FAILED: "FAILED"}


def find_store(run: RunDirectory, uri: str) -> str:
    """Return the URI of the store that a run is in, if `uri` names it; else `uri`.

    A relative path is that of the working directory in which tracking began, if it is still there.
    """
    known = run.read_record().get("mlflow") or {}
    store = str(known.get("store"))
    is_there = not store.startswith(_SQLITE) or Path(store.removeprefix(_SQLITE)).is_file()
    is_meant = known.get("uri") == uri or store == _whole(uri)
    return store if "store" in known and is_meant and is_there else uri


def _whole(uri: str) -> str:
    """Return a URI with the whole path of its file, which other working directories understand."""
    path = uri.removeprefix(_SQLITE)
    return uri if path == uri else _SQLITE + os.path.abspath(path)  # noqa: PTH100 - of a URI


class MlflowTracker:
    """A run of the experiment that has the name of the dataset.

    A run that is resumed continues in the same run of MLflow, whose name is kept in run.json, from
    any working directory; if the store no longer has it, in another one.

    Args:
        uri: Of the store, such as `sqlite:///mlflow.db` or `http://host:5000`.
        progress: Receives a warning if the run that is continued is gone.
        continues: Whether to continue a run that run.json names.
    """

    def __init__(self, uri: str, *, progress: Progress, continues: bool = True) -> None:
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        logging.getLogger("mlflow").setLevel(logging.ERROR)
        logging.getLogger("alembic").setLevel(logging.ERROR)
        self.errors: tuple[type[Exception], ...] = (MlflowException, SQLAlchemyError, OSError)
        self._client_class, self._uri, self._continues = MlflowClient, uri, continues
        self._progress = progress
        self._client: Any = None
        self._id = ""

    def start(self, run: RunDirectory, *, time_s: float) -> None:
        """Create the run, or find the one that is continued; log the settings."""
        from mlflow.entities import Param

        given, known = self._uri, run.read_record().get("mlflow") or {}
        self._uri = _whole(find_store(run, given) if self._continues else given)
        self._client = self._client_class(tracking_uri=self._uri)
        if self._continues and (known.get("uri") == given or known.get("store") == self._uri):
            self._id = str(known["run"])
            if self._has_run():
                self._client.update_run(self._id, status="RUNNING")
                return
            words = ["cnnclf", "runs", "export", str(run.path), "--to", f"mlflow:{self._uri}"]
            self._progress.warn(
                f"the run {self._id} of MLflow is not in {self._uri} any more: another one begins, "
                f"with the epochs from here; all of them, in the end: {shlex.join(words)}"
            )
        settings = read_settings(run)
        name = settings["dataset.name"]
        found = self._client.get_experiment_by_name(name)
        experiment = (
            found.experiment_id
            if found
            else self._client.create_experiment(name, artifact_location=self._place_files(name))
        )
        created = self._client.create_run(
            experiment, start_time=round(1000 * time_s), run_name=run.title
        )
        self._id = created.info.run_id
        if not self._continues:  # an export, until it is whole: a kill leaves none that runs
            self._client.set_terminated(self._id, "FAILED")
        params = [Param(key, value[:_MAX_VALUE]) for key, value in settings.items()]
        for first in range(0, len(params), _BATCH):
            self._client.log_batch(self._id, params=params[first : first + _BATCH])
        if self._continues:
            run.update_run(mlflow={"uri": given, "store": self._uri, "run": self._id})

    def _place_files(self, name: str) -> str | None:
        """Return where the files of an experiment go: beside the store, wherever training runs.

        A server has a place of its own.
        """
        from sqlalchemy.engine import make_url

        store = make_url(self._uri).database if self._uri.startswith("sqlite:") else None
        if store is None:
            return None
        folder = Path(store).absolute().parent / "mlruns"
        return (folder / safe_name(name, fallback="dataset")).as_uri()

    def _has_run(self) -> bool:
        """Return whether the store has the run, and nobody deleted it."""
        from mlflow.entities import LifecycleStage
        from mlflow.exceptions import MlflowException

        try:
            stage = self._client.get_run(self._id).info.lifecycle_stage
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return False
        return bool(stage == LifecycleStage.ACTIVE)

    def log(self, figures: dict[str, float], *, epoch: int, time_s: float) -> None:
        """Log the numbers of an epoch."""
        from mlflow.entities import Metric

        moment = round(1000 * time_s)
        metrics = [Metric(name, value, moment, epoch) for name, value in figures.items()]
        if metrics:
            self._client.log_batch(self._id, metrics=metrics)

    def end(self, run: RunDirectory, *, time_s: float) -> None:
        """Log metrics, figures and the best checkpoint, and end the run, whatever fails."""
        status = "FAILED"
        try:
            self._log_results(run, time_s=time_s)
            status = _STATUS.get(run.status(), "KILLED")
        finally:
            self._client.set_terminated(self._id, status, end_time=round(1000 * time_s))

    def _log_results(self, run: RunDirectory, *, time_s: float) -> None:
        self.log(read_figures(run), epoch=0, time_s=time_s)
        for path in list_images(run).values():
            self._client.log_artifact(self._id, str(path), "figures")
        for path in (run.plan, run.history, run.settings, run.log, run.report):
            if path.exists():
                self._client.log_artifact(self._id, str(path))
        if (run.best / CLASSIFIER_FILE).exists():
            with tempfile.TemporaryDirectory() as folder:
                bundle = Path(folder) / "bundle"
                ignored = shutil.ignore_patterns("engine-cache", ".*")
                shutil.copytree(run.best, bundle, ignore=ignored)
                self._client.log_artifacts(self._id, str(bundle), "bundle")
