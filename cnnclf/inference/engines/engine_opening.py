"""Opens the chosen engine, or the next one if its logits differ from those of Keras.

For an engine that cannot open Keras files the model is converted once. When a converted model is
first used in a precision on a type of processor, its logits are compared with those of Keras.
"""

import math
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cnnclf.errors import RunError
from cnnclf.inference.engines.choosing import EngineChoice
from cnnclf.inference.engines.engine import (
    Engine,
    EngineOptions,
    EngineRefusedError,
    Logits,
    ModelFile,
    NotConvertedError,
    Pixels,
)
from cnnclf.inference.engines.engine_cache import (
    ConversionKey,
    ConvertedModel,
    EngineCache,
    name_comparison,
)
from cnnclf.inference.engines.engine_table import (
    BFLOAT16,
    EngineRow,
    check_installed,
    load_function,
    read_engine_version,
)
from cnnclf.inference.engines.keras_comparison import (
    compare_logits,
    draw_reference,
    read_reference,
    save_reference,
)
from cnnclf.progress import Progress
from cnnclf.runs.run_names import REFERENCE_FILE


@dataclass(frozen=True)
class EngineOpener:
    """Opens engines for one model.

    Args:
        model: The model file.
        bundle: Its directory, with the reference images and the engine cache.
        options: Threads etc.; `precision` is set by the choice.
        progress: Shows conversions, notes and warnings.
    """

    model: ModelFile
    bundle: Path
    options: EngineOptions
    progress: Progress

    def open_first(self, choices: Sequence[EngineChoice]) -> tuple[Engine, EngineChoice]:
        """Open the first engine that agrees with Keras.

        Raises:
            EngineRefusedError: No engine agrees.
            MissingPackageError: A package for converting the model is not installed.
        """
        remaining = list(choices)
        while True:
            choice = remaining.pop(0)
            try:
                return self._open(choice), choice
            except EngineRefusedError as error:
                if isinstance(error, NotConvertedError):  # other precisions would fail, too
                    remaining = [other for other in remaining if other.row != choice.row]
                if not remaining:
                    raise
                name, precision = remaining[0].row.title, remaining[0].precision
                fallback = f"{name} in {precision}" if precision else name
                self.progress.warn(f"{error.message}; using {fallback} instead")

    def _open(self, choice: EngineChoice) -> Engine:
        row, options = choice.row, replace(self.options, precision=choice.precision)
        if self.model.format in row.opens:
            return _open_file(row, self.model, options)
        cache = EngineCache(self.bundle, self.progress)
        converted = self._find_converted(row, cache)
        opened = replace(self.model, path=converted.model, format=row.opens[0])
        try:
            engine = _open_file(row, opened, options)
        except RunError as error:
            raise EngineRefusedError(error.message, "use --engine keras") from error
        self._compare(engine, row, converted, cache)
        return engine

    def _find_converted(self, row: EngineRow, cache: EngineCache) -> ConvertedModel:
        key = ConversionKey(row.name, read_engine_version(row), self.model.checksum)
        converted = cache.find(key)
        if converted is not None:
            return converted
        # OpenVINO reads docstrings, which -OO removes: that says nothing of the model
        bare = "-OO" if sys.flags.optimize > 1 else ""
        conversion = f"{key.name}.{os.environ.get('KERAS_BACKEND') or 'tensorflow'}{bare}"
        refusal = cache.read_verdict(conversion)
        if refusal is not None:
            raise NotConvertedError(str(refusal["problem"]), "use --engine keras")
        check_installed(row, converting=True)

        def write(directory: Path) -> Path:
            from cnnclf.inference.engines.keras_engine import (
                KerasEngine,
                accept_uint8,
                set_precision,
            )

            with self.progress.task(f"converting for {row.title}", 3, unit="steps") as task:
                model = set_precision(self.options.keras.load(), "float32")
                task.advance()
                pixels, trained = self._find_reference()
                logits = KerasEngine(model).logits(pixels)
                self._check_drift(logits, trained)
                save_reference(directory, pixels, logits=logits)
                task.advance()
                convert: Callable[[Any, Path], Path] = load_function(row.converter)
                path = convert(accept_uint8(model), directory)
                task.advance()
                return path

        try:
            return cache.make(key, write)
        except EngineRefusedError as error:
            cache.write_verdict(conversion, {"problem": error.message})
            raise NotConvertedError(error.message, error.hint) from error

    def _find_reference(self) -> tuple[Pixels, Logits | None]:
        """Return the reference images of the bundle, or synthetic ones if it has none."""
        try:
            found = read_reference(self.bundle)
        except RunError as error:
            self.progress.warn(f"{error.message}; using synthetic images instead")
            found = None
        if found is None or found[0].dtype != "uint8" or found[0].shape[1:] != self.model.shape:
            return draw_reference(self.model.shape), None
        return found

    def _check_drift(self, logits: Logits, trained: Logits | None) -> None:
        """Warn if the logits of Keras here differ from those where the model was trained."""
        if trained is None or trained.shape != logits.shape:
            return
        # The model may have been trained in bfloat16.
        found = compare_logits(logits, trained, tolerance=BFLOAT16)
        if not found.is_close:
            self.progress.warn(
                "the logits of Keras differ from those where the model was trained, by "
                f"{found.difference:.2g} of their range on the reference images"
            )

    def _compare(
        self, engine: Engine, row: EngineRow, converted: ConvertedModel, cache: EngineCache
    ) -> None:
        """Compare an engine with Keras, unless the cache has the result.

        Raises:
            EngineRefusedError: The logits differ.
        """
        precision = engine.precision
        tolerance = row.tolerances[precision]
        name = name_comparison(converted.key, precision)
        verdict = cache.read_verdict(name)
        if verdict is None or verdict.get("tolerance") != vars(tolerance):
            pixels, expected = _read_expected(converted)
            found = compare_logits(engine.logits(pixels), expected, tolerance=tolerance)
            verdict = vars(found) | {"tolerance": vars(tolerance)}
            cache.write_verdict(name, verdict)
        if not verdict["is_close"]:
            difference = verdict["difference"]
            is_number = difference is not None and math.isfinite(difference)  # null in JSON
            far = f"differ by {difference:.2g} of their range" if is_number else "are not numbers"
            raise EngineRefusedError(
                f"{row.title} {converted.key.version} in {precision} does not agree with Keras: "
                f"its logits {far} (allowed {tolerance.difference:g}), "
                f"{100 * verdict['agreement']:.0f} % of {verdict['images']} reference images get "
                "the "
                "same label",
                "use --engine keras",
            )


def _open_file(row: EngineRow, model: ModelFile, options: EngineOptions) -> Engine:
    opener: Callable[[ModelFile, EngineOptions], Engine] = load_function(row.opener)
    return opener(model, options)


def _read_expected(converted: ConvertedModel) -> tuple[Pixels, Logits]:
    """Read the reference images of a converted model and the logits of Keras."""
    reference = read_reference(converted.directory)
    if reference is None or reference[1] is None:
        raise RunError(
            f"the engine cache {converted.directory} is damaged: {REFERENCE_FILE} is missing",
            f"delete {converted.directory}",
        )
    return reference[0], reference[1]
