"""Policies to measure, as an operator writes them, and requests that they decide on.

Every kind makes rules that differ only in what the kind is about, and requests spread over all of
them, so that a decision that looks at rules one by one shows.
"""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Callable
from dataclasses import dataclass

from sluicegate.address import IpAddress
from sluicegate.names import canonical_host
from sluicegate.policy import DestinationRequest

__all__ = ["KINDS", "Kind"]

CLIENT = ipaddress.ip_address("10.1.2.3")


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of rule."""

    name: str
    rule: Callable[[int], str]
    """The keys of the rule of a number that the kind is about."""
    request: Callable[[int, int], DestinationRequest]
    """A request that the rule of a number decides, given the count of rules."""
    is_allowed: bool = True


def _rule(keys: str) -> str:
    return f'action = "allow"\nlistener = "proxy"\nprotocols = ["tcp:443"]\n{keys}\n'


def text_of(kind: Kind, count: int) -> str:
    """Return a policy with so many rules of a kind."""
    return "\n".join(
        f'[[rule]]\nname = "r{number}"\n{_rule(kind.rule(number))}' for number in range(count)
    )


def _ask(host: str, client: IpAddress = CLIENT) -> DestinationRequest:
    return DestinationRequest(client, canonical_host(host), 443)


def _exact(number: int) -> str:
    return f'clients = ["10.0.0.0/8"]\nto = ["h{number}.s{number % 97}.example.net"]'


def _suffix(number: int) -> str:
    return f'clients = ["10.0.0.0/8"]\nto = ["*.z{number}.example.net"]'


def _network(number: int) -> ipaddress.IPv4Network:
    """Return one of many networks of 13 sizes, none inside another but by chance."""
    seeded = random.Random(number)
    size = 16 + number % 13
    base = (seeded.randrange(20, 100) << 24) + (seeded.getrandbits(24) & -(1 << (32 - size)))
    return ipaddress.IPv4Network((base, size))


def _prefix(number: int) -> str:
    return f'clients = ["10.0.0.0/8"]\nto = ["{_network(number)}"]'


def _client(number: int) -> IpAddress:
    return ipaddress.IPv4Address((10 << 24) + 1000 + number * 3)


def _by_client(number: int) -> str:
    return f'clients = ["{_client(number)}"]\nto = ["*"]'


_MIXED = (_exact, _suffix, _prefix, _by_client)

KINDS = (
    Kind("exact names", _exact, lambda n, _: _ask(f"h{n}.s{n % 97}.example.net")),
    Kind("suffixes", _suffix, lambda n, _: _ask(f"a.b.z{n}.example.net")),
    Kind("networks", _prefix, lambda n, _: _ask(str(_network(n)[1]))),
    Kind("* by client", _by_client, lambda n, _: _ask("www.example.net", _client(n))),
    Kind(
        "none matches",
        lambda n: _MIXED[n % 4](n),
        lambda n, _: _ask(f"no{n}.q{n % 7}.example.net"),
        is_allowed=False,
    ),
)
