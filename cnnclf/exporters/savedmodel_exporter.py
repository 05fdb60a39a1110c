"""SavedModel, for TensorFlow Serving and programs that use TensorFlow."""

from cnnclf.exporters.exporter import ExportJob
from cnnclf.inference.engines.converting import converting
from cnnclf.runs.run_names import CLASSIFIER_FILE, SAVED_MODEL

# The directory of a SavedModel for files that TensorFlow itself does not read.
_ASSETS = "assets.extra"


def export_saved_model(job: ExportJob) -> tuple[str, ...]:
    """Write the directory saved_model, whose endpoint is `serve`.

    Raises:
        EngineRefusedError: TensorFlow does not support this model.
    """
    path = job.directory / SAVED_MODEL
    with converting("SavedModel"):
        job.model.export(str(path), format="tf_saved_model", verbose=False)
    assets = path / _ASSETS
    assets.mkdir()
    (assets / CLASSIFIER_FILE).write_text(job.description, encoding="utf-8")
    return (SAVED_MODEL,)
