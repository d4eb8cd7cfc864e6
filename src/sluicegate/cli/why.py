"""``sluicegate why``: what was decided about a connection, and what the policy says of it now."""

from __future__ import annotations

import ipaddress
import pathlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import click

from sluicegate.address import SocketAddress
from sluicegate.app.inquiry.asked import Asked
from sluicegate.app.inquiry.explanation import Explanation, explain_asked, meaning_of
from sluicegate.app.inquiry.hello_explanation import asked_by_hello
from sluicegate.app.inquiry.history import (
    Found,
    History,
    find_connection,
    find_history,
    find_last,
    is_decision,
    is_refusal,
)
from sluicegate.app.inquiry.offline_gate import OfflineGate
from sluicegate.app.inquiry.past import Cause, PastDecision, Unanswerable, ask_again, cause_of
from sluicegate.audit.log_source import LogSource
from sluicegate.clock import SystemClock
from sluicegate.errors import SluicegateError

from .display import format_bytes, format_time, printable, show_json
from .explain import load_gate, warn_of_running_gate
from .explained import show_explanation
from .log_files import find_logs, logs_option
from .options import config_option, json_option

__all__ = ["why"]


@click.command()
@config_option
@logs_option
@click.argument("what", metavar="[CONNECTION|REQUEST|SESSION|ADDRESS|ALERT]", default="")
@click.option("--last-refusal", is_flag=True, help="What was refused last, whatever refused it.")
@click.option("--client", default="", metavar="ADDRESS", help="The last refusal of this client.")
@click.option("--all", "all_rules", is_flag=True, help="Show every rule before, however many.")
@json_option
def why(
    config: pathlib.Path | None,
    files: tuple[pathlib.Path, ...],
    *,
    what: str,
    last_refusal: bool,
    client: str,
    all_rules: bool,
    as_json: bool,
) -> None:
    """Say why a connection or request was allowed, refused or ended, then and by the policy of now.

    Name a connection, an HTTP request or a session as records and refused clients do, or a client's
    address: its last decision is meant; or an alert, by its identifier: what raised it last. The
    log and its rotated files are read; what was decided is shown with all that came of it (objects
    and who judged them, limits, failures of filters, alerts, the end), and explained again with the
    files as they are, for the time of the record.

    Exit code 0: it was found; 1: the log does not have it; 2: the files are wrong.

    \b
    Examples:
        sluicegate why 10.1.2.3
        sluicegate why --last-refusal
        sluicegate why --last-refusal --client 10.1.2.3 --json | jq -r .decision.reason
        sluicegate why 8f2c1a-0-4d
    """
    if bool(what) == last_refusal:
        raise click.UsageError(
            "name a connection, a request, a session or an address, or say --last-refusal"
        )
    logs = find_logs(config, files)
    found = _find(logs, what, client, last_refusal=last_refusal)
    history = find_history(logs, found) if found else None
    if history is None:
        raise SluicegateError(
            f"no decision about {printable(what or client or 'a refusal')} is in "
            f"{', '.join(map(printable, logs.names))} (older files are named with --log; "
            "refusals of a client that floods are counted, not recorded one by one)"
        )
    gate = load_gate(config)
    warn_of_running_gate(config, gate)
    asked = ask_again(history.decision, gate)
    if isinstance(asked, Unanswerable):
        _show(history, gate, None, asked.why, all_rules=all_rules, as_json=as_json)
        return
    asked = _with_hello(_with_server(asked, history), history)
    if asked.host is None and gate.is_proxy(asked.listener):
        why_not = "it asks for no destination, so no rule is asked about one"
        _show(history, gate, None, why_not, all_rules=all_rules, as_json=as_json)
        return
    _show(history, gate, asked, "", all_rules=all_rules, as_json=as_json)


def _find(logs: LogSource, what: str, client: str, *, last_refusal: bool) -> Found:
    try:
        address = str(ipaddress.ip_address(client or what))
    except ValueError:
        if client:
            raise click.BadParameter(
                "is not an address (10.1.2.3 or 2001:db8::1)", param_hint="--client"
            ) from None
        address = ""
    if last_refusal:
        return find_last(logs, address, is_refusal)
    if address:
        return find_last(logs, address, is_decision)
    return find_connection(logs, what)


def _with_server(asked: Asked, history: History) -> Asked:
    """Add the address that was dialled, where the decision does not have those that were found."""
    if asked.host is None or asked.host.is_address or asked.addresses is not None:
        return asked
    for record in history.records:
        is_own = record.get("connection") == history.decision.connection
        if record.get("kind") == "connection" and is_own:
            try:
                server = SocketAddress.parse(str(record.get("server")))
            except ValueError:
                return asked
            is_address = not server.ip.is_unspecified
            return replace(asked, addresses=(server.ip,)) if is_address else asked
    return asked


def _with_hello(asked: Asked, history: History) -> Asked:
    """Add the name that the client's hello had, if one was judged."""
    for record in history.records:
        is_own = record.get("connection") == history.decision.connection
        if record.get("kind") == "connection" and is_own and record.get("sni"):
            return replace(asked, sni=str(record["sni"]))
    return asked


def _show(
    history: History,
    gate: OfflineGate,
    asked: Asked | None,
    why_not: str,
    *,
    all_rules: bool,
    as_json: bool,
) -> None:
    past = history.decision
    explanation = None if asked is None else _explain(gate, asked)
    now = None if asked is None else _now_differs(gate, asked, explanation)
    is_changed = past.policy != gate.policy.hash
    if as_json:
        show_json(
            {
                "connection": past.connection,
                "request": past.request,
                "decision": _fields_of(past),
                "cause": cause_of(past),
                "records": list(history.records),
                "records_left_out": history.left_out,
                "policy_then": past.policy,
                "policy_now": gate.policy.hash,
                "policy_changed": is_changed,
                "explanation": explanation,
                "not_explained": why_not,
                "asked_now": now,
            }
        )
        return
    _show_decision(past)
    for record in history.records:
        _show_record(record)
    if history.left_out:
        _row("", f"{history.left_out} earlier records are not shown; sluicegate log has them")
    click.echo("")
    if is_changed:
        changed = f"{past.policy[:12]} then, {gate.policy.hash[:12]} now"
        click.secho(
            f"The policy has changed since ({printable(changed)}). It says now:", fg="yellow"
        )
    else:
        click.echo("The policy is the same now. It says:")
    if explanation is None:
        click.echo(f"nothing: {why_not}")
        return
    show_explanation(explanation, all_rules=all_rules)
    if now is not None:
        verdict, reason = "allowed" if now["allowed"] else "refused", printable(str(now["reason"]))
        click.echo(f"At this moment it would be {verdict} ({reason}): time counts in this policy.")
    if cause_of(past) not in {Cause.POLICY, Cause.ADDRESSES}:
        click.echo(_NOT_POLICY[cause_of(past)])


def _explain(gate: OfflineGate, asked: Asked) -> Explanation:
    by_hello = asked_by_hello(gate, asked, gate.decide(asked).rule)
    named = None if by_hello is None else gate.decide(by_hello)
    return explain_asked(gate, asked, named=named)


_NOT_POLICY = {
    Cause.LIMIT: "It was a limit that refused it, not the policy.",
    Cause.FILTER: "It was a filter that refused it, not the policy.",
    Cause.DESTINATION: "What the client named has no reading, so no rule was asked.",
    Cause.LOOKUP: "It was the lookup of the name that ended it, not a rule.",
    Cause.OTHER: "It was not the policy that refused it.",
}


def _now_differs(
    gate: OfflineGate, asked: Asked, explanation: Explanation | None
) -> dict[str, object] | None:
    """Decide for this moment; None when that says the same as for the time of the record."""
    at_now = _explain(gate, replace(asked, at=SystemClock().wall()))
    if explanation is None or at_now.allowed == explanation.allowed:
        return None
    name = "" if at_now.rule is None else at_now.rule.name
    return {"allowed": at_now.allowed, "reason": at_now.reason, "rule": name}


def _fields_of(past: PastDecision) -> dict[str, object]:
    names = past.__slots__
    return {name: getattr(past, name) for name in names}


def _show_decision(past: PastDecision) -> None:
    verdict = (
        click.style("allowed", fg="green") if past.is_allowed else click.style("denied", fg="red")
    )
    meaning = meaning_of(past.reason)
    reason = f"{past.reason}{f': {meaning}' if meaning else ''}"
    click.echo(f"{verdict} on {format_time(past.time)}: {printable(reason)}")
    entry = f" ({past.entry})" if past.entry else ""
    user = f" ({past.user})" if past.user else ""
    _row("connection", past.connection)
    _row("client", f"{past.client}{user}")
    _row("listener", f"{past.listener}{entry}")
    if past.request:
        _row("request", f"{past.shown} ({past.request})")
    elif past.target:
        _row("target", f"{past.target}{' (udp)' if past.transport == 'udp' else ''}")
    if past.addresses:
        _row("addresses", ", ".join(past.addresses))
    _row("rule", past.rule or "none")
    if past.filter:
        _row("filter", past.filter)
    _row("policy", past.policy[:12])


def _row(name: str, text: str) -> None:
    click.echo(f"  {name:<11}{printable(text)}")


def _show_record(record: Mapping[str, Any]) -> None:
    kind = str(record.get("kind", ""))
    shown = _SHOWN.get(kind)
    _row(*(shown(record) if shown is not None else (kind, str(record.get("reason", "")))))


def _transfer(record: Mapping[str, Any]) -> tuple[str, str]:
    by = f" by {record['filter']}" if record.get("filter") else ""
    size = record.get("bytes")
    held = f", {format_bytes(size)} held" if isinstance(size, int | float) else ""
    return "object", (
        f"{record.get('name')} ({record.get('direction')}, {record.get('protocol')}{held}): "
        f"{record.get('verdict')}{by}: {record.get('reason')}"
    )


def _request(record: Mapping[str, Any]) -> tuple[str, str]:
    rule, ended = record.get("rule", ""), record.get("ended", "")
    by = f", rule {rule}" if rule else ""
    then = f"; {record.get('outcome')}: {ended}" if ended else ""
    what = f"{record.get('method')} {record.get('url')}"
    return "also", f"{what} {record.get('verdict')}: {record.get('reason')}{by}{then}"


def _end(record: Mapping[str, Any]) -> tuple[str, str]:
    by = f" by {record['filter']}" if record.get("filter") else ""
    reason = record.get("reason")
    name = "end" if not record.get("primary") else "announced"
    sent, back = record.get("bytes_to_server", 0), record.get("bytes_to_client", 0)
    server = record.get("server")
    counts = (
        f"{sent} bytes to {server}, {back} back"
        if server
        else f"nothing to a server, {back} bytes back"
    )
    meaning = meaning_of(str(reason)) if reason else ""
    why = f": {reason}{f': {meaning}' if meaning else ''}" if reason else ""
    return name, f"{record.get('outcome')}{by}{why} ({counts})"


def _decision(record: Mapping[str, Any]) -> tuple[str, str]:
    target, rule = record.get("target", ""), record.get("rule", "")
    by = f", rule {rule}" if rule else ""
    return "also", f"{target} {record.get('verdict')}: {record.get('reason')}{by}"


def _limit(record: Mapping[str, Any]) -> tuple[str, str]:
    return "limit", f"{record.get('limit')} ({record.get('bound')}), {record.get('count', 1)} times"


def _failure(record: Mapping[str, Any]) -> tuple[str, str]:
    return "failure", f"{record.get('filter')}: {record.get('cause')} ({record.get('action')})"


def _note(record: Mapping[str, Any]) -> tuple[str, str]:
    return "note", f"{record.get('filter')}: {record.get('message')}"


def _rule_change(record: Mapping[str, Any]) -> tuple[str, str]:
    return "rule", f"from {record.get('before')} to {record.get('rule')}, as the policy changed"


def _alert(record: Mapping[str, Any]) -> tuple[str, str]:
    by = f" by {record['by']}" if record.get("by") else ""
    name, message = record.get("alert"), record.get("message")
    return "alert", f"{name} {record.get('event')}{by}: {message} ({record.get('raising')})"


_SHOWN = {
    "alert": _alert,
    "transfer": _transfer,
    "connection": _end,
    "decision": _decision,
    "request": _request,
    "limit": _limit,
    "filter-failure": _failure,
    "note": _note,
    "rule-change": _rule_change,
}
