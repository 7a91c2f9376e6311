"""`corfu bench`: the group. Each command's module is imported when the command is asked for."""

from __future__ import annotations

import importlib

import click

from corfu.tools.failure import STATUS_HELP

COMMANDS: dict[str, str] = {
    "append": ".append_cli:append",
    "read": ".read_cli:read",
    "follow": ".follow_cli:follow",
    "tokens": ".tokens_cli:tokens",
    "mixed": ".mixed_cli:mixed",
    "disk": ".disk_cli:disk",
    "restart": ".restart_cli:restart",
    "compare": ".compare_cli:compare_command",
}
"""Name of each command: the module of this package, and its object there."""


class LazyGroup(click.Group):
    """A group that imports a command's module when that command is looked up."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order in which a person meets them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command; None if there is none of this name."""
        if cmd_name not in COMMANDS:
            return None
        module_name, attribute = COMMANDS[cmd_name].split(":")
        command = getattr(importlib.import_module(module_name, __package__), attribute)
        assert isinstance(command, click.Command)
        return command


EPILOG = f"""\
\b
Examples:
  corfu bench append                       a cluster of its own, one producer as fast as it goes
  corfu bench append --serial --sync os    how long one append takes
  corfu bench disk                         what the disk could give
  corfu bench mixed --cluster 127.0.0.1:9700 --seconds 60 -o json

{STATUS_HELP}"""


@click.group(cls=LazyGroup, epilog=EPILOG)
def bench() -> None:
    """Measure how fast a cluster is, and what that costs."""
