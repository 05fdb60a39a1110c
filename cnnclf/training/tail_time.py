"""How long the second phase of a fine-tuning will take, and what time there is for it."""

from dataclasses import dataclass

from cnnclf.planning.choices import MOST_TAIL_EPOCHS
from cnnclf.planning.finetune_pace import FORWARD, correct_pace
from cnnclf.planning.finetune_plan import FinetunePlan
from cnnclf.planning.pace import MIN_STEPS, count_final_images
from cnnclf.training.fitting.judging import Verdict
from cnnclf.training.indexing import count_saved
from cnnclf.training.work import Work

_BAD = 0.5


@dataclass(frozen=True)
class TailTime:
    """What is known before the second phase starts.

    Args:
        epochs: That are planned, that a bad head needs, or that fit into the minutes of the run; 0:
            none does.
        epoch_s: Seconds of an epoch with its validation.
        left_s: Seconds that are left for epochs; infinite without minutes.
        final_s: Seconds of evaluating whole networks after the last epoch.
    """

    epochs: int
    epoch_s: float
    left_s: float
    final_s: float


def find_tail_time(work: Work[FinetunePlan], verdict: Verdict | None) -> TailTime:
    """Expect the time of the second phase from what is known of the machine.

    Args:
        work: The run.
        verdict: Of the head, through the whole network; None: there is no val split.
    """
    plan, pace = work.plan, work.plan.pace
    counts, config = plan.counts, plan.config
    final_s = plan.work.expect_finish_s(pace)
    if verdict is not None:
        # the tail is judged on val, and its temperature is fitted to the same logits
        images = count_final_images(counts, indexed=plan.work.indexed) - count_saved(work)
        if verdict.image_s and not pace.is_measured:
            pace = correct_pace(pace, 1 / verdict.image_s)
        image_s = verdict.image_s or 1 / pace.rates[FORWARD]
        # judged and tested in turn; the points between the phases compile as well
        final_s = (2 + config.tail.interpolate) * verdict.load_s + images * image_s
    rate = pace.rate(work.runtime.precision)
    epoch_s = plan.work.expect_epoch_s(rate)
    minutes, epochs, left_s = config.training.minutes, int(config.tail.epochs), float("inf")
    if minutes is not None:
        left_s = 60 * minutes - work.spent() - final_s
        is_enough = left_s > MIN_STEPS * int(config.training.batch_size) / rate
        epochs = max(1, round(left_s / epoch_s)) if is_enough else 0
    elif "tail.epochs" in plan.reasons and verdict is not None and _is_bad(verdict):
        epochs = MOST_TAIL_EPOCHS
    return TailTime(epochs, epoch_s, left_s, final_s)


def _is_bad(verdict: Verdict) -> bool:
    """Return whether the head has less than half right of what guessing gets wrong.

    Then the features do not fit the images, and the tail has much to change.
    """
    guessed = 1 / verdict.logits.shape[1]
    return bool(verdict.score[0] < guessed + _BAD * (1 - guessed))
