"""The Python interface: what the commands do, as functions. `import cnnclf` gives all of it.

Stability: the names in `cnnclf.__all__`, their parameters and the documented attributes of what
they return change only with a new minor version, and CHANGELOG.md says so. Everything else in the
package may change at any time.
"""

from cnnclf.api.dataset_calls import check, import_dataset, load_dataset
from cnnclf.api.insight_calls import convolve, describe, explain
from cnnclf.api.label_calls import load_classifier, predict
from cnnclf.api.run_calls import calibrate, evaluate, export, report
from cnnclf.api.training_calls import extend, finetune, resume, train, tune

__all__ = [
    "calibrate",
    "check",
    "convolve",
    "describe",
    "evaluate",
    "explain",
    "export",
    "extend",
    "finetune",
    "import_dataset",
    "load_classifier",
    "load_dataset",
    "predict",
    "report",
    "resume",
    "train",
    "tune",
]
