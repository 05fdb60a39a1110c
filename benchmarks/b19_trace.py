"""B19: what `train --trace` costs, as a fraction of the processor time of the training.

One run of the default length on the sample data. The processor time of everything that the tracer
does (building its function, each epoch, the weights it keeps) is compared with that of all epochs,
with validation and checkpoints, without it.
  trace   processor seconds of the trace, and as a percentage of the epochs (goal: under 5)
Run from the root of the project: python -m benchmarks.b19_trace [OPTIONS OF TRAIN ...]
"""

import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

from cnnclf.cli.main import main as run_command
from cnnclf.training.fitting import fit
from cnnclf.training.fitting.tracing import Tracer

spent = {"trace": 0.0, "fit": 0.0}


def clocked(name: str, work: Callable[..., Any]) -> Callable[..., Any]:
    """Add the processor time of each call to `spent`."""

    def call(*arguments: Any, **options: Any) -> Any:
        began = time.process_time()
        try:
            return work(*arguments, **options)
        finally:
            spent[name] += time.process_time() - began

    return call


def main() -> None:
    from cnnclf.training import scratch

    Tracer.__init__ = clocked("trace", Tracer.__init__)  # type: ignore[method-assign]
    for name in ("begin_step", "end_epoch", "finish"):
        setattr(Tracer, name, clocked("trace", getattr(Tracer, name)))
    setattr(scratch, "fit_phase", clocked("fit", fit.fit_phase))  # noqa: B010
    options = sys.argv[1:] or ["--preset", "tiny"]
    with tempfile.TemporaryDirectory() as folder:
        words = ["train", "sample_data/x_or_o", "--trace", "--quiet", "--out", f"{folder}/run"]
        if run_command([*words, *options]):
            raise SystemExit("the training failed")
    epochs = spent["fit"] - spent["trace"]
    print(f"trace {spent['trace']:.2f} s of {epochs:.2f} s: {100 * spent['trace'] / epochs:.1f} %")


if __name__ == "__main__":
    main()
