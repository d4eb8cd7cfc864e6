"""Scanners: each ``[[scanner]]`` table becomes one that content filters may ask.

``config`` reads the tables with it, ``load`` makes the scanners. The invariant: one about which
nothing changed is the same object after a reload, so what it knows and who waits for it stay.
"""

from __future__ import annotations

import pathlib
import ssl
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Final, Literal, NamedTuple

import pydantic

from sluicegate.address import SocketAddress
from sluicegate.clock import SystemClock
from sluicegate.documents import Document, Findings, Model, Name, parse_size, suggest
from sluicegate.documents.places import KeyPath
from sluicegate.filterapi import ContentFilter, Scanner
from sluicegate.gate.settings import Installation
from sluicegate.names import HostRefused, canonical_host
from sluicegate.policy import SystemPolicy, SystemPurpose
from sluicegate.policy.parse_values import parse_address
from sluicegate.protocols.file_kinds import CLOSED_KINDS
from sluicegate.protocols.icap import IcapTarget
from sluicegate.scan import ClamdScanner, ClamdSettings, IcapScanner, IcapSettings, ScannerTls
from sluicegate.scan_limits import (
    CLAMD_OBJECT_BYTES_MAX,
    SCAN_MEMBER_BYTES_MAX,
    SCAN_PROCESSES_MAX,
    SCANNER_CONNECTIONS_MAX,
)

from .content_scanners import make_content_scanner
from .secret_files import SecretFiles

__all__ = [
    "ArchivesTable",
    "ScannerPaths",
    "ScannerTable",
    "check_asked",
    "check_scanners",
    "keys_of",
    "make_scanners",
]

_Size = Annotated[int, pydantic.BeforeValidator(parse_size)]


class ArchivesTable(Model):
    """``[scanner.archives]``: how much of one object a scanner of kind ``yara`` unpacks."""

    depth_max: int = pydantic.Field(default=8, ge=0, le=64)
    """Archives in archives; ``.tar.gz`` counts two, and so does a picture in a document."""
    entries_max: int = pydantic.Field(default=10_000, ge=1, le=10_000_000)
    """Members, those of archives inside included."""
    bytes_max: _Size = pydantic.Field(default=1 << 30, ge=1, le=1 << 40)
    """Of everything that is unpacked."""
    member_bytes_max: _Size = pydantic.Field(default=100 << 20, ge=1, le=SCAN_MEMBER_BYTES_MAX)
    """Of one member: it is looked at in memory."""
    ratio_max: int = pydantic.Field(default=250, ge=1, le=1_000_000)
    """Unpacked to packed bytes of one archive, from 4 MiB on."""
    passes_closed: tuple[str, ...] = pydantic.Field(default=(), examples=[["vmdk", "qcow2"]])
    """Kinds that hold files and cannot be opened here, and pass all the same."""
    members_to: tuple[str, ...] = pydantic.Field(default=(), examples=[["clamd"]])
    """Scanners that are also shown each file inside an object."""
    forwarded_bytes_max: _Size = pydantic.Field(default=32 << 20, ge=1, le=1 << 30)
    """What of one object is shown to them, and to filters that read what is inside."""


class ScannerTable(Model, arbitrary_types_allowed=True):
    """One ``[[scanner]]``."""

    name: Name = pydantic.Field(examples=["clamd"])
    kind: Literal["clamd", "icap", "yara"] = pydantic.Field(examples=["clamd"])
    socket: str = ""
    """Of ``clamd``: the path of its Unix socket; objects are handed over as descriptors. Of
    ``icap``: the same, and they are sent."""
    address: Annotated[SocketAddress, pydantic.PlainValidator(parse_address)] | None = None
    """Of ``clamd`` and ``icap``: where it listens, if not at a Unix socket; objects are sent."""
    connections_max: int = pydantic.Field(default=4, ge=1, le=SCANNER_CONNECTIONS_MAX)
    """Of ``clamd`` and ``icap``: scans at once, of each worker."""
    wait_s: float = pydantic.Field(default=30.0, ge=0, le=3600)
    """Of ``clamd`` and ``icap``: how long one that is away is waited for."""
    trust_limits: bool = False
    """Of ``clamd`` and ``icap``: believe it although it does not say when it reaches a limit."""
    service: str = pydantic.Field(
        default="", pattern=r"^[A-Za-z0-9._~/?&=+%-]{0,200}$", examples=["avscan"]
    )
    """Of ``icap``: the path of the service, with what it takes behind ``?``."""
    modified_bytes_max: _Size = pydantic.Field(default=16 << 20, ge=1, le=256 << 20)
    """Of ``icap``: the largest body that the service may put in an object's place: it is kept in
    memory."""
    tls: bool = False
    """Of ``icap`` at an address: speak TLS with it (``icaps``), and believe it only if its
    certificate is good."""
    ca_file: str = ""
    """Of ``icap`` with ``tls``: the authorities that may vouch for it, as PEM; left out: those that
    the machine trusts."""
    tls_name: str = ""
    """Of ``icap`` with ``tls``: the name in its certificate; empty: its address."""
    rules: str = ""
    """Of ``yara``: the folder with rules, files that end in ``.yar`` or ``.yara``."""
    shipped_rules: bool = True
    """Of ``yara``: whether the rules that come with the gate are used, too: the EICAR test file."""
    processes: int = pydantic.Field(default=2, ge=1, le=SCAN_PROCESSES_MAX)
    """Of ``yara``: processes of each worker; each looks at one object at a time."""
    memory_bytes_max: _Size = pydantic.Field(default=1 << 30, ge=128 << 20, le=1 << 40)
    """Of ``yara``: address space of one process."""
    cpu_s: float = pydantic.Field(default=120.0, ge=1, le=86400)
    """Of ``yara``: CPU time for one object."""
    archives: ArchivesTable = ArchivesTable()
    timeout_s: float = pydantic.Field(default=240.0, gt=0, le=86400)
    """For one object, waiting included."""
    object_bytes_max: _Size = pydantic.Field(default=100 << 20, ge=1, le=CLAMD_OBJECT_BYTES_MAX)
    """What is larger is not looked at."""


class ScannerPaths(NamedTuple):
    """Where scanners look, and where they must not."""

    folder: pathlib.Path
    """What paths are relative to."""
    secret: tuple[pathlib.Path, ...]
    """What scanner processes must not be able to read."""
    files: SecretFiles
    """What tables lead to, as it was read."""


_TLS_KEYS: Final = ("ca_file", "tls_name")
_REACHED: Final = frozenset({"socket", "address", "connections_max", "wait_s", "trust_limits"})
_OF_KIND: Final[dict[str, frozenset[str]]] = {
    "clamd": _REACHED,
    "icap": _REACHED | {"service", "modified_bytes_max", "tls", *_TLS_KEYS},
    "yara": frozenset(
        {"rules", "shipped_rules", "processes", "memory_bytes_max", "cpu_s", "archives"}
    ),
}
"""Keys that mean nothing for the other kinds."""


def keys_of(kind: str) -> list[str]:
    """Return the keys that mean something for a kind, in their order."""
    others = frozenset[str]().union(*_OF_KIND.values()) - _OF_KIND[kind]
    return [key for key in ScannerTable.model_fields if key not in {"name", "kind", *others}]


def make_scanners(
    tables: Sequence[ScannerTable],
    paths: ScannerPaths,
    before: Mapping[str, Scanner] | None,
    system: SystemPolicy,
    document: Document,
    findings: Findings,
) -> Mapping[str, Scanner]:
    """Make the scanners of a checked configuration.

    Args:
        tables: Of the configuration.
        paths: What the tables are relative to, and what is kept from scanner processes.
        before: Those in force; None at a start.
        system: Says whether they may be reached over the network.
        document: Where the tables stand.
        findings: Where rules go that cannot be used.
    """
    made: dict[str, Scanner] = {}
    folder, secret, files = paths
    # Those that show members to others come after the others.
    order = sorted(enumerate(tables), key=lambda one: bool(one[1].archives.members_to))
    for index, table in order:
        known = before.get(table.name) if before is not None else None
        if table.kind == "clamd":
            made[table.name] = _make_clamd(table, folder, known, system)
            continue
        if table.kind == "icap":
            at = document, ("scanner", index), files, findings
            icap = _make_icap(table, folder, known, system, at)
            if icap is not None:
                made[table.name] = icap
            continue
        members_to = tuple(made[one] for one in table.archives.members_to if one in made)
        told = document.where(("scanner", index)), findings
        scanner = make_content_scanner(table, folder, secret, known, members_to, told)
        if scanner is not None:
            made[table.name] = scanner
    return MappingProxyType(made)


def _make_clamd(
    table: ScannerTable, folder: pathlib.Path, known: Scanner | None, system: SystemPolicy
) -> Scanner:
    settings = ClamdSettings(
        place=str(folder / table.socket) if table.address is None else table.address,
        connections_max=table.connections_max,
        timeout_s=table.timeout_s,
        wait_s=table.wait_s,
        object_bytes_max=table.object_bytes_max,
        trusts_limits=table.trust_limits,
        refusal=_refusal(table.address, system),
    )
    if isinstance(known, ClamdScanner) and known.settings == settings:
        return known
    return ClamdScanner(table.name, settings, SystemClock())


def _make_icap(
    table: ScannerTable,
    folder: pathlib.Path,
    known: Scanner | None,
    system: SystemPolicy,
    at: tuple[Document, KeyPath, SecretFiles, Findings],
) -> Scanner | None:
    """Make one; None, with a finding, if its certificates cannot be had."""
    address = table.address
    encryption = None
    if table.tls and address is not None:
        encryption = _encryption(table, address, *at)
        if encryption is None:
            return None
    host, port = ("localhost", _ICAP_PORT) if address is None else (address.host, address.port)
    settings = IcapSettings(
        place=str(folder / table.socket) if address is None else address,
        target=IcapTarget(
            f"[{host}]" if ":" in host else host, port, table.service.lstrip("/"), table.tls
        ),
        connections_max=table.connections_max,
        timeout_s=table.timeout_s,
        wait_s=table.wait_s,
        object_bytes_max=table.object_bytes_max,
        modified_bytes_max=table.modified_bytes_max,
        trusts_limits=table.trust_limits,
        refusal=_refusal(address, system),
        encryption=encryption,
    )
    if isinstance(known, IcapScanner) and known.settings == settings:
        return known
    return IcapScanner(table.name, settings, SystemClock())


def _encryption(
    table: ScannerTable,
    address: SocketAddress,
    document: Document,
    at: KeyPath,
    files: SecretFiles,
    findings: Findings,
) -> ScannerTls | None:
    """Return whom it has to prove to be; None, with a finding, if that cannot be had."""
    ca_pem: str | None = ""
    if table.ca_file:
        ca_pem = files.read_file(table.ca_file, document, (*at, "ca_file"), findings)
    name = address.host
    try:
        name = canonical_host(table.tls_name).text if table.tls_name else name
    except HostRefused as error:
        findings.refuse(document.where((*at, "tls_name")), error.hint, '"icap.example.org"')
        return None
    if ca_pem is None:
        return None
    encryption = ScannerTls(name, ca_pem)
    try:
        encryption.context()
    except (ssl.SSLError, ValueError):
        findings.refuse(
            document.where((*at, "ca_file")),
            "has no certificate that can be read",
            "it holds the authority's certificate as PEM (-----BEGIN CERTIFICATE-----)",
        )
        return None
    return encryption


_ICAP_PORT: Final = 1344
"""Registered by IANA."""


def _refusal(address: SocketAddress | None, system: SystemPolicy) -> str:
    """Say why a scanner must not be reached; a Unix socket leads to no network."""
    if address is None or system.allows(SystemPurpose.SCANNERS, address.ip):
        return ""
    return f"[system] does not let the gate reach {address} (scanners)"


def check_scanners(tables: Sequence[ScannerTable], document: Document, findings: Findings) -> None:
    """Refuse names used twice, keys of another kind, and scanners that nobody could find."""
    names: set[str] = set()
    kinds = {table.name: table.kind for table in tables}
    for index, table in enumerate(tables):
        at = ("scanner", index)
        if table.name in names:
            findings.refuse(
                document.where((*at, "name")),
                f"the name {table.name!r} is taken by another scanner",
                "filters name scanners: give each its own",
            )
        names.add(table.name)
        _check_keys(table, index, document, findings)
        if table.kind in {"clamd", "icap"}:
            _check_place(table, index, document, findings)
        _check_encryption(table, index, document, findings)
        _check_archives(table, index, kinds, document, findings)


def _check_archives(
    table: ScannerTable,
    index: int,
    kinds: Mapping[str, str],
    document: Document,
    findings: Findings,
) -> None:
    at = ("scanner", index, "archives")
    others = sorted(name for name, kind in kinds.items() if kind != "yara")
    for other in table.archives.members_to:
        if other not in others:
            findings.refuse(
                document.where((*at, "members_to")),
                f"there is no scanner {other!r} of another kind than 'yara'",
                suggest(other, others),
            )
    for kind in table.archives.passes_closed:
        if kind not in CLOSED_KINDS:
            findings.refuse(
                document.where((*at, "passes_closed")),
                f"{kind!r} is no kind that stays closed",
                suggest(kind, sorted(CLOSED_KINDS)),
            )


def _check_keys(table: ScannerTable, index: int, document: Document, findings: Findings) -> None:
    own = _OF_KIND[table.kind]
    for key in sorted(table.model_fields_set - own):
        kinds = sorted(kind for kind, keys in _OF_KIND.items() if key in keys)
        if kinds:
            findings.refuse(
                document.where(("scanner", index, key)),
                f"means nothing for a scanner of kind {table.kind!r}",
                f"leave it out: it belongs to kind {' and '.join(map(repr, kinds))}",
            )


def _check_place(table: ScannerTable, index: int, document: Document, findings: Findings) -> None:
    at = ("scanner", index)
    example = _EXAMPLES[table.kind]
    if table.kind == "icap" and not table.service:
        findings.refuse(
            document.where(at),
            f"the scanner {table.name!r} has no service",
            'say which one, for example service = "avscan"',
        )
    if bool(table.socket) == (table.address is not None):
        findings.refuse(
            document.where(at),
            f"the scanner {table.name!r} has {'two places' if table.socket else 'no place'}",
            f"say either socket or address, for example {example}",
        )
    elif table.address is not None and table.address.port == 0:
        findings.refuse(
            document.where((*at, "address")),
            f"is {table.address}, which has no port",
            f"for example {example}",
        )


def _check_encryption(
    table: ScannerTable, index: int, document: Document, findings: Findings
) -> None:
    """Refuse what leaves a way unencrypted that was meant to be."""
    at = ("scanner", index)
    if table.kind != "icap":
        return
    if table.tls and table.address is None:
        findings.refuse(
            document.where((*at, "tls")), "is for an address", "a Unix socket leads to no network"
        )
    for key in _TLS_KEYS:
        if getattr(table, key) and not table.tls:
            findings.refuse(
                document.where((*at, key)),
                "means nothing without TLS",
                "tls = true, or leave it out",
            )


_EXAMPLES: Final = {
    "clamd": 'socket = "/run/clamav/clamd.ctl"',
    "icap": 'address = "192.0.2.7:1344"',
}


def check_asked(
    installations: Sequence[Installation],
    tables: Sequence[ScannerTable],
    document: Document,
    findings: Findings,
) -> None:
    """Refuse content filters that ask scanners which do not exist, or cannot answer them."""
    kinds = {table.name: table.kind for table in tables}
    for one in installations:
        if not isinstance(one.filter_object, ContentFilter):
            continue
        for name in one.filter_object.scanners:
            if name not in kinds:
                findings.refuse(
                    document.where(("filter",)),
                    f"{one.name!r} asks a scanner {name!r}, and there is none",
                    suggest(name, sorted(kinds)) if kinds else "configure it: [[scanner]]",
                )
        for name in one.filter_object.content_scanners:
            if kinds.get(name, "yara") != "yara":
                findings.refuse(
                    document.where(("filter",)),
                    f"{one.name!r} asks {name!r} what is in objects, which it cannot tell",
                    'name a scanner of kind "yara"',
                )
