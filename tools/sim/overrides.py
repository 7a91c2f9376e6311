"""Options of a seed that are set otherwise than drawn, as text: `--set chains=1`."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping

from corfu.tools.sim.options import Options

DEFAULT = "default"
"""The text of a value that is as in `Options()`."""


class OverrideError(ValueError):
    """The text names no option, or no value of it; it says which."""


def parse(texts: Iterable[str]) -> dict[str, object]:
    """Return the options that texts like `name=value` set; values are JSON, or `default`."""
    found: dict[str, object] = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not sign or name not in _DEFAULTS:
            raise OverrideError(f"{text}: not of the form NAME=VALUE with the name of an option")
        found[name] = _value(name, value)
    return found


def texts(options: Options, drawn: Options) -> list[str]:
    """Return what turns `drawn` into `options`, for `parse`."""
    found = []
    for name, default in _DEFAULTS.items():
        value = getattr(options, name)
        if value == getattr(drawn, name):
            continue
        if value == default:
            found.append(f"{name}={DEFAULT}")
        elif isinstance(value, tuple | frozenset):
            values = sorted(value) if isinstance(value, frozenset) else list(value)
            found.append(f"{name}={json.dumps(values, separators=(',', ':'))}")
        else:
            found.append(f"{name}={json.dumps(value)}")
    return found


def apply(options: Options, overrides: Mapping[str, object]) -> Options:
    """Return the options with some of them set otherwise."""
    return dataclasses.replace(options, **overrides)  # type: ignore[arg-type]


_DEFAULTS: dict[str, object] = {
    field.name: getattr(Options(), field.name) for field in dataclasses.fields(Options)
}


def _value(name: str, text: str) -> object:
    default = _DEFAULTS[name]
    if text == DEFAULT:
        return default
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise OverrideError(f"{name}={text}: the value is not JSON ({error})") from None
    if name == "only_faults" and isinstance(value, list):
        return frozenset(int(number) for number in value)
    if isinstance(default, tuple) and isinstance(value, list):
        return tuple(str(each) for each in value)
    if isinstance(default, bool) == isinstance(value, bool) and isinstance(
        value, int | float if isinstance(default, float) else type(default)
    ):
        return value
    raise OverrideError(f"{name}={text}: not a value of that option; some are only `default`")
