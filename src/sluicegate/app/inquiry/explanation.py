"""Explanation: an answer with everything that led to it, ready to be shown or written as JSON.

``explain_asked`` makes one for ``explain`` and ``why``; ``cli.explained`` prints it. The invariant:
it holds texts and numbers only, and all that is in it comes from the decision that it explains.
"""

from __future__ import annotations

from typing import Final

import msgspec

from sluicegate.gate.parent_tunnel import PARENT_MEANINGS
from sluicegate.gate.server_tls import NO_AUTHORITIES
from sluicegate.names import Destination, JudgedAddress, Unresolved
from sluicegate.policy import (
    AnyRule,
    DestinationExplanation,
    LearnEntry,
    Level,
    Publication,
    RuleLimits,
    RuleTrace,
)
from sluicegate.policy.decision import CLIENT_NOT_LISTED, NOT_NOW, NOT_PUBLISHED, PUBLISHED
from sluicegate.policy.destinations import (
    ALLOWED_BY_RULE,
    CANNOT_BE_JUDGED,
    DENIED_BY_RULE,
    NO_RULE,
    USER_NEEDED,
)
from sluicegate.policy.learn import LEARNING
from sluicegate.policy.network_rules import NO_NETWORK_RULE
from sluicegate.policy.tls_check import TLS_MEANINGS
from sluicegate.tls import ServerFault
from sluicegate.tls.leaf_fault import LeafFault

from .asked import Asked
from .hello_explanation import HelloView, explain_hello
from .holding_view import HoldingView, holding_of, seen_by
from .offline_gate import Decided, OfflineGate
from .own_tls_explanation import explain_own_tls

__all__ = [
    "AddressView",
    "Explanation",
    "FilterUse",
    "LackView",
    "LookupView",
    "RuleView",
    "TraceView",
    "explain_asked",
    "meaning_of",
]


class LackView(msgspec.Struct, kw_only=True):
    """One condition of a rule that did not hold."""

    key: str
    """The key of the rule."""
    text: str
    """What was missing."""
    written: tuple[str, ...] = ()
    """What the rule says under that key."""
    is_unknown: bool = False
    """It may hold once more is seen: an HTTP request, an object."""


class FilterUse(msgspec.Struct, kw_only=True):
    """One filter that would run."""

    name: str
    kind: str
    """``filter``, ``content``, ``stream``, ``data`` …; empty when it is not installed."""
    is_bound: bool = False
    """The protocol brings it, not the rule."""
    on_failure: str = ""
    sees: dict[str, str] = {}
    """Of a web filter: ``headers``, ``stream`` or ``object`` of the ``request`` and ``response``.
    """


class RuleView(msgspec.Struct, kw_only=True):
    """A rule, a publication, or a time of learning."""

    name: str
    kind: str
    """The table that it is written in: ``rule``, ``publish`` or ``learn``."""
    action: str
    owner: str = ""
    comment: str = ""
    expires: float | None = None
    """Seconds since the epoch (UTC)."""


class TraceView(msgspec.Struct, kw_only=True):
    """What a rule before the one that decided lacked."""

    rule: str
    lacks: list[LackView]


class AddressView(msgspec.Struct, kw_only=True):
    """One address, as it was judged."""

    address: str
    address_class: str
    why: str
    may_be_dialled: bool
    denial: str = ""
    network_rule: str = ""
    """Its name; empty: none names client and address."""
    relation: str = "nat"
    """Whose address the server sees: ``route``: the client's; ``nat``: the gate's."""


class LookupView(msgspec.Struct, kw_only=True):
    """What the host leads to."""

    state: str
    """``not-asked``, ``not-allowed`` (what is refused is never looked up), ``found``, ``refused``.
    """
    reason: str = ""
    addresses: list[AddressView] = []
    aliases: list[str] = []


class Explanation(msgspec.Struct, kw_only=True):
    """An answer, and how it came about."""

    allowed: bool
    action: str
    """What is done: ``allow``, ``deny``, ``reset``, ``inspect``."""
    reason: str
    """As records write it."""
    meaning: str
    """The same in words."""
    policy: str
    """SHA-256 of the policy."""
    at: float
    """For when, in seconds since the epoch (UTC)."""
    client: str
    listener: str
    host: str = ""
    """Canonical; empty where clients name none."""
    port: int = 0
    protocol: str = "tcp"
    method: str = ""
    """Of an HTTP request."""
    path: str = ""
    """The one reading of its path; empty: it is no request, or its path has none."""
    user: str = ""
    groups: tuple[str, ...] = ()
    rule: RuleView | None = None
    """That decided; none when none did."""
    unknown: list[LackView] = []
    """Of that rule: what has not shown itself."""
    before: list[TraceView] = []
    """The rules before it, or all, in order."""
    asked_again: list[str] = []
    """What has to be asked about again: ``request``, ``transfer``."""
    server: str = ""
    """Of a publication."""
    lookup: LookupView | None = None
    filters: list[FilterUse] = []
    limits: dict[str, float] = {}
    holds: HoldingView | None = None
    """Which objects wait for a verdict; none: nothing is held."""
    hello: HelloView | None = None
    """What is wanted of the ClientHello; none: nothing, or no connection is allowed."""


_MEANINGS: Final[dict[str, str]] = {
    PUBLISHED: "a publication names the client",
    CLIENT_NOT_LISTED: "no rule of this listener names the client",
    NOT_NOW: "publications name the client, at other times",
    NOT_PUBLISHED: "nothing is published at this listener",
    ALLOWED_BY_RULE: "a rule allows it",
    DENIED_BY_RULE: "a rule refuses it",
    NO_RULE: "no rule speaks of it, and what no rule allows is refused",
    USER_NEEDED: "rules allow it to users, and the client has not proved to be one",
    CANNOT_BE_JUDGED: "a rule that refuses may speak of it, by what a connection does not show",
    LEARNING: "no rule speaks of it; it passes to be learned from, for a time",
    NO_NETWORK_RULE: "no network rule names the client's network and the server's",
    NO_AUTHORITIES: "nobody is known who could vouch for servers",
    **PARENT_MEANINGS,
    **TLS_MEANINGS,
    **{fault.code: fault.hint for fault in (*ServerFault, *LeafFault)},
}


def meaning_of(reason: str) -> str:
    """Say a reason code in words, also one with what it is about; empty if it is words already."""
    return _MEANINGS.get(reason) or _MEANINGS.get(reason.partition(":")[0], "")


def explain_asked(
    gate: OfflineGate, asked: Asked, decided: Decided | None = None, named: Decided | None = None
) -> Explanation:
    """Explain what a gate would answer.

    Args:
        gate: Whose answer it is.
        asked: What is asked.
        decided: The answer, where it is known already what the name leads to.
        named: The answer about the name in a ClientHello that has to lead to an address.
    """
    at_first, told = gate.explain(asked)
    decided = at_first if decided is None else decided
    rule = decided.rule
    destination = decided.destination
    decider = told.decider if isinstance(told, DestinationExplanation) else None
    action = "allow" if rule is None or isinstance(rule, Publication) else rule.action.value
    if not decided.is_allowed and (rule is None or not _refuses(rule)):
        action = "deny"
    hello = None
    if decided.is_allowed:
        hello = explain_own_tls(gate, asked) or explain_hello(asked, rule, named)
    is_allowed, reason = decided.is_allowed, decided.reason
    if hello is not None and hello.reason:
        # What a hello does not pass is reset: there is nobody yet who would read an answer.
        is_allowed, reason, action = False, hello.reason, "reset"
    return Explanation(
        allowed=is_allowed,
        action=action,
        reason=reason,
        meaning=meaning_of(reason),
        policy=gate.policy.hash,
        at=asked.at,
        client=str(asked.client.ip),
        listener=asked.listener,
        host="" if asked.host is None else asked.host.text,
        port=asked.port,
        protocol=asked.protocol,
        method="" if asked.http is None else asked.http.method,
        path="" if asked.http is None else asked.http.path,
        user="" if asked.user is None else asked.user.name,
        groups=() if asked.user is None else asked.user.groups,
        rule=None if rule is None else _view_of(gate, rule),
        unknown=[] if decider is None else _lacks_of(decider),
        before=[TraceView(rule=one.rule.name, lacks=_lacks_of(one)) for one in told.before],
        asked_again=[] if destination is None else _levels(destination.asks_again),
        server=str(rule.server) if isinstance(rule, Publication) else "",
        lookup=_lookup_of(gate, asked, decided),
        filters=[] if rule is None or not decided.is_allowed else _filters_of(gate, rule),
        limits={} if rule is None or not decided.is_allowed else _limits_of(rule.limits),
        holds=None
        if rule is None or not decided.is_allowed
        else holding_of(gate.loaded.filters, rule),
        hello=hello,
    )


def _refuses(rule: AnyRule) -> bool:
    return not isinstance(rule, Publication) and rule.action.is_refusal


def _view_of(gate: OfflineGate, rule: AnyRule) -> RuleView:
    learned: LearnEntry | None = next(
        (one for one in gate.policy.policy.learn if one.rule is rule), None
    )
    kind = "publish" if isinstance(rule, Publication) else "rule" if learned is None else "learn"
    return RuleView(
        name=rule.name if learned is None else learned.name,
        kind=kind,
        action="allow" if isinstance(rule, Publication) else rule.action.value,
        owner=rule.owner,
        comment=rule.comment,
        expires=rule.expires,
    )


def _lacks_of(trace: RuleTrace) -> list[LackView]:
    written = trace.rule.written
    return [
        LackView(
            key=one.key,
            text=one.text,
            written=written.get(one.key, ()),
            is_unknown=one.is_unknown,
        )
        for one in trace.lacks
    ]


def _levels(level: Level) -> list[str]:
    names = {Level.REQUEST: "request", Level.TRANSFER: "transfer"}
    return [name for one, name in names.items() if level & one]


def _filters_of(gate: OfflineGate, rule: AnyRule) -> list[FilterUse]:
    """Return the filters of a rule, in the order in which they are asked; bound ones first."""
    found: list[FilterUse] = []
    for name in rule.filters:
        made = gate.loaded.filters.made(name)
        found.append(
            FilterUse(
                name=name,
                kind="" if made is None else made.tier,
                is_bound=name in rule.bound_filters,
                on_failure="" if made is None else made.installation.on_failure.value,
                sees=seen_by(gate.loaded.filters, rule, name),
            )
        )
    return found


def _limits_of(limits: RuleLimits) -> dict[str, float]:
    written = {
        "connections_max": limits.connections_max,
        "bytes_max": limits.bytes_max,
        "duration_s": limits.duration_s,
        "idle_timeout_s": limits.idle_timeout_s,
        "window_bytes_min": limits.window_bytes_min,
        "url_bytes_max": limits.url_bytes_max,
        "head_bytes_max": limits.head_bytes_max,
        "request_bytes_max": limits.request_bytes_max,
        "response_bytes_max": limits.response_bytes_max,
        "response_timeout_s": limits.response_timeout_s,
    }
    return {name: value for name, value in written.items() if value is not None}


def _lookup_of(gate: OfflineGate, asked: Asked, decided: Decided) -> LookupView | None:
    found = decided.found
    if asked.host is None:
        return None
    if found is None:
        return LookupView(state="not-asked" if decided.is_allowed else "not-allowed")
    state = "refused" if isinstance(found, Unresolved) else "found"
    return LookupView(
        state=state,
        reason=f"{found.reason}: {found.detail}" if isinstance(found, Unresolved) else "",
        addresses=[_address_of(gate, asked, found, one) for one in found.addresses],
        aliases=[one.text for one in found.aliases],
    )


def _address_of(
    gate: OfflineGate, asked: Asked, found: Destination | Unresolved, one: JudgedAddress
) -> AddressView:
    judgement = one.judgement
    relation = gate.find_relation(asked, judgement.address)
    is_refused = relation is None and gate.policy.network_relations.are_written
    denial = "" if one.denial is None else one.denial.reason
    if not denial and is_refused:
        denial = NO_NETWORK_RULE
    return AddressView(
        address=str(judgement.address),
        address_class=judgement.address_class.value,
        why=judgement.why,
        may_be_dialled=not denial and isinstance(found, Destination),
        denial=denial,
        network_rule="" if relation is None else relation.name,
        relation="nat" if relation is None else relation.relation.value,
    )
