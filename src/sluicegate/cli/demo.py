"""``sluicegate demo``: see the gate hold, judge, release and refuse, here, in seconds."""

from __future__ import annotations

import sys

import click

from sluicegate.app.demo import Demo, Fetched, run_demo

from .display import format_bytes, printable, show_json
from .log import show_line
from .options import json_option

__all__ = ["demo"]


@click.command()
@click.option("--quick", is_flag=True, help="Leave the object of 1 GiB out.")
@click.option("--exit", "is_over", is_flag=True, help="End when all is shown; --json does, too.")
@json_option
def demo(*, quick: bool, is_over: bool, as_json: bool) -> None:
    """Move files and a form through a gate that holds each, and refuses what must not pass.

    Everything runs here, on loopback, in a temporary folder, without privileges: an FTP and a web
    server with a clean file of 64 MiB, executables, an archive with the EICAR test file and 1 GiB
    that is made while it is sent; a gate that publishes one and is the proxy before the other;
    clients that fetch all of it, and one that sends a form with a card's number. Then the same
    inside TLS: opened, passed on, and refused where a server is not who it should be, or a request
    inside is for another one. Where a clamd runs here, it is asked, too. The exit code is 0 only if
    every outcome was right.

    When all was fetched, the gate stays, and a link leads to its console with the records of all
    that happened; Ctrl-C ends it. Scripts say --exit.

    \b
    Examples:
        sluicegate demo --quick --exit
        sluicegate demo --json | jq '.outcomes[] | {name, verdict}'
    """

    def say(line: str) -> None:
        if not as_json:
            click.echo(f"{click.style('demo:', fg='cyan')} {printable(line)}")

    def on_fetched(fetched: Fetched) -> None:
        if not as_json:
            _show_fetched(fetched)

    def on_played(played: Demo) -> None:
        _show_all(played)
        click.echo("")

    has_console = not is_over and not as_json
    try:
        done = run_demo(
            say, on_fetched, is_quick=quick, on_played=on_played if has_console else None
        )
    except KeyboardInterrupt:
        click.echo("interrupted; nothing is left behind", err=True)
        sys.exit(130)
    if as_json:
        show_json(done.report)
    elif not has_console:
        _show_all(done)
    sys.exit(0 if done.is_right else 1)


def _show_all(done: Demo) -> None:
    click.echo("\nWhat the gate recorded (sluicegate log shows it):")
    for line in done.records:
        show_line(line, as_json=False)
    _show_result(done.is_right, [one for one in done.fetched if not one.is_right])


def _show_fetched(fetched: Fetched) -> None:
    outcome = fetched.outcome
    color = "green" if outcome.verdict == "released" else "yellow"
    where = "in memory"
    if fetched.bytes_written:
        where = f"{format_bytes(fetched.bytes_written)} of it written to the spool"
    click.echo(f"  {outcome.name}: {click.style(outcome.verdict, fg=color, bold=True)}")
    click.echo(f"    held       {format_bytes(outcome.bytes)}, {where}, {outcome.held_ms:.1f} ms")
    if outcome.peak_rss_bytes is not None:
        click.echo(f"    memory     {format_bytes(outcome.peak_rss_bytes)} at most")
    click.echo(f"    scanned    {printable(outcome.reason)}")
    speed = ""
    if outcome.bytes_to_client:
        speed = f", {format_bytes(outcome.bytes_to_client / fetched.elapsed_s)} per second"
    same = {True: ", the same SHA-256 as at the server", False: ", ALTERED", None: ""}
    click.echo(
        f"    client got {outcome.bytes_to_client} bytes{same[outcome.sha256_ok]}, "
        f"in {fetched.elapsed_s:.2f} s{speed}"
    )
    click.echo(f"    and was told {printable(fetched.reply)}")


def _show_result(is_right: bool, wrong: list[Fetched]) -> None:
    if is_right:
        click.secho("\nEvery outcome was right.", fg="green", bold=True)
        return
    names = ", ".join(one.outcome.name for one in wrong) or "not everything was asked for"
    click.secho(f"\nWrong: {names}", fg="red", bold=True, err=True)
