"""Lays the learning rate schedule for the time there is, and corrects it as training proceeds.

The schedule is a function of the fraction of training that is done. A correction changes how many
steps are still to come, never what is done: the rate has no jumps. Where it was corrected last is
part of the training state, so a resumed run continues on the same schedule with the time left.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from cnnclf.config import OptimizerConfig
from cnnclf.training.fitting.schedule import learning_rate_at
from cnnclf.training.fitting.state import TrainingState

_PARTS = 10_000  # the schedule is looked up at this resolution
_FIRST_STEPS = 3  # before the first correction
_CORRECTIONS = 50  # at most, beside those at the beginning of epochs
_EVALUATION = 2.0  # an image is evaluated at least so many times as fast as it is trained
_FINISH_S = 4.0  # curves, figures and the last checkpoint


@dataclass
class Pacer:
    """The schedule of a phase that has a time rather than a number of epochs.

    Args:
        budget_s: Seconds of the whole run, from its start to the end of its last measuring.
        spent: Returns the seconds spent so far, in earlier processes, too.
        state: The training state; holds the schedule.
        optimizer: Settings with a resolved learning rate.
        steps: Steps of an epoch.
        batch_size: Images of a step.
        val_images: Images that each epoch is scored on.
        final_images: Images that are evaluated after the last epoch.
        final_s: Seconds of what else is evaluated, if they are known.
        max_epochs: Epochs at most, even if there is time for more.
    """

    budget_s: float
    spent: Callable[[], float]
    state: TrainingState
    optimizer: OptimizerConfig
    steps: int
    batch_size: int
    val_images: int
    final_images: int
    final_s: float = 0.0
    max_epochs: int | None = None
    _mark: tuple[int, float] | None = field(default=None, init=False)
    _last: tuple[int, float] | None = field(default=None, init=False)
    _step_s: float | None = field(default=None, init=False)
    _between_s: float | None = field(default=None, init=False)
    _corrected_s: float = field(default=0.0, init=False)
    _begun_s: float = field(default=0.0, init=False)

    def begin_epoch(self) -> None:
        """Note the time that validation and checkpoints took, and correct the schedule."""
        now = self.spent()
        if self._last is not None:
            if self._step_s is None or self.steps <= _FIRST_STEPS:
                # too few steps to tell them from what is between epochs
                self._step_s, self._between_s = (now - self._begun_s) / self.steps, 0.0
            else:
                self._between_s = max(0.0, now - self._last[1] - self._step_s)
            self._correct(self._last[0] + 1, now)
        self._mark, self._begun_s = None, now

    def begin_step(self, step: int) -> None:
        """Measure the steps so far, and correct the schedule if it is time.

        Args:
            step: The step that begins, counted over all epochs.
        """
        now = self.spent()
        if self._mark is None and self._last is not None:
            self._mark = (step, now)  # not before the first step of a process, which compiles
        self._last = (step, now)
        if self._mark is None or step - self._mark[0] < _FIRST_STEPS:
            return
        self._step_s = (now - self._mark[1]) / (step - self._mark[0])
        if now - self._corrected_s > self.budget_s / _CORRECTIONS:
            self._correct(step, now)

    def is_last(self, step: int) -> bool:
        """Return whether training ends with a step."""
        return step + 1 >= self.state.planned_steps

    def rate(self, step: int) -> float:
        """Return the learning rate of a step."""
        part = round(_PARTS * min(1.0, self._part(step)))
        return learning_rate_at(min(part, _PARTS - 1), self.optimizer, total=_PARTS)

    @property
    def epochs(self) -> float:
        """Epochs that are planned now."""
        return self.state.planned_steps / self.steps

    def _part(self, step: int) -> float:
        """Return the fraction of training that is done before a step."""
        state = self.state
        ahead = max(1, state.planned_steps - state.corrected_step)
        done = state.corrected_part
        return done + (1 - done) * (step - state.corrected_step) / ahead

    def _correct(self, step: int, now: float) -> None:
        """Plan as many steps as the time left allows, with the validations between them."""
        if self._step_s is None:
            return
        image_s = self._step_s / self.batch_size / _EVALUATION
        between_s = self.val_images * image_s if self._between_s is None else self._between_s
        final_s = self.final_images * image_s + self.final_s + _FINISH_S
        left_s = self.budget_s - now - between_s - final_s
        part = self._part(step)
        self.state.corrected_part, self.state.corrected_step = part, step
        more = left_s / (self._step_s + between_s / self.steps)
        planned = step + max(1, round(more))
        most = self.max_epochs and self.max_epochs * self.steps
        self.state.planned_steps = min(planned, most) if most else planned
        self._corrected_s = now
