"""T1: `cnnclf tune` against random search of whole trainings, with equal time.

Both search the default space around the preset tiny, 18 epochs per training, on one data set with
one seed, and both begin with the default. Time is processor time, so that other work on the machine
changes neither. What each had found at which time is added to RESULTS, one JSON line per search, so
it can be run in pieces; --sum reports, per set and as the mean over seeds:
  best      val accuracy of the best network at the end, tune and random
  time      when tune had the final accuracy of random, as a fraction of the time (goal: 0.5)
  regret    test accuracy of the default minus that of the best network found; below 0 it is better
Data sets: stars (drawn, see recipe_sets), fashion (1,000, 500 and 1,000 images, IDX files) and a
folder of class folders such as sign digits, at 28 pixels. Run from the root of the project:
    python -m benchmarks.t1_tune RESULTS DATASET [--seed 0] [--minutes 3] [--method tune]
    python -m benchmarks.t1_tune RESULTS --sum
"""

import argparse
import json
import statistics
import tempfile
import threading  # noqa: F401 (waits by the real clock, which is replaced below)
import time
from pathlib import Path
from typing import Any

time.monotonic = time.perf_counter = time.process_time

from cnnclf.config import TuneConfig, load_config  # noqa: E402
from cnnclf.data.manifest import load_dataset  # noqa: E402
from cnnclf.evaluation.report import evaluate  # noqa: E402
from cnnclf.inference.classifier import Classifier  # noqa: E402
from cnnclf.progress import Silent  # noqa: E402
from cnnclf.runs.run_directory import RunDirectory  # noqa: E402
from cnnclf.tuning import search, search_directory  # noqa: E402
from cnnclf.tuning.request import prepare_search  # noqa: E402

FIX = ("model.preset=tiny", "training.epochs=18", "data.image_size=28")
MOMENTS = 10  # of the accuracy against time, in the summary


class Watched(search.Search):
    """A search that remembers when it knew which accuracy."""

    def _record(self, errand: Any, outcome: Any, is_new: bool) -> None:
        super()._record(errand, outcome, is_new)
        mark = self._marks[-1]
        self.seen = [*getattr(self, "seen", []), (self._budget.elapsed_s, mark.accuracy)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path)
    parser.add_argument("dataset", type=Path, nargs="?", help="an imported dataset")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=3.0, help="of processor time")
    parser.add_argument("--method", choices=("tune", "random"), default="tune")
    parser.add_argument("--sum", action="store_true")
    arguments = parser.parse_args()
    if arguments.sum:
        report([json.loads(line) for line in arguments.results.read_text().splitlines()])
        return
    row = run_search(arguments.dataset, arguments.method, arguments.seed, arguments.minutes)
    with arguments.results.open("a") as file:
        file.write(json.dumps(row) + "\n")


def run_search(source: Path, method: str, seed: int, minutes: float) -> dict[str, Any]:
    options: dict[str, Any] = {"minutes": minutes, "seed": seed, "seeds": 1}
    if method == "random":
        options["sampler"] = "random"
        setattr(search, "choose_rungs", lambda epochs: (epochs,))  # noqa: B010
    dataset = load_dataset(source)
    config = load_config(options=options, kind=TuneConfig)[0]
    request, _ = prepare_search(
        dataset, config, command="train", space=None, source="default", fix=FIX
    )
    with tempfile.TemporaryDirectory() as folder:
        request.save(Path(folder))
        one = Watched(Path(folder), request, Silent())
        found = one.run()
        best = max(found.rows, key=lambda row: row.val_accuracy or 0.0)
        default = next(row for row in found.rows if not row.trial)
        tested = {
            trial: test(Path(folder) / search_directory.TRIALS / f"{trial:03d}", dataset)
            for trial in (0, best.trial)
        }
    return {
        "dataset": source.name,
        "method": method,
        "seed": seed,
        "seconds": 60 * minutes,
        "seen": one.seen,
        "trials": len(found.rows),
        "whole": sum(row.epochs >= default.epochs for row in found.rows),
        "val": [default.val_accuracy, best.val_accuracy],
        "test": [tested[0], tested[best.trial]],
    }


def test(path: Path, dataset: Any) -> float:
    run = RunDirectory(path)
    found = evaluate(
        Classifier.load(path), dataset, split="test", out=run.evaluation("test"), progress=Silent()
    )
    return float(found.summary["accuracy"])


def report(rows: list[dict[str, Any]]) -> None:
    by_key = {(row["dataset"], row["seed"], row["method"]): row for row in rows}
    print("set, seeds | default | random: best, trials | tune: best, trials | time | regret r, t")
    for name in sorted({row["dataset"] for row in rows}):
        pairs = [
            (by_key[name, seed, "random"], row)
            for (other, seed, method), row in sorted(by_key.items())
            if other == name and method == "tune" and (name, seed, "random") in by_key
        ]
        if not pairs:
            continue
        both = list(zip(*pairs, strict=True))
        times = [find_time(tune, random["val"][1]) for random, tune in pairs]
        cells = [f"{name}, {len(pairs)}", f"{mean(row['val'][0] for row in both[1]):.4f}"]
        cells += [
            f"{mean(row['val'][1] for row in each):.4f}, {mean(row['trials'] for row in each):.1f}"
            for each in both
        ]
        cells.append(" ".join("never" if each is None else f"{each:.2f}" for each in times))
        cells.append(", ".join(f"{mean(regret(row) for row in each):+.4f}" for each in both))
        print(" | ".join(cells))
        for each in both:
            curve = [
                mean(best_at(row, row["seconds"] * part / MOMENTS) for row in each)
                for part in range(1, MOMENTS + 1)
            ]
            print(f"  {each[0]['method']:7}" + " ".join(f"{value:.3f}" for value in curve))


def find_time(row: dict[str, Any], accuracy: float) -> float | None:
    """Return when a search had an accuracy, as a fraction of its time."""
    reached = [seconds for seconds, value in row["seen"] if value >= accuracy]
    return min(reached) / row["seconds"] if reached else None


def best_at(row: dict[str, Any], seconds: float) -> float:
    return max((value for time_s, value in row["seen"] if time_s <= seconds), default=0.0)


def regret(row: dict[str, Any]) -> float:
    return float(row["test"][0] - row["test"][1])


def mean(values: Any) -> float:
    return statistics.fmean(values)


if __name__ == "__main__":
    main()
