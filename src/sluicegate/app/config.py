"""``sluicegate.toml``: from a file to a ``Configuration``, with every mistake named.

``load`` calls it, first of all. Relative paths are relative to the file's own folder, so every
command that names the same file means the same gate. The invariant: a ``Configuration`` is complete
and typed; unknown keys are refused.
"""

from __future__ import annotations

import pathlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Literal, cast

import pydantic

from sluicegate.address import IpNetwork, SocketAddress
from sluicegate.audit.sinks.settings import SinkSettings
from sluicegate.console.link import ConsoleSettings
from sluicegate.documents import (
    Document,
    Findings,
    Model,
    Name,
    Wrong,
    json_schema,
    read_document,
    typed,
)
from sluicegate.filterapi import Isolation
from sluicegate.gate.entry_dialogue import Authenticate
from sluicegate.gate.settings import ListenerSettings, OnFailure, Recorded
from sluicegate.limits import Limits
from sluicegate.policy.parse_values import parse_address, parse_network

from .alerts_config import AlertSettings, AlertsTable, AlertTable, to_alerts
from .authority_config import AuthoritySettings, AuthorityTable, to_authority
from .console_config import ConsoleTable, to_console
from .entry_config import (
    EntryChoice,
    EntryProtocolName,
    ResolverTable,
    to_entry,
    to_published_tls,
)
from .ldap_config import LdapTable
from .limit_table import LimitTable, contradictions, to_limits
from .log_config import (
    LogTable,
    StoreSettings,
    WhenFull,
    check_store,
    log_path,
    to_sinks,
    to_store,
)
from .metrics_config import MetricsTable
from .refusal_pages import WebTable
from .scanners import ScannerTable, check_scanners
from .secret_files import SecretFiles
from .server_tls_config import ServerTlsTable
from .service_config import CONTROL_NAME, BackendChoice, ServiceTable
from .tls_config import TlsTable
from .traces_config import TracesTable, to_trace_sink

__all__ = [
    "Configuration",
    "FilterTable",
    "configuration_schema",
    "read_configuration",
]


def _parse_addresses(value: object) -> tuple[SocketAddress, ...]:
    """Take one address or a list of them."""
    values = cast("list[object]", value) if isinstance(value, list) else [value]
    if not values:
        raise Wrong("is an empty list", 'for example ["0.0.0.0:21", "[::]:21"]')
    return tuple(parse_address(one) for one in values)


class _ProxyTable(Model, arbitrary_types_allowed=True):
    """``proxy_protocol`` of one ``[[listener]]``."""

    peers: tuple[Annotated[IpNetwork, pydantic.PlainValidator(parse_network)], ...] = (
        pydantic.Field(alias="from", min_length=1, examples=[["10.0.0.1/32"]])
    )


class _ListenerTable(Model, arbitrary_types_allowed=True):
    """One ``[[listener]]``."""

    name: Name = pydantic.Field(examples=["ftp"])
    transport: Literal["tcp", "udp"] = "tcp"
    address: Annotated[tuple[SocketAddress, ...], pydantic.PlainValidator(_parse_addresses)] = (
        pydantic.Field(examples=[["0.0.0.0:21", "[::]:21"]])
    )
    proxy_protocol: _ProxyTable | None = None
    entry: EntryChoice = "publish"
    protocols: tuple[EntryProtocolName, ...] | None = None
    authenticate: Authenticate | None = None
    tls: TlsTable | None = None


class _SpoolTable(Model):
    """``[spool]``."""

    dir: str = pydantic.Field(default="", description="default: spool in state_dir")


class FilterTable(Model):
    """One ``[[filter]]``."""

    name: Name = pydantic.Field(examples=["exe_block"])
    use: str = ""
    """Entry point, ``module:Class`` or ``path.py:Class``; empty means the name itself."""
    on_failure: OnFailure = OnFailure.DENY
    isolation: Isolation | None = None
    """Where it runs; default: what its class says, else in the gate."""
    settings: dict[str, object] = pydantic.Field(default_factory=dict)


class _Tables(Model):
    """The whole of ``sluicegate.toml``."""

    service: ServiceTable = ServiceTable()
    listener: tuple[_ListenerTable, ...] = pydantic.Field(
        min_length=1, examples=[[{"name": "ftp", "address": "0.0.0.0:21"}]]
    )
    limits: LimitTable = LimitTable()
    spool: _SpoolTable = _SpoolTable()
    log: LogTable = LogTable()
    resolver: ResolverTable = ResolverTable()
    ldap: LdapTable | None = None
    filter: tuple[FilterTable, ...] = ()
    scanner: tuple[ScannerTable, ...] = ()
    web: WebTable = WebTable()
    ca: AuthorityTable | None = None
    tls: ServerTlsTable = ServerTlsTable()
    console: ConsoleTable | None = None
    metrics: MetricsTable | None = None
    traces: TracesTable | None = None
    alerts: AlertsTable = AlertsTable()
    alert: tuple[AlertTable, ...] = ()


@dataclass(frozen=True, slots=True)
class Configuration:
    """What ``sluicegate.toml`` says, with paths resolved and defaults filled in."""

    path: pathlib.Path
    document: Document
    state_dir: pathlib.Path
    backend: BackendChoice
    workers: int | Literal["auto"]
    """How many worker processes; "auto" is one for each core that the gate may use."""
    policy_path: pathlib.Path
    users_path: pathlib.Path
    spool_dir: pathlib.Path
    log_path: pathlib.Path
    listeners: tuple[ListenerSettings, ...]
    limits: Limits
    filters: tuple[FilterTable, ...]
    scanners: tuple[ScannerTable, ...]
    resolver: ResolverTable
    ldap: LdapTable | None
    web: WebTable
    tls: ServerTlsTable
    authority: AuthoritySettings | None = None
    """Who signs what clients see where TLS is opened; None: it is opened nowhere."""
    store: StoreSettings | None = None
    """The store of records; None: there is none."""
    sinks: tuple[SinkSettings, ...] = ()
    """Where records are sent beside, and traces."""
    when_log_full: WhenFull = "refuse"
    """What becomes of new traffic while nothing can be recorded."""
    recorded: Recorded = field(default_factory=Recorded)
    """What is recorded beside decisions."""
    console: ConsoleSettings | None = None
    """Pages in the browser; None: there are none."""
    metrics: MetricsTable | None = None
    """Who may ask for metrics; None: nobody."""
    alerts: AlertSettings = field(default_factory=AlertSettings)
    """What operators are told of."""
    user: str = ""
    """Whom the gate works as; empty: whoever starts it."""
    group: str = ""
    """Empty: the user's own."""
    has_sandbox: bool = True
    """Whether the kernel keeps workers from writing elsewhere, and from calls that nobody needs."""
    writable: tuple[pathlib.Path, ...] = ()
    """Where filters write, beside the gate's own folders."""

    @property
    def control_path(self) -> pathlib.Path:
        """Where the control socket is."""
        return self.state_dir / CONTROL_NAME

    @property
    def own_services(self) -> tuple[SocketAddress, ...]:
        """What the gate listens on for operators, and clients are not to be led to."""
        found: list[SocketAddress] = []
        if self.console is not None:
            found.append(SocketAddress.parse(self.console.listen))
        if self.metrics is not None:
            found.append(self.metrics.listen)
        return tuple(found)

    @property
    def authority_folder(self) -> pathlib.Path | None:
        """Where the keys are of those who sign leaves; None: there are none."""
        return self.authority.folder if self.authority is not None else None

    @property
    def lock_path(self) -> pathlib.Path:
        """What the running gate holds, so that there is one per ``state_dir``."""
        return self.state_dir / "lock"


def read_configuration(
    path: pathlib.Path, text: str, findings: Findings, secrets: SecretFiles
) -> Configuration | None:
    """Read the text of ``sluicegate.toml``; None, with every finding, when it is wrong."""
    document = read_document(text, path.name, findings)
    if document is None:
        return None
    tables = typed(document, _Tables, findings)
    if tables is None:
        return None
    limits = to_limits(tables.limits)
    for key, cause, cure in contradictions(tables.limits, limits):
        findings.refuse(document.where(("limits", key)), cause, cure)
    _check_listeners(tables, document, findings)
    _check_filters(tables, document, findings)
    check_scanners(tables.scanner, document, findings)
    folder = path.absolute().parent
    state_dir = folder / tables.service.state_dir
    store = to_store(tables.log, path, state_dir, document, findings)
    check_store(store, document, findings, secrets)
    return Configuration(
        path=path,
        document=document,
        state_dir=state_dir,
        backend=tables.service.backend,
        workers=tables.service.workers,
        policy_path=folder / tables.service.policy,
        users_path=folder / tables.service.users,
        spool_dir=folder / tables.spool.dir if tables.spool.dir else state_dir / "spool",
        log_path=log_path(tables.log, folder, state_dir),
        store=store,
        console=to_console(tables.console, folder, state_dir, store, document, findings),
        listeners=tuple(_to_listeners(tables, document, secrets, findings)),
        limits=limits,
        filters=tables.filter,
        scanners=tables.scanner,
        resolver=tables.resolver,
        ldap=tables.ldap,
        web=tables.web,
        authority=to_authority(tables.ca, folder, state_dir, document, findings),
        tls=tables.tls,
        sinks=(
            *to_sinks(tables.log, folder, document, findings),
            *to_trace_sink(tables.traces, folder),
        ),
        when_log_full=tables.log.when_full,
        metrics=tables.metrics,
        alerts=to_alerts(tables.alerts, tables.alert, folder, document, findings),
        recorded=Recorded(
            sessions=tables.log.sessions,
            lookups=tables.log.lookups,
            trace_ratio=tables.traces.ratio if tables.traces is not None else 0.0,
            tells_servers=tables.traces is not None and tables.traces.propagate,
        ),
        user=tables.service.user,
        group=tables.service.group,
        has_sandbox=tables.service.sandbox,
        writable=tuple(folder / one for one in tables.service.writable),
    )


def _to_listeners(
    tables: _Tables, document: Document, secrets: SecretFiles, findings: Findings
) -> Iterator[ListenerSettings]:
    """Yield one for each address of each listener."""
    for index, table in enumerate(tables.listener):
        entry = to_entry(table, document, index, secrets, findings)
        tls = to_published_tls(table, document, index, secrets, findings)
        peers = table.proxy_protocol.peers if table.proxy_protocol else ()
        is_udp = table.transport == "udp"
        for address in table.address:
            yield ListenerSettings(table.name, address, peers, entry, is_udp=is_udp, tls=tls)


def configuration_schema() -> dict[str, object]:
    """Return the JSON Schema of ``sluicegate.toml``."""
    return json_schema(_Tables, "sluicegate.toml", "What a Sluicegate gate runs.")


def _check_listeners(tables: _Tables, document: Document, findings: Findings) -> None:
    names: set[str] = set()
    addresses: dict[tuple[str, SocketAddress], str] = {}
    for index, table in enumerate(tables.listener):
        if table.name in names:
            findings.refuse(
                document.where(("listener", index, "name")),
                f"the name {table.name!r} is taken by another listener",
                'one listener may have several addresses: address = ["…", "…"]',
            )
        names.add(table.name)
        for address in table.address:
            place = table.transport, address
            if address.port and place in addresses:
                findings.refuse(
                    document.where(("listener", index, "address")),
                    f"{address} is taken by the listener {addresses[place]!r}",
                )
            addresses.setdefault(place, table.name)
        if table.transport == "udp" and table.entry == "proxy":
            findings.refuse(
                document.where(("listener", index, "entry")),
                "clients name their destinations in streams, not in datagrams",
                'remove it, or set transport = "tcp"',
            )
        if table.transport == "udp" and table.proxy_protocol:
            findings.refuse(
                document.where(("listener", index, "proxy_protocol")),
                "the PROXY protocol announces clients of streams, not of datagrams",
                'remove it, or set transport = "tcp"',
            )


def _check_filters(tables: _Tables, document: Document, findings: Findings) -> None:
    names: set[str] = set()
    for index, table in enumerate(tables.filter):
        if table.name in names:
            findings.refuse(
                document.where(("filter", index, "name")),
                f"the name {table.name!r} is taken by another filter",
                'the same filter may be installed twice: give "name" a second one and keep "use"',
            )
        names.add(table.name)
