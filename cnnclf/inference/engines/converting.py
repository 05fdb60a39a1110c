"""What all conversions of a Keras model share."""

import contextlib
import warnings
from collections.abc import Iterator

from cnnclf.inference.engines.engine import EngineRefusedError
from cnnclf.runtime import quiet

# What exporters raise for layers they do not know.
_REFUSALS = (AttributeError, LookupError, NotImplementedError, RuntimeError, TypeError, ValueError)


@contextlib.contextmanager
def converting(title: str, *refusals: type[Exception]) -> Iterator[None]:
    """Convert quietly, and turn a converter's refusal into one of ours.

    Args:
        title: What the engine is called.
        *refusals: What its converter raises besides the usual.

    Raises:
        EngineRefusedError: The model cannot be converted.
    """
    try:
        with quiet(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the converter, about itself
            yield
    except _REFUSALS + refusals as error:
        raise cannot_compute(title, error) from error


def cannot_compute(title: str, error: Exception) -> EngineRefusedError:
    """Give our error for one of an engine, or of its converter, about a model.

    Args:
        title: What the engine is called.
        error: What it raised; the first line of its words is taken.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reason = (lines or [type(error).__name__])[0][:200]
    return EngineRefusedError(f"{title} cannot compute this model: {reason}", "use --engine keras")
