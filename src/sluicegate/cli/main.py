"""The command ``sluicegate`` and the table of its subcommands.

Each subcommand is in a module of this package, imported when it is asked for (``contents``):
``sluicegate status`` loads nothing of the demo, and ``--help`` nothing of either. The invariant:
exit codes are 0 for success, 1 for a failure of the world, 2 for what the operator must correct;
errors say cause and cure.
"""

from __future__ import annotations

import gc
import importlib
from typing import Any, Final

import click
from click.shell_completion import CompletionItem
from typing_extensions import override

from sluicegate import collector
from sluicegate.documents import ConfigRefused
from sluicegate.errors import ConfigError, SluicegateError

from .contents import CONTENTS

__all__ = ["cli", "main"]

_ERROR: Final = 1
_WRONG: Final = 2


class _Commands(click.Group):
    """A group whose members are imported on demand, and where errors become messages."""

    @override
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(CONTENTS)

    @override
    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        place = CONTENTS.get(cmd_name)
        if place is None:
            return None
        module = importlib.import_module(f"sluicegate.cli.{place.module}")
        command: click.Command = getattr(module, place.name)
        if not gc.isenabled():
            collector.resume()
        return command

    @override
    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        _Listed().format_commands(ctx, formatter)

    @override
    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        listed = _Listed()
        commands = listed.shell_complete(click.Context(listed), incomplete)
        return [*commands, *click.Command.shell_complete(self, ctx, incomplete)]

    @override
    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ConfigRefused as error:
            for one in error.errors:
                _show_error(str(one))
            ctx.exit(_WRONG)
        except ConfigError as error:
            _show_error(str(error))
            ctx.exit(_WRONG)
        except SluicegateError as error:
            _show_error(str(error))
            ctx.exit(_ERROR)


class _Listed(click.Group):
    """The same commands as lines alone: nothing is imported to list them."""

    def __init__(self) -> None:
        super().__init__(add_help_option=False)
        for name, place in CONTENTS.items():
            self.add_command(click.Command(name, help=place.line))

    @override
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="sluicegate", prog_name="sluicegate")
def cli() -> None:
    """An application-layer firewall that holds every byte until your Python says yes.

    \b
    A gate needs two files. sluicegate.toml says where it listens:
        [[listener]]
        name = "ftp"
        address = ["0.0.0.0:21", "[::]:21"]
        [[filter]]
        name = "ftp_access"
        [[filter]]
        name = "exe_block"

    \b
    policy.toml says who may reach what; nothing else is let through:
        [[publish]]
        name = "ftp"
        listener = "ftp"
        server = "192.0.2.10:21"
        clients = ["10.0.0.0/8"]
        filters = ["ftp_access", "exe_block"]

    \b
    Then:
        sluicegate check        are the files right?
        sluicegate run          start the gate
        sluicegate status       is it ready? (the exit code says so)
        sluicegate log -f       see what it decides
        sluicegate top          watch it

    Every command looks for sluicegate.toml in this folder, then in /etc/sluicegate; --config
    chooses another.
    """


def main() -> None:
    """Run the command line (the entry point of the package)."""
    gc.disable()  # until the command's module is loaded
    try:
        cli()
    except SystemExit as ended:
        if isinstance(ended.code, int | None):
            collector.end(ended.code or 0)
        raise


def _show_error(message: str) -> None:
    click.echo(f"{click.style('error:', fg='red')} {message}", err=True)
