"""`cnnclf calibrate`: choose a threshold that keeps a promise on new images."""

import shlex
from functools import partial
from typing import TYPE_CHECKING, Annotated

from cnnclf.cli import options
from cnnclf.cli.declaring import argument
from cnnclf.cli.output import out
from cnnclf.cli.settings import add_settings, read_settings
from cnnclf.config import CalibrateConfig
from cnnclf.names import count_of

if TYPE_CHECKING:
    from cnnclf.evaluation.deciding import CalibratedModel
    from cnnclf.inference.promise import Promise


@partial(add_settings, kind=CalibrateConfig, rows={"engine": options.ENGINE_CHOICES})
def calibrate_command(
    run: options.Model,
    dataset: Annotated[
        str | None,
        argument("DATASET", "Dataset, or any source that 'cnnclf import' can read. [that of RUN]"),
    ] = None,
    *,
    verbose: options.Verbose = False,
    **settings: object,
) -> None:
    """Choose a threshold that keeps a promise on new images, and store it in the bundle.

    With --precision, --coverage or --error-rate, the threshold holds with the given confidence on
    new images like those it was chosen on; below it, 'predict' answers 'unknown'. Without any,
    shows what could be promised. Images the model was trained on are never used.
    """
    config = read_settings(CalibrateConfig, settings)
    out.note(f"calibrating {run}")
    from cnnclf.evaluation.deciding import calibrate_model

    result = calibrate_model(run, dataset, config=config, progress=out.progress(), verbose=verbose)
    if result.promise is not None:
        _show_promise(result, result.promise)
    else:
        _show_offers(result, config.confidence)
    predict = shlex.join(["cnnclf", "predict", str(run), "photos/"])
    _show_stored(result, predict)
    out.json(result.to_dict())
    if result.promise is not None:
        out.hint(f"label images with it: {predict}")
    elif result.offers:
        best = result.offers[-1].target
        out.hint(f"store one: cnnclf calibrate {shlex.quote(str(run))} --precision {best:g}")


def _show_promise(result: "CalibratedModel", promise: "Promise") -> None:
    out.pairs(
        "",
        {
            "promise": f"{promise}, kept on new images at "
            f"{100 * promise.confidence:.12g} % confidence",
            "threshold": f"{promise.threshold:.4f} ({_name_score(promise)})",
            "answered": f"{_answered(promise, '95 % interval ')} of {promise.images:,} "
            f"{promise.split} images",
            "correct": _correct(promise),
            "AURC": f"{result.curve.aurc:.4f}",
            "AUGRC": f"{result.curve.augrc:.4f}",
        },
    )


def _show_stored(result: "CalibratedModel", predict: str) -> None:
    sizes = [f"{each.method} {each.size:.2f}" for each in result.sets]
    if result.promise is not None or result.offers:
        out.line()
    out.pairs(
        "",
        {
            "sets of 0.95": f"{', '.join(sizes)} labels on average: {predict} --sets 0.95"
            if sizes
            else "need 19 images",
            "familiarity": f"a column of predict: {predict} --unknown-by both"
            if result.has_index
            else "no index of training images",
            "bundle": result.bundle,
        },
    )


def _show_offers(result: "CalibratedModel", confidence: float) -> None:
    from cnnclf.evaluation.deciding import LOWEST_OFFER

    if not result.offers:
        out.warn(
            f"no precision of {LOWEST_OFFER:g} or more can be promised at "
            f"{100 * confidence:.12g} % confidence on these images"
        )
        return
    out.table(
        f"what can be promised at {100 * confidence:.12g} % confidence",
        ("precision", "threshold", "answered (95 % interval)", "correct"),
        rows=[
            (f"{each.target:g}", f"{each.threshold:.4f}", _answered(each), _correct(each))
            for each in result.offers
        ],
    )


def _name_score(promise: "Promise") -> str:
    if promise.norm is None:
        return "probability of the best label"
    return f"largest logit over the {promise.norm}-norm of all"


def _answered(promise: "Promise", words: str = "") -> str:
    from cnnclf.evaluation.metrics import wilson_interval

    low, high = wilson_interval(promise.answered, promise.images)
    fraction = promise.answered / promise.images
    return f"{100 * fraction:.1f} % ({words}{100 * low:.1f} to {100 * high:.1f})"


def _correct(promise: "Promise") -> str:
    if not promise.answered:
        return "no answers"
    fraction = promise.correct / promise.answered
    return f"{promise.correct:,} of {count_of(promise.answered, 'answer')} ({100 * fraction:.1f} %)"
