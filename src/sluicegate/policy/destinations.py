"""The decision on a destination that a client named: which rule, and may it be dialled.

An entry calls ``decide_destination`` with what was asked, before anything is looked up; the
decision is then the resolver's judge for everything that comes back, and the connector's before
each dial. The invariant: the first rule that matches the host as it was named decides; an address
that is not public is dialled only if that very rule names its network.

What a rule's ``to`` means:

- A name matches the name that the client wrote. A network matches an address that the client wrote.
- A rule that denies also matches by what a name leads to: its networks every address, its names
  every alias. So an address that one rule refuses is not reached under another name by a later one.
- A rule that allows names leads to public addresses, and to those of networks in the same ``to``.
- ``*`` is every name, and every public address.

Some addresses need more than a network around them: a cloud's metadata service and the gate's own
addresses are dialled only where a rule names exactly that address; the gate's own listeners, and
addresses that mean nobody or everybody, never.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from sluicegate.address import IpAddress
from sluicegate.names import (
    AddressClass,
    AddressJudgement,
    CanonicalHost,
    classify,
    deny_unless_public,
)
from sluicegate.verdict import Deny

from .rule_index import CompiledRule, Identity, RuleIndex
from .rules import Rule

__all__ = [
    "ALLOWED_BY_RULE",
    "DENIED_BY_RULE",
    "NO_RULE",
    "USER_NEEDED",
    "DestinationDecision",
    "DestinationRequest",
    "decide_association",
    "decide_destination",
]

ALLOWED_BY_RULE: Final = "allowed-by-rule"
"""A rule allows it."""

DENIED_BY_RULE: Final = "denied-by-rule"
"""A rule denies it."""

NO_RULE: Final = "no-rule"
"""No rule speaks of it."""

USER_NEEDED: Final = "user-needed"
"""Rules speak of it, for users; this client has not proved to be one."""

IsOwnListener = Callable[[IpAddress, int], bool]
"""Whether the gate itself listens on an address and port."""


@dataclass(frozen=True, slots=True)
class DestinationRequest:
    """What one client asks for."""

    client: IpAddress
    host: CanonicalHost
    port: int
    user: Identity | None = None
    """Who the client proved to be."""
    protocol: str = "tcp"


class DestinationDecision:
    """The answer to one request; satisfies ``names.DestinationJudge`` for its host."""

    __slots__ = ("_compiled", "_index", "_is_own_listener", "_request", "is_allowed", "reason")

    def __init__(
        self,
        index: RuleIndex,
        request: DestinationRequest,
        compiled: CompiledRule | None,
        reason: str,
        is_own_listener: IsOwnListener,
    ) -> None:
        self.is_allowed = compiled is not None and not compiled.is_deny
        self.reason = reason
        #: A reason code for the record.
        self._index = index
        self._request = request
        self._compiled = compiled
        self._is_own_listener = is_own_listener

    @property
    def rule(self) -> Rule | None:
        """The rule that decided; None when none did."""
        return None if self._compiled is None else self._compiled.rule

    # -- names.DestinationJudge ------------------------------------------------------------------

    def judge_name(self, host: CanonicalHost, port: int) -> Deny | None:
        """Say whether the host may be looked up: the one that was decided on, if it is allowed."""
        request = self._request
        if self.is_allowed and host == request.host and port == request.port:
            return None
        return Deny(self.reason)

    def judge_alias(self, host: CanonicalHost, alias: CanonicalHost, port: int) -> Deny | None:
        """Refuse a name that an earlier rule denies, also as an alias."""
        del host
        return self._denied_before(self._index.about_name(alias), port)

    def judge_address(
        self, host: CanonicalHost, judgement: AddressJudgement, port: int
    ) -> Deny | None:
        """Say whether an address that the host has may be dialled."""
        del host
        compiled = self._compiled
        if compiled is None or compiled.is_deny:
            return Deny(self.reason)
        denial = _denied_for_what_it_is(compiled, judgement)
        if denial is not None:
            return denial
        if self._is_own_listener(judgement.address, port) or any(
            self._is_own_listener(found.address, port) for found in judgement.embedded
        ):
            return Deny(f"{judgement.address} port {port} is a listener of the gate itself")
        return self._denied_before(self._index.about_addresses(judgement.meant), port)

    def _denied_before(self, rules: Iterable[CompiledRule], port: int) -> Deny | None:
        """Return the denial of a rule that stands before the one that decided."""
        compiled, request = self._compiled, self._request
        assert compiled is not None, "only what is allowed is judged further"
        for one in rules:
            if one.order >= compiled.order:
                break
            if one.is_deny and _speaks_of(one, request, port):
                return Deny(f"rule {one.rule.name} denies it")
        return None


def decide_destination(
    index: RuleIndex | None,
    request: DestinationRequest,
    is_own_listener: IsOwnListener = lambda _address, _port: False,
) -> DestinationDecision:
    """Decide whether a client may name a destination; the first matching rule wins.

    Args:
        index: The rules of the listener that the client came to; None: it has none.
        request: What is asked.
        is_own_listener: Kept for judging addresses.
    """
    if index is None:
        index = _NO_RULES
    host = request.host
    needs_user = False
    if host.address is None:
        candidates = index.about_name(host)
        judgement = None
    else:
        judgement = classify(host.address)
        candidates = index.about_addresses(judgement.meant)
    for one in candidates:
        if judgement is not None and not _leads_to(one, judgement):
            continue
        if not one.clients.covers(request.client):
            continue
        if not one.has_protocol(request.protocol, request.port):
            continue
        if not one.has_user(request.user):
            needs_user = needs_user or not one.is_deny
            continue
        reason = DENIED_BY_RULE if one.is_deny else ALLOWED_BY_RULE
        return DestinationDecision(index, request, one, reason, is_own_listener)
    reason = USER_NEEDED if needs_user and request.user is None else NO_RULE
    return DestinationDecision(index, request, None, reason, is_own_listener)


def decide_association(
    index: RuleIndex | None, client: IpAddress, user: Identity | None
) -> tuple[Rule | None, str]:
    """Say by which rule a client may send datagrams at all, and why if by none.

    Where they may go is decided for each of them; this only turns away whom no rule allows any.
    """
    needs_user = False
    for one in () if index is None else index.rules:
        if one.is_deny or not one.clients.covers(client) or not one.speaks_protocol("udp"):
            continue
        if one.has_user(user):
            return one.rule, ALLOWED_BY_RULE
        needs_user = True
    return None, USER_NEEDED if needs_user and user is None else NO_RULE


def _speaks_of(compiled: CompiledRule, request: DestinationRequest, port: int) -> bool:
    return (
        compiled.clients.covers(request.client)
        and compiled.has_protocol(request.protocol, port)
        and compiled.has_user(request.user)
    )


def _leads_to(compiled: CompiledRule, judgement: AddressJudgement) -> bool:
    """Tell whether a rule speaks of an address that a client wrote."""
    if compiled.is_deny:
        # Its networks are held against every form of the address.
        return True
    if compiled.networks.covers(judgement.address):
        return True
    return compiled.rule.to.is_everything and judgement.is_public


def _denied_for_what_it_is(compiled: CompiledRule, judgement: AddressJudgement) -> Deny | None:
    """Refuse an address that is not public, unless the rule names it as much as it must be."""
    if judgement.is_public:
        return None
    if judgement.address_class in _NEVER:
        return deny_unless_public(judgement)
    networks = compiled.networks
    is_named = networks.names if judgement.address_class in _BY_ADDRESS_ONLY else networks.covers
    # Also what is inside: to allow a translator's prefix is not to allow what is behind it.
    inside = [
        found.address for found in judgement.embedded if not classify(found.address).is_public
    ]
    if is_named(judgement.address) and all(map(is_named, inside)):
        return None
    return deny_unless_public(judgement)


_BY_ADDRESS_ONLY: Final = frozenset({AddressClass.METADATA, AddressClass.OWN})
"""Naming a network around these is not enough: 169.254.0.0/16 has one, 10.0.0.0/8 may."""

_NEVER: Final = frozenset(
    {
        AddressClass.UNSPECIFIED,
        AddressClass.MULTICAST,
        AddressClass.BROADCAST,
        AddressClass.RESERVED,
        AddressClass.DISCARD,
        AddressClass.MAPPED,
        AddressClass.COMPATIBLE,
        AddressClass.TRANSLATED,
    }
)
"""What no server has as its address, or what the kernel would dial as another one."""

_NO_RULES: Final = RuleIndex(())
