"""``sluicegate status``: how is the gate? Its exit code is the readiness check."""

from __future__ import annotations

import pathlib

import click

from sluicegate.clock import SystemClock
from sluicegate.gate.control_messages import StatusReply, StatusRequest
from sluicegate.gate.views import (
    CertificateView,
    Phase,
    ReloadView,
    ScannerView,
    StatusView,
    WorkerView,
)

from .display import format_bytes, format_duration, format_time, printable, show_json, show_table
from .options import ask, config_option, json_option
from .replies import unexpected

__all__ = ["status"]


@click.command()
@config_option
@json_option
@click.option("--quiet", "-q", is_flag=True, help="Print nothing; the exit code says it.")
def status(config: pathlib.Path | None, *, as_json: bool, quiet: bool) -> None:
    """Say how the gate is: what it listens on, what it holds, what went wrong.

    The exit code is 0 when the gate is ready to let in what policy allows, else 1: use it as a
    readiness check.

    \b
    Examples:
        sluicegate status
        sluicegate status --json | jq .connections
        until sluicegate status -q; do sleep 1; done
    """
    reply = ask(config, StatusRequest())
    if not isinstance(reply, StatusReply):
        raise unexpected(reply)
    if as_json:
        show_json(reply.status)
    elif not quiet:
        _show(reply.status)
    if reply.status.phase is not Phase.READY:
        click.get_current_context().exit(1)


def _show(view: StatusView) -> None:
    color = "green" if view.phase is Phase.READY else "red"
    running = format_duration(SystemClock().wall() - view.started)
    click.echo(
        f"{click.style(view.phase.value, fg=color)}, version {view.version}, pid {view.pid}, "
        f"for {running}"
    )
    for one in view.learning:
        left = format_duration(one.until - SystemClock().wall())
        text = (
            f"{one.name} ({', '.join(one.clients)}), for {left} more: what no rule speaks of "
            f"passes; {one.connections} connections so far"
        )
        banner = click.style(f"{'LEARNING':<12}", fg="red")
        click.echo(f"{banner} {printable(text)}")
    facts = [
        ("backend", view.diagnosis),
        ("policy", _describe_policy(view)),
        *_describe_reloads(view.reloads),
        ("connections", _describe_connections(view)),
        ("decisions", f"{view.connections_allowed} allowed, {view.connections_denied} denied"),
        ("relayed", _describe_bytes(view)),
        ("spool", f"{view.spool_transfers} objects, {format_bytes(view.spool_bytes)}"),
        *([("verdicts", _describe_verdicts(view))] if view.verdicts_kept else []),
        ("records", _describe_records(view)),
        *([("clients", view.steering)] if view.steering else []),
        ("floods", _describe_floods(view)),
        ("memory", f"{format_bytes(view.memory_bytes)}, {view.descriptors_max} descriptors"),
    ]
    for name, text in facts:
        click.echo(f"{name:<12} {printable(text)}")
    for line in view.protections:
        click.echo(f"{'protected':<12} {printable(line)}")
    for line in view.protections_lacking:
        click.echo(f"{click.style('unprotected', fg='yellow')}  {printable(line)}")
    click.echo("")
    show_table(
        ("LISTENER", "ADDRESS", "ACCEPTED", ""),
        [
            (
                one.name,
                f"{one.address} (udp)" if one.transport == "udp" else one.address,
                str(one.accepted),
                "paused" if one.is_paused else "",
            )
            for one in view.listeners
        ],
    )
    if view.certificates:
        click.echo("")
        show_table(
            ("CERTIFICATE FOR", "LISTENER", "EXPIRES", ""),
            [_describe_certificate(one) for one in view.certificates],
        )
    if view.scanners:
        click.echo("")
        show_table(
            ("SCANNER", "STATE", "SIGNATURES", "RULES", "ASKED", "FOUND", "UNFINISHED", "MEMORY"),
            [_describe_scanner(one) for one in view.scanners],
        )
    if view.workers:
        click.echo("")
        show_table(
            ("PROCESS", "PID", "STATE", "CONNECTIONS", "ACCEPTED", "CPU", "MEMORY", "RESTARTS"),
            [_describe_worker(one) for one in view.workers],
        )
    for warning in view.warnings:
        click.echo(f"{click.style('warning:', fg='yellow')} {printable(warning)}")


def _describe_verdicts(view: StatusView) -> str:
    """Say how often an object had been judged before."""
    asked = view.verdict_hits + view.verdict_misses
    share = 100 * view.verdict_hits // max(asked, 1)
    return f"{view.verdicts_kept} kept; {view.verdict_hits} of {asked} known ({share} %)"


def _describe_policy(view: StatusView) -> str:
    """Say what is in force, and whether every worker says the same."""
    workers = [one for one in view.workers if one.name.startswith("worker")]
    if not workers:
        return view.policy
    others = [one.name for one in workers if one.policy != view.policy]
    if others:
        return f"{view.policy}; ANOTHER ONE, or none, on {', '.join(others)}"
    count = len(workers)
    return f"{view.policy}, on {'the worker' if count == 1 else f'all {count} workers'}"


def _describe_reloads(view: ReloadView) -> list[tuple[str, str]]:
    """Say what became of the last reload, if there was one."""
    now = SystemClock().wall()
    if view.is_last_refused:
        ago = format_duration(now - view.refused_at)
        rest = f" (and {more} more)" if (more := len(view.refused_causes) - 1) > 0 else ""
        cause = next(iter(view.refused_causes), "")
        text = f"last reload refused: {cause}{rest}; {ago} ago, by {view.refused_by}"
        return [("reload", f"{text}; what was in force stays in force")]
    if view.done:
        ago = format_duration(now - view.done_at)
        return [("reload", f"{ago} ago, by {view.done_by}; {view.done} since the start")]
    return []


def _describe_worker(one: WorkerView) -> tuple[str, ...]:
    is_worker = one.name.startswith("worker")
    return (
        one.name,
        str(one.pid or ""),
        one.state,
        str(one.connections) if is_worker else "",
        str(one.accepted) if is_worker else "",
        f"{one.cpu_s:.1f} s" if one.cpu_s else "",
        format_bytes(one.memory_bytes) if one.memory_bytes else "",
        str(one.restarts),
    )


def _describe_certificate(one: CertificateView) -> tuple[str, ...]:
    names, left = ", ".join(one.names) or f"serial {one.serial}", one.expires - SystemClock().wall()
    ends = f"{format_time(one.expires)[:10]}, "
    ends += f"in {format_duration(left)}" if left > 0 else "EXPIRED"
    return (names, one.listener, ends, "default" if one.is_default else "")


def _describe_scanner(one: ScannerView) -> tuple[str, ...]:
    state = f"{one.state}, {one.processes} processes"
    if one.restarts:
        state += f", {one.restarts} restarts"
    counts = (str(one.rules), str(one.asked), str(one.found), str(one.unfinished))
    return (one.name, state, one.signatures, *counts, format_bytes(one.memory_bytes))


def _describe_floods(view: StatusView) -> str:
    if not view.flood.enabled:
        return "not counted"
    reached = [f"{limit} {count} times" for limit, count in sorted(view.flood.reached.items())]
    return f"{view.flood.clients} clients counted; {', '.join(reached) or 'no limit reached'}"


def _describe_connections(view: StatusView) -> str:
    text = f"{view.connections} open, {view.sessions} sessions"
    if view.revoked or view.revoking:
        text += f"; {view.revoked} ended by changes of policy"
    return f"{text}, {view.revoking} about to be judged again" if view.revoking else text


def _describe_bytes(view: StatusView) -> str:
    to_server, to_client = format_bytes(view.bytes_to_server), format_bytes(view.bytes_to_client)
    return f"{to_server} to servers, {to_client} to clients"


def _describe_records(view: StatusView) -> str:
    text = f"{format_bytes(view.records_queued_bytes)} waiting, {view.records_lost} lost"
    return f"{text}; CANNOT BE WRITTEN: {view.records_failure}" if view.records_failure else text
