"""What `cnnclf finetune` fits: first the head on frozen layers, then the last stages.

The outputs of frozen layers are computed once per image and cached (`features.py`); the head trains
on pooled features and the last stages on feature maps. The whole network is saved and tested.
"""

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from cnnclf.config import (
    FinetuneConfig,
    HeadConfig,
    OptimizerConfig,
    TailConfig,
    TrainingConfig,
)
from cnnclf.errors import RunError
from cnnclf.files import atomic_directory, find_whole_directory, read_json
from cnnclf.inference.bundles import save_bundle
from cnnclf.models.transfer import Transfer, build_transfer
from cnnclf.models.weights.filling import LoadedWeights, load_weights
from cnnclf.names import count_of
from cnnclf.planning.choices import MIN_VAL_IMAGES
from cnnclf.planning.finetune_plan import FinetunePlan
from cnnclf.planning.pace import count_final_images, format_time
from cnnclf.progress import Progress
from cnnclf.runs.run_directory import section
from cnnclf.runs.run_names import CLASSIFIER_FILE, MODEL_FILE
from cnnclf.training.epochs import StopRequest
from cnnclf.training.fitting.fit import Phase, fit_phase
from cnnclf.training.fitting.judging import Difference, Verdict, compare_cached
from cnnclf.training.fitting.state import TrainingState
from cnnclf.training.frozen.head_search import choose_head, count_right
from cnnclf.training.frozen.phase_data import PhaseData, open_phase_data
from cnnclf.training.interpolation import FRACTIONS, choose_fraction, read_part
from cnnclf.training.phases import (
    HEAD,
    STEPS,
    TAIL,
    Step,
    drop_earlier,
    find_stage,
    keep_head,
    restore_head,
)
from cnnclf.training.tail_time import TailTime, find_tail_time
from cnnclf.training.work import Work

_SAVE_EVERY_S = 10.0  # epochs on cached features are shorter than writing a checkpoint
_HEAD_FRACTION = 0.4  # of the minutes of a run whose head is trained on images


def fit_head_and_tail(work: Work[FinetunePlan]) -> TrainingState:
    """Train a new head on a frozen backbone, then the last stages; the better phase is kept.

    Args:
        work: The run.

    Returns:
        Epochs of both phases, best epoch and times.

    Raises:
        DataError: No training image can be decoded.
        RunError: Weights do not fit, the loss of the head became NaN, or the state to continue from
            is damaged.
        DeviceError: No space for images, features or checkpoints.
    """
    with work.runtime.scope():
        transfer, weights = build_from_weights(work.plan, progress=work.progress)
    _record_weights(work, weights)
    head, tail = open_phase_data(work, transfer)
    state = _Phases(work, transfer, {HEAD: head} | ({TAIL: tail} if tail else {})).fit()
    work.run.update_run(
        best_phase=state.best_row.phase if state.best_row else None,
        parameters=int(transfer.whole.count_params()),
    )
    return state


def build_from_weights(plan: FinetunePlan, *, progress: Progress) -> tuple[Transfer, LoadedWeights]:
    """Build the whole network with the weights of the plan; return these as well."""
    progress.note("building the network")
    spec = plan.input_spec
    transfer = build_transfer(
        plan.backbone,
        plan.config.head,
        height=spec.height,
        width=spec.width,
        num_classes=len(plan.labels),
    )
    return transfer, load_weights(transfer.backbone, plan.weights, progress=progress)


def _record_weights(work: Work[FinetunePlan], weights: LoadedWeights) -> None:
    """Record the weights the backbone started from; a run that is resumed must find the same."""
    known = section(work.run.read_record(), "weights").get("sha256") if work.resume else None
    if known is not None and known != weights.sha256:
        raise RunError(
            f"the weights in {work.plan.weights.path} have changed since the run started: expected "
            f"sha256 {known}, received {weights.sha256}",
            "restore the original file, or train again into another --out",
        )
    work.run.update_run(weights=weights.to_dict())


@dataclass
class _Phases:
    """The phases of one run, which share its network; `phases.STEPS` orders what is done."""

    work: Work[FinetunePlan]
    transfer: Transfer
    data: Mapping[str, PhaseData]
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    state: TrainingState = field(default_factory=TrainingState)

    def fit(self) -> TrainingState:
        """Take the remaining steps; the best epoch of both phases is kept."""
        actions: dict[Step, Callable[[], None]] = {
            Step.RESTORE_HEAD: partial(restore_head, self.work.run),
            Step.FIT_HEAD: self._fit_head,
            Step.RESUME_HEAD: partial(self._fit_head, resume=True),
            Step.JUDGE_HEAD: self._judge_head,
            Step.KEEP_HEAD: partial(keep_head, self.work.run),
            Step.FIT_TAIL: self._fit_tail,
            Step.RESUME_TAIL: partial(self._fit_tail, resume=True),
            Step.CHOOSE: self._choose_phase,
            Step.SETTLE: self._settle,
        }
        for step in STEPS[find_stage(self.work.run, resume=self.work.resume)]:
            actions[step]()
            if self.state.stopped is StopRequest.PRUNE:
                break
            if step is Step.JUDGE_HEAD and (
                TAIL not in self.data or self.state.stopped or not self._begin_tail()
            ):
                self.work.verdict = self.verdicts.get(HEAD)
                break
        return self.state

    def _fit_head(self, *, resume: bool = False) -> None:
        self.state = self._fit(self._head, None, resume=resume)

    def _begin_tail(self) -> bool:
        """Say how long the tail will take; or skip it, saying why, and return False."""
        work, time = self.work, self._tail_time
        reason = self._find_perfection()
        if not reason and not time.epochs:
            reason = f"{format_time(max(0.0, time.left_s))} are left, which is too short for it"
        if reason:
            work.progress.note(f"tail skipped: {reason}")
            return False
        work.progress.note(
            f"tail: {count_of(time.epochs, 'epoch')} of "
            f"{count_of(self.data[TAIL].batches.count, 'image')}, expected to take "
            f"{format_time(time.epochs * time.epoch_s)}"
        )
        return True

    def _find_perfection(self) -> str:
        """Say why no epoch of the tail could be more accurate; empty if one might be."""
        verdict, work = self.verdicts.get(HEAD), self.work
        if verdict is None or verdict.score[0] < 1 or "tail.unfreeze" in work.plan.given:
            return ""
        images, which = len(verdict.truth), "val images"
        if not cannot_improve(verdict, given=work.plan.given):
            images = count_right(work, self._head.optimizer, features=self.data[HEAD].features)
            which = "images of train and val, in folds that it did not learn from,"
            if images < MIN_VAL_IMAGES:
                return ""
        return (
            f"the head has all {images:,} {which} right, so the tail could not be more accurate "
            "(--unfreeze trains it all the same)"
        )

    @cached_property
    def _tail_time(self) -> TailTime:
        """What the tail will take, and what there is for it: known once the head is judged."""
        run = self.work.run
        if HEAD not in self.verdicts and len(self.work.rows["val"]) and run.earlier.exists():
            self._read_verdict(HEAD, self._find_earlier())  # the run was resumed
        return find_tail_time(self.work, self.verdicts.get(HEAD))

    def _judge_head(self) -> None:
        # the tail starts from the best epoch of the head, not from its last
        best = self.work.run.find_checkpoint("best")
        self.transfer.whole.load_weights(best / MODEL_FILE)
        self._judge(HEAD)

    def _fit_tail(self, *, resume: bool = False) -> None:
        state = None if resume else self.state
        if state is not None and state.best_epoch:
            state.settle_best(state.best_epoch)  # epochs of the tail are not compared by val loss
        self.state = self._fit(self._plan_tail(), state, resume=resume)
        if self.state.diverged:
            self.work.progress.warn(
                f"loss became NaN in epoch {self.state.epoch + 1} of phase {TAIL}; the phase was "
                "stopped: a lower --tail-learning-rate helps"
            )

    def _fit(self, phase: Phase, state: TrainingState | None, *, resume: bool) -> TrainingState:
        work, net, data = self.work, self.transfer.whole, self.data[phase.name]
        if resume:
            net.load_weights(work.run.find_checkpoint("last") / MODEL_FILE)
        return fit_phase(
            net,
            phase,
            batches=data.batches,
            val_batches=data.val_batches,
            resume=resume,
            **work.fit_settings,
            part=data.build_part(),
            state=state,
            save_every_s=_SAVE_EVERY_S,
        )

    def _choose_phase(self) -> None:
        """Keep the best of the tail only if the whole network is better with it."""
        reason = self._find_why_head()
        if reason:
            self.work.progress.note(reason)
            restore_head(self.work.run)
        drop_earlier(self.work.run)
        self.work.verdict = self.verdicts.get(HEAD if reason else TAIL)

    def _find_why_head(self) -> str:
        """Say why the head is kept and not the tail; empty if the tail is better."""
        state, val = self.state, self.data[TAIL].val_batches
        if val is None:
            # its last finite epoch was about to diverge as well
            return "the last epoch of the head is kept" if state.diverged else ""
        if state.cannot_win(state.phase_epoch, images=val.count):
            return "the tail is much less accurate: the best epoch of the head is kept"
        if self.work.plan.config.tail.interpolate and not state.diverged:
            self._interpolate()
        if self._best_epoch() <= state.phase_start:
            return "the tail is not better on val: the best epoch of the head is kept"
        if not self._is_tail_better():
            return "the tail is not better: the best epoch of the head is kept"
        return ""

    def _interpolate(self) -> None:
        """Write weights between head and tail as the best of the tail, if they are better."""
        run, state, net = self.work.run, self.state, self.transfer.whole
        best, data = run.find_checkpoint("best"), self.data[TAIL]
        if "tail_fraction" in _read_extra(best):
            return  # done before an interruption
        part, val = data.build_part(), data.val_batches
        is_better = state.best_epoch > state.phase_start
        head = read_part(net, self._find_earlier() / MODEL_FILE, part=part)
        end = best if is_better else run.find_checkpoint("last")
        tail = read_part(net, end / MODEL_FILE, part=part)
        fraction = choose_fraction(
            part,
            head=head,
            tail=tail,
            batches=lambda: val.epoch(0) if val is not None else (),
            label_smoothing=self.work.plan.config.training.label_smoothing,
        )
        if fraction == 1:
            return
        extra = {"epoch": state.best_epoch if is_better else state.epoch}
        with atomic_directory(run.best) as directory:
            more = extra | {"tail_fraction": fraction}
            save_bundle(directory, net, **vars(self.work.bundle), extra=more)
        self.work.progress.note(
            f"tail: {100 * fraction:.0f} % of the way from the weights of the head to those of "
            f"epoch {extra['epoch']} has a lower val loss"
        )

    def _best_epoch(self) -> int:
        return int(_read_extra(self.work.run.find_checkpoint("best"))["epoch"])

    def _find_earlier(self) -> Path:
        run = self.work.run
        return find_whole_directory(run.earlier) or run.earlier

    def _is_tail_better(self) -> bool:
        """Compare both by val loss, like the weights between them; alone, by accuracy."""
        run = self.work.run
        self._read_verdict(HEAD, self._find_earlier())
        self.transfer.whole.load_weights(run.find_checkpoint("best") / MODEL_FILE)
        self._judge(TAIL)
        tail, head = self.verdicts[TAIL].score, self.verdicts[HEAD].score
        return tail[::-1] > head[::-1] if self.work.plan.config.tail.interpolate else tail > head

    def _settle(self) -> None:
        """Take the epoch of the best checkpoint as the best, which the choice may have changed."""
        epoch = self._best_epoch()
        if epoch != self.state.best_epoch:
            self.state.settle_best(epoch)

    def _judge(self, phase: str) -> None:
        """Measure the best checkpoint, whose weights the network has, and report the figures."""
        work, data = self.work, self.data[phase]
        if data.val_batches is None:
            return
        verdict = self._read_verdict(phase, work.run.find_checkpoint("best"))
        figures = verdict.to_dict()
        difference: Difference | None = None
        words = f"{phase}: val accuracy {verdict.score[0]:.4f} through the whole network"
        if data.features is not None and data.features[1] is not None:
            part = data.build_part()
            difference = compare_cached(
                verdict, part, features=data.features[1], positions=work.judged
            )
            figures |= difference.to_dict()
            words += f", {difference.words}"
        work.progress.note(words)
        if difference is not None and difference.is_large:
            work.progress.warn(
                f"the {phase} was trained on features that differ from those of the whole network: "
                "--feature-precision float32 reduces the difference, --no-feature-cache avoids it"
            )
        phases = dict(work.run.read_record().get("phases", {}))
        work.run.update_run(phases=phases | {phase: figures})

    def _read_verdict(self, phase: str, checkpoint: Path) -> Verdict:
        if phase not in self.verdicts:
            self.verdicts[phase] = self.work.judge(checkpoint)
        return self.verdicts[phase]

    @cached_property
    def _head(self) -> Phase:
        config = self.work.plan.config
        head = choose_head(self.work, self.data[HEAD].features)
        plan, is_cached = self.work.plan, self.data[HEAD].features is not None
        minutes = config.training.minutes
        fraction = _HEAD_FRACTION if TAIL in self.data else 1.0
        training = _training(config, head.epochs)
        if is_cached and "training.patience" not in plan.given:
            # the whole schedule takes seconds, and its last epochs are the best ones
            training = training.model_copy(update={"patience": 0})
        return Phase(
            HEAD,
            training,
            _optimizer(config, head),
            remedy="--head-learning-rate",
            by_loss=True,
            # epochs on cached features take seconds: the tail gets the time that is left
            budget_s=None if minutes is None or is_cached else 60 * minutes * fraction,
            final_images=0 if TAIL in self.data else count_final_images(plan.counts),
            is_capped=True,
            spent=self.work.spent,
        )

    def _plan_tail(self) -> Phase:
        config = self.work.plan.config
        tail = config.tail
        decay = float(tail.layer_decay)
        judges_epochs = "training.patience" in self.work.plan.given or tail.schedule == "plateau"
        phase = Phase(
            TAIL,
            _training(config, max(1, self._tail_time.epochs)),
            _optimizer(config, tail),
            scales=self.transfer.scale_rates(decay) if decay < 1 else None,
            may_diverge=True,
            must_win=True,
            keeps_last=not judges_epochs,  # few val images tell epochs apart only by chance
        )
        if config.training.minutes is None:
            return phase
        val = self.data[TAIL].val_batches
        return replace(
            phase,
            budget_s=60 * config.training.minutes,
            final_images=len(FRACTIONS) * (val.count if val else 0),
            final_s=self._tail_time.final_s,
            spent=self.work.spent,
        )


def cannot_improve(verdict: Verdict, *, given: Container[str]) -> bool:
    """Return whether a second phase could not be more accurate on val than the head.

    A few val images that are all right say little, so they let the tail try.

    Args:
        verdict: Of the head.
        given: Keys of the settings that were given; who asks for a tail gets one.
    """
    is_perfect = verdict.score[0] == 1 and len(verdict.truth) >= MIN_VAL_IMAGES
    return is_perfect and "tail.unfreeze" not in given


def _read_extra(checkpoint: Path) -> dict[str, Any]:
    extra: dict[str, Any] = read_json(checkpoint / CLASSIFIER_FILE)["extra"]
    return extra


def _optimizer(config: FinetuneConfig, phase: HeadConfig | TailConfig) -> OptimizerConfig:
    return OptimizerConfig(
        **config.optimizer.model_dump(),
        learning_rate=phase.learning_rate,
        weight_decay=float(phase.weight_decay),
        schedule=phase.schedule,
        warmup=phase.warmup,
        clip_norm=phase.clip_norm if isinstance(phase, TailConfig) else 0.0,
    )


def _training(config: FinetuneConfig, epochs: int) -> TrainingConfig:
    return TrainingConfig(epochs=epochs, **config.training.model_dump(exclude={"minutes"}))
