"""PastDecision: a decision that a gate recorded, and the question that it was the answer to.

``why`` and ``simulate`` read records with it. The invariant: what a record does not tell is not
made up: a record that cannot be asked about again says why not.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, cast

from sluicegate.address import IpAddress, SocketAddress
from sluicegate.audit.query import LogLine, host_of
from sluicegate.filterapi import User
from sluicegate.names import Authority, HostRefused, LookupReason, parse_authority
from sluicegate.policy import AnyRule, HttpPart, PathRefused, canonical_path
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
from sluicegate.policy.paths import DEFAULT_PORTS
from sluicegate.web_limits import WEB_URL_RECORDED_CHARACTERS_MAX

from .asked import Asked, Protocol
from .offline_gate import OfflineGate

__all__ = [
    "Cause",
    "PastDecision",
    "Unanswerable",
    "ask_again",
    "cause_of",
    "rule_of",
    "target_of",
]

_BY_POLICY: Final = frozenset(
    {
        PUBLISHED, CLIENT_NOT_LISTED, NOT_NOW, NOT_PUBLISHED, ALLOWED_BY_RULE, DENIED_BY_RULE,
        NO_RULE, USER_NEEDED, CANNOT_BE_JUDGED, LEARNING, NO_NETWORK_RULE,
    }
)  # fmt: skip

_BY_ADDRESS: Final = frozenset(
    {LookupReason.ALIAS_DENIED, LookupReason.ADDRESS_DENIED, LookupReason.ADDRESSES_MIXED}
)
"""Refusals of what a name led to."""

_UNHEARD: Final = frozenset({CLIENT_NOT_LISTED, NO_RULE})
"""Why a proxy listener does not hear a client at all."""

_ASSOCIATION: Final = "udp-associate"
"""The target of an association itself."""


@dataclass(frozen=True, slots=True)
class PastDecision:
    """What a decision record says, or that of an HTTP request; texts are as they stand there."""

    time: float
    connection: str
    session: str
    client: str
    listener: str
    is_allowed: bool
    reason: str
    policy: str
    rule: str
    target: str
    filter: str
    transport: str
    primary: str
    entry: str
    user: str
    protocol: str
    addresses: tuple[str, ...] | None
    request: str = ""
    """The identifier of an HTTP request; empty: it was a connection that was decided on."""
    method: str = ""
    url: str = ""

    @classmethod
    def of(cls, line: LogLine) -> PastDecision | None:
        """Read a record; None when it is no decision, or a broken one."""
        fields, time = line.fields, line.fields.get("time")
        kind, verdict = fields.get("kind"), fields.get("verdict")
        if (
            kind not in {"decision", "request"}
            or not isinstance(time, int | float)
            or verdict not in {"allowed", "denied"}
        ):
            return None
        text = line.text
        is_allowed, reason = verdict == "allowed", text("reason")
        if is_allowed and _was_refused_later(line):
            is_allowed, reason = False, text("ended")
        return cls(
            time=float(time),
            connection=text("connection"),
            session=text("session"),
            client=text("client"),
            listener=text("listener"),
            is_allowed=is_allowed,
            reason=reason,
            policy=text("policy"),
            rule=text("rule"),
            target=target_of(text("url")) if kind == "request" else text("target"),
            filter=text("filter"),
            transport=text("transport"),
            primary=text("primary"),
            entry=text("entry"),
            user=text("user"),
            protocol=text("protocol"),
            # (A request has them only where it looked its name up.)
            addresses=_texts(fields, "addresses"),
            request=text("request") if kind == "request" else "",
            method=text("method") if kind == "request" else "",
            url=text("url") if kind == "request" else "",
        )

    @property
    def shown(self) -> str:
        """What was asked for, in words."""
        return f"{self.method} {self.url}" if self.request else self.target

    @property
    def code(self) -> str:
        """The reason without its details."""
        return self.reason.partition(":")[0]


def _was_refused_later(line: LogLine) -> bool:
    """Tell whether what a request's name led to refused it: that is part of what was decided."""
    if line.fields.get("kind") != "request" or line.fields.get("outcome") == "released":
        return False
    code = line.text("ended").partition(":")[0]
    return code in _BY_ADDRESS or code == NO_NETWORK_RULE or code.startswith("dns-")


def target_of(url: str) -> str:
    """Return host and port of a URL, as decisions have them; empty: it has none."""
    scheme, separator, rest = url.partition("://")
    authority = rest.partition("/")[0]
    if not separator or not authority:
        return ""
    has_port = ":" in authority.rpartition("]")[2]
    return authority if has_port else f"{authority}:{DEFAULT_PORTS.get(scheme, 80)}"


def _http_of(past: PastDecision) -> HttpPart | None:
    """Return what a gate's rules saw of a request; None: its path has no reading."""
    scheme, _, rest = past.url.partition("://")
    try:
        return HttpPart(past.method, canonical_path("/" + rest.partition("/")[2]), scheme)
    except PathRefused:
        return None


def _texts(fields: Mapping[str, object], name: str) -> tuple[str, ...] | None:
    found = fields.get(name)
    if not isinstance(found, list):
        return None
    return tuple(map(str, cast("list[object]", found)))


class Cause:
    """What refused or allowed something in the past."""

    POLICY = "policy"
    ADDRESSES = "addresses"
    """What its name led to, as the policy judged it."""
    LIMIT = "limit"
    FILTER = "filter"
    DESTINATION = "destination"
    """It named none that has a reading."""
    LOOKUP = "lookup"
    OTHER = "other"


def cause_of(past: PastDecision) -> str:
    """Say what decided: one of ``Cause``."""
    code = past.code
    if past.is_allowed or past.reason in _BY_POLICY:
        return Cause.POLICY
    if code in _BY_ADDRESS:
        return Cause.ADDRESSES
    if past.reason.startswith("limit "):
        return Cause.LIMIT
    if past.filter or code == "filter failure":
        return Cause.FILTER
    if code.startswith(("host-", "port-")):
        return Cause.DESTINATION
    if code.startswith("dns-") or code == LookupReason.SPECIAL_NAME:
        return Cause.LOOKUP
    return Cause.OTHER


@dataclass(frozen=True, slots=True)
class Unanswerable:
    """A record that cannot be asked about again."""

    why: str


def ask_again(past: PastDecision, gate: OfflineGate) -> Asked | Unanswerable:
    """Return the question that a decision was the answer to, for a gate with other files."""
    if past.listener not in gate.entries:
        return Unanswerable("its listener is not in the configuration")
    if past.primary and past.transport != "udp":
        return Unanswerable("another connection announced it, and it follows that one")
    client = _client_of(host_of(past.client))
    if client is None:
        return Unanswerable("its client is no address")
    if not gate.is_proxy(past.listener):
        return Asked(past.listener, client, past.time)
    return _ask_proxy(past, gate, client)


def _ask_proxy(
    past: PastDecision, gate: OfflineGate, client: SocketAddress
) -> Asked | Unanswerable:
    user = _user_of(past, gate)
    if isinstance(user, Unanswerable):
        return user
    if past.target == _ASSOCIATION:
        return Asked(past.listener, client, past.time, protocol="associate", user=user)
    if not past.target:
        if past.reason in _UNHEARD and not gate.hears(past.listener, client):
            return Asked(past.listener, client, past.time)
        return Unanswerable("its client was turned away before it named a destination")
    authority = _authority_of(past.target, gate.policy.policy.allows_underscores)
    if authority is None:
        return Unanswerable("its destination has no reading")
    if len(past.url) >= WEB_URL_RECORDED_CHARACTERS_MAX:
        return Unanswerable("its URL is longer than what records have of one")
    return Asked(
        past.listener,
        client,
        past.time,
        authority.host,
        authority.port,
        _protocol_of(past),
        user,
        None if past.addresses is None else _addresses_of(past.addresses),
        http=_http_of(past) if past.request else None,
        is_web_request=bool(past.request),
    )


def rule_of(gate: OfflineGate, name: str) -> AnyRule | None:
    """Return the rule, publication or time of learning that records name so."""
    return next((one for one in gate.policy.policy.planned_rules if one.name == name), None)


def _user_of(past: PastDecision, gate: OfflineGate) -> User | Unanswerable | None:
    if not past.user:
        return None
    known = gate.find_user(past.user)
    if known is None and gate.has_groups:
        return Unanswerable(
            "its user's groups are not known: the users file does not have the user"
        )
    return known or User(past.user, (), "")


def _protocol_of(past: PastDecision) -> Protocol:
    if past.protocol in {"tcp", "udp", "bind"}:
        return cast("Protocol", past.protocol)
    return "udp" if past.transport == "udp" else "tcp"


@lru_cache(maxsize=4096)
def _client_of(text: str) -> SocketAddress | None:
    try:
        return SocketAddress(str(ipaddress.ip_address(text)), 0)
    except ValueError:
        return None


@lru_cache(maxsize=16384)
def _authority_of(text: str, allow_underscore: bool) -> Authority | None:
    try:
        return parse_authority(text, allow_underscore=allow_underscore)
    except HostRefused:
        return None


@lru_cache(maxsize=16384)
def _addresses_of(texts: tuple[str, ...]) -> tuple[IpAddress, ...] | None:
    try:
        return tuple(map(ipaddress.ip_address, texts))
    except ValueError:
        return None
