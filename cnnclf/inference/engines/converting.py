"""What all conversions of a Keras model share."""

import contextlib
import warnings
from collections.abc import Iterator

from cnnclf.inference.engines.base import EngineRefusedError
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
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = (lines or [type(error).__name__])[0][:200]
        raise EngineRefusedError(
            f"{title} cannot compute this model: {reason}", "use --engine keras"
        ) from error
