"""A run in three steps: fit, judge the best epoch on val, evaluate it on test.

`conduct_run` does all three. A search over settings takes the first two and never touches test:

    with open_work(Work(plan, dataset, run, runtime, progress, with_test=False)) as work:
        state = fit(work)
        judge_best(work)
"""

import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from cnnclf.data.manifest import Dataset
from cnnclf.data.store import keep_readable
from cnnclf.errors import DataError, DeviceError, DivergedError, ImageError
from cnnclf.evaluation.learning_diagnosis import diagnose, read_rows
from cnnclf.evaluation.mirroring import compare_mirrored
from cnnclf.evaluation.report import evaluate
from cnnclf.evaluation.report_content import Report
from cnnclf.files import read_json
from cnnclf.inference.calibration_data import FIELD
from cnnclf.inference.classifier import Classifier
from cnnclf.inference.engines.keras_comparison import MAX_IMAGES, save_reference
from cnnclf.names import count_of
from cnnclf.planning.choices import choose_averaging
from cnnclf.planning.finetune_plan import FinetunePlan
from cnnclf.planning.plan import Plan
from cnnclf.planning.train_plan import TrainPlan
from cnnclf.progress import Progress
from cnnclf.runs.run_directory import RunDirectory, RunStatus, still_training, utc_now
from cnnclf.runs.run_lock import FORCE_HINT
from cnnclf.runs.run_names import CLASSIFIER_FILE
from cnnclf.runtime import keeping_policy
from cnnclf.runtime.gradients import check_gradients
from cnnclf.training.calibration import MIN_IMAGES, Calibration, calibrate
from cnnclf.training.epochs import EpochListener, EpochRow, StopRequest
from cnnclf.training.fitting.judging import Verdict, judge_mirrored
from cnnclf.training.fitting.state import TrainingState
from cnnclf.training.head_and_tail import fit_head_and_tail
from cnnclf.training.indexing import index_training_images
from cnnclf.training.precision import change_precision, choose_precision, set_up
from cnnclf.training.rate_range import find_rate
from cnnclf.training.recording import draw_curves, read_epochs
from cnnclf.training.scratch import fit_cnn
from cnnclf.training.work import Work, decode_ahead, open_work

if TYPE_CHECKING:
    from cnnclf.runtime import RuntimeInfo


@dataclass(frozen=True)
class TrainResult:
    """The result of a run; the same is in its directory.

    Args:
        run: Its directory.
        state: Epochs, best epoch and times.
        report: The best checkpoint on the test split, or on val or train if there is none; None for
            a run that was pruned, or if none of these images can be decoded.
        failed: Images that could not be decoded and were skipped.
    """

    run: RunDirectory
    state: TrainingState
    report: Report | None
    failed: int = 0

    def __repr__(self) -> str:
        """Say what a notebook shows; `history` and `report` have the figures."""
        epochs = count_of(self.state.epoch, "epoch")
        return f"TrainResult({str(self.run.path)!r}, {epochs}, report={self.report})"

    @property
    def history(self) -> list[EpochRow]:
        """The figures of all epochs, those before a resumption too."""
        return read_epochs(self.run)


def execute_plan(
    plan: TrainPlan | FinetunePlan,
    dataset: Dataset,
    *,
    make_run: Callable[[], RunDirectory],
    progress: Progress,
    resume: bool = False,
    listeners: Sequence[EpochListener] = (),
    verbose: bool = False,
) -> TrainResult:
    """Set up the runtime, make the run directory and conduct the run, decoding meanwhile.

    Args:
        plan: What to do.
        dataset: The dataset the plan was made for.
        make_run: Creates or opens the run directory.
        progress: Receives tasks, notes and warnings.
        resume: Continue from the last checkpoint.
        listeners: Receive each epoch and whether it is the best so far; may ask to stop or prune.
        verbose: Do not silence libraries.

    Raises:
        DataError: No training image can be decoded.
        RunError: The loss became NaN, weights do not fit, or the state to continue from is damaged.
        DeviceError: The device cannot be used, or no space for images, features or checkpoints.
    """
    settings, started, began = plan.config.runtime, time.perf_counter(), utc_now()
    with keeping_policy(), decode_ahead(plan, dataset) as ahead:
        # Before the run directory is made, so that a device that cannot be used leaves none.
        runtime = set_up(plan, verbose=verbose, progress=progress)
        if plan.config.training.trace:
            check_gradients()
        if isinstance(plan, TrainPlan) and plan.config.optimizer.learning_rate == "find":
            plan = find_rate(plan, dataset, runtime=runtime, ahead=ahead, progress=progress)
            # the test used random numbers: seeded again
            runtime = change_precision(plan, runtime.precision, reason=runtime.precision_reason)
        if not resume:
            runtime = choose_precision(
                plan, runtime, wait=lambda: ahead(progress), progress=progress
            )
        run = make_run()
        if str(run.read_record().get("created")) > began:  # the directory is made after the start
            run.update_run(created=began)
        if resume:
            runtime = _keep_precision(plan, runtime, run)

        prepare = partial(
            Work, plan, dataset, run, progress=progress, listeners=listeners, ahead=ahead
        )
        try:
            try:
                work = prepare(runtime=runtime, resume=resume, started=started)
                with open_work(work):
                    return conduct_run(work)
            except DivergedError as error:
                if settings.precision != "auto" or runtime.precision == "float32":
                    raise
                progress.warn(f"{error.message}; training continues in float32, which may not")
                runtime = change_precision(plan, "float32", reason="the loss became NaN before")
                work = prepare(runtime=runtime, resume=True)
                with open_work(work):
                    return conduct_run(work)
        except (KeyboardInterrupt, DeviceError) as stop:
            once = "once there is enough, " if isinstance(stop, DeviceError) else ""
            stop.add_note(f"{once}continue with: {run.resume_command()}")
            raise


def _keep_precision(
    plan: TrainPlan | FinetunePlan, runtime: "RuntimeInfo", run: RunDirectory
) -> "RuntimeInfo":
    """Return the runtime in the precision that a run used before, if "auto" chose it."""
    precision = run.read_record().get("precision") or runtime.precision
    if plan.config.runtime.precision != "auto" or precision == runtime.precision:
        return runtime
    return change_precision(plan, str(precision), reason="as before")


def conduct_run(work: Work[Any]) -> TrainResult:
    """Train or fine-tune as planned, keep the best epoch, calibrate it on val and test it.

    Raises:
        DataError: No training image can be decoded.
        RunError: The loss became NaN, weights do not fit, or the state to continue from is damaged.
        DeviceError: No space for images, features or checkpoints.
    """
    state = fit(work)
    if state.stopped is StopRequest.PRUNE:
        return TrainResult(work.run, state, None, len(work.pixels.failed))
    if work.plan.config.training.calibrate:
        judge_best(work)
    report = evaluate_best(work)
    paths = work.dataset.manifest.paths
    lost = (
        (paths[row] for row in work.dataset.select_split(_choose_split(work.plan)))
        if report is None
        else (file.path for file in report.failed)
    )
    failed = {paths[row] for row in work.pixels.failed}.union(lost)
    return TrainResult(work.run, state, report, len(failed))


def fit(work: Work[Any], *, with_curves: bool = True) -> TrainingState:
    """Train as planned: leaves the best and the last checkpoint, the history and the curves.

    Raises:
        DataError: No training image can be decoded.
        RunError: The loss became NaN, weights do not fit, or the state to continue from is damaged.
        DeviceError: No space for images, features or checkpoints.
    """
    fit_plan = fit_cnn if isinstance(work.plan, TrainPlan) else fit_head_and_tail
    state = fit_plan(work)
    work.run.update_run(
        epochs=state.epoch,
        best_epoch=state.best_epoch,
        best_val_accuracy=_best_val_accuracy(work, state),
        fit_s=round(state.seconds, 3),
        data_wait_share=round(state.wait_s / state.seconds, 4) if state.seconds else None,
    )
    work.state = state
    if not with_curves:
        return state
    work.progress.note("drawing the curves")
    is_plain = isinstance(work.plan, TrainPlan)
    averaged = choose_averaging(work.plan.counts["val"]) if is_plain else 1
    draw_curves(work.run, state, averaged=averaged)
    history = [row.to_dict() for row in state.history]
    optimizer = work.plan.config.optimizer.name
    for sentence in diagnose(history, read_rows(work.run.trace), optimizer=optimizer):
        work.progress.note(sentence)
    return state


def _best_val_accuracy(work: Work[Any], state: TrainingState) -> float | None:
    """Return the val accuracy of the weights that are kept, which may be between two epochs.

    Epochs on cached features are measured without the frozen layers, the verdict with them.
    """
    if state.best_row is None:
        return None
    best = work.run.find_checkpoint("best")
    if work.verdict is None:
        if "tail_fraction" not in read_json(best / CLASSIFIER_FILE).get("extra", {}):
            return state.best_row.val_accuracy
        work.verdict = work.judge(best)
    return work.verdict.score[0]


def judge_best(work: Work[Any]) -> Calibration | None:
    """Compute the logits of the best checkpoint on val and fit its temperature to them.

    The temperature goes into the bundle; the logits stay in `work.verdict`.

    Returns:
        What was fitted; None if val has too few images for that, or if none of them can be decoded,
        which a warning says.
    """
    if not len(work.rows["val"]):
        return None
    best = work.run.find_checkpoint("best")
    try:
        work.verdict = work.verdict or work.judge(best)
    except DataError as error:  # the network is trained all the same
        work.progress.warn(
            f"calibration skipped: {error.message}; probabilities stay as the network gives them"
        )
        return None
    found = calibrate(best, work.verdict)
    if found is None:
        work.progress.note(
            f"calibration skipped: {len(work.verdict.truth)} val images are fewer than "
            f"{MIN_IMAGES}; probabilities stay as the network gives them"
        )
    else:
        work.run.update_run(calibration=asdict(found))
        work.progress.note(
            f"temperature {found.temperature:.2f}, fitted on {found.images:,} val images: "
            f"calibration error {found.ece_before:.3f} before, {found.ece_after:.3f} after"
        )
    return found


def evaluate_best(work: Work[Any]) -> Report | None:
    """Evaluate the best checkpoint on test, as everybody will load it.

    A run that is calibrated also stores what sets of labels and familiarity need.

    Returns:
        The report on the test split, or on val or train if there is none; None if none of its
        images can be decoded, which a warning says.
    """
    counts, is_calibrated = work.plan.counts, work.plan.config.training.calibrate
    bundle = read_json(work.run.find_checkpoint("best") / CLASSIFIER_FILE)
    with_index = is_calibrated and counts["val"] and FIELD not in bundle
    classifier = Classifier.load(work.run.path, features=None if with_index else 0)
    report = _evaluate(work, classifier)
    _keep_reference(work, classifier)
    if isinstance(work.plan, TrainPlan) and work.plan.leaves_flips_open and work.verdict:
        _judge_mirrored(work, classifier, work.verdict)
    if report is not None:
        work.run.update_run(evaluation={"split": report.split, "metrics": report.summary})
    if with_index:
        index_training_images(work, classifier)
    return report


def _choose_split(plan: Plan[Any]) -> str:
    """Choose the split that the best checkpoint is evaluated on."""
    return next((name for name in ("test", "val") if plan.counts[name]), "train")


def _evaluate(work: Work[Any], classifier: Classifier) -> Report | None:
    split = _choose_split(work.plan)
    try:
        return evaluate(
            classifier,
            work.dataset,
            split=split,
            out=work.run.evaluation(split),
            cache=work.plan.config.data.cache,
            progress=work.progress,
        )
    except DataError as error:  # the network is trained all the same
        command = shlex.join(["cnnclf", "evaluate", str(work.run.path)])
        work.progress.warn(
            f"the run was not evaluated: {error.message}; {command} does so once they can be read, "
            f"{command} DATASET on other images"
        )
        return None


def _keep_reference(work: Work[Any], classifier: Classifier) -> None:
    """Keep a few images in the best checkpoint, to compare engines with Keras on."""
    rows = work.rows["val" if work.plan.counts["val"] else "train"]
    readable = keep_readable(rows, work.pixels.failed)
    count = min(MAX_IMAGES, len(readable))
    if not count:
        return
    # in the order of the dataset, so that all classes occur
    chosen = readable[np.linspace(0, len(readable) - 1, count).round().astype(np.intp)]
    try:
        images = work.pixels.gather(chosen)
    except ImageError:  # it became unreadable since; engines draw images themselves
        return
    save_reference(classifier.directory, images, logits=classifier.logits(images))


def _judge_mirrored(work: Work[Any], classifier: Classifier, verdict: Verdict) -> None:
    """Find out on val whether flips would help a network that was trained without them."""
    rows = work.rows["val"][work.judged]
    try:
        mirrored = judge_mirrored(classifier, rows=rows, pixels=work.pixels, progress=work.progress)
    except ImageError:  # it became unreadable since; the network is trained and tested all the same
        return
    if len(mirrored) != len(verdict.truth):  # so did one of those that the verdict is about
        return
    found = compare_mirrored(verdict.logits, mirrored, truth=verdict.truth)
    words = found.describe()
    work.run.update_run(mirrored_val=asdict(found) | {"words": words})
    if words:
        work.progress.note(words)


def check_resumable(run: RunDirectory, *, plan: Plan[Any], dataset: Dataset) -> None:
    """Refuse to continue a run that another process trains, or whose data changed.

    Raises:
        RunError: It is still training.
        DataError: The dataset is not the one that was trained on.
    """
    if run.status() is RunStatus.RUNNING:
        raise still_training(run, FORCE_HINT)
    check_unchanged(run, plan=plan, dataset=dataset)


def check_unchanged(run: RunDirectory, *, plan: Plan[Any], dataset: Dataset) -> None:
    """Refuse to continue a run whose data changed.

    Raises:
        DataError: The dataset is not the one that was trained on.
    """
    if dataset.fingerprint != plan.dataset["fingerprint"]:
        raise DataError(
            f"the dataset in {dataset.directory} has changed since the run {run.path} started",
            "train again into another --out; a change by cnnclf import can be undone with --undo",
        )
