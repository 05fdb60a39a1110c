"""Shared by all conversions of a Keras model."""

import contextlib
import warnings
from collections.abc import Iterator

from cnnclf.inference.engines.engine import EngineRefusedError
from cnnclf.runtime import quiet

# Raised by exporters for unsupported layers.
_REFUSALS = (AttributeError, LookupError, NotImplementedError, RuntimeError, TypeError, ValueError)


@contextlib.contextmanager
def converting(title: str, *refusals: type[Exception]) -> Iterator[None]:
    """Convert quietly, and turn the errors of a converter into `EngineRefusedError`.

    Args:
        title: Title of the engine.
        *refusals: Exceptions of its converter, in addition to the usual ones.

    Raises:
        EngineRefusedError: The model cannot be converted.
    """
    try:
        with quiet(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # converters warn about their own code
            yield
    except _REFUSALS + refusals as error:
        raise cannot_compute(title, error) from error


def cannot_compute(title: str, error: Exception) -> EngineRefusedError:
    """Return our error for an exception of an engine or its converter.

    Args:
        title: Title of the engine.
        error: The exception; the first line of its message is used.
    """
    return EngineRefusedError(
        f"{title} cannot compute this model: {first_line(error)}", "use --engine keras"
    )


def first_line(error: Exception) -> str:
    """Return the first line of an exception's message that is not empty, cut, or else its type."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines or [type(error).__name__])[0][:200]
