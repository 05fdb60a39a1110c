"""One fine-tuning run: first the head on frozen layers, then the last stages, then the test.

While layers are frozen, what they give is computed once per picture and kept (`features.py`); the
head trains on pooled features and the last stages on feature maps. What is saved and tested is
always the whole network.
"""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnclf.config import FinetuneConfig, HeadConfig, OptimizerConfig, TrainingConfig
from cnnclf.data.augment import Augmenter
from cnnclf.data.batches import Batches
from cnnclf.data.manifest import Dataset
from cnnclf.files import read_json
from cnnclf.models.transfer import Transfer, build_transfer
from cnnclf.models.weights import load_imagenet_weights, load_weights_file
from cnnclf.progress import Progress
from cnnclf.runs import MODEL_FILE, STATE_FILE, RunDirectory
from cnnclf.training.engines import build_engine, choose_engine
from cnnclf.training.features import (
    FeatureBatches,
    FeatureJob,
    Features,
    hash_weights,
    open_features,
)
from cnnclf.training.finetune_plan import FinetunePlan
from cnnclf.training.fit import Phase, fit_phase
from cnnclf.training.head_search import LEARNING_RATES, WEIGHT_DECAYS, search_head
from cnnclf.training.run import EpochListener, TrainResult, Work, conduct_run
from cnnclf.training.state import TrainingState

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

    Returns:
        The result; the same is in the run directory.

    Raises:
        DataError: No training picture can be decoded.
        RunError: Weights do not fit, the loss is no longer a number, or there is nothing to go on
            from.
        DeviceError: No space for pictures, features or checkpoints.
    """
    return conduct_run(
        plan, dataset, run, runtime, _fit, resume=resume, on_epoch=on_epoch, progress=progress
    )


def build_from_weights(plan: FinetunePlan) -> Transfer:
    """Build the whole network, with the weights that the plan names in its backbone."""
    spec, config = plan.input_spec, plan.config
    transfer = build_transfer(
        plan.backbone,
        config.head,
        height=spec.height,
        width=spec.width,
        num_classes=len(plan.labels),
    )
    weights = config.backbone.weights
    if weights == "imagenet":
        load_imagenet_weights(transfer.backbone, plan.backbone)
    elif weights != "none":
        load_weights_file(transfer.backbone, plan.backbone, Path(weights))
    return transfer


def _fit(work: Work[FinetunePlan]) -> TrainingState:
    with work.runtime.scope():
        transfer = build_from_weights(work.plan)
    phases = _Phases(work, transfer)
    state = phases.fit(phases.open_data())
    best = next((row for row in state.history if row["epoch"] == state.best_epoch), None)
    work.run.update_run(
        best_phase=best["phase"] if best else None,
        parameters=int(transfer.whole.count_params()),
    )
    return state


@dataclass(frozen=True)
class _Data:
    """Batches of train and val for each phase, and the part of the network that takes them."""

    head: tuple[Any, Batches, Batches | None]
    tail: tuple[Any, Batches, Batches | None] | None
    pooled: tuple[Features, Features | None] | None


@dataclass
class _Phases:
    """The phases of one run, which share its network."""

    work: Work[FinetunePlan]
    transfer: Transfer

    @property
    def plan(self) -> FinetunePlan:
        return self.work.plan

    def open_data(self) -> _Data:
        if self.plan.config.features.cache:
            return self._open_features()
        train, val = self._open_pixels()
        tail = None if self.plan.frozen_stage is None else ("", train, val)
        return _Data((None, train, val), tail, None)

    def fit(self, data: _Data) -> TrainingState:
        """Run the phases that are left; the best of all is kept, whichever phase it is from."""
        net, run, resume = self.transfer.whole, self.work.run, self.work.resume
        reached = ""
        if resume:
            last = run.find_checkpoint("last")
            net.load_weights(last / MODEL_FILE)
            reached = str(read_json(last / STATE_FILE)["phase"])
        state: TrainingState | None = None
        if reached != TAIL:
            head = self._choose_head(data, resume=resume)
            state = self._fit_head(head, data, resume=resume)
        if data.tail is None:
            if state is None:
                raise ValueError("expected a plan with the second phase that the run is in")
            return state
        if reached != TAIL:
            # the second phase starts from the best of the first, not from its last epoch
            net.load_weights(run.find_checkpoint("best") / MODEL_FILE)
        return self._fit_tail(data.tail, state, resume=reached == TAIL)

    def _fit_head(self, head: HeadConfig, data: _Data, *, resume: bool) -> TrainingState:
        part, batches, val_batches = data.head
        if part is None:
            part = self.transfer.trained_behind(self.transfer.row.stage_names[-1])
        optimizer = OptimizerConfig(
            learning_rate=head.learning_rate, weight_decay=float(head.weight_decay)
        )
        return self._fit(
            part,
            _phase(HEAD, head.epochs, optimizer, self.plan.config),
            (batches, val_batches),
            None,
            resume=resume,
        )

    def _fit_tail(
        self,
        data: tuple[Any, Batches, Batches | None],
        state: TrainingState | None,
        *,
        resume: bool,
    ) -> TrainingState:
        tail = self.plan.config.tail
        part, batches, val_batches = data
        if not part:
            part = self.transfer.trained_behind(self.plan.frozen_stage or "")
        optimizer = OptimizerConfig(
            learning_rate=tail.learning_rate, weight_decay=tail.weight_decay, clip_norm=1.0
        )
        return self._fit(
            part,
            _phase(TAIL, tail.epochs, optimizer, self.plan.config),
            (batches, val_batches),
            state,
            resume=resume,
        )

    def _fit(
        self,
        part: Any,
        phase: Phase,
        batches: tuple[Batches, Batches | None],
        state: TrainingState | None,
        *,
        resume: bool,
    ) -> TrainingState:
        return fit_phase(
            self.transfer.whole,
            phase,
            batches=batches[0],
            val_batches=batches[1],
            run=self.work.run,
            content=self.work.bundle,
            scope=self.work.runtime.scope,
            jit_compile=self.work.runtime.jit_compile,
            resume=resume,
            on_epoch=self.work.on_epoch,
            progress=self.work.progress,
            part=part,
            state=state,
            save_every_s=_SAVE_EVERY_S,
        )

    def _choose_head(self, data: _Data, *, resume: bool) -> HeadConfig:
        """Search the head's rates, or take those that the search chose before."""
        head = self.plan.config.head
        if not head.search or data.pooled is None or data.pooled[1] is None:
            return head
        known = self.work.run.read_record().get("head_search") if resume else None
        if known is None:
            known = self._search(head, data.pooled[0], data.pooled[1])
            self.work.run.update_run(head_search=known)
        best = known[0]
        return head.model_copy(update={key: best[key] for key in ("learning_rate", "weight_decay")})

    def _search(self, head: HeadConfig, train: Features, val: Features) -> list[dict[str, float]]:
        training = self.plan.config.training
        rates = LEARNING_RATES if head.learning_rate == "auto" else (head.learning_rate,)
        decays = WEIGHT_DECAYS if head.weight_decay == "auto" else (head.weight_decay,)
        trials = search_head(
            train,
            val,
            self.work.dataset.manifest.class_indices,
            num_classes=len(self.plan.labels),
            candidates=[(rate, decay) for rate in rates for decay in decays],
            epochs=head.epochs,
            batch_size=int(training.batch_size),
            dropout=head.dropout,
            label_smoothing=training.label_smoothing,
            seed=self.plan.config.runtime.seed,
        )
        best = trials[0]
        self.work.progress.note(
            f"head search: of {len(trials)} settings, learning rate {best.learning_rate:g} with "
            f"weight decay {best.weight_decay:g} is best on val (accuracy "
            f"{best.val_accuracy:.4f}, the others {trials[-1].val_accuracy:.4f} and up)"
        )
        return [asdict(trial) for trial in trials]

    def _open_features(self) -> _Data:
        """Compute the frozen layers once; a tail with nothing frozen trains on pixels."""
        config, stage, rows = self.plan.config, self.plan.frozen_stage, self.work.rows
        frozen = self.transfer.features(stage or "")
        engine = choose_engine(self.work.runtime, self.work.progress)
        job = FeatureJob(
            self.work.dataset,
            self.plan.input_spec,
            rows["train"],
            config.features.views,
            self.plan.operations,
            config.runtime.seed,
            graph=f"{self.plan.backbone.name}, {config.head.pooling}, behind {stage or 'all'}",
            weights=hash_weights(self.transfer.backbone),
            shapes=tuple(tuple(output.shape[1:]) for output in frozen.outputs),
        )
        jobs = [job]
        if len(rows["val"]):
            jobs.append(replace(job, rows=rows["val"], views=1))
        built: list[Any] = []

        def build() -> Any:
            if not built:
                built.append(build_engine(engine, frozen))
            return built[0]

        made = [
            open_features(
                each,
                self.work.pixels,
                build,
                engine,
                threads=self.work.threads,
                progress=self.work.progress,
            )
            for each in jobs
        ]
        pooled = [features[0] for features in made]
        head = (self.transfer.head, *self._feature_batches(pooled))
        tail: Any = None
        if stage:
            maps = [features[1] for features in made]
            tail = (self.transfer.cut(stage)[1], *self._feature_batches(maps))
        elif stage is not None:
            tail = ("", *self._open_pixels())
        return _Data(head, tail, (pooled[0], pooled[1] if len(pooled) > 1 else None))

    def _feature_batches(self, features: list[Features]) -> tuple[Batches, Batches | None]:
        labels = self.work.dataset.manifest.class_indices
        train, *val = [
            FeatureBatches(each, labels, shuffle=index == 0, **self.work.batch_settings)
            for index, each in enumerate(features)
        ]
        return train, val[0] if val else None

    def _open_pixels(self) -> tuple[Batches, Batches | None]:
        work, operations = self.work, self.plan.operations
        labels = work.dataset.manifest.class_indices
        augmenter = None
        if operations:
            augmenter = Augmenter(operations, seed=self.plan.config.runtime.seed)
        train = Batches(
            work.pixels,
            work.rows["train"],
            labels,
            shuffle=True,
            augmenter=augmenter,
            **work.batch_settings,
        )
        if not len(work.rows["val"]):
            return train, None
        val = Batches(work.pixels, work.rows["val"], labels, shuffle=False, **work.batch_settings)
        return train, val


def _phase(name: str, epochs: int, optimizer: OptimizerConfig, config: FinetuneConfig) -> Phase:
    training = TrainingConfig(
        epochs=epochs,
        batch_size=config.training.batch_size,
        patience=config.training.patience,
        label_smoothing=config.training.label_smoothing,
    )
    return Phase(name, training, optimizer)
