"""Rules that never decide, because earlier ones always do: for whoever checks a policy.

``app`` warns of what ``shadowed_rules`` finds. The invariant: what is reported is really covered,
by earlier rules, whatever is asked and whenever. Not all that is covered is found: a rule is taken
apart into its clients, destinations and protocols, and each of these pieces has to be covered by
one rule. Two halves of a network, users that several rules name, and rules of more pieces than
``SHADOW_PIECES_MAX`` are not put together.

A rule that refuses does more than decide: its names and networks are held against what other names
lead to, for the sake of rules behind it. So it is only called covered where an earlier rule refuses
the same, or leaves nothing for later rules to decide.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TypeAlias

from sluicegate.address import IpNetwork
from sluicegate.names import CanonicalHost, HostPattern
from sluicegate.policy_limits import SHADOW_PIECES_MAX, SHADOW_TRIED_MAX

from .compiled_rule import CompiledRule
from .networks import NetworkSet
from .protocols import ProtocolPattern
from .request import DestinationRequest, Question
from .rule_index import InOrder, RuleIndex
from .rules import ANY_USER, Rule, Targets
from .snapshot import PolicySnapshot

__all__ = ["shadowed_rules"]


Covers: TypeAlias = tuple[Rule, ...]
"""Earlier rules, in order, that leave nothing to another one together; none: they leave it some."""


def shadowed_rules(
    snapshot: PolicySnapshot, listeners: Iterable[str]
) -> Iterator[tuple[Rule, Covers]]:
    """Yield each rule that never decides, with the earlier ones that do in its place.

    Args:
        snapshot: The policy.
        listeners: All proxy listeners.
    """
    covers: dict[str, Covers] = {}
    rules: dict[str, Rule] = {}
    for name in listeners:
        index = snapshot.rules_of(name)
        if index is None:
            continue
        for one in index.rules:
            if one.rule.is_enabled:
                rules[one.rule.name] = one.rule
                found = _covers_of(one, index)
                known = covers.setdefault(one.rule.name, found)
                # On every listener, or it is of use on one.
                covers[one.rule.name] = found and known
    for name, cover in covers.items():
        if cover:
            yield rules[name], cover


def _covers_of(one: CompiledRule, index: RuleIndex) -> Covers:
    """Return the first rule that decides whatever a later one would, or those that do together."""
    alone = _cover_of(one.rule, one.order, index)
    if alone is not None:
        return (alone,)
    found: set[Rule] = set()
    for piece in _pieces_of(one.rule):
        cover = _cover_of(piece, one.order, index)
        if cover is None:
            return ()
        found.add(cover)
    return tuple(earlier.rule for earlier in index.rules[: one.order] if earlier.rule in found)


def _pieces_of(rule: Rule) -> Iterator[Rule]:
    """Take a rule apart: what it matches is what they match together; none: it is one, or many."""
    to = rule.to
    targets = [
        *([Targets(is_everything=True)] if to.is_everything else []),
        *(Targets(hosts=(one,)) for one in to.hosts),
        *(Targets(networks=(one,)) for one in to.networks),
        *(Targets(urls=(one,)) for one in to.urls),
    ]
    protocols: list[tuple[ProtocolPattern, ...]] = [(one,) for one in rule.protocols] or [()]
    count = len(targets) * len(rule.clients) * len(protocols)
    if not 1 < count <= SHADOW_PIECES_MAX:
        return
    for target, client, protocol in itertools.product(targets, rule.clients, protocols):
        yield replace(rule, to=target, clients=(client,), protocols=protocol)


def _cover_of(rule: Rule, order: int, index: RuleIndex) -> Rule | None:
    """Return the first rule before a place that decides whatever a rule there would."""
    if not rule.clients or rule.to.is_empty:
        return None
    client = rule.clients[0].network_address
    question = Question(DestinationRequest(client, CanonicalHost("host.invalid"), 1), 0)
    orders: set[int] = set()
    for found in _about(rule.to, index, question):
        orders.update(earlier.order for earlier in found if earlier.order < order)
    for place in sorted(orders)[:SHADOW_TRIED_MAX]:
        earlier = index.rules[place].rule
        if _covers(earlier, rule):
            return earlier
    return None


def _about(to: Targets, index: RuleIndex, question: Question) -> Sequence[InOrder]:
    """Return the rules that lead to one of the places that a rule leads to."""
    if to.is_everything:
        return index.about_name("host.invalid", question)
    if to.hosts:
        pattern = to.hosts[0]
        name = pattern.host.text
        return index.about_name(f"host.{name}" if pattern.is_wildcard else name, question)
    if to.networks:
        network = to.networks[0]
        number = (network.version, int(network.network_address))
        return index.about_addresses((number,), "", question)
    return index.about_name(to.urls[0].host.text, question)


def _covers(earlier: Rule, later: Rule) -> bool:
    """Tell whether a rule matches whenever a later one does, and is as much a refusal."""
    if earlier.looks_at_requests or earlier.content_types is not None:
        # What has not shown itself may be judged differently by the two.
        return False
    return (
        _covers_times(earlier, later)
        and _covers_networks(earlier.clients, later.clients)
        and _covers_networks(later.clients_except, earlier.clients_except)
        and _covers_users(earlier.users, later.users)
        and _covers_protocols(earlier, later)
        and _covers_targets(earlier, later)
    )


def _covers_times(earlier: Rule, later: Rule) -> bool:
    if earlier.schedule is not None and earlier.schedule is not later.schedule:
        return False
    if earlier.expires is None:
        return True
    return later.expires is not None and earlier.expires >= later.expires


def _covers_networks(wide: Sequence[IpNetwork], narrow: Sequence[IpNetwork]) -> bool:
    if wide is narrow or not narrow:
        return True
    networks = NetworkSet(wide)
    return all(map(networks.covers_network, narrow))


def _covers_users(wide: Sequence[str] | None, narrow: Sequence[str] | None) -> bool:
    if wide is None:
        return True
    if narrow is None:
        return False
    return ANY_USER in wide or set(narrow) <= set(wide)


def _covers_protocols(earlier: Rule, later: Rule) -> bool:
    if not all(_one_covers(later.protocols_except, one) for one in earlier.protocols_except):
        return False
    if not earlier.protocols:
        return True
    return bool(later.protocols) and all(
        _one_covers(earlier.protocols, one) for one in later.protocols
    )


def _one_covers(patterns: Iterable[ProtocolPattern], one: ProtocolPattern) -> bool:
    return any(pattern.covers(one) for pattern in patterns)


def _covers_targets(earlier: Rule, later: Rule) -> bool:
    wide, narrow = earlier.to, later.to
    excepted = earlier.to_except
    if not excepted.is_empty and excepted is not later.to_except:
        return False
    if wide.is_everything:
        if earlier.action.is_refusal:
            return True
        if narrow.networks and not _covers_networks(wide.networks, narrow.networks):
            return False  # "*" of a rule that allows is no address that is not public
        # A later refusal of everything there is refuses what "*" of this one does not allow.
        return not (narrow.is_everything and later.action.is_refusal)
    if narrow.is_everything or narrow.urls:
        return False
    if later.action.is_refusal and not earlier.action.is_refusal:
        return False
    return _covers_networks(wide.networks, narrow.networks) and _covers_hosts(
        wide.hosts, narrow.hosts
    )


def _covers_hosts(wide: Sequence[HostPattern], narrow: Sequence[HostPattern]) -> bool:
    if wide is narrow or not narrow:
        return True
    exact = {one.host.text for one in wide if not one.is_wildcard}
    below = {one.host.text for one in wide if one.is_wildcard}
    return all(_is_covered(one, exact, below) for one in narrow)


def _is_covered(one: HostPattern, exact: set[str], below: set[str]) -> bool:
    name = one.host.text
    if name in (below if one.is_wildcard else exact):
        return True
    start = name.find(".") + 1
    while start:
        if name[start:] in below:
            return True
        start = name.find(".", start) + 1
    return False
