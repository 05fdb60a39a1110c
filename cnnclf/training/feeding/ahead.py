"""Opens decoded images in the background, while something else is loaded."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from cnnclf.data.manifest import Dataset
from cnnclf.data.store import Pixels, open_pixels
from cnnclf.images.input_spec import InputSpec
from cnnclf.progress import Held, Progress

PixelsAhead = Callable[[Progress], Pixels]
"""Waits for pixels; reports what was done in the meantime, and what is left."""


@contextmanager
def open_ahead(
    dataset: Dataset,
    spec: InputSpec,
    *,
    cache: str,
    threads: int | None = None,
) -> Iterator[PixelsAhead]:
    """Open pixels in a thread, which ends with the with statement.

    Loading TensorFlow takes one processor for seconds, in which the others can decode.

    Args:
        dataset: The images.
        spec: Input spec they are decoded for.
        cache: As of `open_pixels`.
        threads: As of `open_pixels`.

    Yields:
        A function that waits for the pixels; it raises the errors of `open_pixels`.

    Example:
        >>> with open_ahead(dataset, spec, cache="disk") as ahead:
        ...     runtime = setup_runtime()
        ...     pixels = ahead(progress)
    """
    held = Held()
    with ThreadPoolExecutor(1, thread_name_prefix="cnnclf-ahead") as pool:
        future = pool.submit(
            open_pixels, dataset, spec, cache=cache, progress=held, threads=threads
        )

        def wait(progress: Progress) -> Pixels:
            held.release(progress)
            return future.result()

        try:
            yield wait
        finally:
            held.abandon()
