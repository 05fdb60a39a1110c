"""B16: are promises kept on new images, how large are sets, and what tells unknown classes apart?

Heads on the features of a frozen EfficientNet-Lite0 (`python -m benchmarks.frozen_features`), 20
random splits of each set into train, val and test (50, 20 and 30 %). All is chosen on val by the
code of `cnnclf calibrate` and measured on test. Run from the root of the project:
    python -m benchmarks.b16_decide FEATURES [--splits 20]
"""

import argparse
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import minimize
from scipy.stats import rankdata
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from cnnclf.errors import DataError
from cnnclf.evaluation.promises import Target, find_threshold
from cnnclf.evaluation.selective import trace_risk
from cnnclf.inference.familiarity import count_index, find_distances, quantize
from cnnclf.inference.label_sets import METHODS, fit_sets, score_truth
from cnnclf.inference.promise import score_confidence
from cnnclf.probabilities import softmax
from cnnclf.training.calibration import fit_temperature

SETS = ("flowers5", "sign_digits", "cifar10", "clothes")
TARGETS = (
    Target("precision", 0.9),
    Target("precision", 0.95),
    Target("coverage", 0.8),
    Target("error_rate", 0.05),
)
LEVEL = 0.95
FAR_IMAGES = 500
Arrays = tuple[np.ndarray, np.ndarray]
Found = defaultdict[str, list[Any]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("features", type=Path)
    parser.add_argument("--splits", type=int, default=20)
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=SETS)
    arguments = parser.parse_args()
    with threadpool_limits(1):  # also those of SciPy, which is imported above: they wait in vain
        measure(arguments.features, arguments.splits, arguments.sets)


def measure(folder: Path, splits: int, names: list[str]) -> None:
    sets = {name: read_set(folder / f"{name}.npz") for name in SETS}
    for name in names:
        features, truth = sets[name]
        far = sets[SETS[(SETS.index(name) + 1) % len(SETS)]][0]
        kept: Found = defaultdict(list)
        unknown: Found = defaultdict(list)
        for seed in range(splits):
            rng = np.random.default_rng(seed)
            measure_promises(features, truth, rng=rng, found=kept)
            strange = far[rng.permutation(len(far))[:FAR_IMAGES]]
            measure_unknown(features, truth, far=strange, rng=rng, found=unknown)
            print(f"{name}: split {seed + 1} of {splits}", file=sys.stderr, flush=True)
        report(name, kept, unknown)


def read_set(path: Path) -> Arrays:
    with np.load(path) as arrays:
        return arrays["features"].astype(np.float32), arrays["truth"]


def measure_promises(
    features: np.ndarray, truth: np.ndarray, *, rng: np.random.Generator, found: Found
) -> None:
    train, val, test = split(rng.permutation(len(truth)))
    classes = int(truth.max()) + 1
    head = fit_head(features[train], truth[train], classes)
    logits = features @ head[:-1] + head[-1]
    temperature = fit_temperature(logits[val], truth[val])
    probabilities = softmax(logits.astype(np.float64) / temperature)
    is_correct = probabilities.argmax(axis=1) == truth
    found["accuracy"].append(is_correct[test].mean())
    scores = probabilities.max(axis=1)
    for target in TARGETS:
        key = f"{target.kind} {target.value:g}"
        try:
            threshold = find_threshold(scores[val], is_correct[val], target=target)
        except DataError:
            found[f"{key} refused"].append(seed_of(found))
            continue
        answered = scores[test] >= threshold
        value = {
            "precision": is_correct[test][answered].mean() if answered.any() else 1.0,
            "coverage": answered.mean(),
            "error_rate": (answered & ~is_correct[test]).mean(),
        }[target.kind]
        found[key].append(value)
        found[f"{key} answered"].append(answered.mean())
    true_scores = score_truth(probabilities[val], truth[val])
    for method in METHODS:
        sets = fit_sets(
            true_scores[method], truth[val], method=method, level=LEVEL, classes=classes
        )
        members = sets.find(probabilities[test])
        found[f"{method} coverage"].append(members[np.arange(len(test)), truth[test]].mean())
        found[f"{method} size"].append(members.sum(axis=1).mean())
    norms = {
        norm: trace_risk(
            score_confidence(logits[val], probabilities[val], norm=norm), is_correct[val]
        ).aurc
        for norm in (2, 3, 4, 5, 6, 8, 10)
    }
    best = min(norms, key=lambda norm: norms[norm])
    for name, norm in (("probability", None), ("logit", best)):
        confidence = score_confidence(logits[test], probabilities[test], norm=norm)
        found[f"AURC {name}"].append(trace_risk(confidence, is_correct[test]).aurc)


def measure_unknown(
    features: np.ndarray,
    truth: np.ndarray,
    *,
    far: np.ndarray,
    rng: np.random.Generator,
    found: Found,
) -> None:
    """Exclude a quarter of the classes, at least one, from training; find them in the test."""
    count = int(truth.max()) + 1
    excluded = rng.permutation(count)[: max(1, count // 4)]
    labels = np.setdiff1d(np.arange(count), excluded)
    own = rng.permutation(np.flatnonzero(np.isin(truth, labels)))
    classes = np.searchsorted(labels, truth)
    train, val, test = split(own)
    head = fit_head(features[train], classes[train], len(labels))
    temperature = fit_temperature(features[val] @ head[:-1] + head[-1], classes[val])
    index = quantize(to_unit(features[train[: count_index(features.shape[1])]]))
    means = np.stack(
        [features[train][classes[train] == each].mean(0) for each in range(len(labels))]
    )
    rest = features[train] - means[classes[train]]
    spread = rest.T @ rest / len(rest) + 1e-3 * np.eye(rest.shape[1], dtype=np.float32)
    whiten = np.linalg.inv(np.linalg.cholesky(spread)).T
    white_means = means @ whiten

    def score(some: np.ndarray) -> dict[str, np.ndarray]:
        logits = (some @ head[:-1] + head[-1]).astype(np.float64)
        gaps = (some @ whiten)[:, None] - white_means
        return {
            "probability": softmax(logits / temperature).max(axis=1),
            "kNN": -find_distances(index, to_unit(some)),
            "Mahalanobis": -(gaps**2).sum(axis=2).min(axis=1),
            "energy": logits.max(axis=1)
            + np.log(np.exp(logits - logits.max(axis=1, keepdims=True)).sum(axis=1)),
        }

    known = score(features[test])
    near = features[rng.permutation(np.flatnonzero(np.isin(truth, excluded)))[:FAR_IMAGES]]
    for distance, images in (("near", near), ("far", far)):
        strange = score(images)
        for name, scores in known.items():
            found[f"{distance} {name}"].append(tell_apart(scores, strange[name]))


def tell_apart(known: np.ndarray, strange: np.ndarray) -> tuple[float, float]:
    """Return AUROC, and the fraction of strange images that pass where 95 % of the known do."""
    ranks = rankdata(np.concatenate([known, strange]))
    n, m = len(known), len(strange)
    area = (ranks[:n].sum() - n * (n + 1) / 2) / (n * m)
    return float(area), float((strange >= np.quantile(known, 0.05)).mean())


def fit_head(features: np.ndarray, truth: np.ndarray, classes: int) -> np.ndarray:
    """Fit a softmax regression with weight decay, float32 [d + 1, K]; the last row is the bias."""
    targets = np.eye(classes, dtype=np.float32)[truth]
    shape = (features.shape[1] + 1, classes)

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weights = flat.reshape(shape).astype(np.float32)
        probabilities = softmax(features @ weights[:-1] + weights[-1])
        error = (probabilities - targets) / len(truth)
        own = probabilities[np.arange(len(truth)), truth]
        value = -np.log(np.maximum(own, 1e-12)).mean() + 5e-4 * (weights[:-1] ** 2).sum()
        slope = np.vstack([features.T @ error + 1e-3 * weights[:-1], error.sum(axis=0)[None]])
        return float(value), slope.ravel().astype(np.float64)

    found = minimize(
        loss, np.zeros(shape).ravel(), jac=True, method="L-BFGS-B", options={"maxiter": 60}
    )
    return np.asarray(found.x.reshape(shape), np.float32)


def split(order: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    first, second = len(order) // 2, len(order) * 7 // 10
    return order[:first], order[first:second], order[second:]


def to_unit(features: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(features, axis=1, keepdims=True)
    return np.asarray(features / np.maximum(length, 1e-12))


def seed_of(found: Found) -> int:
    return len(found["accuracy"]) - 1


def report(name: str, kept: Found, unknown: Found) -> None:
    print(f"\n{name}: accuracy {np.mean(kept['accuracy']):.3f}")
    for target in TARGETS:
        key = f"{target.kind} {target.value:g}"
        values = np.array(kept[key])
        good = values <= target.value if target.kind == "error_rate" else values >= target.value
        misses = ", ".join(f"{value:.3f}" for value in values[~good]) or "none"
        answered = np.mean(kept[f"{key} answered"]) if len(values) else np.nan
        refused = len(kept[f"{key} refused"])
        print(
            f"  {key}: kept in {good.sum()} of {len(values)}, refused {refused}, misses {misses}; "
            f"mean {values.mean() if len(values) else np.nan:.3f}, answered {answered:.3f}"
        )
    for method in METHODS:
        coverage, size = np.array(kept[f"{method} coverage"]), np.mean(kept[f"{method} size"])
        print(
            f"  sets {LEVEL} {method}: coverage {coverage.mean():.4f} ({coverage.min():.3f} to "
            f"{coverage.max():.3f}), at least {LEVEL} in {(coverage >= LEVEL).sum()}, "
            f"size {size:.3f}"
        )
    print(
        f"  AURC: probability {np.mean(kept['AURC probability']):.4f}, "
        f"logit {np.mean(kept['AURC logit']):.4f}"
    )
    for key, pairs in unknown.items():
        area, passing = np.mean(pairs, axis=0)
        print(f"  {key}: AUROC {area:.3f}, FPR95 {passing:.3f}", flush=True)


if __name__ == "__main__":
    main()
