"""One fine-tuning run: first the head on frozen layers, then the last stages, then the test.

While layers are frozen, what they give is computed once per image and kept (`features.py`); the
head trains on pooled features and the last stages on feature maps. What is saved and tested is
always the whole network.
"""

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from cnnclf.config import (
    FinetuneConfig,
    HeadConfig,
    OptimizerConfig,
    TailConfig,
    TrainingConfig,
)
from cnnclf.data.manifest import Dataset
from cnnclf.errors import RunError
from cnnclf.files import (
    atomic_directory,
    find_whole_directory,
    read_json,
    replace_directory_atomic,
)
from cnnclf.models.transfer import Transfer, build_transfer
from cnnclf.models.weights.filling import LoadedWeights, load_weights
from cnnclf.planning.finetune_plan import FinetunePlan
from cnnclf.progress import Progress
from cnnclf.runs import CLASSIFIER_FILE, MODEL_FILE, STATE_FILE, RunDirectory
from cnnclf.training.feeding.ahead import PixelsAhead
from cnnclf.training.fitting.fit import Phase, fit_phase
from cnnclf.training.fitting.judging import Difference, Verdict, compare_cached
from cnnclf.training.fitting.state import TrainingState
from cnnclf.training.frozen.head_search import choose_head
from cnnclf.training.frozen.phase_data import PhaseData, open_phase_data
from cnnclf.training.run import EpochListener, TrainResult, Work, conduct_run

if TYPE_CHECKING:
    from cnnclf.runtime import RuntimeInfo

HEAD, TAIL = "head", "tail"

_SAVE_EVERY_S = 10.0  # epochs on cached features are shorter than writing a checkpoint


def finetune(
    plan: FinetunePlan,
    dataset: Dataset,
    run: RunDirectory,
    runtime: "RuntimeInfo",
    *,
    resume: bool = False,
    on_epoch: EpochListener | None = None,
    progress: Progress,
    ahead: PixelsAhead | None = None,
) -> TrainResult:
    """Fine-tune as planned, keep the best epoch of all phases and evaluate it.

    Args:
        plan: What to do.
        dataset: What the plan was made for.
        run: A run directory that was created or opened.
        runtime: Device, precision and seed, already set.
        resume: Go on from the last checkpoint.
        on_epoch: Told each row of history and whether it is the best so far.
        progress: Told everything else.
        ahead: Waits for the images, if they are being decoded already (`decode_ahead`).

    Returns:
        The result; the same is in the run directory.

    Raises:
        DataError: No training image can be decoded.
        RunError: Weights do not fit, the loss is no longer a number, or there is nothing to go on
            from.
        DeviceError: No space for images, features or checkpoints.
    """
    return conduct_run(
        plan,
        dataset,
        run,
        runtime,
        _fit,
        resume=resume,
        on_epoch=on_epoch,
        progress=progress,
        ahead=ahead,
    )


def build_from_weights(plan: FinetunePlan, *, progress: Progress) -> tuple[Transfer, LoadedWeights]:
    """Build the whole network with the weights that the plan names, and say which these are."""
    spec = plan.input_spec
    transfer = build_transfer(
        plan.backbone,
        plan.config.head,
        height=spec.height,
        width=spec.width,
        num_classes=len(plan.labels),
    )
    return transfer, load_weights(transfer.backbone, plan.weights, progress=progress)


def _fit(work: Work[FinetunePlan]) -> TrainingState:
    with work.runtime.scope():
        transfer, weights = build_from_weights(work.plan, progress=work.progress)
    _record_weights(work, weights)
    head, tail = open_phase_data(work, transfer)
    state = _Phases(work, transfer, head, tail).fit()
    best = next((row for row in state.history if row["epoch"] == state.best_epoch), None)
    work.run.update_run(
        best_phase=best["phase"] if best else None,
        parameters=int(transfer.whole.count_params()),
    )
    return state


def _record_weights(work: Work[FinetunePlan], weights: LoadedWeights) -> None:
    """Write down what the backbone started from; a run that goes on must find the same."""
    known = work.run.read_record().get("weights") if work.resume else None
    if known is not None and known.get("sha256") != weights.sha256:
        raise RunError(
            f"expected the weights that the run began with (sha256 {known.get('sha256')}), "
            f"received {weights.sha256}: {work.plan.weights.path}",
            "put the former file back, or train again into another --out",
        )
    work.run.update_run(weights=weights.to_dict())


@dataclass
class _Phases:
    """The phases of one run, which share its network."""

    work: Work[FinetunePlan]
    transfer: Transfer
    head: PhaseData
    tail: PhaseData | None
    verdicts: dict[str, Verdict] = field(default_factory=dict)

    def fit(self) -> TrainingState:
        """Run the phases that are left; the best of all is kept, whichever phase it is from."""
        net, run = self.transfer.whole, self.work.run
        reached = ""
        if self.work.resume:
            last = run.find_checkpoint("last")
            net.load_weights(last / MODEL_FILE)
            reached = str(read_json(last / STATE_FILE)["phase"])
            earlier = find_whole_directory(run.earlier)
            if reached != TAIL and earlier is not None:
                # it was stopped after the second phase's first best and before its first last
                replace_directory_atomic(earlier, run.best)
        if reached == TAIL and self.tail is not None:
            state = self._fit(self._plan_tail(), self.tail, None, resume=True)
            return self._choose_phase(state)
        state = self._fit(self._plan_head(), self.head, None, resume=self.work.resume)
        # the second phase starts from the best of the first, not from its last epoch
        net.load_weights(run.find_checkpoint("best") / MODEL_FILE)
        self._judge(HEAD, self.head)
        if self.tail is None:
            self.work.verdict = self.verdicts.get(HEAD)
            return state
        with atomic_directory(run.earlier) as directory:
            shutil.copytree(run.find_checkpoint("best"), directory, dirs_exist_ok=True)
        state = self._fit(self._plan_tail(), self.tail, state, resume=False)
        return self._choose_phase(state)

    def _fit(
        self, phase: Phase, data: PhaseData, state: TrainingState | None, *, resume: bool
    ) -> TrainingState:
        work = self.work
        return fit_phase(
            self.transfer.whole,
            phase,
            batches=data.batches,
            val_batches=data.val_batches,
            run=work.run,
            content=work.bundle,
            scope=work.runtime.scope,
            jit_compile=work.runtime.jit_compile,
            resume=resume,
            on_epoch=work.on_epoch,
            progress=work.progress,
            part=data.build_part(),
            state=state,
            save_every_s=_SAVE_EVERY_S,
        )

    def _choose_phase(self, state: TrainingState) -> TrainingState:
        """Keep the best of the second phase only if the whole network says that it is better."""
        run, progress = self.work.run, self.work.progress
        if state.diverged:
            progress.warn(
                f"the loss of the second phase is no number any more after epoch {state.epoch}: "
                "it ends there; a lower --tail-learning-rate helps"
            )
        earlier = find_whole_directory(run.earlier)
        if earlier is None or self.tail is None:  # it was stopped after the choice
            return self._settle(state)
        winner = TAIL
        if self.tail.val_batches is None:
            if state.diverged:  # its last finite epoch was on the way there
                winner = HEAD
                progress.note("the first phase's last epoch is kept")
                replace_directory_atomic(earlier, run.best)
        elif state.best_epoch <= state.phase_start:
            winner = HEAD
            progress.note("the second phase is not better on val: the first one's best is kept")
        else:
            self._read_verdict(HEAD, earlier)
            self.transfer.whole.load_weights(run.find_checkpoint("best") / MODEL_FILE)
            self._judge(TAIL, self.tail)
            if self.verdicts[TAIL].score <= self.verdicts[HEAD].score:
                winner = HEAD
                progress.note("the second phase is not better: the first one's best is kept")
                replace_directory_atomic(earlier, run.best)
        shutil.rmtree(run.earlier, ignore_errors=True)
        self.work.verdict = self.verdicts.get(winner)
        return self._settle(state)

    def _settle(self, state: TrainingState) -> TrainingState:
        """Take the epoch of the best checkpoint for the best, which the choice may have changed."""
        bundle = read_json(self.work.run.find_checkpoint("best") / CLASSIFIER_FILE)
        epoch = int(bundle["extra"]["epoch"])
        if epoch != state.best_epoch:
            state.settle_best(epoch)
        return state

    def _judge(self, phase: str, data: PhaseData) -> None:
        """Measure the best checkpoint, whose weights the network holds, and say what it came to."""
        if data.val_batches is None:
            return
        work = self.work
        verdict = self._read_verdict(phase, work.run.find_checkpoint("best"))
        figures = verdict.to_dict()
        difference: Difference | None = None
        words = f"{phase}: val accuracy {verdict.score[0]:.4f} through the whole network"
        if data.features is not None and data.features[1] is not None:
            part = data.build_part()
            difference = compare_cached(verdict, part, data.features[1], work.judged)
            figures |= difference.to_dict()
            words += f", {difference.words}"
        work.progress.note(words)
        if difference is not None and difference.is_large:
            work.progress.warn(
                f"the {phase} was trained on features that the whole network does not give: "
                "--feature-precision float32 comes closer, --no-feature-cache does without them"
            )
        phases = dict(work.run.read_record().get("phases", {}))
        work.run.update_run(phases=phases | {phase: figures})

    def _read_verdict(self, phase: str, checkpoint: Path) -> Verdict:
        if phase not in self.verdicts:
            self.verdicts[phase] = self.work.judge(checkpoint)
        return self.verdicts[phase]

    def _plan_head(self) -> Phase:
        config = self.work.plan.config
        head = choose_head(self.work, self.head.features)
        return Phase(
            HEAD,
            _training(config, head.epochs),
            _optimizer(config, head),
            remedy="--head-learning-rate",
        )

    def _plan_tail(self) -> Phase:
        config = self.work.plan.config
        tail = config.tail
        decay = float(tail.layer_decay)
        return Phase(
            TAIL,
            _training(config, tail.epochs),
            _optimizer(config, tail),
            scales=self.transfer.scale_rates(decay) if decay < 1 else None,
            may_diverge=True,
        )


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
    return TrainingConfig(
        epochs=epochs,
        batch_size=config.training.batch_size,
        patience=config.training.patience,
        label_smoothing=config.training.label_smoothing,
    )
