"""Scanners: each ``[[scanner]]`` table becomes one that content filters may ask.

``config`` reads the tables with it, ``load`` makes the scanners. The invariant: one about which
nothing changed is the same object after a reload, so what it knows and who waits for it stay.
"""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Literal

import pydantic

from sluicegate.address import SocketAddress
from sluicegate.clock import SystemClock
from sluicegate.documents import Document, Findings, Model, parse_size, suggest
from sluicegate.filterapi import ContentFilter, Scanner
from sluicegate.gate.settings import Installation
from sluicegate.policy import SystemPolicy, SystemPurpose
from sluicegate.policy.parse_values import Name, parse_address
from sluicegate.scan import ClamdScanner, ClamdSettings
from sluicegate.scan_limits import CLAMD_OBJECT_BYTES_MAX, SCANNER_CONNECTIONS_MAX

__all__ = ["ScannerTable", "check_asked", "check_scanners", "make_scanners"]

_Size = Annotated[int, pydantic.BeforeValidator(parse_size)]


class ScannerTable(Model, arbitrary_types_allowed=True):
    """One ``[[scanner]]``."""

    name: Name = pydantic.Field(examples=["clamd"])
    kind: Literal["clamd"] = pydantic.Field(examples=["clamd"])
    socket: str = ""
    """The path of its Unix socket; objects are handed over as descriptors."""
    address: Annotated[SocketAddress, pydantic.PlainValidator(parse_address)] | None = None
    """Where it listens, if not on this machine; objects are streamed to it."""
    connections_max: int = pydantic.Field(default=4, ge=1, le=SCANNER_CONNECTIONS_MAX)
    timeout_s: float = pydantic.Field(default=240.0, gt=0, le=86400)
    wait_s: float = pydantic.Field(default=30.0, ge=0, le=3600)
    object_bytes_max: _Size = pydantic.Field(default=100 << 20, ge=1, le=CLAMD_OBJECT_BYTES_MAX)
    trust_limits: bool = False


def make_scanners(
    tables: Sequence[ScannerTable],
    folder: pathlib.Path,
    before: Mapping[str, Scanner] | None,
    system: SystemPolicy,
) -> Mapping[str, Scanner]:
    """Make the scanners of a checked configuration.

    Args:
        tables: Of the configuration.
        folder: What paths are relative to.
        before: Those in force; None at a start.
        system: Says whether they may be reached over the network.
    """
    made: dict[str, Scanner] = {}
    for table in tables:
        place = str(folder / table.socket) if table.address is None else table.address
        settings = ClamdSettings(
            place=place,
            connections_max=table.connections_max,
            timeout_s=table.timeout_s,
            wait_s=table.wait_s,
            object_bytes_max=table.object_bytes_max,
            trusts_limits=table.trust_limits,
            refusal=_refusal(table.address, system),
        )
        known = before.get(table.name) if before is not None else None
        if isinstance(known, ClamdScanner) and known.settings == settings:
            made[table.name] = known
        else:
            made[table.name] = ClamdScanner(table.name, settings, SystemClock())
    return MappingProxyType(made)


def _refusal(address: SocketAddress | None, system: SystemPolicy) -> str:
    """Say why a scanner must not be reached; a Unix socket leads to no network."""
    if address is None or system.allows(SystemPurpose.SCANNERS, address.ip):
        return ""
    return f"[system] does not let the gate reach {address} (scanners)"


def check_scanners(tables: Sequence[ScannerTable], document: Document, findings: Findings) -> None:
    """Refuse names used twice, and scanners that nobody could find, or in two places."""
    names: set[str] = set()
    for index, table in enumerate(tables):
        at = ("scanner", index)
        if table.name in names:
            findings.refuse(
                document.where((*at, "name")),
                f"the name {table.name!r} is taken by another scanner",
                "filters name scanners: give each its own",
            )
        names.add(table.name)
        if bool(table.socket) == (table.address is not None):
            findings.refuse(
                document.where(at),
                f"the scanner {table.name!r} has {'two places' if table.socket else 'no place'}",
                'say either socket = "/run/clamav/clamd.ctl" or address = "192.0.2.7:3310"',
            )
        elif table.address is not None and table.address.port == 0:
            findings.refuse(
                document.where((*at, "address")),
                f"is {table.address}, which has no port",
                'for example "192.0.2.7:3310"',
            )


def check_asked(
    installations: Sequence[Installation],
    scanners: Mapping[str, Scanner],
    document: Document,
    findings: Findings,
) -> None:
    """Refuse content filters that ask scanners which do not exist."""
    for one in installations:
        if not isinstance(one.filter_object, ContentFilter):
            continue
        for name in one.filter_object.scanners:
            if name not in scanners:
                findings.refuse(
                    document.where(("filter",)),
                    f"{one.name!r} asks a scanner {name!r}, and there is none",
                    suggest(name, sorted(scanners)) or "configure it: [[scanner]]",
                )
