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
from cnnclf.data.store import Pixels, open_pixels
from cnnclf.evaluation.report import evaluate
from cnnclf.files import find_whole_directory, read_json, write_json_atomic
from cnnclf.inference.classifier import Classifier
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
from cnnclf.training.fit import BundleContent, Phase, fit_phase
from cnnclf.training.head_search import LEARNING_RATES, WEIGHT_DECAYS, search_head
from cnnclf.training.recording import (
    LoggedProgress,
    draw_curves,
    epoch_line,
    read_epochs,
    recorded,
    write_history,
)
from cnnclf.training.state import TrainingState
from cnnclf.training.train import EpochListener, TrainResult, readable_rows

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
    log = LoggedProgress(progress, run)
    if resume and find_whole_directory(run.last) is None:
        log.note("it was stopped before its first checkpoint: beginning with its first epoch")
        resume = False
    if not resume:
        write_json_atomic(run.plan, plan.to_dict())
    history: list[dict[str, Any]] = read_epochs(run) if resume else []

    def note_epoch(row: dict[str, Any], is_best: bool) -> None:
        history.append(row)
        log.write(f"{row['phase']} {epoch_line(row, is_best=is_best)}")
        write_history(run, history)
        if on_epoch is not None:
            on_epoch(row, is_best)

    with recorded(run, runtime):
        log.note(runtime.summary)
        with runtime.scope():
            transfer = build_from_weights(plan)
        pixels = open_pixels(
            dataset,
            plan.input_spec,
            cache=plan.config.data.cache,
            progress=log,
            threads=plan.threads,
        )
        work = _Work(plan, dataset, run, runtime, transfer, log)
        data = work.open_data(pixels)
        state = work.fit(data, note_epoch, resume=resume)
        _record_fit(run, state, transfer, plan)
        draw_curves(run, state)
        split = "test" if plan.counts["test"] else "val" if plan.counts["val"] else "train"
        report = evaluate(
            Classifier.load(run.path),
            dataset,
            split=split,
            out=run.evaluation(split),
            cache=plan.config.data.cache,
            progress=log,
        )
        run.update_run(status="finished", evaluation={"split": split, "metrics": report.summary})
    failed = {dataset.manifest.paths[row] for row in pixels.failed}
    return TrainResult(run, state, report, len(failed.union(file.path for file in report.failed)))


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


@dataclass(frozen=True)
class _Data:
    """Batches of train and val for each phase, and the part of the network that takes them."""

    head: tuple[Any, Batches, Batches | None]
    tail: tuple[Any, Batches, Batches | None] | None
    pooled: tuple[Features, Features | None] | None


@dataclass
class _Work:
    """One run at work: what all steps share."""

    plan: FinetunePlan
    dataset: Dataset
    run: RunDirectory
    runtime: "RuntimeInfo"
    transfer: Transfer
    progress: Progress

    def open_data(self, pixels: Pixels) -> _Data:
        rows = readable_rows(self.dataset, pixels, self.progress)
        if self.plan.config.features.cache:
            return self._open_features(pixels, rows)
        train = self._pixel_batches(pixels, rows["train"], is_train=True)
        val = self._pixel_batches(pixels, rows["val"], is_train=False) if len(rows["val"]) else None
        tail = None if self.plan.frozen_stage is None else ("", train, val)
        return _Data((None, train, val), tail, None)

    def fit(self, data: _Data, on_epoch: EpochListener, *, resume: bool) -> TrainingState:
        """Run the phases that are left; the best of all is kept, whichever phase it is from."""
        net = self.transfer.whole
        reached = ""
        if resume:
            last = self.run.find_checkpoint("last")
            net.load_weights(last / MODEL_FILE)
            reached = str(read_json(last / STATE_FILE)["phase"])
        state: TrainingState | None = None
        if reached != TAIL:
            head = self._choose_head(data, resume=resume)
            state = self._fit_head(head, data, on_epoch, resume=resume)
        if data.tail is None:
            if state is None:
                raise ValueError("expected a plan with the second phase that the run is in")
            return state
        if reached != TAIL:
            # the second phase starts from the best of the first, not from its last epoch
            net.load_weights(self.run.find_checkpoint("best") / MODEL_FILE)
        return self._fit_tail(data.tail, on_epoch, state, resume=reached == TAIL)

    def _fit_head(
        self, head: HeadConfig, data: _Data, on_epoch: EpochListener, *, resume: bool
    ) -> TrainingState:
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
            on_epoch,
            None,
            resume=resume,
        )

    def _fit_tail(
        self,
        data: tuple[Any, Batches, Batches | None],
        on_epoch: EpochListener,
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
            on_epoch,
            state,
            resume=resume,
        )

    def _fit(
        self,
        part: Any,
        phase: Phase,
        batches: tuple[Batches, Batches | None],
        on_epoch: EpochListener,
        state: TrainingState | None,
        *,
        resume: bool,
    ) -> TrainingState:
        plan = self.plan
        return fit_phase(
            self.transfer.whole,
            phase,
            batches=batches[0],
            val_batches=batches[1],
            run=self.run,
            content=BundleContent(
                plan.labels,
                plan.input_spec,
                {"name": self.dataset.name, "fingerprint": self.dataset.fingerprint},
            ),
            scope=self.runtime.scope,
            jit_compile=self.runtime.jit_compile,
            resume=resume,
            on_epoch=on_epoch,
            progress=self.progress,
            part=part,
            state=state,
            save_every_s=_SAVE_EVERY_S,
        )

    def _choose_head(self, data: _Data, *, resume: bool) -> HeadConfig:
        """Search the head's rates, or take those that the search chose before."""
        head = self.plan.config.head
        if not head.search or data.pooled is None or data.pooled[1] is None:
            return head
        known = self.run.read_record().get("head_search") if resume else None
        if known is None:
            known = self._search(head, data.pooled[0], data.pooled[1])
            self.run.update_run(head_search=known)
        best = known[0]
        return head.model_copy(update={key: best[key] for key in ("learning_rate", "weight_decay")})

    def _search(self, head: HeadConfig, train: Features, val: Features) -> list[dict[str, float]]:
        training = self.plan.config.training
        rates = LEARNING_RATES if head.learning_rate == "auto" else (head.learning_rate,)
        decays = WEIGHT_DECAYS if head.weight_decay == "auto" else (head.weight_decay,)
        trials = search_head(
            train,
            val,
            self.dataset.manifest.class_indices,
            num_classes=len(self.plan.labels),
            candidates=[(rate, decay) for rate in rates for decay in decays],
            epochs=head.epochs,
            batch_size=int(training.batch_size),
            dropout=head.dropout,
            label_smoothing=training.label_smoothing,
            seed=self.plan.config.runtime.seed,
        )
        best = trials[0]
        self.progress.note(
            f"head search: of {len(trials)} settings, learning rate {best.learning_rate:g} with "
            f"weight decay {best.weight_decay:g} is best on val (accuracy "
            f"{best.val_accuracy:.4f}, the others {trials[-1].val_accuracy:.4f} and up)"
        )
        return [asdict(trial) for trial in trials]

    def _open_features(self, pixels: Pixels, rows: dict[str, Any]) -> _Data:
        """Compute the frozen layers once; a tail with nothing frozen trains on pixels."""
        config, stage = self.plan.config, self.plan.frozen_stage
        frozen = self.transfer.features(stage or "")
        engine = choose_engine(self.runtime, self.progress)
        job = FeatureJob(
            self.dataset,
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
                pixels,
                build,
                engine,
                threads=self.plan.threads,
                progress=self.progress,
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
            train = self._pixel_batches(pixels, rows["train"], is_train=True)
            val_rows = rows["val"]
            val = self._pixel_batches(pixels, val_rows, is_train=False) if len(val_rows) else None
            tail = ("", train, val)
        return _Data(head, tail, (pooled[0], pooled[1] if len(pooled) > 1 else None))

    def _feature_batches(self, features: list[Features]) -> tuple[Batches, Batches | None]:
        labels = self.dataset.manifest.class_indices
        train, *val = [
            FeatureBatches(each, labels, shuffle=index == 0, **self._batch_settings())
            for index, each in enumerate(features)
        ]
        return train, val[0] if val else None

    def _pixel_batches(self, pixels: Pixels, rows: Any, *, is_train: bool) -> Batches:
        seed, operations = self.plan.config.runtime.seed, self.plan.operations
        return Batches(
            pixels,
            rows,
            self.dataset.manifest.class_indices,
            shuffle=is_train,
            augmenter=Augmenter(operations, seed=seed) if operations and is_train else None,
            **self._batch_settings(),
        )

    def _batch_settings(self) -> dict[str, Any]:
        return {
            "num_classes": len(self.plan.labels),
            "batch_size": int(self.plan.config.training.batch_size),
            "seed": self.plan.config.runtime.seed,
            "threads": self.plan.threads,
            "devices": len(self.runtime.devices),
        }


def _phase(name: str, epochs: int, optimizer: OptimizerConfig, config: FinetuneConfig) -> Phase:
    training = TrainingConfig(
        epochs=epochs,
        batch_size=config.training.batch_size,
        patience=config.training.patience,
        label_smoothing=config.training.label_smoothing,
    )
    return Phase(name, training, optimizer)


def _record_fit(
    run: RunDirectory, state: TrainingState, transfer: Transfer, plan: FinetunePlan
) -> None:
    best = next((row for row in state.history if row["epoch"] == state.best_epoch), None)
    run.update_run(
        epochs=state.epoch,
        best_epoch=state.best_epoch,
        best_phase=best["phase"] if best else None,
        best_val_accuracy=state.best_score[0] if plan.counts["val"] else None,
        parameters=int(transfer.whole.count_params()),
        fit_s=round(state.seconds, 3),
        data_wait_share=round(state.wait_s / state.seconds, 4) if state.seconds else None,
    )
