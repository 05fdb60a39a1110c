"""A search in its directory: trials until the time is used, the best ones with several seeds.

What was done is read from the run directories of the trials. A search that is resumed makes the
same choices again from their scores, so a kill at any moment changes neither trials nor order.
"""

import shlex
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path

from cnnclf.data.manifest import Dataset, load_dataset
from cnnclf.errors import DataError, RunError
from cnnclf.progress import SECONDS, Progress, Task
from cnnclf.runs.run_directory import RunDirectory
from cnnclf.runs.run_lock import holding_run
from cnnclf.runs.run_names import RECORD_FILE
from cnnclf.training.epochs import EpochRow
from cnnclf.tuning.budget import TOLERANCE, TimeBudget, too_short
from cnnclf.tuning.confirmation import Confirmation
from cnnclf.tuning.finals import MAX_FINALS, Finals, evaluate_on_val, evaluate_trial, find_finals
from cnnclf.tuning.halving import FAILED, Halving, Job, choose_rungs
from cnnclf.tuning.leaderboard import SearchResult, TrialRow, write_result
from cnnclf.tuning.proposals import Proposals
from cnnclf.tuning.recipes import AnyPlan
from cnnclf.tuning.request import SearchRequest, check_final
from cnnclf.tuning.samplers import build_sampler, describe_limits
from cnnclf.tuning.search_directory import BUSY, BUSY_HINT, TRIALS, count_seconds
from cnnclf.tuning.search_figures import Mark
from cnnclf.tuning.trial import TrialJob, TrialOutcome, read_outcome
from cnnclf.tuning.workers import TrialReport, Workers, open_workers

_LEFT = 0.1  # of the time: more is explained
_TICK_S = 0.5


@dataclass
class Search:
    """A search; `run` continues it from whatever is in its directory.

    Args:
        directory: The tuning directory, with a tuning.json.
        request: What is searched.
        progress: Receives tasks, rows, notes and warnings.
        ray: Address of a cluster that trains the trials, as of `check_address`; None: no cluster.
        track: Trackers that show each trial.
    """

    directory: Path
    request: SearchRequest
    progress: Progress
    ray: str | None = None
    track: tuple[str, ...] = ()
    _outcomes: dict[str, TrialOutcome] = field(default_factory=dict, init=False)
    _marks: list[Mark] = field(default_factory=list, init=False)
    _shown_s: int = field(default=0, init=False)
    _val_count: int = field(default=0, init=False)
    _is_full: bool = field(default=False, init=False)  # no other trial may start
    _dataset: Dataset = field(init=False, repr=False)
    _halving: Halving = field(init=False, repr=False)
    _proposals: Proposals = field(init=False, repr=False)
    _budget: TimeBudget = field(init=False, repr=False)
    _workers: Workers = field(init=False, repr=False)
    _task: Task = field(init=False, repr=False)

    def run(self) -> SearchResult:
        """Search until the time or the trials are used, and confirm the best configurations.

        Raises:
            DataError: The dataset is missing or changed, or has no val split.
            UsageError: The time is shorter than one training.
            RunError: Another process searches in the directory, a node does not see it, or no
                configuration could be trained.
            MissingPackageError: The sampler or the cluster needs a package that is not installed.
            DeviceError: No cluster answers, or it has no GPU.
        """
        self._dataset = load_dataset(self.request.dataset)
        if self._dataset.fingerprint != self.request.fingerprint:
            raise DataError(
                f"the dataset in {self._dataset.directory} has changed since the search "
                f"{self.directory} started",
                "start another search: cnnclf tune DATASET",
            )
        default = self.request.plan({}, self._dataset)
        self._val_count = len(self._dataset.manifest.select("val"))
        config = self.request.config
        total = round(60 * config.minutes)
        with (
            holding_run(self.directory, busy=BUSY, hint=BUSY_HINT),
            open_workers(
                config.jobs,
                ray=self.ray,
                gpus=config.gpus,
                progress=self.progress,
                on_epoch=self._show_epoch,
            ) as self._workers,
            self.progress.task("tuning", total, unit=SECONDS) as self._task,
        ):
            if config.jobs is None:  # the order of trials depends on it
                config = config.model_copy(update={"jobs": self._workers.count})
                self.request = replace(self.request, config=config)
            self.request.save(self.directory)  # not before: another process may search
            sampler = build_sampler(
                config.sampler, self.request.space, seed=config.seed, directory=self.directory
            )
            if limits := describe_limits(config.sampler, self.request.space):
                self.progress.warn(limits)
            workers = self._workers.count
            earlier_s = count_seconds(self.directory, workers)
            self._budget = TimeBudget(60 * config.minutes, workers, earlier_s)
            self._proposals = Proposals(self.directory, self.request, self._dataset, sampler)
            self._halving = Halving(choose_rungs(self.request.recipe.count_epochs(default)))
            self._work(self._choose, self._record)
            confirmations = self._confirm()
            self._explain_rest(confirmations)
        return self._summarize(confirmations)

    # Trials

    def _work(
        self,
        choose: Callable[[], Job | None],
        record: Callable[[Job, TrialOutcome, bool], None],
    ) -> None:
        """Give jobs to workers, and record their outcomes in the same order."""
        line: deque[tuple[Job, TrialOutcome | Future[TrialReport]]] = deque()
        while True:
            while len(line) < self._workers.window and (job := choose()) is not None:
                line.append((job, self._start(job)))
            if not line:
                return
            job, work = line.popleft()
            is_new = isinstance(work, Future)
            outcome = self._wait(job, work) if isinstance(work, Future) else work
            self._budget.running.pop(job.name, None)
            self._outcomes[job.name] = outcome
            record(job, outcome, is_new)

    def _choose(self) -> Job | None:
        """Choose what is trained next; promotions of trials that are running wait for them."""
        halving, points, limit = self._halving, self._proposals.points, self.request.config.trials
        number = halving.started
        is_known = (self._path(Job(number)) / RECORD_FILE).exists()
        may_start = (limit is None or number < limit) and not self._is_full
        if may_start and number and not is_known:
            # other seeds confirm nothing without another configuration
            reserved_s = self._reserve(number) if number > 1 else 0.0
            may_start = self._budget.may_start(halving.rungs, reserved_s=reserved_s)
        job = halving.choose_job(may_start=may_start, fits=self._fits)
        if job is None:
            return None
        if job.trial == len(points):
            order = [trial for trial in halving.best() if halving.scores[trial][-1] != FAILED]
            self._proposals.add(
                [points[trial] for trial in order], is_affordable=self._is_affordable
            )
        if not job.rung and not self._fits(job):  # it takes longer than the default
            self._is_full = True
            return self._choose()
        if needed_s := self._predict(job):
            self._budget.running[job.name] = needed_s
        halving.running.add(job.trial)
        return job

    def _reserve(self, trials: int) -> float:
        """Return the time to keep for other seeds, with so many trials beside the default."""
        return self._budget.reserve(self.request.config.seeds, min(MAX_FINALS, trials) + 1)

    def _fits(self, job: Job, is_extra: bool = False) -> bool:
        """Return whether a job was done before, or there is time for it."""
        if is_extra and self.request.config.trials is not None:
            return False
        needed_s = self._predict(job)
        reserved_s = self._reserve(self._halving.started - 1) if is_extra else 0.0
        return not needed_s or self._budget.fits(needed_s, reserved_s=reserved_s)

    def _predict(self, job: Job) -> float:
        """Return the seconds that a job will take; 0 for the default, and if it is done."""
        rungs, before = self._halving.rungs, read_outcome(self._path(job))
        if not job.trial or len(before.scores(rungs, val_count=self._val_count)) > job.rung:
            return 0.0
        part = self._proposals.compare(self._proposals.plans[job.trial])
        needed_s = self._budget.predict(rungs[job.rung], before, part=part)
        return needed_s + self._find_evaluation_s(job)

    def _find_evaluation_s(self, job: Job) -> float:
        """Return the seconds to keep for the evaluation of a training; 0 if it is not whole."""
        is_whole = job.rung == len(self._halving.rungs) - 1
        return self._budget.default.evaluation_s if is_whole else 0.0

    def _is_affordable(self, plan: AnyPlan) -> bool:
        part = self._proposals.compare(plan)
        return self._budget.is_affordable(self._halving.rungs[-1], part=part)

    def _start(self, job: Job) -> "TrialOutcome | Future[TrialReport]":
        """Give a job to a worker, unless it was done before an interruption."""
        rungs, path = self._halving.rungs, self._path(job)
        outcome = read_outcome(path)
        if len(outcome.scores(rungs, val_count=self._val_count)) > job.rung:
            return outcome
        is_first = not self._outcomes
        limit_s = TOLERANCE * self._budget.limit_s - self._budget.elapsed_s
        limit_s -= self._find_evaluation_s(job)
        return self._workers.submit(
            TrialJob(
                path.absolute(),
                self._proposals.plan(job.trial, seed=job.seed),
                self._dataset.directory.absolute(),
                epochs=rungs[job.rung],
                total=rungs[-1],
                limit_s=limit_s if is_first else None,
                stop_s=None if is_first else limit_s,
                track=self.track,
            )
        )

    def _wait(self, job: Job, work: "Future[TrialReport]") -> TrialOutcome:
        while not work.done():
            self._advance()
            try:
                work.result(timeout=_TICK_S)
            except TimeoutError:
                continue
        self._advance()
        report = work.result()
        for text in report.warnings:
            self.progress.warn(f"trial {job.name}: {text}")
        if report.outcome is None:
            raise report.error or RuntimeError(f"trial {job.name} has no outcome")
        if report.needed_s:
            raise too_short(
                self.request.config.minutes,
                report.needed_s,
                option=f"cnnclf tune --resume {shlex.quote(str(self.directory))} --minutes",
            )
        return report.outcome

    def _record(self, job: Job, outcome: TrialOutcome, is_new: bool) -> None:
        """Keep the scores of a trial, report it, and remember the best that was known after it."""
        trial, rung = job.trial, job.rung
        scores = outcome.scores(self._halving.rungs, val_count=self._val_count)
        # Later epochs of an interrupted search must not change what was chosen without them.
        self._halving.record(trial, scores[: rung + 1] or [FAILED])  # it was cut
        if trial in find_finals(self._halving) or (not trial and outcome.is_over):
            outcome = self._evaluate(job, outcome)
        if not trial:
            self._budget.default = outcome
        if rung == 0 and trial:
            self._budget.overheads_s.append(outcome.overhead_s)
            score = self._halving.scores[trial][0]
            self._proposals.tell(trial, None if score == FAILED else score[0])
        epochs, before = self._halving.rungs[rung], self._halving.rungs[rung - 1] if rung else 0
        earlier = outcome.first(before) if rung and trial else ()  # the default is trained at once
        spent = self._marks[-1].seconds if self._marks else 0.0
        spent += sum(row.seconds for row in outcome.first(epochs)[len(earlier) :])
        accuracy = outcome.accuracy(epochs, val_count=self._val_count) or 0.0
        self._marks.append(Mark(spent, accuracy, trial))
        if is_new:
            row = self._describe(trial)
            figures = {
                "trial": row.trial,
                "epochs": row.epochs,
                "val accuracy": row.val_accuracy,
                "seconds": f"{row.seconds:.1f}",
                "best": "*" if self._halving.best()[0] == trial else "",
            }
            self.progress.row("trials", figures)

    def _evaluate(self, job: Job, outcome: TrialOutcome) -> TrialOutcome:
        """Evaluate a training on val while the time is counted; it may be one of the best."""
        if outcome.problem:
            return outcome
        if not job.trial and self.request.config.gpus:
            self._check_device(job)
        evaluate_on_val(RunDirectory(self._path(job)), self._dataset)
        outcome = self._outcomes[job.name] = read_outcome(self._path(job))
        return outcome

    def _check_device(self, job: Job) -> None:
        device = str(RunDirectory(self._path(job)).read_record().get("device"))
        if device.startswith("CPU"):
            self.progress.warn(f"the GPU of --gpus was not used, but {device}: run cnnclf doctor")

    def _show_epoch(self, job: TrialJob, row: EpochRow) -> None:
        self._advance()
        self._task.describe(f"trial {job.path.name}, epoch {row.epoch}")

    def _advance(self) -> None:
        now = min(round(self._budget.elapsed_s), round(self._budget.limit_s))
        self._task.advance(now - self._shown_s)
        self._shown_s = now

    # Results

    def _describe(self, trial: int) -> TrialRow:
        outcome = self._outcomes[Job(trial).name]
        return TrialRow(
            trial,
            len(outcome.history),
            outcome.accuracy(outcome.epochs, val_count=self._val_count),
            outcome.wall_s,
            self._proposals.find_changed(trial),
            outcome.problem,
        )

    def _confirm(self) -> list[Confirmation]:
        """Train the default and the best configurations with other seeds, as far as time allows."""
        best = find_finals(self._halving)
        problem = self._budget.default.problem
        if problem and not best:
            raise RunError(
                f"no configuration could be trained; the default: {problem}",
                "start another search: with other values of --fix, or another --space",
            )
        if problem or not best:
            return []
        finals = Finals(
            best,
            len(self._halving.rungs) - 1,
            self.request.config.seeds,
            self._outcomes,
            self._budget,
            self._dataset,
            self.directory / TRIALS,
        )
        self._work(finals.choose, lambda job, outcome, _: finals.record(job, outcome))
        return finals.compare()

    def _explain_rest(self, confirmations: list[Confirmation]) -> None:
        """Say why a search ends although much of its time is left."""
        budget, config = self._budget, self.request.config
        left_s = budget.limit_s - budget.elapsed_s
        if config.trials is not None or left_s < _LEFT * budget.limit_s:
            return
        needed_s = budget.default.wall_s
        why = f"another training takes about {needed_s / 60:.1f}"
        if confirmations and config.seeds > 1:
            needed_s = 2 * (needed_s + budget.default.evaluation_s)
            why = f"another seed of the best trial and the default takes about {needed_s / 60:.1f}"
        if left_s >= needed_s:
            why = "nothing is left to train" + f" with --seeds {config.seeds}" * bool(confirmations)
        self.progress.note(f"{left_s / 60:.1f} of {config.minutes:g} minutes are left: {why}")

    def _summarize(self, confirmations: list[Confirmation]) -> SearchResult:
        better = [each for each in confirmations if each.is_better]
        best = find_finals(self._halving) if self._budget.default.problem else [0]
        winner = better[0].trial if better else best[0]
        start = Job(winner).name
        runs = [
            RunDirectory(self.directory / TRIALS / name)
            for name, outcome in self._outcomes.items()
            if name.split("-")[0] == start and outcome.is_whole
        ]
        trials = range(len(self._halving.scores))
        return SearchResult(
            self.directory,
            [self._describe(trial) for trial in self._halving.best()],
            confirmations,
            winner,
            max(runs, key=lambda run: run.read_record().get("best_val_accuracy") or 0.0),
            self._proposals.plans[winner],
            self._budget.elapsed_s,
            self._halving.rungs,
            self._marks,
            self.request.space,
            [self._proposals.points[trial] for trial in trials],
            [self._halving.scores[trial][0] for trial in trials],
        )

    def _path(self, job: Job) -> Path:
        return self.directory / TRIALS / job.name


def run_search(
    directory: Path,
    request: SearchRequest,
    *,
    progress: Progress,
    ray: str | None = None,
    track: tuple[str, ...] = (),
    final: bool = False,
) -> SearchResult:
    """Search in a directory, from whatever is in it, and write the result.

    With `final`, the winner is evaluated on the test split, which the search did not use.

    Raises:
        CnnclfError: As `Search.run` does.
        DataError: The dataset has no test split, or is missing.
    """
    dataset = load_dataset(request.dataset) if final else None
    if dataset is not None:
        check_final(dataset)
    result = Search(directory, request, progress, ray=ray, track=track).run()
    write_result(result)
    if dataset is not None:
        try:
            test = evaluate_trial(result.run, dataset, split="test", progress=progress)
        except DataError as error:  # the images are lost, the search is not
            again = shlex.join(["cnnclf", "tune", "--resume", str(directory), "--final"])
            error.add_note(f"the search is finished; once they are back, test its winner: {again}")
            raise
        result = replace(result, test=test)
        write_result(result)
    return result
