"""Loads the Keras model of a bundle when it is needed."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cnnclf.errors import RunError
from cnnclf.inference.bundles import Bundle, find_mismatch
from cnnclf.inference.engines.engine_table import find_engine
from cnnclf.inference.familiarity import join_features
from cnnclf.progress import Progress

if TYPE_CHECKING:
    import keras

    from cnnclf.runtime import RuntimeInfo


@dataclass(eq=False)
class KerasLoader:
    """Loads the Keras model of a bundle once, after setting up the runtime if necessary.

    Args:
        bundle: The bundle.
        device: That the runtime is set up for; None if it is set up already.
        threads: CPU threads; None for all that the process may use.
        jit_compile: Compile the graph with XLA; with `device` the runtime decides.
        verbose: Do not silence libraries.
        progress: Receives notes.
        with_features: Whether engines compute features beside the logits.
        runtime: What was set up; None before.
    """

    bundle: Bundle
    device: str | None
    threads: int | None
    jit_compile: bool
    verbose: bool
    progress: Progress
    with_features: bool = False
    runtime: "RuntimeInfo | None" = None
    _plain: "keras.Model | None" = None
    _model: "keras.Model | None" = None

    @property
    def found_no_gpu(self) -> bool:
        """Whether the runtime that was set up computes on the CPU."""
        return self.runtime is not None and self.runtime.kind == "cpu"

    def load(self) -> "keras.Model":
        """Load the model that engines compute."""
        if self._model is None:
            model = self.load_plain()
            self._model = join_features(model) if self.with_features else model
        return self._model

    def load_plain(self) -> "keras.Model":
        """Load the model of the bundle."""
        if self._plain is None:
            if self.device is not None:
                self._set_up(self.device)
            self._plain = self._load()
        return self._plain

    def _set_up(self, device: str) -> None:
        from cnnclf.runtime import setup_runtime

        self.runtime = setup_runtime(
            device=device, threads=self.threads, verbose=self.verbose, progress=self.progress
        )
        self.jit_compile = self.runtime.jit_compile

    def _load(self) -> "keras.Model":
        file = self.bundle.model
        if file.format not in find_engine("keras").opens:
            raise RunError(
                f"the model in {self.bundle.directory} has the format {file.format}, not keras",
                "use the run it was exported from",
            )
        from cnnclf.inference.engines.keras_engine import load_keras_model, load_saved_model

        if file.format == "savedmodel":
            model = load_saved_model(file.path, file.shape)
        else:
            model = load_keras_model(file.path)
        problem = find_mismatch(model, self.bundle.labels, input_spec=self.bundle.input_spec)
        if problem:
            raise self.bundle.damaged(problem)
        return model
