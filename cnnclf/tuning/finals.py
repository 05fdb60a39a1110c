"""The best configurations and the default, trained with other seeds as far as time allows."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from cnnclf.data.manifest import Dataset
from cnnclf.files import read_json
from cnnclf.progress import Progress, Silent
from cnnclf.runs.run_directory import RunDirectory, section
from cnnclf.runs.run_names import PREDICTIONS_FILE
from cnnclf.tuning.budget import TOLERANCE, TimeBudget
from cnnclf.tuning.confirmation import Confirmation, compare_seeds, stack_correct
from cnnclf.tuning.halving import FAILED, Halving, Job
from cnnclf.tuning.trial import TrialOutcome, read_outcome

MAX_FINALS = 3


def find_finals(halving: Halving) -> list[int]:
    """Return the best configurations that were trained to the end, without the default."""
    top = len(halving.rungs) - 1
    reached = [trial for trial in halving.rank(top) if trial]
    return [trial for trial in reached if halving.scores[trial][-1] != FAILED][:MAX_FINALS]


@dataclass
class Finals:
    """The best configurations: which are trained with other seeds, and how they compare.

    Args:
        trials: Their numbers, at least one, the best first.
        rung: Index of the last rung.
        seeds: That they and the default are to be trained with, the first one included.
        outcomes: What the trials did, by name.
        budget: The time of the search.
        dataset: That all are evaluated on.
        directory: Of the trials.
    """

    trials: list[int]
    rung: int
    seeds: int
    outcomes: Mapping[str, TrialOutcome]
    budget: TimeBudget
    dataset: Dataset
    directory: Path

    def __post_init__(self) -> None:
        self._order = iter(
            Job(trial, self.rung, seed)
            for seed in range(1, self.seeds)
            for trial in (self.trials[0], 0, *self.trials[1:])
        )
        self._done = {trial: [0] for trial in (0, *self.trials)}

    def choose(self) -> Job | None:
        """Choose the next training with another seed; None if there is no time for any."""
        for job in self._order:
            # a seed counts once the default and the best trial are trained with it
            pair = {Job(trial, self.rung, job.seed) for trial in (self.trials[0], 0)}
            left_s = {
                each: self._predict(each)
                for each in pair | {job}
                if each.name not in self.budget.running
            }
            # a trial that took longer than predicted must not keep the default from counting
            is_second = not job.trial and not left_s.get(Job(self.trials[0], self.rung, job.seed))
            needed_s = sum(left_s.values()) / (TOLERANCE if is_second else 1.0)
            if not needed_s or self.budget.fits(needed_s):
                self.budget.running[job.name] = left_s[job]
                return job
        return None

    def record(self, job: Job, outcome: TrialOutcome) -> None:
        """Count a training, unless it failed or was cut."""
        if outcome.is_whole:
            evaluate_on_val(RunDirectory(self.directory / job.name), self.dataset)
            self._done[job.trial].append(job.seed)

    def compare(self) -> list[Confirmation]:
        """Compare each one with the default: those with the most seeds first, then the best.

        Raises:
            RunError: The evaluation of a training is damaged.
        """
        right = {
            (trial, seed): self._read_correct(Job(trial, self.rung, seed))
            for trial, seeds in self._done.items()
            for seed in seeds
        }
        found = []
        for trial in self.trials:
            seeds = [seed for seed in self._done[trial] if seed in self._done[0]]
            count = len(seeds)
            both = stack_correct([right[each, seed] for each in (0, trial) for seed in seeds])
            found.append(
                compare_seeds(both[:count], both[count:], trial=trial, compared=len(self.trials))
            )
        return sorted(found, key=lambda each: (-each.seeds, -each.accuracy))

    def _predict(self, job: Job) -> float:
        """Return the seconds that a training with another seed will take; 0 if it is over."""
        outcome, own = read_outcome(self.directory / job.name), self.outcomes[Job(job.trial).name]
        if outcome.is_over:
            return 0.0
        return own.wall_s + own.evaluation_s - outcome.epochs * own.epoch_s

    def _read_correct(self, job: Job) -> dict[str, bool]:
        """Return which val images a training has right."""
        from cnnclf.evaluation.paired_runs import read_answers

        run = RunDirectory(self.directory / job.name)
        evaluate_on_val(run, self.dataset)
        answers = read_answers(run.evaluation("val") / PREDICTIONS_FILE)
        return {path: each.predicted == each.label for path, each in answers.items()}


def evaluate_on_val(run: RunDirectory, dataset: Dataset) -> None:
    """Evaluate a training on val, unless it was before, and record the seconds that it took.

    Raises:
        RunError: The run has no checkpoint.
    """
    if (run.evaluation("val") / PREDICTIONS_FILE).exists():
        return
    began = monotonic()
    evaluate_trial(run, dataset, split="val", progress=Silent())
    run.update_run(evaluation_s=round(monotonic() - began, 3))


def evaluate_trial(run: RunDirectory, dataset: Dataset, *, split: str, progress: Progress) -> str:
    """Evaluate a training, into its run directory.

    Returns:
        The accuracy, in words.

    Raises:
        DataError: The dataset has no such split.
        RunError: The run has no checkpoint.
    """
    from cnnclf.evaluation.report import evaluate
    from cnnclf.inference.classifier import Classifier

    # nothing is set up where others trained, or all was done before
    device = section(section(read_json(run.plan), "config"), "runtime").get("device", "auto")
    report = evaluate(
        Classifier.load(run.path, device=device),
        dataset,
        split=split,
        out=run.evaluation(split),
        progress=progress,
    )
    return report.headline
