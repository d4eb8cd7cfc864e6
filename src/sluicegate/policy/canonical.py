"""The canonical form of a policy: the bytes that its hash is of.

``snapshot`` hashes them. The invariant: everything that can change a decision, or what a filter
does, is in them, with objects replaced by what they stand for; owners, comments and the names of
files and objects are not, nor are rules that are not enabled.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from sluicegate.address import IpNetwork

from .model import Policy
from .rules import AnyRule, Publication, Rule

__all__ = ["canonical", "canonical_rules", "canonical_tables"]


def canonical(policy: Policy) -> bytes:
    """Return the bytes that stand for a policy."""
    rules = canonical_rules(policy).values()
    tree = {"rules": list(rules), **canonical_tables(policy)}
    return json.dumps(
        tree, sort_keys=True, separators=(",", ":"), ensure_ascii=True, default=str
    ).encode("ascii")


def canonical_rules(policy: Policy) -> dict[str, Mapping[str, object]]:
    """Return what stands for each publication and each rule, in order, by their names."""
    found = {one.name: _publication(one) for one in policy.publications if one.is_enabled}
    found.update((one.name, _rule(one)) for one in policy.rules if one.is_enabled)
    return found


def canonical_tables(policy: Policy) -> dict[str, object]:
    """Return what stands for everything beside them, by the tables of the file."""
    return {
        "names": policy.allows_underscores,
        "flood": policy.flood.canonical(),
        "network_rule": [
            {
                "name": one.name,
                "from": _texts(one.sources),
                "to": _texts(one.targets),
                "relation": one.relation,
                "address": one.address,
            }
            for one in policy.network_rules
        ],
        "system": {
            purpose: [one.is_enabled, None if one.to is None else _texts(one.to)]
            for purpose, one in policy.system.rules.items()
        },
        "learn": [
            [one.name, _texts(one.clients), one.until, _sorted(one.listeners)]
            for one in policy.learn
        ],
    }


def _publication(one: Publication) -> Mapping[str, object]:
    return {
        **_shared(one),
        "listener": one.listener,
        "server": str(one.server),
        "send_proxy_protocol": one.send_proxy_protocol,
        "http": one.is_http,
        "upgrades": sorted(one.upgrades),
        "server_tls": None if one.server_tls is None else one.server_tls.text,
    }


def _rule(one: Rule) -> Mapping[str, object]:
    return {
        **_shared(one),
        "action": one.action,
        "listeners": _sorted(one.listeners),
        "users": _sorted(one.users),
        "to": one.to.texts(),
        "to_except": one.to_except.texts(),
        "protocols": sorted(map(str, one.protocols)),
        "protocols_except": sorted(map(str, one.protocols_except)),
        "methods": sorted(one.methods),
        "upgrades": sorted(one.upgrades),
        "paths": sorted(map(str, one.paths)),
        "content_types": None if one.content_types is None else one.content_types.texts(),
    }


def _shared(one: AnyRule) -> Mapping[str, object]:
    return {
        "name": one.name,
        "clients": _texts(one.clients),
        "clients_except": _texts(one.clients_except),
        "filters": one.filters,
        "settings": {name: dict(chosen) for name, chosen in one.settings.items()},
        "schedule": None if one.schedule is None else one.schedule.canonical(),
        "expires": one.expires,
        "limits": one.limits.canonical(),
        "secondary": None if one.secondary is None else sorted(map(str, one.secondary)),
        "held": one.held.canonical(),
        "tls": None if one.tls is None else one.tls.canonical(),
    }


def _texts(networks: Iterable[IpNetwork]) -> list[str]:
    return sorted({str(network) for network in networks})


def _sorted(names: Iterable[str] | None) -> list[str] | None:
    return None if names is None else sorted(set(names))
