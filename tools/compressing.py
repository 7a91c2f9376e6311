"""The options of commands that append compressed entries, and of those that read such."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar, cast

import click

from corfu.compression import LEVELS_MAX, CodecName, Compression
from corfu.errors import UsageError
from corfu.runtime.dictionaries import dictionaries_of

from .failure import CommandError, Status

Command = TypeVar("Command", bound=Callable[..., object])


class DictionaryFile(click.ParamType[bytes]):
    """A file that holds a dictionary; that it cannot be read is no mistake in the command line."""

    name = "file"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> bytes:
        """Read the file."""
        if isinstance(value, bytes):
            return value
        try:
            return dictionaries_of(Path(str(value)))[0]
        except UsageError as error:
            raise CommandError(f"cannot read {error}", Status.LOCAL) from error


def compression_options(command: Command) -> Command:
    """Add `--compression` and `--level`."""
    codec = click.option(
        "--compression",
        type=click.Choice(["none", *LEVELS_MAX]),
        default="none",
        show_default=True,
        help="Compress entries: worth it where the network is the limit.",
    )
    level = click.option(
        "--level",
        type=click.IntRange(1, max(LEVELS_MAX.values())),
        metavar="N",
        help="How hard: zstd 1 to 22, lz4 1 to 12.  [default: 1 of zstd, lz4's fast mode]",
    )
    return codec(level(command))


def compression_of_options(
    codec: str, level: int | None, dictionaries: tuple[bytes, ...]
) -> Compression:
    """Return what those options mean."""
    try:
        # The choice was checked by its option.
        return Compression(
            None if codec == "none" else cast("CodecName", codec), level, None, dictionaries
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def dictionary_option(command: Command) -> Command:
    """Add `--dictionary`, which may be given more than once."""
    return click.option(
        "--dictionary",
        "dictionaries",
        type=DictionaryFile(),
        multiple=True,
        metavar="FILE",
        help="A trained zstd dictionary (`corfu dict train`); may be given several times.",
    )(command)
