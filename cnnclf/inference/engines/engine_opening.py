"""Opens the engine that was chosen, and the next one if it computes something else than Keras.

An engine that does not open Keras' own files gets a form of the model, which is made once. On its
first use with a precision on a kind of processor its logits are compared with those of Keras.
"""

import math
import os
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
from cnnclf.inference.engines.engine_table import (
    BFLOAT16,
    EngineRow,
    check_installed,
    load_function,
    read_engine_version,
)
from cnnclf.inference.engines.form_cache import EngineCache, Form, FormKey, name_comparison
from cnnclf.inference.engines.keras_comparison import (
    compare_logits,
    draw_reference,
    read_reference,
    save_reference,
)
from cnnclf.progress import Progress
from cnnclf.runs import REFERENCE_FILE


@dataclass(frozen=True)
class EngineOpener:
    """What is needed to open any engine on one model.

    Args:
        model: The model's file.
        bundle: The directory it lies in, with its reference images and its engine cache.
        options: Threads and the like; `precision` is set by the choice.
        progress: Shows what takes long.
    """

    model: ModelFile
    bundle: Path
    options: EngineOptions
    progress: Progress

    def open_first(self, choices: Sequence[EngineChoice]) -> tuple[Engine, EngineChoice]:
        """Open the first engine that agrees with Keras.

        Args:
            choices: At least one, as `choose_engines` gives them.

        Returns:
            The engine, and the choice that it is.

        Raises:
            EngineRefusedError: Not even the last one does.
            MissingPackageError: What the first needs to convert the model is missing.
        """
        left = list(choices)
        while True:
            choice = left.pop(0)
            try:
                return self._open(choice), choice
            except EngineRefusedError as error:
                if isinstance(error, NotConvertedError):  # nor can it be in another precision
                    left = [other for other in left if other.row != choice.row]
                if not left:
                    raise
                name, precision = left[0].row.title, left[0].precision
                next_one = f"{name} in {precision}" if precision else name
                self.progress.warn(f"{error.message}; {next_one} takes over")

    def _open(self, choice: EngineChoice) -> Engine:
        row, options = choice.row, replace(self.options, precision=choice.precision)
        if self.model.format in row.opens:
            return _open_file(row, self.model, options)
        cache = EngineCache(self.bundle, self.progress)
        form = self._find_form(row, cache)
        opened = replace(self.model, path=form.model, format=row.opens[0])
        try:
            engine = _open_file(row, opened, options)
        except RunError as error:
            raise EngineRefusedError(error.message, "use --engine keras") from error
        self._compare(engine, row, form, cache)
        return engine

    def _find_form(self, row: EngineRow, cache: EngineCache) -> Form:
        key = FormKey(row.name, read_engine_version(row), self.model.checksum)
        form = cache.find(key)
        if form is not None:
            return form
        conversion = f"{key.name}.{os.environ.get('KERAS_BACKEND') or 'tensorflow'}"
        refusal = cache.read_verdict(conversion)
        if refusal is not None:
            raise NotConvertedError(str(refusal["problem"]), "use --engine keras")
        check_installed(row, converting=True)

        def write(directory: Path) -> Path:
            from cnnclf.inference.engines.keras_engine import (
                KerasEngine,
                set_precision,
                take_bytes,
            )

            with self.progress.task(f"preparing {row.title}, once", 3, unit="steps") as task:
                model = set_precision(self.options.keras.load(), "float32")
                task.advance()
                pixels, trained = self._find_reference()
                logits = KerasEngine(model).logits(pixels)
                self._doubt(logits, trained)
                save_reference(directory, pixels, logits)
                task.advance()
                convert: Callable[[Any, Path], Path] = load_function(row.converter)
                path = convert(take_bytes(model), directory)
                task.advance()
                return path

        try:
            return cache.make(key, write)
        except EngineRefusedError as error:
            cache.write_verdict(conversion, {"problem": error.message})
            raise NotConvertedError(error.message, error.hint) from error

    def _find_reference(self) -> tuple[Pixels, Logits | None]:
        """The bundle's own reference images; drawn ones if it has none that can be used."""
        try:
            found = read_reference(self.bundle)
        except RunError as error:
            self.progress.warn(f"{error.message}; drawn images are used")
            found = None
        if found is None or found[0].dtype != "uint8" or found[0].shape[1:] != self.model.shape:
            return draw_reference(self.model.shape), None
        return found

    def _doubt(self, logits: Logits, trained: Logits | None) -> None:
        """Say so if Keras gives other logits here than where the model was trained."""
        if trained is None or trained.shape != logits.shape:
            return
        found = compare_logits(logits, trained, BFLOAT16)  # it may have been trained in bfloat16
        if not found.is_close:
            self.progress.warn(
                "Keras gives other logits here than where the model was trained: they are off by "
                f"{found.difference:.2g} of their spread on its reference images"
            )

    def _compare(self, engine: Engine, row: EngineRow, form: Form, cache: EngineCache) -> None:
        """Compare an engine with Keras, unless that was done before.

        Raises:
            EngineRefusedError: It computes something else.
        """
        precision = engine.precision
        tolerance = row.tolerances[precision]
        name = name_comparison(form.key, precision)
        verdict = cache.read_verdict(name)
        if verdict is None or verdict.get("tolerance") != vars(tolerance):
            pixels, expected = _read_answers(form)
            found = compare_logits(engine.logits(pixels), expected, tolerance)
            verdict = found.to_dict() | {"tolerance": vars(tolerance)}
            cache.write_verdict(name, verdict)
        if not verdict["is_close"]:
            difference = verdict["difference"]
            is_number = difference is not None and math.isfinite(difference)  # null in JSON
            far = f"off by {difference:.2g} of their spread" if is_number else "not numbers"
            raise EngineRefusedError(
                f"{row.title} {form.key.version} in {precision} computes something else than "
                f"Keras: its logits are {far} (allowed {tolerance.difference:g}), "
                f"{verdict['agreement']:.0%} of {verdict['images']} reference images get the "
                "same label",
                "use --engine keras",
            )


def _open_file(row: EngineRow, model: ModelFile, options: EngineOptions) -> Engine:
    opener: Callable[[ModelFile, EngineOptions], Engine] = load_function(row.opener)
    return opener(model, options)


def _read_answers(form: Form) -> tuple[Pixels, Logits]:
    """Read the reference images of a form, and what Keras said of them."""
    reference = read_reference(form.directory)
    if reference is None or reference[1] is None:
        raise RunError(
            f"the engine cache {form.directory} is damaged: it has no {REFERENCE_FILE}",
            f"delete {form.directory}",
        )
    return reference[0], reference[1]
