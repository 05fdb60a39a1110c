"""T2: what a search costs beside its trainings, in processor time.

A search over the default space, and then each of its trials once more: trained without a break to
the epoch that it reached, by the steps of `cnnclf train` before its evaluation on test. Both are in
one process, after a training that loads everything. The search also chooses, reads what trials did,
continues them, and writes its files.
  search, bare   processor seconds, and the excess in percent (goal: under 3)
  by leg         processor seconds of each leg of a trial, and of its bare training
Run from the root of the project: python -m benchmarks.t2_trials DATASET [--trials 6] [--fix K=V]
"""

import argparse
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from cnnclf.config import TuneConfig, load_config
from cnnclf.data.manifest import load_dataset
from cnnclf.progress import Silent
from cnnclf.runs.run_opening import create_run
from cnnclf.training.epochs import StopRequest
from cnnclf.training.precision import set_up
from cnnclf.training.run import fit
from cnnclf.training.work import Work, open_work
from cnnclf.tuning import workers
from cnnclf.tuning.leaderboard import write_result
from cnnclf.tuning.request import prepare_search
from cnnclf.tuning.search import Search

legs: dict[str, list[float]] = defaultdict(list)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset", type=Path, help="an imported dataset")
    parser.add_argument("--trials", type=int, default=6)
    parser.add_argument("--fix", action="append", default=[])
    arguments = parser.parse_args()
    dataset = load_dataset(arguments.dataset)
    options = {"trials": arguments.trials, "seeds": 1, "minutes": 1000}
    request, plan = prepare_search(
        dataset,
        load_config(options=options, kind=TuneConfig)[0],
        command="train",
        space=None,
        source="default",
        fix=("training.patience=0", *arguments.fix),
    )
    run_job = workers.run_job

    def clocked(job: Any, *arguments: Any, **options: Any) -> Any:
        began = time.process_time()
        report = run_job(job, *arguments, **options)
        legs[job.path.name].append(time.process_time() - began)
        return report

    workers.run_job = clocked
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        train(place / "warm", plan, dataset, epochs=2)
        request.save(place / "search")
        began = time.process_time()
        search = Search(place / "search", request, Silent())
        result = search.run()
        write_result(result)
        searched = time.process_time() - began
        bare = {}
        for row in sorted(result.rows, key=lambda row: row.trial):
            name = f"{row.trial:03d}"
            own = search._proposals.plans[row.trial]  # noqa: SLF001
            bare[name] = train(place / name, own, dataset, epochs=row.epochs)
            parts = " + ".join(f"{each:.2f}" for each in legs[name])
            print(f"{name}  {row.epochs:3} epochs  {parts}  bare {bare[name]:.2f}", flush=True)
    total = sum(bare.values())
    inside = sum(map(sum, legs.values()))
    print(
        f"search {searched:.1f}, legs {inside:.1f}, bare {total:.1f} s: {searched / total - 1:+.1%}"
    )


def train(path: Path, plan: Any, dataset: Any, *, epochs: int) -> float:
    """Train to an epoch; return the processor seconds."""
    began = time.process_time()
    runtime = set_up(plan, threads=None, progress=Silent())
    work = Work(
        plan,
        dataset,
        create_run(path),
        runtime,
        Silent(),
        listeners=[lambda row, _: StopRequest.PRUNE if row.epoch == epochs else None],
        with_test=False,
    )
    with open_work(work):
        fit(work)
    return time.process_time() - began


if __name__ == "__main__":
    main()
