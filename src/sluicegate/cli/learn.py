"""``sluicegate learn``: rules from what passed to be learned from."""

from __future__ import annotations

import datetime as dt
import ipaddress
import pathlib

import click

from sluicegate.address import IpNetwork
from sluicegate.app.inquiry.evidence import Evidence
from sluicegate.app.inquiry.offline_gate import OfflineGate
from sluicegate.app.inquiry.past import PastDecision
from sluicegate.app.inquiry.proposal import propose, write_rules
from sluicegate.clock import SystemClock
from sluicegate.errors import ConfigError, LimitExceeded, SluicegateError
from sluicegate.gate.control_client import GateUnreachable
from sluicegate.gate.control_messages import StatusReply, StatusRequest
from sluicegate.gate.views import LearnView, StatusView

from .display import format_duration, format_time, printable, show_json, show_table
from .explain import load_gate
from .log_files import find_logs, logs_option, parse_since
from .options import ask, config_option, json_option
from .replies import unexpected
from .simulate import read_logs

__all__ = ["learn"]

_HEAD = """\
# Proposed {at} from {files}, for review: policy {policy}.
# Put what you want behind your own rules, and try it: sluicegate simulate --policy FILE
"""


@click.group()
def learn() -> None:
    """Learn a policy: see what learns now, and make rules of what has passed.

    [[learn]] in policy.toml lets pass, for chosen clients and for a time, what no rule speaks of,
    and records it. "propose" makes rules of those records; you review them, and end the learning.

    \b
    Examples:
        sluicegate learn status
        sluicegate learn propose --since 1d --output policy.d/learned.toml
        sluicegate simulate --policy policy.toml --since 1d
    """


@learn.command("propose")
@config_option
@logs_option
@click.option(
    "--since", default="", metavar="15m|2h|1d", help="Only the last so much time [default: all]."
)
@click.option(
    "--client",
    "clients",
    multiple=True,
    metavar="NETWORK",
    help="Only these clients; may be given several times.",
)
@click.option("--denied", is_flag=True, help="Also what was refused because no rule speaks of it.")
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=pathlib.Path, dir_okay=False),
    help="Write a new file  [default: standard output]",
)
def propose_rules(
    config: pathlib.Path | None,
    files: tuple[pathlib.Path, ...],
    *,
    since: str,
    clients: tuple[str, ...],
    denied: bool,
    output: pathlib.Path | None,
) -> None:
    """Write rules that allow what was learned, and nothing else by name.

    Each rule has its evidence above it: how often, when, which clients. Clients that asked for the
    same names at the same ports share a rule; wildcards are only suggested, in comments. Owner and
    expiry are yours to fill in.

    \b
    Examples:
        sluicegate learn propose
        sluicegate learn propose --since 1d --client 10.9.0.0/16 -o policy.d/learned.toml
        sluicegate learn propose --denied --since 2h
    """
    gate = load_gate(config)
    logs = find_logs(config, files)
    evidence = Evidence(gate, _read_clients(clients), with_denied=denied)
    earliest = parse_since(since)
    try:
        for line in read_logs(logs, "learn", *(["no-rule"] if denied else [])):
            past = PastDecision.of(line)
            if past is not None and past.time >= earliest:
                evidence.take(past)
    except LimitExceeded as error:
        raise SluicegateError(
            f"there are more than {error.bound} clients with destinations (choose some with "
            "--client, or a shorter time with --since)"
        ) from error
    now = SystemClock().wall()
    taken = [rule.name for rule in gate.policy.policy.all_rules]
    rules = propose(evidence.seen)
    head = _HEAD.format(
        at=f"{dt.datetime.fromtimestamp(now, dt.UTC):%Y-%m-%d %H:%M} UTC",
        files=", ".join(printable(pathlib.Path(name).name) for name in logs.names),
        policy=gate.policy.hash[:12],
    )
    text = "\n".join([head, *write_rules(rules, taken, now)])
    if output is None:
        click.echo(text, nl=False)
    else:
        _write_new(output, text)
    total = sum(seen.count for seen in evidence.seen.values())
    click.echo(f"{len(rules)} rules from {total} decisions", err=True)
    for why, count in evidence.left_out.items():
        click.echo(f"{count} decisions have no rule: {printable(why)}", err=True)


@learn.command("status")
@config_option
@json_option
def show_status(config: pathlib.Path | None, *, as_json: bool) -> None:
    """Say what learns now, for whom, and until when.

    Asked of the running gate, which also counts what has passed so; read from the files when none
    runs. Exit code 0, whether or not something learns.

    \b
    Examples:
        sluicegate learn status
        sluicegate learn status --json | jq .learned
    """
    running = _ask_running(config)
    rows = _entries_of(load_gate(config)) if running is None else running.learning
    learned = None if running is None else running.learned
    if as_json:
        show_json({"running": running is not None, "learned": learned, "entries": rows})
        return
    if running is None:
        click.echo("no gate runs; by the files:")
    if not rows:
        click.echo("nothing learns")
        return
    show_table(
        ("LEARN", "CLIENTS", "UNTIL", "STATE"),
        [
            (row.name, ", ".join(row.clients), format_time(row.until), _state_of(row.until))
            for row in rows
        ],
    )
    if learned is not None:
        click.echo(f"{learned} connections have passed so since the gate's start")


def _ask_running(config: pathlib.Path | None) -> StatusView | None:
    try:
        reply = ask(config, StatusRequest())
    except GateUnreachable:
        return None
    if not isinstance(reply, StatusReply):
        raise unexpected(reply)
    return reply.status


def _entries_of(gate: OfflineGate) -> list[LearnView]:
    return [
        LearnView(name=one.name, clients=[str(it) for it in one.clients], until=one.until)
        for one in gate.policy.policy.learn
    ]


def _state_of(until: float) -> str:
    left = until - SystemClock().wall()
    return f"for {format_duration(left)} more" if left > 0 else "over"


def _read_clients(texts: tuple[str, ...]) -> tuple[IpNetwork, ...]:
    try:
        return tuple(ipaddress.ip_network(text) for text in texts)
    except ValueError as error:
        raise click.BadParameter(
            f"{error} (10.9.0.0/16, 10.1.2.3 or 2001:db8::/32)", param_hint="--client"
        ) from None


def _write_new(path: pathlib.Path, text: str) -> None:
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        raise ConfigError(
            str(path), "there is such a file already", "name another one, or remove it"
        ) from error
    except OSError as error:
        raise ConfigError(str(path), f"cannot be written: {error.strerror}") from error
