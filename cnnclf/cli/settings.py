"""Command-line options made from the settings in `config/`, so that neither can drift away.

A command takes `**settings` and is passed through `add_settings`, which gives it one option per
setting. Options are None unless typed; `config.load_config` checks their values together with the
file's and those of --set, and reports all errors at once.
"""

import inspect
import types
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Union, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from cnnclf.config import CommandConfig, TrainConfig, choices_of

_NAMES = {
    "optimizer.name": "optimizer",
    "augment.preset": "augment",
    "backbone.name": "backbone",
    "head.pooling": "pooling",
    "tail.unfreeze": "unfreeze",
    "features.cache": "feature-cache",
    "features.fallback": "feature-fallback",
    "features.precision": "feature-precision",
    "features.dtype": "feature-dtype",
}
_NAMED_BY_SECTION = ("head", "tail")
_PANELS = {
    "data": "Images",
    "model": "Network",
    "backbone": "Backbone",
    "head": "Head: the first phase",
    "tail": "Tail: the second phase",
    "features": "Frozen layers",
    "optimizer": "Optimizer",
    "training": "Training",
    "augment": "Augmentation",
    "runtime": "Machine",
}


def option_name(key: str) -> str:
    """Return the option of a dotted key: `model.kernel_size` is `--kernel-size`."""
    section, _, name = key.partition(".")
    if section in _NAMED_BY_SECTION:
        name = f"{section}-{name}"
    return "--" + _NAMES.get(key, name).replace("_", "-")


def add_settings(
    command: Callable[..., Any],
    *,
    only: tuple[str, ...] = ("",),
    kind: type[CommandConfig] = TrainConfig,
) -> Callable[..., Any]:
    """Give a command that takes `**settings` one option per setting.

    Args:
        command: Its other parameters keep their place; `**settings` is replaced.
        only: Beginnings of the dotted keys that the command has options for.
        kind: All settings there are.

    Returns:
        The same function, which Typer now sees with all options.
    """
    signature = inspect.signature(command)
    own = [
        parameter
        for parameter in signature.parameters.values()
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD
    ]
    added = [
        inspect.Parameter(
            _parameter_name(key),
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=_annotate(key, field),
        )
        for key, field in _fields(kind)
        if key.startswith(only)
    ]
    keyword_own = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own]
    parameters = [*keyword_own, *added]
    command.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    return command


def given_settings(
    settings: Mapping[str, object], *, kind: type[CommandConfig] = TrainConfig
) -> dict[str, object]:
    """Return the typed options among a command's `**settings`, by dotted key."""
    keys = {_parameter_name(key): key for key, _ in _fields(kind)}
    return {keys[name]: value for name, value in settings.items() if value is not None}


def _fields(kind: type[CommandConfig]) -> list[tuple[str, FieldInfo]]:
    found = []
    for section, section_field in kind.model_fields.items():
        model = section_field.annotation
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            raise TypeError(f"expected a section of settings, received {model!r}")
        found += [(f"{section}.{name}", field) for name, field in model.model_fields.items()]
    return found


def _parameter_name(key: str) -> str:
    return key.replace(".", "__")


def _annotate(key: str, field: FieldInfo) -> Any:
    choices = choices_of(field.annotation)
    is_flag = field.annotation is bool
    name = option_name(key)
    declaration = f"{name}/--no-{name[2:]}" if is_flag else name
    option = typer.Option(
        declaration,
        metavar=None if is_flag else "|".join(choices) or _metavar(field.annotation),
        autocompletion=(lambda: list(choices)) if choices else None,
        help=f"{field.description} [{_default_text(key, field)}]",
        rich_help_panel=_PANELS[key.partition(".")[0]],
        show_default=False,
    )
    return Annotated[bool | None, option] if is_flag else Annotated[str | None, option]


def _default_text(key: str, field: FieldInfo) -> str:
    default = field.default
    if key.startswith("augment.") and default is None:
        return "as --augment says"
    if isinstance(default, list):
        return ",".join(map(str, default)) or "none"
    return str(default).lower() if isinstance(default, bool) else str(default)


def _metavar(annotation: Any) -> str:
    kinds = set(_leaf_types(annotation))
    if float in kinds:
        return "NUMBER"
    if list in kinds:
        return "N,N,..."
    if tuple in kinds:
        return "SIZE"
    return "N" if int in kinds else "TEXT"


def _leaf_types(annotation: Any) -> list[Any]:
    origin = get_origin(annotation)
    if origin in {list, tuple}:
        return [origin]
    if origin in {Union, types.UnionType, Annotated}:
        return [leaf for part in get_args(annotation) for leaf in _leaf_types(part)]
    return [annotation]
