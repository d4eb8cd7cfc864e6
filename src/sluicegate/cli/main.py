"""The command ``sluicegate`` and the table of its subcommands.

Each subcommand is a module of this package, imported when it is asked for: ``sluicegate status``
loads nothing of the demo. The invariant: exit codes are 0 for success, 1 for a failure of the
world, 2 for what the operator must correct; errors say cause and cure.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from typing import Any, Final

import click
from typing_extensions import override

from sluicegate.documents import ConfigRefused
from sluicegate.errors import ConfigError, SluicegateError
from sluicegate.gate.control_client import GateUnreachable

__all__ = ["cli", "main"]

_COMMANDS: Final = {
    "run": "sluicegate.cli.run:run",
    "check": "sluicegate.cli.check:check",
    "schema": "sluicegate.cli.schema:schema",
    "demo": "sluicegate.cli.demo:demo",
    "status": "sluicegate.cli.status:status",
    "top": "sluicegate.cli.top.command:top",
    "sessions": "sluicegate.cli.tables:sessions",
    "connections": "sluicegate.cli.tables:connections",
    "filters": "sluicegate.cli.tables:filters",
    "alerts": "sluicegate.cli.alerts:alerts",
    "reload": "sluicegate.cli.orders:reload",
    "kill": "sluicegate.cli.kill:kill",
    "upgrade": "sluicegate.cli.upgrade:upgrade",
    "drain": "sluicegate.cli.drain:drain",
    "stop": "sluicegate.cli.orders:stop",
    "log": "sluicegate.cli.log:log",
    "report": "sluicegate.cli.report:report",
    "explain": "sluicegate.cli.explain:explain",
    "why": "sluicegate.cli.why:why",
    "simulate": "sluicegate.cli.simulate:simulate",
    "policy": "sluicegate.cli.policy:policy",
    "learn": "sluicegate.cli.learn:learn",
    "user": "sluicegate.cli.user:user",
    "console": "sluicegate.cli.console:console",
    "ca": "sluicegate.cli.ca:ca",
    "new-filter": "sluicegate.cli.new_filter:new_filter",
    "test-filter": "sluicegate.cli.replay_filter:test_filter",
}

_ERROR: Final = 1
_WRONG: Final = 2


class _Commands(click.Group):
    """A group whose members are imported on demand, and where errors become messages."""

    @override
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    @override
    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        place = _COMMANDS.get(cmd_name)
        if place is None:
            return None
        module, _, name = place.partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

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
        except GateUnreachable as error:
            _show_error(str(error))
            ctx.exit(_ERROR)
        except SluicegateError as error:
            _show_error(str(error))
            ctx.exit(_ERROR)


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(importlib.metadata.version("sluicegate"), prog_name="sluicegate")
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
    cli()


def _show_error(message: str) -> None:
    click.echo(f"{click.style('error:', fg='red')} {message}", err=True)
