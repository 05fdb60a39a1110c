"""Opens the engine that was chosen, and the next one if it computes something else than Keras.

An engine that does not open Keras' own files gets a form of the model, which is made once. On its
first use with a precision on a kind of processor its logits are compared with those of Keras.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cnnclf.errors import RunError
from cnnclf.inference.engines.base import (
    Engine,
    EngineOptions,
    EngineRefusedError,
    Logits,
    ModelFile,
    Pixels,
)
from cnnclf.inference.engines.choosing import EngineChoice
from cnnclf.inference.engines.forms import (
    Form,
    FormKey,
    find_form,
    find_places,
    make_form,
    read_check,
    write_check,
)
from cnnclf.inference.engines.reference import (
    compare_logits,
    draw_reference,
    read_reference,
    save_reference,
)
from cnnclf.inference.engines.table import (
    check_installed,
    load_function,
    read_engine_version,
)
from cnnclf.progress import Progress
from cnnclf.runs import REFERENCE_FILE
from cnnclf.runtime import quiet


@dataclass(frozen=True)
class EngineOpener:
    """What is needed to open any engine on one model.

    Args:
        model: The model's file.
        bundle: The directory it lies in, with its reference pictures and its engine cache.
        options: Threads and the like; `precision` is set by the choice.
        progress: Shows what takes long.
    """

    model: ModelFile
    bundle: Path
    options: EngineOptions
    progress: Progress

    def open_first(self, choices: Sequence[EngineChoice]) -> Engine:
        """Open the first engine that agrees with Keras.

        Args:
            choices: At least one, as `choose_engines` gives them.

        Raises:
            EngineRefusedError: Not even the last one does.
            MissingPackageError: What the first needs to convert the model is missing.
        """
        for choice, following in zip(choices, [*choices[1:], None], strict=True):
            try:
                engine = self._open(choice)
            except EngineRefusedError as error:
                if following is None:
                    raise
                precision = f" in {following.precision}" if following.precision else ""
                self.progress.warn(f"{error.message}; {following.row.title}{precision} takes over")
                continue
            if choice.note:
                self.progress.note(choice.note)
            return engine
        raise AssertionError("a choice of engines is never empty")

    def _open(self, choice: EngineChoice) -> Engine:
        options = replace(self.options, precision=choice.precision)
        if self.model.format in choice.row.opens:
            return _open_file(choice, self.model, options)
        places = find_places(self.bundle)
        form = self._find_form(choice, places)
        opened = replace(self.model, path=form.model, format=choice.row.opens[0])
        engine = _open_file(choice, opened, options)
        self._check(engine, choice, form, places)
        return engine

    def _find_form(self, choice: EngineChoice, places: tuple[Path, ...]) -> Form:
        row = choice.row
        key = FormKey(row.name, read_engine_version(row), self.model.checksum)
        found = find_form(key, places, self.progress)
        if found is not None:
            return found
        check_installed(row, converting=True)
        with self.progress.task(f"preparing {row.title}, once", 3, "steps") as task:

            def write(directory: Path) -> Path:
                model = self.options.keras.load()
                task.advance()
                pixels = self._read_reference()
                save_reference(directory, pixels, _ask_keras(model, pixels))
                task.advance()
                path = _convert(choice, model, directory)
                task.advance()
                return path

            return make_form(key, places, write)

    def _read_reference(self) -> Any:
        found = read_reference(self.bundle)
        if found is None or found[0].shape[1:] != self.model.shape:
            return draw_reference(self.model.shape)
        return found[0]

    def _check(
        self, engine: Engine, choice: EngineChoice, form: Form, places: tuple[Path, ...]
    ) -> None:
        """Compare an engine with Keras, unless that was done before.

        Raises:
            EngineRefusedError: It computes something else.
        """
        precision = engine.precision
        tolerance = choice.row.tolerances[precision]
        check = read_check(form, precision, places)
        if check is None or check.get("tolerance") != vars(tolerance):
            pixels, expected = _read_answers(form)
            found = compare_logits(engine.logits(pixels), expected, tolerance)
            check = found.to_dict() | {"tolerance": vars(tolerance)}
            write_check(form, precision, places, check)
        if not check["is_close"]:
            raise EngineRefusedError(
                f"{choice.row.title} {form.key.version} in {precision} computes something else "
                f"than Keras: its logits differ by {check['difference']:.2g} of their spread "
                f"(allowed {tolerance.difference:g}), {check['agreement']:.0%} of "
                f"{check['pictures']} reference pictures get the same label",
                "use --engine keras",
            )


def _open_file(choice: EngineChoice, model: ModelFile, options: EngineOptions) -> Engine:
    opener: Callable[[ModelFile, EngineOptions], Engine] = load_function(choice.row.opener)
    return opener(model, options)


def _read_answers(form: Form) -> tuple[Pixels, Logits]:
    """Read the reference pictures of a form, and what Keras said of them."""
    reference = read_reference(form.directory)
    if reference is None or reference[1] is None:
        raise RunError(
            f"the engine cache {form.directory} is damaged: it has no {REFERENCE_FILE}",
            f"delete {form.directory}",
        )
    return reference[0], reference[1]


def _ask_keras(model: Any, pixels: Any) -> Any:
    from cnnclf.inference.engines.keras_engine import KerasEngine

    return KerasEngine(model).logits(pixels)


def _convert(choice: EngineChoice, model: Any, directory: Path) -> Path:
    from cnnclf.inference.engines.keras_engine import take_bytes

    convert: Callable[[Any, Path], Path] = load_function(choice.row.converter)
    with quiet():
        return convert(take_bytes(model), directory)
