"""The Keras format, for programs that use Keras."""

import zipfile

from cnnclf.exporters.exporter import ExportJob
from cnnclf.runs.run_names import CLASSIFIER_FILE, MODEL_FILE


def export_keras(job: ExportJob) -> tuple[str, ...]:
    """Write model.keras, a zip archive with one more file, which Keras ignores."""
    path = job.directory / MODEL_FILE
    job.model.save(path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(CLASSIFIER_FILE, job.description)
    return (MODEL_FILE,)
