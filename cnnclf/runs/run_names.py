"""The name of every file in a run directory."""

import re

from cnnclf.runs.run_lock import LOCK_FILE

RUN_VERSION = 1

PLAN_FILE = "plan.json"
SEARCH_FILE = "tuning.json"  # of a tuning directory, whose trials are runs
SETTINGS_FILE = "settings.toml"
RECORD_FILE = "run.json"
HISTORY_FILE = "history.csv"
TRACE_FILE = "trace.csv"
MARGINS_FILE = "margins.csv"
DESCENT_FILE = "descent.npz"
LOG_FILE = "log.txt"
CURVES_FILE = "curves.png"
REPORT_FILE = "report.html"
CHECKPOINTS = "checkpoints"
EVALUATION = "evaluation"
EXPORTS = "exports"
MODEL_FILE = "model.keras"
CLASSIFIER_FILE = "classifier.json"
SAVED_MODEL = "saved_model"
PARITY_FILE = "parity.json"
REFERENCE_FILE = "reference.npz"
ENGINE_CACHE = "engine-cache"
TENSORBOARD = "tensorboard"
WANDB = "wandb"
DVCLIVE = "dvclive"
OPTIMIZER_FILE = "optimizer.npz"
STATE_FILE = "state.json"
METRICS_FILE = "metrics.json"
PREDICTIONS_FILE = "predictions.csv"
CONFUSION_TABLE_FILE = "confusion.csv"
CONFUSION_FIGURE_FILE = "confusion.png"
WORST_FIGURE_FILE = "worst.png"
ROBUSTNESS_FIGURE_FILE = "robustness.png"

OWNED = (
    PLAN_FILE,
    SETTINGS_FILE,
    HISTORY_FILE,
    TRACE_FILE,
    DESCENT_FILE,
    MARGINS_FILE,
    LOG_FILE,
    CURVES_FILE,
    REPORT_FILE,
    CHECKPOINTS,
    EVALUATION,
    EXPORTS,
    TENSORBOARD,
    WANDB,
    DVCLIVE,
    RECORD_FILE,  # after the others: without it what is left would be no run, and stay
    LOCK_FILE,
)


# Names that `files.atomic_path` gives to the files above while it writes them.
UNFINISHED = re.compile(
    r"\.({})\.[0-9a-f]{{8}}\.({})".format(
        *("|".join({name.split(".")[part] for name in OWNED if "." in name[1:]}) for part in (0, 1))
    )
)
