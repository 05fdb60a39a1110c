"""Joins the layers of settings, checks them all at once and names what is wrong.

From weakest to strongest: the defaults, the model preset, the file, `--set`, the options.
"""

import difflib
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, overload

from pydantic import ValidationError

from cnnclf.config.sections import CommandConfig, Section
from cnnclf.config.train import TrainConfig
from cnnclf.errors import ConfigError

_Config = TypeVar("_Config", bound=CommandConfig)


@overload
def load_config(
    file: Path | None = None,
    *,
    assignments: Sequence[str] = (),
    options: Mapping[str, object] | None = None,
) -> tuple[TrainConfig, dict[str, str]]: ...


@overload
def load_config(
    file: Path | None = None,
    *,
    assignments: Sequence[str] = (),
    options: Mapping[str, object] | None = None,
    kind: type[_Config],
) -> tuple[_Config, dict[str, str]]: ...


def load_config(
    file: Path | None = None,
    *,
    assignments: Sequence[str] = (),
    options: Mapping[str, object] | None = None,
    kind: type[CommandConfig] = TrainConfig,
) -> tuple[CommandConfig, dict[str, str]]:
    """Join the layers of settings and check them all at once.

    Args:
        file: A TOML file with the sections of `kind`, or None.
        assignments: `section.key=value` strings, as given with `--set`.
        options: Values given as command-line options, by dotted key.
        kind: All settings of a command: `TrainConfig` or `FinetuneConfig`.

    Returns:
        The settings, and for each dotted key that was given where it came from
        ("file", "--set", "option", "preset NAME").

    Raises:
        ConfigError: Anything unknown, of the wrong type or out of range; all of it in one message.
    """
    given: dict[str, tuple[object, str]] = {}
    for key, value in _read_toml(file).items():
        given[key] = (value, f"file {file}")
    for assignment in assignments:
        key, value = _parse_assignment(assignment)
        given[key] = (value, "--set")
    for key, value in (options or {}).items():
        given[key] = (value, "option")
    preset = given.get("model.preset", ("default", ""))[0]
    for section, settings in kind.presets.get(str(preset), {}).items():
        for key, value in settings.items():
            given.setdefault(f"{section}.{key}", (value, f"preset {preset}"))
    nested: dict[str, Any] = {}
    for key, (value, _) in given.items():
        section, _, name = key.partition(".")
        nested.setdefault(section, {})[name] = value
    try:
        config = kind.model_validate(nested)
    except ValidationError as error:
        hint = f"cnnclf {kind.command} --help lists every setting"
        raise ConfigError(_explain(error, given, kind), hint) from error
    return config, {key: origin for key, (_, origin) in given.items()}


def setting_keys(kind: type[CommandConfig] = TrainConfig) -> list[str]:
    """Return every dotted key, in the order of the sections."""
    return [
        f"{section}.{name}"
        for section, field in kind.model_fields.items()
        for name in _section_of(field.annotation).model_fields
    ]


def _section_of(annotation: Any) -> type[Section]:
    if not (isinstance(annotation, type) and issubclass(annotation, Section)):
        raise TypeError(f"expected a section of settings, received {annotation!r}")
    return annotation


def _read_toml(file: Path | None) -> dict[str, object]:
    if file is None:
        return {}
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"expected a settings file, found nothing at {file}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the settings file {file} cannot be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"expected TOML in {file}, received: {error}") from error
    flat: dict[str, object] = {}
    for section, settings in content.items():
        if isinstance(settings, dict):
            flat.update({f"{section}.{key}": value for key, value in settings.items()})
        else:
            flat[section] = settings
    return flat


def _parse_assignment(assignment: str) -> tuple[str, object]:
    key, separator, text = assignment.partition("=")
    if not separator or "." not in key:
        raise ConfigError(
            f"expected --set section.key=value, received {assignment!r}",
            "for example --set model.dropout=0.3",
        )
    try:
        return key.strip(), tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return key.strip(), text  # a bare word such as adamw, or 32,64


def _explain(
    error: ValidationError, given: Mapping[str, tuple[object, str]], kind: type[CommandConfig]
) -> str:
    """Put every error on one line: dotted key, what was expected, what was received."""
    lines: dict[str, str] = {}
    for item in error.errors():
        key = ".".join(str(part) for part in item["loc"][:2])
        origin = given[key][1] if key in given else ""
        where = f" ({origin})" if origin else ""
        if item["type"] == "extra_forbidden":
            known = setting_keys(kind) if "." in key else list(kind.model_fields)
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
            lines[key] = f"unknown setting {key}{where}" + (
                f", did you mean {near[0]}?" if near else ""
            )
        else:
            expected = item["msg"][0].lower() + item["msg"][1:]
            received = given[key][0] if key in given else item["input"]
            previous = lines.get(key)
            lines[key] = (
                f"{previous} or {expected}"
                if previous
                else f"{key}{where} received {received!r}: {expected}"
            )
    return "; ".join(lines.values())
