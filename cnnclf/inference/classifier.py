"""The only door to a trained model: opens bundles and artifacts, computes logits and labels."""

import hashlib
import os
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cnnclf.errors import UsageError
from cnnclf.hardware import count_usable_cpus, read_cpu_name
from cnnclf.images.decode import decode_image
from cnnclf.images.input_spec import InputSpec
from cnnclf.inference.answer_rules import AnswerRules
from cnnclf.inference.artifact_verdict import report_verdict
from cnnclf.inference.bundle_paths import find_bundle
from cnnclf.inference.bundles import Bundle, read_bundle
from cnnclf.inference.calibration_data import can_compare, count_features
from cnnclf.inference.engines.choosing import EngineChoice, choose_engines
from cnnclf.inference.engines.engine import Engine, EngineOptions, ModelFile, Tag
from cnnclf.inference.engines.engine_opening import EngineOpener
from cnnclf.inference.keras_loader import KerasLoader
from cnnclf.inference.promise import Promise, read_cutoff, read_promise
from cnnclf.inference.ranking import NO_RULES, RankedLabels, rank_labels
from cnnclf.inference.views import MIN_PROBABILITY, AveragedViews
from cnnclf.names import count_of, join_sides
from cnnclf.probabilities import softmax
from cnnclf.progress import Progress, Silent

if TYPE_CHECKING:
    import keras


@dataclass(eq=False, repr=False)
class Classifier:
    """A trained model with its labels and its input spec. Thread-safe.

    Args:
        engine: Computes the logits.
        source: The bundle it was loaded from.
        features: How many features its engine computes beside the logits; usually none.
    """

    engine: Engine
    source: Bundle
    _keras: "KerasLoader"
    features: int = 0
    _process: int = field(default_factory=os.getpid)

    @classmethod
    def load(
        cls,
        path: Path,
        *,
        engine: str | None = None,
        precision: str = "auto",
        device: str | None = None,
        threads: int | None = None,
        jit_compile: bool = False,
        features: int | None = 0,
        views: str = "none",
        verbose: bool = False,
        progress: Progress | None = None,
    ) -> "Classifier":
        """Open a run directory (its best checkpoint), a checkpoint, a bundle or an artifact.

        Args:
            path: The directory, or a file of a bundle or an artifact.
            engine: A name of `ENGINES`; auto for the fastest that is installed; None for the engine
                that the model was saved for, which is Keras for trained models.
            precision: auto, or one of `PRECISIONS`.
            device: The device that the runtime is set up for if Keras is needed; see
                `setup_runtime`. None if it is set up already.
            threads: CPU threads; None for all that the process may use.
            jit_compile: Compile the Keras graph with XLA; slower on a CPU. With `device` the
                runtime decides.
            features: How many features `stream_outputs` gives; None for all there are, for which
                Keras is loaded unless the bundle says how many. Exports have none. With 0, other
                engines than Keras give those of the bundle: one converted model serves all.
            views: none, mirror or shifts: the logits of several views of each image are averaged.
            verbose: Do not silence libraries.
            progress: Shows conversions, notes and warnings.

        Raises:
            RunError: There is no bundle, or it was changed, is damaged, is from a newer version,
                its parts do not match, or it contains code (a Lambda or a custom layer).
            UsageError: There is no such engine, or it does not support the model, precision or
                device.
            MissingPackageError: The engine is not installed.
        """
        bundle = read_bundle(find_bundle(path))
        progress = progress or Silent()
        model = bundle.model
        choices = choose_engines(
            model.format,
            own_precision=model.precision,
            engine=engine or ("keras" if model.format == "keras" else "auto"),
            precision=precision,
            device=device,
        )
        # Other engines are compared with Keras on the CPU: GPUs round float32 to fewer digits.
        is_keras = choices[0].row.name == "keras"
        keras_device = device if is_keras or device is None else "cpu"
        known = count_features(bundle.content) if can_compare(bundle.content) else 0
        if features is None or not is_keras:
            features = known or features
        keras = KerasLoader(
            bundle, keras_device, threads, jit_compile, verbose, progress, features != 0
        )
        if features is None:
            features = int(keras.load().output_shape[-1]) - len(bundle.labels)
        model = _add_outputs(model, features)
        options = EngineOptions(keras, threads=threads)
        opener = EngineOpener(model, bundle.directory, options, progress)
        opened, choice = opener.open_first(choices)
        if is_keras and engine == "auto" and device == "auto" and keras.found_no_gpu:
            # Keras was chosen for a GPU that it did not find: choose again for the CPU.
            choices = choose_engines(
                model.format, own_precision=model.precision, precision=precision, device="cpu"
            )
            if choices[0] != choice:
                opened, choice = opener.open_first(choices)
        if device is not None:
            progress.note(_describe(opened, choice, keras, threads))
        report_verdict(bundle, opened, progress=progress)
        if views != "none":
            opened = AveragedViews(opened, views, of_probabilities=_gives_probabilities(bundle))
            progress.note(f"--views {views} computes each image {opened.count} times")
        return cls(opened, bundle, keras, features)

    def __repr__(self) -> str:
        way = f"{join_sides(self.input_spec.shape)} to {count_of(len(self.labels), 'label')}"
        engine = f"{self.engine.name} in {self.engine.precision}"
        return f"Classifier({str(self.directory)!r}: {way}, {engine})"

    def with_fast_engine(self, *, progress: Progress) -> "Classifier":
        """Return the classifier with the engine that is the fastest on this CPU.

        The model is converted if it was not before. Where there is no other engine, or none that
        agrees with Keras, it is Keras.

        Args:
            progress: Shows the conversion, and warnings.

        Raises:
            DeviceError: No space for the converted model.
        """
        choices = choose_engines(self.source.model.format)
        model = _add_outputs(self.source.model, self.features)
        options = EngineOptions(self._keras, threads=self._keras.threads)
        opener = EngineOpener(model, self.source.directory, options, progress)
        return replace(self, engine=opener.open_first(choices)[0])

    @property
    def labels(self) -> tuple[str, ...]:
        """K labels in the order of the logits."""
        return self.source.labels

    @property
    def input_spec(self) -> InputSpec:
        """The input that `logits` expects and `decode` returns."""
        return self.source.input_spec

    @property
    def bundle(self) -> dict[str, Any]:
        """The content of classifier.json."""
        return self.source.content

    @property
    def directory(self) -> Path:
        """The directory of the bundle."""
        return self.source.directory

    @property
    def model(self) -> "keras.Model":
        """The Keras model that gives logits, loaded on first use.

        Raises:
            RunError: The model has another format or cannot be loaded.
        """
        return self._keras.load_plain()

    @property
    def temperature(self) -> float:
        """The temperature that divides the logits before the softmax."""
        return float(self.bundle["temperature"])

    @property
    def threshold(self) -> float | None:
        """Probability below which the label is unknown; None for no threshold."""
        threshold = self.bundle.get("threshold")
        return None if threshold is None else float(threshold)

    @property
    def promise(self) -> Promise | None:
        """What `cnnclf calibrate` stored; None in a bundle that was not calibrated."""
        return read_promise(self.bundle)

    def decode(self, source: Path | bytes) -> np.ndarray:
        """Decode an image to uint8 [H, W, C] of the input spec.

        Raises:
            ImageError: It is not an image that can be read.
        """
        return decode_image(source, self.input_spec)

    def logits(self, pixels: np.ndarray) -> np.ndarray:
        """Compute the logits of decoded images.

        Args:
            pixels: uint8 [n, H, W, C] of the input spec, n >= 0.

        Returns:
            float32 [n, K].

        Raises:
            ValueError: Another shape or dtype.
            UsageError: The process was forked since the model was loaded.
        """
        return self._compute(pixels)[:, : len(self.labels)]

    def stream(
        self, batches: Iterable[tuple[Tag, np.ndarray]]
    ) -> Generator[tuple[Tag, np.ndarray], None, None]:
        """Compute the logits of many batches, several at once where the engine supports it.

        See `Engine.stream`: the order is kept, memory is bounded, an empty batch drains.

        Args:
            batches: A tag that identifies the batch, and uint8 [n, H, W, C], n >= 0.

        Yields:
            The tag, and float32 [n, K].

        Raises:
            ValueError: Another shape or dtype.
        """
        with closing(self.stream_outputs(batches)) as results:
            for tag, outputs in results:
                yield tag, outputs[:, : len(self.labels)]

    def stream_outputs(
        self, batches: Iterable[tuple[Tag, np.ndarray]]
    ) -> Generator[tuple[Tag, np.ndarray], None, None]:
        """Compute logits and features; see `stream`.

        Yields:
            The tag, and float32 [n, K + features]: logits, then features of length 1.
        """
        self._check_process()
        with closing(self.engine.stream(self._checked(batches))) as results:
            for tag, outputs in results:
                yield tag, self._to_logits(outputs)

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Turn logits into probabilities: softmax(logits / temperature).

        The temperature is fitted on held-out data: temperature scaling (Guo et al., 2017).

        Args:
            logits: [n, K].

        Returns:
            float64 [n, K]; rows add up to 1.
        """
        return softmax(np.asarray(logits, np.float64) / self.temperature)

    def classify(
        self,
        pixels: np.ndarray,
        *,
        top_k: int = 3,
        threshold: float | None = None,
        rules: AnswerRules = NO_RULES,
    ) -> list[RankedLabels]:
        """Name the most probable labels of decoded images.

        Args:
            pixels: uint8 [n, H, W, C] of the input spec, n >= 0.
            top_k: How many labels to name, at least 1; more than there are means all.
            threshold: Best probability below which the label is `unknown`, 0..1; None for that of
                the bundle, which usually has none.
            rules: Sets and familiarity; see `read_rules`.

        Returns:
            One answer for each image, in order.

        Raises:
            ValueError: Another shape or dtype.
        """
        threshold, norm = read_cutoff(self.bundle, threshold)
        outputs = self._compute(pixels)
        return list(
            rank_labels(self, outputs, top_k=top_k, threshold=threshold, norm=norm, rules=rules)
        )

    def _compute(self, pixels: np.ndarray) -> np.ndarray:
        """Compute logits and features, float32 [n, K + features]."""
        self._check_process()
        self._check_pixels(pixels)
        if not len(pixels):
            return np.zeros((0, len(self.labels) + self.features), np.float32)
        return self._to_logits(self.engine.logits(pixels))

    def _check_process(self) -> None:
        """Refuse to wait forever for threads of the engine, which do not survive a fork."""
        if os.getpid() != self._process:
            raise UsageError(
                f"{self.directory} was loaded by process {self._process}, which was forked since",
                "load it in each process, after the fork",
            )

    def _checked(
        self, batches: Iterable[tuple[Tag, np.ndarray]]
    ) -> Iterator[tuple[Tag, np.ndarray]]:
        for tag, pixels in batches:
            self._check_pixels(pixels)
            yield tag, pixels

    def _check_pixels(self, pixels: np.ndarray) -> None:
        expected = self.input_spec.shape
        if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[1:] != expected:
            raise ValueError(
                f"expected uint8 pixels of shape (n, {', '.join(map(str, expected))}), "
                f"received {pixels.dtype} of shape {pixels.shape}"
            )

    def _to_logits(self, outputs: np.ndarray) -> np.ndarray:
        """Turn an artifact's probabilities into logits whose softmax gives them back."""
        if not _gives_probabilities(self.source):
            return outputs
        return np.asarray(np.log(np.maximum(outputs, MIN_PROBABILITY)), np.float32)


def _gives_probabilities(bundle: Bundle) -> bool:
    return bool(bundle.content["output"] != "logits")


def _add_outputs(model: ModelFile, features: int) -> ModelFile:
    """Return the model file of a model with features: for engines, it is another model."""
    if not features:
        return model
    checksum = hashlib.sha256(f"{model.checksum} with features".encode()).hexdigest()
    return replace(model, checksum=checksum, outputs=model.outputs + features)


def _describe(engine: Engine, choice: EngineChoice, keras: KerasLoader, threads: int | None) -> str:
    """Describe device, engine and precision in one line."""
    if engine.name == "keras" and keras.runtime is not None:
        words = keras.runtime.summary
    else:
        count = count_of(threads or count_usable_cpus(), "thread")
        words = f"CPU: {read_cpu_name()}, {count}, {choice.row.title} in {engine.precision}"
    return f"{words} ({choice.note})" if choice.note else words
