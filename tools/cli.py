"""The `corfu` command: its groups of commands, and how errors end it.

Each command's module is imported when the command is asked for, so that `corfu tail` does not
wait for what only `corfu dev` needs.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import sys
from collections.abc import Sequence

import click

from corfu.errors import CorfuError

from .failure import STATUS_HELP, CommandError, Ended, Status, status_of, text_of

COMMANDS: dict[str, str] = {
    "dev": ".dev:dev",
    "append": ".data:append",
    "read": ".data:read",
    "tail": ".data:tail",
    "trim": ".trim:trim",
    "fill": ".data:fill",
    "holes": ".holes:holes",
    "status": ".status:status",
    "unit": ".admin.unit:unit",
    "layout": ".admin.layout:layout",
    "sequencer": ".admin.sequencer:sequencer",
    "scrub": ".scrub:scrub",
    "chain": ".admin.chain:chain",
    "simulate": ".sim.cli:simulate",
    "nemesis": ".nemesis.cli:nemesis",
    "verify": ".verify.cli:verify",
    "check": ".verify.check_cli:check_command",
    "bench": ".bench.cli:bench",
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
        module = importlib.import_module(module_name, __package__)
        command = getattr(module, attribute)
        assert isinstance(command, click.Command)
        return command

    def invoke(self, ctx: click.Context) -> object:
        """Run a command; click itself would end these two in its own way."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise Ended(Status.INTERRUPTED) from error
        except BrokenPipeError as error:
            raise Ended(Status.BROKEN_PIPE) from error


def _version() -> str:
    try:
        return importlib.metadata.version("corfu-log")
    except importlib.metadata.PackageNotFoundError:
        return "(not installed)"


@click.command(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=f"""\
\b
Examples:
  corfu dev                                          a cluster on this machine
  export CORFU_CLUSTER=127.0.0.1:9700,127.0.0.1:9701,127.0.0.1:9702
  corfu append access.log
  corfu read --follow

{STATUS_HELP}""",
)
@click.version_option(_version(), message="corfu-log %(version)s")
def cli() -> None:
    """A shared log: one totally ordered, write-once, durable log that many clients append to."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and exit: every failure is one line on stderr and a documented status."""
    try:
        result = cli.main(
            args=None if arguments is None else list(arguments),
            prog_name="corfu",
            standalone_mode=False,
        )
        sys.stdout.flush()
        # Help and --version end here too, with click's own status.
        sys.exit(result if isinstance(result, int) else Status.OK)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        sys.exit(Status.USAGE)
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        path = context.command_path if context is not None else "corfu"
        _fail(f"{error.format_message()} (see {path} --help)", Status.USAGE)
    except CommandError as error:
        _fail(str(error), error.status)
    except click.Abort:
        # What click makes of Ctrl-C while it reads the arguments.
        sys.exit(Status.INTERRUPTED)
    except Ended as ended:
        if ended.status is Status.BROKEN_PIPE:
            _silence()
        sys.exit(ended.status)
    except BrokenPipeError:
        _silence()
        sys.exit(Status.BROKEN_PIPE)
    except (CorfuError, OSError) as error:
        _fail(text_of(error), status_of(error))


def _silence() -> None:
    """Drop what is still buffered: it has no reader, and Python would try again at its exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(text: str, status: Status) -> None:
    click.echo("corfu: " + " ".join(text.split()), err=True)
    sys.exit(status)


if __name__ == "__main__":
    main()
