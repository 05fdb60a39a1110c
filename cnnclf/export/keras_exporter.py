"""Keras' own format, for programs that have Keras."""

from cnnclf.export.base import ExportJob
from cnnclf.runs import MODEL_FILE


def export_keras(job: ExportJob) -> tuple[str, ...]:
    """Write model.keras; labels and input spec are in classifier.json alone."""
    job.model.save(job.directory / MODEL_FILE)
    return (MODEL_FILE,)
