"""Puts settings into words: the option of a key, what it takes, its default."""

import types
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from cnnclf.config.sections import CommandConfig, Section, Typed

_OPTION_NAMES = {
    "optimizer.name": "optimizer",
    "augment.preset": "augment",
    "backbone.name": "backbone",
    "tail.unfreeze": "unfreeze",
    "features.cache": "feature-cache",
    "features.fallback": "feature-fallback",
    "features.precision": "feature-precision",
    "features.dtype": "feature-dtype",
    "copy_images": "copy",
    "data.range": "value-range",
    "precision_target": "precision",
}
_NAMED_BY_SECTION = ("head", "tail")


def list_fields(kind: type[CommandConfig]) -> dict[str, FieldInfo]:
    """Return every setting of a command by its dotted key, in the order of the sections."""
    found: dict[str, FieldInfo] = {}
    for name, field in kind.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            section = field.annotation.model_fields
            found |= {f"{name}.{key}": setting for key, setting in section.items()}
        else:
            found[name] = field
    return found


def option_name(key: str) -> str:
    """Return the option of a dotted key: `model.kernel_size` is `--kernel-size`."""
    section, _, name = key.rpartition(".")
    if section in _NAMED_BY_SECTION:
        name = f"{section}-{name}"
    return "--" + _OPTION_NAMES.get(key, name).replace("_", "-")


def format_setting(key: str, value: object, *, digits: int = 12) -> str:
    """Write a setting as it would be typed, such as 8,16 or 64x64 or true."""
    if isinstance(value, list | tuple):
        sign = ":" if key == "data.range" else "x" if key.endswith("_size") else ","
        return sign.join(format_setting(key, each, digits=digits) for each in value) or "none"
    if isinstance(value, float):
        return f"{value:.{digits}g}"
    return str(value).lower() if isinstance(value, bool) else str(value)


def typed_option(key: str, value: object) -> str:
    """Write a setting as an option of the command line, such as --filters 8,16 or --no-trace."""
    name = option_name(key)
    if isinstance(value, bool):
        return name if value else f"--no-{name.removeprefix('--')}"
    return f"{name} {format_setting(key, value) or repr('')}"


def choices_of(field: FieldInfo) -> tuple[str, ...]:
    """Return the words a setting may take, or () if it takes any other value as well."""
    parts = [part for part in _parts(field.annotation) if part is not type(None)]
    if parts and all(get_origin(part) is Literal for part in parts):
        return _words(parts)
    return ()


def words_of(field: FieldInfo) -> tuple[str, ...]:
    """Return the words a setting may take, whether or not it takes other values as well."""
    typed = _typed(field)
    return typed.choices if typed else _words(_parts(field.annotation))


def describe_type(field: FieldInfo) -> str:
    """Return a placeholder for what a setting takes: a|b|c, N, NUMBER, SIZE, FILE or TEXT.

    A setting may name its own: `json_schema_extra={"metavar": "COLUMN"}`.
    """
    extra = field.json_schema_extra
    if isinstance(extra, dict) and "metavar" in extra:
        return str(extra["metavar"])
    if typed := _typed(field):
        return typed.metavar
    if choices := choices_of(field):
        return "|".join(choices)
    kinds = [get_origin(part) or part for part in _parts(field.annotation)]
    for kind, word in _METAVARS.items():
        if kind in kinds:
            return word
    return "TEXT"


_METAVARS: dict[Any, str] = {
    bool: "true|false",
    list: "N,N,...",
    float: "NUMBER",
    int: "N",
    Path: "FILE",
}


def describe_values(field: FieldInfo) -> str:
    """Return in words what a setting takes, such as "auto or a whole number from 1 to 12"."""
    if typed := _typed(field):
        return typed.words
    if (choices := choices_of(field)) and len(choices) > 1:
        return f"one of {', '.join(choices)}"
    *first, last = _describe(field.annotation, field.metadata)
    return f"{', '.join(first)} or {last}" if first else last


def describe_default(key: str, field: FieldInfo) -> str:
    """Return the default as it would be typed, or in words where it is none of the values."""
    if field.is_required():
        return "required"
    default: Any = field.default
    extra = field.json_schema_extra
    if default is None:
        if key.startswith("augment."):
            return "set by --augment"
        return str(extra.get("unset", "auto")) if isinstance(extra, dict) else "auto"
    if isinstance(default, list):
        return ",".join(map(str, default)) or "none"
    return str(default).lower() if isinstance(default, bool) else str(default)


def _typed(field: FieldInfo) -> Typed | None:
    """Find what an annotation says of how its values are typed, also within `X | None`."""
    metadata = [*field.metadata, *_metadata(field.annotation)]
    return next((each for each in metadata if isinstance(each, Typed)), None)


def _metadata(annotation: Any) -> Iterator[Any]:
    if get_origin(annotation) in {Union, types.UnionType}:
        for part in get_args(annotation):
            yield from _metadata(part)
    elif get_origin(annotation) is Annotated:
        yield from annotation.__metadata__


def _parts(annotation: Any) -> list[Any]:
    """Return the members of a union, and what is annotated instead of annotations."""
    if get_origin(annotation) is Annotated:
        return _parts(get_args(annotation)[0])
    if get_origin(annotation) in {Union, types.UnionType}:
        return [part for each in get_args(annotation) for part in _parts(each)]
    return [annotation]


def _words(parts: list[Any]) -> tuple[str, ...]:
    literals = [part for part in parts if get_origin(part) is Literal]
    return tuple(str(choice) for part in literals for choice in get_args(part))


def _describe(annotation: Any, metadata: list[Any]) -> Iterator[str]:
    """Describe each kind of value that a type allows."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        yield from _describe(arguments[0], [*metadata, *_bounds_of(arguments[1:])])
    elif origin in {Union, types.UnionType}:
        for part in arguments:
            yield from _describe(part, metadata)
    elif origin is Literal:
        yield from map(str, arguments)
    elif origin is list:
        [item] = _describe(arguments[0], [])
        yield f"{item.removeprefix('a ').replace('number', 'numbers', 1)}, separated by commas"
    elif annotation is bool:
        yield "true or false"
    elif annotation is int:
        yield f"a whole number {_describe_range(metadata, step=1)}".rstrip()
    elif annotation is float:
        yield f"a number {_describe_range(metadata)}".rstrip()
    elif annotation is not type(None):
        yield "a path" if annotation is Path else "text"


def _bounds_of(metadata: tuple[Any, ...]) -> list[Any]:
    return [
        bound
        for each in metadata
        for bound in (each.metadata if isinstance(each, FieldInfo) else [each])
    ]


def _describe_range(metadata: list[Any], *, step: int = 0) -> str:
    """Describe the bounds that pydantic keeps; in steps of 1 "less than 5" is "at most 4"."""
    ge, gt, le, lt = (
        next((getattr(each, name) for each in metadata if hasattr(each, name)), None)
        for name in ("ge", "gt", "le", "lt")
    )
    if step and lt is not None:
        le, lt = lt - step, None
    if ge is not None and le is not None:
        return f"from {_show(ge)} to {_show(le)}"
    bounds = (("of at least", ge), ("greater than", gt), ("at most", le), ("less than", lt))
    return " and ".join(f"{words} {_show(bound)}" for words, bound in bounds if bound is not None)


def _show(bound: Any) -> str:
    return f"{bound:,}" if isinstance(bound, int) else f"{bound:g}"
