"""What resuming needs for the same result as an uninterrupted run.

The weights of the network are in `last/model.keras`; the rest is here: the variables of the
optimizer, the states of random generators inside the network (dropout), and the scores so far.
"""

import math
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np

from cnnclf.bounded import check_regular, describe_fault
from cnnclf.errors import RunError
from cnnclf.files import read_json, write_json_atomic
from cnnclf.runs.run_names import OPTIMIZER_FILE, STATE_FILE
from cnnclf.training.epochs import EpochRow, StopRequest

if TYPE_CHECKING:
    import keras


Score = tuple[float, float]
"""(accuracy, negative loss) on val; the larger is better, in this order."""

_LOWEST: Score = (float("-inf"), float("-inf"))


@dataclass
class TrainingState:
    """Epochs, scores and history so far, saved with every last checkpoint.

    Args:
        epoch: Completed epochs.
        best_epoch: The best of them, counted from 1; 0 before the first.
        best_score: (val accuracy, negative val loss) of the best epoch; the larger is better. On
            a small val split (averaged val accuracy, 0); of a head (negative val loss, accuracy).
        phase_score: The best score of the current phase.
        epochs_without_better: Epochs since the best one of that phase.
        plateau_factor: Factor of the learning rate, by the plateau schedule.
        plateau_wait: Such epochs since the last reduction.
        perfect_epochs: The last epochs of that phase that leave nothing to improve.
        seconds: Time spent in epochs.
        wait_s: Part of it spent waiting for images.
        history: One row per epoch.
        phase: Name of the current phase.
        phase_start: Completed epochs before that phase.
        diverged: Whether that phase ended because the loss became NaN.
        stopped: What a listener asked for, which ended training.
        planned_steps: Steps of the phase, if it has a time rather than a number of epochs.
        corrected_step: The step at which they were planned last.
        corrected_part: The fraction of the schedule that was done at that step.
        is_time_up: Whether the phase ended because its time was spent.
        endings: Why phases ended before their last epoch, one sentence each.
        spent_s: Seconds of the run up to this checkpoint, with start and decoding.
    """

    epoch: int = 0
    best_epoch: int = 0
    best_score: Score = _LOWEST
    phase_score: Score = _LOWEST
    epochs_without_better: int = 0
    plateau_factor: float = 1.0
    plateau_wait: int = 0
    perfect_epochs: int = 0
    seconds: float = 0.0
    wait_s: float = 0.0
    history: list[EpochRow] = field(default_factory=list)
    phase: str = ""
    phase_start: int = 0
    diverged: bool = False
    stopped: StopRequest | None = None
    planned_steps: int = 0
    corrected_step: int = 0
    corrected_part: float = 0.0
    is_time_up: bool = False
    endings: list[str] = field(default_factory=list)
    spent_s: float = 0.0

    @property
    def phase_epoch(self) -> int:
        """Completed epochs of this phase."""
        return self.epoch - self.phase_start

    @property
    def best_row(self) -> EpochRow | None:
        """The figures of the best epoch; None before the first."""
        return next((row for row in self.history if row.epoch == self.best_epoch), None)

    @property
    def phase_history(self) -> list[EpochRow]:
        """The epochs of this phase."""
        return self.history[self.phase_start :]

    def count_perfect(self, loss: float) -> None:
        """Count the last epoch if every val image is correct and the val loss is below a bound."""
        row = self.history[-1]
        is_perfect = row.val_accuracy == 1 and row.val_loss is not None and row.val_loss < loss
        self.perfect_epochs = self.perfect_epochs + 1 if is_perfect else 0

    def cannot_win(self, epochs: float, *, images: int) -> bool:
        """Return whether this phase will hardly be as accurate on val as those before.

        From the middle of its schedule on, its best accuracy is continued to the end at the pace of
        its last half, which is generous: accuracy grows ever more slowly.

        Args:
            epochs: Of the whole phase.
            images: Of val; two standard errors of the accuracy are granted.
        """
        accuracies = [row.val_accuracy or 0.0 for row in self.phase_history]
        earlier = [row.val_accuracy or 0.0 for row in self.history[: self.phase_start]]
        done, half = len(accuracies), len(accuracies) // 2
        if not (earlier and images and half and done >= epochs / 2):
            return False
        rival, best = max(earlier), max(accuracies)
        pace = (best - max(accuracies[:half])) / (done - half)
        error = math.sqrt(max(rival * (1 - rival), 1 / images) / images)
        return best + pace * max(0.0, epochs - done) + 2 * error < rival

    def score_last(self, averaged: int = 1, *, by_loss: bool = False) -> Score:
        """Return the score of the last epoch.

        Args:
            averaged: Over how many epochs of this phase the val accuracy is averaged.
            by_loss: Whether the val loss of this epoch counts first instead.

        Returns:
            (val accuracy, negative val loss), (averaged val accuracy, 0), or (negative val loss,
            val accuracy).
        """
        accuracy, loss = self.history[-1].score
        if by_loss:
            return loss, accuracy
        last = [row.score[0] for row in self.phase_history[-averaged:]]
        # missing epochs count as 0, so that the first ones do not win by one lucky figure
        return (accuracy, loss) if averaged == 1 else (sum(last) / averaged, 0.0)

    def begin_phase(self, name: str) -> None:
        """Start another phase: the best epoch stays, patience and schedule start again."""
        self.phase, self.phase_start = name, self.epoch
        self.phase_score = _LOWEST
        self.epochs_without_better = self.plateau_wait = self.perfect_epochs = 0
        self.plateau_factor = 1.0
        self.diverged = self.is_time_up = False
        self.planned_steps = self.corrected_step = 0
        self.corrected_part = 0.0

    def judge(self, score: Score) -> bool:
        """Add the score of one more epoch; return whether it is the best so far.

        The newer of two that are equal is: the learning rate has fallen since.
        """
        if score > self.phase_score:
            self.phase_score = score
            self.epochs_without_better = self.plateau_wait = 0
        else:
            self.epochs_without_better += 1
            self.plateau_wait += 1
        if score >= self.best_score:
            self.best_score, self.best_epoch = score, self.epoch
            return True
        return False

    def settle_best(self, epoch: int) -> None:
        """Set another epoch as the best, because more than its score is known."""
        row = next(row for row in self.history if row.epoch == epoch)
        self.best_epoch = epoch
        self.best_score = row.score

    def reduce_on_plateau(self, patience: int) -> None:
        """Divide the learning rate by 5 after `patience` epochs without improvement."""
        if self.plateau_wait > patience:
            self.plateau_factor /= 5
            self.plateau_wait = 0


@dataclass(frozen=True)
class Snapshot:
    """What resuming needs besides the weights, as it was after an epoch.

    Args:
        state: Epochs, scores and history.
        arrays: The variables of the optimizer and of the random generators.
    """

    state: TrainingState
    arrays: dict[str, Any]

    @classmethod
    def of(
        cls, state: TrainingState, *, net: "keras.Model", optimizer: "keras.Optimizer"
    ) -> "Snapshot":
        """Copy the state of training.

        Args:
            state: Epochs, scores and history.
            net: The network; only the states of its random generators are copied.
            optimizer: All of its variables are copied.
        """
        import keras

        kinds = {"optimizer": optimizer.variables, "generator": _generators(net)}
        arrays = {
            f"{kind}_{index}": np.array(keras.ops.convert_to_numpy(variable))
            for kind, variables in kinds.items()
            for index, variable in enumerate(variables)
        }
        held = replace(state, history=[*state.history], endings=[*state.endings])
        return cls(held, arrays)


def save_state(directory: Path, snapshot: Snapshot) -> None:
    """Write a snapshot into a checkpoint that is being written."""
    import keras

    with (directory / OPTIMIZER_FILE).open("wb") as file:
        np.savez(file, allow_pickle=False, **snapshot.arrays)
    content = asdict(snapshot.state) | {"keras_backend": keras.config.backend()}
    write_json_atomic(directory / STATE_FILE, content)


def load_state(
    directory: Path, *, net: "keras.Model", optimizer: "keras.Optimizer"
) -> TrainingState:
    """Load what `save_state` wrote.

    Args:
        directory: The last checkpoint.
        net: The network, its weights already loaded.
        optimizer: Built for the network's variables.

    Raises:
        RunError: The files are missing, damaged or of another network.
    """
    hint = "train again into another --out"
    content = read_json(directory / STATE_FILE, hint=hint)
    content.pop("keras_backend", None)
    try:
        check_regular(directory / OPTIMIZER_FILE)
        # our own file handle: NumPy leaves its own open when the file is damaged
        with (
            (directory / OPTIMIZER_FILE).open("rb") as file,
            np.load(file, allow_pickle=False) as arrays,
        ):
            _assign("optimizer", optimizer.variables, arrays)
            _assign("generator", _generators(net), arrays)
        for name in ("best_score", "phase_score"):
            content[name] = _read_score(content[name])
        content["history"] = [EpochRow.from_dict(row) for row in content["history"]]
        # a run that is resumed although it was pruned is to continue
        stopped = content.get("stopped") == StopRequest.STOP
        content["stopped"] = StopRequest.STOP if stopped else None
        return _check_types(TrainingState(**content))
    except (OSError, ValueError, OverflowError, LookupError, TypeError, BadZipFile) as error:
        raise RunError(
            f"the training state in {directory} is missing or damaged: {describe_fault(error)}",
            hint,
        ) from error


def drop_rate(directory: Path) -> None:
    """Remove the learning rate from the saved variables of an optimizer.

    It is their second one where it is set at each step; a schedule computes it instead.

    Raises:
        RunError: The file is missing or damaged.
    """
    path = directory / OPTIMIZER_FILE
    try:
        check_regular(path)
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            kept = {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError, LookupError, BadZipFile) as error:
        raise RunError(
            f"{path} is missing or damaged: {error}", "train again into another --out"
        ) from error
    values = [
        kept.pop(f"optimizer_{at}") for at in range(sum("optimizer" in name for name in kept))
    ]
    values.pop(1)
    kept |= {f"optimizer_{at}": value for at, value in enumerate(values)}
    with path.open("wb") as target:
        np.savez(target, allow_pickle=False, **kept)


def _check_types(state: TrainingState) -> TrainingState:
    """Raise ValueError if a field of a file that was changed has another type."""
    from pydantic import TypeAdapter

    # A mapping: instances of dataclasses are taken as they are.
    return TypeAdapter(TrainingState).validate_python(asdict(state))


def _read_score(score: Any) -> Score:
    """Read a score from JSON, which has no infinity."""
    first, second = (-math.inf if part is None else float(part) for part in score)
    return first, second


def _generators(net: "keras.Model") -> list[Any]:
    """Return the states of random generators: the variables of a model that are not weights."""
    weights = {id(weight) for weight in net.weights}
    return [variable for variable in net.variables if id(variable) not in weights]


def _assign(kind: str, variables: list[Any], arrays: Any) -> None:
    names = [name for name in arrays.files if name.startswith(f"{kind}_")]
    if len(names) != len(variables):
        raise ValueError(f"expected {len(variables)} {kind} variables, received {len(names)}")
    for index, variable in enumerate(variables):
        variable.assign(arrays[f"{kind}_{index}"])
