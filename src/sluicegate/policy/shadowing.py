"""Rules that never decide, because earlier ones always do: for whoever checks a policy.

``app`` warns of what ``shadowed_rules`` finds. The invariant: what is reported is really covered,
by one earlier rule, whatever is asked and whenever; what several cover together is not found.

A rule that refuses does more than decide: its names and networks are held against what other names
lead to, for the sake of rules behind it. So it is only called covered where an earlier rule refuses
the same, or leaves nothing for later rules to decide.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from sluicegate.address import IpNetwork
from sluicegate.names import CanonicalHost, HostPattern

from .compiled_rule import CompiledRule
from .networks import NetworkSet
from .protocols import ProtocolPattern
from .request import DestinationRequest, Question
from .rule_index import InOrder, RuleIndex
from .rules import ANY_USER, Rule, Targets
from .snapshot import PolicySnapshot

__all__ = ["shadowed_rules"]


def shadowed_rules(
    snapshot: PolicySnapshot, listeners: Iterable[str]
) -> Iterator[tuple[Rule, Rule]]:
    """Yield each rule that never decides, with an earlier one that does in its place.

    Args:
        snapshot: The policy.
        listeners: All proxy listeners.
    """
    covers: dict[str, Rule | None] = {}
    rules: dict[str, Rule] = {}
    for name in listeners:
        index = snapshot.rules_of(name)
        if index is None:
            continue
        for one in index.rules:
            if one.rule.is_enabled:
                rules[one.rule.name] = one.rule
                found = _cover_of(one, index)
                known = covers.setdefault(one.rule.name, found)
                # On every listener, or it is of use on one.
                covers[one.rule.name] = found and known
    for name, cover in covers.items():
        if cover is not None:
            yield rules[name], cover


def _cover_of(one: CompiledRule, index: RuleIndex) -> Rule | None:
    """Return the first rule before one that decides whatever it would."""
    rule = one.rule
    if not rule.clients or rule.to.is_empty:
        return None
    client = rule.clients[0].network_address
    question = Question(DestinationRequest(client, CanonicalHost("host.invalid"), 1), 0)
    orders: set[int] = set()
    for found in _about(rule.to, index, question):
        orders.update(earlier.order for earlier in found if earlier.order < one.order)
    for order in sorted(orders):
        earlier = index.rules[order].rule
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
