"""``[[rule]]`` of ``policy.toml``: who may name which destinations, read exactly.

``parse`` hands over the checked tables; what is left is what a table's types cannot say. The
invariant: a host in a rule is canonical as clients' hosts are made, or it is refused with the
canonical form: a rule never means a spelling.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from types import MappingProxyType
from typing import Annotated, Final, TypeVar

from pydantic import Field, PlainValidator

from sluicegate.address import IpNetwork
from sluicegate.documents import Document, Findings, Model, Wrong
from sluicegate.names import HostPattern, HostRefused

from .model import ANY_USER, GROUP_PREFIX, ProtocolPattern, Rule, RuleAction, Targets
from .parse_values import Name, parse_network

__all__ = ["IsPublicSuffix", "RuleTable", "parse_protocol", "parse_target", "to_rules"]

IsPublicSuffix = Callable[[str], bool]
"""Whether anybody may register names right below a canonical name (``com``, ``co.uk``)."""

ValueT = TypeVar("ValueT")


class RuleTable(Model, arbitrary_types_allowed=True):
    """One ``[[rule]]`` table."""

    name: Name = Field(examples=["packages"])
    action: RuleAction = Field(examples=["allow"])
    listener: Name = Field(examples=["proxy"])
    clients: Annotated[
        tuple[Annotated[IpNetwork, PlainValidator(parse_network)], ...], Field(min_length=1)
    ] = Field(examples=[["10.0.0.0/8"]])
    users: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    to: Annotated[tuple[str, ...], Field(min_length=1)] = Field(
        examples=[["example.org", "*.example.org"]]
    )
    protocols: tuple[str, ...] = Field(default=(), examples=[["tcp:443"]])
    filters: tuple[Name, ...] = ()
    settings: dict[str, dict[str, object]] = Field(default_factory=dict)
    owner: str = ""
    comment: str = ""


def to_rules(
    tables: Sequence[RuleTable],
    document: Document,
    findings: Findings,
    is_public_suffix: IsPublicSuffix,
    *,
    allow_underscore: bool,
) -> tuple[Rule, ...]:
    """Make the rules of checked tables; what is wrong with their texts goes into ``findings``."""
    rules: list[Rule] = []
    for index, table in enumerate(tables):
        at = _At(document, findings, index)
        rules.append(
            Rule(
                name=table.name,
                action=table.action,
                listener=table.listener,
                clients=table.clients,
                to=_targets(table, at, is_public_suffix, allow_underscore=allow_underscore),
                protocols=_protocols(table, at),
                users=_users(table, at),
                filters=table.filters,
                settings=MappingProxyType(
                    {name: MappingProxyType(chosen) for name, chosen in table.settings.items()}
                ),
                owner=table.owner,
                comment=table.comment,
            )
        )
        if table.action is RuleAction.DENY and table.filters:
            at.refuse(("filters",), "a rule that denies runs no filters", 'remove "filters"')
    return tuple(rules)


def parse_protocol(text: str) -> ProtocolPattern:
    """Read ``tcp``, ``tcp:443`` or ``tcp:8000-8999``.

    Raises:
        Wrong: It is none of them.
    """
    found = _PROTOCOL.fullmatch(text)
    if found is None or found["protocol"] not in PROTOCOLS:
        raise Wrong(f"is {text!r}, which is no protocol", _PROTOCOL_CURE)
    if found["first"] is None:
        return ProtocolPattern(found["protocol"])
    first = int(found["first"])
    last = int(found["last"] or first)
    if not 0 < first <= last <= _PORT_MAX:
        raise Wrong(f"is {text!r}: ports are 1 to {_PORT_MAX}, the lower one first", _PROTOCOL_CURE)
    return ProtocolPattern(found["protocol"], first, last)


def parse_target(text: str, *, allow_underscore: bool = False) -> HostPattern | IpNetwork | None:
    """Read one host, wildcard, address or network of ``to``; None stands for ``*``.

    Raises:
        Wrong: It is none of them, or not written canonically.
    """
    if text == "*":
        return None
    if "/" in text:
        return parse_network(text)
    try:
        pattern = HostPattern.parse(text, allow_underscore=allow_underscore)
    except HostRefused as error:
        raise Wrong(f"is {text!r}, which no client's host can be: {error.hint}", _TO_CURE) from None
    return parse_network(text) if pattern.host.is_address else pattern


class _At:
    """Where findings about one rule belong."""

    def __init__(self, document: Document, findings: Findings, index: int) -> None:
        self._document = document
        self._findings = findings
        self._index = index

    def refuse(self, path: tuple[str | int, ...], cause: str, cure: str = "") -> None:
        """Add an error about a key of the rule."""
        self._findings.refuse(self._document.where(("rule", self._index, *path)), cause, cure)

    def each(
        self, key: str, texts: Sequence[str], parse: Callable[[str], ValueT]
    ) -> list[tuple[int, ValueT]]:
        """Parse each text of a list; what is wrong, or stands there twice, is refused."""
        parsed: list[tuple[int, ValueT]] = []
        for place, text in enumerate(texts):
            if text in texts[:place]:
                self.refuse((key, place), f"{text!r} is listed twice")
                continue
            try:
                parsed.append((place, parse(text)))
            except Wrong as wrong:
                self.refuse((key, place), wrong.cause, wrong.cure)
        return parsed


def _targets(
    table: RuleTable, at: _At, is_public_suffix: IsPublicSuffix, *, allow_underscore: bool
) -> Targets:
    parsed = at.each(
        "to", table.to, lambda text: parse_target(text, allow_underscore=allow_underscore)
    )
    hosts: list[HostPattern] = []
    networks: list[IpNetwork] = []
    is_everything = False
    for place, target in parsed:
        if target is None:
            is_everything = True
        elif not isinstance(target, HostPattern):
            networks.append(target)
        elif (
            target.is_wildcard
            and table.action is RuleAction.ALLOW
            and is_public_suffix(target.host.text)
        ):
            at.refuse(
                ("to", place),
                f"is {str(target)!r}: anybody can register a name below {target.host.text!r}",
                'name the sites; "*" is every public destination, if that is meant',
            )
        else:
            hosts.append(target)
    return Targets(is_everything, tuple(hosts), tuple(networks))


def _protocols(table: RuleTable, at: _At) -> tuple[ProtocolPattern, ...]:
    if not table.protocols and table.action is RuleAction.ALLOW:
        at.refuse(("protocols",), "is missing: a rule that allows says what", _PROTOCOL_CURE)
    return tuple(pattern for _, pattern in at.each("protocols", table.protocols, parse_protocol))


def _users(table: RuleTable, at: _At) -> tuple[str, ...] | None:
    if table.users is None:
        return None
    return tuple(name for _, name in at.each("users", table.users, _parse_user))


def _parse_user(text: str) -> str:
    if text == ANY_USER or _USER.fullmatch(text.removeprefix(GROUP_PREFIX)):
        return text
    raise Wrong(f"is {text!r}, which is no user", 'for example "ann", "group:staff" or "*"')


PROTOCOLS: Final = frozenset({"bind", "tcp", "udp"})
"""What a client may ask for."""

_PORT_MAX: Final = 65535
_PROTOCOL: Final = re.compile(
    r"(?P<protocol>[a-z]+)(?::(?P<first>[1-9][0-9]{0,4})(?:-(?P<last>[1-9][0-9]{0,4}))?)?", re.ASCII
)
_PROTOCOL_CURE: Final = 'for example ["tcp:443", "tcp:8000-8999"], or ["tcp"] for every port'
_TO_CURE: Final = 'for example "example.org", "*.example.org", "192.0.2.0/24", or "*"'
_USER: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}", re.ASCII)
