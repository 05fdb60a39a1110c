"""A search in its directory: trials until the time is used, the best ones with several seeds.

What was done is read from the run directories of the trials. A search that is resumed makes the
same choices again from their scores, so a kill at any moment changes neither trials nor order.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from operator import attrgetter
from pathlib import Path
from time import monotonic
from typing import Any

from cnnclf.data.manifest import Dataset, load_dataset
from cnnclf.errors import ConfigError, DataError, UsageError
from cnnclf.files import read_json, write_json_atomic
from cnnclf.planning.train_plan import TrainPlan
from cnnclf.progress import SECONDS, Progress, Silent, Task
from cnnclf.run_lock import holding_run
from cnnclf.runs import PREDICTIONS_FILE, RECORD_FILE, RunDirectory
from cnnclf.training.epochs import EpochRow, StopRequest
from cnnclf.tuning.confirmation import Confirmation, compare_seeds, stack_correct
from cnnclf.tuning.halving import FAILED, Halving, Job, choose_rungs
from cnnclf.tuning.leaderboard import SearchResult, TrialRow
from cnnclf.tuning.request import SearchRequest
from cnnclf.tuning.samplers import Sampler, build_sampler
from cnnclf.tuning.space import Point, Settings
from cnnclf.tuning.trial import TrialOutcome, continue_trial, read_outcome

TRIALS = "trials"
POINTS_FILE = "points.json"

_RESERVED = 0.4  # of the time, at most, for training the best ones with other seeds
_FINALISTS = 3
_TOLERANCE = 1.05  # of the time, that the last trial may exceed it
_LARGEST = 1 / 3  # of the time, that one trial may be predicted to take
_MAX_POINTS = 200  # in a row that no network can be built of
_SEED_S = 2.0  # for the evaluation of a training


class _TrialProgress(Silent):
    """Passes warnings on, with the name of the trial."""

    def __init__(self, progress: Progress, name: str) -> None:
        super().__init__()
        self._progress, self._name = progress, name

    def warn(self, text: str) -> None:
        self._progress.warn(f"trial {self._name}: {text}")


@dataclass
class Search:
    """A search; `run` continues it from whatever is in its directory.

    Args:
        directory: The tuning directory, with a tuning.json.
        request: What is searched.
        progress: Receives tasks, rows, notes and warnings.
    """

    directory: Path
    request: SearchRequest
    progress: Progress
    _points: list[Point] = field(default_factory=list, init=False)
    _plans: list[TrainPlan] = field(default_factory=list, init=False)
    _outcomes: dict[str, TrialOutcome] = field(default_factory=dict, init=False)
    _marks: list[tuple[float, float, int]] = field(default_factory=list, init=False)
    _number: int = field(default=0, init=False)
    _earlier_s: float = field(default=0.0, init=False)
    _started: float = field(default=0.0, init=False)
    _shown_s: int = field(default=0, init=False)

    def run(self) -> SearchResult:
        """Search until the time or the trials are used, and confirm the best configurations.

        Raises:
            DataError: The dataset is missing or changed, or has no val split.
            UsageError: The time is shorter than one training.
            RunError: Another process searches in the directory.
            MissingPackageError: The sampler needs a package that is not installed.
        """
        dataset = load_dataset(self.request.dataset)
        if dataset.fingerprint != self.request.fingerprint:
            raise DataError(
                f"the dataset in {dataset.directory} has changed since the search "
                f"{self.directory} started",
                "start another search: cnnclf tune DATASET",
            )
        default = self.request.plan({}, dataset)
        check_searchable(default, dataset)
        space, config = self.request.space, self.request.config
        with holding_run(self.directory), self._task() as task:
            sampler = build_sampler(
                config.sampler, space, seed=config.seed, directory=self.directory
            )
            self._earlier_s = self._read_seconds()
            self._started = monotonic()
            halving = Halving(choose_rungs(int(default.config.training.epochs)))
            self._run_jobs(halving, sampler, dataset=dataset, task=task)
            confirmations = self._confirm(halving, dataset=dataset, task=task)
            return self._summarize(halving, confirmations, dataset=dataset)

    def _run_jobs(
        self, halving: Halving, sampler: Sampler, *, dataset: Dataset, task: Task
    ) -> None:
        limit = self.request.config.trials
        while True:
            number = len(halving.scores)
            is_known = (self._path(number) / RECORD_FILE).exists()
            may_start = (limit is None or number < limit) and (
                is_known or not number or self._fits(self._predict_first(halving), is_search=True)
            )
            job = halving.choose_job(may_start=may_start)
            if job is None:
                return
            if job.trial == len(self._points):
                self._propose(halving, sampler, dataset=dataset)
            before = read_outcome(self._path(job.trial))
            scores = before.scores(halving.rungs, val_count=len(dataset.manifest.select("val")))
            outcome = before
            if len(scores) <= job.rung:
                if job.trial and not self._fits(self._predict(job, before, halving)):
                    return
                outcome = self._train(job, halving, dataset=dataset, task=task)
                scores = outcome.scores(
                    halving.rungs, val_count=len(dataset.manifest.select("val"))
                )
            self._outcomes[_name(job.trial)] = outcome
            # Later epochs of an interrupted search must not change what was chosen without them.
            halving.record(job.trial, scores[: job.rung + 1])
            if job.rung == 0 and job.trial:
                is_failed = scores[0] == FAILED
                sampler.tell(self._number - 1, None if is_failed else scores[0][0])
            self._mark(job, outcome, halving, dataset=dataset, is_new=outcome is not before)

    def _propose(self, halving: Halving, sampler: Sampler, *, dataset: Dataset) -> None:
        """Add the next configuration that can be trained; the first is the default."""
        if not self._points:
            self._points.append({})
            self._plans.append(self.request.plan({}, dataset))
            return
        order = [trial for trial in halving.best() if halving.scores[trial][-1] != FAILED]
        best = [self._points[trial] for trial in order]
        known = self._read_points()[len(self._points) - 1 :][:1]
        problem = ""
        for _ in range(_MAX_POINTS):
            number, point = self._number, sampler.propose(self._number, best)
            self._number += 1
            # whether there is time for it is not asked again when a search is resumed
            if known and number == known[0][0]:
                point = known[0][1]
            elif known or (problem := self._find_fault(point, dataset)):
                sampler.tell(number, None)
                continue
            self._points.append(point)
            self._plans.append(self.request.plan(self.request.space.decode(point), dataset))
            if not known:
                points = [*self._read_points(), [number, point]]
                write_json_atomic(self.directory / POINTS_FILE, {"points": points})
            return
        raise ConfigError(
            f"none of {_MAX_POINTS} configurations of the space can be trained: {problem}",
            "make the space smaller: --space FILE",
        )

    def _read_points(self) -> list[Any]:
        """Return [number, point] of every trial so far but the default."""
        path = self.directory / POINTS_FILE
        return (
            [(number, point) for number, point in read_json(path)["points"]]
            if path.exists()
            else []
        )

    def _find_fault(self, point: Point, dataset: Dataset) -> str:
        """Say why a configuration cannot be trained; empty if it can."""
        try:
            plan = self.request.plan(self.request.space.decode(point), dataset)
        except ConfigError as error:
            return error.message
        return "" if self._is_affordable(plan) else "it would take more than a third of --minutes"

    def _is_affordable(self, plan: TrainPlan) -> bool:
        """Check a prediction by the computation, which does not depend on this machine's load."""
        whole = self._outcomes[_name(0)]
        part_of_default = plan.macs / max(1, self._plans[0].macs)
        predicted = part_of_default * whole.epoch_s * int(plan.config.training.epochs)
        return part_of_default <= 1 or predicted <= _LARGEST * self._limit_s

    def _train(self, job: Job, halving: Halving, *, dataset: Dataset, task: Task) -> TrialOutcome:
        epochs = halving.rungs[job.rung]
        return self._continue(job.trial, 0, epochs=epochs, dataset=dataset, task=task)

    def _continue(
        self, trial: int, seed: int, *, epochs: int, dataset: Dataset, task: Task
    ) -> TrialOutcome:
        name, is_first = _name(trial, seed), not self._outcomes
        plan = self._plans[trial]
        if seed:
            settings = self.request.space.decode(self._points[trial])
            plan = self.request.plan(settings, dataset, seed=seed)
        total = int(plan.config.training.epochs)
        shortage: list[float] = []

        def on_epoch(row: EpochRow) -> StopRequest | None:
            self._advance(task)
            task.describe(f"trial {name}, epoch {row.epoch}/{epochs}")
            needed = self._elapsed_s + (total - row.epoch) * row.seconds
            # the first epoch compiles; the second one says how long the others take
            if is_first and row.epoch == 2 and needed > _TOLERANCE * self._limit_s:
                shortage.append(needed)
                return StopRequest.PRUNE
            return None

        outcome = continue_trial(
            self._path(trial, seed),
            plan,
            dataset=dataset,
            epochs=epochs,
            on_epoch=on_epoch,
            progress=_TrialProgress(self.progress, name),
        )
        self._advance(task)
        if shortage:
            minutes = shortage[0] / 60
            raise UsageError(
                f"--minutes {self.request.config.minutes:g} is shorter than one training: the "
                f"default configuration takes about {minutes:.1f} minutes",
                f"cnnclf tune --resume {self.directory} --minutes {max(1, round(20 * minutes))}",
            )
        return outcome

    # Time

    @property
    def _limit_s(self) -> float:
        return 60 * self.request.config.minutes

    @property
    def _elapsed_s(self) -> float:
        return self._earlier_s + monotonic() - self._started

    def _fits(self, seconds: float, *, is_search: bool = False) -> bool:
        limit = self._limit_s - (self._reserved_s if is_search else 0.0)
        return self._elapsed_s + seconds <= limit

    @property
    def _reserved_s(self) -> float:
        """The time for the trainings with other seeds, of the default and the best ones."""
        one = self._outcomes[_name(0)].wall_s + _SEED_S if self._outcomes else 0.0
        wanted = (_FINALISTS + 1) * (self.request.config.seeds - 1) * one
        return min(_RESERVED * self._limit_s, wanted)

    def _predict_first(self, halving: Halving) -> float:
        default = self._outcomes[_name(0)]
        trained = sum(row.seconds for row in default.history)
        return max(0.0, default.wall_s - trained) + halving.rungs[0] * default.epoch_s

    def _predict(self, job: Job, before: TrialOutcome, halving: Halving) -> float:
        """Predict the seconds of a job: from the epochs of the trial, else by its computation."""
        default = self._outcomes[_name(0)]
        epochs = halving.rungs[job.rung] - len(before.history)
        if before.history:
            return epochs * before.epoch_s
        part_of_default = self._plans[job.trial].macs / max(1, self._plans[0].macs)
        return epochs * default.epoch_s * part_of_default

    def _read_seconds(self) -> float:
        paths = (self.directory / TRIALS).glob("*")
        return sum(read_outcome(path).wall_s for path in paths)

    @contextmanager
    def _task(self) -> Iterator[Task]:
        with self.progress.task("tuning", round(self._limit_s), unit=SECONDS) as task:
            yield task

    def _advance(self, task: Task) -> None:
        now = min(round(self._elapsed_s), round(self._limit_s))
        task.advance(now - self._shown_s)
        self._shown_s = now

    # Results

    def _mark(
        self, job: Job, outcome: TrialOutcome, halving: Halving, *, dataset: Dataset, is_new: bool
    ) -> None:
        """Report a job, and remember the best accuracy that was known after it."""
        epochs, before = halving.rungs[job.rung], halving.rungs[job.rung - 1] if job.rung else 0
        if not job.trial:
            before = 0  # the default is trained to the end at once
        count = len(dataset.manifest.select("val"))
        best = outcome.summarize(epochs, val_count=count).best_row
        spent = self._marks[-1][0] if self._marks else 0.0
        spent += sum(row.seconds for row in outcome.history[before:epochs])
        accuracy = 0.0 if best is None or best.val_accuracy is None else best.val_accuracy
        self._marks.append((spent, accuracy, job.trial))
        row = self._describe(job.trial, outcome, dataset=dataset)
        if is_new:
            figures = {
                "trial": row.trial,
                "epochs": row.epochs,
                "val accuracy": row.val_accuracy,
                "seconds": f"{row.seconds:.1f}",
                "best": "*" if halving.best()[0] == job.trial else "",
            }
            self.progress.row("trials", figures)

    def _describe(self, trial: int, outcome: TrialOutcome, *, dataset: Dataset) -> TrialRow:
        count = len(dataset.manifest.select("val"))
        best = outcome.summarize(len(outcome.history), val_count=count).best_row
        return TrialRow(
            trial,
            len(outcome.history),
            None if best is None else best.val_accuracy,
            outcome.wall_s,
            self._find_changed(trial),
            outcome.problem,
        )

    def _find_changed(self, trial: int) -> Settings:
        """Return the settings of a trial that differ from the plan of the default."""
        default = self._plans[0].config
        settings = self.request.space.decode(self._points[trial])
        return {key: value for key, value in settings.items() if attrgetter(key)(default) != value}

    def _confirm(self, halving: Halving, *, dataset: Dataset, task: Task) -> list[Confirmation]:
        """Train the default and the best configurations with other seeds, as far as time allows."""
        top = len(halving.rungs) - 1
        finalists = [
            trial for trial in halving.rank(top) if trial and halving.scores[trial][-1] != FAILED
        ][:_FINALISTS]
        if not finalists:
            return []
        done = {trial: [0] for trial in (0, *finalists)}
        for seed in range(1, self.request.config.seeds):
            for trial in (finalists[0], 0, *finalists[1:]):
                name, path = _name(trial, seed), self._path(trial, seed)
                outcome, own = read_outcome(path), self._outcomes[_name(trial)]
                left_s = own.wall_s + _SEED_S - len(outcome.history) * own.epoch_s
                if not outcome.is_over:
                    if not self._fits(left_s / _TOLERANCE):
                        continue
                    outcome = self._continue(
                        trial, seed, epochs=halving.rungs[-1], dataset=dataset, task=task
                    )
                self._outcomes[name] = outcome
                if not outcome.problem:
                    done[trial].append(seed)
        right = {
            (trial, seed): self._read_correct(trial, seed, dataset=dataset)
            for trial, seeds in done.items()
            for seed in seeds
        }
        found = []
        for trial in finalists:
            seeds = [seed for seed in done[trial] if seed in done[0]]
            count = len(seeds)
            both = stack_correct([right[each, seed] for each in (0, trial) for seed in seeds])
            found.append(
                compare_seeds(both[:count], both[count:], trial=trial, compared=len(finalists))
            )
        return sorted(found, key=lambda each: (-each.seeds, -each.accuracy))

    def _read_correct(self, trial: int, seed: int, *, dataset: Dataset) -> dict[str, bool]:
        """Return which val images a training has right; it is evaluated at the first time."""
        from cnnclf.evaluation.paired_runs import read_answers
        from cnnclf.evaluation.report import evaluate
        from cnnclf.inference.classifier import Classifier

        run = RunDirectory(self._path(trial, seed))
        table = run.evaluation("val") / PREDICTIONS_FILE
        if not table.exists():
            progress = _TrialProgress(self.progress, _name(trial, seed))
            evaluate(
                Classifier.load(run.path),
                dataset,
                split="val",
                out=table.parent,
                progress=progress,
            )
        answers = read_answers(table)
        return {path: each.predicted == each.label for path, each in answers.items()}

    def _summarize(
        self, halving: Halving, confirmations: list[Confirmation], *, dataset: Dataset
    ) -> SearchResult:
        rows = [
            self._describe(trial, self._outcomes[_name(trial)], dataset=dataset)
            for trial in halving.best()
        ]
        better = [each for each in confirmations if each.is_better]
        winner = better[0].trial if better else 0
        names = [name for name in self._outcomes if name.split("-")[0] == _name(winner)]
        runs = [RunDirectory(self.directory / TRIALS / name) for name in names]
        return SearchResult(
            self.directory,
            rows,
            confirmations,
            winner,
            max(runs, key=lambda run: run.read_record().get("best_val_accuracy") or 0.0),
            self.request.plan(self.request.space.decode(self._points[winner]), dataset),
            sum(each.wall_s for each in self._outcomes.values()),
            halving.rungs,
            self._marks,
        )

    def _path(self, trial: int, seed: int = 0) -> Path:
        return self.directory / TRIALS / _name(trial, seed)


def evaluate_winner(
    result: SearchResult, request: SearchRequest, *, progress: Progress
) -> SearchResult:
    """Evaluate the winner on the test split, which the search did not use.

    Returns:
        The result with the accuracy on test.

    Raises:
        DataError: The dataset has no test split, or is missing.
    """
    from cnnclf.evaluation.report import evaluate
    from cnnclf.inference.classifier import Classifier

    report = evaluate(
        Classifier.load(result.run.path),
        load_dataset(request.dataset),
        split="test",
        out=result.run.evaluation("test"),
        progress=progress,
    )
    return replace(result, test=report.headline)


def check_searchable(plan: TrainPlan, dataset: Dataset) -> None:
    """Refuse a dataset without a val split, which trials are compared on, and open epochs.

    Raises:
        DataError: It has no val split.
        ConfigError: A training ends by its minutes, not by its epochs.
    """
    if plan.config.training.minutes is not None:
        raise ConfigError(
            "training.minutes cannot be fixed: trials are compared after equal epochs",
            "give the minutes of the whole search: --minutes",
        )
    if not plan.counts["val"]:
        raise DataError(
            f"{dataset.directory} has no val split, and trials are compared on it",
            "import the source again: cnnclf import SOURCE --split 0.7,0.15,0.15",
        )


def _name(trial: int, seed: int = 0) -> str:
    return f"{trial:03d}" + (f"-seed{seed}" if seed else "")
