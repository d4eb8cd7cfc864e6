"""Proposal: rules for what was learned, as text that an operator reviews.

``learn propose`` prints it. The invariant: the rules allow what the evidence has and nothing else
by name: clients, destinations and ports stand in one rule only if each of those clients asked for
each of those destinations at each of those ports. What would allow more stands in comments.
"""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from sluicegate.app.public_suffixes import is_public_suffix
from sluicegate.names import CanonicalHost

from .evidence import Seen, Wish

__all__ = ["ProposedRule", "propose", "write_rules"]

_SIBLINGS_MIN: Final = 3
"""Names below one that make a wildcard worth a thought."""

_CLIENTS_SHOWN_MAX: Final = 5
_EXPIRY_DAYS: Final = 90
_NAME_MAX: Final = 48

_Ports: TypeAlias = frozenset[tuple[str, int]]
_Who: TypeAlias = tuple[str, str, bool]
"""Listener, user, and whether the destination is an address: each in rules of its own."""


@dataclass(frozen=True, slots=True)
class ProposedRule:
    """One rule: every client asked for every host at every port."""

    listener: str
    user: str
    is_address: bool
    clients: tuple[str, ...]
    hosts: tuple[CanonicalHost, ...]
    ports: _Ports
    evidence: Mapping[Wish, Seen]


def propose(evidence: Mapping[Wish, Seen]) -> list[ProposedRule]:
    """Return the fewest rules that this finds, in the order of their destinations."""
    ports: dict[tuple[_Who, CanonicalHost, str], set[tuple[str, int]]] = {}
    for wish in evidence:
        who = (wish.listener, wish.user, wish.host.is_address)
        ports.setdefault((who, wish.host, wish.client), set()).add((wish.protocol, wish.port))
    clients: dict[tuple[_Who, CanonicalHost, _Ports], set[str]] = {}
    for (who, host, client), found in ports.items():
        clients.setdefault((who, host, frozenset(found)), set()).add(client)
    hosts: dict[tuple[_Who, frozenset[str], _Ports], set[CanonicalHost]] = {}
    for (who, host, both), found_clients in clients.items():
        hosts.setdefault((who, frozenset(found_clients), both), set()).add(host)
    by_place: dict[tuple[_Who, str, CanonicalHost], dict[Wish, Seen]] = {}
    for wish, seen in evidence.items():
        place = ((wish.listener, wish.user, wish.host.is_address), wish.client, wish.host)
        by_place.setdefault(place, {})[wish] = seen
    rules = [
        ProposedRule(
            listener=who[0],
            user=who[1],
            is_address=who[2],
            clients=tuple(sorted(some_clients)),
            hosts=tuple(sorted(some_hosts, key=_order_of)),
            ports=some_ports,
            evidence={
                wish: seen
                for client in some_clients
                for host in some_hosts
                for wish, seen in by_place[who, client, host].items()
                if (wish.protocol, wish.port) in some_ports
            },
        )
        for (who, some_clients, some_ports), some_hosts in hosts.items()
    ]
    return sorted(rules, key=lambda one: (one.is_address, _order_of(one.hosts[0]), one.clients))


def write_rules(rules: Iterable[ProposedRule], taken: Collection[str], now: float) -> Iterator[str]:
    """Yield the text of each rule, in TOML.

    Args:
        rules: The rules.
        taken: Names that rules have already.
        now: For the expiry that is suggested, in seconds since the epoch.
    """
    names = set(taken)
    expires = dt.datetime.fromtimestamp(now, dt.UTC) + dt.timedelta(days=_EXPIRY_DAYS)
    for rule in rules:
        name = _name_for(rule, names)
        names.add(name)
        yield "\n".join([*_comments(rule), *_table(rule, name, expires), ""])


def _order_of(host: CanonicalHost) -> tuple[str, ...]:
    """Sort names by what they end in, so that siblings stand together."""
    return tuple(reversed(host.labels)) or (host.text,)


def _name_for(rule: ProposedRule, taken: Collection[str]) -> str:
    base = re.sub(r"[^A-Za-z0-9.-]", "-", f"learned-{rule.hosts[0].text}")[:_NAME_MAX].rstrip("-.")
    name, number = base, 2
    while name in taken:
        name, number = f"{base}-{number}", number + 1
    return name


def _table(rule: ProposedRule, name: str, expires: dt.datetime) -> Iterator[str]:
    yield "[[rule]]"
    yield f'name = "{name}"'
    yield 'action = "allow"'
    yield f'listener = "{rule.listener}"'
    yield from _array("clients", rule.clients)
    if rule.user:
        yield from _array("users", [rule.user])
    yield from _array("to", [host.text for host in rule.hosts])
    yield from _array("protocols", _protocols(rule.ports))
    yield 'owner = ""                            # who answers for it?'
    yield 'comment = "proposed from what was learned"'
    yield f"# expires = {expires:%Y-%m-%dT00:00:00Z}    # for what is needed for a time only"


def _array(key: str, values: Iterable[str]) -> Iterator[str]:
    texts = [json.dumps(value) for value in values]
    if len(texts) <= _ON_ONE_LINE_MAX:
        yield f"{key} = [{', '.join(texts)}]"
        return
    yield f"{key} = ["
    for text in texts:
        yield f"    {text},"
    yield "]"


_ON_ONE_LINE_MAX: Final = 3


def _protocols(ports: _Ports) -> list[str]:
    """Write ports, those that follow each other as a range."""
    texts: list[str] = []
    for protocol in sorted({protocol for protocol, _ in ports}):
        numbers = sorted(port for one, port in ports if one == protocol)
        first = last = numbers[0]
        for number in [*numbers[1:], 0]:
            if number == last + 1:
                last = number
                continue
            texts.append(f"{protocol}:{first}" + (f"-{last}" if last > first else ""))
            first = last = number
    return texts


def _comments(rule: ProposedRule) -> Iterator[str]:
    seen = list(rule.evidence.values())
    count, refused = sum(one.count for one in seen), sum(one.refused for one in seen)
    first, last = min(one.first for one in seen), max(one.last for one in seen)
    of_them = f", {refused} of them refused" if refused else ""
    clients = _counted(len(rule.clients), "client")
    yield f"# {_times(count)}{of_them}, by {clients}, {_time(first)} to {_time(last)}"
    for host in rule.hosts:
        yield f"#   {_describe_host(rule, host)}"
    if rule.is_address:
        yield "# Named as addresses: nothing says what is behind them. Is there a name?"
    for parent, count in _parents(rule.hosts):
        yield f'# {count} names below {parent}; if all of them are meant: to = ["*.{parent}"]'


def _describe_host(rule: ProposedRule, host: CanonicalHost) -> str:
    found = {wish: seen for wish, seen in rule.evidence.items() if wish.host == host}
    clients = sorted({wish.client for wish in found})
    shown = ", ".join(clients[:_CLIENTS_SHOWN_MAX])
    more = len(clients) - _CLIENTS_SHOWN_MAX
    count = sum(seen.count for seen in found.values())
    return f"{host.text}: {_times(count)}, from {shown}{f' and {more} more' if more > 0 else ''}"


def _parents(hosts: Iterable[CanonicalHost]) -> Iterator[tuple[str, int]]:
    """Yield names that have several of these right below them, and are no public suffix."""
    counts: dict[str, int] = {}
    for host in hosts:
        _, _, parent = host.text.partition(".")
        if not host.is_address and "." in parent and not is_public_suffix(parent):
            counts[parent] = counts.get(parent, 0) + 1
    return ((name, count) for name, count in sorted(counts.items()) if count >= _SIBLINGS_MIN)


def _time(epoch_s: float) -> str:
    return f"{dt.datetime.fromtimestamp(epoch_s, dt.UTC):%Y-%m-%d %H:%M} UTC"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
