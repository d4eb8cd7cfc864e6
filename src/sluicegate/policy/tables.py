"""The tables of ``policy.toml`` as types: which keys there are, and what each of them takes.

``parse`` checks each file against them, ``schema`` publishes them. The invariant: what a type can
say is said here, so that the schema that editors use and the check at load are one; what needs
other tables, or the time, is checked after it.
"""

from __future__ import annotations

import ipaddress
from typing import Annotated, Any, Literal, cast

from pydantic import (
    BeforeValidator,
    Field,
    GetJsonSchemaHandler,
    PlainValidator,
    StringConstraints,
    model_validator,
)
from pydantic_core import CoreSchema
from typing_extensions import override

from sluicegate.address import IpNetwork, SocketAddress
from sluicegate.documents import Model, Name, Wrong, either, parse_size

from .delivery import DEFAULT_DELIVERY, DeliveryMethod
from .flood import FloodTable
from .network_rules import NetworkRelation
from .parse_values import Instant, NetworkEntry, parse_ip, parse_network, parse_server
from .protocols import Direction
from .rules import RuleAction, SendProxyProtocol
from .tls_tables import PublishTlsTable, RuleTlsTable, TlsTable

__all__ = [
    "DeliveryTable",
    "HeldTable",
    "IncludedTables",
    "LearnTable",
    "LimitsTable",
    "ListTable",
    "MainTables",
    "NetworkRuleTable",
    "ObjectTables",
    "PathTable",
    "ProtocolTable",
    "PublishTable",
    "RuleTable",
    "ScheduleTable",
    "SystemTables",
]


class _Table(Model, arbitrary_types_allowed=True, use_attribute_docstrings=True):
    """A table whose keys are described where they are declared."""


def _list_of(value: object) -> object:
    """Take one value for a list of it."""
    if isinstance(value, list):
        return tuple(cast("list[object]", value))
    return (value,) if isinstance(value, str) else value


Listeners = Annotated[
    tuple[Name, ...],
    BeforeValidator(_list_of, json_schema_input_type=Name | list[Name]),
    Field(min_length=1, examples=["proxy"]),
]
Network = Annotated[IpNetwork, PlainValidator(parse_network, json_schema_input_type=str)]
Size = Annotated[int, BeforeValidator(parse_size, json_schema_input_type=int | str), Field(ge=1)]
Server = Annotated[SocketAddress, PlainValidator(parse_server, json_schema_input_type=str)]
Address = Annotated[
    ipaddress.IPv4Address | ipaddress.IPv6Address,
    PlainValidator(parse_ip, json_schema_input_type=str),
]
Texts = tuple[str, ...]
Upgrades = tuple[
    Annotated[str, StringConstraints(pattern=r"^[!#$%&'*+\-.^_`|~0-9A-Za-z]+(?:/[0-9A-Za-z.]+)?$")],
    ...,
]
"""Protocols as ``Upgrade`` names them (RFC 9110, section 7.8)."""
SomeTexts = Annotated[Texts, Field(min_length=1)]
Clients = Annotated[tuple[NetworkEntry, ...], Field(min_length=1)]


class LimitsTable(_Table):
    """``limits`` of a rule: bounds of what its connections may take."""

    connections_max: int | None = Field(default=None, ge=1, le=1 << 31)
    """Open at once."""
    bytes_max: Size | None = None
    """Of one connection, both directions together."""
    duration_s: float | None = Field(default=None, gt=0, le=366 * 86400)
    """Of one connection."""
    idle_timeout_s: float | None = Field(default=None, gt=0, le=366 * 86400)
    """Without a byte in either direction."""
    window_bytes_min: int | None = Field(default=None, ge=0, le=1 << 40)
    """What bodies of HTTP, and clients that take them, have to move within each ``web_window_s``;
    0: as slowly as they like."""
    url_bytes_max: Size | None = None
    """Of a request of HTTP: scheme, host, path and query."""
    head_bytes_max: Size | None = None
    """Of a request of HTTP: method, URL and fields."""
    request_bytes_max: Size | None = None
    """Of the body of a request of HTTP."""
    response_bytes_max: Size | None = None
    """Of the body of a response of HTTP."""
    response_timeout_s: float | None = Field(default=None, gt=0, le=366 * 86400)
    """How long a server of HTTP that is to answer may say nothing."""


class DeliveryTable(_Table):
    """One of ``held.delivery`` of a rule: how objects of some types are delivered."""

    method: DeliveryMethod
    """What the receiver gets before the verdict."""
    content_types: Texts = ()
    """MIME types, extensions, and ``@names`` of them; none: all."""
    after_s: float = Field(default=DEFAULT_DELIVERY.after_s, ge=0, le=86400)
    """For so long nothing is sent."""


class HeldTable(_Table):
    """``held`` of a rule: what becomes of objects while they are held."""

    delivery: tuple[DeliveryTable, ...] = ()
    """The first that fits counts; what fits none is trickled."""
    unknown_codings: Literal["refuse", "judge"] = "refuse"
    """What becomes of a body in a content coding that the gate cannot read: nobody gets it, or its
    coded bytes are judged as they are."""


class PathTable(_Table):
    """One path of a rule: ``"/stable/*"``, or ``{ pattern = "/v[0-9]+/.*" }``."""

    path: str | None = None
    pattern: str | None = None
    """A regular expression (RE2) that has to match the whole path."""

    @override
    @classmethod
    def __get_pydantic_json_schema__(
        cls, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """Say that a text will do."""
        return either({"type": "string"}, handler.resolve_ref_schema(handler(core)))

    @model_validator(mode="before")
    @classmethod
    def _of_text(cls, value: object) -> object:
        return {"path": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _is_one(self) -> PathTable:
        if (self.path is None) == (self.pattern is None):
            raise Wrong(
                "is neither a path nor a pattern", 'for example { pattern = "/v[0-9]+/.*" }'
            )
        return self


class _RuleKeys(_Table):
    """What publications and rules have in common."""

    name: Name = Field(examples=["packages"])
    """What records call the rule; publications and rules share one space of names."""
    clients: Clients = Field(examples=[["10.0.0.0/8"]])
    """Networks, addresses, and ``@names`` of them."""
    clients_except: tuple[NetworkEntry, ...] = ()
    """Of those, who is not meant."""
    schedule: str | None = None
    """When it matches: the name of a schedule among the objects."""
    expires: Instant | None = None
    """From then on it does not match."""
    enabled: bool = True
    """Whether it is tried at all."""
    filters: tuple[Name, ...] = ()
    """Names of installed filters that its connections go through."""
    settings: dict[str, dict[str, object]] = Field(default_factory=dict)
    """Per filter, what this rule says to it."""
    limits: LimitsTable = LimitsTable()
    """Bounds of what its connections may take."""
    held: HeldTable = HeldTable()
    """What becomes of objects of HTTP while they are held."""
    owner: str = ""
    """For people."""
    comment: str = ""
    """For people."""


class PublishTable(_RuleKeys):
    """One ``[[publish]]`` table: a server behind a port of the gate."""

    listener: Name = Field(examples=["ftp"])
    """A listener of ``sluicegate.toml`` that publishes."""
    server: Server = Field(examples=["192.0.2.10:21"])
    """``ADDRESS:PORT``; names are not resolved."""
    protocol: str | None = None
    """``@name`` of a protocol, whose bound filters run before the rule's own."""
    tls: PublishTlsTable | None = None
    """What is wanted of the ClientHello, or ``"off"``; left out: nothing."""
    send_proxy_protocol: SendProxyProtocol | None = None
    """The server is told who the client is by a header of the PROXY protocol."""
    http: bool = False
    """The server speaks HTTP/1.1: requests are read, judged, recorded and written anew one by one.
    """
    server_tls: str | None = Field(default=None, examples=["wiki.example.org"])
    """What passes goes on inside TLS, to a server with a certificate for this name or address."""
    upgrades: Upgrades = Field(default=(), examples=[["websocket"]])
    """Of HTTP requests: protocols that they may switch to."""


class RuleTable(_RuleKeys):
    """One ``[[rule]]`` table: destinations that clients name."""

    action: RuleAction = Field(examples=["allow"])
    """What becomes of what it matches."""
    listener: Listeners | None = None
    """Proxy listeners; left out: all of them."""
    users: SomeTexts | None = None
    """Names, ``group:NAME``, ``@names``, or ``*`` for whoever proved to be a user."""
    to: SomeTexts = Field(examples=[["example.org", "*.example.org"]])
    """Hosts, ``*.name``, addresses, networks, URLs, ``@names`` of them, or ``*``."""
    to_except: Texts = ()
    """Of those, what is not meant."""
    protocols: Texts = Field(default=(), examples=[["@https"]])
    """``@names`` of protocols, and ``tcp:443``, ``tcp:8000-8999``, ``tcp``, ``udp``, ``bind``."""
    protocols_except: Texts = ()
    """Of those (or, without ``protocols``, of all), what is not meant."""
    methods: Texts = ()
    """Of HTTP requests."""
    paths: tuple[PathTable, ...] = ()
    """Of HTTP requests."""
    upgrades: Upgrades = Field(default=(), examples=[["websocket"]])
    """Of HTTP requests: protocols that they may switch to."""
    content_types: Texts = ()
    """Of transfers: MIME types, extensions, and ``@names`` of them."""
    tls: RuleTlsTable | None = None
    """What is wanted of the ClientHello, or ``"off"``; left out: what ``[tls]`` says."""


class ListTable(_Table):
    """A named list: ``["…"]``, or a table with ``members`` or a ``file`` of them."""

    members: list[str] | None = None
    """The entries; ``@name`` is another object of the same kind."""
    file: str | None = Field(default=None, min_length=1)
    """A file with one entry a line, from the folder of ``policy.toml``; ``#`` begins a comment."""
    comment: str = ""
    """For people."""
    owner: str = ""
    """For people."""

    @override
    @classmethod
    def __get_pydantic_json_schema__(
        cls, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """Say that a list will do."""
        form = {"type": "array", "items": {"type": "string"}}
        return either(form, handler.resolve_ref_schema(handler(core)))

    @model_validator(mode="before")
    @classmethod
    def _of_list(cls, value: object) -> object:
        return {"members": cast("list[object]", value)} if isinstance(value, list) else value

    @model_validator(mode="after")
    def _is_one(self) -> ListTable:
        if (self.members is None) == (self.file is None):
            raise Wrong("has to have members or a file", 'for example { file = "lists/one.txt" }')
        return self


class ScheduleTable(_Table):
    """``[objects.schedules.<name>]``."""

    time_zone: str = Field(examples=["Europe/Berlin"])
    """The IANA name of the zone whose clocks count."""
    weekly: SomeTexts = Field(examples=[["mon-fri 09:00-17:00"]])
    """Hours of weekdays."""
    dates_off: Texts = ()
    """Local dates on which it is never active."""
    comment: str = ""
    """For people."""
    owner: str = ""
    """For people."""


class SecondaryTable(_Table):
    """One element of ``secondary`` of a protocol."""

    ports: str = Field(examples=["tcp:1024-65535"])
    """The ports that are connected to."""
    direction: Direction = Field(examples=["inbound"])
    """Who connects: the client (outbound) or the server."""


class ProtocolTable(_Table):
    """``[objects.protocols.<name>]``."""

    ports: SomeTexts = Field(examples=[["tcp:21"]])
    """Transport protocols and ports of the primary connection."""
    direction: Direction = Direction.OUTBOUND
    """Of the primary connection; ``inbound`` is for what is only published."""
    secondary: tuple[SecondaryTable, ...] = ()
    """Connections that one of its connections may bring about."""
    filters: tuple[Name, ...] = ()
    """Bound: every rule that names the protocol runs them, before its own."""
    comment: str = ""
    """For people."""
    owner: str = ""
    """For people."""


class ObjectTables(_Table):
    """``[objects]``: named things that rules refer to as ``@name``."""

    networks: dict[Name, ListTable] = Field(default_factory=dict)
    """Networks and addresses."""
    names: dict[Name, ListTable] = Field(default_factory=dict)
    """Host names and wildcards."""
    urls: dict[Name, ListTable] = Field(default_factory=dict)
    """URLs: ``https://host[:port]/path``, with ``*`` at the end for everything below."""
    users: dict[Name, ListTable] = Field(default_factory=dict)
    """Users and groups."""
    content_types: dict[Name, ListTable] = Field(default_factory=dict)
    """MIME types and extensions."""
    schedules: dict[Name, ScheduleTable] = Field(default_factory=dict)
    """Hours of the week."""
    protocols: dict[Name, ProtocolTable] = Field(default_factory=dict)
    """Protocols by name."""


class NetworkRuleTable(_Table):
    """One ``[[network_rule]]``: the relation of two networks."""

    name: Name = Field(examples=["lab"])
    """What records call it."""
    sources: Clients = Field(alias="from", examples=[["10.20.0.0/16"]])
    """Networks of clients."""
    targets: Clients = Field(alias="to", examples=[["10.30.0.0/16"]])
    """Networks of servers, by the address that is dialled."""
    relation: NetworkRelation = Field(examples=["nat"])
    """``route``: servers see the client's address; ``nat``: the gate's."""
    address: Address | None = None
    """Of ``nat``: the address that servers see."""
    owner: str = ""
    """For people."""
    comment: str = ""
    """For people."""


class SystemTable(_Table):
    """One purpose of ``[system]``."""

    enabled: bool = True
    """Whether the gate may do it at all."""
    to: tuple[NetworkEntry, ...] | None = None
    """The servers that it may reach; left out: exactly those that ``sluicegate.toml`` names."""


class SystemTables(_Table):
    """``[system]``: what the gate itself may do."""

    dns: SystemTable = SystemTable()
    """Ask DNS servers."""
    ldap: SystemTable = SystemTable()
    """Ask directory servers for users and groups."""
    scanners: SystemTable = SystemTable()
    """Have content scanned elsewhere."""
    alerts: SystemTable = SystemTable()
    """Tell operators of alerts."""
    logging: SystemTable = SystemTable()
    """Send records elsewhere."""
    array: SystemTable = SystemTable()
    """Talk to the other gates of an array."""


class LearnTable(_Table):
    """One ``[[learn]]``: clients for whom what no rule speaks of passes, for a bounded time."""

    name: Name = Field(examples=["new-runner"])
    """What records call it."""
    clients: Clients = Field(examples=[["10.9.0.0/16"]])
    """Networks, addresses, and ``@names`` of them."""
    until: Instant = Field(examples=["2027-01-31T00:00:00Z"])
    """From then on it does nothing."""
    listener: Listeners | None = None
    """Proxy listeners; left out: all of them."""
    owner: str = ""
    """For people."""
    comment: str = ""
    """For people."""


class NamesTable(_Table):
    """``[names]``: how host names are read."""

    underscores: bool = False
    """Whether host names may have underscores, which DNS allows and no host name has."""


class IncludeTable(_Table):
    """``include``: files and folders whose rules stand before and after those of the main file."""

    before: Texts = ()
    """Files, and folders whose ``*.toml`` files are taken in the order of their names."""
    after: Texts = ()
    """Files, and folders whose ``*.toml`` files are taken in the order of their names."""


class IncludedTables(_Table):
    """A file that ``policy.toml`` includes."""

    objects: ObjectTables = ObjectTables()
    """Named things that rules refer to as ``@name``."""
    publish: tuple[PublishTable, ...] = ()
    """Servers behind ports of the gate."""
    rule: tuple[RuleTable, ...] = ()
    """Destinations that clients name."""
    network_rule: tuple[NetworkRuleTable, ...] = ()
    """Relations of networks."""
    learn: tuple[LearnTable, ...] = ()
    """Clients for whom what no rule speaks of passes, for a bounded time."""


class MainTables(IncludedTables):
    """The whole of ``policy.toml``."""

    include: IncludeTable = IncludeTable()
    """Files whose rules stand before and after those of this one."""
    names: NamesTable = NamesTable()
    """How host names are read."""
    flood: FloodTable = FloodTable()
    """What one client address may ask of the gate."""
    system: SystemTables = SystemTables()
    """What the gate itself may do."""
    tls: TlsTable = TlsTable()
    """What rules want of ClientHellos that do not say it themselves."""


AnyRuleTable = PublishTable | RuleTable
