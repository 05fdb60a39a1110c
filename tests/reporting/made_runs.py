"""A run directory as training leaves it, made without training."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from cnnclf.config import ImportConfig
from cnnclf.data.manifest import Dataset
from cnnclf.evaluation.metrics import (
    TOP_K,
    calibration_bins,
    effective_top_k,
    measure,
    wilson_interval,
)
from cnnclf.evaluation.predictions import Predictions
from cnnclf.evaluation.report_tables import write_predictions
from cnnclf.importers import import_source
from cnnclf.progress import Silent

ROOT = Path(__file__).parents[2]
RUN = ROOT / "sample_data/tiny_run"
IMAGES = ROOT / "sample_data/x_or_o"
HOSTILE = '<script>alert("x")</script>\u202e'


def import_images(directory: Path) -> Dataset:
    import_source(IMAGES, directory, options=ImportConfig(), progress=Silent())
    from cnnclf.data.manifest import load_dataset

    return load_dataset(directory)


def make_run(path: Path, dataset: Dataset | None = None, **plan: Any) -> Path:
    """Copy the tiny run; its plan names the dataset."""
    shutil.copytree(RUN, path)
    content = json.loads((path / "plan.json").read_text())
    content["dataset"]["path"] = "gone" if dataset is None else str(dataset.directory)
    (path / "plan.json").write_text(json.dumps(content | plan))
    return path


def add_evaluation(
    run: Path,
    labels: list[str],
    paths: list[str],
    truth: np.ndarray,
    *,
    name: str = "test",
    seed: int = 0,
    skill: float = 2.0,
    **metrics: Any,
) -> np.ndarray:
    """Write metrics.json and predictions.csv of random probabilities; return them."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(len(truth), len(labels)))
    logits[np.arange(len(truth)), truth] += skill
    odds = np.exp(logits)
    probabilities = odds / odds.sum(axis=1, keepdims=True)
    directory = run / "evaluation" / name
    directory.mkdir(parents=True)
    rows = np.arange(len(truth))
    write_predictions(
        directory / "predictions.csv",
        Predictions(rows, truth, probabilities, probabilities.max(axis=1), {}),
        labels=labels,
        paths=paths,
    )
    correct = int((probabilities.argmax(axis=1) == truth).sum())
    low, high = wilson_interval(correct, len(truth))
    content = {
        "schema_version": 1,
        "split": name,
        "n": len(truth),
        "correct": correct,
        "top_k": effective_top_k(TOP_K, len(labels)),
        "metrics": measure(truth, probabilities),
        "accuracy_interval": {"low": low, "high": high},
        "labels": labels,
        "per_class": [
            {"label": label, "support": int((truth == i).sum())} for i, label in enumerate(labels)
        ],
        "calibration": [vars(row) for row in calibration_bins(truth, probabilities)],
        "failed": {"count": 0, "files": []},
        "dataset": {"trained_on": True, "directory": "gone", "fingerprint": "0"},
    }
    (directory / "metrics.json").write_text(json.dumps(content | metrics))
    return np.asarray(probabilities)


def add_test(run: Path, dataset: Dataset, *, seed: int = 0, skill: float = 2.0) -> None:
    """Add an evaluation of the test split of a dataset."""
    rows = dataset.manifest.select("test")
    add_evaluation(
        run,
        list(dataset.labels),
        [dataset.manifest.paths[row] for row in rows],
        dataset.manifest.class_indices[rows].astype(np.int64),
        seed=seed,
        skill=skill,
    )
