"""The space of a search: settings with ranges or choices, from a file or around the default."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from cnnclf.bounded import MAX_SETTINGS_BYTES, parse_toml, read_bytes
from cnnclf.config import (
    CommandConfig,
    TrainConfig,
    describe_type,
    format_setting,
    list_fields,
    load_config,
)
from cnnclf.errors import CnnclfError, ConfigError
from cnnclf.names import suggest
from cnnclf.runs.run_directory import is_number

Point = dict[str, float]
"""A configuration: 0..1 for each setting that is not left at its default."""

Settings = dict[str, Any]
"""Values by dotted key."""

_WORDS = {"low", "high", "log", "relative", "choices", "when"}
_show = partial(format_setting, digits=4)


@dataclass(frozen=True)
class Dimension:
    """A setting that is searched.

    Args:
        key: Dotted.
        choices: Its values; empty for a range.
        low: The smallest value of a range.
        high: The largest.
        log: Whether the range is searched on a logarithmic scale.
        whole: Whether values are whole numbers.
        relative: Whether values are factors of what "auto" becomes.
        when: Values of earlier settings with which it is used; without them it stays as it is.
    """

    key: str
    choices: tuple[Any, ...] = ()
    low: float = 0.0
    high: float = 1.0
    log: bool = False
    whole: bool = False
    relative: bool = False
    when: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    def decode(self, place: float) -> Any:
        """Return the value at 0..1 of its range or choices."""
        if self.choices:
            return self.choices[min(int(place * len(self.choices)), len(self.choices) - 1)]
        if self.log:
            value = self.low * math.pow(self.high / self.low, place)
        else:
            value = self.low + (self.high - self.low) * place
        if self.whole:
            return round(value)
        # three digits are enough, unless the range differs only in later ones, as 0.99 to 0.9999
        largest = max(abs(self.low), abs(self.high))
        digits = max(3, 2 + math.ceil(math.log10(largest / (self.high - self.low))))
        return float(min(self.high, max(self.low, float(f"{value:.{digits}g}"))))

    def encode(self, value: Any) -> float:
        """Return a place whose value is this one; the inverse of `decode`."""
        if self.choices:
            return (self.choices.index(value) + 0.5) / len(self.choices)
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return float((value - self.low) / (self.high - self.low))

    def is_active(self, settings: Settings) -> bool:
        """Return whether it is used with the settings before it."""
        return all(settings.get(key) in values for key, values in self.when.items())

    def describe(self) -> str:
        """Describe the values in words."""
        text = (
            " | ".join(_show(self.key, choice) for choice in self.choices)
            if self.choices
            else f"{self.low:g} to {self.high:g}" + (", log scale" if self.log else "")
        )
        if self.relative:
            text += ", times the automatic value"
        for key, values in self.when.items():
            text += f", if {key} is {' or '.join(_show(key, each) for each in values)}"
        return text

    def to_dict(self) -> dict[str, Any]:
        """Return it as in a file."""
        if self.choices:
            content: dict[str, Any] = {"choices": list(self.choices)}
        else:
            content = {"low": self.low, "high": self.high, "log": self.log}
        content |= {"relative": True} if self.relative else {}
        return content | ({"when": dict(self.when)} if self.when else {})


@dataclass(frozen=True)
class Space:
    """All settings that are searched, those that others depend on first."""

    dimensions: tuple[Dimension, ...]

    def decode(self, point: Point) -> Settings:
        """Turn a point into settings; relative ones are still factors."""
        settings: Settings = {}
        for dimension in self.dimensions:
            if dimension.key in point and dimension.is_active(settings):
                settings[dimension.key] = dimension.decode(point[dimension.key])
        return settings

    @property
    def factors(self) -> list[str]:
        """The keys whose values are factors of what "auto" becomes."""
        return [each.key for each in self.dimensions if each.relative]

    def fix(self, values: Settings) -> "Space":
        """Return the space without settings that are fixed, and without those they switch off."""
        return Space(
            tuple(
                replace(each, when={k: v for k, v in each.when.items() if k not in values})
                for each in self.dimensions
                if each.key not in values
                and all(values[key] in some for key, some in each.when.items() if key in values)
            )
        )

    def to_dict(self) -> dict[str, Any]:
        """Return it by dotted key."""
        return {each.key: each.to_dict() for each in self.dimensions}


def read_space(
    content: Mapping[str, Any],
    *,
    source: str,
    kind: type[CommandConfig] = TrainConfig,
    fixed: Sequence[str] = (),
) -> Space:
    """Read a space from the tables of a TOML file, or from dotted keys.

    Args:
        content: Choices as a list, or a table with `low` and `high`, or `choices`, and `log`,
            `relative` and `when`.
        source: Names the origin in messages.
        kind: All settings there are.
        fixed: Those that cannot be searched, the epochs first.

    Raises:
        ConfigError: Anything unknown, empty or contradictory; the message names it.
    """
    fields, found = list_fields(kind), dict(_flatten(content))
    dimensions: dict[str, Dimension] = {}
    for key, given in found.items():
        if key not in fields:
            raise ConfigError(
                "; ".join(filter(None, [f"{source}: unknown setting {key}", suggest(key, fields)])),
                f"cnnclf {kind.command} --help lists every setting",
            )
        if key in fixed:
            raise ConfigError(
                f"{source}: {key} cannot be searched: trials are compared after equal epochs",
                f"give all of them as many: --fix {fixed[0]}=N",
            )
        try:
            dimensions[key] = _read_dimension(key, given, before=dimensions, kind=kind)
        except (TypeError, ValueError) as error:
            raise ConfigError(
                f"{source}: {key}: {error}",
                "for example: [1, 2], or {low = 0.001, high = 0.1, log = true}",
            ) from None
    if not dimensions:
        raise ConfigError(f"{source}: no setting is searched")
    return Space(tuple(dimensions.values()))


def load_space(path: Path) -> dict[str, Any]:
    """Load the tables of a TOML file for `read_space`.

    Raises:
        ConfigError: It cannot be read.
    """
    try:
        return parse_toml(read_bytes(path, max_bytes=MAX_SETTINGS_BYTES).decode("utf-8-sig"))
    except FileNotFoundError:
        raise ConfigError(f"space {path} does not exist") from None
    except OSError as error:
        raise ConfigError(f"space {path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"space {path} is not valid TOML: {error}") from error


def _flatten(content: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield dotted keys: sections are tables of tables, settings are lists or tables of words."""
    for key, value in content.items():
        if "." not in key and isinstance(value, Mapping) and not _WORDS & set(value):
            for name, given in value.items():
                yield f"{key}.{name}", given
        else:
            yield key, value


def _read_dimension(
    key: str, given: Any, *, before: Mapping[str, Dimension], kind: type[CommandConfig]
) -> Dimension:
    content: Any = {"choices": given} if isinstance(given, list) else given
    if not isinstance(content, Mapping):
        raise TypeError(f"expected choices or a range, received {given!r}; --fix sets one value")
    if unknown := sorted(set(content) - _WORDS):
        raise ValueError(f"unknown word {unknown[0]!r}; there are {', '.join(sorted(_WORDS))}")
    when = content.get("when", {})
    if not isinstance(when, Mapping):
        raise TypeError(f'expected when = {{ "optimizer.name" = ["sgd"] }}, received {when!r}')
    for name, values in when.items():
        known = before[name].choices if name in before else ()
        if not (isinstance(values, list) and values and all(each in known for each in values)):
            raise ValueError(f"when {name} = {values!r} is never so: no choice before it is that")
    if "choices" in content:
        return _read_choices(key, content, kind)
    return _read_range(key, content, kind)


def _read_choices(key: str, content: Mapping[str, Any], kind: type[CommandConfig]) -> Dimension:
    choices, relative = content["choices"], _read_flag(content, "relative")
    if {"low", "high", "log"} & set(content) or not isinstance(choices, list) or not choices:
        raise ValueError(f"expected choices or a range, received {json.dumps(dict(content))}")
    for number, choice in enumerate(choices):
        if choice in choices[:number]:
            raise ValueError(f"the choice {json.dumps(choice)} is there twice")
        _check_value(key, choice, kind, relative=relative)
    return Dimension(key, tuple(choices), relative=relative, when=content.get("when", {}))


def _read_range(key: str, content: Mapping[str, Any], kind: type[CommandConfig]) -> Dimension:
    low: Any = content.get("low")
    high: Any = content.get("high")
    if not is_number(low) or not is_number(high):
        raise ValueError(f"expected numbers low and high, received {low!r} and {high!r}")
    log, relative = _read_flag(content, "log"), _read_flag(content, "relative")
    if not low < high:
        raise ValueError(f"the range {low:g} to {high:g} is empty")
    if log and low <= 0:
        raise ValueError(f"low = {low:g}: with log = true, low must be above 0")
    for end in (low, high):
        _check_value(key, end, kind, relative=relative)
    whole = describe_type(list_fields(kind)[key]) == "N" and not relative
    when = content.get("when", {})
    return Dimension(key, (), low, high, log=log, whole=whole, relative=relative, when=when)


def _read_flag(content: Mapping[str, Any], word: str) -> bool:
    value = content.get(word, False)
    if not isinstance(value, bool):
        raise TypeError(f"expected {word} = true or false, received {value!r}")
    return value


def _check_value(key: str, value: Any, kind: type[CommandConfig], *, relative: bool) -> None:
    if relative:
        if not is_number(value) or value <= 0:
            raise ValueError(f"expected factors above 0 with relative = true, received {value!r}")
        return
    try:
        load_config(arguments={key: value}, kind=kind)
    except CnnclfError as error:
        raise ValueError(error.message) from None
    if value == "find":
        raise ValueError("find is no learning rate to compare; cnnclf lr-find suggests one")


def describe_settings(settings: Settings) -> str:
    """Write the settings of a configuration in one line."""
    names = {"optimizer.name": "optimizer", "augment.preset": "augment"}
    words = [
        f"{names.get(key, key.rpartition('.')[2])}={_show(key, value)}"
        for key, value in settings.items()
    ]
    return " ".join(words) or "default"
