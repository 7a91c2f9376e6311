"""Settings of the clients as text: `--set entry_bytes_target=30000`."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping

from corfu.client.settings import ClientSettings
from corfu.tools.failure import CommandError, Status

Scalar = bool | int | float | str


def parse_settings(texts: Iterable[str]) -> dict[str, Scalar]:
    """Return the settings that texts like `name=value` set; values are JSON, of the field's type.

    Raises:
        CommandError: A text names no setting, or the client refuses the value.
    """
    found: dict[str, Scalar] = {}
    for text in texts:
        name, sign, value = text.partition("=")
        default = _defaults().get(name)
        if not sign or default is None:
            raise CommandError(
                f"--set {text}: not NAME=VALUE with one of {', '.join(_defaults())}", Status.USAGE
            )
        found[name] = _value(text, value, default)
    try:
        client_settings(found)
    except ValueError as error:
        raise CommandError(f"--set: {error}", Status.USAGE) from error
    return found


def client_settings(chosen: Mapping[str, Scalar]) -> ClientSettings:
    """Return the settings of a client with some of them chosen; raises ValueError."""
    return dataclasses.replace(ClientSettings(), **chosen)  # type: ignore[arg-type]


def _defaults() -> dict[str, Scalar]:
    settings = ClientSettings()
    values = {each.name: getattr(settings, each.name) for each in dataclasses.fields(settings)}
    return {name: value for name, value in values.items() if isinstance(value, Scalar)}


def _value(text: str, value: str, default: Scalar) -> Scalar:
    try:
        found = json.loads(value)
    except json.JSONDecodeError:
        found = None
    if isinstance(default, float) and type(found) is int:
        return float(found)
    if type(found) is type(default):
        assert isinstance(found, Scalar)
        return found
    raise CommandError(
        f"--set {text}: {type(default).__name__} is wanted, as JSON writes it", Status.USAGE
    )
