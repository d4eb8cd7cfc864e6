"""``sluicegate explain``: what a gate with these files would answer, and why."""

from __future__ import annotations

import asyncio
import datetime as dt
import pathlib
from collections.abc import Mapping
from typing import cast

import click

from sluicegate.address import SocketAddress
from sluicegate.app.inquiry.asked import Asked, Protocol
from sluicegate.app.inquiry.destination_text import WrittenDestination, read_destination
from sluicegate.app.inquiry.explanation import Explanation, explain_asked
from sluicegate.app.inquiry.hello_explanation import asked_by_hello
from sluicegate.app.inquiry.offline_gate import OfflineGate
from sluicegate.app.load import load
from sluicegate.clock import SystemClock
from sluicegate.documents import Findings
from sluicegate.filterapi import User
from sluicegate.gate.control_client import GateUnreachable
from sluicegate.gate.control_messages import StatusReply, StatusRequest
from sluicegate.names import HostRefused
from sluicegate.policy import HttpPart, PathRefused, TransferPart, canonical_path

from .display import printable, show_json
from .explained import show_explanation
from .options import ask, config_option, find_config, json_option

__all__ = ["explain", "load_gate", "warn_of_running_gate"]

_REFUSED = 1
_DEFAULT_PORT = 443


@click.command()
@config_option
@click.option("--from", "client", required=True, metavar="ADDRESS", help="The client.")
@click.option(
    "--to",
    "--url",
    "to",
    default="",
    metavar="NAME[:PORT]|URL",
    help="Where it wants to go; port 443 unless one is written. Left out at a listener that "
    "publishes.",
)
@click.option("--user", default="", metavar="NAME", help="Who the client proved to be.")
@click.option(
    "--group",
    "groups",
    multiple=True,
    metavar="NAME",
    help="A group of that user; default: those in the users file.",
)
@click.option(
    "--listener",
    default="",
    metavar="NAME",
    help="Where it comes to; may be left out where only one is possible.",
)
@click.option(
    "--protocol",
    type=click.Choice(["tcp", "udp", "bind"]),
    default="tcp",
    show_default=True,
    help="A connection, datagrams, or a peer that is to connect (SOCKS BIND).",
)
@click.option("--method", default="", metavar="METHOD", help="As an HTTP request: its method.")
@click.option("--path", default="", metavar="PATH", help="As an HTTP request: its path.")
@click.option(
    "--content-type",
    default="",
    metavar="TYPE",
    help='As an object: its MIME type, or its extension (".pdf").',
)
@click.option(
    "--sni",
    default=None,
    metavar="NAME",
    help="As a client of TLS whose ClientHello names this server; empty: none.",
)
@click.option(
    "--at",
    default="",
    metavar="TIME",
    help="For another time than now: 2027-01-31T09:00:00+01:00.",
)
@click.option(
    "--resolve", is_flag=True, help="Look an allowed name up, and judge what it leads to."
)
@click.option(
    "--policy",
    type=click.Path(path_type=pathlib.Path, exists=True, dir_okay=False),
    help="Another policy than the one that the configuration names.",
)
@click.option("--all", "all_rules", is_flag=True, help="Show every rule before, however many.")
@json_option
def explain(
    config: pathlib.Path | None,
    *,
    client: str,
    to: str,
    user: str,
    groups: tuple[str, ...],
    listener: str,
    protocol: str,
    method: str,
    path: str,
    content_type: str,
    sni: str | None,
    at: str,
    resolve: bool,
    policy: pathlib.Path | None,
    all_rules: bool,
    as_json: bool,
) -> None:
    """Say what the gate would answer a client, which rule decides, and what those before it lack.

    Read from the files, with the code that decides: no gate has to run, and nothing is looked up
    unless you say --resolve. Exit code 0: allowed; 1: refused; 2: the files or the question are
    wrong.

    \b
    Examples:
        sluicegate explain --from 10.1.2.3 --to packages.example.org:443
        sluicegate explain --from 10.1.2.3 --to db.example.org:5432 --user ann --resolve
        sluicegate explain --from 10.1.2.3 --to https://example.org/a/b --method POST
        sluicegate explain --from 10.1.2.3 --to example.org --sni www.example.net
        sluicegate explain --from 10.1.2.3 --listener ftp
        sluicegate explain --from 10.1.2.3 --to example.org --json | jq -r .rule.name
    """  # fmt: skip
    gate = load_gate(config, policy)
    if policy is None:
        warn_of_running_gate(config, gate)
    name = _find_listener(gate, listener, to)
    when = _read_time(at) if at else SystemClock().wall()
    address = _read_client(client)
    asked = Asked(
        name,
        address,
        when,
        protocol=cast("Protocol", protocol),
        user=_find_user(gate, user, groups),
        sni=sni,
    )
    if gate.is_proxy(name):
        allowed = gate.policy.policy.allows_underscores
        try:
            written = read_destination(to, allow_underscore=allowed, default_port=_DEFAULT_PORT)
            asked = _with_destination(asked, written, method, path, content_type)
        except (HostRefused, PathRefused) as refused:
            _show(_misread(gate, asked, refused), all_rules=all_rules, as_json=as_json)
            return
    decided = gate.decide(asked)
    by_hello = asked_by_hello(gate, asked, decided.rule)
    named = None if by_hello is None else gate.decide(by_hello)
    if resolve and by_hello is not None and named is not None:
        named = asyncio.run(gate.find(by_hello, named))
    elif resolve:
        decided = asyncio.run(gate.find(asked, decided))
    _show(explain_asked(gate, asked, decided, named), all_rules=all_rules, as_json=as_json)


def load_gate(
    config: pathlib.Path | None,
    policy: pathlib.Path | None = None,
    proposed: Mapping[str, str] | None = None,
) -> OfflineGate:
    """Read the files of a gate, with another policy if one is given.

    Args:
        config: Where ``sluicegate.toml`` is; None: at a usual place.
        policy: Where the other policy is.
        proposed: Texts of the policy's files, by name, in place of those on disk.

    Raises:
        ConfigRefused: Something is wrong with them.
    """
    findings = Findings()
    loaded = load(find_config(config), findings, policy_path=policy, proposed=proposed)
    findings.raise_errors()
    assert loaded is not None, "what cannot be loaded is a finding"
    return OfflineGate(loaded)


def warn_of_running_gate(config: pathlib.Path | None, gate: OfflineGate) -> None:
    """Say on standard error when the gate that runs has another policy than the files."""
    try:
        reply = ask(config, StatusRequest())
    except GateUnreachable:
        return
    if isinstance(reply, StatusReply) and reply.status.policy != gate.policy.hash:
        click.echo(
            f"{click.style('warning:', fg='yellow')} the running gate has another policy "
            f"({printable(reply.status.policy[:12])}) than the files ({gate.policy.hash[:12]}): "
            'they are in force after "sluicegate reload"',
            err=True,
        )


def _show(explanation: Explanation, *, all_rules: bool, as_json: bool) -> None:
    if as_json:
        show_json(explanation)
    else:
        show_explanation(explanation, all_rules=all_rules)
    if not explanation.allowed:
        click.get_current_context().exit(_REFUSED)


def _misread(gate: OfflineGate, asked: Asked, refused: HostRefused | PathRefused) -> Explanation:
    """Explain a destination that has no reading: no rule is asked about it."""
    return Explanation(
        allowed=False,
        action="deny",
        reason=str(refused.reason) if isinstance(refused, HostRefused) else "path-refused",
        meaning=refused.hint,
        policy=gate.policy.hash,
        at=asked.at,
        client=str(asked.client.ip),
        listener=asked.listener,
        protocol=asked.protocol,
    )


def _with_destination(
    asked: Asked, written: WrittenDestination, method: str, path: str, content_type: str
) -> Asked:
    http = transfer = None
    is_web_request = False
    if method or path or written.path:
        scheme = written.scheme or ("https" if written.port == _DEFAULT_PORT else "http")
        is_web_request = scheme == "http" and asked.protocol == "tcp"
        try:
            target = canonical_path(path or written.path or "/")
            http = HttpPart(method or "GET", target, scheme)
        except PathRefused as refused:
            if not is_web_request:
                raise
            click.echo(
                f"{click.style('warning:', fg='yellow')} {refused.hint}, which servers read in "
                "several ways: rules about paths neither let it in nor let it past",
                err=True,
            )
    if content_type:
        kind = content_type.partition(";")[0].strip().lower()
        transfer = TransferPart("", kind) if kind.startswith(".") else TransferPart(kind)
    return Asked(
        asked.listener, asked.client, asked.at, written.host, written.port, asked.protocol,
        asked.user, None, http, transfer, is_web_request, asked.sni,
    )  # fmt: skip


def _find_listener(gate: OfflineGate, name: str, to: str) -> str:
    if name and name not in gate.entries:
        known = ", ".join(gate.entries) or "none"
        raise click.BadParameter(
            f"there is no listener {name!r} (there is: {known})", param_hint="--listener"
        )
    wanted = [one for one in gate.entries if gate.is_proxy(one) == bool(to)]
    if not name and len(wanted) != 1:
        kind = "proxy listeners" if to else "listeners that publish"
        which = (
            f"there are {len(wanted)} {kind} ({', '.join(wanted)})"
            if wanted
            else f"there are no {kind}"
        )
        raise click.BadParameter(
            f"{which}; name one, of {', '.join(gate.entries)}", param_hint="--listener"
        )
    found = name or wanted[0]
    if gate.is_proxy(found) and not to:
        raise click.BadParameter(
            f"{found!r} is a proxy: say where the client wants to go", param_hint="--to"
        )
    if not gate.is_proxy(found) and to:
        raise click.BadParameter(
            f"{found!r} publishes a server: its clients name no destination", param_hint="--to"
        )
    return found


def _find_user(gate: OfflineGate, name: str, groups: tuple[str, ...]) -> User | None:
    if not name:
        if groups:
            raise click.BadParameter("groups are those of a user", param_hint="--group")
        return None
    if groups:
        return User(name, groups, "")
    known = gate.find_user(name)
    if known is None and gate.has_groups:
        click.echo(
            f"{click.style('warning:', fg='yellow')} the users file has no "
            f"{printable(repr(name))}: explained without groups; --group gives them",
            err=True,
        )
    return known or User(name, (), "")


def _read_client(text: str) -> SocketAddress:
    for one in (text, f"{text}:0", f"[{text}]:0"):
        try:
            return SocketAddress.parse(one)
        except ValueError:
            continue
    raise click.BadParameter(
        f"{text!r} is no address (10.1.2.3 or 2001:db8::1)", param_hint="--from"
    )


def _read_time(text: str) -> float:
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise click.BadParameter(
            f"{text!r} is no time with an offset (2027-01-31T09:00:00+01:00, or …Z)",
            param_hint="--at",
        )
    return moment.timestamp()
